"""What a peer that speaks the protocol cannot do to a run, over real sockets."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import attacker
import iqlft_workers
from attacker import Attacker
from gateways import PENDULUM, open_gateway
from iqlft.gateway.credit import CREDIT
from iqlft.gateway.gateway import Gateway
from iqlft.gateway.journal import Journal
from iqlft.gateway.rate_limit import MAX_LINES
from iqlft_workers import messages
from iqlft_workers.actor import ActorWeights, GaussianActor
from iqlft_workers.environment import Environment
from iqlft_workers.episode import EpisodeResult
from iqlft_workers.launchers.local import WorkerPool
from iqlft_workers.rollout import evaluate_episode
from iqlft_workers.transition import RowLayout

MakeWeights = Callable[..., ActorWeights]
Serve = Callable[..., tuple[Gateway, WorkerPool]]

LAYOUT = RowLayout(3, 1)
WONDER = EpisodeResult(1_000_000, 1e6, 1, success=False, start=(), end=(), first_hit=-1)
LARGE = 700
"""Width of networks whose weights have 2 MiB."""
MEBIBYTE = 2**20
MOST_BYTES = 32 * MEBIBYTE
"""By which a learner may grow under an attack."""


def resident_bytes() -> int:
    """Memory of this process, of which the gateway is a thread."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


