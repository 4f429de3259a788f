"""Files of the current folder stand in for no module, unless somebody names the folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import iqlft_workers
from iqlft_workers import search_path
from iqlft_workers.environment import EnvironmentMismatchError, EnvironmentSpec, make

ROOTS = [Path(__file__).parents[2], Path(iqlft_workers.__file__).parents[1]]
SHOW = (
    "import sys; from iqlft_workers.search_path import forget_current_folder as forget; "
    "forget(); print(*sys.path, sep='\\n')"
)


def path_in(folder: Path, *named: str) -> list[str]:
    """The path of a command that is run in a folder, with a PYTHONPATH of these parts."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([*named, *map(str, ROOTS)])}
    variables.pop("PYTHONSAFEPATH", None)
    done = subprocess.run(
        [sys.executable, "-c", SHOW], cwd=folder, env=variables, check=True, capture_output=True,
        text=True,
    )  # fmt: skip
    return done.stdout.splitlines()


@pytest.mark.parametrize("named", [[], [""], ["", ""]])
def test_the_current_folder_is_not_searched(named: list[str], tmp_path: Path) -> None:
    assert not {"", ".", str(tmp_path)} & set(path_in(tmp_path, *named))


@pytest.mark.parametrize("named", [["."], ["", "."], ["{folder}"]])
def test_a_current_folder_that_is_named_is_searched(named: list[str], tmp_path: Path) -> None:
    assert str(tmp_path) in path_in(tmp_path, *(each.format(folder=tmp_path) for each in named))


@pytest.mark.parametrize("known", ["", ":", "a:", ":a"])
def test_processes_of_python_are_started_without_it(
    known: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", known)
    variables = search_path.importing(tmp_path / "more")
    assert variables["PYTHONSAFEPATH"] == "1"
    parts = variables["PYTHONPATH"].split(os.pathsep)
    assert "" not in parts
    assert str(tmp_path) not in parts
    assert str(tmp_path / "more") in parts
    assert (str(tmp_path / "a") in parts) == ("a" in known)


@pytest.mark.parametrize("program", ["iqlft", "iqlft_workers"])
def test_a_command_that_is_run_as_a_module_runs_nothing_that_lies_here(
    program: str, tmp_path: Path
) -> None:
    marker = tmp_path / "was imported"
    for name in ("msgpack", "rich", "tyro", "zmq", "torch"):
        (tmp_path / f"{name}.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, ROOTS))}
    arguments = ["doctor"] if program == "iqlft" else ["--connect", "nowhere/endpoint"]
    done = subprocess.run(
        [sys.executable, "-m", program, *arguments], cwd=tmp_path, env=variables, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == (0 if program == "iqlft" else 2), done.stderr
    assert not marker.exists()


def test_a_module_that_is_found_in_the_current_folder_alone_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    spec = EnvironmentSpec("my_tasks:Mine-v0")
    with pytest.raises(EnvironmentMismatchError, match="installed here") as caught:
        make(spec)
    assert "current folder" not in str(caught.value)
    (tmp_path / "my_tasks.py").touch()
    with pytest.raises(
        EnvironmentMismatchError, match=r"a my_tasks in the current folder.*or name its folder in"
    ):
        make(spec)
