"""The wrappers that a recorded environment had: which are put on again, left out, or refused."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from gymnasium.envs.registration import load_env_creator

from iqlft_workers.errors import UserError
from iqlft_workers.trust import require_trust

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import gymnasium

LEFT_OUT = {
    "AddWhiteNoise", "Autoreset", "AutoResetWrapper", "DataCollector", "HumanRendering", "Monitor",
    "NumpyToTorch", "ObstructView", "OrderEnforcing", "PassiveEnvChecker",
    "RecordEpisodeStatistics", "RecordVideo", "RenderCollection",
}  # fmt: skip
"""Wrappers that change no observation, action, reward or end: they check, count, draw or record."""
STATEFUL = {
    "NormalizeObservation", "NormalizeReward", "NormalizeReturn", "VecNormalize",
    "RunningMeanStd", "RunningNormalize",
}  # fmt: skip
"""Wrappers with running statistics, which no dataset records, so that they cannot be restored."""


class WrapperError(UserError):
    """A recorded wrapper cannot be put on again."""


class RecordedWrapper(NamedTuple):
    """What Gymnasium records of a wrapper.

    Attributes:
        name: of its class.
        entry_point: `module:Class`.
        kwargs: of its constructor; None if it does not record them.
    """

    name: str
    entry_point: str
    kwargs: Mapping[str, Any] | None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RecordedWrapper:
        """From JSON data; another form raises `TypeError`."""
        made = cls(**data)
        texts = isinstance(made.name, str) and isinstance(made.entry_point, str)
        if not texts or not isinstance(made.kwargs, dict | None) or ":" not in made.entry_point:
            raise TypeError(f"A wrapper cannot be {dict(data)!r:.99}.")
        return made

    @property
    def class_name(self) -> str:
        """Name of its class, which tells its kind; the recorded `name` may be anything."""
        return self.entry_point.rpartition(":")[2]


def effective(wrappers: Iterable[RecordedWrapper]) -> list[RecordedWrapper]:
    """The wrappers that change something."""
    return [each for each in wrappers if each.class_name not in LEFT_OUT]


def wrap(
    environment: gymnasium.Env[Any, Any], wrappers: Sequence[RecordedWrapper], *, trust: bool
) -> gymnasium.Env[Any, Any]:
    """Puts recorded wrappers on again, as `gymnasium.make` does.

    Args:
        environment: the bare one, with its time limit.
        wrappers: from the inside out; if they begin with those that the environment's registration
            has put on, these are not put on twice.
        trust: whether the user trusts code that no installed package registers.

    Raises:
        WrapperError: a wrapper's state is lost, or its arguments were not recorded.
        UntrustedError: a wrapper is neither Gymnasium's own nor that of a registered environment.
    """
    own = environment.spec.additional_wrappers if environment.spec is not None else ()
    pairs = itertools.zip_longest(own, wrappers[: len(own)])
    if own and all(a and b and a.entry_point == b.entry_point for a, b in pairs):
        wrappers = wrappers[len(own) :]
    for wrapper in effective(wrappers):
        _require_same_again(wrapper)
        kwargs = dict(wrapper.kwargs or {})
        require_trust(f"the wrapper {wrapper.name}", [wrapper.entry_point], kwargs, trust=trust)
        make: Any = load_env_creator(wrapper.entry_point)
        environment = make(env=environment, **kwargs)
    return environment


def _require_same_again(wrapper: RecordedWrapper) -> None:
    if wrapper.class_name in STATEFUL:
        raise WrapperError(
            f"The data were recorded behind {wrapper.class_name}, whose running statistics they do "
            "not hold, so that no environment has the same observations or rewards; record without "
            "it (--normalize-observations is the learner's own), or name an environment that has "
            "them (--environment ID)."
        )
    if wrapper.kwargs is None:
        raise WrapperError(
            f"The data were recorded behind {wrapper.class_name}, which does not say how it was "
            "made (it is no gymnasium.utils.RecordConstructorArgs); register the wrapped "
            "environment under an id and name that (--environment ID)."
        )
