"""What the benchmarks share: alternating blocks, medians, tables, and the machine's description."""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path

from timing import rate

from iqlft_workers.transition import RowLayout

OBSERVATION_DIM, ACTION_DIM, BATCH = 29, 8, 256
"""AntMaze's dimensions, and the published batch."""
LAYOUT = RowLayout(OBSERVATION_DIM, ACTION_DIM)


def alternate(
    contenders: Mapping[str, Callable[[], object]],
    seconds: float,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    settle: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Calls per second of each contender, block by block; blocks alternate, so drift slows all."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for action in contenders.values():
        rate(action, seconds / 2, clock, settle)
    for _ in range(rounds):
        for name, action in contenders.items():
            rates[name].append(rate(action, seconds, clock, settle))
    return rates


def ratio(rates: Mapping[str, Sequence[float]], one: str, other: str) -> float:
    """Median ratio of two contenders' neighbouring blocks."""
    return statistics.median(a / b for a, b in zip(rates[one], rates[other], strict=True))


class Table:
    """A table that is printed row by row.

    Args:
        title: what is measured.
        heading: of the columns; the first is left-aligned.
    """

    def __init__(self, title: str, heading: Sequence[str]) -> None:
        self._widths = [max(34, len(heading[0])), *(max(11, len(each) + 2) for each in heading[1:])]
        self.lines = [title, self._line(heading)]
        print("\n".join(self.lines), flush=True)

    def add(self, *cells: str) -> None:
        """Adds a row."""
        self.lines.append(self._line(cells))
        print(self.lines[-1], flush=True)

    def _line(self, cells: Sequence[str]) -> str:
        first, *others = zip(cells, self._widths, strict=True)
        return first[0].ljust(first[1]) + "".join(cell.rjust(width) for cell, width in others)


def processor(key: str) -> str:
    """The system's entry about the processor under a key such as `model name` or `flags`."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def machine() -> str:
    """Cores, processor and PyTorch."""
    # Imported late: the transport is measured in processes without it.
    import torch

    flags = {"avx512f", "avx512_bf16", "amx_bf16"} & set(processor("flags").split())
    model = processor("model name") or "unknown CPU"
    cores = f"{len(os.sched_getaffinity(0))} cores of an {model}"
    return f"{cores} ({', '.join(sorted(flags)) or 'no AVX-512'}), torch {torch.__version__}"


def parser(
    description: str | None, *, seconds: float = 2.0, rounds: int = 7
) -> argparse.ArgumentParser:
    """Options that every benchmark has."""
    made = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    made.add_argument("--seconds", type=float, default=seconds, help="length of a block")
    made.add_argument(
        "--rounds", "--blocks", type=int, default=rounds, help="blocks of each contender"
    )
    made.add_argument("--out", type=Path, help="a file for the tables, in Markdown")
    return made


def heading(title: str) -> str:
    """Title, command, date and machine, in Markdown."""
    script = Path(sys.argv[0])
    command = " ".join(["python", f"{script.parent.name}/{script.name}", *sys.argv[1:]])
    return f"# {title}\n\n`{command}`, {date.today()}, {machine()}.\n"


def write(title: str, tables: Iterable[Table], out: Path | None) -> None:
    """Writes the tables with command, date and machine."""
    if out is None:
        return
    bodies = "\n\n".join("```\n" + "\n".join(table.lines) + "\n```" for table in tables)
    out.write_text(f"{heading(title)}\n{bodies}\n")
