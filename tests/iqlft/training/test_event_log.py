import resource
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from iqlft.training.event_log import EventLog


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard reads."""
    read = EventAccumulator(str(folder))
    read.Reload()
    return {
        tag: [(each.step, each.value) for each in read.Scalars(tag)]
        for tag in read.Tags()["scalars"]
    }


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    events = EventLog(tmp_path)
    events.write({"critic/loss": 0.5, "policy_lag": 2.0}, 10)
    events.write({"critic/loss": 0.25}, 20)
    assert scalars(tmp_path) == {"critic/loss": [(10, 0.5), (20, 0.25)], "policy_lag": [(10, 2.0)]}


def test_what_has_no_room_is_lost_and_the_rest_stays_readable(tmp_path: Path) -> None:
    events = EventLog(tmp_path)
    events.write({"critic/loss": 0.5}, 10)
    (file,) = tmp_path.iterdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 5, hard))
    try:
        events.write({"critic/loss": 0.25}, 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    events.write({"critic/loss": 0.1}, 30)
    assert scalars(tmp_path) == {"critic/loss": [(10, 0.5)]}
    EventLog(tmp_path).write({"critic/loss": 0.1}, 30)  # As a resumed run does.
    assert scalars(tmp_path)["critic/loss"][0] == (10, 0.5)
