"""Where the prior has its centre."""

import math

import pytest
import torch
from torch import nn

from synaprune.errors import UsageError
from synaprune.optim import GradR
from synaprune.optim.prior import centre, target


def test_centre_in_closed_form():
    assert centre(1e-3, 0.95) == pytest.approx(math.log(0.1) / 1e-3)
    assert centre(0.7, 0.5) == 0
    assert centre(0.0, 0.9) == -math.inf


@pytest.mark.parametrize("p", [0.5, 0.8, 0.95, 0.999])
def test_below_zero_lies_a_share_of_p(p):
    """A Laplace distribution of rate α and this centre, which lies at or below 0: P(θ > 0) = ½·exp(αμ)."""
    alpha = 0.3
    assert 0.5 * math.exp(alpha * centre(alpha, p)) == pytest.approx(1 - p)


@pytest.mark.parametrize(
    ("alpha", "sparsity", "words"),
    [
        (-1.0, 0.9, r"alpha=-1\.0 is not a finite number"),
        (math.inf, 0.9, "alpha=inf is not a finite number"),
        ("much", 0.9, "alpha='much' and sparsity=0.9 must be numbers"),
        (0.1, {"*": 0.9}, "must be numbers"),
        (0.1, 0.49, r"sparsity=0.49 lies outside \[0.5, 1\)"),
        (0.1, 1.0, r"sparsity=1.0 lies outside \[0.5, 1\)"),
    ],
)
def test_bad_values_are_named(alpha, sparsity, words):
    with pytest.raises(UsageError, match=words):
        centre(alpha, sparsity)


def test_target_is_that_of_the_released_scripts_unless_given():
    assert target({"sparsity": None}) == 0.95
    assert target({"sparsity": 0.6}) == 0.6


def test_warns_once_of_a_centre_out_of_reach():
    with pytest.warns(UserWarning, match=r"sparsity=0\.9 will hardly act") as warned:
        GradR([nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))], alpha=1e-3, sparsity=0.9)
    assert len(warned) == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("options", [{}, {"alpha": 1e-3}, {"alpha": 0.5, "sparsity": 0.6, "lr": 0.1}])
def test_says_nothing_where_nobody_asked_or_the_centre_is_near(options):
    GradR([nn.Parameter(torch.ones(2))], **options)
