"""What the files of runs and sweeps hold, said once: those who write them fill these forms, those who read check them.

| form         | file                                  | written by                                 |
| ------------ | ------------------------------------- | ------------------------------------------ |
| `HEADER`     | `settings.json`                       | `synaprune.train.run.Run.create`           |
| `METRICS`    | a line of `metrics.jsonl`             | `synaprune.train.run.Run.append`           |
| `EVALUATION` | `evaluation.json`                     | `synaprune.train.run.Run.keep_evaluation`  |
| `RESULT`     | a file of a sweep's folder of results | `synaprune.train.sweep_run`, `benchmarks/` |

A loss may be infinite, or not a number: diverged training leaves such.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synaprune.errors import UsageError
from synaprune.reading import Fault, Malformed, from_json, misfit
from synaprune.schema import ANYTHING, TEXT, Form, List, Maybe, Number, Record, Table, loose
from synaprune.train.fields import Field, convert, expected
from synaprune.train.settings import FIELDS

__all__ = ["BRIEF", "EVALUATION", "HEADER", "METRICS", "PARTS", "RESULT", "TIMED", "epoch_of", "judged"]

ACCURACIES = ("test_accuracy", "validation_accuracy")
MOST_WORDS = 80  # characters of what a setting must be
MANY = 2**53  # no count is as large, and all below are exact in every language
SHARE, AMOUNT, COUNT = Number(0, 1), Number(0), Number(0, MANY)
SOME = Number(1, MANY, whole=True)  # what others are shares of

HEADER = Record(
    {"settings": Table(ANYTHING)},  # of which `Settings` knows more
    {
        "versions": Table(TEXT),
        "machine": Record({}, {"processor": TEXT, "cores": Maybe(COUNT), "threads": COUNT, "gpu": Maybe(TEXT)}),
        "commit": Maybe(TEXT),
        "command": List(TEXT),
        "started": TEXT,
        "torchrun": Record({"job": TEXT, "processes": COUNT}),
    },
)

LAYERS = Table(
    Record({"synapses": SOME, "left": COUNT, "connectivity": SHARE}, {"pruned": COUNT, "regrown": COUNT}), least=1
)
NEURONS = Table(Record({"rate": Number(0, finite=False), "silent": COUNT, "neurons": SOME}))
ACCURACY = Number(0, 1, finite=False)
_MEASURED: dict[str, Form] = {"neurons": NEURONS, "connectivity": SHARE, "layers": LAYERS}
_MEASURED |= dict.fromkeys(ACCURACIES, ACCURACY)


class _Epoch(Record):
    """The metrics of an epoch, which say on which images the network was judged."""

    def check(self, value: Any, place: tuple[str, ...] = ()) -> None:
        """Raise `Fault` unless it is such an object."""
        super().check(value, place)
        judged(value, place, ACCURACY)


METRICS = _Epoch(
    {
        "epoch": SOME,
        "loss": Number(finite=False),
        "train_accuracy": ACCURACY,
        "neurons": NEURONS,
        "connectivity": SHARE,
        "pruned": COUNT,
        "regrown": COUNT,
        "layers": LAYERS,
        "seconds": AMOUNT,
    },
    {**dict.fromkeys(ACCURACIES, ACCURACY), "lr": Number(finite=False), "augment": Number(finite=False)},
)

OPERATIONS_OF_LAYER = Record(
    {"effective_acs": AMOUNT, "effective_macs": AMOUNT, "weight_blind_acs": AMOUNT, "weight_blind_macs": AMOUNT},
    {"dense": AMOUNT, "activation_sparsity": SHARE, "connection_sparsity": SHARE, "weight_bytes": AMOUNT},
)
UNKNOWN = List(List(TEXT))
_ON_TOP: dict[str, Form] = {
    "operations": Record(
        {"total": OPERATIONS_OF_LAYER, "layers": Table(OPERATIONS_OF_LAYER)},
        {"samples": SOME, "unknown": UNKNOWN, "unused": List(TEXT)},
    ),
    "energy": Record(
        {"total_pj": AMOUNT},
        {
            "ac_pj": AMOUNT,
            "mac_pj": AMOUNT,
            "memory_pj": Maybe(AMOUNT),
            "layers": Table(AMOUNT),
            "table": Record({}, {"name": TEXT, "source": TEXT, "ac_pj": AMOUNT, "mac_pj": AMOUNT}),
            "unknown": UNKNOWN,
        },
    ),
    "connectivities": Record(
        {"weights": SHARE, "parameters": Number(), "connections": SHARE}, {"layers": Table(List(COUNT))}
    ),
}
EVALUATION = Record({"epoch": SOME}, {**_MEASURED, **_ON_TOP})
# Metrics of which parts may be missing, in a result with those of its evaluation.
PARTS = loose(Record({}, {**METRICS.required, **METRICS.optional, **_ON_TOP}))
TIMED = Record({"seconds": AMOUNT}, PARTS.optional)  # of which a run's time is the sum
BRIEF = _Epoch({"epoch": SOME}, PARTS.optional)  # as the table of a sweep shows it


@dataclass(frozen=True)
class Known:
    """An object of settings, the seed among them: those that this version knows have values that they can have.

    They need not go together, as those of `Settings` do.
    """

    words = "an object"

    def check(self, value: Any, place: tuple[str, ...] = ()) -> None:
        """Raise `Fault` unless it is such an object."""
        if not isinstance(value, dict):
            raise misfit(value, place, self.words)
        if "seed" not in value:
            raise Fault("holds no seed in 'settings'")
        for name, setting in value.items():
            if name in FIELDS and not _fits(FIELDS[name], setting):
                words = expected(FIELDS[name])
                words = words if len(words) <= MOST_WORDS else "one that `synaprune train --help` names"
                raise misfit(setting, (*place, name), words)


def _fits(field: Field, value: Any) -> bool:
    """Whether a setting can have a value; texts stand for numbers on the command line alone."""
    try:
        return isinstance(convert(field, value), str) or not isinstance(value, str)
    except UsageError:
        return False


RESULT = Record(
    {"point": TEXT, "settings": Known(), "metrics": PARTS, "seconds": AMOUNT},
    {
        "sweep": TEXT,
        "command": TEXT,
        "commit": Maybe(TEXT),
        "versions": HEADER.optional["versions"],
        "machine": Maybe(HEADER.optional["machine"]),
    },
)


def judged(metrics: Mapping[str, Any], place: tuple[str, ...] = (), accuracy: Form = SHARE) -> None:
    """Raise `Fault` unless metrics say how many synapses a network has, and how good it is on some images."""
    part = next((name for name in reversed(ACCURACIES) if name in metrics), ACCURACIES[0])
    Record({part: accuracy, "connectivity": SHARE}).check(metrics, place)


def epoch_of(line: bytes, number: int, form: Form = METRICS) -> dict[str, Any]:
    """Return the metrics that a line of `metrics.jsonl` holds.

    Raises:
        Malformed: it is no JSON, as a last line may be that a kill has left half-written.
        Fault: it is not of epoch `number`, or of another form.

    """
    try:
        metrics = from_json(line, finite=False)
        if not isinstance(metrics, dict) or metrics.get("epoch") != number:
            raise Fault(f"does not hold the metrics of epoch {number}")
        form.check(metrics)
    except Malformed:
        raise
    except Fault as fault:
        raise Fault(f"is damaged: line {number} {fault}") from fault
    return metrics
