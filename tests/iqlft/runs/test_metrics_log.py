"""The metrics of a run are read by key and phase."""

from pathlib import Path

import pytest

from iqlft.runs.errors import RunError
from iqlft.runs.metrics_log import read_history

ROWS = """\
{"phase": "offline", "updates": 50, "env_steps": 0, "dataset_q": -1.5}
{"phase": "offline", "updates": 100, "env_steps": 0, "dataset/q": -2.5}
{"phase": "online", "updates": 130, "env_steps": 30, "dataset_q": -3.5, "policy_lag": null}
{"phase": "online", "updates": 160, "env_steps": 60, "dataset_q": -4.5, "policy_lag": 6.0}
"""


def test_a_column_has_updates_offline_and_steps_online(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(ROWS)
    history = read_history(tmp_path)
    assert [list(each) for each in history.column("dataset/q", "offline")] == [
        [50, 100],
        [-1.5, -2.5],
    ]
    assert [list(each) for each in history.column("policy_lag", "online")] == [[60], [6]]
    assert [list(each) for each in history.column("policy_lag", "offline")] == [[], []]
    assert (history.length("offline"), history.length("online")) == (100, 60)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no rows yet"),
        (ROWS + '{"phase": "onl', r"line 5, is no row of metrics \(JSONDecodeError"),
        (ROWS + '{"phase": "online", "updates": 9}', r"line 5, is no row .*KeyError\('env_steps'"),
        (ROWS + "[]", "line 5, is no row of metrics"),
    ],
)
def test_damaged_metrics_are_refused_with_the_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(RunError, match=says):
        read_history(tmp_path)


def test_a_run_without_metrics_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"metrics.jsonl cannot be read \(.*No such file"):
        read_history(tmp_path)


def test_what_version_0_1_wrote_of_figures_that_are_not_finite_is_read_as_none(
    tmp_path: Path,
) -> None:
    row = '{"phase": "offline", "updates": 1, "dataset/q": %s}\n'
    (tmp_path / "metrics.jsonl").write_text(row % "NaN" + row % "-Infinity" + row % "2.5")
    history = read_history(tmp_path)
    assert [each["dataset/q"] for each in history.rows] == [None, None, 2.5]
    assert history.column("dataset/q", "offline")[1].tolist() == [2.5]
