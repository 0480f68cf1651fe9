"""Whatever is in a file that a command reads: it ends in success or in one short sentence, and never in a traceback.

By hand, with many more files: `python tests/test_hostile_files.py --count 14000 --seed 1`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest
from mutants import as_toml, json_file, lines_file, safetensors_file, toml_file

from synaprune.cli.main import main
from synaprune.train import recipes
from synaprune.train.run import Run

LONGEST = 300  # characters of a sentence
PATIENCE = 20  # seconds for one command
RECIPE = {
    "task": "digits", "method": "grad_r", "sparsity": 0.9, "width": 8, "time_steps": 2, "epochs": 2, "limit": 64,
    "batch_size": 16, "threads": 1, "exclude": [], "lr": 0.01, "schedule_flat": 0.5,
}  # fmt: skip
SWEEP = {
    "recipe": "recipe.toml", "results": "results", "seeds": [0, 1], "settings": {"threads": 1, "width": 8},
    "points": [{"lr": [0.01, 0.02]}, {"name": "dense", "method": "dense", "seeds": [0]}],
}  # fmt: skip
RESUME = ["train", "recipe.toml", "--out=begun", "--resume"]


class Kind(NamedTuple):
    """A kind of file: what damages it, the places at which it lies, and the commands that read it."""

    mutate: object
    places: list[str]
    commands: list[list[str]]
    count: int  # of files in the suite


def prepare():
    """Fill this folder: a run that is finished and one that is begun, a sweep with results; return their originals."""
    Path("recipe.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in RECIPE.items()))
    assert quiet(["train", "recipe.toml", "--out=run"])[0] == 0
    shutil.copytree("run", "begun")
    Path("begun/checkpoint.previous.safetensors").replace("begun/checkpoint.safetensors")
    assert quiet(["export", "run", "--output=run.sparse", "--no-measure"])[0] == 0
    run, result = Run("run"), json.loads(Path("run/evaluation.json").read_text())
    metrics = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    header = run.header()
    Path("sweep.toml").write_text(
        'recipe = "recipe.toml"\nresults = "results"\nseeds = [0, 1]\npoints = [{lr = [0.01]}]'
    )
    Path("of.toml").write_text('recipe = "mutant.toml"\n')
    Path("results").mkdir()
    for seed in (0, 1):
        values = recipes.override(header["settings"], {"lr": 0.01, "seed": seed})
        record = {**header, "point": "grad_r-lr-0.01", "sweep": "sweep", "command": "synaprune train", "seconds": 1.5}
        record |= {"settings": values, "metrics": {**metrics[-1], **result}}
        Path(f"results/grad_r-lr-0.01-seed{seed}.json").write_text(json.dumps(record))
    return {
        "settings": header,
        "metrics": metrics,
        "evaluations": result,
        "results": record,
        "recipes": RECIPE,
        "sweeps": SWEEP,
        "checkpoints": run.checkpoint_path.read_bytes(),
        "sparse files": Path("run.sparse").read_bytes(),
    }


REPORT, EXPORT = ["report", "run", "-o", "page.html"], ["export", "run", "-o", "s", "--no-measure"]
COMPARE = ["report", "run", "begun", "-o", "page.html"]
KINDS = {
    "settings": Kind(
        json_file,
        ["run/settings.json", "begun/settings.json"],
        [["watch", "run"], REPORT, EXPORT, ["eval", "run"], RESUME],
        160,
    ),
    "metrics": Kind(
        lines_file, ["run/metrics.jsonl", "begun/metrics.jsonl"], [["watch", "run"], REPORT, COMPARE, RESUME], 120
    ),
    "evaluations": Kind(json_file, ["run/evaluation.json"], [REPORT, COMPARE], 40),
    "results": Kind(
        json_file,
        ["results/grad_r-lr-0.01-seed1.json"],
        [
            ["report", "results", "-o", "page.html"],
            ["sweep", "sweep.toml", "--table"],
            ["sweep", "sweep.toml", "--list"],
        ],
        200,
    ),
    "recipes": Kind(
        toml_file,
        ["mutant.toml"],
        [["train", "mutant.toml", "--out=none", "--resume"], ["sweep", "of.toml", "--list"]],
        200,
    ),
    "sweeps": Kind(
        toml_file, ["plan.toml"], [["sweep", "plan.toml", "--list"], ["sweep", "plan.toml", "--table"]], 200
    ),
    "checkpoints": Kind(
        safetensors_file,
        ["run/checkpoint.safetensors", "begun/checkpoint.safetensors"],
        [["eval", "run"], REPORT, EXPORT, RESUME],
        60,
    ),
    "sparse files": Kind(safetensors_file, ["run.sparse"], [["bench", "run.sparse", "--repeats=1", "--batch=2"]], 10),
}


def quiet(command):
    """Run a command in this process; return its exit code and what it has printed to stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        return main(command), err.getvalue()


@contextlib.contextmanager
def restored():
    """Put all files of this folder back at the end, as they are now; return what does so at once."""
    with tempfile.TemporaryDirectory() as kept:
        shutil.copytree(".", kept, dirs_exist_ok=True)

        def restore():
            for folder in ("run", "begun", "results"):
                shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(kept, ".", dirs_exist_ok=True)

        yield restore


