"""The page, driven in a browser: it plays, keeps edits, saves what apply reads, and fits a phone."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from tests.core.curation.review.browser import CHROMIUM, DESK, PHONE, Page
from tests.core.curation.review.folders import HARD, make_folder, report_of
from tts_train.curation.folder import REMOVED
from tts_train.curation.review.page import as_script_data

in_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")

SMALL = (360, 740)
CURRENT = "document.querySelector('li[aria-current]')"
LAYOUT = """(() => {
  const wide = [...document.querySelectorAll("body *")].filter((each) =>
    each.getBoundingClientRect().right > innerWidth + 1).map((each) => each.tagName + "." + each.className);
  const small = [...document.querySelectorAll("li.row button, header button")].filter((each) =>
    each.offsetHeight && each.offsetHeight < 31).map((each) => each.className);
  const nameless = [...document.querySelectorAll("button, input, select, textarea")].filter((each) =>
    !(each.textContent.trim() || each.ariaLabel || (each.labels && each.labels.length))).map((each) => each.outerHTML);
  const pale = [...document.querySelectorAll("p, li.row *, label, dt, dd, summary")].filter((each) => {
    const own = [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !each.offsetHeight) return false;
    let back = each;
    // What is mixed with the colour behind it hardly differs from that.
    const opaque = (one) => !/rgba|color\\(|transparent/.test(getComputedStyle(one).backgroundColor);
    while (back.parentElement && !opaque(back)) back = back.parentElement;
    const light = (colour) => {
      const [r, g, b] = colour.match(/[\\d.]+/g).map((part) => {
        const share = part / 255;
        return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
      });
      return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
    };
    const one = light(getComputedStyle(each).color), other = light(getComputedStyle(back).backgroundColor);
    return Math.max(one, other) / Math.min(one, other) < 4.5;
  }).map((each) => each.tagName + "." + each.className + ": " + each.textContent.slice(0, 30));
  return {scroll: document.documentElement.scrollWidth, wide, small, nameless, pale};
})()"""


def until(page: Page, condition: str) -> None:
    """Wait until an expression holds in the page."""
    ends = time.monotonic() + 30
    while not page.run(f"Boolean({condition})"):
        assert time.monotonic() < ends, f"{condition} did not come true: {page.complaints()}"
        time.sleep(0.05)


def saved(page: Page) -> bytes:
    """Press the button and return the file that the browser saved."""
    page.run("document.getElementById('save').click()")
    page.wait_for("Browser.downloadProgress", state="completed")
    return max(page.saved.iterdir(), key=lambda path: path.stat().st_mtime_ns).read_bytes()


@pytest.fixture
def hard(tmp_path):
    folder = make_folder(tmp_path / "a voice & more", [*HARD], language=None)
    rows = [replace(row, facts={"hypotheses": [{"text": row.text + " more", "by": "other"}]}) for row in folder.rows()]
    rows[5] = replace(rows[5], language="ar", confidence=0.3)
    folder.write(rows[:-1], removed=rows[-1:])
    return folder


def test_no_text_ends_the_script(tmp_path, capsys):
    folder = make_folder(tmp_path / "voice", ["</script><script>x</script><!--", "]]>\u2028"], speaker="<b>")
    page = folder.path / "review" / "review.html"
    report_of(capsys, "corpus", "review", folder.path)
    text = page.read_text(encoding="utf-8")
    assert text.count("</script>") == 2
    assert text.count("<script") == 2
    assert "<b>" not in text
    assert "\u2028" not in text
    data = text.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    assert {row[1] for row in json.loads(data)["rows"]} == {"</script><script>x</script><!--", "]]>\u2028"}
    assert json.loads(as_script_data({"a": "<\u2029&>"})) == {"a": "<\u2029&>"}


def test_the_page_asks_for_nothing_outside(tmp_path, capsys):
    folder = make_folder(tmp_path / "voice")
    report_of(capsys, "corpus", "review", folder.path, "--out", tmp_path / "pages" / "of it")
    text = (tmp_path / "pages" / "of it" / "review.html").read_text(encoding="utf-8")
    assert "http://" not in text
    assert "https://" not in text
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    assert data["base"] == "../../voice/"
    # 5,000 rows stay light: what a row costs is its text and its reasons.
    assert len(text) < 60_000


@pytest.mark.slow
@in_browser
def test_what_is_edited_is_kept_saved_and_applied(hard, tmp_path, capsys):
    report_of(capsys, "corpus", "review", hard.path)
    address = (hard.path / "review" / "review.html").as_uri()
    with Page(tmp_path / "browser") as page:
        page.open(address)
        first = page.run(f"{CURRENT}.getAttribute('aria-label').split(' ')[1]")
        # Space plays: the clip is read from its file, and time goes on.
        page.press(" ")
        until(page, "Number(document.querySelector('.play.running ~ .seek')?.value) > 0.1")
        page.press(" ")
        until(page, "!document.querySelector('.play.running')")
        page.press("e")
        page.run("document.activeElement.select()")
        page.type("")
        page.type('=Typed: «é», "quoted", שלום')
        # Leaves the text, marks the clip, goes on to the next text.
        page.press("Enter", control=True)
        second = page.run(f"{CURRENT}.getAttribute('aria-label').split(' ')[1]")
        page.press("Escape")
        page.press("d")
        page.press("Enter")
        third = page.run(f"{CURRENT}.getAttribute('aria-label').split(' ')[1]")
        page.run(f"{CURRENT}.querySelector('.hypothesis button').click()")
        assert len({first, second, third}) == 3
        count = "2 of 19 reviewed, 3 changed"
        until(page, f"document.getElementById('count').textContent === {count!r}")
        page.open(address)
        until(page, f"document.getElementById('count').textContent === {count!r}")
        page.run("document.getElementById('show').value = 'removed'")
        page.run("document.getElementById('show').dispatchEvent(new Event('change'))")
        until(page, f"{CURRENT}.querySelector('.drop')")
        page.run(f"{CURRENT}.querySelector('.drop').click()")
        table = saved(page)
        assert page.complaints() == []
        assert all(url.startswith("file://") for url in page.requests())
        (tmp_path / "review.csv").write_bytes(table)
        before = {row.audio: row for row in (*hard.rows(), *hard.rows(REMOVED))}
        gone = hard.rows(REMOVED)[0].audio
        told = report_of(capsys, "corpus", "apply", hard.path, "--table", tmp_path / "review.csv")
        assert told["changed"] == {"text": 2}
        assert (told["dropped"], told["brought_back"], told["marked_reviewed"]) == (1, 1, 1)
        after = {row.audio: row for row in hard.rows()}
        assert after.pop(first).text == '=Typed: «é», "quoted", שלום'
        assert after.pop(third).text == before[third].facts["hypotheses"][0]["text"].replace("\ud83d", "\ufffd")
        assert hard.rows(REMOVED) == [before[second]]
        assert after.pop(gone) == before[gone]
        assert {clip: before[clip] for clip in after} == after
        # Of what was applied, nothing is edited any more.
        report_of(capsys, "corpus", "review", hard.path)
        page.open(address)
        until(page, "document.getElementById('count').textContent === '2 of 19 reviewed, 0 changed'")
        assert saved(page) == (hard.path / "review" / "review.csv").read_bytes()


@pytest.mark.slow
@in_browser
@pytest.mark.parametrize(("size", "dark"), [(SMALL, False), (PHONE, True), (DESK, False)], ids=str)
def test_it_fits_and_can_be_read(hard, tmp_path, capsys, size, dark):
    report_of(capsys, "corpus", "review", hard.path)
    with Page(tmp_path / "browser", size, dark=dark) as page:
        page.open((hard.path / "review" / "review.html").as_uri())
        until(page, "document.querySelector('li.row textarea')")
        found = page.run(LAYOUT)
        assert found == {"scroll": size[0], "wide": [], "small": [], "nameless": [], "pale": []}
        assert page.run("document.querySelector('textarea[lang=ar]').dir") == "rtl"
        assert saved(page) == (hard.path / "review" / "review.csv").read_bytes()


@pytest.mark.slow
@in_browser
def test_a_phone_hears_the_clips_from_a_plain_web_server(tmp_path, capsys):
    folder = make_folder(tmp_path / "a voice", count=2)
    report_of(capsys, "corpus", "review", folder.path)
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder.path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, Page(tmp_path / "browser", PHONE) as page:
        Thread(target=server.serve_forever, daemon=True).start()
        page.open(f"http://127.0.0.1:{server.server_port}/review/review.html")
        until(page, "document.querySelector('li.row textarea')")
        # Such a server sends files whole, and no browser seeks in those by itself.
        page.press("ArrowRight")
        until(page, "document.querySelector('.seek').value > 0.9")
        page.press(" ")
        until(page, "document.querySelector('.seek').value > 1.1")
        assert page.complaints() == []
        server.shutdown()


@pytest.mark.slow
@in_browser
def test_thousands_of_rows_are_filled_as_they_come_near(tmp_path, capsys):
    folder = make_folder(tmp_path / "voice", count=1)
    row = folder.rows()[0]
    rows = [replace(row, audio=f"clips/{number:05d}.flac", text=f"Number {number}") for number in range(5000)]
    folder.write(rows)
    told = report_of(capsys, "corpus", "review", folder.path)
    assert told["why"]["no_clip"] == 5000
    with Page(tmp_path / "browser", PHONE) as page:
        page.open((folder.path / "review" / "review.html").as_uri())
        until(page, "document.querySelectorAll('li.row').length === 5000")
        until(page, "document.querySelectorAll('li.row textarea').length > 1")
        page.run("document.querySelectorAll('li.row')[4000].scrollIntoView()")
        until(page, "document.querySelectorAll('li.row')[4000].querySelector('textarea')")
        # Those that are far away hold nothing.
        until(page, "!document.querySelectorAll('li.row')[100].firstChild")
        assert page.run("document.querySelectorAll('li.row textarea').length") < 40
        page.run("document.getElementById('search').value = 'number 4321'")
        page.run("document.getElementById('search').dispatchEvent(new Event('input'))")
        until(page, "document.querySelectorAll('li.row').length === 1")
        assert page.run("document.querySelector('li.row textarea').value") == "Number 4321"
        # A clip that is not there says so.
        page.run("document.querySelector('li.row .play').click()")
        until(page, "document.querySelector('li.row .error').textContent.includes('cannot be played')")
