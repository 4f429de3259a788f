"""Updates per second of the learner against a plain eager PyTorch reference, in one run.

    python benchmarks/learner.py --threads 1 2 --seconds 5

The reference is written in the style of single-file implementations: one `nn.Module` and one Adam
per network, autograd, NumPy indices and `.item()` at every step. Both learn from the same random
transitions; blocks of the two alternate, so that a drifting machine slows both.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from iqlft.algorithms.iql import ImplicitQLearning
from iqlft.config import Hyperparameters
from iqlft.replay import Replay
from workers.transition import RowLayout

OBSERVATION_DIM, ACTION_DIM, TRANSITIONS, BATCH = 29, 8, 200_000, 256


def mlp(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, outputs)
    )


class EagerReference:
    """IQL as single-file implementations write it."""

    def __init__(self, rows: np.ndarray, layout: RowLayout) -> None:
        self.fields = [torch.from_numpy(np.ascontiguousarray(x)) for x in layout.unpack(rows)[:5]]
        self.q = nn.ModuleList([mlp(OBSERVATION_DIM + ACTION_DIM, 1) for _ in range(2)])
        self.target = copy.deepcopy(self.q).requires_grad_(False)
        self.v, self.actor = mlp(OBSERVATION_DIM, 1), mlp(OBSERVATION_DIM, ACTION_DIM)
        self.log_std = nn.Parameter(torch.zeros(ACTION_DIM))
        self.adam_q = torch.optim.Adam(self.q.parameters(), 3e-4)
        self.adam_v = torch.optim.Adam(self.v.parameters(), 3e-4)
        self.adam_actor = torch.optim.Adam([*self.actor.parameters(), self.log_std], 3e-4)

    def update(self) -> float:
        """One update; the sum of the losses."""
        indices = np.random.randint(0, TRANSITIONS, BATCH)
        s, a, r, s2, terminated = (each[indices] for each in self.fields)
        both = torch.cat([s, a], -1)
        with torch.no_grad():
            target_q = torch.min(*(net(both).squeeze(-1) for net in self.target))
            next_v = self.v(s2).squeeze(-1)
        advantage = target_q - self.v(s).squeeze(-1)
        value_loss = (torch.abs(0.9 - (advantage < 0).float()) * advantage**2).mean()
        self.adam_v.zero_grad()
        value_loss.backward()
        self.adam_v.step()
        y = r + 0.99 * (1 - terminated) * next_v
        critic_loss = sum(((net(both).squeeze(-1) - y) ** 2).mean() for net in self.q)
        self.adam_q.zero_grad()
        critic_loss.backward()
        self.adam_q.step()
        with torch.no_grad():
            for target, online in zip(self.target.parameters(), self.q.parameters(), strict=True):
                target.mul_(0.995).add_(0.005 * online)
        weight = torch.exp(10 * advantage.detach()).clamp(max=100)
        gaussian = torch.distributions.Normal(torch.tanh(self.actor(s)), self.log_std.exp())
        actor_loss = -(weight * gaussian.log_prob(a).sum(-1)).mean()
        self.adam_actor.zero_grad()
        actor_loss.backward()
        self.adam_actor.step()
        return value_loss.item() + critic_loss.item() + actor_loss.item()


def rate(update: Callable[[], object], seconds: float) -> float:
    count, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        update()
        count += 1
    return count / elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a block")
    parser.add_argument("--rounds", type=int, default=5, help="blocks of each")
    args = parser.parse_args()
    layout = RowLayout(OBSERVATION_DIM, ACTION_DIM)
    rows = np.random.default_rng(0).normal(size=(TRANSITIONS, layout.width)).astype(np.float32)
    rows[:, -3:] = 0
    algorithm = ImplicitQLearning(OBSERVATION_DIM, ACTION_DIM, Hyperparameters())
    replay = Replay([rows], len(rows), layout)
    reference = EagerReference(rows, layout)
    contenders = {
        "iqlft": lambda: algorithm.update(replay.sample(BATCH)),
        "eager reference": reference.update,
    }
    print(f"{'threads':>7}  {'learner':16}{'updates/s: min':>15}{'median':>8}{'max':>8}")
    for threads in args.threads:
        torch.set_num_threads(threads)
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for update in contenders.values():
            rate(update, 1.0)
        for _ in range(args.rounds):
            for name, update in contenders.items():
                rates[name].append(rate(update, args.seconds))
        for name, each in rates.items():
            low, middle, high = min(each), statistics.median(each), max(each)
            print(f"{threads:7}  {name:16}{low:15.0f}{middle:8.0f}{high:8.0f}")
        pairs = [a / b for a, b in zip(rates["iqlft"], rates["eager reference"], strict=True)]
        print(f"{threads:7}  ratio, median {statistics.median(pairs):.2f}")


if __name__ == "__main__":
    main()
