"""Train Grad R under a budget with its redefined gradient and with the true one, and measure the angles between them.

    python benchmarks/ablations.py [--sparsity 0.95 0.9927] [--lr 2e-2 5e-2] [--epochs 20] [--warmup 10]
    python benchmarks/ablations.py --table --figure angles.svg

A point is one gradient at one sparsity and seed, trained as `synaprune train` would in one thread, and ends as
results/mnist/ablations/gradient-<gradient>-<sparsity>-seed<n>.json; what is there already is not computed again.

Under the true gradient s·g·1[θ>0] an absent synapse hears nothing of the loss. It is not lost for good, though: the
budget fixes a number, so where living synapses fall, the threshold sinks, and those that lie highest below it come
back. Their θ is what it was at their loss, a few steps of fading momentum aside, and says nothing of what the loss
would make of them now. So this compares not rewiring against none, but rewiring with news against without.

Three angles in degrees, over all rewired synapses together, on twenty steps spread over each epoch: true and redefined
gradient of θ, whose closed form arccos √(Σ_{θ>0} g² / Σ g²) the measured one must meet; minus the true gradient and
the step Δθ really taken, after Adam and the threshold; the same among the synapses that existed before the step.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import statistics
import time
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from synaprune.errors import MachineError, UsageError
from synaprune.files import replacing
from synaprune.optim import METHODS, GradR, Rewirer
from synaprune.optim.grad_r import GradRRule
from synaprune.optim.row import Row
from synaprune.reading import named
from synaprune.report.figures import BLUE, GREEN, MUTED, ORANGE, STYLE
from synaprune.schema import TEXT, List, Number, Record
from synaprune.train import build, recipes, results, schedule
from synaprune.train.epoch import evaluate_network, topology, train_epoch
from synaprune.train.run import commit, machine, versions
from synaprune.train.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
PROBES = 20  # steps per epoch on which angles are measured: not the last ones, where the learning rate may be nothing
ANGLES = {
    "redefined": ("true and redefined gradient", BLUE),
    "step": ("minus true gradient and step", ORANGE),
    "step_existing": ("the same, existing synapses", GREEN),
}
# What this file's results hold beyond those of a sweep; the redefined gradient's have the angles too.
EPOCH = {"epoch": Number(1, whole=True), "regrown": Number(0)}
FORM = Record(
    {
        "gradient": TEXT,
        "epochs": List(Record(EPOCH)),
        "settings": Record({"sparsity": Number(0, 1)}),
        "metrics": Record({"validation_accuracy": Number(0, 1), "connectivity": Number(0, 1)}),
    }
)
ANGLE = Record({"mean": Number()})
MEASURED = Record({"epochs": List(Record({**EPOCH, "angles": Record(dict.fromkeys(ANGLES, ANGLE))}))})


class TrueGradientRule(GradRRule):
    """Grad R without its heart: an absent synapse hears nothing of the loss."""

    def pull(self, t: Row, gradient: Tensor) -> dict[str, Tensor]:
        """Return the gradient where the synapse exists, 0 elsewhere."""
        return super().pull(t, gradient.masked_fill(t.weight == 0, 0.0))


class TrueGradient(GradR):
    """An optimizer of that rule."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.rule = TrueGradientRule()


GRADIENTS = {"redefined": GradR, "true": TrueGradient}


