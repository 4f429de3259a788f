"""Updates per second of the learner on the CPU, against plain eager PyTorch and `torch.compile`.

    python benchmarks/learner.py [--threads 1 2] [--members 1 5] [--compile]
    python benchmarks/learner.py --algorithms sac rlpd wsrl cql calql

The second form compares the soft actor-critic family, each with its own settings, with single-file
implementations of the same updates (`eager_sac.py`).

All learn from the same random transitions of AntMaze's dimensions; in the first form batch 256,
networks 256-256. The bound is the time that the matrix products of an update alone would take at
the rate of a 256 x 256 x 256 product of the same dtype, measured in the same run; an update of one
member has 0.59 GFLOP of them.
"""

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from eager import EagerReference
from eager_sac import EagerSAC
from measuring import (
    ACTION_DIM,
    BATCH,
    LAYOUT,
    OBSERVATION_DIM,
    Table,
    alternate,
    parser,
    ratio,
    write,
)

from iqlft.algorithms.base import Spec, algorithm_class
from iqlft.algorithms.iql import IQL
from iqlft.config.algorithms import ALGORITHMS, IQLHyperparameters, SACHyperparameters
from iqlft.training.cuda_graph import UpdateGraph
from iqlft.training.learner import fit_replay
from iqlft.training.replay import Replay
from iqlft.training.stack import Stack

TRANSITIONS = 200_000
KINDS = {"float32": torch.float32, "bf16": torch.bfloat16}


def rows() -> np.ndarray:
    """Random transitions that never end."""
    made = np.random.default_rng(0).normal(size=(TRANSITIONS, LAYOUT.width)).astype(np.float32)
    made[:, -3:] = 0
    return made


def learner(
    data: np.ndarray, members: int, kind: torch.dtype, device: str = "cpu", *, graph: bool = False
) -> Stack:
    """A stack over the data."""
    seeds = range(members)
    algorithm = IQL(
        Spec(OBSERVATION_DIM, ACTION_DIM),
        IQLHyperparameters(),
        seeds,
        device=device,
        hidden_dtype=kind,
    )
    replay = Replay([data], len(data), LAYOUT, seeds, capacity=1000, device=device)
    recorded = UpdateGraph(algorithm, replay, BATCH) if graph else None
    return Stack(algorithm, replay, BATCH, recorded)


def family(
    names: Sequence[str], data: np.ndarray, seconds: float, rounds: int, clock: Callable[[], float]
) -> Table:
    """Updates per second of algorithms of the soft actor-critic family and of their references."""
    table = Table(
        "the soft actor-critic family: updates per second", ("", "eager", "iqlft", "ratio")
    )
    for name in names:
        settings = ALGORITHMS[name].hyperparameters()
        assert isinstance(settings, SACHyperparameters)
        algorithm = algorithm_class(name)(Spec(OBSERVATION_DIM, ACTION_DIM), settings)
        replay = Replay([data], len(data), LAYOUT)
        fit_replay(algorithm, replay)
        contenders: dict[str, Callable[[], object]] = {
            "eager": EagerSAC(data, LAYOUT, settings).update,
            "iqlft": Stack(algorithm, replay, settings.batch_size).update,
        }
        rates = alternate(contenders, seconds, rounds, clock)
        medians = (f"{statistics.median(rates[each]):,.2f}" for each in contenders)
        table.add(name, *medians, f"{ratio(rates, 'iqlft', 'eager'):.2f}")
    return table


def operations() -> int:
    """Floating-point operations of the products in one member's update."""
    hidden = IQLHyperparameters().hidden_size

    def products(inputs: int, outputs: int, passes: int, backward: int) -> int:
        shapes = [(inputs, hidden), (hidden, hidden), (hidden, outputs)]
        sizes = [fan_in * fan_out for fan_in, fan_out in shapes]
        # In the backward pass every layer has a product for its weights, and all but the first
        # have one for their inputs.
        return passes * sum(sizes) + backward * (2 * sum(sizes) - sizes[0])

    value = products(OBSERVATION_DIM, 1, 3, 1)
    actor = products(OBSERVATION_DIM, ACTION_DIM, 1, 1)
    critics = 2 * products(OBSERVATION_DIM + ACTION_DIM, 1, 2, 1)
    return 2 * BATCH * (value + actor + critics)


def product(kind: torch.dtype) -> Callable[[], object]:
    """A 256 x 256 x 256 product, by the operation that the learner uses."""
    x, weight = torch.randn(256, 256).to(kind), torch.randn(256, 256).to(kind)
    return lambda: torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options.add_argument("--members", type=int, nargs="+", default=[1, 5])
    options.add_argument("--compile", action="store_true", help="also compile the reference")
    options.add_argument("--processor-time", action="store_true", help="for a machine that is busy")
    options.add_argument("--algorithms", nargs="+", default=[], help="of the family, instead")
    args = options.parse_args()
    clock = time.process_time if args.processor_time else time.perf_counter
    data = rows()
    torch.set_flush_denormal(True)
    tables = []
    if args.algorithms:
        torch.set_num_threads(args.threads[0])
        tables.append(family(args.algorithms, data, args.seconds, args.rounds, clock))
    for threads in () if args.algorithms else args.threads:
        torch.set_num_threads(threads)
        contenders: dict[str, Callable[[], object]] = {
            "eager reference": EagerReference(data, LAYOUT, BATCH).update
        }
        if args.compile:
            contenders["compiled reference"] = EagerReference(
                data, LAYOUT, BATCH, compiled=True
            ).update
        names = {}
        for name, kind in KINDS.items():
            for members in args.members:
                label = f"iqlft {name}" + (f", {members} seeds" if members > 1 else "")
                contenders[label] = learner(data, members, kind).update
                names[label] = name, members
        products = {f"product {name}": product(kind) for name, kind in KINDS.items()}
        rates = alternate(contenders | products, args.seconds, args.rounds, clock)
        heading = ("", "min", "median", "max", "ratio", "of the bound")
        table = Table(f"{threads} threads: seed-updates per second", heading)
        for label in contenders:
            name, members = names.get(label, ("", 1))
            each = [members * value for value in rates[label]]
            reference = rates["eager reference"]
            times = statistics.median(a / b for a, b in zip(each, reference, strict=True))
            share = ""
            if name:
                gemm = statistics.median(rates[f"product {name}"]) * 2 * 256**3
                share = f"{statistics.median(each) * operations() / gemm:.0%}"
            figures = (f"{value:,.0f}" for value in (min(each), statistics.median(each), max(each)))
            table.add(label, *figures, f"{times:.2f}", share)
        for name in KINDS:
            gflops = statistics.median(rates[f"product {name}"]) * 2 * 256**3 / 1e9
            table.add(f"{name} products: {gflops:.0f} GFLOP/s", "", "", "", "", "")
        tables.append(table)
    write("Updates per second on the CPU", tables, args.out)


if __name__ == "__main__":
    main()
