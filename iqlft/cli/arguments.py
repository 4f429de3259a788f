"""Arguments of the commands that do not train; `iqlft.config.settings` holds the others."""

# tyro reads these annotations at run time, so they are not postponed.
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from iqlft.analysis.published import Marked, Published
from iqlft.config.bounds import Count, NonNegative, Port, Positive, Size
from iqlft.config.settings import Stacking
from iqlft_workers.launchers.local import Engine

Folders = Annotated[tuple[Path, ...], tyro.conf.Positional]
Folder = Annotated[Path, tyro.conf.Positional]


@dataclass(frozen=True)
class Nothing:
    """This command takes no arguments."""


@dataclass(frozen=True)
class RunFolders:
    """Which runs to show."""

    run: Folders = ()
    """Run folders, or folders that hold runs; none: all under runs/."""
    runs: Path = Path("runs")
    """Where runs are looked for."""


@dataclass(frozen=True)
class ListRuns(RunFolders):
    """List runs: status, steps, last score, size and age, the newest first."""

    json: bool = False
    """As JSON, with numbers as they are."""


@dataclass(frozen=True)
class PlotRuns(RunFolders):
    """Draw the before/after score curve, or with --metric or --x any metric of the runs."""

    out: Path | None = None
    """Folder to draw into as PNG and PDF, or a file such as fig.svg; none: the run's plots/, or
    plots/ beside several runs."""
    title: str | None = None
    """Words above the figure."""
    metric: str | None = None
    """success, return, normalized_score, or a key of metrics.jsonl such as critic/q or policy_lag
    (docs/metrics.md); none: the score."""
    x: Literal["updates", "env_steps", "seconds"] | None = None
    """What the axis counts; none: offline updates left of 0 and environment steps right of it."""
    smoothing: int | None = None
    """Evaluations in a running mean, an odd number; none: nothing is smoothed."""
    published: Marked = "same"
    """Published results of the same algorithms, marked where their protocol ends, or none."""


@dataclass(frozen=True)
class TableRuns(RunFolders):
    """Before -> after per task, beside the published rows."""

    style: Literal["text", "markdown", "csv", "latex"] = "text"
    """Form of the table; latex needs the package booktabs."""
    published: Published = "same"
    """Published rows of the same tasks: of the same algorithms, all, or none."""
    out: Path | None = None
    """File to write; none: the terminal."""


@dataclass(frozen=True)
class ReportRuns(RunFolders):
    """One HTML page with all that there is to see of some runs.

    Of a maze it runs a few evaluation episodes of the newest policy, for their paths.
    """

    out: Path | None = None
    """Folder to write into, or page.html; none: the run's plots/, or plots/ beside several runs."""


@dataclass(frozen=True)
class OneRun:
    """A run folder."""

    run: Folder
    """The run folder."""


@dataclass(frozen=True)
class ResumeRun:
    """Continue interrupted runs from their last checkpoint; several as they began."""

    run: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders; those of one stack differ in their seeds alone."""
    device: str | None = None
    """Another device than before."""
    threads: Size | None = None
    """Another number of torch threads."""
    stack: Stacking | None = None
    """Another way than they began; always needs runs that are equally far."""
    workers: Count | None = None
    """Another number of workers."""
    port: Port | None = None
    """Another port."""
    accept_loss: bool = False
    """Go on without the batches that damage to the journal has cost; else it is only told."""
    edited: bool = False
    """Go on with config.yaml as it is now, though the checkpoint was written with another one."""


@dataclass(frozen=True)
class SweepRuns:
    """Train every task with every seed and every combination of settings, a run each.

    All other flags are those of `iqlft run`. Repeated, the command passes over runs that are
    finished and goes on with those that are not. Runs are named after what differs, by which plot
    and table tell them apart.
    """

    tasks: Annotated[tuple[str, ...], tyro.conf.arg(name="task")] = ()
    """Tasks; none: that of `iqlft run`."""
    seeds: tuple[int, ...] = (0,)
    """Seeds, each in a run of its own."""
    grid: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE,... ...")] = ()
    """Settings and their values, as expectile=0.7,0.8,0.9; of several all combinations."""
    name: str = ""
    """What the runs are called beside what differs in them."""
    engine: Literal["local", "slurm"] = "local"
    """local: one after another on this machine; slurm: an array of jobs, each with its workers."""
    slurm: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """What a job asks for, as submitit calls it: partition=gpu time=600 (minutes) gpus_per_node=1
    mem=16GB."""
    dry_run: bool = False
    """Only say what would be run."""


@dataclass(frozen=True)
class CleanRuns:
    """Remove from finished runs what only a resumed one needs; all else works as before.

    The journal and the optimisers' state go. A pretrained run can still be fine-tuned. With
    --drop-batches nothing but these batches goes, from the journal of one run, finished or not.
    """

    run: Folders
    """Run folders."""
    dry_run: bool = False
    """Only say what would be removed."""
    drop_batches: tuple[str, ...] = ()
    """Batches to be taken out of the journal, such as those with values that no training survives:
    WORKER:EPISODE:BATCH, or WORKER:EPISODE or WORKER for all of theirs.
    """


@dataclass(frozen=True)
class RunEpisodes(OneRun):
    """Run evaluation episodes."""

    episodes: Count = 100
    """Evaluation episodes."""
    workers: Count = 2
    """Worker processes."""
    patience: Positive = 300.0
    """Seconds that an environment may take to be built, to reset or to step; then its worker is
    killed and started again.
    """
    trust: bool = False
    """Run the environment that the policy names though no installed package registers it."""


@dataclass(frozen=True)
class EvaluateRun(RunEpisodes):
    """Evaluate the newest policy of a run, or that of a checkpoint."""

    checkpoint: str = ""
    """Updates or name of a checkpoint, or best where --keep-best was on; empty: the newest policy.
    """
    json: bool = False
    """As JSON, with the numbers of every episode."""

    max_episode_steps: Size = 0
    """Time limit of an episode; 0: that of the policy's environment."""


