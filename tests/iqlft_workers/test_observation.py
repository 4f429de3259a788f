"""Every kind of observation that is numbers becomes one vector by one rule; others are refused."""

import itertools
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from iqlft_workers.environment import EnvironmentMismatchError, EnvironmentSpec
from iqlft_workers.observation import flatten, observation_bounds, observed_leaves

PAIR, IMAGE = spaces.Box(-2, 3, (2,)), spaces.Box(0, 255, (32, 32, 3), np.uint8)
WORLD = spaces.Dict({
    "battery": spaces.Box(0, 1, ()),
    "gears": spaces.MultiDiscrete([2, 3]),
    "lamps": spaces.MultiBinary(2),
    "mode": spaces.Discrete(3, start=-1),
    "arm": spaces.Dict({"pose": spaces.Box(-9, 9, (2, 2)), "tip": PAIR}),
})  # fmt: skip
SEEN = {
    "battery": np.float32(0.5),
    "gears": np.array([1, 2]),
    "lamps": np.array([0, 1], np.int8),
    "mode": np.int64(0),
    "arm": {"pose": np.array([[1, 2], [3, 4]]), "tip": np.array([5, 6])},
}
FLAT = {
    "arm/pose": [1, 2, 3, 4], "arm/tip": [5, 6], "battery": [0.5], "gears": [0, 1, 0, 0, 1],
    "lamps": [0, 1], "mode": [0, 1, 0],
}  # fmt: skip
"""In the space's order."""


def test_every_leaf_is_flattened_in_the_spaces_order() -> None:
    leaves = observed_leaves(WORLD)
    assert [leaf.key for leaf in leaves] == list(FLAT)
    assert flatten(SEEN, leaves).tolist() == list(itertools.chain(*FLAT.values()))
    low, high = observation_bounds(WORLD, leaves)
    assert low.tolist() == [-9] * 4 + [-2] * 2 + [0] * 11
    assert high.tolist() == [9] * 4 + [3] * 2 + [1] * 11


@pytest.mark.parametrize(
    ("keys", "order"),
    [
        (["mode", "battery"], ["mode", "battery"]),
        (["lamps", "arm"], ["lamps", "arm/pose", "arm/tip"]),
    ],
)
def test_keys_choose_and_order(keys: list[str], order: list[str]) -> None:
    chosen = flatten(SEEN, observed_leaves(WORLD, keys))
    assert chosen.tolist() == list(itertools.chain(*(FLAT[key] for key in order)))


@pytest.mark.parametrize(
    ("space", "seen", "flat"),
    [
        (PAIR, [1, 2], [1, 2]),
        (spaces.Box(0, 1, ()), 0.25, [0.25]),
        (spaces.Box(0, 1, (2, 1, 2)), [[[1, 2]], [[3, 4]]], [1, 2, 3, 4]),
        (spaces.Discrete(4), 2, [0, 0, 1, 0]),
        (spaces.MultiBinary([2, 2]), [[0, 1], [1, 0]], [0, 1, 1, 0]),
    ],
)
def test_an_episode_is_flattened_as_its_single_observations_are(
    space: spaces.Space[Any], seen: object, flat: list[float]
) -> None:
    leaves = observed_leaves(space)
    assert flatten(np.array(seen), leaves).tolist() == flat
    assert flatten(np.array([seen] * 3), leaves).tolist() == [flat] * 3


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (IMAGE, "the observation is an image of the shape"),
        (spaces.Box(0, 1, (3, 64, 64)), "is an image"),
        (spaces.Dict(camera=IMAGE, place=PAIR), "'camera' is an image .*--observation-keys place"),
        (
            spaces.Dict(order=spaces.Text(9), a=spaces.Dict(b=PAIR)),
            "a text.*--observation-keys a/b",
        ),
        (spaces.Dict(order=spaces.Text(9)), "wrap the environment"),
        (spaces.Discrete(10**6), "one of 1,000,000 values"),
        (spaces.Tuple([PAIR, PAIR]), "of the kind Tuple"),
    ],
)
def test_what_no_vector_holds_is_refused_by_name(space: spaces.Space[Any], words: str) -> None:
    with pytest.raises(EnvironmentMismatchError, match=words):
        observed_leaves(space)


def test_an_image_that_is_not_chosen_disturbs_nobody() -> None:
    space = spaces.Dict(camera=IMAGE, place=PAIR)
    assert [leaf.width for leaf in observed_leaves(space, ["place"])] == [2]


@pytest.mark.parametrize(
    ("keys", "words"),
    [(["battary"], "did you mean 'battery'"), (["arm", "arm/tip"], "names 'arm/tip' twice")],
)
def test_wrong_keys_are_refused(keys: list[str], words: str) -> None:
    with pytest.raises(EnvironmentMismatchError, match=words):
        observed_leaves(WORLD, keys)


@pytest.mark.parametrize("value", [2, -2, 0.5])
def test_a_value_that_is_no_category_is_refused(value: float) -> None:
    with pytest.raises(EnvironmentMismatchError, match="mode has the value"):
        flatten({"mode": np.array([value])}, observed_leaves(WORLD, ["mode"]))


def test_a_spec_keeps_its_leaves_as_data() -> None:
    leaves = observed_leaves(WORLD)
    spec = EnvironmentSpec("X-v0", observation_leaves=leaves, action_shape=(2, 3))
    assert EnvironmentSpec.from_dict(spec.to_dict()) == spec
    with pytest.raises(TypeError, match="part of an observation"):
        EnvironmentSpec.from_dict(
            {"id": "X-v0", "observation_leaves": [{**leaves[0]._asdict(), "shape": ["a"]}]}
        )
