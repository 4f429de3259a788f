"""The registry of algorithms: for each name, a dataclass of hyperparameters and its class's home.

Imports no torch, so that `--help` shows an algorithm's flags without loading it. To add one: a file
in `iqlft/algorithms/`, a dataclass and a line in `ALGORITHMS` here, and a test file.
"""

# tyro reads these annotations at run time, so they are not postponed.
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal, NamedTuple, Self

import tyro
from annotated_types import Interval

from iqlft.config.bounds import Count, NonNegative, Positive, Real, Share, Size
from iqlft.config.errors import ConfigError
from iqlft.config.own_class import imported

ActorSchedule = Literal["constant", "cosine", "climbing-cosine"]
"""Schedule of an actor's learning rate."""
Reduction = Literal["min", "mean"]
"""How the values of several critics are combined."""


@dataclass(frozen=True)
class Hyperparameters:
    """Hyperparameters of every algorithm."""

    learning_rate: Positive = 3e-4
    """Adam's learning rate for every network."""
    batch_size: Count = 256
    """Transitions per update."""
    hidden_size: Count = 256
    """Width of each hidden layer."""
    hidden_layers: Count = 2
    """Number of hidden layers."""

    @property
    def known_as(self) -> str:
        """Name that papers give the algorithm with these settings; empty: its usual name."""
        return ""

    @property
    def scheduled(self) -> bool:
        """Whether updates of pretraining depend on their total number."""
        return False

    @property
    def unscheduled(self) -> Self:
        """The same without schedules, for when the number of updates is unknown or exceeded."""
        return self

    @property
    def contradiction(self) -> str:
        """Which settings contradict each other, and what to do; empty if none do."""
        return ""


@dataclass(frozen=True)
class CriticHyperparameters(Hyperparameters):
    """Hyperparameters of every algorithm with bootstrapped critics."""

    discount: Share = 0.99
    """Discount of future rewards."""
    target_update_rate: Share = 0.005
    """Share by which the target networks move towards the networks at each update."""
    clip_targets: bool = False
    """Clip critic targets to the returns possible with the rewards seen, against divergence."""
    critic_layer_norm: bool = False
    """LayerNorm in the hidden layers of critic and value networks, against divergence."""


@dataclass(frozen=True)
class IQLHyperparameters(CriticHyperparameters):
    """IQL's hyperparameters, by default those for AntMaze."""

    expectile: Annotated[float, Interval(gt=0, le=1)] = 0.9
    """tau of the expectile loss (paper, eq. 5): 0.9 for AntMaze, 0.7 for locomotion."""
    inverse_temperature: Real = 10.0
    """beta of the advantage-weighted actor loss (paper, eq. 7): 10 in AntMaze, 3 in locomotion."""
    actor_schedule: ActorSchedule = "constant"
    """Actor's learning rate. constant: if fine-tuning follows; cosine: to 0 over num_updates, then
    constant online; climbing-cosine, to compare with CORL: the cosine goes on and rises again."""
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Share of the actor's hidden units dropped in its updates: 0.1 in kitchen and Adroit."""

    @property
    def scheduled(self) -> bool:
        """Whether the actor's learning rate is a cosine, whose length is that of pretraining."""
        return self.actor_schedule != "constant"

    @property
    def unscheduled(self) -> Self:
        """The same with a constant learning rate, as online."""
        return replace(self, actor_schedule="constant")


@dataclass(frozen=True)
class OneStepHyperparameters(IQLHyperparameters):
    """One-step RL's hyperparameters: those of IQL's authors for AntMaze, except the expectile."""

    expectile: Annotated[float, Interval(ge=0.5, le=0.5), tyro.conf.Fixed] = 0.5
    """Fixed at 0.5, which makes it one-step: V is the mean of Q over the data's actions."""


@dataclass(frozen=True)
class BCHyperparameters(Hyperparameters):
    """Hyperparameters of behaviour cloning."""

    best_share: Annotated[float, Interval(gt=0, le=1)] = 1.0
    """Share of the dataset's episodes to clone, those with the highest returns; 0.1 is 10%BC."""
    best_discount: Share = 1.0
    """Discount of those returns; CORL's 0.99 ranks episodes that begin at a goal highest."""
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Share of the actor's hidden units dropped in its updates."""

    @property
    def known_as(self) -> str:
        """Such as `10%BC`, where the best tenth is cloned."""
        return f"{100 * self.best_share:.12g}%BC" if self.best_share < 1 else ""


