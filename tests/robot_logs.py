"""What a robot that nobody can simulate has logged."""

import numpy as np

import iqlft


def log(dataset_id: str, episodes: int, *, seed: int, width: int = 3, scale: float = 1.0) -> None:
    """Makes a dataset of episodes of 10 steps, of an observation of some width and scale."""
    rng = np.random.default_rng(seed)
    walks = scale * rng.normal(size=(episodes, 11, width)).cumsum(1)
    iqlft.create_from_arrays(
        dataset_id,
        observations=walks[:, :-1].reshape(-1, width),
        actions=rng.uniform(-1, 1, (episodes * 10, 2)),
        rewards=rng.normal(size=episodes * 10),
        next_observations=walks[:, 1:].reshape(-1, width),
        terminated=np.zeros(episodes * 10),
        truncated=np.tile(np.arange(10) == 9, episodes),
    )
