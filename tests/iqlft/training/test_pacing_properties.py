"""Pacing from end to end: whatever is delayed, lost, killed or begun again, nobody outruns it.

The gateway's brain, the pacing and the workers' sessions are the real ones and say to each other
what they say over sockets; connections are queues, and a clock is a number.
"""

import itertools
import math
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iqlft.gateway import credit as gateway_credit
from iqlft.gateway import state as gateway_state
from iqlft.gateway.journal import Journal
from iqlft.gateway.service import Service
from iqlft.gateway.state import GatewayState
from iqlft.training.pacing import Pacing
from iqlft_workers import messages
from iqlft_workers.actor import ActorWeights
from iqlft_workers.environment import EnvironmentSpec
from iqlft_workers.session import WorkerSession
from iqlft_workers.transition import RowLayout, Transitions
from iqlft_workers.wire import decode, encode

MakeWeights = Callable[..., ActorWeights]
Step = tuple[int, int]
"""Number of the process that made it, and index of the step in it."""

Event = tuple[str, int, int]
"""A method of `World`, the place of a worker, and how much of it."""

TOTAL_ENV_STEPS, SLACK = 120, 16
PATIENCE_SECONDS = 10
BATCH, CREDIT = 8, 24
"""Less than in truth, so that windows are full and credit is short in few steps."""
PATIENCE_ROUNDS = 300


class Worker:
    """A worker process: its session, and its connection as two queues of messages."""

    def __init__(self, worker_id: int, process: int, now: float) -> None:
        self.process = process
        self.session = WorkerSession(worker_id)
        self.pending = self.acknowledged = 0
        self._sent = [0]
        self._stands = False
        self.connect(b"")
        self.session.tick(now)

    def connect(self, route: bytes) -> None:
        """A new connection; what was under way on the old one is lost."""
        self.route = route
        self.to_learner: deque[list[bytes]] = deque()
        self.to_worker: deque[list[bytes]] = deque()

    def speak(self) -> None:
        """Puts on the connection what the session has to say."""
        for message in self.session.outbox:
            self.to_learner.append([bytes(frame) for frame in encode(message)])
        self.session.outbox.clear()

    def hear(self, count: int, now: float) -> None:
        """Takes in the next messages of the learner."""
        for _ in range(min(count, len(self.to_worker))):
            message = decode(self.to_worker.popleft())
            self.session.receive(message, now)
            if isinstance(message, messages.Welcome) and not self._stands:
                self._stands = True
                self.session.ready(2, 1)
            if isinstance(message, messages.Ack):
                self.acknowledged = self._sent[message.sequence]
        assert self.session.outcome is None, self.session.sentence

    def step(self, count: int) -> None:
        """Takes steps, as far as its credit goes; full batches are sent."""
        for _ in range(min(count, self.session.credit_left)):
            self.session.env_steps += 1
            self.pending += 1
            if self.pending == BATCH:
                self.flush()

    def flush(self) -> None:
        """Sends a batch of what is pending, if the window has room."""
        if not self.pending or self.session.window_full:
            return
        count, end = self.pending, self.session.env_steps
        observations = np.full((count, 2), self.process, np.float32)
        observations[:, 1] = np.arange(end - count, end)
        zeros, flags = np.zeros((count, 1), np.float32), np.zeros(count, np.bool_)
        versions = np.zeros(count, np.uint32)
        transitions = Transitions(
            observations, zeros, zeros[:, 0], observations, flags, flags, versions
        )
        self.session.send_batch(0, None, transitions, 0.0)
        self._sent.append(end)
        self.pending = 0


