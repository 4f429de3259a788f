"""One Minari dataset as rows of transitions, an episode at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from gymnasium import spaces

from iqlft.datasets.errors import DatasetError
from iqlft.datasets.reading import (
    RecordedEpisode,
    read_column,
    read_episodes,
    recorded_actions_refusal,
)
from iqlft_workers.actions import ActionRange
from iqlft_workers.environment import EnvironmentMismatchError
from iqlft_workers.observation import flatten, leaf_spaces, observation_bounds, observed_leaves
from iqlft_workers.transition import RowLayout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import minari
    from numpy.typing import NDArray

    from iqlft.datasets.antmaze.published import ContentHash
    from iqlft.datasets.recorded import Goal
    from iqlft_workers.environment import EnvironmentSpec
    from iqlft_workers.observation import Leaf

GoalMode = Literal["evaluation", "observed", "stored"]
"""`evaluation`: rewards and terminations are those of the environment's one evaluation goal, which
is not observed. `observed`: stored rewards for each episode's goal, which is observed. `stored`:
everything as it is in the dataset."""

AfterSuccess = Literal["keep", "drop"]
"""What becomes of the transitions after an episode's first success."""

ACTION_LIMIT = 1 - 1e-5
"""Dataset actions are clipped to +- this, as IQL's authors do."""

_GOAL_KEYS = ("achieved_goal", "observation", "desired_goal")
"""What a goal-conditioned observation consists of, in the order in which it is used."""


def observed(
    dataset: minari.MinariDataset, goal: GoalMode, chosen: Sequence[str] = ()
) -> tuple[Leaf, ...]:
    """The parts that make up an observation in a goal mode.

    Args:
        dataset: an opened one.
        goal: the goal mode.
        chosen: keys that are taken instead of all, or of those of the goal mode, in this order.

    Raises:
        DatasetError: the dataset has no goals or no such keys, or observations that no vector
            holds.
    """
    space, keys = dataset.observation_space, tuple(chosen)
    if goal != "stored":
        if not set(_GOAL_KEYS) <= leaf_spaces(space).keys():
            raise DatasetError(
                f"{dataset.id} has no goals to be {goal}: its observation space is {space}; use "
                "the goal mode `stored`."
            )
        keys = keys or _GOAL_KEYS[: 2 if goal == "evaluation" else 3]
    try:
        return observed_leaves(space, keys)
    except EnvironmentMismatchError as error:
        raise DatasetError(f"{dataset.id} cannot be used: {error}.") from error


