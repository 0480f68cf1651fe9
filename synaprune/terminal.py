"""What is said on the terminal: to nobody, if nobody listens, and so that no foreign text can do anything to it.

Names of layers, recipes and files, and whatever else comes from outside, are shown through `say`, `cell` or `safe`.
"""

from __future__ import annotations

import io
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["Listener", "cell", "console", "listeners", "safe", "say"]

PLAIN_WIDTH = 100  # columns of what goes to a file or a pipe


def safe(text: object) -> str:
    r"""Return a text with escapes in place of all that a terminal would obey or hide instead of showing it.

    >>> safe("fc1[/]"), safe(chr(27) + "[2J"), safe("θ" + chr(0x202E))
    ('fc1[/]', '\\x1b[2J', 'θ\\u202e')
    """
    return "".join(
        letter
        if letter.isprintable() or unicodedata.category(letter) == "Zs"
        else letter.encode("unicode_escape").decode("ascii")
        for letter in str(text)
    )


def say(*lines: object, stderr: bool = False) -> None:
    """Print lines, each of which stays one."""
    print(*map(safe, lines), sep="\n", file=sys.stderr if stderr else sys.stdout)


def cell(text: object) -> Text:
    """Return a text for a table of `rich`, which takes square brackets and colons of a plain one for its own."""
    from rich.text import Text

    return Text(safe(text))


def console(stderr: bool = False, quiet: bool = False) -> Console:
    """Return where tables and bars are shown; what is no terminal is `PLAIN_WIDTH` wide."""
    from rich.console import Console

    width = None if stderr or sys.stdout.isatty() else PLAIN_WIDTH
    return Console(stderr=stderr, quiet=quiet, width=width, markup=False, emoji=False, highlight=False)


class Listener:
    """A text stream that never fails: what cannot be written is dropped, and `fault` says why."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.fault: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write if it can be done."""
        with self._forgiving():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if it can be done."""
        with self._forgiving():
            self._stream.flush()

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.fault = self.fault or error
            with suppress(OSError):  # what is still in the buffer must not be tried again at the very end
                _to_nowhere(self._stream.fileno())


@contextmanager
def listeners() -> Iterator[tuple[Listener, Listener]]:
    """Let nothing that is said within the block fail: return listeners in the place of stdout and stderr.

    Streams that are closed go to the null device, so that no file that is opened later gets their numbers, and with
    them what libraries say. What a terminal has no letters for is replaced.
    """
    _open_closed()
    before = sys.stdout, sys.stderr
    for stream in before:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    found = Listener(sys.stdout), Listener(sys.stderr)
    sys.stdout, sys.stderr = found
    try:
        yield found
    finally:
        for stream in found:
            stream.flush()
        sys.stdout, sys.stderr = before


def _open_closed() -> None:
    """Open the null device in the place of standard streams that the process was started without."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        place: int | str = os.devnull
        try:
            os.fstat(number)  # a file that was opened since may have the number
        except OSError:
            _to_nowhere(number)
            place = number
        stream = open(place, "w" if number else "r", encoding="utf-8", closefd=place != number)  # noqa: SIM115
        setattr(sys, name, stream)


def _to_nowhere(number: int) -> None:
    """Let the number of an open file, or of none, stand for the null device, for child processes too."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere == number:
        os.set_inheritable(number, True)
        return
    os.dup2(nowhere, number)
    os.close(nowhere)
