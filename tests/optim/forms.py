"""Every method in every form, for what all of them keep."""

import pytest
import torch

from synaprune.budget import cosine, cubic
from synaprune.optim import (
    LATS,
    SET,
    STDS,
    STR,
    DeepR,
    Dense,
    GradR,
    GraNet,
    Magnitude,
    MagnitudeSTE,
    RigL,
    SoftDeepR,
    Static,
)

STEPS = 40
BUDGET = {"sparsity": 0.75, "schedule": cubic(steps=STEPS, flat=0.25), "period": 4}
EXCHANGE = {"sparsity": 0.75, "schedule": cosine(steps=STEPS), "period": 4}

FORMS = {
    "grad_r": (GradR, {"alpha": 0.1}),
    "grad_r budget": (GradR, BUDGET),
    "stds": (STDS, {"threshold": 0.05, "schedule": cubic(steps=STEPS)}),
    "stds budget": (STDS, BUDGET),
    "lats": (LATS, {"alpha": 0.1}),
    "lats budget": (LATS, BUDGET),
    "str": (STR, {"threshold_decay": 0.1}),
    "str budget": (STR, BUDGET),
    "magnitude": (Magnitude, BUDGET),
    "magnitude_ste": (MagnitudeSTE, BUDGET),
    "granet": (GraNet, BUDGET),
    "set": (SET, EXCHANGE),
    "rigl": (RigL, EXCHANGE),
    "deep_r": (DeepR, {"sparsity": 0.75}),
    "soft_deep_r": (SoftDeepR, {"sparsity": 0.75, "temperature": 1e-5}),
    "static": (Static, {"sparsity": 0.75}),
    "dense": (Dense, {}),
}
DRAWING = {"granet", "set", "rigl", "deep_r", "soft_deep_r", "static"}
EXACT = {name for name, (_, options) in FORMS.items() if "sparsity" in options} - {"soft_deep_r"}

every_form = pytest.mark.parametrize("form", FORMS)


def make(form, params, lr=1e-2, base=torch.optim.Adam, **more):
    method, options = FORMS[form]
    return method(params, lr=lr, base=base, **{**options, **more})


def only(names):
    return pytest.mark.parametrize("form", sorted(names))
