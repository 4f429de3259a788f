"""What a person sees of a run: a panel on a terminal, lines elsewhere."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from iqlft.cli import console
from iqlft.cli.console import ConsoleReporter, EpisodeProgress, Eta
from iqlft.cli.panel import line, panel, panel_of_several
from iqlft.runs.scores import Score
from iqlft.training.progress import Status

BEFORE = Score("online", 1000, 0, 10.0, 0.5, 0.5, 50.0, 100)
AFTER = Score("online", 3000, 2000, 20.0, 0.75, 0.75, 75.0, 100)


def status(**changes: Any) -> Status:  # noqa: ANN401
    values: dict[str, Any] = {
        "task": "antmaze-corner",
        "device": "cpu",
        "folder": Path("runs/antmaze-corner/iql-s0"),
        "phase": "online",
        "done": 2000,
        "total": 8000,
        "updates_per_second": 321.4,
        "env_steps_per_second": 123.4,
        "dataset_size": 60_000,
        "new_size": 2_000,
        "workers": {0: "stepping", 1: "waiting", 2: "lost"},
        "policy_lag": 12.3,
        "before": BEFORE,
        "last": AFTER,
    }
    return Status(**values | changes)


def rendered(what: object, width: int = 100) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(what)
    return stream.getvalue()


def test_the_panel_shows_everything_about_fine_tuning() -> None:
    text = rendered(panel(status(evaluation=(3, 100)), 3723.0))
    for part in (
        "iqlft antmaze-corner, fine-tuning",
        "25.0%",
        "2,000 of 8,000 env steps, 1:02:03 left",
        "321 updates/s, 123 env steps/s",
        "60,000 dataset + 2,000 new transitions",
        "2 workers (1 lost, 1 stepping, 1 waiting), policy lag 12 updates",
        "3 of 100 episodes",
        "success 75% [66%, 82%], +25 points since the switch",
        "runs/antmaze-corner/iql-s0 on cpu",
    ):
        assert part in text


def test_the_panel_of_pretraining_speaks_of_updates_and_has_no_change() -> None:
    text = rendered(panel(status(phase="offline", policy_lag=None, last=None, before=None), None))
    assert "pretraining" in text
    assert "2,000 of 8,000 updates, unknown time left" in text
    assert "none yet" in text
    assert "env steps" not in text
    assert "policy lag" not in text
    assert "switch" not in text


def test_the_line_says_the_same_in_short() -> None:
    assert line(status(), 60.0) == (
        "antmaze-corner online, 2,000/8,000 env steps, 321 updates/s, 123 env steps/s, "
        "2 workers (1 lost, 1 stepping, 1 waiting), policy lag 12, "
        "success 75% [66%, 82%], +25 points since the switch, 0:01:00 left"
    )


@pytest.mark.parametrize(
    ("before", "last", "expected"),
    [
        (BEFORE, AFTER._replace(success=0.4), "-10 points since the switch"),
        (BEFORE, BEFORE, None),
        (None, AFTER, None),
        (BEFORE, AFTER._replace(phase="offline"), None),
        (BEFORE._replace(success=None, mean_return=-5.0),
         AFTER._replace(success=None, mean_return=2.5), "return 2.5, +7.5 since the switch"),
    ],
)  # fmt: skip
def test_the_change_since_the_switch_needs_a_score_before_and_one_after(
    before: Score | None, last: Score, expected: str | None
) -> None:
    text = line(status(before=before, last=last), None)
    if expected is None:
        assert "since the switch" not in text
    else:
        assert expected in text


def test_the_rest_is_predicted_from_the_speed_within_the_phase(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    eta = Eta()
    assert eta.remaining(status(phase="offline", done=1000, total=2000)) is None
    now = 110.0
    assert eta.remaining(status(phase="offline", done=1500, total=2000)) == pytest.approx(10.0)
    # The other phase begins anew, at 0 of 600.
    assert eta.remaining(status(done=0, total=600)) is None
    now = 120.0
    assert eta.remaining(status(done=100, total=600)) == pytest.approx(50.0)


def test_elsewhere_than_on_a_terminal_a_line_comes_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    stream = io.StringIO()
    with ConsoleReporter(Console(file=stream, width=40)) as reporter:
        for second in range(0, 61, 5):
            now = 1000.0 + second
            reporter.status(status())
        reporter.event("Worker 0 died.")
    lines = stream.getvalue().splitlines()
    assert sum("antmaze-corner online" in each for each in lines) == 3  # At 0, 30 and 60 s.
    assert lines[-1].endswith("Worker 0 died.")
    assert len(lines) == 4  # Not wrapped, however narrow the console.


def in_colour(what: object, width: int, height: int = 24) -> list[str]:
    """The lines of a picture on a colour terminal, without their colours."""
    stream = io.StringIO()
    Console(file=stream, width=width, height=height, force_terminal=True, color_system="256").print(
        what
    )
    text = stream.getvalue()
    assert "\x1b[" in text
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("per_cent", [5, 50, 95])
def test_count_per_cent_and_time_left_are_seen_on_a_colour_terminal(
    width: int, per_cent: int
) -> None:
    losses = {"value/loss": 0.01234, "critic/loss": 3.4567, "actor/loss": -1.5}
    one = status(done=80 * per_cent, losses=losses, training_success=0.4)
    lines = in_colour(panel(one, 3723.0), width)
    text = "\n".join(lines)
    (bar,) = (each for each in lines if "\N{BOX DRAWINGS HEAVY HORIZONTAL}" in each)
    assert f" {per_cent}.0%" in bar
    assert f"{80 * per_cent:,} of 8,000 env steps, 1:02:03 left" in text
    assert "value 0.0123, critic 3.46, actor -1.5" in text
    assert "success 40% of the newest episodes" in text
    assert {len(each) for each in lines} == {min(width, 86)}  # Nothing is cropped or glued on.
    assert len(lines) <= 16


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_several_runs_have_a_row_each_however_narrow_the_terminal(width: int) -> None:
    runs = [
        (status(task=f"antmaze-corner iql-s{seed}", folder=Path(f"iql-s{seed}")), 60.0 * seed)
        for seed in range(5)
    ]
    runs.append((status(task="antmaze-corner iql-s5", done=0, waiting=True), None))
    lines = in_colour(panel_of_several(runs), width)
    assert "iqlft antmaze-corner, 6 runs" in lines[0]
    assert " 20.8%" in lines[1]  # Five at 25 %, one at 0.
    rows = [each for each in lines if "iql-s" in each]
    for seed, row in enumerate(rows[:5]):
        for part in (f"iql-s{seed}", "25.0%", f"0:0{seed}:00", "success 75% [66%, 82%]"):
            assert part in row
        assert ("+25 points" in row) == (width > 60)
        assert ("123" in row) == (width > 80)
    assert "waiting" in rows[5]
    assert len(lines) == 10
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("terminal", [True, False])
def test_every_run_is_shown(terminal: bool) -> None:
    stream = io.StringIO()
    with ConsoleReporter(Console(file=stream, width=200, force_terminal=terminal)) as reporter:
        for seed in (1, 0):
            task = f"antmaze-corner iql-s{seed}"
            reporter.status(status(task=task, folder=Path(f"iql-s{seed}")))
    last = stream.getvalue().splitlines()[-4 if terminal else -2 :]
    # Rows stand in the order of their names, lines in that in which they come.
    assert ["iql-s0" in each for each in last if "iql-s" in each] == [terminal, not terminal]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_run_that_waits_is_a_row_of_the_panel_and_no_line(terminal: bool) -> None:
    stream = io.StringIO()
    with ConsoleReporter(Console(file=stream, width=100, force_terminal=terminal)) as reporter:
        reporter.status(status(task="t iql-s0", folder=Path("iql-s0")))
        reporter.status(status(task="t iql-s1", folder=Path("iql-s1"), done=0, waiting=True))
        assert ("iql-s1" in stream.getvalue()) == terminal  # At once, and at the end.
    assert ("iql-s1" in stream.getvalue()) == terminal


def test_on_a_terminal_the_panel_is_live_and_events_stand_above_it() -> None:
    stream = io.StringIO()
    terminal = Console(file=stream, width=100, force_terminal=True)
    with ConsoleReporter(terminal) as reporter:
        reporter.status(status())
        reporter.event("Evaluated after 3,000 updates.")
    text = stream.getvalue()
    assert "fine-tuning" in text
    assert "Evaluated after 3,000 updates." in text


@pytest.mark.parametrize("terminal", [True, False])
def test_the_generation_of_a_dataset_shows_its_progress(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    stream = io.StringIO()
    with EpisodeProgress(Console(file=stream, width=100, force_terminal=terminal)) as progress:
        now = 1010.0
        progress(25, 100, 4321.0)
    assert "4,321 transitions/s" in stream.getvalue()
    assert "25/100" in stream.getvalue()
    assert ("0:00:30 left" in stream.getvalue()) is not terminal


@pytest.mark.parametrize("terminal", [True, False])
def test_names_are_neither_obeyed_nor_markup(terminal: bool) -> None:
    stream = io.StringIO()
    shown = Console(file=stream, width=100, force_terminal=terminal, color_system=None)
    one = status(task="[/x]\x1b]0;t\a", folder=Path("runs/[bold]n\x1b[2J"))
    with ConsoleReporter(shown) as reporter:
        reporter.event("Refused [/red] by \x1b[2J\x9b.")
        reporter.status(one)
        reporter.event("Again.")
    text = stream.getvalue()
    assert "Refused [/red] by \\x1b[2J\\x9b." in text
    assert "[/x]\\x1b]0;t\\x07" in text
    assert ("[bold]n\\x1b[2J" in text) == terminal
    assert "\x1b]0" not in text
    assert "\a" not in text
    assert "[/x]\\x1b" in rendered(panel_of_several([(one, None), (status(), None)]))
