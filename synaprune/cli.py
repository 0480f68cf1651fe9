"""The command line: `synaprune train`, `synaprune eval`, `synaprune recipes`. Thin: the library does the work.

Heavy imports wait until a command needs them, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import signal
import sys
import warnings
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from synaprune.errors import MachineError, UsageError, nearest
from synaprune.train import recipes
from synaprune.train.settings import Settings, expected

__all__ = ["main"]

EXTRA = {"matplotlib", "pooch", "rich", "sklearn", "spikingjelly", "tensorboard"}


class _Interrupted(KeyboardInterrupt):
    """The process was asked to end by SIGTERM."""


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one sentence, raised for `main` to print."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0, 1 (the machine), 2 (the request), 130 or 143 (interrupted)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        options, unknown = _parser().parse_known_args(arguments)
        if unknown:
            _refuse(unknown)
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            options.run(options, arguments)
    except (UsageError, MachineError) as error:
        return _complain(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in EXTRA:
            raise
        return _complain(f'{error.name} is not installed; run pip install "synaprune[train]"', 1)
    except OSError as error:
        place = f": '{error.filename}'" if error.filename else ""
        return _complain(f"{error.strerror or error}{place}", 1)
    except KeyboardInterrupt as error:
        return _complain(str(error) or "interrupted", 143 if isinstance(error, _Interrupted) else 130)
    finally:
        signal.signal(signal.SIGTERM, previous)
    return 0


def _parser() -> argparse.ArgumentParser:
    """Return the parser; the flags of `train` are the fields of `Settings`."""
    parser = _Parser(prog="synaprune", description="Train spiking networks that keep only the synapses they need.")
    parser.add_argument("--version", action="version", version=f"synaprune {metadata.version('synaprune')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train",
        help="train a network by a recipe",
        description="Train by a recipe. Any setting of the recipe can be overridden by its flag.",
        allow_abbrev=False,
    )
    train.set_defaults(run=_train)
    train.add_argument("recipe", metavar="RECIPE", help="name such as digits/grad_r, or path of a .toml file")
    train.add_argument("--out", metavar="DIR", type=Path, help="folder of the run [runs/TASK-RECIPE-SEED]")
    train.add_argument("--resume", action="store_true", help="continue the run in its folder")
    train.add_argument("--data-dir", metavar="DIR", type=Path, help="where data files lie [$SYNAPRUNE_DATA]")
    group = train.add_argument_group("settings")
    for field in dataclasses.fields(Settings):
        text = f"{field.metadata['help']} ({expected(field.name)}) [{_shown(field.default)}]".replace("%", "%%")
        flag: dict[str, Any] = {"metavar": "VALUE"}
        if isinstance(field.default, bool):
            flag = {"action": argparse.BooleanOptionalAction}
        name = "--" + field.name.replace("_", "-")
        group.add_argument(name, dest=field.name, default=argparse.SUPPRESS, help=text, **flag)

    evaluate = commands.add_parser("eval", help="measure a trained network anew", allow_abbrev=False)
    evaluate.set_defaults(run=_eval)
    evaluate.add_argument("folder", metavar="RUN", type=Path, help="folder of the run")
    evaluate.add_argument("--data-dir", metavar="DIR", type=Path, help="where data files lie [$SYNAPRUNE_DATA]")
    evaluate.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:1, … [that of the run]")

    listing = commands.add_parser("recipes", help="list the recipes")
    listing.set_defaults(run=_recipes)
    return parser


def _train(options: argparse.Namespace, arguments: list[str]) -> None:
    """Train, then show the table and draw the figure."""
    known = {field.name for field in dataclasses.fields(Settings)}
    overrides = {name: value for name, value in vars(options).items() if name in known}
    recipe = recipes.read(options.recipe)
    settings = Settings.from_mapping({**recipe, **overrides}, source=f"recipe '{options.recipe}'")
    folder = options.out or Path("runs", f"{settings.task}-{Path(options.recipe).stem}-{settings.seed}")

    from rich.console import Console

    from synaprune.report import training_figure
    from synaprune.train import run
    from synaprune.train.display import Display
    from synaprune.train.loop import train

    command = ["synaprune", *arguments]
    try:
        with Display(Console(stderr=True)) as display:
            train(
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
        raise type(error)(f"interrupted; all finished epochs are saved, continue with: {again}") from error
    result = run.result(folder)
    _show(result["metrics"], f"after epoch {result['metrics']['epoch']} ({result['seconds']:.1f} s)")
    print(f"figure: {training_figure(folder)}")


def _eval(options: argparse.Namespace, arguments: list[str]) -> None:
    """Show what the checkpoint of a run can do."""
    from synaprune.train.loop import evaluate

    metrics = evaluate(options.folder, data_dir=options.data_dir, device=options.device)
    _show(metrics, f"after epoch {metrics['epoch']}")


def _recipes(options: argparse.Namespace, arguments: list[str]) -> None:
    """List the recipes, each with its first comment line."""
    names = recipes.names()
    for name in names:
        print(f"{name:{max(map(len, names))}}  {recipes.describe(name)}")


def _show(metrics: dict[str, Any], when: str) -> None:
    """Print the table of layers and the line that counts."""
    from rich.console import Console

    from synaprune.train.display import accuracy, table

    part, value = accuracy(metrics)
    Console().print(table(metrics))
    print(f"{part} accuracy {value:.2%} at {metrics['connectivity']:.2%} connectivity, {when}")


def _shown(default: object) -> str:
    """Return a default as the command line would be given it."""
    if isinstance(default, bool):
        return str(default).lower()
    return "none" if default in (None, ()) else str(default)


def _refuse(unknown: list[str]) -> NoReturn:
    """Say which argument nobody knows."""
    flag = next((argument for argument in unknown if argument.startswith("-")), None)
    if flag is None:
        raise UsageError(f"unexpected argument '{unknown[0]}'")
    flag = flag.split("=")[0]
    known = ["--" + field.name.replace("_", "-") for field in dataclasses.fields(Settings)]
    raise UsageError(f"unknown setting '{flag}'{nearest(flag, [*known, '--out', '--resume', '--data-dir'])}")


def _complain(sentence: str, code: int) -> int:
    """Print one line to stderr and return the exit code."""
    print("synaprune:", " ".join(sentence.split()), file=sys.stderr)
    return code


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning as one line, without the line of source that raised it."""
    _complain(str(message), 0)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Let SIGTERM end a run as Ctrl-C does."""
    raise _Interrupted
