"""The pages in a real browser: drawn, readable, silent, and at hand for keyboard and pointer."""

from __future__ import annotations

import pytest
from test_html import EVIL

from examples import metrics, write_result, write_run
from synaprune.report.compare_page import comparison_page
from synaprune.report.live import LiveServer

# Every text on the page whose contrast with what is behind it is below 4.5, by the formula of WCAG 2.
CONTRAST = """(() => {
  const parse = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (let n = node; n; n = n.parentElement) {
      const colour = parse(getComputedStyle(n).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !parent.getClientRects().length || parent.closest("script")) continue;
    const style = getComputedStyle(parent);
    const colour = parse(parent.closest("svg") ? style.fill : style.color);
    const pair = [light(colour), light(behind(parent))].sort((a, b) => b - a);
    seen += 1;
    if ((pair[0] + 0.05) / (pair[1] + 0.05) < 4.5) bad.push(walker.currentNode.data);
  }
  return { seen, bad };
})()"""

# Every drawing that is empty, and how many there are.
DRAWINGS = """(() => {
  const all = [...document.querySelectorAll(".draw")];
  const marks = (box) => [...box.querySelectorAll("svg .mark-line path, svg .mark-symbol path, svg .mark-rect path")];
  const drawn = (box) => marks(box).some((path) => {
    const { width, height } = path.getBoundingClientRect();
    return width * height > 4 || width + height > 40;
  });
  return { count: all.length, empty: all.filter((box) => !drawn(box)).map((box) => box.id) };
})()"""


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """A page that compares four points, with names that would act if they could."""
    folder = tmp_path_factory.mktemp("comparison")
    for seed in (0, 1, 2):
        write_result(folder, "dense", 0.98 + seed / 1000, 1.0, seed, sops=5000, method="dense")
        write_result(folder, "b", 0.90 + seed / 1000, 0.01, seed, sops=50, alpha=0.2)
        write_result(folder, "a", 0.95 + seed / 1000, 0.1, seed, sops=500, alpha=0.1)
    write_run(folder / EVIL.replace("/", "_"), 5, layer=EVIL, alpha=0.3, epochs=30)
    path = folder / "page.html"
    path.write_text(comparison_page([folder]), encoding="utf-8")
    return path


def ready(page):
    page.wait(lambda: page.value("document.documentElement.dataset.drawn"))
    return page


def opened(browser, path, width=1366, height=768, **media):
    return ready(browser.open(path.as_uri(), width, height, **media))


