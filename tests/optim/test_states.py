"""States that other programs have saved: keyed by names, flattened, in another order, or with a part lost."""

import copy
import re

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from forms import FORMS, every_form, make
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

from synaprune.errors import UsageError

BASES = {
    "adam": {"base": torch.optim.Adam},
    "sgd": {"base": torch.optim.SGD, "momentum": 0.9},
    "adamw": {"base": torch.optim.AdamW, "weight_decay": 0.1},
}
every_base = pytest.mark.parametrize("base", BASES)
OPTIONS = {
    "by name": {},
    "flat": {"flatten_optimizer_state_dict": True},
    "full": {"full_state_dict": True, "cpu_offload": True},
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, 4))


def train(net, optimizer, first, last):
    for step in range(first, last):
        optimizer.zero_grad()
        images = torch.randn(16, 12, generator=torch.Generator().manual_seed(step))
        net(images).square().mean().backward()
        optimizer.step()


def trained(form, base="adam", steps=14):
    net = network()
    optimizer = make(form, net, **BASES[base])
    train(net, optimizer, 0, steps)
    return net, optimizer


def fresh(form, base="adam"):
    net = network()
    return net, make(form, net, **BASES[base])


def assert_same_course(one, other, first=14, last=30):
    """Two networks with their optimizers are equal now, and after more steps."""
    for _ in range(2):
        for (name, value), copied in zip(one[0].state_dict().items(), other[0].state_dict().values()):
            assert torch.equal(value, copied), name
        train(*one, first, last)
        train(*other, first, last)


@every_form
@every_base
@pytest.mark.parametrize("options", OPTIONS)
def test_what_torch_distributed_has_saved_goes_on_to_the_bit(form, base, options, tmp_path):
    options = StateDictOptions(**OPTIONS[options])
    one, other = trained(form, base), fresh(form, base)
    model, states = get_state_dict(*one, options=options)
    dcp.save({"model": model, "optimizer": states}, checkpoint_id=tmp_path, no_dist=True)
    model, states = get_state_dict(*other, options=options)
    found = {"model": model, "optimizer": states}
    dcp.load(found, checkpoint_id=tmp_path, no_dist=True)
    set_state_dict(*other, model_state_dict=found["model"], optim_state_dict=found["optimizer"], options=options)
    assert_same_course(one, other)


@every_form
@pytest.mark.parametrize("options", OPTIONS)
def test_so_does_what_stayed_in_memory(form, options):
    options = StateDictOptions(**OPTIONS[options])
    one, other = trained(form), fresh(form)
    model, states = copy.deepcopy(get_state_dict(*one, options=options))
    set_state_dict(*other, model_state_dict=model, optim_state_dict=states, options=options)
    assert_same_course(one, other)


def by_name(state, wrapper=""):
    """Return a state as programs keep it that know tensors by name, last ones first."""
    names = [wrapper + name for group in state["param_groups"] for name in group["param_names"]]
    groups = [
        {**group, "params": [names[number] for number in reversed(group["params"])]}
        | {"param_names": group["param_names"][::-1]}
        for group in reversed(state["param_groups"])
    ]
    return {"state": {names[n]: state["state"][n] for n in reversed(state["state"])}, "param_groups": groups}


@every_form
@every_base
@pytest.mark.parametrize("wrapper", ["", "module.", "_orig_mod."])
def test_names_say_which_is_which_in_any_order(form, base, wrapper):
    one, other = trained(form, base), fresh(form, base)
    other[1].load_state_dict(by_name(copy.deepcopy(one[1].state_dict()), wrapper))
    other[0].load_state_dict(one[0].state_dict())
    assert [group["params"] for group in other[1].state_dict()["param_groups"]] == [
        group["params"] for group in one[1].state_dict()["param_groups"]
    ]
    assert_same_course(one, other)


@every_form
def test_so_do_names_beside_numbers_in_another_order(form):
    one, other = trained(form), fresh(form)
    state = copy.deepcopy(one[1].state_dict())
    state["param_groups"].reverse()
    for group in state["param_groups"]:
        group["params"].reverse()
        group["param_names"].reverse()
    other[1].load_state_dict(state)
    other[0].load_state_dict(one[0].state_dict())
    assert_same_course(one, other)


