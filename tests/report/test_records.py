"""What can be compared, what it is called, and what is refused."""

from __future__ import annotations

import json
import time

import pytest

from examples import write_result, write_run
from synaprune.errors import UsageError
from synaprune.report.records import Record, _named, gather


def test_runs_results_and_folders_of_them_come_together(tmp_path):
    write_run(tmp_path / "runs" / "one", alpha=0.1)
    write_run(tmp_path / "runs" / "two", alpha=0.1, seed=1)
    write_result(tmp_path / "results", "dense", 0.98, 1.0, method="dense", epochs=3)
    single = write_result(tmp_path, "grad", 0.9, 0.1, alpha=0.2, epochs=3)
    records, missing = gather([tmp_path / "runs", tmp_path / "results", single])
    assert missing == []
    assert [record.name for record in records] == ["one", "two", "dense-seed0", "grad-seed0"]
    assert [record.point for record in records] == [
        "Grad R, alpha 0.1",
        "Grad R, alpha 0.1",
        "dense",
        "Grad R, alpha 0.2",
    ]
    assert [record.series for record in records] == ["Grad R", "Grad R", "dense · results", "Grad R"]


def test_points_of_a_sweep_keep_its_names(tmp_path):
    for seed in (0, 1):
        write_result(tmp_path, "mine-a", 0.9, 0.1, seed, alpha=0.2)
        write_result(tmp_path, "mine-b", 0.8, 0.05, seed, alpha=0.4)
    records, _ = gather([tmp_path])
    assert [record.point for record in records] == ["mine-a", "mine-a", "mine-b", "mine-b"]
    assert {record.series for record in records} == {"Grad R"}
    write_result(tmp_path, "mine-c", 0.9, 0.1, 2, alpha=0.2)  # the same settings under another name
    assert gather([tmp_path])[0][0].point == "Grad R, alpha 0.2"


def test_points_of_several_sweeps_are_told_apart_by_the_sweep(tmp_path):
    write_result(tmp_path / "one", "dense", 0.9, 1.0, method="dense")
    write_result(tmp_path / "two", "dense", 0.9, 1.0, method="dense", lr=0.5)
    assert [record.point for record in gather([tmp_path / "one", tmp_path / "two"])[0]] == ["one: dense", "two: dense"]


@pytest.mark.parametrize("seeds", [((0, 1), (0, 1)), ((0, 1), (1, 2))])
def test_sweeps_that_made_the_same_again_are_told_apart(tmp_path, seeds):
    for sweep, its in zip(("one", "two"), seeds):
        for seed in its:
            for sparsity in (0.9, 0.95):
                write_result(tmp_path / sweep, f"s{sparsity}", 0.9, 1 - sparsity, seed, sparsity=sparsity)
            write_result(tmp_path / sweep, "dense", 0.9, 1.0, seed, method="dense")
    records, _ = gather([tmp_path / "one", tmp_path / "two"])
    assert {record.series for record in records} == {"Grad R · one", "Grad R · two", "dense · one", "dense · two"}
    assert {record.family for record in records} == {"Grad R", "dense"}
    assert {record.point for record in records} == {
        f"{sweep}: {given}" for sweep in ("one", "two") for given in ("s0.9", "s0.95", "dense")
    }


def test_a_sweep_that_adds_seeds_adds_to_the_points(tmp_path):
    for sweep, seed in (("one", 0), ("one", 1), ("two", 2)):
        for sparsity in (0.9, 0.95):
            write_result(tmp_path / sweep, f"s{sparsity}", 0.9, 1 - sparsity, seed, sparsity=sparsity)
    records, _ = gather([tmp_path / "one", tmp_path / "two"])
    assert {record.point for record in records} == {"s0.9", "s0.95"}
    assert {record.series for record in records} == {"Grad R"}


