"""Trains the goal-reaching ant that generates the data: `python results/data/train_gait.py`.

First a teacher: soft actor-critic on D4RL's ant without a maze, rewarded for its velocity along a
direction that changes every 40-160 steps. An episode is truncated when the ant lies on its back: a
fall costs nothing, and getting up is never practised. The ant is symmetric under quarter turns, so
a quarter of every batch is turned by each of them, and the ant is fast in every direction of a
maze; without that it was much slower along one axis than along the other, with the same average
speed. Then a student, with which the data are made: a network that knows only what its teacher does
in 30,000 ordinary steps, with its actions driven towards their bounds. Like D4RL's ant, which was
trained for so long that it met nothing else, it walks well as long as nothing happens; a wall, a
corner or the noise of the data can throw it over or leave it stuck, and it never gets up.

It does not use `iqlft.algorithms.sac`: this file is how v1.npz was made, and other random streams
would give another ant.

The numbers of updates and the seed determine the result on a given machine.
"""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from iqlft.datasets.antmaze.gait import ACTION_DIM, OBSERVATION_DIM, Gait, load_gait
from iqlft.datasets.audit.ant_walk import upside_down
from iqlft_workers.mazes import FRAME_SKIP, ant_spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

HIDDEN, BATCH, NUM_ANTS, EPISODE_STEPS = 256, 256, 4, 500
RANDOM_STEPS = 10_000
"""Steps of random actions before the first update."""
DISCOUNT, LEARNING_RATE, TARGET_UPDATE_RATE, FIRST_ALPHA = 0.99, 3e-4, 0.005, 0.1
TARGET_ENTROPY = -ACTION_DIM
LOG_STD_BOUNDS = -5, 2
CAPACITY = 1_000_000
STUDENT_STEPS, STUDENT_NOISE, STUDENT_SCALE = 30_000, 0.1, 3.0
"""Steps that a student learns from, standard deviation of the noise on their actions, and factor on
the teacher's means before tanh."""
STUDENT_UPDATES, STUDENT_LEARNING_RATE, STUDENT_STD_WEIGHT = 12_000, 1e-3, 0.1
"""Of the student's training; the learning rate falls to 0 on a cosine."""


class DirectionalAnt:
    """An ant on a plane, rewarded for its velocity (m/s) along a direction.

    Args:
        model: the ant.
        rng: source of directions and starts.
    """

    def __init__(self, model: mujoco.MjModel, rng: np.random.Generator) -> None:
        self._model, self._rng, self._data = model, rng, mujoco.MjData(model)

    def reset(self) -> NDArray[np.float32]:
        """Starts an episode, every other one with a random heading; returns `(29,)`."""
        mujoco.mj_resetData(self._model, self._data)
        qpos, rng = self._data.qpos, self._rng
        yaw = rng.uniform(0, 2 * np.pi) * (rng.random() < 0.5)
        qpos[2] = 0.75
        qpos[3:7] = [math.cos(yaw / 2), 0, 0, math.sin(yaw / 2)]
        qpos[7:] += rng.uniform(-0.1, 0.1, 8)
        self._data.qvel[:] = rng.normal(0, 0.1, 14)
        mujoco.mj_forward(self._model, self._data)
        self._steps = 0
        self._turn()
        return self._observe()

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool]:
        """Returns the next observation `(29,)`, the speed, and whether the episode is over."""
        before = self._data.qpos[:2].copy()
        self._data.ctrl[:] = action
        mujoco.mj_step(self._model, self._data, nstep=FRAME_SKIP)
        seconds = self._model.opt.timestep * FRAME_SKIP
        speed = float((self._data.qpos[:2] - before) @ self._direction) / seconds
        self._steps += 1
        self._until_turn -= 1
        if self._until_turn <= 0:
            self._turn()
        fallen = bool(upside_down(self._data.qpos[None, 3:7])[0])
        return self._observe(), speed, self._steps >= EPISODE_STEPS or fallen

    def _turn(self) -> None:
        angle = self._rng.uniform(0, 2 * np.pi)
        self._direction = np.array([np.cos(angle), np.sin(angle)])
        self._until_turn = int(self._rng.integers(40, 160))

    def _observe(self) -> NDArray[np.float32]:
        parts = (self._data.qpos[2:], self._data.qvel, self._direction)
        return np.concatenate(parts, dtype=np.float32)


