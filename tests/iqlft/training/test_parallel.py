"""Several seeds, each in a process of its own: each is what it would be alone, bit for bit."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from iqlft.config.settings import ConfigError, FinetuneConfig, MachineConfig, PretrainConfig
from iqlft.gateway.journal import Journal
from iqlft.runs import checkpoint
from iqlft.runs.errors import RunError
from iqlft.runs.folder import JOURNAL, Run
from iqlft.runs.scores import Score
from iqlft.training import seeds
from iqlft.training.dry_run import dry_run_pretraining
from iqlft.training.finetune import dry_run, finetune
from iqlft.training.parallel import Job, Parallel, RunsFailedError
from iqlft.training.pretrain import pretrain
from iqlft.training.progress import Silent, Status
from iqlft.training.resume import resume
from iqlft.training.session import TrainingDivergedError
from run_fixtures import Start, curves
from scarcity import no_more_files
from waiting import wait_until

SEEDS, ENDS = (0, 1, 2), ("finished", "failed", "finished")
two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "usable_cores", lambda: 2)


@pytest.fixture
def several(pretraining: PretrainConfig, corner: str, tmp_path: Path) -> PretrainConfig:
    """Settings of a pretraining of three seeds."""
    assert corner
    return dataclasses.replace(pretraining, seeds=SEEDS, runs=tmp_path / "runs")


def folders(config: PretrainConfig) -> list[Path]:
    return [config.runs / config.task / f"iql-s{seed}" for seed in config.seeds]


def assert_equal(one: Path, other: Path) -> None:
    """Both runs end with the same tensors, bit for bit, and had the same scores on their way."""
    ours, theirs = (checkpoint.load(each / "checkpoints").tensors for each in (one, other))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(each, theirs[key]) for key, each in ours.items())
    assert curves(one) == curves(other)


class Listening:
    """A reporter that remembers who spoke, in this order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.tasks: list[str] = []
        self.waiting: list[str] = []

    def status(self, status: Status) -> None:
        """Remembers which run spoke."""
        (self.waiting if status.waiting else self.tasks).append(status.task.split()[-1])

    def event(self, sentence: str) -> None:
        """Remembers an event."""
        self.events.append(sentence)


def test_every_seed_is_trained_as_if_alone_while_another_fails_and_the_third_waits_for_a_core(
    several: PretrainConfig, pretrained: Path
) -> None:
    said = Listening()
    config = dataclasses.replace(several, algorithm="fragile:Fragile")
    with pytest.raises(RunsFailedError, match=r"^fragile-s1 has failed: .*not finite") as caught:
        pretrain(config, said)
    zero, one, two = (several.runs / several.task / f"fragile-s{seed}" for seed in SEEDS)
    assert str(caught.value).endswith(f"\nWhen that is mended, continue with `iqlft resume {one}`.")
    assert caught.value.exit_code == TrainingDivergedError.exit_code
    assert_equal(zero, pretrained)
    (alone,) = pretrain(dataclasses.replace(several, seeds=(), seed=2))
    assert_equal(two, alone)
    for folder, seed, status in zip((zero, one, two), SEEDS, ENDS, strict=True):
        run = Run.open(folder)
        assert (run.meta["status"], run.meta["seed"], run.meta["threads"]) == (status, seed, 1)
        assert run.meta["argv"] == sys.argv
        settings = run.config("pretrain") or {}
        assert (settings["seeds"], settings["stack"]) == ([], "never")
    assert "fragile-s1: It has failed, the others go on." in " ".join(said.events)
    evaluated = [each.partition(":")[0] for each in said.events if "Evaluated" in each]
    assert sorted(evaluated)[-3:] == ["fragile-s2"] * 3
    assert said.waiting == ["fragile-s0", "fragile-s1", "fragile-s2"]
    first = said.tasks.index("fragile-s2")
    assert set(said.tasks[:first]) == {"fragile-s0", "fragile-s1"}
    assert len(set(said.tasks[first:])) <= 2  # One of them has left its core.


def test_runs_are_fine_tuned_as_if_alone(
    pretrained: Path, lockstep: FinetuneConfig, corner: str, finetuned: Path, tmp_path: Path
) -> None:
    assert corner
    runs = tuple(
        Path(shutil.copytree(pretrained, tmp_path / "antmaze-corner" / name)) for name in ("a", "b")
    )
    Run.open(runs[1]).write_meta({"seed": 1})  # So that its copy is another one.
    config = dataclasses.replace(lockstep, run=runs, into="copy")
    copies = finetune(config)
    assert [folder.name for folder in copies] == ["copy-s0", "copy-s1"]
    for copy in copies:
        assert_equal(copy, finetuned)
        journals = [Journal(folder / JOURNAL) for folder in (copy, finetuned)]
        ours, theirs = (
            [each.batch.observations.tobytes() for each in j.entries()] for j in journals
        )
        assert ours == theirs
        for journal in journals:
            journal.close()
    assert (Run.open(copies[0]).config("finetune") or {})["stack"] == "never"


