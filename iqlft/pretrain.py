"""`iqlft pretrain`: IQL on an offline dataset, evaluated by workers while it learns."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import torch

from iqlft import checkpoint
from iqlft.config import ConfigError, PretrainConfig, override, to_dict
from iqlft.evaluation import Scoring
from iqlft.gateway import Gateway
from iqlft.learning import (
    build_algorithm,
    build_replay,
    dataset_label,
    flushed_denormals,
    hyperparameters,
    load_task_dataset,
    pick_device,
)
from iqlft.reporting import Silent
from iqlft.runs import Run, RunError, refuse_existing
from iqlft.session import SessionParts, open_session, restore
from iqlft.validation import check
from workers.pool import WorkerPool
from workers.wire import WireError, pack_weights, unpack_weights

if TYPE_CHECKING:
    from pathlib import Path

    from iqlft.checkpoint import Checkpoint
    from iqlft.datasets.loading import OfflineDataset
    from iqlft.reporting import Reporter


@flushed_denormals()
def pretrain(config: PretrainConfig, reporter: Reporter | None = None) -> Path:
    """Pretrains from scratch in a new run folder.

    Args:
        config: what to do.
        reporter: told what happens meanwhile.

    Returns:
        The run folder.

    Raises:
        UserError: a setting, the dataset, the run folder or the port is not as needed.
        Interrupted: stopped by a signal; the run can be resumed.
    """
    check(config)
    folder = config.runs / config.task / (config.name or f"iql-s{config.seed}")
    refuse_existing(folder)
    parts = build(config, load_task_dataset(config), reporter or Silent())
    with closing(open_gateway(config, parts["dataset"], folder.name)) as gateway:
        run = Run.create(folder, to_dict(config), about(config, parts))
        _train(gateway, run, config, parts, None)
    return folder


@flushed_denormals()
def resume_pretraining(
    run: Run,
    reporter: Reporter | None = None,
    **changes: Any,  # noqa: ANN401
) -> Path:
    """Continues a run's pretraining from its last checkpoint, with some settings changed.

    Returns:
        The run folder.
    """
    config = override(pretrain_config(run), changes, "resume")
    check(config)
    saved = checkpoint.load(run.folder / "checkpoints")
    parts = build(config, load_task_dataset(config), reporter or Silent())
    require_same_dataset(run, parts["dataset"])
    with closing(open_gateway(config, parts["dataset"], run.folder.name)) as gateway:
        run.truncate(saved.state["sizes"])
        _train(gateway, run, config, parts, saved)
    return run.folder


def pretrain_config(run: Run) -> PretrainConfig:
    """The configuration that a run was pretrained with."""
    data = run.config("pretrain")
    if data is None:
        raise ConfigError(f"{run.folder}/config.yaml has no section `pretrain`.")
    return override(PretrainConfig(), data, f"{run.folder}/config.yaml")


def build(
    config: PretrainConfig,
    dataset: OfflineDataset,
    reporter: Reporter,
    *,
    capacity: int = 0,
    offline_ratio: float | None = None,
) -> SessionParts:
    """The algorithm, the replay and what else a session needs, on the right device.

    Raises:
        ConfigError: there is no such device, or the networks are too large to be sent to workers.
    """
    torch.set_num_threads(config.threads or torch.get_num_threads())
    device = pick_device(config.device)
    # The replay first: reading the dataset into it also measures what the algorithm normalises by.
    replay = build_replay(
        dataset, [config.seed], capacity=capacity, offline_ratio=offline_ratio, device=device
    )
    algorithm = build_algorithm(
        dataset,
        hyperparameters(config),
        [config.seed],
        normalize_observations=config.normalize_observations,
        device=device,
        precision=config.precision,
        num_updates=config.num_updates,
    )
    try:
        unpack_weights(pack_weights(algorithm.actor_weights()))
    except WireError as error:
        raise ConfigError(
            f"The actor is too large to be sent to workers ({error}); choose a smaller "
            "--hidden-size or --hidden-layers."
        ) from error
    return SessionParts(
        algorithm=algorithm,
        replay=replay,
        dataset=dataset,
        reporter=reporter,
        config=config,
        phase="offline",
        task=config.task,
        total=config.num_updates,
    )


def open_gateway(config: PretrainConfig, dataset: OfflineDataset, run_id: str) -> Gateway:
    """The learner's sockets, bound; in pretraining workers only evaluate."""
    return Gateway(
        environment=dataset.environment,
        layout=dataset.layout,
        run_id=run_id,
        seed=config.seed,
        port=config.port,
        num_workers=config.workers,
    )


def scoring_of(config: PretrainConfig, dataset: OfflineDataset) -> Scoring:
    """How the task's episodes become a score."""
    return Scoring(config.score == "success", dataset.reference_scores)


def about(config: PretrainConfig, parts: SessionParts) -> dict[str, Any]:
    """What `meta.json` says about a run."""
    dataset = parts["dataset"]
    return {
        "task": config.task,
        "algorithm": "iql",
        "seed": config.seed,
        "dataset": {"id": dataset.id, "hash": dataset.statistics.hash},
        "dataset_label": dataset_label(dataset),
        "environment": dataset.environment.to_dict(),
        "device": str(parts["algorithm"].observation_mean.device),
        "threads": torch.get_num_threads(),
    }


def require_same_dataset(run: Run, dataset: OfflineDataset) -> None:
    """Refuses to continue a run on other data than it began with.

    Raises:
        RunError: the dataset has changed since.
    """
    recorded = run.meta["dataset"]["hash"]
    found = dataset.statistics.hash
    if recorded != found:
        raise RunError(
            f"The dataset {dataset.id} is not the one that {run.folder} was trained on (hash "
            f"{found}, recorded {recorded}); restore it, or start a new run."
        )


def _train(
    gateway: Gateway,
    run: Run,
    config: PretrainConfig,
    parts: SessionParts,
    saved: Checkpoint | None,
) -> None:
    scoring = scoring_of(config, parts["dataset"])
    for note in parts["dataset"].notes:
        parts["reporter"].event(note)
    pool = WorkerPool(config.workers, gateway.endpoint, run.folder / "logs")
    with open_session(gateway, pool, run, scoring, **parts) as session:
        if saved is None:
            session.checkpoint()  # So that a run can be resumed from its first moment on.
        else:
            restore(session, saved)
        algorithm, replay = session.algorithm, session.replay
        session.metrics.start(algorithm.updates, 0)
        while algorithm.updates < config.num_updates and not session.stop.requested:
            result = algorithm.update(replay.sample(config.batch_size))
            if (
                algorithm.updates % config.eval_every == 0
                or algorithm.updates == config.num_updates
            ):
                session.evaluate()
            session.after_update(result)
            session.tick()
        session.wait_for_evaluation()
        session.checkpoint(keep=not session.stop.requested)
