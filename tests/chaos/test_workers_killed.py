"""Demonstration 1: workers are killed all the time, and no transition is lost, doubled or moved."""

import os
import random
import signal
import statistics
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from chaos.pumping_learner import Account, PumpingLearner, open_gateway
from chaos.tallying import tally
from iqlft.gateway.credit import CREDIT
from iqlft_workers.launchers.local import WorkerPool
from iqlft_workers.loop import FLUSH_TRANSITIONS
from iqlft_workers.session import WINDOW

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WORKERS = 8
KILL_EVERY_SECONDS, KILL_FOR_SECONDS = 3.0, 60.0
QUIET_SECONDS = 10.0
MOST_KILLS_OF_A_WORKER = 3
"""Who dies six times in a row is broken, and ends the run; that is shown elsewhere."""
PATIENCE_SECONDS = 60.0


def all_at_work(
    pool: WorkerPool, learner: PumpingLearner, dead: Collection[int] = ()
) -> Callable[[], bool]:
    """Whether, from now on, something has come from each of eight living processes."""
    before = dict(learner.account.steps)

    def come() -> bool:
        steps, alive = learner.account.steps, set(pool.process_ids).difference(dead)
        moved = {source[0] for source in steps if steps[source] > before.get(source, 0)}
        return len(alive) == WORKERS and moved >= alive

    return come


def test_a_random_worker_is_killed_every_three_seconds(
    tmp_path: Path, figure: Callable[..., None], scaled: Callable[[float], float]
) -> None:
    kills = round(scaled(KILL_FOR_SECONDS) / KILL_EVERY_SECONDS)
    victims = random.Random(0).sample([*range(WORKERS)] * MOST_KILLS_OF_A_WORKER, kills)
    dead: list[int] = []
    rates: list[float] = []
    with (
        open_gateway(tmp_path, WORKERS) as gateway,
        WorkerPool(WORKERS, gateway.endpoint, tmp_path / "logs", gateway.own_keys) as pool,
    ):
        learner = PumpingLearner(gateway, pool)
        learner.pump_until(all_at_work(pool, learner), PATIENCE_SECONDS)
        quiet = learner.pump(scaled(QUIET_SECONDS))
        for victim in victims:
            rates.append(learner.pump(KILL_EVERY_SECONDS))
            dead.append(pool.process_ids[victim])
            os.kill(dead[-1], signal.SIGKILL)
        back_seconds = learner.pump_until(all_at_work(pool, learner, dead), PATIENCE_SECONDS)
        gateway.close()
    made, journal = tally(tmp_path / "tallies"), Account.of_journal(tmp_path / "journal")
    received = Account.of_journal(tmp_path / "journal", learner.account.batches)
    assert received.checksum == learner.account.checksum
    missing = {source: steps - journal.steps.get(source, 0) for source, steps in made.items()}
    killed = [steps for (process, _), steps in missing.items() if process in dead]
    assert set(journal.steps) <= set(made)
    assert not any(steps for (process, _), steps in missing.items() if process not in dead)
    most = (WINDOW + 1) * FLUSH_TRANSITIONS
    assert all(0 <= steps <= min(CREDIT, most) for steps in killed)
    demonstration = "1 workers killed"
    figure(demonstration, "workers killed with SIGKILL", f"{kills}")
    figure(demonstration, "transitions accepted", f"{journal.env_steps:,}")
    figure(demonstration, "duplicates, gaps", "0, 0", "0, 0")
    figure(demonstration, "most steps of a session never sent", f"{max(killed)}", f"{most}")
    figure(demonstration, "all at work after the last kill", f"{back_seconds:.1f} s")
    during = statistics.mean(rates[1:])
    figure(demonstration, "transitions/s before, during", f"{quiet:,.0f}, {during:,.0f}")
