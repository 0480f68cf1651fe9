"""Where data files are, how they get there, and what is said when they are absent or broken."""

from __future__ import annotations

import gzip
import lzma
import os
import zlib
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from types import ModuleType

from synaprune.errors import MachineError, UsageError

__all__ = ["absent", "broken", "download", "folder_of", "locate", "read", "require"]

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


def locate(folder: Path, name: str, suffixes: Iterable[str]) -> Path | None:
    """Return the first of `name + suffix` that is a file in `folder`."""
    return next((path for suffix in suffixes if (path := folder / (name + suffix)).is_file()), None)


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


def read(path: Path) -> bytes:
    """Return the content of a file, unpacked if it ends in `.gz` or `.xz`.

    Raises:
        UsageError: a packed file that is truncated or of another format.
        MachineError: a file that cannot be read at all.

    """
    unpack = {".gz": gzip.decompress, ".xz": lzma.decompress}.get(path.suffix, bytes)
    try:
        return unpack(path.read_bytes())
    except (gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise broken(path, f"is not a complete {path.suffix} file") from error
    except OSError as error:
        raise MachineError(f"{path} cannot be read ({error.strerror}); check its permissions") from error


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
