"""Elements escape what is text, and leave alone what is markup."""

from pathlib import Path

from PIL import Image

from iqlft.report.markup import Markup, definitions, element, picture, table


def test_texts_and_attributes_are_escaped_and_markup_is_not() -> None:
    inner = element("em", "a < b")
    assert inner == "<em>a &lt; b</em>"
    assert element("p", "x & ", inner, class_='"wide"', aria_label="<") == (
        '<p class="&quot;wide&quot;" aria-label="&lt;">x &amp; <em>a &lt; b</em></p>'
    )
    assert isinstance(inner, Markup)
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'


def test_a_picture_is_inside_the_page_at_a_readable_size(tmp_path: Path) -> None:
    Image.new("RGB", (600, 300)).save(tmp_path / "a.png")
    figure = picture(tmp_path / "a.png", 'a "map"', "what it is")
    assert figure.startswith('<figure><img src="data:image/png;base64,iVBOR')
    assert 'alt="a &quot;map&quot;" width="230" height="115">' in figure
    assert figure.endswith("<figcaption>what it is</figcaption></figure>")


def test_rows_of_a_table_are_grouped_under_what_they_share() -> None:
    rows = [(("a", "ours", "1"), True), (("a", "theirs", "2"), False), (("b", "ours", "3"), True)]
    text = table(["result", "score"], rows, "scores")
    assert text.count("<tbody>") == 2
    assert '<tr class="group"><th scope="rowgroup" colspan="2">a</th></tr>' in text
    assert '<tr class="ours"><th scope="row">ours</th><td>1</td></tr>' in text
    assert '<tr><th scope="row">theirs</th><td>2</td></tr>' in text


def test_definitions_pair_names_and_texts() -> None:
    assert definitions([("seed", "0")]) == "<dl><div><dt>seed</dt><dd>0</dd></div></dl>"
