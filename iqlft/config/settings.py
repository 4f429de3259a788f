"""Configuration: frozen dataclasses, one per command, spelled alike as flags and as YAML keys.

`layers` puts values into them. Imports no torch, so that `--help` is quick.
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
"""Arithmetic of the hidden layers; auto: what the processor is fast in."""
Stacking = Literal["auto", "always", "never"]
"""Whether several runs learn in one process."""
EvalEnvironment = Literal["second", "training", "one-worker"]
"""Where the episodes of evaluations run."""
Judge = Literal["success", "return"]
"""What an episode is judged by."""
DEFAULT_TASK = "antmaze-umaze"
"""What the commands learn where neither a task nor a dataset is named."""
_LONGEST_NAME = 100
"""Letters of a name that is made from Minari ids, as it is one of a folder."""


@dataclass(frozen=True)
class TaskConfig:
    """What is learned: a dataset, the environment that belongs to it, and how rewards are read."""

    task: str = ""
    """Name of a file in configs/, which sets the fields below and the hyperparameters, or with
    --dataset any other name, which names the runs; empty: the task that has the dataset, else a
    name from its id; with neither antmaze-umaze.
    """
    dataset: tuple[str, ...] = ()
    """Minari ids of the offline datasets; several are read as one."""
    appended: Annotated[tuple[str, ...], tyro.conf.Fixed, tyro.conf.Suppress] = ()
    """Ids of data that came later, by `iqlft finetune --append`; in a file only."""
    environment: str = ""
    """Gymnasium id for evaluation and fine-tuning; empty: the dataset's own evaluation spec."""
    environment_kwargs: Annotated[dict[str, Any], tyro.conf.Fixed] = field(default_factory=dict)
    """Arguments of that environment, over the recorded ones; in a file only."""
    max_episode_steps: Size = 0
    """Time limit of an episode; 0: the environment's own, or where it has none, the length of the
    longest recorded episode.
    """
    trust: bool = False
    """Run the environment that the data name though no installed package registers it: its code is
    imported and called, here and in the workers.
    """
    goal: Literal["evaluation", "observed", "stored"] = "stored"
    """evaluation: rewards relabelled to the evaluation goal, which is not observed; observed: the
    desired goal is part of the observation; stored: observations and rewards as they are."""
    observation_keys: tuple[str, ...] = ()
    """Of a Dict observation, the keys that are observed, in this order; none: all of it, or what
    belongs to the goal.
    """
    after_success: Literal["keep", "drop"] = "keep"
    """drop: end each dataset episode at its first success, where most of it sits on the goal."""
    reward_scale: Real | Literal["return_range"] = 1.0
    """Factor on rewards; return_range: 1000 / (greatest - least return of a dataset episode)."""
    reward_shift: Real = 0.0
    """Added to scaled rewards; -1 turns AntMaze's 0/1 into -1/0."""
    score: Judge = "success"
    """What an episode is judged by: success, where the environment reports it, or its return."""
    success_key: str = ""
    """What of a step's info says success; empty: success, else is_success."""
    reference_scores: Annotated[tuple[float, float] | None, tyro.conf.arg(metavar="LOW HIGH")] = (
        None
    )
    """Returns that score 0 and 100; none: those that the dataset records, if any."""
    normalize_observations: bool = False
    """Subtract the dataset's mean and divide by its standard deviation (CORL does, IQL's authors
    do not).
    """

    def __post_init__(self) -> None:
        """Takes a single dataset for a list of one, as YAML does, and names what has no name."""
        if isinstance(self.dataset, str):
            object.__setattr__(self, "dataset", (self.dataset,))
        if not self.task and self.dataset:
            object.__setattr__(self, "task", name_from(self.dataset))
        _take_texts_for_paths(self)


def _take_texts_for_paths(config: object) -> None:
    """Folders may be given as texts, as a user of Python does."""
    for name in ("runs", "keys"):
        if isinstance(given := getattr(config, name, None), str):
            object.__setattr__(config, name, Path(given))


