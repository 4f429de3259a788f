"""The images install what is copied into them, and keep data and runs where the volumes are."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def stages() -> dict[str, list[list[str]]]:
    """The words of the instructions of each stage of the Dockerfile."""
    found: dict[str, list[list[str]]] = {}
    instructions: list[list[str]] = []
    for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines():
        words = line.split()
        if words[:1] == ["FROM"]:
            instructions = found[words[-1]] = []
        elif words and words[0] != "#":
            instructions.append(words)
    return found


def allowed() -> set[str]:
    """What `.dockerignore` lets into the context."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    return {line.removeprefix("!") for line in lines if line.startswith("!")}


@pytest.mark.parametrize("stage", ["worker", "learner"])
def test_an_image_installs_what_is_copied_into_it(stage: str) -> None:
    copied: set[str] = set()
    installed = 0
    for instruction, *words in stages()[stage]:
        if instruction == "COPY":
            copied |= set(words[:-1])
        elif instruction == "RUN" and words[:2] == ["pip", "install"]:
            for local in (word for word in words if word == "." or word.startswith("./")):
                assert str(Path(local, "pyproject.toml")) in copied or local[2:] in copied
                assert (ROOT / local / "pyproject.toml").is_file()
                installed += 1
    assert installed == 1
    assert copied <= allowed()
    assert all((ROOT / name).exists() for name in copied)


def test_data_and_runs_of_the_learner_lie_in_the_volume() -> None:
    learner = stages()["learner"]
    (place,) = (words[1] for words in learner if words[0] == "WORKDIR" and words[1] != "/src")
    assert ["ENV", f"MINARI_DATASETS_PATH={place}/datasets"] in learner
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert f"work:{place}" in services["learner"]["volumes"]
    template = (ROOT / "docs" / "kubernetes.yaml").read_text(encoding="utf-8")
    assert f"{{name: work, mountPath: {place}}}" in template
