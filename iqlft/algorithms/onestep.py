"""One-step RL with exponentially weighted imitation (Brandfonbrener et al., NeurIPS 2021).

The critics evaluate the policy that made the data, and the actor improves on it once, by the
advantage. That is what IQL is with an expectile of one half: V is then the mean of Q over the
data's actions, and Q's target r + discount V(s') the SARSA target in expectation. It is how IQL's
authors place the method (arXiv:2110.06169, section 4.2); settings are theirs for AntMaze, since the
method's authors give none for it. Critics and actor are trained side by side instead of one after
the other, which leaves both fixed points where they are: no critic sees the actor.

Q is the mean of the critics, not their minimum. The minimum guards against a policy that looks for
actions with overestimated values; here none does, and what it takes off every value comes back
through the bootstrap 1 / (1 - discount) times.
"""

from torch import Tensor

from iqlft.algorithms.iql import IQL


class OneStep(IQL):
    """IQL at the expectile 0.5, without clipped double Q-learning."""

    def target_q(self, pairs: Tensor) -> Tensor:
        """Q of normalised observations and actions side by side, `(M, B)`."""
        return self.target_critic.forward(pairs).mean(1)
