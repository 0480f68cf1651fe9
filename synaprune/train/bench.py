"""How fast the network of a run, or of a sparse file, classifies the images it is meant for."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from synaprune.data import Dataset, normalize
from synaprune.engine import Engine, from_torch, to_torch
from synaprune.engine.graph import Network
from synaprune.engine.timing import Measurement, measure
from synaprune.errors import UsageError
from synaprune.export import provenance, read
from synaprune.files import replacing
from synaprune.measure import FiringRates
from synaprune.models import Readout
from synaprune.train import build, checkpoint
from synaprune.train.memory import memory_for
from synaprune.train.run import Run, machine, versions
from synaprune.train.settings import Settings

__all__ = ["Agreement", "agreement", "bench", "keep"]

CPU = torch.device("cpu")
AT_ONCE = 100  # images in PyTorch, whose activations of all time steps fill the memory


def bench(
    place: str | os.PathLike[str],
    *,
    batch: int = 32,
    threads: int = 1,
    repeats: int | None = None,
    data_dir: str | Path | None = None,
) -> Measurement:
    """Time the engine against PyTorch on the first images of the test part: one by one, and as a batch.

    Args:
        place: the folder of a run, or a sparse file.
        batch: how many images.
        threads: of the engine and of PyTorch.
        repeats: rounds in which they alternate; default: as many as fit into 20 seconds, from 3 to 100.
        data_dir: where the data files lie; see `synaprune.data.load`.

    Raises:
        UsageError: there is no run and no sparse file, or it is damaged; a file does not say on which data its
            network was trained; a number is out of its range.
        MachineError: there is no C compiler that works, the memory is full, or the data cannot be had.

    """
    for name, number in (("batch", batch), ("repeats", repeats)):
        if number is not None and number < 1:
            raise UsageError(f"{name} must be at least 1, not {number}")
    with _loaded(place, threads, data_dir) as (engine, model, data):
        if batch > len(data.test_images):
            raise UsageError(f"batch must be at most {len(data.test_images)}, the images of {data.name}, not {batch}")
        with memory_for(f"batches of {batch}", "lower --batch"):
            return measure(engine, model, normalize(data.test_images[:batch], data.mean, data.std), repeats)


class Agreement(NamedTuple):
    """How engine and PyTorch agree: images, those with the same class, and the spikes of all neurons in each."""

    images: int
    same_class: int
    spikes: int
    spikes_in_torch: int


def agreement(place: str | os.PathLike[str], *, threads: int = 1, data_dir: str | Path | None = None) -> Agreement:
    """Show all images of the test part to the engine and to PyTorch; arguments and errors as for `bench`."""
    same = own = 0
    with (
        _loaded(place, threads, data_dir) as (engine, model, data),
        torch.inference_mode(),
        FiringRates(model) as rates,
    ):
        for images in data.test_images.split(AT_ONCE):
            x = normalize(images, data.mean, data.std)
            output = model(x)
            expected = (output.rate if isinstance(output, Readout) else output).argmax(1).numpy()
            same += int((engine(x.numpy()).argmax(1) == expected).sum())
            own += sum(engine.spikes.values())
        return Agreement(len(data.test_images), same, own, sum(rates.spikes().values()))


def keep(measured: Measurement, place: str | os.PathLike[str], path: Path) -> None:
    """Write the figures of `place` to a file, with the machine and the versions that they depend on."""
    figures = {"place": str(place), **measured.to_mapping(), "machine": machine(), "versions": versions()}
    with replacing(path, remedy="free some space") as file:
        file.write(json.dumps(figures, indent=1).encode() + b"\n")


@contextmanager
def _loaded(
    place: str | os.PathLike[str], threads: int, data_dir: str | Path | None
) -> Iterator[tuple[Engine, nn.Module, Dataset]]:
    """Give the engine, the model that it computes, and their data."""
    path = Path(place)
    if not path.exists():
        raise UsageError(f"there is no run and no sparse file '{path}'")
    found: Network | None = None
    if path.is_dir():
        run = Run(path)
        state, source = run.state(), run.checkpoint_path
        settings = Settings.from_mapping(state["settings"], source=f"'{source}'")
    else:
        found, settings = read(path), _settings(path)
    with build.environment(dataclasses.replace(settings, device="cpu"), CPU):
        data = build.dataset(settings, data_dir, CPU)
        model: nn.Module
        if found is None:
            model = build.model(settings, data)
            checkpoint.check_model(model, state["model"], source)
            model.load_state_dict(state["model"])
            found = from_torch(model)
        else:
            model = to_torch(found)
        yield Engine(found, threads, backend="c"), model.eval(), data


def _settings(path: Path) -> Settings:
    """Return the settings that a sparse file says its network was trained with."""
    found: Any = provenance(path).get("settings")
    if not isinstance(found, Mapping):
        raise UsageError(f"'{path}' does not say on which data its network was trained; name the run, or export it")
    return Settings.from_mapping(found, source=f"'{path}'")