@dataclass(frozen=True)
class AWACHyperparameters(CriticHyperparameters):
    """AWAC's hyperparameters, by default CORL's for AntMaze."""

    inverse_temperature: Real = 10.0
    """1 / lambda of the advantage weights exp(A / lambda); CORL's lambda is 0.1 in AntMaze."""
    hidden_layers: Count = 3
    """Number of hidden layers."""


@dataclass(frozen=True)
class TD3BCHyperparameters(CriticHyperparameters):
    """TD3+BC's hyperparameters, by default its authors' for locomotion (none for AntMaze)."""

    alpha: NonNegative = 2.5
    """Weight of Q relative to cloning in the actor's loss (paper, eq. 5)."""
    policy_delay: Count = 2
    """Critic updates per update of the actor and the target networks."""
    policy_noise: NonNegative = 0.2
    """Standard deviation of the noise on the target actor's actions (target smoothing)."""
    noise_clip: NonNegative = 0.5
    """Bound that the noise on the target actor's actions is clipped to."""
    exploration_noise: NonNegative = 0.1
    """Standard deviation of the noise on actions in online training episodes."""


@dataclass(frozen=True)
class FQLHyperparameters(CriticHyperparameters):
    """FQL's hyperparameters, by default its authors' for AntMaze."""

    hidden_size: Count = 512
    """Width of each hidden layer."""
    hidden_layers: Count = 4
    """Number of hidden layers."""
    critic_layer_norm: bool = True
    """LayerNorm in the hidden layers of the critics, against divergence."""
    alpha: NonNegative = 10.0
    """Weight of the distillation relative to Q in the actor's loss (paper, eq. 7): 10 in AntMaze, 3
    in its large mazes; for other data it must be tuned."""
    flow_steps: Count = 10
    """Steps of Euler's method from noise to an action of the flow."""
    target_reduction: Reduction = "mean"
    """How a target combines the values of both critics."""
    normalize_q: bool = False
    """Divide Q in the actor's loss by its mean absolute value in the batch."""


@dataclass(frozen=True)
class SACHyperparameters(CriticHyperparameters):
    """Hyperparameters of soft actor-critic, by default those of its authors' second paper."""

    learning_rate: Positive = 3e-4
    """Adam's learning rate for the critics."""
    actor_learning_rate: Positive = 3e-4
    """Adam's learning rate for the actor and the temperature."""
    actor_layer_norm: bool = False
    """LayerNorm in the hidden layers of the actor."""
    critic_hidden_size: Size = 0
    """Width of the critics' hidden layers; 0: same as the actor's."""
    critic_hidden_layers: Size = 0
    """Number of the critics' hidden layers; 0: same as the actor's."""
    output_gain: Positive = 1.4142135623730951
    """Gain of the output layers' initial weights; that of hidden layers is the square root of 2."""
    initial_log_std: Real = 0.0
    """Approximate log standard deviation of the policy at initialisation."""
    num_critics: Count = 2
    """Number of critics."""
    num_target_critics: Size = 0
    """Number of critics, drawn at random for each update, that a target uses; 0: all."""
    target_reduction: Reduction = "min"
    """How a target combines the values of those critics."""
    target_actions: Count = 1
    """Actions sampled in the next state, of which a target takes the best."""
    actor_reduction: Reduction = "min"
    """How the actor's loss combines the values of all critics."""
    critic_updates: Count = 1
    """Critic updates per update, each on a batch of its own."""
    entropy_temperature: Positive = 1.0
    """Weight alpha of the policy's entropy; its initial value if it is learned."""
    learn_temperature: bool = True
    """Learn that weight, so that the entropy approaches --target-entropy."""
    target_entropy: Real = -1.0
    """Target of the policy's entropy, per action dimension."""
    entropy_backup: bool = True
    """Include the entropy of the next action in the critics' targets."""

    @property
    def contradiction(self) -> str:
        """See `Hyperparameters`."""
        if self.num_target_critics > self.num_critics:
            return (
                f"--num-target-critics is {self.num_target_critics}, but there are "
                f"{self.num_critics} critics to draw from; lower it, or raise --num-critics."
            )
        if self.clip_targets and self.entropy_backup:
            return (
                "--clip-targets keeps Q within the possible returns, but with the entropy in its "
                "target Q is not a return; say --no-entropy-backup, or leave one of them out."
            )
        return ""


