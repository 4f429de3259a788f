"""Everything that is worth knowing about the learner on one GPU, in one command of a few minutes.

    python benchmarks/gpu.py --out gpu.json

Updates per second of 1, 5 and 10 stacked seeds, operation by operation and as a CUDA graph, against
plain eager PyTorch and `torch.compile` of it; what adding transitions and reading the actor cost
beside updates; how many kernels an update has and how long they take. Written after every question,
so that a run that is cut short leaves what it has found.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from eager import EagerReference
from learner import KINDS, learner, rows
from measuring import BATCH, LAYOUT, alternate, ratio

from iqlft.stack import Stack

ADDED = 128
"""Transitions in a batch of a worker."""


def blocks(contenders: dict[str, Callable[[], object]], seconds: float) -> dict[str, Any]:
    """Median and all rates of each contender, from alternating blocks."""
    rates = alternate(contenders, seconds, 5, settle=torch.cuda.synchronize)
    return {
        name: {"median": statistics.median(values), "all": [round(each, 1) for each in values]}
        for name, values in rates.items()
    }


def speeds(data: np.ndarray, seconds: float) -> dict[str, Any]:
    """Seed-updates per second and their ratio to the eager reference."""
    contenders: dict[str, Callable[[], object]] = {
        "eager reference": EagerReference(data, LAYOUT, BATCH, "cuda").update,
        "compiled reference": EagerReference(data, LAYOUT, BATCH, "cuda", compiled=True).update,
    }
    members = dict.fromkeys(contenders, 1)
    for kind, dtype in KINDS.items():
        for count in (1, 5, 10):
            for graph in (False, True):
                name = f"iqlft {kind}, {count} seeds, {'graph' if graph else 'eager'}"
                contenders[name] = learner(data, count, dtype, "cuda", graph=graph).update
                members[name] = count
    rates = alternate(contenders, seconds, 5, settle=torch.cuda.synchronize)
    return {
        name: {
            "seed_updates_per_second": members[name] * statistics.median(values),
            "all_updates_per_second": [round(each, 1) for each in values],
            "times_eager_reference": members[name] * ratio(rates, name, "eager reference"),
        }
        for name, values in rates.items()
    }


def interference(data: np.ndarray, seconds: float) -> dict[str, Any]:
    """Updates per second alone, with a batch of new transitions, and with an export, every 100."""
    stack = learner(data, 1, torch.float32, "cuda", graph=True)

    def every_100(extra: Callable[[], object]) -> Callable[[], object]:
        def action() -> None:
            stack.update()
            if stack.updates % 100 == 0:
                extra()

        return action

    return blocks(
        {
            "alone": stack.update,
            "adding": every_100(lambda: stack.replay.add_rows(data[:ADDED])),
            "exporting": every_100(stack.algorithm.actor_weights),
        },
        seconds,
    )


def kernels(stack: Stack) -> dict[str, float]:
    """Kernels of an update and their time on the GPU, in microseconds."""
    repeats = 20
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(repeats):
            stack.update()
        torch.cuda.synchronize()
    events = [each for each in profile.events() if each.device_type.name == "CUDA"]
    microseconds = sum(each.device_time_total for each in events)
    return {"kernels": len(events) / repeats, "microseconds": microseconds / repeats}


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--seconds", type=float, default=2.0, help="length of a block")
    options.add_argument("--out", type=Path, default=Path("gpu.json"))
    args = options.parse_args()
    if not torch.cuda.is_available():
        options.error("there is no CUDA device here")
    began, data = time.monotonic(), rows()
    found: dict[str, Any] = {
        "date": str(date.today()),
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
    }
    questions: dict[str, Callable[[], Any]] = {
        "kernels_of_an_update": lambda: kernels(learner(data, 1, torch.float32, "cuda")),
        "interference": lambda: interference(data, args.seconds),
        "speeds": lambda: speeds(data, args.seconds),
    }
    for name, question in questions.items():
        found[name] = question()
        found["seconds"] = round(time.monotonic() - began)
        args.out.write_text(json.dumps(found, indent=1) + "\n")
        print(json.dumps({name: found[name]}, indent=1), flush=True)


if __name__ == "__main__":
    main()
