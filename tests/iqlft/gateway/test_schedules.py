"""Whatever is lost, late, cut, killed or full: each step counts once, and every run ends.

Learner and workers are the real ones up to their sockets; a seed decides what happens, and when.
"""

import errno
import math
import os
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import awkward_environments
from iqlft.gateway import credit as gateway_credit
from iqlft.gateway import state as gateway_state
from iqlft.gateway.evaluation_queue import EvaluationJob
from iqlft.gateway.journal import Journal
from iqlft.gateway.roster import BEGIN_ANEW, Session
from iqlft.gateway.service import Service
from iqlft.gateway.state import GatewayState
from iqlft.gateway.watchdog import Watchdog
from iqlft.training.pacing import Pacing
from iqlft_workers import loop, messages
from iqlft_workers.actor import ActorWeights, make_actor
from iqlft_workers.environment import Environment, EnvironmentSpec
from iqlft_workers.episode import NotFiniteError
from iqlft_workers.rollout import evaluate_episode
from iqlft_workers.transition import RowLayout
from iqlft_workers.wire import decode, encode
from virtual_network import Network

if TYPE_CHECKING:
    from iqlft.config.settings import EvalEnvironment

MakeWeights = Callable[..., ActorWeights]
Begin = Callable[..., AbstractContextManager["Run"]]

BATCH, CREDIT = 16, 64
"""Less than in truth, so that windows are full and credit is short in few steps."""
TURNS = 700
"""How long something happens; then there is peace."""
PEACE_SECONDS = 500.0
"""In which a run comes to its end."""
RATES = {
    "cut": 0.02, "swallow": 0.01, "freeze": 0.01, "kill": 0.02,
    "crash": 0.008, "tear": 0.008, "fill_disk": 0.004, "interrupt": 0.002,
}  # fmt: skip
"""The greatest probability, at each turn, of what may happen to a process, or to the learner."""


class Crash(BaseException):
    """The learner is killed in the middle of something."""