@dataclass(frozen=True)
class MachineConfig:
    """Where and how a training command computes, looks and writes."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Precision = "float32"
    """Arithmetic of the hidden layers; output layers, losses and optimiser are always float32.
    auto: bf16 on a processor that has it, else float32.
    """
    threads: Size = 1
    """torch threads of a learner on the CPU; a second one gains next to nothing with networks of
    this size, and loses as soon as anything else runs; 0: one per core.
    """
    stack: Stacking = "auto"
    """always: several seeds learn in one process, every update one operation for all; never: each
    in a process of its own, as many at once as cores / threads, the rest after them; auto: always
    on a GPU, never on a CPU.
    """
    cuda_graph: bool = False
    """On a GPU, launch every update as one recorded graph; not with dropout or a cosine."""
    eval_every: Count = 100_000
    """Updates (offline) or environment steps (online) between evaluations."""
    eval_episodes: Size = 100
    """Episodes per evaluation, spread over the workers; mean action, fixed seeds; 0: none."""
    eval_environment: EvalEnvironment = "second"
    """Where they run while workers train too. second: each worker builds a second environment;
    training: in the one of training, between its episodes, for simulators that exist once;
    one-worker: the first worker alone builds a second one, and runs them all.
    """
    eval_deadline_seconds: Positive = 60.0
    """An episode that a worker keeps for so long is given to another one too; once it is known how
    long they take, five times that decides.
    """
    patience: Positive = 300.0
    """Seconds that an environment may take to be built, to reset or to step; then its worker is
    taken for hung, and a local one is killed and started again.
    """
    port: Port = 0
    """TCP port that workers connect to, weights on the next one; 0: any two free ones."""


@dataclass(frozen=True)
class OutputConfig:
    """What a training command writes, and where."""

    log_every: Count = 1000
    """Updates between rows of metrics.jsonl."""
    checkpoint_every: Count = 50_000
    """Updates between checkpoints."""
    keep_checkpoints: Count = 2
    """Newest checkpoints that stay, beside the end of pretraining; with 1 there is none to fall
    back on where the last one is damaged.
    """
    keep_every: Size = 0
    """Updates between checkpoints that stay for good; 0: none do but the end of pretraining."""
    keep_best: bool = False
    """Keep the policy of the best evaluation too, in best/; results are still those of the last.
    """
    runs: Path = Path("runs")
    """Folder that holds the run folders."""
    tensorboard: bool = True
    """Also write TensorBoard events."""
    loggers: tuple[str, ...] = ()
    """Loggers beside it: wandb, mlflow (extras of these names), or a package.module:Class."""
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
    """Several seeds, each in a run folder of its own; --stack says whether in one process."""
    workers: Count = 2
    """Processes that run the evaluation episodes, shared evenly among the seeds that learn at the
    same time, rounded down; one each at least.
    """
    name: str = ""
    """Name of the run folder under runs/<task>/; empty: <algorithm>-s<seed>; -s<seed> follows
    --seeds.
    """


@dataclass(frozen=True)
class PretrainConfig(OfflineConfig, TaskConfig, OutputConfig, MachineConfig):
    """Pretrain an algorithm on an offline dataset."""

    hyperparameters: Hyperparameters = None  # type: ignore[assignment]
    """Those of the algorithm; flat, of their plain names, in flags and YAML. Not given: its
    dataclass's own."""

    def __post_init__(self) -> None:
        """Gives the algorithm the hyperparameters of its dataclass where it has none."""
        super().__post_init__()
        if self.hyperparameters is None:
            usual = registered(self.algorithm).hyperparameters()
            object.__setattr__(self, "hyperparameters", usual)


