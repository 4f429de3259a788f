"""Groups of runs that learn one after another in one process."""

import dataclasses
from pathlib import Path

import pytest

from iqlft.config.layers import with_settings
from iqlft.config.settings import FinetuneConfig, PretrainConfig
from iqlft.runs.folder import Run
from iqlft.training.finetune import finetune
from iqlft.training.groups import train_groups
from iqlft.training.interruption import Interrupted
from iqlft.training.pretrain import pretrain
from iqlft.training.progress import Silent
from iqlft_workers.errors import UserError
from run_fixtures import stopped_at

A, B, C = (Run(Path(name)) for name in "abc")


def run_in(run: Run) -> Path:
    return run.folder


@pytest.mark.parametrize(
    ("begun", "words"),
    [
        (False, "continue with `iqlft resume a`, and begin what has not begun (b, c) by"),
        (True, "continue with `iqlft resume a b c`."),
    ],
)
def test_a_stop_says_what_is_left_of_the_later_groups(words: str, *, begun: bool) -> None:
    def train(group: object) -> list[Path]:
        assert group == [A]
        raise Interrupted([A.folder])

    with pytest.raises(Interrupted) as stopped:
        train_groups([[A], [B, C]], train, run_in, Silent(), begun=begun)
    assert words in str(stopped.value)


def test_a_group_that_fails_does_not_stop_the_others() -> None:
    trained: list[object] = []

    def train(group: object) -> list[Path]:
        trained.append(group)
        if group == [A]:
            raise UserError("It is too large.")
        return [Path("done")]

    with pytest.raises(UserError, match="too large"):
        train_groups([[A], [B, C]], train, run_in, Silent())
    assert trained == [[A], [B, C]]
    assert train_groups([[B], [C]], train, run_in, Silent()) == [Path("done")] * 2


def test_fine_tuning_that_is_stopped_in_its_first_group_names_the_second(
    corner: str,
    pretraining: PretrainConfig,
    lockstep: FinetuneConfig,
    tmp_path: Path,
) -> None:
    assert corner
    small = dataclasses.replace(
        pretraining, runs=tmp_path / "runs", num_updates=5, eval_episodes=0, stack="always"
    )
    runs = [
        pretrain(with_settings(small, name=f"h{width}-s{seed}", seed=seed, hidden_size=width))[0]
        for seed, width in enumerate((4, 8))
    ]
    config = dataclasses.replace(
        lockstep, run=tuple(runs), into="tuned", eval_episodes=0, stack="always"
    )
    with stopped_at(6), pytest.raises(Interrupted) as caught:
        finetune(config)
    assert f"continue with `iqlft resume {runs[0].with_name('tuned-s0')}`" in str(caught.value)
    assert "begin what has not begun (tuned-s1)" in str(caught.value)
    assert not runs[1].with_name("tuned-s1").exists()
