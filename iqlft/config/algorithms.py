"""The algorithms by name: the dataclass of each one's hyperparameters, and where its class is.

Imports no torch, so that `--help` shows an algorithm's flags without loading it. To add one: a file
in `iqlft/algorithms/`, a dataclass and a line in `ALGORITHMS` here, and a test file.
"""

# tyro reads these annotations at run time, so they are not postponed.
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal, NamedTuple, Self

import tyro
from annotated_types import Interval

from iqlft.config.bounds import Count, NonNegative, Positive, Real, Share, Size
from iqlft.config.errors import ConfigError, nearest
from iqlft_workers.search_path import advice

ActorSchedule = Literal["constant", "cosine", "climbing-cosine"]
"""How an actor's learning rate goes on."""
Reduction = Literal["min", "mean"]
"""What is made of the values of several critics."""


@dataclass(frozen=True)
class Hyperparameters:
    """What every algorithm has."""

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
        """What papers call the algorithm with these settings; empty where that is its own name."""
        return ""

    @property
    def scheduled(self) -> bool:
        """Whether an update of pretraining depends on how many there will be."""
        return False

    @property
    def unscheduled(self) -> Self:
        """The same where it is not known how many updates there will be, or there are more."""
        return self

    @property
    def contradiction(self) -> str:
        """Which settings make no sense together, and what to do; empty if all do."""
        return ""


@dataclass(frozen=True)
class CriticHyperparameters(Hyperparameters):
    """What every algorithm with bootstrapped critics has."""

    discount: Share = 0.99
    """Discount of future rewards."""
    target_update_rate: Share = 0.005
    """Share by which the target networks move towards the networks at each update."""
    clip_targets: bool = False
    """Clip the critics' targets to the returns that rewards so far allow, against divergence."""
    critic_layer_norm: bool = False
    """LayerNorm in the hidden layers of critics and values, against divergence."""


@dataclass(frozen=True)
class IQLHyperparameters(CriticHyperparameters):
    """IQL's hyperparameters, by default those of AntMaze."""

    expectile: Annotated[float, Interval(gt=0, le=1)] = 0.9
    """tau of the expectile loss (paper, eq. 5): 0.9 for AntMaze, 0.7 for locomotion."""
    inverse_temperature: Real = 10.0
    """beta of the advantage-weighted actor loss (paper, eq. 7): 10 in AntMaze, 3 in locomotion."""
    actor_schedule: ActorSchedule = "constant"
    """Actor's learning rate: constant (fine-tuning follows); a cosine to 0 over num_updates, and
    constant again online; or, to compare with CORL, the cosine that goes on and climbs back."""
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Share of the actor's hidden units dropped in its updates: 0.1 in kitchen and Adroit."""

    @property
    def scheduled(self) -> bool:
        """With a cosine, which ends with pretraining."""
        return self.actor_schedule != "constant"

    @property
    def unscheduled(self) -> Self:
        """With a constant learning rate, as online."""
        return replace(self, actor_schedule="constant")


@dataclass(frozen=True)
class OneStepHyperparameters(IQLHyperparameters):
    """One-step RL's hyperparameters: those of IQL's authors for AntMaze, but for the expectile."""

    expectile: Annotated[float, Interval(ge=0.5, le=0.5), tyro.conf.Fixed] = 0.5
    """What makes it one step: V is the mean of Q over the data's actions."""


@dataclass(frozen=True)
class BCHyperparameters(Hyperparameters):
    """Hyperparameters of behaviour cloning."""

    best_share: Annotated[float, Interval(gt=0, le=1)] = 1.0
    """Share of the dataset's episodes to clone, the best by their returns; 0.1 is 10%BC."""
    best_discount: Share = 1.0
    """Discount of these returns; CORL's is 0.99, by which those that begin at a goal are best."""
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Share of the actor's hidden units dropped in its updates."""

    @property
    def known_as(self) -> str:
        """`10%BC` where the best tenth is cloned."""
        return f"{100 * self.best_share:.12g}%BC" if self.best_share < 1 else ""


@dataclass(frozen=True)
class AWACHyperparameters(CriticHyperparameters):
    """AWAC's hyperparameters, by default those of CORL for AntMaze."""

    inverse_temperature: Real = 10.0
    """1 / lambda of the advantage weights exp(A / lambda); CORL's lambda is 0.1 in AntMaze."""
    hidden_layers: Count = 3
    """Number of hidden layers."""


