"""A dataset's picture shows its maze, its episodes and its rewards where they are."""

from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from minari.data_collector.episode_buffer import EpisodeBuffer
from PIL import Image

from iqlft.cli.data_command import run
from iqlft.datasets.goal_maze import recorded_maze
from iqlft.figures.dataset import MOST_POINTS, dataset_figure, plot_dataset, read_coverage

GOALS = ("observation", "achieved_goal", "desired_goal")


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_title()]


def points(axes: Axes, marker: str) -> Any:  # noqa: ANN401
    (line,) = (line for line in axes.lines if line.get_marker() == marker)
    return np.stack(line.get_data(), axis=1)


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def cells(axes: Axes) -> list[tuple[float, float, str]]:
    return [(*text.get_position(), text.get_text()) for text in axes.texts]


@pytest.mark.parametrize("out", [None, "pictures/mine.png", "mine"])
def test_the_command_draws_a_png_and_a_pdf(
    corner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    said = run(["plot", corner, *([] if out is None else ["--out", out])])
    stem = "iqlft-antmaze-corner-v1" if out is None else str(Path(out).with_suffix(""))
    assert said.splitlines() == [f"Drew {stem}.png", f"Drew {stem}.pdf"]
    with Image.open(f"{stem}.png") as image:
        assert image.width == 2160
    assert Path(f"{stem}.pdf").read_bytes().startswith(b"%PDF")


def test_the_same_dataset_gives_the_same_bytes(corner: str, tmp_path: Path) -> None:
    first, again = (plot_dataset(corner, tmp_path / name, "it") for name in ("a", "b"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in again]


def test_a_maze_shows_every_position_start_goal_and_reward(corner: str) -> None:
    dataset = minari.load_dataset(corner)
    figure = dataset_figure(dataset)
    visits, starts, goals, near = panels(figure)
    episodes = list(dataset.iterate_episodes())
    positions = np.concatenate([e.observations["achieved_goal"] for e in episodes])
    drawn = next(mesh.get_array() for mesh in visits.collections)
    assert drawn is not None
    assert drawn.sum() == len(positions) == 906
    np.testing.assert_array_equal(points(starts, "o"), positions[[0, 302, 604]])
    commanded = [e.observations["desired_goal"][0] for e in episodes]
    np.testing.assert_array_equal(points(goals, "x"), commanded)
    # The goal cell's centre is (4, 4), its lower edge at y = 2.
    assert cells(goals) == [(4, pytest.approx(4 - 0.46 * 4), "100")]
    rewarded = points(near, "+")
    assert (np.hypot(*(rewarded - 4.75).T) <= 0.5).all()
    (circle,) = near.patches
    assert circle.get_label() != "wall"
    np.testing.assert_array_equal(points(visits, "*"), [[4.75, 4.75]])


def test_the_title_counts_and_the_legend_names_what_is_shown(corner: str) -> None:
    figure = dataset_figure(minari.load_dataset(corner))
    assert figure.get_suptitle() == f"{corner}: 903 transitions in 3 episodes"
    assert words(figure) == [
        "start of an episode", "commanded goal", "evaluation goal", "within 0.5 m of it",
        "rewarded state", "other state nearby", "wall",
    ]  # fmt: skip
    assert {axes.get_xlabel() for axes in figure.axes} == {"", "x (m)"}


def test_panels_are_of_one_size_and_aligned(corner: str) -> None:
    figure = dataset_figure(minari.load_dataset(corner))
    figure.draw_without_rendering()
    boxes = np.array([axes.get_position().bounds for axes in panels(figure)])
    np.testing.assert_allclose(boxes[:, 2:], np.broadcast_to(boxes[0, 2:], (4, 2)), rtol=1e-6)
    np.testing.assert_allclose(boxes[[0, 1], 0], boxes[[2, 3], 0])
    np.testing.assert_allclose(boxes[[0, 2], 1], boxes[[1, 3], 1])


def test_more_points_than_can_be_told_apart_are_thinned(corner: str) -> None:
    dataset = minari.load_dataset(corner)
    maze = recorded_maze(dataset)
    assert maze is not None
    assert maze.goal is not None
    coverage = read_coverage(dataset, maze)
    assert 0 < np.count_nonzero(maze.goal.reached(coverage.near)) <= len(coverage.near) <= 903
    axes = panels(dataset_figure(dataset))[3]
    assert sum(len(points(axes, marker)) for marker in "+.") <= 2 * MOST_POINTS


@pytest.mark.usefixtures("minari_root")
def test_faramas_maze_with_several_goals_is_drawn_without_rewards() -> None:
    import gymnasium_robotics  # noqa: F401  # registers the ids

    maze = [[1, 1, 1, 1], [1, "r", "g", 1], [1, 1, "g", 1], [1, 1, 1, 1]]
    env = gymnasium.make(
        "AntMaze_UMaze-v5", maze_map=maze, continuing_task=True,
        include_cfrc_ext_in_observation=False,
    )  # fmt: skip
    episode = EpisodeBuffer(
        observations={
            "observation": np.zeros((2, 27)),
            "achieved_goal": np.array([[-2.0, 2.0], [-1.9, 2.0]]),
            "desired_goal": np.full((2, 2), [2.0, -2.0]),
        },
        actions=np.zeros((1, 8), np.float32), rewards=np.zeros(1),
        terminations=np.zeros(1, np.bool_), truncations=np.ones(1, np.bool_),
    )  # fmt: skip
    with pytest.warns(UserWarning, match="is set to None"):
        dataset = minari.create_dataset_from_buffers("test/tiny-v0", [episode], env=env)
    figure = dataset_figure(dataset)
    _, starts, goals = panels(figure)
    # Cell (1, 1) is the upper left one, (2, 2) the lower right one: y falls with the row.
    assert [each[:2] for each in cells(starts)] == [(-2, pytest.approx(2 - 0.46 * 4))]
    assert [each[:2] for each in cells(goals)] == [(2, pytest.approx(-2 - 0.46 * 4))]
    assert words(figure) == ["start of an episode", "commanded goal", "wall"]


@pytest.mark.usefixtures("minari_root")
def test_other_environments_have_histograms_of_returns_and_lengths() -> None:
    episodes = [
        EpisodeBuffer(
            observations=np.zeros((n + 1, 3), np.float32), actions=np.zeros((n, 1), np.float32),
            rewards=np.full(n, -1.0), terminations=np.zeros(n, np.bool_),
            truncations=np.arange(n) == n - 1,
        )
        for n in (2, 4, 4, 8, 10)
    ]  # fmt: skip
    with pytest.warns(UserWarning, match="is set to None"):
        dataset = minari.create_dataset_from_buffers("test/any-v0", episodes, env="Pendulum-v1")
    figure = dataset_figure(dataset)
    returns, lengths = figure.axes
    assert (returns.get_title(), lengths.get_title()) == ("median -4", "median 4")
    for axes in (returns, lengths):
        heights = [patch.get_height() for patch in axes.patches]  # type: ignore[attr-defined]
        assert sorted(height for height in heights if height) == [1, 1, 1, 2]
    assert figure.get_suptitle() == "test/any-v0: 28 transitions in 5 episodes"


@pytest.mark.usefixtures("minari_root")
def test_goals_without_an_environment_are_drawn_as_histograms() -> None:
    place = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    episode = EpisodeBuffer(
        observations={key: np.zeros((2, 2), np.float32) for key in GOALS},
        actions=np.zeros((1, 1), np.float32), rewards=np.zeros(1),
        terminations=np.zeros(1, np.bool_), truncations=np.ones(1, np.bool_),
    )  # fmt: skip
    with pytest.warns(UserWarning, match="(is set to|env_spec is) None"):
        dataset = minari.create_dataset_from_buffers(
            "test/any-v0", [episode], action_space=gymnasium.spaces.Box(-1, 1, (1,)),
            observation_space=gymnasium.spaces.Dict(dict.fromkeys(GOALS, place)),
        )  # fmt: skip
    assert [axes.get_title() for axes in dataset_figure(dataset).axes] == ["median 0", "median 1"]


@pytest.mark.usefixtures("minari_root")
def test_returns_that_agree_up_to_rounding_are_one_bar() -> None:
    episodes = [
        EpisodeBuffer(
            observations=np.zeros((len(each) + 1, 3), np.float32),
            actions=np.zeros((len(each), 1), np.float32), rewards=np.array(each),
            terminations=np.zeros(len(each), np.bool_),
            truncations=np.arange(len(each)) == len(each) - 1,
        )
        for each in ([0.1, 0.2], [0.3])
    ]  # fmt: skip
    with pytest.warns(UserWarning, match="is set to None"):
        dataset = minari.create_dataset_from_buffers("test/any-v0", episodes, env="Pendulum-v1")
    returns, _ = dataset_figure(dataset).axes
    heights = [patch.get_height() for patch in returns.patches]  # type: ignore[attr-defined]
    assert [height for height in heights if height] == [2]
