import logging

import pytest

from iqlft_workers.text import PlainFormatter, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("bell\a, back\b, del\x7f, C1\x9b", r"bell\x07, back\x08, del\x7f, C1\x9b"),
        ("one\nline\r", r"one\nline\r"),
        ("right\u202eleft\u200b", r"right\u202eleft\u200b"),
        ("half\ud800", r"half\ud800"),
        (
            "Ä 日本 \N{MINUS SIGN}1 a\N{NO-BREAK SPACE}b",
            "Ä 日本 \N{MINUS SIGN}1 a\N{NO-BREAK SPACE}b",
        ),
    ],
)
def test_what_a_terminal_would_obey_is_shown_instead(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_what_is_to_stay_stays() -> None:
    assert printable("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"


def test_a_log_has_the_escapes_of_messages_and_of_errors() -> None:
    try:
        raise ValueError("\x1b]0;title\a")
    except ValueError as error:
        caught = (type(error), error, error.__traceback__)
    record = logging.LogRecord("a", 30, "a.py", 1, "from %s", ("\x1b[31m",), caught)
    text = PlainFormatter("%(message)s").format(record)
    assert text.startswith("from \\x1b[31m\nTraceback")
    assert "\x1b" not in text
    assert "\a" not in text
