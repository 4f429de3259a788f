"""Loggers, which also show a run's figures: TensorBoard, W&B, MLflow, or a class of one's own.

`metrics.jsonl` and `curves.csv` are the record and are always written; loggers repeat them for
viewing. So a logger that fails ends no run, and one that is added later receives the rows that it
missed.
"""

from __future__ import annotations

import importlib
import json
import logging
import math
import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from iqlft.config.errors import ConfigError
from iqlft.config.own_class import imported
from iqlft.training.event_log import EventLog, forget
from iqlft_workers.failures import RAISED
from iqlft_workers.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    Row = Mapping[str, Any]

_log = logging.getLogger(__name__)
STATE = "logs/loggers.json"
"""File in a run's folder: its id, and how far each logger is; a copy of a run has none."""
_GROUPS = {
    **dict.fromkeys(("updates_per_second", "env_steps_per_second"), "speed"),
    **dict.fromkeys(("learner_waiting_share", "workers_waiting_share", "policy_lag"), "workers"),
    "training_success": "training",
}
"""Groups for keys without a namespace; those not listed are in the group `run`."""
_CLOCKS = {"updates", "env_steps", "seconds", "phase"}
"""Keys that are not figures, but place a row in the run."""


@dataclass(frozen=True)
class LoggedRun:
    """The run that a logger is for.

    Attributes:
        folder: the run folder, whose path may be relative.
        task: of the run.
        id: the same for as long as the run exists, however often it is resumed.
        settings: its configuration by keys such as `pretrain.expectile`; numbers, texts and flags.
        text: its `config.yaml`.
        seconds: training time so far.
    """

    folder: Path
    task: str
    id: str
    settings: Mapping[str, bool | float | str]
    text: str
    seconds: float


class Logger(Protocol):
    """Receives the rows of a run; `Class(run)` with a `LoggedRun` makes it, or continues that id.

    Attributes:
        begins_anew: whether, when a run is resumed, it discards its rows and receives all of them
            again; otherwise it receives only those that it has not had.
    """

    begins_anew: ClassVar[bool]

    def __init__(self, run: LoggedRun) -> None: ...

    def write(self, row: Row, updates: int) -> None:
        """Receives a row of metrics, or an evaluation, whose keys begin with `evaluation/`.

        Args:
            row: by the keys of `docs/metrics.md`, with `updates`, `env_steps`, `seconds`, `phase`.
            updates: the row's updates, as the step at which to show it.
        """

    def close(self) -> None:
        """Called when the run stops, finished or not."""


class TensorBoard:
    """Events in the run's folder `tensorboard/`, written anew when a run is resumed.

    The old ones may go beyond the checkpoint from which the run is resumed.
    """

    begins_anew: ClassVar[bool] = True

    def __init__(self, run: LoggedRun) -> None:
        folder = run.folder / "tensorboard"
        forget(folder)
        self._events, self._began = EventLog(folder), time.time() - run.seconds
        self._events.write_text("configuration", f"```yaml\n{run.text}\n```")
        self._events.write_hyperparameters(run.settings, run.folder.name)

    def write(self, row: Row, updates: int) -> None:
        """Writes the figures of a row, by tag."""
        self._events.write(_figures(row), updates, self._began + row["seconds"])

    def close(self) -> None:
        """Nothing is held open."""


class WandB:
    """A Weights & Biases run in `WANDB_PROJECT`, or iqlft; WANDB_MODE=offline keeps it local."""

    begins_anew: ClassVar[bool] = False

    def __init__(self, run: LoggedRun) -> None:
        import wandb  # noqa: PLC0415  # an extra

        self._run = wandb.init(
            project=wandb.setup().settings.project or "iqlft",
            id=run.id,
            resume="allow",
            reinit="create_new",  # The runs of a stack are in one process.
            name=f"{run.task}/{run.folder.name}",
            group=run.task,
            config=dict(run.settings),
            dir=run.folder / "logs",
        )
        self._run.define_metric("*", step_metric="updates")

    def write(self, row: Row, updates: int) -> None:
        """Logs the figures over updates; `env_steps` is one of them."""
        clocks = {"updates": updates, "env_steps": row["env_steps"]}
        self._run.log(_figures(row) | clocks)

    def close(self) -> None:
        """Waits until what is left is written or sent."""
        self._run.finish()


class MLflow:
    """A run of MLflow in the experiment of its task, wherever `MLFLOW_TRACKING_URI` says."""

    begins_anew: ClassVar[bool] = False

    def __init__(self, run: LoggedRun) -> None:
        from mlflow import MlflowClient  # noqa: PLC0415  # an extra
        from mlflow.entities import Metric, Param  # noqa: PLC0415

        self._client, self._metric = MlflowClient(), Metric
        found = self._client.get_experiment_by_name(run.task)
        experiment = found.experiment_id if found else self._client.create_experiment(run.task)
        runs = self._client.search_runs([experiment], f"tags.`iqlft.id` = '{run.id}'")
        if runs:
            self._id = runs[0].info.run_id
            self._client.update_run(self._id, "RUNNING")
            return
        tags = {"iqlft.id": run.id}
        self._id = self._client.create_run(
            experiment, run_name=run.folder.name, tags=tags
        ).info.run_id
        parameters = [Param(key, str(value)) for key, value in run.settings.items()]
        self._client.log_batch(self._id, params=parameters)

    def write(self, row: Row, updates: int) -> None:
        """Logs the figures at the step `updates`; `env_steps` is one of them."""
        figures = _figures(row) | {tag("env_steps"): row["env_steps"]}
        now = int(1000 * time.time())
        metrics = [self._metric(name, each, now, updates) for name, each in figures.items()]
        self._client.log_batch(self._id, metrics)

    def close(self) -> None:
        """Marks the run as finished; a resumed one is marked as running again."""
        self._client.set_terminated(self._id)


