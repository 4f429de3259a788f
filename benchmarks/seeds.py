"""Several seeds on the cores of a CPU: a process each, or one stack, against one seed alone.

    python benchmarks/seeds.py [--seeds 2] [--precisions float32 bf16] [--updates 4000]

It generates a small umaze dataset and pretrains on it as `iqlft pretrain` does. A speed is the
median over the rows of `metrics.jsonl`, without the first ones, summed over the seeds. The
contenders alternate, `--rounds` times, and a ratio is the median over the rounds. All have one
thread. The aim is 1.8 times one seed's speed with two seeds on two cores.
"""

import dataclasses
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from measuring import Table, parser, ratio, write

from iqlft.config.layers import load_task, override
from iqlft.config.settings import PretrainConfig
from iqlft.datasets.antmaze.generation import make_dataset
from iqlft.training.pretrain import pretrain

TASK = "antmaze-umaze"
LEFT_OUT = 3


def speed(run: Path) -> float:
    """Updates per second of a run, once all seeds are at work."""
    rows = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return statistics.median([row["updates_per_second"] for row in rows][LEFT_OUT:])


def seed_updates_per_second(config: PretrainConfig) -> float:
    """Updates per second of all seeds together."""
    with tempfile.TemporaryDirectory() as runs:
        return sum(map(speed, pretrain(dataclasses.replace(config, runs=Path(runs)))))


def main() -> None:
    options = parser(__doc__, rounds=3)
    options.add_argument("--seeds", type=int, default=2)
    options.add_argument("--precisions", nargs="+", default=["float32", "bf16"])
    options.add_argument("--updates", type=int, default=4000)
    args = options.parse_args()
    seeds, tables = tuple(range(args.seeds)), []
    several: dict[str, dict[str, Any]] = {
        "one seed": {"seeds": seeds[:1]},
        f"{args.seeds} seeds, a process each": {"seeds": seeds, "stack": "never"},
        f"{args.seeds} seeds, one stack": {"seeds": seeds, "stack": "always"},
    }
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MINARI_DATASETS_PATH"] = folder
        make_dataset(TASK, transitions=20_000)
        config = override(PretrainConfig(), load_task(TASK), TASK)
        config = dataclasses.replace(
            config, task=TASK, device="cpu", num_updates=args.updates, eval_every=args.updates,
            eval_episodes=1, workers=1, log_every=args.updates // 20, tensorboard=False,
        )  # fmt: skip
        for precision in args.precisions:
            rates: dict[str, list[float]] = {name: [] for name in several}
            for _ in range(args.rounds):
                for name, changes in several.items():
                    each = dataclasses.replace(config, precision=precision, **changes)
                    rates[name].append(seed_updates_per_second(each))
            table = Table(f"{precision}: seed-updates per second", ("", "median", "ratio"))
            for name in several:
                median = statistics.median(rates[name])
                table.add(name, f"{median:,.0f}", f"{ratio(rates, name, 'one seed'):.2f}")
            tables.append(table)
    write("Several seeds on a CPU", tables, args.out)


if __name__ == "__main__":
    main()
