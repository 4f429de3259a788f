"""An audit passes what is sound, and names what is broken, each fault by its own check."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import ClipAction
from minari.data_collector.episode_buffer import EpisodeBuffer

import iqlft
import own_environments
from iqlft.cli.data_command import run
from iqlft.datasets.antmaze.tasks import TASKS
from iqlft.datasets.audit.audit import check
from iqlft.datasets.audit.findings import AuditFailedError, Finding, failures
from iqlft.datasets.errors import DatasetError

CORNER = TASKS["antmaze-corner"].dataset_id()
Episode = Any
Edit = Callable[[Episode], None]


def by_name(dataset_id: str) -> dict[str, Finding]:
    return {finding.name: finding for finding in check(dataset_id)}


def replace(episode: Episode, name: str, change: Callable[[Any], Any]) -> None:
    """Another array of any length and type in the place of a recorded one."""
    array = change(episode[name][()])
    del episode[name]
    episode[name] = array


def assign(name: str, index: Any, value: Any) -> Edit:  # noqa: ANN401
    def edit(episode: Episode) -> None:
        episode[name][index] = value

    return edit


def teleport(episode: Episode) -> None:
    episode["observations/achieved_goal"][100:] += 0.6


def shorten(episode: Episode) -> None:
    for name in ("actions", "rewards", "terminations", "truncations"):
        replace(episode, name, lambda array: array[:-1])
    for name in ("observations/observation", "observations/achieved_goal"):
        replace(episode, name, lambda array: array[:-1])
    replace(episode, "observations/desired_goal", lambda array: array[:-1])
    episode["truncations"][-1] = True


@pytest.fixture
def copied(corner_root: Path, minari_root: Path) -> Callable[[Edit], str]:
    """Edits the second episode of a copy of the corner dataset, and returns the dataset's id."""

    def edit_copy(edit: Edit) -> str:
        shutil.copytree(corner_root, minari_root)
        with h5py.File(minari_root / CORNER / "data" / "main_data.hdf5", "a") as file:
            edit(file["episode_1"])
        return CORNER

    return edit_copy


def test_a_generated_dataset_passes(corner: str) -> None:
    findings = by_name(corner)
    assert not failures(findings.values())
    assert findings["episodes"].value == 3
    assert findings["transitions"].value == 903
    assert findings["episodes that terminate"].value == 0
    assert findings["median length (steps)"].note == "301 to 301"
    assert findings["episodes of another length than 301"].verdict == "ok"
    assert findings["share of episodes that reach their goal"].value == 1
    assert findings["share of episodes that reach their goal"].verdict == "-"
    assert findings["share of free cells visited"].value == 1
    assert findings["cells with goals"].note == "100.0 % in (2, 2)"
    pace = findings["metres per step"].value
    assert pace is not None
    assert 0.05 < pace < 0.15


@pytest.mark.parametrize(
    ("edit", "broken"),
    [
        (teleport, ["steps that jump over 0.5 m"]),
        (
            assign("observations/observation", (5, 3), np.nan),
            ["values that are not finite"],
        ),
        (
            lambda e: replace(e, "observations/achieved_goal", lambda a: a[:-1]),
            ["episodes without T+1 observations"],
        ),
        (
            lambda e: replace(e, "terminations", lambda a: a[:-1]),
            ["episodes without T+1 observations"],
        ),
        (
            lambda e: replace(e, "observations/desired_goal", lambda a: a.astype(np.int32)),
            ["arrays of another dtype or shape"],
        ),
        (
            lambda e: replace(e, "observations/observation", lambda a: a[:, :26]),
            ["arrays of another dtype or shape"],
        ),
        (assign("truncations", 100, True), ["episodes that end before their last step"]),
        (assign("terminations", 100, True), ["episodes that end before their last step"]),
        (shorten, ["transitions", "episodes of another length than 301"]),
    ],
)
def test_each_fault_has_its_check(
    copied: Callable[[Edit], str], edit: Edit, broken: list[str]
) -> None:
    found = failures(check(copied(edit)))
    assert [finding.name for finding in found] == broken
    assert {finding.verdict for finding in found} == {"broken"}
    assert found[-1].value == 1


