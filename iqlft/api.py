"""The Python quick start in the usual form: load a dataset, train an algorithm, act, save."""

from __future__ import annotations

import dataclasses
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from rich.console import Console
from rich.progress import track
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from iqlft.config import layers, validation
from iqlft.config import settings as configs
from iqlft.config.algorithms import title
from iqlft.config.errors import nearest
from iqlft.datasets.offline_dataset import OfflineDataset
from iqlft.runs.finding import chosen_runs
from iqlft.runs.inherited import inherited
from iqlft.runs.policy import Policy, save_policy
from iqlft.training.build import flushed_denormals, load_task_dataset, own_threads
from iqlft.training.evaluate import Evaluation, run_episodes
from iqlft.training.learner import build_learner
from iqlft_workers.files import replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Unpack

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from iqlft.config.settings import FinetuneConfig, Precision, PretrainConfig


_STATE, _DRAWS = "training.safetensors", "replay.random_state"
"""File of the training state, and the name in it of the random state that draws batches."""


def load_dataset(
    *dataset_ids: str,
    algorithm: str = configs.PretrainConfig.algorithm,
    **settings: Any,  # noqa: ANN401
) -> OfflineDataset:
    """Opens Minari datasets, read as the task that uses them reads them.

    Args:
        dataset_ids: such as `iqlft/antmaze/umaze-v1`; several are read one after another.
        algorithm: what is to learn from them. A task may read data otherwise for some of them: in
            locomotion the rewards are scaled for IQL, but not for AWAC, TD3+BC, RLPD and most CQL.
        settings: fields of `iqlft.config.settings.TaskConfig` that override the task's, such as
            `goal`.

    Raises:
        DatasetError: a dataset is not on this machine; the message says how to make or download it.
        ConfigError: a setting does not exist, or is not about how data are read.
    """
    for name in settings.keys() & {"task", "score", "normalize_observations"}:
        raise configs.ConfigError(
            f"load_dataset: {name} is not about how data are read; "
            + ("give it to the algorithm." if "normalize" in name else "leave it out.")
        )
    if wrong := next((each for each in dataset_ids if not isinstance(each, str)), None):
        raise configs.ConfigError(f"load_dataset takes ids, each an argument, not {wrong!r:.99}.")
    learning = _of_dataset(layers.with_algorithm(configs.PretrainConfig(), algorithm), dataset_ids)
    config = _override(layers.part(learning, configs.TaskConfig), settings, "load_dataset")
    validation.check(config)
    return load_task_dataset(config)


def pretrain_config(
    task: str = "",
    *,
    algorithm: str = "iql",
    **settings: Any,  # noqa: ANN401
) -> PretrainConfig:
    """The config of `iqlft pretrain --task TASK --algorithm ALGORITHM`, to pass to `pretrain`.

    A `PretrainConfig` built directly has defaults for what it is not given; this one also has the
    task's dataset, how it is read, and the task's hyperparameters for the algorithm.

    Args:
        task: name of a file in `configs/`; with `dataset`, it may be any other name.
        algorithm: name of an algorithm, or `package.module:Class`.
        settings: overrides: fields of `PretrainConfig`, and hyperparameters by their own names,
            such as `num_updates` and `expectile`.

    Raises:
        ConfigError: a task, an algorithm or a setting does not exist, or has no sensible value.
    """
    given = settings.get("dataset", ())
    dataset = (given,) if isinstance(given, str) else tuple(given)
    config = layers.with_algorithm(configs.PretrainConfig(), algorithm)
    config = layers.with_task(config, task, dataset)
    if task and dataset:
        config = dataclasses.replace(config, task=task)
    config = _override(config, settings, "pretrain_config")
    validation.check(config)
    return config


def finetune_config(
    *runs: Path | str,
    algorithm: str = "",
    **settings: Any,  # noqa: ANN401
) -> FinetuneConfig:
    """The config of `iqlft finetune RUN... --algorithm ALGORITHM`, to pass to `finetune`.

    A `FinetuneConfig` built directly has defaults for what it is not given; this one also has the
    online settings of the runs' task, and the intervals, machine settings and hyperparameters of
    pretraining.

    Args:
        runs: folders of pretrained runs.
        algorithm: to continue with; empty: that of pretraining.
        settings: overrides: fields of `FinetuneConfig`, and hyperparameters by their own names,
            such as `env_steps` and `expectile`.

    Raises:
        RunError: there is no run in one of the folders, or it cannot be read.
        ConfigError: an algorithm or a setting does not exist, or has no sensible value; or the runs
            disagree about a setting that they pass on.
    """
    if not runs or not all(isinstance(each, Path | str) for each in runs):
        raise configs.ConfigError(
            "finetune_config needs folders of pretrained runs, each an argument."
        )
    folders = tuple(map(Path, runs))
    found = inherited(folders, algorithm)
    found.require_settled(settings)
    config = layers.with_algorithm(configs.FinetuneConfig(run=folders), algorithm)
    config = layers.override(config, dict(found.values), "the pretrained run")
    config = _override(config, settings, "finetune_config")
    validation.check(config)
    chosen_runs(config)  # Refuses a run of another task.
    return config