class Run:
    """A run: its workers, and learners that follow one another."""

    def __init__(self, seed: int, path: Path, make_weights: MakeWeights, *, lockstep: bool) -> None:
        self.chance = chance = random.Random(seed)
        self._path, self._make_weights, self._lockstep = path, make_weights, lockstep
        num_workers = 1 if lockstep else chance.choice([1, 2, 3, 5])
        self._local = chance.choice([0, num_workers, chance.randint(0, num_workers)])
        spoils = "" if lockstep else chance.choice(["", "", "reward"])
        self._environment = EnvironmentSpec(
            awkward_environments.ID,
            {"spoils": spoils, "share": 0.2, "max_episode_steps": chance.choice([1, 5, 40, 200])},
        )
        self._total = chance.choice([30, 100] if lockstep else [100, 400, 1500])
        self._ratio, self._warmup = chance.choice([0.25, 1.0, 2.0]), chance.choice([0, 20])
        self._slack = 0 if lockstep else chance.choice([1, 16, 64])
        self._every, self._episodes = chance.choice([10, 50]), chance.choice([1, 3, 10])
        where: tuple[EvalEnvironment, ...] = ("second", "one-worker", "training")
        self._service = Service(
            self._environment, RowLayout(2, 1), "run", seed, num_workers, self._local, lockstep,
            last_version=2 * self._total, evaluation_seconds=chance.choice([1, 5, 300]),
            patience_seconds=60, eval_environment=chance.choice(where[: 3 - lockstep]),
        )  # fmt: skip
        remote = num_workers - self._local
        remote += chance.choice([0, 0, 0, 1]) if remote else 0  # One more than there is room for.
        ids = [*range(self._local), *[None] * remote]
        self.network = Network(
            chance, ids, chance.choice([0, 0.01, 0.05]), chance.choice([0, 0.02, 0.1])
        )
        self._rates = {name: rate * chance.choice([0, 0.3, 1]) for name, rate in RATES.items()}
        self._saved: tuple[int, int, int, list[int]] = (0, 0, 0, [])
        self._acknowledged: Counter[str] = Counter()
        self._pwrite = os.pwrite
        self._begin(resumed=False)

    # The learner.

    def _begin(self, *, resumed: bool = True) -> None:
        """A learner begins, where the last checkpoint was written."""
        env_steps, updates, position, evaluated = self._saved
        self._pacing = Pacing(
            self._ratio, self._slack, self._total, env_steps, updates, self._warmup
        )
        self.journal = Journal(self._path, position)
        self._check_journal()
        self._state = GatewayState(self._service, 5556, keyed=True)
        self._state.recover(self.journal, env_steps, resumed=resumed)
        self._held = (self._state.ledger.env_steps,) * 2
        self._watchdog = Watchdog(self._service.patience_seconds)
        self._evaluations: list[tuple[int, EvaluationJob]] = []
        for version in evaluated:
            self._evaluate(version)
        self._publish()
        self._alive, self._leaves_at, self._returns_at = True, math.inf, math.inf
        self._torn, self._full_until = False, 0.0
        self.network.listen()

    def _weights(self, version: int) -> ActorWeights:
        return self._make_weights(2, 1, seed=version, version=version)

    def _publish(self) -> None:
        self._state.publish(self._weights(self._pacing.updates))
        self._allow()

    def _allow(self) -> None:
        allowed = self._pacing.allowance()
        self._state.allow(min(allowed, self._pacing.env_steps + 1) if self._lockstep else allowed)

    def _evaluate(self, version: int) -> None:
        job = self._state.evaluate(self._weights(version), range(self._episodes))
        self._evaluations.append((version, job))

    def _turn(self) -> None:
        """Messages arrive, the learner learns, workers work, and time passes."""
        network = self.network
        try:
            if network.now >= self._returns_at:
                self._begin()
            if self._alive:
                network.deliver(self._state)
                self._state.tick(network.now)
                self._send()
                if self._leaves_at < math.inf:
                    self._leave()
                else:
                    self._learn()
        except Crash:
            self.crash()
        network.run_workers()
        network.now += 0.05 if network.calm else self.chance.choice([0.001, 0.02, 0.1, 0.3])

    def _send(self) -> None:
        for route, frames in self._state.outbox:
            match self._state.roster.at(route), decode(frames):
                case Session(uuid=uuid), messages.Ack(sequence=last) if last < BEGIN_ANEW:
                    self._acknowledged |= Counter({uuid: last})
        self.network.send(self._state)

    def _learn(self) -> None:
        """Receives, makes some updates, and looks after evaluations and workers."""
        pacing, state = self._pacing, self._state
        pacing.env_steps += sum(part.num_transitions for part in state.deliver())
        self._allow()
        updates = 10**6 if self._lockstep else self.chance.choice([0, 1, 5, 50])
        while updates and pacing.may_update():
            updates -= 1
            pacing.updates += 1
            if pacing.passed(self._every) and not self._evaluations:
                self._evaluate(pacing.updates)
            self._publish()
        for version, job in list(self._evaluations):
            if job.episodes_done == self._episodes:
                self._evaluations.remove((version, job))
                self._check_evaluation(version, job)
        if self.chance.random() < 0.05:
            self._save()
        for incident in self._watchdog.check(state.status(self.network.now)):
            assert not incident.hangs, f"worker {incident.worker_id} {incident.reason}"
            if incident.worker_id < self._local:
                self.network.processes[incident.worker_id].kill()
        self._check_credit()

    def _save(self) -> None:
        versions = [version for version, _ in self._evaluations]
        pacing, position = self._pacing, self._state.ledger.position
        self._saved = pacing.env_steps, pacing.updates, position, versions

    def _leave(self) -> None:
        """Leaves once the workers have left, or after a time."""
        if not self._state.roster.alive or self.network.now >= self._leaves_at:
            self._state.stop()
            self.network.send(self._state)
            self.network.finished = self.network.over
            self._end(kept=1.0)

    def _end(self, *, kept: float) -> None:
        """It is gone, and of its last messages a share arrives; another one follows."""
        self.journal.close()
        self.network.hang_up(kept)
        self._alive, self._returns_at = False, math.inf
        if not self.network.over:
            self._returns_at = self.network.now + self.chance.choice([0, 1, 15])

    # What may happen to it.

    def crash(self) -> None:
        """It is killed."""
        if self._alive:
            self._end(kept=self.chance.random())

    def tear(self) -> None:
        """It will be killed in the middle of the next write."""
        self._torn = True

    def fill_disk(self) -> None:
        """There is no room for its journal for a time."""
        self._full_until = self.network.now + self.chance.choice([0.1, 2, 10])

    def interrupt(self, *, over: bool = False) -> None:
        """It is told to leave, or the run is over."""
        if self._alive and self._leaves_at == math.inf:
            self._save()
            self._leaves_at, self.network.over = self.network.now + 2, over
            self._state.drain(over=over)

    def write(self, file: int, record: bytes, position: int) -> int:
        """What `os.pwrite` does on its machine."""
        part = record[: self.chance.randint(0, len(record))]
        if self._torn:
            self._pwrite(file, part, position)
            raise Crash
        if self.network.now >= self._full_until:
            return self._pwrite(file, record, position)
        if self.chance.random() < 0.5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._pwrite(file, part[:-1], position)

    # What must hold.

    def _check_credit(self) -> None:
        """No more is granted than is allowed; who was lost for a time may bring more than that."""
        accepted = self._state.ledger.env_steps
        held = accepted + self._state.roster.outstanding
        before, held_before = self._held
        within = max(self._pacing.allowance(), held_before) + accepted - before
        assert held <= within, "too much credit is granted"
        self._held = accepted, held
        places = Counter(
            (session.assignment.evaluation, place)
            for session in self._state.roster
            if session.assignment is not None and not session.withholds
            for place in session.undone
        )
        assert max(places.values(), default=1) == 1, "two workers evaluate the same episode"

    def _check_evaluation(self, version: int, job: EvaluationJob) -> None:
        """Its results are what anybody would come to."""
        environment, actor = Environment(self._environment), make_actor(self._weights(version))
        for seed, result in enumerate(job.results):
            try:
                expected = evaluate_episode(environment, actor, seed)
            except NotFiniteError as error:
                expected = error.result._replace(episode_return=math.nan)
            assert repr(result) == repr(expected), "an evaluation came to something else"

    def _check_journal(self) -> None:
        """Of each session there are the first batches, once, and all that are acknowledged."""
        found: dict[str, list[bytes]] = defaultdict(list)
        for entry in self.journal.entries():
            frames = encode(entry.batch)
            found[entry.batch.session].append(b"".join(bytes(frame) for frame in frames))
        for session, batches in found.items():
            sent = self.network.batches[session]
            assert batches == sent[: len(batches)], "batches are missing, doubled or changed"
        for session, last in self._acknowledged.items():
            assert len(found[session]) >= last, "what was acknowledged is lost"

    # From the beginning to the end.

    def disturb(self) -> None:
        """Lets all sorts of things happen, for a time or until all is done."""
        for _ in range(TURNS):
            self._turn()
            if self._is_done():
                break
            for name, rate in self._rates.items():
                if self.chance.random() < rate:
                    process = self.chance.choice(self.network.processes)
                    getattr(self if hasattr(self, name) else process, name)()

    def finish(self) -> bytes:
        """Lets the run come to its end in peace; returns the transitions of its journal."""
        self.network.calm, self.network.slowness, self.network.fullness = True, 0.0, 0.0
        self._torn, self._full_until = False, 0.0
        self._wait_until(self._is_done, "the run does not come to its end")
        self.interrupt(over=True)
        processes = self.network.processes
        self._wait_until(
            lambda: self.network.finished and not any(each.alive for each in processes),
            "a worker does not leave",
        )
        self._check_journal()
        accepted = [entry.batch.transitions for entry in self.journal.entries()]
        env_steps = sum(each.num_transitions for each in accepted)
        assert env_steps == self._state.ledger.env_steps
        assert env_steps <= self._total + CREDIT * len(processes), "too many stray steps"
        return b"".join(array.tobytes() for each in accepted for array in each)

    def _is_done(self) -> bool:
        at_work = self._alive and self._leaves_at == math.inf
        return at_work and self._pacing.finished() and not self._evaluations

    def _wait_until(self, condition: Callable[[], bool], otherwise: str) -> None:
        last = self.network.now + PEACE_SECONDS
        while not condition():
            assert self.network.now < last, otherwise
            self._turn()


