"""Pictures of a simulation, by MuJoCo's own renderer.

A maze is shown whole and from straight above, in plain colours, like a map. Anything else is shown
as its own environment does.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np
from PIL import ImageColor

from iqlft.datasets.goal_maze import maze_in
from iqlft.video.opengl import RenderingError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from numpy.typing import NDArray

    from iqlft.datasets.goal_maze import GoalMaze
    from iqlft_workers.environment import Environment

WIDTH, HEIGHT = 480, 360
"""Size of a picture in pixels; a maze's proportions decide its height."""
FLOOR, WALL, AGENT, GOAL = (0.96,) * 3, (0.65,) * 3, (0.1,) * 3, (0.0, 0.62, 0.45)
"""Colours in a maze; a trail has its own."""
_TRAIL_PIXELS, _TRAIL_HEIGHT = 3.0, 0.05
"""Width of a trail, and its height above the floor in metres."""
_SPACING_PIXELS = 4
"""Least distance between a trail's points: shorter lines are drawn with gaps."""
_MAX_GEOMS = 10_000
"""Geoms that the renderer has room for: those of bodies, and a trail's lines."""


def picture_size(environment: Environment) -> tuple[int, int]:
    """Width and height of the pictures of an environment, in pixels; both are even.

    Raises:
        RenderingError: it has no simulation by MuJoCo.
    """
    _simulation(environment)
    maze = maze_in(environment.gym)
    if maze is None:
        return WIDTH, HEIGHT
    width, height = np.ptp(maze.limits, axis=1)
    return WIDTH, 2 * round(WIDTH / 2 * height / width)


class Camera:
    """Draws the current state of an environment's simulation; a context manager.

    Args:
        environment: what to draw; in a maze its own colours are changed.

    Raises:
        RenderingError: it has no simulation by MuJoCo.
    """

    def __init__(self, environment: Environment) -> None:
        model, self._data = _simulation(environment)
        width, height = picture_size(environment)
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        self._camera = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(model, self._camera)
        maze, self._spacing = maze_in(environment.gym), 0.0
        if maze is None:
            _look_as_shown(self._camera, model, environment)
        else:
            _look_from_above(self._camera, model, maze)
            _paint_as_map(model)
            self._spacing = _SPACING_PIXELS * float(np.ptp(maze.limits[0])) / width
        self._renderer = mujoco.Renderer(model, height, width, max_geom=_MAX_GEOMS)
        # From above, shadows show nothing, and on a CPU they take most of the time.
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = maze is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._renderer.close()

    def picture(self, trail: Sequence[NDArray[np.float32]], colour: str) -> NDArray[np.uint8]:
        """A picture.

        Args:
            trail: `(2,)` each: positions x, y in metres to be joined by a line on the floor.
            colour: of that line, such as `#0072B2`.

        Returns:
            `(height, width, 3)`.
        """
        self._renderer.update_scene(self._data, self._camera)
        scene = self._renderer.scene
        kind = mujoco.mjtGeom.mjGEOM_LINE
        rgba = np.array(ImageColor.getcolor(colour, "RGBA"), np.float32) / 255
        for ends in itertools.pairwise(self._thinned(trail)):
            line = scene.geoms[scene.ngeom]
            mujoco.mjv_initGeom(line, kind, np.zeros(3), np.zeros(3), np.zeros(9), rgba)
            start, end = (np.array([*each[:2], _TRAIL_HEIGHT], np.float64) for each in ends)
            mujoco.mjv_connector(line, kind, _TRAIL_PIXELS, start, end)
            scene.ngeom += 1
        picture: NDArray[np.uint8] = self._renderer.render()
        return picture

    def _thinned(self, trail: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        kept = [*trail[:1]]
        for place in trail:
            if math.dist(place, kept[-1]) >= self._spacing:
                kept.append(place)
        return [*kept, *trail[-1:]]


def _simulation(environment: Environment) -> tuple[Any, Any]:
    raw: Any = environment.gym.unwrapped
    model, data = getattr(raw, "model", None), getattr(raw, "data", None)
    if not (isinstance(model, mujoco.MjModel) and isinstance(data, mujoco.MjData)):
        raise RenderingError(
            f"{environment.spec.id} cannot be drawn: it has no simulation by MuJoCo to look at."
        )
    return model, data


def _look_from_above(camera: Any, model: Any, maze: GoalMaze) -> None:  # noqa: ANN401
    """Places the camera above the maze: x grows to the right, y upwards.

    The edges of the picture are within the tops of the outer walls.
    """
    camera.lookat[:] = [*maze.limits.mean(1), 0]
    camera.azimuth, camera.elevation = 90, -90
    half = np.ptp(maze.limits[1]) / 2
    camera.distance = half / math.tan(math.radians(model.vis.global_.fovy) / 2) + maze.height


def _look_as_shown(camera: Any, model: Any, environment: Environment) -> None:  # noqa: ANN401
    """As Gymnasium does, uses the model's camera `track`, or else the environment's settings."""
    track = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
    if track >= 0:
        camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, track
        return
    shown = getattr(environment.gym.unwrapped, "mujoco_renderer", None)
    for name, value in (getattr(shown, "default_cam_config", None) or {}).items():
        if isinstance(value, np.ndarray):
            getattr(camera, name)[:] = value
        else:
            setattr(camera, name, value)


def _paint_as_map(model: Any) -> None:  # noqa: ANN401
    """Sets plain colours, from which the agent and its trail stand out, and an even light."""
    still = model.geom_bodyid == 0
    plane = model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
    model.geom_matid[:], model.geom_rgba[:] = -1, (*AGENT, 1)
    model.geom_rgba[still], model.geom_rgba[still & plane] = (*WALL, 1), (*FLOOR, 1)
    model.site_rgba[:] = (*AGENT, 1)
    model.site_rgba[model.site_bodyid == 0] = (*GOAL, 1)
    model.light_active[:] = 0
    headlight = model.vis.headlight
    headlight.ambient[:], headlight.diffuse[:], headlight.specular[:] = 0.5, 0.5, 0
