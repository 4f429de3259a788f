"""A discrete-event model of learner, gateway, network and N workers.

Workers step while they have credit, and send batches over a link; in each turn the gateway's thread
takes what has arrived, grants credit by the rule of pacing (docs/protocol.md) and publishes
weights; the learner updates while the pace lets it.
"""

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

GRANT_SECONDS, TURN_MESSAGES, CREDIT = 0.02, 256, 1024
"""The gateway's seconds between grants without a batch, messages per turn, and credit window."""
ROW_BYTES, HEADER_BYTES, WEIGHTS_BYTES, QUEUED_WEIGHTS = 274, 230, 4 * 75_528, 2


@dataclass(frozen=True)
class Setting:
    """A machine and a run; times in seconds, measured ones in processor time.

    Attributes:
        workers: N.
        step: time of a worker's step, environment and actor.
        update: time of the learner's update.
        batch: time of the gateway's thread per batch, its ACK and sockets included.
        row: its time per transition of a batch, in addition.
        look: its time per worker in each turn.
        follower: its time per worker that weights are published to.
        latency: of the network, one way.
        bandwidth: of the learner's link in bytes per second, each way.
        utd_ratio: U, updates per environment step.
        slack: S; the command line's grows with N, which only makes the beginning longer.
        flush: transitions of a full batch.
        flush_seconds: after which a batch that is not full is sent.
        publish_every: updates between publications of weights.
        at_once: whether all steps of a batch use the weights that the worker has at its end, as
            those of synthetic workers do.
        jitter: largest deviation of a time from its mean, as a share of the mean.
    """

    workers: int = 1
    step: float = 1 / 3308
    update: float = 1 / 200
    batch: float = 125e-6
    row: float = 0.35e-6
    look: float = 0.6e-6
    follower: float = 10e-6
    latency: float = 100e-6
    bandwidth: float = 1.25e9
    utd_ratio: float = 1.0
    slack: int = 512
    flush: int = 128
    flush_seconds: float = 0.1
    publish_every: int = 10
    at_once: bool = False
    jitter: float = 0.1


@dataclass(frozen=True)
class Result:
    """The result of a run, without its warm-up.

    Attributes:
        updates: per second.
        steps: per second, accepted.
        lag: mean number of updates by which a step's policy was behind when it was accepted.
        learner_waits: share of the learner's time in which it waits.
        workers_wait: share of the workers' time in which they wait.
        gateway: share of the time in which its thread is at work.
        link: share of the time in which weights are sent over the link.
    """

    updates: float
    steps: float
    lag: float
    learner_waits: float
    workers_wait: float
    gateway: float = math.nan
    link: float = math.nan


@dataclass(eq=False)
class Worker:
    """A worker, and what the gateway knows of it."""

    id: int
    granted: int = 0
    """Steps that the gateway has granted it so far."""
    credit: int = 0
    """Granted steps that it knows of."""
    taken: int = 0
    accepted: int = 0
    version: int = 0
    queued: int = 0
    """Weights on their way to it."""
    stepping: bool = False


@dataclass(frozen=True)
class Batch:
    """Transitions on their way."""

    worker: Worker
    steps: int
    version: float
    sent_at: float


@dataclass
class Tally:
    """Sums since the end of the warm-up."""

    began: float = 0.0
    updates: int = 0
    steps: int = 0
    lag: float = 0.0
    most_lag: float = 0.0
    updating: float = 0.0
    stepping: float = 0.0
    gateway: float = 0.0
    link: float = 0.0
    batches: int = 0
    sojourn: float = 0.0
    """Seconds of all accepted batches, from sending to acceptance."""
    batch_seconds: float = 0.0
    """The number of batches on their way, integrated over time."""


