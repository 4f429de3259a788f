"""What a video says of an episode, and where it stands."""

import numpy as np
import pytest

from iqlft.config.settings import Judge
from iqlft.figures.style import BLUE, ORANGE
from iqlft.video.captions import STRIP, caption, outcome, progress
from iqlft.video.montage import GAP, HEADING, TOP, Montage
from iqlft_workers.episode import EpisodeResult

GREEN = np.full((60, 300, 3), (10, 200, 10), np.uint8)


def result(episode_return: float, *, first_hit: int = -1) -> EpisodeResult:
    return EpisodeResult(7, episode_return, 1000, first_hit > 0, (0, 0), (1, 1), first_hit)


def test_the_step_and_the_distance_are_told() -> None:
    assert progress(1312, 4.24) == "step 1,312, 4.2 m to the goal"
    assert progress(3, None) == "step 3"


@pytest.mark.parametrize(
    ("of", "judged_by", "finished", "words"),
    [
        (result(0), "success", False, ""),
        (result(0), "success", True, "✗ no success"),
        (result(1, first_hit=1234), "success", False, "✓ success at step 1,234"),
        (result(1, first_hit=1234), "success", True, "✓ success at step 1,234"),
        (result(-1234.4, first_hit=3), "return", False, "return \N{MINUS SIGN}1,234"),
    ],
)
def test_the_outcome_is_told_in_words_and_a_sign(
    of: EpisodeResult, judged_by: Judge, finished: bool, words: str
) -> None:
    assert outcome(of, judged_by, finished=finished) == words


def test_a_caption_covers_the_top_and_the_foot_alone() -> None:
    written = caption(GREEN, "best", "step 1", "✓ success")

    assert written.shape == GREEN.shape
    assert (written[STRIP:-STRIP] == GREEN[STRIP:-STRIP]).all()
    for strip in (written[:STRIP], written[-STRIP:]):
        assert (strip[:, 200] < GREEN[0, 0]).all()
        assert (strip[:, :60] > 200).all(-1).any()
    assert (written[-STRIP:, 230:] > 200).all(-1).any()
    assert not (written[:STRIP, 230:] > 200).all(-1).any()


def test_pictures_stand_row_by_row_under_headings_that_differ_in_more_than_colour() -> None:
    montage = Montage("task", "data", [("before", "1 of 2"), ("after", "2 of 2")], 2, (300, 60))
    page = montage.page([GREEN + np.uint8(index) for index in range(4)])

    assert page.shape == (TOP + 2 * (HEADING + 60 + GAP), GAP + 2 * (300 + GAP), 3)
    for index in range(4):
        row, column = divmod(index, 2)
        top = TOP + HEADING + row * (HEADING + 60 + GAP)
        left = GAP + column * (300 + GAP)
        assert (page[top : top + 60, left : left + 300] == GREEN + np.uint8(index)).all()
    shares = []
    for row, colour in enumerate((ORANGE, BLUE)):
        top = TOP + row * (HEADING + 60 + GAP)
        mark = page[top : top + HEADING, GAP : GAP + 15]
        painted = (mark == np.array(list(bytes.fromhex(colour[1:])), np.uint8)).all(-1)
        shares.append(painted.sum() / 15**2)
    assert shares[0] < 0.9 < shares[1]
