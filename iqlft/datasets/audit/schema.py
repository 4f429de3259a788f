"""The form that every Minari dataset must have, whatever was recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces

from iqlft.datasets.antmaze.bands import AT_BOUNDS, BANDS
from iqlft.datasets.audit.findings import Band, Finding, form, measurement, show
from iqlft.datasets.reading import recorded_actions_refusal, usable
from iqlft_workers.actions import unbounded_ends
from iqlft_workers.observation import observed_leaves, pick, usable_keys

if TYPE_CHECKING:
    import minari
    from numpy.typing import NDArray

    from iqlft.datasets.reading import RecordedEpisode

_MISALIGNED = "episodes without T+1 observations"
"""Or whose numbers of actions or flags differ from that of rewards."""
_UNTYPED = "arrays of another dtype or shape"
"""Other than those of the spaces; a different precision of the same kind is accepted."""
_NOT_FINITE = "values that are not finite"
"""Or too great for float32; in observations, actions and rewards."""
_ENDS_WITHIN = "episodes that end before their last step"
"""Terminated or truncated at a step that is not the last."""
_ENDLESS = "episodes that just stop"
"""Neither terminated nor truncated at the last step, which is read as truncated."""
_UNBOUNDED = "bounds of actions that are not finite"
"""Counted over the lower and upper bounds of all values of an action."""
_FEW_STEPS = 100
"""Fewer steps of float32 within the range of an observation's value are called coarse."""


class SchemaCheck:
    """Collects, episode by episode, what is wrong with the form of a dataset.

    Args:
        dataset: whose spaces and announced numbers are checked against.

    Raises:
        EnvironmentMismatchError: no part of the observations can be learned from.
    """

    def __init__(self, dataset: minari.MinariDataset) -> None:
        self._dataset = dataset
        space = dataset.observation_space
        if not usable_keys(space):
            observed_leaves(space)  # Raises, and says why.
        self.keys = tuple(key for key in usable_keys(space) if key)
        self._counts = dict.fromkeys((_MISALIGNED, _UNTYPED, _NOT_FINITE, _ENDS_WITHIN), 0)
        self._terminated = self._endless = 0
        self._lengths: list[int] = []
        self._returns: list[float] = []
        band = BANDS.get(dataset.id, {}).get(AT_BOUNDS)
        self._actions = _ActionStatistics(dataset.action_space, band)
        self._observations = _ObservationRanges()

    def add(self, episode: RecordedEpisode) -> bool:
        """Checks the next episode; returns whether its lengths and shapes are right."""
        observations = [pick(episode.observations, key) for key in self.keys or ("",)]
        declared = [pick(self._dataset.observation_space, key) for key in self.keys or ("",)]
        steps = len(episode.rewards)
        aligned = [len(array) == steps + 1 for array in observations]
        ends = episode.terminations, episode.truncations
        aligned += [len(array) == steps for array in (episode.actions, *ends)]
        arrays, expected = [*observations, episode.actions], [*declared, self._dataset.action_space]
        self._count(_MISALIGNED, not all(aligned))
        self._count(_UNTYPED, sum(map(_differs, arrays, expected)))
        shaped = all(a.shape[1:] == e.shape for a, e in zip(arrays, expected, strict=True))
        for array in (*arrays, episode.rewards):
            self._count(_NOT_FINITE, np.count_nonzero(~usable(array)))
        self._count(_ENDS_WITHIN, any(end[:-1].any() for end in ends))
        self._endless += not any(end[-1:].any() for end in ends)
        self._terminated += bool(episode.terminations[-1:].any())
        self._lengths.append(steps)
        with np.errstate(all="ignore"):
            self._returns.append(float(episode.rewards.sum(dtype=np.float64)))
            self._actions.add(episode.actions)
        sound = all(aligned) and shaped and steps > 0
        if sound:
            self._observations.add(
                np.hstack([each.reshape(steps + 1, -1) for each in observations])
            )
        return sound

    def _count(self, name: str, number: Any) -> None:  # noqa: ANN401  (bools and NumPy's integers)
        self._counts[name] += int(number)

    @property
    def num_transitions(self) -> int:
        """Number of transitions in the episodes so far."""
        return sum(self._lengths)

    def findings(self, unreadable: str = "") -> list[Finding]:
        """The findings about the dataset's form.

        Args:
            unreadable: why reading stopped before the end, or empty.
        """
        announced = int(self._dataset.total_episodes), int(self._dataset.total_steps)
        return [
            form("episodes", len(self._lengths), announced[0], unreadable),
            form("transitions", self.num_transitions, announced[1]),
            *(form(name, number) for name, number in self._counts.items()),
            self._bounds(),
            measurement("episodes that terminate", self._terminated),
            measurement(_ENDLESS, self._endless),
            _spread("median length (steps)", self._lengths),
            _spread("median return", self._returns),
            *self._actions.findings(),
            *self._observations.findings(),
        ]

    def _bounds(self) -> Finding:
        """Whether the actions can be learned, and if not, what to do."""
        space, refusal = self._dataset.action_space, recorded_actions_refusal(self._dataset)
        if isinstance(space, spaces.Box):
            return form(_UNBOUNDED, unbounded_ends(space), note=refusal)
        return form("action spaces that cannot be learned", int(bool(refusal)), note=refusal)


