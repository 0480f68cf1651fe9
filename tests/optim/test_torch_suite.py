"""What torch checks of its own optimizers (`TestOptimRenewed`), on torch's own configurations, of all our methods.

The configurations come from the installed torch; its test class is not part of what is installed, so the checks are
written here. Differentiable steps, sparse gradients of synapses and complex synapses are refused by all methods.
"""

import copy
import functools
import inspect
import io
import sys
import types
import unittest

import pytest
import torch
from torch.nn import Parameter
from torch.optim import lr_scheduler
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from synaprune.budget import constant, cubic
from synaprune.errors import UsageError
from synaprune.optim import METHODS


def torchs_own():
    """Return torch's module of optimizer configurations, and leave nothing of what it changes on import."""
    allowed = torch.backends.disable_global_flags
    torch.backends.disable_global_flags = lambda: None
    stand_in = types.ModuleType("expecttest")  # which torch imports for tests that are not run here
    stand_in.TestCase = unittest.TestCase
    missing = sys.modules.setdefault("expecttest", stand_in) is stand_in
    try:
        import torch.testing._internal.common_optimizers as module
    finally:
        torch.backends.disable_global_flags = allowed
        if missing:
            del sys.modules["expecttest"]
    return module


SUITE = torchs_own()
INFOS = {info.name: info for info in SUITE.optim_db if info.name in ("Adam", "AdamW", "SGD", "RMSprop")}

BUDGET = {"sparsity": 0.3, "schedule": cubic(steps=60), "period": 4}
DRAWN = {"sparsity": 0.3, "allocation": "uniform"}
OPTIONS = {
    "deep_r": {**DRAWN, "alpha": 1e-2, "temperature": 1e-8},
    "dense": {},
    "grad_r": {"alpha": 1e-2},
    "granet": {**BUDGET, "initial": 1.0},
    "rigl": {**DRAWN, "schedule": cubic(steps=60), "period": 4},
    "set": {**DRAWN, "schedule": cubic(steps=60), "period": 4},
    "soft_deep_r": {**DRAWN, "alpha": 1e-2, "temperature": 1e-8},
    "static": DRAWN,
    "stds": {"threshold": 0.05, "schedule": constant(steps=60)},
    "str": {"threshold_decay": 0.1},
}
ALL, ADAMS = tuple(INFOS), ("Adam", "AdamW")
UPWARDS = ("goes_up_where_it_is_to", "goes_up_where_it_is_to_not_contiguous", "goes_up_where_it_is_to_with_schedulers")
TIME = "its prior, noise or threshold moves weights although the loss does not"
FEWER = "a part of its synapses is pruned meanwhile, which lowers a loss that is to be maximised by more than it rises"
EXCEPTIONS = {
    **{("nothing_moves_by_gradients_of_zero", name): (ALL, TIME) for name in ("deep_r", "grad_r", "stds", "str")},
    ("nothing_moves_by_gradients_of_zero", "soft_deep_r"): (ALL, TIME),
    **{(check, "lats"): (ALL, FEWER) for check in UPWARDS},
    **{(check, name): (ADAMS, FEWER) for check in UPWARDS[:2] for name in ("granet", "rigl", "set", "stds")},
    **{(UPWARDS[2], name): ((*ADAMS, "SGD"), FEWER) for name in ("granet", "rigl", "set", "stds")},
}
"""(check, method): bases on which it cannot pass, and why; one that passes after all is a failure."""

CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


class Case:
    """One method on one base: makes optimizers for each of torch's configurations."""

    def __init__(self, method, info):
        self.method, self.info = METHODS[method], info
        self.options = OPTIONS.get(method, BUDGET)

    def make(self, params, **kwargs):
        own = inspect.signature(self.method).parameters
        base = {f"base_{key}" if key in own and key != "lr" else key: value for key, value in kwargs.items()}
        return self.method(params, **{**self.options, "base": self.info.optim_cls, **base})

    def inputs(self, *, kernels=False):
        """Return torch's options, with `kernels` each with the next kernel that there is on a CPU."""
        flags = [{}]
        if kernels:
            flags = [{"foreach": False}, {"foreach": True}]
            flags += [{"fused": True}] * ("cpu" in self.info.supports_fused_on)
        found = self.info.optim_inputs_func(device="cpu")
        return [{**copy.deepcopy(one.kwargs), **flags[i % len(flags)]} for i, one in enumerate(found)]

    def problem(self, contiguous=True):
        """Return a weight, a bias and how to set their gradients by an optimizer."""
        generator = torch.Generator().manual_seed(7)
        weight, bias = torch.randn(10, 5, 2, generator=generator), torch.randn(10, 2, generator=generator)
        values = [weight[..., 0], bias[..., 0]]
        weight, bias = [Parameter(v.contiguous() if contiguous else v) for v in values]
        inputs = torch.randn(5, generator=generator)

        def closure(optimizer, *others):
            w, b = others or (weight, bias)
            optimizer.zero_grad()
            loss = (w.mv(inputs) + b).square().sum()
            loss.backward()
            return loss

        return [weight, bias], closure


