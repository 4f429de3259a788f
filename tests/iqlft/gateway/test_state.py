import errno
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgpack
import numpy as np
import pytest

import iqlft_workers
from iqlft.gateway.admission import Service
from iqlft.gateway.ingestion import RETRY_SECONDS, BatchError, check_batch
from iqlft.gateway.journal import Journal
from iqlft.gateway.state import CREDIT, LOST_SECONDS, GatewayState
from iqlft_workers import messages
from iqlft_workers.actor import ActorWeights
from iqlft_workers.environment import EnvironmentSpec
from iqlft_workers.episode import EpisodeResult
from iqlft_workers.messages import Message
from iqlft_workers.transition import RowLayout
from iqlft_workers.wire import PROTOCOL, decode, encode

MakeWeights = Callable[..., ActorWeights]
M = TypeVar("M", bound=Message)
LAST_VERSION = 50
"""Updates that the run comes to; the newest weights here are of version 3."""


class Peers:
    """A gateway's state, the clock, and what every connection has been told."""

    def __init__(self, num_workers: int = 2, *, lockstep: bool = False) -> None:
        spec, layout = EnvironmentSpec("Pendulum-v1"), RowLayout(2, 1)
        service = Service("run", spec, layout, 0, num_workers, lockstep, 5556, LAST_VERSION)
        self.state = GatewayState(service)
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
        return welcome


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


def test_a_session_that_comes_back_over_another_connection_continues(peers: Peers) -> None:
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
    assert rewards(peers) == []
    assert peers.state.ledger.env_steps == 0


def test_a_batch_has_1_to_1024_transitions() -> None:
    check_batch(batch("a", 1, 1024), RowLayout(2, 1), newest_version=3)
    for count in (0, 1025):
        with pytest.raises(BatchError, match=f"1 to 1024 transitions, not {count}"):
            check_batch(batch("a", 1, count), RowLayout(2, 1), newest_version=3)


def test_a_worker_that_steps_beyond_its_credit_is_sent_away(peers: Peers) -> None:
    peers.join(b"a")
    peers.say(b"a", batch("a", 1, CREDIT))
    peers.state.allow(CREDIT + 10)
    peers.tick(1.0)
    assert peers.heard(b"a", messages.Ack)[-1].credit == CREDIT + 10
    peers.say(b"a", batch("a", 2, 10))
    peers.say(b"a", batch("a", 3, 1))
    (reject,) = peers.heard(b"a", messages.Reject)
    assert "beyond the worker's credit" in reject.sentence
    assert peers.state.ledger.env_steps == CREDIT + 10


def test_a_learner_that_leaves_lets_nobody_join(peers: Peers) -> None:
    peers.join(b"a")
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


def test_damaged_frames_are_dropped_and_the_worker_goes_on(peers: Peers) -> None:
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
    for _ in range(int(LOST_SECONDS) - 1):
        peers.tick(1.0)
    assert peers.state.status(peers.now)[0].alive
    peers.tick(1.5)
    assert not peers.state.status(peers.now)[0].alive


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
    peers.join(b"a")
    for sequence in range(1, 9):
        peers.say(b"a", batch("a", sequence, 64, stepping_seconds=0.02))
        peers.tick(1.0)  # It waits.
    (status,) = peers.state.status(peers.now)
    assert status.speed == pytest.approx(64 / 0.02)
    assert status.steps_per_second < 100


def test_an_id_that_answers_is_taken_and_one_that_does_not_is_free(peers: Peers) -> None:
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


def test_another_package_version_is_rejected(peers: Peers) -> None:
    peers.say(b"a", messages.Hello(None, "a", "9.9.9"))
    (reject,) = peers.heard(b"a", messages.Reject)
    assert reject.code == "VERSION"
    assert "9.9.9" in reject.sentence


@pytest.mark.parametrize("worker_id", [-1, 2])
def test_an_id_that_is_not_served_is_rejected(peers: Peers, worker_id: int) -> None:
    peers.say(b"a", messages.Hello(worker_id, "a", iqlft_workers.__version__))
    assert peers.heard(b"a", messages.Reject)[0].code == "FULL"


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
    for number, index in ((2, 0), (1, 1), (1, -1)):
        peers.say(b"a", messages.Evaluation(number, index, result(9)))
    assert job.results == [None]


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


def test_the_same_weights_are_sent_over_a_connection_once(peers: Peers) -> None:
    peers.join(b"a")
    assert len(peers.heard(b"a", messages.Weights)) == 1
    for _ in range(100):
        peers.say(b"a", messages.GetWeights())
    assert peers.heard(b"a", messages.Weights) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"episode": 2**64 - 1},
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
