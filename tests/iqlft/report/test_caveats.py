"""Caveats of a result are told, and only those that it has."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iqlft.analysis.summary import group_runs, summarise
from iqlft.report.caveats import caveats, unfinished
from iqlft.runs.curves import read_run
from iqlft.runs.folder import Run

MakeRun = Callable[..., Path]


def sentences(*folders: Path) -> list[str]:
    (group,) = group_runs(map(read_run, folders))
    return caveats(group, summarise(group))


def test_a_short_run_of_one_seed_and_few_episodes_says_so(make_run: MakeRun) -> None:
    folder = make_run(online=[0.5, 0.9], updates=200_000, env_steps=50_000, episodes=20)
    data, seeds, length, episodes = sentences(folder)
    assert data == (
        "The data are regenerated with the D4RL procedure; the published numbers are of antmaze-v0 "
        "and antmaze-v2, which is other data."
    )
    assert "There is one seed" in seeds
    assert "200k offline updates and 50k environment steps, where that has 1M and 1M" in length
    assert episodes == "An evaluation has 20 episodes, where a published one has 100."


def test_a_full_run_of_several_seeds_has_no_more_limits_than_it_has(make_run: MakeRun) -> None:
    folders = [make_run(seed=seed, online=[0.5, 0.9]) for seed in range(3)]
    data, seeds = sentences(*folders)
    assert "other data" in data
    assert "3 seeds" in seeds


def test_seeds_that_do_not_count_yet_are_told(make_run: MakeRun) -> None:
    folders = [make_run(online=[0.5, 0.9]), make_run(seed=1)]
    _, seeds, counted = sentences(*folders)
    assert "There is one seed" in seeds
    assert counted == "Of 2 seeds only those evaluated before and after fine-tuning are counted."


def test_seeds_that_cannot_be_compared_at_one_place_are_told(make_run: MakeRun) -> None:
    folders = [
        make_run(seed=seed, online=[0.5, 0.9], env_steps=steps)
        for seed, steps in enumerate([300_000, 500_000])
    ]
    _, _, length, apart = sentences(*folders)
    assert "300k-500k environment steps" in length
    assert apart.startswith("The seeds have no evaluation after equally many")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # Compared with offline tables, where the algorithm is in one.
        ({"algorithm": "bc"}, ""),
        ({"algorithm": "bc", "updates": 200_000}, "200k offline updates, where that has 1M."),
        ({"algorithm": "calql"}, "1M offline updates and no environment steps, where that has 1M"),
        ({"algorithm": "rlpd", "online": [0.0, 0.9]}, ""),
        (
            {"algorithm": "rlpd", "online": [0.0, 0.9], "env_steps": 300_000},
            "300k environment steps, where that has 1M.",
        ),
        ({"algorithm": "sac", "updates": 10}, ""),  # Nobody has published such.
    ],
)
def test_how_long_training_was_is_compared_with_what_was_published_of_such_a_run(
    settings: dict[str, Any], expected: str, make_run: MakeRun
) -> None:
    data, _, *length = sentences(make_run(**settings))
    assert "published numbers" in data
    start = "The training is shorter than the published one: "
    assert len(length) == bool(expected)
    assert all(each.startswith(f"{start}{expected}") for each in length)


def test_a_task_without_published_numbers_says_so(make_run: MakeRun) -> None:
    data, _ = sentences(make_run(task="pendulum", updates=10, label="ours"))
    assert data == "The data are ours; there is no published number for this task."


def test_data_that_may_be_the_published_ones_are_not_called_others(make_run: MakeRun) -> None:
    data, *_ = sentences(make_run(label="imported/antmaze/umaze-v2"))
    assert data == (
        "The data are imported/antmaze/umaze-v2; the published numbers are of antmaze-v0 and "
        "antmaze-v2; compare them only if that is the same data."
    )


def test_training_that_is_not_over_is_told(make_run: MakeRun) -> None:
    run = Run.open(make_run())
    assert unfinished(run) == []
    run.write_meta({"status": "interrupted"})
    (sentence,) = unfinished(run)
    assert "is not finished (its status is interrupted)" in sentence
