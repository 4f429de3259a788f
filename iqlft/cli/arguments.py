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
    """The runs to show."""

    run: Folders = ()
    """Run folders, or folders that hold runs; none: all under runs/."""
    runs: Path = Path("runs")
    """Folder in which runs are looked for."""


@dataclass(frozen=True)
class ListRuns(RunFolders):
    """List runs, newest first: status, steps, last score, size and age."""

    json: bool = False
    """Print JSON, with unformatted numbers."""


@dataclass(frozen=True)
class PlotRuns(RunFolders):
    """Draw the before/after score curve, or with --metric or --x any metric of the runs."""

    out: Path | None = None
    """Folder to draw into as PNG and PDF, or a file such as fig.svg; none: the run's plots/, or
    plots/ beside several runs."""
    title: str | None = None
    """Title of the figure."""
    metric: str | None = None
    """success, return, normalized_score, or a key of metrics.jsonl such as critic/q or policy_lag
    (docs/metrics.md); none: the score."""
    x: Literal["updates", "env_steps", "seconds"] | None = None
    """Unit of the x axis; none: offline updates left of 0, environment steps right of it."""
    smoothing: int | None = None
    """Number of evaluations in a running mean, odd; none: no smoothing."""
    published: Marked = "same"
    """Mark published results of the same algorithms where their protocol ends, or none."""


@dataclass(frozen=True)
class TableRuns(RunFolders):
    """Before -> after per task, beside the published rows."""

    style: Literal["text", "markdown", "csv", "latex"] = "text"
    """Format of the table; latex needs the package booktabs."""
    published: Published = "same"
    """Published rows of the same tasks: of the same algorithms, all, or none."""
    out: Path | None = None
    """File to write; none: the terminal."""


@dataclass(frozen=True)
class ReportRuns(RunFolders):
    """Write one HTML page with everything there is to see about runs.

    For a maze, it runs a few evaluation episodes of the newest policy to draw their paths.
    """

    out: Path | None = None
    """Folder to write into, or a file such as page.html; none: the run's plots/, or plots/ beside
    several runs.
    """


@dataclass(frozen=True)
class OneRun:
    """A run folder."""

    run: Folder
    """The run folder."""


@dataclass(frozen=True)
class ResumeRun:
    """Continue interrupted runs from their last checkpoint; several together, as they began."""

    run: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders; runs that learn in one stack may differ only in their seeds."""
    device: str | None = None
    """Use another device than before."""
    threads: Size | None = None
    """Use another number of torch threads than before."""
    stack: Stacking | None = None
    """Use another --stack than before; with always, the runs must be equally far."""
    workers: Size | None = None
    """Use another number of workers than before; 0: none, where a run has --remote-workers."""
    port: Port | None = None
    """Use another port than before."""
    accept_loss: bool = False
    """Continue without batches lost to a damaged journal; otherwise a loss stops the command."""
    edited: bool = False
    """Continue with config.yaml as it is now, although the checkpoint has other settings."""


@dataclass(frozen=True)
class SweepRuns:
    """Train every task with every seed and every combination of settings, one run each.

    All other flags are those of `iqlft run`. When repeated, the command skips finished runs and
    continues the others. Runs are named after the settings that differ, by which plot and table
    tell them apart.
    """

    tasks: Annotated[tuple[str, ...], tyro.conf.arg(name="task")] = ()
    """Tasks; none: the task that `iqlft run` would train."""
    seeds: tuple[int, ...] = (0,)
    """Seeds, one run each."""
    grid: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE,... ...")] = ()
    """Settings and their values, such as expectile=0.7,0.8,0.9; several are all combined."""
    name: str = ""
    """First part of the runs' names, before the settings that differ."""
    engine: Literal["local", "slurm"] = "local"
    """local: one run after another on this machine; slurm: an array of jobs, one per run."""
    slurm: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """Resources of a job, by submitit's names: partition=gpu time=600 (minutes) gpus_per_node=1
    mem=16GB."""
    dry_run: bool = False
    """Only print the commands that would be run."""


@dataclass(frozen=True)
class CleanRuns:
    """Remove from finished runs what is needed only to resume them; all else works as before.

    This removes the journal and the optimisers' state. A pretrained run can still be fine-tuned.
    With --drop-batches, only those batches are removed, from the journal of one run, finished or
    not.
    """

    run: Folders
    """Run folders."""
    dry_run: bool = False
    """Only print what would be removed."""
    drop_batches: tuple[str, ...] = ()
    """Batches to remove from the journal, such as those with values that make training diverge:
    WORKER:EPISODE:BATCH, or WORKER:EPISODE or WORKER for all their batches.
    """


@dataclass(frozen=True)
class RunEpisodes(OneRun):
    """Run evaluation episodes."""

    episodes: Count = 100
    """Number of evaluation episodes."""
    workers: Count = 2
    """Number of worker processes."""
    patience: Positive = 300.0
    """Seconds that an environment may take to be built, to reset or to step; after that its worker
    is killed and started again.
    """
    trust: bool = False
    """Run the environment that the policy names even if no installed package registers it."""


@dataclass(frozen=True)
class EvaluateRun(RunEpisodes):
    """Evaluate the newest policy of a run, or that of a checkpoint."""

    checkpoint: str = ""
    """Name of a checkpoint or its number of updates, or best if --keep-best was on; empty: the
    newest policy.
    """
    json: bool = False
    """Print JSON, with the results of every episode."""

    max_episode_steps: Size = 0
    """Time limit of an episode, in steps; 0: that of the policy's environment."""


