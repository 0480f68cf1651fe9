"""Train the points of a sweep, several at a time, each by a `synaprune train` of its own.

A point's run is a folder `<runs>/<sweep>/<point>`, its output `<point>.log` beside it, its result one file in the
sweep's folder of results, written when the run is done. What has a result is never trained again; what was cut off,
by whatever cause, is resumed, for the runs are those of `synaprune train`.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from synaprune.data import load
from synaprune.errors import MachineError, UsageError
from synaprune.files import appending, locked, replacing
from synaprune.reading import named
from synaprune.train import build
from synaprune.train.forms import BRIEF
from synaprune.train.loop import evaluate
from synaprune.train.results import REMEDY
from synaprune.train.run import Run, commit, result
from synaprune.train.sweep import Point, Sweep

__all__ = ["State", "default_jobs", "run", "states"]

POLL_SECONDS = 0.2

# What a child runs. It lives no longer than its parent: the parent holds the other end of its standard input, and
# whatever becomes of the parent, SIGKILL included, the system closes that end. No signal has to be sent, none can be
# missed, and it is the same on every platform. That the child ends in the midst of things does no harm to its run.
CHILD = """
import os, sys, threading

def follow():
    os.read(0, 1)
    os._exit(1)

threading.Thread(target=follow, daemon=True).start()
from synaprune.cli import main

