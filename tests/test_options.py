import math

import numpy as np
import pytest
import torch

from synaprune.errors import UsageError
from synaprune.options import ARGUMENTS, OPTIONS, Option, check

HALF_OPEN = Option("", at_least=0, below=1, by_name=True)


@pytest.mark.parametrize("value", [0, 0.0, 0.5, np.float32(0.5), {"fc.*": 0.1, "*": 0.9}])
def test_what_is_within_its_bounds_passes(value):
    HALF_OPEN.check("p", value)


@pytest.mark.parametrize(
    "value", [1, 1.5, -0.1, math.nan, math.inf, True, "0.5", [0.5], torch.ones(2), torch.tensor(0.5), {"*": 2.0}]
)
def test_what_is_not_is_named(value):
    with pytest.raises(UsageError, match=r"^p=.* is not a number in \[0, 1\)$"):
        HALF_OPEN.check("p", value)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (Option(""), "a finite number"),
        (Option("", at_least=0), "a finite number of at least 0"),
        (Option("", above=0), "a finite number above 0"),
        (Option("", above=0, at_most=1), "a number in (0, 1]"),
        (Option("", whole=True), "a whole number"),
        (Option("", whole=True, at_least=1), "a whole number of at least 1"),
        (Option("", at_least=0, below=10**6), "a number in [0, 1e+06)"),
    ],
)
def test_words(option, words):
    assert option.words == words


def test_words_and_switches():
    with pytest.raises(UsageError, match="there is no noise 'gausian'; did you mean 'gaussian'"):
        OPTIONS["noise"].check("noise", "gausian")
    with pytest.raises(UsageError, match="there is no growth 3; there are random, gradient, momentum"):
        OPTIONS["growth"].check("growth", 3)
    with pytest.raises(UsageError, match="gated=1 is neither True nor False"):
        OPTIONS["gated"].check("gated", 1)
    OPTIONS["alpha"].check("alpha", "auto")
    OPTIONS["alpha"].check("alpha", 0.1)
    with pytest.raises(UsageError, match=r"period=2\.0 is not a whole number"):
        OPTIONS["period"].check("period", 2.0)


def test_none_is_for_the_method_to_judge():
    check(["sparsity", "margin", "seed"], {"sparsity": None, "seed": 3})
    with pytest.raises(UsageError, match="margin=-1 is not a finite number of at least 0; leave it out"):
        check(["sparsity", "margin"], {"sparsity": None, "margin": -1})


def test_a_tensor_of_one_number_is_for_the_method_to_judge_where_it_may_be_one():
    one = torch.tensor(2)
    check(["alpha", "sparsity"], {"alpha": one, "sparsity": one})
    for name in ("period", "threshold", "drop", "floor", "seed"):
        with pytest.raises(UsageError, match=rf"{name}=tensor\(2\) is not a"):
            check([name], {name: one})


def test_what_is_true_of_a_number_is_said_of_it():
    """No bound that the sentence keeps for itself."""
    for name, value in (
        ("period", 2_000_000),
        ("threshold", 1e31),
        ("alpha", 1e31),
        ("s_init", -1e31),
        ("margin", 1e31),
    ):
        OPTIONS[name].check(name, value)


def test_every_option_is_said_in_a_sentence_without_an_end():
    for text in (*(option.help for option in OPTIONS.values()), *ARGUMENTS.values()):
        assert text[0].islower() or text[0] in "`"
        assert not text.endswith(".")
