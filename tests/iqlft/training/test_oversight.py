"""What the oversight of workers makes of what they do."""

from pathlib import Path

from gateways import open_gateway
from iqlft.gateway.roster import WorkerStatus
from iqlft.training.oversight import Oversight
from iqlft_workers.launchers.local import WorkerPool


def test_a_worker_of_another_machine_that_is_silent_again_and_again_fills_no_log(
    tmp_path: Path,
) -> None:
    def worker(worker_id: int, silence: float) -> WorkerStatus:
        state = "lost" if silence else "stepping"
        return WorkerStatus(
            worker_id, not silence, 9, 1.0, 1, silence, state, f"{worker_id}", 0.0, None
        )

    with open_gateway() as gateway:
        oversight = Oversight(gateway, WorkerPool(0, gateway.endpoint, tmp_path), tmp_path)
        told: list[str] = []
        for again in range(100):
            told += oversight.incidents([worker(3, 20.0 * (again % 2)), worker(4, 0.0)])
        assert told == ["Worker 3 has been silent for 20 s."]
        # Another one is named all the same.
        assert len(list(oversight.incidents([worker(3, 0.0), worker(4, 20.0)]))) == 1
