"""Recipes: all of them parse, say what they are, and give reasons."""

from __future__ import annotations

import json
import tomllib
from importlib import resources

import pytest

from synaprune.errors import UsageError, short
from synaprune.train import recipes
from synaprune.train.fields import expected
from synaprune.train.settings import FIELDS, Settings

FOLDER = resources.files("synaprune") / "recipes"


def test_names_are_the_files():
    assert {"digits/grad_r", "digits/dense", "mnist/published", "cifar10/published"} <= set(recipes.names())


@pytest.mark.parametrize("name", recipes.names())
def test_recipe_parses_belongs_to_its_folder_and_gives_reasons(name):
    settings = Settings.from_mapping(recipes.read(name))
    assert settings.task == name.split("/")[0]
    assert len(recipes.describe(name)) > 20
    assert (FOLDER / f"{name}.toml").read_text().count("#") >= 5


def test_published_values():
    cifar10 = Settings.from_mapping(recipes.read("cifar10/published"))
    assert (cifar10.lr, cifar10.batch_size, cifar10.epochs) == (1e-4, 16, 2048)
    assert (cifar10.alpha, cifar10.sparsity, cifar10.width, cifar10.dropout) == (1e-3, 0.95, 256, 0.5)
    mnist = Settings.from_mapping(recipes.read("mnist/published"))
    assert (mnist.lr, mnist.batch_size, mnist.epochs, mnist.width) == (1e-3, 128, 30, 800)
    assert (mnist.alpha, mnist.loss, mnist.augment, mnist.augment_end) == (0.05, "mse", 1.0, None)


def test_a_recipe_may_be_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("# mine\nlr = 0.5\n")
    assert recipes.read(str(path)) == {"lr": 0.5}
    path.write_text("")
    assert recipes.describe(str(path)) == ""


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_editors_of_other_systems_write_is_read(tmp_path, mark, end):
    path = tmp_path / "mine.toml"
    path.write_bytes(f"{mark}# mine, θ{end}lr = 0.5{end}".encode())
    assert recipes.describe(str(path)) == "mine, θ"
    assert recipes.read(str(path)) == {"lr": 0.5}


NOT_FOR = {
    "task": ["", "mist", 1, True, ["digits"], {"a": 1}],
    "method": [["grad_r", "set"], {}, 1, "grad r"],
    "width": [0, -1, 1.5, "many", True, [1], "inf", "nan", "0x10" * 100],
    "lr": [0, -1e-3, True, "", [], "inf", "1e400", "-nan"],
    "alpha": [-1, "automatic", [0.1], False],
    "levels": [0.5, "0.5;0.6", [[0.5]], [True], [2], {}],
    "exclude": [1, [1], [["fc1"]], {"a": 1}, "a\x1b[2J", ["x" * 201]],
    "base": ["\x00", "x" * 201, 1, ["Adam"], "a\nb"],
    "compile": [1, "yes", [], 0.0],
    "seed": [-1, "2 ** 63", 2**63, 1.0],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in NOT_FOR.items() for value in values])
def test_a_value_of_another_kind_names_file_line_and_what_is_right(tmp_path, name, value):
    path = tmp_path / "mine.toml"
    said = (
        json.dumps(value) if not isinstance(value, dict) else f"{{{', '.join(f'{k} = {v}' for k, v in value.items())}}}"
    )
    path.write_text(f"# mine\n\n{name} = {said}\n")
    with pytest.raises(UsageError) as raised:
        recipes.read(str(path))
    sentence = str(raised.value)
    assert sentence.startswith(
        f"recipe '{path}': setting '{name}' must be {expected(FIELDS[name])}, not {short(value)}"
    )
    assert sentence.endswith(" (line 3)")


def test_every_default_may_stand_in_a_recipe(tmp_path):
    path = tmp_path / "mine.toml"
    values = {name: "none" if value is None else value for name, value in Settings().to_mapping().items()}
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
    assert Settings.from_mapping(recipes.read(str(path))) == Settings()


@pytest.mark.parametrize("name", ["x" * 10_000 + ".toml", "x" * 10_000, "a\x00b.toml", "a\x00b"])
def test_what_no_file_can_be_called_is_no_recipe(name):
    with pytest.raises(UsageError, match=r"there is no recipe file|unknown recipe") as raised:
        recipes.read(name)
    assert len(str(raised.value)) < 300
    assert str(raised.value).isprintable()


def test_another_method_drops_what_the_recipe_says_for_the_old_one():
    recipe = {"method": "grad_r", "alpha": 0.1, "lr": 0.5}
    assert recipes.override(recipe, {"method": "dense"}) == {"method": "dense", "lr": 0.5}
    assert recipes.override(recipe, {"method": "grad_r"}) == recipe
    assert recipes.override(recipe, {"lr": "1"}) == {**recipe, "lr": "1"}
    with pytest.raises(UsageError, match="'alpha' belongs to methods deep_r"):
        Settings.from_mapping(recipes.override(recipe, {"method": "dense", "alpha": "0.1"}))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("digits/gradr", "unknown recipe 'digits/gradr'; did you mean 'digits/grad_r'?"),
        ("zzz", "unknown recipe 'zzz'; `synaprune recipes` lists all"),
        ("nowhere.toml", "there is no recipe file 'nowhere.toml'"),
        ("folder.toml", "'folder.toml' is a folder, not a recipe file"),
        ("mine.txt", "'mine.txt' is no recipe; the name of a recipe file ends in .toml"),
    ],
)
def test_unknown_recipe(name, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UsageError) as raised:
        recipes.read(name)
    assert str(raised.value) == sentence


@pytest.mark.parametrize("content", [b"lr = ", b"\xff\xfe"])
def test_a_file_that_is_not_toml(tmp_path, content):
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="is not valid TOML") as raised:
        recipes.read(str(path))
    assert str(path) in str(raised.value)
    assert not isinstance(raised.value, tomllib.TOMLDecodeError)


def test_a_strength_and_a_budget_replace_each_other():
    published, best = recipes.read("mnist/published"), recipes.read("mnist/best")
    asked = Settings.from_mapping(recipes.override(published, {"sparsity": "0.98"}))
    assert (asked.alpha, asked.sparsity, asked.budget) == (None, 0.98, True)
    fixed = Settings.from_mapping(recipes.override(best, {"alpha": "0.1"}))
    assert (fixed.alpha, fixed.sparsity, fixed.schedule_flat, fixed.budget) == (0.1, None, None, False)
    both = Settings.from_mapping(recipes.override(best, {"alpha": "0.1", "sparsity": "0.8"}))
    assert (both.alpha, both.sparsity, both.budget) == (0.1, 0.8, False)


def test_another_method_takes_over_the_sparsity_and_no_strength():
    published, best = recipes.read("mnist/published"), recipes.read("mnist/best")
    drawn = Settings.from_mapping(recipes.override(published, {"method": "deep_r", "sparsity": "0.98"}))
    assert (drawn.alpha, drawn.sparsity) == (None, 0.98)
    solved = Settings.from_mapping(recipes.override(best, {"method": "lats"}))
    assert (solved.alpha, solved.sparsity, solved.schedule_flat, solved.course) == (None, 0.95, 0.5, "cubic")
    fixed = Settings.from_mapping(recipes.override(best, {"method": "stds", "threshold": "2"}))
    assert (fixed.threshold, fixed.sparsity, fixed.schedule_flat, fixed.course) == (2.0, None, None, "sine")
