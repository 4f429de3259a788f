"""Local datasets are listed, and absent ones downloaded."""

import importlib.util
import shutil
from pathlib import Path

import pytest

from iqlft.datasets.catalogue import download, list_local
from iqlft.datasets.errors import DatasetError


def test_local_datasets_are_listed_with_their_sizes(corner: str) -> None:
    (dataset,) = list_local()
    assert (dataset.id, dataset.transitions, dataset.episodes) == (corner, 903, 3)
    assert 400_000 < dataset.size_bytes < 4_000_000


def test_datasets_behind_links_are_listed(
    corner: str, corner_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "iqlft").symlink_to(corner_root / "iqlft")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    assert [each.id for each in list_local()] == [corner]
    # A link that leads round in a circle is followed once.
    (tmp_path / "round").symlink_to(tmp_path)
    assert [each.id for each in list_local()] == [corner]


def test_a_namespace_may_be_called_data(corner_root: Path, minari_root: Path) -> None:
    shutil.copytree(corner_root / "iqlft", minari_root / "data")
    shutil.copytree(corner_root / "iqlft", minari_root / "test" / "data")
    found = [each.id for each in list_local()]
    assert found == ["data/antmaze/corner-v1", "test/data/antmaze/corner-v1"]


@pytest.mark.usefixtures("minari_root")
def test_an_empty_folder_lists_nothing() -> None:
    assert list_local() == []


def test_a_dataset_that_is_here_is_not_downloaded_again(corner: str) -> None:
    with pytest.raises(DatasetError, match=r"exists already.*--force"):
        download(corner)


@pytest.mark.usefixtures("minari_root")
def test_a_malformed_id_is_not_downloaded() -> None:
    with pytest.raises(DatasetError, match="no Minari id"):
        download("no id at all")


@pytest.mark.skipif(
    importlib.util.find_spec("huggingface_hub") is not None, reason="the hf extra is installed"
)
@pytest.mark.usefixtures("minari_root")
def test_a_download_without_the_extra_names_it() -> None:
    with pytest.raises(DatasetError, match=r"pip install 'minari\[hf\]'"):
        download("D4RL/antmaze/umaze-v1")


@pytest.mark.usefixtures("minari_root")
def test_an_unreachable_server_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_REMOTE", "nowhere://nothing")
    with pytest.raises(DatasetError, match="could not be downloaded"):
        download("D4RL/antmaze/umaze-v1")
