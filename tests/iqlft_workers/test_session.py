from collections.abc import Callable

import numpy as np
import pytest

from iqlft.gateway.roster import BEGIN_ANEW
from iqlft_workers import messages
from iqlft_workers.actor import ActorWeights
from iqlft_workers.session import HELLO_SECONDS, LAG_SECONDS, SILENCE_SECONDS, WINDOW, WorkerSession
from iqlft_workers.transition import Transitions
from iqlft_workers.wire import encode, pack_weights

MakeWeights = Callable[..., ActorWeights]


def welcome(*, last_sequence: int = 0, run_id: str = "run") -> messages.Welcome:
    return messages.Welcome(
        run_id=run_id,
        worker_id=1,
        last_sequence=last_sequence,
        environment={},
        seed=0,
        episode=0,
        lockstep=False,
        weights_port=1,
        actions=np.empty((0, 1), np.float32),
    )


def transitions() -> Transitions:
    return Transitions(
        *(np.zeros((1, 1), np.float32) for _ in range(2)),
        np.zeros(1, np.float32),
        np.zeros((1, 1), np.float32),
        *(np.zeros(1, np.bool_) for _ in range(2)),
        np.zeros(1, np.uint32),
    )


def take(session: WorkerSession) -> list[messages.Message]:
    """What the session wants to send."""
    sent, session.outbox = session.outbox, []
    return sent


@pytest.fixture
def session(make_weights: MakeWeights) -> WorkerSession:
    """A session that may take 100 steps."""
    session = WorkerSession(1)
    session.receive(welcome(), 0.0)
    session.ready(1, 1)
    packed = np.frombuffer(pack_weights(make_weights(1, 1, version=1)), np.uint8)
    session.receive(messages.Weights(packed), 0.0)
    session.receive(messages.Ack(0, 100, 1), 0.0)
    take(session)
    return session


def sequences(sent: list[messages.Message]) -> list[int]:
    return [message.sequence for message in sent if isinstance(message, messages.Batch)]


def test_hello_is_repeated_ever_more_slowly_until_there_is_an_answer() -> None:
    session, now, times = WorkerSession(None), 0.0, []
    while now < 10:
        session.tick(now)
        if take(session):
            times.append(now)
        now += max(session.wait_seconds(now), 1e-3)
    pauses = np.diff(times)
    assert pauses[0] == pytest.approx(HELLO_SECONDS[0], abs=0.01)
    assert pauses[-1] == pytest.approx(HELLO_SECONDS[1], abs=0.01)
    session.receive(welcome(), now)
    session.tick(now)
    assert take(session) == []


def test_who_was_given_an_id_that_a_newcomer_has_now_begins_anew() -> None:
    duplicate = messages.Reject("DUPLICATE", "Another worker with the id 1 is at work.")
    for asked, outcome in ((None, "restart"), (1, "rejected")):
        session = WorkerSession(asked)
        session.receive(welcome(), 0.0)
        session.receive(duplicate, 1.0)
        assert session.outcome == outcome


def test_a_full_window_stops_the_stepping_until_an_acknowledgement(session: WorkerSession) -> None:
    assert session.credit_left == 100
    for _ in range(WINDOW):
        session.send_batch(0, None, transitions(), 0.1)
    assert session.window_full
    assert session.credit_left == 0
    session.receive(messages.Ack(1, 100, 1), 0.0)
    assert session.credit_left == 100


def test_steps_use_the_credit_up(session: WorkerSession) -> None:
    session.env_steps = 100
    assert session.credit_left == 0
    session.receive(messages.Ack(0, 150, 1), 0.0)
    assert session.credit_left == 50


def test_what_is_not_acknowledged_is_sent_again_after_a_rehello(session: WorkerSession) -> None:
    for _ in range(3):
        session.send_batch(0, None, transitions(), 0.1)
    assert sequences(take(session)) == [1, 2, 3]
    session.receive(messages.Rehello(), 1.0)
    (hello,) = take(session)
    assert isinstance(hello, messages.Hello)
    session.receive(welcome(last_sequence=1), 1.0)
    sent = take(session)
    assert isinstance(sent[0], messages.Ready)
    assert sequences(sent) == [2, 3]
    assert session.outcome is None


def test_a_learner_that_lacks_what_it_had_acknowledged_makes_the_worker_begin_anew(
    session: WorkerSession,
) -> None:
    session.send_batch(0, None, transitions(), 0.1)
    session.receive(messages.Ack(1, 100, 1), 0.0)
    session.receive(welcome(last_sequence=0), 1.0)
    assert session.outcome == "restart"


def test_a_worker_whose_id_was_anothers_in_between_begins_anew_and_sends_nothing_twice(
    session: WorkerSession,
) -> None:
    session.send_batch(0, None, transitions(), 0.1)
    take(session)
    session.receive(welcome(last_sequence=BEGIN_ANEW), 1.0)
    assert session.outcome == "restart"
    assert take(session) == []


def test_another_run_at_the_same_place_makes_the_worker_begin_anew(session: WorkerSession) -> None:
    session.receive(welcome(run_id="other"), 1.0)
    assert session.outcome == "restart"


def test_a_learner_that_never_saw_a_batch_is_sent_all_of_them(session: WorkerSession) -> None:
    for _ in range(2):
        session.send_batch(0, None, transitions(), 0.1)
    take(session)
    session.receive(welcome(), 1.0)
    assert sequences(take(session)) == [1, 2]
    assert session.outcome is None


