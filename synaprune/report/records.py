"""What a comparison is made of: run folders, result files, and folders of either."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from synaprune.errors import UsageError
from synaprune.reading import named
from synaprune.report.names import along, asked_for, has_budget, labels, method_name, part_of
from synaprune.train import results
from synaprune.train.forms import judged
from synaprune.train.run import REMEDY, Run

__all__ = ["Record", "gather", "group_names", "is_run", "one_curve"]


@dataclass(frozen=True)
class Record:
    """One trained network: a run, or the result of a sweep's point.

    Attributes:
        name: of its folder or file.
        settings: as it was trained.
        metrics: of its last epoch, with all that was measured then.
        seconds: of training.
        epochs: the metrics of all epochs; none for a result, which has only the last.
        given: what a sweep calls its point, if it is of one.
        sweep: the name of that sweep.
        machine: that it was trained on, as far as is known.
        point: what it shares with the same settings under other seeds.
        series: the curve that its point lies on.
        family: the name of the curve without that of its sweep.
    """

    name: str
    settings: dict[str, Any]
    metrics: dict[str, Any]
    seconds: float
    epochs: Sequence[dict[str, Any]] = ()
    given: str = ""
    sweep: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict)
    point: str = field(default="", compare=False)
    series: str = field(default="", compare=False)
    family: str = field(default="", compare=False)


def is_run(path: str | os.PathLike[str]) -> bool:
    """Whether this is the folder of a run."""
    return Run(path).settings_path.is_file()


def gather(paths: Iterable[str | os.PathLike[str]]) -> tuple[list[Record], list[str]]:
    """Return the records at these places, named and in the order given, and in words what is missing.

    Raises:
        UsageError: a place that holds neither run nor result, or a damaged one; nothing with a finished epoch; records
            of different tasks, or judged on different images.

    """
    found: list[Record] = []
    missing: list[str] = []
    for path in paths:
        for record in _records(Path(path)):
            if isinstance(record, str):
                missing.append(record)
            elif record.epochs and len(record.epochs) < record.settings.get("epochs", 0):
                missing.append(
                    f"'{record.name}' is not finished: it stands at epoch {len(record.epochs)} of"
                    f" {record.settings['epochs']}."
                )
                found.append(record)
            else:
                found.append(record)
    if not found:
        raise UsageError(missing[0].rstrip(".") if missing else "there is nothing to compare; name runs or results")
    _check_comparable(found)
    return _named(found), missing


def _named(records: Sequence[Record]) -> list[Record]:
    """Return the records with point and curve; by the names that a sweep gave, where those tell all points apart."""
    points, curves = _apart(records, *labels([record.settings for record in records]))
    short = [record.given for record in records]
    for given in (short, [f"{record.sweep}: {record.given}" for record in records]):
        if all(short) and len(set(given)) == len(set(points)) == len(set(zip(given, points))):
            points = given
            break
    named = [replace(r, point=point, series=curve, family=curve) for r, point, curve in zip(records, points, curves)]
    groups, on_curve = _by(named, [name for name, _ in group_names(named)]), _by(named, curves)
    whole = {group for group, members in groups.items() if _is_whole(members, on_curve)}
    found = []
    for record, (group, family) in zip(named, group_names(named)):
        if group in whole:
            record = replace(record, series=group, family=family)
        elif len({other.point for other in on_curve[record.series]}) == 1:
            record = replace(record, series=record.point, family=record.point)
        found.append(record)
    return found


def _apart(records: Sequence[Record], points: list[str], curves: list[str]) -> tuple[list[str], list[str]]:
    """Tell points of several sweeps apart that have the same settings and a seed in common, and their curves.

    They were made twice, and are no sample over seeds; where all seeds differ, one sweep adds to the other.
    """
    sweeps: dict[Any, set[str]] = {}
    for record, point in zip(records, points):
        sweeps.setdefault((point, record.settings.get("seed")), set()).add(record.sweep)
    twice = {point for (point, _), names in sweeps.items() if len(names) > 1}
    parted = {curve for point, curve in zip(points, curves) if point in twice}
    return (
        [f"{r.sweep}: {point}" if point in twice else point for r, point in zip(records, points)],
        [f"{curve} · {r.sweep}" if curve in parted else curve for r, curve in zip(records, curves)],
    )


def _by(records: Sequence[Record], keys: Sequence[str]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record, key in zip(records, keys):
        found.setdefault(key, []).append(record)
    return found


def _is_whole(members: Sequence[Record], on_curve: Mapping[str, Sequence[Record]]) -> bool:
    """Tell whether a sweep's points of a method are one curve.

    Where no number of synapses occurs twice, all else in which they differ was chosen for it. A curve of points of
    several sweeps that differ in nothing else is none of a single sweep, which a single point of a sweep may be.
    """
    sweeps = {other.sweep for series in {record.series for record in members} for other in on_curve[series]}
    every = {record.sweep for some in on_curve.values() for record in some}
    if len(sweeps) > 1:
        return False
    return one_curve(members) or (len(every) > 1 and len({record.point for record in members}) == 1)


def group_names(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Return for each record its method with its sweep, where there are several, and without.

    Where a method is there with a budget and with a fixed strength, those are two.

    >>> group_names([Record("a", {"method": "set"}, {}, 1.0, sweep="one"), Record("b", {}, {}, 1.0, sweep="two")])[0]
    ('SET · one', 'SET')
    """
    kinds = {(record.settings.get("method"), has_budget(record.settings)) for record in records}
    several = len({record.sweep for record in records}) > 1
    names = []
    for record in records:
        name = method_name(record.settings)
        if not has_budget(record.settings) and (record.settings.get("method"), True) in kinds:
            name += f", {asked_for(record.settings)}"
        names.append((f"{name} · {record.sweep}" if several and record.sweep else name, name))
    return names