# -- signals, to real commands ------------------------------------------------------------------


def updates(folder: Path) -> int:
    """Of the last checkpoint, or -1."""
    last = folder / "checkpoints" / "last"
    return int(last.read_text().split("-")[0]) if last.is_file() else -1


def descendants(process_id: int) -> list[int]:
    """The process and all that it has started."""
    children = Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()
    return [process_id, *(each for child in children for each in descendants(int(child)))]


def wait_for_their_end(process_ids: list[int]) -> None:
    wait_until(lambda: not any(Path(f"/proc/{each}").exists() for each in process_ids))


def start_two_of_three(start: Start, config: PretrainConfig) -> subprocess.Popen[str]:
    """A command on two cores whose first two seeds are underway, at 100 updates or more."""
    process = start("pretrain", config)
    os.sched_setaffinity(process.pid, sorted(os.sched_getaffinity(0))[:2])
    wait_until(lambda: process.poll() or all(updates(each) >= 100 for each in folders(config)[:2]))
    assert process.poll() is None
    return process


@pytest.mark.slow
@two_cores
def test_an_interrupt_lets_every_seed_checkpoint_and_says_how_to_go_on(
    several: PretrainConfig, start: Start, pretrained: Path
) -> None:
    process = start_two_of_three(start, several)
    family = descendants(process.pid)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    wait_for_their_end(family)
    first, second, third = folders(several)
    assert errors == (
        f"Interrupted; continue with `iqlft resume {first} {second}`, and begin what has not begun "
        "(iql-s2) by a command of its own.\n"
    )
    assert process.returncode == 130
    assert [Run.open(each).meta["status"] for each in (first, second)] == ["interrupted"] * 2
    assert not third.exists()
    assert all(100 <= updates(each) < 300 for each in (first, second))
    said = Listening()
    resume(first, second, reporter=said)
    assert set(said.tasks) == {"iql-s0", "iql-s1"}
    assert_equal(first, pretrained)


@pytest.mark.slow
@two_cores
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_all_processes_at_once_lets_every_seed_checkpoint(
    number: signal.Signals, several: PretrainConfig, start: Start
) -> None:
    process = start_two_of_three(start, several)
    family = descendants(process.pid)
    before = [updates(each) for each in folders(several)[:2]]
    for each in reversed(family):  # As a scheduler or a service manager does, in any order.
        os.kill(each, number)
    process.communicate(timeout=60)
    wait_for_their_end(family)
    assert process.returncode == 130
    for folder, least in zip(folders(several)[:2], before, strict=True):
        assert Run.open(folder).meta["status"] == "interrupted"
        assert updates(folder) >= least


@pytest.mark.slow
@two_cores
def test_a_second_interrupt_stops_at_once(several: PretrainConfig, start: Start) -> None:
    process = start_two_of_three(start, several)
    family = descendants(process.pid)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    _, errors = process.communicate(timeout=60)
    wait_for_their_end(family)
    assert process.returncode == 130
    # The first one alone may have been enough, if it came so late.
    assert errors.startswith(("Stopped.", "Interrupted;"))


@two_cores
def test_seeds_do_not_outlive_their_command_and_can_be_resumed(
    several: PretrainConfig, start: Start
) -> None:
    process = start_two_of_three(start, several)
    family = descendants(process.pid)
    process.kill()
    process.communicate(timeout=60)
    wait_for_their_end(family)
    for folder in folders(several)[:2]:
        assert Run.open(folder).meta["status"] == "interrupted"
        assert updates(folder) >= 100


def holder(folder: Path, among: list[int]) -> int:
    """Which of some processes trains a run: it holds the lock of its folder."""
    for each in among:
        opened = [os.path.realpath(path) for path in Path(f"/proc/{each}/fd").iterdir()]
        if str(folder / "metrics.jsonl") in opened:
            return each
    raise AssertionError("nobody trains this run")


@pytest.mark.slow
@two_cores
def test_a_seed_that_is_killed_leaves_the_others_at_work_and_the_sentence_says_which(
    several: PretrainConfig, start: Start, pretrained: Path
) -> None:
    process = start_two_of_three(start, several)
    first, second, third = folders(several)
    os.kill(holder(second, descendants(process.pid)[1:]), signal.SIGKILL)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "iql-s1: It has failed, the others go on." in output
    assert errors == (
        "iqlft pretrain: iql-s1 has failed: Its process was killed (signal 9), perhaps because the "
        "machine ran out of memory.\n"
        f"When that is mended, continue with `iqlft resume {second}`.\n"
    )
    assert_equal(first, pretrained)
    assert Run.open(third).meta["status"] == "finished"
    assert Run.open(second).meta["status"] == "running"


