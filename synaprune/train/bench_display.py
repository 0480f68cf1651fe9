"""What the command line shows of a measurement of speed: one table, and the lines that it is to be read with."""

from __future__ import annotations

from rich import box
from rich.table import Table

from synaprune.engine.timing import ENGINE, Comparison, Measurement
from synaprune.train.bench import Agreement

__all__ = ["agreeing", "lines", "table"]


def table(measured: Measurement) -> Table:
    """Return one row for the engine and for each rival: latency of one sample, throughput of a batch."""
    grid = Table(box=box.SIMPLE)
    grid.add_column(_threads(measured))
    for each in measured.comparisons:
        grid.add_column("ms for one sample" if each.samples == 1 else f"samples/s of {each.samples}", justify="right")
        grid.add_column("engine faster", justify="right")
    for name in measured.comparisons[0].milliseconds:
        row = [name if name == ENGINE else f"PyTorch {name}"]
        for each in measured.comparisons:
            row.append(f"{each.median(name):.3f}" if each.samples == 1 else f"{each.throughput(name):,.1f}")
            row.append("" if name == ENGINE else f"{each.ratio(name):.2f} ×")
        grid.add_row(*row)
    return grid


def lines(measured: Measurement) -> list[str]:
    """Return in words what was run and how fast the engine was, measured by what the processor could do."""
    rounds = " and ".join(f"{each.rounds}" for each in measured.comparisons)
    rates = ", ".join(f"{name} {rate:.4f}" for name, rate in measured.firing_rates.items())
    count = measured.operations
    found = [
        f"medians of {rounds} rounds in which all take turns; {measured.synapses:,} synapses, "
        f"{measured.connectivity:.2%} connectivity, T = {measured.time_steps}",
        f"firing rates: {rates}",
        f"synaptic operations per sample: {count.effective_acs:,.0f} additions by spikes (SOPs), "
        f"{count.effective_macs:,.0f} products with analog input",
    ]
    found += [f"engine, {_what(each)}: {_speed(measured, each)}" for each in measured.comparisons]
    found.append(
        f"{_threads(measured)} of this processor can add {measured.ceiling / 1e9:.1f} billion numbers per second"
        " that are in registers already"
    )
    return found


def agreeing(found: Agreement) -> str:
    """Return in words how engine and PyTorch agree."""
    share = abs(found.spikes - found.spikes_in_torch) / max(found.spikes_in_torch, 1)
    return (
        f"on all {found.images:,} test images engine and PyTorch give the same class for {found.same_class:,}"
        f" ({found.same_class / found.images:.2%}), with {found.spikes:,} and {found.spikes_in_torch:,} spikes"
        f" ({share:.4%} apart)"
    )


def _speed(measured: Measurement, comparison: Comparison) -> str:
    speed = measured.speed(comparison)
    share = f"{speed / measured.ceiling:.2%} of what the processor could add"
    return f"{speed / 1e9:.3g} billion synaptic operations per second, {share}"


def _what(comparison: Comparison) -> str:
    return "one sample" if comparison.samples == 1 else f"batch of {comparison.samples}"


def _threads(measured: Measurement) -> str:
    return "1 thread" if measured.threads == 1 else f"{measured.threads} threads"
