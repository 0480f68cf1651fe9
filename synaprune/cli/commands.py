"""What each command does: `run(options, arguments)` for the parsed and for the given command line.

Thin: the library does the work. Heavy imports wait until a command needs them, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

from synaprune.cli import shared
from synaprune.errors import MachineError, UsageError, short
from synaprune.files import check_place
from synaprune.terminal import console, say
from synaprune.train import recipes
from synaprune.train.settings import Settings

__all__ = [
    "Interrupted",
    "bench_network",
    "evaluate_run",
    "export_run",
    "list_recipes",
    "only_prints",
    "run_sweep",
    "train_network",
    "watch_run",
    "write_report",
]


ENDED = "ended by torchrun, for it was interrupted itself or another process has failed"


class Interrupted(KeyboardInterrupt):
    """The process was asked to end by SIGTERM."""

    exit_code = 143


def only_prints(options: argparse.Namespace) -> bool:
    """Return whether a command leaves nothing behind but what it has printed."""
    if options.run is bench_network:
        return options.json is None
    if options.run is run_sweep:
        return options.list or options.table
    return options.run in (list_recipes, watch_run)


def train_network(options: argparse.Namespace, arguments: list[str]) -> None:
    """Train, then show the table and draw the figure."""
    known = {field.name for field in dataclasses.fields(Settings)}
    overrides = {name: value for name, value in vars(options).items() if name in known}
    recipe = recipes.read(options.recipe)
    settings = Settings.from_mapping(recipes.override(recipe, overrides))
    folder = options.out or Path("runs", f"{settings.task}-{Path(options.recipe).stem}-{settings.seed}")

    command = [*shared.launcher(), *arguments]
    again = shlex.join(command if options.resume else [*command, "--resume"])

    def words(by_torchrun: bool = True) -> str:
        cause = ENDED if by_torchrun else "interrupted"
        if (folder / "settings.json").exists():
            return f"{cause}; all finished epochs are saved, continue with: {again}"
        return f"{cause}; no epoch is finished, give the same command again" if by_torchrun else cause

    try:
        with shared.ending_in_time(words):
            _train(options, settings, folder, command)
    except KeyboardInterrupt as error:
        by_torchrun = isinstance(error, Interrupted) and shared.process()[1] > 1
        parallel = sys.modules.get("synaprune.train.parallel")  # which may be what was just being loaded
        if parallel is not None and not parallel.speaks(by_torchrun):
            raise SystemExit(getattr(error, "exit_code", 130)) from error
        raise type(error)(words(by_torchrun)) from error


def _train(options: argparse.Namespace, settings: Settings, folder: Path, command: list[str]) -> None:
    """Train; the first process shows what all have trained, and the others wait for it."""
    from synaprune.report import page, training_figure
    from synaprune.train import parallel, run
    from synaprune.train.display import Display
    from synaprune.train.loop import evaluate, train

    first = shared.process()[0] == 0
    with Display(console(stderr=True, quiet=not first)) as display:
        metrics = train(
            settings, folder, data_dir=options.data_dir, resume=options.resume, command=command, report=display
        )
    try:
        if not first:
            return
        _show(metrics, f"after epoch {metrics['epoch']} ({run.result(folder)['seconds']:.1f} s)")
        trained = run.Run(folder)
        if trained.evaluation(metrics["epoch"]) is None:
            trained.keep_evaluation(evaluate(folder, data_dir=options.data_dir))
        say(f"figure: {training_figure(folder)}")
        page.write(page.run_page(folder), trained.page_path)
        say(f"page: {trained.page_path}")
    finally:
        parallel.finish()


def evaluate_run(options: argparse.Namespace, arguments: list[str]) -> None:
    """Show what the checkpoint of a run can do."""
    from synaprune.train.display import measures
    from synaprune.train.loop import evaluate
    from synaprune.train.run import Run

    metrics = evaluate(options.folder, data_dir=options.data_dir, device=options.device)
    _show(metrics, f"after epoch {metrics['epoch']}")
    say(*measures(metrics))
    try:
        Run(options.folder).keep_evaluation(metrics)
    except OSError as error:  # the folder may be another's
        warnings.warn(f"the figures are not kept for the report ({error.strerror or error})", stacklevel=1)


def write_report(options: argparse.Namespace, arguments: list[str]) -> None:
    """Write the page of a run or of a comparison, and the figures for papers."""
    from synaprune.report import page, records
    from synaprune.report.compare_figures import AXES
    from synaprune.report.compare_page import comparison, comparison_page
    from synaprune.report.run_figures import run_figures
    from synaprune.train.run import Run

    places = options.places
    single = len(places) == 1 and records.is_run(places[0])
    if single and (options.show or options.axis is not None):
        raise UsageError(f"argument --{'show' if options.show else 'axis'}: only allowed with several runs or results")
    if options.axis not in (None, *AXES):
        raise UsageError(f"argument --axis: must be error or accuracy, not '{options.axis[:40]}'")
    choice = {"show": options.show, "axis": options.axis}
    out = options.out or (Run(places[0]).page_path if single else Path("report.html"))
    page.write(page.run_page(places[0]) if single else comparison_page(places, **choice), out)
    say(f"page: {out}")
    if options.figures is not None:
        from synaprune.report.paper import write_figures

        figures = run_figures(Run(places[0]))[0] if single else comparison(places, **choice)[1]
        written = write_figures(figures, options.figures)
        say(f"figures: {len(written)} files in {options.figures}")


def watch_run(options: argparse.Namespace, arguments: list[str]) -> None:
    """Show a run in the terminal, and with --live in the browser."""
    from synaprune.report.live import LiveServer
    from synaprune.report.watch import watch
    from synaprune.train.run import Run

    run = Run(options.folder)
    if options.port is not None and not options.live:
        raise UsageError("argument --port: only allowed with --live")
    if options.port is not None and not 0 <= options.port < 65536:
        raise UsageError(f"argument --port: must be from 0 to 65535, not {short(options.port)}")
    if not options.live:
        watch(run, console())
        return
    run.settings()  # what is no run is said before a server stands
    with LiveServer(run, options.port or 0) as server:
        say(f"page: {server.address} (Ctrl-C ends it)")
        sys.stdout.flush()
        watch(run, console())
        threading.Event().wait()  # the page stays up after the last epoch


def export_run(options: argparse.Namespace, arguments: list[str]) -> None:
    """Write a file, then show how small it is and what it can do."""
    if options.format != "sparse":
        raise UsageError(f"unknown format {short(options.format)}; there is sparse")
    from synaprune.train.export import export

    file = export(
        options.folder, options.output, values=options.values, data_dir=options.data_dir, measure=options.measure
    )
    say(f"{file.path}: {file.size:,} bytes, {file.size / max(1, file.synapses):.2f} per synapse")
    here = "" if file.accuracy is None else f"{file.accuracy:.2%} with weights as {options.values}, "
    say(f"{file.part} accuracy {here}{file.before:.2%} in the run")


def bench_network(options: argparse.Namespace, arguments: list[str]) -> None:
    """Show how fast the engine and PyTorch run a network."""
    if options.json is not None:
        check_place(options.json)
    # Else threads of PyTorch that have nothing to do spin on in the engine's turns; read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from synaprune.train.bench import agreement, bench, keep
    from synaprune.train.bench_display import agreeing, lines, table

    given = {name: getattr(options, name) for name in ("batch", "threads", "repeats", "data_dir")}
    measured = bench(options.place, **given)
    console().print(table(measured))
    say(*lines(measured))
    if options.json is not None:
        keep(measured, options.place, options.json)
    if options.agreement:
        say(agreeing(agreement(options.place, threads=options.threads, data_dir=options.data_dir)))


def run_sweep(options: argparse.Namespace, arguments: list[str]) -> None:
    """Train the points of a sweep, then show their means; or only say what there is."""
    from synaprune.train import results, sweep

    if options.jobs is not None and options.jobs < 1:
        raise UsageError(f"argument --jobs: must be at least 1, not {short(options.jobs)}")
    changes: dict[str, str] = {}
    for change in options.set:
        name, given, value = change.partition("=")
        if not given or name in changes:
            raise UsageError(f"argument --set: {short(change)} is not one NAME=VALUE for each name")
        changes[name] = value
    plan = sweep.read(options.file, changes, options.results)
    if options.table:
        say(*results.markdown(results.summary(plan.found())).split("\n"))
        return

    from synaprune.train import sweep_run
    from synaprune.train.sweep_display import SweepDisplay, means, where

    if options.list:
        for state in sweep_run.states(plan, options.runs):
            say(f"{state.point.name:{max(len(point.name) for point in plan.points)}}  {where(state)}")
        return
    try:
        with SweepDisplay(console(stderr=True)) as display:
            states = sweep_run.run(
                plan, jobs=options.jobs, data_dir=options.data_dir, runs=options.runs, report=display
            )
    except KeyboardInterrupt as error:
        again = shlex.join(["synaprune", *arguments])
        raise type(error)(f"interrupted; all finished epochs are saved, continue with: {again}") from error
    if any(state.state == "done" for state in states):
        rows = results.summary(plan.found())
        console().print(means(rows, plan.title))
    failed = [state for state in states if state.state == "failed"]
    for state in failed:
        say(f"{state.point.name}: {state.fault}", stderr=True)
    if failed:
        kind = UsageError if all(state.exit_code == UsageError.exit_code for state in failed) else MachineError
        folder = options.runs / plan.path.stem
        raise kind(
            f"{len(failed)} of {len(states)} points failed; '{folder}' has the log of each, the same command"
            " tries them again"
        )


def list_recipes(options: argparse.Namespace, arguments: list[str]) -> None:
    """List the recipes, or those whose names begin with what was asked for, each with its first comment line."""
    names = [name for name in recipes.names() if name.startswith(options.prefix)]
    if not names:
        tasks = ", ".join(sorted({name.partition("/")[0] for name in recipes.names()}))
        raise UsageError(f"no recipe begins with '{options.prefix}'; the tasks are {tasks}")
    for name in names:
        say(f"{name:{max(map(len, names))}}  {recipes.describe(name)}")


def _show(metrics: dict[str, Any], when: str) -> None:
    """Print the table of layers and the line that counts."""
    from synaprune.train.display import accuracy, show

    part, value = accuracy(metrics)
    show(metrics, console())
    say(f"{part} accuracy {value:.2%} at {metrics['connectivity']:.2%} connectivity, {when}")
