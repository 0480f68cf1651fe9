"""The flags of every command; those of `train` are the fields of `Settings`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from synaprune.cli import commands
from synaprune.errors import UsageError, nearest, short
from synaprune.train.fields import expected, metavar, switch
from synaprune.train.settings import Settings

__all__ = ["make_parser"]

LONGEST = 200  # characters of what argparse complains of
# The groups of `train --help`, each by its first setting.
GROUPS = {
    "task": "data and network",
    "method": "method",
    "base": "optimizer and loss",
    "augment": "augmentation",
    "holdout": "run and machine",
}


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one sentence, raised for `main` to print."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message if len(message) <= LONGEST else f"{message[:LONGEST]}…")

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Say which argument this command does not know."""
        flag = next((argument for argument in unknown if argument.startswith("-")), None)
        if flag is None:
            raise UsageError(f"unexpected argument {short(unknown[0])}")
        flag = flag.split("=")[0]
        # Dashes say nothing: by them alone any two flags would be akin.
        known = [option.lstrip("-") for option in self._option_string_actions]
        hint = nearest(flag.lstrip("-"), known).replace("'", "'--", 1)
        raise UsageError(f"unknown option {short(flag)}{hint}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Check the name of a command, the only argument with choices of argparse's own."""
        known: Iterable[str] = action.choices or (value,)
        if value not in known:
            hint = nearest(value, known) or f"; there are {', '.join(known)}"
            raise UsageError(f"unknown command {short(value)}{hint}")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(prog="synaprune", description="Train spiking networks that keep only the synapses they need.")
    parser.add_argument("--version", action="version", version=f"synaprune {metadata.version('synaprune')}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    train = subparsers.add_parser(
        "train",
        help="train a network by a recipe",
        usage="synaprune train RECIPE [--out DIR] [--resume] [--data-dir DIR] [--SETTING VALUE ...]",
        description="Train by a recipe. A flag beats the recipe, and the recipe beats the default in brackets.",
        epilog="example: synaprune train digits/grad_r --alpha 0.2 --out runs/sparser",
        allow_abbrev=False,
    )
    train.set_defaults(run=commands.train_network, parser=train)
    train.add_argument("recipe", metavar="RECIPE", help="name such as digits/grad_r, or path of a .toml file")
    train.add_argument("--out", metavar="DIR", type=Path, help="folder of the run [runs/TASK-RECIPE-SEED]")
    train.add_argument("--resume", action="store_true", help="continue the run in its folder")
    train.add_argument("--data-dir", metavar="DIR", type=Path, help="where data files lie [$SYNAPRUNE_DATA]")
    for field in dataclasses.fields(Settings):
        if field.name in GROUPS:
            group = train.add_argument_group(GROUPS[field.name])
        word = metavar(field)
        values = "" if word.startswith("{") else f" ({expected(field)})"  # else the word says it
        text = f"{field.metadata['help']}{values} [{_shown(field.default)}]".replace("%", "%%")
        flag: dict[str, Any] = {"metavar": word}
        if switch(field):
            flag = {"action": argparse.BooleanOptionalAction}
        name = "--" + field.name.replace("_", "-")
        group.add_argument(name, dest=field.name, default=argparse.SUPPRESS, help=text, **flag)

    evaluate = subparsers.add_parser("eval", help="measure a trained network anew", allow_abbrev=False)
    evaluate.set_defaults(run=commands.evaluate_run, parser=evaluate)
    evaluate.add_argument("folder", metavar="RUN", type=Path, help="folder of the run")
    evaluate.add_argument("--data-dir", metavar="DIR", type=Path, help="where data files lie [$SYNAPRUNE_DATA]")
    evaluate.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:1, … [that of the run]")

    report = subparsers.add_parser(
        "report",
        help="write one page that shows a run, or compares many",
        description="Write one HTML file that shows a run, or compares runs, results and folders of them. It needs no"
        " network and may be sent on as it is.",
        epilog="example: synaprune report results/digits_sweep -o sweep.html --figures figures",
        allow_abbrev=False,
    )
    report.set_defaults(run=commands.write_report, parser=report)
    report.add_argument(
        "places", metavar="RUN", type=Path, nargs="+", help="folder of a run, result, or folder of such"
    )
    report.add_argument("-o", "--out", metavar="FILE", type=Path, help="the page [RUN/report.html, or report.html]")
    report.add_argument("--figures", metavar="DIR", type=Path, help="also write the figures for papers, as SVG and PNG")
    report.add_argument(
        "--show",
        metavar="NAME",
        action="append",
        default=[],
        help="of a comparison: a method, series or sweep that is in colour at first, beside the best; may be repeated",
    )
    report.add_argument(
        "--axis",
        metavar="{error,accuracy}",
        help="of a comparison: what is drawn at first [error, logarithmic, where an accuracy is above 90 %%]",
    )

    watch = subparsers.add_parser("watch", help="show a running training", allow_abbrev=False)
    watch.set_defaults(run=commands.watch_run, parser=watch)
    watch.add_argument("folder", metavar="RUN", type=Path, help="folder of the run")
    watch.add_argument("--live", action="store_true", help="also serve its page to this machine, kept fresh")
    watch.add_argument("--port", metavar="N", type=int, help="port of that page [any that is free]")

    export = subparsers.add_parser("export", help="write a trained network to a small file", allow_abbrev=False)
    export.set_defaults(run=commands.export_run, parser=export)
    export.add_argument("folder", metavar="RUN", type=Path, help="folder of the run")
    export.add_argument("--format", metavar="{sparse}", default="sparse", help="of the file [sparse]")
    export.add_argument("--values", metavar="{fp32,fp16,int8}", default="fp32", help="type of the weights [fp32]")
    export.add_argument("-o", "--output", metavar="FILE", type=Path, help="the file [RUN/sparse-VALUES.safetensors]")
    export.add_argument(
        "--no-measure", dest="measure", action="store_false", help="write the file without trying it on the test images"
    )
    export.add_argument("--data-dir", metavar="DIR", type=Path, help="where data files lie [$SYNAPRUNE_DATA]")

    bench = subparsers.add_parser(
        "bench",
        help="time a trained network: the engine against PyTorch",
        description="Time the engine against PyTorch on test images, one by one and in batches, in turns and with"
        " as many threads each.",
        epilog="example: synaprune bench runs/mnist-best-1 --threads 2 --json speed.json",
        allow_abbrev=False,
    )
    bench.set_defaults(run=commands.bench_network, parser=bench)
    bench.add_argument("place", metavar="RUN|FILE", type=Path, help="folder of a run, or sparse file")
    bench.add_argument("--batch", metavar="N", type=int, default=32, help="images in a batch [32]")
    bench.add_argument("--threads", metavar="N", type=int, default=1, help="of the engine and of PyTorch [1]")
    bench.add_argument("--repeats", metavar="N", type=int, help="rounds [as many as fit into 20 seconds, 3 to 100]")
    bench.add_argument("--agreement", action="store_true", help="also compare both on all test images")
    bench.add_argument("--json", metavar="FILE", type=Path, help="also write the figures to a file")
    bench.add_argument("--data-dir", metavar="DIR", type=Path, help="where data files lie [$SYNAPRUNE_DATA]")

    sweep = subparsers.add_parser(
        "sweep",
        help="train all points of a sweep file",
        description="Train a recipe with settings changed, for every combination and seed that a file asks for,"
        " several at a time. The same command goes on where it was interrupted, and trains nothing twice.",
        epilog="example: synaprune sweep examples/digits_sweep.toml --jobs 2 (the file says how to write one)",
        allow_abbrev=False,
    )
    sweep.set_defaults(run=commands.run_sweep, parser=sweep)
    sweep.add_argument("file", metavar="FILE", type=Path, help="sweep file, in TOML")
    sweep.add_argument("--jobs", metavar="N", type=int, help="points side by side [as many as fill the processor]")
    sweep.add_argument("--data-dir", metavar="DIR", type=Path, help="where data files lie [$SYNAPRUNE_DATA]")
    sweep.add_argument("--runs", metavar="DIR", type=Path, default=Path("runs"), help="folder of the runs [runs]")
    sweep.add_argument("--results", metavar="DIR", type=Path, help="folder of the results [what the file says]")
    sweep.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="change a setting of all points, such as epochs=1 to try a sweep out; with --runs and --results, so that"
        " nothing mixes",
    )
    instead = sweep.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="only list the points and where they stand")
    instead.add_argument("--table", action="store_true", help="only print the results that are there, in Markdown")

    listing = subparsers.add_parser("recipes", help="list the recipes", allow_abbrev=False)
    listing.add_argument("prefix", nargs="?", default="", metavar="PREFIX", help="only those that begin so: digits")
    listing.set_defaults(run=commands.list_recipes, parser=listing)
    return parser


def _shown(default: object) -> str:
    """Return a default as the command line would be given it."""
    if isinstance(default, bool):
        return str(default).lower()
    return "none" if default in (None, ()) else str(default)
