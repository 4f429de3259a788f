"""Whatever the code of an environment raises, and wherever: one sentence, and no traceback."""

import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import iqlft_workers.launchers.local
from iqlft.gateway.gateway import Gateway
from iqlft_workers.actor import ActorWeights
from iqlft_workers.discovery import Address
from iqlft_workers.environment import Environment, EnvironmentMismatchError, EnvironmentSpec
from iqlft_workers.failures import EnvironmentFailedError
from iqlft_workers.launchers.local import WorkerError, WorkerPool
from iqlft_workers.loop import work
from iqlft_workers.transition import RowLayout

pytestmark = pytest.mark.usefixtures("importable")
STILL = np.zeros(1, np.float32)


def spec(**kwargs: Any) -> EnvironmentSpec:  # noqa: ANN401
    return EnvironmentSpec("awkward_environments:Awkward-v0", kwargs, trust=True)


def test_a_constructor_that_raises_is_one_sentence() -> None:
    with pytest.raises(EnvironmentMismatchError) as caught:
        Environment(spec(fails="constructor"))
    assert "RuntimeError: the licence server is not reached" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("call", ["reset", "step"])
def test_a_call_that_raises_is_one_sentence_with_its_cause(call: str) -> None:
    environment = Environment(spec(fails=call, at=0))
    calls = {"reset": lambda: environment.reset(0), "step": lambda: environment.step(STILL)}
    if call == "step":
        environment.reset(0)
    with pytest.raises(EnvironmentFailedError) as caught:
        calls[call]()
    assert f"has failed in {call} (RuntimeError: the licence server is not re" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_code_that_leaves_does_not_take_the_program_with_it() -> None:
    with pytest.raises(EnvironmentMismatchError, match=r"cannot be made .*SystemExit: 0"):
        Environment(spec(fails="constructor", exits=True))
    for call in ("reset", "step"):
        environment = Environment(spec(fails=call, at=0, exits=True))
        with pytest.raises(EnvironmentFailedError, match=rf"failed in {call} \(SystemExit: 0\)"):
            _ = environment.reset(0), environment.step(STILL)
    Environment(spec(fails="close", exits=True)).close()


def test_threads_that_code_leaves_behind_do_not_keep_the_process() -> None:
    program = (
        "import sys, threading; from iqlft_workers.leaving import leave; print('done');"
        "threading.Thread(target=threading.Event().wait, name='camera').start();"
        "sys.exit(leave(3, 0.2))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (3, "done\n")
    assert "though the work is done: camera;" in done.stderr


def test_an_observation_of_another_shape_is_one_sentence() -> None:
    environment = Environment(spec(spoils="shape"))
    with pytest.raises(EnvironmentFailedError, match="of 3 values, where its space has 2"):
        environment.reset(0)


@pytest.mark.parametrize(
    ("spoils", "sentence"), [("shape", "in reset what its spaces"), ("success", "success")]
)
def test_the_learner_hears_why_a_worker_leaves(
    spoils: str,
    sentence: str,
    serve: Callable[..., tuple[Gateway, WorkerPool]],
    make_weights: Callable[..., ActorWeights],
) -> None:
    options = {"num_workers": 1, "layout": RowLayout(2, 1), "insecure": True}
    gateway, _ = serve(0, environment=spec(spoils=spoils), **options)
    gateway.publish(make_weights(2, 1))
    gateway.allow(100)
    with pytest.raises((EnvironmentFailedError, EnvironmentMismatchError)):
        work(lambda: Address(gateway.endpoint), None, lambda: True)
    deadline = time.monotonic() + 10
    while gateway.counts().failed.total == 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    failed = gateway.counts().failed
    assert failed.total == 1
    assert sentence in failed.sentence


def test_an_environment_that_cannot_be_closed_is_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    environment = Environment(spec(fails="close"))
    with caplog.at_level(logging.WARNING, "iqlft_workers"):
        environment.close()
    assert "could not be closed (RuntimeError: the licence server" in caplog.text


@pytest.mark.parametrize("call", ["constructor", "reset", "step", "close"])
def test_a_worker_whose_environment_fails_says_so_in_one_sentence(
    call: str,
    serve: Callable[..., Any],
    make_weights: Callable[..., ActorWeights],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(iqlft_workers.launchers.local, "MAX_RESTARTS", 1)
    gateway, pool = serve(environment=spec(fails=call), layout=RowLayout(2, 1))
    gateway.publish(make_weights(2, 1))
    gateway.allow(40)
    if call == "close":
        count = 0
        while count < 40:
            count += sum(part.num_transitions for part in gateway.receive(20.0))
            assert pool.watch() == []
        gateway.close()
        pool.stop()
        log = (tmp_path / "logs" / "worker-0.log").read_text()
        assert "could not be closed" in log
        assert "Traceback" not in log
        return
    said, error = until_it_gives_up(gateway, pool)
    assert "RuntimeError: the licence server is not reached" in error
    assert "\n" not in error
    assert all("licence server" in each and "\n" not in each for each in said)
    assert len(said) == (0 if call == "constructor" else 1)


def until_it_gives_up(gateway: Any, pool: WorkerPool) -> tuple[list[str], str]:  # noqa: ANN401
    """What the pool says, and its error."""
    said: list[str] = []
    try:
        while True:
            gateway.receive(0.1)
            said += pool.watch()
    except WorkerError as error:
        return said, str(error)
