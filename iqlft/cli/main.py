"""The command line: argv -> config -> command. The only place that prints or chooses an exit code.

Commands import what they need late, so that `--help` and light commands start without torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import shlex
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console

from iqlft.cli import arguments as kinds
from iqlft.cli import result_commands
from iqlft.cli.outputs import QUIET, console
from iqlft.cli.parsing import Training, no_arguments, parse
from iqlft.cli.sources import finetune_settings, settings
from iqlft.cli.streams import lasting_streams
from iqlft.config import layers, validation
from iqlft.config import settings as configs
from iqlft.config.algorithms import ALGORITHMS
from iqlft.config.errors import nearest
from iqlft_workers import __version__
from iqlft_workers.errors import Stopped, UserError
from iqlft_workers.files import is_unwritable, remedy, unwritten, write_atomically
from iqlft_workers.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from iqlft.config.settings import FinetuneConfig, PretrainConfig, RunConfig

BROKEN_PIPE = 141
"""Exit code of a command that prints, whose reader has left."""
_MAKING = {
    "pretrain", "finetune", "run", "sweep", "resume", "demo", "data", "plot", "report", "video",
    "worker", "workers", "keys", "clean", "export",
}  # fmt: skip
"""Commands whose result is in files, so that they succeed even if their output is lost."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: arguments without the program's name; by default those of the process.

    Returns:
        The exit code: 0; 1 for a check that found something; 2 for an error that the user can fix,
        including a full disk; 3 when training diverged; 130 after an interruption; 141 when the
        reader of a command that only prints closed the pipe. Workers have codes of their own.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = [_spelled(each) for each in given if each not in ("--quiet", "-q")]
    QUIET.set(len(arguments) < len(given))
    with lasting_streams() as output:
        try:
            code = _run_command(arguments)
        except SystemExit as exit_:
            # `--help`, and flags that tyro refuses.
            code = exit_.code or 0 if isinstance(exit_.code, int | None) else UserError.exit_code
        output.flush()
        if code == 0 and output.failure and _only_prints(arguments):
            code = _unheard(output.failure)
    return code


def _spelled(argument: str) -> str:
    """A flag spelled with dashes, as flags are looked up here; tyro also accepts underscores."""
    name, equals, value = argument.partition("=")
    return f"{name.replace('_', '-')}{equals}{value}" if name.startswith("--") else argument


