"""Sweep files: a recipe, grids of settings to change in it, and seeds; each combination is one point.

    # MNIST: accuracy against the strength of the prior
    recipe = "mnist/published"        # name, or path of a .toml file as seen from this one
    results = "results/published"     # one file per point, from where the command is given [results/<this file>]
    seeds = [0, 1, 2]                 # [the recipe's own]

    [settings]                        # changed in all points
    threads = 1

    [[points]]                        # a grid: every list is crossed with every other
    alpha = [0.01, 0.05, 0.2]         # a list within the list is one value: exclude = [["fc1.*", "fc2.*"], []]

    [[points]]
    name = "dense"                    # stands for all of the table that is not a list
    method = "dense"                  # another method takes nothing over from the recipe's
    seeds = [0]                       # in place of those above

Points are named after their method and what their table changes: `grad_r-alpha-0.05-seed0`.

This file imports nothing heavy: what is wrong with a sweep is said at once.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from synaprune.errors import UsageError, nearest, short
from synaprune.reading import content, decoded, from_toml, line_of, named
from synaprune.train import recipes, results, schedule
from synaprune.train.fields import convert
from synaprune.train.settings import FIELDS, Settings

__all__ = ["Point", "Sweep", "flag", "read"]

KEYS = ("recipe", "results", "seeds", "settings", "points")
MOST = 10_000  # points of a sweep
FOLDER = re.compile(r"[^\x00-\x1f\x7f]{1,1000}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")  # what every file system takes, and a shell without quotes


@dataclasses.dataclass(frozen=True)
class Point:
    """One training run of a sweep: its settings, and the flags of `synaprune train` that give them."""

    label: str  # what the point is, the same for all seeds
    settings: Settings
    flags: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the point's files."""
        return f"{self.label}-seed{self.settings.seed}"

    def check(self, before: Settings, source: Path, remedy: str) -> None:
        """Check that what was trained before is this point.

        Raises:
            UsageError: it had other settings.

        """
        name = self.settings.difference(before)
        if name is not None:
            old, new = getattr(before, name), getattr(self.settings, name)
            raise UsageError(
                f"'{source}' was trained with {name} = {old!s:.60}, and the sweep says {new!s:.60}; {remedy}"
            )


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What a sweep file asks for. All points of the first seed come first, so that curves appear early."""

    path: Path
    title: str
    recipe: str
    results: Path
    points: tuple[Point, ...]

    def result_path(self, point: Point) -> Path:
        """Where the result of a point lies."""
        return self.results / f"{point.name}.json"

    def tails(self, point: Point) -> dict[str, Path]:
        """Where the results of the tails lie that branch off a point's descent, by the tails' folders."""
        return {
            f"{sparsity:g}": self.results / f"{point.label}-tail-{sparsity:g}-seed{point.settings.seed}.json"
            for sparsity in schedule.stops(point.settings).values()
        }

    def result(self, point: Point) -> dict[str, Any] | None:
        """Return the result of a point, None where it is not whole yet: a descent has its tails' too.

        Raises:
            UsageError: it is damaged, or of other settings.

        """
        path = self.result_path(point)
        if not all(map(os.path.lexists, (path, *self.tails(point).values()))):  # a link to nowhere is said to be one
            return None
        found = results.load(path)
        before = Settings.from_mapping(found["settings"], source=f"'{path}'")
        point.check(before, path, "move it away, or name another folder under 'results'")
        return found

    def found(self) -> list[dict[str, Any]]:
        """Return the results that are there, in the order of the points; raises as `result`, and where none is."""
        found = []
        for point in self.points:
            result = self.result(point)
            if result is not None:
                found += [result, *map(results.load, self.tails(point).values())]
        if not found:
            raise UsageError(f"'{self.results}' holds no result of '{self.path}'; run `synaprune sweep {self.path}`")
        return found

    def command(self, point: Point) -> str:
        """Return the command that trains a point, with its folders left to the defaults."""
        return shlex.join(["synaprune", "train", self.recipe, *point.flags])


def read(
    path: str | os.PathLike[str], changes: Mapping[str, str] | None = None, folder: str | os.PathLike[str] | None = None
) -> Sweep:
    """Return the sweep that a file describes, all its points checked.

    Args:
        path: the file.
        changes: settings that all points have instead of the file's, as the command line writes them.
        folder: where the results go instead of where the file says.

    Raises:
        UsageError: no such file, an unknown key, a bad value, an impossible combination, two points of one name.

    """
    path = Path(path)
    source = f"sweep '{path}'"
    text = _text(path)
    with named(source):
        plan = from_toml(text)
    with _within(source):
        _check_keys(plan)
        name, recipe = _recipe(plan.get("recipe"), path.parent)
        common = _converted(plan["settings"], _Place("[settings]", text)) if "settings" in plan else {}
        changed = _converted(dict(changes or {}), _Place("--set"))
        seeds = _seeds(plan["seeds"]) if "seeds" in plan else [Settings.from_mapping(recipe).seed]
        tables = [
            _table(table, _Place(f"[[points]] {number}", text, number), recipe, common, seeds, changed)
            for number, table in enumerate(plan.get("points", [{}]), 1)
        ]
        ranked = list(itertools.islice(itertools.chain.from_iterable(tables), MOST + 1))
        if len(ranked) > MOST:
            raise UsageError(f"it has more than {MOST:,} points; make several sweeps of it")
        points = tuple(point for _, point in sorted(ranked, key=lambda pair: pair[0]))
        _check_names(points)
    title = text.partition("\n")[0].rstrip()
    title = title.lstrip("# ") if title.startswith("#") else path.stem
    return Sweep(path, title, name, Path(folder or plan.get("results", Path("results", path.stem))), points)


def flag(name: str, value: Any) -> str:
    """Return the flag of `synaprune train` that gives a setting this value.

    >>> flag("weight_decay", None), flag("exclude", ("fc1.*", "fc2.*")), flag("compile", False)
    ('--weight-decay=none', '--exclude=fc1.*,fc2.*', '--no-compile')
    """
    option = name.replace("_", "-")
    if isinstance(getattr(Settings, name), bool):  # the default
        return f"--{option}" if value else f"--no-{option}"
    return f"--{option}={_word(value)}"


class _Place(NamedTuple):
    """A table as sentences call it, and where it is in the text of the file, if it is there."""

    words: str
    text: str = ""
    number: int = 0

    def line(self, name: str) -> str:
        """Say in which line a setting is."""
        return line_of(self.text, name, self.number)


def _text(path: Path) -> str:
    """Return the text of a sweep file."""
    if path.is_dir():
        raise UsageError(f"'{path}' is a folder, not a sweep file")
    try:
        with named(f"sweep '{path}' is not valid TOML: it"):
            return decoded(content(path))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"there is no sweep file '{path}'") from error


def _check_keys(plan: Mapping[str, Any]) -> None:
    """Check the top level of the file: known keys, each of its kind."""
    for key in plan:
        if key in FIELDS:
            raise UsageError(f"setting '{key}' stands alone; move it into [settings] or [[points]]")
        if key not in KEYS:
            raise UsageError(f"unknown key {short(key)}{nearest(key, KEYS) or '; there are ' + ', '.join(KEYS)}")
    folder = plan.get("results", "results")
    if not isinstance(folder, str) or not FOLDER.fullmatch(folder):
        raise UsageError(f"'results' must be the name of a folder, not {short(folder)}")
    points = plan.get("points", [{}])
    if not isinstance(points, list) or not points or not all(isinstance(table, dict) for table in points):
        raise UsageError("'points' must be tables; head each with [[points]]")


def _recipe(name: object, folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the recipe as `synaprune train` would be given it, and its settings."""
    if not isinstance(name, str):
        fault = "there is no recipe" if name is None else f"'recipe' must be a name, not {short(name)}"
        raise UsageError(f'{fault}; name one, such as recipe = "digits/grad_r"')
    if name not in recipes.names() and name.endswith(".toml"):
        name = os.path.relpath(folder / name)  # names no folder of this machine
    recipe = recipes.read(name)
    Settings.from_mapping(recipe, source=f"recipe '{name}'")
    return name, recipe


