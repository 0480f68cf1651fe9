"""The command line: `train`, `eval`, `report`, `watch`, `export`, `bench`, `sweep`, `recipes`.

Thin: the library does the work. Heavy imports wait until a command needs them, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import os
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from synaprune.errors import MachineError, UsageError, nearest
from synaprune.files import check_place
from synaprune.train import recipes
from synaprune.train.settings import Settings, expected, metavar, switch

__all__ = ["main"]

# The groups of `train --help`, each by its first setting.
GROUPS = {
    "task": "data and network",
    "method": "method",
    "base": "optimizer and loss",
    "augment": "augmentation",
    "holdout": "run and machine",
}
PLAIN_WIDTH = 100  # columns of what goes to a file or a pipe


class _Interrupted(KeyboardInterrupt):
    """The process was asked to end by SIGTERM."""


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one sentence, raised for `main` to print."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Say which argument this command does not know."""
        flag = next((argument for argument in unknown if argument.startswith("-")), None)
        if flag is None:
            raise UsageError(f"unexpected argument '{unknown[0]}'")
        flag = flag.split("=")[0]
        # Dashes say nothing: by them alone any two flags would be akin.
        known = [option.lstrip("-") for option in self._option_string_actions]
        hint = nearest(flag.lstrip("-"), known).replace("'", "'--", 1)
        raise UsageError(f"unknown option '{flag}'{hint}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Check the name of a command, the only argument with choices of argparse's own."""
        known: Iterable[str] = action.choices or (value,)
        if value not in known:
            raise UsageError(f"unknown command '{value}'{nearest(value, known) or '; there are ' + ', '.join(known)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0, 1 (the machine), 2 (the request), 130 or 143 (interrupted)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what a terminal cannot show is no reason to fail
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        options, unknown = _parser().parse_known_args(arguments)
        if unknown:
            options.parser.refuse(unknown)
        if options.run is not _train and _process()[1] > 1:
            raise UsageError("only train can be shared out by torchrun; give this command without it")
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            options.run(options, arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody listens any more; what is still in the buffer must not be tried again at the very end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except BaseException as error:
        verdict = _verdict(error)
        if verdict is None:
            raise
        return _complain(*verdict)
    finally:
        signal.signal(signal.SIGTERM, previous)
    return 0


def _verdict(error: BaseException) -> tuple[str, int] | None:
    """Return the sentence and the exit code for an error, or None for one that is a bug, or a plain exit."""
    # An import that is interrupted may end in another error, which was raised on the way out.
    interrupt = next((link for link in _chain(error) if isinstance(link, KeyboardInterrupt)), None)
    if interrupt is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process is ending; a second Ctrl-C has nothing to add
        return str(interrupt) or "interrupted", 143 if isinstance(interrupt, _Interrupted) else 130
    if isinstance(error, ModuleNotFoundError):
        from synaprune.data.files import absent

        error = absent(error, "this command") or error
    if isinstance(error, UsageError | MachineError):
        return str(error), error.exit_code
    if isinstance(error, OSError):
        place = f": '{error.filename}'" if error.filename else ""
        return f"{error.strerror or error}{place}", 1
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and those in whose handling it was raised."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _parser() -> argparse.ArgumentParser:
    """Return the parser; the flags of `train` are the fields of `Settings`."""
    parser = _Parser(prog="synaprune", description="Train spiking networks that keep only the synapses they need.")
    parser.add_argument("--version", action="version", version=f"synaprune {metadata.version('synaprune')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train",
        help="train a network by a recipe",
        usage="synaprune train RECIPE [--out DIR] [--resume] [--data-dir DIR] [--SETTING VALUE ...]",
        description="Train by a recipe. A flag beats the recipe, and the recipe beats the default in brackets.",
        epilog="example: synaprune train digits/grad_r --alpha 0.2 --out runs/sparser",
        allow_abbrev=False,
    )
    train.set_defaults(run=_train, parser=train)
    train.add_argument("recipe", metavar="RECIPE", help="name such as digits/grad_r, or path of a .toml file")
    train.add_argument("--out", metavar="DIR", type=Path, help="folder of the run [runs/TASK-RECIPE-SEED]")
    train.add_argument("--resume", action="store_true", help="continue the run in its folder")
    train.add_argument("--data-dir", metavar="DIR", type=Path, help="where data files lie [$SYNAPRUNE_DATA]")
    for field in dataclasses.fields(Settings):
        if field.name in GROUPS:
            group = train.add_argument_group(GROUPS[field.name])
        word = metavar(field.name)
        values = "" if word.startswith("{") else f" ({expected(field.name)})"  # else the word says it
        text = f"{field.metadata['help']}{values} [{_shown(field.default)}]".replace("%", "%%")
        flag: dict[str, Any] = {"metavar": word}
        if switch(field.name):
            flag = {"action": argparse.BooleanOptionalAction}
        name = "--" + field.name.replace("_", "-")
        group.add_argument(name, dest=field.name, default=argparse.SUPPRESS, help=text, **flag)

    evaluate = commands.add_parser("eval", help="measure a trained network anew", allow_abbrev=False)
    evaluate.set_defaults(run=_eval, parser=evaluate)
    evaluate.add_argument("folder", metavar="RUN", type=Path, help="folder of the run")
    evaluate.add_argument("--data-dir", metavar="DIR", type=Path, help="where data files lie [$SYNAPRUNE_DATA]")
    evaluate.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:1, … [that of the run]")

    report = commands.add_parser(
        "report",
        help="write one page that shows a run, or compares many",
        description="Write one HTML file that shows a run, or compares runs, results and folders of them. It needs no"
        " network and may be sent on as it is.",
        epilog="example: synaprune report results/digits_sweep -o sweep.html --figures figures",
        allow_abbrev=False,
    )
    report.set_defaults(run=_report, parser=report)
    report.add_argument(
        "places", metavar="RUN", type=Path, nargs="+", help="folder of a run, result, or folder of such"
    )
    report.add_argument("-o", "--out", metavar="FILE", type=Path, help="the page [RUN/report.html, or report.html]")
    report.add_argument("--figures", metavar="DIR", type=Path, help="also write the figures for papers, as SVG and PNG")

    watch = commands.add_parser("watch", help="show a running training", allow_abbrev=False)
    watch.set_defaults(run=_watch, parser=watch)
    watch.add_argument("folder", metavar="RUN", type=Path, help="folder of the run")
    watch.add_argument("--live", action="store_true", help="also serve its page to this machine, kept fresh")
    watch.add_argument("--port", metavar="N", type=int, help="port of that page [any that is free]")

    export = commands.add_parser("export", help="write a trained network to a small file", allow_abbrev=False)
    export.set_defaults(run=_export, parser=export)
    export.add_argument("folder", metavar="RUN", type=Path, help="folder of the run")
    export.add_argument("--format", metavar="{sparse}", default="sparse", help="of the file [sparse]")
    export.add_argument("--values", metavar="{fp32,fp16,int8}", default="fp32", help="type of the weights [fp32]")
    export.add_argument("-o", "--output", metavar="FILE", type=Path, help="the file [RUN/sparse-VALUES.safetensors]")
    export.add_argument("--data-dir", metavar="DIR", type=Path, help="where data files lie [$SYNAPRUNE_DATA]")

    bench = commands.add_parser(
        "bench",
        help="time a trained network: the engine against PyTorch",
        description="Time the engine against PyTorch on test images, one by one and in batches, in turns and with"
        " as many threads each.",
        epilog="example: synaprune bench runs/mnist-best-1 --threads 2 --json speed.json",
        allow_abbrev=False,
    )
    bench.set_defaults(run=_bench, parser=bench)
    bench.add_argument("place", metavar="RUN|FILE", type=Path, help="folder of a run, or sparse file")
    bench.add_argument("--batch", metavar="N", type=int, default=32, help="images in a batch [32]")
    bench.add_argument("--threads", metavar="N", type=int, default=1, help="of the engine and of PyTorch [1]")
    bench.add_argument("--repeats", metavar="N", type=int, help="rounds [as many as fit into 20 seconds, 3 to 100]")
    bench.add_argument("--json", metavar="FILE", type=Path, help="also write the figures to a file")
    bench.add_argument("--data-dir", metavar="DIR", type=Path, help="where data files lie [$SYNAPRUNE_DATA]")

    sweep = commands.add_parser(
        "sweep",
        help="train all points of a sweep file",
        description="Train a recipe with settings changed, for every combination and seed that a file asks for,"
        " several at a time. The same command goes on where it was interrupted, and trains nothing twice.",
        epilog="example: synaprune sweep examples/digits_sweep.toml --jobs 2 (the file says how to write one)",
        allow_abbrev=False,
    )
    sweep.set_defaults(run=_sweep, parser=sweep)
    sweep.add_argument("file", metavar="FILE", type=Path, help="sweep file, in TOML")
    sweep.add_argument("--jobs", metavar="N", type=int, help="points side by side [as many as fill the processor]")
    sweep.add_argument("--data-dir", metavar="DIR", type=Path, help="where data files lie [$SYNAPRUNE_DATA]")
    sweep.add_argument("--runs", metavar="DIR", type=Path, default=Path("runs"), help="folder of the runs [runs]")
    instead = sweep.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="only list the points and where they stand")
    instead.add_argument("--table", action="store_true", help="only print the results that are there, in Markdown")

    listing = commands.add_parser("recipes", help="list the recipes", allow_abbrev=False)
    listing.set_defaults(run=_recipes, parser=listing)
    return parser


def _train(options: argparse.Namespace, arguments: list[str]) -> None:
    """Train, then show the table and draw the figure."""
    known = {field.name for field in dataclasses.fields(Settings)}
    overrides = {name: value for name, value in vars(options).items() if name in known}
    recipe = recipes.read(options.recipe)
    settings = Settings.from_mapping(recipes.override(recipe, overrides), source=f"recipe '{options.recipe}'")
    folder = options.out or Path("runs", f"{settings.task}-{Path(options.recipe).stem}-{settings.seed}")

    from rich.console import Console

    from synaprune.report import page, training_figure
    from synaprune.train import parallel, run
    from synaprune.train.display import Display
    from synaprune.train.loop import evaluate, train

    command = [*parallel.launcher(), *arguments]
    try:
        with Display(Console(stderr=True, quiet=_process()[0] > 0)) as display:
            metrics = train(
                settings,
                folder,
                data_dir=options.data_dir,
                resume=options.resume,
                command=command,
                report=display,
            )
    except KeyboardInterrupt as error:
        if not run.Run(folder).settings_path.exists():
            raise
        again = shlex.join(command if options.resume else [*command, "--resume"])
        cause = "interrupted"
        if isinstance(error, _Interrupted) and _process()[1] > 1:
            cause = "ended by torchrun, for it was interrupted itself or another process has failed"
        raise type(error)(f"{cause}; all finished epochs are saved, continue with: {again}") from error
    if _process()[0]:
        return  # the first shows what all have trained
    _show(metrics, f"after epoch {metrics['epoch']} ({run.result(folder)['seconds']:.1f} s)")
    trained = run.Run(folder)
    if trained.evaluation(metrics["epoch"]) is None:
        trained.keep_evaluation(evaluate(folder, data_dir=options.data_dir))
    print(f"figure: {training_figure(folder)}")
    page.write(page.run_page(folder), trained.page_path)
    print(f"page: {trained.page_path}")


def _eval(options: argparse.Namespace, arguments: list[str]) -> None:
    """Show what the checkpoint of a run can do."""
    from synaprune.train.display import measures
    from synaprune.train.loop import evaluate
    from synaprune.train.run import Run

    metrics = evaluate(options.folder, data_dir=options.data_dir, device=options.device)
    _show(metrics, f"after epoch {metrics['epoch']}")
    print(*measures(metrics), sep="\n")
    try:
        Run(options.folder).keep_evaluation(metrics)
    except OSError as error:  # the folder may be another's
        warnings.warn(f"the figures are not kept for the report ({error.strerror or error})", stacklevel=1)


def _report(options: argparse.Namespace, arguments: list[str]) -> None:
    """Write the page of a run or of a comparison, and the figures for papers."""
    from synaprune.report import page, records
    from synaprune.report.compare_page import comparison, comparison_page
    from synaprune.report.run_figures import run_figures
    from synaprune.train.run import Run

    places = options.places
    single = len(places) == 1 and records.is_run(places[0])
    out = options.out or (Run(places[0]).page_path if single else Path("report.html"))
    page.write(page.run_page(places[0]) if single else comparison_page(places), out)
    print(f"page: {out}")
    if options.figures is not None:
        from synaprune.report.paper import write_figures

        figures = run_figures(Run(places[0]))[0] if single else comparison(places)[1]
        written = write_figures(figures, options.figures)
        print(f"figures: {len(written)} files in {options.figures}")


def _watch(options: argparse.Namespace, arguments: list[str]) -> None:
    """Show a run in the terminal, and with --live in the browser."""
    from rich.console import Console

    from synaprune.report.live import LiveServer
    from synaprune.report.watch import watch
    from synaprune.train.run import Run

    run, console = Run(options.folder), Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    if options.port is not None and not options.live:
        raise UsageError("argument --port: only allowed with --live")
    if options.port is not None and not 0 <= options.port < 65536:
        raise UsageError(f"argument --port: must be from 0 to 65535, not {options.port}")
    if not options.live:
        watch(run, console)
        return
    run.settings()  # what is no run is said before a server stands
    with LiveServer(run, options.port or 0) as server:
        print(f"page: {server.address} (Ctrl-C ends it)", flush=True)
        watch(run, console)
        threading.Event().wait()  # the page stays up after the last epoch


def _export(options: argparse.Namespace, arguments: list[str]) -> None:
    """Write a file, then show how small it is and what it can do."""
    if options.format != "sparse":
        raise UsageError(f"unknown format '{options.format}'; there is sparse")
    from synaprune.train.export import export

    file = export(options.folder, options.output, values=options.values, data_dir=options.data_dir)
    print(f"{file.path}: {file.size:,} bytes, {file.size / max(1, file.synapses):.2f} per synapse")
    print(f"{file.part} accuracy {file.accuracy:.2%} with weights as {options.values}, {file.before:.2%} in the run")


def _bench(options: argparse.Namespace, arguments: list[str]) -> None:
    """Show how fast the engine and PyTorch run a network."""
    if options.json is not None:
        check_place(options.json)
    # Else threads of PyTorch that have nothing to do spin on in the engine's turns; read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from rich.console import Console

    from synaprune.train.bench import bench, keep
    from synaprune.train.bench_display import lines, table

    given = {name: getattr(options, name) for name in ("batch", "threads", "repeats", "data_dir")}
    measured = bench(options.place, **given)
    Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(table(measured))
    print(*lines(measured), sep="\n")
    if options.json is not None:
        keep(measured, options.place, options.json)


def _sweep(options: argparse.Namespace, arguments: list[str]) -> None:
    """Train the points of a sweep, then show their means; or only say what there is."""
    from synaprune.train import results, sweep

    if options.jobs is not None and options.jobs < 1:
        raise UsageError(f"argument --jobs: must be at least 1, not {options.jobs}")
    plan = sweep.read(options.file)
    if options.table:
        print(results.markdown(results.summary(plan.found())))
        return

    from rich.console import Console

    from synaprune.train import sweep_run
    from synaprune.train.sweep_display import SweepDisplay, means, where

    if options.list:
        for state in sweep_run.states(plan, options.runs):
            print(f"{state.point.name:{max(len(point.name) for point in plan.points)}}  {where(state)}")
        return
    console = Console(stderr=True)
    try:
        with SweepDisplay(console) as display:
            states = sweep_run.run(
                plan, jobs=options.jobs, data_dir=options.data_dir, runs=options.runs, report=display
            )
    except KeyboardInterrupt as error:
        again = shlex.join(["synaprune", *arguments])
        raise type(error)(f"interrupted; all finished epochs are saved, continue with: {again}") from error
    if any(state.state == "done" for state in states):
        rows = results.summary(plan.found())
        Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(means(rows, plan.title))
    failed = [state for state in states if state.state == "failed"]
    for state in failed:
        console.print(f"{state.point.name}: {state.fault}", soft_wrap=True, highlight=False, markup=False)
    if failed:
        kind = UsageError if all(state.exit_code == UsageError.exit_code for state in failed) else MachineError
        folder = options.runs / plan.path.stem
        raise kind(
            f"{len(failed)} of {len(states)} points failed; '{folder}' has the log of each, the same command"
            " tries them again"
        )


def _recipes(options: argparse.Namespace, arguments: list[str]) -> None:
    """List the recipes, each with its first comment line."""
    names = recipes.names()
    for name in names:
        print(f"{name:{max(map(len, names))}}  {recipes.describe(name)}")


def _show(metrics: dict[str, Any], when: str) -> None:
    """Print the table of layers and the line that counts."""
    from rich.console import Console

    from synaprune.train.display import accuracy, show

    part, value = accuracy(metrics)
    show(metrics, Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH))
    print(f"{part} accuracy {value:.2%} at {metrics['connectivity']:.2%} connectivity, {when}")


def _shown(default: object) -> str:
    """Return a default as the command line would be given it."""
    if isinstance(default, bool):
        return str(default).lower()
    return "none" if default in (None, ()) else str(default)


def _process() -> tuple[int, int]:
    """Return the number of this process among those that torchrun has started, from 0, and how many they are."""
    return (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if "TORCHELASTIC_RUN_ID" in os.environ else (0, 1)


def _complain(sentence: str, code: int) -> int:
    """Print one line to stderr and return the exit code; what is true of all processes is said by the first alone."""
    if code == MachineError.exit_code or not _process()[0]:
        print("synaprune:", " ".join(sentence.split()), file=sys.stderr)
    return code


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning as one line, without the line of source that raised it."""
    _complain(str(message), 0)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Let SIGTERM end a run as Ctrl-C does."""
    raise _Interrupted