sys.exit(main())
"""


@dataclasses.dataclass
class State:
    """Where a point stands: `waiting`, `running`, `done` or `failed`, the last of these for the reason `fault`."""

    point: Point
    state: str = "waiting"
    metrics: dict[str, Any] | None = None  # of the last finished epoch
    seconds: float = 0.0  # of all finished epochs
    fault: str = ""
    exit_code: int = 0


Report = Callable[[Sequence[State]], None]


def default_jobs(sweep: Sweep) -> int:
    """Return how many points to train side by side: as many as fill the processor, one on a GPU.

    Raises:
        UsageError: a point names a device that this machine does not have.

    """
    if any(build.device(point.settings).type != "cpu" for point in sweep.points):
        return 1
    threads = [point.settings.threads for point in sweep.points]
    if 0 in threads:  # torch takes all that there are
        return 1
    return max(1, _cpus() // max(threads))


def states(sweep: Sweep, runs: str | os.PathLike[str] = "runs") -> list[State]:
    """Return where each point stands by what is on the disk: `done`, or `waiting` with the epochs it has.

    Raises:
        UsageError: a result or a run has other settings than its point now has, or is damaged.

    """
    return [_state(sweep, point, Run(_folder(sweep, runs) / point.name)) for point in sweep.points]


def run(
    sweep: Sweep,
    *,
    jobs: int | None = None,
    data_dir: str | Path | None = None,
    runs: str | os.PathLike[str] = "runs",
    report: Report | None = None,
) -> list[State]:
    """Train all points that have no result yet, and return where each then stands: `done` or `failed`.

    A point that fails does not stop the others; one that another process trains is waited for.

    Args:
        sweep: what to train.
        jobs: how many points to train side by side; by default see `default_jobs`.
        data_dir: where the data files lie; see `synaprune.data.load`.
        runs: folder of the runs of all sweeps.
        report: called with the state of all points several times per second.

    Raises:
        UsageError: another sweep fills the folder of results, or what is there does not belong to this sweep.
        MachineError: the data cannot be had. Nothing has been trained then, as with the former.

    """
    jobs = jobs or default_jobs(sweep)
    states(sweep, runs)  # what is refused is refused before a folder is made
    sweep.results.mkdir(parents=True, exist_ok=True)
    refusal = f"another sweep fills '{sweep.results}'; wait for it, or name another folder under 'results'"
    with locked(sweep.results, refusal):  # itself, so that no file of ours lies among the results
        found = states(sweep, runs)
        waiting = [state for state in found if state.state == "waiting"]
        for task in {state.point.settings.task for state in waiting}:
            load(task, data_dir)  # absent data is one sentence, or one download, instead of one per point
        folder = _folder(sweep, runs)
        folder.mkdir(parents=True, exist_ok=True)
        children: list[_Child] = []
        try:
            while waiting or children:
                free = (state for state in waiting if _free(folder / state.point.name))
                for state in list(itertools.islice(free, jobs - len(children))):
                    waiting.remove(state)
                    children.append(_Child(sweep, state, folder, data_dir))
                children = [child for child in children if child.lives()]
                if report is not None:
                    report(found)
                time.sleep(POLL_SECONDS)
        finally:
            for child in children:
                child.end()
    if report is not None:
        report(found)
    return found


class _Child:
    """A process that trains one point."""

    def __init__(self, sweep: Sweep, state: State, folder: Path, data_dir: str | Path | None) -> None:
        self._sweep, self._state = sweep, state
        self._run = Run(folder / state.point.name)
        self._log = folder / f"{state.point.name}.log"
        self._size, self._data_dir = 0, data_dir
        self._commit = commit()  # of the code that the child loads
        arguments = ["train", sweep.recipe, *state.point.flags, f"--out={self._run.folder}"]
        if data_dir is not None:
            arguments.append(f"--data-dir={data_dir}")
        if self._run.settings_path.exists():
            arguments.append("--resume")
        # The child finds the modules that this process finds, not those that may lie where the command is given.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
        with appending(self._log) as log:
            self._start = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", CHILD, *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
            )
        state.state = "running"

    def lives(self) -> bool:
        """Bring the point's state up to date and say whether the process still trains."""
        code = self._process.poll()
        self._read_metrics()
        if code is None:
            return True
        self.end()
        try:
            if code:
                raise MachineError(self._fault(code)) if code != 2 else UsageError(self._fault(code))
            self._keep()
            self._state.state = "done"
        except (UsageError, MachineError) as error:
            self._state.state, self._state.fault, self._state.exit_code = "failed", str(error), error.exit_code
        return False

    def end(self) -> None:
        """Let go of the process, which ends it, and wait until it has ended."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read_metrics(self) -> None:
        """Read the finished epochs, if there are more than before."""
        try:
            size = self._run.metrics_path.stat().st_size
            if size != self._size:
                _read_epochs(self._state, self._run)
                self._size = size
        except (FileNotFoundError, UsageError):
            pass  # what is wrong with the file is for the child to say

    def _keep(self) -> None:
        """Write the result, if it is what was asked for: the recipe may have been changed meanwhile."""
        point = self._state.point
        name = point.settings.difference(self._run.settings())
        if name is not None:
            raise UsageError(
                f"'{self._run.folder}' was trained with another '{name}' than the sweep began with; recipe or sweep"
                " was changed meanwhile: delete the folder and run the sweep again"
            )
        for name, path in self._sweep.tails(point).items():
            self._write(path, f"{point.label}-tail-{name}", Run(self._run.folder / "tails" / name))
        self._write(self._sweep.result_path(point), point.label, self._run)  # last: it says that the point is done

    def _write(self, path: Path, label: str, trained: Run) -> None:
        """Write the result of a run, with operations, energy and the three definitions of connectivity."""
        found = result(trained.folder)
        kept = trained.evaluation(found["metrics"]["epoch"])
        found["metrics"] |= kept or evaluate(trained.folder, data_dir=self._data_dir)
        record = {"point": label, "sweep": self._sweep.path.stem, "command": self._sweep.command(self._state.point)}
        record |= {"commit": self._commit} if self._commit else {}
        with replacing(path) as file:
            file.write(json.dumps({**record, **found}, indent=1).encode() + b"\n")

    def _fault(self, code: int) -> str:
        """Return why the process failed, by its own last words."""
        if code < 0:
            return f"its process was ended by signal {-code} ({signal.strsignal(-code)}); the same command resumes it"
        with self._log.open("rb") as log:
            log.seek(self._start)
            lines = log.read().decode(errors="replace").strip().splitlines()
        return (lines or ["it ended without a word"])[-1].removeprefix("synaprune: ")


def _state(sweep: Sweep, point: Point, trained: Run) -> State:
    """Return where a point stands by its result and its run."""
    record, state = sweep.result(point), State(point)
    if record is not None:
        with named(f"result '{sweep.result_path(point)}' is damaged: it", REMEDY):
            BRIEF.check(record["metrics"], ("metrics",))
        state.state, state.metrics, state.seconds = "done", record["metrics"], record["seconds"]
    elif trained.settings_path.exists():
        point.check(trained.settings(), trained.folder, "delete it, or give another folder with --runs")
        _read_epochs(state, trained)
    return state


def _read_epochs(state: State, trained: Run) -> None:
    """Take over what the finished epochs of a run say."""
    epochs = trained.metrics(BRIEF)
    if epochs:
        state.metrics, state.seconds = epochs[-1], sum(epoch.get("seconds", 0.0) for epoch in epochs)


def _folder(sweep: Sweep, runs: str | os.PathLike[str]) -> Path:
    """Return the folder of the sweep's runs."""
    return Path(runs, sweep.path.stem)


def _free(folder: Path) -> bool:
    """Whether no process trains into the folder, such as one whose sweep has just been killed."""
    try:
        with Run(folder).locked():
            return True
    except UsageError:
        return False


def _cpus() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
