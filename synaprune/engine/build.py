"""Compile engine.c for the processor at hand, once, and load it.

The library lies in a cache under a name made of everything that it depends on, source, flags, compiler, processor, and
of its own digest. It appears there when it is complete, so that processes which compile at once do not collide.
Nothing is loaded that others could have put there (`synaprune.engine.trust`), nor what is damaged: to map a file that
was cut short kills the process.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from synaprune.engine.trust import doubt_of_file, doubt_of_folder
from synaprune.errors import MachineError

__all__ = ["FLAGS", "SOURCE", "cache", "compiler", "library"]

log = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("engine.c")
# The order of additions is part of what the engine promises: products and sums must not be contracted, nor floats be
# taken for real numbers. CC and CFLAGS may say otherwise, so these come behind them.
EXACT = ("-ffp-contract=off", "-fno-fast-math", "-fno-unsafe-math-optimizations")
FLAGS = ("-std=c11", "-O3", "-shared", "-fPIC", *EXACT)
TARGETS = (("-march=native",), ("-mcpu=native",), ())  # what a compiler knows of its processor; the first that works
PATIENCE = 300  # seconds that a compiler may take


def cache() -> Path:
    """Return the folder of compiled libraries: `SYNAPRUNE_CACHE`, or `synaprune` in the user's cache.

    Raises:
        RuntimeError: the user has no home.

    """
    if own := os.environ.get("SYNAPRUNE_CACHE"):
        return Path(own).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "synaprune"


def compiler() -> tuple[str, ...]:
    """Return the command line of the C compiler: `CC`, else cc, gcc or clang, and the flags in `CFLAGS`.

    Raises:
        MachineError: there is none.

    """
    wanted, flags = _words("CC"), _words("CFLAGS")
    for name in wanted[:1] or ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return found, *wanted[1:], *flags
    missing = (
        f"the C compiler '{wanted[0]}' named by CC is not there"
        if wanted
        else "there is no C compiler (cc, gcc, clang)"
    )
    raise MachineError(f"{missing}; install one, for instance the package gcc")


@functools.cache
def library(options: Sequence[str] = ()) -> ctypes.CDLL:
    """Return the engine, compiled with further `options`; a compiled one is loaded from the cache.

    Where the cache cannot be written to, or others could have written to it, a warning says so, and the engine is
    compiled into a temporary folder for this process alone.

    Raises:
        MachineError: there is no compiler, or it fails.

    """
    command = compiler()
    try:
        folder = cache()
        doubt = doubt_of_folder(folder)
        if doubt is None:
            stem = f"engine-{_key(command, options)}-"
            return _kept(folder, stem) or _compiled(command, options, folder, stem)
    except MachineError:
        raise
    except (OSError, RuntimeError) as error:
        doubt = str(error)
    log.warning(
        "the cache of compiled code is not used: %s; the engine is compiled anew for this process alone, unless"
        " SYNAPRUNE_CACHE names a folder that you alone can write to",
        doubt,
    )
    try:
        with tempfile.TemporaryDirectory(prefix="synaprune-", ignore_cleanup_errors=True) as private:
            return _compiled(command, options, Path(private), "engine-")
    except MachineError:
        raise
    except OSError as error:
        raise MachineError(f"the engine cannot be compiled: {error}; name a folder with SYNAPRUNE_CACHE") from error


def _words(variable: str) -> list[str]:
    """Return the words of a command line in the environment."""
    try:
        return shlex.split(os.environ.get(variable, ""))
    except ValueError as error:
        raise MachineError(f"{variable} is no command line: {error}; mend its quotes") from error


def _key(command: Sequence[str], options: Sequence[str]) -> str:
    """Name everything that the compiled code depends on; a cache may be shared between machines."""
    parts: list[object] = [SOURCE.read_bytes(), *FLAGS, *options, *command, _processor()]
    for word in command:  # behind a launcher such as ccache comes the compiler itself
        if found := shutil.which(word):
            stat = Path(found).resolve().stat()
            parts += [found, stat.st_size, stat.st_mtime_ns]
    return hashlib.sha256(b"\0".join(p if isinstance(p, bytes) else str(p).encode() for p in parts)).hexdigest()[:24]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    known = sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    return "\n".join([platform.machine(), platform.processor(), *known])


def _kept(folder: Path, stem: str) -> ctypes.CDLL | None:
    """Load a library whose name begins with `stem`; one that is not to be loaded is removed."""
    for path in sorted(folder.glob(f"{stem}*.so")):
        try:
            fault = doubt_of_file(path) or _damage(path, path.stem.removeprefix(stem))
            if fault is None:
                return ctypes.CDLL(str(path))
        except FileNotFoundError:  # another process has removed it
            continue
        except OSError as error:
            fault = f"'{path}' cannot be loaded: {error}"
        log.warning("the compiled engine is compiled anew: %s", fault)
        with suppress(OSError):
            path.unlink()
    return None


def _damage(path: Path, digest: str) -> str | None:
    return None if _digest(path) == digest else f"'{path}' is damaged"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _compiled(command: Sequence[str], options: Sequence[str], folder: Path, stem: str) -> ctypes.CDLL:
    """Compile a library, load it, and leave it in a folder under the name that begins with `stem`."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".compiling-", ignore_cleanup_errors=True) as own:
        made = Path(own) / "engine.so"
        _compile(command, options, made)
        made.chmod(0o700)  # whatever the umask is: what others could write to is not loaded again
        try:
            loaded = ctypes.CDLL(str(made))
        except OSError as error:
            raise MachineError(
                f"what the C compiler '{shlex.join(command)}' makes cannot be loaded: {error}; name another one with"
                " CC, or another folder with SYNAPRUNE_CACHE"
            ) from error
        os.replace(made, folder / f"{stem}{_digest(made)}.so")
    return loaded


def _compile(command: Sequence[str], options: Sequence[str], made: Path) -> None:
    named, complaint = shlex.join(command), ""
    chosen = any(word.startswith(("-march", "-mcpu")) for word in command)
    for target in ((),) if chosen else TARGETS:
        line = [*command, *FLAGS, *target, *options, "-o", str(made), str(SOURCE)]
        try:
            done = subprocess.run(line, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False)
        except subprocess.TimeoutExpired as error:
            raise MachineError(f"the C compiler '{named}' did not finish within {PATIENCE} seconds") from error
        except OSError as error:
            raise MachineError(f"the C compiler '{named}' cannot be run: {error}; name another one with CC") from error
        if done.returncode == 0 and made.exists():
            return
        complaint = _first_error(done.stderr) or f"exit status {done.returncode}"
    raise MachineError(f"the C compiler '{named}' fails: {complaint}; name another one with CC")


def _first_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[0] if lines else "")
