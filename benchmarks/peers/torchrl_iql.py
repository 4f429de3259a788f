"""IQL of torchrl: its modules, loss, replay buffer and target update, eager."""

import peer
import torch
from flattened import flattened
from peer import ACTION_DIM, BATCH, HIDDEN, OBSERVATION_DIM, Data, Layers
from tensordict import TensorDict
from tensordict.nn import AddStateIndependentNormalScale, TensorDictModule
from torch import nn
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.modules import MLP, IndependentNormal, ProbabilisticActor, ValueOperator
from torchrl.objectives import IQLLoss, SoftUpdate

LOSSES = {"value": "loss_value", "actor": "loss_actor", "critic": "loss_qvalue"}


def perceptron(inputs: int, outputs: int, layers: Layers) -> MLP:
    """An MLP with these weights."""
    made = MLP(inputs, outputs, num_cells=[HIDDEN, HIDDEN], activation_class=nn.ReLU)
    linear = [module for module in made.modules() if isinstance(module, nn.Linear)]
    with torch.no_grad():
        for module, (weight, bias) in zip(linear, layers, strict=True):
            module.weight.copy_(torch.from_numpy(weight).T)
            module.bias.copy_(torch.from_numpy(bias))
    return made


def make_loss() -> IQLLoss:
    """The loss with the first weights."""
    weights, pair = peer.first_weights(), OBSERVATION_DIM + ACTION_DIM
    mean = perceptron(OBSERVATION_DIM, ACTION_DIM, weights["actor"])
    gaussian = nn.Sequential(mean, nn.Tanh(), AddStateIndependentNormalScale(ACTION_DIM))
    actor = ProbabilisticActor(
        TensorDictModule(gaussian, in_keys=["observation"], out_keys=["loc", "scale"]),
        in_keys=["loc", "scale"],
        distribution_class=IndependentNormal,
    )
    critics = [
        ValueOperator(perceptron(pair, 1, weights[name]), in_keys=["observation", "action"])
        for name in ("critic 1", "critic 2")
    ]
    value = ValueOperator(perceptron(OBSERVATION_DIM, 1, weights["value"]))
    loss = IQLLoss(
        actor,
        critics,
        value,
        loss_function="l2",
        temperature=peer.INVERSE_TEMPERATURE,
        expectile=peer.EXPECTILE,
    )
    loss.make_value_estimator(gamma=peer.DISCOUNT)
    return loss


def transitions(data: Data) -> TensorDict:
    """The data under torchrl's names."""
    tensors = Data(*map(torch.from_numpy, data))
    terminated = tensors.terminated.bool().unsqueeze(-1)
    following = {
        "observation": tensors.next_observations,
        "reward": tensors.rewards.unsqueeze(-1),
        "done": terminated,
        "terminated": terminated,
    }
    fields = {"observation": tensors.observations, "action": tensors.actions, "next": following}
    return TensorDict(fields, batch_size=[len(data.rewards)])


def build() -> peer.Learner:
    """The learner over the data."""
    data = transitions(peer.random_data())
    replay = TensorDictReplayBuffer(storage=LazyTensorStorage(len(data)), batch_size=BATCH)
    replay.extend(data)
    loss = make_loss()
    adam = torch.optim.Adam(loss.parameters(), peer.LEARNING_RATE)
    tracking = SoftUpdate(loss, tau=peer.TRACKING)

    def learn() -> dict[str, torch.Tensor]:
        found = loss(replay.sample())
        sum(found[name] for name in LOSSES.values()).backward()
        adam.step()
        adam.zero_grad()
        tracking.step()
        return {name: found[key].detach() for name, key in LOSSES.items()}

    parameters = flattened(
        value=loss.value_network_params,
        critic=loss.qvalue_network_params,
        actor=loss.actor_network_params,
    )

    def first_losses() -> dict[str, torch.Tensor]:
        # In the order of iqlft, whose actor and critics see the value after its step.
        first, batch = make_loss(), data[:BATCH].clone()
        value_loss = first(batch)["loss_value"]
        value_loss.backward()
        torch.optim.Adam(first.value_network_params.parameters(), peer.LEARNING_RATE).step()
        found = first(batch)
        found["loss_value"] = value_loss
        return {name: found[key].detach() for name, key in LOSSES.items()}

    return peer.Learner(learn, parameters, first_losses)


if __name__ == "__main__":
    peer.serve_learner(build, "torchrl", "tensordict", "torch")