def equal(one, other):
    """Two states are the same, down to their last tensors."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def refused(optimizer, state, *words):
    """Loading is refused in one sentence with these words, and has changed nothing."""
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(UsageError, match=".*".join(map(re.escape, words))):
        optimizer.load_state_dict(state)
    assert equal(optimizer.state_dict(), before)


def test_names_of_another_model_are_refused():
    one, other = trained("grad_r"), trained("grad_r", steps=3)
    state = by_name(one[1].state_dict())
    for group in state["param_groups"]:
        group["params"] = [name.replace("3.", "4.") for name in group["params"]]
    refused(other[1], state, "keyed by names", "'3.bias' is only among its own")


def test_groups_of_other_members_are_refused():
    one, other = trained("grad_r"), trained("grad_r", steps=3)
    state = by_name(one[1].state_dict())
    first, second = state["param_groups"]
    first["params"].append(second["params"].pop())
    refused(other[1], state, "no group of just 0.weight, 3.weight")


@every_form
@pytest.mark.parametrize("lost", ["latent", "base", "a moment", "steps"])
def test_a_state_that_has_lost_a_part_is_refused(form, lost):
    one, other = trained(form), trained(form, steps=3)
    state = copy.deepcopy(one[1].state_dict())
    own = state["state"][0]
    if form == "dense":  # whose state is that of its base alone
        del own["exp_avg"]
        lost = "exp_avg"
    elif lost == "a moment":
        del own["base"]["exp_avg"]
        lost = "exp_avg"
    else:
        del own[lost]
    refused(other[1], state, "0.weight", lost)


def test_a_plain_tensor_that_has_lost_a_part_is_refused():
    one, other = trained("grad_r"), trained("grad_r", steps=3)
    state = copy.deepcopy(one[1].state_dict())
    del state["state"][3]["exp_avg_sq"]
    refused(other[1], state, "1.weight has lost its exp_avg_sq")


@every_form
def test_a_frozen_topology_is_not_forgotten_on_the_way(form):
    one, other = trained(form), fresh(form)
    one[1].freeze_topology()
    options = StateDictOptions(flatten_optimizer_state_dict=True)
    model, states = copy.deepcopy(get_state_dict(*one, options=options))
    if form == "dense":
        return
    with pytest.raises(UsageError, match=r"0\.weight has lost its absent"):
        set_state_dict(*other, model_state_dict=model, optim_state_dict=states, options=options)
    other[1].load_state_dict(copy.deepcopy(one[1].state_dict()))
    other[0].load_state_dict(one[0].state_dict())
    assert_same_course(one, other)


@every_form
def test_a_state_of_before_the_newest_numbers_is_completed(form):
    one, other = trained(form), fresh(form)
    state = copy.deepcopy(one[1].state_dict())
    for own in state["state"].values():
        own.pop("frozen", None)
        if own.get("known") == 0:
            own.pop("alpha")
        for key in ("shift", "travel"):
            if own.get(key) == 0.0:
                del own[key]
        for key in ("known", "carried"):
            own.pop(key, None)
    other[1].load_state_dict(state)
    other[0].load_state_dict(one[0].state_dict())
    assert_same_course(one, other)


@every_form
def test_a_new_optimizer_has_no_state_even_when_looked_at(form):
    net, optimizer = fresh(form)
    optimizer.turnover()
    if form != "dense":
        optimizer.theta(net[0].weight)
        optimizer.mask(net[0].weight)
    assert not optimizer.state
    copied_net, copied = copy.deepcopy((net, optimizer))
    assert_same_course((net, optimizer), (copied_net, copied), 0, 10)


@every_form
def test_tensors_of_a_state_are_not_written_when_weights_are_taken_over(form):
    net, optimizer = trained(form)
    held = [value for value in optimizer.state_dict()["state"][0].values() if isinstance(value, torch.Tensor)]
    before = copy.deepcopy(held)
    net[0].weight.data.mul_(0.5)
    optimizer.state_dict()
    assert all(map(torch.equal, held, before))


@pytest.fixture
def process_group(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@every_form
def test_parts_of_tensors_are_refused(form, process_group):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import distribute_module

    net = distribute_module(network(), init_device_mesh("cpu", (1,)))
    if form == "dense":
        make(form, net)
        return
    with pytest.raises(UsageError, match=r"0\.weight is a DTensor.* train with DistributedDataParallel"):
        make(form, net)
    optimizer = make(form, network())
    with pytest.raises(UsageError, match="is a DTensor"):
        optimizer.add_param_group({"params": [net[0].weight]})
    assert len(optimizer.param_groups) == len(make(form, network()).param_groups)


@every_form
def test_tensors_of_inference_mode_are_refused(form):
    with torch.inference_mode():
        net = network()
    if form != "dense":
        with pytest.raises(UsageError, match=r"0\.weight was made in inference mode"):
            make(form, net)


def test_every_form_is_here():
    assert len(FORMS) == 17