def fault_of(command):
    """Return what is wrong with the end of a command, nothing if it ended as it should."""

    def late(*_):
        raise TimeoutError(f"more than {PATIENCE} s")

    previous = signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE)
    try:
        code, said = quiet(command)
    except BaseException as error:
        return "".join(traceback.format_exception(error)[-3:])
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    lines = [line for line in said.splitlines() if not line.startswith("epoch ")]
    if code not in (0, 1, 2):
        return f"exit code {code}: {said}"
    if code and sum(line.startswith("synaprune: ") for line in lines) < 1:
        return f"exit code {code} without a sentence: {said}"
    odd = [line for line in lines if not (line.startswith("synaprune: ") and line.isprintable()) or len(line) > LONGEST]
    return f"said: {odd[0]}" if odd else ""


def mutants(kind, original, count, seed, restore=lambda: None):
    """Write so many damaged files; yield for each its bytes, the command that reads it, and what was wrong then."""
    rng = random.Random(f"{kind} {seed}")
    mutate, places, commands, _ = KINDS[kind]
    for index in range(count):
        content, command = mutate(rng, original), commands[index % len(commands)]
        for place in places:
            Path(place).write_bytes(content)
        yield content, command, fault_of(command)
        if command[0] == "train":
            restore()


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("hostile"))
    found = prepare()
    Path("sweep.toml").write_text(
        'recipe = "recipe.toml"\nresults = "results"\nseeds = [0, 1]\n[[points]]\nlr = [0.01]\n'
    )
    Path("of.toml").write_text('recipe = "mutant.toml"\n')
    yield found
    os.chdir(before)


def test_the_files_that_are_damaged_are_good_ones(originals):
    Path("mutant.toml").write_text(as_toml(RECIPE))
    Path("plan.toml").write_text(as_toml(SWEEP))
    with restored(), mock.patch("synaprune.report.training_figure", str):
        for command in [command for kind in KINDS.values() for command in kind.commands]:
            code, said = quiet(command)
            assert (code, said[:11]) == (0, "") or command[0] == "train", said
            assert code == 0 or "holds no run to resume" in said


FILES = [place for kind in KINDS.values() for place in kind.places if not place.startswith("begun/")]


@pytest.mark.parametrize("place", FILES)
@pytest.mark.parametrize("make", ["folder", "pipe", "device", "link to nowhere", "link to itself"])
def test_what_is_no_regular_file_is_said_to_be_none_and_waited_for_by_nobody(originals, place, make):
    commands = [command for kind in KINDS.values() if place in kind.places for command in kind.commands[:2]]
    with restored() as restore:
        Path(place).unlink(missing_ok=True)
        match make:
            case "folder":
                Path(place).mkdir()
            case "pipe":
                os.mkfifo(place)
            case "device":
                Path(place).symlink_to("/dev/zero")
            case "link to nowhere":
                Path(place).symlink_to("nowhere")
            case _:
                Path(place).symlink_to(Path(place).name)
        try:
            faults = [fault for command in commands if (fault := fault_of(command))]
        finally:
            (Path(place).rmdir if make == "folder" else Path(place).unlink)()
            restore()
    assert faults == []


def test_a_result_that_is_a_link_to_nowhere_is_said_to_be_one(originals):
    path = Path("results/grad_r-lr-0.01-seed1.json")
    with restored() as restore:
        path.unlink()
        path.symlink_to("nowhere")
        for command in KINDS["results"].commands:
            code, said = quiet(command)
            assert code == 2
            assert (
                f"result '{path}' is damaged: it is a link to nowhere; delete it, and the sweep makes it anew" in said
            )
        path.unlink()
        restore()


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_files_end_in_success_or_in_one_short_sentence(originals, kind):
    with restored() as restore, mock.patch("synaprune.report.training_figure", str):
        faults = [
            f"{command}\n{fault}\n{content[:300]!r}"
            for content, command, fault in mutants(kind, originals[kind], KINDS[kind].count, 0, restore)
            if fault
        ]
        restore()
    assert not faults, f"{len(faults)} files, the first with {faults[0]}"


def by_hand():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=14_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    args = parser.parse_args()
    found = Counter()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        originals = prepare()
        with mock.patch("synaprune.report.training_figure", str), restored() as restore:
            for kind in args.kinds:
                files = mutants(kind, originals[kind], args.count // len(args.kinds), args.seed, restore)
                for index, (content, command, fault) in enumerate(files):
                    found[f"{kind}, {'wrong' if fault else 'right'}"] += 1
                    if fault:
                        print(f"{kind} {index}: {command}\n{fault[-600:]}\n", file=sys.stderr, flush=True)
                        Path(tempfile.gettempdir(), f"mutant-{kind}-{args.seed}-{index}").write_bytes(content)
                restore()
        os.chdir("/")
    print(*(f"{number:6,} {what}" for what, number in sorted(found.items())), sep="\n")


if __name__ == "__main__":
    by_hand()
