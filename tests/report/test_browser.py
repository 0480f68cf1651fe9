"""The pages in a real browser: drawn, readable, silent, and at hand for keyboard and pointer."""

from __future__ import annotations

import pytest
from test_html import EVIL

from examples import metrics, write_result, write_run, write_sweeps
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
  const all = [...document.querySelectorAll(".draw")].filter((box) => box.checkVisibility());
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
    # Of a group of radio buttons Tab reaches the one that is pressed, and arrows the others.
    left = (
        "[...document.querySelectorAll('input, button, summary')].filter((one) => one.checkVisibility()"
        " && (one.type !== 'radio' || one.checked) && !one.dataset.seen).length"
    )
    controls = page.value(left)
    assert controls > 10
    reached = set()
    for _ in range(2 * controls):
        page.press("Tab", 9)
        page.value("document.activeElement.dataset.seen = 'yes'")
        reached.add(page.value("getComputedStyle(document.activeElement).outlineStyle"))
        if page.value(left) == 0:
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


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory):
    """A page that compares thirteen methods in two sweeps."""
    folder = tmp_path_factory.mktemp("sweeps")
    path = folder / "page.html"
    path.write_text(comparison_page(write_sweeps(folder)), encoding="utf-8")
    return path


# Of a figure the colours of its lines, how many are grey, and the names beside the lines with their boxes.
SEEN = """(() => {
  const box = document.querySelector("#draw-KEY");
  const drawn = [...box.querySelectorAll(".mark-line path")].map((one) => one.getAttribute("stroke"));
  const names = [...box.querySelectorAll(".mark-text.role-mark text")].filter((one) => one.textContent);
  return {
    grey: drawn.filter((stroke) => stroke === "var(--faint)").length,
    colours: drawn.filter((stroke) => stroke !== "var(--faint)"),
    names: names.map((one) => one.textContent),
    boxes: names.map((one) => one.getBoundingClientRect()).map((one) => [one.left, one.top, one.right, one.bottom]),
    width: document.documentElement.clientWidth,
  };
})()"""


def seen(page, key="accuracy-connectivity"):
    return page.value(SEEN.replace("KEY", key))


def box(page, series):
    return f"document.querySelector('.legend input[value=\"{series}\"]')"


def words_of(key, part):
    return f"[...document.querySelectorAll('#draw-{key} .role-axis-{part} text')].map((one) => one.textContent)"


