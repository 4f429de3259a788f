"""What the README points to is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_file_that_the_readme_links_to_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
    assert "@@" not in text


def test_every_command_of_the_readme_exists() -> None:
    from iqlft.cli.main import COMMANDS

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^iqlft ([a-z]+)", text, re.MULTILINE)) <= set(COMMANDS)
    assert [name for name in COMMANDS if f"`iqlft {name}" not in text] == []
