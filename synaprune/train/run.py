"""The folder of one run: what was asked for, what came out epoch by epoch, and the state to continue from.

| file                              | content                                               |
| --------------------------------- | ----------------------------------------------------- |
| `settings.json`                   | resolved settings, versions, machine, command         |
| `metrics.jsonl`                   | one line per finished epoch                           |
| `checkpoint.safetensors`          | the state at the end of the last finished epoch       |
| `checkpoint.previous.safetensors` | the state one epoch earlier                           |
| `checkpoint.damaged.safetensors`  | one that was found damaged when the run was resumed   |
| `tensorboard/`                    | scalars and histograms                                |
| `evaluation.json`                 | the last measurement: accuracy, operations, energy    |
| `training.png`                    | the figure, drawn by the command line at the end      |
| `report.html`                     | the page, written by the command line at the end      |
| `.lock`                           | empty; locked while a process trains into the folder  |
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

import synaprune
from synaprune.errors import UsageError
from synaprune.files import appending, clear, locked, move, replacing, sync
from synaprune.reading import Fault, Malformed, content, from_json, lines, named
from synaprune.schema import ANYTHING, Form, Kind, List, Maybe, Number, Record, Table
from synaprune.train import checkpoint, parallel
from synaprune.train.forms import EVALUATION, HEADER, METRICS, PARTS, TIMED, epoch_of
from synaprune.train.settings import Settings

__all__ = ["Run", "commit", "machine", "result", "versions"]

LONGEST = 2**24  # bytes of a line of metrics: a network of a thousand layers needs a hundredth of it
REMEDY = "mend it, or train anew in another folder"
TENSOR = Kind(torch.Tensor, "a tensor")


def _state_with(tensor: Form) -> Record:
    """Return the form of what a checkpoint holds, where tensors are of a form."""
    return Record(
        {
            "epoch": Number(0, whole=True),
            "settings": Table(ANYTHING),
            "model": Table(tensor),
            "optimizer": Record({"state": ANYTHING, "param_groups": List(Table(ANYTHING))}),
        },
        {"versions": HEADER.optional["versions"]},
    )


STATE, PART_OF_STATE = _state_with(TENSOR), _state_with(Maybe(TENSOR))  # of which those not asked for are None


class Run:
    """A run's folder: a new one is filled by `create` and `append`, an old one read by `settings` and `metrics`."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    @property
    def settings_path(self) -> Path:
        """Where the settings lie."""
        return self.folder / "settings.json"

    @property
    def metrics_path(self) -> Path:
        """Where the metrics lie, one JSON object per line."""
        return self.folder / "metrics.jsonl"

    @property
    def checkpoint_path(self) -> Path:
        """Where the last finished epoch's state lies."""
        return self.folder / "checkpoint.safetensors"

    @property
    def previous_path(self) -> Path:
        """Where the state lies that the last one has replaced."""
        return self.folder / "checkpoint.previous.safetensors"

    @property
    def damaged_path(self) -> Path:
        """Where a damaged checkpoint is put aside."""
        return self.folder / "checkpoint.damaged.safetensors"

    @property
    def evaluation_path(self) -> Path:
        """Where the last measurement of the checkpoint lies."""
        return self.folder / "evaluation.json"

    @property
    def page_path(self) -> Path:
        """Where the page lies that shows the run."""
        return self.folder / "report.html"

    @property
    def tensorboard_path(self) -> Path:
        """Where the TensorBoard event files lie."""
        return self.folder / "tensorboard"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training into the folder, which is made if absent, and clear up after killed ones.

        The system lets go of the lock when the process ends, however it ends. Where the platform or the file
        system has no locks, nothing is kept.

        Raises:
            UsageError: another process is training into it.

        """
        self.folder.mkdir(parents=True, exist_ok=True)
        refusal = f"'{self.folder}' is being trained by another process; wait for it, or give another folder with --out"
        with locked(self.folder / ".lock", refusal):
            clear(self.folder)
            yield

    def refuse_if_taken(self) -> None:
        """Check that the folder is free: a start that failed in its first epoch leaves it so.

        Raises:
            UsageError: it holds a run, or is no folder.

        """
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"'{self.folder}' is a file; give a folder with --out")
        if self.checkpoint_path.exists() or self.previous_path.exists() or self.metrics():
            raise UsageError(
                f"'{self.folder}' already holds a run; continue it with --resume, or give another folder with --out"
            )

    def create(self, settings: Settings, command: Sequence[str] = ()) -> None:
        """Make the folder, with its `settings.json`; raises as `refuse_if_taken`."""
        self.refuse_if_taken()
        self.folder.mkdir(parents=True, exist_ok=True)
        sync(self.folder.parent)
        header = {
            "settings": settings.to_mapping(),
            "versions": versions(),
            "machine": machine(),
            "commit": commit(),
            "command": list(command),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            **parallel.record(),
        }
        with replacing(self.settings_path) as file:
            file.write(json.dumps(header, indent=2).encode() + b"\n")

    def header(self) -> dict[str, Any]:
        """Return what `settings.json` holds.

        Raises:
            UsageError: the folder holds no run, or the file is damaged.

        """
        try:
            with named(f"'{self.settings_path}' is damaged: it", "restore it, or train anew in another folder"):
                header = from_json(content(self.settings_path))
                HEADER.check(header)
        except FileNotFoundError as error:
            raise UsageError(f"'{self.folder}' holds no run: there is no settings.json") from error
        except NotADirectoryError as error:
            raise UsageError(f"'{self.folder}' is a file, not the folder of a run") from error
        return header

    def settings(self) -> Settings:
        """Return the settings of the run; raises as `header`, and for those that cannot be."""
        return Settings.from_mapping(self.header()["settings"], source=f"'{self.settings_path}'")

    def state(self, only: Callable[[str], bool] | None = None) -> dict[str, Any]:
        """Return the state at the end of the last finished epoch: epoch, settings, model, optimizer.

        Args:
            only: which tensors to return, if not all; see `synaprune.train.checkpoint.load`.

        Raises:
            DamagedError: there is none, or it is damaged; the sentence says whether there is an earlier one.
            UsageError: the checkpoint is of another run, or holds something else.

        """
        try:
            return self._state(self.checkpoint_path, only)
        except checkpoint.DamagedError as error:
            raise checkpoint.DamagedError(error.fault, self._way_back()) from error

    def newest_whole_state(self) -> tuple[dict[str, Any], checkpoint.DamagedError | None]:
        """Return the last state, else the one before it and what is wrong with the last; raises as `state`."""
        try:
            return self.state(), None
        except checkpoint.DamagedError as error:
            try:
                return self._state(self.previous_path), error
            except checkpoint.DamagedError:
                raise error from None

    def go_back(self) -> None:
        """Put the last checkpoint aside, and the one before it in its place."""
        if self.checkpoint_path.exists():
            move(self.checkpoint_path, self.damaged_path)
        move(self.previous_path, self.checkpoint_path)

    def _state(self, path: Path, only: Callable[[str], bool] | None = None) -> dict[str, Any]:
        """Return the state that a checkpoint of this run holds."""
        own = self.settings()
        if path == self.checkpoint_path and not path.exists():
            fault = f"'{self.folder}' has no checkpoint: no epoch of the run is finished, or the file is lost"
            raise checkpoint.DamagedError(fault)
        state = checkpoint.load(path, only)
        with named(f"checkpoint '{path}'", checkpoint.REMEDY):
            (STATE if only is None else PART_OF_STATE).check(state)
        before = Settings.from_mapping(state["settings"], source=f"'{path}'")
        other = own.difference(before)
        if other is not None:
            old, new = getattr(before, other), getattr(own, other)
            raise UsageError(
                f"'{path}' was trained with {other} = {old!s:.60}, and '{self.settings_path.name}' says {new!s:.60};"
                " put the run's own checkpoint back"
            )
        return state

    def _way_back(self) -> str:
        """Say what can be done about a checkpoint that is lost or damaged."""
        if self.previous_path.exists():
            try:
                epoch = self._state(self.previous_path, lambda name: False)["epoch"]
            except (UsageError, OSError):
                return "the one before it cannot be used either; restore it, or train anew in another folder"
            return (
                f"the one before it, of epoch {epoch}, is whole: train with --resume to go on from there, or give"
                f" '{self.previous_path.name}' the name '{self.checkpoint_path.name}'"
            )
        if not self.checkpoint_path.exists():
            return ""
        if sum(1 for _ in self._lines()) <= 1:
            return "delete it, and --resume begins anew"
        return "restore it, or train anew in another folder"

    def save(self, settings: Settings, epoch: int, network: nn.Module, optimizer: Optimizer) -> None:
        """Write the state at the end of an epoch, which `state` reads, and keep the one before it.

        Raises:
            MachineError: the disk is full; the previous checkpoint stays.

        """
        state = {"epoch": epoch, "settings": settings.to_mapping(), "versions": versions()}
        state |= {"model": network.state_dict(), "optimizer": optimizer.state_dict()}
        checkpoint.save(state, self.checkpoint_path, self.previous_path)

    def metrics(self, form: Form = PARTS) -> list[dict[str, Any]]:
        """Return one dictionary per finished epoch; a last line that a kill left half-written is passed over.

        Parts of what training writes may be missing, unless a form asks for them.

        Raises:
            UsageError: another line is damaged or missing, or the file is none.

        """
        found: list[dict[str, Any]] = []
        with named(f"'{self.metrics_path}'", REMEDY):
            numbered = enumerate(self._lines(), 1)
            for number, line in numbered:
                try:
                    found.append(epoch_of(line if line.endswith(b"\n") else b"", number, form))
                except Malformed as error:
                    if next(numbered, None) is not None:
                        raise Fault(f"is damaged: line {number} does not hold the metrics of epoch {number}") from error
        return found

    def epochs(self) -> list[dict[str, Any]]:
        """Return the metrics of each finished epoch, with all that training writes; raises as `metrics`."""
        return self.metrics(METRICS)

    def append(self, metrics: Mapping[str, Any]) -> None:
        """Add one epoch's line and bring it to the disk."""
        with appending(self.metrics_path) as file:
            file.write(json.dumps(metrics).encode() + b"\n")

    def keep_evaluation(self, figures: Mapping[str, Any]) -> None:
        """Write what `synaprune.train.loop.evaluate` has measured."""
        with replacing(self.evaluation_path) as file:
            file.write(json.dumps(figures, indent=1).encode() + b"\n")

    def evaluation(self, epoch: int) -> dict[str, Any] | None:
        """Return the last measurement if it is whole and of this epoch, else None: it can be made anew."""
        try:
            figures = from_json(content(self.evaluation_path), finite=False)
            EVALUATION.check(figures)
        except (FileNotFoundError, NotADirectoryError, Fault):
            return None
        return figures if figures["epoch"] == epoch else None

    def cut(self, epoch: int) -> list[dict[str, Any]]:
        """Drop the lines of epochs after `epoch`: written, but not yet in a checkpoint when the run ended.

        Return the metrics of the epochs that stay.

        Raises:
            UsageError: a line is damaged or missing; nothing is changed.

        """
        kept, lines = self.metrics()[:epoch], list(self._lines())
        if len(kept) < epoch:
            raise UsageError(
                f"'{self.metrics_path}' ends after epoch {len(kept)}, but the checkpoint is of epoch {epoch};"
                " restore the file, or train anew in another folder"
            )
        if len(lines) > epoch:
            with replacing(self.metrics_path) as file:
                file.writelines(lines[:epoch])
        return kept

    def _lines(self) -> Iterator[bytes]:
        """Yield the lines of `metrics.jsonl`, if it is there."""
        with suppress(FileNotFoundError, NotADirectoryError):
            yield from lines(self.metrics_path, LONGEST)


