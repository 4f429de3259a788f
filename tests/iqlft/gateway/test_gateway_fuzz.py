"""A gateway serves its workers while others send it what is no message."""

import logging
import random
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

import hostile_peer
import synthetic_worker
from gateways import open_gateway
from iqlft.gateway.gateway import Gateway
from iqlft_workers.actor import ActorWeights
from iqlft_workers.environment import EnvironmentSpec
from iqlft_workers.transition import RowLayout, Transitions

pytestmark = pytest.mark.usefixtures("importable")
MakeWeights = Callable[..., ActorWeights]

SECONDS_PER_STEP = 0.001
"""About what AntMaze takes; a worker that waits for credit cannot make up for it."""
ZEROMQ_GREETING = b"\xff" + bytes(8) + b"\x7f\x03"
MEBIBYTE = 2**20


def with_weights(make_weights: MakeWeights) -> Gateway:
    environment = EnvironmentSpec(synthetic_worker.ID, trust=True)
    gateway = open_gateway(environment, RowLayout(29, 8), num_workers=2)
    gateway.publish(make_weights(29, 8))
    gateway.allow(10**9)
    return gateway


def honest_workers(gateway: Gateway) -> AbstractContextManager[object]:
    return synthetic_worker.started(
        2, "--connect", gateway.endpoint, "--keys", str(gateway.own_keys), "--batch", "16",
        "--seconds-per-step", str(SECONDS_PER_STEP),
    )  # fmt: skip


class Learner:
    """Takes what two workers send, and sees to it that nothing is missing, doubled or moved."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.env_steps = 0
        self._next: dict[tuple[int, int], int] = {}

    def receive_while(self, condition: Callable[[], bool], timeout_seconds: float) -> float:
        """Receives while a condition holds; returns the steps per second."""
        began, before = time.monotonic(), self.env_steps
        while condition():
            assert time.monotonic() < began + timeout_seconds, "it took too long"
            for transitions in self.gateway.receive(0.1):
                self._take(transitions)
        return (self.env_steps - before) / (time.monotonic() - began)

    def _take(self, transitions: Transitions) -> None:
        for source, indices in synthetic_worker.indices_by_session(transitions).items():
            first = self._next.get(source, 0)
            self._next[source] = first + len(indices)
            np.testing.assert_array_equal(indices, np.arange(first, self._next[source]))
        self.env_steps += transitions.num_transitions
        assert len(self._next) <= 2

    @property
    def both_work(self) -> bool:
        """Whether steps of both workers have come in the last seconds."""
        return sum(worker.steps_per_second > 0 for worker in self.gateway.worker_status()) == 2


def test_honest_batches_are_all_accepted_among_malformed_messages(
    make_weights: MakeWeights,
) -> None:
    with with_weights(make_weights) as gateway, honest_workers(gateway):
        learner = Learner(gateway)
        learner.receive_while(lambda: not learner.both_work, 20)
        with hostile_peer.started(
            gateway.endpoint, gateway.own_keys, messages=2_000, per_second=4_000
        ) as hostile:
            # The sender has the lowest priority: on a busy machine it takes its time.
            learner.receive_while(lambda: hostile.poll() is None, 80)
        assert hostile.returncode == 0
        assert gateway.counts().bad_messages > 500
        learner.receive_while(lambda: not learner.both_work, 20)


def test_bytes_that_are_not_even_zeromq_do_no_harm(make_weights: MakeWeights) -> None:
    rng = random.Random(0)
    with with_weights(make_weights) as gateway:
        port = int(gateway.endpoint.rpartition(":")[2])
        for _ in range(100):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(rng.choice([b"", ZEROMQ_GREETING]) + rng.randbytes(99))
        learner = Learner(gateway)
        with honest_workers(gateway):
            learner.receive_while(lambda: not learner.both_work, 20)


@pytest.mark.slow
def test_a_hundred_thousand_malformed_messages_cost_neither_memory_nor_honest_workers(
    make_weights: MakeWeights, caplog: pytest.LogCaptureFixture
) -> None:
    """The honest workers step as fast as a simulation does, and keep 90 % of their rate.

    The sender has the lowest priority and a rate that one core can send, for it shares two cores
    with the others here: what is shown is that the gateway keeps up and answers in time.
    """
    # Each peer that is blocked is a line in the log, which pytest would keep in memory.
    caplog.set_level(logging.ERROR)
    with with_weights(make_weights) as gateway, honest_workers(gateway):
        learner = Learner(gateway)
        learner.receive_while(lambda: not learner.both_work, 20)
        until = time.monotonic() + 10
        quiet_rate = learner.receive_while(lambda: time.monotonic() < until, 20)
        memory = [resident_bytes()]
        with hostile_peer.started(
            gateway.endpoint, gateway.own_keys, messages=100_000, per_second=4_000
        ) as hostile:

            def under_attack() -> bool:
                memory.append(resident_bytes())
                return hostile.poll() is None

            loud_rate = learner.receive_while(under_attack, 90)
        assert hostile.returncode == 0
        assert gateway.counts().bad_messages > 25_000
        assert max(memory) - memory[0] <= 50 * MEBIBYTE
        assert loud_rate >= 0.9 * quiet_rate


def resident_bytes() -> int:
    """Memory of this process, of which the gateway is a thread."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
