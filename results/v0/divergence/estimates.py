"""Prints how Q and V of runs proceed: `python results/v0/divergence/estimates.py NAME=RUN...`.

Rows are those of the runs' `metrics.jsonl` (see `docs/metrics.md`): every 50k offline updates, and
the first row of every 10k environment steps.
"""

import csv
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from iqlft.runs.metrics_log import History, read_history

OFFLINE, ONLINE = 50_000, 10_000
CLOCKS = "phase", "updates", "env_steps"
FIGURES = "critic/loss", "value/loss", "dataset/q", "dataset/value", "new/q", "new/value"


def thinned(history: History) -> Iterator[Mapping[str, Any]]:
    """The rows of a run that are kept."""
    last = -1
    for row in history.rows:
        if row["phase"] == "offline":
            if row["updates"] % OFFLINE == 0:
                yield row
        elif row.get("new/value") is not None and row["env_steps"] // ONLINE > last:
            last = row["env_steps"] // ONLINE
            yield row


if __name__ == "__main__":
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["run", *CLOCKS, *FIGURES])
    for argument in sys.argv[1:]:
        name, _, run = argument.partition("=")
        for row in thinned(read_history(Path(run))):
            figures = ("" if row.get(key) is None else f"{row[key]:.4g}" for key in FIGURES)
            writer.writerow([name, *(row[key] for key in CLOCKS), *figures])