def result(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the final figures of a run as plain data: settings, last metrics, seconds, versions, machine.

    Raises:
        UsageError: the folder holds no run, or no epoch of it is finished.

    """
    run = Run(folder)
    header, epochs = run.header(), run.metrics(TIMED)
    if not epochs:
        raise UsageError(f"'{run.folder}' has no finished epoch yet")
    return {
        "settings": run.settings().to_mapping(),
        "metrics": epochs[-1],
        "seconds": sum(epoch["seconds"] for epoch in epochs),
        "versions": header.get("versions", {}),
        "machine": header.get("machine", {}),
    }


def commit() -> str | None:
    """Return the commit of the checkout that this package lies in, marked where files differ; None outside one."""
    git = ["git", "-C", str(Path(synaprune.__file__).parent)]
    try:
        # An installed package may lie in a checkout too, that of somebody else's project.
        subprocess.run([*git, "ls-files", "--error-unmatch", "__init__.py"], capture_output=True, check=True)
        described = subprocess.run(
            [*git, "describe", "--always", "--dirty", "--exclude=*"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()


def machine() -> dict[str, Any]:
    """Describe this machine: processor, cores, GPU."""
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass  # not Linux, or a processor that does not tell
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"processor": processor, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpu": gpu}


def versions() -> dict[str, str]:
    """Return the versions of what a result depends on."""
    return {name: metadata.version(name) for name in ("synaprune", "torch", "spikingjelly", "numpy")}
