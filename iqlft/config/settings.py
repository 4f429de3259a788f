"""Configuration: a frozen dataclass per command, whose fields are its flags and YAML keys.

`layers` fills them with values. Imports no torch, so that `--help` is quick.
"""

# tyro reads these annotations at run time, so they are not postponed.
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from iqlft.config.algorithms import Hyperparameters, registered
from iqlft.config.bounds import Count, NonNegative, Port, Positive, Real, Share, Size
from iqlft.config.errors import ConfigError as ConfigError  # noqa: PLC0414 -- of this interface
from iqlft_workers.launchers.local import Engine

Precision = Literal["float32", "bf16", "auto"]
"""Arithmetic of the hidden layers; auto: bf16 on a processor that has it, else float32."""
Stacking = Literal["auto", "always", "never"]
"""Whether several runs learn in one process."""
EvalEnvironment = Literal["second", "training", "one-worker"]
"""Where evaluation episodes run."""
Judge = Literal["success", "return"]
"""What an episode is judged by."""
DEFAULT_TASK = "antmaze-umaze"
"""The task that commands learn if neither a task nor a dataset is named."""
_LONGEST_NAME = 100
"""Maximum length of a name made from Minari ids, as it also names a folder."""


@dataclass(frozen=True)
class TaskConfig:
    """What is learned: a dataset, the environment that goes with it, and how rewards are read."""

    task: str = ""
    """Name of a file in configs/, which sets the fields below and the hyperparameters; with
    --dataset, it may be any other name for the runs. Empty: the task that has the dataset, else a
    name made from its id; without a dataset, antmaze-umaze.
    """
    dataset: tuple[str, ...] = ()
    """Minari ids of the offline datasets; several are read as one."""
    appended: Annotated[tuple[str, ...], tyro.conf.Fixed, tyro.conf.Suppress] = ()
    """Minari ids of data added later by `iqlft finetune --append`; in a file only."""
    environment: str = ""
    """Gymnasium id for evaluation and fine-tuning; empty: the one that the dataset records."""
    environment_kwargs: Annotated[dict[str, Any], tyro.conf.Fixed] = field(default_factory=dict)
    """Arguments of that environment, which override the recorded ones; in a file only."""
    max_episode_steps: Size = 0
    """Time limit of an episode, in steps; 0: the environment's own or, if it has none, the length
    of the longest recorded episode.
    """
    trust: bool = False
    """Run the environment that the data name even if no installed package registers it: its code
    is imported and called, here and in the workers.
    """
    goal: Literal["evaluation", "observed", "stored"] = "stored"
    """evaluation: rewards relabelled to the evaluation goal, which is not observed; observed: the
    desired goal is part of the observation; stored: observations and rewards as recorded."""
    observation_keys: tuple[str, ...] = ()
    """Keys of a Dict observation to use, in this order; none: those that the goal mode (--goal)
    needs, which are all of them for stored.
    """
    after_success: Literal["keep", "drop"] = "keep"
    """drop: end each dataset episode at its first success, for data that mostly sit on the goal."""
    reward_scale: Real | Literal["return_range"] = 1.0
    """Factor on rewards; return_range: 1000 / (greatest - least return of a dataset episode)."""
    reward_shift: Real = 0.0
    """Added to scaled rewards; -1 turns AntMaze's 0/1 into -1/0."""
    score: Judge = "success"
    """What an episode is judged by: success, where the environment reports it, or its return."""
    success_key: str = ""
    """Key of a step's info that reports success; empty: success, else is_success."""
    reference_scores: Annotated[tuple[float, float] | None, tyro.conf.arg(metavar="LOW HIGH")] = (
        None
    )
    """Returns that score 0 and 100; none: those recorded in the dataset, if any."""
    normalize_observations: bool = False
    """Subtract the dataset's mean and divide by its standard deviation (CORL does, IQL's authors
    do not).
    """

    def __post_init__(self) -> None:
        """Turns a single dataset id into a tuple, as YAML may hold it, and names the task."""
        if isinstance(self.dataset, str):
            object.__setattr__(self, "dataset", (self.dataset,))
        if not self.task and self.dataset:
            object.__setattr__(self, "task", name_from(self.dataset))
        _take_texts_for_paths(self)


def _take_texts_for_paths(config: object) -> None:
    """Turns folders that are given as strings, as in Python code, into paths."""
    for name in ("runs", "keys"):
        if isinstance(given := getattr(config, name, None), str):
            object.__setattr__(config, name, Path(given))