def _of_dataset(config: layers.Config, dataset_ids: Sequence[str]) -> layers.Config:
    """A config for datasets, with the settings of the task that has them, if there is one."""
    if layers.task_of(dataset_ids) is not None:
        config = layers.with_task(config, "", dataset_ids)
    return dataclasses.replace(config, dataset=tuple(dataset_ids))  # type: ignore[type-var]


def _override(config: layers.Config, settings: dict[str, Any], where: str) -> layers.Config:
    """Like `layers.override`, but refuses settings that only other commands have."""
    fields = list(layers.setting_fields(config))
    for name in settings:
        if name not in fields:
            hint = nearest(name, fields)
            raise configs.ConfigError(f"{where}: there is no setting {name!r}.{hint}")
    return layers.override(config, settings, where)


class Algorithm:
    """An algorithm on an offline dataset.

    Settings that are not given are those of `iqlft pretrain` for the task that has the dataset,
    except that a scheduled learning rate is constant if `num_updates` is not given.

    Args:
        name: a key of `iqlft.config.algorithms.ALGORITHMS`, or `package.module:Class`.
        dataset: from `load_dataset`, for this algorithm.
        seed: of initial weights and batches.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        threads: number of torch threads in training on the CPU; by default as on the command line.
        precision: arithmetic of the hidden layers.
        normalize_observations: subtract the dataset's mean and divide by its standard deviation.
        num_updates: total number of updates to come, which a schedule needs to know.
        hyperparameters: fields of the algorithm's dataclass in `iqlft.config.algorithms`.

    Raises:
        ConfigError: there is no such algorithm, or a hyperparameter does not exist or has no
            sensible value; or the dataset is not an opened one, but for example its name.
    """

    def __init__(
        self,
        name: str,
        dataset: OfflineDataset,
        *,
        seed: int = 0,
        device: str = "auto",
        threads: int = configs.MachineConfig.threads,
        precision: Precision = "float32",
        normalize_observations: bool | None = None,
        num_updates: int | None = None,
        **hyperparameters: Any,  # noqa: ANN401
    ) -> None:
        if not isinstance(dataset, OfflineDataset):
            raise configs.ConfigError(
                f"The dataset is {dataset!r:.99}, which is a name at most; open it first: "
                f"iqlft.load_dataset({str(dataset)!r:.99})."
            )
        usual = _of_dataset(layers.with_algorithm(configs.PretrainConfig(), name), dataset.ids)
        if num_updates is None:
            usual = dataclasses.replace(usual, hyperparameters=usual.hyperparameters.unscheduled)
        else:
            _require_count("num_updates", num_updates)
        self._settings = _override(usual.hyperparameters, hyperparameters, name)
        machine = {"seed": seed, "device": str(device), "threads": threads, "precision": precision}
        usual = _override(usual, machine, name)
        usual = dataclasses.replace(usual, hyperparameters=self._settings)
        if normalize_observations is not None:
            usual = dataclasses.replace(usual, normalize_observations=bool(normalize_observations))
        if num_updates is not None:
            usual = dataclasses.replace(usual, num_updates=num_updates)
        validation.check(usual)
        if self._settings.scheduled and num_updates is None:
            raise configs.ConfigError(
                "A schedule, here of the actor's learning rate, needs the number of updates in "
                "advance; give num_updates."
            )
        self._name, self._dataset, self._threads = title(name), dataset, threads
        self._about = {"algorithm": name, "dataset": dataset.id}
        if (task := layers.task_of(dataset.ids)) is not None:
            self._about["task"] = task
        self._normalize = usual.normalize_observations
        with own_threads(threads):
            self._stack = build_learner(usual, dataset, [seed])
        self._policy: Policy | None = None

    def __repr__(self) -> str:
        return (
            f"<{self._name} on {self._dataset.id}: {self.updates:,} updates, "
            f"{self._stack.replay.device}, {self._settings}>"
        )

    @property
    def updates(self) -> int:
        """Updates made so far."""
        return self._stack.updates

    def train(
        self,
        num_updates: int,
        *,
        log_every: int = 1000,
        callback: Callable[[dict[str, float]], None] | None = None,
        progress: bool = False,
    ) -> dict[str, float]:
        """Trains on batches from the dataset.

        Args:
            num_updates: number of further updates.
            log_every: updates between calls of `callback`.
            callback: called with the metrics of the latest update.
            progress: whether to show a progress bar on standard error.

        Returns:
            The metrics of the last update; `docs/metrics.md` explains them.

        Raises:
            ConfigError: `num_updates` or `log_every` is not a whole number of at least 1.
        """
        _require_count("num_updates", num_updates)
        _require_count("log_every", log_every)
        self._policy = None
        with own_threads(self._threads), flushed_denormals():
            shown = Console(stderr=True)
            for index in track(range(num_updates), "updates", console=shown, disable=not progress):
                self._stack.update()
                if callback is not None and (index + 1) % log_every == 0:
                    callback({"updates": self.updates, **self._stack.figures(0)})
        return {"updates": self.updates, **self._stack.figures(0)}

    @property
    def policy(self) -> Policy:
        """The current actor as a function of an observation, in pure NumPy."""
        if self._policy is None:
            self._policy = Policy(self._stack.algorithm.actor_weights(), self._dataset.environment)
        return self._policy

    def act(
        self,
        observation: Any,  # noqa: ANN401
        rng: np.random.Generator | None = None,
        *,
        raw: bool = False,
    ) -> NDArray[np.float32]:
        """The mean action for an observation, or a sampled one if `rng` is given; see `Policy`.

        It is in the environment's units, or in [-1, 1] if `raw`.
        """
        return self.policy(observation, rng, raw=raw)

    def save(self, folder: Path | str, *, whole: bool = False) -> None:
        """Writes the policy to a folder that `iqlft.load_policy` reads.

        Args:
            folder: created if missing.
            whole: also write the training state for `load`, about four times as much data.
        """
        about = {**self._about, "updates": self.updates}
        save_policy(Path(folder), self.policy.weights, self._dataset.environment, about)
        if whole:
            state = self.state() | {_DRAWS: self._stack.replay.random_state()}
            with replacing(Path(folder) / _STATE) as temporary:
                save_file(state, temporary, self._identity())

    def load(self, folder: Path | str) -> None:
        """Restores the state of `save(folder, whole=True)`, as if training had not stopped.

        Args:
            folder: saved by the same algorithm, with the same dataset and hyperparameters.

        Raises:
            ConfigError: there is no such file, it is damaged, or the algorithm, the dataset or the
                hyperparameters are different.
        """
        path = Path(folder) / _STATE
        try:
            with safe_open(path, "pt") as file:
                saved = file.metadata() or {}
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            for what, own in self._identity().items():
                # The earliest states of 0.1.0 lack these entries.
                if (other := saved.get(what, own)) != own:
                    raise RuntimeError(f"it is of the {what} {other}, not {own}")
            draws = state.pop(_DRAWS)
            self._stack.algorithm.load_state(state)
            self._stack.replay.set_random_state(draws)
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            raise configs.ConfigError(
                f"{path} cannot be continued from ({error}); save it with whole=True, by the same "
                "algorithm with the same hyperparameters."
            ) from error
        self._policy = None

    def _identity(self) -> dict[str, str]:
        """What must be the same here and in a saved state."""
        return {
            "algorithm": self._name,
            "dataset": f"{self._dataset.id} ({self._dataset.statistics.hash})",
            "normalize_observations": str(self._normalize),
            "hyperparameters": str(self._settings),
        }

    def evaluate(self, episodes: int = 100, *, workers: int = 2) -> dict[str, Any]:
        """Runs evaluation episodes, as training does, in the dataset's environment.

        It starts worker processes of its own, and ends them.

        Args:
            episodes: number of episodes, with the seeds of evaluations in training.
            workers: number of processes that run them.

        Returns:
            `success` and `return`, each a value with the bounds of its 95 % interval, and the
            results of every episode.
        """
        results = run_episodes(self.policy, self._name, episodes, workers)
        return Evaluation(Path(self._dataset.id), self.policy, results).numbers()

    def state(self) -> dict[str, torch.Tensor]:
        """Every tensor of the algorithm, for a training loop of one's own."""
        return self._stack.algorithm.state()


def _require_count(name: str, value: int) -> None:
    """Refuses anything but a whole number of at least 1, of Python or of NumPy."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise configs.ConfigError(f"{name} is {value!r}, but must be a whole number from 1.")


class IQLSettings(TypedDict, total=False):
    """Keyword arguments of `IQL`, typed; see `Algorithm` and `IQLHyperparameters`."""

    seed: int
    device: str
    threads: int
    precision: Precision
    normalize_observations: bool | None
    num_updates: int | None
    learning_rate: float
    batch_size: int
    hidden_size: int
    hidden_layers: int
    discount: float
    target_update_rate: float
    clip_targets: bool
    critic_layer_norm: bool
    expectile: float
    inverse_temperature: float
    actor_schedule: Literal["constant", "cosine", "climbing-cosine"]
    dropout: float


class IQL(Algorithm):
    """Implicit Q-Learning on an offline dataset.

    Args:
        dataset: from `load_dataset`.
        settings: as for `Algorithm`; hyperparameters are those of `IQLHyperparameters`.
    """

    def __init__(self, dataset: OfflineDataset, **settings: Unpack[IQLSettings]) -> None:
        super().__init__("iql", dataset, **settings)
