"""Train the points of the MNIST table, or print it from the results that are there.

usage: python benchmarks/mnist.py run [POINT ...] [--seeds 0 1 2] [--jobs 2]
       python benchmarks/mnist.py tune [--jobs 2]
       python benchmarks/mnist.py table

A point is a recipe with a few settings changed. Each seed of it is one `synaprune train` in one thread and ends
as results/mnist/<point>-seed<n>.json; what is there already is not computed again, and a run that was cut off is
resumed. `tune` runs the trials by which the best recipe was chosen: seed 0, 20 epochs, on the first 50,000
training images, judged on the other 10,000. Connectivity is non-zero weights over all weights of the two layers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from synaprune.train.run import result

ROOT = Path(__file__).resolve().parent.parent
RESULTS, RUNS = ROOT / "results" / "mnist", ROOT / "runs" / "mnist"
POINTS: dict[str, tuple[str, dict[str, str]]] = {
    "published-dense": ("mnist/published", {"method": "dense", "alpha": "none"}),
    "published-alpha-0.01": ("mnist/published", {"alpha": "0.01"}),
    "published-alpha-0.05": ("mnist/published", {"alpha": "0.05"}),
    "published-alpha-0.2": ("mnist/published", {"alpha": "0.2"}),
    # What the trials below chose, on all 60,000 training images.
    "best-dense": ("mnist/best", {"method": "dense", "alpha": "none", "lr": "2e-3", "gain": "2.5"}),
    "best-alpha-0.05": ("mnist/best", {}),
}
# The same number of trials for both methods, each around the first.
TUNING = {"epochs": "20", "holdout": "10000"}
DENSE = {"method": "dense", "alpha": "none", "lr": "2e-3"}
GRAD_R = {"lr": "5e-3"}
TRIALS: dict[str, tuple[str, dict[str, str]]] = {
    f"trial-{name}": ("mnist/best", {**TUNING, **changes})
    for name, changes in {
        "dense": DENSE,
        "dense-lr-1e-3": {**DENSE, "lr": "1e-3"},
        "dense-lr-4e-3": {**DENSE, "lr": "4e-3"},
        "dense-loss-mse+ce": {**DENSE, "loss": "mse+ce"},
        "dense-augment-end-0.1": {**DENSE, "augment_end": "0.1"},
        "dense-gain-2.5": {**DENSE, "gain": "2.5"},
        "grad_r": GRAD_R,
        "grad_r-lr-2e-3": {"lr": "2e-3"},
        "grad_r-lr-1e-2": {"lr": "1e-2"},
        "grad_r-loss-mse+ce": {**GRAD_R, "loss": "mse+ce"},
        "grad_r-augment-end-0.1": {**GRAD_R, "augment_end": "0.1"},
        "grad_r-gain-2.5": {**GRAD_R, "gain": "2.5"},
    }.items()
}


def run(point: str, seed: int) -> str:
    """Train one seed of a point unless its result is there, and return a line about it."""
    name = f"{point}-seed{seed}"
    path, folder = RESULTS / f"{name}.json", RUNS / name
    if not path.exists():
        recipe, changes = {**POINTS, **TRIALS}[point]
        flags = [f"--{key.replace('_', '-')}={value}" for key, value in changes.items()]
        command = ["train", recipe, *flags, f"--seed={seed}", "--threads=1", f"--out={folder}"]
        if (folder / "settings.json").exists():
            command.append("--resume")
        with (RUNS / f"{name}.log").open("a") as log:
            subprocess.run([sys.executable, "-m", "synaprune", *command], check=True, stdout=log, stderr=log)
        # The folder is a path of this machine, so the record names the command without it.
        record = {"point": point, "command": f"synaprune {' '.join(command[:-1])}", "commit": commit()}
        path.write_text(json.dumps({**record, **result(folder)}, indent=1) + "\n")
    final = json.loads(path.read_text())["metrics"]
    accuracy = final.get("validation_accuracy", final.get("test_accuracy"))
    return f"{name}: {accuracy:.2%} at {final['connectivity']:.2%}"


def commit() -> str:
    """Return the commit that is checked out, marked where files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def table(points: dict[str, tuple[str, dict[str, str]]], accuracy: str) -> str:
    """Return results as a Markdown table: means, with the range over the seeds, at the final epoch."""
    lines = [
        f"| point | recipe | {accuracy.replace('_', ' ')} | connectivity | epochs | seeds |",
        "| --- | --- | --- | --- | ---: | --- |",
    ]
    for point, (recipe, _) in points.items():
        runs = [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"{point}-seed*.json"))]
        if runs:
            figures = [
                f"{statistics.mean(values):.2f} % ({min(values):.2f}–{max(values):.2f})"
                for key in (accuracy, "connectivity")
                for values in [[100 * r["metrics"][key] for r in runs]]
            ]
            seeds = ", ".join(str(r["settings"]["seed"]) for r in runs)
            lines.append(f"| {point} | `{recipe}` | {' | '.join(figures)} | {runs[0]['metrics']['epoch']} | {seeds} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["run", "tune", "table"])
    parser.add_argument("points", nargs="*", metavar="POINT", help=f"of {', '.join(POINTS)}; all when not given")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, one thread each")
    args = parser.parse_args()
    if unknown := set(args.points) - POINTS.keys():
        parser.error(f"unknown point {sorted(unknown)[0]!r}; there are {', '.join(POINTS)}")
    if args.action == "table":
        print(table(POINTS, "test_accuracy"), table(TRIALS, "validation_accuracy"), sep="\n\n")
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    RUNS.mkdir(parents=True, exist_ok=True)
    if args.action == "tune":
        pairs = [(trial, 0) for trial in TRIALS]
    else:
        pairs = [(point, seed) for seed in args.seeds for point in args.points or POINTS]
    with ThreadPoolExecutor(args.jobs) as pool:
        for line in pool.map(lambda pair: run(*pair), pairs):
            print(line, flush=True)


if __name__ == "__main__":
    main()
