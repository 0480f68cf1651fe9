"""The figures of one run."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

from synaprune.errors import UsageError
from synaprune.report import histograms
from synaprune.report.course import Course
from synaprune.report.figure import Axis, Column, Figure, Table, Trace, wide
from synaprune.report.names import layer_name, part_of
from synaprune.report.receptive import receptive_map
from synaprune.train.checkpoint import DamagedError
from synaprune.train.run import Run

__all__ = ["run_figures"]

Epochs = Sequence[dict[str, Any]]
EPOCH = Axis("epoch", whole=True)


def run_figures(run: Run, course: Course | None = None) -> tuple[list[Figure], list[str]]:
    """Return the figures of a run that has a finished epoch, and in words what is missing for the others.

    `course` is its course as followed so far, if it is.

    Raises:
        UsageError: its settings or metrics are damaged.

    """
    if course is None:
        course = Course(run)
        course.follow()
    settings, epochs = run.settings().to_mapping(), course.epochs
    figures, missing = _over_epochs(epochs), []
    if course.finished < settings["epochs"]:
        missing.append(
            f"The run is not finished: {course.finished} of {settings['epochs']} epochs are there; "
            "`synaprune train … --resume` goes on."
        )
    by_tag = course.histograms.follow({epoch["epoch"] for epoch in epochs})
    figures += _distributions(by_tag, epochs, settings)
    if not by_tag:
        missing.append(f"The distributions of w and θ are missing: '{run.tensorboard_path}' holds no histograms.")
    drawn = _receptive(run, epochs, settings)
    if isinstance(drawn, str):
        missing.append(f"The map of the first layer's synapses is missing: {drawn}.")
    else:
        figures.append(drawn)
    evaluation = run.evaluation(course.finished)
    if evaluation is None or "operations" not in evaluation:
        missing.append(
            f"Synaptic operations and energy were not measured after epoch {course.finished}: `synaprune eval"
            f" {run.folder}` does that, and keeps them for this page."
        )
    else:
        figures.append(_operations(evaluation))
    return figures, missing


def _over_epochs(epochs: Epochs) -> list[Figure]:
    """Return what the metrics tell: accuracy, loss, connectivity, turnover, firing and silent neurons."""
    part, layers, neurons = part_of(epochs[-1]), list(epochs[-1]["layers"]), list(epochs[-1].get("neurons", {}))

    settled = _settled(epochs, part)

    def line(series: str, *keys: str, gap: bool = False) -> Trace:
        """Return what lies at a path into the metrics; with `gap` zeros, which a logarithmic axis has not, are gaps."""
        values = [_at(epoch, keys) for epoch in epochs]
        return Trace(series, [epoch["epoch"] for epoch in epochs], [v or None for v in values] if gap else values)

    def silent(name: str) -> Trace:
        counts = [_at(epoch, ["neurons", name]) for epoch in epochs]
        shares = [count and count["silent"] / count["neurons"] for count in counts]
        return Trace(name, [epoch["epoch"] for epoch in epochs], shares)

    def figure(key: str, title: str, note: str, y: Axis, traces: list[Trace]) -> Figure:
        form = "share" if y.share else "count" if y.whole else "number"
        return Figure(key, title, note, EPOCH, y, traces, wide("epoch", traces, form))

    figures = [
        figure(
            "accuracy",
            "Accuracy",
            f"Share of images told apart, in training (augmented as the recipe says) and on the {part} images. Early"
            f" epochs below {settled:.0%} are out of the picture.",
            Axis("accuracy", share=True, low=settled, high=1.0),
            [
                line(part, f"{part}_accuracy"),
                line("training", "train_accuracy"),
            ],
        ),
        figure(
            "loss",
            "Loss",
            "Mean over the training images of each epoch.",
            Axis("training loss", "log"),
            [line("loss", "loss", gap=True)],
        ),
        figure(
            "connectivity",
            "Connectivity",
            "Synapses that exist over all synapses, in total and per layer.",
            Axis("connectivity", "log", share=True, high=1.0),
            [
                line("all", "connectivity", gap=True),
                *(line(layer_name(name), "layers", name, "connectivity", gap=True) for name in layers),
            ],
        ),
        figure(
            "turnover",
            "Competition",
            "Synapses that went and came in each epoch; where both are equal, each newcomer has taken another's place.",
            Axis("synapses per epoch", "symlog", low=0.0, whole=True),
            [line(key, key) for key in ("pruned", "regrown")],
        ),
    ]
    if neurons:
        figures.append(
            figure(
                "firing",
                "Firing rates",
                f"Spikes per neuron per time step on the {part} images, per layer of neurons.",
                Axis("firing rate", low=0.0),
                [line(name, "neurons", name, "rate") for name in neurons],
            )
        )
        figures.append(
            figure(
                "silent",
                "Silent neurons",
                f"Share of each layer's neurons that fired for none of the {part} images.",
                Axis("silent neurons", share=True, low=0.0),
                [silent(name) for name in neurons],
            )
        )
    return figures


def _at(metrics: Any, keys: Sequence[str]) -> Any:
    """Return what lies at a path into nested metrics, None where there is nothing."""
    for key in keys:
        metrics = metrics.get(key) if isinstance(metrics, dict) else None
    return metrics


def _settled(epochs: Epochs, part: str) -> float:
    """Return where the axis of accuracies ends: early epochs that would flatten the rest may leave the picture."""
    values = [e[key] for e in epochs for key in (f"{part}_accuracy", "train_accuracy") if key in e]
    values = sorted(value for value in values if math.isfinite(value))
    settled = values[len(values) // 10] if values else 0.0
    return max(0.0, math.floor(100 * (settled - 0.15 * (1.0 - settled))) / 100)


def _distributions(
    by_tag: dict[str, dict[int, histograms.Histogram]], epochs: Epochs, settings: dict[str, Any]
) -> list[Figure]:
    """Return for each layer the distributions of w, and where there are latents those of θ, at chosen epochs."""
    figures = []
    metrics = {epoch["epoch"]: epoch for epoch in epochs}
    latent = "θ" if settings.get("method") == "grad_r" else "the hidden weights z"
    for tag in sorted(by_tag, key=lambda tag: (tag.split("/", 1)[1], tag)):
        kind, _, layer = tag.partition("/")
        found = {epoch: by_tag[tag][epoch] for epoch in by_tag[tag] if epoch in metrics}
        if kind not in ("w", "theta") or not found:
            continue
        steps = histograms.chosen(sorted(found))
        edges, shares = histograms.common([found[step] for step in steps])
        symbol = "w" if kind == "w" else latent
        below_zero = kind == "theta" and latent == "θ"
        note = (
            "Weights of the synapses that exist."
            if kind == "w"
            else "Every synapse counts, the absent ones too: those with θ at or below zero (shaded) have no weight."
            if below_zero
            else "Every synapse counts, the absent ones too."
        )
        if below_zero:
            gone = ((step, metrics[step]["layers"].get(layer, {}).get("connectivity")) for step in steps)
            shares_gone = [f"{1 - left:.1%} at epoch {step}" for step, left in gone if left is not None]
            note += f" Below zero: {', '.join(shares_gone)}."
        traces = [
            # A bin that was cut may hold less than half a synapse, which would be no more than noise on a log axis.
            Trace(
                f"epoch {step}",
                edges.tolist(),
                [*(value if value * found[step].counts.sum() >= 0.5 else None for value in share.tolist()), None],
                "step",
            )
            for step, share in zip(steps, shares)
        ]
        columns = [
            Column("from", "number"),
            Column("to", "number"),
            *(Column(trace.series, "share") for trace in traces),
        ]
        bins = zip(edges[:-1].tolist(), edges[1:].tolist(), zip(*shares))
        rows = [[low, high, *map(float, values)] for low, high, values in bins]
        figures.append(
            Figure(
                f"{kind}-{layer_name(layer)}",
                f"Distribution of {symbol} in {layer_name(layer)}",
                note,
                Axis(symbol.split()[-1]),
                Axis("share per bin", "log" if kind == "theta" else "linear", share=True),
                traces,
                Table(columns, rows),
                absent_below=0.0 if below_zero else None,
                ordered=True,
            )
        )
    return figures


def _receptive(run: Run, epochs: Epochs, settings: dict[str, Any]) -> Figure | str:
    """Return the map of the first layer's surviving synapses, or in words why there is none."""
    layer = next(iter(epochs[-1]["layers"]))
    try:
        state = run.state(only=lambda name: name == f"model/{layer}")  # a checkpoint may hold hundreds of megabytes
    except DamagedError as error:
        if run.checkpoint_path.exists():
            warnings.warn(str(error), stacklevel=1)
        return str(error)
    except (UsageError, OSError) as error:
        return str(error)
    weight = state["model"].get(layer)
    counts = None if weight is None else receptive_map(weight, settings.get("task", ""))
    if counts is None:
        return f"'{run.checkpoint_path}' has no such layer, or one of another shape"
    when = "" if state["epoch"] == len(epochs) else f" As they were after epoch {state['epoch']}."
    rows, columns = counts.shape
    lost = int((counts == 0).sum())
    cells = [(x, y) for y in range(rows) for x in range(columns)]
    return Figure(
        "inputs",
        f"Inputs of {layer_name(layer)}",
        f"Synapses that each input still has, {counts.max():,} at most; {lost:,} of {counts.size:,} inputs have lost"
        f" all of theirs (crossed out).{when}",
        Axis("column", "band"),
        Axis("row", "band"),
        [
            Trace(
                "synapses",
                [x for x, _ in cells],
                [y for _, y in cells],
                "map",
                values=[int(counts[y, x]) for x, y in cells],
            )
        ],
        Table(
            [Column("row"), *(Column(str(x), "count") for x in range(columns))],
            [[y, *counts[y].tolist()] for y in range(rows)],
        ),
    )


