"""Writing files so that nothing is lost: whole or not at all, and a full disk in one sentence."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from synaprune.errors import MachineError, UsageError

__all__ = ["check_place", "full_disk_named", "replacing"]

KEPT = "what it held is kept: free some space and resume"


def check_place(path: Path) -> None:
    """Raise `UsageError` unless a file can be at `path`."""
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"no file can be written to '{path}': it is a folder, or is in none; name another")


@contextmanager
def replacing(path: Path, remedy: str = KEPT) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` once it is complete and on the disk.

    Raises:
        MachineError: the disk is full; `path` is as it was, and nothing half-written stays.

    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with full_disk_named(path, remedy), temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def full_disk_named(path: Path, remedy: str = KEPT) -> Iterator[None]:
    """Turn the error of a full disk into a sentence that names what could not be written."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise MachineError(f"no space left on the disk for '{path}'; {remedy}") from error
