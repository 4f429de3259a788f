"""Fine-tuning whose workers are all started elsewhere, as containers are."""

import csv
import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from iqlft_workers.keys import new_keys
from iqlft_workers.launchers.processes import Processes
from run_fixtures import LOCKSTEP, Start

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
