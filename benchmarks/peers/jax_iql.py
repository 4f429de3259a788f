"""IQL as in JAX-CORL, written anew: eight updates, sampling included, in each jitted call."""

from functools import partial
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import peer
from flax import linen
from flax.training.train_state import TrainState
from peer import BATCH, HIDDEN, Data, Layers

UPDATES_PER_CALL = 8
State = dict[str, Any]


class MLP(linen.Module):
    """An MLP with two hidden layers."""

    outputs: int

    @linen.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """`(B, in)` to `(B, outputs)`."""
        for _ in range(2):
            inputs = linen.relu(linen.Dense(HIDDEN)(inputs))
        return linen.Dense(self.outputs)(inputs)


class Critics(linen.Module):
    """Two critics."""

    @linen.compact
    def __call__(self, pairs: jax.Array) -> jax.Array:
        """`(B, O + A)` to `(2, B)`."""
        return jnp.stack([MLP(1)(pairs)[:, 0] for _ in range(2)])


class Actor(linen.Module):
    """A Gaussian with a state-independent standard deviation and a tanh mean."""

    @linen.compact
    def __call__(self, observations: jax.Array, actions: jax.Array) -> jax.Array:
        """Log probability `(B,)` of actions."""
        mean = jnp.tanh(MLP(peer.ACTION_DIM)(observations))
        log_std = self.param("log_std", linen.initializers.zeros, (peer.ACTION_DIM,))
        log_std = jnp.clip(log_std, -5.0, 2.0)
        return jax.scipy.stats.norm.logpdf(actions, mean, jnp.exp(log_std)).sum(-1)


def layers(arrays: Layers) -> dict[str, Any]:
    """Parameters of an `MLP`."""
    return {f"Dense_{i}": {"kernel": w, "bias": b} for i, (w, b) in enumerate(arrays)}


def first_state() -> State:
    """The networks with the first weights."""
    weights = {name: layers(arrays) for name, arrays in peer.first_weights().items()}
    critics = {f"MLP_{i}": weights[f"critic {i + 1}"] for i in range(2)}
    log_std = np.zeros(peer.ACTION_DIM, np.float32)
    parameters = {
        "value": (MLP(1), weights["value"]),
        "critic": (Critics(), critics),
        "actor": (Actor(), {"MLP_0": weights["actor"], "log_std": log_std}),
    }
    state: State = {
        name: TrainState.create(
            apply_fn=module.apply,
            params=jax.tree.map(jnp.asarray, {"params": each}),
            tx=optax.adam(peer.LEARNING_RATE),
        )
        for name, (module, each) in parameters.items()
    }
    return state | {"target": jax.tree.map(jnp.copy, state["critic"].params)}


def update(state: State, batch: Data) -> tuple[State, dict[str, jax.Array]]:
    """One update: value, actor, critics, target."""
    value, actor, critic, target = (state[k] for k in ("value", "actor", "critic", "target"))
    observations, actions, rewards, next_observations, terminated = batch
    pairs = jnp.concatenate([observations, actions], -1)
    target_values = critic.apply_fn(target, pairs).min(0)

    def value_loss(parameters: Any) -> jax.Array:  # noqa: ANN401
        difference = target_values - value.apply_fn(parameters, observations)[:, 0]
        weight = jnp.where(difference > 0, peer.EXPECTILE, 1 - peer.EXPECTILE)
        return (weight * difference**2).mean()

    losses = {}
    losses["value"], gradient = jax.value_and_grad(value_loss)(value.params)
    value = value.apply_gradients(grads=gradient)
    advantage = target_values - value.apply_fn(value.params, observations)[:, 0]
    weights = jnp.minimum(jnp.exp(peer.INVERSE_TEMPERATURE * advantage), 100.0)

    def actor_loss(parameters: Any) -> jax.Array:  # noqa: ANN401
        return -(weights * actor.apply_fn(parameters, observations, actions)).mean()

    losses["actor"], gradient = jax.value_and_grad(actor_loss)(actor.params)
    actor = actor.apply_gradients(grads=gradient)
    next_values = value.apply_fn(value.params, next_observations)[:, 0]
    targets = rewards + peer.DISCOUNT * (1 - terminated) * next_values

    def critic_loss(parameters: Any) -> jax.Array:  # noqa: ANN401
        return ((critic.apply_fn(parameters, pairs) - targets) ** 2).mean(-1).sum()

    losses["critic"], gradient = jax.value_and_grad(critic_loss)(critic.params)
    critic = critic.apply_gradients(grads=gradient)
    target = optax.incremental_update(critic.params, target, peer.TRACKING)
    return {"value": value, "actor": actor, "critic": critic, "target": target}, losses


@partial(jax.jit, donate_argnums=0)
def updates(state: State, key: jax.Array, data: Data) -> tuple[State, jax.Array, dict[str, Any]]:
    """Eight updates on batches drawn from the data."""
    losses: dict[str, Any] = {}
    for _ in range(UPDATES_PER_CALL):
        key, drawn = jax.random.split(key)
        places = jax.random.randint(drawn, (BATCH,), 0, len(data.rewards))
        state, losses = update(state, Data(*(each[places] for each in data)))
    return state, key, losses


def build() -> peer.Learner:
    """The learner."""
    data = Data(*map(jnp.asarray, peer.random_data()))
    held = [first_state(), jax.random.key(0)]

    def learn() -> dict[str, jax.Array]:
        held[0], held[1], losses = updates(held[0], held[1], data)
        return jax.block_until_ready(losses)

    def parameters() -> dict[str, np.ndarray]:
        trees = {name: held[0][name].params for name in ("value", "actor", "critic")}
        return {name: jax.flatten_util.ravel_pytree(tree)[0] for name, tree in trees.items()}

    def first_losses() -> dict[str, jax.Array]:
        return jax.jit(update)(first_state(), Data(*(each[:BATCH] for each in data)))[1]

    return peer.Learner(learn, parameters, first_losses, UPDATES_PER_CALL)


if __name__ == "__main__":
    peer.serve_learner(build, "jax", "flax", "optax")
