"""The numbers behind a group's options."""

import pytest
import torch

from synaprune.budget import Plan, constant, cubic, linear
from synaprune.budget.plan import due
from synaprune.errors import UsageError

NAMES, SHAPES = ["conv.weight", "fc.weight"], [torch.Size([10, 10, 1, 1]), torch.Size([10, 90])]
OPTIONS = {"sparsity": 0.9, "schedule": linear(steps=10), "allocation": "global", "period": 4, "floor": 0.1}


def plan(initial=(100, 900), names=NAMES, shapes=SHAPES, **options):
    return Plan({**OPTIONS, **options}, names, shapes, initial)


def test_global_count_along_the_schedule():
    assert [plan().count(step) for step in (0, 1, 5, 9, 10, 99)] == [1000, 910, 550, 190, 100, 100]
    assert plan().layers is None


def test_budgets_of_layers_along_the_schedule():
    uniform = plan(allocation="uniform")
    assert [uniform.counts(step) for step in (0, 5, 10)] == [[100, 900], [55, 495], [10, 90]]
    assert [uniform.count(step) for step in (0, 5, 10)] == [1000, 550, 100]
    assert plan(allocation="erk").layers == [18, 82]  # 22 to 100 by the sums of the dimensions


def test_by_name_the_first_pattern_counts():
    assert plan(sparsity={"conv.*": 0.5, "*": 0.98}).layers == [50, 18]
    assert plan(sparsity={"*": 0.98, "conv.*": 0.5}).layers == [2, 18]
    assert plan(sparsity={"conv.*": 0, "fc.*": 0.98}, allocation="erk").layers == [100, 18]


def test_a_pruned_network_may_grow():
    assert [plan(initial=(0, 20), allocation="uniform").counts(step) for step in (0, 5, 10)] == [
        [0, 20],
        [5, 55],
        [10, 90],
    ]
    assert [plan(initial=(0, 20)).count(step) for step in (0, 5, 10)] == [20, 60, 100]


def test_floors_are_a_share_of_the_common_connectivity_and_at_least_one():
    assert plan().floors(1000) == [10, 90]
    assert plan().floors(100) == [1, 9]
    assert plan(floor=0.0).floors(100) == [1, 1]
    assert plan(floor=1.0).floors(1000) == [100, 900]
    assert plan().floors(1) == [0, 0]  # more layers than synapses: a network that starts almost empty


def test_empty_layers_need_nothing():
    shapes = [torch.Size([10, 10]), torch.Size([0, 3])]
    budget = plan(initial=(100, 0), shapes=shapes, sparsity=0.99)
    assert budget.total == 1
    assert budget.floors(5) == [1, 0]
    assert plan(initial=(0,), names=["a"], shapes=[torch.Size([0, 3])]).floors(0) == [0]


def test_due_every_period_and_when_time_is_up():
    options = {"period": 4, "schedule": constant(steps=10)}
    assert [step for step in range(1, 17) if due(options, step)] == [4, 8, 10, 12, 16]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sparsity": 98}, "sparsity=98 is not a number in [0, 1); 0.98 keeps 2 % of the synapses"),
        ({"sparsity": 1.0}, "sparsity=1.0 is not a number in [0, 1)"),
        ({"sparsity": -0.1}, "sparsity=-0.1 is not a number"),
        ({"sparsity": float("nan")}, "sparsity=nan is not a number"),
        ({"sparsity": True}, "sparsity=True is not a number"),
        ({"sparsity": None}, "sparsity=None is not a number"),
        ({"sparsity": {"*": 98}}, "sparsity=98 is not a number"),
        ({"sparsity": 0.999}, "leaves 1 synapses for 2 layers, less than one for each"),
        ({"sparsity": 0.995, "allocation": "uniform"}, "leaves conv.weight less than one of its 100 synapses"),
        ({"sparsity": {"conv.*": 0.5}}, "sparsity names no budget for fc.weight; add '*'"),
        (
            {"sparsity": {"fc1.*": 0.5, "*": 0.9}},
            "sparsity: no layer's name matches 'fc1.*'; did you mean 'fc.*'?",
        ),
        ({"sparsity": {"fc": 0.5, "*": 0.9}}, "no layer's name matches 'fc'; did you mean 'fc.*'?"),
        ({"sparsity": {"norm": 0.5}}, "no layer's name matches 'norm'; there are conv.weight, fc.weight"),
        ({"sparsity": {}}, "sparsity names no budget for conv.weight"),
        ({"schedule": None}, "a budget needs to know the number of training steps; give schedule=cubic(steps=…)"),
        ({"schedule": 1000}, "schedule=1000 is no schedule"),
        ({"schedule": {**cubic(steps=10), "flat": 0.99}}, "no step of its 10 left"),
        ({"allocation": "ekr"}, "there is no allocation 'ekr'; did you mean 'erk'?"),
        ({"allocation": "x"}, "there is no allocation 'x'; there are global, scaled, uniform, erk"),
        ({"period": 0}, "period=0 is not a whole number"),
        ({"period": 2.5}, "period=2.5 is not a whole number"),
        ({"floor": 1.5}, "floor=1.5 is not a number in [0, 1]"),
    ],
)
def test_what_makes_no_sense_is_named_in_one_sentence(options, words):
    with pytest.raises(UsageError) as error:
        plan(**options)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
