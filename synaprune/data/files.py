"""Where data files are, how they get there, and what is said when they are absent or broken."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from synaprune.errors import MachineError, UsageError

__all__ = ["absent", "broken", "download", "folder_of", "locate", "opened", "read", "require", "take"]

# Modules of the extra [train], and the packages that hold them.
EXTRA = {
    "matplotlib": "matplotlib",
    "pooch": "pooch",
    "rich": "rich",
    "sklearn": "scikit-learn",
    "spikingjelly": "spikingjelly",
    "tensorboard": "tensorboard",
    "tqdm": "tqdm",
}
PIECE = 2**20  # bytes
UNPACK: dict[str, Callable[[BinaryIO], Any]] = {".gz": lambda file: gzip.GzipFile(fileobj=file), ".xz": lzma.LZMAFile}


def folder_of(name: str, data_dir: str | Path | None) -> Path:
    """Return the folder of data set `name`, in `data_dir`, else $SYNAPRUNE_DATA, else the user's cache.

    Raises:
        UsageError: `data_dir` or $SYNAPRUNE_DATA is no folder; it may be mistyped, so it is not made.

    """
    root = data_dir or os.environ.get("SYNAPRUNE_DATA")
    if not root:
        pooch = require("pooch", f"finding {name} without --data-dir or SYNAPRUNE_DATA")
        return Path(pooch.os_cache("synaprune")) / name
    if not Path(root).expanduser().is_dir():
        raise UsageError(
            f"there is no folder '{root}', named by {'--data-dir' if data_dir else 'SYNAPRUNE_DATA'};"
            " make it, or name the one that holds the data files"
        )
    return Path(root).expanduser() / name


def locate(folders: Iterable[Path], names: Iterable[str]) -> Path | None:
    """Return the first file that is in one of the folders under one of the names; what is no regular file is none."""
    names = list(names)
    return next((path for folder in folders for name in names if (path := folder / name).is_file()), None)


def download(url: str, md5: str, folder: Path, missing: str = "") -> Path:
    """Fetch `url` into `folder`, which is made if need be, with a progress bar on stderr; return the path.

    `missing` names what was looked for, if not the file itself. The file appears under its name only when it
    is complete and its checksum agrees.

    Raises:
        MachineError: no connection, no such file there, a wrong checksum, a folder that cannot be written.

    """
    name = url.rsplit("/", 1)[-1]
    missing = f"{missing or name} is missing in {folder}"
    pooch = require("pooch", f"{missing} and downloading it")
    require("tqdm", f"{missing} and downloading it")  # the bar
    pooch.get_logger().setLevel("WARNING")  # the bar says what is going on
    try:
        return Path(pooch.retrieve(url, f"md5:{md5}", name, folder, progressbar=True))
    except (OSError, ValueError) as error:
        raise MachineError(
            f"{missing} and cannot be downloaded from {url} ({_reason(error)}); try again online, "
            f"or name the folder that holds {folder.name}/ with --data-dir or SYNAPRUNE_DATA"
        ) from error


def _reason(error: OSError | ValueError) -> str:
    """Return the few words that matter of what pooch, requests or the file system raised."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answers {response.status_code} {response.reason}"
    if isinstance(error, ValueError):  # pooch: the checksum, followed by advice for its own users
        return str(error).split(". ")[0]
    if isinstance(error, PermissionError):
        return "the folder cannot be written"
    return error.strerror or type(error).__name__


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, unpacked if it ends in `.gz` or `.xz`, no further than it is read.

    Raises:
        UsageError: a packed file that is truncated or of another format.
        MachineError: a file that cannot be read at all, or for which the memory is too small.

    """
    unpack = UNPACK.get(path.suffix, contextlib.nullcontext)
    try:
        with path.open("rb") as file, unpack(file) as content:
            yield content
    except (gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise broken(path, f"is not a complete {path.suffix} file") from error
    except MemoryError as error:
        raise MachineError(f"there is not enough memory to read {path}; free some") from error
    except OSError as error:
        raise MachineError(f"{path} cannot be read ({error.strerror}); check its permissions") from error


def read(path: Path, most: int) -> bytes:
    """Return the content of a file, unpacked as `opened` does; a few bytes may stand for any number of them.

    Raises:
        UsageError: it holds more than `most` bytes; and as `opened`.
        MachineError: as `opened`.

    """
    with opened(path) as file:
        content = take(file, most + 1)
    if len(content) > most:
        raise broken(path, f"holds more than {most:,} bytes, which no such file does")
    return content


def take(file: BinaryIO, count: int) -> bytes:
    """Read so many bytes, or what there is; memory is taken for what comes, not for what was asked for."""
    pieces = []
    while count and (piece := file.read(min(count, PIECE))):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def broken(path: Path, fault: str) -> UsageError:
    """Return the error for a file that is not what its name says."""
    return UsageError(f"{path} {fault}; replace it, or delete it and it is downloaded anew")


def require(module: str, purpose: str) -> ModuleType:
    """Import a module of the extra [train] on its first use.

    Raises:
        MachineError: its package is not installed.

    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        fault = absent(error, purpose)
        if fault is None:
            raise
        raise fault from error


def absent(error: ModuleNotFoundError, purpose: str) -> MachineError | None:
    """Return the error that says which package of the extra [train] is missing; None if it is none of them."""
    package = EXTRA.get((error.name or "").partition(".")[0])
    return MachineError(f"{purpose} needs {package}; run pip install 'synaprune[train]'") if package else None
