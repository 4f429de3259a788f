"""Ant policies are read from either format, and nothing else is taken for one."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iqlft.datasets.antmaze.gait import GAITS, load_gait
from iqlft.datasets.errors import PolicyFileError


def layers(rng: np.random.Generator, hidden: int = 16) -> dict[str, Any]:
    """Weights and biases of a small gait in this project's format."""
    shapes = [(29, hidden), (hidden, hidden), (hidden, 16)]
    arrays = {f"w{i}": rng.normal(size=s).astype(np.float32) * 0.3 for i, s in enumerate(shapes)}
    return arrays | {
        f"b{i}": rng.normal(size=s[1]).astype(np.float32) for i, s in enumerate(shapes)
    }


@pytest.mark.parametrize(("version", "noise"), [("v0", 0.3), ("v1", 0.2)])
def test_a_gait_of_the_package_carries_its_version_hash_and_noise(
    version: str, noise: float
) -> None:
    gait = load_gait(GAITS[version])
    assert gait.sha256 == hashlib.sha256(GAITS[version].read_bytes()).hexdigest()
    assert (gait.version, gait.noise, gait.direction_scale) == (version, noise, 1.0)


def test_an_action_is_the_squashed_sample_of_the_networks_gaussian(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = layers(rng)
    np.savez(tmp_path / "gait.npz", **arrays)
    observation, normals = rng.normal(size=29), rng.normal(size=8)
    hidden = np.maximum(observation @ arrays["w0"] + arrays["b0"], 0)
    hidden = np.maximum(hidden @ arrays["w1"] + arrays["b1"], 0)
    mean, log_std = np.split(hidden @ arrays["w2"] + arrays["b2"], 2)
    expected = np.tanh(mean + np.exp(np.clip(log_std, -5, 2)) * normals)
    action = load_gait(tmp_path / "gait.npz").sample(
        observation.astype(np.float32), normals.astype(np.float32)
    )
    # Weights and activations are rounded to multiples of 2^-16.
    np.testing.assert_allclose(action, expected, atol=2e-4)


def test_d4rls_format_is_the_same_network_with_transposed_matrices(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    arrays = layers(rng)
    d4rl = {}
    for layer, (w, b) in {
        "policy/fc0": (arrays["w0"], arrays["b0"]),
        "policy/fc1": (arrays["w1"], arrays["b1"]),
        "policy/last_fc": (arrays["w2"][:, :8], arrays["b2"][:8]),
        "policy/last_fc_log_std": (arrays["w2"][:, 8:], arrays["b2"][8:]),
    }.items():
        d4rl |= {f"{layer}/weight": w.T, f"{layer}/bias": b}
    np.savez(tmp_path / "d4rl.npz", **d4rl, **{"trainer/qf1/fc0/weight": np.zeros((3, 37))})
    gait = load_gait(tmp_path / "d4rl.npz")
    for i in range(3):
        np.testing.assert_allclose(gait.weights[i], arrays[f"w{i}"], rtol=0, atol=2**-17)
        np.testing.assert_allclose(gait.biases[i], arrays[f"b{i}"], rtol=0, atol=2**-17)
    assert (gait.noise, gait.direction_scale, gait.log_std_min) == (0.2, 10.0, -20.0)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError, match=r"There is no policy file .*walk\.npz"):
        load_gait(tmp_path / "walk.npz")


@pytest.mark.parametrize("content", [b"", b"not a policy", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_archive_of_arrays_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "walk.npz").write_bytes(content)
    with pytest.raises(PolicyFileError, match=r"not a readable \.npz file"):
        load_gait(tmp_path / "walk.npz")


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    arrays = layers(np.random.default_rng(0)) | {"w0": np.array([print], object)}
    np.savez(tmp_path / "walk.npz", **arrays)
    with pytest.raises(PolicyFileError, match="plain arrays"):
        load_gait(tmp_path / "walk.npz")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"w0": np.zeros((31, 16), np.float32)}, "layers of the shapes"),
        ({"w2": np.zeros((16, 8), np.float32), "b2": np.zeros(8, np.float32)}, "16 outputs"),
        ({"b1": np.full(16, np.nan, np.float32)}, "not finite"),
    ],
)
def test_networks_of_another_shape_or_with_bad_numbers_are_refused(
    tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    np.savez(tmp_path / "walk.npz", **(layers(np.random.default_rng(0)) | change))
    with pytest.raises(PolicyFileError, match=sentence):
        load_gait(tmp_path / "walk.npz")


def test_an_archive_of_other_arrays_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    np.savez(tmp_path / "walk.npz", apples=np.zeros(3))
    with pytest.raises(PolicyFileError, match="apples"):
        load_gait(tmp_path / "walk.npz")
