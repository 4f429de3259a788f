"""How a learner scales with N workers: `scaling_model.py`, fed with measured service times.

    python benchmarks/scaling.py predict [--out FILE.csv] [--plot FOLDER]
    python benchmarks/scaling.py check [--workers 1 2 4 8 64] [--out FILE.csv]

`predict` models 1 to 1,024 workers. `check` models a setting of its own, runs it too with a live
gateway, synthetic workers and a learner that sleeps for each update, and writes both side by side.
"""

import argparse
import csv
import itertools
import math
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import astuple, fields, replace
from datetime import date
from pathlib import Path

from scaling_model import Model, Result, Setting, Tally

SCENARIOS: Mapping[str, Setting] = {
    "CPU, U = 1": Setting(),
    "CPU, U = 0.02": Setting(utd_ratio=0.02),
    "2,000 updates/s, U = 1": Setting(update=1 / 2000),
    "2,000 updates/s, U = 1, robots (20 steps/s)": Setting(update=1 / 2000, step=1 / 20),
    "2,000 updates/s, U = 0.001": Setting(update=1 / 2000, utd_ratio=0.001, publish_every=100),
}
"""Learners and paces of the figure; a CPU's has 200 updates/s, AntMaze 3,308 steps/s a worker."""
COLUMNS, KINDS = [each.name for each in fields(Result)], ("model", "measured")


def settled(setting: Setting, seed: int, seconds: float = 5.0) -> Result:
    """A run's result once it has settled: learner and workers may first drift S updates apart."""
    rate = min(1 / setting.update, setting.utd_ratio * setting.workers / setting.step)
    first = min(60.0, 8 * setting.slack / rate)
    return Model(setting, seed).run(seconds, warm_up=first + 1.0)


def predict(args: argparse.Namespace) -> Iterator[list[object]]:
    """Rows of all scenarios from 1 to 1,024 workers."""
    yield ["scenario", "workers", "seed", *COLUMNS]
    for (name, setting), power in itertools.product(SCENARIOS.items(), range(11)):
        made = replace(setting, workers=2**power)
        yield [name, made.workers, args.seed, *astuple(settled(made, args.seed, args.seconds))]


CHECKED = Setting(
    step=0.05,
    update=0.05,
    utd_ratio=0.25,
    slack=16,
    flush=4,
    flush_seconds=math.inf,
    latency=1e-3,
    at_once=True,
)
"""The setting of `check`, whose steps and updates are sleeps: even a busy machine keeps up."""
MADE_UP = 5
"""Most updates that a learner makes up for after it has slept too long."""


def measure(setting: Setting, seconds: float, settle: float) -> Result:
    """The measured result with a live gateway, synthetic workers and a learner that sleeps."""
    from live_gateway import gateway_seconds, synthetic, weights

    from iqlft.training.pacing import Pacing

    pacing, tally = Pacing(setting.utd_ratio, setting.slack, 10**12), Tally()
    actor = weights(0)
    began, thread, waited, ends_at, due = 0.0, 0.0, 0.0, math.inf, 0.0
    with synthetic(setting.workers, setting.flush, seconds_per_step=setting.step) as gateway:
        while sum(each.state == "waiting" for each in gateway.worker_status()) < setting.workers:
            time.sleep(0.2)
        settles_at = time.monotonic() + settle
        while (now := time.monotonic()) < ends_at:
            if ends_at == math.inf and now > settles_at:
                began, thread, ends_at = now, gateway_seconds(), now + seconds
                waited, tally = 0.0, Tally()
            gateway.allow(pacing.allowance())
            may_update = pacing.may_update()
            for part in gateway.receive(0.0 if may_update else 0.1):
                tally.lag += float((pacing.updates - part.versions.astype(float)).sum())
                tally.steps += part.num_transitions
                pacing.env_steps += part.num_transitions
            if not may_update:
                due = time.monotonic()
                waited += due - now
                continue
            # A learner that slept too long makes up for it.
            due = max(due, now - MADE_UP * setting.update) + setting.update
            time.sleep(max(0.0, due - time.monotonic()))
            pacing.updates += 1
            tally.updates += 1
            if pacing.updates % setting.publish_every == 0:
                gateway.publish(actor._replace(version=pacing.updates))
        span = time.monotonic() - began
        busy = (gateway_seconds() - thread) / span
    stepping = tally.steps * setting.step / setting.workers / span
    lag = tally.lag / max(1, tally.steps)
    updates, steps = tally.updates / span, tally.steps / span
    return Result(updates, steps, lag, waited / span, 1 - stepping, busy)


