"""Reading files that anybody may have written: text, JSON and TOML as plain values, or one sentence.

Nothing here takes longer, or more memory, than a good file of its kind may: sizes, lines and depths have limits, and
only regular files are opened. Text is UTF-8, with or without a byte order mark. Numbers are finite, names occur once.
What the values must be is said in `synaprune.schema`.
"""

from __future__ import annotations

import codecs
import json
import math
import re
import stat
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from synaprune.errors import UsageError, short

__all__ = [
    "Fault",
    "Malformed",
    "check_regular",
    "content",
    "decoded",
    "from_json",
    "from_toml",
    "line_of",
    "lines",
    "misfit",
    "named",
]

MIB = 2**20
DEEPEST = 64  # levels of lists and tables
TOML_SIZE, TOML_LINE = MIB // 4, 4000  # characters; tomllib takes the square of the parts of a dotted key
JSON_WORDS = {None: "null", True: "true", False: "false"}
WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


class Fault(UsageError):
    """What is wrong with a file, as the rest of a sentence that begins with its name: `is larger than 1 MiB`."""


class Malformed(Fault):
    """It is not in the language that it should be in, such as a file that was cut."""


@contextmanager
def named(subject: str, remedy: str = "") -> Iterator[None]:
    """Make a whole sentence of a `Fault`: what has it, and what to do.

    >>> with named("recipe 'mine.toml'", "make it shorter"):
    ...     raise Fault("is larger than 1 MiB")
    Traceback (most recent call last):
    synaprune.errors.UsageError: recipe 'mine.toml' is larger than 1 MiB; make it shorter
    """
    try:
        yield
    except Fault as fault:
        raise UsageError(f"{subject} {fault}" + (f"; {remedy}" if remedy else "")) from fault


def misfit(value: Any, place: Sequence[str], must: str) -> Fault:
    """Return the fault of a value that is something else than it must be; its place are the keys that lead to it."""
    found = JSON_WORDS[value] if value is None or isinstance(value, bool) else short(value)
    where = f"where {short('/'.join(place))} must be" if place else "in place of"
    return Fault(f"holds {found} {where} {must}")


def content(path: Path, most: int = 16 * MIB) -> bytes:
    """Return the bytes of a file.

    Raises:
        Fault: it is no regular file but a folder, a pipe, a device or a link to nowhere; or it is larger than `most`.
        OSError: there is none, or it cannot be read.

    """
    check_regular(path)
    with path.open("rb") as file:
        found = file.read(most + 1)
    if len(found) > most:
        raise Fault(f"is larger than {most // MIB or 1} MiB")
    return found


def lines(path: Path, longest: int = MIB) -> Iterator[bytes]:
    """Yield the lines of a file, each with its end; raises as `content`, and where one is too long."""
    check_regular(path)
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(longest + 1), b""), 1):
            if len(line) > longest:
                raise Fault(f"has a line {number} of more than {longest // MIB or 1} MiB")
            yield line


