"""One-step RL with exponentially weighted imitation (Brandfonbrener et al., NeurIPS 2021).

The critics evaluate the policy that made the data, and the actor improves on it once, by the
advantage. That is what IQL is with an expectile of one half: V is then the mean of Q over the
data's actions, and Q's target r + discount V(s') the SARSA target in expectation. It is how IQL's
authors place the method (arXiv:2110.06169, section 4.2); settings are theirs for AntMaze, since the
method's authors give none for it. Critics and actor are trained side by side instead of one after
the other, which leaves both fixed points where they are: no critic sees the actor.
"""

from iqlft.algorithms.iql import IQL


class OneStep(IQL):
    """IQL at the expectile 0.5."""
