"""A user's own environments: a point that shall come to (0.3, 0.3), with bounds that are not +-1.

Importing this module registers one of them, in a worker process too; `Unlisted` nobody registers.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from minari.data_collector.episode_buffer import EpisodeBuffer
from numpy.typing import NDArray

ID, ENTRY_POINT = "OwnSkewed-v0", "own_environments:Skewed"
STEPS = 20
Pair = NDArray[np.float64]


class Skewed(gymnasium.Env[Pair, NDArray[np.float32]]):
    """Actions in [0.1, 0.7] x [0, 1.3]; one outside is an error.

    Args:
        far: how far from the middle of the actions the point may start.
        render_mode: `human` is an error, for nobody is to open a window.
    """

    metadata = {"render_modes": ["human"], "render_fps": 30}  # noqa: RUF012 -- as Gymnasium has it

    def __init__(self, far: float = 1.0, render_mode: str | None = None) -> None:
        if render_mode == "human":
            raise RuntimeError("no display for a window")
        low, high = np.array([0.1, 0.0], np.float32), np.array([0.7, 1.3], np.float32)
        self.action_space = spaces.Box(low, high)
        self.observation_space = spaces.Box(-10.0, 10.0, (2,), np.float64)
        self.far, self._place = far, np.zeros(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Pair, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._place = self.np_random.uniform(-self.far, self.far, 2)
        return self._place.copy(), {"success": False}

    def step(self, action: NDArray[np.float32]) -> tuple[Pair, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self._place = np.clip(self._place + 0.2 * (action - [0.4, 0.65]), -10, 10)
        distance = float(np.linalg.norm(self._place - 0.3))
        return self._place.copy(), -distance, distance < 0.05, False, {"success": distance < 0.05}


class Unlisted(Skewed):
    """The same, registered nowhere."""


def episodes(
    environment: gymnasium.Env[Any, Any], number: int = 8, steps: int = STEPS
) -> list[EpisodeBuffer]:
    """Episodes of random actions, of up to `steps` steps."""
    environment.action_space.seed(0)
    made = []
    for index in range(number):
        seen, acted, rewards, ends = [environment.reset(seed=index)[0]], [], [], []
        for _ in range(steps):
            acted.append(environment.action_space.sample())
            observation, reward, terminated, truncated, _ = environment.step(acted[-1])
            seen.append(observation)
            rewards.append(float(reward))
            ends.append((terminated, truncated))
            if terminated or truncated:
                break
        terminations, truncations = np.array(ends).T
        buffer = EpisodeBuffer(
            id=index, observations=np.stack(seen), actions=np.stack(acted),
            rewards=np.array(rewards), terminations=terminations, truncations=truncations,
        )  # fmt: skip
        made.append(buffer)
    return made


if ID not in gymnasium.registry:
    gymnasium.register(ID, ENTRY_POINT, max_episode_steps=STEPS)