def _critic() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Linear(OBSERVATION_DIM + ACTION_DIM, HIDDEN), nn.LayerNorm(HIDDEN), nn.ReLU()),
        *(nn.Linear(HIDDEN, HIDDEN), nn.LayerNorm(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1)),
    )


def _actor() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Linear(OBSERVATION_DIM, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU()),
        nn.Linear(HIDDEN, 2 * ACTION_DIM),
    )


def _q(critics: nn.ModuleList, observations: Tensor, actions: Tensor) -> Tensor:
    """Values `(2, B)` of both critics, float32."""
    inputs = torch.cat([observations, actions], -1)
    return torch.stack([critic(inputs).squeeze(-1).float() for critic in critics])


def quarter_turn() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The symmetry of a quarter turn, which puts each leg in the place of the next one.

    Returns:
        Places and signs: `row[places] * signs` is a replay row `(67,)` after the turn.
    """
    observation, signs = np.arange(OBSERVATION_DIM), np.ones(OBSERVATION_DIM)
    # x' = -y and y' = x in the quaternion, the velocities, and the direction.
    for x in (2, 13, 16, 27):
        observation[[x, x + 1]], signs[x] = [x + 1, x], -1
    # Two ankles bend in the opposite direction to the next leg's.
    for first in (5, 19):
        for leg in range(4):
            to = first + 2 * ((leg + 1) % 4)
            observation[[to, to + 1]] = [first + 2 * leg, first + 2 * leg + 1]
            signs[to + 1] = -1 if leg in (0, 2) else 1
    order = [4, 1, 2, 3]  # of the legs among the actuators
    action, action_signs = np.arange(ACTION_DIM), np.ones(ACTION_DIM)
    for leg in order:
        here, to = 2 * order.index(leg), 2 * order.index(leg % 4 + 1)
        action[[to, to + 1]] = [here, here + 1]
        action_signs[to + 1] = -1 if leg in (1, 3) else 1
    reward = OBSERVATION_DIM + ACTION_DIM
    places = [observation, OBSERVATION_DIM + action, [reward], reward + 1 + observation]
    return np.concatenate(places), np.concatenate([signs, action_signs, [1], signs])


class Turns:
    """Turns one quarter of a batch by each of 0, 90, 180 and 270 degrees."""

    def __init__(self) -> None:
        places, signs = (torch.from_numpy(each) for each in quarter_turn())
        self._turns = [(torch.arange(len(places)), torch.ones(len(places)))]
        for _ in range(3):
            before, sign = self._turns[-1]
            self._turns.append((before[places], sign[places] * signs.float()))

    def __call__(self, batch: Tensor) -> Tensor:
        """Maps rows `(B, 67)` to rows."""
        parts = zip(batch.chunk(4), self._turns, strict=True)
        return torch.cat([part[:, places] * signs for part, (places, signs) in parts])


class SoftActorCritic:
    """SAC with two critics and a learned entropy weight; bf16 in the forward passes."""

    def __init__(self) -> None:
        self._critics = nn.ModuleList([_critic(), _critic()])
        self._targets = nn.ModuleList([_critic(), _critic()])
        self._targets.load_state_dict(self._critics.state_dict())
        self.actor = _actor()
        self._log_alpha = torch.tensor(math.log(FIRST_ALPHA), requires_grad=True)
        self._critic_adam = torch.optim.Adam(self._critics.parameters(), LEARNING_RATE)
        self._actor_adam = torch.optim.Adam(self.actor.parameters(), LEARNING_RATE)
        self._alpha_adam = torch.optim.Adam([self._log_alpha], LEARNING_RATE)

    def sample(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Squashed Gaussian actions `(B, 8)` and their log-probabilities `(B,)`."""
        mean, log_std = self.actor(observations).float().chunk(2, -1)
        log_std = log_std.clamp(*LOG_STD_BOUNDS)
        noise = torch.randn_like(mean)
        raw = mean + log_std.exp() * noise
        # log(1 - tanh(raw)^2), in the form that does not underflow.
        squash = 2 * (math.log(2) - raw - functional.softplus(-2 * raw))
        gaussian = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
        return torch.tanh(raw), (gaussian - squash).sum(-1)

    def update(self, batch: Tensor) -> None:
        """One update of critics, actor, entropy weight and targets from rows `(B, 67)`."""
        widths = [OBSERVATION_DIM, ACTION_DIM, 1, OBSERVATION_DIM]
        observations, actions, rewards, next_observations = torch.split(batch, widths, 1)
        alpha = self._log_alpha.exp().detach()
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                next_actions, log_prob = self.sample(next_observations)
                next_q = _q(self._targets, next_observations, next_actions).amin(0)
                target = rewards[:, 0] + DISCOUNT * (next_q - alpha * log_prob)
            q = _q(self._critics, observations, actions)
            critic_loss = (q - target).square().mean(-1).sum()
        _descend(self._critic_adam, critic_loss)
        self._critics.requires_grad_(requires_grad=False)
        with torch.autocast("cpu", torch.bfloat16):
            new_actions, log_prob = self.sample(observations)
            new_q = _q(self._critics, observations, new_actions).amin(0)
            actor_loss = (alpha * log_prob - new_q).mean()
        _descend(self._actor_adam, actor_loss)
        self._critics.requires_grad_(requires_grad=True)
        entropy_gap = -log_prob.detach().mean() - TARGET_ENTROPY
        _descend(self._alpha_adam, self._log_alpha.exp() * entropy_gap)
        with torch.no_grad():
            for slow, fast in zip(
                self._targets.parameters(), self._critics.parameters(), strict=True
            ):
                slow.lerp_(fast, TARGET_UPDATE_RATE)


