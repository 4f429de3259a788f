"""One-step RL with exponentially weighted imitation (Brandfonbrener et al., NeurIPS 2021).

The critics evaluate the policy that made the data, and the actor improves on it once, weighted by
the advantage. This is IQL with an expectile of 0.5: V is then the mean of Q over the data's
actions, and Q's target r + discount V(s') is the SARSA target in expectation. IQL's authors relate
the two methods in the same way (arXiv:2110.06169, section 4.2); settings are theirs for AntMaze,
since the authors of One-step RL give none for it. Critics and actor are trained side by side
instead of one after the other, which changes neither fixed point: no critic depends on the actor.

Q is the mean of the critics, not their minimum. The minimum guards against a policy that exploits
overestimated values; here none does, and the bootstrap would multiply what the minimum takes off
by up to 1 / (1 - discount).
"""

from torch import Tensor

from iqlft.algorithms.iql import IQL


class OneStep(IQL):
    """IQL at the expectile 0.5, without clipped double Q-learning."""

    def target_q(self, pairs: Tensor) -> Tensor:
        """Mean target Q `(M, B)` of `pairs`, normalised observations and actions side by side."""
        return self.target_critic.forward(pairs).mean(1)
