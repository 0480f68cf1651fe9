"""The command line: exit codes, one sentence per fault, and the way from a recipe to a table."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import warnings
from pathlib import Path

import pytest
import torch

from synaprune import cli
from synaprune.cli import commands
from synaprune.cli.parser import make_parser
from synaprune.export import read
from synaprune.train import recipes, sweep, sweep_run
from synaprune.train.run import Run
from synaprune.train.settings import Settings

EXAMPLE = str(Path(__file__).parent.parent / "examples" / "digits_sweep.toml")
SMALL = [
    "train", "digits/grad_r", "--width", "16", "--time-steps=3", "--batch-size", "256", "--epochs", "2",
    "--threads", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small run, made by the command line."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert cli.main([*SMALL, "--out", str(folder)]) == 0
    return folder


def sentence(capsys):
    """What was printed to stderr: one line, which begins with the program's name."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("synaprune: ")
    return captured.err.removeprefix("synaprune: ").rstrip("\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["trian"], "unknown command 'trian'; did you mean 'train'?"),
        (["draw"], "unknown command 'draw'; there are train, eval, report, watch, export, bench, sweep, rec"),
        (["recipes", "--dta"], "unknown option '--dta'"),
        (["eval", "x", "--devcie", "cpu"], "unknown option '--devcie'; did you mean '--device'?"),
        (["eval", "x", "--resume"], "unknown option '--resume'"),
        (["train"], "the following arguments are required: RECIPE"),
        (["train", "digits/gradr"], "unknown recipe 'digits/gradr'; did you mean 'digits/grad_r'?"),
        (["train", "digits/grad_r", "--alhpa", "1"], "unknown option '--alhpa'; did you mean '--alpha'?"),
        (["train", "digits/grad_r", "--batch_size=3"], "unknown option '--batch_size'; did you mean '--batch-size'?"),
        (["train", "digits/grad_r", "--alph", "1"], "unknown option '--alph'; did you mean '--alpha'?"),
        (["train", "digits/grad_r", "--resum"], "unknown option '--resum'; did you mean '--resume'?"),
        (["train", "digits/grad_r", "more"], "unexpected argument 'more'"),
        (["train", "digits/grad_r", "--lr"], "argument --lr: expected one argument"),
        (
            ["train", "digits/grad_r", "--lr", "fast"],
            "setting 'lr' must be a number above 0 and below 1e+30, not 'fast'",
        ),
        (["train", "digits/grad_r", "--alpha", "-1"], "setting 'alpha' must be a number of at least 0"),
        (["train", "digits/dense", "--alpha", "0.1"], "setting 'alpha' belongs to methods deep_r"),
        (["train", "nowhere.toml"], "there is no recipe file 'nowhere.toml'"),
        (["train", "digits/grad_r", "--resume"], "'runs/digits-grad_r-0' holds no run to resume; leave out"),
        (["train", "mnist/best", "--data-dir", "nowhere"], "there is no folder 'nowhere', named by --data-dir"),
        (["eval", "nowhere"], "'nowhere' holds no run: there is no settings.json"),
        (["eval", __file__], "test_cli.py' is a file, not the folder of a run"),
        (["report"], "the following arguments are required: RUN"),
        (["report", "nowhere"], "there is no run and no result 'nowhere'"),
        (["report", "."], "'.' holds neither a run nor results; name the folder of a run"),
        (["report", __file__], "test_cli.py' is damaged"),
        (["report", "nowhere", "--figure", "x"], "unknown option '--figure'; did you mean '--figures'?"),
        (["report", ".", "--axis", "loss"], "argument --axis: must be error or accuracy, not 'loss'"),
        (["watch"], "the following arguments are required: RUN"),
        (["watch", "nowhere"], "'nowhere' holds no run: there is no settings.json"),
        (["watch", "nowhere", "--live"], "'nowhere' holds no run: there is no settings.json"),
        (["watch", "nowhere", "--port", "80"], "argument --port: only allowed with --live"),
        (["watch", "nowhere", "--live", "--port", "65536"], "argument --port: must be from 0 to 65535, not 65536"),
        (["export", "nowhere"], "'nowhere' holds no run: there is no settings.json"),
        (["export", "nowhere", "--format", "onnx"], "unknown format 'onnx'; there is sparse"),
        (["export", "nowhere", "--values", "int16"], "values must be fp32, fp16 or int8, not 'int16'; did you mean 'i"),
        (["export", "nowhere", "--valeus", "fp16"], "unknown option '--valeus'; did you mean '--values'?"),
        (["bench"], "the following arguments are required: RUN|FILE"),
        (["bench", "nowhere"], "there is no run and no sparse file 'nowhere'"),
        (["bench", __file__], "test_cli.py' is no sparse file of synaprune, or is cut short; export the network again"),
        (["bench", ".", "--batch", "0"], "batch must be at least 1, not 0"),
        (["bench", "nowhere", "--json", "nowhere/x"], "no file can be written to 'nowhere/x': it is a folder, or is"),
        (["bench", "nowhere", "--trheads", "2"], "unknown option '--trheads'; did you mean '--threads'?"),
        (["sweep"], "the following arguments are required: FILE"),
        (["sweep", "nowhere.toml"], "there is no sweep file 'nowhere.toml'"),
        (["sweep", EXAMPLE, "--jobs", "0"], "argument --jobs: must be at least 1, not 0"),
        (["sweep", EXAMPLE, "--jobs", "x"], "argument --jobs: invalid int value: 'x'"),
        (["sweep", EXAMPLE, "--list", "--table"], "argument --table: not allowed with argument --list"),
        (["sweep", EXAMPLE, "--table"], "'results/digits_sweep' holds no result of"),
    ],
)
def test_a_bad_request_is_one_sentence_and_exit_code_2(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    assert said in sentence(capsys)
    assert os.listdir(tmp_path) == []


def test_an_unknown_key_in_a_recipe_names_recipe_and_nearest(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text("epoch = 3\n")
    assert cli.main(["train", str(path)]) == 2
    assert sentence(capsys) == f"unknown setting 'epoch' in recipe '{path}'; did you mean 'epochs'?"


def test_train_shows_progress_table_accuracy_figure_and_page(tmp_path, capsys):
    folder = tmp_path / "run"
    assert cli.main([*SMALL, "--out", str(folder)]) == 0
    captured = capsys.readouterr()
    assert "epoch 2/2" in captured.err
    assert "fc1" in captured.out
    last = Run(folder).metrics()[-1]
    assert f"test accuracy {last['test_accuracy']:.2%} at {last['connectivity']:.2%} connectivity" in captured.out
    paths = [folder / "training.png", folder / "report.html"]
    assert captured.out.splitlines()[-2:] == [f"figure: {paths[0]}", f"page: {paths[1]}"]
    assert paths[0].stat().st_size > 10_000
    page = paths[1].read_text(encoding="utf-8")
    assert "Missing on this page" not in page  # what it has trained it has measured too
    assert f"--out {folder}" in page
    settings = Run(folder).settings()
    assert (settings.width, settings.epochs, settings.alpha) == (16, 2, "auto")


def test_eval_prints_the_same_accuracy(trained, capsys):
    assert cli.main(["eval", str(trained), "--device", "cpu"]) == 0
    last = Run(trained).metrics()[-1]
    out = capsys.readouterr().out
    assert f"test accuracy {last['test_accuracy']:.2%} at {last['connectivity']:.2%} connectivity, after epoch 2" in out
    assert "fc2" in out


def test_eval_keeps_its_figures_for_the_report(trained, capsys):
    kept = Run(trained).evaluation_path
    kept.unlink()
    assert cli.main(["report", str(trained)]) == 0
    assert "were not measured after epoch 2" in (trained / "report.html").read_text(encoding="utf-8")
    assert cli.main(["eval", str(trained)]) == 0
    assert cli.main(["report", str(trained)]) == 0
    assert "SOPs per image" in (trained / "report.html").read_text(encoding="utf-8")
    capsys.readouterr()
    kept.unlink()
    kept.mkdir()  # cannot be written
    assert cli.main(["eval", str(trained)]) == 0
    assert "the figures are not kept for the report (Is a directory)" in capsys.readouterr().err
    kept.rmdir()


def test_report_writes_where_it_is_told_and_figures_beside(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", str(trained), "-o", "mine.html", "--figures", "for paper"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "page: mine.html"
    assert out[1] == f"figures: {len(os.listdir('for paper'))} files in for paper"
    assert {"accuracy.svg", "accuracy.png", "inputs.svg"} <= set(os.listdir("for paper"))
    assert cli.main(["report", str(trained), str(trained)]) == 0
    assert capsys.readouterr().out == "page: report.html\n"
    assert "1 point, 2 runs" in Path("report.html").read_text(encoding="utf-8")
    assert cli.main(["report", str(trained), str(trained), "--show", "grad_r", "--axis", "accuracy"]) == 0
    assert 'value="accuracy" checked' in Path("report.html").read_text(encoding="utf-8")
    capsys.readouterr()
    assert cli.main(["report", str(trained), str(trained), "--show", "set"]) == 2
    assert sentence(capsys) == "no series is called 'set'; there are Grad R"
    for flag, value in (("--show", "grad_r"), ("--axis", "error")):
        assert cli.main(["report", str(trained), flag, value]) == 2
        assert sentence(capsys) == f"argument {flag}: only allowed with several runs or results"
    assert cli.main(["report", str(trained), "-o", "no/page.html"]) == 2
    assert sentence(capsys) == "there is no folder 'no' for the page; make it, or name another file with -o"


def test_watch_shows_a_run(trained, capsys):
    assert cli.main(["watch", str(trained)]) == 0
    assert "epoch 2 of 2" in capsys.readouterr().out


def test_watch_live_serves_the_page_until_it_is_interrupted(trained):
    command = [sys.executable, "-m", "synaprune", "watch", str(trained), "--live"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().split()[1]
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert "after epoch 2 of" in answer.read().decode()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "synaprune: interrupted\n")


@pytest.mark.parametrize(("values", "most"), [("fp32", 6), ("fp16", 4), ("int8", 3)])
def test_export_prints_size_and_accuracy(values, most, trained, tmp_path, capsys):
    path = tmp_path / "file"
    arguments = ["export", str(trained), "--format", "sparse", "--values", values, "-o", str(path)]
    assert cli.main(arguments) == 0
    first, second = capsys.readouterr().out.splitlines()
    size, synapses = path.stat().st_size, read(path).synapses
    assert first == f"{path}: {size:,} bytes, {size / synapses:.2f} per synapse"
    assert size < most * synapses + 4000
    before = Run(trained).metrics()[-1]["test_accuracy"]
    found = re.fullmatch(rf"test accuracy (.*)% with weights as {values}, {before:.2%} in the run", second)
    assert float(found[1]) == pytest.approx(100 * before, abs=1)


def test_export_goes_to_the_folder_of_the_run(trained, capsys):
    assert cli.main(["export", str(trained)]) == 0
    assert capsys.readouterr().out.startswith(f"{trained / 'sparse-fp32.safetensors'}: ")
    left = sum(layer["left"] for layer in Run(trained).metrics()[-1]["layers"].values())
    assert read(trained / "sparse-fp32.safetensors").synapses == left


def test_bench_prints_a_table_and_keeps_the_figures(trained, tmp_path, capsys):
    path = tmp_path / "speed.json"
    assert cli.main(["bench", str(trained), "--batch", "4", "--repeats", "2", "--json", str(path)]) == 0
    printed = capsys.readouterr().out
    for row in ("engine", "PyTorch dense fp32", "PyTorch dense bf16", "PyTorch CSR fp32"):
        assert re.search(rf"^  {row} +[\d.]+ ", printed, re.MULTILINE)
    assert "medians of 2 and 2 rounds" in printed
    assert json.loads(path.read_text())["comparisons"][1]["samples"] == 4


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of the small run, to be damaged."""
    return Run(shutil.copytree(trained, tmp_path / "copy"))


DAMAGES = {
    "one bit": lambda content: content[:-1] + bytes([content[-1] ^ 128]),
    "header": lambda content: content[:30] + b"x" + content[31:],
    "cut short": lambda content: content[:-1],
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("command", ["eval", "export", "bench"])
def test_a_damaged_checkpoint_is_one_sentence_and_says_the_way_back(command, damage, copied, capsys):
    path = copied.checkpoint_path
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    before = set(os.listdir(copied.folder))
    assert cli.main([command, str(copied.folder)]) == 2
    said = sentence(capsys)
    assert re.match(
        f"(checkpoint )?'{path}' is (damaged: its (checksum|header)|no checkpoint of synaprune, or is cut short)", said
    )
    assert said.endswith(
        "; the one before it, of epoch 1, is whole: train with --resume to go on from there, or give"
        " 'checkpoint.previous.safetensors' the name 'checkpoint.safetensors'"
    )
    assert set(os.listdir(copied.folder)) == before
    copied.previous_path.rename(path)
    assert cli.main([command, str(copied.folder), *(["--repeats", "2"] if command == "bench" else [])]) == 0


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_page_is_written_without_what_a_damaged_checkpoint_held_and_says_so(damage, copied, capsys):
    copied.checkpoint_path.write_bytes(DAMAGES[damage](copied.checkpoint_path.read_bytes()))
    assert cli.main(["report", str(copied.folder)]) == 0
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert re.match("synaprune: .*checkpoint.safetensors' is .*; the one before it, of epoch 1, is whole", captured.err)
    page = copied.page_path.read_text(encoding="utf-8")
    assert "The map of the first layer&#x27;s synapses is missing" in page
    assert "the one before it, of epoch 1, is whole" in page


def test_resume_goes_on_from_the_checkpoint_before_a_damaged_one(trained, copied, capsys):
    weights = copied.state()["model"]
    copied.checkpoint_path.write_bytes(DAMAGES["one bit"](copied.checkpoint_path.read_bytes()))
    assert cli.main([*SMALL, "--out", str(copied.folder), "--resume"]) == 0
    said = capsys.readouterr().err
    assert (
        "is damaged: its checksum is another: going on from the one before it, of epoch 1; the damaged one is" in said
    )
    assert all(torch.equal(weights[name], tensor) for name, tensor in copied.state()["model"].items())
    assert "Missing on this page" not in copied.page_path.read_text(encoding="utf-8")


def test_a_taken_folder_is_refused_and_resume_goes_on(trained, capsys):
    assert cli.main([*SMALL, "--out", str(trained)]) == 2
    assert "already holds a run; continue it with --resume, or give another folder with --out" in sentence(capsys)
    assert cli.main([*SMALL, "--out", str(trained), "--resume"]) == 0
    assert cli.main([*SMALL, "--out", str(trained), "--resume", "--lr", "0.5"]) == 2
    assert "was trained with lr" in capsys.readouterr().err


def test_runs_go_to_a_folder_named_after_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*SMALL, "--seed", "3", "--epochs", "1"]) == 0
    assert os.listdir("runs") == ["digits-grad_r-3"]


def test_recipes_lists_all_with_what_they_are(capsys):
    assert cli.main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines]
    assert names == sorted(names)
    assert "digits/grad_r" in names
    assert all(len(line) <= 140 for line in lines)


def test_a_recipe_says_task_method_what_is_left_and_how_long_it_takes():
    shown = {"deep_r": "Deep R", "dense": "no pruning", "grad_r": "Grad R", "granet": "GraNet", "rigl": "RigL"}
    tasks = {"digits": "8×8 digits", "mnist": "MNIST", "cifar10": "CIFAR-10"}
    for name in recipes.names():
        settings, line = recipes.read(name), recipes.describe(name)
        assert line.startswith(tasks[settings["task"]])
        assert shown.get(settings["method"], settings["method"].replace("_", " ")).lower() in line.lower()
        assert re.search(
            r"(About \d+ (seconds|minutes) on \w+ cores?|Needs a GPU; not timed yet|Days on a GPU)\.$", line
        )
        if settings.get("alpha") == "auto":
            assert f"{100 * (1 - settings['sparsity']):.3g} % of the synapses" in line


def test_recipes_of_one_task_alone(capsys):
    assert cli.main(["recipes", "mnist"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["mnist/best", "mnist/published"]
    assert cli.main(["recipes", "imagenet"]) == 2
    assert "no recipe begins with 'imagenet'; the tasks are cifar10, digits, mnist" in capsys.readouterr().err


def test_the_flags_of_a_point_give_its_settings():
    known = vars(Settings())
    for point in sweep.read(EXAMPLE).points:
        options = make_parser().parse_args(["train", "digits/grad_r", *point.flags])
        flags = {name: value for name, value in vars(options).items() if name in known}
        assert Settings(**recipes.override(recipes.read("digits/grad_r"), flags)) == point.settings


SWEEP = """# Two rates
recipe = "digits/grad_r"
[settings]
epochs = 3
[[points]]
lr = [0.1, 0.2]
"""


@pytest.fixture
def two_rates(tmp_path, monkeypatch):
    """A sweep of two points in the current folder, of which the first is done."""
    monkeypatch.chdir(tmp_path)
    Path("two.toml").write_text(SWEEP)
    plan = sweep.read("two.toml")
    keep(plan, plan.points[0])
    return plan


def keep(plan, point):
    """Write the result that a point might have."""
    metrics = {"epoch": 3, "test_accuracy": 0.9, "connectivity": 0.05}
    record = {"point": point.label, "settings": point.settings.to_mapping(), "metrics": metrics, "seconds": 1.5}
    plan.results.mkdir(parents=True, exist_ok=True)
    plan.result_path(point).write_text(json.dumps(record))


def test_sweep_lists_points_and_prints_a_table_without_training(two_rates, capsys):
    assert cli.main(["sweep", "two.toml", "--list"]) == 0
    assert capsys.readouterr().out == "grad_r-lr-0.1-seed0  done\ngrad_r-lr-0.2-seed0  waiting\n"
    assert cli.main(["sweep", "two.toml", "--table"]) == 0
    assert capsys.readouterr().out == (
        "| point | test accuracy | connectivity | seeds |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| grad_r-lr-0.1 | 90.00 % | 5.00 % | 1 |\n"
    )
    assert not Path("runs").exists()


def test_a_finished_sweep_shows_its_means(two_rates, capsys):
    keep(two_rates, two_rates.points[1])
    assert cli.main(["sweep", "two.toml"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "2 of 2 points were done before\n"
    assert captured.out.startswith("Two rates")
    assert [line.split()[0] for line in captured.out.splitlines() if "90.00 %" in line] == [
        "grad_r-lr-0.1",
        "grad_r-lr-0.2",
    ]


@pytest.mark.parametrize("code", [1, 2])
def test_points_that_fail_are_listed_at_the_end(code, two_rates, monkeypatch, capsys):
    def run(plan, *, jobs, data_dir, runs, report):
        failed = [sweep_run.State(point, "failed", None, 0.0, "not finite", 2) for point in plan.points]
        failed[0].exit_code = code
        report(failed)
        return failed

    monkeypatch.setattr(sweep_run, "run", run)
    assert cli.main(["sweep", "two.toml"]) == code
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-3:] == [
        "grad_r-lr-0.1-seed0: not finite",
        "grad_r-lr-0.2-seed0: not finite",
        "synaprune: 2 of 2 points failed; 'runs/two' has the log of each, the same command tries them again",
    ]


def test_an_interrupted_sweep_says_how_to_go_on(two_rates, monkeypatch, capsys):
    def run(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep_run, "run", run)
    before = signal.getsignal(signal.SIGINT)
    try:
        assert cli.main(["sweep", "two.toml", "--jobs", "2"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert sentence(capsys) == (
        "interrupted; all finished epochs are saved, continue with: synaprune sweep two.toml --jobs 2"
    )


def test_version_and_help(capsys):
    for arguments, word in ((["--version"], "synaprune "), (["--help"], "recipes"), (["train", "--help"], "--alpha")):
        with pytest.raises(SystemExit) as raised:
            cli.main(arguments)
        assert raised.value.code == 0
        assert word in capsys.readouterr().out


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from synaprune.cli.parser import make_parser; make_parser().format_help()\n"
        "heavy = {'torch', 'numpy', 'spikingjelly', 'matplotlib', 'sklearn', 'tensorboard', 'rich'}\n"
        "print(heavy & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


ABSENT = """
import builtins, sys

real, package, arguments = builtins.__import__, sys.argv[1], sys.argv[2:]

def absent(name, *args):
    if name == package or name.startswith(package + "."):
        raise ModuleNotFoundError(f"No module named '{package}'", name=package)
    return real(name, *args)

builtins.__import__ = absent
from synaprune import cli
from synaprune.export import read

sys.exit(cli.main(arguments))
"""


@pytest.mark.parametrize("package", ["rich", "tensorboard.compat"])
def test_without_the_extra_one_sentence_says_what_to_install(package, tmp_path):
    # In a process of its own: modules imported twice would be two in later tests.
    command = [sys.executable, "-c", ABSENT, package, *SMALL, "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True)
    name = package.partition(".")[0]
    assert done.stderr == f"synaprune: this command needs {name}; run pip install 'synaprune[train]'\n"
    assert done.returncode == 1


def test_other_missing_modules_are_bugs_and_keep_their_traceback(monkeypatch):
    def broken(*_):
        raise ModuleNotFoundError("No module named 'synaprune.nothing'", name="synaprune.nothing")

    monkeypatch.setattr(commands, "list_recipes", broken)
    with pytest.raises(ModuleNotFoundError):
        cli.main(["recipes"])


def test_the_method_of_a_recipe_can_be_changed_by_its_flag_alone(tmp_path):
    assert cli.main([*SMALL, "--method", "dense", "--epochs", "1", "--out", str(tmp_path)]) == 0
    settings = Run(tmp_path).settings()
    assert (settings.method, settings.alpha, settings.lr) == ("dense", None, 0.02)


DEAF = """
import hashlib, os, signal, sys
from synaprune.cli import shared

shared.PATIENCE = 0.2
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
with shared.ending_in_time(lambda: "waited in vain"):
    print("waiting", flush=True)
    if sys.argv[1] == "deaf":
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # as torch, it does not return to Python
    else:
        signal.pause()
"""


@pytest.mark.parametrize(
    ("how", "number", "code", "said"),
    [
        ("deaf", signal.SIGTERM, 143, "synaprune: waited in vain\n"),
        ("deaf", signal.SIGINT, 130, "synaprune: waited in vain\n"),
        ("deaf", signal.SIGUSR1, -signal.SIGUSR1, ""),
        ("listening", signal.SIGTERM, 3, ""),
    ],
)
def test_a_process_of_several_ends_in_time_also_where_python_does_not_hear(how, number, code, said):
    environment = {**os.environ, "TORCHELASTIC_RUN_ID": "job", "RANK": "1", "WORLD_SIZE": "2"}
    command = [sys.executable, "-c", DEAF, how]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.5)
        process.send_signal(number)
        assert (process.communicate(timeout=60)[1], process.returncode) == (said, code)


def test_an_interrupted_import_counts_as_interrupted(monkeypatch, capsys):
    def failing(*_):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise ImportError("numpy failed to import")  # noqa: B904 (as numpy does)

    monkeypatch.setattr(commands, "list_recipes", failing)
    before = signal.getsignal(signal.SIGINT)
    try:
        assert cli.main(["recipes"]) == 130
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert sentence(capsys) == "interrupted"


def test_a_closed_pipe_is_silent():
    code = "import sys; from synaprune.cli import main; sys.exit(main(['recipes']))"
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        done = subprocess.run([sys.executable, "-c", code], stdout=pipe, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_terminal_without_the_letters_is_no_hindrance():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "synaprune", "train", "digits/grad_r", "--loss", "θ"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "not '?'" in done.stderr


def test_faults_of_the_machine_are_one_sentence_and_exit_code_1(tmp_path, monkeypatch, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert cli.main([*SMALL, "--out", str(blocked / "run")]) == 1
    assert sentence(capsys) == f"Not a directory: '{blocked / 'run'}'"


def test_a_full_memory_is_one_sentence_and_exit_code_1(monkeypatch, capsys):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr(commands, "list_recipes", full)
    assert cli.main(["recipes"]) == 1
    assert sentence(capsys) == "there is not enough memory; free some"


def test_a_warning_is_one_line(monkeypatch, capsys):
    def warning(*_):
        warnings.warn("sparsity has no effect here", stacklevel=1)

    monkeypatch.setattr(commands, "list_recipes", warning)
    shown = warnings.showwarning
    assert cli.main(["recipes"]) == 0
    assert sentence(capsys) == "sparsity has no effect here"
    assert warnings.showwarning is shown


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_keeps_the_last_finished_epoch_and_says_how_to_go_on(number, code, tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "synaprune", *SMALL, "--epochs", "1000", "--out", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (folder / "checkpoint.safetensors").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == code
    last = err.splitlines()[-1]
    assert last.startswith("synaprune: interrupted; all finished epochs are saved, continue with: synaprune train")
    assert last.endswith("--resume")
    assert "Traceback" not in err
    assert len(Run(folder).metrics()) >= 1
    assert not list(folder.glob("*.tmp"))
