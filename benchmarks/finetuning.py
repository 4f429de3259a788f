"""Fine-tuning end to end: updates and environment steps per second together, and who waits.

    python benchmarks/finetuning.py [--workers 1 2] [--precisions float32 bf16]

It generates a small umaze dataset, pretrains a little, and fine-tunes with each number of workers,
by default at one update per environment step. Numbers are medians over the rows of `metrics.jsonl`,
without the first ones. The learner has one thread, so that a core is left for workers.
"""

import dataclasses
import json
import os
import statistics
import tempfile
from pathlib import Path

from measuring import Table, parser, write

from iqlft.config.layers import load_task, override
from iqlft.config.settings import FinetuneConfig, PretrainConfig
from iqlft.datasets.antmaze.generation import make_dataset
from iqlft.training.finetune import finetune
from iqlft.training.pretrain import pretrain

TASK = "antmaze-umaze"
FIGURES = (
    "updates_per_second",
    "env_steps_per_second",
    "learner_waiting_share",
    "workers_waiting_share",
    "policy_lag",
)
LEFT_OUT = 2


def rows(run: Path) -> list[dict[str, float]]:
    """The rows of the online phase, once all workers are at work."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    online = [row for row in map(json.loads, lines) if row["phase"] == "online"]
    return online[LEFT_OUT:]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options.add_argument("--precisions", nargs="+", default=["float32", "bf16"])
    options.add_argument("--env-steps", type=int, default=12_000)
    options.add_argument("--utd-ratio", type=float, default=1.0, help="updates per step")
    args = options.parse_args()
    heading = ("", "updates/s", "env steps/s", "learner waits", "workers wait", "policy lag")
    table = Table(f"{TASK}, {args.utd_ratio:g} updates per environment step", heading)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MINARI_DATASETS_PATH"] = folder
        make_dataset(TASK, transitions=20_000)
        machine = {"threads": 1, "tensorboard": False, "eval_episodes": 1, "runs": Path(folder)}
        offline = override(PretrainConfig(), load_task(TASK), TASK)
        offline = dataclasses.replace(
            offline, task=TASK, num_updates=1000, eval_every=1000, workers=1, **machine
        )
        (pretrained,) = pretrain(offline)
        for precision in args.precisions:
            for workers in args.workers:
                online = FinetuneConfig(
                    run=(pretrained,), into=f"{precision}-{workers}",
                    precision=precision, workers=workers,
                    utd_ratio=args.utd_ratio, slack=max(10, round(512 * args.utd_ratio)),
                    log_every=max(100, round(1000 * args.utd_ratio)),
                    env_steps=args.env_steps, eval_every=args.env_steps, **machine,
                )  # fmt: skip
                (run,) = finetune(online)
                found = rows(run)
                figures = [statistics.median(row[key] for row in found) for key in FIGURES]
                table.add(
                    f"{workers} workers, {precision}",
                    *(f"{figure:,.0f}" for figure in figures[:2]),
                    *(f"{figure:.0%}" for figure in figures[2:4]),
                    f"{figures[4]:,.0f}",
                )
    write("Fine-tuning end to end", [table], args.out)


if __name__ == "__main__":
    main()
