"""Which series is best at which budget."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import write_result, write_sweeps
from synaprune.report.pivot import NEAR, differs, pivot
from synaprune.report.records import Record, gather


def record(series, point, accuracy, connectivity, **more):
    chosen = {"method": "set", "sparsity": 1 - connectivity, **more}
    metrics = {"test_accuracy": accuracy, "connectivity": connectivity}
    return Record(point, chosen, metrics, 1.0, point=point, series=series, family=series)


accuracies = st.lists(st.floats(0, 1), min_size=1, max_size=4)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from("abcde"), st.sampled_from([0.01, 0.05, 0.1]), st.booleans()), accuracies, min_size=1
    )
)
def test_the_best_has_the_highest_mean_of_those_that_keep_the_budget(points):
    table = pivot(
        [
            record(series, f"{series}{budget}{over}", accuracy, budget * (1.5 if over else 1), sparsity=1 - budget)
            for (series, budget, over), sample in points.items()
            for accuracy in sample
        ]
    )
    assert len(table.budgets) == len({budget for _, budget, _ in points})
    for column, budget in enumerate(table.budgets):
        kept = {
            series: math.fsum(sample) / len(sample)
            for (series, other, over), sample in points.items()
            if other == pytest.approx(budget) and not over
        }
        bold = {series for series, cells in table.rows.items() if cells[column] and cells[column].best}
        assert bool(bold) == bool(kept)
        for series in bold:
            assert kept[series] == pytest.approx(max(kept.values()), abs=1e-12)
            assert table.rows[series][column].keeps
        assert not bold & set(table.near(column))


samples = st.lists(st.integers(0, 1000).map(lambda count: count / 1000), min_size=2, max_size=5)


@pytest.mark.filterwarnings("ignore:Precision loss")  # of equal values, which are passed over
@settings(deadline=None)  # the first call imports SciPy
@given(samples, samples)
def test_what_differs_is_that_of_scipy(one, two):
    from scipy import stats

    p = stats.ttest_ind(one, two, equal_var=False).pvalue
    if math.isfinite(p) and abs(p - 0.05) > 1e-6:
        assert differs(one, two) == (p < 0.05)


def test_single_runs_and_equal_runs():
    assert differs([0.9], [0.1, 0.2]) is None
    assert differs([0.5, 0.5], [0.5, 0.5]) is False
    assert differs([0.5, 0.5], [0.4, 0.4]) is True


def test_what_cannot_be_told_from_the_best_is_near():
    rows = [record("a", "a", value, 0.1) for value in (0.97, 0.98, 0.99)]
    rows += [record("b", "b", value, 0.1) for value in (0.969, 0.979, 0.989)]
    rows += [record("c", "c", value, 0.1) for value in (0.5, 0.51, 0.52)]
    rows += [record("d", "d", 0.975, 0.1)]
    table = pivot(rows)
    assert table.best(0)[0] == "a"
    assert table.near(0) == ["b"]  # of one run nobody can say


def test_methods_and_sweeps_are_rows_and_dense_is_last(tmp_path):
    table = pivot(gather(write_sweeps(tmp_path))[0])
    assert [f"{budget:.3g}" for budget in table.budgets] == ["0.02", "0.05", "0.1", "1"]
    assert len(table.rows) == 26
    assert next(iter(table.rows)) == "Grad R · first"
    assert list(table.rows)[-2:] == ["dense · first", "dense · second"]
    over = table.rows["soft Deep R · first"]
    assert [cell and cell.keeps for cell in over] == [False, False, False, None]
    assert table.best(3)[0] == "dense · first"


def test_a_fixed_strength_stands_where_it_came_to(tmp_path):
    write_result(tmp_path, "asked", 0.9, 0.05, sparsity=0.95)
    write_result(tmp_path, "near", 0.8, 0.05 * (1 + 0.9 * NEAR), alpha=0.1)
    write_result(tmp_path, "off", 0.99, 0.07, alpha=0.01)
    table = pivot(gather([tmp_path])[0])
    assert table.budgets == pytest.approx([0.05])
    assert [cell.accuracy.mean for cells in table.rows.values() for cell in cells] == [0.9, 0.8]
    assert table.outside == ["off"]


@pytest.mark.parametrize(("count", "shown"), [(1, 0), (3, 3), (8, 8), (9, 0)])
def test_where_no_budget_was_asked_for_a_few_connectivities_are_budgets(tmp_path, count, shown):
    for index in range(count):
        write_result(tmp_path, f"p{index}", 0.9, 0.01 * 1.2**index, alpha=0.1 + index)
    assert len(pivot(gather([tmp_path])[0]).budgets) == shown
