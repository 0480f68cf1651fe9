"""Measure the CIFAR-10 curve on a GPU that is at hand for minutes at a time, on a machine without a network.

    python benchmarks/cifar10/slot.py pack CARRY                     # here: wheels, and the data
    python benchmarks/cifar10/slot.py run STATE OUT --carry CARRY --minutes 9   # there, again and again
    python benchmarks/cifar10/slot.py keep OUT                       # here, after each: results into results/cifar10

`run` goes through its stages in this order, and through each but once: install what is missing, take the data over,
check, time, tune at a quarter of the width on held-out images, train the curve with dense and 0.73 % first, train the
descent. A stage that fails is left for the next call, and those after it go on. When its minutes are over it ends the
stage, whose finished epochs are kept in STATE, and the next call goes on there. What comes back fits 8 files of 16 MB:
`records.json` with all results and what check and time have printed, `log.txt`, and up to six sparse networks that
were finished since the last call. Results that `keep` has written, and that are sent along with the checkout, are not
computed again on a new machine.

Where only half of CARRY can be sent at a time, send the pieces of the data in two calls. `--tiny` runs the same stages
on the CPU with a network that a few minutes suffice for.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
RESULTS = ROOT / "results" / "cifar10"
# What training needs, beside what these need themselves. Here alone it is said what is carried as a wheel.
PACKAGES = (
    *("torch", "numpy", "safetensors", "spikingjelly", "loguru", "scikit-learn", "pooch", "rich", "tensorboard"),
    *("matplotlib", "synaprune"),
)
CARRIED = ("spikingjelly", "loguru", "pooch")  # what a machine made for torch may lack
PIECES = (*(f"data_batch_{i}.bin.delta.xz" for i in range(1, 6)), "test_batch.bin.delta.xz")
RESERVE = 20.0  # seconds to bring the results out
LARGEST, NETWORKS = 16 * 2**20, 6
TINY = {"width": 4, "time_steps": 2, "limit": 256, "batch_size": 8, "compile": "false", "device": "cpu", "warmup": 1}
SWEEPS = {"tune": {"epochs": 1, "holdout": 10000}, "curve": {"epochs": 2}, "descent": {"epochs": 7}}  # if tiny


class Over(Exception):
    """The minutes are over."""


class Slot:
    """One call: a folder with all that was reached before, and a deadline."""

    def __init__(self, state: Path, out: Path, carry: Path, minutes: float, tiny: bool) -> None:
        self.state, self.out, self.carry, self.tiny = state, out, carry, tiny
        self.deadline = time.monotonic() + 60 * minutes - RESERVE
        for folder in (state, out):
            folder.mkdir(parents=True, exist_ok=True)
        self.site = state / "site"

    def run(self) -> int:
        """Go through the stages; return 1 where one has failed, which ends the call only if the others need it."""
        begin, code = time.monotonic(), 0
        stages = {"install": self.install, "data": self.data, "check": self.check, "time": self.time}
        stages |= {name: partial(self.sweep, name) for name in SWEEPS}
        try:
            for name, stage in stages.items():
                marker = self.state / f"{name}.done"
                if marker.exists():
                    continue
                self.say(f"{name} …")
                try:
                    stage()
                    marker.touch()
                except Over:
                    self.say(f"the minutes are over in stage {name}; the next call goes on there")
                    break
                except (OSError, ValueError, subprocess.CalledProcessError) as error:
                    code = 1
                    self.say(f"stage {name} has failed: {error}; log.txt has more")
                    if name in ("install", "data"):
                        break
            else:
                self.say("everything is measured, but for what has failed" if code else "everything is measured")
        finally:
            self.say(f"{time.monotonic() - begin:.0f} s")
            self.bring()
        return code

    def install(self) -> None:
        """Install the wheels of packages that this machine lacks."""
        missing = [name for name in PACKAGES if not _installed(name)]
        wheels = [next(self.carry.glob(f"{name.replace('-', '_')}-*.whl"), None) for name in missing]
        lacking = [name for name, wheel in zip(missing, wheels) if wheel is None]
        if lacking:
            raise FileNotFoundError(
                f"no wheel of {', '.join(lacking)} in '{self.carry}', which this machine lacks; run `slot.py pack` with"
                " --wheels " + " ".join(lacking) + " and send its folder along"
            )
        if wheels:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", self.site]
            self.call([*pip, *(wheel for wheel in wheels if wheel)])

    def data(self) -> None:
        """Take over the pieces of the data that were sent."""
        folder = self.state / "data" / "cifar10"
        folder.mkdir(parents=True, exist_ok=True)
        for piece in PIECES:
            if (self.carry / piece).exists():
                shutil.copyfile(self.carry / piece, folder / f"{piece}.part")
                os.replace(folder / f"{piece}.part", folder / piece)
        unpacking = "import sys; from synaprune.data import cifar10; cifar10.unpack(sys.argv[1])"
        self.call([sys.executable, "-c", unpacking, folder])
        missing = [piece for piece in PIECES if not (folder / piece.removesuffix(".delta.xz")).exists()]
        if missing:
            raise FileNotFoundError(f"still without {', '.join(missing)}; send them in '{self.carry}'")

    def check(self) -> None:
        """Check on this device what the tests check on the CPU."""
        self.call([sys.executable, HERE / "check.py", "cpu" if self.tiny else "cuda"], self.state / "check.txt")

    def time(self) -> None:
        """Time the training step of the full network, and of the method on it."""
        size = ["--width=4", "--batch=8", "--time-steps=2", "--repeats=3"]
        if not self.tiny:
            size = ["--width=256", "--batch=128", "--repeats=20", "--device=cuda", "--compile"]
        step = [sys.executable, ROOT / "benchmarks" / "train_step.py", "--model=cnn", "--precision=bf16", *size]
        self.call([*step, "--method=grad_r", "--sparsity=0.95", "--alone"], self.state / "time.txt")

    def sweep(self, name: str) -> None:
        """Train the points of a sweep; those that are finished are not trained again, here or on an earlier machine."""
        if not self.tiny:
            (self.state / "results" / name).mkdir(parents=True, exist_ok=True)
            for path in (RESULTS / name).glob("*.json"):
                if not (self.state / "results" / name / path.name).exists():
                    shutil.copyfile(path, self.state / "results" / name / path.name)
        folders = [f"--runs={self.state / 'runs'}", f"--results={self.state / 'results' / name}"]
        changes = {**TINY, **SWEEPS[name]} if self.tiny else {"device": "cuda"}
        changed = [f"--set={key}={value}" for key, value in changes.items()]
        data = f"--data-dir={self.state / 'data'}"
        self.call([sys.executable, "-m", "synaprune", "sweep", HERE / f"{name}.toml", data, *folders, *changed])

    def call(self, command: list[object], keep: Path | None = None) -> None:
        """Run a command until it ends or the minutes are over; what it prints goes to the log, and is kept."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Over
        path = os.pathsep.join([str(ROOT), str(self.site), *filter(None, [os.environ.get("PYTHONPATH")])])
        log = self.state / "log.txt"
        begin = log.stat().st_size if log.exists() else 0
        with log.open("ab") as file:
            process = subprocess.Popen(
                [*map(str, command)],
                stdout=file,
                stderr=file,
                env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
                process_group=0,  # with its children it can be ended, and ends with this session
            )
            try:
                code = process.wait(left)
            except subprocess.TimeoutExpired as error:
                raise Over from error
            finally:
                if process.poll() is None:  # finished epochs are whole however a run ends
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        if code:
            raise subprocess.CalledProcessError(code, command)
        if keep is not None:
            keep.write_bytes(log.read_bytes()[begin:])

    def bring(self) -> None:
        """Put what shall come back into the folder OUT."""
        kept: dict[str, object] = {
            name: (self.state / f"{name}.txt").read_text(errors="replace")
            for name in ("check", "time")
            if (self.state / f"{name}.txt").exists()
        }
        paths = sorted((self.state / "results").glob("*/*.json"))
        found = {f"{path.parent.name}/{path.name}": json.loads(path.read_text()) for path in paths}
        (self.out / "records.json").write_text(json.dumps({**kept, "results": found}))
        self.deadline = time.monotonic() + 60  # what the stage that was ended has left
        sent = 0
        for name, record in sorted(found.items(), key=lambda item: item[1]["metrics"]["connectivity"]):
            sent += sent < NETWORKS and self.bring_network(name.removesuffix(".json"), record)
        self.say(f"{len(paths)} results, {sent} new networks in '{self.out}'")
        (self.out / "log.txt").write_bytes((self.state / "log.txt").read_bytes()[-LARGEST:])

    def bring_network(self, name: str, record: dict[str, dict[str, object]]) -> bool:
        """Put a sparse network that has not come back yet into the folder OUT, if it is small enough."""
        sweep, _, stem = name.partition("/")
        point, _, seed = stem.rpartition("-seed")
        trunk, _, level = point.partition("-tail-")
        run = self.state / "runs" / sweep / f"{trunk}-seed{seed}"
        run = run / "tails" / level if level else run
        marker = self.state / "networks" / f"{sweep}-{stem}.safetensors"
        if sweep == "tune" or marker.exists() or not run.exists():
            return False
        layers = record["metrics"]["layers"].values()
        if 4 * sum(layer["left"] for layer in layers) > LARGEST:
            self.say(f"{name}: too large to come back; its run stays in '{run}'")
            return False
        file = self.out / marker.name
        export = [sys.executable, "-m", "synaprune", "export", run, "-o", file, "--no-measure"]
        try:
            self.call([*export, f"--data-dir={self.state / 'data'}"])
        except (Over, OSError, subprocess.CalledProcessError) as error:
            self.say(f"{name}: no network came back ({error or 'no time left'}); the next call tries again")
            return False
        if file.stat().st_size > LARGEST:
            file.unlink()
            return False
        marker.parent.mkdir(exist_ok=True)
        marker.touch()
        return True

    def say(self, text: str) -> None:
        """Print a line at once, and add it to the log."""
        print(text, flush=True)
        with (self.state / "log.txt").open("a") as file:
            file.write(f"{text}\n")


