from __future__ import annotations

import json

from synaprune.measure import LayerOperations, Operations

SPIKING = [6, 0, 12, 0, 24, 30, 40, 3, 12, 24]
ANALOG = [0, 20, 0, 20, 20, 0, 10, 0, 4, 80]


def two_layers(samples=2):
    both = [a + b for a, b in zip(SPIKING, ANALOG)]
    return Operations(
        layers={name: LayerOperations.per_sample(c, samples) for name, c in [("1.weight", ANALOG), ("fc", SPIKING)]},
        total=LayerOperations.per_sample(both, samples),
        samples=samples,
        unknown=(("attention", "matmul"),),
        unused=("spare.weight",),
    )


def test_figures_per_sample():
    layer = LayerOperations.per_sample(SPIKING, 4)
    assert layer == LayerOperations(1.5, 0.0, 3.0, 0.0, 6.0, 0.75, 0.25, 6.0)
    assert layer.sops == layer.effective_acs
    assert LayerOperations.per_sample([0] * 10, 4) == LayerOperations(*[0.0] * 8)


def test_the_table():
    assert str(two_layers()).splitlines() == [
        "tensor    effective ACs  effective MACs  weight-blind  dense  zero inputs  zero weights",
        "1.weight            0.0            10.0          10.0   10.0        0.00%         0.00%",
        "fc                  3.0             0.0           6.0   12.0       75.00%        25.00%",
        "total               3.0            10.0          16.0   22.0       60.00%        18.75%",
        "per sample, mean of 2",
        "unknown: attention (matmul), not counted",
        "unused: spare.weight",
    ]


def test_the_mapping_is_plain():
    mapping = two_layers().to_mapping()
    assert json.loads(json.dumps(mapping)) == mapping
    assert mapping["layers"]["fc"] == {
        "effective_acs": 3.0,
        "effective_macs": 0.0,
        "weight_blind_acs": 6.0,
        "weight_blind_macs": 0.0,
        "dense": 12.0,
        "activation_sparsity": 0.75,
        "connection_sparsity": 0.25,
        "weight_bytes": 12.0,
    }
    assert (mapping["samples"], mapping["unknown"], mapping["unused"]) == (
        2,
        [["attention", "matmul"]],
        ["spare.weight"],
    )