def _table(
    table: Mapping[str, Any],
    where: _Place,
    recipe: dict[str, Any],
    common: dict[str, Any],
    seeds: list[int],
    changed: dict[str, Any],
) -> Iterator[tuple[int, Point]]:
    """Yield the points of one table, each after the rank of its seed."""
    table = dict(table)
    name, own = table.pop("name", None), table.pop("seeds", None)
    with _within(where.words):
        if not isinstance(name, str | None) or name == "":
            raise UsageError(f"'name' must be a name, not {short(name)}")
        seeds = seeds if own is None else _seeds(own)
        empty = next((key for key, value in table.items() if value == []), None)
        if empty is not None:
            raise UsageError(f"the list {short(empty)} is empty; give it a value")
    axes = {key: value if isinstance(value, list) else [value] for key, value in table.items()}
    swept = next((key for key in changed if isinstance(table.get(key), list)), None)
    if swept is not None:
        raise UsageError(f"--set: setting '{swept}' is what {where.words} goes through; leave it out")
    for combination in itertools.product(*axes.values()):
        changes = _converted(dict(zip(axes, combination)), where)
        changes |= {key: value for key, value in changed.items() if key in changes}
        flags = recipes.override(recipes.override(common, changes), changed)
        values = recipes.override(recipe, flags)
        shown = {key: _word(value) for key, value in changes.items() if name is None or isinstance(table[key], list)}
        method = shown.pop("method", None if name else values.get("method", Settings.method))
        label = "-".join(filter(None, [name, method, *(f"{key}-{word or 'none'}" for key, word in shown.items())]))
        for rank, seed in enumerate(seeds):
            try:
                settings = Settings.from_mapping({**values, "seed": seed})
            except UsageError as error:
                raise UsageError(
                    f"point {short(label)} cannot be: {error}; take this combination out of {where.words}"
                ) from error
            yield rank, Point(label, settings, tuple(flag(*item) for item in {**flags, "seed": seed}.items()))


