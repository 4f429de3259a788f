"""What a gateway offers to every worker that joins, and requires of what workers send."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from iqlft.gateway.evaluation_queue import DEADLINE_SECONDS
from iqlft.gateway.watchdog import PATIENCE_SECONDS

if TYPE_CHECKING:
    from iqlft.config.settings import EvalEnvironment
    from iqlft.datasets.value_bounds import ValueBounds
    from iqlft_workers.environment import EnvironmentSpec
    from iqlft_workers.transition import RowLayout


class Service(NamedTuple):
    """What a gateway offers to every worker that joins, and requires of what workers send.

    Attributes:
        environment: what the workers build.
        layout: the dimensions that their transitions must have.
        run_id: of the run.
        seed: of the run.
        num_workers: the most that are served; their ids are 0 to `num_workers - 1`.
        local_workers: how many of these are the learner's own; the first ids are reserved for them.
        lockstep: one step of one worker at a time, chosen by exactly the newest weights.
        last_version: the number of updates that the run will reach; no weights have a higher one.
        bounds: limits on the values of transitions; None: any finite values.
        evaluation_seconds: how long an evaluation episode may take before it is assigned to another
            worker too, while the usual time is unknown.
        patience_seconds: silence after which a worker is lost, even over an open connection.
        eval_environment: where evaluations run, see the setting.
    """

    environment: EnvironmentSpec
    layout: RowLayout
    run_id: str
    seed: int
    num_workers: int
    local_workers: int = 0
    lockstep: bool = False
    last_version: int = 0
    bounds: ValueBounds | None = None
    evaluation_seconds: float = DEADLINE_SECONDS
    patience_seconds: float = PATIENCE_SECONDS
    eval_environment: EvalEnvironment = "second"
