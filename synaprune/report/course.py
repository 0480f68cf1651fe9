"""The course of a run, followed while it trains: no byte is read twice, and of many epochs some hundred are kept."""

from __future__ import annotations

import os
from typing import Any, BinaryIO

from synaprune.errors import UsageError
from synaprune.reading import Fault, Malformed, check_regular, named
from synaprune.report.histograms import Histograms
from synaprune.train.forms import epoch_of
from synaprune.train.run import LONGEST, REMEDY, Run

__all__ = ["KEPT", "Course"]

KEPT = 512  # epochs at most, and the newest: a figure is no wider than that
BLOCK = 1 << 20  # bytes read at a time
TAIL = 64  # bytes before those not yet read, by which a file is known again


class Course:
    """What a run has recorded so far.

    Attributes:
        run: whose course it is.
        finished: how many epochs there are.
        histograms: the distributions of the weights, followed too.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.histograms = Histograms(run.tensorboard_path)
        self._seen: tuple[int, int, int] | None = None  # device, number and time of the file
        self._forget()

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """The metrics of every epoch, or of many those that lie the same number apart, and of the newest."""
        return self._kept if not self._kept or self._newest is self._kept[-1] else [*self._kept, self._newest]

    @property
    def seconds(self) -> float:
        """How long the finished epochs took; from those that are kept, where not all are."""
        known = [epoch.get("seconds") or 0.0 for epoch in self.epochs]
        return self.finished * sum(known) / max(1, len(known))

    def follow(self) -> bool:
        """Read what has been written since the last time, and tell whether there is something new.

        A file that was cut or replaced, as a resumed run does, is read anew. A last line without its end is left until
        it has one.

        Raises:
            UsageError: a line is damaged, missing, or of another form, as long as the file stays as it is; or it is no
                file.

        """
        try:
            with named(f"'{self.run.metrics_path}'", REMEDY):
                check_regular(self.run.metrics_path)
            file = self.run.metrics_path.open("rb")
        except (FileNotFoundError, NotADirectoryError):
            had = self.finished > 0
            self._forget()
            return had
        with file:
            state = os.fstat(file.fileno())
            before = self.finished
            anew = not self._goes_on(file, state)
            if anew:
                self._forget()
            self._seen = (state.st_dev, state.st_ino, state.st_mtime_ns)
            if not self._damage:
                self._read(file, state.st_size)
            if self._damage:
                raise UsageError(self._damage)
            return anew or self.finished != before

    def _forget(self) -> None:
        self._kept: list[dict[str, Any]] = []
        self._newest: dict[str, Any] = {}
        self.finished = 0
        self._stride = 1
        self._place = 0
        self._rest = b""  # a line without its end
        self._tail = b""
        self._seen = None
        self._unread: list[bytes] = []  # the newest line and the one before it, if they were counted only
        self._torn = False  # the newest line is none, which only a last one may be
        self._damage = ""  # in words, after which no line is read

    def _goes_on(self, file: BinaryIO, state: os.stat_result) -> bool:
        """Tell whether a file begins with what was read of it."""
        if self._seen is None:
            return True
        device, node, written = self._seen
        if (state.st_dev, state.st_ino) != (device, node) or state.st_size < self._place:
            return False
        if state.st_size == self._place and state.st_mtime_ns != written:
            return False
        file.seek(self._place - len(self._tail))
        return file.read(len(self._tail)) == self._tail

    def _read(self, file: BinaryIO, size: int) -> None:
        """Read the lines up to a size, beyond which the next call goes on."""
        file.seek(self._place)
        while self._place < size and not self._damage:
            block = file.read(min(BLOCK, size - self._place))
            if not block:
                break  # it was cut meanwhile, which the next call notices
            self._place += len(block)
            self._tail = (self._tail + block)[-TAIL:]
            *lines, self._rest = (self._rest + block).split(b"\n")
            for line in lines:
                self._take(line)
            if len(self._rest) > LONGEST:
                self._find_damage(self.finished + 1)
        self._take_unread()

    def _take(self, line: bytes, whole: bool = False) -> None:
        """Take the line of the next epoch; of one that is not kept, the beginning is enough."""
        number = self.finished + 1
        if self._torn or self._damage:
            self._find_damage(number)
            return
        kept = (number - 1) % self._stride == 0
        if not kept and not whole and _seems_whole(line, number):
            self.finished, self._unread = number, [*self._unread[-1:], line]
            return
        try:
            metrics = epoch_of(line, number)
        except Malformed:
            self._take_unread()
            if self._torn:
                self._find_damage(self.finished + 1)
            self._torn = True
            return
        except Fault as fault:
            self._take_unread()
            self._find_damage(number, str(fault))
            return
        self._unread = []
        self.finished, self._newest = number, metrics
        if kept:
            self._kept.append(metrics)
            if len(self._kept) > KEPT:
                self._stride *= 2
                self._kept = self._kept[::2]

    def _take_unread(self) -> None:
        """Take what was counted only: the newest epoch is shown whole, and the one before it if its line is torn."""
        if self._unread and not self._damage:
            lines, self._unread = self._unread, []
            self.finished -= len(lines)
            for line in lines:
                self._take(line, whole=True)

    def _find_damage(self, number: int, fault: str = "") -> None:
        """Keep in words what is wrong with a line, unless one before it was."""
        fault = fault or f"is damaged: line {number} does not hold the metrics of epoch {number}"
        self._damage = self._damage or f"'{self.run.metrics_path}' {fault}; {REMEDY}"


def _seems_whole(line: bytes, number: int) -> bool:
    """Whether a line begins as that of an epoch and does end: one that was cut lacks a bracket, whatever follows."""
    whole = line.startswith(b'{"epoch": %d,' % number) and line.endswith(b"}")
    return whole and line.count(b"{") == line.count(b"}")
