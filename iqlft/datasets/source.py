"""One Minari dataset as rows of transitions, read one episode at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
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

_WITHIN = 1 + 1e-5
"""Greatest magnitude of a scaled action that counts as within [-1, 1], for rounding."""

_GOAL_KEYS = ("achieved_goal", "observation", "desired_goal")
"""The keys of a goal-conditioned observation, in the order in which they are used."""


def observed(
    dataset: minari.MinariDataset, goal: GoalMode, chosen: Sequence[str] = ()
) -> tuple[Leaf, ...]:
    """The parts that make up an observation in a goal mode.

    Args:
        dataset: an opened one.
        goal: the goal mode.
        chosen: keys to use, in this order; empty: those of the goal mode, which are all of them for
            `stored`.

    Raises:
        DatasetError: the dataset has no goals or no such keys, or its observations cannot be
            flattened into a vector.
    """
    space, keys = dataset.observation_space, tuple(chosen)
    try:
        if goal != "stored":
            if not set(_GOAL_KEYS) <= leaf_spaces(space).keys():
                raise DatasetError(
                    f"{dataset.id} has no goals to be {goal}: its observation space is {space}; "
                    "use the goal mode `stored`."
                )
            keys = keys or _GOAL_KEYS[: 2 if goal == "evaluation" else 3]
        return observed_leaves(space, keys)
    except EnvironmentMismatchError as error:
        raise DatasetError(f"{dataset.id} cannot be used: {error}.") from error


@dataclass
class Reading:
    """Counts gathered while a dataset is read.

    Attributes:
        lengths: steps of each recorded episode.
        useful: transitions up to their episode's first success; all of them if success is not
            known.
        outside: action values outside the bounds.
        torn: episodes with an end before their last step.
    """

    lengths: list[int] = field(default_factory=list)
    useful: int = 0
    outside: int = 0
    torn: int = 0

    @property
    def recorded(self) -> int:
        """Number of transitions recorded in the episodes."""
        return sum(self.lengths)

    def add(self, episode: RecordedEpisode, useful: int, outside: int) -> None:
        """Counts an episode."""
        self.lengths.append(len(episode.rewards))
        self.useful += useful
        self.outside += outside
        self.torn += bool((episode.terminations | episode.truncations)[:-1].any())


class Source:
    """A Minari dataset, read in a goal mode.

    Args:
        dataset: an opened one.
        goal: the goal mode.
        target: the goal that rewards and terminations are relabelled to in the mode `evaluation`.
        radius: success radius of each episode's own goal in the mode `observed`, in the units of
            the goal; None: not known, so that nothing is dropped.
        after_success: `drop` ends every episode, terminated, at its first success.
        chosen: see `observed`.

    Attributes:
        leaves: the parts that make up an observation.
        keys: the keys of the leaves; empty if the whole observation is a single leaf.
        action_shape: shape of a recorded action.
        layout: where the fields are in a row.
        action_range: maps recorded actions to [-1, 1].
        observation_bounds: lower and upper bounds of an observation, `(O,)` each.
        num_transitions: total number of rows that `episodes` yields.
        reading: the counts of the latest call of `episodes`.
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
        recorded = int(dataset.total_steps)
        self.num_transitions = self._count_useful() if self._drop else recorded
        self.reading = Reading()

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
            environment: whose reward transform is applied.
            content: if given, is updated with every recorded episode.

        Raises:
            DatasetError: an episode does not have the right form, or the number of transitions is
                not the announced one.
        """
        self.reading, announced = Reading(), int(self._dataset.total_steps)
        for episode in read_episodes(self._dataset, self.needed_keys):
            if content is not None:
                content.add(episode)
            rows = self._rows(episode, environment)
            if self.reading.recorded > announced:
                self._refuse_number(f"more than {announced}")
            yield rows
        if self.reading.recorded != announced or announced == 0:
            self._refuse_number(f"{self.reading.recorded}")

    def _refuse_number(self, held: str) -> None:
        raise DatasetError(
            f"{self._dataset.id} announces {self._dataset.total_steps} transitions and holds "
            f"{held}; make or download it again."
        )

    @property
    def needed_keys(self) -> tuple[str, ...]:
        """The keys of a Dict observation that are read."""
        return self.keys if self._goal == "stored" else tuple({*self.keys, *_GOAL_KEYS})

    def _count_useful(self) -> int:
        """Number of transitions up to their episode's first success."""
        positions = read_column(self._dataset, "observations/achieved_goal")
        goals = read_column(self._dataset, "observations/desired_goal")
        reached = (self._reached(*each) for each in zip(positions, goals, strict=True))
        return sum(_first(each) for each in reached)

    def _reached(
        self, positions: NDArray[np.float64], goals: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Which transitions reach the target, or their own goal, `(T,)`, from `(T+1, 2)` each."""
        if self._target is not None:
            return self._target.reached(positions[1:])
        if self._radius is None:
            return np.zeros(len(positions) - 1, np.bool_)
        shared = min(len(positions), len(goals))  # They differ only in damaged data, refused later.
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
        if raw_rewards.dtype == np.float16:  # Else the transform could overflow.
            raw_rewards = raw_rewards.astype(np.float32)
        truncated[...], versions[...] = episode.truncations, 0
        useful = kept = steps
        if self._goal != "stored":
            reached = self._reached(*(episode.observations[key] for key in _GOAL_KEYS[::2]))
            useful = _first(reached)
            kept = useful if self._drop else steps
            if self._target is not None:
                raw_rewards, terminated[...] = reached.astype(np.float64), reached
            elif self._drop:
                terminated[...] = np.logical_or(terminated, reached)
        rewards[...] = environment.transform_reward(raw_rewards)
        self.reading.add(episode, useful, int(np.count_nonzero(np.abs(scaled) > _WITHIN)))
        # A recording that just stops counts as truncated at its last transition.
        truncated[kept - 1] = truncated[kept - 1] or not terminated[kept - 1]
        return rows[:kept]

    def _flat(self, observations: Any) -> NDArray[np.float32]:  # noqa: ANN401
        try:
            return flatten(observations, self.leaves)
        except EnvironmentMismatchError as error:
            raise DatasetError(f"{self._dataset.id} cannot be used: {error}") from error


def _first(reached: NDArray[np.bool_]) -> int:
    """Number of transitions up to and including the first that reaches the goal, or all."""
    return int(reached.argmax()) + 1 if reached.any() else len(reached)


def _action_range(dataset: minari.MinariDataset) -> ActionRange:
    if refusal := recorded_actions_refusal(dataset):
        raise DatasetError(f"{dataset.id} has {refusal}")
    space = dataset.action_space
    assert isinstance(space, spaces.Box)
    return ActionRange.of(space.low.ravel(), space.high.ravel())
