"""From settings to the objects of a run: device, data, network, optimizer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from synaprune import budget
from synaprune.catalogue import CATALOGUE
from synaprune.data import Dataset, load
from synaprune.errors import UsageError, nearest
from synaprune.models import MODELS
from synaprune.optim import METHODS
from synaprune.optim.rewirer import Rewirer
from synaprune.optim.surroundings import cpu_by_default
from synaprune.train.memory import memory_for
from synaprune.train.settings import COURSE, EXCHANGING, Settings, methods_of

__all__ = ["dataset", "device", "environment", "model", "optimizer", "seed"]

DEVICES = ("cpu", "cuda", "mps")
DRAWING = tuple(name for name, entry in CATALOGUE.items() if entry.begins != "dense")  # their synapses at random


def device(settings: Settings) -> torch.device:
    """Return the device that `settings.device` names.

    Raises:
        UsageError: there is no such device on this machine, or it cannot compute in bfloat16 as asked.

    """
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(name)
        torch.empty(0, device=found)
        if found.type not in DEVICES:
            raise NotImplementedError(f"a network on '{found.type}'")
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"there is no device '{name}' on this machine; give --device cpu") from error
    # NVIDIA's GPUs have it from compute capability 8.0 on; torch would imitate it.
    if settings.precision == "bf16" and found.type == "cuda" and torch.cuda.get_device_capability(found) < (8, 0):
        raise UsageError(f"the GPU '{torch.cuda.get_device_name(found)}' knows no bfloat16; give --precision fp32")
    return found


@contextmanager
def environment(settings: Settings, where: torch.device) -> Iterator[None]:
    """Set threads and torch's defaults, and seed torch, for one run; give the caller's own back at the end.

    Raises:
        MachineError: the run within needs more memory than there is.

    """
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    with cpu_by_default(), torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.set_default_dtype(torch.float32)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)
        try:
            with memory_for(f"this run on device '{where}'", "free some, or lower --width or --time-steps"):
                yield
        finally:
            torch.set_num_threads(threads)
            torch.set_default_dtype(dtype)


def seed(settings: Settings, epoch: int, stream: int) -> int:
    """Return the seed of one random stream in one epoch, so that an epoch needs nothing of those before it."""
    return int(np.random.SeedSequence((settings.seed, epoch, stream)).generate_state(1, np.uint64)[0])


def dataset(settings: Settings, data_dir: str | Path | None, where: torch.device) -> Dataset:
    """Return the data on its device; with `holdout`, the test part is the validation set."""
    with memory_for(f"the images of {settings.task} on device '{where}'"):
        data = load(settings.task, data_dir)
        if settings.holdout:
            data = data.holdout(settings.holdout)
        return (data.first(settings.limit) if settings.limit else data).to(where)


def model(settings: Settings, data: Dataset) -> nn.Module:
    """Return the network, with initial weights that depend on `seed` alone."""
    channels, height, _ = data.train_images.shape[1:]
    shape: dict[str, float]
    if settings.model == "cnn":
        shape = {"in_channels": channels, "channels": settings.width, "image_size": height}
        shape |= {"dropout": settings.dropout, "recompute": settings.recompute}
    else:
        shape = {"inputs": data.train_images[0].numel(), "hidden": settings.width}
    torch.manual_seed(settings.seed)
    where = data.train_images.device
    with memory_for(f"a network of width {settings.width} on device '{where}'", "lower --width"):
        network = MODELS[settings.model](classes=data.classes, T=settings.time_steps, gain=settings.gain, **shape)
        return network.to(where)


def optimizer(settings: Settings, network: nn.Module, steps: int) -> Rewirer:
    """Return the method's optimizer over the network's synapses and other parameters, for so many steps.

    Raises:
        UsageError: the base is unknown or cannot serve, or the method refuses a value.

    """
    bases = {cls.__name__: cls for cls in vars(torch.optim).values() if _is_optimizer(cls)}
    base = bases.get(settings.base)
    if base is None:
        raise UsageError(f"torch.optim has no optimizer '{settings.base}'{nearest(settings.base, bases)}")
    if settings.weight_decay is not None and "weight_decay" not in inspect.signature(base).parameters:
        raise UsageError(f"setting 'weight_decay' must be none with base {settings.base}, which knows no weight decay")
    if settings.period and settings.period > steps:
        raise UsageError(f"setting 'period' ({settings.period}) is longer than this run of {steps} steps; shorten it")
    # A method's own settings are options of the same name, but for those that are made into others below.
    own = [name for name in vars(settings) if methods_of(name) and name not in (*COURSE, "levels", "tail")]
    given = {name: value for name in [*own, "weight_decay"] if (value := getattr(settings, name)) is not None}
    if settings.levels is not None and settings.sparsity is not None:
        levels = [level / settings.sparsity for level in (*settings.levels, settings.sparsity)]
        given["schedule"] = budget.stairs(steps, levels, settings.schedule_flat or 0.5)
    elif settings.course:
        shape = getattr(budget, settings.course)
        given["schedule"] = shape(steps, settings.schedule_pause or 0.0, settings.schedule_flat or 0.0)
    elif settings.method in EXCHANGING:
        given["schedule"] = budget.cosine(steps)  # of the share that is exchanged
    if settings.method in DRAWING:
        given["seed"] = settings.seed
    method: Callable[..., Rewirer] = METHODS[settings.method]
    with memory_for(f"the optimizer of a network of width {settings.width}", "lower --width"):
        return method(network, lr=settings.lr, base=base, exclude=settings.exclude, **given)


def _is_optimizer(value: object) -> bool:
    """Whether this is an optimizer that can be constructed."""
    return isinstance(value, type) and issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