def checked(page, place=".legend"):
    return page.value(f"[...document.querySelectorAll('{place} input.series:checked')].map((one) => one.value)")


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_many_series_are_readable(browser, sweeps, width, scheme):
    page = opened(browser, sweeps, width, 800, prefers_color_scheme=scheme)
    assert page.complaints() == []
    assert page.value(DRAWINGS) == {"count": 2, "empty": []}
    page.value("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.value(CONTRAST)["bad"] == []
    assert page.value("document.documentElement.scrollWidth") <= width


def test_at_first_five_series_at_most_are_in_colour(browser, sweeps):
    page = opened(browser, sweeps)
    front = checked(page)
    assert front == ["dense · first", "Grad R · first"]  # it is the best at each budget
    found = seen(page)
    assert len(found["colours"]) == 1 + 1  # dense is a line of one point
    assert found["grey"] == 24
    assert page.value("document.querySelector('.others summary').textContent").startswith("24 more")
    assert page.value("document.querySelectorAll('.tiles.best li').length") == 4


def middle(page, series, key="accuracy-connectivity"):
    """Where a point of a series is that no other is near to."""
    page.value(f"document.getElementById('draw-{key}').scrollIntoView({{block: 'center'}})")
    return page.value(f"""(() => {{
      const figure = JSON.parse(document.getElementById("figures").textContent).find(({{ key }}) => key === "{key}");
      const own = figure.traces.find((trace) => trace.k === "mean" && trace.s === "{series}");
      const marks = [...document.querySelectorAll("#draw-{key} .mark-symbol path")];
      const near = (text) => Math.abs(parseFloat(text?.split("e: ")[1]) - (1 - own.y[0])) < 1e-9
        && Math.abs(parseFloat(text.split("x: ")[1]) - own.x[0]) < 1e-9;
      const mark = marks.find((one) => near(one.getAttribute("aria-label")));
      const {{ x, y, width, height }} = mark.getBoundingClientRect();
      return [x + width / 2, y + height / 2];
    }})()""")


def test_a_click_on_a_grey_line_brings_it_forward(browser, sweeps):
    page = opened(browser, sweeps)
    before = seen(page)
    place = middle(page, "static random · second")
    page.wait(lambda: page.move(*place) or not page.value("document.getElementById('tip').hidden"))
    said = page.value("document.getElementById('tip').textContent").split("\n")
    assert said[0].startswith("static random · second")
    assert said[-1] == "click to bring it forward"
    page.click(*place)
    page.wait(lambda: len(checked(page)) == 3)
    page.wait(lambda: seen(page)["grey"] == before["grey"] - 1)
    after = seen(page)
    assert "static random · second" in checked(page)
    assert "static random · second" in after["names"]
    assert len(set(after["colours"])) == 3
    assert page.value("document.querySelector('.others summary').textContent").startswith("23 more")
    assert checked(page, ".pivot") == [name for name in checked(page, ".pivot") if name in checked(page)]
    assert len(checked(page, ".pivot")) == 3
    page.click(*middle(page, "static random · second"))  # what is in front stays there
    assert len(checked(page)) == 3


@pytest.mark.parametrize("place", [".legend", ".pivot"])
def test_a_box_brings_a_series_forward_and_back(browser, sweeps, place):
    page = opened(browser, sweeps)
    before = seen(page)
    chosen = f"""document.querySelector('{place} input[value="RigL · second"]')"""
    page.value("document.querySelector('.others').open = true")
    page.value(f"{chosen}.focus()")
    page.press(" ", 32)
    page.wait(lambda: "RigL · second" in seen(page)["names"])
    assert "RigL · second" in checked(page, ".legend .front")
    assert "RigL · second" in checked(page, ".pivot")
    assert page.value(f"document.activeElement === {chosen}")
    page.press(" ", 32)
    page.wait(lambda: {**seen(page), "boxes": before["boxes"]} == before)
    assert "RigL · second" not in checked(page) + checked(page, ".pivot")


def test_every_series_in_front_looks_different_and_sweeps_differ_in_dash(browser, sweeps):
    page = opened(browser, sweeps)
    page.value("document.querySelectorAll('.legend input.series:not(:checked)').forEach((one) => one.click())")
    page.wait(lambda: seen(page)["grey"] == 0)
    looks = page.value("""[...document.querySelectorAll('.legend .swatch')].map((one) => [
      one.dataset.of, one.style.getPropertyValue("--paint"), one.style.getPropertyValue("--fill"),
      one.querySelector("path").getAttribute("stroke-dasharray"), one.querySelector("use").getAttribute("href"),
    ])""")
    assert len(looks) == len({tuple(look[1:]) for look in looks}) == 26
    by_name = {name: look for name, *look in looks}
    for name in by_name:
        method, sweep = name.split(" · ")
        other = by_name[f"{method} · {'second' if sweep == 'first' else 'first'}"]
        assert by_name[name][0] == other[0]
        assert by_name[name][2] != other[2]


def test_a_colour_stays_with_its_series(browser, sweeps):
    page = opened(browser, sweeps)
    paint = """document.querySelector('.legend .swatch[data-of="SET · first"]').style.getPropertyValue("--paint")"""
    page.value(box(page, "SET · first") + ".click()")
    before = page.value(paint)
    page.value(box(page, "dense · first") + ".click()")
    page.value(box(page, "STR · first") + ".click()")
    assert page.value(paint) == before
    assert page.value(paint.replace("SET", "STR")) not in ("var(--faint)", before)


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("axis", ["error", "accuracy"])
@pytest.mark.parametrize("count", [5, 9])
def test_names_beside_the_lines_do_not_lie_on_each_other(browser, sweeps, width, axis, count):
    page = opened(browser, sweeps, width, 800)
    page.value(f"document.querySelector('input[value={axis}]').click()")
    page.value(f"[...document.querySelectorAll('.others input')].slice(0, {count - 2}).forEach((one) => one.click())")
    page.wait(lambda: len(seen(page)["names"]) == count)  # that of the level is among them
    found = seen(page)
    for index, (left, top, right, bottom) in enumerate(found["boxes"]):
        assert left >= 0
        assert right <= found["width"]
        for other in found["boxes"][:index]:
            apart = min(right, other[2]) - max(left, other[0]) <= 1 or min(bottom, other[3]) - max(top, other[1]) <= 3
            assert apart, (found["names"][index], found["boxes"])


def test_the_axis_switches_between_errors_and_accuracies(browser, sweeps):
    page = opened(browser, sweeps)
    words = words_of("accuracy-connectivity", "title")
    assert "test error, less is better" in page.value(words)
    front = checked(page)
    page.value("document.querySelector('input[value=error]').focus()")
    page.press("ArrowRight", 39)
    page.wait(lambda: "test accuracy" in page.value(words))
    assert "100%" in page.value(words_of("accuracy-connectivity", "label"))
    assert checked(page) == front
    assert seen(page)["grey"] == 24
    page.press("ArrowLeft", 37)
    page.wait(lambda: "test error, less is better" in page.value(words))
    assert page.complaints() == []


def test_a_hasty_reader_gets_what_was_chosen_last(browser, sweeps):
    page = opened(browser, sweeps)
    for value in ("accuracy", "SOPs", "error", "accuracy", "energy", "error", "accuracy", "SOPs"):
        page.value(f"document.querySelector('input[value={value}]').click()")
        page.value(box(page, "SET · first") + ".click()")
    page.value(box(page, "STR · first") + ".click()")
    for key in ("accuracy-connectivity", "accuracy-sops"):
        page.wait(lambda key=key: "STR · first" in seen(page, key)["names"])
        assert "SET · first" not in seen(page, key)["names"]
        assert "test accuracy" in page.value(words_of(key, "title"))
        assert page.value(f"document.querySelectorAll('#draw-{key} svg').length") == 1
    assert page.complaints() == []


def test_the_cost_switches_between_energy_operations_and_spikes(browser, sweeps):
    page = opened(browser, sweeps)
    shown = """[...document.querySelectorAll("section[data-option]")].filter((one) => one.checkVisibility())
      .map((one) => one.id)"""
    tile = "document.querySelector('.tiles.best li').innerText"
    for option, key, unit in (
        ("energy", "accuracy-energy", " nJ"),
        ("all operations", "accuracy-operations", " operations"),
        ("SOPs", "accuracy-sops", " SOPs"),
    ):
        page.value(f"document.querySelector('input[value=\"{option}\"]').click()")
        page.wait(lambda key=key: page.value(shown) == [key])
        page.wait(lambda key=key: seen(page, key)["grey"] == 24)
        assert unit in page.value(tile)
        assert sum(other in page.value(tile) for other in (" nJ", " operations", " SOPs")) == 1
    page.value(box(page, "SET · first") + ".click()")
    page.value("document.querySelector('input[value=accuracy]').click()")
    page.value("document.querySelector('input[value=energy]').click()")  # drawn before the axis was switched
    page.wait(lambda: "SET · first" in seen(page, "accuracy-energy")["names"])
    assert "test accuracy" in page.value(words_of("accuracy-energy", "title"))


def test_bold_in_the_table_by_budget_is_the_highest_of_its_column(browser, sweeps):
    page = opened(browser, sweeps)
    rows = page.value("""[...document.querySelectorAll(".pivot tbody tr")].map((row) => [...row.cells].slice(1).map(
      (cell) => [cell.textContent, cell.className, cell.querySelector("b") !== null]))""")
    for column in zip(*rows):
        kept = [(float(text.strip("≈ ").split(" ")[0]), bold) for text, kind, bold in column if text and kind != "over"]
        assert [value for value, bold in kept if bold] == [max(value for value, _ in kept)]


def test_without_grey_the_others_are_gone_and_so_are_their_rows(browser, sweeps):
    page = opened(browser, sweeps)
    rows = "[...document.querySelectorAll('tr[data-series]:not([hidden])')].map((row) => row.dataset.series)"
    assert len(set(page.value(rows))) == 26
    page.value("document.getElementById('grey').click()")
    page.wait(lambda: seen(page)["grey"] == 0)
    assert set(page.value(rows)) == {"dense · first", "Grad R · first"}


@pytest.mark.parametrize("table", [".pivot", "table.sortable"])
def test_on_a_phone_the_first_column_stays_in_sight(browser, sweeps, table):
    page = opened(browser, sweeps, 390, 844)
    left = f"document.querySelector('{table} tbody tr').cells[0].getBoundingClientRect().left"
    before = page.value(left)
    moved = page.value(f"(() => {{ const place = document.querySelector('{table}').parentNode; place.scrollLeft = 80;"
                       " return place.scrollLeft; })()")  # fmt: skip
    assert moved == 80
    assert page.value(left) == before


@pytest.mark.parametrize("zero", ["spikes", "connectivity", "error", "all"])
def test_zeros_are_no_trouble_for_logarithmic_axes(browser, tmp_path, zero):
    for seed in (0, 1):
        for index, accuracy in enumerate((0.95, 1.0 if zero in ("error", "all") else 0.97)):
            left = 0.0 if zero in ("connectivity", "all") and index else 0.1
            sops = 0 if zero in ("spikes", "all") and index else 100
            write_result(tmp_path, f"p{index}", accuracy, left, seed, sops, sops, alpha=0.1 + index)
    path = tmp_path / "page.html"
    path.write_text(comparison_page([tmp_path]), encoding="utf-8")
    page = opened(browser, path)
    for option in ("energy", "all operations", "SOPs"):
        page.value(f"document.querySelector('input[value=\"{option}\"]').click()")
        for axis in ("accuracy", "error"):
            page.value(f"document.querySelector('input[value={axis}]').click()")
            page.wait(lambda: page.value(DRAWINGS)["empty"] == [])
    assert page.complaints() == []
    assert (
        page.value(
            "[...document.querySelectorAll('.draw path')].filter((one) => /NaN|Infinity/.test(one.outerHTML)).length"
        )
        == 0
    )


def test_a_hundred_runs_open_in_two_seconds(browser, tmp_path):
    for index in range(100):
        alpha, seed = 0.01 * (1 + index // 5), index % 5
        write_run(tmp_path / f"run-{index}", 100, connectivity=0.01 + index / 200, alpha=alpha, seed=seed)
    path = tmp_path / "page.html"
    path.write_text(comparison_page([tmp_path]), encoding="utf-8")
    drawn = "performance.getEntriesByName('drawn')[0].startTime"
    pages = (opened(browser, path) for _ in range(3))  # other tests are at work beside this one
    quick = next(page for page in pages if page.value(drawn) < 2000)
    assert quick.complaints() == []


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
