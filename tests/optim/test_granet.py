"""GraNet: pruning along a schedule, and regeneration after each round."""

from unittest import mock

import pytest
import torch
from test_set import TWINS
from torch import nn

from synaprune.budget import cosine, cubic
from synaprune.errors import UsageError
from synaprune.optim.granet import GraNet
from synaprune.optim.reference.rigl import GraNet as Reference
from synaprune.optim.reference.rigl import RigL as Layer
from synaprune.optim.topology import drop_grow


@pytest.mark.parametrize("base_name", TWINS)
@pytest.mark.parametrize("initial", [0.5, 1.0])
def test_equals_plain_twin(base_name, initial):
    base, options, direction = TWINS[base_name]
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    weights = [nn.Parameter(draw(20, 10)), nn.Parameter(draw(5, 20))]
    schedule = {"schedule": cubic(200, flat=0.25), "initial": initial, "period": 6}
    optimizer = GraNet(weights, lr=0.02, sparsity=0.9, floor=0.0, base=base, **schedule, **options)
    layers = [Layer(w.detach().clone(), w != 0, 0.02, 0.5, 6, 200, direction()) for w in weights]
    twin = Reference(layers, 30, 150)
    for _ in range(205):
        for weight in weights:
            weight.grad = draw(*weight.shape)
        optimizer.step()
        twin.step([weight.grad for weight in weights])
        for weight, layer in zip(weights, layers):
            assert torch.equal(optimizer.mask(weight), layer.m)
            torch.testing.assert_close(weight.detach(), layer.theta, rtol=1e-9, atol=1e-12)
    assert optimizer.connectivity() == 0.1


def run(steps, **options):
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(20, 30)), nn.Parameter(torch.randn(10, 20))]
    optimizer = GraNet(weights, lr=0.01, **{"sparsity": 0.9, "period": 10, "schedule": cubic(45), **options})
    for _ in range(steps):
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        optimizer.step()
    return optimizer, [int(torch.count_nonzero(weight)) for weight in weights]


def test_number_falls_along_the_cubic_and_ends_at_the_budget():
    """80 + 320·(1 − n/45)³ inside each tenth step and the last, which no period ends."""
    numbers = {n: sum(run(n)[1]) for n in (0, 9, 10, 19, 20, 30, 40, 44, 45)}
    assert numbers == {0: 400, 9: 400, 10: 231, 19: 231, 20: 135, 30: 92, 40: 80, 44: 80, 45: 80}


def test_settle_prunes_to_the_moment_and_exchanges_nothing():
    optimizer, _ = run(15)
    optimizer.turnover()
    optimizer.settle()
    pruned, regrown = (sum(values) for values in zip(*optimizer.turnover().values()))
    assert (pruned, regrown) == (231 - 175, 0)  # 80 + 320·(2/3)³ = 174.8


def test_regeneration_follows_pruning():
    """In step 10 half of what is left after pruning, but for the cosine, is newborn."""
    optimizer, _ = run(9, schedule=cubic(100))
    optimizer.turnover()
    for group in optimizer.param_groups:
        for weight in group["params"]:
            weight.grad = torch.randn_like(weight)
    optimizer.step()
    born = [int((weight == 2.0**-100).sum()) for group in optimizer.param_groups for weight in group["params"]]
    left = [int((weight != 0).sum()) for group in optimizer.param_groups for weight in group["params"]]
    assert sum(left) == 313  # 80 + 320·0.9³
    assert born == [round(0.25 * (1 + 0.9510565) * count) for count in left]


@pytest.mark.parametrize(("allocation", "counts"), [("uniform", [60, 20]), ("erk", [50, 30]), ("scaled", None)])
def test_layers_end_at_their_allocation(allocation, counts):
    _, found = run(45, allocation=allocation)
    assert sum(found) == 80
    assert counts in (None, found)


def test_no_layer_falls_below_its_floor():
    torch.manual_seed(0)
    small, large = nn.Parameter(1e-3 * torch.randn(10, 10)), nn.Parameter(torch.randn(10, 10))
    optimizer = GraNet([small, large], lr=1e-6, sparsity=0.9, schedule=cubic(8), period=2, floor=0.5)
    for _ in range(8):
        small.grad, large.grad = torch.randn(10, 10), torch.randn(10, 10)
        optimizer.step()
    assert (torch.count_nonzero(small), torch.count_nonzero(large)) == (5, 15)


def test_shape_of_the_drop_fraction():
    with mock.patch.object(drop_grow, "exchange") as exchange:
        run(1, schedule=cosine(40), annealing="linear", drop=0.4, drop_end=0.5)
    assert exchange.call_args.args[1] == {"name": "linear", "steps": 40, "pause": 0, "flat": 0}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"initial": 0.0}, r"initial=0\.0 is not a number in \(0, 1\]"),
        ({"initial": 1.5}, r"initial=1\.5 is not"),
        ({"sparsity": 0.25}, r"initial=0\.5 begins below the connectivity of 0\.75"),
        (
            {"sparsity": {"*": 0.25}},
            r"begin with 250 synapses and end with 450, .* too low for sparsity=\{'\*': 0\.25\}",
        ),
        ({"annealing": "cosin"}, "there is no annealing 'cosin'; did you mean 'cosine'"),
        ({"allocation": "globe"}, "there is no allocation 'globe'"),
    ],
)
def test_bad_values_are_named(options, words):
    with pytest.raises(UsageError, match=words):
        run(0, **options)