class Source:
    """A Minari dataset, read in a goal mode.

    Args:
        dataset: where to read.
        goal: the goal mode.
        target: the goal that rewards and terminations are relabelled to in the mode `evaluation`.
        radius: success radius of each episode's own goal in the mode `observed`, in the units of
            the goal; None: not known, so that nothing is dropped.
        after_success: `drop` ends every episode, terminated, at its first success.
        chosen: see `observed`.

    Attributes:
        leaves: what makes up an observation.
        keys: of these; none where the whole observation is one.
        action_shape: of a recorded action.
        layout: where the fields stand in a row.
        action_range: what maps recorded actions to [-1, 1].
        observation_bounds: lower and upper bounds of an observation, `(O,)` each.
        recorded_transitions: how many the dataset holds.
        useful_transitions: how many of them lead up to an episode's first success, the tails
            behind it left out; all of them where nothing tells success.
        lengths: steps of each recorded episode, as far as `episodes` has read them.
    """

    def __init__(
        self,
        dataset: minari.MinariDataset,
        goal: GoalMode,
        target: Goal | None,
        radius: float | None,
        after_success: AfterSuccess,
        chosen: Sequence[str] = (),
    ) -> None:
        self._dataset, self._goal, self._target, self._radius = dataset, goal, target, radius
        self._drop = after_success == "drop"
        self.leaves = observed(dataset, goal, chosen)
        self.keys = tuple(leaf.key for leaf in self.leaves if leaf.key)
        self.action_range = _action_range(dataset)
        self.action_shape: tuple[int, ...] = tuple(dataset.action_space.shape or ())
        observation_dim = sum(leaf.width for leaf in self.leaves)
        self.layout = RowLayout(observation_dim, len(self.action_range.low))
        self.observation_bounds = observation_bounds(dataset.observation_space, self.leaves)
        self.recorded_transitions = int(dataset.total_steps)
        self.useful_transitions = self._count_useful()
        self.lengths: list[int] = []

    @property
    def num_transitions(self) -> int:
        """How many rows `episodes` yields in all."""
        return self.useful_transitions if self._drop else self.recorded_transitions

    def longest_episode(self) -> int:
        """Steps of the longest recorded episode."""
        return max(len(each) for each in read_column(self._dataset, "rewards"))

    def returns(self) -> NDArray[np.float64]:
        """The return of each episode as recorded, `(episodes,)`."""
        rewards = read_column(self._dataset, "rewards")
        return np.array([np.sum(each, dtype=np.float64) for each in rewards])

    def episodes(
        self, environment: EnvironmentSpec, content: ContentHash | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """Every episode's rows `(T, width)`, in order.

        Args:
            environment: its reward transform is used.
            content: takes every episode into account, if given.

        Raises:
            DatasetError: an episode is not of the right form, or some are missing.
        """
        count = 0
        self.lengths = []
        for episode in read_episodes(self._dataset, self._needed_keys()):
            if content is not None:
                content.add(episode)
            self.lengths.append(len(episode.rewards))
            rows = self._rows(episode, environment)
            count += len(rows)
            if count > self.num_transitions:
                self._refuse_number(f"more than {self.num_transitions}")
            yield rows
        if count != self.num_transitions or count == 0:
            self._refuse_number(f"{count}")

    def _refuse_number(self, held: str) -> None:
        raise DatasetError(
            f"{self._dataset.id} announces {self.num_transitions} transitions and holds {held}; "
            "make or download it again."
        )

    def _needed_keys(self) -> tuple[str, ...]:
        return self.keys if self._goal == "stored" else tuple({*self.keys, *_GOAL_KEYS})

    def _count_useful(self) -> int:
        if self._target is None and self._radius is None:
            return self.recorded_transitions
        positions = read_column(self._dataset, "observations/achieved_goal")
        goals = read_column(self._dataset, "observations/desired_goal")
        reached = (self._reached(*each) for each in zip(positions, goals, strict=True))
        return sum(_first(each) for each in reached)

    def _reached(
        self, positions: NDArray[np.float64], goals: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Which transitions lead to the goal that counts, `(T,)`, from `(T+1, 2)` each."""
        if self._target is not None:
            return self._target.reached(positions[1:])
        if self._radius is None:
            return np.zeros(len(positions) - 1, np.bool_)
        shared = min(len(positions), len(goals))  # They differ in damaged data, refused later.
        distance = np.linalg.norm(positions[1:shared] - goals[1:shared], axis=-1)
        reached: NDArray[np.bool_] = distance <= self._radius
        return reached

    def _rows(self, episode: RecordedEpisode, environment: EnvironmentSpec) -> NDArray[np.float32]:
        steps = len(episode.rewards)
        rows = np.empty((steps, self.layout.width), np.float32)
        fields = self.layout.unpack(rows)
        observations, actions, rewards, next_observations, terminated, truncated, versions = fields
        flat = self._flat(episode.observations)
        observations[...], next_observations[...] = flat[:-1], flat[1:]
        scaled = self.action_range.to_unit(episode.actions.reshape(steps, -1))
        np.clip(scaled, -ACTION_LIMIT, ACTION_LIMIT, out=actions)
        raw_rewards, terminated[...] = episode.rewards, episode.terminations
        truncated[...], versions[...] = episode.truncations, 0
        kept = steps
        if self._goal != "stored":
            reached = self._reached(*(episode.observations[key] for key in _GOAL_KEYS[::2]))
            kept = _first(reached) if self._drop else steps
            if self._target is not None:
                raw_rewards = reached.astype(np.float64)
            if self._target is not None or self._drop:
                terminated[...] = reached
        rewards[...] = environment.transform_reward(raw_rewards)
        # Where a recording just stops, the last transition leads nowhere either.
        truncated[kept - 1] = truncated[kept - 1] or not terminated[kept - 1]
        return rows[:kept]

    def _flat(self, observations: Any) -> NDArray[np.float32]:  # noqa: ANN401
        try:
            return flatten(observations, self.leaves)
        except EnvironmentMismatchError as error:
            raise DatasetError(f"{self._dataset.id} cannot be used: {error}") from error


def _first(reached: NDArray[np.bool_]) -> int:
    """The number of transitions up to and with the first that reaches the goal; else all."""
    return int(reached.argmax()) + 1 if reached.any() else len(reached)


def _action_range(dataset: minari.MinariDataset) -> ActionRange:
    if refusal := recorded_actions_refusal(dataset):
        raise DatasetError(f"{dataset.id} has {refusal}")
    space = dataset.action_space
    assert isinstance(space, spaces.Box)
    return ActionRange.of(space.low.ravel(), space.high.ravel())
