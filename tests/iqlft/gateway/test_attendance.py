"""Who has joined and who has left is said once, several in one sentence."""

from iqlft.gateway.attendance import ATTENDANCE_SECONDS, Attendance, Desertion
from iqlft.gateway.roster import WorkerStatus


def worker(
    worker_id: int, *, alive: bool = True, silence: float = 0.1, steps: int = 9
) -> WorkerStatus:
    state = "stepping" if alive else "lost"
    return WorkerStatus(worker_id, alive, steps, 1.0, 1, silence, state, f"{worker_id}", 0.0, None)


def test_workers_of_other_machines_are_named_as_they_come_and_go() -> None:
    attendance = Attendance(2)
    assert list(attendance.changes([worker(0), worker(1)], 0.0)) == []
    others = [worker(each) for each in (2, 3, 4, 7)]
    assert list(attendance.changes([worker(0), *others], 1.0)) == [
        "Workers 2 to 4, 7 joined; 4 of other machines are here."
    ]
    assert list(attendance.changes(others, 12.0)) == []
    changed = [
        worker(2, alive=False, silence=0.0), worker(3, alive=False), worker(4), worker(7), worker(9)
    ]  # fmt: skip
    assert list(attendance.changes(changed, 13.0)) == [
        "Worker 9 joined; 3 of other machines are here.",
        "Worker 2 left; 3 of other machines are here.",
        "Worker 3 lost the connection; 3 of other machines are here.",
    ]
    assert list(attendance.changes(changed, 30.0)) == []


def test_one_that_comes_and_goes_all_the_time_fills_no_log() -> None:
    attendance, said = Attendance(0), list[str]()
    for tick in range(7201):
        said += attendance.changes([worker(3, alive=tick % 2 == 0)], tick / 2)
    assert len(said) <= 3600 / ATTENDANCE_SECONDS + 1
    said += attendance.changes([worker(3, alive=False)], 3620.0)
    assert said[-1] == "Worker 3 lost the connection; 0 of other machines are here."


def test_who_has_worked_since_another_gave_up_may_be_gone_for_long() -> None:
    desertion, gone = Desertion(), [worker(0, alive=False), worker(1, alive=False)]
    assert desertion.seconds(gone, 0, 100.0) == 0
    assert desertion.seconds([worker(0, alive=False), worker(1)], 1, 200.0) == 0
    assert [desertion.seconds(gone, 1, now) for now in (210.0, 250.0)] == [10, 50]
    worked = [worker(0, alive=False), worker(1, alive=False, steps=10)]
    assert desertion.seconds(worked, 1, 400.0) == 0
    assert desertion.seconds(worked, 2, 500.0) == 0  # It has given up too.
    assert desertion.seconds(worked, 2, 560.0) == 60