@dataclass(frozen=True)
class RLPDHyperparameters(SACHyperparameters):
    """RLPD's hyperparameters, by default its authors' for AntMaze."""

    hidden_layers: Count = 3
    """Number of hidden layers."""
    critic_layer_norm: bool = True
    """LayerNorm in the hidden layers of the critics, against divergence."""
    num_critics: Count = 10
    """Number of critics."""
    num_target_critics: Size = 1
    """Number of critics, drawn at random for each update, that a target uses; 0: all."""
    actor_reduction: Reduction = "mean"
    """How the actor's loss combines the values of all critics."""
    critic_updates: Count = 20
    """Critic updates per update, each on a batch of its own."""
    target_entropy: Real = -0.5
    """Target of the policy's entropy, per action dimension."""
    entropy_backup: bool = False
    """Include the entropy of the next action in the critics' targets."""


@dataclass(frozen=True)
class WSRLHyperparameters(SACHyperparameters):
    """WSRL's hyperparameters, by default its authors' for AntMaze."""

    actor_learning_rate: Positive = 1e-4
    """Adam's learning rate for the actor and the temperature."""
    actor_layer_norm: bool = True
    """LayerNorm in the hidden layers of the actor."""
    critic_layer_norm: bool = True
    """LayerNorm in the hidden layers of the critics, against divergence."""
    critic_hidden_layers: Size = 4
    """Number of the critics' hidden layers; 0: same as the actor's."""
    output_gain: Positive = 1e-2
    """Gain of the output layers' initial weights; that of hidden layers is the square root of 2."""
    num_critics: Count = 10
    """Number of critics."""
    num_target_critics: Size = 2
    """Number of critics, drawn at random for each update, that a target uses; 0: all."""
    target_actions: Count = 10
    """Actions sampled in the next state, of which a target takes the best."""
    critic_updates: Count = 4
    """Critic updates per update, each on a batch of its own."""
    entropy_backup: bool = False
    """Include the entropy of the next action in the critics' targets."""


@dataclass(frozen=True)
class CQLHyperparameters(SACHyperparameters):
    """CQL's hyperparameters, by default CORL's for AntMaze."""

    actor_learning_rate: Positive = 1e-4
    """Adam's learning rate for the actor and the temperature."""
    hidden_layers: Count = 3
    """Number of hidden layers."""
    critic_hidden_layers: Size = 5
    """Number of the critics' hidden layers; 0: same as the actor's."""
    initial_log_std: Real = -1.0
    """Approximate log standard deviation of the policy at initialisation."""
    target_actions: Count = 10
    """Actions sampled in the next state, of which a target takes the best."""
    entropy_backup: bool = False
    """Include the entropy of the next action in the critics' targets."""
    penalty_weight: NonNegative = 5.0
    """Weight of the conservative penalty; a learned multiplier (--lagrange) scales it further."""
    sampled_actions: Count = 10
    """Actions in the penalty, this many each from the uniform distribution, pi(s) and pi(s')."""
    lagrange: bool = True
    """Learn a multiplier of the penalty, so that the gap in Q between these actions and the data's
    approaches --target-gap."""
    target_gap: Real = 0.8
    """Target of the gap in Q, for the learned multiplier."""
    gap_min: Real | None = -200.0
    """Lower bound of the gap in Q at each transition; none: no bound."""


@dataclass(frozen=True)
class CalQLHyperparameters(CQLHyperparameters):
    """Cal-QL's hyperparameters, by default its authors' for AntMaze."""

    hidden_layers: Count = 2
    """Number of hidden layers."""
    critic_hidden_layers: Size = 4
    """Number of the critics' hidden layers; 0: same as the actor's."""
    output_gain: Positive = 1e-2
    """Gain of the output layers' initial weights; that of hidden layers is the square root of 2."""
    gap_min: Real | None = None
    """Lower bound of the gap in Q at each transition; none: no bound."""
    calibrate_online: bool = True
    """Calibrate values in fine-tuning too."""


SWITCH = "->"
"""Separator of the two names, for a run fine-tuned with another algorithm."""


class Registered(NamedTuple):
    """An algorithm that `--algorithm` knows.

    Attributes:
        title: its name in tables and figures.
        hyperparameters: the dataclass of its flags.
        home: its class, as `module:Class`.
        defaults: settings other than hyperparameters in which its reference implementation differs
            from the defaults here.
        varied: for a user's class, the name of the algorithm here from which the class and its
            hyperparameters derive, and whose settings for a task apply to it too; else empty.
    """

    title: str
    hyperparameters: type[Hyperparameters]
    home: str
    defaults: Mapping[str, Any] = {}
    varied: str = ""


