"""Code that data name is run where a package registers it or the user says so, nowhere else."""

import sys
from typing import Any

import gymnasium
import numpy as np
import pytest

import own_environments
from iqlft_workers.environment import Environment, EnvironmentMismatchError, EnvironmentSpec, make
from iqlft_workers.trust import UntrustedError, is_registered
from iqlft_workers.wrapping import RecordedWrapper, WrapperError

REACH = {"entry_point": own_environments.ENTRY_POINT}
NEVER = "antigravity"
"""A module that nothing here has imported, and whose import would be seen."""


def wrapper(entry_point: str, **kwargs: float) -> RecordedWrapper:
    return RecordedWrapper("a wrapper", entry_point, kwargs)


@pytest.mark.parametrize(
    ("entry_point", "registered"),
    [
        ("gymnasium.envs.classic_control.pendulum:PendulumEnv", True),
        ("gymnasium_robotics.envs.maze.point_maze:PointMazeEnv", True),
        ("iqlft_workers.antmaze:AntMazeEnv", True),
        ("own_environments:Skewed", True),
        ("gymnasium_robotics:PointMaze_UMaze-v3", True),
        ("gymnasium.wrappers.transform_action:ClipAction", True),
        ("own_environments:Unlisted", False),
        ("gymnasium.utils.play:play", False),
        ("gymnasium.wrappers.transform_action:np", False),
        ("gymnasium_robotics:NoSuch-v3", False),
        ("os:system", False),
        (f"{NEVER}:Env", False),
    ],
)
def test_registered_is_what_an_installed_package_registers(
    entry_point: str, registered: bool
) -> None:
    assert is_registered(entry_point) is registered
    assert NEVER not in sys.modules


@pytest.mark.parametrize(
    "spec",
    [
        EnvironmentSpec("A-v0", {"command": "true"}, entry_point="os:system"),
        EnvironmentSpec("A-v0", entry_point=f"{NEVER}:Env"),
        EnvironmentSpec(f"{NEVER}:A-v0"),
        EnvironmentSpec("os.path:A-v0"),
        EnvironmentSpec("Pendulum-v1", {"deep": [{"in": f"{NEVER}:fly"}]}),
        EnvironmentSpec("iqlft/FixedGoalMaze-v0", {"maze_id": f"{NEVER}:Maze-v0"}),
        EnvironmentSpec("Pendulum-v1", wrappers=(wrapper("os:system"),)),
        EnvironmentSpec("A-v0", entry_point="own_environments:Unlisted"),
    ],
)
def test_what_nobody_registers_is_named_and_not_run(spec: EnvironmentSpec) -> None:
    with pytest.raises(UntrustedError, match=r"would run .* which the data name .* --trust"):
        make(spec)
    assert NEVER not in sys.modules


def test_an_environment_that_raises_in_its_constructor_is_named() -> None:
    spec = EnvironmentSpec("OwnSkewed-v0", {"render_mode": "human"}, **REACH)
    with pytest.raises(EnvironmentMismatchError, match=r"be made .*RuntimeError: no display"):
        make(spec)


def test_the_user_may_trust_it() -> None:
    spec = EnvironmentSpec(
        "A-v0", {"far": 0.0}, entry_point="own_environments:Unlisted", trust=True
    )
    made = make(spec)
    assert isinstance(made.unwrapped, own_environments.Unlisted)
    np.testing.assert_array_equal(made.reset(seed=0)[0], [0, 0])
    assert made.spec is not None
    assert made.spec.max_episode_steps is None


def test_recorded_wrappers_are_put_on_again_and_those_without_effect_are_not() -> None:
    recorded = gymnasium.make("OwnSkewed-v0")
    recorded = gymnasium.wrappers.RecordEpisodeStatistics(recorded)
    recorded = gymnasium.wrappers.FrameStackObservation(recorded, 2)
    recorded = gymnasium.wrappers.FlattenObservation(recorded)
    recorded = gymnasium.wrappers.RescaleAction(recorded, -2, 3)
    assert recorded.spec is not None
    wrappers = [RecordedWrapper(**vars(each)) for each in recorded.spec.additional_wrappers]
    spec = EnvironmentSpec("OwnSkewed-v0", wrappers=tuple(wrappers), **REACH)
    made = make(EnvironmentSpec.from_dict(spec.to_dict()))
    assert "RecordEpisodeStatistics" not in str(made)
    assert made.action_space == recorded.action_space
    recorded.reset(seed=4)
    made.reset(seed=4)
    for action in np.array([[-2, 3], [0.5, 0.5], [3, -2]], np.float32):
        pairs = zip(made.step(action), recorded.step(action), strict=True)
        for ours, theirs in pairs:
            if not isinstance(ours, dict):
                np.testing.assert_array_equal(ours, theirs)


def test_wrappers_that_an_entry_point_puts_on_itself_are_not_put_on_twice() -> None:
    maze = EnvironmentSpec(
        "iqlft/FixedGoalMaze-v0",
        {
            "maze_id": "gymnasium_robotics:PointMaze_UMaze-v3",
            "maze_map": [[1, 1, 1], [1, "g", 1], [1, 1, 1]],
        },
        wrappers=(RecordedWrapper("x", "iqlft_workers.fixed_goal:FixedGoalMaze", None),),
    )
    made = make(maze)
    assert str(made).count("FixedGoalMaze<") == 1
    made.close()


@pytest.mark.parametrize("name", ["NormalizeObservation", "NormalizeReward"])
def test_a_wrapper_with_running_statistics_is_refused_by_name(name: str) -> None:
    place = f"gymnasium.wrappers.stateful_{'reward' if 'Reward' in name else 'observation'}:{name}"
    spec = EnvironmentSpec("OwnSkewed-v0", wrappers=(wrapper(place),), **REACH)
    with pytest.raises(WrapperError, match=f"behind {name}, whose running .*--environment ID"):
        make(spec)


def test_a_wrapper_that_does_not_say_how_it_was_made_is_refused_by_name() -> None:
    unknown = RecordedWrapper("Mine", "gymnasium.wrappers.common:Mine", None)
    with pytest.raises(WrapperError, match="behind Mine, which does not say how it was made"):
        make(EnvironmentSpec("OwnSkewed-v0", wrappers=(unknown,), **REACH))


def test_actions_of_other_bounds_than_the_data_are_refused() -> None:
    spec = EnvironmentSpec("OwnSkewed-v0", action_low=(-1, -1), action_high=(1, 1), **REACH)
    with pytest.raises(EnvironmentMismatchError, match=r"actions in \[-1, 1\], but OwnSkewed-v0"):
        Environment(spec)


def test_actions_stay_within_bounds_that_are_not_symmetric() -> None:
    environment = Environment(EnvironmentSpec("OwnSkewed-v0", **REACH))
    environment.reset(seed=0)
    for action in ([1, 1], [-1, -1], [0.123, -0.9999999]):  # The environment refuses others.
        environment.step(np.array(action, np.float32))
    unit = environment.action_range.to_unit(
        environment.action_range.to_environment(np.float32([0.5, -0.25]))
    )
    np.testing.assert_allclose(unit, [0.5, -0.25], atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"wrappers": [{"name": "x"}]},
        {"wrappers": [{"name": "x", "entry_point": 3, "kwargs": {}}]},
        {"wrappers": "x"},
        {"entry_point": None},
        {"trust": "yes"},
        {"action_low": ["a"]},
    ],
)
def test_a_spec_of_another_form_is_a_type_error(change: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        EnvironmentSpec.from_dict({"id": "OwnSkewed-v0", **change})
