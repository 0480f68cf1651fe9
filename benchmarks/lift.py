"""How far may the threshold of Grad R fall at a solve? Three answers, compared on held-out training images.

    python benchmarks/lift.py digits [--seeds 0 1 2]
    python benchmarks/lift.py mnist [--seeds 0 1 2]
    python benchmarks/lift.py digits mnist --table

Where fewer synapses live than planned, a solve has to bring some back. A threshold that falls lifts all living weights
by as much; what it may not reach is raised to just above it.

free: it falls as far as it has to.
drift: it takes back what it has drifted up since the last solve (what the library does).
fixed: it never falls.

A point ends as results/lift/<task>-<rule>-<sparsity>-seed<n>.json; what is there already is not computed again.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import tempfile
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

from synaprune.errors import MachineError, UsageError
from synaprune.files import replacing
from synaprune.optim import METHODS, GradR
from synaprune.optim.grad_r import GradRRule
from synaprune.optim.row import Row
from synaprune.schema import Number, Record
from synaprune.train import recipes, results
from synaprune.train.loop import train
from synaprune.train.run import commit, machine, versions
from synaprune.train.settings import Settings

ROOT = Path(__file__).resolve().parent.parent


class FreeRule(GradRRule):
    """Its threshold falls as far as it has to."""

    def fall(self, t: Row) -> float:
        """Return no limit."""
        return math.inf


class FixedRule(GradRRule):
    """Its threshold never falls."""

    def fall(self, t: Row) -> float:
        """Return 0."""
        return 0.0


def under(rule: type[GradRRule]) -> Callable[..., GradR]:
    """Return what makes an optimizer like Grad R, under another rule."""

    def make(*args: Any, **options: Any) -> GradR:
        optimizer = GradR(*args, **options)
        optimizer.rule = rule()
        return optimizer

    return make


RULES = {"free": under(FreeRule), "drift": GradR, "fixed": under(FixedRule)}
# Recipe, what all points have in common, and the learning rate at each sparsity (chosen before, with a free threshold).
TASKS: dict[str, tuple[str, dict[str, Any], dict[float, float]]] = {
    "digits": ("digits/grad_r", {"holdout": 287}, dict.fromkeys((0.0, 0.5, 0.9, 0.95, 0.98), 2e-2)),
    "mnist": (
        "mnist/best",
        {"holdout": 10_000, "epochs": 5, "warmup": 0.0},
        {0.5: 3e-3, 0.9: 1e-2, 0.95: 1e-2, 0.9775: 1e-2, 0.9927: 3e-2},
    ),
}
FORM = Record({"metrics": Record({"validation_accuracy": Number(0, 1), "connectivity": Number(0, 1)})})


def run(folder: Path, task: str, rule: str, sparsity: float, seed: int) -> str:
    """Train one point unless its result is there, and return a line about it."""
    recipe, common, rates = TASKS[task]
    path = folder / f"{task}-{rule}-{sparsity:g}-seed{seed}.json"
    if not path.exists():
        flags = {**common, "sparsity": sparsity, "lr": rates[sparsity], "seed": seed, "threads": 1}
        settings = Settings.from_mapping(recipes.override(recipes.read(recipe), flags))
        with tempfile.TemporaryDirectory() as runs, mock.patch.dict(METHODS, grad_r=RULES[rule]):
            metrics = train(settings, Path(runs) / "run")
        record = {
            "point": f"{task}-{rule}-{sparsity:g}",
            "command": shlex.join(["python", "benchmarks/lift.py", task, "--seeds", str(seed)]),
            "commit": commit(),
            "settings": settings.to_mapping(),
            "metrics": metrics,
            "seconds": metrics["seconds"],
            "versions": versions(),
            "machine": machine(),
        }
        with replacing(path) as file:
            file.write(json.dumps(record, indent=1).encode() + b"\n")
    found = results.load(path, FORM)["metrics"]
    return f"{path.stem}: {found['validation_accuracy']:.2%} at {found['connectivity']:.2%}"


def table(folder: Path, task: str) -> str:
    """Return a Markdown table of the results that are there: rules by sparsities, validation accuracies."""
    sparsities = list(TASKS[task][2])
    lines = [f"| {task} | {' | '.join(f'{1 - s:.2%}' for s in sparsities)} |"]
    lines.append("| --- |" + " ---: |" * len(sparsities))
    for rule in RULES:
        cells = []
        for sparsity in sparsities:
            paths = sorted(folder.glob(f"{task}-{rule}-{sparsity:g}-seed*.json"))
            values = [100 * results.load(path, FORM)["metrics"]["validation_accuracy"] for path in paths]
            found = results.estimate(values) if values else None
            half = "" if found is None or found.half is None else f" ± {found.half:.2f}"
            cells.append("" if found is None else f"{found.mean:.2f}{half}")
        lines.append(f"| {rule} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="+", choices=TASKS, metavar="task", help=", ".join(TASKS))
    parser.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES), help="of falling")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "lift", help="folder of results")
    parser.add_argument("--table", action="store_true", help="print the results that are there, and train nothing")
    args = parser.parse_args()
    try:
        for task in args.tasks:
            if args.table:
                print(table(args.out, task), end="\n\n")
                continue
            args.out.mkdir(parents=True, exist_ok=True)
            for seed, sparsity, rule in product(args.seeds, TASKS[task][2], args.rules):
                print(run(args.out, task, rule, sparsity, seed), flush=True)
    except (UsageError, MachineError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
