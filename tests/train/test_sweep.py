"""Sweep files: which points they make, what those are called, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from synaprune.errors import UsageError
from synaprune.train import recipes, sweep
from synaprune.train.settings import Settings
from synaprune.train.sweep import read

RECIPE = 'recipe = "digits/grad_r"\n'


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A function that writes a sweep file into the current folder and reads it."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="mine.toml"):
        Path(name).write_text(text)
        return read(name)

    return write


def names(plan):
    return [point.name for point in plan.points]


def test_the_example_in_the_docstring(written):
    text = sweep.__doc__.split("\n\n", 1)[1].split("\n\nPoints are named")[0]
    plan = written("\n".join(line[4:] for line in text.splitlines()))
    assert names(plan) == [
        "grad_r-alpha-0.01-seed0",
        "grad_r-alpha-0.05-seed0",
        "grad_r-alpha-0.2-seed0",
        "dense-seed0",
        "grad_r-alpha-0.01-seed1",
        "grad_r-alpha-0.05-seed1",
        "grad_r-alpha-0.2-seed1",
        "grad_r-alpha-0.01-seed2",
        "grad_r-alpha-0.05-seed2",
        "grad_r-alpha-0.2-seed2",
    ]
    assert plan.title == "MNIST: accuracy against the strength of the prior"
    assert plan.results == Path("results/published")
    assert plan.result_path(plan.points[3]) == Path("results/published/dense-seed0.json")
    assert plan.command(plan.points[3]) == "synaprune train mnist/published --threads=1 --method=dense --seed=0"
    values = recipes.read("mnist/published")
    assert plan.points[5].settings == Settings(**{**values, "threads": 1, "alpha": 0.05, "seed": 1})
    del values["alpha"]
    assert plan.points[3].settings == Settings(**{**values, "threads": 1, "method": "dense"})


def test_the_shortest_file_is_the_recipe_itself(written):
    plan = written(RECIPE)
    assert names(plan) == ["grad_r-seed0"]
    assert plan.points[0].settings == Settings(**recipes.read("digits/grad_r"))
    assert (plan.title, plan.results) == ("mine", Path("results/mine"))


def test_settings_of_all_points_and_the_folder_of_results_can_be_changed(written):
    written('recipe = "digits/grad_r"\n[[points]]\nlr = [0.1, 0.2]\nepochs = 9\n[[points]]\nmethod = "dense"\n')
    plan = read("mine.toml", {"epochs": "1", "augment": "0"}, "elsewhere")
    assert names(plan) == ["grad_r-lr-0.1-epochs-1-seed0", "grad_r-lr-0.2-epochs-1-seed0", "dense-seed0"]
    assert [point.settings.epochs for point in plan.points] == [1, 1, 1]
    assert plan.results == Path("elsewhere")
    assert "--epochs=1" in plan.command(plan.points[0])
    for changes, sentence in (
        ({"epoch": "1"}, "sweep 'mine.toml': --set: unknown setting 'epoch'; did you mean 'epochs'?"),
        ({"epochs": ""}, "sweep 'mine.toml': --set: setting 'epochs' must be a whole number of at least 1 and at most"),
        ({"lr": "1"}, "sweep 'mine.toml': --set: setting 'lr' is what [[points]] 1 goes through; leave it out"),
    ):
        with pytest.raises(UsageError, match=re.escape(sentence)):
            read("mine.toml", changes)


def test_every_list_is_crossed_with_every_other_in_the_order_of_the_table(written):
    plan = written(RECIPE + '[[points]]\nlr = [1e-2, "0.02"]\nmethod = ["dense", "grad_r"]\nclip_grad = "none"\n')
    assert names(plan) == [
        "dense-lr-0.01-clip_grad-none-seed0",
        "grad_r-lr-0.01-clip_grad-none-seed0",
        "dense-lr-0.02-clip_grad-none-seed0",
        "grad_r-lr-0.02-clip_grad-none-seed0",
    ]


def test_a_name_stands_for_all_that_is_not_a_list(written):
    table = '[[points]]\nname = "best"\nmethod = "grad_r"\nlr = 0.05\nalpha = [0.1, 0.2]\nepochs = [3]\n'
    plan = written(RECIPE + table)
    assert names(plan) == ["best-alpha-0.1-epochs-3-seed0", "best-alpha-0.2-epochs-3-seed0"]
    assert plan.points[1].flags == ("--method=grad_r", "--lr=0.05", "--alpha=0.2", "--epochs=3", "--seed=0")


def test_a_list_in_a_list_is_one_value(written):
    text = (
        '[settings]\nexclude = ["fc1.*", "fc2.*"]\n[[points]]\nname = "a"\n[[points]]\nexclude = [["fc1"], "fc2", []]\n'
    )
    plan = written(RECIPE + text)
    assert [point.settings.exclude for point in plan.points] == [("fc1.*", "fc2.*"), ("fc1",), ("fc2",), ()]
    assert [point.label for point in plan.points[1:]] == [f"grad_r-exclude-{word}" for word in ("fc1", "fc2", "none")]
    assert [point.flags[0] for point in plan.points[::3]] == ["--exclude=fc1.*,fc2.*", "--exclude="]


def test_another_method_takes_nothing_over_from_recipe_or_settings(written):
    plan = written(RECIPE + '[settings]\nalpha = 0.5\nlr = 0.1\n[[points]]\nmethod = ["grad_r", "dense"]\n')
    assert [(point.settings.alpha, point.settings.lr) for point in plan.points] == [(0.5, 0.1), (None, 0.1)]
    assert plan.points[1].flags == ("--lr=0.1", "--method=dense", "--seed=0")


def test_a_table_may_have_seeds_of_its_own_and_first_seeds_come_first(written):
    plan = written(RECIPE + 'seeds = [3, 1]\n[[points]]\nname = "a"\n[[points]]\nname = "b"\nseeds = [7, 8, 9]\n')
    assert names(plan) == ["a-seed3", "b-seed7", "a-seed1", "b-seed8", "b-seed9"]
    assert plan.points[1].settings.seed == 7


def test_a_recipe_file_is_found_from_the_sweep_file(written, tmp_path):
    Path("recipes").mkdir()
    Path("recipes/own.toml").write_text("width = 7\nseed = 4\n")
    for place in ("recipes/own.toml", str(tmp_path / "recipes/own.toml")):
        plan = written(f'recipe = "{place}"')
        assert plan.points[0].settings == Settings(width=7, seed=4)
        assert plan.command(plan.points[0]) == "synaprune train recipes/own.toml --seed=4"
    Path("sweeps").mkdir()
    plan = written('recipe = "../recipes/own.toml"', "sweeps/mine.toml")
    assert plan.recipe == "recipes/own.toml"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seeds = [0]", 'there is no recipe; name one, such as recipe = "digits/grad_r"'),
        ("recipe = 3", "'recipe' must be a name, not 3; name one, such as"),
        ('recipe = "digits/gradr"', "unknown recipe 'digits/gradr'; did you mean 'digits/grad_r'?"),
        ('recipe = "own.toml"', "there is no recipe file 'own.toml'"),
        (RECIPE + "seed = [1]", "setting 'seed' stands alone; move it into [settings] or [[points]]"),
        (RECIPE + "point = 1", "unknown key 'point'; did you mean 'points'?"),
        (RECIPE + "colour = 1", "unknown key 'colour'; there are recipe, results, seeds, settings, points"),
        (RECIPE + "results = 1", "'results' must be the name of a folder, not 1"),
        (RECIPE + "points = []", "'points' must be tables; head each with [[points]]"),
        (RECIPE + "[points]\nlr = 1", "'points' must be tables; head each with [[points]]"),
        (RECIPE + "settings = 1", "[settings]: this must be a table of settings, not 1"),
        (RECIPE + "[settings]\nepoch = 1", "[settings]: unknown setting 'epoch'; did you mean 'epochs'?"),
        (RECIPE + "[settings]\nseed = 1", "[settings]: 'seed' cannot be given here; a list 'seeds'"),
        (RECIPE + "[[points]]\nseed = 1", "[[points]] 1: 'seed' cannot be given here; a list 'seeds'"),
        (
            RECIPE + "[[points]]\n[[points]]\nxyz = [1]",
            "[[points]] 2: unknown setting 'xyz'; `synaprune train --help` lists all",
        ),
        (RECIPE + "[[points]]\nlr = [1, []]", "[[points]] 1: setting 'lr' must be a number above 0 and below 1e+30"),
        (RECIPE + "[[points]]\nlr = []", "[[points]] 1: the list 'lr' is empty; give it a value"),
        (RECIPE + "[[points]]\nname = 1", "[[points]] 1: 'name' must be a name, not 1"),
        (RECIPE + "[[points]]\nseeds = 1", "[[points]] 1: 'seeds' must be a list of different whole numbers, not 1"),
        (RECIPE + "seeds = [0, 0]", "'seeds' must be a list of different whole numbers, not [0, 0]"),
        (RECIPE + "seeds = []", "'seeds' must be a list of different whole numbers, not []"),
        (RECIPE + "seeds = [-1]", "setting 'seed' must be a whole number of at least 0"),
        (
            RECIPE + '[[points]]\nmethod = ["grad_r", "dense"]\nalpha = [0.2]',
            "point 'dense-alpha-0.2' cannot be: setting 'alpha' belongs to methods deep_r, grad_r, lats and"
            " soft_deep_r, not to dense;"
            " take this combination out of [[points]] 1",
        ),
        (RECIPE + "[[points]]\nname = '../x'", "'../x' cannot name a file; give its [[points]] table a 'name'"),
        (RECIPE + "[[points]]\nexclude = 'fc*'", "'grad_r-exclude-fc*' cannot name a file"),
        (RECIPE + f"[[points]]\nname = '{'x' * 201}'", "x' cannot name a file"),
        (RECIPE + "[[points]]\nexclude = [['a[1,2]']]", "setting 'exclude' cannot be ['a[1,2]'], which no flag"),
        (RECIPE + "[[points]]\nlr = [0.1, 0.10]", "two points are named 'grad_r-lr-0.1-seed0'; tell their"),
        (RECIPE + "[[points]]\nbase = ['adam', 'Adam']", "two points are named 'grad_r-base-Adam-seed0'"),
        (RECIPE + "lr", "is not valid TOML"),
    ],
)
def test_a_fault_is_one_sentence_that_names_file_and_place(text, sentence, written):
    with pytest.raises(UsageError) as raised:
        written(text)
    assert sentence in str(raised.value)
    assert str(raised.value).startswith("sweep 'mine.toml'")
    assert "\n" not in str(raised.value)


NASTY = {
    "a long text": f"'{'x' * 3000}'",
    "a deep list": "[" * 50 + "]" * 50,
    "a long list": "[" + "1,\n" * 5000 + "]",
    "a long name": f"{{{'a' * 1000} = 1}}",
    "a large number": "1" + "0" * 1000,
    "an escape": '"\\u001b[2J"',
}


@pytest.mark.parametrize("nasty", NASTY)
@pytest.mark.parametrize("place", ["recipe", "results", "seeds", "settings", "points", "lr", "name", "x" * 900])
def test_a_fault_is_quoted_short(nasty, place, written):
    head = "" if place == "recipe" else RECIPE
    head += "[[points]]\n" if place in ("lr", "name") else ""
    with pytest.raises(UsageError) as raised:
        written(f"{head}{place} = {NASTY[nasty]}\n")
    assert len(str(raised.value)) < 400
    assert str(raised.value).isprintable()


def test_the_line_of_a_bad_value_is_named(written):
    text = RECIPE + "[settings]\nlr = 1\nwarmup = true\n\n[[points]]\nlr = 2\n[[points]]\n# lr\nlr = [1, -2]\n"
    with pytest.raises(UsageError, match=r"\[settings\]: setting 'warmup' must be .*, not True \(line 4\)$"):
        written(text)
    with pytest.raises(UsageError, match=r"\[\[points\]\] 2: setting 'lr' must be .*, not -2 \(line 10\)$"):
        written(text.replace("true", "1"))


def test_a_sweep_has_so_many_points_that_someone_can_wait_for(written):
    grid = "[[points]]\n" + "".join(f"{name} = [{', '.join(map(str, range(1, 11)))}]\n" for name in ("width", "epochs"))
    assert len(written(RECIPE + grid).points) == 100
    wider = grid + "".join(f"{name} = {list(range(1, 11))}\n" for name in ("lr", "gain", "batch_size", "time_steps"))
    with pytest.raises(UsageError, match=r"sweep 'mine.toml': it has more than 10,000 points; make several sweeps"):
        written(RECIPE + wider)


def test_a_byte_order_mark_is_read(written):
    plan = written("\ufeff# My sweep\r\n" + RECIPE)
    assert (plan.title, names(plan)) == ("My sweep", ["grad_r-seed0"])


def test_a_fault_in_the_recipe_file_names_the_recipe(written):
    Path("own.toml").write_text("epoch = 7\n")
    with pytest.raises(UsageError, match=r"unknown setting 'epoch' in recipe 'own.toml'; did you mean 'epochs'"):
        written('recipe = "own.toml"')


def test_files_that_are_none(written, tmp_path):
    for path, sentence in (("none.toml", "there is no sweep file 'none.toml'"), (tmp_path, "is a folder, not a sweep")):
        with pytest.raises(UsageError, match=sentence):
            read(path)
    Path("latin.toml").write_bytes(b"# \xe4\n")
    with pytest.raises(UsageError, match=r"'latin.toml' is not valid TOML"):
        read("latin.toml")


def test_results_come_in_the_order_of_the_points_and_must_be_theirs(written):
    plan = written(RECIPE + "seeds = [1, 0]\n[[points]]\nepochs = 3\n")
    with pytest.raises(UsageError, match=r"'results/mine' holds no result of 'mine.toml'; run `synaprune sweep mine"):
        plan.found()
    plan.results.mkdir(parents=True)
    for point in plan.points:
        # Threads may differ: they are no setting of what is computed.
        settings = {**point.settings.to_mapping(), "threads": 2}
        record = {"point": point.label, "settings": settings, "metrics": {}, "seconds": 1.5}
        plan.result_path(point).write_text(json.dumps(record))
    assert [result["settings"]["seed"] for result in plan.found()] == [1, 0]
    other = written(RECIPE + "seeds = [1, 0]\n[settings]\nlr = 0.5\n[[points]]\nepochs = 3\n")
    with pytest.raises(UsageError) as raised:
        other.found()
    assert str(raised.value) == (
        "'results/mine/grad_r-epochs-3-seed1.json' was trained with lr = 0.02, and the sweep says 0.5;"
        " move it away, or name another folder under 'results'"
    )


def test_the_example_is_a_sweep():
    plan = read(Path(__file__).parents[2] / "examples" / "digits_sweep.toml")
    assert {point.label for point in plan.points} == {"dense", "grad_r-sparsity-0.9", "grad_r-sparsity-0.98"}
    assert {point.settings.epochs for point in plan.points} == {20}