def save(actor: nn.Module, path: Path) -> None:
    """Writes an actor in the format that `load_gait` reads."""
    arrays: dict[str, Any] = {}
    parameters = [p.detach().numpy() for p in actor.parameters()]
    for layer in range(3):
        arrays[f"w{layer}"], arrays[f"b{layer}"] = (
            parameters[2 * layer].T, parameters[2 * layer + 1],
        )  # fmt: skip
    np.savez_compressed(path, **arrays)


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def train(path: Path, *, updates: int, seed: int = 0) -> float:
    """Trains a teacher, and writes it once a minute and at the end.

    Args:
        path: `.npz` file to write.
        updates: of the agent; each follows one step of every ant.
        seed: of everything random.

    Returns:
        Mean speed in m/s along the direction over the last 20,000 steps.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = ant_spec().compile()
    ants, agent = [DirectionalAnt(model, rng) for _ in range(NUM_ANTS)], SoftActorCritic()
    turned = Turns()
    replay = torch.zeros(CAPACITY, 2 * OBSERVATION_DIM + ACTION_DIM + 1)
    observations = np.stack([ant.reset() for ant in ants])
    speeds: deque[float] = deque(maxlen=20_000)
    size, done, reported = 0, 0, time.monotonic()
    while done < updates:
        if size < RANDOM_STEPS:
            actions = rng.uniform(-1, 1, (NUM_ANTS, ACTION_DIM)).astype(np.float32)
        else:
            with torch.no_grad():
                actions = agent.sample(torch.from_numpy(observations))[0].numpy()
        for i, each in enumerate(ants):
            following, speed, over = each.step(actions[i])
            row = np.concatenate([observations[i], actions[i], [speed], following])
            replay[size % CAPACITY] = torch.from_numpy(row)
            observations[i] = each.reset() if over else following
            speeds.append(speed)
            size += 1
        if size >= RANDOM_STEPS:
            agent.update(turned(replay[torch.randint(min(size, CAPACITY), (BATCH,))]))
            done += 1
        if time.monotonic() - reported > 60:
            reported = time.monotonic()
            save(agent.actor, path)
            logger.info("%d updates, %d steps, %.2f m/s", done, size, np.mean(speeds))
    save(agent.actor, path)
    return float(np.mean(speeds))


def distil(teacher: Path, path: Path, *, seed: int = 0) -> float:
    """Trains and writes a student of a gait.

    Args:
        teacher: file of the gait to learn from.
        path: `.npz` file to write.
        seed: of everything random.

    Returns:
        The last batch's loss.
    """
    torch.manual_seed(seed)
    gait, rng = load_gait(teacher), np.random.default_rng(seed)
    observations, outputs = _ordinary_steps(gait, rng)
    student = _actor()
    adam = torch.optim.Adam(student.parameters(), STUDENT_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, STUDENT_UPDATES)
    wanted = torch.tanh(outputs[:, :ACTION_DIM])
    for _ in range(STUDENT_UPDATES):
        places = torch.randint(len(observations), (BATCH,))
        mean, log_std = student(observations[places]).chunk(2, -1)
        error = (torch.tanh(mean) - wanted[places]).square().mean()
        std_error = (log_std - outputs[places, ACTION_DIM:]).square().mean()
        loss = error + STUDENT_STD_WEIGHT * std_error
        _descend(adam, loss)
        schedule.step()
    save(student, path)
    return loss.item()


def outputs_of(gait: Gait, observation: NDArray[np.float32]) -> NDArray[np.float64]:
    """A gait's means before tanh and log standard deviations `(16,)`."""
    hidden = observation.astype(np.float64)
    for weights, bias in zip(gait.weights[:2], gait.biases[:2], strict=True):
        hidden = np.maximum(hidden @ weights + bias, 0)
    outputs: NDArray[np.float64] = hidden @ gait.weights[2] + gait.biases[2]
    return outputs


