"""What a finding is worth, and how it is written."""

import math

import numpy as np
import pytest

from iqlft.datasets.antmaze.bands import BANDS, FIRST_HIT, PACE, REACH, STUCK, TOUCH, UPSIDE_DOWN
from iqlft.datasets.audit.ant_walk import follow_ant
from iqlft.datasets.audit.findings import (
    Band,
    Finding,
    failures,
    form,
    format_findings,
    measurement,
    show,
)


@pytest.mark.parametrize(
    ("band", "text", "inside", "outside"),
    [
        (Band(0.6, 0.85), "0.6 to 0.85", [0.6, 0.7, 0.85], [0.59, 0.86]),
        (Band(0.9), ">= 0.9", [0.9, 1], [0.89]),
        (Band(0.9, strict=True), "> 0.9", [0.91], [0.9]),
        (Band(greatest=0.4, strict=True), "< 0.4", [0.39, 0], [0.4]),
        (Band(0, 0), "0", [0], [1]),
    ],
)
def test_a_band_holds_its_values_and_says_them(
    band: Band, text: str, inside: list[float], outside: list[float]
) -> None:
    assert str(band) == text
    assert all(band.holds(value) for value in inside)
    assert not any(band.holds(value) for value in [*outside, math.nan])


def test_d4rls_bands_are_those_of_its_own_policy() -> None:
    families = {
        name: {each.split("/")[-1] for each in BANDS if name in each}
        for name in ("umaze", "medium", "large")
    }
    assert families == {
        "umaze": {"umaze-v0", "umaze-diverse-v0", "umaze-v1", "umaze-diverse-v1"},
        "medium": {"medium-play-v0", "medium-diverse-v0", "medium-play-v1", "medium-diverse-v1"},
        "large": {"large-play-v0", "large-diverse-v0", "large-play-v1", "large-diverse-v1"},
    }
    for dataset_id, bands in BANDS.items():
        umaze = "/umaze-v" in dataset_id
        near = "/umaze-diverse-v" in dataset_id
        reach = "0.7 to 0.9" if umaze else ">= 0.85" if near else "0.6 to 0.85"
        assert str(bands[REACH]) == reach
        assert str(bands.get(FIRST_HIT)) == ("None" if near else "150 to 320")
        assert str(bands[PACE]) == "0.075 to 0.11"
        assert str(bands[UPSIDE_DOWN]) == "0.15 to 0.45"
        assert str(bands[STUCK]) == "0.1 to 0.35"
        touch = "0.7 to 0.9" if umaze else "None" if near else "0.03 to 0.25"
        assert str(bands.get(TOUCH)) == touch


def test_an_ant_s_way_has_falls_and_stuck_steps() -> None:
    positions = np.zeros((201, 2))
    positions[1:, 0] = np.cumsum(np.r_[np.full(60, 0.11), np.zeros(60), np.full(80, 0.11)])
    torso = np.tile([1.0, 0, 0, 0], (201, 1))
    torso[90:95] = [0, 1, 0, 0]
    walk = follow_ant(positions, torso, 150)
    assert walk == (150, True, False, 1, 1, 196, len(range(54, 77)))
    torso[180:] = [0, 1, 0, 0]
    assert follow_ant(positions, torso, None)[:5] == (200, True, True, 2, 1)


def test_only_what_is_broken_or_outside_fails() -> None:
    findings = [
        form("a", 0),
        form("b", 2),
        measurement("c", 0.5),
        measurement("d", 0.5, Band(0, 1)),
        measurement("e", 1.5, Band(0, 1)),
        measurement("f", None, Band(0, 1)),
    ]
    assert [finding.verdict for finding in findings] == ["ok", "broken", "-", "ok", "outside", "-"]
    assert [finding.name for finding in failures(findings)] == ["b", "e"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (1_000_327, "1,000,327"), (701.0, "701"), (0.08741, "0.0874"), (4e-16, "4e-16")],
)
def test_numbers_take_few_characters(value: float | None, text: str) -> None:
    assert show(value) == text


def test_a_table_for_the_terminal_is_aligned_and_one_for_documents_has_bars() -> None:
    findings = [form("episodes", 1427, 1427), Finding("metres", 0.5, Band(0, 0.25), "outside", "!")]
    assert format_findings(findings).splitlines() == [
        "check     value  band       verdict  note",
        "episodes  1,427  1,427      ok",
        "metres      0.5  0 to 0.25  outside  !",
    ]
    assert format_findings(findings, "markdown").splitlines() == [
        "| check | value | band | verdict | note |",
        "| --- | ---: | --- | --- | --- |",
        "| episodes | 1,427 | 1,427 | ok |  |",
        "| metres | 0.5 | 0 to 0.25 | outside | ! |",
    ]
