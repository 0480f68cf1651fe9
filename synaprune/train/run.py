"""The folder of one run: what was asked for, what came out epoch by epoch, and the state to continue from.

| file                     | content                                               |
| ------------------------ | ----------------------------------------------------- |
| `settings.json`          | resolved settings, versions, machine, command         |
| `metrics.jsonl`          | one line per finished epoch                           |
| `checkpoint.safetensors` | the state at the end of the last finished epoch       |
| `tensorboard/`           | scalars and histograms                                |
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from synaprune.errors import UsageError
from synaprune.train import checkpoint
from synaprune.train.settings import Settings

__all__ = ["Run", "machine", "result", "versions"]


class Run:
    """A run's folder, opened with `Run.create`, `Run.resume` or `Run.open`."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    @property
    def settings_path(self) -> Path:
        """Where the settings lie; the folder holds a run as soon as this file exists."""
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
    def tensorboard_path(self) -> Path:
        """Where the TensorBoard event files lie."""
        return self.folder / "tensorboard"

    def refuse_if_taken(self) -> None:
        """Check that the folder holds no run yet.

        Raises:
            UsageError: it does.

        """
        if self.settings_path.exists():
            raise UsageError(f"'{self.folder}' already holds a run; resume it, or give another folder")

    def create(self, settings: Settings, command: Sequence[str] = ()) -> None:
        """Make the folder, with its `settings.json`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        header = {
            "settings": settings.to_mapping(),
            "versions": versions(),
            "machine": machine(),
            "command": list(command),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        with checkpoint.replacing(self.settings_path) as file:
            file.write(json.dumps(header, indent=2).encode() + b"\n")

    def header(self) -> dict[str, Any]:
        """Return what `settings.json` holds.

        Raises:
            UsageError: the folder holds no run, or the file is damaged.

        """
        try:
            return json.loads(self.settings_path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UsageError(f"'{self.folder}' holds no run: there is no settings.json") from error
        except ValueError as error:
            raise UsageError(f"'{self.settings_path}' is damaged: {error}") from error

    def settings(self) -> Settings:
        """Return the settings of the run."""
        header = self.header()
        try:
            return Settings.from_mapping(header["settings"], source=f"'{self.settings_path}'")
        except (KeyError, TypeError) as error:
            raise UsageError(f"'{self.settings_path}' is damaged: it holds no settings") from error

    def metrics(self) -> list[dict[str, Any]]:
        """Return one dictionary per finished epoch; a half-written last line is passed over."""
        try:
            lines = self.metrics_path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                found.append(json.loads(line if line.endswith("\n") else ""))
            except ValueError:
                break
        return found

    def append(self, metrics: Mapping[str, Any]) -> None:
        """Add one epoch's line and bring it to the disk."""
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(metrics) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def cut(self, epoch: int) -> None:
        """Drop the lines of epochs after `epoch`: written, but not yet in a checkpoint when the run ended."""
        kept = [line for line in self.metrics() if line["epoch"] <= epoch]
        with checkpoint.replacing(self.metrics_path) as file:
            file.writelines(json.dumps(line).encode() + b"\n" for line in kept)


def result(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the final figures of a run as plain data: settings, last metrics, seconds, versions, machine.

    Raises:
        UsageError: the folder holds no run, or no epoch of it is finished.

    """
    run = Run(folder)
    header, epochs = run.header(), run.metrics()
    if not epochs:
        raise UsageError(f"'{run.folder}' has no finished epoch yet")
    return {
        "settings": header["settings"],
        "metrics": epochs[-1],
        "seconds": sum(epoch["seconds"] for epoch in epochs),
        "versions": header["versions"],
        "machine": header["machine"],
    }


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
