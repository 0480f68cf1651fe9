"""Recipes: settings in TOML files, each with its reasons; the package's own lie in `synaprune/recipes`."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from synaprune.errors import UsageError, nearest

__all__ = ["describe", "names", "read"]

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
    return _text(name).splitlines()[0].lstrip("# ")


def read(name: str) -> dict[str, Any]:
    """Return the settings of a recipe, given by its name or as a path to a `.toml` file.

    Raises:
        UsageError: no such recipe (the sentence ends with the nearest known name), or not TOML.

    """
    try:
        return tomllib.loads(_text(name))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"recipe '{name}' is not valid TOML: {error}") from error


def _text(name: str) -> str:
    """Return the text of a recipe."""
    if name.endswith(".toml"):
        try:
            return Path(name).read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise UsageError(f"there is no recipe file '{name}'") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"recipe '{name}' is not valid TOML: {error}") from error
    if name not in names():
        raise UsageError(f"unknown recipe '{name}'{nearest(name, names()) or '; `synaprune recipes` lists all'}")
    task, stem = name.split("/")
    return (_FOLDER / task / f"{stem}.toml").read_text(encoding="utf-8")
