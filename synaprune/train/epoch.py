"""One pass over the training set, and one over the test set."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synaprune.data import CropFlip, Dataset, RandomAffine, batches, normalize
from synaprune.errors import NonFiniteGradientError
from synaprune.measure import FiringRates, connectivity, layer_connectivity
from synaprune.models import Readout
from synaprune.optim.rewirer import Rewirer
from synaprune.train import build, schedule
from synaprune.train.memory import memory_for
from synaprune.train.parallel import ALONE, Team
from synaprune.train.settings import Settings

__all__ = ["Progress", "Report", "evaluate_network", "objective", "topology", "train_epoch"]

AUGMENTATIONS: dict[str, Callable[[Tensor, float, torch.Generator], Tensor]] = {
    "mnist": RandomAffine(),
    "cifar10": CropFlip(),
}
# Evaluation batches: large for speed, small enough for the activations of 256 channels over all time steps.
TEST_BATCH = {"mlp": 1000, "cnn": 100}
REPORT_SECONDS = 0.25


class Progress(NamedTuple):
    """Where a run is; means over the running epoch. `metrics` is there once an epoch is finished and saved."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    connectivity: float
    metrics: dict[str, Any] | None = None


Report = Callable[[Progress], None]


def objective(settings: Settings, output: Readout, labels: Tensor) -> Tensor:
    """Return the loss: MSE of firing rates to one-hot, cross-entropy of the mean output current, or their sum."""
    terms = []
    if "mse" in settings.loss:
        target = F.one_hot(labels, output.rate.shape[1]).to(torch.float32)
        terms.append(F.mse_loss(output.rate.float(), target))
    if "ce" in settings.loss:
        terms.append(F.cross_entropy(output.current.float(), labels))
    return torch.stack(terms).sum()


def train_epoch(
    settings: Settings,
    data: Dataset,
    network: nn.Module,
    forward: Callable[[Tensor], Readout],
    optimizer: Rewirer,
    epoch: int,
    report: Report | None = None,
    team: Team = ALONE,
) -> dict[str, Any]:
    """Train for epoch 1, 2, … and return its loss, accuracy, learning rate and augmentation strength.

    Everything random is drawn from generators seeded by (seed, epoch). Figures stay on the device: reading one
    per step would make the GPU wait; `report` is called a few times per second. All processes of a `team` draw the
    same order and augmentation, and each trains on its share of every batch.

    Raises:
        NonFiniteGradientError: a gradient is NaN or infinite.

    """
    images, labels = data.train_images, data.train_labels
    device, count = images.device, len(labels)
    torch.manual_seed(build.seed(settings, epoch, 3 * team.rank))  # dropout: 0, 3, 6, …
    order = torch.Generator(device).manual_seed(build.seed(settings, epoch, 1))
    noise = torch.Generator(device).manual_seed(build.seed(settings, epoch, 2))
    augment = AUGMENTATIONS.get(data.name)
    steps = schedule.steps_per_epoch(settings, count)
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    correct = torch.zeros((), dtype=torch.int64, device=device)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    seen, reported = 0, time.monotonic()
    rate = strength = 0.0

    network.train()
    several = "--batch-size, " if settings.batch_size > 1 else ""
    with memory_for(
        f"batches of {settings.batch_size} on device '{device}'", f"lower {several}--width or --time-steps"
    ):
        for step, chosen in enumerate(batches(count, settings.batch_size, order)):
            done = (epoch - 1) * steps + step
            rate = schedule.learning_rate(settings, done, steps)
            strength = schedule.augmentation(settings, done, steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            x, y = images[chosen], labels[chosen]
            if augment is not None:
                x = augment(x, strength, noise)
            share, weight = team.share(len(y))
            x, y = x[share], y[share]
            with _autocast(settings, device):
                output = forward(normalize(x, data.mean, data.std))
            loss = objective(settings, output, y)
            optimizer.zero_grad()
            (loss * weight).backward()
            if settings.clip_grad is not None:
                nn.utils.clip_grad_norm_(parameters, settings.clip_grad)
            try:
                with memory_for(f"a step of the optimizer of a network of width {settings.width}", "lower --width"):
                    optimizer.step()
            except NonFiniteGradientError as error:
                fault = str(error).partition(";")[0]
                raise NonFiniteGradientError(
                    f"{fault} (epoch {epoch}, step {step + 1}); lower --lr or --gain, or set --clip-grad"
                ) from error

            seen += len(y)
            if len(y):  # the mean of nothing is no number
                loss_sum += loss.detach() * len(y)
            correct += (output.rate.argmax(1) == y).sum()
            if report is not None and time.monotonic() - reported > REPORT_SECONDS:
                means = loss_sum.item() / seen, correct.item() / seen
                report(Progress(epoch, settings.epochs, step + 1, steps, *means, connectivity(network)))
                reported = time.monotonic()
    loss_sum, correct = team.total(loss_sum, correct)
    return {
        "loss": loss_sum.item() / count,
        "train_accuracy": correct.item() / count,
        "lr": rate,
        "augment": strength,
    }


@torch.no_grad()
def evaluate_network(settings: Settings, data: Dataset, network: nn.Module) -> dict[str, Any]:
    """Return accuracy and neuron figures of the test part (the validation part with `holdout`)."""
    images, labels = data.test_images, data.test_labels
    correct = 0
    network.eval()
    size = TEST_BATCH[settings.model]
    what = f"{size} images at a time, as they are evaluated, on device '{images.device}'"
    with (
        memory_for(what, "lower --width or --time-steps"),
        FiringRates(network) as activity,
        _autocast(settings, images.device),
    ):
        for x, y in zip(images.split(size), labels.split(size)):
            answer = network(normalize(x, data.mean, data.std)).rate.argmax(1)
            correct += int((answer == y).sum())
    silent = activity.silent()
    neurons = {
        name: {"rate": rate, "silent": silent[name][0], "neurons": silent[name][1]}
        for name, rate in activity.rates().items()
    }
    part = "validation_accuracy" if settings.holdout else "test_accuracy"
    return {part: correct / len(labels), "neurons": neurons}


def topology(network: nn.Module, optimizer: Rewirer | None = None) -> dict[str, Any]:
    """Return how many synapses are left, in all and per layer, and with an optimizer how many came and went."""
    counts = layer_connectivity(network)
    layers = {
        name: {"synapses": count, "left": left, "connectivity": left / count} for name, (left, count) in counts.items()
    }
    left, count = map(sum, zip(*counts.values()))
    figures: dict[str, Any] = {"connectivity": left / count}
    if optimizer is not None:
        moves = optimizer.turnover()
        for name, layer in layers.items():
            layer["pruned"], layer["regrown"] = moves.get(name, (0, 0))
        for name, solved in optimizer.solved().items():
            layers[name] |= solved._asdict()
        figures["pruned"] = sum(layer["pruned"] for layer in layers.values())
        figures["regrown"] = sum(layer["regrown"] for layer in layers.values())
    return {**figures, "layers": layers}


def _autocast(settings: Settings, device: torch.device) -> torch.autocast:
    """Compute in bfloat16 where the settings say so."""
    return torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16")
