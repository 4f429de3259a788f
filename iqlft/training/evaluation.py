"""Evaluations: begun by the learner, run by the workers, written down when they finish.

An evaluation uses the weights of the moment at which it began. The learner goes on meanwhile;
evaluations that are unfinished at a checkpoint are stored with it and repeated after a resume.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from iqlft.runs.scores import EpisodeScore, Score
from iqlft_workers.actor import TANH_GAUSSIAN, ActorWeights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from iqlft.gateway.evaluation_queue import PendingEvaluation
    from iqlft.gateway.gateway import Gateway
    from iqlft.runs.folder import Run
    from iqlft_workers.episode import EpisodeResult

FIRST_SEED = 1_000_000
"""Evaluation episode i starts from this seed + i, in every evaluation of every run."""


class _Begun(NamedTuple):
    pending: PendingEvaluation
    weights: ActorWeights
    phase: str
    env_steps: int
    seconds: float
    episodes: int


class Scoring(NamedTuple):
    """How a task's episodes become a score.

    Attributes:
        success: whether success counts, where the environment reports it.
        reference_scores: returns that score 0 and 100, or None.
    """

    success: bool
    reference_scores: tuple[float, float] | None

    def summarize(
        self, results: Sequence[EpisodeResult]
    ) -> tuple[float | None, float, float | None]:
        """Success share, mean return and normalized score of episodes; None: not known.

        If some episodes report success, one that reports nothing counts as a failure.
        """
        mean_return = float(np.mean([each.episode_return for each in results]))
        success = success_share(results) if self.success else None
        if self.reference_scores is None:
            return success, mean_return, None
        low, high = self.reference_scores
        return success, mean_return, 100 * (mean_return - low) / (high - low)


def success_share(results: Sequence[EpisodeResult]) -> float | None:
    """The share of successful episodes, in [0, 1]; None where no episode reports success."""
    if all(each.success is None for each in results):
        return None
    return float(np.mean([bool(each.success) for each in results]))


class Evaluator:
    """Runs evaluations, and writes them down in the order in which they began.

    Args:
        gateway: hands episodes to the workers.
        run: where results are written.
        episodes: per evaluation.
        scoring: how they become a score.

    Attributes:
        scored_weights: those of the newest score; None before the first one.
    """

    def __init__(self, gateway: Gateway, run: Run, episodes: int, scoring: Scoring) -> None:
        self._gateway, self._run = gateway, run
        self._episodes = episodes
        self._scoring = scoring
        self._begun: deque[_Begun] = deque()
        self.scored_weights: ActorWeights | None = None

    @property
    def busy(self) -> bool:
        """Whether an evaluation is in progress."""
        return bool(self._begun)

    @property
    def episodes_done(self) -> int:
        """Finished episodes of the oldest evaluation in progress."""
        return self._begun[0].pending.episodes_done if self._begun else 0

    @property
    def episodes(self) -> int:
        """Episodes of the oldest evaluation in progress, or of the next one."""
        return self._begun[0].episodes if self._begun else self._episodes

    def begin(self, weights: ActorWeights, phase: str, env_steps: int, seconds: float) -> None:
        """Starts an evaluation; `poll` collects it."""
        self._begin(weights, phase, env_steps, seconds, self._episodes)

    def _begin(
        self, weights: ActorWeights, phase: str, env_steps: int, seconds: float, episodes: int
    ) -> None:
        seeds = [FIRST_SEED + index for index in range(episodes)]
        pending = self._gateway.evaluate(weights, seeds)
        self._begun.append(_Begun(pending, weights, phase, env_steps, seconds, episodes))

    def poll(self, timeout_seconds: float = 0.0) -> Score | None:
        """The score of the oldest evaluation in progress, or None if it is not done in time.

        Raises:
            GatewayError: the gateway failed.
        """
        if not self._begun:
            return None
        try:
            results = self._begun[0].pending.result(timeout_seconds)
        except TimeoutError:
            return None
        begun = self._begun.popleft()
        self.scored_weights = begun.weights
        success, mean_return, normalized = self._scoring.summarize(results)
        score = Score(
            begun.phase,
            begun.weights.version,
            begun.env_steps,
            begun.seconds,
            success,
            mean_return,
            normalized,
            len(results),
        )
        episodes = [EpisodeScore(r.seed, r.episode_return, r.length, r.success) for r in results]
        self._run.files.append_score(score, episodes)
        return score

    def state(self) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
        """The evaluations in progress, as tensors and JSON data, for a checkpoint."""
        tensors = {
            f"evaluation.{index}.{name}": torch.tensor(array)
            for index, begun in enumerate(self._begun)
            for name, array in begun.weights.arrays.items()
        }
        return tensors, [
            {
                "kind": begun.weights.kind,
                "settings": dict(begun.weights.settings),
                "version": begun.weights.version,
                "phase": begun.phase,
                "env_steps": begun.env_steps,
                "seconds": begun.seconds,
                "episodes": begun.episodes,
            }
            for begun in self._begun
        ]

    def restore(self, tensors: Mapping[str, Tensor], data: Sequence[Mapping[str, Any]]) -> None:
        """Begins again the evaluations that were unfinished at the checkpoint, as they were."""
        for index, each in enumerate(data):
            prefix = f"evaluation.{index}."
            arrays = {
                key.removeprefix(prefix): tensor.numpy()
                for key, tensor in tensors.items()
                if key.startswith(prefix)
            }
            # Version 0.1 knew a single kind.
            kind, settings = each.get("kind", "gaussian"), each.get("settings", TANH_GAUSSIAN)
            weights = ActorWeights(kind, arrays, settings, each["version"])
            # Checkpoints of before knew no number; none of no episodes has a score.
            if episodes := each.get("episodes", self._episodes):
                self._begin(weights, each["phase"], each["env_steps"], each["seconds"], episodes)
