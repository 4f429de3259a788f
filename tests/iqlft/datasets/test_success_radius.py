"""How near counts as there is what the environment says; nothing is told by a radius of our own."""

import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector.episode_buffer import EpisodeBuffer

from iqlft.datasets.errors import DatasetError
from iqlft.datasets.loading import load_dataset
from iqlft.datasets.recorded import success_radius
from iqlft_workers.environment import EnvironmentSpec

ID, DATA = "Reach-v0", "test/reach-v0"


class Reach(gymnasium.Env[Any, Any]):
    """A goal-conditioned environment; `says` are its attributes."""

    action_space = spaces.Box(-1, 1, (2,))
    observation_space = spaces.Dict(
        dict.fromkeys(("observation", "achieved_goal", "desired_goal"), spaces.Box(-9, 9, (3,)))
    )

    def __init__(self, says: dict[str, Any]) -> None:
        vars(self).update(says)


@pytest.fixture(autouse=True)
def data(minari_root: Any) -> Iterator[None]:  # noqa: ANN401
    """One episode that comes as near as 0.3, at its second step, and Reach."""
    assert minari_root
    gymnasium.register(ID, Reach)
    place = np.array([[9, 0, 0], [1, 0, 0], [0.3, 0, 0], [2, 0, 0]], np.float32)
    episode = EpisodeBuffer(
        observations={
            "observation": place, "achieved_goal": place, "desired_goal": np.zeros_like(place)
        },
        actions=np.zeros((3, 2), np.float32), rewards=np.arange(3.0),
        terminations=np.zeros(3, np.bool_), truncations=np.arange(3) == 2,
    )  # fmt: skip
    spaces_ = {"observation_space": Reach.observation_space, "action_space": Reach.action_space}
    with warnings.catch_warnings(action="ignore"):  # of the author, the environment and so on
        minari.create_dataset_from_buffers(DATA, [episode], **spaces_)
    yield
    del gymnasium.registry[ID]


def reach(**says: Any) -> EnvironmentSpec:  # noqa: ANN401
    return EnvironmentSpec(ID, {"says": says}, trust=True)


@pytest.mark.parametrize("name", ["success_radius", "distance_threshold"])
@pytest.mark.parametrize(("radius", "kept"), [(0.5, 2), (0.2, 3), (2.0, 1)])
def test_what_comes_after_success_is_dropped_by_the_environments_radius(
    name: str, radius: float, kept: int
) -> None:
    dataset = load_dataset(
        DATA, goal="observed", after_success="drop", environment=reach(**{name: radius})
    )
    assert len(dataset.rows()) == kept


@pytest.mark.parametrize(
    "says",
    [{}, {"distance_threshold": None}, {"distance_threshold": 0.1, "rotation_threshold": 0.1}],
)
def test_without_one_nothing_is_dropped_or_relabelled(says: dict[str, Any]) -> None:
    with pytest.raises(DatasetError, match="does not say how near to a goal counts as there"):
        load_dataset(DATA, goal="observed", after_success="drop", environment=reach(**says))
    with pytest.raises(DatasetError, match="--goal stored"):
        load_dataset(DATA, environment=reach(evaluation_goal=(0, 0, 0), **says))
    kept = load_dataset(DATA, goal="observed", environment=reach(**says))
    assert len(kept.rows()) == kept.num_transitions == 3
    assert kept.notes == ()


def test_the_mazes_of_gymnasium_robotics_have_theirs() -> None:
    with gymnasium.make("gymnasium_robotics:PointMaze_UMaze-v3") as maze:
        assert success_radius(maze) == 0.45
