"""A sweep: what it would run, what it passes over, and what it hands to Slurm."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from iqlft.cli.cell import Cell, CellFailedError, Trainer
from iqlft.cli.main import main
from iqlft.cli.outputs import QUIET
from iqlft.cli.sweep import SweepFailedError, run_here
from iqlft.config.layers import to_dict
from iqlft.runs.curves import find_runs, read_run
from iqlft.runs.folder import Run
from run_fixtures import LOCKSTEP, PRETRAINING
from waiting import wait_until

GOLDEN = Path(__file__).with_name("sweep.sbatch")


@pytest.fixture
def settings(tmp_path: Path, corner: str) -> Path:
    """A file of settings for runs of a few seconds each."""
    values = {**to_dict(LOCKSTEP), **to_dict(PRETRAINING), "dataset": [corner]}
    for key in ("run", "into"):
        del values[key]
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(values | {"runs": str(tmp_path / "runs")}))
    return file


def test_three_expectiles_and_five_seeds_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ["--grid", "expectile=0.7,0.8,0.9", "--seeds", "0", "1", "2", "3", "4", "--workers=4"]
    assert main(["sweep", "--task", "antmaze-umaze", *asked, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(set(lines)) == 15
    assert lines[6] == (
        "iqlft run --task antmaze-umaze --workers=4 --expectile 0.8 --seed 1 "
        "--name expectile=0.8-s1"
    )
    assert list(tmp_path.iterdir()) == []


def test_tasks_algorithms_and_switches_are_swept_too(capsys: pytest.CaptureFixture[str]) -> None:
    grid = ["algorithm=iql,awac", "normalize-observations=true,false"]
    tasks = ["antmaze-umaze", "antmaze-medium-play"]
    assert main(["sweep", "--task", *tasks, "--grid", *grid, "--name", "try", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert lines[-1] == (
        "iqlft run --task antmaze-medium-play --algorithm awac --no-normalize-observations "
        "--seed 0 --name try,awac,normalize_observations=false-s0"
    )


def test_datasets_are_swept_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--grid", "dataset=mine/a-v0,mine/b-v0", "--dry-run"]) == 0
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == [
        "dataset=mine-a-v0-s0", "dataset=mine-b-v0-s0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--grid", "expectile"], "must be NAME=VALUE,VALUE"),
        (["--grid", "expectile=2"], "--expectile is 2.0, but must lie in"),
        (["--grid", "expectile=0.7,0.7"], "Two runs of the sweep would be"),
        (["--grid", "seed=1,2"], "seeds are --seeds"),
        (["--grid", "expectile=0.7", "expectile=0.9"], "expectile is swept twice"),
        (["--grid", "task=antmaze-umaze", "--task", "antmaze-umaze"], "task is swept twice"),
        (["--seeds"], "names no seed"),
        (["--seeds", "1", "1"], "must be whole numbers from 0"),
        (["--seed", "4"], "name the seeds of a sweep by --seeds 0 1 2"),
        (["--seed=0", "--seeds", "1"], "name the seeds of a sweep by --seeds 0 1 2"),
        (["--print-config"], "has no settings to print"),
        (["--print_config"], "has no settings to print"),
        (["--grid", "dry-run=true,false"], "no run of a sweep would be made"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", *arguments]) == 2
    words = capsys.readouterr().err
    assert said in words
    assert "Traceback" not in words


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("seeds: [3, 4]", "by --seeds 0 1 2"),
        ("seed: 4", "by --seeds 0 1 2"),
        ("name: foo", "leave name out of the file"),
        ("dry_run: true", "leave it out of the file"),
    ],
)
def test_a_file_with_what_a_sweep_itself_decides_is_refused(
    line: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(line)
    assert main(["sweep", "--config", str(file), "--dry-run"]) == 2
    assert said in capsys.readouterr().err


def test_a_name_in_a_file_gives_way_to_those_of_the_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "named.yaml").write_text("name: foo")
    sweep = ["sweep", "--config", str(tmp_path / "named.yaml"), "--dry-run"]
    for flags, name in (
        (["--grid", "expectile=0.7"], "expectile=0.7-s0"),
        (["--name", "bar"], "bar-s0"),
    ):
        assert main([*sweep, *flags]) == 0
        assert capsys.readouterr().out.strip().endswith(f"--name {name}")


def test_a_run_that_its_command_leaves_where_it_was_has_failed_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    cells = [Cell(tmp_path / name, ("--print-config",), "") for name in "ab"]
    with pytest.raises(SweepFailedError, match=r"2 of 2 .*a is no further after `iqlft run`"):
        run_here(cells, lambda _: None)


def test_a_quiet_sweep_says_how_all_of_it_ends_and_no_more(
    settings: Path, finetuned: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    quiet = QUIET.set(True)
    with pytest.raises(CellFailedError):
        Trainer(Cell(tmp_path / "none", ("--print-config",), "")).train()
    QUIET.reset(quiet)
    assert capfd.readouterr().out == ""
    shutil.copytree(finetuned, tmp_path / "runs" / "antmaze-corner" / "iql-s0")
    assert main(["sweep", "--config", str(settings), "--quiet"]) == 0
    assert capfd.readouterr().out.startswith("Drew ")


def test_a_cell_goes_on_where_its_run_is(pretrained: Path, finetuned: Path, tmp_path: Path) -> None:
    assert Cell(tmp_path / "none", ("--seed", "0"), "").next_step() == ["run", "--seed", "0"]
    online = ["finetune", str(pretrained), "--config", str(pretrained / "finetune.yaml")]
    assert Cell(pretrained, (), "").next_step() == online
    assert Cell(finetuned, (), "").next_step() is None
    halfway = Path(shutil.copytree(pretrained, tmp_path / "halfway"))
    Run(halfway).write_meta({"status": "interrupted"})
    assert Cell(halfway, (), "").next_step() == ["resume", str(halfway)]


def test_a_run_of_other_settings_is_not_taken_for_one_of_the_sweep(
    settings: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(pretrained, tmp_path / "runs" / "antmaze-corner" / "iql-s0")
    asked = ["sweep", "--config", str(settings), "--dry-run"]
    assert main(asked) == 0
    assert capsys.readouterr().out.startswith("iqlft finetune ")
    assert main([*asked, "--num-updates", "301"]) == 2
    assert "has been trained with another num_updates" in capsys.readouterr().err


def test_slurm_is_given_an_array_of_the_runs_that_are_left(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "srun").write_text("#!/bin/sh\n")
    (bin_ / "sbatch").write_text(
        f'#!/bin/sh\ncp "$1" {tmp_path}/batch\necho "Submitted batch job 12"\n'
    )
    for each in bin_.iterdir():
        each.chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_), prepend=os.pathsep)
    command = [
        sys.executable, "-m", "iqlft", "sweep", "--config", str(settings), "--engine", "slurm",
        "--seeds", "0", "1", "--grid", "expectile=0.7,0.9",
        "--slurm", "partition=gpu", "time=600", "gpus-per-node=1", "cpus_per_task=4",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        f"Submitted 12_{index}" for index in range(4)
    ]
    batch = (tmp_path / "batch").read_text()
    batch = batch.replace(sys.executable, "PYTHON").replace(str(tmp_path), "FOLDER")
    assert batch == GOLDEN.read_text()
    wrong = subprocess.run(
        [*command, "partitoin=gpu"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert wrong.returncode == 2
    assert "Did you mean 'partition'?" in wrong.stderr


# -- whole runs ---------------------------------------------------------------------------------


@contextmanager
def sweeping(settings: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "iqlft", "sweep", "--config", str(settings), *arguments],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=settings.parent,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()


GRID = ("--grid", "expectile=0.7,0.9")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_sweep_that_is_interrupted_goes_on_and_the_table_tells_its_settings_apart(
    settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = tmp_path / "runs" / "antmaze-corner" / "expectile=0.7-s0"
    with sweeping(settings, *GRID) as process:
        wait_until((first / "checkpoints" / "last").is_file)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert Run(first).meta["status"] == "interrupted"
    with sweeping(settings, *GRID) as process:
        out, words = process.communicate(timeout=300)
    assert process.returncode == 0, out + words
    assert f"1/2: iqlft resume {first}" in out
    with sweeping(settings, *GRID) as process:
        out, words = process.communicate(timeout=60)
    assert process.returncode == 0, out + words
    assert re.findall(r"^(\d)/2: .* is finished", out, re.MULTILINE) == ["1", "2"]
    variants = [read_run(each).variant for each in find_runs(tmp_path / "runs")]
    assert sorted(variants) == ["expectile=0.7", "expectile=0.9"]
    assert main(["table", "--runs", str(tmp_path / "runs"), "--published", "none"]) == 0
    table = capsys.readouterr().out
    assert "expectile=0.7" in table
    assert "expectile=0.9" in table


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_job_whose_time_is_over_saves_a_checkpoint_and_is_queued_again(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUBMITIT_PREEMPT_SIGNAL", "USR1")
    submitit = pytest.importorskip("submitit")
    from iqlft.cli import sweep

    (cell,) = sweep.read(["--config", str(settings)]).cells
    executor = submitit.LocalExecutor(tmp_path / "jobs")
    executor.update_parameters(timeout_min=10)
    (job,) = sweep.submit(executor, [cell])
    wait_until((cell.folder / "checkpoints" / "last").is_file)
    # As Slurm does, to the job itself and not to the process that watches it here.
    watching = job._process.pid
    children = Path(f"/proc/{watching}/task/{watching}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGUSR1)
    wait_until(job.done, 200)
    job.result()
    said = job.stdout()
    assert "Requeued job" in said
    assert f"continue with `iqlft resume {cell.folder}`" in said + job.stderr()
    assert Run(cell.folder).meta["status"] == "finished"
    assert sweep.submit(executor, [cell]) == []
