"""`iqlft evaluate`: episodes of a policy in worker processes, as in training."""

from __future__ import annotations

import math
import shutil
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from iqlft.analysis.restored import restored
from iqlft.analysis.statistics import t_interval, wilson_interval
from iqlft.config.settings import ConfigError
from iqlft.datasets.time_limit import has_time_limit, limit_of, limited
from iqlft.gateway.gateway import Gateway
from iqlft.gateway.service import Service
from iqlft.gateway.watchdog import PATIENCE_SECONDS, Watchdog
from iqlft.runs.best import BEST
from iqlft.runs.checkpoint import names, names_at
from iqlft.runs.errors import RunError
from iqlft.runs.folder import Run
from iqlft.runs.policy import Policy, load_policy
from iqlft.training.evaluation import FIRST_SEED, success_share
from iqlft_workers.actor import ACTORS
from iqlft_workers.environment import make, require_named, require_trusted
from iqlft_workers.errors import UserError
from iqlft_workers.launchers.local import WorkerError, WorkerPool
from iqlft_workers.transition import RowLayout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from iqlft.analysis.statistics import Estimate
    from iqlft_workers.environment import EnvironmentSpec
    from iqlft_workers.episode import EpisodeResult

    Progress = Callable[[int, int], None]
    """Called with the numbers of finished and of all episodes."""

POLL_SECONDS = 0.5


class EpisodesNotFiniteError(UserError):
    """All episodes of an evaluation ended at a value that is not finite."""


class Evaluation(NamedTuple):
    """The results of a policy's episodes.

    Attributes:
        run: a run folder, or an exported policy.
        policy: the policy that acted.
        results: result of each episode, in the order of the seeds; an episode that ended at a value
            that is not finite has no return.
    """

    run: Path
    policy: Policy
    results: Sequence[EpisodeResult]

    @property
    def success(self) -> Estimate | None:
        """Share of successful episodes, with Wilson's interval; None where it is not reported."""
        share = success_share(self.results)
        return None if share is None else wilson_interval(share, len(self.results))

    @property
    def returns(self) -> list[float]:
        """Returns of the episodes that have one."""
        returns = [each.episode_return for each in self.results]
        return [each for each in returns if math.isfinite(each)]

    @property
    def mean_return(self) -> Estimate:
        """Mean return of the episodes that have one, with Student's interval."""
        return t_interval(self.returns)

    def rows(self) -> list[tuple[str, str]]:
        """Names and texts: success with its interval, return and length."""
        rate, mean, lost = self.success, self.mean_return, len(self.results) - len(self.returns)
        between = f" [{mean.lower:.2f}, {mean.upper:.2f}], 95 % t" if mean.has_interval else ""
        interval = rate and f"{rate.value:.1%} [{rate.lower:.1%}, {rate.upper:.1%}], 95 % Wilson"
        evaluated = ACTORS[self.policy.weights.kind].evaluated
        rows = [
            ("policy", f"{self.run}, {self.policy.weights.version:,} updates"),
            ("environment", self.policy.environment.id),
            ("episodes", f"{len(self.results)}, {evaluated}, seeds from {FIRST_SEED}"),
            ("success", interval or "not reported"),
            ("return", f"{mean.value:.2f}{between}"),
            ("length", f"mean {np.mean([each.length for each in self.results]):.0f} steps"),
        ]
        if lost:
            text = f"{lost} of {len(self.results)} episodes, which have no return"
            rows.append(("not finite", text))
        return rows

    def numbers(self) -> dict[str, Any]:
        """The same figures for JSON, and those of every episode."""
        return {
            "policy": str(self.run),
            "updates": self.policy.weights.version,
            "environment": self.policy.environment.id,
            "first_seed": FIRST_SEED,
            "success": self.success and self.success._asdict(),
            "return": self.mean_return._asdict(),
            "episodes": [
                {
                    "success": each.success,
                    "return": each.episode_return if math.isfinite(each.episode_return) else None,
                    "length": each.length,
                }
                for each in self.results
            ],
        }


