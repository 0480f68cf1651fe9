from __future__ import annotations

import pytest
import torch

from synaprune.errors import UsageError
from synaprune.measure import Turnover, turnover


def test_literal_counts():
    before = torch.tensor([[True, True, True, False], [False, False, True, False]])
    after = torch.tensor([[True, False, False, True], [False, True, True, True]])
    assert turnover(before, after) == Turnover(pruned=2, regrown=3)
    assert turnover(after, before) == Turnover(pruned=3, regrown=2)
    assert turnover(before, before) == Turnover(pruned=0, regrown=0)


def test_pruned_less_regrown_is_what_went_missing():
    generator = torch.Generator().manual_seed(0)
    before = torch.rand(50, 40, generator=generator) < 0.3
    after = torch.rand(50, 40, generator=generator) < 0.2
    pruned, regrown = turnover(before, after)
    assert pruned - regrown == int(before.sum()) - int(after.sum())


@pytest.mark.parametrize(
    ("before", "after"),
    [(torch.ones(2).bool(), torch.ones(1).bool()), (torch.ones(2), torch.ones(2).bool())],
)
def test_masks_that_cannot_be_compared_are_refused(before, after):
    with pytest.raises(UsageError, match=r"two boolean masks of one shape, not torch\.(bool|float32) \(2,\)"):
        turnover(before, after)
