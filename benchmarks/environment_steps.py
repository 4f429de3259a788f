"""Environment steps per second of a worker, against Gymnasium and against bare physics.

    python benchmarks/environment_steps.py [--task antmaze-medium-play]

All take the same steps of the same episodes: the rollout chooses actions with an actor of the
published size, the others repeat them. Bare physics calls only `mj_step`, the Gymnasium loop
`reset` and `step` of the environment that `gymnasium.make` returns. Blocks alternate.
"""

import itertools
import os
import time
from collections.abc import Callable, Iterator

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))

import gymnasium
import mujoco
import numpy as np
from live_gateway import weights
from measuring import OBSERVATION_DIM, Table, alternate, parser, ratio, write

from iqlft.datasets.antmaze.tasks import find_task
from iqlft_workers.actor import GaussianActor
from iqlft_workers.environment import Environment, EnvironmentSpec
from iqlft_workers.rollout import Rollout, episode_randomness

SEED, WORKER, TAKE = 0, 0, 64


def rollout_steps(environment_id: str) -> Iterator[np.ndarray]:
    """A worker's steps, batches included; yields the actions."""
    spec = EnvironmentSpec(environment_id, observation_keys=("achieved_goal", "observation"))
    rollout = Rollout(Environment(spec), weights(0), seed=SEED, worker_id=WORKER, capacity=TAKE)
    while True:
        rollout.step()
        yield rollout._held.actions[rollout.pending - 1]
        if rollout.pending == TAKE:
            rollout.take()


def gymnasium_steps(environment_id: str, actions: list[np.ndarray]) -> Iterator[None]:
    """A plain loop over the environment."""
    environment = gymnasium.make(environment_id, disable_env_checker=True)
    over, episode = True, 0
    for action in itertools.cycle(actions):
        if over:
            environment.reset(seed=episode_randomness(SEED, WORKER, episode)[0])
            episode += 1
        _, _, terminated, truncated, _ = environment.step(action)
        over = terminated or truncated
        yield


def physics_steps(environment_id: str, actions: list[np.ndarray], length: int) -> Iterator[None]:
    """MuJoCo alone, from the same starts."""
    environment = gymnasium.make(environment_id, disable_env_checker=True)
    ant = environment.unwrapped.ant_env
    for index, action in enumerate(itertools.cycle(actions)):
        if index % length == 0:
            environment.reset(seed=episode_randomness(SEED, WORKER, index // length)[0])
        ant.data.ctrl[:] = action
        mujoco.mj_step(ant.model, ant.data, nstep=ant.frame_skip)
        yield


def actor_alone() -> Callable[[], object]:
    """The actor's part of a step."""
    actor, rng = GaussianActor(weights(0)), np.random.default_rng(0)
    observation = np.zeros(OBSERVATION_DIM, np.float32)
    return lambda: actor.sample(observation, rng)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--task", default="antmaze-medium-play")
    options.add_argument("--episodes", type=int, default=20, help="that are repeated")
    args = options.parse_args()
    task = find_task(args.task)
    environment_id, length = task.environment_id, task.episode_steps - 1
    count = args.episodes * length
    actions = [each.copy() for each in itertools.islice(rollout_steps(environment_id), count)]
    loops = {
        "worker's rollout": rollout_steps(environment_id),
        "Gymnasium loop": gymnasium_steps(environment_id, actions),
        "bare physics": physics_steps(environment_id, actions, length),
    }
    contenders: dict[str, Callable[[], object]] = {
        name: loop.__next__ for name, loop in loops.items()
    }
    contenders["actor alone"] = actor_alone()
    rates = alternate(contenders, args.seconds, args.rounds, time.perf_counter)
    table = Table(
        f"{environment_id}: environment steps per second, one process",
        ("", "min", "median", "max", "share of physics", "of Gymnasium"),
    )
    for name, each in rates.items():
        figures = [f"{value:,.0f}" for value in (min(each), float(np.median(each)), max(each))]
        shares = ["", ""]
        if name != "actor alone":
            shares = [
                f"{ratio(rates, name, other):.1%}" for other in ("bare physics", "Gymnasium loop")
            ]
        table.add(name, *figures, *shares)
    gym, actor = (np.median(rates[name]) for name in ("Gymnasium loop", "actor alone"))
    both = 1 / (1 / gym + 1 / actor)
    table.add("Gymnasium loop and actor", "", f"{both:,.0f}", "", "", "")
    share = np.median(rates["worker's rollout"]) / both
    table.add("rollout's share of these", "", f"{share:.1%}", "", "", "")
    write("Environment steps of a worker", [table], args.out)


if __name__ == "__main__":
    main()
