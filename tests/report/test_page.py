"""The page of a run, and of a comparison, as text; `test_browser` opens them."""

from __future__ import annotations

import errno
import os
import re
import time

import pytest
from test_html import EVIL, Elements

from examples import write_result, write_run, write_sweeps
from synaprune.errors import MachineError, UsageError
from synaprune.report.compare_page import comparison_page
from synaprune.report.page import run_page, write


def test_a_page_says_what_the_run_did_and_how_to_repeat_it(trained):
    page = run_page(trained.folder)
    last, header = trained.metrics()[-1], trained.header()
    for words in (
        f"{last['test_accuracy']:.2%}".replace("%", " %"),
        f"of {sum(v['synapses'] for v in last['layers'].values()):,} synapses",
        "SOPs per image",
        "energy per image",
        "synaprune train digits/grad_r --out &#x27;a b&#x27;",
        header["versions"]["torch"],
        header["started"],
        "of real connections",
        "<dt>sparsity<dd>0.9",
    ):
        assert words in page, words
    assert "Missing on this page" not in page
    assert page.count("<details><summary>Table") == page.count('class="draw') == 12
    assert len(page) < 1_500_000


def test_a_partial_run_gives_a_page_that_says_what_is_missing(tmp_path):
    page = run_page(write_run(tmp_path, 2, epochs=9).folder)
    assert "after epoch 2 of" in page
    assert "The run is not finished: 2 of 9 epochs" in page
    assert "<code>synaprune eval" in page


def test_a_run_without_command_commit_and_machine_has_a_page(tmp_path):
    run = write_run(tmp_path, 1)
    run.settings_path.write_text('{"settings": {}}')
    page = run_page(run.folder)
    assert "not recorded: the run was not started by the command line" in page
    assert "unknown: not run from a checkout" in page


def test_names_from_outside_stay_text_in_pages(tmp_path):
    layer = EVIL.replace("/", "_")
    run = write_run(tmp_path / layer, 2, layer=EVIL, command=["synaprune", "train", EVIL])
    plain = write_run(tmp_path / "plain", 2, layer="plain", command=["synaprune", "train", "plain"])
    pages = [Elements(run_page(one.folder)) for one in (run, plain)]
    assert pages[0].found == pages[1].found
    assert pages[0].attributes == pages[1].attributes
    write_result(tmp_path / "results", "a", 0.9, 0.1, alpha=0.1)
    places = [tmp_path / "results", run.folder]
    write_run(tmp_path / "other", 2, layer="plain")
    evil, tame = Elements(comparison_page(places)), Elements(comparison_page([places[0], tmp_path / "other"]))
    assert evil.found == tame.found


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder, "holds no run: there is no settings.json"),
        (lambda folder: write_run(folder, 0).folder, "has no finished epoch to report"),
        (lambda folder: (folder / "settings.json").write_text("{") and folder, "is damaged"),
        (lambda folder: (folder / "settings.json").write_text("[]") and folder, "is damaged: it holds no settings"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path, make, said):
    with pytest.raises(UsageError, match=said):
        run_page(make(tmp_path))


def test_where_a_page_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="is a folder; name a file with -o"):
        write("x", tmp_path)
    with pytest.raises(UsageError, match="there is no folder"):
        write("x", tmp_path / "no" / "page.html")
    write("before", tmp_path / "page.html")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match="no space left on the disk"):
        write("after", tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == "before"

    def refused(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "fsync", refused)
    with pytest.raises(MachineError, match=r"page.html' cannot be written \(Permission denied\)"):
        write("after", tmp_path / "page.html")


def test_a_page_for_a_hundred_runs_is_small_and_soon_written(tmp_path):
    for index in range(100):
        write_run(
            tmp_path / f"run-{index}",
            100,
            connectivity=0.01 + index / 200,
            alpha=0.01 * (1 + index // 5),
            seed=index % 5,
        )
    begin = time.process_time()
    page = comparison_page([tmp_path])
    assert time.process_time() - begin < 5
    assert len(page.encode()) < 5_000_000
    assert "20 points, 100 runs" in page


EPYC, XEON = ({"processor": name, "threads": 1, "gpu": None} for name in ("EPYC", "Xeon"))


@pytest.mark.parametrize(
    ("seconds", "machines", "reason"),
    [
        ((10.0, 14.0), (None, None), ""),
        ((10.0, 14.0), (EPYC, EPYC), ""),
        ((10.0, 16.0), (EPYC, EPYC), "took 1.7 times as long as another (sparse)"),
        ((10.0, 1398.0), (None, None), "took 139.9 times as long as another (sparse)"),
        ((10.0, 10.0), (EPYC, XEON), "not all runs had the same processor, GPU and number of threads"),
        ((10.0, 10.0), (EPYC, {**EPYC, "threads": 2}), "not all runs had the same processor"),
    ],
)
def test_seconds_are_left_out_where_they_cannot_be_compared(tmp_path, seconds, machines, reason):
    for seed in (0, 1):
        more = {"seconds": seconds[seed], "machine": machines[seed]}
        write_result(tmp_path, "sparse", 0.95 + seed / 100, 0.1, seed, alpha=0.1, **more)
    page = comparison_page([tmp_path])
    assert (">seconds<" in page) == (not reason)
    assert ("Seconds are left out" in page) == bool(reason)
    assert reason in page


def test_the_best_at_each_budget_is_said_first_and_bold(tmp_path):
    page = comparison_page(write_sweeps(tmp_path))
    tile = re.search(r'<ul class="tiles best"><li>(.*?)<li>', page).group(1)
    words = re.sub(r"<[^>]*>", "|", tile)
    assert "2 % left" in words
    assert "Grad R · first" in words
    assert "% of dense" in words
    pivot = page.partition('<table class="pivot">')[2].partition("</table>")[0]
    columns = zip(*(re.findall(r"<td.*?(?=<td|<tr|</tbody>)", row) for row in pivot.split("<tr>")[2:]))
    for cells in columns:
        kept = [cell for cell in cells if re.search(r"\d", cell) and 'class="over"' not in cell]
        numbers = [float(re.search(r"\d+\.\d+", cell).group()) for cell in kept]
        assert [number for number, cell in zip(numbers, kept) if "<b>" in cell] == [max(numbers)]
    assert page.index('class="tiles best"') < page.index('class="pivot"') < page.index("<h2>Points</h2>")


def test_where_no_budget_can_be_told_there_is_no_table_by_budget(tmp_path):
    write_result(tmp_path, "a", 0.9, 0.1, alpha=0.1)
    page = comparison_page([tmp_path])
    assert 'class="pivot"' not in page
    assert 'class="tiles best"' not in page


def test_a_comparison_has_a_table_that_sorts_and_boxes_that_switch(tmp_path):
    for seed in (0, 1):
        write_result(tmp_path, "dense", 0.98, 1.0, seed, sops=5000, method="dense")
        write_result(tmp_path, "sparse", 0.95 + seed / 100, 0.1, seed, sops=500, alpha=0.1)
    page = comparison_page([tmp_path])
    assert "<h1>digits: 2 points, 4 runs</h1>" in page
    assert 'value="dense" checked' in page
    row = re.search(r'<tr data-series="sparse">(.*?)(?=<tr|</tbody>)', page).group(1)
    assert re.split(r"<td[^>]*>", row)[1:] == [
        "sparse", "95.50 % ± 6.35", "10.00 % ± 0.00", "500 ± 0", "0.45 ± 0.00", "10.00 %", "10 ± 6", "2",
    ]  # fmt: skip