def test_what_is_learned_from_all_the_same_is_measured(copied: Callable[[Edit], str]) -> None:
    def stop_in_doubles(episode: Episode) -> None:
        episode["truncations"][-1] = False
        replace(episode, "actions", lambda a: a.astype(np.float64))

    findings = by_name(copied(stop_in_doubles))
    assert not failures(findings.values())
    assert findings["episodes that just stop"].value == 1


def test_reading_stops_at_an_episode_that_cannot_be_read(copied: Callable[[Edit], str]) -> None:
    def lose_actions(episode: Episode) -> None:
        del episode["actions"]

    findings = by_name(copied(lose_actions))
    assert findings["episodes"].value == 1
    assert findings["episodes"].verdict == findings["transitions"].verdict == "broken"
    assert "the next one cannot be read" in findings["episodes"].note


@pytest.mark.usefixtures("minari_root")
def test_any_minari_dataset_is_held_against_its_schema() -> None:
    episodes = [
        EpisodeBuffer(
            observations={"a": np.zeros((n + 1, 2), np.float32), "b": {"c": np.zeros((n + 1, 1))}},
            actions=np.linspace([-2.0], [1.0], n, dtype=np.float32),
            rewards=np.full(n, 0.5),
            terminations=np.arange(n) == n - 1,
            truncations=np.zeros(n, np.bool_),
        )
        for n in (3, 4, 6)
    ]
    inner = spaces.Dict({"c": spaces.Box(-1, 1, (1,), np.float64)})
    with pytest.warns(UserWarning, match="(is set to|env_spec is) None"):
        minari.create_dataset_from_buffers(
            "test/nested-v0", episodes,
            observation_space=spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "b": inner}),
            action_space=spaces.Box(-2, 2, (1,)),
        )  # fmt: skip
    findings = by_name("test/nested-v0")
    assert not failures(findings.values())
    assert findings["episodes that terminate"].value == 3
    assert (findings["median length (steps)"].value, findings["median length (steps)"].note) == (
        4, "3 to 6"
    )  # fmt: skip
    assert (findings["median return"].value, findings["median return"].note) == (2, "1.5 to 3")
    # The first action of each episode lies at the lower bound: 3 of 13.
    assert findings["share of action values at their bounds"].value == pytest.approx(3 / 13)
    actions = np.concatenate([np.linspace(-2, 1, n) for n in (3, 4, 6)])
    assert findings["mean standard deviation of an action value"].value == pytest.approx(
        actions.std()
    )
    assert "no environment is recorded" in findings["replayed positions differ by"].note
    assert "metres per step" not in findings


@pytest.mark.usefixtures("minari_root")
def test_an_observation_that_float32_cannot_hold_is_named_with_what_to_do() -> None:
    seconds = np.arange(1_800_000_000.0, 1_800_000_005)
    episode = EpisodeBuffer(
        # A constant, a time, a position far away, the same with an offset taken off.
        observations=np.stack([0 * seconds + 7, seconds, seconds / 1e5, seconds - seconds[0]], 1),
        actions=np.zeros((4, 1), np.float32), rewards=[0.0] * 4,
        terminations=[False] * 4, truncations=[False, False, False, True],
    )  # fmt: skip
    with pytest.warns(UserWarning, match="(is set to|env_spec is) None"):
        minari.create_dataset_from_buffers(
            "test/times-v0", [episode], action_space=spaces.Box(-1, 1, (1,)),
            observation_space=spaces.Box(-np.inf, np.inf, (4,), np.float64),
        )  # fmt: skip
    findings = by_name("test/times-v0")
    assert not failures(findings.values())
    ranges = findings["median range of an observation value"]
    assert (ranges.value, ranges.note) == (pytest.approx(2.00002), "0 to 4 by dimension")
    coarse = findings["observation values that float32 rounds coarsely"]
    assert coarse.value == 2
    assert "value 1 is 1800000000 to 1800000004, where float32 has steps of 128;" in coarse.note


