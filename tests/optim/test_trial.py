"""Bases that torch does not bring along: equal to themselves alone, or refused by name."""

import copy
import io

import pytest
import torch
from common import BASES, idle
from foreign import DECAYS, REFUSED, SERVE, Counting, Foreign, Lamb, Lion, Switchable
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from synaprune.errors import UsageError
from synaprune.optim import METHODS, GradR
from synaprune.optim.trial import Trial

every_method = pytest.mark.parametrize("name", METHODS)


class Sloppy(torch.optim.SGD):
    """One of torch's, by another name."""


def weights(seed=0):
    """Return three tensors so large that a few steps bring none of their values near 0."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(shape, generator=generator) for shape in ((6, 5), (4, 3, 2, 2), (7, 6))]
    return [nn.Parameter(values + values.sign()) for values in drawn]


def train(optimizer, tensors, steps=9, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        for index, p in enumerate(tensors):
            p.grad = None if (step, index) == (4, 1) else torch.randn(p.shape, generator=generator)
        if step == 5:  # as a scheduler would
            for group in optimizer.param_groups:
                group["lr"] *= 0.5
        optimizer.step()


def alone(base, **options):
    tensors = weights()
    train(base(tensors, **options), tensors)
    return tensors


def close(a, b):
    for p, q in zip(a, b):
        torch.testing.assert_close(p, q, rtol=2e-5, atol=2e-6)


@every_method
@pytest.mark.parametrize("base", [*SERVE.values(), *BASES.values(), Sloppy], ids=lambda base: base.__name__)
def test_where_nothing_crosses_a_threshold_the_base_is_as_it_is_alone(name, base):
    tensors = weights()
    optimizer = METHODS[name](tensors, **idle(lr=1e-2, base=base)[name])
    train(optimizer, tensors)
    close(tensors, alone(base, lr=1e-2))


@every_method
@pytest.mark.parametrize(
    ("base", "options"),
    [
        *((SERVE[base], {}) for base in DECAYS),
        (Switchable, {"apart": False}),
        (Switchable, {"apart": True}),
        (Sloppy, {"momentum": 0.9}),
        (Sloppy, {}),
        (torch.optim.SGD, {"momentum": 0.9, "maximize": True}),
        (torch.optim.AdamW, {}),
        (torch.optim.Adam, {}),
        (torch.optim.Adafactor, {}),
        (torch.optim.NAdam, {"decoupled_weight_decay": True}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "-".join(value),
)
def test_weight_decay_is_that_of_the_base_alone(name, base, options):
    options = {"lr": 1e-2, "weight_decay": 0.2, **options}
    tensors = weights()
    optimizer = METHODS[name](tensors, **idle(base=base, **options)[name])
    train(optimizer, tensors)
    close(tensors, alone(base, **options))


@pytest.mark.parametrize("base", [*SERVE.values(), *BASES.values()], ids=lambda base: base.__name__)
def test_what_is_known_of_a_decay_is_what_a_trial_says(base):
    trial = Trial(base.__name__, lambda p: base([p], lr=0.1, weight_decay=0.1), torch.device("cpu"))
    if base is Lamb:
        with pytest.raises(UsageError, match=f"weight decay of {base.__name__}"):
            trial.decay()
    elif base.__name__ in DECAYS:
        assert trial.decay() == DECAYS[base.__name__]
    elif base.__name__ in BASES and base is not torch.optim.Rprop:  # which has none
        assert trial.decay() == ("decoupled" if base in (torch.optim.AdamW, torch.optim.Adafactor) else "coupled")


@every_method
def test_a_decay_of_another_kind_is_refused_whenever_it_is_switched_on(name):
    if name == "dense":  # whose weights the base has to itself
        tensors = weights()
        train(METHODS[name](tensors, lr=1e-2, base=Lamb, weight_decay=0.1), tensors)
        return close(tensors, alone(Lamb, lr=1e-2, weight_decay=0.1))
    with pytest.raises(UsageError, match="weight decay of Lamb"):
        METHODS[name](weights(), **idle(base=Lamb, weight_decay=0.1)[name])
    tensors = weights()
    optimizer = METHODS[name](tensors, **idle(base=Lamb)[name])
    train(optimizer, tensors, 2)
    optimizer.param_groups[0]["weight_decay"] = 0.1
    with pytest.raises(UsageError, match="weight decay of Lamb"):
        train(optimizer, tensors, 1)
    return None


def test_each_group_has_its_own_kind_of_decay():
    options = [{"apart": False}, {"apart": True}, {"apart": True, "weight_decay": 0.0}]
    results = []
    for make in (lambda groups, **own: GradR(groups, alpha=0.0, base=Switchable, **own), Switchable):
        tensors = weights()
        groups = [{"params": [p], **own} for p, own in zip(tensors, options)]
        train(make(groups, lr=1e-2, weight_decay=0.2), tensors)
        results.append(tensors)
    close(*results)


@every_method
@pytest.mark.parametrize("base", REFUSED, ids=lambda base: base.__name__)
def test_bases_that_cannot_serve_are_refused_by_name(name, base):
    tensors = weights()
    with pytest.raises(UsageError, match=REFUSED[base]) as error:
        METHODS[name](tensors, **idle(base=base)[name])
    assert str(error.value).startswith(base.__name__)
    assert "\n" not in str(error.value)
    assert all(torch.equal(p, q) for p, q in zip(tensors, weights()))


@every_method
@pytest.mark.parametrize("base", SERVE.values(), ids=lambda base: base.__name__)
@pytest.mark.parametrize("way", ["file", "deepcopy"])
def test_states_of_all_kinds_are_saved_and_copied(name, base, way):
    tensors = weights()
    optimizer = METHODS[name](tensors, **idle(lr=1e-2, base=base)[name])
    train(optimizer, tensors, 5)
    if way == "file":
        buffer = io.BytesIO()
        torch.save(optimizer.state_dict(), buffer)
        buffer.seek(0)
        others = [nn.Parameter(p.detach().clone()) for p in tensors]
        resumed = METHODS[name](others, **idle(lr=1e-2, base=base)[name])
        with torch.no_grad():
            for p, q in zip(others, tensors):
                p.copy_(q)
        resumed.load_state_dict(torch.load(buffer, weights_only=True))
    else:
        others, resumed = copy.deepcopy((tensors, optimizer))
    train(optimizer, tensors, 5, seed=3)
    train(resumed, others, 5, seed=3)
    close(tensors, others)


@every_method
def test_what_a_base_keeps_for_all_tensors_begins_anew_with_them(name):
    tensors = weights()
    optimizer = METHODS[name](tensors, **idle(base=Counting)[name])
    train(optimizer, tensors, 3)
    assert int(optimizer.state["k"]) == 3
    optimizer.state.clear()
    train(optimizer, tensors, 1)
    assert int(optimizer.state["k"]) == 1


def test_a_trial_leaves_the_generator_of_random_numbers_and_all_hooks_alone():
    class Tired(Foreign):
        def move(self, p, gradient, group):
            p.add_(torch.randn_like(p), alpha=-group["lr"])

    fired = []
    handles = [
        register_optimizer_step_pre_hook(lambda *_: fired.append("before")),
        register_optimizer_step_post_hook(lambda *_: fired.append("after")),
    ]
    before = torch.get_rng_state()
    GradR(weights(), base=Tired)
    for handle in handles:
        handle.remove()
    assert torch.equal(before, torch.get_rng_state())
    assert not fired


def test_a_base_with_decoupled_decay_decays_weights_and_not_latents():
    """An absent synapse has no weight, so nothing of it decays; the threshold has no part in the decay either."""
    weight = nn.Parameter(torch.tensor([2.0, -3.0, 0.0]))
    optimizer = GradR([weight], lr=0.1, alpha=0.0, margin=0.5, base=Lion, weight_decay=0.5)
    weight.grad = torch.zeros(3)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([1.9, -2.85, 0.0]))
    assert optimizer.theta(weight)[2] == -0.5
