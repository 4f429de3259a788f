"""`finetune --checkpoint`: a copy goes online from a checkpoint in the middle of pretraining."""

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iqlft.algorithms.base import Batch, Metrics
from iqlft.algorithms.rlpd import RLPD
from iqlft.cli.main import main
from iqlft.config.algorithms import RLPDHyperparameters
from iqlft.config.settings import ConfigError, FinetuneConfig, PretrainConfig
from iqlft.runs import checkpoint
from iqlft.runs.curves import read_run
from iqlft.runs.errors import RunError
from iqlft.runs.folder import Run, pretrain_config
from iqlft.training.finetune import dry_run, finetune
from iqlft.training.pretrain import pretrain
from iqlft.training.resume import resume
from run_fixtures import rewind

EARLIER, WHOLE = 60, 150
SWITCH: dict[str, Any] = {
    "algorithm": "rlpd",
    "hyperparameters": RLPDHyperparameters(
        batch_size=32, hidden_size=16, hidden_layers=2, num_critics=3, critic_updates=2
    ),
    "guide_steps": 30,
    "offline_ratio": 0.5,
}


@pytest.fixture(scope="module")
def runs(
    corner_root: Path, pretraining: PretrainConfig, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A run of so many updates that keeps an earlier checkpoint, and one that ended there."""
    folder = tmp_path_factory.mktemp("runs")
    config = dataclasses.replace(
        pretraining, runs=folder, eval_every=30, checkpoint_every=25, keep_every=EARLIER
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(corner_root))
        pretrain(dataclasses.replace(config, name="long", num_updates=WHOLE))
        pretrain(dataclasses.replace(config, name="short", num_updates=EARLIER))
        yield folder / "antmaze-corner"


@pytest.fixture
def online(lockstep: FinetuneConfig) -> FinetuneConfig:
    return dataclasses.replace(lockstep, env_steps=40, eval_every=20, checkpoint_every=15)


def everything(run: Path) -> tuple[dict[str, bytes], list[Any], dict[str, bytes]]:
    """Parameters and random streams, scores without their times, and what was written beside."""
    tensors = checkpoint.load(run / "checkpoints").tensors
    rows = [row._replace(seconds=0.0) for row in read_run(run).rows]
    files = {name: (run / name).read_bytes() for name in ("episodes.csv", "evaluations.csv")}
    return {key: each.numpy().tobytes() for key, each in tensors.items()}, rows, files


@pytest.mark.parametrize("changes", [{}, SWITCH], ids=["as it was", "another algorithm, guided"])
def test_the_copy_is_a_run_whose_pretraining_ended_there(
    changes: dict[str, Any], runs: Path, online: FinetuneConfig
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (runs / "long").rglob("*")}
    config = dataclasses.replace(online, **changes)
    name = changes.get("algorithm", "iql")
    (early,) = finetune(
        dataclasses.replace(config, run=(runs / "long",), into=f"early-{name}", checkpoint=EARLIER)
    )
    (usual,) = finetune(dataclasses.replace(config, run=(runs / "short",), into=f"usual-{name}"))
    assert everything(early) == everything(usual)
    assert [(row.phase, row.updates, row.env_steps) for row in read_run(early).rows] == [
        ("offline", 30, 0),
        ("offline", EARLIER, 0),
        ("online", EARLIER, 0),
        *[("online", row.updates, row.env_steps) for row in read_run(usual).rows[3:]],
    ]
    assert pretrain_config(Run.open(early)).num_updates == EARLIER
    assert {path: path.stat().st_mtime_ns for path in (runs / "long").rglob("*")} == before


def test_killed_before_its_first_checkpoint_online_it_goes_on_from_the_same_one(
    runs: Path, online: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(Exception):
        pass

    def killed(_self: RLPD, _batch: Batch) -> Metrics:
        raise KilledError

    config = dataclasses.replace(
        online, **SWITCH, run=(runs / "long",), into="killed", checkpoint=EARLIER
    )
    with monkeypatch.context() as patch:
        patch.setattr(RLPD, "update", killed)
        with pytest.raises(KilledError):
            finetune(config)
    resume(runs / "killed")
    (usual,) = finetune(dataclasses.replace(config, into="not-killed"))
    assert everything(runs / "killed") == everything(usual)


def test_a_pretraining_that_is_not_finished_has_earlier_checkpoints_too(
    runs: Path, online: FinetuneConfig, tmp_path: Path
) -> None:
    going = Path(shutil.copytree(runs / "long", tmp_path / "antmaze-corner" / "going"))
    run = Run.open(going)
    state = checkpoint.load(going / "checkpoints", "000000060").state["config"]
    rewind(going, "000000060")
    run.write_meta({"status": "running"})
    assert state["pretrain"]["num_updates"] == WHOLE
    (copy,) = finetune(
        dataclasses.replace(online, run=(going,), into="early", checkpoint=EARLIER, env_steps=20)
    )
    assert Run.open(copy).meta["status"] == "finished"
    assert run.meta["status"] == "running"


def test_what_cannot_be_is_refused_before_anything_is_made(
    runs: Path, online: FinetuneConfig, tmp_path: Path, pretraining: PretrainConfig
) -> None:
    config = dataclasses.replace(online, run=(runs / "long",), into="x", checkpoint=EARLIER)
    with pytest.raises(ConfigError, match="name a copy with --into NAME"):
        finetune(dataclasses.replace(config, into=""))
    known = r"no checkpoint of its pretraining after 61 updates; .* after 60, .*150 \(--keep-every"
    with pytest.raises(RunError, match=known):
        finetune(dataclasses.replace(config, checkpoint=61))
    with pytest.raises(RunError, match="after 61 updates"):
        dry_run(dataclasses.replace(config, checkpoint=61))
    with pytest.raises(ConfigError, match="--append continues from the end"):
        finetune(dataclasses.replace(config, append=("more/data-v0",)))
    hyperparameters = dataclasses.replace(pretraining.hyperparameters, actor_schedule="cosine")
    scheduled = dataclasses.replace(
        pretraining, hyperparameters=hyperparameters, runs=tmp_path, num_updates=20, keep_every=10
    )
    (run,) = pretrain(scheduled)
    with pytest.raises(ConfigError, match="a schedule over all its updates"):
        finetune(dataclasses.replace(config, run=(run,), checkpoint=10))
    assert not (runs / "x").exists()
    assert not run.with_name("x").exists()


def test_it_is_a_flag_and_may_name_the_end_itself(runs: Path) -> None:
    arguments = ["finetune", str(runs / "long"), "--checkpoint", str(WHOLE), "--into", "whole"]
    arguments += ["--env-steps", "20", "--eval-episodes", "0", "--lockstep", "--workers", "1"]
    assert main([*arguments, "--quiet", "--threads", "1"]) == 0
    copy = Run.open(runs / "whole")
    assert pretrain_config(copy).num_updates == WHOLE
    assert (copy.config("finetune") or {})["checkpoint"] == 0
