"""The run folder: complete or absent, never overwritten, cut back to a checkpoint's lengths."""

import errno
import fcntl
import json
import math
import os
import re
import shutil
import threading
from pathlib import Path

import pytest

from iqlft.config.settings import FinetuneConfig
from iqlft.runs.curves import read_run
from iqlft.runs.errors import RunError, writing
from iqlft.runs.finding import newest_pretrained
from iqlft.runs.folder import Run, refuse_existing
from iqlft.runs.growing_files import EPISODE_COLUMNS, require_whole
from iqlft.runs.scores import EVALUATION_COLUMNS, EpisodeScore, Score
from iqlft.training.resume import resume
from iqlft.training.seeds import copy_folder
from iqlft_workers.keys import temporary_keys

HEADER = "phase,updates,env_steps,seconds,success,return,normalized_score,episodes,version"
META = {"task": "small", "seed": 3}
REACHED = EpisodeScore(1_000_000, 1.0, 200, success=True)
FAILED = EpisodeScore(1_000_001, math.nan, 1000, success=False)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "runs" / "small" / "iql-s3", {"seed": 3}, META)


def test_a_command_in_a_message_can_be_typed_as_it_stands(tmp_path: Path) -> None:
    folder = tmp_path / "my runs" / "small" / "iql-s3"
    run = Run.create(folder, {"seed": 3}, META)
    (run.folder / "checkpoints" / "last").touch()
    told = f"`iqlft resume '{folder}'`"
    with pytest.raises(RunError, match=re.escape(told)):
        refuse_existing(folder)
    with pytest.raises(RunError, match=re.escape(told)), writing(folder):
        raise OSError(errno.ENOSPC, "No space left on device")
    (folder / "config.yaml").unlink()
    with pytest.raises(RunError, match=re.escape(told)):
        run.configuration()
    run.write_meta({"status": "finished"})
    run.write_config("pretrain", {})
    with pytest.raises(RunError, match=re.escape(f"`iqlft finetune '{folder}'`")):
        resume(folder)


def test_a_new_run_has_every_folder_the_headers_and_its_surroundings(run: Run) -> None:
    folders = {path.name for path in run.folder.iterdir() if path.is_dir()}
    assert folders == {"checkpoints", "replay", "policy", "plots", "tensorboard", "logs"}
    assert (run.folder / "curves.csv").read_text() == HEADER + "\n"
    assert (run.folder / "episodes.csv").read_text() == ",".join(EPISODE_COLUMNS) + "\n"
    assert run.config("pretrain") == {"seed": 3}
    assert run.config("finetune") is None
    assert run.meta["task"] == "small"
    assert {"versions", "host", "created", "git"} <= run.meta.keys()


def test_nothing_but_the_run_is_left_beside_it(run: Run) -> None:
    assert list(run.folder.parent.iterdir()) == [run.folder]


def test_an_existing_folder_is_refused_untouched(run: Run) -> None:
    (run.folder / "mine.txt").write_text("keep")
    with pytest.raises(RunError, match=r"exists already; continue it with `iqlft resume .*--name"):
        Run.create(run.folder, {}, {})
    with pytest.raises(RunError, match="choose another --into"):
        refuse_existing(run.folder, "--into")
    assert (run.folder / "mine.txt").read_text() == "keep"
    assert run.meta["seed"] == 3


def test_a_place_that_cannot_be_written_is_refused_and_left_clean(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where a folder should be")
    with pytest.raises(RunError, match=r"cannot be made .*--runs"):
        Run.create(tmp_path / "runs" / "small" / "iql-s0", {}, META)
    assert list(tmp_path.iterdir()) == [tmp_path / "runs"]


def test_a_creation_that_fails_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(RunError, match="No space left"):
        Run.create(tmp_path / "small" / "iql-s0", {}, META)
    assert not list((tmp_path / "small").iterdir())


def test_opening_a_folder_without_a_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="There is no run in"):
        Run.open(tmp_path)


def test_truncating_restores_the_lengths_of_a_checkpoint(run: Run) -> None:
    run.files.append_metrics({"updates": 1})
    run.files.append_score(Score("offline", 1, 0, 0.5, None, 2.0, None, 1), [FAILED])
    run.files.append_episodes([(1, 0, 1, 2.0, 7, 1)])
    sizes = run.files.sizes()
    before = {name: (run.folder / name).read_bytes() for name in sizes}
    run.files.append_metrics({"updates": 2})
    run.files.append_score(Score("offline", 2, 0, 0.5, None, 2.0, None, 2), [REACHED, FAILED])
    run.files.append_episodes([(2, 0, 1, 2.0, 7, 1), (3, 0, 1, 2.0, 7, 1)])
    assert all(run.files.sizes()[name] > size for name, size in sizes.items())

    run.truncate(sizes)
    assert {name: (run.folder / name).read_bytes() for name in sizes} == before
    run.close()
    lines = (run.folder / "curves.csv").read_text().splitlines()
    assert lines == [HEADER, "offline,1,0,0.5,,2.0,,1,1"]
    episodes = (run.folder / "evaluations.csv").read_text().splitlines()
    assert episodes == [",".join(EVALUATION_COLUMNS), "offline,1,0,1000001,,1000,0"]


