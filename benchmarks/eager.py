"""IQL as single-file implementations write it, for comparison.

One `nn.Module` and one Adam per network, autograd, NumPy indices and `.item()` at every step.
"""

import copy

import numpy as np
import torch
from torch import nn

from iqlft_workers.transition import RowLayout


def mlp(inputs: int, outputs: int) -> nn.Sequential:
    """An MLP with two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, outputs)
    )


class EagerReference:
    """Plain eager PyTorch.

    Args:
        rows: `(N, width)` transitions.
        layout: where their fields stand.
        batch: B.
        device: where everything lives.
        compiled: whether the losses are compiled by `torch.compile`.
    """

    def __init__(
        self,
        rows: np.ndarray,
        layout: RowLayout,
        batch: int,
        device: str = "cpu",
        *,
        compiled: bool = False,
    ) -> None:
        self.batch, self.device = batch, device
        self.fields = [
            torch.from_numpy(np.ascontiguousarray(x)).to(device) for x in layout.unpack(rows)[:5]
        ]
        observation_dim, action_dim = layout.observation_dim, layout.action_dim
        self.q = nn.ModuleList([mlp(observation_dim + action_dim, 1) for _ in range(2)]).to(device)
        self.target = copy.deepcopy(self.q).requires_grad_(False)
        self.v = mlp(observation_dim, 1).to(device)
        self.actor = mlp(observation_dim, action_dim).to(device)
        self.log_std = nn.Parameter(torch.zeros(action_dim, device=device))
        self.adam_q = torch.optim.Adam(self.q.parameters(), 3e-4)
        self.adam_v = torch.optim.Adam(self.v.parameters(), 3e-4)
        self.adam_actor = torch.optim.Adam([*self.actor.parameters(), self.log_std], 3e-4)
        compiler = torch.compile if compiled else (lambda function: function)
        self.value_loss = compiler(self._value_loss)
        self.critic_loss = compiler(self._critic_loss)
        self.actor_loss = compiler(self._actor_loss)

    def _value_loss(self, s: torch.Tensor, both: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            target_q = torch.min(*(net(both).squeeze(-1) for net in self.target))
        advantage = target_q - self.v(s).squeeze(-1)
        weight = torch.abs(0.9 - (advantage < 0).float())
        return (weight * advantage**2).mean(), advantage.detach()

    def _critic_loss(self, both: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        first, second = (((net(both).squeeze(-1) - y) ** 2).mean() for net in self.q)
        return first + second

    def _actor_loss(
        self, s: torch.Tensor, a: torch.Tensor, advantage: torch.Tensor
    ) -> torch.Tensor:
        weight = torch.exp(10 * advantage).clamp(max=100)
        gaussian = torch.distributions.Normal(
            torch.tanh(self.actor(s)), self.log_std.exp(), validate_args=False
        )
        return -(weight * gaussian.log_prob(a).sum(-1)).mean()

    def update(self) -> float:
        """One update; the sum of the losses."""
        indices = np.random.randint(0, len(self.fields[0]), self.batch)
        s, a, r, s2, terminated = (each[indices] for each in self.fields)
        both = torch.cat([s, a], -1)
        with torch.no_grad():
            next_v = self.v(s2).squeeze(-1)
        value_loss, advantage = self.value_loss(s, both)
        self.adam_v.zero_grad()
        value_loss.backward()
        self.adam_v.step()
        critic_loss = self.critic_loss(both, r + 0.99 * (1 - terminated) * next_v)
        self.adam_q.zero_grad()
        critic_loss.backward()
        self.adam_q.step()
        with torch.no_grad():
            for target, online in zip(self.target.parameters(), self.q.parameters(), strict=True):
                target.mul_(0.995).add_(0.005 * online)
        actor_loss = self.actor_loss(s, a, advantage)
        self.adam_actor.zero_grad()
        actor_loss.backward()
        self.adam_actor.step()
        return value_loss.item() + critic_loss.item() + actor_loss.item()
