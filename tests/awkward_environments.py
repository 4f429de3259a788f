"""A user's environment whose code fails, or whose numbers are not finite, where it is told to.

Importing this module registers it, in a worker process too.
"""

import os
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

ID, STEPS = "Awkward-v0", 20
Place = NDArray[np.float64]


class Awkward(gymnasium.Env[Place, NDArray[np.float32]]):
    """A point that is pushed.

    Args:
        fails: the call that raises: `constructor`, `reset`, `step` or `close`.
        spoils: what is not finite: `observation`, `reward`, or the `first` observation; or `shape`,
            an observation of another one, or `success`, which is then no yes or no.
        at: the step that it concerns, the first is 0.
        share: of the episodes, which their seeds choose.
        exits: whether it leaves by `sys.exit` rather than raise an error.
        owner: a file that holds a process id; in that process all is well.
    """

    def __init__(
        self,
        fails: str = "",
        spoils: str = "",
        at: int = 3,
        share: float = 1.0,
        *,
        exits: bool = False,
        owner: str = "",
    ) -> None:
        here = owner and Path(owner).read_text(encoding="utf-8") == str(os.getpid())
        self.fails, self.spoils = ("", "") if here else (fails, spoils)
        self.at, self.share, self.exits = at, share, exits
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self._place, self._count, self._unlucky = np.zeros(2), 0, True
        self._raise("constructor")

    def _raise(self, call: str) -> None:
        if self.fails == call:
            if self.exits:
                sys.exit(0)
            raise RuntimeError("the licence server\nis not reached")

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Place, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._raise("reset")
        self._place, self._count = self.np_random.uniform(-1, 1, 2), 0
        self._unlucky = self.np_random.uniform() < self.share
        return self._spoilt("first", self._place), {}

    def step(self, action: NDArray[np.float32]) -> tuple[Place, float, bool, bool, dict[str, Any]]:
        if self._count == self.at:
            self._raise("step")
        self._place = self._place + 0.1 * action
        self._count += 1
        reward = float(self._spoilt("reward", self._place[:1])[0])
        info = {"success": 0.5 if self.spoils == "success" else False}
        return self._spoilt("observation", self._place), reward, False, False, info

    def _spoilt(self, what: str, values: Place) -> Place:
        if self.spoils == what and self._unlucky and (what == "first" or self._count > self.at):
            return np.where(np.arange(len(values)) == 0, np.nan, values)
        return np.append(values, 0.0) if self.spoils == "shape" else values.copy()

    def close(self) -> None:
        self._raise("close")


if ID not in gymnasium.registry:
    gymnasium.register(ID, "awkward_environments:Awkward", max_episode_steps=STEPS)
