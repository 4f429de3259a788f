"""The AntMaze tasks: D4RL's six, and two small ones for demonstrations and tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from iqlft.config.errors import nearest
from iqlft.datasets.antmaze.gait import GAITS, LATEST
from iqlft.datasets.errors import DatasetError
from iqlft_workers.registration import EPISODE_STEPS

if TYPE_CHECKING:
    from iqlft_workers.mazes import Cell, D4RLMaze

START, EVALUATION_GOAL, ANY, HAND_PICKED, NOT_HAND_PICKED = (
    "start", "evaluation goal", "any free cell", "hand-picked goals", "free cells that are no goal",
)  # fmt: skip
"""The rules by which an episode's start and goal cells are drawn."""

REGENERATED = "regenerated with the D4RL procedure"
"""Label of generated datasets in figures, tables and descriptions: they are not D4RL's data."""


@dataclass(frozen=True)
class AntMazeTask:
    """Where the episodes of one dataset start, and where the ant is sent.

    Attributes:
        name: as on the command line, such as `antmaze-medium-play`.
        maze: the maze's name in its Gymnasium id.
        starts: rule for the start cell.
        goals: rule for the commanded goal's cell.
    """

    name: str
    maze: str
    starts: str
    goals: str

    @property
    def environment_id(self) -> str:
        """Gymnasium id of the evaluation environment."""
        return f"iqlft/AntMaze-{self.maze}-v0"

    def dataset_id(self, version: str = LATEST) -> str:
        """Minari id of the dataset made with the gait of a version."""
        return f"iqlft/antmaze/{self.name.removeprefix('antmaze-')}-{version}"

    @property
    def episode_steps(self) -> int:
        """Transitions per episode: the evaluation's limit + 1, as in D4RL."""
        return EPISODE_STEPS[self.maze] + 1

    def num_episodes(self, transitions: int) -> int:
        """Number of whole episodes, at least one, with about `transitions` transitions."""
        return max(1, round(transitions / self.episode_steps))


TASKS = {
    task.name: task
    for task in (
        AntMazeTask("antmaze-umaze", "UMaze", START, EVALUATION_GOAL),
        AntMazeTask("antmaze-umaze-diverse", "UMaze", ANY, ANY),
        AntMazeTask("antmaze-medium-play", "Medium", NOT_HAND_PICKED, HAND_PICKED),
        AntMazeTask("antmaze-medium-diverse", "Medium", ANY, ANY),
        AntMazeTask("antmaze-large-play", "Large", NOT_HAND_PICKED, HAND_PICKED),
        AntMazeTask("antmaze-large-diverse", "Large", ANY, ANY),
        AntMazeTask("antmaze-corner", "Corner", START, EVALUATION_GOAL),
        AntMazeTask("antmaze-corner-diverse", "Corner", ANY, ANY),
    )
}
"""All tasks by name."""


def find_task(name: str) -> AntMazeTask:
    """The task called `name`.

    Raises:
        DatasetError: there is no such task; the message names the nearest one.
    """
    if name in TASKS:
        return TASKS[name]
    raise DatasetError(
        f"There is no task {name!r}.{nearest(name, TASKS)} Known tasks: {', '.join(TASKS)}."
    )


def generated() -> dict[str, tuple[AntMazeTask, str]]:
    """Task and gait version of every dataset that can be made, by Minari id."""
    return {
        task.dataset_id(version): (task, version) for task in TASKS.values() for version in GAITS
    }


def choose_cells(rule: str, maze: D4RLMaze) -> list[Cell]:
    """The cells from which `rule` draws uniformly; empty for the environment's own start."""
    return {
        START: [],
        EVALUATION_GOAL: [maze.layout.goal],
        ANY: maze.free_cells,
        HAND_PICKED: maze.goal_cells,
        NOT_HAND_PICKED: [c for c in maze.free_cells if c not in maze.goal_cells],
    }[rule]