@dataclass(frozen=True)
class TD3BCHyperparameters(CriticHyperparameters):
    """TD3+BC's hyperparameters, those of its authors for locomotion; they give none for AntMaze."""

    alpha: NonNegative = 2.5
    """Weight of the critic against cloning in the actor's loss (paper, eq. 5)."""
    policy_delay: Count = 2
    """Updates of the critics between updates of actor and targets."""
    policy_noise: NonNegative = 0.2
    """Standard deviation of the noise on the target actor's actions."""
    noise_clip: NonNegative = 0.5
    """Bound of that noise."""
    exploration_noise: NonNegative = 0.1
    """Standard deviation of the noise on the actions of online episodes."""


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
    """Width of the critics' hidden layers; 0: as the actor's."""
    critic_hidden_layers: Size = 0
    """Number of the critics' hidden layers; 0: as the actor's."""
    output_gain: Positive = 1.4142135623730951
    """Gain of the output layers' initial weights; the hidden layers' is the root of 2."""
    initial_log_std: Real = 0.0
    """Log standard deviation of the policy at first, about."""
    num_critics: Count = 2
    """Critics."""
    num_target_critics: Size = 0
    """Of how many critics, drawn at random for each update, a target is made; 0: of all."""
    target_reduction: Reduction = "min"
    """What a target makes of their values."""
    target_actions: Count = 1
    """Actions of the policy in the next state, of which a target takes the best."""
    actor_reduction: Reduction = "min"
    """What the actor's loss makes of the values of all critics."""
    critic_updates: Count = 1
    """Updates of the critics per update, each on a batch of its own."""
    entropy_temperature: Positive = 1.0
    """Weight alpha of the policy's entropy; where it is learned, the first one."""
    learn_temperature: bool = True
    """Whether the weight is learned, so that the entropy tends to its target."""
    target_entropy: Real = -1.0
    """That target, per dimension of an action."""
    entropy_backup: bool = True
    """Whether the critics' targets have the entropy of the next action in them."""

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
                "--clip-targets keeps Q among the possible returns, but with the entropy in its "
                "target Q is no return; say --no-entropy-backup, or leave one of them out."
            )
        return ""


@dataclass(frozen=True)
class RLPDHyperparameters(SACHyperparameters):
    """RLPD's hyperparameters, by default those of its authors for AntMaze."""

    hidden_layers: Count = 3
    """Number of hidden layers."""
    critic_layer_norm: bool = True
    """LayerNorm in the hidden layers of the critics, against divergence."""
    num_critics: Count = 10
    """Critics."""
    num_target_critics: Size = 1
    """Of how many critics, drawn at random for each update, a target is made; 0: of all."""
    actor_reduction: Reduction = "mean"
    """What the actor's loss makes of the values of all critics."""
    critic_updates: Count = 20
    """Updates of the critics per update, each on a batch of its own."""
    target_entropy: Real = -0.5
    """Entropy that the policy is to have, per dimension of an action."""
    entropy_backup: bool = False
    """Whether the critics' targets have the entropy of the next action in them."""


@dataclass(frozen=True)
class WSRLHyperparameters(SACHyperparameters):
    """WSRL's hyperparameters, by default those of its authors for AntMaze."""

    actor_learning_rate: Positive = 1e-4
    """Adam's learning rate for the actor and the temperature."""
    actor_layer_norm: bool = True
    """LayerNorm in the hidden layers of the actor."""
    critic_layer_norm: bool = True
    """LayerNorm in the hidden layers of the critics, against divergence."""
    critic_hidden_layers: Size = 4
    """Number of the critics' hidden layers; 0: as the actor's."""
    output_gain: Positive = 1e-2
    """Gain of the output layers' initial weights; the hidden layers' is the root of 2."""
    num_critics: Count = 10
    """Critics."""
    num_target_critics: Size = 2
    """Of how many critics, drawn at random for each update, a target is made; 0: of all."""
    target_actions: Count = 10
    """Actions of the policy in the next state, of which a target takes the best."""
    critic_updates: Count = 4
    """Updates of the critics per update, each on a batch of its own."""
    entropy_backup: bool = False
    """Whether the critics' targets have the entropy of the next action in them."""


@dataclass(frozen=True)
class CQLHyperparameters(SACHyperparameters):
    """CQL's hyperparameters, by default those of CORL for AntMaze."""

    actor_learning_rate: Positive = 1e-4
    """Adam's learning rate for the actor and the temperature."""
    hidden_layers: Count = 3
    """Number of hidden layers."""
    critic_hidden_layers: Size = 5
    """Number of the critics' hidden layers; 0: as the actor's."""
    initial_log_std: Real = -1.0
    """Log standard deviation of the policy at first, about."""
    target_actions: Count = 10
    """Actions of the policy in the next state, of which a target takes the best."""
    entropy_backup: bool = False
    """Whether the critics' targets have the entropy of the next action in them."""
    penalty_weight: NonNegative = 5.0
    """Weight of the penalty."""
    sampled_actions: Count = 10
    """Actions from each of the uniform distribution, pi(s) and pi(s') in the penalty."""
    lagrange: bool = True
    """Whether a multiplier of the penalty is learned, so that the difference of Q between these
    actions and the data's tends to the target gap."""
    target_gap: Real = 0.8
    """That difference, where the multiplier is learned."""
    gap_min: Real | None = -200.0
    """Lower bound of that difference at a transition; none: no bound."""


