"""`iqlft evaluate`: episodes of a policy in worker processes, as in training."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from iqlft.analysis.statistics import t_interval, wilson_interval
from iqlft.config.settings import ConfigError
from iqlft.gateway.gateway import Gateway
from iqlft.runs.policy import load_policy
from iqlft.training.evaluation import FIRST_SEED, success_share
from iqlft_workers.environment import require_named, require_trusted
from iqlft_workers.pool import WorkerPool
from iqlft_workers.transition import RowLayout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iqlft.runs.policy import Policy
    from iqlft_workers.episode import EpisodeResult

POLL_SECONDS = 0.5


def evaluate(
    run: Path, episodes: int, num_workers: int, *, trust: bool = False
) -> list[tuple[str, str]]:
    """Evaluates the newest policy of a run.

    Args:
        run: a run folder, or an exported policy.
        episodes: how many.
        num_workers: local worker processes.
        trust: whether the policy's environment may be made though nobody registers it.

    Returns:
        Names and texts: success with its Wilson interval where it is reported, return and length.

    Raises:
        UserError: there is no policy, or a number makes no sense.
    """
    policy = load_policy(run, trust=trust)
    results = run_episodes(policy, run.name, episodes, num_workers)
    returns = t_interval([each.episode_return for each in results])
    between = f" [{returns.lower:.2f}, {returns.upper:.2f}], 95 % t" if returns.has_interval else ""
    lengths = [each.length for each in results]
    return [
        ("policy", f"{run}, {policy.weights.version:,} updates"),
        ("environment", policy.environment.id),
        ("episodes", f"{episodes}, mean action, seeds from {FIRST_SEED}"),
        ("success", _success(results)),
        ("return", f"{returns.value:.2f}{between}"),
        ("length", f"mean {np.mean(lengths):.0f} steps"),
    ]


def _success(results: Sequence[EpisodeResult]) -> str:
    share = success_share(results)
    if share is None:
        return "not reported"
    rate = wilson_interval(share, len(results))
    return f"{rate.value:.1%} [{rate.lower:.1%}, {rate.upper:.1%}], 95 % Wilson"


def run_episodes(policy: Policy, name: str, episodes: int, num_workers: int) -> list[EpisodeResult]:
    """Runs evaluation episodes with the mean action, from the seeds that training uses.

    Args:
        policy: what acts.
        name: of its run.
        episodes: how many.
        num_workers: local worker processes.

    Returns:
        What each episode came to, in the order of the seeds.

    Raises:
        ConfigError: there are to be no episodes, or no workers.
        WorkerError: the workers keep dying.
    """
    if episodes < 1 or num_workers < 1:
        raise ConfigError("--episodes and --workers must be at least 1.")
    # Told here, before the workers start and say so in their logs.
    require_named(policy.environment)
    require_trusted(policy.environment)
    gateway = Gateway(
        environment=policy.environment,
        layout=RowLayout(policy.weights.observation_dim, policy.weights.action_dim),
        run_id=name,
        seed=0,
        num_workers=num_workers,
        local_workers=num_workers,
    )
    with tempfile.TemporaryDirectory() as logs:
        pool = WorkerPool(num_workers, gateway.endpoint, Path(logs), gateway.own_keys)
        try:
            gateway.start()
            pool.start()
            seeds = [FIRST_SEED + index for index in range(episodes)]
            pending = gateway.evaluate(policy.weights, seeds)
            while not pending.finished:
                pool.watch()
                try:
                    pending.result(POLL_SECONDS)
                except TimeoutError:
                    continue
            return pending.result(POLL_SECONDS)
        finally:
            gateway.close()
            pool.stop(timeout_seconds=5.0)
