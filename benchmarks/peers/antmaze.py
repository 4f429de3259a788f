"""The environment that peers of the worker loop step: the same as iqlft's workers do."""

import gymnasium
import numpy as np

import iqlft_workers  # noqa: F401  # registers the environment

ENVIRONMENT_ID = "iqlft/AntMaze-UMaze-v0"


class Flat(gymnasium.ObservationWrapper):
    """Observations as the policy sees them: position and the ant's own, 29 float32."""

    def __init__(self) -> None:
        super().__init__(gymnasium.make(ENVIRONMENT_ID, disable_env_checker=True))
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (29,), np.float32)

    def observation(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """`(29,)` float32."""
        parts = observation["achieved_goal"], observation["observation"]
        return np.concatenate(parts).astype(np.float32)
