"""Episodes are filmed in processes of their own, from where only pictures come."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
from numpy.typing import NDArray

from awkward_environments import ID
from iqlft.datasets.goal_maze import distance_to_goal
from iqlft.figures.style import BLUE
from iqlft.runs.policy import load_policy, save_policy
from iqlft.video.camera import HEIGHT, WIDTH, picture_size
from iqlft.video.captions import STRIP, caption, outcome, progress
from iqlft.video.filming import Scene, film, filming
from iqlft.video.opengl import RenderingError
from iqlft_workers.actor import ActorWeights, GaussianActor
from iqlft_workers.environment import Environment, EnvironmentSpec
from iqlft_workers.rollout import evaluate_episode

SEED = 1_000_000


def near(picture: NDArray[np.uint8], colour: tuple[int, ...]) -> NDArray[np.bool_]:
    """Where a picture has a colour, captions left out."""
    inside = picture[STRIP:-STRIP].astype(int)
    return (abs(inside - colour) < 24).all(-1)


@pytest.fixture
def scene(pretrained: Path, tmp_path: Path) -> Scene:
    policy = load_policy(pretrained)
    # An ant that moves from where it stands: its actions are at their bounds.
    arrays = dict(policy.weights.arrays)
    last = max(name for name in arrays if name.startswith("weight."))
    arrays[last] = 30 * arrays[last]
    weights = policy.weights._replace(arrays=arrays)
    save_policy(tmp_path / "policy", weights, policy.environment, {})
    return Scene(str(tmp_path / "policy"), SEED, 150, "best", BLUE, "success")


def test_a_maze_is_filmed_whole_with_the_way_of_the_ant(
    scene: Scene, backend: str, tmp_path: Path
) -> None:
    with closing(Environment(load_policy(scene.policy).environment)) as environment:
        size = picture_size(environment)
    with filming(scene, size, backend, tmp_path / "log") as pictures:
        film = list(pictures)

    assert len(film) == 1 + 300 // 150
    assert {picture.shape for picture in film} == {(WIDTH, WIDTH, 3)}
    goals = [near(picture, (0, 158, 115)).sum() for picture in film]
    assert min(goals) > 20
    ways = [near(picture, (0, 114, 178)).sum() for picture in film]
    assert ways[0] == 0 < ways[-1]
    # Walls on all sides, and a floor between them.
    assert near(film[0], (166, 166, 166))[:, [2, -3]].all()
    assert near(film[0], (245, 245, 245)).mean() > 0.2


def test_the_filmed_episode_is_the_evaluations(scene: Scene, backend: str, tmp_path: Path) -> None:
    policy = load_policy(scene.policy)
    with closing(Environment(policy.environment)) as environment:
        size = picture_size(environment)
        result = evaluate_episode(environment, GaussianActor(policy.weights), SEED)
        distance = distance_to_goal(environment, result.end)
    with filming(scene, size, backend, tmp_path / "log") as pictures:
        *_, last = pictures

    words = progress(300, distance), outcome(result, "success", finished=True)
    wall = np.broadcast_to(last[-STRIP - 1, 0], last.shape).copy()
    expected = caption(wall, "best", *words)
    np.testing.assert_allclose(last[-STRIP:].astype(int), expected[-STRIP:], atol=4)


def test_what_is_no_maze_is_filmed_as_it_is_usually_shown(
    make_weights: Callable[..., ActorWeights], backend: str, tmp_path: Path
) -> None:
    spec = EnvironmentSpec("Hopper-v5")
    with closing(Environment(spec)) as environment:
        environment.gym.unwrapped.maze = "of another kind"  # type: ignore[attr-defined]
        size = picture_size(environment)
        weights = make_weights(environment.observation_dim, environment.action_dim)
        assert distance_to_goal(environment, environment.reset(SEED).tolist()) is None
    save_policy(tmp_path / "policy", weights, spec, {})
    scene = Scene(str(tmp_path / "policy"), SEED, 1000, "worst", BLUE, "return")
    with filming(scene, size, backend, tmp_path / "log") as pictures:
        first, last = pictures

    assert size == (WIDTH, HEIGHT)
    assert first.shape == (HEIGHT, WIDTH, 3)
    assert first[STRIP:-STRIP].std() > 10
    assert not np.array_equal(first[STRIP:-STRIP], last[STRIP:-STRIP])


def test_an_episode_that_is_not_finite_ends_with_its_last_picture(
    make_weights: Callable[..., ActorWeights], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = MagicMock()
    camera.return_value.__enter__.return_value.picture.return_value = np.zeros((80, 200, 3), "u1")
    monkeypatch.setattr("iqlft.video.filming.Camera", camera)
    spec = EnvironmentSpec(f"awkward_environments:{ID}", {"spoils": "observation", "at": 3})
    save_policy(tmp_path / "policy", make_weights(2, 1), spec, {})
    scene = Scene(str(tmp_path / "policy"), SEED, 1, "worst", BLUE, "return", trust=True)
    assert len(list(film(scene))) == 1 + 3


def test_a_process_that_cannot_draw_is_told_of(scene: Scene, tmp_path: Path) -> None:
    with (
        filming(scene, (WIDTH, WIDTH), "nonsense", tmp_path / "log") as pictures,
        pytest.raises(RenderingError, match=r"Filming has failed: .*nonsense"),
    ):
        next(pictures)


def test_an_environment_without_mujoco_is_refused() -> None:
    with (
        closing(Environment(EnvironmentSpec("Pendulum-v1"))) as environment,
        pytest.raises(RenderingError, match="Pendulum-v1 cannot be drawn"),
    ):
        picture_size(environment)
