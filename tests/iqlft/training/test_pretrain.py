"""Pretraining with real workers: what it leaves, and that an interruption changes nothing."""

import dataclasses
import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from iqlft.algorithms.base import Batch, Metrics
from iqlft.algorithms.iql import IQL
from iqlft.config.layers import override, with_algorithm, with_settings
from iqlft.config.settings import ConfigError, PretrainConfig
from iqlft.runs import checkpoint
from iqlft.runs.best import BEST
from iqlft.runs.curves import read_run
from iqlft.runs.errors import RunError
from iqlft.runs.export import description
from iqlft.runs.folder import Run
from iqlft.runs.listing import list_runs
from iqlft.runs.policy import load_policy
from iqlft.training.interruption import Interrupted
from iqlft.training.pretrain import pretrain
from iqlft.training.progress import Status
from iqlft.training.resume import resume
from iqlft.training.session import TrainingDivergedError, describe
from run_fixtures import curves, stopped_at

Start = Callable[..., subprocess.Popen[str]]
Stop = Callable[[subprocess.Popen[str], Path, int, signal.Signals], int]


def metrics(run: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl without times and speeds."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if "second" not in key} for row in rows]


def assert_same_end(run: Path, other: Path) -> None:
    """Two runs have the same tensors, curves and metrics, to the last bit."""
    one, two = (checkpoint.load(each / "checkpoints").tensors for each in (run, other))
    assert one.keys() == two.keys()
    assert [key for key in one if not torch.equal(one[key], two[key])] == []
    assert curves(run) == curves(other)
    assert (run / "evaluations.csv").read_bytes() == (other / "evaluations.csv").read_bytes()
    assert metrics(run) == metrics(other)
    for name in ("actor.safetensors", "policy.json"):
        assert (run / "policy" / name).read_bytes() == (other / "policy" / name).read_bytes()


def test_a_finished_pretraining_has_its_evaluations_metrics_checkpoints_and_policy(
    pretrained: Path, pretraining: PretrainConfig
) -> None:
    assert [(row["phase"], row["updates"], row["env_steps"]) for row in curves(pretrained)] == [
        ("offline", "100", "0"), ("offline", "200", "0"), ("offline", "300", "0")
    ]  # fmt: skip
    assert all(
        row["version"] == row["updates"] and row["episodes"] == "2" and row["success"]
        for row in curves(pretrained)
    )
    assert [row["updates"] for row in metrics(pretrained)] == list(range(50, 301, 50))
    run = Run.open(pretrained)
    assert (run.meta["status"], run.meta["phase"]) == ("finished", "offline")
    assert (run.meta["device"], run.meta["hidden_dtype"]) == ("cpu", "float32")
    assert (run.meta["variant"], run.meta["dataset_label"]) == (
        "",
        "regenerated with the D4RL procedure, v1, not the published set",
    )
    settings = override(PretrainConfig(), run.config("pretrain") or {}, "config.yaml")
    assert dataclasses.replace(settings, runs=pretraining.runs) == pretraining
    assert load_policy(pretrained).weights.version == 300
    assert list((pretrained / "replay").iterdir()) == []
    assert not list(pretrained.rglob("*.tmp"))


def test_a_run_shorter_than_log_every_has_a_row_and_is_listed_with_its_updates(
    corner: str, pretraining: PretrainConfig, tmp_path: Path
) -> None:
    assert corner
    (run,) = pretrain(
        dataclasses.replace(
            pretraining, num_updates=30, log_every=1000, eval_episodes=0, runs=tmp_path
        )
    )
    assert [(row["updates"], row["env_steps"]) for row in metrics(run)] == [(30, 0)]
    assert [(each.updates, each.last) for each in list_runs(tmp_path)] == [(30, None)]


@pytest.mark.usefixtures("corner")
def test_the_best_policy_is_described_as_the_newest_is(
    pretraining: PretrainConfig, tmp_path: Path
) -> None:
    config = dataclasses.replace(pretraining, num_updates=30, eval_every=30, runs=tmp_path)
    (run,) = pretrain(dataclasses.replace(config, keep_best=True))
    newest, best = load_policy(run), load_policy(run / BEST)
    assert best.about == {**newest.about, "score": best.about["score"]}
    assert description(best) == description(newest)
    assert description(best)["algorithm"] == "iql"


class Heard:
    """Keeps what a command tells."""

    def __init__(self) -> None:
        self.told: list[Status | str] = []

    def status(self, status: Status) -> None:
        self.told.append(status)

    def event(self, sentence: str) -> None:
        self.told.append(sentence)


@pytest.mark.usefixtures("corner")
def test_a_setting_that_papers_have_a_name_for_is_called_by_it(
    pretraining: PretrainConfig, tmp_path: Path
) -> None:
    config = with_settings(
        with_algorithm(pretraining, "bc"), best_share=0.1, num_updates=2, eval_every=2,
        eval_episodes=1, runs=tmp_path,
    )  # fmt: skip
    (folder,) = pretrain(config)
    assert (folder.name, read_run(folder).algorithm) == ("10-percent-bc-s0", "10%BC")


def test_the_last_status_agrees_with_the_last_sentence(
    corner: str, pretraining: PretrainConfig, tmp_path: Path
) -> None:
    assert corner
    heard = Heard()
    pretrain(dataclasses.replace(pretraining, num_updates=60, runs=tmp_path), heard)
    last = heard.told[-1]
    assert isinstance(last, Status)
    assert last.last is not None
    assert (last.done, last.evaluation, last.last.updates) == (60, None, 60)
    assert last.losses.keys() == {"value/loss", "actor/loss", "critic/loss"}
    assert Status.from_json(json.loads(json.dumps(last.to_json()))) == last
    sentences = [each for each in heard.told if isinstance(each, str)]
    assert describe(last.last) == sentences[-1]


def test_a_killed_and_resumed_pretraining_equals_an_uninterrupted_one(
    pretrained: Path,
    pretraining: PretrainConfig,
    start: Start,
    stop_at: Stop,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "runs" / "antmaze-corner" / "iql-s0"
    process = start("pretrain", pretraining)
    assert stop_at(process, folder, 100, signal.SIGKILL) == -signal.SIGKILL
    assert Run.open(folder).meta["status"] == "running"
    assert 100 <= checkpoint.load(folder / "checkpoints").state["updates"] < 300
    resume(folder)
    assert_same_end(folder, pretrained)
    assert Run.open(folder).meta["status"] == "finished"


def test_a_stop_that_comes_with_an_evaluation_does_not_lose_it(
    corner: str,
    pretrained: Path,
    pretraining: PretrainConfig,
    tmp_path: Path,
) -> None:
    assert corner
    with stopped_at(300), pytest.raises(Interrupted, match="iqlft resume") as caught:
        pretrain(dataclasses.replace(pretraining, runs=tmp_path))
    folder = caught.value.folders[0]
    assert len(curves(folder)) < len(curves(pretrained))
    resume(folder)
    assert_same_end(folder, pretrained)


def test_a_finished_run_is_neither_resumed_nor_begun_again(
    fresh: Path, pretraining: PretrainConfig
) -> None:
    before = {path: path.stat().st_mtime_ns for path in fresh.rglob("*")}
    with pytest.raises(RunError, match="is finished; fine-tune it with `iqlft finetune"):
        resume(fresh)
    with pytest.raises(RunError, match="exists already"):
        pretrain(dataclasses.replace(pretraining, runs=fresh.parents[1]))
    assert {path: path.stat().st_mtime_ns for path in fresh.rglob("*")} == before


def test_a_run_is_not_resumed_on_other_data(
    fresh: Path, corner_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(corner_root, tmp_path / "changed")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "changed"))
    data = tmp_path / "changed" / "iqlft" / "antmaze" / "corner-v1" / "data" / "main_data.hdf5"
    with h5py.File(data, "r+") as file:
        file["episode_1/actions"][7, 0] *= 0.5
    run = Run.open(fresh)
    run.write_meta({"status": "interrupted"})
    sizes = run.files.sizes()
    with pytest.raises(RunError, match=r"is not the one that .* was trained on"):
        resume(fresh)
    assert run.files.sizes() == sizes


@pytest.mark.parametrize("network", ["value", "critic", "actor"])
def test_training_that_diverges_stops_and_the_last_checkpoint_is_from_before(
    network: str,
    corner: str,
    pretraining: PretrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert corner
    original = IQL.update

    def poisoned(self: IQL, batch: Batch) -> Metrics:
        if self.updates == 25:
            getattr(self, network).parameters[0].fill_(np.nan)
            getattr(self, network).changed()
        return original(self, batch)

    monkeypatch.setattr(IQL, "update", poisoned)
    # Checkpoints are due before the next look at the losses.
    config = dataclasses.replace(
        pretraining, num_updates=200, eval_every=200, checkpoint_every=10, runs=tmp_path
    )
    with pytest.raises(TrainingDivergedError, match=r"not finite after .* learning rate"):
        pretrain(config)
    folder = tmp_path / "antmaze-corner" / "iql-s0"
    assert Run.open(folder).meta["status"] == "failed"
    saved = checkpoint.load(folder / "checkpoints")
    assert saved.state["updates"] == 20
    assert all(torch.isfinite(each).all() for each in saved.tensors.values())


def test_training_leaves_the_caller_s_arithmetic_as_it_was(pretraining: PretrainConfig) -> None:
    with pytest.raises(ConfigError):
        pretrain(with_settings(pretraining, batch_size=0))
    assert 5e-324 * 1.0 > 0  # A denormal number is not flushed to zero.
