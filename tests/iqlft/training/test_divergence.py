"""Training that diverges ends with exit code 3; workers and checkpoint keep what was good."""

import dataclasses
from pathlib import Path

import pytest
import torch

from iqlft.cli import main as cli
from iqlft.config.layers import to_yaml
from iqlft.config.settings import FinetuneConfig
from iqlft.gateway.journal import Journal
from iqlft.runs import checkpoint
from iqlft.runs.folder import JOURNAL, Run
from iqlft.training.resume import resume

OFFLINE = 300


@pytest.mark.parametrize(("log_every", "noticed"), [(1, "A loss is"), (1000, "The actor is")])
def test_not_a_number_reaches_neither_workers_nor_checkpoint_and_the_mended_run_goes_on(
    log_every: int,
    noticed: str,
    fresh: Path,
    lockstep: FinetuneConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Run.open(fresh)
    settings = run.config("pretrain") or {}
    # As if it had been pretrained so: the checkpoint would refuse another configuration.
    diverging = {"pretrain": {**settings, "learning_rate": 1e6}}
    run.write_configuration(diverging)
    tensors, state = checkpoint.load(fresh / "checkpoints")
    content = checkpoint.Checkpoint(tensors, state | {"config": diverging})
    checkpoint.save(fresh / "checkpoints", OFFLINE, content, keep=True)
    file = tmp_path / "finetune.yaml"
    config = dataclasses.replace(lockstep, env_steps=40, eval_every=40, log_every=log_every)
    file.write_text(to_yaml(config))

    assert cli.main(["finetune", "--config", str(file), str(fresh)]) == 3
    errors = capsys.readouterr().err
    assert f"iqlft finetune: {noticed} not finite after 30" in errors
    assert "Traceback" not in errors
    assert run.meta["status"] == "failed"
    saved = checkpoint.load(fresh / "checkpoints")
    assert saved.state["updates"] == OFFLINE
    assert all(torch.isfinite(each).all() for each in saved.tensors.values())
    # Every weight that a worker acted with was finite, or its actions would not be.
    journal = Journal(fresh / JOURNAL)
    assert max(entry.batch.versions.max() for entry in journal.entries()) <= OFFLINE + 2
    journal.close()
    assert all("rror" not in log.read_text() for log in (fresh / "logs").glob("worker-*.log"))

    run.write_config("pretrain", settings)
    online = run.config("finetune") or {}
    run.write_config("finetune", {**online, "learning_rate": settings["learning_rate"]})
    resume(fresh, edited=True)
    assert checkpoint.load(fresh / "checkpoints").state["updates"] == OFFLINE + 20
