"""D4RL's ant, its mazes and their coordinates, on Gymnasium-Robotics' maze.

D4RL's ant is Gymnasium's `ant.xml` with four other values (`ant_spec`). x grows with the column and
y with the row, in metres, and the start cell's centre is the origin, as in D4RL.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium.envs.mujoco
import mujoco
import numpy as np
from gymnasium_robotics.envs.maze.maze_v4 import Maze

if TYPE_CHECKING:
    from numpy.typing import NDArray

CELL_SIZE = 4.0
"""Edge of a maze cell in metres."""
WALL_HEIGHT = 2.0
"""Height of a wall in metres."""
FRAME_SKIP = 5
"""Simulator steps per control step: 5 x 0.02 s = 0.1 s."""
D4RL_SUCCESS_RADIUS = 0.5
"""Success radius of D4RL's AntMaze in metres: the goal is reached within this distance."""

Cell = tuple[int, int]
"""Row and column."""


class MazeLayout(NamedTuple):
    """A maze: `1` wall, `0` free, `R` start, `G` hand-picked goal.

    Attributes:
        rows: one string per row.
        goal: cell of the evaluation goal.
    """

    rows: tuple[str, ...]
    goal: Cell


MAZES = {
    "UMaze": MazeLayout(("11111", "1R001", "11101", "1G001", "11111"), (3, 1)),
    "Medium": MazeLayout(
        (
            "11111111",
            "1R011001",
            "100100G1",
            "11000111",
            "10010001",
            "1G100101",
            "10001G01",
            "11111111",
        ),
        (6, 6),
    ),
    "Large": MazeLayout(
        (
            "111111111111",
            "1R0001G00001",
            "101101010101",
            "10000G0100G1",
            "101111011101",
            "10G101000001",
            "110101010111",
            "1001G0G10G01",
            "111111111111",
        ),
        (7, 9),
    ),
    "Corner": MazeLayout(("1111", "1R01", "11G1", "1111"), (2, 2)),
}
"""The mazes by the name in their Gymnasium id."""


def ant_spec() -> mujoco.MjSpec:
    """Gymnasium's ant with D4RL's time step, torque and contact parameters, uncompiled."""
    xml = Path(gymnasium.envs.mujoco.__file__).parent / "assets" / "ant.xml"
    spec = mujoco.MjSpec.from_file(str(xml))
    spec.option.timestep = 0.02
    for actuator in spec.actuators:
        actuator.gear = [30, 0, 0, 0, 0, 0]
    _set_contacts(spec)
    return spec


def _set_contacts(spec: mujoco.MjSpec) -> None:
    for geom in spec.geoms:
        geom.solref, geom.solimp = [0.02, 1], [0.8, 0.8, 0.01, 0.5, 2]


class D4RLMaze(Maze):  # type: ignore[misc]  # the base class is untyped
    """Gymnasium-Robotics' maze in D4RL's coordinates.

    Args:
        layout: which cells are walls, start and goals.
    """

    def __init__(self, layout: MazeLayout) -> None:
        cells = [[1 if c == "1" else c.lower() if c in "RG" else 0 for c in r] for r in layout.rows]
        super().__init__(cells, CELL_SIZE, WALL_HEIGHT / CELL_SIZE)
        self.layout = layout
        self.start: Cell = next(
            (i, row.index("R")) for i, row in enumerate(layout.rows) if "R" in row
        )
        self.free_cells: list[Cell] = [
            (i, j) for i, row in enumerate(layout.rows) for j, c in enumerate(row) if c != "1"
        ]
        self.goal_cells = [cell for cell in self.free_cells if self.kind(cell) == "G"]
        self._unique_reset_locations = [self.cell_rowcol_to_xy(self.start)]
        self._unique_goal_locations = [self.cell_rowcol_to_xy(layout.goal)]

    def kind(self, cell: Cell) -> str:
        """The character of a cell in the layout."""
        return self.layout.rows[cell[0]][cell[1]]

    def cell_rowcol_to_xy(self, rowcol_pos: tuple[float, float]) -> NDArray[np.float64]:
        """Centre `(2,)` of the cell (row, column), in metres from the start cell's centre."""
        row, column = rowcol_pos
        return np.array([column - self.start[1], row - self.start[0]], np.float64) * CELL_SIZE

    def cell_xy_to_rowcol(self, xy_pos: Any) -> Cell:  # noqa: ANN401
        """The cell (row, column) in which a position (x, y) lies."""
        return (
            math.floor(xy_pos[1] / CELL_SIZE + 0.5) + self.start[0],
            math.floor(xy_pos[0] / CELL_SIZE + 0.5) + self.start[1],
        )

    def build(self) -> mujoco.MjSpec:
        """D4RL's ant among this maze's walls, with a marker where the goal is."""
        spec = ant_spec()
        half = CELL_SIZE / 2
        for i, row in enumerate(self.layout.rows):
            for j, character in enumerate(row):
                if character == "1":
                    spec.worldbody.add_geom(
                        name=f"block_{i}_{j}",
                        type=mujoco.mjtGeom.mjGEOM_BOX,
                        pos=[*self.cell_rowcol_to_xy((i, j)), WALL_HEIGHT / 2],
                        size=[half, half, WALL_HEIGHT / 2],
                        contype=1,
                        conaffinity=1,
                        rgba=[0.7, 0.5, 0.3, 1],
                    )
        _set_contacts(spec)
        # Not at the origin, where MuJoCo would take the site for fixed and never update it.
        spec.worldbody.add_site(
            name="target",
            type=mujoco.mjtGeom.mjGEOM_SPHERE,
            pos=[*self.cell_rowcol_to_xy(self.layout.goal), D4RL_SUCCESS_RADIUS],
            size=[D4RL_SUCCESS_RADIUS] * 3,
            rgba=[1, 0, 0, 0.7],
        )
        return spec
