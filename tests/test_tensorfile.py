"""What is written is what safetensors reads, and always the same."""

from __future__ import annotations

import io
import json
import struct

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from synaprune.tensorfile import Stored, checksum, write

TYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "I16": np.int16,
    "I8": np.int8, "U8": np.uint8, "U16": np.uint16, "BOOL": np.bool_,
}  # fmt: skip
arrays = st.sampled_from(sorted(TYPES)).flatmap(
    lambda name: st.tuples(
        st.just(name), arrays_of.arrays(TYPES[name], arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0))
    )
)


def written(tensors, metadata):
    file = io.BytesIO()
    write(file, {name: Stored(dtype, array.shape, array) for name, (dtype, array) in tensors.items()}, metadata)
    return file.getvalue()


@given(st.dictionaries(st.text(max_size=5), arrays, max_size=5), st.dictionaries(st.text(), st.text(), max_size=3))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_safetensors_reads_what_is_written(tmp_path, tensors, metadata):
    tensors.pop("__metadata__", None)
    (tmp_path / "file").write_bytes(written(tensors, metadata))
    with safetensors.safe_open(tmp_path / "file", framework="np") as file:
        assert (file.metadata() or {}) == metadata
        assert set(file.keys()) == tensors.keys()
        for name, (dtype, array) in tensors.items():
            found = file.get_tensor(name)
            assert file.get_slice(name).get_dtype() == dtype
            assert found.shape == array.shape
            assert found.tobytes() == array.tobytes()


def test_the_order_of_what_is_given_does_not_matter():
    tensors = {"b": ("F32", np.ones(3, np.float32)), "a": ("U8", np.ones(5, np.uint8)), "c": ("F32", np.zeros(1))}
    metadata = {"y": "1", "x": "2"}
    backwards = [dict(reversed(each.items())) for each in (tensors, metadata)]
    assert written(tensors, metadata) == written(*backwards)


def test_tensors_lie_where_their_type_wants_them():
    content = written({"a": ("U8", np.ones(3, np.uint8)), "b": ("F64", np.ones(2))}, {})
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert length % 8 == 0
    assert header["b"]["data_offsets"] == [0, 16]
    assert header["a"]["data_offsets"] == [16, 19]


def test_the_data_are_those_of_the_library(tmp_path):
    given = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.arange(3, dtype=np.uint8)}
    mine = written({"b": ("F32", given["b"]), "a": ("U8", given["a"])}, {"x": "y"})
    theirs = safetensors.numpy.save(given, metadata={"x": "y"})
    assert mine[-27:] == theirs[-27:]


def test_a_name_that_is_no_unicode_is_refused():
    with pytest.raises(UnicodeEncodeError):
        written({"\udcff": ("U8", np.ones(1, np.uint8))}, {})


@given(st.text(max_size=5), st.binary(max_size=20), st.integers(0, 10**6))
def test_every_flipped_bit_has_another_sum(text, data, number):
    before = checksum(text, [("part", data)])
    assert len(before) == 8
    assert checksum(text, [("part", data)]) == before
    assert checksum(text, [("tarp", data)]) != before
    assert checksum(text + "x", [("part", data)]) != before
    if data:
        flipped = bytearray(data)
        flipped[number // 8 % len(data)] ^= 1 << number % 8
        assert checksum(text, [("part", bytes(flipped))]) != before
