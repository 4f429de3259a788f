"""The learner on one GPU: speeds, interference and kernels, in one command of a few minutes.

    PYTHONPATH=. python benchmarks/gpu.py --out gpu.json

Updates per second of 1, 5 and 10 stacked seeds, operation by operation and as a CUDA graph, against
plain eager PyTorch and the same under `torch.compile`; what adding transitions and exporting the
actor cost beside updates; which kernels an update has and how long they take. Results are written
after each of these questions, so that a run that is cut short leaves what it has found.
"""

import argparse
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from eager import EagerReference
from learner import KINDS, learner, rows
from measuring import BATCH, LAYOUT, alternate, ratio

from iqlft.config.settings import OnlineConfig
from iqlft.training.stack import Stack

ADDED = 128
"""Transitions in a worker's batch, and so updates between batches."""
PUBLISHED = OnlineConfig().publish_every


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
    }
    compiled = EagerReference(data, LAYOUT, BATCH, "cuda", compiled=True)
    try:
        compiled.update()
        contenders["compiled reference"] = compiled.update
    except RuntimeError as error:  # It needs a C compiler, which a machine may lack.
        print(f"torch.compile does not work here: {error}", flush=True)
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
    """Updates per second alone, with 128 new transitions per 128 updates, with regular exports."""
    stack = learner(data, 1, torch.float32, "cuda", graph=True)

    def every(updates: int, extra: Callable[[], object]) -> Callable[[], object]:
        def action() -> None:
            stack.update()
            if stack.updates % updates == 0:
                extra()

        return action

    return blocks(
        {
            "alone": stack.update,
            "adding": every(ADDED, lambda: stack.replay.add_rows(data[:ADDED])),
            "exporting": every(PUBLISHED, stack.algorithm.actor_weights),
        },
        seconds,
    )


def kernels(stack: Stack) -> dict[str, Any]:
    """Kernels of an update: how many, their time on the GPU in microseconds, and the longest."""
    repeats = 20
    for _ in range(repeats):
        stack.update()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(repeats):
            stack.update()
        torch.cuda.synchronize()
    events = [each for each in profile.events() if each.device_type.name == "CUDA"]
    times: Counter[str] = Counter()
    for each in events:
        times[each.name[:100]] += each.device_time_total / repeats
    return {
        "kernels": len(events) / repeats,
        "microseconds": sum(times.values()),
        "longest": {name: round(time, 1) for name, time in times.most_common(15)},
    }


def profiles(data: np.ndarray) -> dict[str, Any]:
    """Kernels of float32 and bf16, of one seed and of ten."""
    return {
        f"{kind}, {count} seeds": kernels(learner(data, count, dtype, "cuda"))
        for kind, dtype in KINDS.items()
        for count in (1, 10)
    }


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
        "speeds": lambda: speeds(data, args.seconds),
        "interference": lambda: interference(data, args.seconds),
        # Last, because a profiler may stay attached and slow what follows.
        "kernels_of_an_update": lambda: profiles(data),
    }
    for name, question in questions.items():
        found[name] = question()
        found["seconds"] = round(time.monotonic() - began)
        args.out.write_text(json.dumps(found, indent=1) + "\n")
        print(json.dumps({name: found[name]}, indent=1), flush=True)


if __name__ == "__main__":
    main()