def _ordinary_steps(gait: Gait, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Observations of the teacher's steps `(n, 29)`, and a student's wanted outputs `(n, 16)`."""
    ant = DirectionalAnt(ant_spec().compile(), rng)
    observation = ant.reset()
    observations, outputs = [], []
    for _ in range(STUDENT_STEPS):
        output = outputs_of(gait, observation)
        observations.append(observation)
        outputs.append(output)
        std = np.exp(np.clip(output[ACTION_DIM:], *LOG_STD_BOUNDS))
        mean = STUDENT_SCALE * output[:ACTION_DIM]
        action = np.tanh(mean + std * rng.standard_normal(ACTION_DIM))
        action = action + STUDENT_NOISE * rng.standard_normal(ACTION_DIM)
        observation, _, over = ant.step(np.clip(action, -1, 1).astype(np.float32))
        if over:
            observation = ant.reset()
    wanted = torch.tensor(np.array(outputs), dtype=torch.float32)
    wanted[:, :ACTION_DIM] *= STUDENT_SCALE
    wanted[:, ACTION_DIM:].clamp_(*LOG_STD_BOUNDS)
    return torch.from_numpy(np.array(observations)), wanted


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the training from the command line."""
    parser = argparse.ArgumentParser(description="Train the goal-reaching ant.")
    parser.add_argument("--updates", type=int, default=70_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--teacher", type=Path, help="do not train one, but learn from this file")
    parser.add_argument("--out", type=Path, default=Path("ant_gait.npz"), help="file to write")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    # Networks this small gain nothing from a second thread.
    torch.set_num_threads(1)
    teacher = options.teacher
    if teacher is None:
        teacher = options.out.with_name(f"{options.out.stem}_teacher.npz")
        speed = train(teacher, updates=options.updates, seed=options.seed)
        logger.info("%s: %.2f m/s", teacher, speed)
    loss = distil(teacher, options.out, seed=options.seed)
    logger.info("%s: loss %.4f", options.out, loss)


if __name__ == "__main__":
    main()
