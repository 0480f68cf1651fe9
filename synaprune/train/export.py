"""A run's trained network as one small file, and what it can do when it is read back."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import NamedTuple

import torch

from synaprune.data import Dataset, normalize
from synaprune.engine import Engine, from_torch
from synaprune.errors import UsageError
from synaprune.export import read, write
from synaprune.export.values import check
from synaprune.train import build, checkpoint
from synaprune.train.epoch import TEST_BATCH
from synaprune.train.run import Run
from synaprune.train.settings import Settings

__all__ = ["Exported", "export"]


class Exported(NamedTuple):
    """A sparse file: its size in bytes, the synapses in it, its accuracy on `part` of the data and the run's own.

    The first accuracy is None where the file has not been tried.
    """

    path: Path
    size: int
    synapses: int
    part: str
    accuracy: float | None
    before: float


def export(
    folder: str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    *,
    values: str = "fp32",
    data_dir: str | Path | None = None,
    measure: bool = True,
) -> Exported:
    """Write the network of a run's checkpoint to a sparse file, and measure what comes out of it.

    Args:
        folder: of the run.
        path: of the file; default: `sparse-{values}.safetensors` in the folder.
        values: "fp32", "fp16" or "int8"; see `synaprune.export.write`.
        data_dir: where the data files lie; see `synaprune.data.load`.
        measure: try the file on the test images, with the engine.

    Raises:
        UsageError: the folder holds no run, no checkpoint, or a damaged one; there are no such values; the file
            cannot be at that path.
        MachineError: the disk or the memory is full, or the data cannot be had.

    """
    check(values)
    run = Run(folder)
    state, lines = run.state(), run.epochs()
    source, epoch = run.checkpoint_path, state["epoch"]
    settings = Settings.from_mapping(state["settings"], source=f"'{source}'")
    if not 1 <= epoch <= len(lines):
        raise UsageError(f"'{run.metrics_path}' has no line of epoch {epoch}, of which the checkpoint is; restore it")
    part = "validation" if settings.holdout else "test"
    before = lines[epoch - 1].get(f"{part}_accuracy")
    if before is None:
        raise UsageError(f"'{run.metrics_path}' has no {part} accuracy of epoch {epoch}; restore it")
    path = run.folder / f"sparse-{values}.safetensors" if path is None else Path(path)
    cpu = torch.device("cpu")
    with build.environment(dataclasses.replace(settings, device="cpu"), cpu):
        data = build.dataset(settings, data_dir, cpu)
        network = build.model(settings, data)
        checkpoint.check_model(network, state["model"], source)
        network.load_state_dict(state["model"])
        shape = data.test_images.shape[1:]
        origin = {
            "settings": settings.to_mapping(),
            "versions": state.get("versions"),
            "epoch": epoch,
            f"{part}_accuracy": before,
            "input": {"shape": list(shape), "scale": 255, "mean": list(data.mean), "std": list(data.std)},
        }
        write(from_torch(network), path, values=values, provenance=origin)
        del network
        found = read(path)
        accuracy = None
        if measure:
            accuracy = _accuracy(Engine(found, torch.get_num_threads()), data, TEST_BATCH[settings.model])
    return Exported(path, path.stat().st_size, found.synapses, part, accuracy, before)


def _accuracy(engine: Engine, data: Dataset, size: int) -> float:
    """Return the share of the test part that the engine classifies as labelled."""
    correct = 0
    for images, labels in zip(data.test_images.split(size), data.test_labels.split(size)):
        answer = engine(normalize(images, data.mean, data.std)).argmax(1)
        correct += int((answer == labels.numpy()).sum())
    return correct / len(data.test_labels)
