import resource
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from iqlft.runs.folder import Run
from iqlft.training.event_log import EventLog
from iqlft.training.metrics import MetricsLog


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


def test_a_text_is_shown_as_one(tmp_path: Path) -> None:
    EventLog(tmp_path).write_text("configuration", "```yaml\na: 1\n```")
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    (event,) = read.Tensors("configuration")
    assert event.tensor_proto.string_val == [b"```yaml\na: 1\n```"]
    assert read.SummaryMetadata("configuration").plugin_data.plugin_name == "text"


def test_a_run_that_goes_on_has_every_step_once_in_groups(fresh: Path) -> None:
    run, row = Run.open(fresh), {"updates": 350, "env_steps": 0, "loss": 0.5, "seconds": 9.0}
    row["bad_messages"] = 7
    for _ in range(2):
        # What comes after the checkpoint is cut from the run's files before it goes on.
        before = {name: (fresh / name).read_bytes() for name in ("metrics.jsonl", "curves.csv")}
        with MetricsLog(run, ["tensorboard"], pytest.fail) as log:
            log.start(300, 0)
            log.write(dict(row, phase="offline"), 0)
        run.close()
        for name, content in before.items():
            (fresh / name).write_bytes(content)
    found = scalars(fresh / "tensorboard")
    assert [step for step, _ in found["evaluation/success"]] == [100, 200, 300]
    assert [step for step, _ in found["critic/loss"]] == [*range(50, 301, 50)]
    assert found["run/loss"] == [(350, 0.5)]
    assert found["run/bad_messages"] == [(350, 7)]
    assert [step for step, _ in found["speed/updates_per_second"]] == [*range(50, 351, 50)]
    assert all("/" in tag for tag in found)
