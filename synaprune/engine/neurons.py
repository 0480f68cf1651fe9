"""Neurons of SpikingJelly, snnTorch and Norse as those of the engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from synaprune.engine.draft import Draft, number, require
from synaprune.engine.layers import Neuron
from synaprune.errors import UsageError

__all__ = ["box", "fire", "leaky", "lif"]


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

    It resets in the next time step. To 0 that comes to the same, as nothing reads v in between.
    """
    for what in ("inhibition", "state_quant"):
        require(name, what, getattr(module, what), False)
    require(name, "graded_spikes_factor", number(name, "graded_spikes_factor", module.graded_spikes_factor), 1.0)
    if module.spike_grad(torch.tensor([-1e-3, 0.0, 1e-3, 2.0])).tolist() != [0, 0, 1, 1]:
        raise UsageError(f"the engine cannot run '{name}': its spike_grad does not spike just above the threshold")
    # The function decides, whatever was assigned, or loaded from a state, after the neurons were made.
    how = {"_base_sub": "subtract", "_base_zero": "zero", "_base_int": "none"}[module.state_function.__name__]
    require(name, "reset_mechanism", tuple(module.reset_dict)[int(module.reset_mechanism_val)], how)
    threshold, beta = number(name, "threshold", module.threshold), number(name, "beta", module.beta)
    if not module.reset_delay and how == "subtract":
        raise UsageError(
            f"the engine cannot run '{name}' with reset_mechanism='subtract' and reset_delay=False, which resets some "
            "spikes twice; leave reset_delay out, or take reset_mechanism='zero'"
        )
    if not module.reset_delay and how == "zero" and threshold < 0:
        raise UsageError(f"the engine cannot run '{name}' with threshold={threshold:g} and reset_delay=False")
    resets: dict[str, dict[str, Any]] = {
        "subtract": {"reset": None, "drop": threshold, "late": True},
        "zero": {"reset": 0.0},
        "none": {"reset": None, "drop": 0.0},
    }
    layers.append(Neuron(name, tau=None, keep=min(max(beta, 0.0), 1.0), threshold=_above(threshold), **resets[how]))


def box(name: str, module: Any, layers: Draft) -> None:
    """Add the neurons of Norse's LIFBoxCell: h = v + dt/τ · (x + v_leak − v), a spike above the threshold."""
    p, how = module.p, module.p.reset_method.__name__
    leak, threshold, reset = (number(name, what, getattr(p, what)) for what in ("v_leak", "v_th", "v_reset"))
    require(name, "reset_method", how, "reset_value", "reset_subtract")
    require(name, "v_leak", leak, reset if how == "reset_value" else 0.0)
    rate = number(name, "tau_mem_inv", module.dt * p.tau_mem_inv)
    own: dict[str, Any] = {"reset": reset} if how == "reset_value" else {"reset": None, "drop": threshold}
    layers.append(Neuron(name, tau=None, rate=rate, threshold=_above(threshold), **own))


def fire(name: str, module: Any, layers: Draft) -> None:
    """Add the neurons of Norse's IAF and IAFCell: h = v + x, a spike where h is above the threshold."""
    threshold, reset = (number(name, what, getattr(module.p, what)) for what in ("v_th", "v_reset"))
    layers.append(Neuron(name, tau=None, threshold=_above(threshold), reset=reset))


def _above(threshold: float) -> float:
    """Return the least float32 above a threshold, for neurons that do not fire where they only reach it."""
    return float(np.nextafter(np.float32(threshold), np.float32(np.inf)))
