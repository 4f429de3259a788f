from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from actors import with_array
from iqlft_workers.actor import (
    ActorWeights,
    GaussianActor,
    Guide,
    make_actor,
    uniform_weights,
)
from iqlft_workers.environment import Environment, EnvironmentSpec
from iqlft_workers.episode import EpisodeResult
from iqlft_workers.loop import full_batch
from iqlft_workers.messages import Batch
from iqlft_workers.rollout import Rollout, episode_randomness, evaluate_episode
from iqlft_workers.transition import RowLayout, Transitions
from iqlft_workers.wire import encode
from transitions import concatenate

MakeWeights = Callable[..., ActorWeights]


@pytest.fixture
def pendulum() -> Iterator[Environment]:
    environment = Environment(EnvironmentSpec("Pendulum-v1", reward_scale=0.5, reward_shift=-1.0))
    yield environment
    environment.close()


@pytest.fixture
def weights(make_weights: MakeWeights) -> ActorWeights:
    return make_weights(3, 1, version=4)


@pytest.fixture
def actor(weights: ActorWeights) -> GaussianActor:
    return GaussianActor(weights)


def run(rollout: Rollout, steps: int) -> Transitions:
    parts = []
    for _ in range(steps):
        rollout.step()
        parts.append(rollout.take())
    return concatenate(parts)


