"""Every logger is told everything once, whatever becomes of the run, and ends none."""

import json
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from iqlft.cli.main import main
from iqlft.config.errors import ConfigError
from iqlft.training.loggers import Loggers, logger_class
from iqlft.training.resume import resume
from robot_logs import log
from run_fixtures import rewind

Begin = Callable[..., Loggers]
SETTINGS = {"pretrain": {"discount": 0.99, "algorithm": "iql", "dataset": ["mine/a-v0"]}}


def row(updates: int, **figures: Any) -> dict[str, Any]:  # noqa: ANN401
    clocks = {"updates": updates, "env_steps": 0, "seconds": 1.0 * updates, "phase": "offline"}
    others = {"critic/loss": updates / 100, "policy_lag": None, "incidents": ["x"]}
    return clocks | (figures or others)


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Begins a part of one run; all are closed after the test."""
    folder, begun = tmp_path / "reach" / "iql-s0", []
    for name in ("logs", "tensorboard"):
        (folder / name).mkdir(parents=True)

    def begin(
        name: str,
        history: Sequence[dict[str, Any]] = (),
        tell: Callable[[str], None] = pytest.fail,
    ) -> Loggers:
        begun.append(Loggers([name], folder, "reach", SETTINGS, "a: 1\n", history, tell))
        return begun[-1]

    yield begin
    for each in begun:
        each.close()


def in_two_parts(begin: Begin, name: str, pause_seconds: float = 0.0) -> None:
    """A run that has rows until 30, is killed, and goes on from its checkpoint at 20."""
    first = begin(name)
    for updates in (10, 20, 30):
        first.write(row(updates))
    first.write(row(20, **{"evaluation/return": 7.0}))  # It comes when it is finished.
    first.close()
    time.sleep(pause_seconds)
    second = begin(name, [row(10), row(20), row(20, **{"evaluation/return": 7.0})])
    for updates in (30, 40):
        second.write(row(updates))
    second.close()


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "logs" / "lines").read_text().splitlines()]


def test_a_logger_of_one_s_own_gets_each_row_of_a_resumed_run_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    log("mine/robot-v0", 5, seed=0)
    command = (
        "pretrain --dataset mine/robot-v0 --num-updates 40 --eval-episodes 0 --log-every 10 "
        "--checkpoint-every 20 --keep-checkpoints 9 --hidden-size 8 --batch-size 8 --device cpu "
        "--quiet --loggers own_logger:Lines own_logger:Unable --no-tensorboard"
    )
    assert main(command.split()) == 0
    run = tmp_path / "runs" / "mine-robot-v0" / "iql-s0"
    rewind(run, "000000020")
    monkeypatch.chdir(run.parent)
    resume(Path(run.name))
    # Nobody but the console says what the log has taken.
    sentence = "The logger own_logger:Unable has failed and sees no more"
    assert (run / "logs" / "learner.log").read_text().count(sentence) == 2
    told = lines(run)
    assert [each["updates"] for each in told if "updates" in each] == [10, 20, 30, 40]
    first, second = (each for each in told if "begun" in each)
    assert first == second == {"begun": first["begun"], "task": "mine-robot-v0", "discount": 0.99}
    assert [each for each in told if "closed" in each] == [{"closed": True}] * 2


def test_one_that_is_added_later_is_given_what_it_missed(begin: Begin, tmp_path: Path) -> None:
    evaluation = {"evaluation/return": 1.0}
    switch = row(10, **evaluation) | {"phase": "online"}
    begin("own_logger:Lines", [row(10), row(10, **evaluation), switch, row(20)])
    told = [(each["updates"], each["evaluation"]) for each in lines(tmp_path / "reach/iql-s0")[1:]]
    assert told == [(10, False), (10, True), (10, True), (20, False)]


def test_one_that_fails_is_told_of_once_and_ends_nothing(begin: Begin, tmp_path: Path) -> None:
    told: list[str] = []
    loggers = begin("own_logger:Broken", tell=told.append)
    for updates in (10, 20, 30):
        loggers.write(row(updates))
    assert told == [
        "The logger own_logger:Broken has failed and sees no more (RuntimeError: no room)."
    ]
    assert lines(tmp_path / "reach/iql-s0")[1:] == [
        {"updates": 10, "evaluation": False}, {"closed": True}
    ]  # fmt: skip


def test_tensorboard_has_each_row_once_in_groups_and_the_settings(
    begin: Begin, tmp_path: Path
) -> None:
    in_two_parts(begin, "tensorboard")
    read = EventAccumulator(str(tmp_path / "reach" / "iql-s0" / "tensorboard"))
    read.Reload()
    assert [each.step for each in read.Scalars("critic/loss")] == [10, 20, 30, 40]
    assert [each.step for each in read.Scalars("evaluation/return")] == [20]
    start = read.SummaryMetadata("_hparams_/session_start_info").plugin_data
    assert start.plugin_name == "hparams"
    assert b"pretrain.discount" in start.content


def records(data: bytes) -> Iterator[bytes]:
    """The records of a file of W&B's: LevelDB's log format after a header of 7 bytes."""
    position, record = 7, b""
    while position + 7 <= len(data):
        if (left := 32768 - position % 32768) < 7:
            position += left
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in {1, 4}:
            yield record
            record = b""


def test_wandb_has_each_row_once_in_one_run(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    in_two_parts(begin, "wandb", pause_seconds=1.0)  # Its files are called after the second.
    rows, ids, settings = [], set(), set()
    for file in sorted(tmp_path.rglob("*.wandb")):
        for data in records(file.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            if record.HasField("run"):
                ids.add(record.run.run_id)
                settings |= {each.key for each in record.run.config.update}
            if record.HasField("history"):
                items = record.history.item
                rows.append({(each.key or each.nested_key[0]): each.value_json for each in items})
    assert [each["updates"] for each in rows] == ["10", "20", "30", "20", "40"]
    assert [each.get("critic/loss") for each in rows] == ["0.1", "0.2", "0.3", None, "0.4"]
    assert [each.get("evaluation/return") for each in rows] == [None, None, None, "7", None]
    assert len(ids) == 1
    assert "pretrain.discount" in settings


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_the_task_is_the_runs_and_not_that_of_the_path_as_typed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = MagicMock()
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, f"{name}.entities", MagicMock())
    monkeypatch.chdir(tmp_path)
    Path("iql-s0/logs").mkdir(parents=True)
    Loggers([name], Path("iql-s0"), "reach", SETTINGS, "a: 1\n", (), pytest.fail).close()
    if name == "wandb":
        assert module.init.call_args.kwargs["group"] == "reach"
        assert module.init.call_args.kwargs["name"] == "reach/iql-s0"
    else:
        module.MlflowClient().get_experiment_by_name.assert_called_once_with("reach")


def test_mlflow_has_each_row_once_in_one_run(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlruns")
    in_two_parts(begin, "mlflow")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("reach").experiment_id])
    assert (run.info.run_name, run.info.status) == ("iql-s0", "FINISHED")
    assert run.data.params["pretrain.discount"] == "0.99"
    steps = {
        key: [each.step for each in client.get_metric_history(run.info.run_id, key)]
        for key in ("critic/loss", "evaluation/return")
    }
    assert steps == {"critic/loss": [10, 20, 30, 40], "evaluation/return": [20]}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wnadb", "Did you mean 'wandb'"),
        ("absent_module:Class", "cannot be imported"),
        ("own_logger:Absent", "The module own_logger has no class 'Absent'"),
        ("json:dumps", "is not a logger"),
    ],
)
def test_what_is_no_logger_is_refused_before_a_run_is_made(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        logger_class(name)
