import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synaprune.optim.fingerprint import COLUMNS, ROWS, SMALL, Written, fingerprint, same, side_by_side

TYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
LARGE = (300, 785)  # an odd number of values, so that words of one value are read
EVEN = (600, 784)


def weights(shape=EVEN, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(3, 5), LARGE, EVEN])
def test_equal_values_have_equal_fingerprints(shape, dtype):
    w = weights(shape, dtype)
    assert same(fingerprint(w), fingerprint(w.clone()))


@given(st.sampled_from(TYPES), st.sampled_from([(3, 5), LARGE, EVEN]), st.floats(0, 1, exclude_max=True), st.booleans())
def test_any_one_value_that_changes_is_seen_by_the_least_bit(dtype, shape, place, view):
    w = weights(shape, dtype)
    if view:  # into a shared buffer, where no word begins
        w = torch.cat([torch.zeros(1, dtype=dtype), w.flatten()])[1:].view(shape)
    before = fingerprint(w)
    value = w.view(-1)[int(place * w.numel())]
    value.copy_(torch.nextafter(value.float(), torch.tensor(9.0)) if dtype == torch.float32 else value + 0.125)
    assert not same(before, fingerprint(w))


CHANGES = [
    lambda w: w.flip(0),
    lambda w: w.flip(1),
    lambda w: w.roll(1, 0),
    lambda w: w.roll(2, 1),
    lambda w: w[torch.randperm(len(w), generator=torch.Generator().manual_seed(1))],
    lambda w: w.neg(),
    lambda w: w * (w.abs() > 0.01),
    lambda w: w * 2,
    torch.zeros_like,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [EVEN, LARGE, (512, 1024), (100, 8192)])
def test_what_people_do_to_weights_is_seen(change, dtype, shape):
    w = weights(shape, dtype)
    assert not same(fingerprint(w), fingerprint(change(w)))


def test_it_is_small_where_the_tensor_is_large():
    assert fingerprint(weights((ROWS, 2 * COLUMNS))).numel() == COLUMNS
    assert fingerprint(weights((4096, 1024))).nbytes * 100 < 4096 * 1024 * 4


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_other_layouts_are_read_as_they_lie(layout):
    w = weights((64, 32, 3, 30)).to(memory_format=layout)
    before = fingerprint(w)
    assert same(before, fingerprint(w.clone(memory_format=torch.preserve_format)))
    w[5, 4, 2, 1] += 1
    assert not same(before, fingerprint(w))


# -- many weights ------------------------------------------------------------------------------------------------

SHAPES = [(3, 5), (2, 3, 3, 3), (7,), (SMALL // 8, 9), (4, 4), (1, 6)]


def several(mixed):
    tensors = [weights(shape, TYPES[n % 4] if mixed else torch.float32) for n, shape in enumerate(SHAPES)]
    tensors[1] = tensors[1].to(memory_format=torch.channels_last)
    tensors[4] = tensors[4][:, ::2]  # with gaps
    return tensors


@given(
    st.booleans(),
    st.lists(st.sets(st.sampled_from(range(6)), min_size=1), min_size=1, max_size=4),
    st.sets(st.sampled_from(range(6))),
    st.sets(st.sampled_from(range(6)), min_size=1),
)
def test_just_what_was_written_is_told_whoever_is_asked_together(mixed, remembered, wrote, asked):
    tensors, written = several(mixed), Written()
    for some in remembered:
        written.remember([tensors[n] for n in sorted(some)])
    known = set().union(*remembered)
    for n in wrote:
        tensors[n].view(tensors[n].shape)[(0,) * tensors[n].dim()] += 1.0
    for _ in range(2):  # to ask changes nothing
        found = {id(tensor) for tensor in written.changed([tensors[n] for n in sorted(asked)])}
        assert found == {id(tensors[n]) for n in asked if n in wrote or n not in known}
    written.remember([tensors[n] for n in sorted(asked)])
    assert written.changed([tensors[n] for n in sorted(asked)]) == []


def test_nan_is_equal_to_itself():
    tensors, written = [torch.full((3,), torch.nan), torch.zeros(2)], Written()
    written.remember(tensors)
    assert written.changed(tensors) == []
    written.clear()
    assert len(written.changed(tensors)) == 2


def test_side_by_side():
    assert side_by_side([torch.tensor([[1.0, 2.0]]), torch.tensor([3.0])]).tolist() == [1.0, 2.0, 3.0]
