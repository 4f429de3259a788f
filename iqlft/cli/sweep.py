"""`iqlft sweep`: tasks x seeds x settings, one after another on this machine or as Slurm jobs."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shlex
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from iqlft.cli.arguments import SweepRuns
from iqlft.cli.cell import LEAVE_SIGNAL, Cell, CellFailedError, Trainer
from iqlft.cli.parsing import parse_known
from iqlft.cli.sources import settings
from iqlft.config import layers
from iqlft.config import settings as configs
from iqlft.config.errors import ConfigError, nearest
from iqlft.config.validation import check
from iqlft.runs.folder import Run, pretrain_config
from iqlft.training.interruption import handling
from iqlft.training.seeds import learned, run_folder
from iqlft_workers.errors import Stopped, UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

REQUEUES = 1000
"""How often a job that reached its time limit is queued again."""
ANYWHERE = {"remote_workers", "engine", "host", "keys", "insecure"}
"""Online settings that may change when a run is continued."""
JOB: dict[str, Any] = {
    "time": 24 * 60,
    "signal_delay_s": 120,
    "additional_parameters": {"requeue": True},
}
"""Default parameters of a Slurm job, which --slurm overrides."""


class SweepFailedError(UserError):
    """Some runs of a sweep have failed; the others are finished."""


class Sweep(NamedTuple):
    """The runs of a sweep.

    Attributes:
        chosen: the flags of the sweep itself.
        cells: one per run, in the order of tasks, settings, seeds.
    """

    chosen: SweepRuns
    cells: list[Cell]


def read(arguments: list[str]) -> Sweep:
    """The runs that a command line asks for.

    Raises:
        ConfigError: `iqlft run` would refuse a setting, or two runs would be the same.
    """
    chosen, rest = parse_known("sweep", SweepRuns, arguments)
    if not chosen.seeds:
        raise ConfigError("--seeds names no seed; give at least one, such as --seeds 0 1 2.")
    grid = [_axis(each) for each in chosen.grid]
    keys = [*(axis[0][0] for axis in grid), *["task"] * bool(chosen.tasks)]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(
                f"{key} is swept twice, of which only one can hold; name all its values once."
            )
    cells = []
    for task, values in itertools.product(chosen.tasks or ("",), itertools.product(*grid)):
        flags = itertools.chain.from_iterable(_flag(*each) for each in values)
        arguments = [*_task(task), *rest, *flags]
        shared = _shared(arguments)
        cells += [_cell(chosen.name, shared, arguments, values, seed) for seed in chosen.seeds]
    folders = [each.folder for each in cells]
    for folder in folders:
        if folders.count(folder) > 1:
            raise ConfigError(f"Two runs of the sweep would be {folder}; name each value once.")
    return Sweep(chosen, cells)


def _shared(arguments: list[str]) -> configs.RunConfig:
    """The settings of all seeds; refuses some, in flags or in a file, that runs cannot share."""
    flags = {each.partition("=")[0] for each in arguments}
    if "--print-config" in flags:
        raise ConfigError(
            "A sweep has no settings to print; use --print-config with `iqlft run`, or --dry-run "
            "to print the commands of a sweep."
        )
    config = settings(configs.RunConfig(), "run", arguments).config
    if "--seed" in flags or config.seed or config.seeds:
        raise ConfigError(
            "seed and seeds are those of one run; leave them out, here and in the file of "
            "--config, and name the seeds of a sweep by --seeds 0 1 2."
        )
    if config.dry_run:
        raise ConfigError(
            "With dry_run no run of a sweep would be made; leave it out of the file of --config; "
            "--dry-run prints the commands of a sweep."
        )
    return config


def _task(task: str) -> list[str]:
    return ["--task", task] if task else []


def _axis(text: str) -> list[tuple[str, str]]:
    """Splits `expectile=0.7,0.8` into pairs of setting and value."""
    name, equals, values = text.partition("=")
    key, found = name.replace("-", "_"), [each for each in values.split(",") if each]
    if not (equals and found):
        raise ConfigError(f"--grid is {text!r}, but must be NAME=VALUE,VALUE of a setting.")
    if key in {"seed", "seeds", "name", "runs"}:
        raise ConfigError(f"--grid {name} cannot be: seeds are --seeds, and runs get their names.")
    return [(key, each) for each in found]


def _cell(
    name: str,
    shared: configs.RunConfig,
    arguments: list[str],
    values: Sequence[tuple[str, str]],
    seed: int,
) -> Cell:
    # The algorithm is named without its key; the task is in the folder's path.
    apart = [(key, value) for key, value in values if key not in {"algorithm", "task"}]
    # A slash, as Minari ids and paths have it, is for folders.
    told = [f"{key}={value.replace('/', '-')}" for key, value in apart]
    algorithms = [value for key, value in values if key == "algorithm"] if told or name else []
    words = [name] * bool(name) + algorithms + told
    if shared.name and not words:
        raise ConfigError(
            f"All runs of the sweep would be called {shared.name}; leave name out of the file of "
            "--config, and say --name, beside which their names tell what differs."
        )
    called = f"{','.join(words)}-s{seed}" if words else ""
    config = dataclasses.replace(shared, seed=seed, name=called)
    check(config)
    offline = layers.part(config, configs.PretrainConfig)
    folder = run_folder(offline)
    if (folder / "meta.json").is_file():
        _require_same(Run(folder), learned(offline), layers.to_dict(config))
    command = [*arguments, "--seed", str(seed), *(["--name", called] if called else [])]
    return Cell(folder, tuple(command), layers.to_yaml(config))


def _require_same(run: Run, offline: dict[str, Any], every: dict[str, Any]) -> None:
    """Refuses an existing run whose settings differ from the sweep's.

    Args:
        run: the existing run.
        offline: the sweep's settings of pretraining.
        every: all settings of the sweep.
    """
    found, online = learned(pretrain_config(run)), run.config("finetune") or {}
    different = [key for key in offline if found.get(key) != offline[key]]
    kept = layers.config_fields(configs.OnlineConfig).keys() & online.keys() - ANYWHERE
    different += [key for key in kept if online[key] != every[key]]
    if different:
        raise ConfigError(
            f"{run.folder} has been trained with another {', '.join(different)}; choose another "
            "--name or --runs for the sweep."
        )


def _flag(key: str, value: str) -> list[str]:
    name = key.replace("_", "-")
    switch = {"true": [f"--{name}"], "false": [f"--no-{name}"]}
    return switch.get(value.lower(), [f"--{name}", value])


def describe(sweep: Sweep) -> str:
    """The commands that would be run, one per line."""
    lines = []
    for cell in sweep.cells:
        step = cell.next_step()
        line = f"iqlft {shlex.join(step)}" if step else f"# finished: {cell.folder}"
        lines.append(line)
    return "\n".join(lines)


def run_here(cells: Sequence[Cell], tell: Callable[[str], None]) -> None:
    """Trains cells one after another; a failure does not stop the others.

    Args:
        cells: the cells; finished ones are skipped.
        tell: called with a line as each cell begins.

    Raises:
        SweepFailedError: some runs have failed.
        Stopped: by a signal; the same command continues the sweep.
    """
    failed: list[str] = []
    for number, cell in enumerate(cells, 1):
        if (step := cell.next_step()) is None:
            tell(f"{number}/{len(cells)}: {cell.folder} is finished.")
            continue
        tell(f"{number}/{len(cells)}: iqlft {shlex.join(step)}")
        trainer = Trainer(cell)
        try:
            with _passing_on(trainer) as heard:
                code = trainer.train()
        except CellFailedError as error:
            failed.append(str(error).rstrip("."))
            continue
        if heard or code == Stopped.exit_code:
            raise Stopped("Interrupted; the same command goes on with the sweep.")
        if code:
            failed.append(f"{cell.folder} (exit code {code})")
    if failed:
        raise SweepFailedError(
            f"{len(failed)} of {len(cells)} runs have failed: {', '.join(failed)}; why is said "
            "above, and the same command tries them again."
        )


@contextmanager
def _passing_on(trainer: Trainer) -> Iterator[list[int]]:
    """Passes signals on to the running cell; yields the list of signals received."""
    heard: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        heard.append(number)
        trainer.tell(signal.Signals(number))

    with handling(handle):
        yield heard


def submit(executor: Any, cells: Sequence[Cell]) -> list[Any]:  # noqa: ANN401 -- of an extra
    """Submits unfinished runs as one array of jobs; returns the jobs."""
    waiting = [Trainer(cell) for cell in cells if cell.next_step() is not None]
    if not waiting:
        return []
    with executor.batch():
        return [executor.submit(trainer) for trainer in waiting]


def slurm_executor(sweep: Sweep) -> Any:  # noqa: ANN401 -- of an extra
    """The submitit executor that submits jobs to Slurm.

    Raises:
        ConfigError: submitit or Slurm is missing, or a parameter of --slurm does not exist.
    """
    os.environ["SUBMITIT_PREEMPT_SIGNAL"] = LEAVE_SIGNAL  # submitit reads it on import.
    try:
        import submitit  # noqa: PLC0415 -- an extra
    except ImportError as error:
        raise ConfigError("--engine slurm needs submitit: pip install submitit.") from error
    # Beside the tasks' folders, where nothing looks for runs.
    folder = sweep.cells[0].folder.parents[1] / ".slurm"
    try:
        # -P: no file in the current folder can shadow a module of the job.
        python = f"{shlex.quote(sys.executable)} -P"
        executor = submitit.SlurmExecutor(folder, max_num_timeout=REQUEUES, python=python)
    except RuntimeError as error:
        raise ConfigError(
            "--engine slurm needs Slurm's srun and sbatch, which are not on this machine; submit "
            "from a login node, or leave it out to run one after another here."
        ) from error
    given = dict(_parameter(each) for each in sweep.chosen.slurm)
    known = executor._valid_parameters()
    for key in given.keys() - known:
        hint = nearest(key, sorted(known))
        raise ConfigError(f"--slurm {key} is no parameter of a job.{hint}")
    setup = [f"export SUBMITIT_PREEMPT_SIGNAL={LEAVE_SIGNAL}"]
    executor.update_parameters(job_name="iqlft", setup=setup, **JOB | given)
    return executor


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (equals and value):
        raise ConfigError(f"--slurm is {text!r}, but must be NAME=VALUE.")
    return name.replace("-", "_"), int(value) if value.isdigit() else value