def groups(weight, bias, **of_bias):
    return [{"params": [weight]}, {"params": [bias], "rewire": False, **of_bias}]


def twin(tensors):
    return [Parameter(p.detach().clone()) for p in tensors]


def equal(a, b, **tolerance):
    torch.testing.assert_close(list(a), list(b), **tolerance)


# -- construction ----------------------------------------------------------------------------------------------------


@check
def errors(case):
    if "sparsity" in case.options:
        case.options = {**case.options, "sparsity": 0.0}  # torch's examples have one synapse
    for wrong in case.info.optim_error_inputs_func(device="cpu", dtype=torch.float32):
        given = wrong.optimizer_error_input
        params = [Parameter(torch.ones(1, 1))] if given.params is None else given.params
        expected = pytest.warns if issubclass(wrong.error_type, Warning) else pytest.raises
        with expected(wrong.error_type, match=wrong.error_regex):
            case.make(params, **given.kwargs)


@check
def complex_synapses_are_refused(case):
    for kwargs in case.inputs():
        with pytest.raises(UsageError, match="complex") if case.method is not METHODS["dense"] else nothing():
            case.make([Parameter(torch.ones(2, 2, dtype=torch.complex64))], **kwargs)


@check
def differentiable_steps_are_refused(case):
    with pytest.raises(UsageError, match="differentiable"):
        case.make([Parameter(torch.ones(2, 2))], differentiable=True)


@check
def parameters_by_name(case):
    for kwargs in case.inputs():
        (weight, bias), closure = case.problem()
        others = twin((weight, bias))
        named = case.make([("w", weight), ("b", bias)], **kwargs)
        plain = case.make(others, **kwargs)
        assert named.param_groups[0]["param_names"] == ["w", "b"]
        for _ in range(4):
            named.step(functools.partial(closure, named, weight, bias))
            plain.step(functools.partial(closure, plain, *others))
        equal((weight, bias), others)


# -- steps -----------------------------------------------------------------------------------------------------------


def goes_right(case, schedulers=((),), contiguous=True, up=False):
    for kwargs in case.inputs():
        if bool(kwargs.get("maximize")) != up:
            continue
        for constructors in schedulers:
            params, closure = case.problem(contiguous)
            optimizer = case.make(params, **{**kwargs, "foreach": False})
            made = [constructor(optimizer) for constructor in constructors]
            repr(optimizer)
            first = closure(optimizer).item()
            for _ in range(12):
                loss = optimizer.step(functools.partial(closure, optimizer))
                for scheduler in made:
                    scheduler.step(*([loss] if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else []))
            last = closure(optimizer).item()
            assert last > first if up else last < first, kwargs


@check
def goes_in_the_right_direction(case):
    goes_right(case)


@check
def goes_in_the_right_direction_not_contiguous(case):
    goes_right(case, contiguous=False)


@check
def goes_in_the_right_direction_with_schedulers(case):
    goes_right(case, case.info.scheduler_inputs)


@check
def goes_up_where_it_is_to(case):
    goes_right(case, up=True)


@check
def goes_up_where_it_is_to_not_contiguous(case):
    goes_right(case, contiguous=False, up=True)


@check
def goes_up_where_it_is_to_with_schedulers(case):
    goes_right(case, case.info.scheduler_inputs, up=True)


