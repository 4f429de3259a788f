import itertools
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from gateways import PENDULUM, open_gateway, receive
from iqlft.gateway.gateway import Gateway
from iqlft.gateway.journal import Journal
from iqlft.gateway.sockets import GatewayError, PortInUseError, reachable
from iqlft_workers.actor import ActorWeights, GaussianActor
from iqlft_workers.environment import Environment, EnvironmentSpec
from iqlft_workers.launchers.local import WorkerPool
from iqlft_workers.rollout import Rollout, evaluate_episode
from iqlft_workers.transition import RowLayout, Transitions
from transitions import concatenate

MakeWeights = Callable[..., ActorWeights]
Serve = Callable[..., tuple[Gateway, WorkerPool]]
SHORT = EnvironmentSpec("InvertedPendulum-v5")
SHORT_LAYOUT = RowLayout(4, 1)


def assert_equal(one: Transitions, other: Transitions) -> None:
    for name, a, b in zip(Transitions._fields, one, other, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.mark.parametrize("host", ["::", "[::]", "*", "0.0.0.0"])
def test_other_machines_reach_a_learner_that_listens_everywhere_by_its_name(host: str) -> None:
    assert reachable("tcp://[::1]:5555", host) == f"tcp://{socket.getfqdn()}:5555"


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "10.0.0.7"])
def test_other_machines_reach_a_learner_by_the_address_it_listens_on(host: str) -> None:
    assert reachable(f"tcp://{host}:5555", host) == f"tcp://{host}:5555"


@pytest.mark.parametrize("workers", [1, 2])
def test_an_evaluation_equals_the_local_one_whatever_the_number_of_workers(
    workers: int, serve: Serve, make_weights: MakeWeights
) -> None:
    gateway, _ = serve(workers)
    weights, seeds = make_weights(3, 1), [5, 3, 8, 1, 2, 9, 4]
    results = gateway.evaluate(weights, seeds).result(20)
    environment = Environment(PENDULUM)
    actor = GaussianActor(weights)
    assert results == [evaluate_episode(environment, actor, seed) for seed in seeds]
    environment.close()


def test_an_evaluation_goes_on_when_a_worker_is_killed_in_the_middle(
    serve: Serve, make_weights: MakeWeights
) -> None:
    gateway, pool = serve(2)
    weights, seeds = make_weights(3, 1), range(60)
    pending = gateway.evaluate(weights, seeds)
    gateway.wait_for(lambda: pending.episodes_done >= 5, 20)
    victim = pool.process_ids[0]
    os.kill(victim, signal.SIGKILL)
    assert not pending.finished
    deadline = time.monotonic() + 20
    while not pending.finished and time.monotonic() < deadline:
        pool.watch()
        time.sleep(0.02)
    assert [result.seed for result in pending.result(0)] == list(seeds)
    environment = Environment(PENDULUM)
    actor = GaussianActor(weights)
    assert pending.result(0)[:10] == [evaluate_episode(environment, actor, s) for s in range(10)]
    environment.close()


def test_two_evaluations_and_stepping_do_not_disturb_each_other(
    serve: Serve, make_weights: MakeWeights
) -> None:
    gateway, _ = serve(1)
    gateway.publish(make_weights(3, 1))
    gateway.allow(150)
    first = receive(gateway, 150)
    one = gateway.evaluate(make_weights(3, 1, seed=1), [0, 1])
    other = gateway.evaluate(make_weights(3, 1, seed=2), [0, 1])
    assert one.result(20) != other.result(20)
    gateway.allow(200)
    second = receive(gateway, 50)
    # The training episode goes on where it was before the evaluations.
    np.testing.assert_array_equal(second.observations[0], first.next_observations[-1])


def in_process(weights: Sequence[ActorWeights], spec: EnvironmentSpec) -> Transitions:
    """The loop without a wire: step k is chosen by weights k."""
    environment = Environment(spec)
    rollout = Rollout(environment, weights[0], seed=7, worker_id=0)
    parts = []
    for each in weights:
        rollout.actor.load(each)
        rollout.step()
        parts.append(rollout.take())
    environment.close()
    return concatenate(parts)