def test_thousands_of_results_are_named_in_a_moment():
    settings = [{"method": "set", "sparsity": 0.9, "lr": n // 5, "seed": n % 5} for n in range(4000)]
    made = [Record(f"r{n}", one, {}, 1.0, sweep=f"s{n % 3}") for n, one in enumerate(settings)]
    begin = time.process_time()
    assert len({record.point for record in _named(made)}) == 800
    assert time.process_time() - begin < 5


def test_a_budget_and_a_fixed_strength_are_two_curves(tmp_path):
    write_run(tmp_path / "a", alpha=0.1)
    write_run(tmp_path / "b", alpha=0.2)
    write_run(tmp_path / "c", sparsity=0.9, schedule_flat=0.5)
    write_run(tmp_path / "d", sparsity=0.95, schedule_flat=0.5)
    records, _ = gather([tmp_path])
    assert [record.series for record in records] == ["Grad R, fixed alpha"] * 2 + ["Grad R"] * 2


def test_settings_that_were_chosen_for_each_budget_leave_one_curve(tmp_path):
    for sparsity, lr in ((0.9, 0.1), (0.95, 0.2)):
        write_result(tmp_path / "one", f"s{sparsity}", 0.9, 0.1, sparsity=sparsity, lr=lr)
    write_result(tmp_path / "one", "fixed", 0.9, 0.1, alpha=0.5)
    assert [r.series for r in gather([tmp_path / "one"])[0]] == ["fixed", "Grad R", "Grad R"]
    write_result(tmp_path / "two", "dense", 0.9, 1.0, method="dense")
    both = gather([tmp_path / "one", tmp_path / "two"])[0]
    assert [r.series for r in both] == ["Grad R, fixed alpha · one", *["Grad R · one"] * 2, "dense · two"]
    assert [r.family for r in both] == ["Grad R, fixed alpha", "Grad R", "Grad R", "dense"]
    write_result(tmp_path / "one", "again", 0.9, 0.1, sparsity=0.9, lr=0.3)  # now two rates stand against each other
    assert len({r.series for r in gather([tmp_path / "one"])[0]}) == 4


def test_unfinished_runs_are_named_and_empty_ones_passed_over(tmp_path):
    write_run(tmp_path / "a", 3)
    write_run(tmp_path / "b", 2, epochs=9)
    write_run(tmp_path / "c", 0)
    records, missing = gather([tmp_path])
    assert [record.name for record in records] == ["a", "b"]
    assert missing == [
        "'b' is not finished: it stands at epoch 2 of 9.",
        f"'{tmp_path / 'c'}' has no finished epoch to report.",
    ]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: [folder / "nowhere"], "there is no run and no result"),
        (lambda folder: [folder], "holds neither a run nor results"),
        (
            lambda folder: [write_run(folder / "a", 0).folder, write_run(folder / "b", 0).folder],
            "has no finished epoch",
        ),
        (
            lambda folder: [write_run(folder / "a").folder, write_run(folder / "b", task="mnist").folder],
            "'a' is of task digits and 'b' of mnist; compare runs of one task",
        ),
        (
            lambda folder: [write_run(folder / "a").folder, write_run(folder / "b", holdout=10).folder],
            "'a' was judged on the test images and 'b' on the validation images",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, make, said):
    with pytest.raises(UsageError, match=said):
        gather(make(tmp_path))


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"point": 1, "settings": {}, "metrics": {}, "seconds": 1}'])
def test_foreign_and_damaged_results_are_named(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UsageError, match=r"x\.json' is "):
        gather([tmp_path])


def test_settings_of_an_older_version_are_the_same_point(tmp_path):
    old = write_result(tmp_path, "a", 0.9, 0.5)
    content = json.loads(old.read_text())
    del content["settings"]["floor"]
    old.write_text(json.dumps(content))
    write_result(tmp_path, "a", 0.9, 0.5, seed=1)
    assert len({record.point for record in gather([tmp_path])[0]}) == 1
