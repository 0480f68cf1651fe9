"""Writing files so that nothing is lost: whole or not at all, by any number of processes at once, on the disk.

No link that lies where a file is to be written is followed: one that stands in the place of a file is replaced itself,
and what it leads to is left alone.
"""

from __future__ import annotations

import errno
import glob
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from synaprune.errors import MachineError, UsageError

try:
    import fcntl
except ModuleNotFoundError:  # not a Unix
    fcntl = None  # type: ignore[assignment]

__all__ = ["appending", "check_place", "clear", "full_disk_named", "locked", "move", "readable", "replacing", "sync"]

KEPT = "what it held is kept: free some space and resume"
FULL = (errno.ENOSPC, errno.EDQUOT)
AS_IT_IS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES)  # what file systems say that know none


def check_place(path: Path) -> None:
    """Raise `UsageError` unless a file can be at `path`."""
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"no file can be written to '{path}': it is a folder, or is in none; name another")
    if path.exists() and not path.is_file():
        raise UsageError(f"no file can be written to '{path}': it is a device or a pipe; name another")


@contextmanager
def replacing(path: Path, remedy: str = KEPT, previous: Path | None = None) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path`, and its permissions, once it is complete and on the disk.

    Each writer has a file of its own beside `path`, so that of several at once the last one wins and none is mixed
    with another. What a killed writer has left is cleared away by the next one.

    Args:
        path: where the file will be.
        remedy: what to do when the disk is full, for the sentence that says so.
        previous: where to keep the file that is replaced.

    Raises:
        UsageError: there is something else than a file.
        MachineError: the disk is full; `path` is as it was, and nothing half-written stays.
        OSError: the system refuses; likewise.

    """
    if path.exists() and not path.is_file() and not path.is_dir():  # the system itself refuses to replace a folder
        check_place(path)
    with full_disk_named(path, remedy), _own_names(path):
        clear(path.parent, glob.escape(_beginning(path)))
        file = _temporary(path)
        temporary = Path(file.name)
        try:
            with file:
                _take_permissions(file, path)
                yield file
                file.flush()
                os.fsync(file.fileno())
                if previous is not None and path.exists():
                    _keep(path, previous)
                if fcntl is None:  # Windows cannot rename an open file
                    file.close()
                os.replace(temporary, path)  # still locked, so that nobody takes it for a dead writer's
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync(path.parent)


def clear(folder: Path, beginning: str = ".*-") -> None:
    """Delete the temporary files in a folder whose writers are no more; `beginning` is a pattern of their names."""
    for left in folder.glob(f"{beginning}{'[0-9a-f]' * 16}.tmp"):
        try:
            descriptor = os.open(left, os.O_RDWR | AS_IT_IS)
        except OSError:  # it is gone meanwhile, or none of ours
            continue
        try:
            if _lock(descriptor):
                left.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


@contextmanager
def appending(path: Path) -> Iterator[BinaryIO]:
    """Open a file to add to what it holds; all is on the disk at the end.

    Raises:
        UsageError: there is a link, or something else than a file.

    """
    new = not path.exists()
    with open(_open(path, os.O_WRONLY | os.O_APPEND), "ab") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync(path.parent)


@contextmanager
def locked(path: Path, refusal: str) -> Iterator[None]:
    """Keep other processes from what an empty file, which is made if absent, or a folder stands for.

    The system lets go of the lock when the process ends, however it ends. Where the platform or the file system has
    no locks, nothing is kept.

    Raises:
        UsageError: another process is there, said as `refusal`; or there is a link, or something else than a file.

    """
    descriptor = os.open(path, os.O_RDONLY) if path.is_dir() else _open(path, os.O_RDWR)
    try:
        if _lock(descriptor) is False:
            raise UsageError(refusal)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def readable(path: Path) -> Iterator[str]:
    """Open a file for a library, and return a name for it that is Unicode: those of files may be any bytes."""
    with path.open("rb") as file:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            yield f"/dev/fd/{file.fileno()}"
        else:
            yield str(path)


def move(path: Path, target: Path) -> None:
    """Give a file another name in its folder, on the disk too, in place of what had that name."""
    os.replace(path, target)
    sync(path.parent)


def sync(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):  # not a Unix
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise


@contextmanager
def full_disk_named(path: Path, remedy: str = KEPT) -> Iterator[None]:
    """Turn the error of a full disk into a sentence that names what could not be written."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise MachineError(
                f"'{path}' would be larger than this system allows; raise the limit (ulimit -f)"
            ) from error
        if error.errno not in FULL:
            raise
        raise MachineError(f"no space left on the disk for '{path}'; {remedy}") from error


@contextmanager
def _own_names(path: Path) -> Iterator[None]:
    """Let errors name the file that was asked for in place of the temporary one beside it."""
    try:
        yield
    except OSError as error:
        if isinstance(error.filename, str | Path) and Path(error.filename).name.startswith(_beginning(path)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _beginning(path: Path) -> str:
    """Return how the names of the temporary files for `path` begin; the whole name might not fit."""
    return f".{path.name[:40]}-"


def _temporary(path: Path) -> BinaryIO:
    """Open a new file beside `path`, locked, so that others can tell a living writer's from a dead one's."""
    while True:
        try:
            file = path.with_name(f"{_beginning(path)}{secrets.token_hex(8)}.tmp").open("xb")
        except FileExistsError:
            continue
        if _lock(file.fileno()) is not False and os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # another writer has found it before it was locked, and clears it away


def _take_permissions(file: IO[bytes], path: Path) -> None:
    """Give a file the permissions of that which it will replace; a new one has what the umask leaves."""
    try:
        before = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISREG(before.st_mode) and hasattr(os, "fchmod"):
        with suppress(OSError):  # some file systems have none
            os.fchmod(file.fileno(), before.st_mode & 0o777)


def _keep(path: Path, previous: Path) -> None:
    """Let `previous` be the file at `path`, which stays there too where the file system has hard links."""
    link = path.with_name(f"{_beginning(path)}{secrets.token_hex(8)}.tmp")
    try:
        os.link(path, link, follow_symlinks=False)
    except (OSError, NotImplementedError):
        os.replace(path, previous)
        return
    try:
        with suppress(FileNotFoundError):  # another writer has cleared it away
            os.replace(link, previous)
    finally:
        link.unlink(missing_ok=True)  # it is still there where both names were of one file already


def _open(path: Path, flags: int) -> int:
    """Open a plain file, which is made if absent."""
    try:
        # A pipe would else be waited for until somebody reads it.
        descriptor = os.open(path, flags | os.O_CREAT | AS_IT_IS | getattr(os, "O_NONBLOCK", 0), 0o666)
    except OSError as error:
        if path.is_symlink():
            raise UsageError(f"'{path}' is a link, which is not followed; put the file itself in its place") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(f"'{path}' is no plain file; delete it")
    return descriptor


def _lock(descriptor: int) -> bool | None:
    """Lock an open file without waiting; False where another process has it, None where there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems have none
        return None
    return True
