"""A command that torchrun has started in several processes: which of them this is, and how it ends if another has."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from synaprune.terminal import say

__all__ = ["ending_in_time", "launcher", "process"]

PATIENCE = 5.0  # seconds; torchrun kills after 30 what it has asked to end
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def process() -> tuple[int, int]:
    """Return the number of this process among those that torchrun has started, from 0, and how many they are."""
    return (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if "TORCHELASTIC_RUN_ID" in os.environ else (0, 1)


def launcher() -> list[str]:
    """Return the beginning of the command that has started this process."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return ["synaprune"]
    return ["torchrun", f"--nproc-per-node={os.environ.get('LOCAL_WORLD_SIZE', 1)}", "-m", "synaprune"]


@contextmanager
def ending_in_time(last_words: Callable[[], str]) -> Iterator[None]:
    """End the process, with these words, if it does not end by itself soon after it was asked to.

    Python hears of a signal once torch returns to it, and torch does not as long as it waits for a process that is
    no more.
    """
    if process()[1] == 1:
        yield
        return
    left = threading.Event()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def watch() -> None:
        while number := os.read(reader, 1):
            if number[0] in SIGNALS and not left.wait(PATIENCE):
                say(f"synaprune: {last_words()}", stderr=True)
                sys.stderr.flush()
                os._exit(128 + number[0])
        os.close(reader)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        left.set()
        signal.set_wakeup_fd(before)
        os.close(writer)
