"""Small datasets in a Minari folder of their own."""

import os
from pathlib import Path

import pytest

from iqlft.datasets.generation import make_dataset

CORNER = "iqlft/antmaze/corner-v0"


@pytest.fixture
def minari_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Minari folder; Minari looks the variable up at every call."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


@pytest.fixture(scope="session")
def corner_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Minari folder with three episodes of the corner task."""
    root = tmp_path_factory.mktemp("corner")
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = str(root)
    try:
        make_dataset("antmaze-corner", transitions=3 * 301, processes=2, seed=5)
    finally:
        if before is None:
            del os.environ["MINARI_DATASETS_PATH"]
        else:
            os.environ["MINARI_DATASETS_PATH"] = before
    return root


@pytest.fixture
def corner(corner_root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of that dataset, which Minari finds while the test runs."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(corner_root))
    return CORNER