@dataclass(frozen=True)
class MachineConfig:
    """How a training command computes and evaluates, and the port that it listens on."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Precision = "float32"
    """Arithmetic of the hidden layers; output layers, losses and optimiser are always float32.
    auto: bf16 on a processor that has it, else float32.
    """
    threads: Size = 1
    """torch threads of a learner on the CPU; 0: one per core. With networks of this size a second
    thread gains next to nothing, and costs time as soon as anything else runs.
    """
    stack: Stacking = "auto"
    """How several seeds learn. always: in one process, with each update batched over all of them;
    never: each in a process of its own, cores / threads of them at a time; auto: always on a GPU,
    never on a CPU.
    """
    cuda_graph: bool = False
    """On a GPU, launch each update as one CUDA graph; not with random draws or a schedule."""
    eval_every: Count = 100_000
    """Updates (offline) or environment steps (online) between evaluations."""
    eval_episodes: Size = 100
    """Episodes per evaluation, spread over the workers, from fixed seeds; mean actions, but FQL's
    are sampled. 0: none."""
    eval_environment: EvalEnvironment = "second"
    """Where evaluations run during fine-tuning. second: each worker builds a second environment;
    training: in the training environment, between its episodes, for a simulator that exists only
    once; one-worker: the first worker alone builds a second one and runs all the episodes.
    """
    eval_deadline_seconds: Positive = 60.0
    """Seconds after which an evaluation episode is given to another worker too, or 0.05 for each
    step of the time limit, if that is longer; once a few have finished, five times their median
    duration is used instead, but no less than 10 s, or these seconds if they are fewer.
    """
    patience: Positive = 300.0
    """Seconds that an environment may take to be built, to reset or to step; after that its worker
    counts as hung, and a local one is killed and started again.
    """
    port: Port = 0
    """TCP port that workers connect to; the next one is for weights. 0: any two free ports."""


@dataclass(frozen=True)
class OutputConfig:
    """What a training command writes, and where."""

    log_every: Count = 1000
    """Updates between rows of metrics.jsonl."""
    checkpoint_every: Count = 50_000
    """Updates between checkpoints."""
    keep_checkpoints: Count = 2
    """How many of the newest checkpoints to keep, besides the end of pretraining; with 1 there is
    none to fall back on if the last one is damaged.
    """
    keep_every: Size = 0
    """Updates between checkpoints to keep for good; 0: keep only the end of pretraining."""
    keep_best: bool = False
    """Also keep the policy of the best evaluation so far, in best/; results are those of the last.
    """
    runs: Path = Path("runs")
    """Folder that holds the run folders."""
    tensorboard: bool = True
    """Also write TensorBoard events."""
    loggers: tuple[str, ...] = ()
    """Further loggers: wandb, mlflow (extras of the same names), or a package.module:Class."""
    dry_run: bool = False
    """Build everything, take some updates, print sizes, memory and predicted time, and stop."""


@dataclass(frozen=True)
class OfflineConfig:
    """How offline pretraining proceeds."""

    algorithm: str = "iql"
    """Name of an algorithm, or package.module:Class; its hyperparameters are flags too."""
    num_updates: Size = 1_000_000
    """Offline updates; 0: none, to learn online from the first step on."""
    seed: Size = 0
    """Seed of initial weights, batches and training episodes."""
    seeds: tuple[int, ...] = ()
    """Several seeds, each in a run folder of its own; --stack decides if they share a process."""
    workers: Count = 2
    """Processes that run the evaluation episodes, divided evenly (rounded down) among the seeds
    that learn at the same time; each gets at least one.
    """
    name: str = ""
    """Name of the run folder under runs/<task>/, with -s<seed> appended for --seeds; empty:
    <algorithm>-s<seed>.
    """


@dataclass(frozen=True)
class PretrainConfig(OfflineConfig, TaskConfig, OutputConfig, MachineConfig):
    """Pretrain an algorithm on an offline dataset."""

    hyperparameters: Hyperparameters = None  # type: ignore[assignment]
    """The algorithm's hyperparameters; flags and YAML have them flat, by their plain names. Not
    given: the defaults of its dataclass."""

    def __post_init__(self) -> None:
        """Fills in the algorithm's default hyperparameters if none are given."""
        super().__post_init__()
        if self.hyperparameters is None:
            usual = registered(self.algorithm).hyperparameters()
            object.__setattr__(self, "hyperparameters", usual)


