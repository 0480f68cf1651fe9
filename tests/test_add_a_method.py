"""The page that shows how to add a method: its code runs, and does what the page says of it."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import synaprune
from synaprune.budget import cubic
from synaprune.errors import UsageError
from synaprune.optim import rule
from synaprune.options import OPTIONS

PAGE = (Path(synaprune.__file__).parent.parent / "docs" / "add_a_method.md").read_text()
METHOD, TRAINING = re.findall(r"```python\n(.*?)```", PAGE, re.S)


@pytest.fixture(scope="module")
def method():
    names = {}
    exec(METHOD, names)
    return names["NDSNN"]


def test_the_training_of_the_page_ends_as_it_says(capsys):
    exec(METHOD + TRAINING, {})
    assert capsys.readouterr().out == "5.00%\n"


def test_dropping_and_growing_are_one_with_the_fall_of_the_number(method):
    """Against a twin that is written from the page's sentences alone."""
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(20, 30, generator=generator, dtype=torch.float64))
    options = {"sparsity": 0.9, "schedule": cubic(60), "period": 6, "allocation": "uniform"}
    optimizer = method([weight], lr=0.1, base=torch.optim.SGD, **options)
    mask, theta, grown_at_all = weight.detach() != 0, weight.detach().clone(), 0
    for n in range(1, 61):
        weight.grad = torch.randn(20, 30, generator=generator, dtype=torch.float64)
        theta -= 0.1 * weight.grad * mask
        optimizer.step()
        if n % 6 == 0:
            planned, present = 60 + round(240 * (1 - n / 60) ** 3), int(mask.sum())
            d = 0.25 * (1 + torch.tensor(torch.pi * n / 45).cos().item()) if n < 45 else 0.0
            dropped = max(round(d * present), present - planned)
            among = theta.abs().masked_fill(~mask, torch.inf).flatten()
            keep = mask.flatten().clone()
            keep[among.argsort()[:dropped]] = False
            born = planned - (present - dropped)
            scores = weight.grad.abs().masked_fill(mask, -1.0).flatten()
            keep[scores.argsort(descending=True)[:born]] = True
            theta, mask = theta * (keep & mask.flatten()).view(20, 30), keep.view(20, 30)
            grown_at_all += born
        assert torch.equal(optimizer.mask(weight), mask)
        torch.testing.assert_close(weight.detach(), theta, rtol=1e-9, atol=1e-12)
    assert grown_at_all > 100
    assert optimizer.connectivity() == 0.1


def test_it_is_documented_and_checked_as_ours_are(method):
    assert f"drop_end: {OPTIONS['drop_end'].help[:40]}" in method.__doc__
    with pytest.raises(UsageError, match=r"drop=2 is not a number in \(0, 1\)"):
        method(nn.Linear(4, 4), sparsity=0.5, schedule=cubic(400), drop=2)
    with pytest.raises(UsageError, match="neither NDSNN nor its base Adam has an option 'sparcity'; did you mean"):
        method(nn.Linear(4, 4), sparcity=0.5)
    with pytest.raises(UsageError, match="'gated' is an option of LATS, STDS, not of NDSNN; leave it out"):
        method(nn.Linear(4, 4), gated=True)


def test_the_page_names_members_that_a_rule_has():
    table = PAGE[PAGE.index("| member |") : PAGE.index("A rule keeps nothing")]
    members = re.findall(r"^\| `(\w+)\(", table, re.M)
    assert members
    assert all(callable(getattr(rule.Rule, member)) for member in members)
