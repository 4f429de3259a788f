"""A Minari dataset as one contiguous float32 block of transitions.

Episodes are read one at a time straight into the block, so loading takes little more memory than
the block itself. Which observations are used, and for which goal the rewards are, is the *goal
mode*; nothing here looks at an environment's name.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from gymnasium import spaces

from iqlft.datasets.errors import DatasetError
from iqlft.datasets.reading import RecordedEpisode, read_episodes
from iqlft.datasets.recorded import Goal, evaluation_goal, open_dataset, recorded_environment
from workers.environment import (
    Environment,
    EnvironmentMismatchError,
    EnvironmentSpec,
    flatten_observation,
)
from workers.transition import RowLayout

if TYPE_CHECKING:
    from collections.abc import Mapping

    import minari
    from numpy.typing import NDArray

GoalMode = Literal["evaluation", "observed", "stored"]
"""`evaluation`: rewards and terminations are those of the environment's one evaluation goal, which
is not observed. `observed`: stored rewards for each episode's goal, which is observed. `stored`:
everything as it is in the dataset."""

ACTION_LIMIT = 1 - 1e-5
"""Dataset actions are clipped to +- this, as IQL's authors do."""


@dataclass(frozen=True)
class OfflineDataset:
    """A dataset in memory, and the environment that belongs to it.

    Attributes:
        id: Minari id.
        hash: blake2b of the rows, hexadecimal.
        rows: `(N, width)` float32, contiguous, one transition each; see `layout`.
        layout: where the fields stand in a row.
        environment: what to evaluate in and fine-tune on.
        goal: the goal mode.
        num_episodes: number of recorded episodes.
        reference_scores: returns that score 0 and 100, or None.
        description: the dataset's own, or empty.
    """

    id: str
    hash: str
    rows: NDArray[np.float32]
    layout: RowLayout
    environment: EnvironmentSpec
    goal: GoalMode
    num_episodes: int
    reference_scores: tuple[float, float] | None
    description: str

    @property
    def num_transitions(self) -> int:
        """N, the number of transitions."""
        return len(self.rows)

    def observation_mean(self) -> NDArray[np.float32]:
        """Mean of the observations, `(O,)` float32."""
        mean: NDArray[np.float64] = self._observations().mean(0, dtype=np.float64)
        return mean.astype(np.float32)

    def observation_std(self) -> NDArray[np.float32]:
        """Deviation of the observations + 1e-3, `(O,)` float32: a divisor that is never 0."""
        observations, mean = self._observations(), self.observation_mean()
        # In chunks: a deviation over the whole block would take a float64 copy of it.
        squares = np.zeros(self.layout.observation_dim)
        for first in range(0, len(observations), 65536):
            difference = observations[first : first + 65536] - mean
            squares += np.square(difference, dtype=np.float64).sum(0)
        return (np.sqrt(squares / len(observations)) + 1e-3).astype(np.float32)

    def _observations(self) -> NDArray[np.float32]:
        return self.rows[:, : self.layout.observation_dim]


def load_dataset(
    dataset_id: str,
    *,
    goal: GoalMode = "evaluation",
    environment: EnvironmentSpec | None = None,
    reward_scale: float = 1.0,
    reward_shift: float = 0.0,
) -> OfflineDataset:
    """Loads a Minari dataset from the local Minari folder.

    Args:
        dataset_id: Minari id, such as `iqlft/antmaze/medium-play-v0`.
        goal: the goal mode.
        environment: evaluation environment that replaces the recorded one, with its own reward
            transform; its observation keys are set by the goal mode.
        reward_scale: factor on rewards, for the recorded environment.
        reward_shift: added to rewards after scaling, for the recorded environment.

    Raises:
        DatasetError: the dataset is not there, or does not suit the goal mode.
        EnvironmentMismatchError: the environment is unknown.
    """
    dataset = open_dataset(dataset_id)
    keys = _observation_keys(dataset, goal)
    if environment is None:
        environment = recorded_environment(dataset, reward_scale, reward_shift)
    environment = dataclasses.replace(environment, observation_keys=keys)
    target = None
    if goal == "evaluation":
        environment, target = evaluation_goal(environment)
    reader = _Reader(dataset, environment, target)
    rows = reader.read()
    return OfflineDataset(
        id=dataset_id,
        hash=hashlib.blake2b(rows.data, digest_size=16).hexdigest(),
        rows=rows,
        layout=reader.layout,
        environment=environment,
        goal=goal,
        num_episodes=int(dataset.total_episodes),
        reference_scores=_reference_scores(dataset.storage.metadata),
        description=str(dataset.storage.metadata.get("description", "")),
    )


