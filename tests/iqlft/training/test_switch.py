"""The switch from pretraining to fine-tuning, with another algorithm, mixture or guide."""

import dataclasses
import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from iqlft.algorithms.base import Algorithm, Batch, Metrics, algorithm_class
from iqlft.cli.sources import finetune_settings
from iqlft.config.algorithms import AWACHyperparameters, RLPDHyperparameters
from iqlft.config.settings import ConfigError, FinetuneConfig
from iqlft.config.validation import check
from iqlft.runs import checkpoint
from iqlft.runs.curves import read_run
from iqlft.runs.folder import Run
from iqlft.runs.policy import load_policy
from iqlft.training.finetune import finetune
from iqlft.training.interruption import Interrupted
from iqlft.training.progress import Silent
from iqlft.training.replay import Replay
from iqlft.training.resume import resume
from iqlft_workers.wire import MAX_HEADER_BYTES, pack_weights
from run_fixtures import stopped_at

OFFLINE, ENV_STEPS, STOP = 300, 80, 22
"""Updates of the pretraining, steps of a fine-tuning, and the online update at which it stops."""
SHORT: dict[str, Any] = {"env_steps": ENV_STEPS, "eval_every": 40, "utd_ratio": 0.5}
RLPD = RLPDHyperparameters(
    batch_size=32, hidden_size=16, hidden_layers=2, num_critics=3, critic_updates=2
)
AWAC = AWACHyperparameters(batch_size=32, hidden_size=16, hidden_layers=2)
SWITCHES: dict[str, dict[str, Any]] = {
    "rlpd": {"algorithm": "rlpd", "hyperparameters": RLPD, "offline_ratio": 0.5},
    "awac": {"algorithm": "awac", "hyperparameters": AWAC, "reset_optimizers": True},
    "guide, no retention": {"guide_steps": 30, "guide_until": 60, "offline_ratio": 0.0},
    "warm-up, annealed": {
        "random_steps": 10,
        "warmup_steps": 24,
        "offline_ratio": 0.8,
        "final_offline_ratio": 0.2,
        "anneal_steps": 50,
    },
}


@pytest.fixture
def settings(lockstep: FinetuneConfig, fresh: Path) -> FinetuneConfig:
    return dataclasses.replace(lockstep, run=(fresh,), **SHORT)


def outcome(run: Path) -> tuple[dict[str, bytes], list[tuple[Any, ...]], bytes]:
    """Parameters, scores without their times, and episodes."""
    tensors = checkpoint.load(run / "checkpoints").tensors
    rows = [row._replace(seconds=0.0) for row in read_run(run).rows]
    episodes = (run / "episodes.csv").read_bytes()
    return {key: each.numpy().tobytes() for key, each in tensors.items()}, rows, episodes


class Telling(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def event(self, sentence: str) -> None:
        self.said.append(sentence)


Switched = Callable[[str], tuple[Path, list[str]]]


@pytest.fixture(scope="module")
def switched(
    corner_root: Path,
    pretrained: Path,
    lockstep: FinetuneConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> Switched:
    """Fine-tunes a run, uninterrupted, by the name of its switch; once, to be read, not changed.

    Returns its folder, and what was said.
    """

    @functools.cache
    def run(name: str) -> tuple[Path, list[str]]:
        folder = tmp_path_factory.mktemp("switched") / "antmaze-corner" / "iql-s0"
        shutil.copytree(pretrained, folder)
        reporter = Telling()
        config = dataclasses.replace(lockstep, **SHORT, **SWITCHES[name], run=(folder,))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MINARI_DATASETS_PATH", str(corner_root))
            finetune(config, reporter)
        return folder, reporter.said

    return run


IN_DEFAULT_SUITE = {"rlpd", "guide, no retention"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in IN_DEFAULT_SUITE else pytest.mark.slow)
        for name in SWITCHES
    ],
)
def test_every_switch_is_resumed_exactly(
    name: str, fresh: Path, settings: FinetuneConfig, switched: Switched
) -> None:
    whole, _ = switched(name)
    config = dataclasses.replace(settings, **SWITCHES[name])
    kind = algorithm_class(config.algorithm or "iql")
    with stopped_at(OFFLINE + STOP, kind), pytest.raises(Interrupted):
        finetune(config)
    assert checkpoint.load(fresh / "checkpoints").state["updates"] == OFFLINE + STOP
    resume(fresh)
    for mine, theirs in zip(outcome(fresh), outcome(whole), strict=True):
        assert mine == theirs


def test_another_algorithm_takes_over_what_fits_and_says_so(
    pretrained: Path, switched: Switched
) -> None:
    before, (folder, said) = load_policy(pretrained), switched("awac")
    assert "AWAC goes on from IQL: taken over are critic, target critic." in said
    run = read_run(folder)
    assert run.algorithm == "iql->awac"
    # The new actor begins untrained, which is shown; before is still what was pretrained.
    assert [row.env_steps for row in run.online] == [0, 40, 80]
    assert run.before == run.offline[-1]
    ones = np.ones(before.weights.observation_dim, np.float32)
    assert not np.array_equal(load_policy(folder)(ones), before(ones))


