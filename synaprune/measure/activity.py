"""Activity: how often each neuron fires, read from forward hooks while a network runs."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from synaprune.errors import UsageError
from synaprune.measure.products import count_nonzero
from synaprune.synapses import rules_for

__all__ = ["SEQUENCE", "STEP", "FiringRates", "form_of"]

STEP = "[N, ...] at each call"
SEQUENCE = "[T, N, ...] at each call"
STEP_MODE = "the module's step_mode tells"
NOT_SPIKING = "no spikes: voltages, analog values, or a value per window"

# Qualified class name (glob) → the shape of what it returns; the most derived class counts.
NEURONS: dict[str, str] = {
    "spikingjelly.*.LIAFNode": NOT_SPIKING,
    "spikingjelly.*.BaseNode": STEP_MODE,
    "spikingjelly.*.SimpleBaseNode": STEP_MODE,
    "spikingjelly.*.ActivationAwareIFNode": STEP_MODE,
    "spikingjelly.*.DSR*Node": STEP_MODE,
    "spikingjelly.*.GatedLIFNode": STEP_MODE,
    "spikingjelly.*.ILCBaseNode": STEP_MODE,
    "spikingjelly.*.STBIFNode": STEP_MODE,
    "spikingjelly.*.*PSN": STEP_MODE,
    "snntorch.*.AssociativeLeaky": NOT_SPIKING,
    "snntorch.*.StateLeaky": SEQUENCE,
    "snntorch.*.LeakyParallel": SEQUENCE,
    "snntorch.*.LeakyKernel": SEQUENCE,
    "snntorch.*.SpikingNeuron": STEP,
    "norse.*.leaky_integrator*.*": NOT_SPIKING,
    "norse.*.SNNCell": STEP,
    "norse.*.SNN": SEQUENCE,
    "norse.*.SNNRecurrentCell": STEP,
    "norse.*.SNNRecurrent": SEQUENCE,
    "norse.*.CobaLIFCell": STEP,
    "norse.*.LIFCorrelation": STEP,
}


class FiringRates:
    """Count the spikes of each neuron of a network, over all calls made inside the `with` block.

    A spike is any output that is not zero, so that signed and graded spikes count once each. Spiking modules
    of SpikingJelly, snnTorch and Norse, and subclasses of them, are recognised. A module used at several
    places counts as one, a module never called is left out. Raises `UsageError` where there is no such
    module, and at the reading where none was called.

    >>> from spikingjelly.activation_based import neuron
    >>> net = nn.Sequential(neuron.IFNode(step_mode="m"))
    >>> with FiringRates(net) as activity:  # 4 time steps, 1 sample, 2 neurons that get 0.6 and nothing
    ...     spikes = net(torch.tensor([0.6, 0.0]).expand(4, 1, 2))
    >>> activity.rates()  # spikes per neuron per time step
    {'0': 0.25}
    >>> activity.spikes()
    {'0': 2}
    >>> activity.silent()  # neurons that never fired, neurons
    {'0': (1, 2)}
    """

    def __init__(self, module: nn.Module) -> None:
        self._neurons = {name: child for name, child in module.named_modules() if form_of(child) != NOT_SPIKING}
        if not self._neurons:
            raise UsageError(
                f"no spiking neuron of SpikingJelly, snnTorch or Norse in {type(module).__name__}; "
                "firing rates need neurons that are one of their classes or a subclass"
            )
        self._spikes: dict[str, Tensor] = {}  # per neuron, without batch and time
        self._steps: dict[str, int] = {}  # time steps that each neuron has lived through, over all samples
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> FiringRates:
        self._hooks = [
            neuron.register_forward_hook(self._counter(name, 2 if form_of(neuron) == SEQUENCE else 1))
            for name, neuron in self._neurons.items()
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()

    def rates(self) -> dict[str, float]:
        """Return for each spiking module its mean number of spikes per neuron per time step."""
        return {
            name: int(spikes.sum()) / (spikes.numel() * self._steps[name]) for name, spikes in self._recorded().items()
        }

    def spikes(self) -> dict[str, int]:
        """Return for each spiking module how many spikes it sent, over all samples and time steps."""
        return {name: int(spikes.sum()) for name, spikes in self._recorded().items()}

    def silent(self) -> dict[str, tuple[int, int]]:
        """Return for each spiking module how many of its neurons never fired, and how many it has."""
        return {
            name: (int(torch.count_nonzero(spikes == 0)), spikes.numel()) for name, spikes in self._recorded().items()
        }

    def _recorded(self) -> dict[str, Tensor]:
        if not self._spikes:
            raise UsageError(
                "no firing was recorded: call the network inside the `with` block, and not in the compiled "
                "form, which does not run hooks"
            )
        return self._spikes

    def _counter(self, name: str, leading: int) -> Callable[[nn.Module, Any, Any], None]:
        """Return the hook of one module, whose output leads with the sample (1) or time and sample (2)."""

        def hook(neuron: nn.Module, inputs: Any, output: Any) -> None:
            spikes = output[0] if isinstance(output, tuple | list) else output
            fired = count_nonzero(spikes.flatten(0, leading - 1))
            known = self._spikes.get(name)
            if known is None:
                known = torch.zeros_like(fired, dtype=torch.int64)
            if known.shape != fired.shape:
                raise UsageError(
                    f"'{name}' had {tuple(known.shape)} neurons and now has {tuple(fired.shape)}; "
                    "firing rates need inputs of one size"
                )
            # Not in place: a count that began under inference_mode may go on outside it.
            self._spikes[name] = known + fired
            self._steps[name] = self._steps.get(name, 0) + spikes.shape[:leading].numel()

        return hook


def form_of(module: nn.Module) -> str:
    """Return STEP, SEQUENCE or NOT_SPIKING."""
    form = next((form for _, form in rules_for(type(module), NEURONS)), NOT_SPIKING)
    if form == STEP_MODE:
        # SpikingJelly's multi-step-only modules, such as PSN, have no step_mode until someone sets it.
        return STEP if getattr(module, "step_mode", "m") == "s" else SEQUENCE
    if form == SEQUENCE and getattr(module, "output", True) is False:
        return NOT_SPIKING  # snnTorch's StateLeaky then returns its voltage alone
    return form