@pytest.mark.parametrize("which", ["page", "comparison"])
@pytest.mark.parametrize(
    ("width", "height", "media"),
    [
        (390, 844, {"prefers_color_scheme": "dark"}),
        (390, 844, {"prefers_color_scheme": "light"}),
        (1366, 768, {"prefers_color_scheme": "dark"}),
        (1366, 768, {"prefers_color_scheme": "light"}),
    ],
)
def test_a_page_is_drawn_and_readable_and_asks_nothing(browser, request, which, width, height, media):
    page = opened(browser, request.getfixturevalue(which), width, height, **media)
    assert page.complaints() == []
    drawings = page.value(DRAWINGS)
    assert drawings["empty"] == []
    assert drawings["count"] == {"page": 12, "comparison": 4}[which]
    page.value("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    contrast = page.value(CONTRAST)
    assert contrast["seen"] > 100
    assert contrast["bad"] == []
    assert page.value("document.documentElement.scrollWidth") <= width  # nothing sticks out


def test_paper_is_light_and_holds_every_figure(browser, page, tmp_path):
    there = opened(browser, page, prefers_color_scheme="dark")
    there.call(
        "Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )
    assert there.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert there.value(CONTRAST)["bad"] == []
    assert there.value(DRAWINGS)["empty"] == []
    there.value("dispatchEvent(new Event('beforeprint'))")
    assert there.value("document.querySelector('#draw-accuracy svg').width.baseVal.value") == 340
    there.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().count(b"/Type /Page\n") in range(2, 7)


def test_the_keyboard_reaches_every_control(browser, comparison):
    page = opened(browser, comparison)
    controls = page.value("document.querySelectorAll('input, button, summary').length")
    assert controls > 10
    reached = set()
    for _ in range(2 * controls):
        page.press("Tab", 9)
        page.value("document.activeElement.dataset.seen = 'yes'")
        reached.add(page.value("getComputedStyle(document.activeElement).outlineStyle"))
        if page.value("document.querySelectorAll('input:not([data-seen]), button:not([data-seen]),"
                      " summary:not([data-seen])').length") == 0:  # fmt: skip
            break
    else:
        raise AssertionError("some control was never reached")
    assert "none" not in reached  # one sees where one is


def test_a_box_hides_a_method_in_figures_and_table(browser, comparison):
    page = opened(browser, comparison)
    marks = "document.querySelectorAll('#draw-accuracy-connectivity .mark-symbol path').length"
    rows = "[...document.querySelectorAll('tr[data-series=dense]')].map((row) => row.hidden)"
    before = page.value(marks)
    page.value("document.querySelector('input[value=dense]').focus()")
    page.press(" ", 32)
    page.wait(lambda: page.value(marks) == before - 4)  # three seeds and their mean
    assert page.value(rows) == [True]
    page.press(" ", 32)
    page.wait(lambda: page.value(marks) == before)
    assert page.value(rows) == [False]


def test_heads_sort_by_value(browser, comparison):
    page = opened(browser, comparison)
    column = "[...document.querySelectorAll('table.sortable tbody tr')].map((row) => row.cells[2].textContent)"
    click = "document.querySelectorAll('table.sortable th button')[2].click()"
    page.value(click)
    shares = [float(text.split(" ")[0]) for text in page.value(column)]
    assert shares == sorted(shares) == [1.0, 10.0, 50.0, 100.0]
    page.value(click)
    assert [float(text.split(" ")[0]) for text in page.value(column)] == shares[::-1]
    assert page.value("document.querySelector('th[aria-sort]').ariaSort") == "descending"


def test_hovering_says_the_value_and_the_run(browser, comparison):
    page = opened(browser, comparison)
    # The sparsest seeds are at the left end.
    place = page.value("""(() => {
      document.querySelector('#draw-accuracy-connectivity').scrollIntoView();
      const all = [...document.querySelectorAll('#draw-accuracy-connectivity .mark-symbol path')];
      const boxes = all.map((one) => one.getBoundingClientRect()).filter((box) => box.width < 7);
      const { x, y, width, height } = boxes.sort((a, b) => a.x - b.x)[0];
      return [x + width / 2, y + height / 2];
    })()""")

    def hovering():
        page.move(*place)  # again, for the end of the scrolling takes the tip away
        return not page.value("document.getElementById('tip').hidden")

    page.wait(hovering)
    said = page.value("document.getElementById('tip').textContent").split("\n")
    assert said[0].startswith("Grad R · b-seed")
    assert said[1] == "connectivity 1 %"
    assert said[2].startswith("test accuracy 90")
    page.press("Escape", 27)
    assert page.value("document.getElementById('tip').hidden")


def test_a_hundred_runs_open_in_two_seconds(browser, tmp_path):
    for index in range(100):
        alpha, seed = 0.01 * (1 + index // 5), index % 5
        write_run(tmp_path / f"run-{index}", 100, connectivity=0.01 + index / 200, alpha=alpha, seed=seed)
    path = tmp_path / "page.html"
    path.write_text(comparison_page([tmp_path]), encoding="utf-8")
    page = opened(browser, path)
    drawn = "performance.getEntriesByName('drawn')[0].startTime"
    assert page.value(drawn) < 2000
    assert page.complaints() == []


def test_a_live_page_follows_the_run(browser, tmp_path):
    run = write_run(tmp_path, 1, epochs=3)
    with LiveServer(run) as server:
        page = ready(browser.open(server.address, 800, 600))
        assert "after epoch 1 of" in page.value("document.body.textContent")
        run.append(metrics(2))
        page.wait(lambda: "after epoch 2 of" in page.value("document.body?.textContent ?? ''"), 20)


def test_a_damaged_page_would_be_noticed(browser, page, tmp_path):
    """The checks above see errors, requests and empty drawings when there are some."""
    broken = page.read_text(encoding="utf-8").replace('id="draw-loss"', 'id="gone"')
    path = tmp_path / "broken.html"
    path.write_text(broken.replace("<main>", "<main><img src='http://127.0.0.1:9/x.png'>"), encoding="utf-8")
    there = browser.open(path.as_uri(), 800, 600)
    there.wait(there.complaints)
    assert any("violates" in said or "request" in said for said in there.complaints())
    assert "gone" in there.value(DRAWINGS)["empty"]
