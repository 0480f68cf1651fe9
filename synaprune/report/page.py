"""The page of one run."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synaprune.errors import MachineError, UsageError
from synaprune.files import replacing
from synaprune.report import html
from synaprune.report.course import Course
from synaprune.report.figure import percent
from synaprune.report.names import method_name, part_of
from synaprune.report.run_figures import run_figures
from synaprune.train.run import Run

__all__ = ["run_page", "write"]


def run_page(folder: str | os.PathLike[str], live: str = "", course: Course | None = None) -> str:
    """Return the page of a run, also of one that is not finished.

    Args:
        folder: of the run.
        live: a script that keeps the page fresh; see `synaprune.report.live`.
        course: of the run, if it is followed; only what is new is then read.

    Raises:
        UsageError: the folder holds no run, no epoch of it is finished, or its files are damaged.

    """
    run = Run(folder)
    settings, course = run.settings().to_mapping(), course or Course(run)
    course.follow()
    if not course.epochs:
        raise UsageError(f"'{run.folder}' has no finished epoch to report")
    header, last, evaluation = run.header(), course.epochs[-1], run.evaluation(course.finished)
    figures, missing = run_figures(run, course)
    title = f"{settings['task']}, {method_name(settings)}, seed {settings['seed']}"
    kept = len(course.epochs)
    thinned = f"; {kept} of them are drawn, and the last" if kept < course.finished else ""
    body = [
        f"<header><h1>{html.text(title)}</h1>",
        f'<p class="note">{html.text(run.folder.resolve().name)}, after epoch {course.finished} of'
        f" {settings['epochs']}{thinned}</p>",
        html.tiles(_tiles(last, evaluation, course.seconds)),
        "</header>",
        html.missing(missing),
        "<main>",
        '<div class="grid">',
        *map(html.figure, figures),
        "</div>",
        _origin(header, settings, evaluation),
        "</main>",
        "<footer>Written by synaprune. Connectivity is existing synapses over all synapses of the layers shown; biases"
        " and normalisation do not count.</footer>",
    ]
    return html.document(title, body, figures, live)


def write(page: str, path: Path) -> None:
    """Write a page; a file that is there is replaced only by a whole one.

    Raises:
        UsageError: the path cannot be a file.
        MachineError: it cannot be written.

    """
    if path.is_dir():
        raise UsageError(f"'{path}' is a folder; name a file with -o")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder '{path.parent}' for the page; make it, or name another file with -o")
    try:
        with replacing(path) as file:
            file.write(page.encode("utf-8", "replace"))
    except MachineError:
        raise
    except OSError as error:
        raise MachineError(f"the page '{path}' cannot be written ({error.strerror})") from error


def _tiles(last: Mapping[str, Any], evaluation: Mapping[str, Any] | None, seconds: float) -> list[tuple[str, str]]:
    """Return the figures at the head of the page."""
    part, layers = part_of(last), last["layers"].values()
    left, synapses = (sum(layer[key] for layer in layers) for key in ("left", "synapses"))
    pairs = [
        (f"{part} accuracy", percent(last[f"{part}_accuracy"])),
        ("connectivity", percent(last["connectivity"])),
        (f"of {synapses:,} synapses", f"{left:,}"),
    ]
    if evaluation is not None and "operations" in evaluation:
        counts = evaluation["operations"]["total"]
        pairs += [
            ("SOPs per image", f"{counts['effective_acs']:,.0f}"),
            ("MACs per image", f"{counts['effective_macs']:,.0f}"),
        ]
    if evaluation is not None and "energy" in evaluation:
        pairs.append(("energy per image", f"{evaluation['energy']['total_pj'] / 1e3:,.3g} nJ"))
    return [*pairs, ("training", f"{seconds:,.0f} s")]


def _origin(header: Mapping[str, Any], settings: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> str:
    """Return how the run came about, and how to repeat it."""
    machine = header.get("machine") or {}
    gpu = machine.get("gpu")
    facts = {
        "seed": settings["seed"],
        "started": header.get("started", "unknown"),
        "commit": header.get("commit") or "unknown: not run from a checkout",
        **(header.get("versions") or {}),
        "processor": f"{machine.get('processor', 'unknown')}, {machine.get('threads', '?')} threads",
        **({"GPU": gpu} if gpu else {}),
    }
    command = header.get("command")
    again = shlex.join(map(str, command)) if command else "not recorded: the run was not started by the command line"
    values = {name: json.dumps(value) if not isinstance(value, str) else value for name, value in settings.items()}
    three = (evaluation or {}).get("connectivities")
    if three:
        facts |= {
            "connectivity by weights": percent(three["weights"]),
            "over all parameters": percent(three["parameters"]),
            "of real connections": percent(three["connections"]),
        }
    return (
        "<section><h2>How it came about</h2><p>The command that repeats it:</p>"
        f"<pre><code>{html.text(again)}</code></pre>"
        f"{html.listing(facts)}{html.details('Settings', html.listing(values))}</section>"
    )