@pytest.mark.parametrize(("over", "outcome"), [(True, "stopped"), (False, "drained")])
def test_a_drained_worker_leaves_when_all_is_acknowledged_and_its_goodbye_confirmed(
    session: WorkerSession, over: bool, outcome: str
) -> None:
    session.send_batch(0, None, transitions(), 0.1)
    session.receive(messages.Drain(over), 0.0)
    assert session.credit_left == 0
    session.leave_when_drained()
    assert sequences(take(session)) == [1]
    session.receive(messages.Ack(1, 100, 1), 0.0)
    for _ in range(2):
        session.leave_when_drained()
    assert take(session) == [messages.Bye()]
    assert session.outcome is None
    session.receive(messages.ByeOk(), 0.0)
    assert session.outcome == outcome


@pytest.mark.parametrize(("over", "outcome"), [(True, "stopped"), (False, None)])
def test_a_worker_whose_work_is_over_does_not_wait_long_for_an_answer_to_its_goodbye(
    session: WorkerSession, over: bool, outcome: str | None
) -> None:
    session.receive(messages.Drain(over), 1.0)
    session.tick(1.0 + 2 * SILENCE_SECONDS)
    assert session.outcome is None  # There may be batches yet to be sent.
    session.receive(messages.Drain(over), 10.0)
    session.leave_when_drained()
    session.tick(10.0 + SILENCE_SECONDS - 0.1)
    assert session.outcome is None
    session.tick(10.0 + SILENCE_SECONDS + 0.1)
    assert session.outcome == outcome


def test_a_drained_worker_says_goodbye_again_to_a_learner_that_comes_back(
    session: WorkerSession,
) -> None:
    session.receive(messages.Drain(over=False), 0.0)
    session.leave_when_drained()
    assert take(session) == [messages.Bye()]
    session.receive(welcome(), 5.0)
    session.leave_when_drained()
    assert take(session)[-1] == messages.Bye()


def test_a_silent_learner_is_greeted_again(session: WorkerSession) -> None:
    session.tick(SILENCE_SECONDS - 0.1)
    assert take(session) == []
    session.tick(SILENCE_SECONDS + 0.1)
    assert isinstance(take(session)[0], messages.Hello)


def test_lagging_weights_are_asked_for_after_a_moment(
    session: WorkerSession, make_weights: MakeWeights
) -> None:
    session.receive(messages.Ack(0, 100, 2), 1.0)
    session.tick(1.0)
    assert take(session) == []
    assert session.wait_seconds(1.0) <= LAG_SECONDS
    session.tick(1.0 + 2 * LAG_SECONDS)
    assert take(session) == [messages.GetWeights()]
    packed = np.frombuffer(pack_weights(make_weights(1, 1, version=2)), np.uint8)
    session.receive(messages.Weights(packed), 2.0)
    session.receive(messages.Ack(0, 100, 2), 2.0)
    session.tick(3.0)
    assert take(session) == []


def test_weights_that_come_are_not_asked_for_though_each_word_names_newer_ones(
    session: WorkerSession, make_weights: MakeWeights
) -> None:
    for turn in range(1, 50):
        now = 1.0 + 0.1 * turn
        session.receive(messages.Ack(0, 100, 1 + turn), now)
        session.load(np.frombuffer(pack_weights(make_weights(1, 1, version=1 + turn)), np.uint8))
        session.tick(now)
    assert take(session) == []


def test_pings_are_answered_and_the_end_is_told(session: WorkerSession) -> None:
    session.steps = 7
    session.receive(messages.Ping(3), 0.0)
    assert take(session) == [messages.Pong(3, 7)]
    session.receive(messages.Reject("FULL", "No place."), 0.0)
    assert (session.outcome, session.sentence) == ("rejected", "No place.")


def test_a_worker_that_is_to_come_later_says_hello_until_it_is_welcome() -> None:
    session = WorkerSession(None)
    session.tick(0.0)
    session.receive(messages.Reject(messages.RejectCode.LATER, "wait"), 0.1)
    assert session.outcome is None
    session.outbox.clear()
    session.tick(5.0)
    assert [type(each) for each in session.outbox] == [messages.Hello]


def test_evaluations_are_those_that_the_newest_welcome_is_followed_by(
    session: WorkerSession, make_weights: MakeWeights
) -> None:
    packed = np.frombuffer(pack_weights(make_weights(1, 1)), np.uint8)
    for _ in range(3):
        session.receive(messages.Evaluate(7, (0, 1), (10, 11), packed), 0.0)
        session.receive(welcome(), 0.0)
    session.receive(messages.Evaluate(7, (0, 1), (10, 11), packed), 0.0)
    assert len(session.evaluations) == 1


@pytest.mark.parametrize("code", ["DUPLICATE", "FULL", "RESERVED"])
def test_who_asked_for_no_id_begins_anew_where_its_old_one_is_not_to_be_had(code: str) -> None:
    for wanted, outcome in ((None, "restart"), (1, "rejected")):
        session = WorkerSession(wanted)
        session.receive(messages.Reject(code, "No."), 0.0)
        assert session.outcome == "rejected"  # It has had no place yet.
        session = WorkerSession(wanted)
        session.receive(welcome(), 0.0)
        session.receive(messages.Reject(code, "No."), 0.0)
        assert session.outcome == outcome


def test_a_reason_that_is_too_long_is_cut(session: WorkerSession) -> None:
    session.leave("x" * 10**6)
    failed, _ = take(session)
    assert isinstance(failed, messages.Failed)
    assert 0 < sum(len(each) for each in encode(failed)) < 2**14