@check
def learning_rate_as_a_tensor(case):
    for kwargs in case.inputs(kernels=True):
        if "lr" in kwargs and isinstance(kwargs["lr"], torch.Tensor):
            continue
        if kwargs.get("foreach"):
            kwargs["foreach"] = False  # torch wants capturable for both together
        params, closure = case.problem()
        others = twin(params)
        rate = kwargs.pop("lr", 1e-3)
        plain = case.make(params, lr=rate, **kwargs)
        tensor = case.make(others, lr=torch.tensor(rate), **kwargs)
        for _ in range(4):
            plain.step(functools.partial(closure, plain, *params))
            tensor.step(functools.partial(closure, tensor, *others))
            equal(params, others)
        schedulers = [lr_scheduler.StepLR(optimizer, 1, 0.5) for optimizer in (plain, tensor)]
        for scheduler in schedulers:
            scheduler.step()
        assert isinstance(tensor.param_groups[0]["lr"], torch.Tensor)
        assert float(tensor.param_groups[0]["lr"]) == pytest.approx(rate / 2)


def kernels(case, flag):
    for kwargs in case.inputs():
        results = []
        for value in (False, True):
            torch.manual_seed(1)
            net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Sigmoid(), torch.nn.Linear(3, 1)).double()
            scalar = torch.full((), 0.5, dtype=torch.float64, requires_grad=True)
            scalar.grad = torch.full_like(scalar, 0.3)
            optimizer = case.make([*net.parameters(), scalar], **{**kwargs, flag: value})
            for step in range(7):
                optimizer.zero_grad()
                if step != 3:
                    net(torch.linspace(0.1, 0.6, 6, dtype=torch.float64).view(3, 2)).sum().backward()
                optimizer.step()
            results.append((list(net.parameters()), optimizer.state_dict()["state"]))
        equal(results[0][0], results[1][0])
        assert results[0][1].keys() == results[1][1].keys()


@check
def foreach_agrees_with_a_loop(case):
    kernels(case, "foreach")


@check
def fused_agrees_with_a_loop(case):
    if "cpu" in case.info.supports_fused_on:
        kernels(case, "fused")
    else:
        with pytest.raises(UsageError, match="fused"):
            case.make([Parameter(torch.ones(2))], fused=True)


@check
def nothing_moves_without_gradients(case):
    for kwargs in case.inputs(kernels=True):
        params = [Parameter(torch.randn(2, 3, generator=torch.Generator().manual_seed(1))) for _ in range(2)]
        optimizer = case.make(params, **kwargs)
        before = twin(params)
        optimizer.step()
        equal(params, before, rtol=0, atol=0)


@check
def nothing_moves_by_gradients_of_zero(case):
    for kwargs in case.inputs(kernels=True):
        kwargs["weight_decay"] = 0.0  # which moves
        params = [Parameter(torch.randn(2, 3, generator=torch.Generator().manual_seed(1))) for _ in range(2)]
        optimizer = case.make(params, **kwargs)
        before = twin(params)
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step()
        equal(params, before, rtol=0, atol=0)


@check
def gradients_are_read_only(case):
    for kwargs in case.inputs(kernels=True):
        params = [Parameter(torch.ones(2, 3)), Parameter(torch.ones(3))]
        optimizer = case.make(params, **kwargs)
        for p in params:
            p.grad = torch.full_like(p, 0.7)
        version = [p.grad._version for p in params]
        optimizer.step()
        assert [p.grad._version for p in params] == version


@check
def tensors_without_values(case):
    for kwargs in case.inputs(kernels=True):
        params = [Parameter(torch.empty(0, 3)), Parameter(torch.ones(2, 3)), Parameter(torch.empty(0))]
        optimizer = case.make(params, **kwargs)
        for _ in range(5):
            for p in params:
                p.grad = torch.full_like(p, 0.7)
            optimizer.step()
        assert torch.isfinite(params[1]).all()


@check
def closure_is_called_once_with_gradients_enabled(case):
    for kwargs in case.inputs(kernels=True):
        params, closure = case.problem()
        optimizer, called = case.make(params, **kwargs), []

        def counted(optimizer=optimizer, closure=closure, called=called):
            called.append(torch.is_grad_enabled())
            return closure(optimizer)

        assert optimizer.step(counted) is not None
        assert called == [True]
        assert optimizer.step() is None


# -- groups ----------------------------------------------------------------------------------------------------------


@check
def weight_decay_by_group(case):
    for kwargs in case.inputs(kernels=True):
        (weight, bias), closure = case.problem()
        kwargs.pop("maximize", None)
        kwargs["weight_decay"] = 0.0
        optimizer = case.make(groups(weight, bias, weight_decay=0.9), **kwargs)
        loss = closure(optimizer)
        bias.grad.zero_()
        before = bias.detach().clone()
        optimizer.step()
        assert loss.isfinite()
        assert (bias.abs() < before.abs()).all()


