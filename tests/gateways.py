"""Gateways for tests: the sockets are real, what is not said is as simple as can be."""

import time
from typing import Any

from iqlft.gateway.gateway import Gateway
from iqlft.gateway.service import Service
from iqlft_workers.environment import EnvironmentSpec
from iqlft_workers.transition import RowLayout, Transitions
from transitions import concatenate

PENDULUM = EnvironmentSpec("Pendulum-v1")


def open_gateway(
    environment: EnvironmentSpec = PENDULUM,
    layout: RowLayout = RowLayout(3, 1),  # noqa: B008  # immutable
    **options: Any,  # noqa: ANN401
) -> Gateway:
    """A gateway that is not started, of the run "test" with seed 0 and one worker by default.

    Args:
        environment: what the workers build.
        layout: of their transitions.
        options: further arguments of `Service` and of `Gateway`.
    """
    offered = {"run_id": "test", "seed": 0, "num_workers": 1}
    offered |= {key: each for key, each in options.items() if key in Service._fields}
    others = {key: each for key, each in options.items() if key not in Service._fields}
    return Gateway(Service(environment, layout, **offered), **others)


def receive(gateway: Gateway, count: int) -> Transitions:
    """Receives exactly `count` transitions."""
    parts: list[Transitions] = []
    deadline = time.monotonic() + 20
    while (came := sum(part.num_transitions for part in parts)) < count:
        assert time.monotonic() < deadline, f"{came} of {count} came"
        parts += gateway.receive(0.2)
    assert came == count
    return concatenate(parts)


def at_work(gateway: Gateway) -> int:
    """How many workers are there and have stepped; all may go on a little, whoever came first."""
    workers = gateway.worker_status()
    gateway.allow(sum(each.env_steps for each in workers) + 100)
    return sum(each.alive and each.env_steps > 0 for each in workers)