LOGGERS: dict[str, type[Logger]] = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}
"""The loggers by name."""


def logger_class(name: str) -> type[Logger]:
    """The class of a logger.

    Args:
        name: a name in `LOGGERS`, or a class of one's own as `package.module:Class`.

    Raises:
        ConfigError: there is no such logger, or what it needs is not installed.
    """
    if name in LOGGERS:
        _require_extra(name)
        return LOGGERS[name]
    found = imported("logger", name, LOGGERS)
    if not (isinstance(found, type) and hasattr(found, "write") and hasattr(found, "close")):
        raise ConfigError(f"{name} is not a logger: it must be a class with write and close.")
    return cast("type[Logger]", found)


def _require_extra(name: str) -> None:
    if name == "tensorboard":
        return
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"The logger {name} is not here ({error}); install it: pip install {name}."
        ) from error


def require(names: Iterable[str]) -> None:
    """Raises `ConfigError` unless all of these loggers are available; makes none of them."""
    for name in names:
        logger_class(name)


class Loggers:
    """The loggers of a run, each of which receives every row once.

    Args:
        names: of loggers, as `logger_class` takes them.
        folder: the run folder.
        task: of the run.
        configuration: the sections of its `config.yaml`.
        text: the text of its `config.yaml`.
        history: rows that its files have so far, in order.
        tell: called with a sentence about a logger that has failed.
    """

    def __init__(
        self,
        names: Iterable[str],
        folder: Path,
        task: str,
        configuration: Mapping[str, Any],
        text: str,
        history: Iterable[Row],
        tell: Callable[[str], None],
    ) -> None:
        self._path, self._tell, rows = folder / STATE, tell, list(history)
        self._state = self._read()
        settings = dict(_flat(configuration))
        seconds = max((row["seconds"] for row in rows), default=0.0)
        run = LoggedRun(folder, task, self._state["id"], settings, text, seconds)
        self._open: dict[str, Logger] = {}
        self._remembered: set[str] = set()
        for name in dict.fromkeys(names):
            self._begin(name, logger_class(name), run)
        self.write(*rows)

    def _begin(self, name: str, kind: type[Logger], run: LoggedRun) -> None:
        with self._tolerating(name):
            self._open[name] = kind(run)
        if getattr(kind, "begins_anew", False):
            self._state["written"].pop(name, None)
        else:
            self._remembered.add(name)

    def write(self, *rows: Row) -> None:
        """Passes to every logger the rows that it has not had."""
        new = {name: self._unwritten(name, rows) for name in self._open}
        if any(new[name] for name in self._remembered & new.keys()):
            # Saved before they are written: after a crash, a row may be missing, but none is twice.
            self._save()
        for name, unwritten in new.items():
            with self._tolerating(name):
                for row in unwritten:
                    self._open[name].write(row, row["updates"])

    def _unwritten(self, name: str, rows: Iterable[Row]) -> list[Row]:
        """The rows that a logger has not had; from now on they count as had."""
        unwritten, written = [], self._state["written"].setdefault(name, {})
        for row in rows:
            evaluation = any(key.startswith("evaluation/") for key in row)
            kind = "evaluations" if evaluation else "metrics"
            # The evaluation at the switch has the same updates as the last one of pretraining.
            at = [int(row["phase"] == "online"), row["updates"], row["env_steps"]]
            if at > written.get(kind, []):
                written[kind] = at
                unwritten.append(row)
        return unwritten

    def close(self) -> None:
        """Closes all of them."""
        for name in tuple(self._open):
            with self._tolerating(name):
                self._open.pop(name).close()

    @contextmanager
    def _tolerating(self, name: str) -> Iterator[None]:
        """Context in which a logger may fail: that is reported once, and ends nothing else."""
        try:
            yield
        except RAISED as error:
            if (failed := self._open.pop(name, None)) is not None:
                with suppress(*RAISED):
                    failed.close()
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self._tell(f"The logger {name} has failed and sees no more ({reason:.300}).")

    def _read(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
            return {"id": str(state["id"]), "written": dict(state["written"])}
        except (OSError, ValueError, KeyError, TypeError):
            return {"id": uuid.uuid4().hex, "written": {}}

    def _save(self) -> None:
        try:
            write_atomically(self._path, json.dumps(self._state))
        except OSError as error:
            _log.warning("%s cannot be written (%s).", self._path, error.strerror)


def tag(key: str) -> str:
    """The name of a figure with its group, where figures are shown in groups."""
    return key if "/" in key else f"{_GROUPS.get(key, 'run')}/{key}"


def _figures(row: Row) -> dict[str, float]:
    """The finite numbers of a row, apart from `_CLOCKS`, by tag."""
    return {
        tag(key): each
        for key, each in row.items()
        if isinstance(each, int | float) and key not in _CLOCKS and math.isfinite(each)
    }


def _flat(settings: Mapping[str, Any], at: str = "") -> Iterable[tuple[str, bool | float | str]]:
    """Settings by names with their sections before them; values of other types become texts."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{at}{key}.")
        else:
            yield f"{at}{key}", value if isinstance(value, bool | int | float) else str(value)