@dataclass(frozen=True)
class FilmRun(RunEpisodes):
    """Film the best, median and worst evaluation episodes of a run, before and after.

    Needs the extra `video`, which brings ffmpeg, and EGL or OSMesa to draw without a display.
    """

    out: Path | None = None
    """Folder for video.mp4 and its last frame, video.png, or a file such as film.mp4; none: the
    run's plots/.
    """


@dataclass(frozen=True)
class ExportRun(OneRun):
    """Write a run's policy as a folder that runs with NumPy alone, or as one file without iqlft.

    A file includes the normaliser and the action bounds; docs/export.md shows how to use it.
    """

    to: Literal["numpy", "onnx", "torch"] = "numpy"
    """numpy: safetensors and JSON, for iqlft.load_policy; onnx: for onnxruntime and others (needs
    the extra onnx); torch: an exported program, for torch.export.load."""
    out: Path | None = None
    """Folder or file to write; none: <task>-<run> in the current folder, plus .onnx or .pt2."""


@dataclass(frozen=True)
class NewKeys:
    """Make keys by which a learner and its workers authenticate each other."""

    folder: Folder
    """Folder to write the keys to; created if missing."""
    workers: Count = 8
    """Number of workers, local ones included; their ids count from 0."""
    shared: bool = False
    """Also make one key, worker.secret, for any number of workers that take any free id, such as
    containers that are scaled up and down."""


@dataclass(frozen=True)
class JoinLearner:
    """Run a worker for a learner, here or on another machine (more: `iqlft worker --help`)."""

    connect: str
    """Address of a learner, or the file in its run folder that holds the address."""
    keys: Path | None = None
    """Folder of keys."""
    worker_id: Size | None = None
    """Id of this worker among the learner's."""
    processes: Annotated[Count, tyro.conf.arg(aliases=("--num",))] = 1
    """Number of worker processes."""
    engine: Engine = "local"
    """What starts the worker processes."""


@dataclass(frozen=True)
class LaunchWorkers(JoinLearner):
    """Run many workers for a learner (more: `iqlft workers --help`)."""


@dataclass(frozen=True)
class Complete:
    """Print a script that completes commands, flags and choices in a shell.

    bash: iqlft completion bash > ~/.local/share/bash-completion/completions/iqlft; zsh: iqlft
    completion zsh > a folder of $fpath/_iqlft; fish: iqlft completion fish >
    ~/.config/fish/completions/iqlft.fish
    """

    shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional]
    """The shell."""


@dataclass(frozen=True)
class MakeData:
    """Generate an AntMaze dataset by D4RL's procedure."""

    task: Annotated[str, tyro.conf.Positional]
    """AntMaze task, such as antmaze-medium-play."""
    transitions: Count = 1_000_000
    """Number of transitions, rounded to whole episodes."""
    gait: Literal["v1", "v0"] = "v1"
    """Ant policy of the package, and so the dataset's version; the ant of v0 hardly ever falls."""
    policy: Path | None = None
    """File of a goal-reaching ant policy to use instead of --gait."""
    noise: NonNegative | None = None
    """Standard deviation of the action noise; none: the policy's own."""
    processes: Count = 2
    """Number of parallel processes; does not affect the result."""
    seed: Size = 0
    """Seed of the dataset."""
    force: bool = False
    """Replace an existing dataset of the same id."""


@dataclass(frozen=True)
class ImportData:
    """Turn a file into a Minari dataset: plain arrays, or one of OGBench's or D4RL's files.

    An .npz of plain arrays has one row per transition in observations, actions, rewards,
    next_observations, terminated and truncated; without an environment, action_low and action_high
    hold the bounds of actions (by default -1 and 1).
    """

    file: Annotated[Path, tyro.conf.Positional]
    """An .npz file, or one of D4RL's own HDF5 files."""
    task: str | None = None
    """For D4RL's AntMaze files: the task of the data, such as antmaze-medium-play."""
    environment: str | None = None
    """Gymnasium id of the environment of the recording: HalfCheetah-v5, or for OGBench's files a
    single task such as ogbench:antmaze-large-singletask-v0; none: for an .npz without one."""
    id: str | None = None
    """Minari id of the result; none: imported/ and a name from the task or the file."""
    episode_steps: Count | None = None
    """For a D4RL file without timeouts: maximum number of steps of an episode."""
    force: bool = False
    """Replace an existing dataset of the same id."""


@dataclass(frozen=True)
class OneDataset:
    """A Minari dataset."""

    id: Annotated[str, tyro.conf.Positional]
    """Minari id such as iqlft/antmaze/umaze-v1, or a task that uses it, such as antmaze-umaze."""


@dataclass(frozen=True)
class DownloadData(OneDataset):
    """Download a dataset from Minari's server, or the one in MINARI_REMOTE."""

    force: bool = False
    """Replace an existing dataset of the same id."""


@dataclass(frozen=True)
class CheckData(OneDataset):
    """Audit a dataset; the exit code is 1 where something is broken or outside its band.

    It is 2 where the dataset cannot even be opened.
    """

    style: Literal["text", "markdown"] = "text"
    """Format of the table."""
    trust: bool = False
    """Run the environment that the dataset names even if no installed package registers it."""
    out: Path | None = None
    """File to write; none: the terminal."""


@dataclass(frozen=True)
class PlotData(OneDataset):
    """Draw where the agent goes in a maze, or the lengths and returns of episodes."""

    out: Path | None = None
    """File to draw into as PNG and PDF, or fig.svg for that format alone, or a folder that exists;
    none: a file here. In a folder, files are named after the dataset."""
    trust: bool = False
    """Run the environment that the dataset names even if no installed package registers it."""