def test_of_an_actor_of_another_kind_its_mean_is_taken_over(switched: Switched) -> None:
    folder, said = switched("rlpd")
    assert "RLPD goes on from IQL: taken over are the actor's mean." in said
    run = read_run(folder)
    before, begins = run.offline[-1], run.online[0]
    assert begins.env_steps == 0
    assert begins.mean_return == pytest.approx(before.mean_return)
    lengths = [[each.length for each in run.episodes(score)] for score in (before, begins)]
    assert lengths[0] == lengths[1]


def test_critics_that_are_taken_over_are_those_of_pretraining(
    fresh: Path, settings: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = checkpoint.load(fresh / "checkpoints").tensors
    seen: list[dict[str, torch.Tensor]] = []
    kind = algorithm_class("awac")
    original = kind.update

    def looked_at(self: Algorithm[Any], batch: Batch) -> Metrics:
        seen.append(self.state() if not seen else {})
        return original(self, batch)

    monkeypatch.setattr(kind, "update", looked_at)
    finetune(dataclasses.replace(settings, **SWITCHES["awac"]))
    critics = [key for key in seen[0] if key.startswith(("critic.", "target_critic."))]
    assert critics
    for key in critics:
        assert torch.equal(seen[0][key], saved[f"algorithm.{key}"]), key
    assert all(not each.any() for key, each in seen[0].items() if key.startswith("adam."))
    assert saved["algorithm.adam.critic.steps"].any()


def test_the_mixture_is_annealed_by_the_steps_that_updates_belong_to(
    settings: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratios = []
    original = Replay.draw

    def drawn(self: Replay, batch_size: int) -> torch.Tensor:
        ratios.append(self.offline_ratio)
        return original(self, batch_size)

    monkeypatch.setattr(Replay, "draw", drawn)
    finetune(dataclasses.replace(settings, **SWITCHES["warm-up, annealed"]))
    assert ratios == pytest.approx([max(0.2, 0.8 - 0.6 * (24 + 2 * n) / 50) for n in range(28)])


def test_nothing_is_learned_in_the_warm_up_and_then_at_the_usual_pace(
    fresh: Path, settings: FinetuneConfig
) -> None:
    finetune(dataclasses.replace(settings, warmup_steps=24, eval_every=20))
    state = checkpoint.load(fresh / "checkpoints").state
    assert state["updates"] == OFFLINE + (ENV_STEPS - 24) // 2
    assert [(row.env_steps, row.updates - OFFLINE) for row in read_run(fresh).online] == [
        (0, 0),
        (40, 8),
        (60, 18),
        (80, 28),
    ]


def test_a_run_of_two_algorithms_can_be_looked_into(pretrained: Path, switched: Switched) -> None:
    from iqlft.analysis.restored import pretrained_policy, restored

    before, (folder, _) = load_policy(pretrained), switched("rlpd")
    run, policy = Run.open(folder), load_policy(folder)
    assert policy.weights.kind == "squashed_gaussian"
    ones = np.ones(policy.weights.observation_dim, np.float32)
    now = restored(run, policy).actor_weights()
    assert np.array_equal(now.arrays["weight.0"], policy.weights.arrays["weight.0"])
    assert np.array_equal(pretrained_policy(run)(ones), before(ones))


# -- the command line ---------------------------------------------------------------------------


def test_hyperparameters_are_those_of_pretraining_unless_a_flag_says_otherwise(
    fresh: Path,
) -> None:
    config, _, _ = finetune_settings([str(fresh), "--learning-rate", "0.1"])
    assert config.algorithm == "iql"
    assert config.hyperparameters is not None
    assert config.hyperparameters.learning_rate == 0.1
    assert config.hyperparameters.hidden_size == 16


def test_those_of_another_algorithm_are_flags_too(fresh: Path) -> None:
    arguments = ["--algorithm", "rlpd", "--clip-targets", "--num-critics", "4", str(fresh)]
    config, _, _ = finetune_settings(arguments)
    assert isinstance(config.hyperparameters, RLPDHyperparameters)
    assert config.hyperparameters.num_critics == 4
    assert config.hyperparameters.hidden_size == RLPDHyperparameters().hidden_size
    with pytest.raises(ConfigError, match="expectile is a hyperparameter of"):
        finetune_settings([*arguments, "--expectile", "0.5"])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"anneal_steps": 5}, "say where it begins"),
        ({"warmup_steps": 80}, "must be fewer than the 80 environment steps"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    changes: dict[str, Any], sentence: str, settings: FinetuneConfig
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check(dataclasses.replace(settings, **changes))


def test_an_actor_and_its_guide_that_no_message_holds_are_refused_before_the_run_is_marked(
    fresh: Path, settings: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(pack_weights(load_policy(fresh).weights))
    monkeypatch.setattr("iqlft.training.learner.MAX_BYTES", int(1.5 * size) + MAX_HEADER_BYTES)
    with pytest.raises(ConfigError, match=r"actor and its guide are too large .* --guide-steps"):
        finetune(dataclasses.replace(settings, guide_steps=5))
    assert not Run.open(fresh).fine_tuned
    finetune(settings)
