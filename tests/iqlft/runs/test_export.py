"""An exported file is the NumPy actor, whatever its kind, and says what it is."""

import itertools
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from iqlft.runs.export import DESCRIPTION, to_onnx, to_torch
from iqlft.runs.policy import Policy
from iqlft.runs.tracing import ExportError
from iqlft_workers.actor import ACTORS, ActorWeights, DeterministicActor, check_weights, make_actor
from iqlft_workers.environment import EnvironmentSpec
from iqlft_workers.observation import Leaf

ROOT = Path(__file__).parents[3]
LOW, HIGH = (0.1, -2.0, 0.0, -1.0), (0.7, 2.0, 1.0, 1.0)

ROBOT = EnvironmentSpec(
    "mine/Robot-v0",
    observation_keys=("joints", "camera/gripper"),
    action_low=LOW,
    action_high=HIGH,
    observation_leaves=(Leaf("joints", (3, 2)), Leaf("camera/gripper", (1,))),
    action_shape=(2, 2),
)
CASES = [
    ("gaussian", {"log_std_min": -1.0, "log_std_max": 0.5, "tanh_mean": 1.0}),
    ("gaussian", {"log_std_min": -1.0, "log_std_max": 0.5, "tanh_mean": 0.0}),
    ("squashed_gaussian", {"log_std_min": -1.0, "log_std_max": 0.5, "layer_norm": 0.0}),
    ("squashed_gaussian", {"log_std_min": -1.0, "log_std_max": 0.5, "layer_norm": 1.0}),
    ("deterministic", {"exploration_noise": 0.1}),
    ("one_step_flow", {}),
]
Outputs = dict[str, np.ndarray]


def policy_of(kind: str, settings: Mapping[str, float]) -> Policy:
    rng = np.random.default_rng(1)
    widths = [7, 32, 32, 8 if kind == "squashed_gaussian" else 4]
    shapes = ACTORS[kind].array_shapes(widths)
    # As large as in trained networks: outputs go beyond every bound.
    scales = {name: 2 / np.sqrt(shape[0]) for name, shape in shapes.items()}
    arrays = {
        name: (scales[name] * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in shapes.items()
    }
    arrays["observation_std"] = np.abs(arrays["observation_std"]) + np.float32(0.5)
    weights = check_weights(ActorWeights(kind, arrays, settings, 42))
    return Policy(weights, ROBOT, {"task": "reach", "algorithm": "iql", "dataset": "mine/a-v0"})


def by_onnx(policy: Policy, observations: np.ndarray) -> Outputs:
    session = onnx_session(to_onnx(policy))
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(names, {"observation": observations}), strict=True))


def onnx_session(data: bytes) -> Any:  # noqa: ANN401
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    return runtime.InferenceSession(data, providers=["CPUExecutionProvider"])


def by_torch(policy: Policy, observations: np.ndarray, folder: Path) -> Outputs:
    file = folder / "policy.pt2"
    file.write_bytes(to_torch(policy))
    module = torch.export.load(file).module()
    return {key: each.numpy() for key, each in module(torch.from_numpy(observations)).items()}


@pytest.mark.parametrize("form", ["onnx", "torch"])
@pytest.mark.parametrize(("kind", "settings"), CASES)
def test_a_file_acts_like_the_numpy_actor(
    form: str, kind: str, settings: dict[str, float], tmp_path: Path
) -> None:
    policy = policy_of(kind, settings)
    observations = 3 * np.random.default_rng(0).standard_normal((1000, 7)).astype(np.float32)
    exported = (
        by_onnx(policy, observations)
        if form == "onnx"
        else by_torch(policy, observations, tmp_path)
    )
    action, (_, log_std) = (
        policy(observations),
        make_actor(policy.weights).distribution(observations),
    )
    assert action.shape == (1000, 2, 2)
    np.testing.assert_allclose(exported.pop("action"), action, rtol=0, atol=1e-5)
    if log_std is not None:
        every = np.broadcast_to(log_std, (1000, 4))
        assert every.max() == 0.5  # The bound is inside the file too.
        np.testing.assert_allclose(exported.pop("log_std"), every, rtol=0, atol=1e-5)
    assert not exported


def test_every_kind_that_a_run_can_have_is_compared() -> None:
    # The uniform one acts for a policy while a run begins, and is never saved.
    assert {kind for kind, _ in CASES} == ACTORS.keys() - {"uniform"}


def test_the_distribution_of_a_kind_is_centred_on_its_mean() -> None:
    for case, observation in itertools.product(CASES, np.eye(7, dtype=np.float32)):
        actor = make_actor(policy_of(*case).weights)
        np.testing.assert_array_equal(actor.distribution(observation)[0], actor.mean(observation))


def test_a_single_observation_is_a_batch_too(tmp_path: Path) -> None:
    policy, one = policy_of(*CASES[0]), np.ones((1, 7), np.float32)
    for exported in (by_onnx(policy, one), by_torch(policy, one, tmp_path)):
        np.testing.assert_allclose(exported["action"], policy(one), atol=1e-5)


def test_a_file_says_what_it_is_and_in_which_order_it_observes(tmp_path: Path) -> None:
    policy, files = policy_of(*CASES[0]), {DESCRIPTION: ""}
    metadata = onnx_session(to_onnx(policy)).get_modelmeta().custom_metadata_map
    about = {key: json.loads(each) for key, each in metadata.items()}
    program = to_torch(policy)
    assert str(ROOT).encode() not in program  # Nobody's folders travel with it.
    (tmp_path / "policy.pt2").write_bytes(program)
    torch.export.load(tmp_path / "policy.pt2", extra_files=files)
    assert json.loads(files[DESCRIPTION]) == about
    parts = [(each["key"], each["shape"], each["columns"]) for each in about["observation"]]
    assert parts == [("joints", [3, 2], [0, 6]), ("camera/gripper", [1], [6, 7])]
    assert (about["task"], about["algorithm"], about["updates"]) == ("reach", "iql", 42)
    assert (about["observation_dim"], about["action_dim"]) == (7, 4)
    assert (about["action_low"], about["action_high"]) == ([*LOW], [*HIGH])


def test_what_no_graph_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wave(DeterministicActor):
        def mean(self, observation: np.ndarray) -> np.ndarray:
            return np.sin(self._output(observation))

    monkeypatch.setitem(ACTORS, "deterministic", Wave)
    with pytest.raises(ExportError, match=r"computes sin, .* --to numpy"):
        to_torch(policy_of("deterministic", {"exploration_noise": 0.1}))


def test_without_onnx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ExportError, match="the extra `onnx`"):
        to_onnx(policy_of(*CASES[0]))


def test_the_robot_s_script_acts_without_iqlft(tmp_path: Path) -> None:
    policy = policy_of(*CASES[0])
    pytest.importorskip("onnxruntime")
    (tmp_path / "policy.onnx").write_bytes(to_onnx(policy))
    script = (ROOT / "docs" / "robot.py").read_text(encoding="utf-8")
    assert script.partition('"""\n\n')[2] in (ROOT / "docs" / "export.md").read_text("utf-8")
    script += (
        "\n\nreading = {'joints': np.arange(6).reshape(3, 2) / 9, 'camera/gripper': 0.5}\n"
        "print(json.dumps(Policy('policy.onnx')(reading).tolist()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    expected = policy(np.array([*np.arange(6) / 9, 0.5], np.float32))
    np.testing.assert_allclose(json.loads(done.stdout), expected, atol=1e-5)
