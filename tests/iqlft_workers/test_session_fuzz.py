"""Whatever a learner or an impostor says, a worker goes on or leaves with a reason."""

import contextlib
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostile_peer import malformed, valid_messages
from iqlft_workers import messages
from iqlft_workers.actor import ActorWeights
from iqlft_workers.session import WorkerSession
from iqlft_workers.wire import WireError, decode, encode, pack_weights

MakeWeights = Callable[..., ActorWeights]
DIMENSIONS = (3, 1)


def joined() -> WorkerSession:
    """A session whose environment stands."""
    session = WorkerSession(0)
    welcome = next(
        message
        for message in map(decode, valid_messages())
        if isinstance(message, messages.Welcome)
    )
    session.receive(welcome, 0.0)
    session.ready(*DIMENSIONS)
    return session


def packed(weights: ActorWeights) -> np.ndarray:
    return np.frombuffer(pack_weights(weights), np.uint8)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.randoms(use_true_random=False), min_size=1, max_size=20))
def test_malformed_messages_never_break_a_session(rngs: list[random.Random]) -> None:
    session, valid = joined(), valid_messages()
    for now, rng in enumerate(rngs):
        with contextlib.suppress(WireError):
            frames = rng.choice(valid)
            session.receive(decode(malformed(frames, rng) if rng.randrange(2) else frames), now)
        session.tick(now)
        for message in session.outbox:
            encode(message)
        session.outbox.clear()


@pytest.mark.parametrize("dimensions", [(4, 1), (3, 2)])
def test_weights_that_do_not_fit_the_environment_are_refused(
    make_weights: MakeWeights, dimensions: tuple[int, int]
) -> None:
    session, weights = joined(), packed(make_weights(*dimensions))
    with pytest.raises(WireError, match="do not fit"):
        session.receive(messages.Weights(weights), 0.0)
    with pytest.raises(WireError, match="do not fit"):
        session.load(weights)
    with pytest.raises(WireError, match="do not fit"):
        session.receive(messages.Evaluate(1, (0,), (1,), weights), 0.0)
    assert session.weights is None
    assert not session.evaluations


def test_weights_for_an_earlier_session_are_left_alone(make_weights: MakeWeights) -> None:
    session = WorkerSession(0)
    session.load(packed(make_weights(*DIMENSIONS)))
    assert session.weights is None


@pytest.mark.parametrize("seeds", [(), (1, 2), (-1,)])
def test_an_evaluation_without_a_seed_for_each_episode_is_refused(
    make_weights: MakeWeights, seeds: tuple[int, ...]
) -> None:
    request = messages.Evaluate(1, (0,), seeds, packed(make_weights(*DIMENSIONS)))
    with pytest.raises(WireError, match="seed"):
        joined().receive(request, 0.0)


@pytest.mark.parametrize("name", ["worker_id", "seed", "episode"])
def test_a_welcome_with_a_negative_number_is_refused(name: str) -> None:
    welcome = joined().welcome
    assert welcome is not None
    with pytest.raises(WireError, match="negative"):
        WorkerSession(0).receive(replace(welcome, **{name: -1}), 0.0)