def _operations(evaluation: dict[str, Any]) -> Figure:
    """Return the operations of each layer, with and without the zeros among the weights."""
    layers = evaluation["operations"]["layers"]
    joules = evaluation.get("energy", {}).get("layers", {})
    kinds = {
        "SOPs": "effective_acs",
        "SOPs, were no weight zero": "weight_blind_acs",
        "MACs": "effective_macs",
        "MACs, were no weight zero": "weight_blind_macs",
    }
    kinds = {title: key for title, key in kinds.items() if any(counts[key] for counts in layers.values())}
    names = [layer_name(name) for name in layers]
    return Figure(
        "operations",
        "Synaptic operations",
        "Per image: additions by spikes (SOPs) and products with analog input (MACs), and how many there would be with"
        f" the same spikes and no zero among the weights. Energy by the costs of"
        f" {evaluation.get('energy', {}).get('table', {}).get('name', 'unknown')} arithmetic, memory not counted.",
        Axis("layer", "band"),
        Axis("operations per image", "symlog", low=0.0, whole=True),
        [Trace(title, names, [counts[key] for counts in layers.values()], "bar") for title, key in kinds.items()],
        Table(
            [Column("layer"), *(Column(title, "count") for title in kinds), Column("energy, nJ", "number")],
            [
                [
                    layer_name(name),
                    *(counts[key] for key in kinds.values()),
                    joules[name] / 1e3 if name in joules else None,
                ]
                for name, counts in layers.items()
            ],
        ),
    )
