"""The live bar and the table."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from synaprune.train.display import Display, accuracy, measures, show, table
from synaprune.train.epoch import Progress

METRICS = {
    "epoch": 2,
    "test_accuracy": 0.975,
    "seconds": 1.25,
    "connectivity": 0.05,
    "layers": {
        "fc1.weight": {"synapses": 12800, "left": 640, "connectivity": 0.05},
        "fc2.weight": {"synapses": 2000, "left": 100, "connectivity": 0.05},
    },
    "neurons": {
        "lif1": {"rate": 0.125, "silent": 90, "neurons": 200},
        "lif2": {"rate": 0.0925, "silent": 0, "neurons": 10},
    },
}


def written(**kwargs):
    return Console(file=io.StringIO(), width=140, **kwargs)


def test_elsewhere_than_in_a_terminal_one_line_per_epoch():
    console = written(force_terminal=False)
    with Display(console) as display:
        display(Progress(2, 60, 7, 23, 0.5, 0.75, 0.25))
        display(Progress(2, 60, 23, 23, 0.25, 0.9, 0.05, METRICS))
    assert console.file.getvalue() == (
        "epoch 2/60  loss 0.2500  train 90.00%  test 97.50%  connectivity 5.00%  1.2 s\n"
    )


def test_in_a_terminal_a_bar_with_everything():
    console = written(force_terminal=True, color_system=None)
    with Display(console) as display:
        display(Progress(2, 60, 23, 23, 0.25, 0.9, 0.05, METRICS))
        display(Progress(3, 60, 7, 23, 0.5, 0.75, 0.25))
    last = console.file.getvalue().split("epoch")[-1]
    for part in (" 3/60", "step 7/23", "eta", "loss 0.5000", "train 75.00%", "test 97.50%", "connectivity 25.00%"):
        assert part in last


def test_the_longest_run_fits_into_80_columns():
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    with Display(console) as display:
        display(Progress(2048, 2048, 3125, 3125, 0.25, 0.9, 0.05, METRICS))
    last = console.file.getvalue().split("epoch")[-1]
    assert "…" not in last
    assert "2048/2048" in last
    assert "connectivity 5.00%" in last


def test_table_has_a_row_per_layer_and_sums():
    console = written()
    console.print(table(METRICS))
    rows = [re.split(r"\s{2,}", line.strip()) for line in console.file.getvalue().splitlines()]
    assert [row for row in rows if len(row) > 1] == [
        ["layer", "synapses", "left", "connectivity", "firing rate", "silent"],
        ["fc1", "12,800", "640", "5.00%", "0.1250", "90 of 200"],
        ["fc2", "2,000", "100", "5.00%", "0.0925", "0 of 10"],
        ["all", "14,800", "740", "5.00%"],
    ]


def test_table_leaves_rates_out_where_layers_and_neurons_do_not_pair():
    console = written()
    console.print(table({**METRICS, "neurons": {"lif1": METRICS["neurons"]["lif1"]}}))
    assert "0.1250" not in console.file.getvalue()


@pytest.mark.parametrize(("width", "rest"), [(50, []), (100, ["0.1250", "90", "of", "200"])])
def test_a_narrow_console_shows_no_neurons(width, rest):
    console = Console(file=io.StringIO(), width=width)
    show(METRICS, console)
    lines = console.file.getvalue().splitlines()
    assert [line.split() for line in lines if "fc1" in line] == [["fc1", "12,800", "640", "5.00%", *rest]]
    assert "connectivity" in console.file.getvalue()


def test_accuracy_says_of_which_part():
    assert accuracy(METRICS) == ("test", 0.975)
    assert accuracy({"validation_accuracy": 0.5}) == ("validation", 0.5)


MEASURED = {
    **METRICS,
    "operations": {
        "total": {
            "effective_acs": 1234.4,
            "effective_macs": 640.0,
            "weight_blind_acs": 5000.0,
            "weight_blind_macs": 12800.0,
        },
        "layers": {
            "fc1.weight": {"effective_acs": 0.0, "effective_macs": 640.0},
            "fc2.weight": {"effective_acs": 1234.4, "effective_macs": 0.0},
        },
        "unknown": [["attention", "matmul"]],
    },
    "energy": {"total_pj": 4055.0, "table": {"name": "45 nm"}},
    "connectivities": {"weights": 0.05, "parameters": 0.0512, "connections": 0.0499},
}


def test_operations_are_columns_of_the_table():
    console = written()
    console.print(table(MEASURED))
    lines = console.file.getvalue().splitlines()
    assert [line.split()[-2:] for line in lines if re.match(" *(layer|fc|all)", line)] == [
        ["ACs", "MACs"], ["0", "640"], ["1,234", "0"], ["1,234", "640"],
    ]  # fmt: skip


def test_measures_are_said_in_words():
    assert measures(MEASURED) == [
        "synaptic operations per image: 1,234 additions by spikes (SOPs), 640 products with analog input; were no "
        "weight zero, 5,000 and 12,800",
        "energy per image: 4.05 nJ by the costs of 45 nm arithmetic, memory not counted",
        "connectivity: 5.0000% of the weights, 5.1200% over all parameters, 4.9900% of the real connections",
        "not counted: attention (matmul)",
    ]
