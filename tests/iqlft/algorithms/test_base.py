"""What every algorithm promises: the registered ones, their variants, and one of a user's own."""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from iqlft.algorithms.base import Algorithm, Batch, Metrics, Spec, algorithm_class, reduce
from iqlft.config.algorithms import ALGORITHMS, Hyperparameters
from iqlft.nn.networks import DeterministicActor, MLPNetwork
from iqlft_workers.actor import check_weights, make_actor
from iqlft_workers.wire import pack_weights, unpack_weights
from numpy_networks import (
    ACTION_DIM,
    BATCH,
    OBSERVATION_DIM,
    SPEC,
    as_batch,
    random_arrays,
    random_batch,
    stacked,
)

SMALL = {"hidden_size": 12, "batch_size": BATCH}
FEWER_UPDATES = {"critic_updates": 2}
"""Where an algorithm makes several of its critics in one: a test's batch is small."""
VARIANTS = {
    "dropout": 0.25,
    "best_share": 0.5,
    "critic_layer_norm": True,
    "critic_updates": 4,
    "actor_layer_norm": True,
    "learn_temperature": False,
    "lagrange": False,
}
"""Settings that an algorithm may have, and that change what its updates do."""


class RewardBaseline(Algorithm[Hyperparameters]):
    """A user's own: clones the actions whose reward is above a running mean."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **options)
        mlp = self.mlp(self.spec.observation_dim, self.spec.action_dim)
        self.actor: DeterministicActor = self.learned("actor", DeterministicActor(mlp, 0.1))
        self.baseline = self.observation_mean.new_zeros(self.num_members, 1)

    def update(self, batch: Batch) -> Metrics:
        """One update of every member."""
        error = (self.actor(self.normalize(batch.observations)) - batch.actions).square().sum(-1)
        loss = ((batch.rewards > self.baseline) * error).mean(-1)
        self.minimize("actor", loss, self.hyperparameters.learning_rate)
        self.baseline.lerp_(batch.rewards.mean(-1, keepdim=True), 0.1)
        self.updates += 1
        return {"actor/loss": loss, "reward/baseline": self.baseline.clone()}

    def extra_tensors(self) -> dict[str, Tensor]:
        """The running mean."""
        return {"baseline": self.baseline}


class Case(NamedTuple):
    """An algorithm with settings."""

    kind: type[Algorithm[Any]]
    hyperparameters: Hyperparameters

    def made(
        self, seeds: Sequence[int] = (0,), *, spec: Spec = SPEC, **options: object
    ) -> Algorithm[Any]:
        """An instance of it."""
        return self.kind(spec, self.hyperparameters, seeds, **options)


def cases() -> dict[str, Case]:
    found = {"a user's own": Case(RewardBaseline, Hyperparameters(**SMALL))}
    for name, registered in ALGORITHMS.items():
        plain = registered.hyperparameters(**SMALL)
        if getattr(plain, "critic_updates", 1) > 1:
            plain = dataclasses.replace(plain, **FEWER_UPDATES)
        found[name] = Case(algorithm_class(name), plain)
        for setting, value in VARIANTS.items():
            if hasattr(plain, setting):
                changed = dataclasses.replace(plain, **{setting: value})
                found[f"{name}, {setting}"] = Case(algorithm_class(name), changed)
    return found


CASES = cases()
each_algorithm = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def normalizing(rng: np.random.Generator) -> Spec:
    """A spec that normalises."""
    mean, std = rng.normal(size=OBSERVATION_DIM), rng.uniform(0.5, 2, OBSERVATION_DIM)
    return SPEC._replace(observation_mean=torch.tensor(mean), observation_std=torch.tensor(std))


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for key, tensor in one.items():
        assert torch.equal(tensor, other[key]), key


# -- checkpoints --------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [2, 3])
@each_algorithm
def test_training_continues_to_the_same_bits_from_its_state(case: Case, cut: int) -> None:
    rng = np.random.default_rng(0)
    batches = [random_batch(rng, 2) for _ in range(6)]
    whole, first, second = case.made((0, 1)), case.made((0, 1)), case.made((98, 99))
    for batch in batches[:cut]:
        assert reduce(whole.update(batch)) == reduce(first.update(batch))
    whole.begin_online()
    first.begin_online()
    for member in range(2):
        second.load_state(first.state(member), member)
    assert (second.updates, second.online) == (cut, True)
    for batch in batches[cut:]:
        assert reduce(whole.update(batch)) == reduce(second.update(batch))
    assert second.updates == 6
    for member in range(2):
        assert_same(whole.state(member), second.state(member))


@each_algorithm
def test_a_state_is_a_copy_that_no_later_update_changes(case: Case) -> None:
    rng, algorithm = np.random.default_rng(1), case.made()
    algorithm.update(random_batch(rng))
    state = algorithm.state()
    before = {key: tensor.clone() for key, tensor in state.items()}
    for _ in range(2):
        algorithm.update(random_batch(rng))
    assert_same(state, before)
    changed = {key for key, tensor in algorithm.state().items() if not tensor.equal(state[key])}
    assert {"updates", "actor.weights.0", "adam.actor.weights.0.mean"} < changed


@each_algorithm
def test_a_state_of_other_networks_is_refused(case: Case) -> None:
    wider = case._replace(hyperparameters=dataclasses.replace(case.hyperparameters, hidden_size=13))
    with pytest.raises(RuntimeError, match="is needed"):
        case.made().load_state(wider.made().state())
    state = case.made().state()
    del state["actor.weights.0"]
    with pytest.raises(KeyError, match="actor"):
        case.made().load_state(state)


@each_algorithm
def test_that_fine_tuning_has_begun_is_in_the_state(case: Case) -> None:
    algorithm = case.made()
    assert (algorithm.online, bool(algorithm.state()["online"])) == (False, False)
    algorithm.begin_online()
    assert (algorithm.online, bool(algorithm.state()["online"])) == (True, True)


@each_algorithm
def test_what_draws_says_so_and_has_its_random_stream_in_its_state(case: Case) -> None:
    algorithm, rng = case.made((0, 1)), np.random.default_rng(2)
    for _ in range(2):
        before = [generator.get_state() for generator in algorithm.generators]
        algorithm.update(random_batch(rng, 2))
        for generator, state in zip(algorithm.generators, before, strict=True):
            assert torch.equal(generator.get_state(), state) != algorithm.draws
    assert ("random_state" in algorithm.state()) == algorithm.draws
    for online in (False, True):
        # A recorded update would draw the same numbers again and again.
        assert not (algorithm.draws and algorithm.is_uniform(online=online))


# -- members, normalisation, precision ----------------------------------------------------------


@each_algorithm
def test_a_member_learns_the_same_whichever_members_are_stacked_with_it(case: Case) -> None:
    rng = np.random.default_rng(3)
    alone = case.made((7,), dtype=torch.float64)
    together = case.made((5, 7, 9), dtype=torch.float64)
    for _ in range(4):
        each = [as_batch(random_arrays(rng), torch.float64) for _ in range(3)]
        one, other = reduce(alone.update(each[1])), reduce(together.update(stacked(each)))
        assert one[0] == pytest.approx(other[1], rel=1e-6)
    ours, theirs = alone.actor_weights(0), together.actor_weights(1)
    for name, array in ours.arrays.items():
        np.testing.assert_allclose(array, theirs.arrays[name], rtol=1e-6, err_msg=name)
    for key, tensor in alone.state().items():
        torch.testing.assert_close(tensor, together.state(1)[key], rtol=1e-6, atol=1e-12)


@each_algorithm
def test_normalising_inside_equals_normalised_observations_outside(case: Case) -> None:
    rng = np.random.default_rng(4)
    spec = normalizing(rng)
    inside, outside = case.made(spec=spec, dtype=torch.float64), case.made(dtype=torch.float64)
    for _ in range(3):
        raw = random_batch(rng, dtype=torch.float64)
        normalized = raw._replace(
            observations=(raw.observations - spec.observation_mean) / spec.observation_std,
            next_observations=(raw.next_observations - spec.observation_mean)
            / spec.observation_std,
        )
        (one,), (other,) = reduce(inside.update(raw)), reduce(outside.update(normalized))
        assert one == pytest.approx(other, rel=1e-10)
    for ours, theirs in (
        (inside.values(raw.observations), outside.values(normalized.observations)),
        (
            inside.q_values(raw.observations, raw.actions),
            outside.q_values(normalized.observations, raw.actions),
        ),
    ):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs)


@each_algorithm
def test_bf16_layers_follow_every_update_and_every_state(case: Case) -> None:
    rng = np.random.default_rng(5)

    def assert_rounded(algorithm: Algorithm[Any]) -> None:
        for network in algorithm._networks.values():
            if not isinstance(network, MLPNetwork):
                continue
            mlp = network.mlp
            assert mlp._rounded.dtype == torch.bfloat16
            assert torch.equal(mlp._rounded, mlp.parameters.to(torch.bfloat16))

    first, second = (case.made((0, 1), hidden_dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        first.update(random_batch(rng, 2))
        assert_rounded(first)
    second.load_state(first.state(1), 0)
    assert_rounded(second)
    assert torch.equal(second.actor.mlp.weights[0][0], first.actor.mlp.weights[0][1])


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("hidden", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 5e-2)], ids=["f32", "bf16"]
)
@each_algorithm
def test_updates_on_cuda_equal_those_on_the_cpu_and_continue_from_their_state(
    case: Case, hidden: torch.dtype, tolerance: float
) -> None:
    rng, seeds = np.random.default_rng(6), (0, 1)
    here, there = (
        case.made(seeds, device=device, hidden_dtype=hidden) for device in ("cpu", "cuda")
    )
    for index in range(10):
        batch = random_batch(rng, 2)
        one = here.update(batch)
        other = there.update(batch.map(torch.Tensor.cuda))
        key = "critic/loss" if "critic/loss" in one else "actor/loss"
        for ours, theirs in zip(reduce(one), reduce(other), strict=True):
            assert theirs[key] == pytest.approx(ours[key], rel=tolerance)
        if index == 4:
            there = case.made(seeds, device="cuda", hidden_dtype=hidden)
            for member in range(2):
                there.load_state(here.state(member), member)
    assert there.updates == 10


# -- what others read ---------------------------------------------------------------------------


@each_algorithm
def test_figures_are_finite_and_have_names_with_a_namespace(case: Case) -> None:
    rng, algorithm = np.random.default_rng(7), case.made((0, 1))
    names = set()
    for _ in range(3):
        found = reduce(algorithm.update(random_batch(rng, 2)))
        assert len(found) == 2
        for member in found:
            assert "actor/loss" in member
            assert all(map(math.isfinite, member.values()))
            assert all(re.fullmatch(r"[a-z_]+/[a-z_]+", name) for name in member)
            names.add(tuple(member))
    # A log has the same columns from its first line to its last.
    assert len(names) == 1


@each_algorithm
def test_critic_and_value_answer_for_every_transition_or_are_not_there(case: Case) -> None:
    rng, algorithm = np.random.default_rng(8), case.made((0, 1, 2))
    batch = random_batch(rng, 3)
    algorithm.update(batch)
    for found in (
        algorithm.q_values(batch.observations, batch.actions),
        algorithm.values(batch.observations),
    ):
        if found is not None:
            assert found.shape == (3, BATCH)
            assert found.isfinite().all()
            assert not found.requires_grad


@each_algorithm
def test_the_exported_actor_travels_and_acts_like_the_one_that_learns(case: Case) -> None:
    rng = np.random.default_rng(9)
    algorithm = case.made((0, 1), spec=normalizing(rng))
    for _ in range(4):
        algorithm.update(random_batch(rng, 2))
    observations = torch.tensor(rng.normal(size=(2, 100, OBSERVATION_DIM)), dtype=torch.float32)
    with torch.no_grad():
        policy = algorithm.actor(algorithm.normalize(observations))
    actions = (policy[0] if isinstance(policy, tuple) else policy).clamp(-1, 1).numpy()
    for member in range(2):
        weights = check_weights(algorithm.actor_weights(member))
        received = unpack_weights(pack_weights(weights))
        assert (weights.version, weights.observation_dim) == (4, OBSERVATION_DIM)
        assert weights.action_dim == ACTION_DIM
        assert received._replace(arrays={}) == weights._replace(arrays={})
        for name, array in weights.arrays.items():
            np.testing.assert_array_equal(received.arrays[name], array)
        ours = make_actor(received).mean(observations[member].numpy())
        np.testing.assert_allclose(ours, actions[member], atol=1e-5)
