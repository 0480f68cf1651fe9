"""Whose code may be loaded: nobody but this user and the system may have put it there, or be able to exchange it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["doubt_of_file", "doubt_of_folder"]

OTHERS = stat.S_IWGRP | stat.S_IWOTH
MAX_LINKS = 40  # that a path may lead through, as for the kernel


def doubt_of_folder(folder: Path) -> str | None:
    """Return why a folder is not to be trusted, None if it is; make it where it is missing and could be trusted.

    It must belong to this user or to root, and nobody else may write to it. The same goes for the folders above it and
    for the links on the way, but that folders above may be open to all if they are sticky, as /tmp is, or to the
    user's own group. Where files have no owners there is nothing to doubt.

    Raises:
        OSError: the folder cannot be reached, or not be made.

    """
    owned = hasattr(os, "geteuid")
    for place, found in _way(folder):
        if owned and (doubt := _doubt(place, found, above=True)):
            return doubt
    if not stat.S_ISDIR(found.st_mode):
        return f"'{place}' is no folder"
    return _doubt(place, found, above=False) if owned else None


def doubt_of_file(file: Path) -> str | None:
    """Return why a file in a trusted folder is not to be trusted, None if it is.

    Raises:
        OSError: it is not there.

    """
    found = os.lstat(file)
    if not stat.S_ISREG(found.st_mode):
        return f"'{file}' is no plain file"
    return _doubt(file, found, above=False) if hasattr(os, "geteuid") else None


def _way(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield all folders and links that lead to a folder from the root on, and the folder last.

    What is missing is made once what leads to it has been looked at.
    """
    path = folder.absolute()
    place, ahead, links = Path(path.anchor), list(path.parts[1:]), 0
    yield place, os.lstat(place)
    while ahead:
        name = ahead.pop(0)
        if name == "..":
            place = place.parent
            continue
        here = place / name
        if not os.path.lexists(here):
            with suppress(FileExistsError):  # another process was faster
                here.mkdir(mode=0o700)
        found = os.lstat(here)
        yield here, found
        if not stat.S_ISLNK(found.st_mode):
            place = here
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(f"'{folder}' leads through too many links")
        target = Path(os.readlink(here))
        place = Path(target.anchor) if target.is_absolute() else place
        ahead = [*target.parts[target.is_absolute() :], *ahead]
    yield place, os.lstat(place)  # once more: the last was perhaps a link, or ".."


def _doubt(path: Path, found: os.stat_result, above: bool) -> str | None:
    if found.st_uid not in (0, os.geteuid()):
        return f"'{path}' belongs to another user"
    if stat.S_ISLNK(found.st_mode) or not found.st_mode & OTHERS:
        return None
    if above and found.st_mode & stat.S_ISVTX:
        return None
    if above and not found.st_mode & stat.S_IWOTH and _is_own_group(found.st_gid):
        return None
    return f"others can write to '{path}'"


def _is_own_group(group: int) -> bool:
    """Return whether a group is this user's alone: it has the user's name and no other members."""
    import grp
    import pwd

    try:
        user, entry = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return group == user.pw_gid and entry.gr_name == user.pw_name and set(entry.gr_mem) <= {user.pw_name}
