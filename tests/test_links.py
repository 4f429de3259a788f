"""What Markdown files point to in the repository is there: files, pictures, headings."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = "docs", "results", "benchmarks"
PAGES = sorted([*ROOT.glob("*.md"), *(p for each in FOLDERS for p in (ROOT / each).rglob("*.md"))])
LINK = re.compile(r"\]\(([^)\s]*)\)")
CODE = re.compile(r"^```.*?^```|`[^`]+`", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[str]:
    """Targets of links and pictures inside the repository."""
    targets = LINK.findall(CODE.sub("", page.read_text(encoding="utf-8")))
    return [each for each in targets if not re.match(r"[a-z]+:", each)]


def anchors(page: Path) -> set[str]:
    """Names of a page's headings, as GitHub makes them."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    seen: Counter[str] = Counter()
    names = set()
    for heading in re.findall(r"^#+ +(.*)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        names.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return names


def leads_somewhere(link: str, page: Path) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.is_relative_to(ROOT) or not target.exists():
        return False
    return not anchor or target.suffix != ".md" or anchor in anchors(target)


def broken(page: Path) -> list[str]:
    return [link for link in links(page) if not leads_somewhere(link, page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_link_that_leads_nowhere_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "# Is it IQL's `V`?\n## Twice\n## Twice\n"
        "[a](page.md) [b](#is-it-iqls-v) [c](#twice-1) [d](https://nowhere.org/x) `[e](none.md)`\n"
        "[f](none.md) ![g](none.png) [h](#none) [i](page.md#twice-2) [j](../outside.md)\n"
        "```\n[k](none.md)\n```\n"
    )
    (tmp_path.parent / "outside.md").touch()
    assert broken(page) == ["none.md", "none.png", "#none", "page.md#twice-2", "../outside.md"]