def from_json(source: str | bytes, finite: bool = True) -> Any:
    """Return the value of a JSON text.

    Raises:
        Malformed: it is none, or not UTF-8.
        Fault: a name occurs twice in an object, a number is not finite (which JSON has not, but Python writes), a text
            has half of a letter, or all is nested too deeply.

    """
    if isinstance(source, bytes):
        source = decoded(source)
    try:
        value = json.loads(source, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise Malformed(f"is not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from error
    except RecursionError as error:
        raise Fault("is nested too deeply") from error
    except Fault:
        raise
    except ValueError as error:  # Python reads no number of more than 4,300 digits
        raise Fault("holds a number that is too long") from error
    _check_values(value, finite)
    return value


def from_toml(source: str | bytes) -> dict[str, Any]:
    """Return the table of a TOML text; raises as `from_json`. Infinity and NaN are numbers of TOML's."""
    if isinstance(source, bytes):
        try:
            source = decoded(source)
        except Fault as fault:
            raise Malformed(f"is not valid TOML: it {fault}") from fault
    if len(source) > TOML_SIZE:
        raise Fault(f"is longer than {TOML_SIZE:,} characters")
    for number, line in enumerate(source.split("\n"), 1):
        if len(line) > TOML_LINE:
            raise Fault(f"has a line {number} of more than {TOML_LINE:,} characters")
    try:
        value = tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        raise Malformed(f"is not valid TOML: {_plain(str(error))}") from error
    except RecursionError as error:
        raise Fault("is nested too deeply") from error
    except ValueError as error:
        raise Fault("holds a number that is too long") from error
    _check_values(value, finite=False)
    return value


def line_of(source: str, name: str, table: int = 0) -> str:
    r"""Return ` (line 3)` for where a TOML text gives a name a value, or nothing where that cannot be told.

    `table` counts the tables headed by `[[…]]` from 1; 0 is all before them.

    >>> line_of("# mine\nlr = 1\n[[points]]\nlr = 2", "lr"), line_of("x.y = 1", "x")
    (' (line 2)', '')
    """
    here, own = 0, re.compile(rf"""\s*["']?{re.escape(name)}["']?\s*=""")
    for number, line in enumerate(source.split("\n"), 1):
        here += line.lstrip().startswith("[[")
        if here == table and own.match(line):
            return f" (line {number})"
    return ""


def check_regular(path: Path) -> None:
    """Check that a path is a file that ends: opening a pipe would wait for a writer.

    Raises:
        Fault: it is a folder, a pipe, a device, or a link that leads to nothing.
        OSError: there is nothing, or it cannot be looked at.

    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        if path.is_symlink():
            raise Fault("is a link to nowhere") from error
        raise
    if stat.S_ISDIR(mode):
        raise Fault("is a folder, not a file")
    if not stat.S_ISREG(mode):
        raise Fault("is no regular file")


def decoded(found: bytes) -> str:
    """Return UTF-8 text, without its byte order mark."""
    if found.startswith(WIDE_MARKS) or b"\0" in found[:4]:
        raise Malformed("is not UTF-8 text, perhaps UTF-16; save it as UTF-8")
    try:
        return found.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Malformed(
            f"is not UTF-8 text (byte 0x{found[error.start]:02x} at {error.start:,}); save it as UTF-8"
        ) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object's names and values; `json` itself would take the last of those with one name."""
    found = dict(pairs)
    if len(found) < len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise Fault(f"names {short(name)} twice")
    return found


def _check_values(value: Any, finite: bool) -> None:
    """Check what no kind of file may hold; a place is its key, the place it lies in, and its depth."""
    waiting: list[tuple[Any, Any]] = [(value, (None, None, 0))]
    while waiting:
        node, place = waiting.pop()
        kind = type(node)
        if kind is dict or kind is list:
            depth = place[2] + 1
            if depth > DEEPEST:
                raise Fault("is nested too deeply")
            if kind is dict:
                waiting += [(key, place) for key in node if not key.isascii()]
            members = node.items() if kind is dict else enumerate(node)
            waiting += [(inner, (key, place, depth)) for key, inner in members]
        elif (kind is float and finite and not math.isfinite(node)) or (kind is str and not _whole(node)):
            raise misfit(node, _keys(place), "a finite number" if kind is float else "Unicode")


def _whole(word: str) -> bool:
    """Whether a text has no half of a letter beyond the first 65,536, which cannot be written to any file.

    Those that Python puts in the place of bytes of a file's name that are no text are whole.
    """
    return word.isascii() or not any(
        "\ud800" <= letter <= "\udfff" for letter in word if not "\udc80" <= letter <= "\udcff"
    )


def _keys(place: Any) -> list[str]:
    keys: list[str] = []
    while place[1] is not None:
        keys.append(str(place[0]))
        place = place[1]
    return keys[::-1]


def _plain(words: str) -> str:
    """Return words of somebody else's, cut where they quote too much; where it is stands at their end."""
    words = "".join(letter if letter.isprintable() else "?" for letter in words)
    return words if len(words) <= 120 else f"{words[:60]}…{words[-50:]}"