@dataclass(frozen=True)
class FilmRun(RunEpisodes):
    """Film the best, median and worst evaluation episodes of a run, before and after.

    Needs the extra `video`, which brings ffmpeg, and EGL or OSMesa to draw without a display.
    """

    out: Path | None = None
    """Folder for video.mp4 and its last picture, video.png, or film.mp4; none: the run's plots/."""


@dataclass(frozen=True)
class ExportRun(OneRun):
    """Write a run's policy as a folder that runs with NumPy alone, or as one file without iqlft.

    A file has the normaliser and the bounds of actions inside; docs/export.md shows its use.
    """

    to: Literal["numpy", "onnx", "torch"] = "numpy"
    """numpy: safetensors and JSON, for iqlft.load_policy; onnx: for onnxruntime and others (needs
    the extra onnx); torch: an exported program, for torch.export.load."""
    out: Path | None = None
    """Folder or file to write; none: <task>-<run> here, with .onnx or .pt2."""


@dataclass(frozen=True)
class NewKeys:
    """Make keys by which a learner and its workers know each other."""

    folder: Folder
    """Where; made if it is not there."""
    workers: Count = 8
    """How many workers, with the ids from 0, local ones included."""
    shared: bool = False
    """A further key, worker.secret, for any number of workers that take any id that is free, such
    as containers that are scaled."""


@dataclass(frozen=True)
class JoinLearner:
    """Work for a learner, here or on another machine (`iqlft worker --help` says more)."""

    connect: str
    """Address of a learner, or the file in its run folder that names it."""
    keys: Path | None = None
    """Folder of keys."""
    worker_id: Size | None = None
    """Which of the learner's workers this is."""
    processes: Annotated[Count, tyro.conf.arg(aliases=("--num",))] = 1
    """How many."""
    engine: Engine = "local"
    """What starts them."""


@dataclass(frozen=True)
class LaunchWorkers(JoinLearner):
    """Many workers for a learner (`iqlft workers --help` says more)."""


@dataclass(frozen=True)
class Complete:
    """Print what completes commands, flags and choices in a shell.

    bash: iqlft completion bash > ~/.local/share/bash-completion/completions/iqlft; zsh: iqlft
    completion zsh > a folder of $fpath/_iqlft; fish: iqlft completion fish >
    ~/.config/fish/completions/iqlft.fish
    """

    shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional]
    """For which shell."""


@dataclass(frozen=True)
class MakeData:
    """Generate an AntMaze dataset by D4RL's procedure."""

    task: Annotated[str, tyro.conf.Positional]
    """Such as antmaze-medium-play."""
    transitions: Count = 1_000_000
    """How many; rounded to whole episodes."""
    gait: Literal["v1", "v0"] = "v1"
    """Ant policy of the package, and version of the dataset; v0 hardly ever falls."""
    policy: Path | None = None
    """File of a goal-reaching ant policy to walk instead."""
    noise: NonNegative | None = None
    """Deviation of the noise on its actions; none: the policy's own."""
    processes: Count = 2
    """How many work at once; they do not change the result."""
    seed: Size = 0
    """Seed of the dataset."""
    force: bool = False
    """Replace a dataset of this name."""


@dataclass(frozen=True)
class ImportData:
    """Turn a file into a Minari dataset: plain arrays, or one of OGBench's or D4RL's files.

    An .npz of plain arrays has a row a transition in observations, actions, rewards,
    next_observations, terminated and truncated; without an environment action_low and action_high
    bound its actions (else -1 and 1).
    """

    file: Annotated[Path, tyro.conf.Positional]
    """An .npz file, or one of D4RL's own HDF5 files."""
    task: str | None = None
    """Of D4RL's files, the AntMaze task whose data they are, such as antmaze-medium-play."""
    environment: str | None = None
    """The Gymnasium id of what it was recorded in: HalfCheetah-v5, and for OGBench's a single task
    such as ogbench:antmaze-large-singletask-v0; none: of an .npz that nobody can make it."""
    id: str | None = None
    """Minari id of the result; none: in the namespace imported, after the task or the file."""
    episode_steps: Count | None = None
    """Steps after which an episode ended at the latest, of a file that has no timeouts."""
    force: bool = False
    """Replace a dataset of this id."""


@dataclass(frozen=True)
class OneDataset:
    """A Minari dataset."""

    id: Annotated[str, tyro.conf.Positional]
    """Such as iqlft/antmaze/umaze-v1, or a task that has it, such as antmaze-umaze."""


@dataclass(frozen=True)
class DownloadData(OneDataset):
    """Download a dataset from Minari's server, or MINARI_REMOTE."""

    force: bool = False
    """Replace a dataset of this id."""


@dataclass(frozen=True)
class CheckData(OneDataset):
    """Audit a dataset; the exit code is 1 where something is broken or outside its band."""

    style: Literal["text", "markdown"] = "text"
    """Form of the table."""
    trust: bool = False
    """Run the environment that the dataset names though no installed package registers it."""
    out: Path | None = None
    """File to write; none: the terminal."""


@dataclass(frozen=True)
class PlotData(OneDataset):
    """Draw where a maze's agent goes, or how long and how good episodes are."""

    out: Path | None = None
    """File to draw into, as PNG and as PDF, or fig.svg as that alone; none: one here that is named
    after the dataset."""
    trust: bool = False
    """Run the environment that the dataset names though no installed package registers it."""