@dataclass(frozen=True)
class CalQLHyperparameters(CQLHyperparameters):
    """Cal-QL's hyperparameters, by default those of its authors for AntMaze."""

    hidden_layers: Count = 2
    """Number of hidden layers."""
    critic_hidden_layers: Size = 4
    """Number of the critics' hidden layers; 0: as the actor's."""
    output_gain: Positive = 1e-2
    """Gain of the output layers' initial weights; the hidden layers' is the root of 2."""
    gap_min: Real | None = None
    """Lower bound of that difference at a transition; none: no bound."""
    calibrate_online: bool = True
    """Whether values are calibrated in fine-tuning too."""


SWITCH = "->"
"""Between the names of the algorithms of a run that was fine-tuned with another one."""


class Registered(NamedTuple):
    """An algorithm that `--algorithm` knows.

    Attributes:
        title: what tables and figures call it.
        hyperparameters: the dataclass of its flags.
        home: its class, as `module:Class`.
        defaults: settings other than hyperparameters in which its reference differs from ours.
        varied: of a user's class, the name of the algorithm here that it derives from, with its
            hyperparameters, and whose settings for a task are its own too; empty if there is none.
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
    "sac": Registered("SAC", SACHyperparameters, "iqlft.algorithms.sac:SAC"),
    "rlpd": Registered("RLPD", RLPDHyperparameters, "iqlft.algorithms.rlpd:RLPD"),
    "wsrl": Registered("WSRL", WSRLHyperparameters, "iqlft.algorithms.wsrl:WSRL"),
    "cql": Registered("CQL", CQLHyperparameters, "iqlft.algorithms.cql:CQL"),
    "calql": Registered("Cal-QL", CalQLHyperparameters, "iqlft.algorithms.calql:CalQL"),
    "onestep": Registered("One-step", OneStepHyperparameters, "iqlft.algorithms.onestep:OneStep"),
}
"""By the name that `--algorithm`, `meta.json` and run folders have."""


def registered(name: str) -> Registered:
    """What there is to know of an algorithm before it is built.

    Args:
        name: of `ALGORITHMS`; or, of a class that is not among them, `package.module:Class`. Such a
            class derives from one that is, or has an attribute `Hyperparameters`, a dataclass
            derived from the one here.

    Raises:
        ConfigError: there is no such algorithm, module or class, or the class is no algorithm.
    """
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    if ":" not in name:
        raise ConfigError(
            f"There is no algorithm {name!r}.{nearest(name, ALGORITHMS)} Known algorithms: "
            f"{', '.join(ALGORITHMS)}; one of your own is named as package.module:Class."
        )
    own = _imported(name)
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
    """The name of the nearest algorithm here that a class derives from."""
    homes = {each.home: name for name, each in ALGORITHMS.items()}
    ancestors = (f"{each.__module__}:{each.__qualname__}" for each in own.__mro__)
    return next((homes[home] for home in ancestors if home in homes), "")


def _imported(name: str) -> Any:  # noqa: ANN401
    """What `package.module:Class` names."""
    module, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"The algorithm {name} cannot be imported ({error}); check the name, and that its "
            f"folder is on PYTHONPATH.{advice(module)}"
        ) from error
    if not hasattr(found, attribute):
        raise ConfigError(f"The module {module} has no class {attribute!r}.")
    return getattr(found, attribute)


def short_name(name: str) -> str:
    """What run folders call an algorithm: its name, its class in lower case, `10-percent-bc`."""
    return name.rpartition(":")[2].lower().replace("%", "-percent-").replace("/", "-")


def title(name: str) -> str:
    """What tables and figures call an algorithm, known here or not: a run may be of another one.

    Args:
        name: of one, or of two with `SWITCH` between them.
    """
    titles = (
        ALGORITHMS[each].title if each in ALGORITHMS else each.rpartition(":")[2]
        for each in name.split(SWITCH)
    )
    return " -> ".join(titles)


def is_switch(hyperparameter: str) -> bool:
    """Whether a hyperparameter of some algorithm here is on or off."""
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
