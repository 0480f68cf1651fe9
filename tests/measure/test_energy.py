from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from synaprune.errors import UsageError
from synaprune.measure import HOROWITZ_45NM, CostTable, energy, operations


def counted(dtype=torch.float32):
    """Two samples of a network with 3 and 2 effective ACs, then 6 effective MACs each."""
    net = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 3)).to(dtype)
    net[0].weight.data = torch.tensor([[1.5, 0.0, 0.5], [1.5, 2.0, 0.0]], dtype=dtype)
    net[1].weight.data.fill_(1.0)
    return operations(net, torch.tensor([[1.0, 1, 0], [0, 1, 1]], dtype=dtype))


def test_literal_figures():
    operation_counts = counted()
    found = energy(operation_counts)
    assert (operation_counts.total.effective_acs, operation_counts.total.effective_macs) == (2.5, 6.0)
    assert found.ac_pj == pytest.approx(2.5 * 0.9)
    assert found.mac_pj == pytest.approx(6 * 4.6)
    assert found.memory_pj is None
    assert found.total_pj == found.ac_pj + found.mac_pj
    assert found.layers == pytest.approx({"0.weight": 2.25, "1.weight": 27.6})
    assert str(found) == "0.030 nJ per sample (ACs 0.002 nJ, MACs 0.028 nJ, memory not counted; 45 nm, 32-bit float)"


def test_memory_is_one_weight_per_effective_operation():
    single, half = energy(counted(), memory=True), energy(counted(torch.bfloat16), memory=True)
    assert single.memory_pj == pytest.approx((2.5 + 6) * 4 * 1.25)
    assert half.memory_pj == pytest.approx((2.5 + 6) * 2 * 1.25)
    assert single.total_pj == pytest.approx(2.25 + 27.6 + 42.5)
    assert sum(single.layers.values()) == pytest.approx(single.total_pj)
    assert "weight reads 0.043 nJ" in str(single)


def test_another_table():
    table = replace(HOROWITZ_45NM, name="8-bit integer", ac_pj=0.03, mac_pj=0.23, byte_pj=None)
    found = energy(counted(), table)
    assert found.total_pj == pytest.approx(2.5 * 0.03 + 6 * 0.23)
    assert found.table is table
    with pytest.raises(UsageError, match="the cost table '8-bit integer' has no byte_pj"):
        energy(counted(), table, memory=True)
    for cost in (-1.0, float("nan")):
        with pytest.raises(UsageError, match="mac_pj of the cost table 'x' must be a finite number of pJ"):
            CostTable("x", "nowhere", 0.9, cost)


def test_what_is_unknown_makes_it_a_lower_bound():
    class Squared(nn.Linear):
        def forward(self, x):
            return super().forward(x) @ x.T

    found = energy(operations(Squared(2, 2), torch.ones(1, 2)))
    assert str(found).startswith("at least 0.004 nJ per sample")
    assert found.unknown == (("Squared", "matmul"),)


def test_the_mapping_is_plain_and_names_its_source():
    mapping = energy(counted(), memory=True).to_mapping()
    assert json.loads(json.dumps(mapping)) == mapping
    assert mapping["total_pj"] == pytest.approx(72.35)
    assert "Horowitz" in mapping["table"]["source"]
    assert (mapping["table"]["ac_pj"], mapping["table"]["mac_pj"], mapping["table"]["byte_pj"]) == (0.9, 4.6, 1.25)