@check
def learning_rate_by_group(case):
    for kwargs in case.inputs(kernels=True):
        (weight, bias), closure = case.problem()
        optimizer = case.make(groups(weight, bias, lr=0.0), **kwargs)
        before = weight.detach().clone(), bias.detach().clone()
        for _ in range(3):
            optimizer.step(functools.partial(closure, optimizer))
        assert torch.equal(bias, before[1])
        assert not torch.equal(weight, before[0])


@check
def every_scheduler(case):
    made = {
        "StepLR": {"step_size": 2}, "MultiStepLR": {"milestones": [2]}, "ConstantLR": {}, "LinearLR": {},
        "ExponentialLR": {"gamma": 0.5}, "PolynomialLR": {}, "CosineAnnealingLR": {"T_max": 3},
        "CosineAnnealingWarmRestarts": {"T_0": 2}, "LambdaLR": {"lr_lambda": lambda epoch: 0.5**epoch},
        "MultiplicativeLR": {"lr_lambda": lambda epoch: 0.5}, "OneCycleLR": {"max_lr": 0.01, "total_steps": 8},
        "CyclicLR": {"base_lr": 1e-4, "max_lr": 1e-2, "cycle_momentum": False, "step_size_up": 2},
        "ReduceLROnPlateau": {"patience": 0},
    }  # fmt: skip
    for name, options in made.items():
        params, closure = case.problem()
        others = twin(params)
        momentum = {"momentum": 0.9} if case.info.name in ("SGD", "RMSprop") else {}
        ours, theirs = case.make(params, lr=0.01, **momentum), case.info.optim_cls(others, lr=0.01, **momentum)
        schedulers = [getattr(lr_scheduler, name)(optimizer, **options) for optimizer in (ours, theirs)]
        for _ in range(5):
            for optimizer, scheduler in zip((ours, theirs), schedulers):
                optimizer.step()
                scheduler.step(*([1.0] if name == "ReduceLROnPlateau" else []))
            assert ours.param_groups[0]["lr"] == theirs.param_groups[0]["lr"]
        ours.step(functools.partial(closure, ours))
        saved = schedulers[0].state_dict() if "Lambda" not in name and "Multiplicative" not in name else None
        if saved is not None:
            schedulers[0].load_state_dict(saved)


# -- states ----------------------------------------------------------------------------------------------------------


