"""`{worker}` in the arguments of an environment."""

from typing import Any

import pytest

from iqlft_workers.placeholders import filled


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("{worker}", 3),
        ("{worker+5005}", 5008),
        ("{worker + 5005}", 5008),
        ("tcp://localhost:{worker+5005}/{worker}", "tcp://localhost:5008/3"),
        ({"port": "{worker}", "other": [1, "{worker}"]}, {"port": 3, "other": [1, 3]}),
        (("{worker}",), (3,)),
        ("{other}", "{other}"),
        (7, 7),
        (None, None),
    ],
)
def test_the_id_of_the_worker_stands_in_its_place(value: Any, expected: Any) -> None:  # noqa: ANN401
    assert filled(value, 3) == expected


def test_the_learner_builds_that_of_the_first_worker() -> None:
    assert filled({"port": "{worker+5005}"}) == {"port": 5005}
