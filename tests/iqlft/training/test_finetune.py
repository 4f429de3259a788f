"""Fine-tuning with real workers: exact totals, exact resume in lockstep, and what is refused."""

import csv
import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from iqlft.algorithms.base import Batch, Metrics
from iqlft.algorithms.iql import IQL
from iqlft.config.algorithms import ActorSchedule, IQLHyperparameters
from iqlft.config.layers import with_settings
from iqlft.config.settings import ConfigError, FinetuneConfig, PretrainConfig
from iqlft.gateway.journal import Journal
from iqlft.gateway.sockets import PortInUseError
from iqlft.runs import checkpoint
from iqlft.runs.best import BEST
from iqlft.runs.checkpoint import CheckpointError
from iqlft.runs.curves import read_run
from iqlft.runs.errors import RunError
from iqlft.runs.folder import JOURNAL, Run
from iqlft.runs.policy import load_policy, save_policy
from iqlft.runs.pretrained import end_of_pretraining
from iqlft.training import session
from iqlft.training.finetune import finetune
from iqlft.training.interruption import Interrupted
from iqlft.training.pretrain import pretrain
from iqlft.training.progress import Silent, Status
from iqlft.training.resume import resume
from iqlft_workers.transition import Transitions
from run_fixtures import curves, stopped_at
from transitions import concatenate
from waiting import wait_until

Start = Callable[..., subprocess.Popen[str]]
Stop = Callable[[subprocess.Popen[str], Path, int, signal.Signals], int]
OFFLINE = 300


def episodes(run: Path) -> list[dict[str, str]]:
    with (run / "episodes.csv").open() as file:
        return list(csv.DictReader(file))


def new_transitions(run: Path) -> Transitions:
    journal = Journal(run / JOURNAL)
    transitions = concatenate([entry.batch.transitions for entry in journal.entries()])
    journal.close()
    return transitions


