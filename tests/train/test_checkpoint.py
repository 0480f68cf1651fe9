"""Checkpoints: what goes in comes out, and the file on the disk is always whole."""

from __future__ import annotations

import copy
import errno
import json
import math
import os

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from synaprune.errors import MachineError, UsageError
from synaprune.optim import GradR
from synaprune.train import checkpoint

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.uint8]
tensors = st.builds(
    lambda shape, dtype: torch.arange(math.prod(shape)).reshape(shape).to(dtype),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from(DTYPES),
)
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
keys = st.text(max_size=3) | st.sampled_from(["$tensor", "$tuple", "a/b", "a"]) | st.integers(-5, 5)
trees = st.recursive(
    tensors | plain,
    lambda node: (
        st.lists(node, max_size=3) | st.lists(node, max_size=3).map(tuple) | st.dictionaries(keys, node, max_size=3)
    ),
    max_leaves=8,
)


def same(a, b):
    """Whether two trees are equal, in types too."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return same(list(a), list(b)) and all(map(same, a.values(), b.values()))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


@given(st.dictionaries(keys, trees, max_size=4))
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip(tmp_path, tree):
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.save(tree, path)
    assert same(checkpoint.load(path), tree)


def test_floats_that_json_cannot_say(tmp_path):
    path = tmp_path / "c"
    tree = {"values": [math.inf, -math.inf, math.nan, -0.0, 5e-324, 0.1 + 0.2]}
    checkpoint.save(tree, path)
    values = checkpoint.load(path)["values"]
    assert same(values, tree["values"])
    assert math.copysign(1, values[3]) == -1


def test_views_and_strides_are_saved_by_value(tmp_path):
    whole = torch.arange(6.0).reshape(2, 3)
    tree = {"whole": whole, "row": whole[1], "again": whole, "transposed": whole.T, "parameter": nn.Parameter(whole)}
    checkpoint.save(tree, tmp_path / "c")
    loaded = checkpoint.load(tmp_path / "c")
    assert all(torch.equal(loaded[name], tree[name]) for name in tree)


def test_anything_but_tensors_and_plain_data_is_refused(tmp_path):
    with pytest.raises(TypeError, match="'a/0': set is neither a tensor nor plain data"):
        checkpoint.save({"a": [{1}]}, tmp_path / "c")
    assert os.listdir(tmp_path) == []


def test_an_optimizer_goes_on_as_if_never_saved(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
    optimizer = GradR(net, lr=0.01, alpha=0.1)
    inputs = torch.randn(4, 6)

    def steps(net, optimizer, count):
        for _ in range(count):
            optimizer.zero_grad()
            net(inputs).square().sum().backward()
            optimizer.step()
        return [p.detach().clone() for p in net.parameters()]

    steps(net, optimizer, 5)
    checkpoint.save({"model": net.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "c")
    other = copy.deepcopy(net)
    fresh = GradR(other, lr=0.5, alpha=0.5)
    state = checkpoint.load(tmp_path / "c")
    other.load_state_dict(state["model"])
    fresh.load_state_dict(state["optimizer"])
    assert all(map(torch.equal, steps(net, optimizer, 20), steps(other, fresh, 20)))


def test_a_failed_save_leaves_the_previous_checkpoint_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.save({"epoch": 1}, path)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match=r"no space left on the disk for '.*checkpoint.safetensors'"):
        checkpoint.save({"epoch": 2}, path)
    monkeypatch.undo()
    assert checkpoint.load(path) == {"epoch": 1}
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("error", [KeyboardInterrupt, PermissionError])
def test_other_ends_of_a_save_keep_their_own_name(tmp_path, monkeypatch, error):
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.save({"epoch": 1}, path)

    def fail(*_):
        raise error

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(error):
        checkpoint.save({"epoch": 2}, path)
    assert checkpoint.load(path) == {"epoch": 1}
    assert os.listdir(tmp_path) == [path.name]


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """The bytes of a checkpoint that has a bit of everything."""
    path = tmp_path_factory.mktemp("whole") / "c"
    tensors = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.ones(3, dtype=torch.bfloat16), "n": torch.tensor(True)}
    checkpoint.save({"epoch": 3, "model": tensors, "optimizer": {0: (1.5, None)}}, path)
    return path.read_bytes()


def test_every_flipped_bit_is_found(content, tmp_path):
    path = tmp_path / "c"
    for position in range(8 * len(content)):
        changed = bytearray(content)
        changed[position // 8] ^= 1 << position % 8
        path.write_bytes(changed)
        with pytest.raises(checkpoint.DamagedError, match=f"'{path}' is "):
            checkpoint.load(path)


@given(st.data())
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_found_or_changes_nothing(content, tmp_path, data):
    path = tmp_path / "c"
    begin = data.draw(st.integers(0, len(content) - 1))
    end = data.draw(st.integers(begin, min(len(content), begin + 50)))
    path.write_bytes(content)
    whole = checkpoint.load(path)
    piece = content[begin:end]
    middle = data.draw(st.binary(max_size=50) | st.just(bytes(len(piece))) | st.permutations(piece).map(bytes))
    path.write_bytes(content[:begin] + middle + content[end:])
    try:
        found = checkpoint.load(path)
    except checkpoint.DamagedError as error:
        assert "\n" not in str(error)  # noqa: PT017 (either is right)
    else:
        assert same(found, whole)


@pytest.mark.parametrize(
    "damaged", [b"", bytes(8), bytes(100_000), b"\xff" * 1000], ids=["empty", "0", "zeros", "ones"]
)
def test_what_is_left_after_a_power_cut(damaged, tmp_path):
    (tmp_path / "c").write_bytes(damaged)
    with pytest.raises(checkpoint.DamagedError, match="is no checkpoint of synaprune, or is cut short"):
        checkpoint.load(tmp_path / "c")


def test_truncated_at_any_length(content, tmp_path):
    path = tmp_path / "c"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(checkpoint.DamagedError, match="no checkpoint of synaprune, or is cut short"):
            checkpoint.load(path)


def test_a_checkpoint_of_a_time_without_checksums_is_read(tmp_path):
    path = tmp_path / "c"
    text = json.dumps({"format": 1, "state": {"epoch": 3, "w": {"$tensor": "w"}}})
    path.write_bytes(checkpoint.safetensors.torch.save({"w": torch.ones(2)}, metadata={"synaprune": text}))
    assert same(checkpoint.load(path), {"epoch": 3, "w": torch.ones(2)})


def test_tensors_that_are_not_asked_for_are_still_checked(tmp_path):
    path = tmp_path / "c"
    checkpoint.save({"model": {"a": torch.ones(2), "b": torch.ones(3)}, "epoch": 1}, path)
    found = checkpoint.load(path, only=lambda name: name == "model/b")
    assert same(found, {"model": {"a": None, "b": torch.ones(3)}, "epoch": 1})
    changed = bytearray(path.read_bytes())
    changed[-5 * 4] ^= 1  # a is the first of the tensors
    path.write_bytes(changed)
    with pytest.raises(checkpoint.DamagedError, match="its checksum is another"):
        checkpoint.load(path, only=lambda name: name == "model/b")


def test_the_same_state_is_the_same_file(tmp_path):
    for name in ("one", "two"):
        checkpoint.save({"b": torch.ones(2), "a": {"x": torch.zeros(1), "y": 1}}, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        *(
            {"synaprune": text}
            for text in ("no JSON", "[]", "{}", '{"format": 1}', '{"format": 1, "state": {"$tensor": "absent"}}')
        ),
    ],
)
def test_foreign_safetensors_files(tmp_path, metadata):
    path = tmp_path / "c"
    path.write_bytes(checkpoint.safetensors.torch.save({"a": torch.zeros(1)}, metadata=metadata))
    with pytest.raises(UsageError, match="no checkpoint of synaprune"):
        checkpoint.load(path)


def test_absent_file_and_later_format(tmp_path):
    path = tmp_path / "c"
    for absent in (path, tmp_path):
        with pytest.raises(UsageError, match="there is no checkpoint"):
            checkpoint.load(absent)
    text = json.dumps({"format": checkpoint.FORMAT + 1, "state": {}})
    path.write_bytes(checkpoint.safetensors.torch.save({}, metadata={"synaprune": text}))
    with pytest.raises(UsageError, match="has format 2, this version of synaprune reads 1; use the version"):
        checkpoint.load(path)


def test_a_file_that_cannot_be_read_keeps_its_reason(tmp_path, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(13, "Permission denied", str(path))

    checkpoint.save({}, tmp_path / "c")
    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(PermissionError, match="Permission denied"):
        checkpoint.load(tmp_path / "c")


def test_a_checkpoint_of_another_model_names_the_first_tensor_that_differs():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    checkpoint.check_model(model, model.state_dict(), "run")
    wider = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1)).state_dict()
    with pytest.raises(UsageError, match=r"'run' is of another model: '0.weight' is \(4, 3\) there, \(2, 3\) here"):
        checkpoint.check_model(model, wider, "run")
    deeper = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1), nn.Linear(1, 1)).state_dict()
    with pytest.raises(UsageError, match=r"'2.weight' is \(1, 1\) there, absent here"):
        checkpoint.check_model(model, deeper, "run")