def _run_command(arguments: list[str]) -> int:
    name, *rest = arguments or ["--help"]
    try:
        if name in ("-h", "--help"):
            _say(_overview())
            return 0 if arguments else UserError.exit_code
        if name in ("-V", "--version"):
            _say(f"iqlft {__version__}")
            return 0
        if name not in COMMANDS:
            near = nearest(name, list(COMMANDS))
            raise configs.ConfigError(f"There is no command {name!r}.{near} See `iqlft --help`.")
        COMMANDS[name].run(rest)
    except UserError as error:
        if error.report:
            _say(error.report)
        _complain(f"iqlft {name}: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        _complain("Stopped.")
        return Stopped.exit_code
    except Stopped as stopped:
        _complain(str(stopped))
        return stopped.exit_code
    except OSError as error:
        if not is_unwritable(error):
            raise
        _complain(f"iqlft {name}: {unwritten(error)}; {remedy(error)}, then repeat the command.")
        return UserError.exit_code
    return 0


def _only_prints(arguments: list[str]) -> bool:
    """Whether a command's output is its only result."""
    name, *rest = arguments or ["--help"]
    asked = {"-h", "--help", "--print-config", "--dry-run"} & set(rest)
    listing = name == "data" and rest[:1] in (["list"], ["check"])
    making = name in _MAKING or any(each.startswith("--out") for each in rest)
    return bool(asked) or listing or not making


def _unheard(failure: OSError) -> int:
    """The exit code of a command whose output could not be written."""
    if failure.errno == errno.EPIPE:
        return BROKEN_PIPE
    _complain(f"iqlft: the standard output cannot be written ({failure.strerror}).")
    return UserError.exit_code


# -- training -----------------------------------------------------------------------------------


def _pretrain(arguments: list[str]) -> None:
    """Pretrain an algorithm on an offline dataset."""
    config = _resolve(configs.PretrainConfig(), "pretrain", arguments)
    if config is None:
        return
    if config.dry_run:
        from iqlft.training.dry_run import dry_run_pretraining  # noqa: PLC0415

        _say(result_commands.aligned(dry_run_pretraining(config)))
        return
    from iqlft.training.pretrain import pretrain  # noqa: PLC0415

    with result_commands.console_reporter() as reporter:
        folders = shlex.join(map(str, pretrain(config, reporter)))
    advice = f"\nNext: iqlft finetune {folders} --workers {config.workers}"
    _say(f"Pretrained: {folders}{advice if config.eval_episodes else ''}")


def _finetune(arguments: list[str]) -> None:
    """Fine-tune a pretrained run with rollout workers."""
    config, printing, note = finetune_settings(arguments)
    if printing:
        _say("\n".join([f"# {note}"] * bool(note) + [layers.to_yaml(config).rstrip()]))
        return
    from iqlft.training.finetune import dry_run, finetune  # noqa: PLC0415

    if note:
        _say(note)
    if config.dry_run:
        _say(result_commands.aligned(dry_run(config)))
        return
    with result_commands.console_reporter() as reporter:
        folders = finetune(config, reporter)
    if config.append:
        names, first = shlex.join(map(str, folders)), shlex.quote(str(folders[0]))
        _say(f"Learned on from {', '.join(config.append)}: {names}\nNext: iqlft export {first}")
        return
    _say(f"Fine-tuned: {', '.join(map(str, folders))}")
    _say(result_commands.outcome(folders, config.runs))


def _run(arguments: list[str]) -> None:
    """Pretrain, fine-tune and draw the before/after curve."""
    config = _resolve(configs.RunConfig(), "run", arguments)
    if config is not None:
        _pretrain_and_finetune(config)


def _pretrain_and_finetune(config: RunConfig) -> None:
    validation.check(config)
    validation.require_effect(config)
    offline = layers.part(config, configs.PretrainConfig)
    online = layers.part(config, configs.FinetuneConfig)
    if config.dry_run:
        from iqlft.training.dry_run import dry_run_pretraining  # noqa: PLC0415

        _say(result_commands.aligned(dry_run_pretraining(offline, online)))
        return
    from iqlft.training.build import load_task_dataset, require_environment  # noqa: PLC0415
    from iqlft.training.finetune import finetune  # noqa: PLC0415
    from iqlft.training.pretrain import pretrain  # noqa: PLC0415

    require_environment(load_task_dataset(offline))  # Fails before pretraining, not after.
    with result_commands.console_reporter() as reporter, _online_settings_kept(offline, online):
        folders = pretrain(offline, reporter)
        finetune(dataclasses.replace(online, run=tuple(folders)), reporter)
    _say(result_commands.outcome(folders, config.runs))


@contextlib.contextmanager
def _online_settings_kept(offline: PretrainConfig, online: FinetuneConfig) -> Iterator[None]:
    """Writes the settings of fine-tuning into the new runs, if the block ends before it begins."""
    from iqlft.runs.folder import ONLINE_SETTINGS, Run  # noqa: PLC0415
    from iqlft.training.seeds import member_configs, run_folder  # noqa: PLC0415

    new = [each for each in map(run_folder, member_configs(offline)) if not each.exists()]
    try:
        yield
    except BaseException:  # Also what no handler of signals turns into `Stopped`.
        for folder in new:
            if (folder / "meta.json").is_file() and not Run.open(folder).fine_tuned:
                write_atomically(folder / ONLINE_SETTINGS, layers.to_yaml(online))
        raise


def _resume(arguments: list[str]) -> None:
    """Continue interrupted runs from their last checkpoint."""
    chosen = parse("resume", kinds.ResumeRun, arguments)
    from iqlft.training.resume import resume  # noqa: PLC0415

    given = dataclasses.asdict(chosen)
    changes = {name: each for name, each in given.items() if name != "run" and each is not None}

    with result_commands.console_reporter() as reporter:
        resume(*chosen.run, reporter=reporter, **changes)
    _say_resumed(chosen.run)


def _say_resumed(folders: Sequence[Path]) -> None:
    """Prints the outcome of resumed runs: of the fine-tuned ones, if there are any."""
    from iqlft.runs.folder import Run  # noqa: PLC0415
    from iqlft.runs.pretrained import finetuning_command  # noqa: PLC0415

    names = shlex.join(map(str, folders))
    tuned = [each for each in folders if Run.open(each).fine_tuned]
    if not tuned:
        _say(f"Pretrained: {names}\nNext: {finetuning_command(folders)}")
        return
    _say(f"Finished: {names}")
    _say(result_commands.outcome(tuned, tuned[0].resolve().parents[1]))


def _sweep(arguments: list[str]) -> None:
    """Train tasks x seeds x settings, one after another here or as jobs of Slurm."""
    from iqlft.cli import sweep as sweeping  # noqa: PLC0415

    sweep = sweeping.read(arguments)
    if sweep.chosen.dry_run:
        _say(sweeping.describe(sweep))
        return
    if sweep.chosen.engine == "slurm":
        jobs = sweeping.submit(sweeping.slurm_executor(sweep), sweep.cells)
        _say("\n".join(f"Submitted {each.job_id}: {each.paths.stdout}" for each in jobs))
        return
    sweeping.run_here(sweep.cells, (lambda _: None) if QUIET.get() else _say)
    folders = [each.folder for each in sweep.cells]
    _say(result_commands.outcome(folders, folders[0].parents[1]))


def _demo(arguments: list[str]) -> None:
    """Run everything on a small scale, in minutes: data, pretraining, fine-tuning, figure."""
    from iqlft.cli.demo import TASK, make_demo_dataset  # noqa: PLC0415

    config = _resolve(configs.RunConfig(task=TASK), "demo", arguments)
    if config is None:
        return
    own = layers.load_task(TASK)["dataset"]
    if (config.task, config.dataset) != (TASK, (own,)):
        raise configs.ConfigError(
            f"The demonstration is {TASK}, on {own}, which it makes; leave task and "
            "dataset as they are, or train on others with `iqlft run`."
        )
    from iqlft.runs.folder import refuse_existing  # noqa: PLC0415
    from iqlft.training.seeds import member_configs, run_folder  # noqa: PLC0415

    def folders(config: RunConfig) -> list[Path]:
        return [*map(run_folder, member_configs(layers.part(config, configs.PretrainConfig)))]

    if config.name:
        for folder in folders(config):
            refuse_existing(folder)
    number = 1
    while any(folder.exists() for folder in folders(config)):
        number += 1
        config = dataclasses.replace(config, name=f"demo-{number}")
    began = time.monotonic()
    with _progress() as progress:
        made = make_demo_dataset(progress)
    _say(f"Dataset: {made}")
    _say(
        f"Sizes: {config.num_updates:,} updates, {config.env_steps:,} environment steps, "
        f"{config.eval_episodes} episodes per evaluation; a small maze, not a published task."
    )
    _pretrain_and_finetune(config)
    _say(f"The demonstration took {time.monotonic() - began:.0f} s.")


# -- data and machine ---------------------------------------------------------------------------


def _data(arguments: list[str]) -> None:
    """Datasets: list, make, download, import, check, plot."""
    from iqlft.cli.data_command import run  # noqa: PLC0415

    _say(run(arguments))


def _worker(arguments: list[str]) -> None:
    """Run a worker for a learner, here or on another machine."""
    from iqlft_workers.worker import main as worker_main  # noqa: PLC0415

    raise SystemExit(worker_main(arguments))


def _workers(arguments: list[str]) -> None:
    """Run many workers for a learner, on this machine or on a Ray cluster."""
    from iqlft_workers.worker import main as worker_main  # noqa: PLC0415

    raise SystemExit(worker_main(arguments, "iqlft workers"))


def _keys(arguments: list[str]) -> None:
    """Make keys for a learner and its workers: `iqlft keys new DIR`."""
    action, *rest = arguments or ["--help"]
    if action not in {"new", "-h", "--help"}:
        raise configs.ConfigError(f"There is no action {action!r}; say `iqlft keys new DIR`.")
    chosen = parse("keys new", kinds.NewKeys, rest if action == "new" else [action])
    from iqlft_workers.keys import new_keys  # noqa: PLC0415

    new_keys(chosen.folder, chosen.workers, shared=chosen.shared)
    _say(
        f"Made keys for a learner and its workers 0 to {chosen.workers - 1} in {chosen.folder}.\n"
        "Learner: iqlft finetune --keys DIR, with learner.secret and every worker*.public\n"
        "Its own --workers: besides, with learner.public and their worker-N.secret\n"
        "Worker N: iqlft worker --keys DIR, with learner.public and worker-N.secret alone"
        + ("\nAny: the same with learner.public and worker.secret alone" if chosen.shared else "")
    )


def _doctor(arguments: list[str]) -> None:
    """Show versions, cores, device, datasets, runs, and what is missing."""
    no_arguments("doctor", arguments)
    from iqlft.cli.doctor import examine  # noqa: PLC0415

    _say(result_commands.aligned(examine()))


def _completion(arguments: list[str]) -> None:
    """Print a script that completes commands and flags in bash, zsh or fish."""
    chosen = parse("completion", kinds.Complete, arguments)
    from iqlft.cli.completion import completion  # noqa: PLC0415
    from iqlft.cli.data_command import ACTIONS  # noqa: PLC0415

    takes = {name: command.takes for name, command in COMMANDS.items()}
    # The actions of `data` are listed in its own module, which is imported late.
    takes["data"] = {name: kind for name, (_, kind) in ACTIONS.items()}
    _say(completion(chosen.shell, takes))


class Command(NamedTuple):
    """A command.

    Attributes:
        run: called with the arguments after the command's name; its docstring is the summary.
        takes: the arguments, for completion: a dataclass, an instance with its defaults, or a
            mapping of those by the names of actions.
    """

    run: Callable[[list[str]], None]
    takes: Any

    @property
    def summary(self) -> str:
        """One line that describes the command, for the overview."""
        return (self.run.__doc__ or "").strip()


def _saying(command: Callable[[list[str]], str]) -> Callable[[list[str]], None]:
    @functools.wraps(command)
    def said(arguments: list[str]) -> None:
        _say(command(arguments))

    return said


COMMANDS: dict[str, Command] = {
    "pretrain": Command(_pretrain, configs.PretrainConfig()),
    "finetune": Command(_finetune, configs.FinetuneConfig()),
    "run": Command(_run, configs.RunConfig()),
    "sweep": Command(_sweep, kinds.SweepRuns),
    "resume": Command(_resume, kinds.ResumeRun),
    "list": Command(_saying(result_commands.list_), kinds.ListRuns),
    "evaluate": Command(_saying(result_commands.evaluate), kinds.EvaluateRun),
    "plot": Command(_saying(result_commands.plot), kinds.PlotRuns),
    "table": Command(_saying(result_commands.table), kinds.TableRuns),
    "report": Command(_saying(result_commands.report), kinds.ReportRuns),
    "video": Command(_saying(result_commands.video), kinds.FilmRun),
    "data": Command(_data, {}),
    "worker": Command(_worker, kinds.JoinLearner),
    "workers": Command(_workers, kinds.LaunchWorkers),
    "keys": Command(_keys, kinds.NewKeys),
    "clean": Command(_saying(result_commands.clean), kinds.CleanRuns),
    "export": Command(_saying(result_commands.export), kinds.ExportRun),
    "doctor": Command(_doctor, kinds.Nothing),
    "completion": Command(_completion, kinds.Complete),
    "demo": Command(_demo, configs.RunConfig()),
}
"""The commands by name, in the order of the overview."""


# -- helpers ------------------------------------------------------------------------------------


def _resolve(default: Training, command: str, arguments: list[str]) -> Training | None:
    """A training command's config; None if it was only to be printed, which is done here."""
    resolved, printing, _ = settings(default, command, arguments)
    if not printing:
        return resolved
    _say(layers.to_yaml(resolved).rstrip())
    return None


def _overview() -> str:
    lines = [f"  {name:12s}{command.summary}" for name, command in COMMANDS.items()]
    return (
        "iqlft: offline-then-online reinforcement learning with environment workers.\n"
        f"Algorithms: {', '.join(ALGORITHMS)}; `iqlft pretrain --algorithm NAME --help`.\n\n"
        "usage: iqlft COMMAND [...]\n\n" + "\n".join(lines) + "\n\n"
        "`iqlft COMMAND --help` says more; with --quiet a command says how it ends and no more."
    )


def _complain(text: str) -> None:
    shown = printable(text, keep="\n\t")
    Console(stderr=True, emoji=False).print(shown, markup=False, highlight=False, soft_wrap=True)


def _say(text: str) -> None:
    print(printable(text, keep="\n\t"), flush=True)  # noqa: T201 -- the one place


def _progress() -> Any:  # noqa: ANN401
    from iqlft.cli.console import EpisodeProgress  # noqa: PLC0415

    return EpisodeProgress(console())