def evaluation(
    run: Path,
    episodes: int,
    num_workers: int,
    *,
    trust: bool = False,
    patience_seconds: float = PATIENCE_SECONDS,
    max_episode_steps: int = 0,
    checkpoint: str = "",
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluates a policy of a run.

    Args:
        run: a run folder, or an exported policy.
        episodes: how many.
        num_workers: local worker processes.
        trust: whether the policy's environment may be made though no package registers it.
        patience_seconds: how long its environment may take to be built, to reset or to step.
        max_episode_steps: time limit of an episode; 0: that of the environment.
        checkpoint: name, or updates, of one of the run's checkpoints; `best`, if that policy is
            kept; empty: the newest policy.
        progress: called with the numbers of finished and of all episodes.

    Raises:
        UserError: there is no such policy, a number makes no sense, or no episode is finite.
    """
    policy = _policy(run, checkpoint, trust=trust)
    policy.environment = _with_time_limit(policy.environment, max_episode_steps)
    results = run_episodes(policy, run.name, episodes, num_workers, patience_seconds, progress)
    if not any(math.isfinite(each.episode_return) for each in results):
        raise EpisodesNotFiniteError(
            f"All {episodes} episodes in {policy.environment.id} ended at a value that is not "
            "finite, perhaps because the simulation has diverged; mend it, for example by a "
            "shorter time step or narrower actions."
        )
    return Evaluation(run, policy, results)


def _policy(run: Path, name: str, *, trust: bool) -> Policy:
    """The newest policy, that of a checkpoint, or the best one.

    Raises:
        RunError: there is no such checkpoint.
    """
    newest = load_policy(run, trust=trust)
    if not name:
        return newest
    best, checkpoints = run / BEST, run / "checkpoints"
    if name == BEST and best.is_dir():
        return load_policy(best, trust=newest.environment.trust)
    there = names(checkpoints) if checkpoints.is_dir() else []
    at = names_at(checkpoints, int(name)) if there and name.isdecimal() else []
    chosen = name if name in there else at[-1] if at else ""
    if not chosen:
        known = ", ".join([*there, *[BEST] * best.is_dir()]) or "none"
        raise RunError(f"There is no checkpoint {name} in {run}; there are: {known}.")
    return Policy(restored(Run.open(run), newest, chosen).actor_weights(), newest.environment)


def _with_time_limit(spec: EnvironmentSpec, steps: int) -> EnvironmentSpec:
    """An environment with a time limit; those of earlier versions' policies may lack one.

    Raises:
        ConfigError: there is no time limit.
    """
    if steps:
        return limited(spec, steps)
    if limit_of(spec) is None:
        with closing(make(spec)) as environment:
            if not has_time_limit(environment):
                raise ConfigError(
                    f"{spec.id} has no time limit, so that an episode may never end; say how many "
                    "steps one has at most: --max-episode-steps N."
                )
    return spec


def run_episodes(
    policy: Policy,
    name: str,
    episodes: int,
    num_workers: int,
    patience_seconds: float = PATIENCE_SECONDS,
    progress: Progress | None = None,
) -> list[EpisodeResult]:
    """Runs evaluation episodes as training does, from the same seeds.

    Args:
        policy: the policy that acts.
        name: name of its run.
        episodes: how many.
        num_workers: local worker processes.
        patience_seconds: see `evaluation`; a worker that hangs is killed and started again.
        progress: called with the numbers of finished and of all episodes.

    Returns:
        The result of each episode, in the order of the seeds.

    Raises:
        ConfigError: there are to be no episodes, or no workers.
        WorkerError: the workers keep dying.
    """
    if episodes < 1 or num_workers < 1:
        raise ConfigError("--episodes and --workers must be at least 1.")
    # Refused here, before workers start and report it only in their logs.
    require_named(policy.environment)
    require_trusted(policy.environment)
    service = Service(
        environment=policy.environment,
        layout=RowLayout(policy.weights.observation_dim, policy.weights.action_dim),
        run_id=name,
        seed=0,
        num_workers=num_workers,
        local_workers=num_workers,
        patience_seconds=patience_seconds,
        eval_environment="training",
    )
    gateway = Gateway(service)
    watchdog = Watchdog(patience_seconds)
    with _log_folder() as logs:
        pool = WorkerPool(num_workers, gateway.endpoint, logs, gateway.own_keys)
        try:
            gateway.start()
            pool.start()
            seeds = [FIRST_SEED + index for index in range(episodes)]
            pending = gateway.evaluate(policy.weights, seeds)
            while not pending.finished:
                for incident in watchdog.check(gateway.worker_status()):
                    pool.replace(*incident[:3])
                pool.watch()
                if progress is not None:
                    progress(pending.episodes_done, episodes)
                try:
                    pending.result(POLL_SECONDS)
                except TimeoutError:
                    continue
            return pending.result(POLL_SECONDS)
        finally:
            gateway.close()
            pool.stop(timeout_seconds=5.0)


@contextmanager
def _log_folder() -> Iterator[Path]:
    """A folder for the workers' logs, which stays only if an error message names it."""
    folder, named = Path(tempfile.mkdtemp(prefix="iqlft-evaluation-")), False
    try:
        yield folder
    except WorkerError as error:
        named = str(folder) in str(error)
        raise
    finally:
        if not named:
            shutil.rmtree(folder, ignore_errors=True)