def _converted(table: object, where: _Place) -> dict[str, Any]:
    """Return the settings of a table as their own types, each such that a flag can say it."""
    with _within(where.words):
        if not isinstance(table, dict):
            raise UsageError(f"this must be a table of settings, not {short(table)}")
        for name in table:
            if name in ("seed", "seeds", "name"):
                raise UsageError(f"'{name}' cannot be given here; a list 'seeds' and, in [[points]], 'name' can")
            if name not in FIELDS:
                hint = nearest(name, FIELDS) or "; `synaprune train --help` lists all"
                raise UsageError(f"unknown setting {short(name)}{hint}")
        values = {}
        for name, value in table.items():
            try:
                values[name] = convert(FIELDS[name], value)
            except UsageError as error:
                raise UsageError(f"{error}{where.line(name)}") from error
            if convert(FIELDS[name], _word(values[name])) != values[name]:
                raise UsageError(
                    f"setting '{name}' cannot be {short(value)}, which no flag of the command line can say"
                    f"{where.line(name)}"
                )
        return values


def _word(value: Any) -> str:
    """Return a value of a setting as the command line is given it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _seeds(seeds: object) -> list[int]:
    """Return a list of seeds, checked."""
    if not isinstance(seeds, list) or not seeds or len(set(map(short, seeds))) < len(seeds):
        raise UsageError(f"'seeds' must be a list of different whole numbers, not {short(seeds)}")
    return [convert(FIELDS["seed"], seed) for seed in seeds]


def _check_names(points: tuple[Point, ...]) -> None:
    """Check that each point can have files of its own."""
    seen: set[str] = set()
    for point in points:
        if not NAME.fullmatch(point.label):
            raise UsageError(
                f"{short(point.label)} cannot name a file; give its [[points]] table a 'name' of letters, digits and"
                " ._+-, and each such value a table of its own"
            )
        if point.name.lower() in seen:  # some file systems hold Adam and adam for the same
            raise UsageError(f"two points are named '{point.name}'; tell their [[points]] tables apart by 'name'")
        seen.add(point.name.lower())


@contextmanager
def _within(place: str) -> Iterator[None]:
    """Say in which place of the file a fault lies."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from error
