"""Standard output and error that go away: training goes on, what only prints says that it was cut.

Real processes at real pipes.
"""

import dataclasses
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from iqlft.cli.streams import LastingStream
from iqlft.config.layers import to_yaml
from iqlft.config.settings import FinetuneConfig, PretrainConfig
from iqlft.runs.folder import Run
from run_fixtures import Start

MakeRun = Callable[..., Path]
IQLFT = [sys.executable, "-m", "iqlft"]


def test_a_letter_that_the_encoding_lacks_is_escaped() -> None:
    written = io.BytesIO()
    stream = LastingStream(io.TextIOWrapper(written, "ascii"))
    assert stream.write("runs/\N{LATIN SMALL LETTER U WITH DIAERESIS}/iql-s0\n") == 14
    stream.flush()
    assert written.getvalue() == b"runs/\\xfc/iql-s0\n"
    assert stream.failure is None


def closed_pipe() -> int:
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def run(*arguments: object, stdout: int | None = None, stderr: int | None = None) -> int:
    """The exit code of a command whose streams go where nobody reads, or to the given ones."""
    out, err = (closed_pipe() if each is None else os.dup(each) for each in (stdout, stderr))
    try:
        command = [*IQLFT, *map(str, arguments)]
        return subprocess.run(command, stdout=out, stderr=err, timeout=100, check=False).returncode
    finally:
        os.close(out)
        os.close(err)


@pytest.fixture
def config(pretraining: PretrainConfig, corner: str, tmp_path: Path) -> Path:
    assert corner
    file = tmp_path / "pretrain.yaml"
    config = dataclasses.replace(pretraining, num_updates=60, eval_every=30, runs=tmp_path / "runs")
    file.write_text(to_yaml(config))
    return file


SEVERAL = ["--seeds", "0", "1", "--stack", "never"]


@pytest.mark.parametrize("seeds", [[], pytest.param(SEVERAL, marks=pytest.mark.slow)])
def test_training_goes_on_when_its_console_goes_away(
    config: Path, seeds: list[str], tmp_path: Path
) -> None:
    command = [*IQLFT, "pretrain", "--config", str(config), *seeds]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, cwd=tmp_path) as training:  # type: ignore[call-overload]
        assert training.stdout.readline()  # As `head -1` does.
        training.stdout.close()
        assert training.stderr.read() == b""
    assert training.returncode == 0
    folder = tmp_path / "runs" / "antmaze-corner" / "iql-s0"
    assert Run.open(folder).meta["status"] == "finished"
    # What the console would have said is in the log.
    assert "Evaluated after 60 updates" in (folder / "logs" / "learner.log").read_text()


@pytest.mark.slow
def test_fine_tuning_and_resuming_go_on_without_output_and_errors(
    fresh: Path, lockstep: FinetuneConfig, tmp_path: Path
) -> None:
    file = tmp_path / "finetune.yaml"
    file.write_text(to_yaml(dataclasses.replace(lockstep, env_steps=40, eval_every=40)))
    assert run("finetune", fresh, "--config", file) == 0
    Run.open(fresh).write_meta({"status": "interrupted"})
    assert run("resume", fresh) == 0
    assert Run.open(fresh).meta["status"] == "finished"
    assert run("resume", fresh) == 2  # There is no more to do, and nobody to be told.


def test_commands_that_make_files_make_them_and_those_that_print_say_that_they_were_cut(
    make_run: MakeRun, tmp_path: Path
) -> None:
    folder = make_run(online=[0.5, 0.6])
    assert run("plot", folder, "--out", tmp_path / "figures") == 0
    assert (tmp_path / "figures" / "before_after.png").is_file()
    assert run("table", folder, "--out", tmp_path / "table.md") == 0
    assert (tmp_path / "table.md").read_text()
    cut = ["table", folder], ["--help"], ["pretrain", "--help"], ["finetune", "--print-config"]
    for arguments in cut:
        assert run(*arguments) == 141, arguments
    assert run("no-such-command") == 2


def test_a_table_that_finds_no_room_is_a_mistake_with_a_sentence(make_run: MakeRun) -> None:
    folder = make_run(online=[0.5, 0.6])
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*IQLFT, "table", str(folder)],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    expected = "iqlft: the standard output cannot be written (No space left on device).\n"
    assert (done.returncode, done.stderr) == (2, expected)


def test_training_with_a_full_disk_behind_its_console_goes_on(config: Path) -> None:
    with Path("/dev/full").open("w") as full:
        assert run("pretrain", "--config", config, stdout=full.fileno(), stderr=full.fileno()) == 0


def test_closed_streams_are_not_taken_for_a_file_of_the_run(config: Path, tmp_path: Path) -> None:
    words = f"{sys.executable} -m iqlft pretrain --config {config} <&- >&- 2>&-"
    assert subprocess.run(words, shell=True, timeout=100, check=False).returncode == 0
    folder = tmp_path / "runs" / "antmaze-corner" / "iql-s0"
    assert Run.open(folder).meta["status"] == "finished"
    for path in folder.glob("*.*"):
        assert "Pretrained" not in path.read_text()


def test_a_worker_whose_errors_nobody_reads_ends_with_its_own_code(start: Start) -> None:
    del start  # For the path alone.
    assert run("worker", "--connect", "nowhere:1") == 2
