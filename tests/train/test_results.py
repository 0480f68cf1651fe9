"""Results over seeds: means, intervals, tables."""

from __future__ import annotations

import json
import math

import pytest

from synaprune.errors import UsageError
from synaprune.train.results import NOTE, Estimate, Row, cells, load, markdown, read, summary, table


def result(point, seed, accuracy=0.9, part="test", **metrics):
    metrics = {f"{part}_accuracy": accuracy, "connectivity": 0.0225, **metrics}
    return {"point": point, "settings": {"seed": seed}, "metrics": metrics, "seconds": 1.0}


def sops(count):
    return {"operations": {"total": {"effective_acs": count}}}


def test_read_sorts_by_point_and_by_seed_as_a_number(tmp_path):
    for point, seed in (("b", 2), ("b", 10), ("a", 3)):
        (tmp_path / f"{point}-seed{seed}.json").write_text(json.dumps(result(point, seed)))
    (tmp_path / "notes.md").touch()
    assert [(r["point"], r["settings"]["seed"]) for r in read(tmp_path)] == [("a", 3), ("b", 2), ("b", 10)]


def test_what_is_no_result_is_named(tmp_path):
    path = tmp_path / "x.json"
    for content, fault in (("{", r"x.json' is damaged: .*; delete it"), ("[1]", r"x.json' is no result of a sweep")):
        path.write_text(content)
        for reader in (lambda: load(path), lambda: read(tmp_path)):
            with pytest.raises(UsageError, match=fault):
                reader()
    with pytest.raises(UsageError, match=r"there is no folder of results '.*nowhere'"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("values", "mean", "quantile"),
    [([0.25, 0.75], 0.5, 12.706204736), ([1.0, 2.0, 3.0], 2.0, 4.302652730), ([0.5] * 3, 0.5, 4.302652730)],
)
def test_the_interval_is_students(values, mean, quantile):
    row = summary(result("a", seed, value) for seed, value in enumerate(values))[0]
    estimate, n = row.figures["test accuracy"], len(values)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    assert estimate.mean == mean
    assert estimate.half == pytest.approx(quantile * deviation / math.sqrt(n), rel=1e-9)


def test_summary_keeps_the_order_of_points_and_counts_seeds():
    rows = summary([result("b", 1), result("a", 0), result("b", 0)])
    assert [(row.point, row.seeds) for row in rows] == [("b", (0, 1)), ("a", (0,))]
    assert rows[1].figures == {"test accuracy": Estimate(0.9, None), "connectivity": Estimate(0.0225, None)}


def test_operations_are_shown_where_all_seeds_have_them():
    rows = summary(
        [result("a", 0, **sops(1000)), result("a", 1, **sops(1200)), result("b", 0, **sops(1)), result("b", 1)]
    )
    assert rows[0].figures["SOPs"].mean == 1100
    assert "SOPs" not in rows[1].figures
    assert cells(rows) == (
        ["point", "test accuracy", "connectivity", "SOPs", "seeds"],
        [
            ["a", "90.00 % ± 0.00", "2.25 % ± 0.00", "1,100 ± 1,271", "2"],
            ["b", "90.00 % ± 0.00", "2.25 % ± 0.00", "", "2"],
        ],
    )


def test_operations_are_compared_with_the_dense_network():
    dense = result("reference", 0, **sops(4000))
    dense["settings"]["method"] = "dense"
    rows = summary([result("a", 0, **sops(1000)), dense, result("b", 0)])
    assert [row.figures.get("SOPs / dense") for row in rows] == [Estimate(0.25, None), Estimate(1.0, None), None]
    assert cells(rows)[1][0][-2] == "25.00 %"


def test_markdown_tells_validation_from_test_and_says_what_the_interval_is():
    rows = summary([result("a", 0, 0.96), result("a", 1, 0.98), result("held", 0, 0.5, "validation")])
    assert markdown(rows) == (
        "| point | test accuracy | validation accuracy | connectivity | seeds |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| a | 97.00 % ± 12.71 |  | 2.25 % ± 0.00 | 2 |\n"
        "| held |  | 50.00 % | 2.25 % | 1 |\n"
        f"\n{NOTE}"
    )
    assert NOTE not in markdown([Row("a", (0,), {})])


def test_names_cannot_break_a_markdown_table():
    assert table(["a|b", "c"], [["x\ny", "\x1b[2J"]]) == "| a\\|b | c |\n| --- | ---: |\n| x\\ny | \\x1b[2J |"