@pytest.mark.usefixtures("minari_root")
def test_an_observation_too_great_for_float32_is_broken_and_in_no_range() -> None:
    episode = EpisodeBuffer(
        observations=np.array([[0.0], [1e300], [2.0]]), actions=np.zeros((2, 1), np.float32),
        rewards=[0.0] * 2, terminations=[False] * 2, truncations=[False, True],
    )  # fmt: skip
    with pytest.warns(UserWarning, match="(is set to|env_spec is) None"):
        minari.create_dataset_from_buffers(
            "test/great-v0", [episode], action_space=spaces.Box(-1, 1, (1,)),
            observation_space=spaces.Box(-np.inf, np.inf, (1,), np.float64),
        )  # fmt: skip
    findings = by_name("test/great-v0")
    assert [each.name for each in failures(findings.values())] == ["values that are not finite"]
    assert findings["median range of an observation value"].value == 2


@pytest.mark.usefixtures("minari_root")
@pytest.mark.parametrize(
    ("wrapper", "advice"),
    [
        (ClipAction, "ClipAction takes the bounds away, so record without it"),
        (None, "give the environment the bounds within which its actions make sense"),
    ],
)
def test_actions_without_bounds_are_broken_and_what_to_do_is_said(
    wrapper: type[ClipAction[Any, Any, Any]] | None, advice: str
) -> None:
    environment = gymnasium.make(own_environments.ID)
    recorded = own_environments.episodes(environment, number=2)
    unbounded = None if wrapper else spaces.Box(-np.inf, np.inf, (2,))
    wrapped = wrapper(environment) if wrapper else environment
    with warnings.catch_warnings(action="ignore"):  # of the author and so on
        minari.create_dataset_from_buffers(
            "test/endless-v0", recorded, env=wrapped, action_space=unbounded
        )
    (found,) = failures(check("test/endless-v0"))
    assert found[:2] == ("bounds of actions that are not finite", 4)
    assert advice in found.note
    with pytest.raises(DatasetError, match=advice):
        iqlft.load_dataset("test/endless-v0")


@pytest.mark.usefixtures("minari_root")
def test_an_absent_dataset_says_how_to_make_it() -> None:
    with pytest.raises(DatasetError, match="iqlft data make antmaze-umaze"):
        check("iqlft/antmaze/umaze-v1")


# -- the command --------------------------------------------------------------------------------


def test_the_command_prints_the_table(corner: str) -> None:
    lines = run(["check", corner]).splitlines()
    assert lines[0].split() == ["check", "value", "band", "verdict", "note"]
    assert lines[2].split() == ["transitions", "903", "903", "ok"]


def test_the_table_can_be_committed_as_markdown(corner: str, tmp_path: Path) -> None:
    out = tmp_path / "corner.md"
    assert run(["check", corner, "--style", "markdown", "--out", str(out)]) == f"Wrote {out}"
    lines = out.read_text().splitlines()
    assert lines[:2] == [f"# {corner}", ""]
    assert lines[5] == "| transitions | 903 | 903 | ok |  |"
    assert {line.count("|") for line in lines[2:]} == {6}


def test_a_failed_audit_is_an_error_that_carries_the_table(copied: Callable[[Edit], str]) -> None:
    dataset_id = copied(teleport)
    with pytest.raises(AuditFailedError, match="not as it should be: steps that jump") as failure:
        run(["check", dataset_id])
    assert "steps that jump over 0.5 m" in failure.value.report
    assert "broken" in failure.value.report


def test_a_table_that_cannot_be_written_says_so(corner: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="cannot be written"):
        run(["check", corner, "--out", str(tmp_path / "missing" / "table.md")])
