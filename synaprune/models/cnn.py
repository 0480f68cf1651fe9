"""The CIFAR-10 network of the Grad R paper: six convolutions and two fully connected layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from spikingjelly.activation_based import functional, layer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from synaprune.errors import UsageError
from synaprune.models.lif import LIF
from synaprune.models.network import Network, Readout, require_positive

__all__ = ["SpikingCNN"]

VOTERS = 10  # output neurons per class


class SpikingCNN(Network):
    """3 × (conv, BN, LIF), pool, 3 × (conv, BN, LIF), pool, dropout, fc, LIF, fc, LIF, vote; no biases.

    The first convolution and its normalisation are computed once and injected at each time step. Each class
    has ten output neurons, whose mean is its vote. Dropout draws one mask per image for all time steps. Batch
    normalisation takes its statistics in training over time steps and images together, as STDS does; the code
    released with Grad R takes them at each time step. 256 channels and 32×32 pixels have 36,715,264 synapses.

    Args:
        in_channels, classes: of the images.
        channels: maps of each convolution; the hidden fully connected layer has eight neurons per map.
        T: time steps of one presentation.
        dropout: probability that an input of the first fully connected layer is silenced.
        image_size: height and width, a multiple of 4.
        gain: factor on torch's default initial weights of convolutions and fully connected layers.
        fast: False runs SpikingJelly's own loop over time.
        recompute: in training, keep of each convolution only what comes in, and compute the rest anew in backward:
            less memory, a third more time.

    Raises:
        UsageError: for a size below 1, an image size that is no multiple of 4, a dropout outside [0, 1).

    Source: Chen et al., "Pruning of Deep Spiking Neural Networks through Gradient Rewiring", IJCAI 2021.
    """

    def __init__(
        self,
        in_channels: int = 3,
        channels: int = 256,
        classes: int = 10,
        T: int = 8,
        dropout: float = 0.5,
        image_size: int = 32,
        gain: float = 1.0,
        fast: bool = True,
        recompute: bool = False,
    ) -> None:
        super().__init__(T, fast)
        self.recompute = recompute
        require_positive(in_channels=in_channels, channels=channels, classes=classes, image_size=image_size)
        if image_size % 4:
            raise UsageError(f"image_size must be a multiple of 4, not {image_size}: it is halved twice.")
        if not 0 <= dropout < 1:
            raise UsageError(f"dropout must be at least 0 and below 1, not {dropout!r}.")
        self.stem = nn.Sequential(*_convolution(in_channels, channels, step_mode="s"))
        self.lif1 = self.neuron()
        self.features = nn.Sequential(
            *(*_convolution(channels, channels), self.neuron()),
            *(*_convolution(channels, channels), self.neuron()),
            layer.MaxPool2d(2, step_mode="m"),
            *(*_convolution(channels, channels), self.neuron()),
            *(*_convolution(channels, channels), self.neuron()),
            *(*_convolution(channels, channels), self.neuron()),
            layer.MaxPool2d(2, step_mode="m"),
            layer.Flatten(step_mode="m"),
            layer.Dropout(dropout, step_mode="m"),
        )
        self.fc1 = layer.Linear(channels * (image_size // 4) ** 2, channels * 8, bias=False, step_mode="m")
        self.lif2 = self.neuron()
        self.fc2 = layer.Linear(channels * 8, classes * VOTERS, bias=False, step_mode="m")
        self.lif3 = self.neuron()
        self.scale_synapses(gain)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # fastest for many maps

    def present(self, x: Tensor) -> Readout:
        """Show the images `x` `[N, channels, height, width]` for T time steps to neurons at rest."""
        spikes = self.lif1(self.stem(x), steps=self.T)
        spikes = self.lif2(self.fc1(self._maps(spikes)))
        current = self.fc2(spikes)
        return Readout(_vote(self.lif3(current)), _vote(current))

    def _maps(self, spikes: Tensor) -> Tensor:
        if not (self.recompute and self.training):
            return self.features(spikes)
        block: list[nn.Module] = []
        for module in self.features:
            block.append(module)
            if isinstance(module, LIF):
                spikes = checkpoint(
                    nn.Sequential(*block),
                    spikes,
                    use_reentrant=False,
                    preserve_rng_state=False,  # nothing random happens in a block
                    context_fn=partial(_contexts, *block),
                )
                block = []
        return nn.Sequential(*block)(spikes)


def _convolution(inputs: int, outputs: int, step_mode: str = "m") -> tuple[nn.Module, nn.Module]:
    return (
        layer.Conv2d(inputs, outputs, 3, padding=1, bias=False, step_mode=step_mode),
        layer.BatchNorm2d(outputs, step_mode=step_mode),
    )


def _contexts(*block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return what to do around the first pass through convolution, normalisation and neuron, and around the second."""
    return nullcontext(), _without_memory(*block)


@contextmanager
def _without_memory(*block: nn.Module) -> Iterator[None]:
    """Let neither normalisation nor neuron remember what passes."""
    norms = [(m, m.momentum, m.num_batches_tracked) for m in block if isinstance(m, nn.BatchNorm2d)]
    for norm, _, count in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None if count is None else count.clone()
    try:
        yield
    finally:
        for norm, momentum, count in norms:
            norm.momentum, norm.num_batches_tracked = momentum, count
        for module in block:
            functional.reset_net(module)


def _vote(x: Tensor) -> Tensor:
    """Average `[T, N, classes × VOTERS]` over time steps and over the neurons of each class."""
    return x.mean(0).unflatten(-1, (-1, VOTERS)).mean(-1)
