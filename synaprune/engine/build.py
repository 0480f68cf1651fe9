"""Compile engine.c for the processor at hand, once, and load it.

The library lies in a cache under a name made of everything that it depends on: source, flags, compiler, processor.
It appears there under its name when it is complete, so that processes which compile at once do not collide.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from synaprune.errors import MachineError

__all__ = ["FLAGS", "SOURCE", "cache", "compiler", "library"]

log = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("engine.c")
# The order of additions is part of what the engine promises: products and sums must not be contracted.
FLAGS = ("-std=c11", "-O3", "-shared", "-fPIC", "-ffp-contract=off")
TARGETS = (("-march=native",), ("-mcpu=native",), ())  # what a compiler knows of its processor; the first that works
PATIENCE = 300  # seconds that a compiler may take


def cache() -> Path:
    """Return the folder of compiled libraries: `SYNAPRUNE_CACHE`, or `synaprune` in the user's cache."""
    if own := os.environ.get("SYNAPRUNE_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "synaprune"


def compiler() -> str:
    """Return the path of the C compiler: `CC`, else cc, gcc or clang.

    Raises:
        MachineError: there is none.

    """
    wanted = os.environ.get("CC")
    for name in (wanted,) if wanted else ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return found
    missing = (
        f"the C compiler '{wanted}' named by CC is not there" if wanted else "there is no C compiler (cc, gcc, clang)"
    )
    raise MachineError(f"{missing}; install one, for instance the package gcc")


@functools.cache
def library(options: Sequence[str] = ()) -> ctypes.CDLL:
    """Return the engine, compiled with further `options`; a compiled one is loaded from the cache.

    Raises:
        MachineError: there is no compiler, it fails, or the cache cannot be written to.

    """
    cc = compiler()
    path = cache() / f"engine-{_key(cc, options)}.so"
    for fresh in (False, True):
        if fresh or not path.exists():
            _compile(cc, options, path)
        try:
            return ctypes.CDLL(str(path))
        except OSError as error:
            if fresh:
                raise MachineError(f"the compiled engine '{path}' cannot be loaded: {error}") from error
            log.warning("the compiled engine '%s' is damaged and is compiled anew", path)
    raise AssertionError


def _key(cc: str, options: Sequence[str]) -> str:
    """Name everything that the compiled code depends on; a cache may be shared between machines."""
    stat = Path(cc).resolve().stat()
    parts = [SOURCE.read_bytes(), *FLAGS, *options, cc, stat.st_size, stat.st_mtime_ns, _processor()]
    return hashlib.sha256(b"\0".join(p if isinstance(p, bytes) else str(p).encode() for p in parts)).hexdigest()[:24]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    known = sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    return "\n".join([platform.machine(), platform.processor(), *known])


def _compile(cc: str, options: Sequence[str], path: Path) -> None:
    complaint = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".compiling-") as folder:
            made = Path(folder) / "engine.so"
            for target in TARGETS:
                command = [cc, *FLAGS, *target, *options, "-o", str(made), str(SOURCE)]
                done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
                if done.returncode == 0 and made.exists():
                    os.replace(made, path)
                    return
                complaint = _first_error(done.stderr) or f"exit status {done.returncode}"
    except subprocess.TimeoutExpired as error:
        raise MachineError(f"the C compiler '{cc}' did not finish within {PATIENCE} seconds") from error
    except OSError as error:
        raise MachineError(
            f"the engine cannot be compiled into '{path.parent}': {error}; name another folder with SYNAPRUNE_CACHE"
        ) from error
    raise MachineError(f"the C compiler '{cc}' fails: {complaint}; name another one with CC")


def _first_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[0] if lines else "")