class World:
    """A learner and its workers; each public method is something that may happen."""

    def __init__(self, num_workers: int, ratio: float, folder: Path, weights: ActorWeights) -> None:
        self.now = 0.0
        self._path, self._weights = folder / "journal", weights
        self._service = Service(
            EnvironmentSpec("Pendulum-v1"), RowLayout(2, 1), "run", 0, num_workers,
            patience_seconds=PATIENCE_SECONDS,
        )  # fmt: skip
        self.pacing = Pacing(ratio, SLACK, TOTAL_ENV_STEPS)
        self.replay: list[Step] = []
        self._numbers = itertools.count(1)
        self._saved = (0, 0, 0)
        self.workers = [self._process(worker_id) for worker_id in range(num_workers)]
        self.gone: list[Worker] = []
        self._start()

    def _process(self, worker_id: int) -> Worker:
        worker = Worker(worker_id, next(self._numbers), self.now)
        self.cut(worker)
        return worker

    def _start(self) -> None:
        """The learner begins, where its checkpoint was written."""
        self.pacing.env_steps, self.pacing.updates, position = self._saved
        del self.replay[self.pacing.env_steps :]
        self.journal = Journal(self._path, position)
        self.state = GatewayState(self._service, 5556, keyed=False)
        self.state.recover(self.journal)
        self.state.publish(self._weights)
        self.state.allow(self.pacing.allowance())

    # What may happen to a worker.

    def step(self, worker: Worker, count: int) -> None:
        worker.step(count)

    def flush(self, worker: Worker, _: int = 0) -> None:
        worker.flush()

    def hear(self, worker: Worker, count: int) -> None:
        worker.hear(count, self.now)

    def speak(self, worker: Worker, count: int) -> None:
        """Some of the worker's messages reach the learner."""
        worker.speak()
        for _ in range(min(count, len(worker.to_learner))):
            self.state.receive(worker.route, worker.to_learner.popleft(), self.now)
        self._answer()

    def _answer(self) -> None:
        self.state.tick(self.now)
        for route, frames in self.state.outbox:
            worker = next((each for each in self.workers if each.route == route), None)
            if worker is None:
                self.state.unreachable(route)
            else:
                worker.to_worker.append([bytes(frame) for frame in frames])
        self.state.outbox.clear()

    def cut(self, worker: Worker, _: int = 0) -> None:
        worker.connect(b"%d" % next(self._numbers))

    def kill(self, worker: Worker, _: int = 0) -> None:
        place = self.workers.index(worker)
        self.gone.append(worker)
        self.workers[place] = self._process(place)

    # What may happen to all.

    def wait(self, _: Worker, count: int) -> None:
        """A tenth of a second at most: in the longest example nobody is silent for too long."""
        self._pass(count / 1000)

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        for worker in self.workers:
            worker.session.tick(self.now)
            worker.speak()
        self._answer()

    def learn(self, _: Worker, count: int) -> None:
        """Receives, and makes some updates."""
        for part in self.state.deliver():
            self.replay += _steps(part)
            self.pacing.env_steps += part.num_transitions
        # Batches are delivered whole, so the last one may pass the line.
        assert self.pacing.env_steps < self.pacing.allowance() + BATCH
        while count and self.pacing.may_update():
            count -= 1
            self.pacing.updates += 1
            self.state.allow(self.pacing.allowance())

    def save(self, _: Worker, _count: int) -> None:
        """A checkpoint."""
        self._saved = (self.pacing.env_steps, self.pacing.updates, self.state.ledger.position)

    def be_silent(self, worker: Worker, _: int) -> None:
        """Nothing of this worker comes through until it is taken for lost."""
        for _second in range(PATIENCE_SECONDS + 2):
            self._pass(1.0)
            for other in self.workers:
                if other is not worker:
                    other.hear(10**6, self.now)
                    self.speak(other, 10**6)

    def begin_again(self, _: Worker, _count: int) -> None:
        """The learner is killed and started again."""
        self.journal.close()
        self._start()
        for worker in self.workers:
            self.cut(worker)

    def round(self) -> None:
        """Everything happens that can, once."""
        for worker in self.workers:
            worker.hear(10**6, self.now)
            worker.step(10**6)
            worker.flush()
            self.speak(worker, 10**6)
        self.learn(self.workers[0], 10**6)
        self._pass(0.125)


def _steps(transitions: Transitions) -> list[Step]:
    return [(int(process), int(index)) for process, index in transitions.observations]


