"""`iqlft evaluate`: episodes of a policy in worker processes, as in training."""

from __future__ import annotations

import math
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from iqlft.analysis.statistics import t_interval, wilson_interval
from iqlft.config.settings import ConfigError
from iqlft.datasets.time_limit import has_time_limit, limited
from iqlft.gateway.gateway import Gateway
from iqlft.gateway.plausibility import EpisodeLimits
from iqlft.gateway.watchdog import PATIENCE_SECONDS, Watchdog
from iqlft.runs.policy import load_policy
from iqlft.training.evaluation import FIRST_SEED, success_share
from iqlft_workers.environment import make, require_named, require_trusted
from iqlft_workers.errors import UserError
from iqlft_workers.pool import WorkerPool
from iqlft_workers.transition import RowLayout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iqlft.runs.policy import Policy
    from iqlft_workers.environment import EnvironmentSpec
    from iqlft_workers.episode import EpisodeResult

POLL_SECONDS = 0.5


class EpisodesNotFiniteError(UserError):
    """All episodes of an evaluation ended at a value that is not finite."""


def evaluate(
    run: Path,
    episodes: int,
    num_workers: int,
    *,
    trust: bool = False,
    patience_seconds: float = PATIENCE_SECONDS,
    max_episode_steps: int = 0,
) -> list[tuple[str, str]]:
    """Evaluates the newest policy of a run.

    Args:
        run: a run folder, or an exported policy.
        episodes: how many.
        num_workers: local worker processes.
        trust: whether the policy's environment may be made though nobody registers it.
        patience_seconds: that its environment may take to be built, to reset or to step.
        max_episode_steps: time limit of an episode; 0: that of the environment.

    Returns:
        Names and texts: success with its Wilson interval where it is reported, return and length.

    Raises:
        UserError: there is no policy, a number makes no sense, or no episode is finite.
    """
    policy = load_policy(run, trust=trust)
    require_named(policy.environment)
    policy.environment = _with_time_limit(policy.environment, max_episode_steps)
    results = run_episodes(policy, run.name, episodes, num_workers, patience_seconds)
    finite = [each.episode_return for each in results if math.isfinite(each.episode_return)]
    if not finite:
        raise EpisodesNotFiniteError(
            f"All {episodes} episodes in {policy.environment.id} ended at a value that is not "
            "finite, for the simulation may have diverged; mend it, for example by a shorter time "
            "step or narrower actions."
        )
    returns = t_interval(finite)
    between = f" [{returns.lower:.2f}, {returns.upper:.2f}], 95 % t" if returns.has_interval else ""
    lengths = [each.length for each in results]
    lost = episodes - len(finite)
    warning = (
        [("not finite", f"{lost} of {episodes} episodes, which have no return")] if lost else []
    )
    return [
        ("policy", f"{run}, {policy.weights.version:,} updates"),
        ("environment", policy.environment.id),
        ("episodes", f"{episodes}, mean action, seeds from {FIRST_SEED}"),
        ("success", _success(results)),
        ("return", f"{returns.value:.2f}{between}"),
        ("length", f"mean {np.mean(lengths):.0f} steps"),
        *warning,
    ]


def _with_time_limit(spec: EnvironmentSpec, steps: int) -> EnvironmentSpec:
    """An environment whose episodes end; policies of earlier versions may name others.

    Raises:
        ConfigError: nothing ends them.
    """
    if steps:
        return limited(spec, steps)
    if EpisodeLimits.of(spec).steps is None:
        with closing(make(spec)) as environment:
            if not has_time_limit(environment):
                raise ConfigError(
                    f"{spec.id} has no time limit, so that an episode may never end; say how many "
                    "steps one has at most: --max-episode-steps N."
                )
    return spec


def _success(results: Sequence[EpisodeResult]) -> str:
    share = success_share(results)
    if share is None:
        return "not reported"
    rate = wilson_interval(share, len(results))
    return f"{rate.value:.1%} [{rate.lower:.1%}, {rate.upper:.1%}], 95 % Wilson"


def run_episodes(
    policy: Policy,
    name: str,
    episodes: int,
    num_workers: int,
    patience_seconds: float = PATIENCE_SECONDS,
) -> list[EpisodeResult]:
    """Runs evaluation episodes with the mean action, from the seeds that training uses.

    Args:
        policy: what acts.
        name: of its run.
        episodes: how many.
        num_workers: local worker processes.
        patience_seconds: see `evaluate`; a worker that hangs is killed and started again.

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
        patience_seconds=patience_seconds,
        eval_environment="training",
    )
    watchdog = Watchdog(patience_seconds)
    with tempfile.TemporaryDirectory() as logs:
        pool = WorkerPool(num_workers, gateway.endpoint, Path(logs), gateway.own_keys)
        try:
            gateway.start()
            pool.start()
            seeds = [FIRST_SEED + index for index in range(episodes)]
            pending = gateway.evaluate(policy.weights, seeds)
            while not pending.finished:
                for incident in watchdog.check(gateway.worker_status()):
                    pool.replace(*incident[:3])
                pool.watch()
                try:
                    pending.result(POLL_SECONDS)
                except TimeoutError:
                    continue
            return pending.result(POLL_SECONDS)
        finally:
            gateway.close()
            pool.stop(timeout_seconds=5.0)