def assert_equal(one: Transitions, other: Transitions) -> None:
    for name, a, b in zip(Transitions._fields, one, other, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


def test_transitions_chain_and_end_with_the_true_final_observation(
    pendulum: Environment, weights: ActorWeights
) -> None:
    taken = run(Rollout(pendulum, weights, seed=1, worker_id=0), 202)
    within = np.delete(np.arange(201), 199)
    np.testing.assert_array_equal(taken.next_observations[within], taken.observations[within + 1])
    assert taken.truncated.nonzero()[0].tolist() == [199]
    assert not taken.terminated.any()
    # The episode's last observation is not the first one of the next episode.
    assert not np.array_equal(taken.next_observations[199], taken.observations[200])
    assert (taken.versions == 4).all()


def test_recorded_actions_and_seed_give_the_recorded_episode_again(
    pendulum: Environment, weights: ActorWeights, actor: GaussianActor
) -> None:
    rollout = Rollout(pendulum, weights, seed=1, worker_id=2, episode=5)
    taken = run(rollout, 20)
    seed, rng = episode_randomness(1, 2, 5)
    observation = pendulum.reset(seed)
    for index in range(20):
        np.testing.assert_array_equal(taken.observations[index], observation)
        np.testing.assert_array_equal(taken.actions[index], actor.sample(observation, rng))
        step = pendulum.step(taken.actions[index])
        assert taken.rewards[index] == np.float32(step.reward)
        assert step.reward == step.raw_reward * 0.5 - 1.0
        observation = step.observation


def test_a_guide_acts_in_the_first_steps_of_every_episode_and_its_noise_is_the_same(
    pendulum: Environment, make_weights: MakeWeights, weights: ActorWeights
) -> None:
    other = uniform_weights(make_weights(3, 1, version=1))
    plain, guiding = (
        run(Rollout(pendulum, each, seed=1, worker_id=0), 205) for each in (weights, other)
    )
    guided = run(
        Rollout(pendulum, weights._replace(guide=Guide(3, other)), seed=1, worker_id=0), 205
    )
    for begin in (0, 200):
        theirs = slice(begin, begin + 3)
        np.testing.assert_array_equal(guided.actions[theirs], guiding.actions[theirs])
    seed, rng = episode_randomness(1, 0, 0)
    observation = pendulum.reset(seed)
    for index in range(5):
        actor = make_actor(other if index < 3 else weights)
        np.testing.assert_array_equal(guided.actions[index], actor.sample(observation, rng))
        observation = pendulum.step(guided.actions[index]).observation
    # Whoever acts, the version is the learner's.
    assert (guided.versions == 4).all()
    rollout = Rollout(pendulum, weights._replace(guide=Guide(3, other)), seed=1, worker_id=0)
    rollout.load(weights)
    assert_equal(run(rollout, 5), Transitions(*(array[:5] for array in plain)))


def test_actions_are_recorded_as_executed_within_the_bounds(
    pendulum: Environment, make_weights: MakeWeights
) -> None:
    wild = with_array(make_weights(3, 1), "log_std", np.array([2.0], np.float32))
    taken = run(Rollout(pendulum, wild, seed=0, worker_id=0), 50)
    assert np.abs(taken.actions).max() == 1.0


def test_seeds_of_episodes_fit_a_c_int() -> None:
    seeds = [episode_randomness(0, 0, episode)[0] for episode in range(100)]
    assert 2**30 < max(seeds) < 2**31
    assert len(set(seeds)) == 100


def test_an_episode_that_is_left_is_not_gone_on_with_and_one_not_begun_begins_again(
    pendulum: Environment, weights: ActorWeights
) -> None:
    whole = run(Rollout(pendulum, weights, seed=1, worker_id=2), 1)
    rollout = Rollout(pendulum, weights, seed=1, worker_id=2)
    assert not rollout.under_way
    pendulum.reset(5)  # An evaluation, in the same environment.
    rollout.leave_episode()
    assert_equal(run(rollout, 1), whole)
    assert rollout.under_way
    pendulum.reset(5)
    rollout.leave_episode()
    following = run(rollout, 1)
    assert rollout.episode == 1
    assert_equal(following, run(Rollout(pendulum, weights, seed=1, worker_id=2, episode=1), 1))


def test_every_episode_of_every_worker_and_seed_begins_differently(
    pendulum: Environment, weights: ActorWeights
) -> None:
    firsts = {
        run(
            Rollout(pendulum, weights, seed=seed, worker_id=worker, episode=episode), 1
        ).observations.tobytes()
        for seed in range(2)
        for worker in range(2)
        for episode in range(2)
    }
    assert len(firsts) == 8


@pytest.mark.parametrize("name", ["Pendulum-v1", "InvertedPendulum-v5"])
def test_an_episode_resumed_from_its_actions_continues_bit_for_bit(
    name: str, make_weights: MakeWeights
) -> None:
    environment, other = (Environment(EnvironmentSpec(name)) for _ in range(2))
    weights = make_weights(environment.observation_dim, 1)
    whole = Rollout(environment, weights, seed=3, worker_id=0)
    taken = run(whole, 40)
    ends = (taken.terminated | taken.truncated).nonzero()[0]
    began = int(ends[ends < 30][-1]) + 1 if (ends < 30).any() else 0
    resumed = Rollout(
        other,
        weights,
        seed=3,
        worker_id=0,
        episode=int((ends < 30).sum()),
        actions=taken.actions[began:30],
    )
    assert_equal(run(resumed, 10), Transitions(*(array[30:] for array in taken)))
    for each in (environment, other):
        each.close()


def test_the_end_of_an_episode_is_told_with_its_raw_return(
    pendulum: Environment, weights: ActorWeights
) -> None:
    rollout = Rollout(pendulum, weights, seed=1, worker_id=0, capacity=200)
    for _ in range(199):
        rollout.step()
        assert rollout.finished is None
    rollout.step()
    taken, result = rollout.take(), rollout.finished
    assert result is not None
    assert result.length == 200
    # reward = raw / 2 - 1
    np.testing.assert_allclose(result.episode_return, ((taken.rewards + 1) * 2).sum(), rtol=1e-4)
    assert not result.success
    assert result.first_hit == -1
    assert result.start == tuple(taken.observations[0, :2].tolist())
    assert result.end == tuple(taken.next_observations[-1, :2].tolist())


def test_an_evaluation_depends_on_weights_and_seed_alone(
    pendulum: Environment, actor: GaussianActor
) -> None:
    first = evaluate_episode(pendulum, actor, 11)
    between = evaluate_episode(pendulum, actor, 12)
    assert evaluate_episode(pendulum, actor, 11) == first
    assert between.episode_return != first.episode_return


def test_a_sampled_evaluation_does_not_draw_what_its_environment_has_drawn(
    pendulum: Environment, weights: ActorWeights
) -> None:
    class Recording(GaussianActor):
        drawn: list[float]

        def evaluate(self, observation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            self.drawn += rng.uniform(size=2).tolist()
            return self.mean(observation)

    actor = Recording(weights)
    for seed in (0, 7, 1_000_000):
        actor.drawn = []
        evaluate_episode(pendulum, actor, seed)
        pendulum.reset(seed)
        start = pendulum.gym.unwrapped.state  # type: ignore[attr-defined]
        angle, velocity = (start / (np.pi, 1.0) + 1) / 2  # Drawn uniformly between these bounds.
        assert not {round(angle, 9), round(velocity, 9)} & {round(each, 9) for each in actor.drawn}
        assert len(set(actor.drawn)) > 100


class Corridor(gymnasium.Env[np.ndarray, np.ndarray]):
    """Walks to the right by itself; success from the third step on, until the sixth ends it.

    Args:
        key: what it calls success; empty: it says nothing of it.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (3,))
    action_space = spaces.Box(-1, 1, (1,))

    def __init__(self, key: str = "success") -> None:
        self.key = key

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.place = 0
        return np.full(3, self.place, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:  # noqa: ARG002
        self.place += 1
        reached = {self.key: self.place >= 3} if self.key else {}
        return np.full(3, self.place, np.float32), 1.0, self.place == 6, False, reached


@pytest.fixture
def corridor() -> Iterator[Environment]:
    gymnasium.register("Corridor-v0", Corridor)
    environment = Environment(EnvironmentSpec("Corridor-v0", reward_shift=-1.0))
    yield environment
    environment.close()
    del gymnasium.registry["Corridor-v0"]


def test_success_and_the_step_of_the_first_hit_are_told(
    corridor: Environment, actor: GaussianActor
) -> None:
    assert evaluate_episode(corridor, actor, 8) == EpisodeResult(
        seed=8,
        episode_return=6.0,
        length=6,
        success=True,
        start=(0.0, 0.0),
        end=(6.0, 6.0),
        first_hit=3,
    )


@pytest.mark.parametrize(("key", "success"), [("is_success", True), ("", None), ("score", None)])
def test_success_that_nobody_reports_is_not_told(
    key: str, success: bool | None, corridor: Environment, actor: GaussianActor
) -> None:
    corridor.gym.unwrapped.key = key  # type: ignore[attr-defined]
    result = evaluate_episode(corridor, actor, 8)
    assert (result.success, result.first_hit) == (success, 3 if success else -1)


def test_termination_is_no_time_limit(corridor: Environment, weights: ActorWeights) -> None:
    taken = run(Rollout(corridor, weights, seed=0, worker_id=0), 7)
    assert taken.terminated.tolist() == [False] * 5 + [True, False]
    assert not taken.truncated.any()
    assert taken.next_observations[5, 0] == 6
    assert taken.observations[6, 0] == 0
    assert (taken.rewards == 0).all()


def test_an_evaluation_is_left_when_what_is_called_after_a_step_raises(
    corridor: Environment, actor: GaussianActor
) -> None:
    calls = iter([None, None])
    with pytest.raises(StopIteration):
        evaluate_episode(corridor, actor, 0, lambda: next(calls))
    assert corridor.gym.unwrapped.place == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(("width", "expected"), [(29, 128), (4096, 127), (4200, 124), (400_000, 1)])
def test_a_message_holds_a_full_batch_however_wide_observations_are(
    width: int, expected: int
) -> None:
    layout = RowLayout(width, 8)
    assert full_batch(layout) == expected
    rows = np.zeros((expected, layout.width), np.float32)
    parts = zip(Transitions._fields, layout.unpack(rows), strict=True)
    kinds = {"terminated": np.bool_, "truncated": np.bool_, "versions": np.uint32}
    fields = {name: part.astype(kinds.get(name, np.float32)) for name, part in parts}
    result = EpisodeResult(1, 2.0, 3, success=True, start=(0.0,), end=(0.0,), first_hit=1)
    encode(Batch(
        session="s" * 32, sequence=2**31, **fields, finished=result, episode=1, stepping_seconds=1.0
    ))  # fmt: skip
