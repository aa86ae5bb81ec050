"""The page in Debian's Chromium: no console errors, nothing wider than the window, text to read."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="needs Chromium and its driver: apt-get install chromium chromium-driver",
)
OPTIONS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync
--disable-background-networking --disable-component-update --hide-scrollbars""".split()
WIDER = """return [...document.querySelectorAll('body *')]
  .filter(e => !e.closest('.scroll') && !e.closest('svg'))
  .filter(e => e.getBoundingClientRect().right > innerWidth + 0.5)
  .map(e => `${e.tagName}.${e.className} ${e.getBoundingClientRect().right}`)"""
# Of every chart: the smallest height of its letters in pixels, and labels that leave the picture.
TEXTS = """return [...document.querySelectorAll('svg.chart')].map(chart => {
  const box = chart.getBoundingClientRect(), texts = [...chart.querySelectorAll('text')];
  const scale = box.width / chart.viewBox.baseVal.width;
  const sizes = texts.map(t => scale * parseFloat(getComputedStyle(t).fontSize));
  const out = texts.filter(t => { const b = t.getBoundingClientRect();
    return b.left < box.left - 1 || b.right > box.right + 1 || b.bottom > box.bottom + 1; });
  return [Math.min(...sizes), out.map(t => t.textContent)]; })"""
# Contrast (WCAG 2) of letters with what lies behind them, the least of the page's plain elements.
CONTRAST = """
const rgb = c => c.match(/[\\d.]+/g).map(Number);
const light = c => rgb(c).slice(0, 3).map(v => v / 255)
  .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const ground = e => { for (; e; e = e.parentElement) {
  const c = getComputedStyle(e).backgroundColor; if (rgb(c)[3] !== 0) return c; } };
return [...document.querySelectorAll('p, h1, h2, h3, h4, th, td, small, i, b, a, li, summary')]
  .filter(e => e.textContent.trim() && e.getClientRects().length)
  .map(e => { const [a, b] = [light(getComputedStyle(e).color), light(ground(e))];
    return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.tagName + '.' + e.className]; })
  .sort((a, b) => a[0] - b[0])[0]"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    profile = tmp_path_factory.mktemp("chromium")
    for option in (*OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=str(DRIVER))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


def show(browser: Any, path: Path, width: int, scheme: str = "light") -> None:
    """Load the page in a window of `width` pixels, with everything unfolded."""
    metrics = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(path.as_uri())
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")


@pytest.fixture
def page(whole: Any, tmp_path: Path) -> Path:
    """Two recipes, one of them with a name that has no place to break."""
    rows = [row | {"recipe": "n" * 120} for row in whole.rows]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(rows))
    path = tmp_path / "report.html"
    path.write_text(whole.page(whole.file, other), "utf-8")
    return path


@pytest.mark.parametrize("width", [320, 400, 768, 1400])
def test_nothing_is_wider_than_the_window(browser: Any, page: Path, width: int) -> None:
    show(browser, page, width)
    assert browser.execute_script("return innerWidth") == width
    assert browser.execute_script(WIDER) == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("metric, name", [("wer", "Word"), ("cer", "Character")])
def test_the_page_loads_without_a_word_on_the_console(
    browser: Any, whole: Any, tmp_path: Path, metric: str, name: str
) -> None:
    page = tmp_path / "report.html"
    page.write_text(whole.page(metric=metric), "utf-8")
    show(browser, page, 1400)
    assert browser.find_element("tag name", "h1").text == f"{name} error rate by label budget"
    captions = [e.text for e in browser.find_elements("tag name", "figcaption")]
    assert [c for c in captions if f"{metric.upper()}, %" in c and "dev" not in c] == captions[:2]
    assert browser.get_log("browser") == []
    loaded = browser.execute_script("return performance.getEntriesByType('resource').length")
    assert loaded == 0


@pytest.mark.parametrize("width", [400, 1400])
def test_letters_of_charts_can_be_read_and_stay_inside(
    browser: Any, page: Path, width: int
) -> None:
    show(browser, page, width)
    found = browser.execute_script(TEXTS)
    assert len(found) == 9
    for smallest, outside in found:
        assert smallest >= 10.5
        assert outside == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_letters_stand_out_from_what_lies_behind_them(
    browser: Any, page: Path, scheme: str
) -> None:
    show(browser, page, 1400, scheme)
    least, where = browser.execute_script(CONTRAST)
    assert least >= 4.5, where
    ground = "return getComputedStyle(document.body).backgroundColor"
    shades = [int(n) for n in re.findall(r"\d+", browser.execute_script(ground))]
    assert (max(shades) < 100) == (scheme == "dark")


def test_words_in_tables_stand_in_lines_that_can_be_read(
    browser: Any, whole: Any, tmp_path: Path
) -> None:
    """In a narrow window a table of long texts scrolls, rather than break behind every word."""
    told = [{"test_set": "test", "fold": None, "budget": row["budget"]} for row in whole.rows]
    for key, row in zip(told, whole.rows, strict=True):
        key |= {"seed": row["seed"], "decoder": row["decoder"]}
        key |= {"substitutions": [["three", f"heard{n}", 90 - n] for n in range(9)]}
        key |= {"deletions": [[f"word{n}", 9] for n in range(9)], "insertions": []}
    (tmp_path / "results.json").write_text(json.dumps(whole.rows))
    (tmp_path / "confusions.json").write_text(json.dumps(told))
    path = tmp_path / "report.html"
    path.write_text(whole.page(tmp_path / "results.json"), "utf-8")
    show(browser, path, 390)
    widths, scrolls = browser.execute_script(
        """const cells = [...document.querySelectorAll('td')]
          .filter(e => e.textContent.length > 40);
        return [cells.map(e => e.clientWidth),
          cells.map(e => e.closest('.scroll')).map(e => e.scrollWidth > e.clientWidth)]"""
    )
    assert len(widths) >= 2 and min(widths) >= 200
    assert any(scrolls)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390


def test_everything_is_printed_folded_or_not(browser: Any, page: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.get(page.as_uri())
    hidden = browser.execute_script(
        """return [...document.querySelectorAll('main > section > details > .table')]
        .filter(e => !e.checkVisibility({contentVisibilityAuto: true}) || !e.offsetHeight).length"""
    )
    assert hidden == 0
