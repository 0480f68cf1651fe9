"""Recipes: settings in TOML files, each with its reasons; the package's own lie in `synaprune/recipes`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from synaprune.errors import UsageError, nearest, short
from synaprune.reading import content, decoded, from_toml, line_of, named
from synaprune.train.fields import convert
from synaprune.train.settings import BUDGET, FIELDS, FORMS, STRENGTH, methods_of

__all__ = ["describe", "names", "override", "read"]

NO_STRENGTH = ("auto", "none", None)  # strengths that ask for a budget
LONGEST = 200  # characters of a path that are shown
_FOLDER = resources.files("synaprune") / "recipes"


def names() -> list[str]:
    """Return the names of the package's recipes, such as `digits/grad_r`."""
    return sorted(
        f"{task.name}/{recipe.name.removesuffix('.toml')}"
        for task in _FOLDER.iterdir()
        if task.is_dir()
        for recipe in task.iterdir()
        if recipe.name.endswith(".toml")
    )


def describe(name: str) -> str:
    """Return the first comment line of a recipe: what it is."""
    return _text(name).partition("\n")[0].strip("# \r")


def read(name: str) -> dict[str, Any]:
    """Return the settings of a recipe, given by its name or as a path to a `.toml` file.

    Raises:
        UsageError: no such recipe (the sentence ends with the nearest known name), not TOML, an unknown setting, or a
            value that one cannot have.

    """
    text = _text(name)
    with named(f"recipe '{name}'"):
        values = from_toml(text)
    for setting, value in values.items():
        if setting not in FIELDS:
            raise UsageError(f"unknown setting {short(setting)} in recipe '{name}'{nearest(setting, FIELDS)}")
        try:
            convert(FIELDS[setting], value)
        except UsageError as error:
            raise UsageError(f"recipe '{name}': {error}{line_of(text, setting)}") from error
    return values


def override(recipe: dict[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
    """Return the recipe with `flags` in place of its values.

    Another method takes over how many synapses it shall leave, not how strongly the old one pruned. A sparsity without
    a strength (or a budget in another form) makes the recipe's strength go; a strength in numbers makes its budget go.

    >>> override({"method": "grad_r", "alpha": 0.1, "lr": 0.5}, {"method": "dense"})
    {'method': 'dense', 'lr': 0.5}
    >>> override({"alpha": 0.1, "lr": 0.5}, {"sparsity": 0.98})
    {'lr': 0.5, 'sparsity': 0.98}
    >>> override({"sparsity": 0.95, "lr": 0.5}, {"synapses": 500})
    {'lr': 0.5, 'synapses': 500}
    """
    gone = {*FORMS} if any(form in flags for form in FORMS) else set()
    old = recipe.get("method", "grad_r")
    method = flags.get("method", old)
    strength = STRENGTH.get(method, "")
    if method != old:
        gone |= {name for name in recipe if methods_of(name) and method not in methods_of(name)}
        gone |= {*STRENGTH.values()}
    if strength and flags.get(strength) not in NO_STRENGTH:
        gone |= {*FORMS, *BUDGET}
    elif any(form in flags for form in FORMS) and strength not in flags and recipe.get(strength) not in NO_STRENGTH:
        gone |= {strength}
    return {**{name: value for name, value in recipe.items() if name not in gone}, **flags}


def _text(name: str) -> str:
    """Return the text of a recipe."""
    if name in names():
        return (_FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    if not name.endswith(".toml"):
        if _is_there(name):
            raise UsageError(f"{short(name, LONGEST)} is no recipe; the name of a recipe file ends in .toml")
        raise UsageError(f"unknown recipe {short(name)}{nearest(name, names()) or '; `synaprune recipes` lists all'}")
    if not _is_there(name):
        raise UsageError(f"there is no recipe file {short(name, LONGEST)}")
    if Path(name).is_dir():
        raise UsageError(f"'{name}' is a folder, not a recipe file")
    with named(f"recipe '{name}' is not valid TOML: it"):
        return decoded(content(Path(name)))


def _is_there(name: str) -> bool:
    """Whether a path is there; no path is too long, or holds what none can."""
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False
