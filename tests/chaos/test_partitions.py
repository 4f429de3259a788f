"""Demonstration 3: the network between workers and learner is cut, in both ways or in one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.pumping_learner import Account, PumpingLearner, open_gateway
from chaos.tallying import tally
from iqlft.gateway.credit import CREDIT
from iqlft_workers.launchers.local import WorkerPool
from tcp_proxy import HOST, TcpProxy, Way, free_ports

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

WORKERS = 2
CUT_SECONDS, RECOVERY_SECONDS = 30.0, 5.0
SETTLED_SECONDS = 2.0
PATIENCE_SECONDS = 60.0
CUTS: dict[str, tuple[Way, ...]] = {
    "both ways": (),
    "to the learner": ("to_learner",),
    "to the workers": ("to_workers",),
}


@pytest.mark.parametrize("name", CUTS)
def test_a_partition_pauses_the_workers_and_costs_nothing(
    name: str, tmp_path: Path, figure: Callable[..., None], scaled: Callable[[float], float]
) -> None:
    ports, tallies = free_ports(), tmp_path / "tallies"
    with (
        open_gateway(tmp_path, WORKERS, port=ports[0]) as gateway,
        TcpProxy(ports) as proxy,
        WorkerPool(
            WORKERS, f"tcp://{HOST}:{ports[0]}", tmp_path / "logs", gateway.own_keys
        ) as pool,
    ):
        learner = PumpingLearner(gateway, pool)
        learner.pump_until(lambda: len(learner.account.steps) == WORKERS, PATIENCE_SECONDS)
        learner.pump(SETTLED_SECONDS)
        processes = pool.process_ids
        proxy.cut(*CUTS[name])
        begun = tally(tallies)
        learner.pump(scaled(CUT_SECONDS) / 2)
        halfway = tally(tallies)
        learner.pump(scaled(CUT_SECONDS) / 2)
        paused = tally(tallies)
        proxy.restore()
        # All that was made before has come, and a step that was made since.
        back_seconds = learner.pump_until(
            lambda: all(learner.account.steps[each] > paused[each] for each in paused),
            PATIENCE_SECONDS,
        )
        learner.pump(SETTLED_SECONDS)
        # The same processes, with the same sessions: nobody began anew.
        assert pool.process_ids == processes
        gateway.close()
    made, journal = tally(tallies), Account.of_journal(tmp_path / "journal")
    assert journal.steps == made
    assert len(made) == WORKERS
    during = max(paused[source] - begun[source] for source in paused)
    assert during <= CREDIT
    assert paused == halfway
    demonstration = f"3 cut {name}"
    figure(demonstration, "seconds of the cut", f"{scaled(CUT_SECONDS):.0f}")
    figure(demonstration, "transitions lost, doubled", "0, 0", "0, 0")
    figure(demonstration, "most steps of a worker meanwhile", f"{during}", f"{CREDIT}")
    bound = f"{RECOVERY_SECONDS:.0f} s"
    figure(demonstration, "all workers at work again after", f"{back_seconds:.1f} s", bound)
    assert back_seconds <= RECOVERY_SECONDS
