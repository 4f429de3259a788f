"""Where the time of an update goes, on one thread of the CPU.

    python benchmarks/update_parts.py

Every part is timed inside whole updates: on its own it would find its tensors in the processor's
cache, and be faster.
"""

import functools
import statistics
import time
from collections import defaultdict
from typing import Any

import torch
from learner import KINDS, learner, rows
from measuring import Table, parser, write

from iqlft.nn.adam import Adam
from iqlft.nn.networks import Critic
from iqlft.nn.stacked_mlp import StackedMLP
from iqlft.training.replay import Replay

PARTS: dict[str, tuple[type, str]] = {
    "sampling": (Replay, "sample"),
    "forward passes": (StackedMLP, "forward"),
    "backward passes": (StackedMLP, "backward"),
    "Adam": (Adam, "step"),
    "parameters rounded to bf16": (StackedMLP, "round"),
    "target critics": (Critic, "track"),
}


class Stopwatch:
    """Adds up the seconds that methods take, without those of timed methods inside them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside = [0.0]

    def timed(self, name: str, method: Any) -> Any:  # noqa: ANN401
        """The method, timed."""

        @functools.wraps(method)
        def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            self._inside.append(0.0)
            began = time.perf_counter()
            result = method(*args, **kwargs)
            elapsed = time.perf_counter() - began
            self.seconds[name] += elapsed - self._inside.pop()
            self._inside[-1] += elapsed
            return result

        return wrapper


def main() -> None:
    options = parser(__doc__, seconds=2.0, rounds=7)
    args = options.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    data, watch = rows(), Stopwatch()
    for name, (owner, method) in PARTS.items():
        setattr(owner, method, watch.timed(name, getattr(owner, method)))
    tables = []
    for kind, dtype in KINDS.items():
        update = watch.timed("the rest", learner(data, 1, dtype).update)
        found: dict[str, list[float]] = defaultdict(list)
        for _ in range(args.rounds + 1):
            watch.seconds.clear()
            count, began = 0, time.perf_counter()
            while time.perf_counter() - began < args.seconds:
                update()
                count += 1
            for name in [*PARTS, "the rest"]:
                found[name].append(watch.seconds[name] / count * 1e6)
        medians = {name: statistics.median(values[1:]) for name, values in found.items()}
        total = sum(medians.values())
        table = Table(f"{kind}: microseconds of an update", ("", "us", "share"))
        for name, median in medians.items():
            table.add(name, f"{median:,.0f}", f"{median / total:.0%}")
        table.add("all", f"{total:,.0f}", "")
        tables.append(table)
    write("Where the time of an update goes", tables, args.out)


if __name__ == "__main__":
    main()
