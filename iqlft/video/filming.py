"""One evaluation episode as captioned pictures: a process that draws, and the pipe from it.

It is a process of its own because MuJoCo chooses how to draw when it is imported. With a single
thread of arithmetic, as workers have, it repeats their episode to the last bit.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

import numpy as np

from iqlft.datasets.goal_maze import distance_to_goal
from iqlft.runs.policy import load_policy
from iqlft.video.camera import Camera
from iqlft.video.captions import caption, outcome, progress
from iqlft.video.opengl import RenderingError
from iqlft_workers.actor import make_actor
from iqlft_workers.environment import Environment
from iqlft_workers.episode import PLACE_DIM, NotFiniteError, evaluation
from iqlft_workers.launchers.local import environment_variables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from iqlft.config.settings import Judge


@dataclasses.dataclass(frozen=True)
class Scene:
    """What is filmed, and how.

    Attributes:
        policy: folder of the policy.
        seed: of the episode's reset.
        stride: steps between two pictures.
        title: text at the top of the pictures.
        colour: of the trail, such as `#0072B2`.
        judged_by: what the task is scored by, and so the outcome in the caption.
        trust: whether the policy's environment may be made though no installed package registers
            it.
    """

    policy: str
    seed: int
    stride: int
    title: str
    colour: str
    judged_by: Judge
    trust: bool = False


def film(scene: Scene) -> Iterator[NDArray[np.uint8]]:
    """Runs an evaluation episode, and yields its pictures.

    Args:
        scene: what to film; this process draws with the backend in MUJOCO_GL.

    Yields:
        `(height, width, 3)`: after the reset, after every `stride` steps, and after the last one,
        unless that gave a value that is not finite.

    Raises:
        PolicyError: there is no such policy.
        RenderingError: its environment cannot be drawn.
    """
    policy = load_policy(scene.policy, trust=scene.trust)
    actor, environment = make_actor(policy.weights), Environment(policy.environment)
    with closing(environment), Camera(environment) as camera:
        trail = []
        # What is not finite cannot be drawn: such an episode ends with the picture before it.
        with suppress(NotFiniteError):
            for episode in evaluation(environment, actor, scene.seed):
                distance = distance_to_goal(environment, episode.observation.tolist())
                if distance is not None:
                    trail.append(episode.observation[:PLACE_DIM])
                if episode.length % scene.stride == 0 or episode.finished:
                    picture = camera.picture(trail, scene.colour)
                    words = outcome(episode.result(), scene.judged_by, finished=episode.finished)
                    yield caption(picture, scene.title, progress(episode.length, distance), words)


# -- the pipe -----------------------------------------------------------------------------------


@contextmanager
def filming(
    scene: Scene, size: tuple[int, int], backend: str, log: Path
) -> Iterator[Iterator[NDArray[np.uint8]]]:
    """Films in a process of its own, which is killed on exit.

    Args:
        scene: what to film.
        size: width and height of the pictures.
        backend: MUJOCO_GL of the process.
        log: file for its standard error.

    Yields:
        The pictures of `film`; iterating them raises `RenderingError` if the process fails.
    """
    described = json.dumps(dataclasses.asdict(scene))
    command = [sys.executable, "-P", "-m", "iqlft.video.filming", described]
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
            env={**environment_variables(), "MUJOCO_GL": backend},
        ) as process,
    ):  # fmt: skip
        try:
            yield _pictures(process, size, log)
        finally:
            process.kill()


def _pictures(
    process: subprocess.Popen[bytes], size: tuple[int, int], log: Path
) -> Iterator[NDArray[np.uint8]]:
    width, height = size
    assert process.stdout is not None
    while len(data := process.stdout.read(width * height * 3)) == width * height * 3:
        yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
    if process.wait() != 0:
        lines = log.read_text("utf-8", "replace").splitlines()
        raise RenderingError(f"Filming has failed: {lines[-1] if lines else process.returncode}.")


def main() -> None:
    """Films the scene that the first argument describes, to the standard output."""
    # What libraries and drivers print goes to standard error, never between the pictures.
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as pipe:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        for picture in film(Scene(**json.loads(sys.argv[1]))):
            pipe.write(picture.tobytes())


if __name__ == "__main__":
    main()
