"""The model of a learner with its workers keeps what no such system can break."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
QUICK: dict[str, Any] = {"slack": 32, "update": 1 / 100, "step": 1 / 100, "flush": 8}


@pytest.fixture
def scaling(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("scaling_model")


@pytest.mark.parametrize("utd_ratio", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("workers", [1, 6])
def test_no_step_is_lost_and_the_pace_holds(
    scaling: ModuleType, workers: int, utd_ratio: float
) -> None:
    model = scaling.Model(scaling.Setting(workers=workers, utd_ratio=utd_ratio, **QUICK), seed=1)
    for _ in range(100):
        model.run(0.1)
        taken = sum(each.taken for each in model.workers)
        assert model.env_steps == sum(each.accepted for each in model.workers) <= taken
        # Nothing but batches that are stepped or on their way is missing.
        assert taken - model.env_steps <= QUICK["flush"] * (model.on_their_way + workers)
        assert taken <= sum(each.granted for each in model.workers) <= model.allowed
        assert model.updates <= utd_ratio * model.env_steps + QUICK["slack"]
    assert model.updates > 100


def test_littles_law_holds_for_batches_on_their_way(scaling: ModuleType) -> None:
    # Batches queue at a gateway that is at work nine tenths of the time.
    setting = scaling.Setting(
        workers=40, batch=2e-3, utd_ratio=0.01, step=1 / 90, flush=8, jitter=0.5, slack=32
    )
    model, seconds = scaling.Model(setting), 20.0
    result = model.run(seconds, warm_up=2.0)
    tally = model.tally
    assert 0.8 < result.gateway < 1
    rate, sojourn = tally.batches / seconds, tally.sojourn / tally.batches
    assert sojourn > setting.batch + setting.latency
    assert tally.batch_seconds / seconds == pytest.approx(rate * sojourn, rel=0.01)


@pytest.mark.parametrize(
    ("slowest", "changed"),
    [
        ("learner", {"workers": 8}),
        ("workers", {"workers": 2, "utd_ratio": 0.1}),
        ("gateway", {"workers": 64, "utd_ratio": 0.01, "batch": 0.02}),
        ("link", {"workers": 64, "utd_ratio": 0.01, "bandwidth": 5e4}),
    ],
)
def test_the_slowest_part_is_always_at_work(
    scaling: ModuleType, slowest: str, changed: dict[str, Any]
) -> None:
    # Weights are left out, which would fill the narrow link of the last row.
    setting = scaling.Setting(publish_every=10**6, **{**QUICK, **changed})
    model, seconds = scaling.Model(setting), 60.0
    result = model.run(seconds, warm_up=60.0)
    sent = model.tally.batches * scaling.HEADER_BYTES + model.tally.steps * scaling.ROW_BYTES
    loads = {
        "learner": result.updates * setting.update,
        "workers": result.steps * setting.step / setting.workers,
        "gateway": model.tally.batches * setting.batch / seconds,
        "link": sent / seconds / setting.bandwidth,
    }
    assert loads.pop(slowest) == pytest.approx(1, abs=0.05)
    assert max(loads.values()) < 0.9
    assert result.updates == pytest.approx(setting.utd_ratio * result.steps, rel=0.05)


def test_credit_bounds_the_policy_lag_however_many_workers_there_are(scaling: ModuleType) -> None:
    lags = []
    for workers in (4, 64):
        setting = scaling.Setting(workers=workers, **QUICK)
        model = scaling.Model(setting, seed=2)
        model.run(20.0, warm_up=5.0)
        lags.append(model.tally.most_lag)
        # Of weights not published yet, and those that may be made while a step is on its way.
        assert model.tally.most_lag <= setting.publish_every + 2 * setting.slack
    assert lags[1] < 2 * lags[0] + setting.publish_every


def test_a_seed_is_a_run(scaling: ModuleType) -> None:
    setting = scaling.Setting(workers=5, **QUICK)
    one, same, other = (scaling.Model(setting, seed).run(5.0) for seed in (3, 3, 4))
    assert one == same != other
