"""A report is looked at in a real browser: everything is shown, nothing overflows, it prints."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "headless_shell")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
MEASURE = """<script>
const page = document.documentElement, all = selector => [...document.querySelectorAll(selector)];
page.dataset.measured = JSON.stringify({
  overflow: page.scrollWidth - page.clientWidth,
  images: all("img").map(each => each.complete && each.naturalWidth > 0),
  hidden: all("h1, h2, h3, p, table, img, dd").filter(each => !each.checkVisibility()).length,
  covered: all("figure, p, ul, dl").filter(
    (each, i, list) => i && each.getBoundingClientRect().top <
      Math.max(...list.slice(0, i).filter(other => !other.contains(each))
        .map(other => other.getBoundingClientRect().bottom)) - 1).length,
});
</script>"""
"""Measured in a copy of the page; the page itself has no scripts."""

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason=f"needs a Chromium in the PATH ({', '.join(NAMES)})"
)


@pytest.fixture
def page(reported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(reported, tmp_path))


def browse(page: Path, *flags: str, width: int = 1200, height: int = 3000) -> str:
    """Opens the page without a window; gives what the browser prints."""
    assert BROWSER is not None
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        f"--user-data-dir={page.parent / 'profile'}", f"--window-size={width},{height}", *flags,
        page.as_uri(),
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    return result.stdout


@pytest.mark.parametrize("width", [500, 1200])
def test_everything_is_shown_and_fits_the_window(page: Path, width: int) -> None:
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    copy = page.with_name(f"measured-{width}.html")
    copy.write_text(text.replace("</body>", MEASURE + "</body>"))
    dumped = browse(copy, "--virtual-time-budget=5000", "--dump-dom", width=width)
    found = re.search(r'data-measured="([^"]*)"', dumped)
    assert found
    measured = json.loads(found[1].replace("&quot;", '"'))
    assert measured == {"overflow": 0, "images": [True] * 4, "hidden": 0, "covered": 0}


def test_the_screen_shows_text_and_figures_on_white(page: Path) -> None:
    shot = page.with_name("shot.png")
    browse(page, f"--screenshot={shot}")
    with Image.open(shot) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert tuple(pixels[2, 2]) == (255, 255, 255)
    assert (pixels.sum(2) < 150).mean() > 0.005  # letters
    colourful = np.ptp(pixels, axis=2) > 60
    assert colourful[:1000].any()
    assert colourful[1000:].mean() > 0.01  # the maps


def test_a_dark_screen_shows_it_on_black_and_figures_on_white(page: Path) -> None:
    shot = page.with_name("dark.png")
    browse(page, "--blink-settings=preferredColorScheme=0", f"--screenshot={shot}")
    with Image.open(shot) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels[2, 2].max() < 40
    assert (pixels.min(2) > 215).mean() > 0.2  # the figures' paper


def test_it_prints(page: Path) -> None:
    printed = page.with_name("printed.pdf")
    browse(page, f"--print-to-pdf={printed}")
    data = printed.read_bytes()
    assert data.startswith(b"%PDF")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", data)) <= 8
