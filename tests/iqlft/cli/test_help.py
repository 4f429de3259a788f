"""Help that can be read from the top, and completion of everything that can be typed."""

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from iqlft.cli import main as cli

ACTIONS = [
    ["pretrain"], ["finetune"], ["run"], ["sweep"], ["resume"], ["list"], ["evaluate"], ["plot"],
    ["table"], ["report"], ["video"], ["data", "make"], ["data", "import"], ["data", "check"],
    ["data", "plot"], ["keys", "new"], ["clean"], ["export"], ["demo"], ["completion"],
]  # fmt: skip


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with contextlib.suppress(SystemExit):
        cli.main([*arguments])
    return capsys.readouterr().out


@pytest.mark.parametrize("action", ACTIONS, ids=" ".join)
def test_help_says_first_what_a_command_does_and_nothing_in_types_of_python(
    action: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    usage, sentence, _ = said(capsys, *action, "--help").split("\n\n", 2)
    assert usage.startswith(f"usage: iqlft {' '.join(action)}")
    assert re.match(r"[A-Z][^.]+[.:;]|[A-Z][^.]+$", sentence)
    assert not sentence.startswith("Settings")


@pytest.mark.parametrize("action", ACTIONS, ids=" ".join)
def test_no_value_is_called_none_or_something(
    action: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert not re.search(r"\{None\}|\{None,|,None\}", said(capsys, *action, "--help"))


def test_flags_stand_in_groups(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = said(capsys, "run", "--help")
    groups = re.findall(r"(\w+) options ", text)
    assert groups == ["task", "offline", "algorithm", "online", "machine", "output", "settings"]
    settings = text.partition("settings options")[2]
    for flag in ("--config PATH", "--preset", "--print-config"):
        assert flag in settings
    output = text.partition("output options")[2].partition("settings options")[0]
    assert "--runs PATH" in output
    assert "--tensorboard" in output


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "iqlft.bash"
    process = subprocess.run(
        [sys.executable, "-m", "iqlft", "completion", "bash"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    path.write_text(process.stdout)
    return path


COMPLETE = """
. "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
function=$(complete -p iqlft | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function iqlft
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([""], {*cli.COMMANDS, "-h", "--help"}),
        (["data", ""], {"list", "make", "download", "import", "check", "plot", "-h", "--help"}),
        (["pretrain", "--pre"], {"--precision", "--preset"}),
        (["finetune", "--keep"], {"--keep-checkpoints", "--keep-every", "--keep-best"}),
        (["table", "--style", ""], {"text", "markdown", "csv", "latex"}),
        (["worker", "--p"], {"--processes"}),
        (["worker", "--engine", ""], {"local", "ray"}),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_bash_completes(script: Path, words: list[str], expected: set[str]) -> None:
    process = subprocess.run(
        ["bash", "-c", COMPLETE, "bash", script, "iqlft", *words],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert set(process.stdout.split()) == expected


def test_what_a_mapping_holds_is_no_flag(capsys: pytest.CaptureFixture[str]) -> None:
    # It holds `max_episode_steps`, as which a flag is called too.
    text = said(capsys, "pretrain", "--task", "d4rl-pen-human", "--print-config")
    assert yaml.safe_load(text)["environment_kwargs"] == {"max_episode_steps": 100}
    assert cli.main(["pretrain", "--max-episode-steps", "7", "--print-config"]) == 0