def check(world: World, strays: float) -> None:
    """The inequality of pacing: updates against steps, and steps against updates."""
    pacing, state = world.pacing, world.state
    assert pacing.updates <= Fraction(pacing.utd_ratio) * pacing.env_steps + SLACK
    outstanding = sum(session.credit.outstanding for session in state.roster.alive)
    assert state.ledger.env_steps + outstanding <= pacing.allowance() + strays


def check_journal(world: World) -> None:
    """Every transition is there once and in order; what was acknowledged is there at all."""
    journal = [step for e in world.journal.entries() for step in _steps(e.batch.transitions)]
    assert world.replay == journal[: len(world.replay)]
    for worker in world.workers + world.gone:
        indices = [index for process, index in journal if process == worker.process]
        assert indices == list(range(len(indices)))
        assert worker.acknowledged <= len(indices) <= worker.session.env_steps


def live(world: World, happening: Sequence[Event], strays: float) -> None:
    """Lets things happen, and sees that the run comes to its end in spite of them.

    Args:
        world: a new one.
        happening: what happens, to which worker, and how much of it.
        strays: steps by which workers may be ahead of what is allowed.
    """
    for _ in range(3):
        world.round()
    for name, which, count in happening:
        getattr(world, name)(world.workers[which % len(world.workers)], count)
        check(world, strays)
    for _ in range(PATIENCE_ROUNDS):
        world.round()
        check(world, strays)
        if world.pacing.finished():
            break
    assert world.pacing.finished(), "both sides wait"
    check_journal(world)


def events(weights: dict[str, int]) -> st.SearchStrategy[list[Event]]:
    """Names, places of workers, and counts."""
    names = [name for name, weight in weights.items() for _ in range(weight)]
    event = st.tuples(st.sampled_from(names), st.integers(0, 7), st.integers(1, 100))
    return st.lists(event, max_size=80)


KILLS = {"step": 4, "flush": 2, "speak": 4, "hear": 4, "learn": 2, "wait": 1, "kill": 1}
CUTS = {"step": 4, "flush": 2, "speak": 4, "hear": 4, "learn": 2, "be_silent": 1, "cut": 1}
RESTARTS = KILLS | CUTS | {"save": 1, "begin_again": 2}


@contextmanager
def world_of(num_workers: int, ratio: float, weights: ActorWeights) -> Iterator[World]:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for module in (gateway_state, gateway_credit):
            patch.setattr(module, "CREDIT", CREDIT)
        world = World(num_workers, ratio, Path(folder), weights)
        try:
            yield world
        finally:
            world.journal.close()


several = st.sampled_from([1, 4, 8])
"""Numbers of workers."""
ratios = st.sampled_from([0.25, 1.0, 4.0])


@settings(max_examples=30, deadline=None)
@given(num_workers=several, ratio=ratios, happening=events(KILLS))
def test_workers_that_are_killed_leave_their_credit_to_the_others(
    num_workers: int, ratio: float, make_weights: MakeWeights, happening: list[Event]
) -> None:
    with world_of(num_workers, ratio, make_weights(2, 1)) as world:
        live(world, happening, strays=0)


@settings(max_examples=30, deadline=None)
@given(num_workers=several, ratio=ratios, happening=events(CUTS))
def test_a_worker_that_was_cut_off_is_ahead_by_no_more_than_its_credit(
    num_workers: int, ratio: float, make_weights: MakeWeights, happening: list[Event]
) -> None:
    # Its credit was given to others, but what it had stepped is not thrown away.
    with world_of(num_workers, ratio, make_weights(2, 1)) as world:
        live(world, happening, strays=num_workers * CREDIT)


@settings(max_examples=30, deadline=None)
@given(num_workers=several, ratio=ratios, happening=events(RESTARTS))
def test_a_learner_that_begins_again_takes_in_no_faster_what_it_had_accepted(
    num_workers: int, ratio: float, make_weights: MakeWeights, happening: list[Event]
) -> None:
    with world_of(num_workers, ratio, make_weights(2, 1)) as world:
        live(world, happening, strays=math.inf)