def in_lockstep(gateway: Gateway, weights: Sequence[ActorWeights], done: int) -> Transitions:
    """One step per weights, as a learner in lockstep asks for them."""
    parts = []
    for index, each in enumerate(weights, done + 1):
        gateway.publish(each)
        gateway.allow(index)
        parts.append(receive(gateway, 1))
    return concatenate(parts)


def test_lockstep_equals_an_in_process_loop_bit_for_bit_and_so_it_does_when_resumed(
    serve: Serve, make_weights: MakeWeights, tmp_path: Path
) -> None:
    # Episodes of about ten steps, so that the stop below falls into the middle of one.
    weights = [make_weights(4, 1, seed=index, version=index) for index in range(60)]
    expected = in_process(weights, SHORT)
    ends = np.flatnonzero(expected.terminated)
    assert len(ends) > 2
    stop = int(ends[ends < 40][-1]) + 4
    assert stop - 1 not in ends

    path = tmp_path / "journal"
    gateway, _ = serve(1, environment=SHORT, lockstep=True, journal=Journal(path))
    first = in_lockstep(gateway, weights[:stop], 0)
    learned = gateway.journal_position()
    # The learner is gone before it has learned from one more step.
    gateway.publish(weights[stop])
    gateway.allow(stop + 1)
    assert gateway.wait_for(lambda: gateway.worker_status()[0].env_steps > stop, 10)
    gateway.close()

    journal = Journal(path, learned)
    assert journal.length > learned
    assert_equal(SHORT_LAYOUT.transitions(np.concatenate(list(journal.rows(SHORT_LAYOUT)))), first)
    resumed, _ = serve(1, environment=SHORT, lockstep=True, journal=journal)
    second = in_lockstep(resumed, weights[stop:], stop)
    assert_equal(concatenate([first, second]), expected)


def test_lockstep_goes_on_bit_for_bit_after_a_kill(serve: Serve, make_weights: MakeWeights) -> None:
    weights = [make_weights(3, 1, seed=index, version=index) for index in range(20)]
    gateway, pool = serve(1, lockstep=True)
    first = in_lockstep(gateway, weights[:10], 0)
    os.kill(pool.process_ids[0], signal.SIGKILL)
    while not pool.watch():
        time.sleep(0.01)
    second = in_lockstep(gateway, weights[10:], 10)
    assert_equal(concatenate([first, second]), in_process(weights, PENDULUM))


def test_a_resumed_gateway_counts_on_and_begins_unused_episodes(
    serve: Serve, make_weights: MakeWeights, tmp_path: Path
) -> None:
    weights = make_weights(3, 1)
    first, _ = serve(1, journal=Journal(tmp_path / "journal"))
    first.publish(weights)
    first.allow(300)
    receive(first, 300)
    position = first.journal_position()
    first.close()
    # Episodes have 200 steps, so two of them have begun.
    gateway, _ = serve(1, journal=Journal(tmp_path / "journal", position))
    gateway.publish(weights)
    gateway.allow(400)
    taken = receive(gateway, 100)
    environment = Environment(PENDULUM)
    rollout = Rollout(environment, weights, seed=7, worker_id=0, episode=2)
    rollout.step()
    np.testing.assert_array_equal(taken.observations[0], rollout.take().observations[0])
    environment.close()
    (worker,) = gateway.worker_status()
    assert worker.env_steps == 400


def test_workers_act_with_newer_weights_once_they_are_published(
    serve: Serve, make_weights: MakeWeights
) -> None:
    gateway, _ = serve(1)
    gateway.publish(make_weights(3, 1, version=5))
    gateway.allow(64)
    assert (receive(gateway, 64).versions == 5).all()
    gateway.publish(make_weights(3, 1, version=6))
    # They arrive when they arrive on a busy machine: a few transitions are allowed at a time until
    # the first of them, and from then on there is no other.
    deadline = time.monotonic() + 30
    for allowed in itertools.count(72, 8):
        time.sleep(0.05)
        gateway.allow(allowed)
        versions = receive(gateway, 8).versions
        if (versions == 6).any() or time.monotonic() > deadline:
            break
    assert (np.diff(versions) >= 0).all()
    assert versions[-1] == 6
    gateway.allow(allowed + 64)
    assert (receive(gateway, 64).versions == 6).all()
    assert gateway.worker_status()[0].version == 6