@dataclass(frozen=True)
class OnlineConfig:
    """How online fine-tuning proceeds."""

    env_steps: Count = 1_000_000
    """Environment steps in all."""
    utd_ratio: Positive = 1.0
    """Updates per environment step, or per transition that is appended."""
    offline_ratio: Share | None = None
    """Share of each batch from the dataset, 0: none of it is kept; None: uniform over dataset and
    new transitions.
    """
    final_offline_ratio: Share = 0.0
    """What that share becomes, where it is annealed."""
    anneal_steps: Size = 0
    """Environment steps in which it goes there on a line; 0: it stays as it is."""
    warmup_steps: Size = 0
    """First environment steps in which the policy stays as it is and nothing is learned."""
    random_steps: Size = 0
    """First environment steps, about, in which workers act uniformly at random; exact in
    lockstep."""
    guide_steps: Size = 0
    """First steps of each training episode in which the pretrained policy acts as a guide (JSRL),
    a number that shrinks to 0 on a line; 0: no guide.
    """
    guide_until: Size = 0
    """Environment step from which on the guide is gone; 0: the last one."""
    reset_optimizers: bool = False
    """Begin online with Adam's moments at zero."""
    slack: Size = 0
    """Updates by which workers or learner may run ahead; 0: max(512, 128 x workers)."""
    lockstep: bool = False
    """One worker, one step, then its updates, in order: exactly reproducible, and slower."""
    remote_workers: Size = 0
    """Further workers that may connect with `iqlft worker --connect`, from any machine."""
    engine: Engine = "local"
    """Where the --workers run: here, or on the Ray cluster that this machine is in, of which other
    machines need --host and --keys, a folder that they see too.
    """
    host: str = "127.0.0.1"
    """Address to listen on; one that other machines can reach needs --keys."""
    keys: Path | None = None
    """Folder of keys, see `iqlft keys`: workers without one of them are turned away; none: the run
    makes its own, for workers of this user on this machine.
    """
    insecure: bool = False
    """Listen without keys, on any --host: whoever reaches the port can feed the replay."""
    publish_every: Count = 10
    """Updates between broadcasts of the actor weights."""
    value_bounds: NonNegative = 100.0
    """Refuse a batch with an observation or a reward that lies further outside of the dataset's
    range than so many times its width; 0: any finite number is taken.
    """


@dataclass(frozen=True)
class SourceConfig:
    """Which pretrained runs are fine-tuned, and by how many."""

    run: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Run folders to continue; none: the newest pretrained run."""
    task: str = ""
    """Where no run is named: the newest one of this task; empty: of any."""
    algorithm: str = ""
    """Algorithm to go on with, which takes over those networks that fit; its hyperparameters are
    flags too. Empty: that of pretraining, with its hyperparameters.
    """
    append: tuple[str, ...] = ()
    """Minari ids of newly logged data: instead of steps in an environment the run learns on from
    its own data and these, --utd-ratio updates for each new transition, in a copy (--into).
    """
    max_episode_steps: Size = 0
    """Time limit of an episode; 0: the environment's own, or where it has none, the length of the
    longest recorded episode.
    """
    trust: bool = False
    """Run the environment that the data name though no installed package registers it; a run that
    was pretrained so goes on so.
    """
    workers: Size = 2
    """Rollout worker processes, shared evenly among the runs that learn at the same time, rounded
    down; one each at least. 0: none here, all of them are --remote-workers.
    """
    into: str = ""
    """Fine-tune a copy of the run under this name beside it, of several runs under the name and
    their seeds; empty: continue the runs themselves.
    """
    checkpoint: Size = 0
    """Updates of pretraining from whose checkpoint a copy (--into) begins, as if it had ended there
    (--keep-every keeps them); 0: the last ones.
    """


@dataclass(frozen=True)
class FinetuneConfig(SourceConfig, OnlineConfig, OutputConfig, MachineConfig):
    """Fine-tune a pretrained run online, with rollout workers."""

    hyperparameters: Hyperparameters | None = None
    """Those of the algorithm; none: those of pretraining."""

    def __post_init__(self) -> None:
        """Takes texts for paths, and a single run for a list of one, as YAML does."""
        runs = (self.run,) if isinstance(self.run, str | Path) else self.run
        object.__setattr__(self, "run", tuple(map(Path, runs)))
        _take_texts_for_paths(self)


@dataclass(frozen=True)
class RunConfig(OnlineConfig, PretrainConfig):
    """Pretrain, fine-tune and draw the figure."""


def name_from(dataset: Sequence[str]) -> str:
    """What a task is called that nobody has named: `field-reach-v0` for `field/reach-v0`."""
    return re.sub(r"[^\w.+-]", "-", "+".join(dataset)).lstrip(".")[:_LONGEST_NAME]
