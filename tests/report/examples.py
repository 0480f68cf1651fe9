"""Runs and results as files, made up: for what needs many of them, or bad ones."""

from __future__ import annotations

import json

from synaprune.train.run import Run, machine, versions
from synaprune.train.settings import Settings


def metrics(epoch, connectivity=0.5, part="test", layer="fc1.weight"):
    left = round(1000 * connectivity)
    whole = {"synapses": 1000, "left": left, "connectivity": connectivity, "pruned": epoch, "regrown": 2 * epoch}
    return {
        "epoch": epoch,
        "loss": 1 / epoch,
        "train_accuracy": 1 - 0.5 / epoch,
        f"{part}_accuracy": 1 - 0.6 / epoch,
        "neurons": {"lif1": {"rate": 0.1, "silent": 3, "neurons": 10}},
        "connectivity": connectivity,
        "pruned": epoch,
        "regrown": 2 * epoch,
        "layers": {layer: whole},
        "seconds": 1.5,
    }


def write_run(
    folder, finished=3, connectivity=0.5, layer="fc1.weight", command=("synaprune", "train", "x"), **settings
):
    """Write a run without checkpoint and TensorBoard files."""
    run, values = Run(folder), Settings(**{"epochs": finished or 1, **settings})
    folder.mkdir(parents=True, exist_ok=True)
    header = {"settings": values.to_mapping(), "command": list(command), "versions": versions(), "machine": machine()}
    run.settings_path.write_text(json.dumps(header))
    part = "validation" if settings.get("holdout") else "test"
    lines = [json.dumps(metrics(epoch, connectivity, part, layer)) for epoch in range(1, finished + 1)]
    run.metrics_path.write_text("".join(f"{line}\n" for line in lines))
    return run


def write_result(
    folder, point, accuracy, connectivity, seed=0, sops=None, macs=None, seconds=10.0, machine=None, **settings
):
    """Write the result of a sweep's point."""
    figures = {**metrics(30, connectivity), "test_accuracy": accuracy}
    if sops is not None:
        figures["operations"] = {"total": {"effective_acs": sops}}
        figures["energy"] = {"total_pj": 0.9 * sops + 4.6 * (macs or 0)}
    if macs is not None:
        figures["operations"]["total"]["effective_macs"] = macs
    content = {"point": point, "settings": Settings(seed=seed, **settings).to_mapping(), "metrics": figures}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{point}-seed{seed}.json"
    content |= {"machine": machine} if machine else {}
    path.write_text(json.dumps({**content, "seconds": seconds + seed}))
    return path


LINE = metrics(1)
# Lines of metrics.jsonl that no training writes.
ODD_LINES = [
    b"[]", b"1", b"null", b'"x"', b"{}", b"{", b"\xff\xfe", b"[" * 100_000, b'{"epoch": 1}', b'{"epoch": "1"}',
    *(json.dumps({**LINE, key: value}).encode() for key in LINE for value in ("x", None, [], {}, [1], {"a": 1}, True)),
    *(
        json.dumps({**LINE, group: {"a": {**next(iter(LINE[group].values())), key: value}}}).encode()
        for group in ("layers", "neurons")
        for key in next(iter(LINE[group].values()))
        for value in ("x", None, [], 0, 10**30, float("nan"))
    ),
    *(json.dumps({key: value for key, value in LINE.items() if key != gone}).encode() for gone in LINE),
]  # fmt: skip


BUDGETS = (0.9, 0.95, 0.98)
METHODS = (
    "grad_r", "stds", "lats", "str", "magnitude", "magnitude_ste", "granet", "set", "rigl", "deep_r", "soft_deep_r",
    "static",
)  # fmt: skip


def write_sweeps(folder, sweeps=("first", "second"), seeds=3, methods=METHODS):
    """Write sweeps of all methods and a dense network, each at other settings; return the folders."""
    for turn, sweep in enumerate(sweeps):
        for seed in range(seeds):
            shift = 0.0007 * seed - 0.002 * turn
            write_result(
                folder / sweep, "dense", 0.985 + shift, 1.0, seed, 9000, 600_000, method="dense", lr=0.1 + turn
            )
            for rank, method in enumerate(methods):
                for sparsity in BUDGETS:
                    left = (1 - sparsity) * (1.5 if method == "soft_deep_r" else 1.0)
                    accuracy = 0.98 - 0.004 * rank * (sparsity - 0.8) / 0.1 - 0.1 * (sparsity - 0.9) + shift
                    given = {"method": method, "sparsity": sparsity, "lr": 0.01 + turn}
                    sops, macs = 3000 * left**0.5 * (1 + rank / 9), 600_000 * left
                    write_result(folder / sweep, f"{method}-{sparsity}", accuracy, left, seed, sops, macs, **given)
    return [folder / sweep for sweep in sweeps]
