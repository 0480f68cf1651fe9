"""Run one command, and turn whatever goes wrong into one sentence and an exit code."""

from __future__ import annotations

import io
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn

from synaprune.cli import commands
from synaprune.cli.parser import make_parser
from synaprune.errors import MachineError, UsageError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0, 1 (the machine), 2 (the request), 130 or 143 (interrupted)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what a terminal cannot show is no reason to fail
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        options, unknown = make_parser().parse_known_args(arguments)
        if unknown:
            options.parser.refuse(unknown)
        if options.run is not commands.train_network and commands.process()[1] > 1:
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
        return str(interrupt) or "interrupted", 143 if isinstance(interrupt, commands.Interrupted) else 130
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


def _complain(sentence: str, code: int) -> int:
    """Print one line to stderr and return the exit code; what is true of all processes is said by the first alone."""
    if code == MachineError.exit_code or not commands.process()[0]:
        print("synaprune:", " ".join(sentence.split()), file=sys.stderr)
    return code


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning as one line, without the line of source that raised it."""
    _complain(str(message), 0)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Let SIGTERM end a run as Ctrl-C does."""
    raise commands.Interrupted