def test_a_run_of_a_version_that_kept_no_evaluation_episodes_begins_to(run: Run) -> None:
    sizes = run.files.sizes()
    del sizes["evaluations.csv"]
    (run.folder / "evaluations.csv").unlink()
    run.truncate(sizes)
    run.write_meta({"algorithm": "iql"})
    run.files.append_score(Score("offline", 1, 0, 1.0, None, 1.0, None, 1), [REACHED])
    (episodes,) = read_run(run.folder).evaluations.values()
    assert episodes == [REACHED]
    assert set(run.files.digests()) == {*sizes, "evaluations.csv"}
    run.close()


def test_a_full_disk_while_a_file_grows_is_a_clear_error(run: Run) -> None:
    (run.folder / "metrics.jsonl").unlink()
    (run.folder / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"metrics.jsonl cannot be written .No space left"):
        run.files.append_metrics({"updates": 1})
    run.close()


def test_a_file_that_was_shortened_is_refused_before_any_is_cut(run: Run) -> None:
    run.files.append_metrics({"updates": 1})
    sizes = run.files.sizes()
    with pytest.raises(RunError, match="shorter than the checkpoint says"):
        run.truncate({"metrics.jsonl": 0, "curves.csv": sizes["curves.csv"] + 1})
    assert run.files.sizes() == sizes