def check(args: argparse.Namespace) -> Iterator[list[object]]:
    """Rows of the model and of measurements, side by side."""
    yield ["workers", "seed", *(f"{kind} {name}" for name in COLUMNS[:6] for kind in KINDS)]
    for workers in args.workers:
        setting = replace(CHECKED, workers=workers)
        pair = settled(setting, args.seed, 30.0), measure(setting, args.seconds, args.settle)
        both = zip(*map(astuple, pair), strict=True)
        yield [workers, args.seed, *itertools.chain(*itertools.islice(both, 6))]


def plot(rows: list[list[object]], folder: Path) -> None:
    """Three panels: updates per second, policy lag, and who waits."""
    import matplotlib.pyplot as plt

    from iqlft.figures.style import BLUE, GREEN, ORANGE, PURPLE, VERMILION, WIDE, save_figure, style

    colours = (BLUE, GREEN, ORANGE, PURPLE, VERMILION)
    with plt.rc_context(style(WIDE)):
        figure, axes = plt.subplots(1, 3, figsize=(WIDE, 2.7), layout="constrained")
        for name, colour in zip(SCENARIOS, colours, strict=True):
            found = [dict(zip(["name", "workers", "seed", *COLUMNS], r, strict=True)) for r in rows]
            chosen = [row for row in found if row["name"] == name]
            workers = [row["workers"] for row in chosen]
            axes[0].plot(workers, [row["updates"] for row in chosen], color=colour, label=name)
            axes[1].plot(workers, [row["lag"] for row in chosen], color=colour)
            axes[2].plot(workers, [row["learner_waits"] for row in chosen], color=colour)
            axes[2].plot(workers, [row["workers_wait"] for row in chosen], "--", color=colour)
        for each, title in zip(axes, ("updates per second", "policy lag (updates)",
                                      "waiting: learner -, workers --"), strict=True):  # fmt: skip
            each.set(xscale="log", xlabel="workers", title=title)
        axes[0].set_yscale("log")
        axes[1].set_yscale("log")
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=6)
        save_figure(figure, folder, "scaling")


def cells(row: list[object]) -> list[object]:
    """A row with its numbers rounded to four digits."""
    return [f"{cell:.4g}" if isinstance(cell, float) else cell for cell in row]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=("predict", "check"))
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 64])
    parser.add_argument("--seconds", type=float, default=5.0, help="simulated, or measured")
    parser.add_argument("--settle", type=float, default=20.0, help="seconds left out of a check")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a file for the rows, as CSV")
    parser.add_argument("--plot", type=Path, help="folder for the figure")
    args = parser.parse_args()
    rows = []
    for row in {"predict": predict, "check": check}[args.part](args):
        rows.append(row)
        print(*cells(row), sep=",", flush=True)
    if args.out:
        from measuring import machine

        with args.out.open("w", newline="", encoding="utf-8") as file:
            command = " ".join(["python", "benchmarks/scaling.py", *sys.argv[1:]])
            file.write(f"# {command}; {date.today()}; {machine()}\n")
            csv.writer(file).writerows(map(cells, rows))
    if args.plot:
        plot(rows[1:], args.plot)


if __name__ == "__main__":
    main()
