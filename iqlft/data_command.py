"""`iqlft data ...`: list, make, download and check datasets."""

from __future__ import annotations

from rich.console import Console

from iqlft.arguments import MakeData, OneDataset
from iqlft.casting import ConfigError, nearest
from iqlft.console import GenerationProgress
from iqlft.parsing import no_arguments, parse


def run(arguments: list[str]) -> str:
    """Runs an action.

    Args:
        arguments: the action's name and its own arguments.

    Returns:
        What there is to say.

    Raises:
        UserError: no such action, or what the action raises.
    """
    actions = {
        "list": _list,
        "make": _make,
        "download": _download,
        "check": _check,
    }
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        lines = [f"  {each:10s}{action.__doc__}" for each, action in actions.items()]
        return "usage: iqlft data ACTION [...]\n\n" + "\n".join(lines)
    if name not in actions:
        near = nearest(name, list(actions))
        raise ConfigError(f"There is no action {name!r}.{near} See `iqlft data --help`.")
    return actions[name](arguments[1:])


def _list(arguments: list[str]) -> str:
    """Datasets on this machine."""
    no_arguments("data list", arguments)
    from iqlft.datasets.catalogue import list_local  # noqa: PLC0415

    return (
        "\n".join(
            f"{each.id:34s}{each.transitions:>12,} transitions{each.episodes:>8,} episodes"
            f"{each.size_bytes / 2**20:>8,.0f} MiB"
            for each in list_local()
        )
        or "No datasets yet; make one with `iqlft data make antmaze-umaze`."
    )


def _make(arguments: list[str]) -> str:
    """Generate an AntMaze dataset by D4RL's procedure."""
    chosen = parse("data make", MakeData, arguments)
    from iqlft.datasets.generation import make_dataset  # noqa: PLC0415

    policy = {} if chosen.policy is None else {"policy": chosen.policy}
    with GenerationProgress(Console()) as progress:
        made = make_dataset(
            chosen.task,
            transitions=chosen.transitions,
            noise=chosen.noise,
            processes=chosen.processes,
            seed=chosen.seed,
            force=chosen.force,
            progress=progress,
            **policy,
        )
    resumed = f" ({made.resumed_episodes} were there already)" if made.resumed_episodes else ""
    return (
        f"Made {made.id}: {made.transitions:,} transitions in {made.episodes:,} whole episodes"
        f"{resumed}, in {made.seconds:.0f} s."
    )


def _download(arguments: list[str]) -> str:
    """Download a dataset from Minari's remote."""
    chosen = parse("data download", OneDataset, arguments)
    from iqlft.datasets.catalogue import download  # noqa: PLC0415

    download(chosen.id)
    return f"Downloaded {chosen.id}."


def _check(arguments: list[str]) -> str:
    """Audit a dataset against D4RL's bands."""
    chosen = parse("data check", OneDataset, arguments)
    from iqlft.datasets.audit import check  # noqa: PLC0415

    rows = [("check", "value", "band", "verdict"), *check(chosen.id)]
    texts = [[str(each) for each in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    padded = [[f"{each:{w}}" for each, w in zip(row, widths, strict=True)] for row in texts]
    return "\n".join("  ".join(row).rstrip() for row in padded)