class Model:
    """The simulation.

    Args:
        setting: of machine and run.
        seed: of the jitter.
    """

    def __init__(self, setting: Setting, seed: int = 0) -> None:
        self.setting, self.now, self.tally = setting, 0.0, Tally()
        self.workers = [Worker(number) for number in range(setting.workers)]
        self.updates = self.env_steps = self.granted = 0
        self.on_their_way = 0
        self._random, self._order = random.Random(seed), itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._inbox: deque[Batch] = deque()
        self._uplink_free = self._downlink_free = self._counted_at = 0.0
        self._gateway_busy = self._learner_busy = False
        self._grant_due, self._grant_at = True, 0.0
        self._published: int | None = None
        self._turn()

    def run(self, seconds: float, warm_up: float = 0.0) -> Result:
        """Continues for `warm_up` seconds, which are left out, and then for `seconds`."""
        self._until(self.now + warm_up)
        self.tally = Tally(began=self.now)
        self._until(self.now + seconds)
        tally = self.tally
        return Result(
            tally.updates / seconds,
            tally.steps / seconds,
            tally.lag / max(1, tally.steps),
            max(0.0, 1 - tally.updating / seconds),
            max(0.0, 1 - tally.stepping / seconds / len(self.workers)),
            min(1.0, tally.gateway / seconds),
            min(1.0, tally.link / seconds),
        )

    def _until(self, end: float) -> None:
        while self._events and self._events[0][0] <= end:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = end
        self._count(0)

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), action))

    def _drawn(self, mean: float) -> float:
        return mean * (1 + self.setting.jitter * self._random.uniform(-1, 1))

    def _count(self, change: int) -> None:
        """Integrates the number of batches on their way over time, and changes it."""
        self.tally.batch_seconds += self.on_their_way * (
            self.now - max(self._counted_at, self.tally.began)
        )
        self._counted_at = self.now
        self.on_their_way += change

    # A worker.

    def _step(self, worker: Worker) -> None:
        """Begins the next batch, if there is credit."""
        setting = self.setting
        most = max(1.0, min(setting.flush, setting.flush_seconds // setting.step))
        steps = min(int(most), worker.credit - worker.taken)
        if worker.stepping or steps <= 0:
            return
        worker.stepping = True
        worker.taken += steps
        seconds, version = self._drawn(steps * setting.step), worker.version
        self._after(seconds, lambda: self._send(worker, steps, version, seconds))

    def _send(self, worker: Worker, steps: int, version: int, seconds: float) -> None:
        setting, worker.stepping = self.setting, False
        self.tally.stepping += min(seconds, self.now - self.tally.began)
        mean = worker.version if setting.at_once else (version + worker.version) / 2
        batch = Batch(worker, steps, mean, self.now)
        self._count(+1)
        self._uplink_free = max(self.now, self._uplink_free)
        self._uplink_free += (HEADER_BYTES + steps * ROW_BYTES) / setting.bandwidth
        self._after(self._uplink_free - self.now + setting.latency, lambda: self._arrive(batch))
        self._step(worker)

    def _told(self, worker: Worker, credit: int) -> None:
        worker.credit = max(worker.credit, credit)
        self._step(worker)

    # The gateway.

    def _arrive(self, batch: Batch) -> None:
        self._inbox.append(batch)
        self._turn()

    def _turn(self) -> None:
        """Begins a turn, if there is anything to do and the thread is free."""
        granting = self._grant_due and self.now >= self._grant_at
        if self._gateway_busy or not (self._inbox or granting or self._published is not None):
            return
        setting, self._gateway_busy = self.setting, True
        count = min(TURN_MESSAGES, len(self._inbox))
        batches = [self._inbox.popleft() for _ in range(count)]
        published, self._published = self._published, None
        seconds = setting.look * setting.workers + setting.batch * count
        seconds += setting.row * sum(batch.steps for batch in batches)
        seconds += setting.follower * setting.workers * (published is not None)
        seconds = self._drawn(seconds)
        self.tally.gateway += seconds
        self._after(seconds, lambda: self._end_turn(batches, published))

    def _end_turn(self, batches: list[Batch], published: int | None) -> None:
        self._gateway_busy = False
        for batch in batches:
            self._accept(batch)
        self._grant({batch.worker for batch in batches})
        if published is not None:
            self._spread(published)
        self._turn()
        self._learn()

    def _accept(self, batch: Batch) -> None:
        batch.worker.accepted += batch.steps
        self.env_steps += batch.steps
        self._count(-1)
        lag, tally = self.updates - batch.version, self.tally
        tally.steps += batch.steps
        tally.lag += lag * batch.steps
        tally.most_lag = max(tally.most_lag, lag)
        tally.batches += 1
        tally.sojourn += self.now - batch.sent_at

    @property
    def allowed(self) -> int:
        """Steps that the pace lets the workers take in all."""
        return math.ceil((self.updates + 1 + self.setting.slack) / self.setting.utd_ratio)

    def _grant(self, told: set[Worker]) -> None:
        """Distributes credit as the roster does; workers that have sent learn it from the ACK."""
        self._grant_due, self._grant_at = False, self.now + GRANT_SECONDS
        room = self.allowed - self.granted
        if room > 0:
            held = [(each.granted - each.accepted, each) for each in self.workers]
            low = [each for each in held if each[0] <= CREDIT // 2]
            low.sort(key=lambda each: each[0], reverse=True)
            for index, (outstanding, worker) in enumerate(low):
                share = min(CREDIT - outstanding, room // (len(low) - index))
                if share > 0:
                    worker.granted += share
                    self.granted += share
                    room -= share
                    told.add(worker)
        # In the order of their ids, so that a seed determines a run.
        for worker in sorted(told, key=lambda each: each.id):
            credit = worker.granted
            self._after(self.setting.latency, lambda w=worker, c=credit: self._told(w, c))

    def _spread(self, version: int) -> None:
        """Sends weights to each worker, except those that still have two to read."""
        for worker in self.workers:
            if worker.queued < QUEUED_WEIGHTS:
                worker.queued += 1
                seconds = WEIGHTS_BYTES / self.setting.bandwidth
                self.tally.link += seconds
                self._downlink_free = max(self.now, self._downlink_free) + seconds
                wait = self._downlink_free - self.now + self.setting.latency
                self._after(wait, lambda w=worker: self._renew(w, version))

    def _renew(self, worker: Worker, version: int) -> None:
        worker.queued -= 1
        worker.version = max(worker.version, version)

    # The learner.

    def _learn(self) -> None:
        """Begins an update, if the pace lets it."""
        setting = self.setting
        within = self.updates + 1 <= setting.utd_ratio * self.env_steps + setting.slack
        if not self._learner_busy and self.env_steps and within:
            self._learner_busy = True
            seconds = self._drawn(setting.update)
            self._after(seconds, lambda: self._end_update(seconds))

    def _end_update(self, seconds: float) -> None:
        self._learner_busy = False
        self.updates += 1
        self.tally.updates += 1
        self.tally.updating += min(seconds, self.now - self.tally.began)
        if self.updates % self.setting.publish_every == 0:
            self._published = self.updates
        if not self._grant_due:
            self._grant_due = True
            self._after(max(0.0, self._grant_at - self.now), self._turn)
        self._turn()
        self._learn()
