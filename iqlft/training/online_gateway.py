"""The learner's end of the wire in fine-tuning: its keys, its sockets and its journal."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from iqlft.datasets.value_bounds import ValueBounds
from iqlft.gateway.gateway import Gateway
from iqlft.gateway.journal import Journal
from iqlft.gateway.service import Service
from iqlft.gateway.sockets import reachable, require_safe_host
from iqlft.runs.errors import writing
from iqlft.runs.folder import ENDPOINT, JOURNAL, Run
from iqlft.training.pacing import updates_for
from iqlft.training.seeds import copy_folder, rewind
from iqlft_workers.discovery import write_endpoint
from iqlft_workers.keys import LearnerKeys

if TYPE_CHECKING:
    from iqlft.config.settings import FinetuneConfig
    from iqlft.datasets.offline_dataset import OfflineDataset
    from iqlft.training.plan import RunPlan


def load_keys(config: FinetuneConfig) -> LearnerKeys | None:
    """The keys that the user names, or None; warns if then anybody may connect (`--insecure`).

    Raises:
        GatewayError: workers on other machines would connect without keys.
    """
    keys = LearnerKeys.load(config.keys) if config.keys else None
    require_safe_host(config.host, keys, insecure=config.insecure)
    return keys


def open_gateway(
    plan: RunPlan[FinetuneConfig], dataset: OfflineDataset, keys: LearnerKeys | None
) -> Gateway:
    """The learner's sockets, bound."""
    config = plan.config
    service = Service(
        environment=dataset.environment,
        layout=dataset.layout,
        run_id=copy_folder(plan.run, config).name,
        seed=plan.learned.seed,
        num_workers=config.workers + config.remote_workers,
        local_workers=config.workers,
        evaluation_seconds=config.eval_deadline_seconds,
        patience_seconds=config.patience,
        eval_environment=config.eval_environment,
        lockstep=config.lockstep,
        last_version=plan.learned.num_updates
        + updates_for(config.env_steps, config.utd_ratio, config.warmup_steps),
        bounds=ValueBounds.of_dataset(dataset.statistics, dataset.layout, config.value_bounds),
    )
    return Gateway(
        service,
        host=config.host,
        port=config.port,
        last_port=plan.run.meta.get("port", 0) if config.remote_workers else 0,
        keys=keys,
        insecure=config.insecure,
    )


def take_up(
    plan: RunPlan[FinetuneConfig], gateway: Gateway, *, resumed: bool, accept_loss: bool
) -> Journal:
    """Cuts a run's files back to its checkpoint, recovers its journal, writes its endpoint."""
    assert plan.saved is not None
    path, state = plan.run.folder / JOURNAL, plan.saved.state
    with writing(plan.run.folder):
        # First, because a damaged journal is refused, and then nothing may have been changed.
        journal = Journal(path, state["journal"], accept_loss=accept_loss)
        gateway.recover(journal, state["env_steps"], resumed=resumed)
        rewind(plan.run, plan.saved)
        endpoint = reachable(gateway.endpoint, plan.config.host)
        write_endpoint(plan.run.folder / ENDPOINT, endpoint, gateway.own_keys)
        if plan.config.remote_workers:  # They look for the next learner at the same port.
            plan.run.write_meta({"port": gateway.port})
    return journal


def invitation(run: Run, config: FinetuneConfig, gateway: Gateway) -> str:
    """A sentence that says how further workers join."""
    keys, file = " --keys DIR" if config.keys else "", shlex.quote(str(run.folder / ENDPOINT))
    if gateway.own_keys:
        return f"Further workers, on this machine: iqlft worker --connect {file}"
    endpoint = reachable(gateway.endpoint, config.host)
    return (
        f"Further workers: iqlft worker --connect {endpoint}{keys} (or --connect {file}{keys}, "
        "where they can read it)."
    )