def through_file(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def continues(case, copied):
    for kwargs in case.inputs(kernels=True):
        params, closure = case.problem()
        optimizer = case.make(params, **kwargs)
        for _ in range(5):
            optimizer.step(functools.partial(closure, optimizer))
        others, other = copied(case, params, optimizer, kwargs)
        for _ in range(5):
            optimizer.step(functools.partial(closure, optimizer))
            other.step(functools.partial(closure, other, *others))
            equal(params, others, rtol=0, atol=0)
        torch.testing.assert_close(optimizer.state_dict()["state"], other.state_dict()["state"])


@check
def state_dict_continues(case):
    def copied(case, params, optimizer, kwargs):
        others = twin(params)
        other = case.make(others, **kwargs)
        saved = optimizer.state_dict()
        before = through_file(saved)
        with torch.no_grad():
            for p, q in zip(others, params):
                p.copy_(q)
        other.load_state_dict(before)
        torch.testing.assert_close(saved["state"], before["state"])
        return others, other

    continues(case, copied)


@check
def deepcopy_continues(case):
    def copied(case, params, optimizer, kwargs):
        others, other = copy.deepcopy((params, optimizer))
        public = [{key for key in vars(one) if not key.startswith("_")} for one in (optimizer, other)]
        assert public[0] == public[1]
        return others, other

    continues(case, copied)


@check
def pickle_continues(case):
    def copied(case, params, optimizer, kwargs):
        buffer = io.BytesIO()
        torch.save((params, optimizer), buffer)
        buffer.seek(0)
        return torch.load(buffer, weights_only=False)

    continues(case, copied)


@check
def older_state_dicts(case):
    for kwargs in case.inputs(kernels=True):
        params, closure = case.problem()
        optimizer = case.make(params, **kwargs)
        for _ in range(3):
            optimizer.step(functools.partial(closure, optimizer))
        old = copy.deepcopy(optimizer.state_dict())
        for group in old["param_groups"]:
            for flag in case.info.not_og_supported_flags:
                group.pop(flag, None)
        optimizer.load_state_dict(old)
        optimizer.step(functools.partial(closure, optimizer))


@check
def step_that_is_a_number(case):
    for kwargs in case.inputs(kernels=True):
        params, closure = case.problem()
        optimizer = case.make(params, **kwargs)
        for _ in range(3):
            optimizer.step(functools.partial(closure, optimizer))
        state = copy.deepcopy(optimizer.state_dict())
        for own in state["state"].values():
            for moments in (own, own.get("base", {})):
                if isinstance(moments.get("step"), torch.Tensor):
                    moments["step"] = moments["step"].item()
        optimizer.load_state_dict(state)
        optimizer.step(functools.partial(closure, optimizer))


@check
def states_with_and_without_names(case):
    for first, second in ((True, True), (True, False), (False, True), (False, False)):
        params, closure = case.problem()
        named = [("w", params[0]), ("b", params[1])]
        optimizer = case.make(named if first else params)
        optimizer.step(functools.partial(closure, optimizer))
        other = case.make(named if second else params)
        other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        other.step(functools.partial(closure, other))
        if first or second:
            assert other.state_dict()["param_groups"][0]["param_names"] == ["w", "b"]


@check
def states_are_not_empty(case):
    for kwargs in case.inputs():
        params, closure = case.problem()
        optimizer = case.make(params, **kwargs)
        optimizer.step(functools.partial(closure, optimizer))
        plain = case.info.optim_cls(twin(params), **kwargs)
        if case.method is not METHODS["dense"] or plain.state:
            assert all(len(state) for state in optimizer.state.values())


# -- hooks -----------------------------------------------------------------------------------------------------------


@check
def step_hooks(case):
    for kwargs in case.inputs(kernels=True):
        params, closure = case.problem()
        optimizer, data = case.make(params, **kwargs), []
        handles = [
            register_optimizer_step_pre_hook(lambda *_, data=data: data.append(0)),
            register_optimizer_step_post_hook(lambda *_, data=data: data.append(5)),
            optimizer.register_step_pre_hook(lambda *_, data=data: data.append(1)),
            optimizer.register_step_post_hook(lambda *_, data=data: data.append(2)),
        ]
        try:
            optimizer.step()
            optimizer.step(functools.partial(closure, optimizer))
        finally:
            for handle in handles:
                handle.remove()
        optimizer.step()
        assert data == [0, 1, 2, 5] * 2


@check
def state_dict_hooks(case):
    for kwargs in case.inputs(kernels=True):
        optimizer = case.make([Parameter(torch.rand(2, 3))], **kwargs)
        optimizer.register_state_dict_pre_hook(lambda one: one.state.update(test=1))
        assert optimizer.state_dict()["state"]["test"] == 1
        optimizer.register_state_dict_post_hook(lambda _, state: {**state, "seen": state["state"].pop("test")})
        assert optimizer.state_dict()["seen"] == 1


@check
def load_state_dict_hooks(case):
    def rate(value, state):
        state = copy.deepcopy(state)
        state["param_groups"][0]["lr"] = value
        return state

    for kwargs in case.inputs(kernels=True):
        params, closure = case.problem()
        optimizer = case.make(params, **kwargs)
        optimizer.register_load_state_dict_pre_hook(lambda _, state: rate(0.002, state))
        optimizer.register_load_state_dict_pre_hook(lambda _, state: rate(0.003, state), prepend=True)
        optimizer.register_load_state_dict_post_hook(lambda one: one.state.update(ran=True))
        optimizer.load_state_dict(optimizer.state_dict())
        assert optimizer.param_groups[0]["lr"] == 0.002
        assert optimizer.state["ran"] is True
        optimizer.step(functools.partial(closure, optimizer))
        optimizer.load_state_dict(optimizer.state_dict())


class nothing:
    def __enter__(self):
        pass

    def __exit__(self, *_):
        pass


# -- run -------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("base", INFOS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CHECKS)
def test_as_torchs_own(name, method, base, request):
    bases, reason = EXCEPTIONS.get((name, method), ((), ""))
    if base in bases:
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    CHECKS[name](Case(method, INFOS[base]))


def test_every_exception_is_a_check_of_a_method():
    assert all(name in CHECKS and method in METHODS for name, method in EXCEPTIONS)
