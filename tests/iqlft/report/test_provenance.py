"""How a run was made is told from what it has recorded."""

import json
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from iqlft.cli import main as cli
from iqlft.config.layers import to_dict
from iqlft.config.settings import FinetuneConfig
from iqlft.report.provenance import command_line, commands, facts
from iqlft.runs.errors import RunError
from iqlft.runs.folder import Run


def test_a_run_tells_its_commands_data_machine_and_versions(finetuned: Path) -> None:
    run = Run.open(finetuned)
    told = dict(facts(run))
    assert told["seed"] == "0"
    assert told["data"] == (
        "iqlft/antmaze/corner-v1, regenerated with the D4RL procedure, v1, not the published set"
    )
    assert told["data's hash"] == run.meta["dataset"]["hash"]
    assert told["status"] == "finished, online phase"
    assert "1 torch thread" in told["machine"]
    for part in ("cores", "cpu", "1 torch thread"):
        assert part in told["fine-tuning: machine"]
    assert "mujoco " in told["versions"]
    # The fixture's runs are made within this process.
    assert commands(run) == [command_line(sys.argv)]


def test_commands_that_are_not_recorded_are_those_that_repeat_the_run(
    fresh: Path, pretrained: Path, lockstep: FinetuneConfig
) -> None:
    meta = json.loads((fresh / "meta.json").read_text())
    del meta["argv"], meta["digest"]
    (fresh / "meta.json").write_text(json.dumps(meta))
    Run.open(fresh).write_config("finetune", to_dict(lockstep) | {"runs": str(fresh.parents[1])})
    config, said = fresh / "config.yaml", "  # not recorded; this repeats it"
    lines = commands(Run.open(fresh))
    assert lines == [
        f"iqlft pretrain --config {config} --name iql-s0-again{said}",
        f"iqlft finetune --config {config}{said}",
    ]
    # What the first one would make.
    shutil.copytree(pretrained, fresh.with_name("iql-s0-again"))
    for line in lines:
        _, *arguments = shlex.split(line, comments=True)
        assert cli.main([*arguments, "--dry-run"]) == 0


def test_data_that_are_called_by_their_id_are_named_once(make_run: Callable[..., Path]) -> None:
    run = Run.open(make_run(label="D4RL/antmaze/umaze-v1"))
    run.write_meta({"dataset": {"id": "D4RL/antmaze/umaze-v1", "hash": "12"}})
    assert dict(facts(run))["data"] == "D4RL/antmaze/umaze-v1"


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
        (["/somewhere/pytest/__main__.py", "-q"], "pytest -q"),
        (["train.py"], "train.py"),
        (None, ""),
    ],
)
def test_a_command_is_told_as_it_is_typed(argv: list[str] | None, typed: str) -> None:
    assert command_line(argv) == typed