def assert_same_transitions(one: Transitions, other: Transitions) -> None:
    for name, a, b in zip(Transitions._fields, one, other, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


def first(count: int, transitions: Transitions) -> Transitions:
    return Transitions(*(array[:count] for array in transitions))


def metrics(run: Path) -> list[dict[str, object]]:
    """The rows of metrics.jsonl without what a clock has measured and workers have met."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: row[key] for key in row if not re.search("second|waiting|incidents", key)}
        for row in rows
    ]


def assert_same_end(run: Path, other: Path) -> None:
    """Two runs have the same tensors, new transitions, episodes, curves and metrics, bit by bit."""
    one, two = (checkpoint.load(each / "checkpoints").tensors for each in (run, other))
    assert one.keys() == two.keys()
    assert [key for key in one if not torch.equal(one[key], two[key])] == []
    for name in ("episodes.csv", "evaluations.csv", "policy/actor.safetensors"):
        assert (run / name).read_bytes() == (other / name).read_bytes()
    assert_same_transitions(new_transitions(run), new_transitions(other))
    assert curves(run) == curves(other)
    for one_row, other_row in zip(metrics(run), metrics(other), strict=True):
        assert one_row == other_row


# -- lockstep -----------------------------------------------------------------------------------


def test_in_lockstep_every_step_is_chosen_by_exactly_the_newest_weights(finetuned: Path) -> None:
    rows = new_transitions(finetuned)
    # Half an update per step: steps 1 and 2 by the pretrained weights, 3 and 4 by the next ones.
    np.testing.assert_array_equal(rows.versions, OFFLINE + np.arange(340) // 2)
    assert [(row["phase"], row["updates"], row["env_steps"]) for row in curves(finetuned)[3:]] == [
        ("online", "300", "0"), ("online", "385", "170"), ("online", "470", "340")
    ]  # fmt: skip
    assert [(row["env_steps"], row["length"]) for row in episodes(finetuned)] == [("300", "300")]


def test_a_learner_that_is_ahead_of_its_workers_says_how_long_it_waits(
    fresh: Path, lockstep: FinetuneConfig
) -> None:
    # In lockstep it has nothing to do until the next step has come.
    config = dataclasses.replace(lockstep, run=(fresh,), utd_ratio=1.0, env_steps=60, log_every=20)
    (run,) = finetune(config)
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    online = [row for row in map(json.loads, lines) if row["phase"] == "online"]
    assert online
    assert all(row["learner_waiting_share"] > 0.1 for row in online)


def test_rows_of_metrics_count_the_steps_of_their_updates_and_the_last_update_has_one(
    fresh: Path, lockstep: FinetuneConfig
) -> None:
    # The workers may be all done before the first update.
    config = dataclasses.replace(
        lockstep, run=(fresh,), env_steps=41, eval_every=30, log_every=8, lockstep=False, slack=512
    )
    (run,) = finetune(config)
    rows = [row for row in metrics(run) if row["phase"] == "online"]
    assert [(row["updates"], row["env_steps"]) for row in rows] == [
        (304, 8), (312, 24), (320, 41)
    ]  # fmt: skip
    assert all(0 < int(str(row["received_steps"])) <= 41 for row in rows)
    assert [(row["updates"], row["env_steps"]) for row in curves(run)[4:]] == [
        ("315", "30"), ("320", "41")
    ]  # fmt: skip


def test_evaluations_are_at_the_steps_of_their_update_and_the_last_one_at_all(
    fresh: Path, lockstep: FinetuneConfig
) -> None:
    # An update stands for three steps and a third: the 4th passes 12 at 13, the last is for all 41.
    config = dataclasses.replace(lockstep, run=(fresh,), utd_ratio=0.3, env_steps=41, eval_every=12)
    (run,) = finetune(config)
    assert [(row["updates"], row["env_steps"]) for row in curves(run)[4:]] == [
        ("304", "13"), ("308", "26"), ("311", "36"), ("312", "41")
    ]  # fmt: skip


def test_the_evaluation_before_the_first_online_update_is_the_last_offline_one(
    finetuned: Path,
) -> None:
    offline, online = curves(finetuned)[2:4]
    assert offline | {"phase": "online"} == online


@pytest.mark.usefixtures("corner")
@pytest.mark.parametrize(("schedule", "moved"), [("cosine", True), ("climbing-cosine", False)])
def test_a_cosine_is_over_online_unless_it_climbs_back_from_0(
    schedule: ActorSchedule,
    moved: bool,
    tmp_path: Path,
    pretraining: PretrainConfig,
    lockstep: FinetuneConfig,
) -> None:
    (run,) = pretrain(
        with_settings(pretraining, num_updates=30, actor_schedule=schedule, runs=tmp_path)
    )
    before = load_policy(run)
    finetune(dataclasses.replace(lockstep, run=(run,), env_steps=1, utd_ratio=1.0))
    # The rate of the first online update is 0 where the cosine climbs from there.
    observation = np.ones(29, np.float32)
    assert np.any(load_policy(run)(observation) != before(observation)) == moved


@pytest.mark.parametrize(
    ("number", "code", "status"),
    [(signal.SIGKILL, -9, "running"), (signal.SIGINT, 130, "interrupted")],
)
def test_a_stopped_and_resumed_lockstep_run_equals_an_uninterrupted_one(
    number: signal.Signals,
    code: int,
    status: str,
    fresh: Path,
    finetuned: Path,
    lockstep: FinetuneConfig,
    start: Start,
    stop_at: Stop,
) -> None:
    process = start("finetune", lockstep, str(fresh))
    assert stop_at(process, fresh, OFFLINE + 40, number) == code
    assert Run.open(fresh).meta["status"] == status
    saved = checkpoint.load(fresh / "checkpoints").state
    assert 80 <= saved["env_steps"] < 340
    resume(fresh)
    assert_same_end(fresh, finetuned)
    with pytest.raises(RunError, match="there is no more to do"):
        resume(fresh)


def test_a_row_of_metrics_that_a_stop_has_cut_in_two_is_as_if_it_had_not(
    fresh: Path, lockstep: FinetuneConfig
) -> None:
    other = Path(shutil.copytree(fresh, fresh.parents[1] / "other" / fresh.name))
    config = dataclasses.replace(lockstep, log_every=7)
    finetune(dataclasses.replace(config, run=(other,)))
    # Between two rows, and after the end of an episode.
    with stopped_at(OFFLINE + 157), pytest.raises(Interrupted):
        finetune(dataclasses.replace(config, run=(fresh,)))
    resume(fresh)
    assert_same_end(fresh, other)
    assert metrics(fresh)[-1]["training_success"] is not None


def test_a_stop_during_the_first_evaluation_does_not_lose_it(
    fresh: Path, finetuned: Path, lockstep: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "STATUS_SECONDS", 0.02)
    run = Run.open(fresh)
    # Another number of episodes than before: the switch is evaluated anew.
    config = dataclasses.replace(
        lockstep, run=(fresh,), eval_episodes=3, env_steps=40, eval_every=20
    )

    class Impatient(Silent):
        pressed = False

        def status(self, status: Status) -> None:
            if status.evaluation and not self.pressed:
                self.pressed = True
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        finetune(config, Impatient())
    assert len(curves(fresh)) == 3
    assert run.meta["phase"] == "online"
    resume(fresh)
    assert [row["env_steps"] for row in curves(fresh)[3:]] == ["0", "20", "40"]
    assert curves(fresh)[3]["episodes"] == "3"
    assert_same_transitions(new_transitions(fresh), first(40, new_transitions(finetuned)))


# -- several workers ----------------------------------------------------------------------------


@pytest.mark.parametrize(("utd_ratio", "offline_ratio"), [(0.5, None), (2.0, 0.5)])
def test_with_two_workers_steps_and_updates_come_to_their_exact_totals(
    utd_ratio: float, offline_ratio: float | None, fresh: Path, lockstep: FinetuneConfig
) -> None:
    config = dataclasses.replace(
        lockstep,
        run=(fresh,),
        lockstep=False,
        workers=2,
        env_steps=100,
        eval_every=50,
        slack=8,
        utd_ratio=utd_ratio,
        offline_ratio=offline_ratio,
    )
    assert finetune(config) == [fresh]
    updates = OFFLINE + round(100 * utd_ratio)
    state = checkpoint.load(fresh / "checkpoints").state
    assert (state["env_steps"], state["updates"], state["phase"]) == (100, updates, "online")
    assert state["journal"] == (fresh / JOURNAL).stat().st_size
    rows = new_transitions(fresh)
    assert rows.num_transitions == 100
    assert (rows.versions >= OFFLINE).all()
    assert set(np.unique(rows.rewards)) <= {-1.0, 0.0}
    online = [(int(row["updates"]), int(row["env_steps"])) for row in curves(fresh)[3:]]
    assert online == [(OFFLINE, 0), ((OFFLINE + updates) // 2, 50), (updates, 100)]
    assert load_policy(fresh).weights.version == updates
    assert Run.open(fresh).meta["status"] == "finished"


class Assassin(Silent):
    """Kills the first worker as soon as there are new transitions."""

    def __init__(self) -> None:
        self.killed, self.events = 0, list[str]()

    def status(self, status: Status) -> None:
        if status.new_size and not self.killed:
            here = os.getpid()
            children = Path(f"/proc/{here}/task/{here}/children").read_text().split()
            self.killed = next(int(each) for each in children if is_worker(each))
            os.kill(self.killed, signal.SIGKILL)

    def event(self, sentence: str) -> None:
        self.events.append(sentence)


def is_worker(process_id: str) -> bool:
    return b"--worker-id" in Path(f"/proc/{process_id}/cmdline").read_bytes()


def test_a_killed_worker_is_started_again_and_the_run_finishes(
    fresh: Path, lockstep: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "STATUS_SECONDS", 0.02)
    config = dataclasses.replace(
        lockstep, run=(fresh,), lockstep=False, env_steps=700, utd_ratio=0.2, slack=20,
        eval_every=700,
    )  # fmt: skip
    assassin = Assassin()
    finetune(config, assassin)
    assert assassin.killed
    assert Counter("was killed (signal 9)" in each for each in assassin.events)[True] == 1
    rows = new_transitions(fresh)
    assert rows.num_transitions == 700
    assert checkpoint.load(fresh / "checkpoints").state["updates"] == OFFLINE + 140


def test_what_a_killed_learner_had_acknowledged_is_learned_from_once_when_it_is_resumed(
    fresh: Path, lockstep: FinetuneConfig, start: Start
) -> None:
    config = dataclasses.replace(lockstep, lockstep=False, workers=2, slack=64, checkpoint_every=99)
    process = start("finetune", config, str(fresh))
    journal = fresh / JOURNAL
    # About a hundred transitions, before the first checkpoint of fine-tuning.
    wait_until(lambda: journal.exists() and journal.stat().st_size >= 30_000)
    process.kill()
    process.wait()
    saved = checkpoint.load(fresh / "checkpoints").state
    acknowledged = new_transitions(fresh)
    assert acknowledged.num_transitions > saved["env_steps"] == 0
    resume(fresh)
    state = checkpoint.load(fresh / "checkpoints").state
    assert (state["env_steps"], state["updates"]) == (340, OFFLINE + 170)
    whole = new_transitions(fresh)
    assert whole.num_transitions == 340
    assert_same_transitions(acknowledged, first(acknowledged.num_transitions, whole))


# -- beginning ----------------------------------------------------------------------------------


def test_fine_tuning_twice_is_refused_but_a_copy_from_the_end_of_pretraining_may_be_made(
    finetuned: Path, pretrained: Path, lockstep: FinetuneConfig, corner: str, tmp_path: Path
) -> None:
    assert corner
    folder = tmp_path / "antmaze-corner" / "iql-s0"
    shutil.copytree(finetuned, folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with pytest.raises(RunError, match=r"fine-tuned already: fine-tune a copy .*--into NAME"):
        finetune(dataclasses.replace(lockstep, run=(folder,)))

    copy = folder.with_name("again")
    config = dataclasses.replace(lockstep, run=(folder,), into="again", env_steps=20)
    assert finetune(config) == [copy]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert curves(copy)[:4] == curves(finetuned)[:4]
    assert [row["env_steps"] for row in curves(copy)[4:]] == ["20"]
    assert_same_transitions(new_transitions(copy), first(20, new_transitions(finetuned)))
    start = checkpoint.load(copy / "checkpoints", "000000300-001")
    expected = checkpoint.load(pretrained / "checkpoints")
    assert all(torch.equal(start.tensors[key], each) for key, each in expected.tensors.items())
    # None of the other fine-tuning's checkpoints is left to be taken for this one's.
    assert all(int(name[:9]) <= 310 for name in checkpoint.names(copy / "checkpoints"))
    with pytest.raises(RunError, match="exists already"):
        finetune(config)


@pytest.mark.parametrize("phase", ["offline", "online"])
@pytest.mark.usefixtures("corner")
def test_a_copy_has_the_best_policy_if_its_evaluation_belongs_to_pretraining(
    phase: str, finetuned: Path, lockstep: FinetuneConfig, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finetuned, tmp_path / "antmaze-corner" / "iql-s0"))
    policy, (*_, last) = load_policy(folder), getattr(read_run(folder), phase)
    save_policy(folder / BEST, policy.weights, policy.environment, {"score": last._asdict()})
    (copy,) = finetune(dataclasses.replace(lockstep, run=(folder,), into="copy", env_steps=20))
    assert (folder / BEST).is_dir()
    assert (copy / BEST).is_dir() == (phase == "offline")


def test_the_end_of_a_pretraining_that_was_stopped_in_its_last_evaluation_stays(
    fresh: Path, lockstep: FinetuneConfig
) -> None:
    folder = fresh / "checkpoints"
    saved = checkpoint.load(folder)
    for name in checkpoint.names(folder):
        if checkpoint.updates_of(name) == 300:
            shutil.rmtree(folder / name)
    checkpoint.save(folder, 300, saved)  # Not for good: so much can be resumed.
    finetune(dataclasses.replace(lockstep, run=(fresh,), env_steps=80, eval_every=80))
    assert checkpoint.read_state(folder, end_of_pretraining(Run.open(fresh)))["keep"]


def test_a_copy_may_be_made_from_within_the_run(
    fresh: Path, lockstep: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(fresh)
    config = dataclasses.replace(lockstep, run=(Path(),), into="copy", env_steps=20)
    assert finetune(config) == [fresh.with_name("copy")]


def test_an_end_of_pretraining_that_is_missing_is_not_called_unfinished(
    finetuned: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finetuned, tmp_path / "antmaze-corner" / "iql-s0"))
    for path in (folder / "checkpoints").glob("000000300*"):
        shutil.rmtree(path)
    with pytest.raises(RunError, match=r"is missing in .* restore it from a copy"):
        end_of_pretraining(Run.open(folder))


def test_a_time_limit_is_that_of_pretraining(fresh: Path, lockstep: FinetuneConfig) -> None:
    config = dataclasses.replace(lockstep, run=(fresh,), max_episode_steps=7)
    with pytest.raises(ConfigError, match=r"the time limit with which .* was pretrained"):
        finetune(config)
    assert Run.open(fresh).config("finetune") is None


def test_before_is_the_pretrained_policy_where_another_one_begins_online(
    fresh: Path, lockstep: FinetuneConfig
) -> None:
    hyperparameters = IQLHyperparameters(hidden_size=8, batch_size=16)
    config = dataclasses.replace(
        lockstep, run=(fresh,), algorithm="iql", hyperparameters=hyperparameters, env_steps=20
    )
    finetune(config)
    run = read_run(fresh)
    assert run.algorithm == "iql"
    assert run.online[0].env_steps == 0
    assert run.before == run.offline[-1]


def test_an_unfinished_pretraining_is_not_fine_tuned(fresh: Path, lockstep: FinetuneConfig) -> None:
    run = Run.open(fresh)
    run.write_config("pretrain", {**(run.config("pretrain") or {}), "num_updates": 400})
    with pytest.raises(RunError, match=r"has not reached its 400 updates; finish .*iqlft resume"):
        finetune(dataclasses.replace(lockstep, run=(fresh,)))


def test_a_damaged_checkpoint_is_not_fine_tuned(fresh: Path, lockstep: FinetuneConfig) -> None:
    state = fresh / "checkpoints" / "000000300-001" / "state.json"
    content = state.read_text()
    for damaged in (content.replace('"updates": 300', '"updates": 301'), "{"):
        state.write_text(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            finetune(dataclasses.replace(lockstep, run=(fresh,)))
    assert Run.open(fresh).config("finetune") is None


@pytest.mark.parametrize("into", ["", "copy"])
def test_a_run_stays_as_it_is_when_fine_tuning_cannot_begin(
    into: str, fresh: Path, lockstep: FinetuneConfig
) -> None:
    before = {path: path.stat().st_mtime_ns for path in fresh.parent.rglob("*")}
    config = dataclasses.replace(lockstep, run=(fresh,), into=into)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"Port {port} .*--port"):
            finetune(dataclasses.replace(config, port=port))
    assert {path: path.stat().st_mtime_ns for path in fresh.parent.rglob("*")} == before


def test_without_a_named_run_the_newest_is_taken(
    fresh: Path, lockstep: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class EnoughError(Exception):
        pass

    def stop(_self: IQL, _batch: Batch) -> Metrics:
        raise EnoughError

    monkeypatch.setattr(IQL, "update", stop)
    with pytest.raises(EnoughError):
        finetune(dataclasses.replace(lockstep, runs=fresh.parents[1]))
    run = Run.open(fresh)
    assert (run.meta["status"], run.meta["phase"]) == ("failed", "online")
    # Killed or failed before its first checkpoint, it begins at the switch again.
    monkeypatch.undo()
    assert run.config("finetune") is not None
    assert checkpoint.load(fresh / "checkpoints").state["phase"] == "offline"
