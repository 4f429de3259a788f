"""Simulators of which there is one, or one for each worker."""

import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateways import at_work
from iqlft.config.settings import ConfigError, FinetuneConfig
from iqlft.config.validation import check
from iqlft.gateway.gateway import Gateway
from iqlft_workers.actor import ActorWeights
from iqlft_workers.environment import EnvironmentSpec
from iqlft_workers.launchers.local import WorkerPool
from iqlft_workers.transition import RowLayout, Transitions
from slow_environments import ID, STEPS
from tcp_proxy import free_ports

pytestmark = pytest.mark.usefixtures("importable")
MakeWeights = Callable[..., ActorWeights]
Serve = Callable[..., tuple[Gateway, WorkerPool]]


def serving(serve: Serve, workers: int = 1, **kwargs: Any) -> tuple[Gateway, WorkerPool]:  # noqa: ANN401
    where = kwargs.pop("where")
    spec = EnvironmentSpec(ID, kwargs, trust=True)
    return serve(workers, environment=spec, layout=RowLayout(1, 1), eval_environment=where)


def until(condition: Callable[[], object], pool: WorkerPool) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        assert pool.watch() == []
        time.sleep(0.02)


def test_evaluations_run_between_the_episodes_of_the_one_simulator(
    serve: Serve, make_weights: MakeWeights
) -> None:
    gateway, pool = serving(serve, where="training", port=free_ports()[0], step_seconds=0.05)
    gateway.publish(make_weights(1, 1))
    gateway.allow(3 * STEPS + 2)
    received: list[Transitions] = []

    def steps() -> int:
        received.extend(gateway.receive(0.0))
        return sum(each.num_transitions for each in received)

    until(steps, pool)
    pending = gateway.evaluate(make_weights(1, 1), [1, 2])
    until(lambda: pending.finished, pool)
    until(lambda: steps() == 3 * STEPS + 2, pool)
    observations = np.concatenate([each.observations[:, 0] for each in received])
    # Whole episodes, and the beginning of another one: none was left for the evaluation.
    assert observations.tolist() == [*(3 * [*range(STEPS)]), 0, 1]
    assert [each.length for each in pending.result(1)] == [STEPS] * 2
    # That one cannot go on, as at the end of a run, and is left.
    last = gateway.evaluate(make_weights(1, 1), [3])
    until(lambda: last.finished, pool)
    gateway.allow(3 * STEPS + 4)
    until(lambda: steps() == 3 * STEPS + 4, pool)
    assert received[-1].observations[-2:, 0].tolist() == [0, 1]
    assert [each.length for each in gateway.training_episodes()] == [STEPS] * 3


def test_one_worker_alone_builds_a_second_simulator(
    serve: Serve, make_weights: MakeWeights, tmp_path: Path
) -> None:
    built = tmp_path / "built"
    gateway, pool = serving(serve, 2, where="one-worker", built=str(built))
    until(lambda: sum(each.state == "waiting" for each in gateway.worker_status()) == 2, pool)
    pending = gateway.evaluate(make_weights(1, 1), range(6))
    until(lambda: pending.finished, pool)
    first, second = map(str, pool.process_ids)
    assert Counter(built.read_text().split()) == {first: 2, second: 1}


def test_every_worker_has_the_simulator_of_its_id(serve: Serve, make_weights: MakeWeights) -> None:
    port = min(free_ports())
    gateway, pool = serving(serve, 2, where="training", port=f"{{worker+{port}}}")
    gateway.publish(make_weights(1, 1))
    until(lambda: at_work(gateway) == 2, pool)


def test_a_simulator_that_cannot_be_closed_is_told_of_and_nothing_more(
    serve: Serve, make_weights: MakeWeights, tmp_path: Path
) -> None:
    gateway, pool = serving(serve, where="second", close_error="it was closed before")
    gateway.publish(make_weights(1, 1))
    gateway.allow(5)
    until(lambda: gateway.receive(0.0), pool)
    (process,) = pool.process_ids
    gateway.close()
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    log = (tmp_path / "logs" / "worker-0.log").read_text()
    assert "could not be closed (RuntimeError: it was closed before)" in log
    assert "Traceback" not in log


def test_lockstep_needs_a_second_environment() -> None:
    config = FinetuneConfig(lockstep=True, workers=1, eval_environment="training")
    with pytest.raises(ConfigError, match="could not repeat a run exactly"):
        check(config)
