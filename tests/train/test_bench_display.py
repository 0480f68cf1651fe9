from rich.console import Console

from synaprune.engine.timing import Comparison, Measurement
from synaprune.measure import LayerOperations
from synaprune.train.bench_display import lines, table

ONE = Comparison(1, {"engine": [0.5, 0.5], "dense fp32": [10.0, 11.0]})
BATCH = Comparison(32, {"engine": [1.0], "dense fp32": [64.0]})
COUNT = LayerOperations(1500, 500, 0, 0, 0, 0, 0, 0)
MEASURED = Measurement(1234, 0.0073, 8, 1, (ONE, BATCH), COUNT, {"lif1": 0.1, "lif2": 0.02}, 1e9)


def test_table():
    console = Console(width=100)
    with console.capture() as capture:
        console.print(table(MEASURED))
    rows = [line.split() for line in capture.get().splitlines() if line.strip()]
    assert " ".join(rows[0]) == "1 thread ms for one sample engine faster samples/s of 32 engine faster"
    assert rows[2] == ["engine", "0.500", "32,000.0"]
    assert rows[3] == ["PyTorch", "dense", "fp32", "10.500", "21.00", "×", "500.0", "64.00", "×"]


def test_lines():
    assert lines(MEASURED) == [
        "medians of 2 and 1 rounds in which all take turns; 1,234 synapses, 0.73% connectivity, T = 8",
        "firing rates: lif1 0.1000, lif2 0.0200",
        "synaptic operations per sample: 1,500 additions by spikes (SOPs), 500 products with analog input",
        "engine, one sample: 0.004 billion synaptic operations per second, 0.40% of what the processor could add",
        "engine, batch of 32: 0.064 billion synaptic operations per second, 6.40% of what the processor could add",
        "1 thread of this processor can add 1.0 billion numbers per second that are in registers already",
    ]
