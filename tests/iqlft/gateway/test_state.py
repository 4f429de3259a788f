import errno
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import msgpack
import numpy as np
import pytest

import iqlft_workers
from iqlft.datasets.value_bounds import Range, ValueBounds
from iqlft.gateway.credit import CREDIT, CREDIT_SECONDS
from iqlft.gateway.evaluation_queue import (
    DEADLINE_SECONDS,
    LEAST_DEADLINE_SECONDS,
    EvaluationQueue,
)
from iqlft.gateway.gateway import Gateway
from iqlft.gateway.ingestion import RETRY_SECONDS, BatchError, check_batch
from iqlft.gateway.journal import Journal
from iqlft.gateway.plausibility import EpisodeLimits, ResultError, check_result
from iqlft.gateway.rate_limit import LINES_SECONDS, MAX_LINES, MAX_SESSIONS, SESSION_SECONDS
from iqlft.gateway.roster import BEGIN_ANEW
from iqlft.gateway.service import Service
from iqlft.gateway.sockets import GatewayError
from iqlft.gateway.state import GatewayState
from iqlft.gateway.watchdog import PATIENCE_SECONDS, Watchdog
from iqlft_workers import messages
from iqlft_workers.actor import ActorWeights
from iqlft_workers.environment import EnvironmentSpec
from iqlft_workers.episode import EpisodeResult
from iqlft_workers.messages import Message
from iqlft_workers.transition import RowLayout
from iqlft_workers.wire import PROTOCOL, decode, encode, unpack_weights

MakeWeights = Callable[..., ActorWeights]
M = TypeVar("M", bound=Message)
LAST_VERSION = 50
"""Updates that the run comes to; the newest weights here are of version 3."""


