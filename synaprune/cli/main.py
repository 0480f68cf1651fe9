"""Run one command, and turn whatever goes wrong into one sentence and an exit code."""

from __future__ import annotations

import argparse
import errno
import logging
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn

from synaprune.cli import commands, shared
from synaprune.cli.parser import make_parser
from synaprune.errors import MachineError, UsageError
from synaprune.terminal import listeners, say

__all__ = ["main"]

log = logging.getLogger("synaprune")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0, 1 (the machine), 2 (the request), 130 or 143 (interrupted)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    with listeners() as (out, _):
        previous = signal.signal(signal.SIGTERM, _interrupt)
        log.addHandler(handler := _Complaints(logging.WARNING))
        try:
            options, unknown = make_parser().parse_known_args(arguments)
            if unknown:
                options.parser.refuse(unknown)
            if options.run is not commands.train_network and shared.process()[1] > 1:
                raise UsageError("only train can be shared out by torchrun; give this command without it")
            with warnings.catch_warnings():
                warnings.showwarning = _warn
                options.run(options, arguments)
            out.flush()
            return 0 if out.fault is None else _unheard(out.fault, options)
        except BaseException as error:
            verdict = _verdict(error)
            if verdict is None:
                raise
            return _complain(*verdict)
        finally:
            log.removeHandler(handler)
            signal.signal(signal.SIGTERM, previous)


def _verdict(error: BaseException) -> tuple[str, int] | None:
    """Return the sentence and the exit code for an error, or None for one that is a bug, or a plain exit."""
    if isinstance(error, SystemExit):
        return None
    # An import that is interrupted may end in another error, which was raised on the way out.
    interrupt = next((link for link in _chain(error) if isinstance(link, KeyboardInterrupt)), None)
    if interrupt is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process is ending; a second Ctrl-C has nothing to add
        return str(interrupt) or "interrupted", getattr(interrupt, "exit_code", 130)
    if isinstance(error, ModuleNotFoundError):
        from synaprune.data.files import absent

        error = absent(error, "this command") or error
    if isinstance(error, UsageError | MachineError):
        return str(error), error.exit_code
    if isinstance(error, MemoryError):
        return "there is not enough memory; free some", MachineError.exit_code
    if isinstance(error, OSError):
        place = f": '{error.filename!s:.200}'" if error.filename else ""
        return f"{error.strerror or error}{place}", 1
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and those in whose handling it was raised."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _complain(sentence: str, code: int) -> int:
    """Print one line to stderr and return the exit code; what is wrong with a request the first process says alone."""
    if code not in (0, UsageError.exit_code) or not shared.process()[0]:
        say(f"synaprune: {' '.join(sentence.split())}", stderr=True)
    return code


def _unheard(fault: OSError, options: argparse.Namespace) -> int:
    """Return the exit code of a command that has done its work, but could not say all of it."""
    if fault.errno != errno.EPIPE:
        return _complain(f"standard output cannot be written ({fault.strerror})", MachineError.exit_code)
    return MachineError.exit_code if commands.only_prints(options) else 0  # nobody wanted to hear more


class _Complaints(logging.Handler):
    """Prints what the library logs as it prints warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print."""
        _complain(record.getMessage(), 0)


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning as one line, without the line of source that raised it."""
    _complain(str(message), 0)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Let SIGTERM end a run as Ctrl-C does."""
    raise commands.Interrupted
