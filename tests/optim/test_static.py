"""Static random sparsity: drawn once, from a seed, and never changed."""

import pytest
import torch
from common import model, same, train
from torch import nn

from synaprune.errors import UsageError
from synaprune.optim import Static


def masks(net):
    return [net[0].weight != 0, net[4].weight != 0]


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({"allocation": "uniform"}, [11, 48]),
        ({"allocation": "erk"}, [7, 52]),
        ({}, [7, 52]),
        ({"sparsity": {"0.*": 0.0, "*": 0.75}}, [108, 120]),
        ({"sparsity": 0.0}, [108, 480]),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_as_many_as_asked_from_the_start_to_the_end(options, numbers, dtype):
    """Of 108 and 480; by Erdős–Rényi 14 to 101 parts of 58.8: 7.2 and 51.6."""
    net = model(dtype)
    optimizer = Static(net, lr=1e-2, **{"sparsity": 0.9, **options})
    begun = masks(net)
    assert [int(mask.sum()) for mask in begun] == numbers
    train(net, optimizer, 20)
    optimizer.settle()
    assert all(torch.equal(a, b) for a, b in zip(begun, masks(net)))
    assert set(optimizer.turnover().values()) == {(0, 0)}


def test_the_seed_decides():
    drawn = []
    for seed in (0, 0, 1):
        net = model()
        Static(net, sparsity=0.9, seed=seed)
        drawn.append(net)
    assert same(drawn[0], drawn[1])
    assert not any(torch.equal(a, b) for a, b in zip(masks(drawn[0]), masks(drawn[2])))


def test_layers_of_one_shape_are_drawn_apart_in_whatever_groups():
    weights = [nn.Parameter(torch.randn(20, 20)) for _ in range(3)]
    optimizer = Static([{"params": [weights[0]]}, {"params": [weights[1]]}], sparsity=0.5)
    optimizer.add_param_group({"params": [weights[2]], "sparsity": 0.75})
    assert [int(torch.count_nonzero(weight)) for weight in weights] == [200, 200, 100]
    assert not torch.equal(weights[0] != 0, weights[1] != 0)
    assert not (weights[2] != 0)[weights[0] == 0].logical_not().all()


def test_lots_favour_no_place():
    weight = nn.Parameter(torch.ones(100, 100))
    Static([weight], sparsity=0.9, allocation="uniform", rescale=False)
    rows, columns = weight.sum(1), weight.sum(0)
    # 10 ± 3 in a row, were they independent; 4.5 of these bounds among 200.
    assert 0 < rows.min() <= rows.max() < 24
    assert 0 < columns.min() <= columns.max() < 24


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_lots_know_nothing_of_weights_drawn_from_the_same_seed(seed):
    """Two generators of one seed give one stream: by it the lots would fall on the largest initial weights."""
    torch.manual_seed(seed)
    net = nn.Linear(784, 100, bias=False)
    Static(net, sparsity=0.9, allocation="uniform", rescale=False, seed=seed)
    kept = net.weight[net.weight != 0] * 28  # uniform in [−1, 1]
    assert abs(kept.mean().item()) < 0.05
    assert kept.abs().mean().item() == pytest.approx(0.5, abs=0.03)


def test_rescaling_keeps_the_variance_of_the_current():
    generator = torch.Generator().manual_seed(1)
    dense = torch.randn(4000, 900, generator=generator)
    x = torch.rand(900, generator=generator)
    for connectivity in (0.01, 0.25):
        weight = nn.Parameter(dense.clone())
        Static([weight], sparsity=1 - connectivity, allocation="uniform")
        mask = weight != 0
        torch.testing.assert_close(weight[mask].detach(), dense[mask] / connectivity**0.5)
        assert (weight @ x).var().item() == pytest.approx((dense @ x).var().item(), rel=0.2)
        weight = nn.Parameter(dense.clone())
        Static([weight], sparsity=1 - connectivity, allocation="uniform", rescale=False)
        assert torch.equal(weight, dense * mask)


def test_state_continues_identically():
    net, twin = model(), model()
    optimizer = Static(net, lr=1e-2, sparsity=0.9)
    train(net, optimizer, 5)
    resumed = Static(twin, lr=1e-2, sparsity=0.9, seed=5)
    twin.load_state_dict(net.state_dict())
    resumed.load_state_dict(optimizer.state_dict())
    train(net, optimizer, 5, seed=1)
    train(twin, resumed, 5, seed=1)
    assert same(net, twin)


@pytest.mark.parametrize("start", [torch.zeros(10, 10), torch.eye(10)])
def test_weights_of_zero_that_are_drawn_exist(start):
    weight = nn.Parameter(start.clone())
    Static([weight], sparsity=0.5, allocation="uniform")
    assert int(torch.count_nonzero(weight)) == 50


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sparsity": 0.9, "allocation": "global"}, "take 'uniform' or 'erk'"),
        ({"sparsity": 0.9, "allocation": "ekr"}, "did you mean 'erk'"),
        ({"sparsity": 98}, "sparsity=98 is not a number"),
        ({}, "sparsity=None is not a number"),
        ({"sparsity": 0.999}, r"leaves 0\.weight less than one of its 108 synapses"),
        ({"sparsity": {"5.*": 0.9}}, r"no layer's name matches '5\.\*'"),
    ],
)
def test_bad_values_are_refused_before_a_weight_changes(options, words):
    net = model()
    with pytest.raises(UsageError, match=words):
        Static(net, **options)
    assert same(net, model())