# -- which way ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "count", "expected"),
    [
        ({}, 3, 2),
        ({}, 1, 1),
        ({"stack": "always"}, 3, 3),
        ({"stack": "never", "threads": 2}, 3, 1),
        ({"threads": 0}, 3, 1),
        ({"threads": 16}, 3, 1),
    ],
)
def test_as_many_learn_at_once_as_there_are_cores(
    settings: dict[str, int], count: int, expected: int
) -> None:
    config = dataclasses.replace(MachineConfig(device="cpu"), **settings)  # type: ignore[arg-type]
    assert seeds.at_once(config, count) == expected


def test_workers_are_shared_among_those_that_learn_at_once(several: PretrainConfig) -> None:
    parts = seeds.member_configs(dataclasses.replace(several, workers=5, port=5000))
    assert [part.workers for part in parts] == [2, 2, 2]
    assert [part.port for part in parts] == [5000, 5002, 5004]


def test_a_dry_run_says_how_many_learn_at_once(
    several: PretrainConfig, pretrained: Path, fresh: Path, lockstep: FinetuneConfig
) -> None:
    rows = dict(dry_run_pretraining(several))
    assert rows["seeds"] == "3, 2 at once, a process each"
    assert rows["device"] == "cpu, 1 thread a process"
    assert rows["replay"].endswith("MiB for each process")
    assert dict(dry_run_pretraining(dataclasses.replace(several, stack="always")))["seeds"] == "3"
    config = dataclasses.replace(lockstep, run=(pretrained, fresh))
    assert dict(dry_run(config))["seeds"] == "2, 2 at once, a process each"


def test_a_dry_run_refuses_what_the_command_does(
    finetuned: Path, pretrained: Path, lockstep: FinetuneConfig
) -> None:
    for run, refused in (
        ((finetuned,), "has been fine-tuned already"),
        ((pretrained, pretrained), "Two of the runs are the same"),
    ):
        with pytest.raises(RunError, match=refused):
            dry_run(dataclasses.replace(lockstep, run=run))


def test_a_learner_has_one_thread_unless_told_otherwise() -> None:
    assert MachineConfig().threads == 1


def test_runs_that_began_differently_are_not_resumed_together(
    pretrained: Path, tmp_path: Path
) -> None:
    runs = [Path(shutil.copytree(pretrained, tmp_path / name)) for name in ("iql-s0", "iql-s1")]
    for folder, stack in zip(runs, ("always", "never"), strict=True):
        run = Run.open(folder)
        run.write_meta({"status": "interrupted"})
        run.write_config("pretrain", (run.config("pretrain") or {}) | {"stack": stack})
    with pytest.raises(ConfigError, match="differ in stack"):
        resume(*runs, edited=True)


def test_a_status_travels_between_processes() -> None:
    score = Score("online", 1000, 0, 10.0, 0.5, 0.5, 50.0, 100)
    status = Status(
        "antmaze-corner", "cpu", Path("runs/a"), "online", 3, 9, workers={0: "idle"},
        evaluation=(1, 2), before=score, policy_lag=1.5,
    )  # fmt: skip
    for each in (status, dataclasses.replace(status, evaluation=None, before=None, last=score)):
        assert Status.from_json(json.loads(json.dumps(each.to_json()))) == each


def test_what_a_machine_has_no_room_for_waits_for_a_process_to_end(tmp_path: Path) -> None:
    jobs = [Job(tmp_path / each, "pretrain", {"dataset": "no/set-v0"}) for each in "abc"]
    with (
        no_more_files(),
        pytest.raises(RunError, match=r"started for \S+a \(Too many open files\)"),
    ):
        Parallel(jobs, 2, Silent()).run()
    with ExitStack() as scarce:
        events: list[str] = []

        def event(sentence: str) -> None:
            events.append(sentence)
            scarce.close()
            if "the others go on" in sentence and len(events) == 2:
                scarce.enter_context(no_more_files())

        reporter = Silent()
        reporter.event = event  # type: ignore[method-assign]
        with pytest.raises(RunsFailedError):
            Parallel(jobs, 2, reporter).run()
    assert events[2] == (
        "This machine has no room for another process (Too many open files); 1 at once from now on."
    )
    assert sum("It has failed" in each for each in events) == 3
