"""The template shows what it is given, as text, and refuses to leave a gap."""

import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from PIL import Image

from iqlft.report.template import Picture, Section, render

EMPTY = {
    "title": "t", "overview": Section(), "columns": ["result", "score"], "rows": [], "caption": "c",
    "caveats": [], "articles": [],
}  # fmt: skip


def page(**content: object) -> str:
    return render(**{**EMPTY, **content})


def test_texts_and_attributes_are_escaped() -> None:
    text = page(
        overview=Section(["a < b"], facts=[("<dt>", "&")], left_out="'none'"),
        title="</title><script>",
        caption='"><b>',
        caveats=["x & y"],
        articles=[("<h2>", {"<h3>": Section(commands=["cat <a"], settings="</code>")})],
    )
    for escaped in (
        '<p class="headline">a &lt; b</p>',
        "<dt>&lt;dt&gt;</dt><dd>&amp;</dd>",
        '<p class="left-out">&#39;none&#39;</p>',
        "<title>&lt;/title&gt;&lt;script&gt;</title>",
        'aria-label="&#34;&gt;&lt;b&gt;"',
        "<li>x &amp; y</li>",
        "<h2>&lt;h2&gt;</h2>",
        "<h3>&lt;h3&gt;</h3>",
        "<pre><code>cat &lt;a</code></pre>",
        "<pre><code>&lt;/code&gt;</code></pre>",
    ):
        assert escaped in text


def test_the_style_is_in_the_page_as_it_is_written() -> None:
    assert 'font: 1rem/1.55 system-ui, -apple-system, "Segoe UI"' in page()
    assert "dl > div { display: grid;" in page()


def test_a_picture_is_inside_the_page_at_a_readable_size(tmp_path: Path) -> None:
    Image.new("RGB", (600, 300)).save(tmp_path / "a.png")
    text = page(overview=Section(picture=Picture(tmp_path / "a.png", 'a "map"', "what it is")))
    assert '<figure><img src="data:image/png;base64,iVBOR' in text
    assert 'alt="a &#34;map&#34;" width="230" height="115">' in text
    assert "<figcaption>what it is</figcaption></figure>" in text


def test_rows_of_a_table_are_grouped_under_what_they_share() -> None:
    rows = [(True, ("a", "ours", "1")), (False, ("a", "theirs", "2")), (True, ("b", "ours", "3"))]
    text = page(rows=rows)
    assert len(re.findall(r"<tbody>.*?</tbody>", text, re.DOTALL)) == 2
    assert '<tr class="group"><th scope="rowgroup" colspan="2">a</th></tr>' in text
    assert '<tr class="ours"><th scope="row">ours</th><td>1</td></tr>' in text
    assert '<tr><th scope="row">theirs</th><td>2</td></tr>' in text


def test_commands_stand_in_lines_of_their_own() -> None:
    assert "<code>one\ntwo</code>" in page(overview=Section(commands=["one", "two"]))


def test_what_is_not_given_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="title"):
        render()


def test_control_characters_are_shown_and_lines_stay() -> None:
    text = page(
        title="a\x1b[2Jb\u202e",
        overview=Section(commands=["one", "two\a"], settings="x: 1\ny: 2\x00"),
    )
    assert "<title>a\\x1b[2Jb\\u202e</title>" in text
    assert "one\ntwo\\x07" in text
    assert "x: 1\ny: 2\\x00" in text
    assert "&lt;figure" not in text
