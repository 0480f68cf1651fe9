import numpy as np
import pytest

from synaprune.engine import AvgPool, Conv, Flatten, Linear, MaxPool, Neuron, Vote, Weight
from synaprune.errors import UsageError

ONE = Weight((1, 1), np.array([0]), np.array([1.0]))


def kernel(*shape):
    return Weight.from_dense(np.ones(shape))


def test_a_weight_lists_what_is_not_zero():
    dense = np.array([[0.0, 2.5, 0.0], [-1.0, 0.0, 3.0]])
    weight = Weight.from_dense(dense)
    assert weight.positions.tolist() == [1, 3, 5]
    assert weight.values.tolist() == [2.5, -1.0, 3.0]
    assert weight.dense().tolist() == dense.tolist()
    assert len(weight) == 3


def test_a_weight_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        ONE.values[0] = 2.0


@pytest.mark.parametrize(
    ("shape", "positions", "values", "complaint"),
    [
        ((2, 2), [1, 1], [1.0, 1.0], "do not ascend"),
        ((2, 2), [2, 1], [1.0, 1.0], "do not ascend"),
        ((2, 2), [-1], [1.0], "do not ascend"),
        ((2, 2), [4], [1.0], "do not ascend"),
        ((2, 2), np.array([2**64 - 1], np.uint64), [1.0], "do not ascend"),
        ((2, 2), [1], [1.0, 2.0], "do not fit"),
        ((2, 2), [1.0], [1.0], "whole numbers"),
        ((2, 2), [1], [np.nan], "not finite"),
        ((2, 2), [1], [1e300], "not finite"),
        ((2, 0), [], [], "at least 1"),
        ((2**16, 2**16), [], [], "too many"),
    ],
)
def test_a_weight_checks_what_it_is_given(shape, positions, values, complaint):
    with pytest.raises(UsageError, match=complaint):
        Weight(shape, np.asarray(positions, None if len(positions) else np.int64), np.asarray(values, np.float64))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Linear("fc", weight=kernel(2, 2, 2)), r"linear 'fc' needs weights \[out, in\]"),
        (lambda: Linear("fc", weight=ONE, bias=np.ones(2)), "bias of linear 'fc' must be 1 finite"),
        (lambda: Linear("fc", weight=ONE, bias=np.array([np.inf])), "finite"),
        (lambda: Conv("c", weight=ONE), "conv 'c' needs weights"),
        (lambda: Conv("c", weight=kernel(3, 1, 2, 2), groups=2), "cannot split 3 outputs into 2 groups"),
        (lambda: Conv("c", weight=kernel(1, 1, 2, 2), stride=(0, 1)), "stride of conv 'c' must be whole"),
        (lambda: Conv("c", weight=kernel(1, 1, 2), stride=(1, 1)), r"must have 1 number\(s\)"),
        (lambda: Neuron("n", tau=0.5), "tau of neuron 'n' must be at least 1"),
        (lambda: Neuron("n", threshold=float("nan")), "threshold of neuron 'n' must be a finite number"),
        (lambda: Neuron("n", reset="0"), "reset of neuron 'n'"),
        (lambda: Neuron("n", decay_input=1), "decay_input"),
        (lambda: MaxPool("p", kernel=(2, 2), padding=(2, 0)), "at most half"),
        (lambda: AvgPool("p", kernel=(2, 2, 2)), "one or two dimensions"),
        (lambda: Vote("v", group=0), "group of vote 'v'"),
        (lambda: Flatten(3), "name of a layer"),
    ],
)
def test_a_layer_checks_what_it_is_given(make, complaint):
    with pytest.raises(UsageError, match=complaint):
        make()


def test_shapes():
    conv = Conv(weight=kernel(4, 1, 3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2)
    assert conv.output((2, 7, 7)) == (4, 4, 5)
    assert Conv(weight=kernel(4, 2, 3), stride=(1,), padding=(0,), dilation=(1,)).output((2, 7)) == (4, 5)
    assert MaxPool(kernel=(3, 3), stride=(2, 2), padding=(1, 1)).output((5, 8, 7)) == (5, 4, 4)
    assert Flatten().output((2, 3, 4)) == (24,)
    assert Vote(group=5).output((20,)) == (4,)
    assert Neuron().output((3, 4)) == (3, 4)


@pytest.mark.parametrize(
    ("layer", "shape", "complaint"),
    [
        (Linear("fc", weight=kernel(2, 3)), (4,), "linear 'fc' takes 3 inputs"),
        (Linear("fc", weight=kernel(2, 3)), (3, 1), "takes 3 inputs"),
        (Conv("c", weight=kernel(1, 2, 3, 3)), (1, 8, 8), r"conv 'c' takes \(2, height, width\)"),
        (Conv("c", weight=kernel(1, 1, 3, 3)), (1, 2, 8), "larger than its input"),
        (MaxPool("p"), (4,), "takes maps"),
        (
            MaxPool("p", kernel=(257, 256)),
            (1, 400, 400),
            r"kernel \(257, 256\) of max_pool 'p' is too large: at most 6",
        ),
        (
            Conv(
                "c", weight=Weight((1, 1, 70_000), np.array([0]), np.ones(1)), stride=(1,), padding=(0,), dilation=(1,)
            ),
            (1, 10**5),
            r"kernel \(70000,\) of conv 'c' is too large",
        ),
        (Vote("v", group=3), (10,), "multiple of 3"),
    ],
)
def test_a_layer_refuses_a_shape_that_does_not_fit(layer, shape, complaint):
    with pytest.raises(UsageError, match=complaint):
        layer.output(shape)