def one_curve(records: Sequence[Record]) -> bool:
    """Tell whether no two points of one method keep the same number of synapses, seeds aside."""
    asked = [tuple(record.settings.get(name) for name in along(record.settings)) for record in records]
    seeds = [record.settings.get("seed") for record in records]
    return len(set(zip(asked, seeds))) == len(records) and len(set(asked)) > 1


def _records(path: Path) -> Iterator[Record | str]:
    """Yield what lies at a place: records, and a sentence for each run that has no finished epoch."""
    if is_run(path):
        yield _of_run(Run(path))
        return
    if path.is_file() or (path.is_symlink() and not path.exists()):
        yield _of_result(path)
        return
    if not path.is_dir():
        raise UsageError(f"there is no run and no result '{path}'")
    files = sorted(path.glob("*.json"))
    folders = sorted(folder for folder in path.iterdir() if is_run(folder))
    if not files and not folders:
        raise UsageError(f"'{path}' holds neither a run nor results; name the folder of a run, or one with such in it")
    for folder in folders:
        yield _of_run(Run(folder))
    for file in files:
        yield _of_result(file)


def _of_run(run: Run) -> Record | str:
    settings, epochs = run.settings().to_mapping(), run.epochs()
    if not epochs:
        return f"'{run.folder}' has no finished epoch to report."
    metrics = epochs[-1] | (run.evaluation(len(epochs)) or {})
    with named(f"'{run.metrics_path}'", REMEDY):
        judged(metrics)
    name = run.folder.resolve().name
    given, of_sweep, _ = name.rpartition(f"-seed{settings['seed']}")
    seconds = sum(epoch["seconds"] for epoch in epochs)
    sweep = run.folder.resolve().parent.name
    machine = run.header().get("machine") or {}
    return Record(name, settings, metrics, seconds, epochs, given if of_sweep else "", sweep, machine)


def _of_result(path: Path) -> Record:
    result = results.load(path)
    with named(f"result '{path}' is damaged: it", results.REMEDY):
        judged(result["metrics"], ("metrics",))
    given, sweep = result["point"], result.get("sweep") or path.resolve().parent.name
    return Record(
        path.stem, result["settings"], result["metrics"], result["seconds"], given=given, sweep=sweep,
        machine=result.get("machine") or {},
    )  # fmt: skip


def _check_comparable(found: Sequence[Record]) -> None:
    """Refuse what no figure can hold side by side."""
    first = found[0]
    for other in found[1:]:
        one, two = first.settings.get("task"), other.settings.get("task")
        if one != two:
            raise UsageError(f"'{first.name}' is of task {one} and '{other.name}' of {two}; compare runs of one task")
        one, two = part_of(first.metrics), part_of(other.metrics)
        if one != two:
            raise UsageError(
                f"'{first.name}' was judged on the {one} images and '{other.name}' on the {two} images; compare runs"
                " judged on the same"
            )
