"""A score and its row of `curves.csv`; what a malformed row says stands in `test_curves`."""

import json
import math

import pytest

from iqlft.runs.scores import CURVE_COLUMNS, EVALUATION_COLUMNS, EpisodeScore, Score

SCORES = [
    Score("online", 300, 50, 12.3, None, 3.141593, None, 7),
    Score("offline", 1_000_000, 0, 4000.0, 0.62, 0.62, 62.0, 100),
]


def test_a_row_has_empty_places_for_what_is_not_known_and_rounds_the_rest() -> None:
    score = Score("online", 300, 50, 12.345, None, math.pi, None, 7)
    assert score.row() == ("online", 300, 50, 12.3, None, 3.141593, None, 7, 300)


@pytest.mark.parametrize("score", SCORES)
def test_a_score_comes_back_from_its_row_and_from_a_checkpoint(score: Score) -> None:
    texts = ["" if value is None else str(value) for value in score.row()]
    assert Score.from_row(dict(zip(CURVE_COLUMNS, texts, strict=True))) == score
    assert Score(*json.loads(json.dumps(score))) == score


@pytest.mark.parametrize("success", [True, False, None])
def test_an_episode_comes_back_from_its_row(success: bool | None) -> None:
    episode = EpisodeScore(1_000_007, -41.5, 300, success)
    texts = ["" if value is None else str(value) for value in episode.row(SCORES[0])]
    assert texts[:3] == ["online", "300", "50"]
    assert EpisodeScore.from_row(dict(zip(EVALUATION_COLUMNS, texts, strict=True))) == episode


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [("success", "yes", "0, 1 or empty"), ("seed", "", "a number"), ("length", "inf", "a number")],
)
def test_a_malformed_episode_is_refused(name: str, text: str, sentence: str) -> None:
    row = dict(zip(EVALUATION_COLUMNS, ("online", "300", "50", "7", "1.0", "9", "1"), strict=True))
    with pytest.raises(ValueError, match=f"{name} must be {sentence}"):
        EpisodeScore.from_row(row | {name: text})