@pytest.fixture
def begin(tmp_path: Path, make_weights: MakeWeights, request: pytest.FixtureRequest) -> Begin:
    """Begins a run; what fails says how to repeat it."""

    @contextmanager
    def begun(seed: int, *, lockstep: bool = False) -> Iterator[Run]:
        with (
            pytest.MonkeyPatch.context() as patch,
            tempfile.NamedTemporaryFile(dir=tmp_path) as journal,
        ):
            patch.setattr(gateway_state, "CREDIT", CREDIT)
            patch.setattr(gateway_credit, "CREDIT", CREDIT)
            patch.setattr(loop, "FLUSH_TRANSITIONS", BATCH)
            run = Run(seed, Path(journal.name), make_weights, lockstep=lockstep)
            patch.setattr(os, "pwrite", run.write)
            try:
                with run.network.installed():
                    yield run
            except BaseException as error:
                error.add_note(f"Seed {seed}: python -m pytest -m '' '{request.node.nodeid}'")
                raise
            finally:
                run.journal.close()

    return begun


def seeds(*default: int, slow: int) -> pytest.MarkDecorator:
    """Seeds of the default suite, which notice a product broken on purpose; the others are slow."""
    rest = [
        pytest.param(each, marks=pytest.mark.slow) for each in range(slow) if each not in default
    ]
    return pytest.mark.parametrize("seed", [*default, *rest])


@seeds(0, 3, 4, 5, 7, slow=250)
def test_whatever_happens_each_step_counts_once_and_the_run_ends(seed: int, begin: Begin) -> None:
    with begin(seed) as run:
        run.disturb()
        run.finish()


@seeds(0, 16, slow=80)
def test_whatever_happens_a_lockstep_run_has_the_same_bytes(seed: int, begin: Begin) -> None:
    with begin(seed, lockstep=True) as run:
        undisturbed = run.finish()
    with begin(seed, lockstep=True) as run:
        run.disturb()
        assert run.finish() == undisturbed
