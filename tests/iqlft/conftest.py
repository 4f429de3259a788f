"""Run folders with made-up evaluations, an empty Minari folder, and what draws here."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from iqlft.runs.scores import EVALUATION_COLUMNS
from iqlft.video.opengl import RenderingError, find_backend

HEADER = (
    "phase", "updates", "env_steps", "seconds", "success", "return", "normalized_score",
    "episodes", "version",
)  # fmt: skip
LABEL = "regenerated with the D4RL procedure"
MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Writes a run folder: success rates at equal distances offline, then online from step 0.

    `kept` says whether it has the evaluations' episodes too.
    """

    def make(
        task: str = "antmaze-umaze",
        seed: int = 0,
        *,
        offline: Sequence[float] = (0.0, 0.5),
        online: Sequence[float] = (),
        updates: int = 1_000_000,
        env_steps: int = 1_000_000,
        episodes: int = 100,
        algorithm: str = "iql",
        variant: str = "",
        label: str = LABEL,
        metric: str = "success",
        root: Path = tmp_path / "runs",
        kept: bool = False,
    ) -> Path:
        folder = root / task / f"{variant or algorithm}-s{seed}"
        folder.mkdir(parents=True)
        meta = {"task": task, "algorithm": algorithm, "seed": seed, "dataset_label": label}
        if variant:
            meta["variant"] = variant
        (folder / "meta.json").write_text(json.dumps(meta))
        rows: list[dict[str, Any]] = []
        for index, value in enumerate(offline, 1):
            rows.append({"phase": "offline", "updates": updates * index // len(offline),
                         "env_steps": 0, metric: value})  # fmt: skip
        for index, value in enumerate(online):
            steps = env_steps * index // max(len(online) - 1, 1)
            rows.append({"phase": "online", "updates": updates + steps, "env_steps": steps,
                         metric: value})  # fmt: skip
        with (folder / "curves.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, HEADER, restval="")
            writer.writeheader()
            for row in rows:
                fixed = {"seconds": 1.5, "return": 7.0, "episodes": episodes}
                writer.writerow(fixed | row | {"version": row["updates"]})
        if kept:  # The first episodes are those that succeed.
            lines = [",".join(EVALUATION_COLUMNS)]
            for row in rows:
                place = f"{row['phase']},{row['updates']},{row['env_steps']}"
                reached = round(row["success"] * episodes)
                lines += [f"{place},{i},7.0,9,{int(i < reached)}" for i in range(episodes)]
            (folder / "evaluations.csv").write_text("\n".join(lines) + "\n")
        return folder

    return make


@pytest.fixture(scope="session")
def backend() -> str:
    """The value of MUJOCO_GL with which this machine draws; without one the test is skipped."""
    try:
        return find_backend()
    except RenderingError as error:
        pytest.skip(str(error))


@pytest.fixture
def minari_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Minari folder; Minari looks the variable up at every call."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"