class Angles:
    """Look at some of an optimizer's steps, from before and after, where `steps` make an epoch."""

    def __init__(self, optimizer: Rewirer, steps: int) -> None:
        self._weights = [p for group in optimizer.param_groups if group["rewire"] for p in group["params"]]
        self._steps, self._taken = steps, 0
        self._watched = {(2 * probe + 1) * steps // (2 * PROBES) for probe in range(PROBES)}
        self._before: tuple[Tensor, Tensor] | None = None
        self._found: dict[str, list[float]] = {name: [] for name in ANGLES}
        optimizer.register_step_pre_hook(self._look)
        optimizer.register_step_post_hook(self._measure)

    def _look(self, optimizer: Rewirer, *_: Any) -> None:
        if self._taken % self._steps in self._watched:
            theta = self._theta(optimizer)
            optimizer.state_dict()  # what has begun before the first step waits to be asked for
            pulls = [(p.grad.double() * optimizer.state[p]["sign"]).flatten() for p in self._weights]
            self._before = theta, torch.cat(pulls)

    def _measure(self, optimizer: Rewirer, *_: Any) -> None:
        self._taken += 1
        if self._before is None:
            return
        (theta, redefined), self._before = self._before, None
        exists = theta > 0
        true, step = redefined * exists, self._theta(optimizer) - theta
        angle = degrees(true, redefined)
        share = float(true @ true) / (float(redefined @ redefined) or 1.0)
        assert math.isclose(angle, math.degrees(math.acos(math.sqrt(share))), abs_tol=1e-4)
        for name, value in zip(ANGLES, (angle, degrees(-true, step), degrees(-true, step * exists))):
            self._found[name].append(value)

    def _theta(self, optimizer: Rewirer) -> Tensor:
        return torch.cat([optimizer.theta(p).flatten() for p in self._weights])

    def take(self) -> dict[str, dict[str, float]]:
        """Return mean and largest of what was found since the last call."""
        found, self._found = self._found, {name: [] for name in ANGLES}
        return {name: {"mean": statistics.fmean(values), "largest": max(values)} for name, values in found.items()}


def degrees(a: Tensor, b: Tensor) -> float:
    """Return the angle between two vectors; one that is zero is perpendicular to all others."""
    norms = float(torch.linalg.vector_norm(a) * torch.linalg.vector_norm(b))
    return math.degrees(math.acos(max(-1.0, min(1.0, float(a @ b) / norms)))) if norms else 90.0


def train(gradient: str, settings: Settings) -> dict[str, Any]:
    """Train one point and return its record."""
    device = build.device(settings)
    with build.environment(settings, device), mock.patch.dict(METHODS, grad_r=GRADIENTS[gradient]):
        data = build.dataset(settings, None, device)
        network = build.model(settings, data)
        steps = schedule.steps_per_epoch(settings, len(data.train_labels))
        optimizer = build.optimizer(settings, network, settings.epochs * steps)
        angles, epochs = Angles(optimizer, steps), []
        optimizer.turnover()  # counts from here
        for epoch in range(1, settings.epochs + 1):
            started = time.monotonic()
            metrics = {"epoch": epoch, **train_epoch(settings, data, network, network, optimizer, epoch)}
            optimizer.settle()
            metrics |= evaluate_network(settings, data, network) | topology(network, optimizer)
            epochs.append({**metrics, "angles": angles.take(), "seconds": time.monotonic() - started})
        return {
            "settings": settings.to_mapping(),
            "metrics": epochs[-1],
            "epochs": epochs,
            "seconds": sum(metrics["seconds"] for metrics in epochs),
            "versions": versions(),
            "machine": machine(),
        }


def run(args: argparse.Namespace, gradient: str, sparsity: float, lr: float, seed: int) -> str:
    """Train one point unless its result is there, and return a line about it."""
    path = args.out / f"gradient-{gradient}-{sparsity:g}-seed{seed}.json"
    flags = {"sparsity": sparsity, "lr": lr, "epochs": args.epochs, "warmup": args.warmup, "holdout": args.holdout}
    fixed = {"alpha": "auto", "threads": 1, "seed": seed}
    settings = Settings.from_mapping(recipes.override(recipes.read(args.recipe), {**flags, **fixed}))
    if not path.exists():
        words = [f"--{name}={value}" for name, value in {"recipe": args.recipe, **flags, "seeds": seed}.items()]
        record = {
            "point": f"gradient-{gradient}-{sparsity:g}",
            "gradient": gradient,
            "command": shlex.join(["python", "benchmarks/ablations.py", *words]),
            "commit": commit(),
            **train(gradient, settings),
        }
        with replacing(path) as file:
            file.write(json.dumps(record, indent=1).encode() + b"\n")
    found = results.load(path, FORM)
    if name := settings.difference(Settings.from_mapping(found["settings"], source=f"'{path}'")):
        raise UsageError(f"'{path}' was trained with another '{name}'; move it away, or give another folder with --out")
    return f"{path.stem}: {found['metrics']['validation_accuracy']:.2%} at {found['metrics']['connectivity']:.2%}"


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the records that are there, the lowest sparsity first."""
    records = [results.load(path, FORM) for path in folder.glob("gradient-*.json")]
    if not any(record["gradient"] == "redefined" for record in records):
        raise UsageError(f"'{folder}' holds no result of the redefined gradient; leave out --table and --figure")
    for record in records:
        if record["gradient"] == "redefined":
            with named(f"result '{folder}/{record['point']}'", results.REMEDY):
                MEASURED.check(record)
    return sorted(records, key=lambda r: (r["settings"]["sparsity"], r["gradient"], r["settings"]["seed"]))


def table(records: list[dict[str, Any]]) -> str:
    """Return two Markdown tables: accuracies, and at some epochs turnover and the angles of the redefined runs."""
    last = max(len(record["epochs"]) for record in records)
    shown = [n for n in range(1, last + 1) if n == 1 or n % 5 == 0]
    lines = [results.markdown(results.summary(records)), ""]
    lines.append(f"| point | seed | | {' | '.join(f'epoch {n}' for n in shown)} |")
    lines.append("| --- | ---: | --- |" + " ---: |" * len(shown))
    for record in records:
        epochs = [record["epochs"][n - 1] for n in shown if n <= len(record["epochs"])]
        rows = {"synapses regrown in the epoch": [f"{epoch['regrown']:,}" for epoch in epochs]}
        if record["gradient"] == "redefined":
            for name, (title, _) in ANGLES.items():
                rows[title] = [f"{epoch['angles'][name]['mean']:.1f}°" for epoch in epochs]
        start = f"| {record['point']} | {record['settings']['seed']} "
        lines += [f"{start}| {title} | {' | '.join(cells)} |" for title, cells in rows.items()]
    return "\n".join(lines)


def draw(records: list[dict[str, Any]], path: Path) -> None:
    """Draw the angles of the redefined runs over the epochs, one run beside the other."""
    redefined = [record for record in records if record["gradient"] == "redefined"]
    with mpl.rc_context({**STYLE, "svg.hashsalt": "synaprune"}):  # the same file again from the same results
        figure = Figure(figsize=(4.5 * len(redefined), 4), dpi=144, layout="constrained")
        for axes, record in zip(figure.subplots(1, len(redefined), sharey=True, squeeze=False)[0], redefined):
            x = [epoch["epoch"] for epoch in record["epochs"]]
            for name, (title, colour) in ANGLES.items():
                axes.plot(x, [epoch["angles"][name]["mean"] for epoch in record["epochs"]], color=colour, label=title)
            axes.axhline(90, color=MUTED, linewidth=1, linestyle="--")
            axes.set_title(f"sparsity {100 * record['settings']['sparsity']:g} %", fontsize=11)
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        figure.axes[0].set_ylabel("angle in degrees")
        figure.axes[0].legend(loc="lower right")
        with replacing(path) as file:
            metadata = {"Date": None} if path.suffix == ".svg" else {}
            figure.savefig(file, format=path.suffix[1:], facecolor="white", metadata=metadata)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="mnist/best", help="of all settings that have no flag here")
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.95, 0.9927])
    parser.add_argument("--lr", type=float, nargs="+", default=[2e-2, 5e-2], help="one for each sparsity, or for all")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--warmup", type=float, default=10, help="epochs over which the learning rate rises")
    parser.add_argument("--holdout", type=int, default=10_000, help="training images to validate on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "mnist" / "ablations", help="folder of results")
    parser.add_argument("--table", action="store_true", help="print the results that are there, and train nothing")
    parser.add_argument("--figure", type=Path, help="draw the angles that are there, and train nothing")
    args = parser.parse_args()
    rates = args.lr * len(args.sparsity) if len(args.lr) == 1 else args.lr
    if len(rates) != len(args.sparsity):
        parser.error("--lr must be one number, or one for each --sparsity")
    if args.holdout < 1:
        parser.error("--holdout must be at least 1: the test set is not read here")
    if args.figure and args.figure.suffix not in (".png", ".svg"):
        parser.error(f"--figure must end in .png or .svg, not '{args.figure}'")
    try:
        if args.table:
            print(table(read(args.out)))
        if args.figure:
            draw(read(args.out), args.figure)
        if not args.table and not args.figure:
            args.out.mkdir(parents=True, exist_ok=True)
            for seed, (sparsity, lr), gradient in product(args.seeds, zip(args.sparsity, rates), GRADIENTS):
                print(run(args, gradient, sparsity, lr, seed), flush=True)
    except (UsageError, MachineError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
