"""The loop of fine-tuning: receive, update, publish, at the pace of each member."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from iqlft.training.phases import Behaviour
from iqlft.training.session import Session
from iqlft_workers.actor import uniform_weights

if TYPE_CHECKING:
    from iqlft.config.settings import FinetuneConfig
    from iqlft.training.pacing import Pacing
    from iqlft.training.phases import Online
    from iqlft.training.sessions import Sessions
    from iqlft.training.stack import Stack

WAIT_SECONDS = 0.1
"""The longest wait for transitions before the session may tick."""


def first_evaluation(session: Session[Online]) -> None:
    """Evaluates a run that has just gone online, unless its last evaluation already covers it.

    Results depend only on weights and seeds, so the last offline evaluation is adopted if it had
    the same weights and the same number of episodes.
    """
    if not session.phase.fresh:
        return
    session.wait_for_evaluation()  # The checkpoint may hold an unfinished one of pretraining.
    last, now = session.last, (session.member.updates, session.plan.config.eval_episodes)
    if last is None or not session.phase.keeps_policy or (last.updates, last.episodes) != now:
        session.evaluate()
    else:
        session.adopt(last._replace(phase="online", seconds=session.seconds))


def train_online(stack: Stack, sessions: Sessions[Online], config: FinetuneConfig) -> None:
    """Trains until every member has taken all its steps and updates.

    The members share their updates, so each waits for the member with the slowest workers.
    """
    sessions.each(Session.start)
    sessions.each(_publish)
    sessions.each(_allow)
    while not sessions.stop.requested and not all(map(_finished, sessions.living)):
        waits, began = not _may_update(sessions), time.monotonic()
        sessions.each(receive)
        sessions.each(_after_receipt)
        if waits:
            for session in sessions.living:
                session.metrics.waited(time.monotonic() - began)
        if _may_update(sessions):
            stack.replay.offline_ratio = _offline_ratio(sessions.living[0].phase.pacing, config)
            stack.update()
            sessions.each(_after_update, config)
        sessions.each(Session.tick)


def receive(session: Session[Online]) -> None:
    """Moves received transitions into the replay; waits for them while no update is possible."""
    gateway, pacing = session.gateway, session.phase.pacing
    wait_seconds = 0.0 if pacing.may_update() else WAIT_SECONDS
    for transitions in gateway.receive(wait_seconds):
        session.metrics.observe_transitions(transitions, session.member.updates)
        session.member.add(transitions)
        pacing.env_steps += transitions.num_transitions
    if episodes := gateway.training_episodes():
        session.metrics.observe_episodes([each.success for each in episodes])
        session.plan.run.files.append_episodes(
            [
                (e.env_steps, e.worker_id, e.version, e.episode_return, e.length, _flag(e.success))
                for e in episodes
            ]
        )


def _flag(success: bool | None) -> int | None:
    """0 or 1; None, an empty field in CSV, where success was not reported."""
    return None if success is None else int(success)


def _may_update(sessions: Sessions[Online]) -> bool:
    living = sessions.living
    return bool(living) and all(session.phase.pacing.may_update() for session in living)


def _finished(session: Session[Online]) -> bool:
    return session.phase.pacing.finished()


def _publish(session: Session[Online]) -> None:
    """Publishes weights for the workers: of random actions, or of the actor and its guide."""
    phase, weights = session.phase, session.actor_weights()
    at_random, guided = phase.behaviour = _behaviour(session)
    if at_random:
        weights = uniform_weights(weights)
    elif phase.guide and guided:
        weights = weights._replace(guide=phase.guide._replace(steps=guided))
    session.gateway.publish(weights)


def _behaviour(session: Session[Online]) -> Behaviour:
    config, phase = session.plan.config, session.phase
    until = config.guide_until or config.env_steps
    # In whole numbers: with floats a step would be added now and then.
    guided = -(phase.guide.steps * (phase.env_steps - until) // until) if phase.guide else 0
    return Behaviour(phase.env_steps < config.random_steps, max(0, guided))


def _allow(session: Session[Online]) -> None:
    """Lets the workers go on, in lockstep by one step: the next may be of another behaviour."""
    allowance = session.phase.pacing.allowance()
    if session.plan.config.lockstep:
        allowance = min(allowance, session.phase.env_steps + 1)
    session.gateway.allow(allowance)


def _after_receipt(session: Session[Online]) -> None:
    """Goes on without an update, of which the warm-up has none."""
    pacing, lockstep = session.phase.pacing, session.plan.config.lockstep
    if pacing.may_update() or (pacing.updates and not lockstep):
        return
    if _behaviour(session) != session.phase.behaviour:
        _publish(session)
    if lockstep:
        _allow(session)


def _offline_ratio(pacing: Pacing, config: FinetuneConfig) -> float | None:
    """Share of the next batch that comes from the dataset; None samples from the union."""
    if not config.anneal_steps or config.offline_ratio is None:
        return config.offline_ratio
    way = config.final_offline_ratio - config.offline_ratio
    return config.offline_ratio + way * min(1.0, pacing.learned_steps / config.anneal_steps)


def _after_update(session: Session[Online], config: FinetuneConfig) -> None:
    pacing = session.phase.pacing
    pacing.updates += 1
    if session.phase.updated or pacing.passed(config.eval_every):
        session.evaluate(session.phase.learned_steps)
    # In lockstep no step is in progress here: the next one is allowed below.
    session.after_update()
    if config.lockstep or session.member.updates % config.publish_every == 0:
        _publish(session)
    _allow(session)
