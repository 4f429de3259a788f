"""Environments that cannot be made say so in one sentence."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from iqlft_workers.environment import (
    Environment,
    EnvironmentMismatchError,
    EnvironmentSpec,
    reported_success,
)
from iqlft_workers.versions import robotics_misfit


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (EnvironmentSpec("HalfCheeta-v5"), "Did you mean 'HalfCheetah-v5'"),
        (EnvironmentSpec("no_such_package:Ant-v5"), "'no_such_package:Ant-v5' cannot be made"),
        (EnvironmentSpec("HalfCheetah-v5", kwargs={"wheels": 4}), "cannot be made with {'wheels'"),
    ],
)
def test_an_environment_that_cannot_be_made_is_refused_with_the_reason(
    spec: EnvironmentSpec, says: str
) -> None:
    with pytest.raises(EnvironmentMismatchError, match=says):
        Environment(spec)


def test_the_columns_of_a_key_are_where_its_values_stand() -> None:
    spec = EnvironmentSpec(
        "iqlft/AntMaze-Corner-v0", observation_keys=("achieved_goal", "observation")
    )
    environment = Environment(spec)
    observation = environment.reset(seed=3)
    unwrapped = environment.gym.unwrapped
    place = unwrapped.data.qpos[:2]  # type: ignore[attr-defined]
    assert environment.columns("achieved_goal") == slice(0, 2)
    assert environment.columns("observation") == slice(2, 29)
    assert environment.columns("desired_goal") is None
    assert observation[environment.columns("achieved_goal")] == pytest.approx(place)
    environment.close()


@pytest.mark.parametrize(
    ("info", "key", "success"),
    [
        ({}, "", None),
        ({"success": None}, "", None),
        ({"success": np.bool_(True)}, "", True),
        ({"success": 0.0}, "", False),
        ({"success": np.array([1.0])}, "", True),
        ({"is_success": 1}, "", True),
        ({"is_success": True, "success": False}, "", False),
        ({"success": False, "goal_reached": True}, "goal_reached", True),
        ({"success": True}, "goal_reached", None),
    ],
)
def test_success_is_what_the_environment_says(
    info: dict[str, Any], key: str, success: bool | None
) -> None:
    assert reported_success(info, key) is success


@pytest.mark.parametrize("value", ["yes", 0.4, float("nan"), np.zeros(2), {}])
def test_success_that_is_no_flag_is_refused(value: object) -> None:
    with pytest.raises(EnvironmentMismatchError, match="--success-key"):
        reported_success({"success": value})


def test_what_gymnasium_robotics_cannot_build_names_the_version_that_it_can() -> None:
    spec = EnvironmentSpec("gymnasium_robotics:FrankaKitchen-v1")
    if not robotics_misfit():
        Environment(spec).close()
        return
    with pytest.raises(EnvironmentMismatchError, match=r"pip install 'mujoco<3.6'"):
        Environment(spec)


@pytest.mark.parametrize(
    ("mujoco", "fits"), [("3.3.0", True), ("3.5.1", True), ("3.6.0", False), ("4.0.0", False)]
)
def test_the_newest_mujoco_for_it_is_known(
    mujoco: str, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.version", {"mujoco": mujoco}.get)
    assert bool(robotics_misfit()) is not fits


def test_its_notice_is_not_printed() -> None:
    code = "import iqlft_workers, gymnasium_robotics"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert done.stderr == b""
