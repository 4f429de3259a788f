"""The policy before fine-tuning is found in a run that has been fine-tuned since."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from iqlft.analysis.restored import pretrained_policy, restored
from iqlft.runs.checkpoint import CheckpointError
from iqlft.runs.folder import Run
from iqlft.runs.policy import PolicyError, load_policy


def test_a_fine_tuned_run_still_has_its_pretrained_policy(
    pretrained: Path, finetuned: Path
) -> None:
    before, newest = load_policy(pretrained), load_policy(finetuned)
    found = pretrained_policy(Run.open(finetuned))

    assert (found.environment, found.weights.version) == (before.environment, 300)
    assert (found.weights.arrays["observation_std"] != 1).any()
    for name, array in before.weights.arrays.items():
        np.testing.assert_array_equal(array, found.weights.arrays[name], err_msg=name)
    assert newest.weights.version == 300 + 170
    assert not np.array_equal(newest.weights.arrays["weight.0"], found.weights.arrays["weight.0"])


def test_a_configuration_that_does_not_fit_is_told(fresh: Path) -> None:
    run = Run.open(fresh)
    run.write_config("pretrain", {**(run.config("pretrain") or {}), "hidden_size": 17})
    with pytest.raises(CheckpointError, match=r"does not fit its configuration \(.*edited, or"):
        pretrained_policy(run)


def test_without_a_policy_folder_there_is_a_clear_error(fresh: Path) -> None:
    shutil.rmtree(fresh / "policy")
    with pytest.raises(PolicyError, match="There is no policy"):
        pretrained_policy(Run.open(fresh))


def test_a_damaged_checkpoint_is_refused(fresh: Path) -> None:
    newest = fresh / "checkpoints" / (fresh / "checkpoints" / "last").read_text()
    (newest / "state.json").write_text(json.dumps({}))
    with pytest.raises(CheckpointError, match="is damaged"):
        restored(Run.open(fresh), load_policy(fresh))
