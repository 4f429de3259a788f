"""The learner of one or more seeds, from settings and a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from iqlft.config.settings import ConfigError, OnlineConfig
from iqlft.training.build import build_algorithm, pick_device, set_threads
from iqlft.training.cuda_graph import UpdateGraph
from iqlft.training.replay import Replay
from iqlft.training.stack import Stack
from iqlft_workers.wire import (
    MAX_BYTES,
    MAX_HEADER_BYTES,
    LimitError,
    WireError,
    pack_weights,
    unpack_weights,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iqlft.algorithms.base import Algorithm
    from iqlft.config.settings import PretrainConfig
    from iqlft.datasets.offline_dataset import OfflineDataset
    from iqlft_workers.actor import ActorWeights


def build_learner(
    config: PretrainConfig,
    dataset: OfflineDataset,
    seeds: Sequence[int],
    *,
    capacity: int = 0,
    offline_ratio: float | None = None,
    value_bounds: float = OnlineConfig.value_bounds,
) -> Stack:
    """The learner of one or more seeds, on the right device.

    Raises:
        ConfigError: there is no such device, or `cuda_graph` cannot repeat the algorithm's updates.
    """
    set_threads(config.threads)
    device = pick_device(config.device)
    # The replay first: reading the dataset into it also computes the normalisation statistics.
    replay = Replay(
        dataset.chunks(),
        dataset.num_transitions,
        dataset.layout,
        seeds,
        capacity=capacity,
        offline_ratio=offline_ratio,
        value_bounds=value_bounds,
        device=device,
    )
    algorithm = build_algorithm(
        config.algorithm,
        config.hyperparameters,
        dataset,
        seeds,
        normalize_observations=config.normalize_observations,
        device=device,
        precision=config.precision,
        num_updates=config.num_updates,
    )
    notes = (*dataset.notes, *fit_replay(algorithm, replay))
    graph = _graph(config, algorithm, replay, online=capacity > 0)
    return Stack(algorithm, replay, config.hyperparameters.batch_size, graph, notes)


def _graph(
    config: PretrainConfig, algorithm: Algorithm[Any], replay: Replay, *, online: bool
) -> UpdateGraph | None:
    if not config.cuda_graph:
        return None
    if not algorithm.is_uniform(online=online):
        raise ConfigError(
            "--cuda-graph repeats one recorded update, but random draws (--dropout, sampled "
            "actions) or a schedule (--actor-schedule) make each update different; leave one of "
            "them out."
        )
    # A run that was begun on a GPU may be resumed without one.
    on_gpu = replay.device.type == "cuda"
    size = config.hyperparameters.batch_size * algorithm.batches_per_update
    if not on_gpu:
        return None
    # Recorded as it will be repeated: a schedule of pretraining ends online.
    algorithm.online = online
    return UpdateGraph(algorithm, replay, size)


def fit_replay(algorithm: Algorithm[Any], replay: Replay) -> tuple[str, ...]:
    """Fits a replay to an algorithm: selected rows, returns to go; notes what was selected."""
    if algorithm.needs_returns:
        replay.compute_returns(algorithm.hyperparameters.discount)
    selection = algorithm.select(replay.dataset_rows, replay.layout)
    if selection is None:
        return ()
    replay.select(selection.places)
    return (selection.note,)


def require_sendable(weights: ActorWeights) -> None:
    """Refuses an actor that is too large to be sent to workers, with its guide if it has one.

    Raises:
        ConfigError: it is too large.
    """
    try:
        packed = pack_weights(weights)
        unpack_weights(packed)
        # A message of an evaluation has a header beside the weights.
        if len(packed) > MAX_BYTES - MAX_HEADER_BYTES:
            raise LimitError(f"A message has at most {MAX_BYTES} bytes.")
    except WireError as error:
        part, without = (
            ("actor and its guide are", ", or no --guide-steps")
            if weights.guide
            else ("actor is", "")
        )
        raise ConfigError(
            f"The {part} too large to be sent to workers ({error}); choose a smaller "
            f"--hidden-size or --hidden-layers{without}."
        ) from error


def learner_machine(stack: Stack) -> dict[str, Any]:
    """What `meta.json` says about where a learner computes, in each phase."""
    device = stack.member(0).device
    gpu = {"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}
    return {
        "device": str(device),
        **gpu,
        "hidden_dtype": str(stack.algorithm.hidden_dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }
