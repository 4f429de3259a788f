"""Workers that do not work as they should are named once, and why."""

from typing import Any

import pytest

from iqlft.gateway.roster import WorkerStatus
from iqlft.gateway.watchdog import PATIENCE_SECONDS, SILENT_SECONDS, Watchdog


def worker(worker_id: int = 0, **changes: Any) -> WorkerStatus:  # noqa: ANN401
    values: dict[str, Any] = {
        "alive": True,
        "env_steps": 1000,
        "steps_per_second": 100.0,
        "version": 1,
        "seconds_since_message": 0.1,
        "state": "stepping",
        "session": f"session-{worker_id}",
        "seconds_without_progress": 0.1,
        "speed": 3000.0,
    }
    return WorkerStatus(worker_id=worker_id, **(values | changes))


LOST = {"alive": False, "state": "lost", "seconds_since_message": SILENT_SECONDS + 1}
STUCK = {"seconds_without_progress": PATIENCE_SECONDS + 1}

STARTING = "answers, but has not built its environment for 301 s (--patience 300)"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (LOST, "has been silent for 16 s"),
        (STUCK, "answers, but has not stepped for 301 s (--patience 300)"),
        (STUCK | {"state": "starting"}, STARTING),
        (
            STUCK | {"state": "evaluating"},
            "answers, but has not stepped for 301 s (--patience 300)",
        ),
    ],
)
def test_what_is_wrong_is_said_once_as_long_as_it_lasts(
    changes: dict[str, Any], reason: str
) -> None:
    watchdog = Watchdog()
    workers = [worker(0), worker(1, **changes), worker(2)]
    assert [found[:2] for found in watchdog.check(workers)] == [(1, reason)]
    assert watchdog.check(workers) == []
    again = worker(1, **changes, session="another")
    assert [found[:2] for found in watchdog.check([workers[0], again, workers[2]])] == [(1, reason)]


@pytest.mark.parametrize("before", [LOST, {"speed": 599.0}])
def test_a_session_that_was_named_before_is_looked_at_again(before: dict[str, Any]) -> None:
    watchdog = Watchdog()
    others = [worker(0), worker(2)]
    assert len(watchdog.check([worker(1, **before), *others])) == 1
    assert watchdog.check([worker(1), *others]) == []
    (found,) = watchdog.check([worker(1, **STUCK), *others])
    assert found.hangs
    assert watchdog.check([worker(1, **STUCK), *others]) == []
    assert watchdog.check([worker(1), *others]) == []
    assert len(watchdog.check([worker(1, **LOST), *others])) == 1


def test_that_a_worker_is_slow_is_said_once_whatever_its_session_and_what_the_others_claim() -> (
    None
):
    watchdog = Watchdog()
    workers = [worker(0), worker(1, speed=599.0), worker(2)]
    reason = "makes 599 steps/s, but the others 3000"
    assert [found[:2] for found in watchdog.check(workers)] == [(1, reason)]
    again = worker(1, speed=599.0, session="another")
    assert watchdog.check([worker(0, speed=1e300), again]) == []


@pytest.mark.parametrize(
    "changes",
    [
        {},
        LOST | {"seconds_since_message": SILENT_SECONDS - 1},
        STUCK | {"state": "waiting"},
        {"speed": 601.0},
        {"speed": None},
    ],
)
def test_workers_that_leave_wait_or_are_a_little_slower_are_let_be(changes: dict[str, Any]) -> None:
    assert Watchdog().check([worker(0), worker(1, **changes)]) == []


def test_a_single_worker_is_not_slow() -> None:
    assert Watchdog().check([worker(0, speed=1.0), worker(1, **LOST)][:1]) == []
