"""Neurons of SpikingJelly, snnTorch and Norse as those of the engine."""

from __future__ import annotations

from typing import Any

import numpy as np

from synaprune.engine.draft import Draft, number, require
from synaprune.engine.layers import Neuron
from synaprune.errors import UsageError

__all__ = ["box", "leaky", "lif"]


def lif(name: str, module: Any, layers: Draft) -> None:
    """Add the neurons of SpikingJelly's LIFNode, ParametricLIFNode, IFNode, and of synaprune's LIF."""
    if not module.surrogate_function.spiking:
        raise UsageError(f"the engine cannot run '{name}': its surrogate function does not spike")
    settings: dict[str, Any] = {"tau": None}
    if hasattr(module, "decay_input"):
        # A learned 1 / tau is the sigmoid of a parameter.
        tau = module.tau if hasattr(module, "tau") else 1 + (-module.w.detach().double()).exp()
        settings = {"tau": float(tau), "decay_input": bool(module.decay_input)}
    reset = None if module.v_reset is None else float(module.v_reset)
    layers.append(Neuron(name, threshold=float(module.v_threshold), reset=reset, **settings))


def leaky(name: str, module: Any, layers: Draft) -> None:
    """Add the neurons of snnTorch's Leaky: h = β·v + x, a spike where h is above the threshold.

    It resets one step later. To 0 that comes to the same, as nothing reads v in between; what a reset by subtraction
    takes has not decayed then, so that θ/β is to be taken at once.
    """
    refused = {"inhibition": module.inhibition, "state_quant": module.state_quant}
    for what, value in refused.items():
        require(name, what, value, False)
    require(name, "graded_spikes_factor", number(name, "graded_spikes_factor", module.graded_spikes_factor), 1.0)
    require(name, "reset_mechanism", module.reset_mechanism, "subtract", "zero")
    beta = min(max(number(name, "beta", module.beta), 0.0), 1.0)
    threshold = number(name, "threshold", module.threshold)
    soft = module.reset_mechanism == "subtract"
    if soft and not module.reset_delay:
        raise UsageError(
            f"the engine cannot run '{name}' with reset_mechanism='subtract' and reset_delay=False, which resets some "
            "spikes twice; leave reset_delay out, or take reset_mechanism='zero'"
        )
    if soft and not beta:
        raise UsageError(f"the engine cannot run '{name}' with beta=0 and reset_mechanism='subtract'; take 'zero'")
    if threshold <= 0 and not module.reset_delay:
        raise UsageError(f"the engine cannot run '{name}' with threshold={threshold:g}; it needs one above 0")
    tau = None if beta == 1 else 1 / (1 - beta)
    reset: dict[str, Any] = {"reset": None, "drop": threshold / beta} if soft else {"reset": 0.0}
    layers.append(Neuron(name, tau=tau, threshold=_above(threshold), decay_input=False, **reset))


def box(name: str, module: Any, layers: Draft) -> None:
    """Add the neurons of Norse's LIFBoxCell: h = v + (v_leak − v + x)·dt/τ, a spike where h is above the threshold."""
    p, how = module.p, module.p.reset_method.__name__
    leak, threshold, reset, rate = (
        number(name, what, getattr(p, what)) for what in ("v_leak", "v_th", "v_reset", "tau_mem_inv")
    )
    require(name, "reset_method", how, "reset_value", "reset_subtract")
    require(name, "v_leak", leak, reset if how == "reset_value" else 0.0)
    settings: dict[str, Any] = {"tau": 1 / (rate * module.dt), "threshold": _above(threshold)}
    if how == "reset_value":
        settings |= {"reset": reset}
    else:
        settings |= {"reset": None, "drop": threshold}
    layers.append(Neuron(name, **settings))


def _above(threshold: float) -> float:
    """Return the least float32 above a threshold, for neurons that do not fire where they only reach it."""
    return float(np.nextafter(np.float32(threshold), np.float32(np.inf)))