class _ActionStatistics:
    """Statistics of all actions of a dataset.

    Args:
        space: the action space; there are no statistics unless it is a Box.
        band: expected share of values at the bounds.
    """

    def __init__(self, space: spaces.Space[Any], band: Band | None) -> None:
        self._band = band
        self._space = space if isinstance(space, spaces.Box) else None
        self._values = self._clipped = 0
        self._moments = np.zeros((3, *(space.shape or ())))

    def add(self, actions: NDArray[Any]) -> None:
        """Adds an episode's actions, `(T, A)`."""
        if self._space is None or actions.shape[1:] != self._space.shape:
            return
        exact = np.asarray(actions, np.float64)
        self._moments += np.stack([np.ones_like(exact), exact, exact**2]).sum(1)
        self._values += actions.size
        clipped = (actions <= self._space.low) | (actions >= self._space.high)
        self._clipped += int(np.count_nonzero(clipped))

    def findings(self) -> list[Finding]:
        """Standard deviation per dimension, and the share of values at the bounds of the space."""
        if not self._values:
            return []
        number, total, squares = self._moments
        deviations = np.sqrt(np.maximum(squares / number - (total / number) ** 2, 0))
        mean = float(deviations.mean())
        note = f"{show(deviations.min())} to {show(deviations.max())} by dimension"
        return [
            measurement("mean standard deviation of an action value", mean, note=note),
            measurement(AT_BOUNDS, self._clipped / self._values, self._band),
        ]


class _ObservationRanges:
    """The range of every value of an observation, beside the steps that float32 has there."""

    def __init__(self) -> None:
        self._least = self._greatest = np.full(1, np.nan)

    def add(self, observations: NDArray[Any]) -> None:
        """Adds an episode's observations, `(T+1, O)`; values that are not finite do not count."""
        finite = np.where(usable(observations), observations, np.nan)
        self._least = np.fmin(self._least, np.fmin.reduce(finite))
        self._greatest = np.fmax(self._greatest, np.fmax.reduce(finite))

    def findings(self) -> list[Finding]:
        """The ranges, and how many of them float32, the type that training uses, rounds away.

        An example is a Unix time: around 1.8e9 the steps of float32 are 128 seconds.
        """
        ranges = self._greatest - self._least
        if not np.isfinite(ranges).all():
            return []
        steps = np.spacing(np.maximum(-self._least, self._greatest).astype(np.float32))
        coarse = np.flatnonzero((ranges > 0) & (ranges < _FEW_STEPS * steps))
        note = ""
        if len(coarse):
            first = coarse[0]
            least, greatest = self._least[first], self._greatest[first]
            note = (
                f"value {first} is {least:.12g} to {greatest:.12g}, where float32 has steps of "
                f"{steps[first]:.3g}; take an offset off, in the environment too"
            )
        spread = f"{show(ranges.min())} to {show(ranges.max())} by dimension"
        return [
            measurement("median range of an observation value", np.median(ranges), note=spread),
            measurement("observation values that float32 rounds coarsely", len(coarse), note=note),
        ]


def _differs(array: NDArray[Any], space: spaces.Space[Any]) -> bool:
    kind = None if space.dtype is None else space.dtype.kind
    return array.dtype.kind != kind or array.shape[1:] != space.shape


def _spread(name: str, values: list[float] | list[int]) -> Finding:
    if not values:
        return Finding(name, None)
    low, middle, high = np.quantile(values, (0, 0.5, 1))
    return measurement(name, float(middle), note=f"{show(low)} to {show(high)}")
