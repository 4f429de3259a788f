"""How a run was made is told from what it has recorded."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from iqlft.provenance import command_line, commands, duration, facts
from iqlft.runs import Run, RunError


def test_a_run_tells_its_commands_data_machine_and_versions(finetuned: Path) -> None:
    run = Run.open(finetuned)
    told = dict(facts(run))
    assert told["seed"] == "0"
    assert told["data"] == "iqlft/antmaze/corner-v0, regenerated with the D4RL procedure"
    assert told["data's hash"] == run.meta["dataset"]["hash"]
    assert told["status"] == "finished, online phase"
    assert "1 torch thread" in told["machine"]
    assert "cores" in told["fine-tuning: machine"]
    assert "mujoco " in told["versions"]
    # The fixture's runs are made within this process.
    assert commands(run) == [command_line(sys.argv)]


def test_commands_that_are_not_recorded_are_those_that_repeat_the_run(fresh: Path) -> None:
    meta = json.loads((fresh / "meta.json").read_text())
    del meta["argv"]
    (fresh / "meta.json").write_text(json.dumps(meta))
    assert commands(Run.open(fresh)) == [f"iqlft pretrain --config {fresh / 'config.yaml'}"]
    Run.open(fresh).write_config("finetune", {})
    assert commands(Run.open(fresh))[1] == (
        f"iqlft finetune {fresh} --config {fresh / 'config.yaml'}"
    )


def test_what_is_not_recorded_is_said_to_be_missing(make_run: Callable[..., Path]) -> None:
    run = Run.open(make_run())
    told = dict(facts(run))
    assert told["training time"] == told["versions"] == told["machine"] == "not recorded"
    with pytest.raises(RunError, match=r"config.yaml cannot be read"):
        commands(run)


@pytest.mark.parametrize(
    ("argv", "typed"),
    [
        (["/usr/bin/iqlft", "pretrain", "--task", "my task"], "iqlft pretrain --task 'my task'"),
        (["/somewhere/iqlft/__main__.py", "demo"], "iqlft demo"),
        (["train.py"], "train.py"),
        (None, ""),
    ],
)
def test_a_command_is_told_as_it_is_typed(argv: list[str] | None, typed: str) -> None:
    assert command_line(argv) == typed


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "not recorded"), (12.4, "12 s"), (1138.5, "19 min"), (7_000, "1 h 57 min")],
)
def test_a_duration_is_told_in_hours_and_minutes(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
