"""The report in a browser: nothing sticks out, on a phone and on a desk, in light and in dark."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.core.report.example import make_run
from tts_train.report import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs chromium")

# A window cannot be narrower than 500 pixels in some versions; a frame can.
FRAME = """<!doctype html><body style="margin:0"><iframe id="page" src="{page}"
style="border:0;width:{width}px;height:900px"></iframe><script>
document.getElementById("page").addEventListener("load", (event) => {{
  const inner = event.target.contentDocument;
  const root = inner.documentElement, wide = [];
  for (const each of inner.querySelectorAll("body *")) {{
    const box = each.getBoundingClientRect();
    const scrolls = each.closest(".takes, pre, svg");
    if (box.right > {width} + 1 && !scrolls) wide.push(each.tagName + "." + each.className);
  }}
  const pictures = [...inner.images].filter((each) => each.complete && each.naturalWidth).length;
  document.title = [root.scrollWidth, root.scrollHeight, pictures, wide.slice(0, 5)].join(";");
}});
</script>"""


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    return write_report(make_run(tmp_path_factory.mktemp("browser")))


def browse(folder: Path, *words: str) -> str:
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files"]
    own = [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=4000"]
    done = subprocess.run([str(BROWSER), *quiet, *own, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out(report, tmp_path, width):
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(page=report.as_uri(), width=width))
    told = re.search(r"<title>([^<]*)</title>", browse(tmp_path, "--dump-dom", frame.as_uri()))
    assert told, "the page did not load"
    scroll_width, height, pictures, wide = told[1].split(";")
    assert int(scroll_width) <= width, wide
    assert wide == ""
    assert int(height) > 2000
    assert int(pictures) == 13


@pytest.mark.parametrize(("scheme", "paper"), [("light", (250, 249, 246)), ("dark", (19, 18, 26))])
def test_it_is_drawn_in_light_and_dark(report, tmp_path, scheme, paper):
    shot = tmp_path / f"{scheme}.png"
    dark = (
        ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else ["--blink-settings=preferredColorScheme=1"]
    )
    browse(tmp_path, *dark, "--window-size=1280,4000", f"--screenshot={shot}", report.as_uri())
    with Image.open(shot) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[:2] == (4000, 1280)
    assert tuple(pixels[2500, 4]) == paper
    # Text, curves and pictures: many colours, over much of the page.
    assert len(np.unique(pixels.reshape(-1, 3)[::7], axis=0)) > 500
    assert (np.abs(pixels.astype(int) - paper).sum(axis=2) > 60).mean() > 0.1
