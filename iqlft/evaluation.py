"""Evaluations: begun by the learner, run by the workers, written to `curves.csv` when they finish.

An evaluation belongs to the weights of the moment it began. The learner goes on meanwhile; an
evaluation that is unfinished at a checkpoint is stored with it and repeated after a resume.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from workers.actor import ActorWeights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from iqlft.gateway import Gateway, PendingEvaluation
    from iqlft.runs import Run
    from workers.episode import EpisodeResult

FIRST_SEED = 1_000_000
"""Evaluation episode i starts from this seed + i, in every evaluation of every run."""


class Score(NamedTuple):
    """One evaluation's figures.

    Attributes:
        phase: `offline` or `online`.
        updates: total updates behind the weights.
        env_steps: online environment steps so far.
        seconds: training time so far.
        success: share of successful episodes, None where the environment reports none.
        mean_return: mean return, before the reward transform.
        normalized_score: 0 to 100 between the dataset's reference scores, None without them.
        episodes: number of episodes.
    """

    phase: str
    updates: int
    env_steps: int
    seconds: float
    success: float | None
    mean_return: float
    normalized_score: float | None
    episodes: int

    def row(self) -> tuple[object, ...]:
        """The values in the order of `curves.csv`."""
        rounded = None if self.normalized_score is None else round(self.normalized_score, 4)
        middle = (round(self.seconds, 1), self.success, round(self.mean_return, 6), rounded)
        head = (self.phase, self.updates, self.env_steps)
        return (*head, *middle, self.episodes, self.updates)


class _Begun(NamedTuple):
    pending: PendingEvaluation
    weights: ActorWeights
    phase: str
    env_steps: int
    seconds: float


class Scoring(NamedTuple):
    """How a task's episodes become a score.

    Attributes:
        success: whether its environment reports success.
        reference_scores: returns that score 0 and 100, or None.
    """

    success: bool
    reference_scores: tuple[float, float] | None

    def summarize(
        self, results: Sequence[EpisodeResult]
    ) -> tuple[float | None, float, float | None]:
        """Success share, mean return and normalized score of episodes; None: not known."""
        mean_return = float(np.mean([each.episode_return for each in results]))
        success = float(np.mean([each.success for each in results])) if self.success else None
        if self.reference_scores is None:
            return success, mean_return, None
        low, high = self.reference_scores
        return success, mean_return, 100 * (mean_return - low) / (high - low)


class Evaluator:
    """Runs at most one evaluation at a time.

    Args:
        gateway: hands episodes to the workers.
        run: where results are written.
        episodes: per evaluation.
        scoring: how they become a score.
    """

    def __init__(self, gateway: Gateway, run: Run, episodes: int, scoring: Scoring) -> None:
        self._gateway, self._run = gateway, run
        self._seeds = [FIRST_SEED + index for index in range(episodes)]
        self._scoring = scoring
        self._begun: _Begun | None = None

    @property
    def busy(self) -> bool:
        """Whether an evaluation is under way."""
        return self._begun is not None

    @property
    def episodes_done(self) -> int:
        """Finished episodes of the evaluation under way."""
        return self._begun.pending.episodes_done if self._begun else 0

    def begin(self, weights: ActorWeights, phase: str, env_steps: int, seconds: float) -> None:
        """Starts an evaluation; `poll` or `wait` collects it."""
        pending = self._gateway.evaluate(weights, self._seeds)
        self._begun = _Begun(pending, weights, phase, env_steps, seconds)

    def poll(self, timeout_seconds: float = 0.0) -> Score | None:
        """The score, once, when the evaluation has finished within the timeout.

        Raises:
            GatewayError: the gateway failed.
        """
        if self._begun is None:
            return None
        try:
            results = self._begun.pending.result(timeout_seconds)
        except TimeoutError:
            return None
        begun, self._begun = self._begun, None
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
        self._run.append_curve(score.row())
        return score

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The evaluation under way, as tensors and JSON data, for a checkpoint."""
        if self._begun is None:
            return {}, {}
        weights = self._begun.weights
        arrays = {f"weight.{i}": each for i, each in enumerate(weights.weights)}
        arrays |= {f"bias.{i}": each for i, each in enumerate(weights.biases)}
        arrays |= {name: getattr(weights, name) for name in _VECTORS}
        tensors = {f"evaluation.{key}": torch.tensor(each) for key, each in arrays.items()}
        return tensors, {
            "version": weights.version,
            "phase": self._begun.phase,
            "env_steps": self._begun.env_steps,
            "seconds": self._begun.seconds,
        }

    def restore(self, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
        """Begins again an evaluation that was unfinished at the checkpoint."""
        if not data:
            return

        def numbered(name: str) -> tuple[Any, ...]:
            keys = (f"evaluation.{name}.{i}" for i in range(len(tensors)))
            return tuple(tensors[key].numpy() for key in keys if key in tensors)

        vectors = {name: tensors[f"evaluation.{name}"].numpy() for name in _VECTORS}
        weights = ActorWeights(
            numbered("weight"), numbered("bias"), **vectors, version=data["version"]
        )
        self.begin(weights, data["phase"], data["env_steps"], data["seconds"])


_VECTORS = ("log_std", "observation_mean", "observation_std")
