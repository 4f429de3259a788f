"""Who has joined and who has left is said once, several in one sentence."""

from iqlft.gateway.attendance import Attendance
from iqlft.gateway.roster import WorkerStatus


def worker(worker_id: int, *, alive: bool = True, silence: float = 0.1) -> WorkerStatus:
    state = "stepping" if alive else "lost"
    return WorkerStatus(worker_id, alive, 9, 1.0, 1, silence, state, f"{worker_id}", 0.0, None)


def test_workers_of_other_machines_are_named_as_they_come_and_go() -> None:
    attendance = Attendance(2)
    assert list(attendance.changes([worker(0), worker(1)])) == []
    others = [worker(each) for each in (2, 3, 4, 7)]
    assert list(attendance.changes([worker(0), *others])) == [
        "Workers 2 to 4, 7 joined; 4 of other machines are here."
    ]
    assert list(attendance.changes(others)) == []
    changed = [
        worker(2, alive=False, silence=0.0), worker(3, alive=False), worker(4), worker(7), worker(9)
    ]  # fmt: skip
    assert list(attendance.changes(changed)) == [
        "Worker 9 joined; 3 of other machines are here.",
        "Worker 2 left; 3 of other machines are here.",
        "Worker 3 lost the connection; 3 of other machines are here.",
    ]
    assert list(attendance.changes(changed)) == []