@dataclass(frozen=True)
class OnlineConfig:
    """How online fine-tuning proceeds."""

    env_steps: Count = 1_000_000
    """Total environment steps."""
    utd_ratio: Positive = 1.0
    """Updates per environment step, or per transition added by finetune --append."""
    offline_ratio: Share | None = None
    """Share of each batch drawn from the dataset; 0: new transitions alone. None: batches are
    drawn uniformly from dataset and new transitions together.
    """
    final_offline_ratio: Share = 0.0
    """Share that --offline-ratio is annealed to, over --anneal-steps."""
    anneal_steps: Size = 0
    """Environment steps over which that share is annealed linearly; 0: it stays constant."""
    warmup_steps: Size = 0
    """Initial environment steps without updates: the policy stays as it is."""
    random_steps: Size = 0
    """Initial environment steps in which workers act uniformly at random; approximate, except in
    lockstep."""
    guide_steps: Size = 0
    """Initial steps of each training episode in which the pretrained policy acts as a guide (JSRL);
    their number shrinks linearly to 0, by --guide-until. 0: no guide.
    """
    guide_until: Size = 0
    """Environment step by which the guide is gone; 0: the last one."""
    reset_optimizers: bool = False
    """Reset Adam's moments to zero when fine-tuning begins."""
    slack: Size = 0
    """Updates by which workers or learner may be ahead of the other; 0: max(512, 128 x workers)."""
    lockstep: bool = False
    """Alternate one step of a single worker with its updates: exactly reproducible, but slower."""
    remote_workers: Size = 0
    """How many more workers may connect with `iqlft worker --connect`, from any machine."""
    engine: Engine = "local"
    """Where the --workers run. local: on this machine; ray: on the Ray cluster that it is part of,
    whose other machines need --host and a folder of --keys that they can read.
    """
    host: str = "127.0.0.1"
    """Address to listen on; one that other machines can reach needs --keys."""
    keys: Path | None = None
    """Folder of keys (see `iqlft keys`); workers without one of them are rejected. None: the run
    makes its own keys, for workers of this user on this machine.
    """
    insecure: bool = False
    """Listen without keys, on any --host: whoever reaches the port can feed the replay."""
    publish_every: Count = 10
    """Updates between broadcasts of the actor weights."""
    value_bounds: NonNegative = 100.0
    """Reject batches from workers with an observation or a reward that is outside the dataset's
    range by more than this many times its width; 0: accept any finite number.
    """


@dataclass(frozen=True)
class SourceConfig:
    """Which pretrained runs are fine-tuned, on what, and by how many workers."""

    run: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Run folders to continue; none: the newest pretrained run that is not fine-tuned yet."""
    task: str = ""
    """If no run is named, take the newest one of this task; empty: of any task."""
    algorithm: str = ""
    """Algorithm to continue with; it takes over the networks that fit, and its hyperparameters are
    flags too. Empty: that of pretraining, with its hyperparameters.
    """
    append: tuple[str, ...] = ()
    """Minari ids of newly logged data, to learn from instead of stepping an environment: a copy of
    the run (--into) makes --utd-ratio updates per new transition, on its own data and these.
    """
    max_episode_steps: Size = 0
    """Time limit of an episode, in steps; 0: the environment's own or, if it has none, the length
    of the longest recorded episode.
    """
    trust: bool = False
    """Run the environment that the data name even if no installed package registers it; always on
    for runs that were pretrained with it.
    """
    workers: Size = 2
    """Rollout worker processes, divided evenly (rounded down) among the runs that learn at the same
    time; each gets at least one. 0: none, for --remote-workers alone.
    """
    into: str = ""
    """Fine-tune a copy of the run, beside it under this name; copies of several runs also have
    their seeds in their names. Empty: continue the runs themselves.
    """
    checkpoint: Size = 0
    """Start a copy (--into) from the checkpoint after this many updates of pretraining, as if it
    had ended there (--keep-every keeps such checkpoints); 0: from its end.
    """


@dataclass(frozen=True)
class FinetuneConfig(SourceConfig, OnlineConfig, OutputConfig, MachineConfig):
    """Fine-tune a pretrained run online, with rollout workers."""

    hyperparameters: Hyperparameters | None = None
    """The algorithm's hyperparameters; none: those of pretraining."""

    def __post_init__(self) -> None:
        """Turns strings into paths, and a single run into a tuple, as YAML may hold it."""
        runs = (self.run,) if isinstance(self.run, str | Path) else self.run
        object.__setattr__(self, "run", tuple(map(Path, runs)))
        _take_texts_for_paths(self)


@dataclass(frozen=True)
class RunConfig(OnlineConfig, PretrainConfig):
    """Pretrain, fine-tune and draw the figure."""


def name_from(dataset: Sequence[str]) -> str:
    """Name of a task made from its datasets' ids: `field-reach-v0` for `field/reach-v0`."""
    return re.sub(r"[^\w.+-]", "-", "+".join(dataset)).lstrip(".")[:_LONGEST_NAME]
