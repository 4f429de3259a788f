"""The cost of a growing replay: updates per second and memory against its size.

    python benchmarks/growth.py [--millions 1 5 10 20] [--plot FILE.png]

The replay is filled with random transitions of AntMaze's dimensions. The learner samples uniformly
from all of it, so a larger one means more cache misses, and nothing else.
"""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from learner import KINDS
from measuring import ACTION_DIM, BATCH, LAYOUT, OBSERVATION_DIM, Table, alternate, parser, write

from iqlft.algorithms.base import Spec
from iqlft.algorithms.iql import IQL
from iqlft.config.algorithms import IQLHyperparameters
from iqlft.figures.style import BLUE, NARROW, VERMILION, save_figure, style
from iqlft.training.replay import Replay
from iqlft.training.stack import Stack

CHUNK = 250_000


def chunks(count: int) -> Iterator[np.ndarray]:
    """Random rows."""
    rng = np.random.default_rng(0)
    for _ in range(0, count, CHUNK):
        rows = rng.standard_normal((CHUNK, LAYOUT.width), np.float32)
        rows[:, -3:] = 0
        yield rows


def main() -> None:
    options = parser(__doc__, rounds=5)
    options.add_argument("--millions", type=int, nargs="+", default=[1, 5, 10, 20])
    options.add_argument("--plot", type=Path, help="folder for the figure")
    args = options.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    heading = ("transitions", "MiB", "float32/s", "bf16/s", "sampling us", "filled in s")
    table = Table("One thread: updates per second, and one batch of 256", heading)
    medians: dict[str, list[float]] = {name: [] for name in KINDS}
    for millions in args.millions:
        count, began = millions * 1_000_000, time.perf_counter()
        replay = Replay(chunks(count), count, LAYOUT)
        seconds = time.perf_counter() - began
        stacks = {
            name: Stack(
                IQL(Spec(OBSERVATION_DIM, ACTION_DIM), IQLHyperparameters(), hidden_dtype=kind),
                replay,
                BATCH,
            )
            for name, kind in KINDS.items()
        }
        contenders = {name: stack.update for name, stack in stacks.items()}
        rates = alternate(
            {**contenders, "sampling": lambda replay=replay: replay.sample(BATCH)},
            args.seconds,
            args.rounds,
        )
        middle = {name: statistics.median(each) for name, each in rates.items()}
        for name in KINDS:
            medians[name].append(middle[name])
        table.add(
            f"{count:,}", f"{replay.num_bytes / 2**20:,.0f}", f"{middle['float32']:,.0f}",
            f"{middle['bf16']:,.0f}", f"{1e6 / middle['sampling']:,.0f}", f"{seconds:.1f}",
        )  # fmt: skip
        del replay, stacks, contenders
    write("The cost of growth", [table], args.out)
    if args.plot:
        with plt.rc_context(style(NARROW)):
            figure, axes = plt.subplots(figsize=(NARROW, 2.2), layout="constrained")
            for (name, each), colour in zip(medians.items(), (BLUE, VERMILION), strict=True):
                axes.plot(args.millions, each, "o-", color=colour, label=name, markersize=3)
            axes.set(xlabel="transitions in the replay (millions)", ylabel="updates per second")
            axes.set_ylim(bottom=0)
            axes.legend(frameon=False, fontsize=6)
            save_figure(figure, args.plot, "growth")


if __name__ == "__main__":
    main()
