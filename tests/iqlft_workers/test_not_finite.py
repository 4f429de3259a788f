"""Values that are not finite end an episode where they come, and nothing of them is learned."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

import awkward_environments
from iqlft.training import oversight
from iqlft_workers import messages
from iqlft_workers.actions import ActionRange, actions_refusal
from iqlft_workers.actor import ActorWeights
from iqlft_workers.environment import Environment, EnvironmentSpec
from iqlft_workers.episode import Episode, EpisodeResult, NotFiniteError
from iqlft_workers.launchers.local import WorkerError, WorkerPool
from iqlft_workers.rollout import Rollout
from iqlft_workers.session import WorkerSession
from iqlft_workers.transition import RowLayout, Transitions

pytestmark = pytest.mark.usefixtures("importable")
MakeWeights = Callable[..., ActorWeights]
STILL = np.zeros(1, np.float32)
SPOILS = ["first", "observation", "reward"]


def spec(**kwargs: Any) -> EnvironmentSpec:  # noqa: ANN401
    return EnvironmentSpec("awkward_environments:Awkward-v0", kwargs, trust=True)


@pytest.mark.parametrize("spoils", SPOILS)
def test_the_step_is_told_and_the_episode_stays_as_it_was_before(spoils: str) -> None:
    episode = Episode(Environment(spec(spoils=spoils, at=2)), 5)
    good = 0 if spoils == "first" else 2
    for _ in range(good):
        episode.step(STILL)
    with pytest.raises(NotFiniteError, match=r"with the seed 5 of awkward.* gave nan in value 0"):
        episode.step(STILL)
    result = episode.result()
    assert result.length == good
    assert all(map(math.isfinite, (result.episode_return, *result.start, *result.end)))


def test_a_value_that_float32_cannot_hold_is_not_finite_either() -> None:
    environment = Environment(EnvironmentSpec(spec().id, reward_scale=1e300, trust=True))
    with pytest.raises(NotFiniteError, match="in value 1 of the reward"):
        Episode(environment, 5).step(STILL)


@pytest.mark.parametrize("bound", [np.inf, np.finfo(np.float32).max, 1e30])
def test_action_spaces_without_real_bounds_are_none_to_learn_in(bound: float) -> None:
    low, high = np.array([-1, -bound]), np.array([1, 1])
    refusal = actions_refusal(spaces.Box(low, high, dtype=np.float64))
    assert "finite bounds are needed: give the environment the bounds" in refusal
    assert not actions_refusal(spaces.Box(low.clip(-1, 1), high, dtype=np.float64))


def test_where_lower_and_upper_bound_are_the_same_the_action_is_that_constant() -> None:
    bounds = ActionRange.of([-1, 0.3], [3, 0.3])
    there = bounds.to_environment(np.array([[0.5, -1], [0, 1]], np.float32))
    assert there.tolist() == [[2, np.float32(0.3)], [1, np.float32(0.3)]]
    assert bounds.to_unit(np.array([[2, 0.3], [1, 0.300001]])).tolist() == [[0.5, 0], [0, 0]]


@pytest.mark.parametrize(("low", "high"), [(-0.1, 0.1), (0.3, 0.7), (-1, 1)])
def test_no_action_leaves_the_bounds_of_an_environment_of_float64(low: float, high: float) -> None:
    bounds = ActionRange.of([low], [high])
    there = bounds.to_environment(np.array([[-1], [0], [1]], np.float32))
    assert np.allclose(there[:, 0], [low, (low + high) / 2, high])
    space = spaces.Box(low, high, (1,), np.float64)
    assert all(space.contains(each) for each in there)


def test_whole_numbers_are_no_actions_to_learn() -> None:
    assert "real numbers" in actions_refusal(spaces.Box(0, 5, (1,), np.int64))


def test_what_is_held_of_the_episode_is_dropped_and_the_next_one_begins(
    make_weights: MakeWeights,
) -> None:
    environment = Environment(spec(spoils="observation", at=2))
    rollout = Rollout(environment, make_weights(2, 1), seed=1, worker_id=0)
    for episode in range(2):
        rollout.step()
        rollout.step()
        with pytest.raises(NotFiniteError):
            rollout.step()
        assert rollout.episode == episode
        assert rollout.discard() == 2
        assert rollout.pending == 0


def test_an_episode_that_cannot_begin_is_left_once_however_often_its_environment_is_needed(
    make_weights: MakeWeights,
) -> None:
    rollout = Rollout(Environment(spec(spoils="first")), make_weights(2, 1), seed=1, worker_id=0)
    for episode in range(3):
        with pytest.raises(NotFiniteError):
            rollout.step()
        assert rollout.episode == episode
        rollout.discard()
        rollout.leave_episode()
        rollout.leave_episode()


@pytest.mark.parametrize("lockstep", [True, False])
@pytest.mark.parametrize("spoils", SPOILS)
def test_a_run_goes_on_without_such_episodes_and_counts_them(
    spoils: str, lockstep: bool, serve: Callable[..., Any], make_weights: MakeWeights
) -> None:
    environment = spec(spoils=spoils, share=0.4)
    gateway, pool = serve(environment=environment, layout=RowLayout(2, 1), lockstep=lockstep)
    gateway.publish(make_weights(2, 1))
    gateway.allow(400)
    parts: list[Transitions] = []
    while sum(part.num_transitions for part in parts) < 400:
        parts += gateway.receive(20.0)
        assert pool.watch() == []
    assert sum(part.num_transitions for part in parts) == 400
    for part in parts:
        assert all(np.isfinite(array).all() for array in part)
    counts = gateway.counts()
    episodes, sentence, steps = counts.discarded
    assert episodes > 3
    assert steps >= episodes
    assert "is left, and" in sentence
    assert "gave nan in value 0" in sentence
    assert counts.refused_batches.total == 0


def test_a_worker_of_which_all_episodes_end_so_ends_the_run_in_one_sentence(
    serve: Callable[..., Any], make_weights: MakeWeights
) -> None:
    gateway, pool = serve(environment=spec(spoils="reward"), layout=RowLayout(2, 1))
    gateway.publish(make_weights(2, 1))
    gateway.allow(10_000)

    def work() -> None:
        while gateway.receive(1.0) is not None:
            pool.watch()

    with pytest.raises(WorkerError, match="10 episodes in a row ended at a value that is") as error:
        work()
    assert "\n" not in str(error.value)
    assert gateway.counts().discarded.total == 10


def test_a_run_whose_remote_workers_have_all_given_up_so_ends_in_one_sentence(
    serve: Callable[..., Any],
    make_weights: MakeWeights,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(oversight, "DESERTED_SECONDS", 0.3)
    gateway, _ = serve(environment=spec(spoils="reward"), layout=RowLayout(2, 1))
    gateway.publish(make_weights(2, 1))
    gateway.allow(10_000)
    watching, incidents = oversight.Oversight(gateway, WorkerPool(0, "", tmp_path), tmp_path), []

    def work() -> None:
        while gateway.receive(0.05) is not None:
            incidents.extend(watching.incidents(gateway.worker_status()))

    with pytest.raises(oversight.DesertedError, match="no other worker has come") as error:
        work()
    assert "\n" not in str(error.value)
    assert f"iqlft resume {tmp_path}" in str(error.value)
    (told,) = [each for each in incidents if each.startswith("Worker 0 cannot work, and leaves")]
    assert "10 episodes in a row ended at a value that is not finite" in told


@pytest.mark.parametrize("spoils", SPOILS)
def test_an_evaluation_episode_that_ends_so_has_no_return_and_the_others_have(
    spoils: str, serve: Callable[..., Any], make_weights: MakeWeights
) -> None:
    gateway, pool = serve(2, environment=spec(spoils=spoils, share=0.5), layout=RowLayout(2, 1))
    results: list[EpisodeResult] = gateway.evaluate(make_weights(2, 1), range(12)).result(60.0)
    unlucky = [math.isnan(each.episode_return) for each in results]
    assert [each.seed for each in results] == list(range(12))
    assert 0 < sum(unlucky) < 12
    for each, lost in zip(results, unlucky, strict=True):
        assert each.length == ({"first": 0}.get(spoils, 3) if lost else awkward_environments.STEPS)
    assert pool.watch() == []


def test_a_learner_that_begins_anew_hears_of_a_discarded_episode_before_the_next_one() -> None:
    session = WorkerSession(0)
    none = np.empty((0, 1), np.float32)
    welcome = messages.Welcome("run", 0, 0, {}, 0, 0, lockstep=False, weights_port=1, actions=none)
    session.receive(welcome, 0.0)
    session.ready(2, 1)
    rows = RowLayout(2, 1).transitions(np.zeros((4, 9), np.float32))
    result = EpisodeResult(0, 0.0, 1, success=False, start=(), end=(), first_hit=-1)
    session.send_batch(0, result, rows, 0.1)
    session.env_steps = 10
    session.send_discarded(0, 1, 3, NotFiniteError("nan", result))
    session.send_batch(2, None, rows, 0.1)
    assert session.env_steps == 7
    session.outbox.clear()
    session.receive(welcome, 1.0)
    kinds = [type(each) for each in session.outbox]
    batch, discarded = messages.Batch, messages.Discarded
    assert kinds == [messages.Ready, batch, discarded, batch]
    session.receive(messages.Ack(2, 100, -1), 2.0)
    session.outbox.clear()
    session.receive(messages.Welcome(**{**vars(welcome), "last_sequence": 2}), 3.0)
    assert [type(each) for each in session.outbox] == [messages.Ready]
