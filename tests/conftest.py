"""Actors without training, real gateways with real worker processes, and a small dataset."""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actors import gaussian
from gateways import PENDULUM, open_gateway
from iqlft.datasets.antmaze.generation import make_dataset
from iqlft.gateway.gateway import Gateway
from iqlft.gateway.journal import Journal
from iqlft_workers.actor import ActorWeights
from iqlft_workers.environment import Environment, EnvironmentSpec
from iqlft_workers.launchers.local import WorkerPool
from iqlft_workers.transition import RowLayout
from run_fixtures import (  # noqa: F401  # fixtures
    finetuned,
    fresh,
    lockstep,
    pretrained,
    pretraining,
    reported,
    start,
    stop_at,
)

CORNER = "iqlft/antmaze/corner-v1"
Serve = Callable[..., tuple[Gateway, WorkerPool]]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small networks are faster so, and results do not depend on the machine's cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_weights() -> Callable[..., ActorWeights]:
    """Random weights with a small deviation."""

    def make(
        observation_dim: int, action_dim: int, *, seed: int = 0, version: int = 0, hidden: int = 16
    ) -> ActorWeights:
        rng = np.random.default_rng(seed)
        widths = [observation_dim, hidden, hidden, action_dim]
        return gaussian(
            weights=tuple(
                rng.standard_normal(shape).astype(np.float32) / 4
                for shape in itertools.pairwise(widths)
            ),
            biases=tuple(rng.standard_normal(width).astype(np.float32) for width in widths[1:]),
            log_std=np.full(action_dim, -1.0, np.float32),
            observation_mean=np.zeros(observation_dim, np.float32),
            observation_std=np.ones(observation_dim, np.float32),
            version=version,
        )

    return make


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers find the environments of the tests, as those of a user's own are found."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Opens a gateway and starts its worker processes; both are gone after the test."""
    with ExitStack() as stack:

        def start(
            workers: int = 1,
            *,
            environment: EnvironmentSpec = PENDULUM,
            journal: Journal | None = None,
            **options: Any,  # noqa: ANN401
        ) -> tuple[Gateway, WorkerPool]:
            if "layout" not in options:
                probe = Environment(environment)
                options["layout"] = RowLayout(probe.observation_dim, probe.action_dim)
                probe.close()
            options = {"seed": 7, "num_workers": max(workers, 1)} | options
            gateway = open_gateway(environment, **options)
            if journal is not None:
                gateway.recover(journal)
            pool = WorkerPool(workers, gateway.endpoint, tmp_path / "logs", gateway.own_keys)
            # The gateway is closed first, so that the workers are told to stop.
            stack.callback(pool.stop)
            stack.callback(gateway.close)
            gateway.start()
            pool.start()
            return gateway, pool

        yield start


@pytest.fixture(scope="session")
def corner_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Minari folder with three episodes of the corner task."""
    root = tmp_path_factory.mktemp("corner")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        make_dataset("antmaze-corner", transitions=3 * 301, processes=2, seed=5)
    return root


@pytest.fixture
def corner(corner_root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of that dataset, which Minari finds while the test runs."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(corner_root))
    return CORNER
