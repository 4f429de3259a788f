"""Offline-then-online fine-tuning with IQL and environment workers.

    import iqlft

    dataset = iqlft.load_dataset("iqlft/antmaze/umaze-v1")
    iql = iqlft.IQL(dataset, expectile=0.9, inverse_temperature=10.0)
    metrics = iql.train(num_updates=100_000)
    action = iql.act(observation)
    iql.save("my-policy")

These names are imported on first use, so that `import iqlft` alone is quick and
`iqlft.load_policy` never needs torch.

Importing the package sets `OMP_WAIT_POLICY=PASSIVE`, unless the variable is set already: a torch
thread that spins while it waits takes CPU time from the other threads and the workers. torch reads
the variable only when it is imported, so import iqlft first.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from iqlft_workers import __version__ as __version__  # registers the environments too

if TYPE_CHECKING:
    from iqlft.api import IQL as IQL
    from iqlft.api import Algorithm as Algorithm
    from iqlft.api import finetune_config as finetune_config
    from iqlft.api import load_dataset as load_dataset
    from iqlft.api import pretrain_config as pretrain_config
    from iqlft.config.settings import FinetuneConfig as FinetuneConfig
    from iqlft.config.settings import PretrainConfig as PretrainConfig
    from iqlft.datasets.arrays import create_from_arrays as create_from_arrays
    from iqlft.runs.policy import Policy as Policy
    from iqlft.runs.policy import load_policy as load_policy
    from iqlft.training.finetune import finetune as finetune
    from iqlft.training.pretrain import pretrain as pretrain

_HOMES = {
    "Algorithm": "iqlft.api",
    "IQL": "iqlft.api",
    "load_dataset": "iqlft.api",
    "pretrain_config": "iqlft.api",
    "finetune_config": "iqlft.api",
    "create_from_arrays": "iqlft.datasets.arrays",
    "PretrainConfig": "iqlft.config.settings",
    "FinetuneConfig": "iqlft.config.settings",
    "pretrain": "iqlft.training.pretrain",
    "finetune": "iqlft.training.finetune",
    "load_policy": "iqlft.runs.policy",
    "Policy": "iqlft.runs.policy",
}
__all__ = ["IQL", "Algorithm", "create_from_arrays", "load_dataset"]
__all__ += ["FinetuneConfig", "Policy", "PretrainConfig", "finetune", "finetune_config"]
__all__ += ["load_policy", "pretrain", "pretrain_config"]

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__", "__doc__"])


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'iqlft' has no attribute {name!r}")
