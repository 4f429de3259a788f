"""What all peers share: the data, the first weights, and how `peers.py` is answered.

It runs in every environment, so it needs NumPy alone. A peer writes a line of JSON when it is
ready, and then for every number of seconds that it reads one with its rate over that time.
"""

import contextlib
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import Any, NamedTuple, TextIO

import numpy as np
from timing import rate

Layers = list[tuple[np.ndarray, np.ndarray]]
OBSERVATION_DIM, ACTION_DIM, HIDDEN, BATCH = 29, 8, 256, 256
"""AntMaze's dimensions, and the published sizes."""
EXPECTILE, INVERSE_TEMPERATURE, DISCOUNT, TRACKING, LEARNING_RATE = 0.9, 10.0, 0.99, 0.005, 3e-4
"""The published settings for AntMaze."""
WARM_UPDATES = 16


class Data(NamedTuple):
    """Transitions; `terminated` is 0 or 1."""

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    next_observations: np.ndarray
    terminated: np.ndarray


def random_data(size: int = 100_000) -> Data:
    """Random transitions that never end, each observation the next one of the transition before."""
    rng = np.random.default_rng(0)
    observations = rng.standard_normal((size, OBSERVATION_DIM), np.float32)
    return Data(
        observations,
        rng.uniform(-1, 1, (size, ACTION_DIM)).astype(np.float32),
        rng.standard_normal(size, np.float32),
        np.roll(observations, -1, axis=0),
        np.zeros(size, np.float32),
    )


def first_weights() -> dict[str, Layers]:
    """The same first weights `(in, out)` and biases for all who can load them, by network."""
    rng = np.random.default_rng(1)

    def layers(inputs: int, outputs: int) -> Layers:
        widths = (inputs, HIDDEN, HIDDEN, outputs)
        return [
            (rng.normal(0, pair[0] ** -0.5, pair).astype(np.float32), np.zeros(pair[1], np.float32))
            for pair in itertools.pairwise(widths)
        ]

    pair = OBSERVATION_DIM + ACTION_DIM
    return {
        "value": layers(OBSERVATION_DIM, 1),
        "actor": layers(OBSERVATION_DIM, ACTION_DIM),
        "critic 1": layers(pair, 1),
        "critic 2": layers(pair, 1),
    }


class Learner(NamedTuple):
    """An IQL update, its replay included.

    Attributes:
        update: samples and learns, `updates_per_call` times; the last losses.
        parameters: arrays of each network, by any names.
        first_losses: losses of one update with `first_weights` on the first batch of the data, by
            the names `value`, `actor` and `critic`; None where they cannot be had.
        updates_per_call: see above.
    """

    update: Callable[[], Mapping[str, Any]]
    parameters: Callable[[], Mapping[str, Any]]
    first_losses: Callable[[], Mapping[str, Any]] | None = None
    updates_per_call: int = 1


def serve_learner(build: Callable[[], Learner], *packages: str) -> None:
    """Measures a learner's updates per second, on as many cores as it may have threads.

    Args:
        build: the learner; called when cores are chosen.
        packages: whose versions are told.
    """
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[: int(os.environ["PEER_COUNT"])])
    with _answering() as answers:
        learner = build()
        losses = {} if learner.first_losses is None else _floats(learner.first_losses())
        _check(learner)
        _serve(
            answers,
            lambda seconds: learner.updates_per_call * rate(learner.update, seconds),
            packages,
            losses,
        )


def serve_steps(steps_per_second: Callable[[float], float], *packages: str) -> None:
    """Measures environment steps per second; the argument takes the seconds."""
    with _answering() as answers:
        _serve(answers, steps_per_second, packages, {})


def _check(learner: Learner) -> None:
    """Warms up, and sees that every network learns and that losses are finite."""
    before = {name: np.array(each) for name, each in learner.parameters().items()}
    losses: Mapping[str, float] = {}
    for _ in range(WARM_UPDATES // learner.updates_per_call):
        losses = _floats(learner.update())
    if not all(map(np.isfinite, losses.values())):
        raise SystemExit(f"Losses are not finite: {losses}")
    for name, each in learner.parameters().items():
        if not np.isfinite(each).all() or np.array_equal(each, before[name]):
            raise SystemExit(f"{name} does not learn.")


def _floats(losses: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(each) for name, each in losses.items()}


@contextlib.contextmanager
def _answering() -> Iterator[TextIO]:
    """The standard output; what libraries print goes to the error output meanwhile."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        yield answers


def _serve(
    answers: TextIO,
    measure: Callable[[float], float],
    packages: tuple[str, ...],
    losses: Mapping[str, float],
) -> None:
    versions = {name: version(name) for name in packages}
    print(json.dumps({"versions": versions, "losses": losses}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps({"rate": measure(float(line))}), file=answers, flush=True)