def check_fits(dataset: OfflineDataset, environment: Environment) -> None:
    """Raises `EnvironmentMismatchError` unless dataset and environment have equal dimensions."""
    for name, recorded, actual in (
        ("observations", dataset.layout.observation_dim, environment.observation_dim),
        ("actions", dataset.layout.action_dim, environment.action_dim),
    ):
        if recorded != actual:
            raise EnvironmentMismatchError(
                f"The {name} of {dataset.id} (goal mode {dataset.goal}) have {recorded} values, "
                f"but those of {environment.spec.id} have {actual}; choose the dataset's own "
                "environment, or another goal mode."
            )


def _observation_keys(dataset: minari.MinariDataset, goal: GoalMode) -> tuple[str, ...]:
    """The keys that make up an observation in this goal mode, all of them vectors."""
    space = dataset.observation_space
    is_dict = isinstance(space, spaces.Dict)
    if goal == "stored":
        keys = tuple(space.spaces) if is_dict else ()
    else:
        keys = ("achieved_goal", "observation", "desired_goal")[: 2 if goal == "evaluation" else 3]
        if not is_dict or not {*keys, "desired_goal"} <= space.spaces.keys():
            raise DatasetError(
                f"{dataset.id} has no goals to be {goal}: its observation space is {space}; "
                "use the goal mode `stored`."
            )
    boxes = [space[key] for key in keys] if keys else [space]
    if not all(isinstance(box, spaces.Box) and len(box.shape) == 1 for box in boxes):
        raise DatasetError(f"{dataset.id} has the observation space {space}; vectors are needed.")
    return keys


def _reference_scores(metadata: Mapping[str, Any]) -> tuple[float, float] | None:
    low, high = metadata.get("ref_min_score"), metadata.get("ref_max_score")
    return None if low is None or high is None else (float(low), float(high))


class _Reader:
    """Fills the block, episode by episode.

    Args:
        dataset: where to read.
        environment: its reward transform and observation keys are used.
        target: the goal that rewards and terminations are relabelled to, or None to keep them.
    """

    def __init__(
        self, dataset: minari.MinariDataset, environment: EnvironmentSpec, target: Goal | None
    ) -> None:
        self._dataset, self._environment, self._target = dataset, environment, target
        space, actions = dataset.observation_space, dataset.action_space
        keys = environment.observation_keys
        self._centre, self._half_range = _action_range(dataset.id, actions)
        boxes = [space[key] for key in keys] if keys else [space]
        self.layout = RowLayout(sum(box.shape[0] for box in boxes), actions.shape[0])

    def read(self) -> NDArray[np.float32]:
        """The rows `(N, width)` of all episodes in order."""
        rows = np.empty((self._dataset.total_steps, self.layout.width), np.float32)
        first = 0
        keys = self._environment.observation_keys
        for index, episode in enumerate(read_episodes(self._dataset, keys)):
            steps = len(episode.rewards)
            self._fill(rows[first : first + steps], episode, index)
            first += steps
        if first != len(rows) or first == 0:
            raise DatasetError(
                f"{self._dataset.id} announces {len(rows)} transitions and holds {first}; "
                "make or download it again."
            )
        return rows

    def _fill(self, rows: NDArray[np.float32], episode: RecordedEpisode, index: int) -> None:
        fields = self.layout.unpack(rows)
        observations, actions, rewards, next_observations, terminated, truncated, versions = fields
        flat = flatten_observation(episode.observations, self._environment.observation_keys)
        if len(flat) != len(rows) + 1:
            raise DatasetError(
                f"Episode {index} of {self._dataset.id} has {len(flat)} observations for "
                f"{len(rows)} transitions; one more than transitions is needed."
            )
        observations[...], next_observations[...] = flat[:-1], flat[1:]
        scaled = (episode.actions - self._centre) / self._half_range
        np.clip(scaled, -ACTION_LIMIT, ACTION_LIMIT, out=actions)
        raw_rewards, terminated[...] = episode.rewards, episode.terminations
        if self._target is not None:
            reached = self._target.reached(episode.observations["achieved_goal"][1:])
            raw_rewards, terminated[...] = reached.astype(np.float64), reached
        rewards[...] = self._environment.transform_reward(raw_rewards)
        truncated[...], versions[...] = episode.truncations, 0
        # Where a recording just stops, the last transition leads nowhere either.
        truncated[-1] = truncated[-1] or not terminated[-1]


def _action_range(dataset_id: str, space: spaces.Space[Any]) -> tuple[Any, Any]:
    """Centre and half range of the action space, each `(A,)` float32."""
    if not isinstance(space, spaces.Box) or len(space.shape) != 1 or not space.is_bounded():
        raise DatasetError(
            f"{dataset_id} has the action space {space}; a bounded vector of reals is needed."
        )
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    return ((high + low) / 2).astype(np.float32), ((high - low) / 2).astype(np.float32)
