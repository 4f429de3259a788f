"""The commands that the README names are those of the program."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_command_of_the_readme_exists() -> None:
    from iqlft.cli.main import COMMANDS

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^iqlft ([a-z]+)", text, re.MULTILINE)) <= set(COMMANDS)
    assert [name for name in COMMANDS if f"`iqlft {name}" not in text] == []