def test_finished_training_episodes_are_told_once(serve: Serve, make_weights: MakeWeights) -> None:
    gateway, _ = serve(1)
    gateway.publish(make_weights(3, 1, version=2))
    gateway.allow(450)
    taken = receive(gateway, 450)
    one, two = gateway.training_episodes()
    assert (one.worker_id, one.version, one.length, one.env_steps) == (0, 2, 200, 200)
    assert (two.length, two.env_steps) == (200, 400)
    np.testing.assert_allclose(two.episode_return, taken.rewards[200:400].sum(), rtol=1e-4)
    assert gateway.training_episodes() == []


def test_the_status_follows_a_worker_from_waiting_to_lost(
    serve: Serve, make_weights: MakeWeights
) -> None:
    gateway, pool = serve(1)
    gateway.publish(make_weights(3, 1))
    gateway.allow(64)
    receive(gateway, 64)
    (status,) = gateway.worker_status()
    assert (status.worker_id, status.alive, status.env_steps) == (0, True, 64)
    assert status.state == "waiting"
    assert status.seconds_since_message < 5
    assert status.steps_per_second > 0
    os.kill(pool.process_ids[0], signal.SIGKILL)
    # An idle worker is asked every second whether it is there.
    deadline = time.monotonic() + 30
    while gateway.worker_status()[0].alive and time.monotonic() < deadline:
        time.sleep(0.05)
    assert gateway.worker_status()[0].state == "lost"


def test_a_port_in_use_is_named() -> None:
    gateway = open_gateway()
    port = int(gateway.endpoint.rpartition(":")[2])
    with pytest.raises(PortInUseError, match=f"Port {port} .* --port"):
        open_gateway(port=port)
    gateway.close()


def test_impossible_numbers_of_workers_and_hosts_are_refused() -> None:
    with pytest.raises(GatewayError, match="0 workers"):
        open_gateway(num_workers=0)
    with pytest.raises(GatewayError, match="lockstep"):
        open_gateway(num_workers=2, lockstep=True)
    with pytest.raises(GatewayError, match="Cannot listen on 203"):
        open_gateway(host="203.0.113.1")


def test_weights_of_other_dimensions_are_refused_before_they_are_sent(
    make_weights: MakeWeights,
) -> None:
    with open_gateway() as gateway, pytest.raises(ValueError, match="do not fit"):
        gateway.publish(make_weights(4, 1))


def test_closing_twice_or_before_the_start_is_fine_and_ends_every_wait(
    make_weights: MakeWeights,
) -> None:
    open_gateway().close()
    gateway = open_gateway()
    gateway.start()
    pending = gateway.evaluate(make_weights(3, 1), [0])
    with pytest.raises(TimeoutError, match="0 of 1"):
        pending.result(0.01)
    assert gateway.receive(0.01) == []
    gateway.close()
    gateway.close()
    for wait in (lambda: pending.result(5), lambda: gateway.receive(5)):
        with pytest.raises(GatewayError, match="closed"):
            wait()


def test_a_failure_of_the_thread_is_raised_by_the_next_call(
    monkeypatch: pytest.MonkeyPatch, make_weights: MakeWeights
) -> None:
    def fail(*_: object) -> None:
        raise ArithmeticError("broken")

    with open_gateway() as gateway:
        pending = gateway.evaluate(make_weights(3, 1), [0])
        monkeypatch.setattr("iqlft.gateway.state.GatewayState.tick", fail)
        with pytest.raises(GatewayError, match="broken") as caught:
            pending.result(5)
        assert isinstance(caught.value.__cause__, ArithmeticError)
        with pytest.raises(GatewayError):
            gateway.receive(0)


def test_an_idle_gateway_uses_next_to_no_processor_time() -> None:
    with open_gateway() as gateway:
        gateway.allow(1000)
        before = time.process_time()
        time.sleep(1.0)
        assert time.process_time() - before < 0.02
