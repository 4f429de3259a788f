"""What all peers share: the data, the first weights, and the protocol with `peers.py`.

It runs in every environment, so it needs only NumPy. A peer writes a line of JSON when it is ready,
and then one with its rate for every number of seconds that it reads.
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
    """Random transitions that never end, each starting where the one before it led."""
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
    """First weights `(in, out)` and biases by network, the same for all peers that load them."""
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
        update: samples and learns, `updates_per_call` times; returns the last losses.
        parameters: returns arrays of each network, by any names.
        first_losses: returns the losses of one update with `first_weights` on the first batch of
            the data, named `value`, `actor` and `critic`; None where they cannot be had.
        updates_per_call: number of updates in a call of `update`.
    """

    update: Callable[[], Mapping[str, Any]]
    parameters: Callable[[], Mapping[str, Any]]
    first_losses: Callable[[], Mapping[str, Any]] | None = None
    updates_per_call: int = 1


def serve_learner(build: Callable[[], Learner], *packages: str) -> None:
    """Measures a learner's updates per second, on as many cores as it may have threads.

    Args:
        build: makes the learner; called after the cores have been chosen.
        packages: packages whose versions are reported.
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
    """Measures environment steps per second, by a function of the seconds to measure."""
    with _answering() as answers:
        _serve(answers, steps_per_second, packages, {})


def _check(learner: Learner) -> None:
    """Warms up, and checks that every network learns and that losses are finite."""
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
    """Standard output for answers; what libraries print goes to standard error meanwhile."""
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
