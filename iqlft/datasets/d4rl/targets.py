"""Targets of an import: a D4RL file becomes data of an AntMaze task or of another environment."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces

from iqlft.datasets.antmaze.episodes import make_environment
from iqlft.datasets.antmaze.tasks import TASKS
from iqlft.datasets.antmaze.writing import evaluation_spec
from iqlft.datasets.d4rl.file import ANTMAZE, VECTORS
from iqlft.datasets.d4rl.survey import read_episode
from iqlft.datasets.errors import DatasetError
from iqlft.datasets.imported import default_id
from iqlft.datasets.writing import episode_buffer
from iqlft_workers import environment as environments
from iqlft_workers.environment import EnvironmentSpec
from iqlft_workers.mazes import CELL_SIZE, D4RL_SUCCESS_RADIUS, MAZES, D4RLMaze

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import gymnasium
    from gymnasium.envs.registration import EnvSpec
    from minari.data_collector.episode_buffer import EpisodeBuffer
    from numpy.typing import NDArray

    from iqlft.datasets.antmaze.tasks import AntMazeTask
    from iqlft.datasets.d4rl.file import D4RLFile, Family
    from iqlft.datasets.d4rl.survey import Span, Survey
    from iqlft.datasets.imported import Report

MOST_OUTSIDE = 0.02
"""Greatest share of positions outside a maze's free cells for data to count as of that maze."""


class Target(ABC):
    """The kind of dataset that a file becomes.

    Attributes:
        family: the family of files that it takes.
        name: name of the task or id of the environment.
        environment: recorded in the dataset as the environment of the data.
        evaluation: spec of the evaluation environment.
        widths: number of values per row that each array of vectors must have.
        scores: returns that score 0 and 100, or None.
        remark: sentences about the result, for its description.
    """

    family: Family
    name: str
    environment: gymnasium.Env[Any, Any]
    evaluation: EnvSpec | None
    widths: Mapping[str, int]
    scores: tuple[float, float] | None
    remark: str

    @abstractmethod
    def default_id(self, path: Path) -> str:
        """Minari id for the file, in the namespace `imported`."""

    @abstractmethod
    def check(self, path: Path, found: Survey) -> None:
        """Raises `DatasetError` if the file cannot be of this target."""

    @abstractmethod
    def measure(self, found: Survey) -> Report:
        """Measurements of this kind of file, beyond those of every file."""

    @abstractmethod
    def episode(self, index: int, file: D4RLFile, found: Survey, span: Span) -> EpisodeBuffer:
        """An episode in Minari's format."""


class AntMazeTarget(Target):
    """The data of an AntMaze task, in the format of `iqlft data make`.

    Args:
        task: the task.
    """

    family = ANTMAZE
    widths: Mapping[str, int] = {"observations": 29, "actions": 8, "infos/goal": 2}
    scores = (0.0, 1.0)
    remark = (
        "Stored rewards are for each episode's commanded goal; the file's own, for the evaluation "
        "goal, come back when rewards are relabelled to it."
    )

    def __init__(self, task: AntMazeTask) -> None:
        self.name = task.name
        self.environment = make_environment(task)
        self.evaluation = evaluation_spec(task)
        self._maze = task.maze

    def default_id(self, path: Path) -> str:
        """The task's name, with version 2 for files called `..._fixed`, as in D4RL, else 0."""
        version = 2 if path.stem.endswith("_fixed") else 0
        return f"imported/antmaze/{self.name.removeprefix('antmaze-')}-v{version}"

    def check(self, path: Path, found: Survey) -> None:
        """Raises `DatasetError` if the positions do not fit the task's maze."""
        outside = _share_outside(found.positions, self._maze)
        if outside <= MOST_OUTSIDE:
            return
        fitting = {maze for maze in MAZES if _share_outside(found.positions, maze) <= MOST_OUTSIDE}
        names = " or ".join(task.name for task in TASKS.values() if task.maze in fitting)
        raise DatasetError(
            f"{outside:.0%} of the positions in {path} are in walls or outside of the maze of "
            f"{self.name}, so the file is of another task; "
            + (f"they fit --task {names}." if names else "they fit no maze known here.")
        )

    def measure(self, found: Survey) -> Report:
        """The longest unmarked jump, and the file's rewards against those of relabelling."""
        unmarked = (found.jumps & ~found.marked)[:-1]
        kept = np.zeros(len(found.rewards), np.bool_)
        for span in found.spans:
            kept[span.first : span.first + span.steps] = True
        goal = self.environment.unwrapped.evaluation_goal  # type: ignore[attr-defined]
        reached = np.linalg.norm(found.next_positions[kept] - goal, axis=-1) <= D4RL_SUCCESS_RADIUS
        return {
            "longest false transition (m)": float(found.moved[unmarked].max(initial=0)),
            "rewarded rows": int((found.rewards > 0).sum()),
            "rewarded transitions after relabelling": int(reached.sum()),
            "rewards that relabelling changes": int((reached != (found.rewards[kept] > 0)).sum()),
            "positions outside free cells (share)": _share_outside(found.positions, self._maze),
        }

    def episode(self, index: int, file: D4RLFile, found: Survey, span: Span) -> EpisodeBuffer:
        """An episode that ends by time-out, with rewards for its commanded goal."""
        observations, actions, _ = read_episode(file, found, span)
        qpos, qvel = np.split(observations.astype(np.float64), [15], axis=1)
        goal = file.read("infos/goal", span.first, span.last).astype(np.float64)
        goal = np.concatenate((goal, goal[-1:]))[: len(qpos)]
        success = np.linalg.norm(qpos[:, :2] - goal, axis=-1) <= D4RL_SUCCESS_RADIUS
        return episode_buffer(
            index,
            {
                "observation": np.concatenate((qpos[:, 2:], qvel), axis=1),
                "achieved_goal": qpos[:, :2],
                "desired_goal": goal,
            },
            actions.astype(np.float32),
            success[1:].astype(np.float64),
            infos={"success": success, "qpos": qpos, "qvel": qvel, "goal": goal},
        )