def pack(carry: Path, data: Path, wheels: list[str]) -> int:
    """Fill a folder with wheels, that of this checkout among them, and with the packed data."""
    carry.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip"]
    for name in wheels:
        version = importlib.metadata.version(name)
        subprocess.run([*pip, "download", "-q", "--no-deps", "-d", carry, f"{name}=={version}"], check=True)
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", carry, ROOT], check=True)
    for piece in PIECES:
        shutil.copyfile(data / "cifar10" / piece, carry / piece)
    for path in sorted(carry.iterdir()):
        print(f"{path.stat().st_size / 2**20:6.1f} MB  {path.name}")
    return 0


def keep(out: Path, results: Path) -> int:
    """Write the results and networks that came back to where the project keeps them."""
    from synaprune.errors import UsageError
    from synaprune.reading import content, from_json, named
    from synaprune.schema import ANYTHING, Record, Table
    from synaprune.train.forms import RESULT

    path = out / "records.json"
    try:
        with named(f"'{path}' is damaged: it", "bring it back anew"):
            found = from_json(content(path), finite=False)
            Record({"results": Table(ANYTHING)}).check(found)
            for name in found["results"]:
                sweep, _, file = name.partition("/")
                if sweep not in SWEEPS or Path(file).name != file:
                    raise UsageError(f"'{name}' is no result of a sweep of this runner")
            Table(RESULT).check(found["results"], ("results",))
    except (UsageError, OSError) as error:
        print(f"slot.py: {error}", file=sys.stderr)
        return 2
    for name, record in found["results"].items():
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).write_text(json.dumps(record, indent=1) + "\n")
    networks = sorted(out.glob("*.safetensors"))
    for path in networks:
        sweep, _, stem = path.name.partition("-")
        shutil.copyfile(path, results / sweep / stem)
    print(found.get("check", ""), found.get("time", ""), sep="\n")
    print(f"{len(found['results'])} results, {len(networks)} networks in '{results}'")
    return 0


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the CIFAR-10 curve on a GPU in slots of minutes.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    packing = verbs.add_parser("pack", help="fill a folder with wheels and data")
    packing.add_argument("carry", type=Path)
    packing.add_argument("--data-dir", type=Path, default=os.environ.get("SYNAPRUNE_DATA", "data"))
    packing.add_argument("--wheels", nargs="*", default=list(CARRIED), help=f"packages to carry {CARRIED}")
    running = verbs.add_parser("run", help="go on where the last call ended")
    running.add_argument("state", type=Path, help="folder that stays on that machine")
    running.add_argument("out", type=Path, help="folder whose files come back")
    running.add_argument("--carry", type=Path, default=ROOT / "carry", help="folder that was packed")
    running.add_argument("--minutes", type=float, default=9.0)
    running.add_argument("--tiny", action="store_true", help="on the CPU, with a small network and 2,000 images")
    keeping = verbs.add_parser("keep", help="take over the results that came back")
    keeping.add_argument("out", type=Path)
    keeping.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.verb == "pack":
        return pack(args.carry, args.data_dir, args.wheels)
    if args.verb == "keep":
        return keep(args.out, args.results)
    return Slot(*(path.resolve() for path in (args.state, args.out, args.carry)), args.minutes, args.tiny).run()


if __name__ == "__main__":
    sys.exit(main())
