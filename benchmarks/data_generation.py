"""Speed of data generation against bare physics; time and memory of loading a million transitions.

    python benchmarks/data_generation.py [--task antmaze-medium-play] [--processes 2] [--loading]

Generation is compared with a bare loop of `mj_step` in each process, over the states and actions of
the generated episodes. Loops alternate with episodes, so that both see the same machine.
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time

_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def measure(task_name: str, rounds: int) -> list[tuple[float, float]]:
    """Steps per second of generation and of bare physics in this process, for each round."""
    import mujoco
    import numpy as np

    from iqlft.datasets.antmaze.episodes import EpisodeMaker, reset_options
    from iqlft.datasets.antmaze.gait import load_gait
    from iqlft.datasets.antmaze.tasks import find_task

    gait, task = load_gait(), find_task(task_name)
    maker = EpisodeMaker(task, gait, gait.noise, seed=0)
    maze = maker._environment.unwrapped
    speeds = []
    for index in range(rounds + 1):
        started = time.perf_counter()
        episode = maker.run(index)
        generation = time.perf_counter() - started
        options = reset_options(episode.start, episode.goal_cell)
        maker._environment.reset(seed=int(episode.seed), options=options)
        started = time.perf_counter()
        for action in episode.actions:
            maze.data.ctrl[:] = action
            mujoco.mj_step(maze.model, maze.data, nstep=5)
        physics = time.perf_counter() - started
        assert np.array_equal(maze.data.qpos, episode.qpos[-1])
        speeds.append((task.episode_steps / generation, task.episode_steps / physics))
    return speeds[1:]


def generation(task_name: str, processes: int, rounds: int) -> None:
    """Prints the median speeds of 1 to `processes` processes at once."""
    print(
        f"{task_name}: control steps per second over all processes (medians of {rounds} episodes)"
    )
    print(f"{'processes':>10}{'bare physics':>15}{'generation':>13}{'share':>8}")
    for count in range(1, processes + 1):
        with multiprocessing.get_context("spawn").Pool(count) as pool:
            results = pool.starmap(measure, [(task_name, rounds)] * count, chunksize=1)
        made = sum(statistics.median(pair[0] for pair in result) for result in results)
        bare = sum(statistics.median(pair[1] for pair in result) for result in results)
        print(f"{count:>10}{bare:>15,.0f}{made:>13,.0f}{made / bare:>8.0%}")


def whole_command(task_name: str, processes: int, transitions: int) -> None:
    """Prints the speed of `make_dataset` as a whole: process starts, shards and Minari included."""
    from iqlft.datasets.antmaze.generation import make_dataset

    with tempfile.TemporaryDirectory() as root:
        os.environ["MINARI_DATASETS_PATH"] = root
        made = make_dataset(task_name, transitions=transitions, processes=processes)
    speed = made.transitions / made.seconds
    print(f"make_dataset, {processes} processes: {made.seconds:.1f} s, {speed:,.0f} per second")


LOADING = """
import resource, time
from iqlft.datasets import loading
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
started = time.perf_counter()
rows = loading.load_dataset("iqlft/antmaze/umaze-v0", reward_shift=-1).rows()
seconds = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
block = rows.nbytes
print(f"loading {len(rows):,} transitions: {seconds:.1f} s, block {block / 2**20:.0f} MiB, "
      f"peak of the process {peak / block:.2f} x block, grown by {(peak - before) / block:.2f} x")
"""


def loading(transitions: int) -> None:
    """Prints time and memory of loading a dataset of one episode repeated."""
    from iqlft.datasets.antmaze.episodes import EpisodeMaker, save_episode
    from iqlft.datasets.antmaze.gait import load_gait
    from iqlft.datasets.antmaze.tasks import find_task
    from iqlft.datasets.antmaze.writing import write_dataset
    from iqlft.datasets.storage import work_folder

    task, gait = find_task("antmaze-umaze"), load_gait()
    with tempfile.TemporaryDirectory() as root:
        os.environ["MINARI_DATASETS_PATH"] = root
        shard = work_folder("benchmark") / "episode.npz"
        save_episode(EpisodeMaker(task, gait, gait.noise, 0).run(0), shard)
        started = time.perf_counter()
        shards = [shard] * task.num_episodes(transitions)
        write_dataset(task, shards, shard.parent, gait=gait, noise=gait.noise, seed=0)
        print(f"writing {transitions:,} through Minari: {time.perf_counter() - started:.1f} s")
        for _ in range(3):
            subprocess.run([sys.executable, "-c", LOADING], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="antmaze-medium-play")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--transitions", type=int, default=60_000)
    parser.add_argument("--loading", action="store_true", help="measure loading a million instead")
    options = parser.parse_args()
    os.environ.update(_THREADS)
    if options.loading:
        loading(1_000_000)
    else:
        generation(options.task, options.processes, options.rounds)
        whole_command(options.task, options.processes, options.transitions)


if __name__ == "__main__":
    main()
