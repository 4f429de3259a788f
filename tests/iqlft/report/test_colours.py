"""The page's colours can be told apart by everybody, on white and on black."""

import re
from pathlib import Path

import pytest

import iqlft.report

CSS = (Path(iqlft.report.__file__).parent / "report.css").read_text(encoding="utf-8")
LEAST = 4.5
"""Contrast of text that WCAG 2.2 asks for (AA)."""
ON = {"paper": ("ink", "faint", "link"), "ours": ("ink",), "code": ("ink",)}
"""Which texts stand on which grounds."""


def colours(scheme: str) -> dict[str, str]:
    """Of a scheme by name; what the dark one does not set is as in the light one."""
    light, dark = re.findall(r":root \{([^}]*--paper[^}]*)\}", CSS)
    text = light + (dark if scheme == "dark" else "")
    return dict(re.findall(r"--([a-z]+): (#[0-9a-f]+)", text))


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2.2."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * each for each in colour[1:])
    shares = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_the_measure_is_that_of_the_standard() -> None:
    assert contrast("#fff", "#000000") == pytest.approx(21)
    assert contrast("#777", "#fff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_on_its_ground(scheme: str) -> None:
    found = colours(scheme)
    faint = {
        (text, ground): round(contrast(found[text], found[ground]), 2)
        for ground, texts in ON.items()
        for text in texts
        if contrast(found[text], found[ground]) < LEAST
    }
    assert faint == {}


def test_the_pairs_are_all_that_there_are() -> None:
    assert set(re.findall(r"background: var\(--(\w+)\)", CSS)) == ON.keys()
    assert set(re.findall(r"(?<!-)color: var\(--(\w+)\)", CSS)) == set(ON["paper"])
