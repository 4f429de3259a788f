"""What version 0.1 made is still read, drawn, judged and continued.

`old_runs/iqlft-0.1.tar.gz` holds a pretrained run, a fine-tuning of it that was interrupted, and
what 0.1's policies did; its dataset is the tests' own, made with the same seed.
"""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

import iqlft
from iqlft.analysis.critics import Critics
from iqlft.analysis.restored import pretrained_policy, restored
from iqlft.analysis.table import format_table
from iqlft.datasets.antmaze.generation import make_dataset
from iqlft.figures.before_after import plot_before_after
from iqlft.report.page import write_report
from iqlft.runs import checkpoint
from iqlft.runs.curves import find_runs, read_run
from iqlft.runs.folder import Run
from iqlft.runs.metrics_log import read_history
from iqlft.runs.policy import load_policy
from iqlft.training.resume import resume

ARCHIVE = Path(__file__).parent / "old_runs" / "iqlft-0.1.tar.gz"


@pytest.fixture(scope="module")
def old_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Minari folder with a dataset as 0.1 made it."""
    root = tmp_path_factory.mktemp("old")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        make_dataset("antmaze-corner", transitions=3 * 301, gait="v0", processes=2, seed=5)
    return root


@pytest.fixture
def old(old_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Those runs, in a folder of their own, as if made from this machine's dataset.

    0.1 rounded the gait's arithmetic otherwise, by the processor, so its sets had other hashes.
    """
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(old_root))
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    found = iqlft.load_dataset("iqlft/antmaze/corner-v0").statistics.hash
    for path in tmp_path.glob("runs/*/*/meta.json"):
        meta = json.loads(path.read_text())
        meta["dataset"]["hash"] = found
        path.write_text(json.dumps(meta))
    return tmp_path / "runs" / "antmaze-corner"


@pytest.mark.parametrize("name", ["iql-s0", "online"])
def test_an_old_policy_acts_as_it_did(old: Path, name: str) -> None:
    seen = json.loads((old.parents[1] / "actions.json").read_text())[name]
    observations = np.array(seen["observations"], np.float32)
    actions = load_policy(old / name)(observations)
    np.testing.assert_allclose(actions, seen["actions"], atol=1e-6, rtol=0)
    assert np.ptp(actions) > 0.01


def test_an_old_checkpoint_holds_the_networks_of_its_policy(old: Path) -> None:
    run, seen = Run.open(old / "iql-s0"), np.random.default_rng(0)
    policy = load_policy(run.folder)
    observations = seen.standard_normal((5, 29)).astype(np.float32)
    np.testing.assert_allclose(
        pretrained_policy(run)(observations), policy(observations), atol=1e-6, rtol=0
    )
    critics = Critics(restored(run, policy))
    assert critics.updates == 60
    advantages = critics.advantages(observations, policy(observations))
    assert advantages.shape == (5,)
    assert np.isfinite(advantages).all()


def test_old_runs_are_found_tabulated_and_drawn(old: Path, tmp_path: Path) -> None:
    runs = [read_run(folder) for folder in find_runs(old.parent)]
    assert [run.folder.name for run in runs] == ["iql-s0", "online"]
    before, after = runs[1].before, runs[1].after
    assert before is not None
    assert after is not None
    assert (before.phase, before.updates, before.env_steps, before.episodes) == ("online", 60, 0, 2)
    assert (after.updates, after.env_steps, after.seconds) == (140, 160, 2.2)
    assert read_history(runs[1].folder).length("online") == 280
    assert "2 episodes, 60 offline updates, 160 environment steps" in format_table(runs)
    assert all(path.stat().st_size for path in plot_before_after(runs, tmp_path / "plots"))


def test_an_old_run_is_reported_with_nothing_left_out(old: Path, tmp_path: Path) -> None:
    page = write_report([read_run(old / "online")], tmp_path / "report").read_text()
    assert '<p class="left-out">' not in page
    assert page.count("<img") == 4


def test_an_old_interrupted_run_is_finished(old: Path) -> None:
    folder = old / "online"
    curves = (folder / "curves.csv").read_text()
    resume(folder)
    run, found = Run.open(folder), read_run(folder)
    assert run.meta["status"] == "finished"
    assert (folder / "curves.csv").read_text().startswith(curves)
    assert (found.rows[-1].updates, found.rows[-1].env_steps) == (60 + 320 // 2, 320)
    saved = checkpoint.load(folder / "checkpoints").state
    assert (saved["before"][:3], saved["last"][1:3]) == (["online", 60, 0], [220, 320])
    assert load_policy(folder).weights.version == 220