ALGORITHMS: dict[str, Registered] = {
    "iql": Registered("IQL", IQLHyperparameters, "iqlft.algorithms.iql:IQL"),
    "bc": Registered("BC", BCHyperparameters, "iqlft.algorithms.bc:BC"),
    "awac": Registered(
        "AWAC",
        AWACHyperparameters,
        "iqlft.algorithms.awac:AWAC",
        {"normalize_observations": True},
    ),
    "td3bc": Registered(
        "TD3+BC",
        TD3BCHyperparameters,
        "iqlft.algorithms.td3bc:TD3BC",
        {"normalize_observations": True},
    ),
    "fql": Registered("FQL", FQLHyperparameters, "iqlft.algorithms.fql:FQL"),
    "sac": Registered("SAC", SACHyperparameters, "iqlft.algorithms.sac:SAC"),
    "rlpd": Registered("RLPD", RLPDHyperparameters, "iqlft.algorithms.rlpd:RLPD"),
    "wsrl": Registered("WSRL", WSRLHyperparameters, "iqlft.algorithms.wsrl:WSRL"),
    "cql": Registered("CQL", CQLHyperparameters, "iqlft.algorithms.cql:CQL"),
    "calql": Registered("Cal-QL", CalQLHyperparameters, "iqlft.algorithms.calql:CalQL"),
    "onestep": Registered("One-step", OneStepHyperparameters, "iqlft.algorithms.onestep:OneStep"),
}
"""The algorithms by the name used in `--algorithm`, `meta.json` and run folders."""


def registered(name: str) -> Registered:
    """The registry entry of an algorithm, which is also made for a user's class.

    Args:
        name: a key of `ALGORITHMS`, or `package.module:Class` for a user's class. Such a class
            derives from one of those, or has an attribute `Hyperparameters`, a dataclass derived
            from `Hyperparameters` here.

    Raises:
        ConfigError: there is no such algorithm, module or class, or the class is no algorithm.
    """
    if not isinstance(name, str):  # From Python it may be anything.
        raise ConfigError(
            f"An algorithm is given by its name, or 'package.module:Class', not {name!r:.99}."
        )
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    own = imported("algorithm", name, ALGORITHMS)
    varied = _varied(own) if isinstance(own, type) else ""
    base = ALGORITHMS.get(varied)
    kind = getattr(own, "Hyperparameters", base and base.hyperparameters)
    if not (isinstance(own, type) and isinstance(kind, type) and issubclass(kind, Hyperparameters)):
        raise ConfigError(
            f"{name} is not an algorithm: it must be a class that derives from one of iqlft's, or "
            "whose attribute `Hyperparameters` is a dataclass derived from "
            "iqlft.config.algorithms.Hyperparameters."
        )
    if base is None or not issubclass(kind, base.hyperparameters):
        return Registered(own.__name__, kind, name)
    return Registered(own.__name__, kind, name, base.defaults, varied)


def _varied(own: type) -> str:
    """The name of the nearest base class that is an algorithm here; empty if there is none."""
    homes = {each.home: name for name, each in ALGORITHMS.items()}
    ancestors = (f"{each.__module__}:{each.__qualname__}" for each in own.__mro__)
    return next((homes[home] for home in ancestors if home in homes), "")


def short_name(name: str) -> str:
    """An algorithm's name in run folders: its key, or its class in lower case; `10-percent-bc`."""
    return name.rpartition(":")[2].lower().replace("%", "-percent-").replace("/", "-")


def title(name: str) -> str:
    """An algorithm's name in tables and figures; unregistered ones are called after their class.

    Args:
        name: of one algorithm, or of two with `SWITCH` between them.
    """
    titles = (
        ALGORITHMS[each].title if each in ALGORITHMS else each.rpartition(":")[2]
        for each in name.split(SWITCH)
    )
    return " -> ".join(titles)


def is_switch(hyperparameter: str) -> bool:
    """Whether a hyperparameter of some algorithm here is a boolean."""
    kinds = [each.hyperparameters for each in ALGORITHMS.values()]
    found = {field.name: field.type for kind in kinds for field in fields(kind)}
    return found.get(hyperparameter) is bool


def owners(hyperparameter: str) -> list[str]:
    """Names of the algorithms that have a hyperparameter."""
    return [
        name
        for name, each in ALGORITHMS.items()
        if hyperparameter in {field.name for field in fields(each.hyperparameters)}
    ]
