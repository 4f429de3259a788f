"""The video of a run: which policies, which episodes, and the files."""

import math
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iqlft.cli import main as cli
from iqlft.runs.folder import Run
from iqlft.runs.policy import load_policy
from iqlft.video import video
from iqlft.video.camera import WIDTH
from iqlft.video.montage import GAP, HEADING, TOP
from iqlft.video.video import phases_of, ranked, summary
from iqlft_workers.environment import Environment
from iqlft_workers.episode import EpisodeResult
from video_reading import frames_of

FAILURE = EpisodeResult(1, 0.0, 300, success=False, start=(0, 0), end=(0, 0), first_hit=-1)


def success(first_hit: int) -> EpisodeResult:
    return FAILURE._replace(episode_return=1.0, success=True, length=first_hit, first_hit=first_hit)


def test_a_fine_tuned_run_is_shown_before_and_after(pretrained: Path, finetuned: Path) -> None:
    before, after = phases_of(Run.open(finetuned))

    assert (before.name, before.policy.weights.version) == ("before fine-tuning", 300)
    assert (after.name, after.policy.weights.version) == ("after 340 environment steps", 470)
    np.testing.assert_array_equal(
        before.policy.weights.arrays["log_std"], load_policy(pretrained).weights.arrays["log_std"]
    )


def test_the_steps_of_a_warm_up_are_counted(finetuned: Path, tmp_path: Path) -> None:
    run = Run.open(Path(shutil.copytree(finetuned, tmp_path / "antmaze-corner" / "iql-s0")))
    run.write_config("finetune", {**(run.config("finetune") or {}), "warmup_steps": 50})
    assert phases_of(run)[1].name == "after 390 environment steps"


def test_a_run_that_is_not_fine_tuned_is_shown_as_it_is(fresh: Path) -> None:
    (only,) = phases_of(Run.open(fresh))
    assert (only.name, only.policy.weights.version) == ("after 300 offline updates", 300)

    run = Run.open(fresh)
    run.write_config("finetune", {"env_steps": 10})  # It has begun, and learned nothing yet.
    (only,) = phases_of(run)
    assert (only.name, only.policy.weights.version) == ("before fine-tuning", 300)


def test_sooner_successes_come_first_and_nearer_failures_before_farther_ones(
    pretrained: Path,
) -> None:
    with closing(Environment(load_policy(pretrained).environment)) as environment:
        environment.reset(FAILURE.seed)
        x, y = environment.gym.unwrapped.goal
        near, far = FAILURE._replace(end=(x - 1, y)), FAILURE._replace(end=(x - 1, y - 1))
        order = [success(20), success(200), near, far]

        assert ranked(order[::-1], "success", environment) == order
        assert ranked(order, "success", environment) == order


def test_returns_rank_where_the_task_is_judged_by_them(pretrained: Path) -> None:
    low, high = FAILURE._replace(episode_return=5.0), FAILURE._replace(episode_return=6.0)
    with closing(Environment(load_policy(pretrained).environment)) as environment:
        assert ranked([success(3), low, high], "return", environment) == [high, low, success(3)]
        discarded = FAILURE._replace(episode_return=math.nan)
        assert ranked([high, discarded, low], "return", environment) == [high, low, discarded]


def test_the_summary_counts_successes_or_averages_returns() -> None:
    results = [success(3), FAILURE, success(4)]
    assert summary(results, "success") == "2 of 3 episodes succeed"
    assert summary(results[:2], "return") == "mean return 0 of 2 episodes"
    lost = FAILURE._replace(episode_return=math.nan, length=0)
    assert summary([success(3), lost], "return") == "mean return 1 of 1 episode, 1 not finite"
    assert summary([lost], "return") == "0 episodes, 1 not finite"


def test_episodes_that_end_before_their_first_step_are_filmed_in_single_steps(
    fresh: Path, tmp_path: Path
) -> None:
    lost = FAILURE._replace(episode_return=math.nan, length=0)
    scenes = video._scenes(phases_of(Run.open(fresh)), [[lost] * 3], "return", tmp_path)
    assert [each.stride for each in scenes] == [1, 1, 1]


def test_fewer_episodes_than_are_shown_are_refused(
    fresh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["video", str(fresh), "--episodes", "2"]) == 2
    assert "--episodes must be at least 3" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_refused_before_the_episodes(
    fresh: Path, backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert backend
    pytest.importorskip("imageio_ffmpeg")
    (tmp_path / "file").touch()
    assert cli.main(["video", str(fresh), "--out", str(tmp_path / "file" / "plots")]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert "cannot be written" in errors


@pytest.mark.parametrize(
    ("kind", "rows"), [("pretrained", 1), pytest.param("finetuned", 2, marks=pytest.mark.slow)]
)
def test_a_video_is_made_by_one_command(
    kind: str,
    rows: int,
    backend: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert backend
    pytest.importorskip("imageio_ffmpeg")
    folder = request.getfixturevalue(kind)
    run = Path(shutil.copytree(folder, tmp_path / "antmaze-corner" / "iql-s0"))
    monkeypatch.setattr(video, "MOST_PICTURES", 5)
    monkeypatch.setattr(video, "LAST_PICTURES", 2)

    assert cli.main(["video", str(run), "--episodes", "3", "--workers", "1"]) == 0
    film, poster = run / "plots" / "video.mp4", run / "plots" / "video.png"
    assert f"Filmed {film}\nFilmed {poster}" in capsys.readouterr().out
    with Image.open(poster) as image:
        last = np.asarray(image).astype(int)
    assert last.shape[0] == TOP + rows * (HEADING + WIDTH + GAP)
    frames = frames_of(film, last.shape[1], last.shape[0])
    assert len(frames) == 1 + 300 // 60 + 2
    assert abs(frames[-1] - last).mean() < 3