class Peers:
    """A gateway's state, the clock, and what every connection has been told."""

    def __init__(
        self,
        num_workers: int = 2,
        *,
        lockstep: bool = False,
        local_workers: int = 0,
        bounds: ValueBounds | None = None,
    ) -> None:
        spec, layout = EnvironmentSpec("Pendulum-v1"), RowLayout(2, 1)
        service = Service(
            spec, layout, "run", 0, num_workers, local_workers, lockstep, LAST_VERSION, bounds
        )  # fmt: skip
        self.state = GatewayState(service, 5556, keyed=local_workers > 0)
        self.now = 100.0
        self.told: list[tuple[bytes, Message]] = []

    def say(self, route: bytes, message: Message) -> None:
        self.state.receive(route, encode(message), self.now)
        self.tick()

    def tick(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.state.tick(self.now)
        self.told += [(route, decode(frames)) for route, frames in self.state.outbox]
        self.state.outbox.clear()

    def heard(self, route: bytes, kind: type[M]) -> list[M]:
        """What a connection was told, of one type, since the last question."""
        found = [m for r, m in self.told if r == route and isinstance(m, kind)]
        self.told = [(r, m) for r, m in self.told if not (r == route and isinstance(m, kind))]
        return found

    def join(self, route: bytes, worker_id: int | None = None) -> messages.Welcome:
        """HELLO and READY; the session is named as the route."""
        session = route.decode()
        self.say(route, messages.Hello(worker_id, session, iqlft_workers.__version__))
        (welcome,) = self.heard(route, messages.Welcome)
        self.say(route, messages.Ready(session, 2, 1, "", ""))
        self.read(route)
        return welcome

    def read(self, route: bytes) -> None:
        """Answers the PINGs, and so has read all that came before them."""
        for ping in self.heard(route, messages.Ping):
            self.say(route, messages.Pong(ping.number, 0))


@pytest.fixture
def peers(make_weights: MakeWeights) -> Peers:
    peers = Peers()
    peers.state.publish(make_weights(2, 1, version=3))
    return peers


def batch(session: str, sequence: int, count: int = 4, **changes: object) -> messages.Batch:
    parts = {
        "observations": np.zeros((count, 2), np.float32),
        "actions": np.zeros((count, 1), np.float32),
        "rewards": np.full(count, sequence, np.float32),
        "next_observations": np.zeros((count, 2), np.float32),
        "terminated": np.zeros(count, np.bool_),
        "truncated": np.zeros(count, np.bool_),
        "versions": np.full(count, 3, np.uint32),
        "finished": None,
        "episode": 0,
        "stepping_seconds": 0.1,
    }
    return messages.Batch(session=session, sequence=sequence, **(parts | changes))  # type: ignore[arg-type]


def rewards(peers: Peers) -> list[float]:
    """First reward of each batch delivered: its sequence."""
    return [float(part.rewards[0]) for part in peers.state.ledger.deliver(2**31)]


def test_each_batch_is_accepted_once_and_in_order(peers: Peers) -> None:
    peers.state.allow(10_000)
    peers.join(b"a")
    peers.heard(b"a", messages.Ack)
    for sequence in (1, 2, 1, 2):
        peers.say(b"a", batch("a", sequence))
    assert [ack.sequence for ack in peers.heard(b"a", messages.Ack)] == [1, 2, 2, 2]
    assert rewards(peers) == [1, 2]
    assert peers.state.ledger.env_steps == 8


def test_a_gap_or_another_session_asks_for_hello(peers: Peers) -> None:
    peers.join(b"a")
    peers.say(b"a", batch("a", 2))
    peers.say(b"a", batch("b", 1))
    peers.say(b"nobody", batch("nobody", 1))
    assert len(peers.heard(b"a", messages.Rehello)) == 2
    assert len(peers.heard(b"nobody", messages.Rehello)) == 1
    assert rewards(peers) == []


def test_a_newcomer_gets_an_id_that_nobody_will_come_back_for() -> None:
    peers = Peers(num_workers=3)
    assert [peers.join(route).worker_id for route in (b"a", b"b")] == [0, 1]
    peers.state.unreachable(b"a")
    assert peers.join(b"c").worker_id == 2
    peers.tick(1.0)
    peers.say(b"b", messages.Bye())
    assert peers.join(b"d").worker_id == 1
    # With none else it is that of the one that is cut off.
    assert peers.join(b"e").worker_id == 0


def test_a_newcomer_leaves_those_of_the_last_learner_their_ids(
    journal: Journal, tmp_path: Path
) -> None:
    for worker_id, session in enumerate(("a", "b")):
        journal.append(worker_id, encode(batch(session, 1)))
    again = Journal(tmp_path / "journal", journal.length)
    peers = Peers(num_workers=4)
    peers.state.recover(again)
    assert [peers.join(route).worker_id for route in (b"x", b"y")] == [2, 3]
    peers.say(b"x", messages.Bye())
    peers.state.unreachable(b"y")
    # Not that of y, which is cut off, nor those of a and b, which may be on their way.
    assert peers.join(b"z").worker_id == 2
    again.close()


def test_a_session_whose_id_was_anothers_in_between_is_begun_anew(
    make_weights: MakeWeights,
) -> None:
    # Its first batch was accepted, but the ACK was lost: continued from 0 it would come twice.
    peers = Peers(num_workers=1)
    peers.state.publish(make_weights(2, 1, version=3))
    peers.state.allow(10_000)
    peers.join(b"a")
    peers.say(b"a", batch("a", 1))
    assert peers.state.ledger.env_steps == 4
    peers.state.unreachable(b"a")
    peers.join(b"b")
    peers.say(b"b", messages.Bye())
    peers.tick(SESSION_SECONDS)
    assert peers.join(b"a").last_sequence == BEGIN_ANEW
    peers.say(b"a", batch("a", 1))
    assert peers.state.ledger.env_steps == 4


def test_after_a_resume_too_a_session_whose_id_was_anothers_is_begun_anew(
    journal: Journal, tmp_path: Path
) -> None:
    for session in ("a", "b"):
        journal.append(0, encode(batch(session, 1)))
    again = Journal(tmp_path / "journal", journal.length)
    peers = Peers()
    peers.state.recover(again, 8)
    peers.state.allow(10_000)
    assert peers.join(b"a").last_sequence == BEGIN_ANEW
    peers.say(b"a", batch("a", 1))
    assert peers.state.ledger.env_steps == 8
    again.close()


def test_a_session_that_comes_back_over_another_connection_continues(peers: Peers) -> None:
    peers.state.allow(10_000)
    peers.join(b"a")
    peers.say(b"a", batch("a", 1))
    peers.say(b"other", messages.Hello(0, "a", iqlft_workers.__version__))
    (welcome,) = peers.heard(b"other", messages.Welcome)
    assert (welcome.last_sequence, welcome.worker_id) == (1, 0)
    peers.say(b"other", messages.Ready("a", 2, 1, "", ""))
    peers.say(b"other", batch("a", 2))
    assert rewards(peers) == [1, 2]
    peers.say(b"a", batch("a", 3))
    assert len(peers.heard(b"a", messages.Rehello)) == 1


INVALID = {
    "rewards": np.array([1, np.nan, 1, 1], np.float32),
    "observations": np.full((4, 2), np.inf, np.float32),
    "next_observations": np.zeros((4, 3), np.float32),
    "actions": np.full((4, 1), 1.01, np.float32),
    "versions": np.full(4, 4, np.uint32),
    "terminated": np.zeros(3, np.bool_),
}


@pytest.mark.parametrize("name", INVALID)
def test_what_must_not_reach_the_replay_is_rejected_on_admission(peers: Peers, name: str) -> None:
    peers.join(b"a")
    peers.say(b"a", batch("a", 1, **{name: INVALID[name]}))
    (reject,) = peers.heard(b"a", messages.Reject)
    assert reject.code == "BATCH"
    assert (peers.state.failed.total, peers.state.departures.total) == (0, 1)
    sentence = "Worker 0 was sent away: The learner cannot use this batch: "
    assert peers.state.departures.sentence.startswith(sentence)
    assert peers.state.status(peers.now + 60)[0].seconds_since_message == 0  # It is not silent.
    assert rewards(peers) == []
    assert peers.state.ledger.env_steps == 0


@pytest.mark.parametrize("name", ["observations", "next_observations", "rewards"])
def test_a_batch_with_values_far_outside_of_the_dataset_is_refused_counted_and_not_recorded(
    name: str, journal: Journal, make_weights: MakeWeights
) -> None:
    peers = Peers(bounds=ValueBounds(Range(-10, 10), Range(-3, 3)))
    peers.state.publish(make_weights(2, 1, version=3))
    peers.state.recover(journal)
    peers.state.allow(10**6)
    peers.join(b"a")
    peers.say(b"a", batch("a", 1))
    values = getattr(batch("a", 2, episode=7), name) + np.float32(1e30)
    peers.say(b"a", batch("a", 2, episode=7, **{name: values}))
    (reject,) = peers.heard(b"a", messages.Reject)
    assert reject.code == "BATCH"
    assert f"The {name} hold 1e+30, far outside of the dataset's range" in reject.sentence
    count, sentence, _ = peers.state.ingestion.refused
    assert count == 1
    assert sentence.startswith("Batch 2 of worker 0, of its episode 7, is refused")
    assert [entry.batch.sequence for entry in journal.entries()] == [1]
    assert peers.state.ledger.env_steps == 4
    # Without bounds any finite number is a number.
    check_batch(batch("a", 2, **{name: values}), RowLayout(2, 1), newest_version=3)


def test_a_batch_has_1_to_1024_transitions() -> None:
    check_batch(batch("a", 1, 1024), RowLayout(2, 1), newest_version=3)
    for count in (0, 1025):
        with pytest.raises(BatchError, match=f"1 to 1024 transitions, not {count}"):
            check_batch(batch("a", 1, count), RowLayout(2, 1), newest_version=3)


def test_no_session_brings_more_than_the_run_has_room_for(peers: Peers) -> None:
    peers.state.allow(500)
    for number in range(10):
        route = b"%d" % number
        peers.join(route, 0)
        peers.say(route, batch(route.decode(), 1, 128))
        peers.state.unreachable(route)
    assert peers.state.ledger.env_steps == 384


def test_a_batch_that_another_learner_gave_credit_for_waits_until_there_is_room(
    peers: Peers,
) -> None:
    peers.join(b"a")
    peers.say(b"a", batch("a", 1, 128))
    peers.tick(1.0)
    assert rewards(peers) == []
    assert peers.heard(b"a", messages.Rehello) == []
    peers.state.allow(128)
    peers.tick(1.0)
    assert len(peers.heard(b"a", messages.Rehello)) == 1
    peers.join(b"a")
    peers.say(b"a", batch("a", 1, 128))
    assert rewards(peers) == [1]


def test_who_waits_with_steps_of_another_learner_is_served_before_more_is_granted(
    peers: Peers,
) -> None:
    peers.state.allow(200)
    peers.join(b"b")
    peers.tick(0.1)
    assert peers.heard(b"b", messages.Ack)[-1].credit == 200
    peers.join(b"a")
    peers.say(b"a", batch("a", 1, 128))
    for sequence in (1, 2, 3):
        assert peers.heard(b"a", messages.Rehello) == []
        peers.say(b"b", batch("b", sequence, 50))
        peers.state.allow(200 + 50 * sequence)
        peers.tick(0.1)
    assert len(peers.heard(b"a", messages.Rehello)) == 1
    peers.join(b"a")
    peers.say(b"a", batch("a", 1, 128))
    assert peers.state.ledger.env_steps == 150 + 128


def test_a_worker_that_steps_beyond_all_credit_is_sent_away(peers: Peers) -> None:
    peers.state.allow(10**6)
    peers.join(b"a")
    peers.tick(1.0)
    assert peers.heard(b"a", messages.Ack)[-1].credit == CREDIT
    for sequence in (1, 2, 3):
        peers.state.receive(b"a", encode(batch("a", sequence, CREDIT)), peers.now)
    peers.tick()
    (reject,) = peers.heard(b"a", messages.Reject)
    assert "beyond the worker's credit" in reject.sentence
    assert peers.state.ledger.env_steps == 2 * CREDIT


def answer_pings(peers: Peers, *routes: bytes) -> None:
    for route in routes:
        for ping in peers.heard(route, messages.Ping):
            peers.say(route, messages.Pong(ping.number, int(peers.now)))


def test_credit_that_is_not_used_goes_to_those_who_use_it(peers: Peers) -> None:
    """A peer that answers and never steps, under ever new sessions, holds the others up once."""
    peers.join(b"idle", 0)
    peers.state.allow(100)
    peers.tick(1.0)
    assert peers.heard(b"idle", messages.Ack)[-1].credit == 100
    peers.join(b"honest", 1)
    credit = used = sequence = 0
    idle, waited = b"idle", 0
    for second in range(60):
        peers.tick(1.0)
        answer_pings(peers, idle, b"honest")
        credit = max([credit, *(ack.credit for ack in peers.heard(b"honest", messages.Ack))])
        waited = 0 if credit > used else waited + 1
        assert waited <= CREDIT_SECONDS + 1
        if credit > used:
            sequence += 1
            peers.say(b"honest", batch("honest", sequence, credit - used))
            used = credit
            peers.state.allow(100 + used)
        if second % 7 == 6:
            peers.state.unreachable(idle)
            idle = b"idle %d" % second
            peers.join(idle, 0)
    assert used > 4000


def test_a_worker_whose_credit_expired_has_all_of_it_again_after_a_few_batches(
    peers: Peers,
) -> None:
    peers.state.allow(10**6)
    peers.join(b"a")
    for _ in range(2 * int(CREDIT_SECONDS)):
        peers.tick(1.0)
        answer_pings(peers, b"a")
    # It has been told of so much, and may use it.
    peers.say(b"a", batch("a", 1, CREDIT))
    for sequence in range(2, 12):
        peers.tick(0.1)
        credit = peers.heard(b"a", messages.Ack)[-1].credit
        accepted = peers.state.ledger.env_steps
        if credit - accepted == CREDIT:
            break
        peers.say(b"a", batch("a", sequence, credit - accepted))
    assert credit - accepted == CREDIT


def test_a_learner_that_leaves_lets_nobody_join(peers: Peers) -> None:
    peers.state.allow(10**6)
    peers.join(b"a")
    peers.tick(1.0)
    peers.state.drain(over=False)
    for route in (b"a", b"newcomer"):
        peers.say(route, messages.Hello(None, route.decode(), iqlft_workers.__version__))
        (reject,) = peers.heard(route, messages.Reject)
        assert reject.code == "LATER"
        assert not peers.heard(route, messages.Welcome)
    # The one that was at work still has its batches taken in, and nobody is sent home.
    peers.say(b"a", batch("a", 1))
    assert rewards(peers) == [1]
    peers.state.stop()
    peers.tick()
    assert not peers.heard(b"a", messages.Stop)


def test_a_learner_whose_run_is_over_sends_newcomers_home(peers: Peers) -> None:
    peers.join(b"a")
    peers.state.drain(over=True)
    peers.say(b"newcomer", messages.Hello(None, "newcomer", iqlft_workers.__version__))
    assert peers.heard(b"newcomer", messages.Stop)
    peers.state.stop()
    peers.tick()
    assert peers.heard(b"a", messages.Stop)


def test_a_goodbye_is_confirmed_and_drained_workers_get_no_credit(peers: Peers) -> None:
    peers.join(b"a")
    peers.state.allow(100)
    peers.tick(1.0)
    assert peers.heard(b"a", messages.Ack)[-1].credit == 100
    peers.state.drain(over=True)
    peers.say(b"a", batch("a", 1))
    assert peers.heard(b"a", messages.Drain) == [messages.Drain(over=True)]
    assert peers.heard(b"a", messages.Ack)[-1].sequence == 1
    peers.say(b"a", messages.Bye())
    assert peers.heard(b"a", messages.ByeOk)
    assert not peers.state.roster.alive
    assert rewards(peers) == [1]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal")
    yield journal
    journal.close()


def test_a_batch_is_in_the_journal_before_it_is_acknowledged(
    peers: Peers, journal: Journal
) -> None:
    peers.state.allow(10_000)
    peers.state.recover(journal)
    peers.join(b"a")
    peers.heard(b"a", messages.Ack)
    peers.state.receive(b"a", encode(batch("a", 1)), peers.now)
    assert [(e.worker_id, e.batch.sequence) for e in journal.entries()] == [(0, 1)]
    assert not peers.heard(b"a", messages.Ack)
    peers.tick()
    assert peers.heard(b"a", messages.Ack)[0].sequence == 1


def test_a_full_disk_stops_the_acknowledgements_and_nothing_is_lost_when_there_is_room_again(
    peers: Peers, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers.state.allow(10_000)
    peers.state.recover(journal)
    peers.join(b"a")
    peers.say(b"a", batch("a", 1))
    peers.heard(b"a", messages.Ack)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        for sequence in (2, 3):
            peers.say(b"a", batch("a", sequence))
        assert peers.state.ingestion.journal_error == "No space left on device"
        assert not peers.heard(b"a", messages.Ack)
        assert not peers.heard(b"a", messages.Rehello)
        peers.tick(RETRY_SECONDS)
        assert len(peers.heard(b"a", messages.Rehello)) == 1
    for sequence in (2, 3):
        peers.say(b"a", batch("a", sequence))
    assert peers.state.ingestion.journal_error == ""
    assert peers.heard(b"a", messages.Ack)[-1].sequence == 3
    assert rewards(peers) == [1, 2, 3]
    assert [entry.batch.sequence for entry in journal.entries()] == [1, 2, 3]


def test_an_episode_that_is_left_counts_once_however_often_it_is_said(peers: Peers) -> None:
    peers.join(b"a")
    result = EpisodeResult(0, 1.0, 3, None, (), (), -1)
    for _ in range(3):
        peers.say(b"a", messages.Discarded(0, 0, 2, result, "A reward is nan.", 0))
    discarded = peers.state.ingestion.discarded
    assert (discarded.total, discarded.steps) == (1, 2)
    peers.say(b"a", messages.Discarded(0, 1, 5, result, "A reward is nan.", 0))
    discarded = peers.state.ingestion.discarded
    assert (discarded.total, discarded.steps) == (2, 7)


def accepted(journal: Journal, counts: Sequence[int]) -> None:
    """Lets a learner that is gone afterwards accept batches of session `a`."""
    for sequence, count in enumerate(counts, 1):
        versions = np.full(count, 9, np.uint32)
        journal.append(0, encode(batch("a", sequence, count, versions=versions)))


def test_a_learner_that_is_started_again_knows_its_sessions_and_delivers_what_came_late(
    peers: Peers, journal: Journal, tmp_path: Path
) -> None:
    accepted(journal, [4, 4])
    position = journal.length
    journal.append(0, encode(batch("a", 3)))
    journal.append(0, encode(batch("a", 4)))
    again = Journal(tmp_path / "journal", position)
    peers.state.recover(again)
    ledger = peers.state.ledger
    assert (ledger.env_steps, ledger.delivered, ledger.position) == (16, 8, position)
    assert not peers.state.waiting  # The learner has not said how far it is.
    peers.state.allow(9)
    assert [part.rewards[0] for part in peers.state.deliver()] == [3]
    assert not peers.state.waiting
    peers.state.allow(13)
    assert [part.rewards[0] for part in peers.state.deliver()] == [4]
    assert ledger.position == again.length
    peers.say(b"new", messages.Hello(None, "a", iqlft_workers.__version__))
    (welcome,) = peers.heard(b"new", messages.Welcome)
    assert (welcome.last_sequence, welcome.worker_id) == (4, 0)
    peers.say(b"new", messages.Ready("a", 2, 1, "", ""))
    # Steps beyond the new credit, by weights of the learner that is gone.
    peers.say(b"new", batch("a", 5, versions=np.full(4, LAST_VERSION, np.uint32)))
    assert rewards(peers) == [5]
    assert peers.heard(b"new", messages.Ack)[-1].sequence == 5
    peers.state.allow(20)
    peers.tick(1.0)
    assert not peers.heard(b"new", messages.Ack)
    peers.state.allow(21)
    peers.tick(1.0)
    assert peers.heard(b"new", messages.Ack)[-1].credit == 21
    again.close()


@pytest.mark.parametrize("worker_id", [0, 1])
def test_a_worker_that_joined_just_before_its_learner_was_gone_goes_on(
    worker_id: int, peers: Peers, journal: Journal, tmp_path: Path
) -> None:
    accepted(journal, [4])  # Of an earlier session of worker 0.
    again = Journal(tmp_path / "journal", journal.length)
    peers.state.recover(again)
    peers.state.allow(4)
    assert peers.join(b"b", worker_id).worker_id == worker_id
    # By credit and weights of the learner that is gone, which has recorded nothing of it.
    for sequence in (1, 2, 3):
        ahead = np.full(4, LAST_VERSION, np.uint32)
        peers.say(b"b", batch("b", sequence, versions=ahead))
    assert not peers.heard(b"b", messages.Reject)
    assert not peers.heard(b"b", messages.Rehello)
    assert peers.heard(b"b", messages.Ack)[-1].sequence == 3
    again.close()


def test_a_worker_whose_batches_have_no_room_is_not_asked_for_them_at_each(
    peers: Peers, journal: Journal, tmp_path: Path
) -> None:
    accepted(journal, [4])
    again = Journal(tmp_path / "journal", journal.length)
    peers.state.recover(again)
    peers.say(b"a", messages.Hello(None, "a", iqlft_workers.__version__))
    peers.say(b"a", messages.Ready("a", 2, 1, "", ""))
    count = CREDIT // 2
    for sequence in range(2, 6):
        peers.say(b"a", batch("a", sequence, count))
    assert peers.heard(b"a", messages.Ack)[-1].sequence == 3
    assert not peers.heard(b"a", messages.Rehello)
    peers.state.allow(10 * CREDIT)
    peers.tick(1.0)
    assert len(peers.heard(b"a", messages.Rehello)) == 1
    again.close()


def damaged(journal: Journal, path: Path, sequence: int, *, head: bool = False) -> None:
    """Damages a batch's content, and its head too where nothing of it is to be known."""
    entry = next(each for each in journal.entries() if each.batch.sequence == sequence)
    with path.open("r+b") as file:
        file.seek(entry.end - 20)
        file.write(b"!")
        if head:
            file.seek(entry.begin)
            file.write(b"!" * 100)


@pytest.mark.parametrize("lost", [1, 3, 4])
def test_a_learner_that_goes_on_without_a_lost_batch_neither_asks_for_it_nor_counts_wrong(
    lost: int, peers: Peers, journal: Journal, tmp_path: Path
) -> None:
    accepted(journal, [4, 4])
    position = journal.length
    for sequence in (3, 4):
        journal.append(0, encode(batch("a", sequence)))
    damaged(journal, tmp_path / "journal", lost)
    again = Journal(tmp_path / "journal", position, accept_loss=True)
    assert f"batch {lost} of worker 0 in its episode 0, 4 steps" in again.loss
    peers.state.recover(again, env_steps=8)
    # The learner had learned from the first two; what came later and is lost is stepped again.
    ledger, late = peers.state.ledger, [each for each in (3, 4) if each != lost]
    assert (ledger.delivered, ledger.env_steps, ledger.position) == (8, 8 + 4 * len(late), position)
    assert rewards(peers) == late
    peers.say(b"new", messages.Hello(None, "a", iqlft_workers.__version__))
    (welcome,) = peers.heard(b"new", messages.Welcome)
    assert (welcome.last_sequence, welcome.worker_id) == (4, 0)
    peers.say(b"new", messages.Ready("a", 2, 1, "", ""))
    peers.say(b"new", batch("a", 4))
    peers.say(b"new", batch("a", 5))
    assert rewards(peers) == [5]
    peers.state.allow(ledger.env_steps + 7)
    peers.tick(1.0)
    # 20 steps were taken in the session, whatever the learner still has of them.
    assert peers.heard(b"new", messages.Ack)[-1].credit == 27
    again.close()


def test_a_session_of_which_nobody_knows_how_far_it_is_is_begun_anew(
    peers: Peers, journal: Journal, tmp_path: Path
) -> None:
    accepted(journal, [4, 4, 4])
    damaged(journal, tmp_path / "journal", 2, head=True)
    again = Journal(tmp_path / "journal", accept_loss=True)
    assert "batches 2 to 2 of a session of worker 0" in again.loss
    peers.state.recover(again, env_steps=0)
    assert rewards(peers) == [1, 3]
    peers.say(b"new", messages.Hello(0, "a", iqlft_workers.__version__))
    (welcome,) = peers.heard(b"new", messages.Welcome)
    # By this its worker sees that it is not known any more, and begins another session.
    assert welcome.last_sequence == BEGIN_ANEW
    again.close()


def test_in_lockstep_an_episode_of_which_a_step_is_lost_is_left(
    journal: Journal, tmp_path: Path
) -> None:
    accepted(journal, [1, 1, 1, 1])
    damaged(journal, tmp_path / "journal", 2)
    again = Journal(tmp_path / "journal", accept_loss=True)
    peers = Peers(1, lockstep=True)
    peers.state.recover(again, env_steps=0)
    progress = peers.state.ledger.progress(0)
    assert (progress.env_steps, progress.episode, len(progress.actions)) == (3, 1, 0)
    again.close()


def test_damaged_frames_are_dropped_and_the_worker_goes_on(peers: Peers) -> None:
    peers.state.allow(10_000)
    peers.join(b"a")
    for frames in ([b""], [b"\x94\x01\xa3BYE"], [b"x"] * 11, []):
        peers.state.receive(b"a", frames, peers.now)
    peers.say(b"a", batch("a", 1))
    assert rewards(peers) == [1]


def test_credit_is_shared_and_never_exceeds_what_is_allowed(peers: Peers) -> None:
    for route in (b"a", b"b"):
        peers.join(route)
    peers.state.allow(101)
    peers.tick(1.0)
    granted = [peers.heard(route, messages.Ack)[-1].credit for route in (b"a", b"b")]
    assert sorted(granted) == [50, 51]
    # Steps taken elsewhere do not give credit twice.
    peers.say(b"a", batch("a", 1, 40))
    peers.tick(1.0)
    assert peers.heard(b"a", messages.Ack)[-1].credit == granted[0]


def test_a_worker_is_at_most_its_window_ahead_and_gets_more_when_half_of_it_is_used(
    peers: Peers,
) -> None:
    peers.join(b"a")
    peers.state.allow(1_000_000)
    peers.tick(1.0)
    assert peers.heard(b"a", messages.Ack)[-1].credit == CREDIT
    for sequence, count, credit in (
        (1, CREDIT // 2 - 1, CREDIT), (2, 1, CREDIT + CREDIT // 2), (3, 1, CREDIT + CREDIT // 2),
    ):  # fmt: skip
        peers.say(b"a", batch("a", sequence, count))
        assert peers.heard(b"a", messages.Ack)[-1].credit == credit


def test_the_credit_of_a_lost_worker_goes_to_the_others(peers: Peers) -> None:
    peers.join(b"a")
    peers.state.allow(100)
    peers.tick(1.0)
    peers.join(b"b")
    assert peers.heard(b"b", messages.Ack)[-1].credit == 0
    peers.state.unreachable(b"a")
    peers.tick(1.0)
    assert peers.heard(b"b", messages.Ack)[-1].credit == 100


def test_many_small_allowances_become_few_messages(peers: Peers) -> None:
    peers.join(b"a")
    peers.heard(b"a", messages.Ack)
    wakes = 0
    for env_steps in range(1000):
        wakes += peers.state.allow(env_steps)
        peers.tick(0.0001)
    assert len(peers.heard(b"a", messages.Ack)) <= 7
    assert wakes <= 7


def test_a_silent_worker_is_asked_and_then_lost(peers: Peers) -> None:
    peers.join(b"a")
    peers.tick(1.5)
    (ping,) = peers.heard(b"a", messages.Ping)
    peers.say(b"a", messages.Pong(ping.number, 0))
    for _ in range(int(PATIENCE_SECONDS) - 1):
        peers.tick(1.0)
    assert peers.state.status(peers.now)[0].alive
    peers.tick(1.5)
    assert not peers.state.status(peers.now)[0].alive


def test_a_learner_that_is_started_again_counts_no_silence_from_before_it_began(
    peers: Peers, journal: Journal
) -> None:
    accepted(journal, [4])
    peers.state.recover(journal)
    peers.now += 7000.0
    (status,) = peers.state.status(peers.now)
    assert (status.state, status.seconds_since_message) == ("lost", 0.0)
    assert Watchdog().check([status]) == []
    peers.join(b"a", 0)
    peers.state.unreachable(b"a")
    (incident,) = Watchdog().check(peers.state.status(peers.now + 20.0))
    assert (incident.reason, incident.seconds) == ("has been silent for 20 s", 20.0)


def test_a_worker_that_answers_without_stepping_makes_no_progress(peers: Peers) -> None:
    peers.join(b"a")
    peers.state.allow(100)
    for steps in (0, 5, 5, 5):
        peers.tick(2.0)
        (ping,) = peers.heard(b"a", messages.Ping)
        peers.say(b"a", messages.Pong(ping.number, steps))
    (status,) = peers.state.status(peers.now)
    assert (status.state, status.seconds_without_progress) == ("stepping", 4.0)


def test_a_workers_speed_is_of_its_stepping_alone(peers: Peers) -> None:
    peers.state.allow(10_000)
    peers.join(b"a")
    for sequence in range(1, 9):
        peers.say(b"a", batch("a", sequence, 64, stepping_seconds=0.02))
        peers.tick(1.0)  # It waits.
    (status,) = peers.state.status(peers.now)
    assert status.speed == pytest.approx(64 / 0.02)
    assert status.steps_per_second < 100


def test_an_id_that_answers_is_taken_and_one_that_does_not_is_free(peers: Peers) -> None:
    peers.state.allow(10_000)
    peers.join(b"a", 0)
    hello = messages.Hello(0, "b", iqlft_workers.__version__)
    peers.say(b"b", hello)
    assert not peers.heard(b"b", messages.Reject)
    (ping,) = peers.heard(b"a", messages.Ping)
    # What was under way before the question is no answer to it.
    peers.say(b"a", batch("a", 1))
    peers.say(b"a", messages.Pong(ping.number - 1, 4))
    peers.say(b"b", hello)
    assert not peers.heard(b"b", messages.Reject)
    peers.say(b"a", messages.Pong(ping.number, 4))
    peers.say(b"b", hello)
    assert peers.heard(b"b", messages.Reject)[0].code == "DUPLICATE"
    peers.say(b"b", hello)
    peers.state.unreachable(b"a")
    peers.say(b"b", hello)
    # Episode 0 has begun, so it is not begun again.
    assert peers.heard(b"b", messages.Welcome)[0].episode == 1


def test_who_begins_sessions_all_the_time_is_kept_waiting_and_others_are_not(
    peers: Peers,
) -> None:
    began = []
    for number in range(300):
        route = b"%d" % number
        peers.say(route, messages.Hello(0, route.decode(), iqlft_workers.__version__))
        began += peers.heard(route, messages.Welcome)
        peers.state.unreachable(route)
        peers.tick(0.1)
    assert len(began) == pytest.approx(MAX_SESSIONS + 30 / SESSION_SECONDS, abs=1)
    peers.join(b"other", 1)
    peers.tick(SESSION_SECONDS)
    peers.join(b"again", 0)


def test_another_package_version_is_rejected(peers: Peers) -> None:
    peers.say(b"a", messages.Hello(None, "a", "9.9.9"))
    (reject,) = peers.heard(b"a", messages.Reject)
    assert reject.code == "VERSION"
    assert "9.9.9" in reject.sentence


@pytest.mark.parametrize("worker_id", [-1, 2])
def test_an_id_that_is_not_served_is_rejected(peers: Peers, worker_id: int) -> None:
    peers.say(b"a", messages.Hello(worker_id, "a", iqlft_workers.__version__))
    assert peers.heard(b"a", messages.Reject)[0].code == "FULL"


def test_the_ids_of_local_workers_are_given_to_nobody_else_and_wait_for_them() -> None:
    peers = Peers(3, local_workers=2)
    assert peers.join(b"early").worker_id == 2
    for worker_id in (0, 1):
        peers.say(b"late", messages.Hello(worker_id, "late", iqlft_workers.__version__))
        (reject,) = peers.heard(b"late", messages.Reject)
        assert reject.code == "RESERVED"
        assert "without --worker-id, or with one from 2 on" in reject.sentence
    local = encode(messages.Hello(1, "local", iqlft_workers.__version__))
    peers.state.receive(b"local", local, peers.now, 1)
    peers.tick()
    assert peers.heard(b"local", messages.Welcome)[0].worker_id == 1


def test_where_all_places_are_the_learners_own_a_foreign_worker_is_told_what_to_do() -> None:
    peers = Peers(2, local_workers=2)
    peers.say(b"a", messages.Hello(None, "a", iqlft_workers.__version__))
    (reject,) = peers.heard(b"a", messages.Reject)
    assert "2 workers, of which 2 are its own" in reject.sentence
    assert "--remote-workers" in reject.sentence


def test_nobody_else_comes_back_with_the_session_of_a_reserved_id(journal: Journal) -> None:
    """As after a resume with more local workers."""
    accepted(journal, [4])
    peers = Peers(2, local_workers=1)
    peers.state.recover(journal)
    peers.say(b"a", messages.Hello(None, "a", iqlft_workers.__version__))
    assert peers.heard(b"a", messages.Reject)[0].code == "RESERVED"


def result(seed: int) -> EpisodeResult:
    return EpisodeResult(seed, 0.0, 1, False, (), (), -1)


def test_evaluation_episodes_are_dealt_in_portions_that_shrink_and_dealt_again_after_a_loss(
    peers: Peers, make_weights: MakeWeights
) -> None:
    for route in (b"a", b"b"):
        peers.join(route)
    job = peers.state.evaluate(make_weights(2, 1), range(20))
    peers.tick()
    (first,), (second,) = peers.heard(b"a", messages.Evaluate), peers.heard(b"b", messages.Evaluate)
    assert first.indices == (0, 1, 2, 3)
    assert second.indices == (4, 5, 6, 7)
    peers.say(b"a", messages.Evaluation(1, 0, result(0)))
    peers.state.unreachable(b"a")
    dealt = []
    for _ in range(20):
        peers.read(b"b")
        for index in second.indices:
            peers.say(b"b", messages.Evaluation(1, index, result(index)))
        dealt.append(second.indices)
        if job.episodes_done == 20:
            break
        (second,) = peers.heard(b"b", messages.Evaluate)
    assert dealt[1] == (1, 2, 3, 8)
    assert len(dealt[-1]) == 1
    assert [r.seed for r in job.results if r] == list(range(20))


def test_results_of_an_unknown_evaluation_or_episode_are_ignored(
    peers: Peers, make_weights: MakeWeights
) -> None:
    peers.join(b"a")
    job = peers.state.evaluate(make_weights(2, 1), [5])
    peers.tick()
    for number, index in ((2, 0), (1, 1), (1, -1)):
        peers.say(b"a", messages.Evaluation(number, index, result(9)))
    assert job.results == [None]


def test_an_evaluation_is_taken_from_whom_it_was_assigned_to_and_once(
    peers: Peers, make_weights: MakeWeights
) -> None:
    peers.join(b"a")
    job = peers.state.evaluate(make_weights(2, 1), [5])
    peers.tick()
    mine, wonder = result(5), result(5)._replace(episode_return=1e6)
    peers.say(b"b", messages.Hello(None, "b", iqlft_workers.__version__))
    peers.say(b"b", messages.Evaluation(1, 0, wonder))  # Before READY.
    peers.say(b"b", messages.Ready("b", 2, 1, "", ""))
    peers.say(b"b", messages.Evaluation(1, 0, wonder))
    assert job.results == [None]
    peers.say(b"a", messages.Evaluation(1, 0, mine))
    peers.say(b"a", messages.Evaluation(1, 0, wonder))
    assert job.results == [mine]


IMPOSSIBLE: dict[str, dict[str, object]] = {
    "another seed": {"seed": 6},
    "a return that is not finite": {"episode_return": float("nan")},
    "a place that is not finite": {"end": (0.0, float("inf"))},
    "a place of many values": {"end": (0.0, 0.0, 0.0)},
    "more steps than the time limit": {"length": 201},
    "no step": {"length": 0},
    "a success without a step": {"success": True},
    "a step without a success": {"first_hit": 1},
    "a success after the end": {"success": True, "first_hit": 2},
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_result_that_cannot_be_is_refused_and_the_episode_goes_to_another(
    peers: Peers, make_weights: MakeWeights, name: str
) -> None:
    peers.join(b"a")
    job = peers.state.evaluate(make_weights(2, 1), [5])
    peers.tick()
    peers.join(b"b")
    peers.say(b"a", messages.Evaluation(1, 0, result(5)._replace(**IMPOSSIBLE[name])))  # type: ignore[arg-type]
    (reject,) = peers.heard(b"a", messages.Reject)
    assert reject.code == "EVALUATION"
    peers.join(b"a")
    peers.say(b"b", messages.Evaluation(1, 0, result(5)))
    assert job.results == [result(5)]


def test_a_withheld_episode_is_assigned_to_another_and_its_holder_gets_no_more(
    peers: Peers, make_weights: MakeWeights
) -> None:
    for route in (b"a", b"b"):
        peers.join(route)
    job = peers.state.evaluate(make_weights(2, 1), range(8))
    peers.tick()
    (kept,) = peers.heard(b"a", messages.Evaluate)
    began = peers.now
    while job.episodes_done < 8:
        for request in peers.heard(b"b", messages.Evaluate):
            for place in request.indices:
                peers.tick(0.5)
                peers.say(b"b", messages.Evaluation(1, place, result(place)))
        peers.tick(1.0)
        answer_pings(peers, b"a", b"b")
        assert peers.now < began + 30, "the whole run stands still"
    assert peers.heard(b"a", messages.Evaluate) == []
    # What it brings late is heard, and it may work again.
    for place in kept.indices:
        peers.say(b"a", messages.Evaluation(1, place, result(place)))
    peers.state.evaluate(make_weights(2, 1), range(8))
    peers.tick()
    assert len(peers.heard(b"a", messages.Evaluate)) == 1


def test_a_slow_worker_that_is_alone_is_waited_for(peers: Peers, make_weights: MakeWeights) -> None:
    peers.join(b"a")
    job = peers.state.evaluate(make_weights(2, 1), [5])
    for _ in range(100):
        peers.tick(1.0)
        answer_pings(peers, b"a")
    peers.join(b"b")
    assert len(peers.heard(b"b", messages.Evaluate)) == 1
    peers.say(b"a", messages.Evaluation(1, 0, result(5)))
    peers.say(b"b", messages.Evaluation(1, 0, result(5)))
    assert job.results == [result(5)]


def test_the_deadline_follows_the_usual_time_of_an_episode(
    peers: Peers, make_weights: MakeWeights
) -> None:
    assert EvaluationQueue(EpisodeLimits(4000)).deadline_seconds == 200.0
    peers.join(b"a")
    assert peers.state.evaluations.deadline_seconds == DEADLINE_SECONDS
    for seconds, deadline in ((0.1, LEAST_DEADLINE_SECONDS), (20.0, 5 * 20.0)):
        for number in range(64):
            job = peers.state.evaluate(make_weights(2, 1), [number])
            peers.tick()
            peers.now += seconds
            peers.say(b"a", messages.Evaluation(job.number, 0, result(number)))
            answer_pings(peers, b"a")
        assert peers.state.evaluations.deadline_seconds == pytest.approx(deadline)


@pytest.mark.parametrize(
    ("spec", "rewards", "limits"),
    [
        (EnvironmentSpec("Pendulum-v1"), None, (200, (-math.inf, math.inf))),
        (EnvironmentSpec("iqlft/AntMaze-Corner-v0"), (-1.0, 0.0), (300, (-1.0, 0.0))),
        (EnvironmentSpec("a:B-v0", {"max_episode_steps": 7}), None, (7, (-math.inf, math.inf))),
        (
            EnvironmentSpec("unknown:B-v0", reward_scale=-2.0, reward_shift=1.0), (-3.0, 5.0),
            (None, (-2.0, 2.0)),
        ),
    ],
)  # fmt: skip
def test_what_is_possible_is_known_from_the_environment_and_the_rewards(
    spec: EnvironmentSpec,
    rewards: tuple[float, float] | None,
    limits: tuple[int | None, tuple[float, float]],
) -> None:
    assert EpisodeLimits.of(spec, rewards) == limits


def test_a_return_lies_within_what_the_rewards_allow() -> None:
    limits = EpisodeLimits(10, (0.0, 1.0))
    check_result(EpisodeResult(0, 4.0, 4, success=True, start=(), end=(), first_hit=4), limits)
    for wrong in (4.1, -0.1):
        with pytest.raises(ResultError, match="4 steps return 0 to 4, not"):
            check_result(result(0)._replace(length=4, episode_return=wrong), limits)


def test_an_evaluation_of_no_episodes_is_finished(peers: Peers, make_weights: MakeWeights) -> None:
    assert peers.state.evaluate(make_weights(2, 1), []).results == []


def test_in_lockstep_the_newest_weights_precede_each_single_credit(
    make_weights: MakeWeights,
) -> None:
    peers = Peers(1, lockstep=True)
    peers.state.publish(make_weights(2, 1, version=1))
    peers.join(b"a")
    peers.told.clear()
    for version in (2, 3):
        peers.state.publish(make_weights(2, 1, version=version))
        peers.state.allow(version - 1)
        peers.tick()
        told = [message for _, message in peers.told]
        assert [type(message) for message in told] == [messages.Weights, messages.Ack]
        assert peers.heard(b"a", messages.Ack)[0].credit == version - 1
        peers.say(b"a", batch("a", version - 1, 1, versions=np.full(1, version, np.uint32)))
        peers.told.clear()
    assert peers.state.broadcast == b""


JUNK = [msgpack.packb([PROTOCOL, "HELLO", None, []])]


def offend(peers: Peers, route: bytes, count: int, worker_id: int | None = None) -> None:
    """Messages that are none."""
    for _ in range(count):
        peers.state.receive(route, JUNK, peers.now, worker_id)
    peers.tick()


def test_the_tenth_bad_message_costs_a_peer_its_session_and_what_it_says_later_is_not_heard(
    peers: Peers,
) -> None:
    peers.state.allow(10_000)
    peers.join(b"a")
    offend(peers, b"a", 9)
    peers.say(b"a", batch("a", 1))
    assert rewards(peers) == [1]
    assert peers.heard(b"a", messages.Reject) == []
    offend(peers, b"a", 10)
    (reject,) = peers.heard(b"a", messages.Reject)
    assert reject.code == "UNAUTHORISED"
    assert peers.state.roster.alive == []
    peers.told.clear()
    peers.say(b"a", messages.Hello(None, "new", iqlft_workers.__version__))
    assert peers.told == []
    assert peers.state.rate_limiter.bad_messages == 10
    peers.join(b"b")
    peers.tick(601)
    peers.join(b"a")


def test_a_worker_with_a_key_is_blocked_on_all_its_connections(peers: Peers) -> None:
    for index in range(10):
        offend(peers, b"%d" % index, 1, worker_id=1)
    hello = encode(messages.Hello(1, "a", iqlft_workers.__version__))
    peers.state.receive(b"10", hello, peers.now, 1)
    peers.tick()
    assert peers.heard(b"10", messages.Welcome) == []


def test_a_peer_that_reads_nothing_is_sent_weights_once_whatever_it_says(
    peers: Peers, make_weights: MakeWeights
) -> None:
    for number in range(200):
        peers.say(b"a", messages.Hello(0, f"{number // 9}", iqlft_workers.__version__))
        for _ in range(5):
            peers.say(b"a", messages.Ready("a", 2, 1, "", ""))
        peers.state.publish(make_weights(2, 1, version=number + 4))
        peers.say(b"a", messages.GetWeights())
        peers.say(b"a", messages.Pong(number, 0))
        peers.tick(1.0)
    assert len(peers.heard(b"a", messages.Weights)) == 1
    ping = peers.heard(b"a", messages.Ping)[0]
    peers.say(b"a", messages.Pong(ping.number, 0))
    (newest,) = peers.heard(b"a", messages.Weights)
    assert unpack_weights(newest.packed).version == 203


def test_a_peer_that_reads_nothing_is_sent_one_evaluation_whatever_it_says(
    peers: Peers, make_weights: MakeWeights
) -> None:
    peers.join(b"a", 0)
    peers.state.evaluate(make_weights(2, 1), range(20))
    peers.tick(1.0)
    for _ in range(100):
        peers.say(b"a", messages.Hello(0, "a", iqlft_workers.__version__))
        peers.say(b"a", messages.Ready("a", 2, 1, "", ""))
        peers.tick(1.0)
    assert len(peers.heard(b"a", messages.Evaluate)) == 1
    # Its queue was full, so that the PING was lost; once there is room, it is asked again.
    peers.told.clear()
    peers.state.unreachable(b"a")
    peers.join(b"a", 0)
    peers.read(b"a")
    peers.tick(1.0)
    assert len(peers.heard(b"a", messages.Evaluate)) == 1


def test_a_session_s_name_is_no_longer_than_a_uuid(peers: Peers) -> None:
    for length in (37, 36):
        peers.say(b"a", messages.Hello(0, "x" * length, iqlft_workers.__version__))
        assert len(peers.heard(b"a", messages.Welcome)) == (length == 36)
    assert peers.state.rate_limiter.bad_messages == 1


def test_what_others_do_wrong_fills_no_log(peers: Peers, caplog: pytest.LogCaptureFixture) -> None:
    peers.join(b"a")
    for number in range(1000):
        peers.say(b"b", messages.Hello(7, f"{number}", iqlft_workers.__version__))
        peers.say(b"a", messages.Failed("x" * 1000))
    assert len(caplog.records) == MAX_LINES
    assert peers.state.rejected == 1000
    peers.tick(LINES_SECONDS)
    assert caplog.messages[MAX_LINES:] == ["1990 more lines like these were left out."]


def test_the_same_weights_are_sent_over_a_connection_once(peers: Peers) -> None:
    peers.join(b"a")
    assert len(peers.heard(b"a", messages.Weights)) == 1
    for _ in range(100):
        peers.say(b"a", messages.GetWeights())
    assert peers.heard(b"a", messages.Weights) == []


def test_an_episode_is_the_next_one_or_has_begun_and_none_is_begun_again(peers: Peers) -> None:
    peers.state.allow(10_000)
    peers.join(b"a", 0)
    for sequence, episode in enumerate((0, 0, 1, 2, 0), 1):
        peers.say(b"a", batch("a", sequence, episode=episode))
    assert rewards(peers) == [1, 2, 3, 4, 5]
    peers.state.unreachable(b"a")
    assert peers.join(b"b", 0).episode == 3


def test_a_journal_with_the_last_number_of_an_earlier_version_leaves_its_seat_usable(
    peers: Peers, journal: Journal
) -> None:
    peers.state.allow(10_000)
    last = 2**32 - 1
    journal.append(0, encode(batch("a", 1, episode=last)))
    peers.state.recover(journal)
    assert peers.join(b"b", 0).episode == last + 1
    peers.say(b"b", batch("b", 1, episode=last + 1))
    assert peers.state.ledger.env_steps == 8


@pytest.mark.parametrize(
    "changes",
    [
        {"episode": 2**64 - 1},
        {"episode": 2**32 - 1},
        {"episode": 1},
        {"episode": -1},
        {"stepping_seconds": float("nan")},
        {"stepping_seconds": -1.0},
        {"finished": EpisodeResult(0, float("inf"), 1, False, (), (), -1)},
    ],
)
def test_numbers_that_cannot_be_counted_on_are_refused(
    peers: Peers, changes: dict[str, object]
) -> None:
    peers.join(b"a")
    peers.say(b"a", batch("a", 1, **changes))
    (reject,) = peers.heard(b"a", messages.Reject)
    assert reject.code == "BATCH"
    assert rewards(peers) == []
    peers.join(b"a")


def test_a_session_that_left_its_connection_to_another_does_not_take_it_along(
    peers: Peers, make_weights: MakeWeights
) -> None:
    peers.join(b"a")
    hello = messages.Hello(None, "other", iqlft_workers.__version__)
    peers.say(b"a", hello)  # Over the same connection: the first session is lost.
    peers.say(b"a", messages.Ready("other", 2, 1, "", ""))
    peers.read(b"a")
    job = peers.state.evaluate(make_weights(2, 1), [1])
    peers.tick(1.0)
    assert len(peers.heard(b"a", messages.Evaluate)) == 1
    peers.join(b"b")  # Another connection says that it is ...
    peers.say(b"b", messages.Hello(None, "a", iqlft_workers.__version__))  # ... the first session.
    peers.state.unreachable(b"a")
    assert [session.uuid for session in peers.state.roster.alive] == ["a"]
    assert list(job.pending) == [0]


def test_a_learner_that_is_resumed_knows_versions_of_one_that_accepted_nothing(
    tmp_path: Path,
) -> None:
    peers = Peers()
    with closing(Journal(tmp_path / "journal")) as journal:
        peers.state.recover(journal, 0, resumed=True)
        peers.state.allow(100)
        peers.join(b"a")
        peers.say(b"a", batch("a", 1))  # Of version 3, which this learner has not published.
    assert peers.heard(b"a", messages.Reject) == []
    assert rewards(peers) == [1.0]


def test_evaluations_of_two_learners_have_different_numbers(
    make_weights: MakeWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    first, second = (Peers().state.evaluate(make_weights(2, 1), [1]) for _ in range(2))
    assert first.number != second.number


def test_what_cannot_be_said_to_a_worker_is_said_to_the_user() -> None:
    spec = EnvironmentSpec("Pendulum-v1", {"maze_map": [[1] * 130 for _ in range(130)]})
    with pytest.raises(GatewayError, match=r"cannot be told what Pendulum-v1 is .* shorter"):
        Gateway(Service(spec, RowLayout(3, 1), "run", 0, 1), insecure=True)


def test_a_time_in_which_the_learner_itself_was_stopped_is_nobody_s_silence(peers: Peers) -> None:
    peers.join(b"a")
    peers.now += 30.0
    peers.state.unreachable(b"a")  # Its connection has gone meanwhile.
    silent = Watchdog().check(peers.state.status(peers.now))
    assert [incident.reason for incident in silent] == ["has been silent for 30 s"]
    peers.state.roster.excuse(30.0)
    assert Watchdog().check(peers.state.status(peers.now)) == []