def test_meta_is_updated_key_by_key_and_in_one_move(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.write_meta({"status": "running"})
    assert (run.meta["status"], run.meta["task"]) == ("running", "small")

    def crash(*_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        run.write_meta({"status": "finished"})
    assert json.loads((run.folder / "meta.json").read_text())["status"] == "running"


def test_config_sections_stand_beside_each_other(run: Run) -> None:
    run.write_config("finetune", {"env_steps": 9})
    assert (run.config("pretrain"), run.config("finetune")) == ({"seed": 3}, {"env_steps": 9})


@pytest.mark.parametrize("name", ["meta.json", "config.yaml"])
def test_a_damaged_description_is_a_clear_error(name: str, run: Run) -> None:
    (run.folder / name).write_text("{")
    with pytest.raises(RunError, match=f"{name} cannot be read"):
        _ = run.meta if name == "meta.json" else run.config("pretrain")


def test_a_copy_has_one_checkpoint_and_says_where_it_is_from(run: Run) -> None:
    for name in ("000000010", "000000020"):
        (run.folder / "checkpoints" / name).mkdir()
        (run.folder / "checkpoints" / name / "state.json").write_text(name)
    (run.folder / "logs" / "worker-0.log").write_text("old")
    run.files.append_metrics({"updates": 1})
    run.close()
    copy = run.copy(run.folder.with_name("again-s3"), "000000010")
    assert {path.name for path in (copy.folder / "checkpoints").iterdir()} == {"000000010", "last"}
    assert (copy.folder / "checkpoints" / "last").read_text() == "000000010"
    assert (copy.meta["copied_from"], copy.meta["variant"]) == ("iql-s3", "again")
    assert "copied_from" not in run.meta
    assert not list((copy.folder / "logs").iterdir())
    assert (copy.folder / "metrics.jsonl").read_bytes() == b'{"updates": 1}\n'
    with pytest.raises(RunError, match="choose another --into"):
        run.copy(copy.folder, "000000010")


@pytest.mark.parametrize(
    ("name", "variant"),
    [("half-s3", "half"), ("half", "half"), ("half-s4", "half-s4"), ("iql", "iql")],
)
def test_copies_of_copies_are_not_taken_for_others(run: Run, name: str, variant: str) -> None:
    (run.folder / "checkpoints" / "000000010").mkdir()
    assert run.copy(run.folder.with_name(name), "000000010").meta["variant"] == variant
    run.write_meta({"variant": "raw"})
    copy = run.copy(run.folder.with_name(f"other-{name}"), "000000010")
    assert copy.meta["variant"] == f"raw other-{variant}"


def test_a_copy_that_fails_leaves_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_source: Path, target: Path, **_: object) -> None:
        (target / "half").mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(RunError, match=r"cannot be copied .*No space left"):
        run.copy(run.folder.with_name("again-s3"), "000000010")
    assert list(run.folder.parent.iterdir()) == [run.folder]


def test_the_newest_pretrained_run_is_the_one_written_last(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run"):
        newest_pretrained(tmp_path)
    for order, (task, name) in enumerate([("one", "a"), ("one", "b"), ("two", "c"), ("one", "d")]):
        run = Run.create(tmp_path / task / name, {}, {"status": "finished", "algorithm": "iql"})
        if name == "d":
            run.write_config("finetune", {})
        run.close()
        os.utime(run.folder / "meta.json", (order, order))
    assert newest_pretrained(tmp_path).name == "c"
    assert newest_pretrained(tmp_path, "one").name == "b"
    for name, meta in (("damaged", "{"), ("without-config", '{"status": "finished"}')):
        (tmp_path / "one" / name).mkdir()
        (tmp_path / "one" / name / "meta.json").write_text(meta)
    assert newest_pretrained(tmp_path, "one").name == "b"
    Run.open(tmp_path / "two" / "c").write_meta({"status": "interrupted"})
    assert newest_pretrained(tmp_path).name == "b"


def test_two_processes_never_train_in_one_folder(tmp_path: Path) -> None:
    one = Run.create(tmp_path / "task" / "run", {}, {})
    other = Run.open(one.folder)
    with pytest.raises(RunError, match="Another process is training"):
        other.truncate({})
    one.close()
    other.truncate({})
    other.close()


def test_a_run_that_is_looked_at_for_a_moment_can_be_claimed(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "task" / "run", {}, {})
    run.close()
    with (run.folder / ".claim").open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH | fcntl.LOCK_NB)  # As `iqlft list` does.
        timer = threading.Timer(0.1, fcntl.flock, (looking, fcntl.LOCK_UN))
        timer.start()
        run.claim()
        timer.join()
    run.close()


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(RunError, match=r"run cannot be locked .*choose another place with --runs"):
        Run.create(tmp_path / "task" / "run", {}, {})
    with temporary_keys(1) as keys:
        assert keys.folder.is_dir()


def test_what_is_not_finite_is_null_in_the_metrics_and_nothing_in_a_curve(run: Run) -> None:
    run.files.append_metrics(
        {"phase": "offline", "updates": 1, "q": math.inf, "loss": math.nan, "n": 2}
    )
    run.files.append_score(Score("offline", 1, 0, 0.5, None, math.nan, -math.inf, 4))
    line = (run.folder / "metrics.jsonl").read_text()
    assert json.loads(line) == {"phase": "offline", "updates": 1, "q": None, "loss": None, "n": 2}
    run.write_meta({"algorithm": "iql"})
    (row,) = read_run(run.folder).rows
    assert math.isnan(row.mean_return)
    assert row.normalized_score is None
    run.close()


def test_rows_up_to_the_last_record_are_vouched_for_and_those_behind_it_are_not(run: Run) -> None:
    run.files.append_score(Score("offline", 1, 0, 0.5, None, 2.0, None, 4))
    run.record()
    run.files.append_score(Score("offline", 2, 0, 0.5, None, 2.0, None, 4))
    run.close()
    path = run.folder / "curves.csv"
    require_whole(run.folder, "curves.csv")
    text = path.read_text()
    path.write_text(text.replace("offline,2", "offline,3"))
    require_whole(run.folder, "curves.csv")
    path.write_text(text.replace("offline,1", "offline,0"))
    with pytest.raises(RunError, match="does not hold what was written"):
        require_whole(run.folder, "curves.csv")


def test_meta_of_other_kinds_is_refused(run: Run) -> None:
    for key, value in (("seed", None), ("dataset", []), ("status", 3), ("argv", "iqlft")):
        run.write_meta({key: value})
        with pytest.raises(RunError, match=f"meta.json: {key} is .*, but must be of type"):
            _ = run.meta
        (run.folder / "meta.json").write_text(json.dumps(META))


@pytest.mark.parametrize(
    ("here", "named"),
    [
        ("runs/small/iql-s3", "."),
        ("runs/small/iql-s3/plots", ".."),
        ("runs/small", "iql-s3/plots/.."),
        ("runs/small", "link/plots/.."),
        (".", "plots-link/.."),
    ],
)
def test_a_copy_is_beside_its_run_however_that_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: str, named: str
) -> None:
    (tmp_path / "plots-link").symlink_to(run.folder / "plots")
    run.folder.with_name("link").symlink_to(run.folder)
    monkeypatch.chdir(tmp_path / here)
    found = Run.open(Path(named))
    assert found.folder.name == ("link" if named.startswith("link") else "iql-s3")
    copy = copy_folder(found, FinetuneConfig(into="copy"))
    assert copy.absolute() == run.folder.with_name("copy")
