"""Stable-Baselines3's SubprocVecEnv, driven by its own policy of the published size."""

import os

import peer
from antmaze import Flat
from peer import HIDDEN
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import SubprocVecEnv
from timing import rate
from torch import nn

if __name__ == "__main__":
    count = int(os.environ["PEER_COUNT"])
    environments = SubprocVecEnv([Flat] * count)
    policy = ActorCriticPolicy(
        environments.observation_space,
        environments.action_space,
        lambda _: peer.LEARNING_RATE,
        net_arch={"pi": [HIDDEN, HIDDEN], "vf": []},
        activation_fn=nn.ReLU,
    )
    observations = environments.reset()

    def step() -> None:
        """Steps every environment once; nothing is stored."""
        global observations
        observations, *_ = environments.step(policy.predict(observations)[0])

    rate(step, 1.0)
    peer.serve_steps(
        lambda seconds: count * rate(step, seconds), "stable-baselines3", "torch", "mujoco"
    )
    environments.close()