def _share_outside(positions: NDArray[np.float32], maze: str) -> float:
    """Share of positions `(N, 2)` that are not in a free cell of the maze."""
    layout = MAZES[maze]
    free = np.pad([[cell != "1" for cell in row] for row in layout.rows], 1)
    cells = np.floor(positions[:, ::-1] / CELL_SIZE + 0.5) + np.array(D4RLMaze(layout).start) + 1
    rows, columns = np.clip(cells, 0, np.array(free.shape) - 1).astype(np.int64).T
    return float(1 - free[rows, columns].mean())


class VectorTarget(Target):
    """The data of an environment whose observations and actions are single vectors.

    Args:
        environment_id: Gymnasium id.

    Raises:
        DatasetError: the environment has other spaces.
        EnvironmentMismatchError: there is no such environment.
    """

    family = VECTORS
    scores = None
    remark = "Rewards and terminations are the file's."

    def __init__(self, environment_id: str) -> None:
        self.name = environment_id
        self.environment = environments.make(EnvironmentSpec(environment_id, trust=True))
        self.evaluation = self.environment.spec
        observed, acted = self.environment.observation_space, self.environment.action_space
        if not (
            isinstance(observed, spaces.Box)
            and isinstance(acted, spaces.Box)
            and len(observed.shape) == len(acted.shape) == 1
        ):
            self.environment.close()
            raise DatasetError(
                f"{environment_id} observes {observed} and acts by {acted}, but vectors of numbers "
                "are needed; AntMaze files are imported with --task."
            )
        self.widths = {"observations": observed.shape[0], "actions": acted.shape[0]}

    def default_id(self, path: Path) -> str:
        """The file's name, with a version added if it has none."""
        return default_id(path)

    def check(self, path: Path, found: Survey) -> None:
        """Raises `DatasetError` if the rows are not in time order."""
        if found.unordered:
            raise DatasetError(
                f"The rows of {path} do not follow each other: most of its next_observations are "
                "not the next row's observations; D4RL's files are in the order of time."
            )

    def measure(self, found: Survey) -> Report:  # noqa: ARG002
        """Empty: there is nothing more to measure in arbitrary environments."""
        return {}

    def episode(self, index: int, file: D4RLFile, found: Survey, span: Span) -> EpisodeBuffer:
        """An episode with the file's rewards and terminations."""
        observations, actions, rewards = read_episode(file, found, span)
        return episode_buffer(
            index,
            observations.astype(self.environment.observation_space.dtype),
            actions.astype(self.environment.action_space.dtype),
            rewards,
            terminated=span.terminated,
        )
