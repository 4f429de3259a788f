"""Errors that an environment's own code raises while it runs, in one sentence.

The code may be anybody's: whatever it raises is no fault of this program and ends in no traceback.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium

from iqlft_workers.errors import FAILED, UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gymnasium.envs.registration import EnvSpec


RAISED = Exception, SystemExit
"""What a user's code may raise: anything, and `sys.exit` in it is no wish to end the program."""


class EnvironmentFailedError(UserError):
    """An environment has raised an error in `reset` or `step`; its cause is that error."""

    worker_exit_code = FAILED


class Reported(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment that reports in one sentence what its code has raised.

    Args:
        env: the environment.
        name: its name in the sentence.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], name: str) -> None:
        super().__init__(env)
        self._name = name

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]  # Gymnasium's is a property too
        """The environment's own spec, so that data recorded in it do not name this wrapper."""
        return self.env.spec

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """See `gymnasium.Env.reset`.

        Raises:
            EnvironmentFailedError: it has raised an error, or does not return these values.
        """
        try:
            observation, info = self.env.reset(seed=seed, options=dict(options or {}) or None)
        except UserError:
            raise
        except RAISED as error:
            raise self._failure("reset", error) from error
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:  # noqa: ANN401
        """See `gymnasium.Env.step`.

        Raises:
            EnvironmentFailedError: it has raised an error, or does not return these values.
        """
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
        except UserError:
            raise
        except RAISED as error:
            raise self._failure("step", error) from error
        return observation, reward, terminated, truncated, info

    def _failure(self, call: str, error: BaseException) -> EnvironmentFailedError:
        return EnvironmentFailedError(
            f"{self._name!r} has failed in {call} ({described(error)}); mend the environment, then "
            "repeat the command, or resume the run."
        )


def described(error: BaseException) -> str:
    """Kind and text of an error, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text:.300}" if text else type(error).__name__
