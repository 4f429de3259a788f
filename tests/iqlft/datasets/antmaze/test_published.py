"""A dataset is the same bytes on every processor, and everybody is told whether it is published."""

import json
import os
import subprocess
import sys
from pathlib import Path

import minari
import pytest

from iqlft.datasets.antmaze import published
from iqlft.datasets.antmaze.bands import AT_BOUNDS, BANDS, PACE, STUCK
from iqlft.datasets.antmaze.generation import make_dataset
from iqlft.datasets.antmaze.published import content_digest, is_published, published_hashes
from iqlft.datasets.antmaze.tasks import generated
from iqlft.datasets.audit import audit
from iqlft.datasets.audit.audit import check
from iqlft.datasets.audit.findings import Band, Finding, failures
from iqlft.datasets.loading import load_dataset

DIGEST = """
from iqlft.datasets.antmaze.episodes import EpisodeMaker
from iqlft.datasets.antmaze.gait import load_gait
from iqlft.datasets.antmaze.tasks import find_task
import hashlib
episode = EpisodeMaker(find_task("antmaze-corner"), load_gait(), 0.2, 0).run(0)
print(hashlib.sha256(b"".join(array.tobytes() for array in episode)).hexdigest())
"""


def digest(**environment: str) -> str:
    """Of an episode that a process of its own generates."""
    command = [sys.executable, "-c", DIGEST]
    made = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return made.stdout.strip()


def test_an_episode_has_the_same_bytes_with_the_kernels_of_other_processors() -> None:
    # What OpenBLAS and NumPy choose by the processor; wider kernels than it has change nothing.
    older = {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL"}
    assert len({digest(), digest(OPENBLAS_CORETYPE="Haswell"), digest(**older)}) == 1


def test_every_hash_belongs_to_a_dataset_that_can_be_made() -> None:
    assert published_hashes().keys() <= generated().keys()
    assert len(set(published_hashes().values())) == len(published_hashes())


def test_a_dataset_is_the_published_one_if_its_content_is(
    corner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = content_digest(minari.load_dataset(corner))

    def note(digest: str) -> str:
        hashes = tmp_path / "published.json"
        hashes.write_text(json.dumps({corner: digest}))
        monkeypatch.setattr(published, "_HASHES", hashes)
        return next(f.note for f in check(corner) if f.name == "the published dataset")

    assert note("0" * 32) == f"another one (hash of its content {found})"
    dataset = load_dataset(corner)
    assert dataset.published is False
    assert dataset.label.endswith(", not the published set")
    assert note(found) == f"is it (hash of its content {found})"
    dataset = load_dataset(corner)
    assert dataset.published is True
    assert dataset.label.endswith(", v1")
    # With other rewards it is the same dataset, and in another goal mode; but not by a part of it.
    assert load_dataset(corner, reward_shift=-1).published is True
    assert load_dataset(corner, goal="stored").published is True
    assert load_dataset(corner, goal="stored", observation_keys=["observation"]).published is None


def test_where_the_published_dataset_lies_outside_of_a_band_it_is_known_to(
    corner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = [AT_BOUNDS, PACE]
    monkeypatch.setitem(BANDS, corner, {name: Band(100, 101) for name in far} | {STUCK: Band(0, 1)})
    hashes = tmp_path / "published.json"
    monkeypatch.setattr(published, "_HASHES", hashes)
    digest = content_digest(minari.load_dataset(corner))
    for recorded, verdict in ((digest, "known"), ("0" * 32, "outside")):
        hashes.write_text(json.dumps({corner: recorded}))
        findings = check(corner)
        by_name = {each.name: each for each in findings}
        assert [by_name[each].verdict for each in (*far, STUCK)] == [verdict, verdict, "ok"]
        assert [each.name for each in failures(findings)] == (far if verdict == "outside" else [])
    hashes.write_text(json.dumps({corner: digest}))
    # That it is replayed differently here is news, whoever has published it.
    other = Finding("replayed positions differ by", 1.0, verdict="outside")
    monkeypatch.setattr(audit, "replay_check", lambda *_, **__: other)
    assert failures(check(corner)) == [other]


def test_nothing_is_said_of_other_datasets() -> None:
    assert is_published("mujoco/hopper/medium-v0", "0") is None


@pytest.mark.slow
@pytest.mark.usefixtures("minari_root")
def test_the_demonstrations_dataset_is_made_as_published() -> None:
    made = make_dataset("antmaze-corner", transitions=100_000, processes=2)
    assert made.published
