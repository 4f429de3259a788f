"""Fine-tuning whose workers are all started elsewhere, as containers are."""

import csv
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from iqlft_workers.keys import new_keys
from iqlft_workers.launchers.processes import Processes
from run_fixtures import LOCKSTEP, Start
from waiting import wait_until

if TYPE_CHECKING:
    from iqlft.config.settings import FinetuneConfig


def test_workers_with_a_shared_key_do_all_the_work_of_a_learner_without_own_ones(
    fresh: Path, start: Start, tmp_path: Path
) -> None:
    new_keys(tmp_path / "keys", 1, shared=True)
    (tmp_path / "theirs").mkdir(mode=0o700)
    for name in ("learner.public", "worker.secret"):
        shutil.copy2(tmp_path / "keys" / name, tmp_path / "theirs")
    config: FinetuneConfig = dataclasses.replace(
        LOCKSTEP,
        run=(fresh,),
        workers=0,
        remote_workers=2,
        lockstep=False,
        keys=tmp_path / "keys",
    )
    learner = start("finetune", config)
    crew = Processes(str(fresh / "endpoint"), 2, keys=tmp_path / "theirs")
    assert crew.run(asked=lambda: learner.poll() is not None) == 0
    assert learner.wait(90) == 0, learner.stderr.read() if learner.stderr else ""
    with (fresh / "curves.csv").open() as file:
        (*_, last) = csv.DictReader(file)
    assert (last["env_steps"], last["episodes"]) == ("340", "2")
    assert not list((fresh / "logs").glob("worker-1.log"))


@pytest.mark.slow
def test_workers_that_were_given_an_address_find_the_learner_that_goes_on(
    fresh: Path, start: Start, tmp_path: Path
) -> None:
    new_keys(tmp_path / "keys", 1, shared=True)
    config: FinetuneConfig = dataclasses.replace(
        LOCKSTEP, run=(fresh,), workers=0, remote_workers=1, lockstep=False,
        keys=tmp_path / "keys", env_steps=2000, eval_every=2000, checkpoint_every=20,
    )  # fmt: skip
    learner = start("finetune", config)
    wait_until((fresh / "endpoint").exists)
    address = (fresh / "endpoint").read_text().split()[0]
    command = [sys.executable, "-m", "iqlft_workers", "--connect", address, "--keys"]
    root = Path(__file__).parents[3]
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [root, root / "workers"]))}
    with subprocess.Popen([*command, str(tmp_path / "keys")], env=path) as worker:
        try:
            last = fresh / "checkpoints" / "last"
            wait_until(lambda: int(last.read_text().split("-")[0]) > 320)
            learner.send_signal(signal.SIGINT)
            assert learner.wait(60) == 130
            assert worker.poll() is None
            resume = [sys.executable, "-m", "iqlft", "resume", str(fresh)]
            # A refused one loses nothing of what the next one must know.
            assert subprocess.run([*resume, "--workers", "-1"], env=path, check=False).returncode
            subprocess.run(resume, env=path, check=True, timeout=120)
            assert worker.wait(60) == 0
        finally:
            worker.kill()
    with (fresh / "curves.csv").open() as file:
        (*_, last_row) = csv.DictReader(file)
    assert last_row["env_steps"] == "2000"
