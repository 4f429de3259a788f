"""Generates AntMaze datasets by D4RL's procedure, in parallel, and resumes after interruptions.

An episode depends only on the dataset's seed and its own index. Finished episodes are kept as
shards beside the Minari data until all exist; then they become a Minari dataset in one step.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import iqlft_workers
from iqlft.datasets.antmaze.episodes import EpisodeMaker, save_episode
from iqlft.datasets.antmaze.gait import GAITS, LATEST, Gait, load_gait
from iqlft.datasets.antmaze.tasks import AntMazeTask, find_task
from iqlft.datasets.errors import DatasetError
from iqlft_workers.search_path import SAFE_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Progress = Callable[[int, int, float], None]
    """Called with the number of episodes done, their total, and transitions per second."""

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that set the number of threads of BLAS libraries."""


@dataclass(frozen=True)
class MadeDataset:
    """A dataset made by `make_dataset`.

    Attributes:
        id: Minari id.
        episodes: number of episodes.
        transitions: number of transitions.
        resumed_episodes: number of episodes that an interrupted run had already made.
        published: whether it is the published dataset; None if none of this id is published.
        seconds: wall time taken.
    """

    id: str
    episodes: int
    transitions: int
    resumed_episodes: int
    published: bool | None
    seconds: float


def make_dataset(
    task_name: str,
    *,
    transitions: int = 1_000_000,
    gait: str = LATEST,
    policy: str | Path | None = None,
    noise: float | None = None,
    processes: int = 1,
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> MadeDataset:
    """Generates a task's dataset, or continues an interrupted generation of it.

    Episodes are whole, so the number of transitions is the multiple of the episode length (701 in
    umaze, 1,001 in medium and large, 301 in corner) nearest to `transitions`.

    Args:
        task_name: such as `antmaze-medium-play`.
        transitions: desired number of transitions.
        gait: version of the goal-reaching ant policy that comes with the package, and of the
            dataset: `v1`, or `v0`, which hardly ever falls.
        policy: file of a goal-reaching ant policy to use instead of the package's.
        noise: standard deviation of the action noise; None: the policy's own.
        processes: number of processes; does not affect the result.
        seed: determines the dataset, together with the task, the policy and the noise.
        force: replaces a dataset of the same id; it stays until the new one is complete.
        progress: called after every episode.

    Raises:
        DatasetError: the task or gait is unknown, the dataset exists, a number is out of range, the
            folder cannot be written, or a generating process died.
        PolicyFileError: `policy` is not the file of an ant policy.
    """
    # Imported here, because the generating processes need neither Minari nor its dependencies.
    from iqlft.datasets import storage  # noqa: PLC0415
    from iqlft.datasets.antmaze import published, writing  # noqa: PLC0415
    from iqlft.datasets.recorded import open_dataset  # noqa: PLC0415

    started = time.perf_counter()
    _check_gait(gait)
    task, file = find_task(task_name), policy or GAITS[gait]
    dataset_id, walker = task.dataset_id(gait), load_gait(file)
    noise = walker.noise if noise is None else noise
    _check_numbers(transitions, noise, processes, seed)
    storage.require_free(dataset_id, force=force)
    work = storage.work_folder(f"{task.name}-{_fingerprint(walker, noise, seed)}")
    shards = [work / f"episode-{index:06d}.npz" for index in range(task.num_episodes(transitions))]
    missing = [index for index, path in enumerate(shards) if not path.exists()]
    arguments = (task.name, str(file), noise, seed, str(work))
    _run(task, arguments, missing, len(shards), processes, progress)
    writing.write_dataset(dataset_id, task, shards, work, gait=walker, noise=noise, seed=seed)
    storage.remove_work(work)
    return MadeDataset(
        dataset_id,
        len(shards),
        len(shards) * task.episode_steps,
        len(shards) - len(missing),
        published.find_out(open_dataset(dataset_id)),
        time.perf_counter() - started,
    )


def _check_gait(gait: str) -> None:
    if gait not in GAITS:
        raise DatasetError(f"There is no gait {gait!r}; known are {', '.join(GAITS)}.")


def _check_numbers(transitions: int, noise: float, processes: int, seed: int) -> None:
    for name, value, least in (
        ("transitions", transitions, 1),
        ("noise", noise, 0),
        ("processes", processes, 1),
        ("seed", seed, 0),
    ):
        if not value >= least:
            raise DatasetError(f"{name} is {value}, but must be at least {least}.")


def _fingerprint(gait: Gait, noise: float, seed: int) -> str:
    """Hash of everything that shards depend on, so that only identical work is resumed."""
    physics = [importlib.metadata.version(name) for name in ("mujoco", "gymnasium", "numpy")]
    content = json.dumps([gait.sha256, noise, seed, physics, iqlft_workers.__version__])
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _run(
    task: AntMazeTask,
    arguments: tuple[str, str, float, int, str],
    missing: Sequence[int],
    total: int,
    processes: int,
    progress: Progress | None,
) -> None:
    """Makes the missing shards; finished ones remain after an interruption."""
    if not missing:
        return
    with _single_threaded():
        # Spawned even for one process: a single BLAS thread keeps the results bitwise equal.
        pool = ProcessPoolExecutor(
            min(processes, len(missing)),
            multiprocessing.get_context("spawn"),
            initializer=_start_process,
            initargs=(*arguments, os.getpid()),
        )
        futures = [pool.submit(_make_shard, index) for index in missing]
    started, before = time.perf_counter(), total - len(missing)
    try:
        for done, future in enumerate(concurrent.futures.as_completed(futures), 1):
            future.result()
            if progress is not None:
                speed = done * task.episode_steps / (time.perf_counter() - started)
                progress(before + done, total, speed)
    except BrokenProcessPool as error:
        raise DatasetError(
            f"A generating process for {task.name} died, perhaps for lack of memory; finished "
            "episodes are kept: repeat the command, with fewer --processes if it happens again."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _single_threaded() -> Iterator[None]:
    """Makes processes started inside use one BLAS thread and leave Ctrl-C to this process.

    Nor do they import modules from the current folder.
    """
    before = {name: os.environ.get(name) for name in (*_THREAD_VARIABLES, SAFE_PATH)}
    os.environ.update(dict.fromkeys(before, "1"))
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_PROCESS: dict[str, tuple[EpisodeMaker, Path]] = {}
"""State that a generating process keeps between episodes: its maker and its folder."""


def _start_process(
    task_name: str, policy: str, noise: float, seed: int, folder: str, parent: int
) -> None:
    threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()
    maker = EpisodeMaker(find_task(task_name), load_gait(policy), noise, seed)
    _PROCESS["maker"] = (maker, Path(folder))


def _exit_with(parent: int) -> None:
    """Ends this process when its parent is gone, which the task queue does not notice."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _make_shard(index: int) -> None:
    maker, folder = _PROCESS["maker"]
    save_episode(maker.run(index), folder / f"episode-{index:06d}.npz")
