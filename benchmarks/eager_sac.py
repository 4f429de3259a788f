"""Soft actor-critic and CQL as single-file implementations write them, for comparison.

One `nn.Module` per network and one Adam for each kind, autograd, states repeated for each action,
NumPy indices and `.item()` at every update. A target evaluates all critics, as such implementations
with two critics do, or only the drawn ones where there are more.
"""

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from iqlft.config.algorithms import CQLHyperparameters, SACHyperparameters
from iqlft_workers.transition import RowLayout


def mlp(inputs: int, outputs: int, width: int, depth: int, *, norm: bool) -> nn.Sequential:
    """An MLP with ReLU."""
    layers: list[nn.Module] = []
    for index in range(depth):
        layers.append(nn.Linear(width if index else inputs, width))
        layers += [nn.LayerNorm(width)] if norm else []
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.Linear(width, outputs))


class EagerSAC:
    """Plain eager PyTorch.

    Args:
        rows: `(N, width)` transitions; their returns to go are zeros.
        layout: where their fields stand.
        settings: of an algorithm of the family; those of CQL and Cal-QL have a penalty.
    """

    def __init__(self, rows: np.ndarray, layout: RowLayout, settings: SACHyperparameters) -> None:
        h, o, a = settings, layout.observation_dim, layout.action_dim
        self.h, self.action_dim = h, a
        self.fields = [torch.from_numpy(np.ascontiguousarray(x)) for x in layout.unpack(rows)[:5]]
        width, depth = h.critic_hidden_size or h.hidden_size, h.critic_hidden_layers
        self.q = nn.ModuleList(
            mlp(o + a, 1, width, depth or h.hidden_layers, norm=h.critic_layer_norm)
            for _ in range(h.num_critics)
        )
        self.target = copy.deepcopy(self.q).requires_grad_(False)
        self.actor = mlp(o, 2 * a, h.hidden_size, h.hidden_layers, norm=h.actor_layer_norm)
        self.log_alpha = nn.Parameter(torch.zeros(()))
        self.log_alpha_prime = nn.Parameter(torch.ones(()))
        self.adam_q = torch.optim.Adam(self.q.parameters(), h.learning_rate)
        self.adam_actor = torch.optim.Adam(self.actor.parameters(), h.actor_learning_rate)
        self.adam_alpha = torch.optim.Adam([self.log_alpha], h.actor_learning_rate)
        self.adam_alpha_prime = torch.optim.Adam([self.log_alpha_prime], h.learning_rate)

    def sample(self, s: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Repeated states, actions and log-densities, `(B * count, ...)`."""
        s = s.repeat_interleave(count, 0)
        mean, log_std = self.actor(s).chunk(2, -1)
        log_std = log_std.clamp(-20, 2)
        u = mean + log_std.exp() * torch.randn_like(mean)
        normal = torch.distributions.Normal(mean, log_std.exp(), validate_args=False)
        correction = 2 * (math.log(2) - u - functional.softplus(-2 * u))
        return s, torch.tanh(u), (normal.log_prob(u) - correction).sum(-1)

    @staticmethod
    def values(critics: list[nn.Module], s: Tensor, a: Tensor) -> Tensor:
        """Q `(E, B)`."""
        pairs = torch.cat([s, a], -1)
        return torch.stack([net(pairs).squeeze(-1) for net in critics])

    def target_of(self, r: Tensor, s2: Tensor, terminated: Tensor) -> Tensor:
        """Targets y `(B,)`."""
        h = self.h
        drawn = torch.randperm(h.num_critics)[: h.num_target_critics or h.num_critics]
        with torch.no_grad():
            repeated, a2, log_pi = self.sample(s2, h.target_actions)
            values = self.values([self.target[int(index)] for index in drawn], repeated, a2)
            best = values.amin(0) if h.target_reduction == "min" else values.mean(0)
            if h.entropy_backup:
                best = best - self.log_alpha.exp() * log_pi
            best = best.view(len(r), -1).amax(-1)
            return r + h.discount * (1 - terminated) * best

    def penalty(self, s: Tensor, s2: Tensor, q: Tensor) -> Tensor:
        """CQL's penalty in the critics' loss, after a step of its multiplier."""
        h = self.h
        assert isinstance(h, CQLHyperparameters)
        count, batch = h.sampled_actions, len(s)
        with torch.no_grad():
            repeated, own, own_log = self.sample(s, count)
            _, following, following_log = self.sample(s2, count)
        uniform = torch.rand_like(own) * 2 - 1
        logs = (torch.full_like(own_log, -self.action_dim * math.log(2)), own_log, following_log)
        parts = [
            (self.values(list(self.q), repeated, actions) - log).view(len(q), batch, count)
            for actions, log in zip((uniform, own, following), logs, strict=True)
        ]
        floored = [parts[0], *(each.clamp(min=-1e9) for each in parts[1:])]
        gap = (torch.cat(floored, -1).logsumexp(-1) - q).mean(-1) - h.target_gap
        self.adam_alpha_prime.zero_grad()
        (-self.log_alpha_prime.exp() * h.penalty_weight * gap.detach().mean()).backward()
        self.adam_alpha_prime.step()
        return (self.log_alpha_prime.exp().detach() * h.penalty_weight * gap).sum()

    def update(self) -> float:
        """One update; the sum of the losses."""
        h = self.h
        for _ in range(h.critic_updates):
            indices = np.random.randint(0, len(self.fields[0]), h.batch_size)
            s, a, r, s2, terminated = (each[indices] for each in self.fields)
            q = self.values(list(self.q), s, a)
            loss = ((q - self.target_of(r, s2, terminated)) ** 2).mean(-1).sum()
            if isinstance(h, CQLHyperparameters):
                loss = loss + self.penalty(s, s2, q)
            self.adam_q.zero_grad()
            loss.backward()
            self.adam_q.step()
            with torch.no_grad():
                for old, new in zip(self.target.parameters(), self.q.parameters(), strict=True):
                    old.mul_(0.995).add_(0.005 * new)
        s, own, log_pi = self.sample(s, 1)
        values = self.values(list(self.q), s, own)
        value = values.amin(0) if h.actor_reduction == "min" else values.mean(0)
        actor_loss = (self.log_alpha.exp().detach() * log_pi - value).mean()
        self.adam_actor.zero_grad()
        actor_loss.backward()
        self.adam_actor.step()
        aim = h.target_entropy * self.action_dim
        alpha_loss = self.log_alpha.exp() * (-log_pi.detach().mean() - aim)
        self.adam_alpha.zero_grad()
        alpha_loss.backward()
        self.adam_alpha.step()
        return loss.item() + actor_loss.item() + alpha_loss.item()