@contextmanager
def attacks(number: int, attack: Callable[[], None]) -> Iterator[None]:
    """Threads that attack until the block is left."""
    leaving = threading.Event()

    def go_on() -> None:
        while not leaving.is_set():
            attack()

    threads = [threading.Thread(target=go_on) for _ in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        leaving.set()
        for thread in threads:
            thread.join()


def test_a_peer_that_keeps_its_episodes_and_one_that_makes_them_up_change_no_evaluation(
    serve: Serve, make_weights: MakeWeights
) -> None:
    gateway, pool = serve(1, num_workers=3, local_workers=1, evaluation_seconds=2.0)
    weights, seeds = make_weights(3, 1), list(range(1_000_000, 1_000_012))
    with (
        Attacker(gateway.endpoint, LAYOUT, gateway.own_keys) as keeper,
        Attacker(gateway.endpoint, LAYOUT, gateway.own_keys) as liar,
    ):
        keeper.join()
        pending = gateway.evaluate(weights, seeds)
        keeper.hear(messages.Evaluate)
        # Before READY, and for episodes that others have.
        liar.say(messages.Hello(None, "liar", iqlft_workers.__version__))
        deadline = time.monotonic() + 60
        while not pending.finished:
            assert time.monotonic() < deadline, "the run stands still"
            for place in range(len(seeds)):
                liar.say(messages.Evaluation(1, place, WONDER._replace(seed=seeds[place])))
            keeper.answer_pings()
            liar.answer_pings()
            assert pool.watch() == []
            time.sleep(0.05)
    environment = Environment(PENDULUM)
    actor = GaussianActor(weights)
    assert pending.result(0) == [evaluate_episode(environment, actor, seed) for seed in seeds]
    environment.close()


def test_many_sessions_bring_a_run_no_more_than_it_wants_and_starve_nobody(
    serve: Serve, make_weights: MakeWeights, tmp_path: Path
) -> None:
    env_steps, slack = 6_000, 512
    gateway, _ = serve(1, num_workers=2, local_workers=1, journal=Journal(tmp_path / "journal"))
    gateway.publish(make_weights(3, 1))
    with Attacker(gateway.endpoint, LAYOUT, gateway.own_keys) as attacker:

        def flood() -> None:
            attacker.begin()
            for sequence in range(1, 9):
                attacker.say(attacker.batch(sequence, 1024))
            attacker.answer_pings()

        attacker.join()
        with attacks(1, flood):
            received, deadline = 0, time.monotonic() + 60
            while received < env_steps:
                assert time.monotonic() < deadline, f"{received} of {env_steps} came"
                gateway.allow(min(env_steps, received + slack))
                received += sum(part.num_transitions for part in gateway.receive(0.1))
            time.sleep(1.0)
    honest = gateway.worker_status()[0].env_steps
    accepted = sum(worker.env_steps for worker in gateway.worker_status())
    assert accepted <= env_steps + 2 * CREDIT
    assert honest > 0
    assert (tmp_path / "journal").stat().st_size < 4 * MEBIBYTE


def test_a_peer_that_takes_credit_and_does_not_step_holds_the_others_up_once(
    serve: Serve, make_weights: MakeWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iqlft.gateway.credit.CREDIT_SECONDS", 2.0)
    gateway, _ = serve(1, num_workers=2, local_workers=1)
    gateway.publish(make_weights(3, 1))
    with Attacker(gateway.endpoint, LAYOUT, gateway.own_keys) as idle:
        gateway.allow(512)
        idle.join()
        received, began = 0, time.monotonic()
        while received < 6_000:
            assert time.monotonic() < began + 60, f"{received} came"
            gateway.allow(received + 512)
            received += sum(part.num_transitions for part in gateway.receive(0.1))
            idle.answer_pings()


def test_a_deaf_peer_that_says_ready_all_the_time_makes_the_learner_keep_little(
    make_weights: MakeWeights,
) -> None:
    with open_gateway() as gateway:
        gateway.publish(make_weights(3, 1, hidden=LARGE))
        with Attacker(gateway.endpoint, LAYOUT, gateway.own_keys, deaf=True) as attacker:
            attacker.begin()
            time.sleep(0.5)
            before = resident_bytes()
            for number in range(2000):
                if number % 10 == 0:
                    attacker.begin()
                attacker.ready()
                attacker.say(messages.GetWeights())
            time.sleep(1.0)
            assert resident_bytes() - before < MOST_BYTES


def test_a_deaf_peer_that_comes_back_all_the_time_is_sent_no_more_evaluations(
    make_weights: MakeWeights,
) -> None:
    with open_gateway() as gateway:
        gateway.evaluate(make_weights(3, 1, hidden=LARGE), range(1000))
        with Attacker(gateway.endpoint, LAYOUT, gateway.own_keys, deaf=True) as attacker:
            attacker.begin()
            time.sleep(0.5)
            before = resident_bytes()
            for _ in range(100):
                attacker.say(messages.Hello(None, attacker.session, iqlft_workers.__version__))
                attacker.ready()
                time.sleep(0.02)
            assert resident_bytes() - before < MOST_BYTES


@pytest.mark.parametrize("kind", ["SUB", "XSUB", "DEALER"])
def test_subscriptions_of_whatever_kind_are_not_kept(kind: str, make_weights: MakeWeights) -> None:
    weights = make_weights(3, 1, hidden=LARGE)
    with open_gateway() as gateway, Attacker(gateway.endpoint, LAYOUT, gateway.own_keys) as one:
        port = one.join().weights_port
        # In a process of its own, for its end of the connection keeps them too.
        endpoint, keys = f"tcp://127.0.0.1:{port}", str(gateway.own_keys)
        command = [sys.executable, attacker.__file__, endpoint, keys, kind]
        before = resident_bytes()
        with subprocess.Popen(command) as process:
            while process.poll() is None:
                gateway.publish(weights)
                time.sleep(0.05)
        assert process.returncode == -signal.SIGALRM
        assert resident_bytes() - before < MOST_BYTES


def test_refused_hellos_and_errors_fill_no_log(caplog: pytest.LogCaptureFixture) -> None:
    with (
        open_gateway() as gateway,
        Attacker(gateway.endpoint, LAYOUT, gateway.own_keys) as attacker,
    ):
        attacker.join()
        for _ in range(5000):
            attacker.say(messages.Failed("x" * 200))
            attacker.answer_pings()
        with Attacker(gateway.endpoint, LAYOUT, gateway.own_keys) as other:
            for number in range(5000):
                other.say(messages.Hello(9, f"{number}", iqlft_workers.__version__))
                other.answer_pings()
            deadline = time.monotonic() + 20
            while gateway.counts().rejected < 1000 and time.monotonic() < deadline:
                time.sleep(0.1)
        assert gateway.counts().rejected >= 1000
    assert len(caplog.records) <= 2 * (MAX_LINES + 1)


def test_an_episode_of_the_last_number_leaves_the_seat_usable(
    serve: Serve, make_weights: MakeWeights
) -> None:
    gateway, _ = serve(0, num_workers=1)
    gateway.publish(make_weights(3, 1))
    gateway.allow(10_000)
    with Attacker(gateway.endpoint, LAYOUT, gateway.own_keys) as attacker:
        attacker.join()
        attacker.hear(messages.Ack)
        attacker.say(attacker.batch(1, 10, episode=2**32 - 1))
        assert attacker.hear(messages.Reject).code == "BATCH"
        assert attacker.join().episode == 0
