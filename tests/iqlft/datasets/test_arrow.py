"""Sets in Arrow and Parquet: read like those in HDF5, and refused in a sentence where damaged."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
from minari.data_collector.episode_buffer import EpisodeBuffer

from iqlft.cli.main import main

ID, STEPS = "field/pendulum-v0", 6
PRETRAIN = (
    "pretrain", "--dataset", ID, "--goal", "stored", "--score", "return", "--dry-run",
    "--num-updates", "10", "--hidden-size", "8", "--threads", "1",
)  # fmt: skip


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes a set in a format; gives the folder of its second episode."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))

    def made(kind: Any) -> Path:  # noqa: ANN401
        episodes = [
            EpisodeBuffer(
                id=index,
                observations=np.zeros((STEPS + 1, 3), np.float32),
                actions=np.zeros((STEPS, 1), np.float32),
                rewards=np.zeros(STEPS),
                terminations=np.zeros(STEPS, np.bool_),
                truncations=np.arange(STEPS) == STEPS - 1,
            )
            for index in range(2)
        ]
        with pytest.warns(UserWarning, match="is set to None"):
            minari.create_dataset_from_buffers(ID, episodes, env="Pendulum-v1", data_format=kind)
        return tmp_path / ID / "data" / "1"

    return made


def without(column: str) -> Callable[[Path], None]:
    """Takes an array out of an episode."""

    def damage(folder: Path) -> None:
        import pyarrow as pa

        (path,) = folder.glob("*.arrow")
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_file(file).read_all().drop_columns([column])
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

    return damage


def cut(folder: Path) -> None:
    (path,) = folder.glob("*.arrow")
    os.truncate(path, path.stat().st_size // 2)


COLUMNS = "observations", "actions", "rewards", "terminations", "truncations"
DAMAGES: dict[str, Callable[[Path], object]] = {
    "a file cut short": cut,
    "an episode that is missing": shutil.rmtree,
    "no file of an episode": lambda folder: next(folder.glob("*.arrow")).unlink(),
    **{f"no {column}": without(column) for column in COLUMNS},
}


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_a_whole_set_is_learned_from(kind: str, make: Callable[[str], Path]) -> None:
    pytest.importorskip("pyarrow")
    make(kind)
    assert main(PRETRAIN) == 0
    assert main(("data", "check", ID)) == 0


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_set_is_refused_in_a_sentence(
    name: str, make: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    DAMAGES[name](make("arrow"))
    assert main(PRETRAIN) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(("data", "check", ID)) == 1


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_without_pyarrow_the_sentence_says_how_to_install_it(
    kind: str,
    make: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    about = make("hdf5").parent / "metadata.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "data_format": kind}))
    for module in ("pyarrow", "minari.dataset._storages.arrow_storage"):
        monkeypatch.setitem(sys.modules, module, None)
    for command in (PRETRAIN, ("data", "check", ID)):
        assert main(command) == 2
        told = capsys.readouterr().err
        assert "needs pyarrow: pip install 'minari[arrow]'" in told
        assert told.count("\n") == 1
