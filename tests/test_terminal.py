"""What is said: to whoever listens, in whatever alphabet, and nothing that a terminal would obey."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from examples import write_result, write_run
from synaprune import cli
from synaprune.cli import commands
from synaprune.terminal import Listener, cell, listeners, safe, say
from synaprune.train import sweep
from synaprune.train.display import table
from synaprune.train.results import Row
from synaprune.train.run import Run
from synaprune.train.settings import Settings
from synaprune.train.sweep import Point
from synaprune.train.sweep_display import listing, means
from synaprune.train.sweep_run import State

SMALL = [
    "train", "digits/grad_r", "--width", "16", "--time-steps=3", "--batch-size", "256", "--epochs", "2",
    "--threads", "1",
]  # fmt: skip
NAMES = [
    "[/]", "[red]x", "[/red]", "[link=x]", ":smile:", "\x1b[2J", "\x1b]0;title\x07", "\r", "\b\b", "\x9b31m", "\x7f",
    "\u202e", "\u200b", "a\nb", "\t", "\x00", "\udcff", "$x$", "θ", "x y", "%s{0}\\",
]  # fmt: skip


def obeyed(text):
    """The letters of a text that a terminal would obey or hide, line ends aside."""
    return {x for x in text if unicodedata.category(x) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")} - {"\n"}


@given(st.text(st.characters(exclude_categories=())))
def test_safe_text_is_one_line_that_no_terminal_obeys(text):
    shown = safe(text)
    assert not obeyed(shown)
    assert "\n" not in shown
    assert safe(shown) == shown
    if not obeyed(text + "x") and "\n" not in text:
        assert shown == text


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_shows_any_name_as_it_is(name):
    console = Console(file=io.StringIO(), width=200)
    console.print(cell(name))
    assert console.file.getvalue() == f"{safe(name)}\n"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_is_safe(name, capsys):
    say(name, f"second {name}")
    say(name, stderr=True)
    shown = safe(name)
    assert capsys.readouterr() == (f"{shown}\nsecond {shown}\n", f"{shown}\n")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "{}"], ["train", "{}.toml"], ["eval", "{}"], ["export", "{}"], ["report", "{}"], ["watch", "{}"],
        ["bench", "{}"], ["sweep", "{}"], ["{}"], ["recipes", "--x{}"], ["train", "digits/grad_r", "--loss", "{}"],
        ["train", "digits/grad_r", "--exclude", "x{}"], ["train", "mnist/best", "--data-dir", "{}"],
        ["export", "x", "--values", "{}"], ["sweep", "x", "--set", "{}"], ["bench", "x", "--json", "{}/x"],
    ],
)  # fmt: skip
def test_complaints_are_safe(arguments, name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = name.replace("\0", "")  # which no argument can hold
    assert cli.main([argument.replace("{}", name) for argument in arguments]) in (1, 2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert not obeyed(captured.err)


CONTENTS = {
    "recipe": 'method = "NAME"\n',
    "key": '"NAME" = 1\n',
    "settings": '{"settings": {"method": "NAME"}}',
    "setting": '{"settings": {"NAME": 1}}',
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", CONTENTS)
def test_complaints_that_quote_what_files_hold_are_safe(kind, name, capsys, tmp_path):
    quoted = json.dumps(name)[1:-1].replace("\\udcff", "x")  # which TOML has not
    content = CONTENTS[kind].replace("NAME", quoted)
    if content.startswith("{"):
        (tmp_path / "settings.json").write_text(content)
        assert cli.main(["eval", str(tmp_path)]) == 2
    else:
        (tmp_path / "recipe.toml").write_text(content)
        assert cli.main(["train", str(tmp_path / "recipe.toml")]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert not obeyed(captured.err)


A_LAYER = {"synapses": 100, "left": 5, "connectivity": 0.05}
TABLES = {
    "layers": lambda name: table({"layers": {f"{name}.weight": A_LAYER}, "neurons": {}}),
    "points": lambda name: listing([State(Point(name, Settings(), ()), "failed")]),
    "means": lambda name: means([Row(name, (0,), {})], "title"),
    "title": lambda name: means([Row("point", (0,), {})], f"A long title {name}"),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", TABLES)
def test_tables_show_any_name_as_it_is(kind, name):
    console = Console(file=io.StringIO(), width=200)
    console.print(TABLES[kind](name))
    shown = console.file.getvalue()
    assert safe(name) in shown
    assert not obeyed(shown)


@pytest.mark.parametrize("name", NAMES)
def test_a_running_training_shows_any_name_as_it_is(name, tmp_path, capsys):
    write_run(tmp_path, 3, layer=f"{name}.weight")
    assert cli.main(["watch", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert safe(name) in shown
    assert not obeyed(shown)


@pytest.mark.parametrize("name", NAMES)
def test_a_finished_sweep_shows_any_title_and_point_as_they_are(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.toml").write_text('recipe = "digits/grad_r"')
    (point,) = sweep.read("one.toml").points
    path = write_result(tmp_path / "results" / "one", "x", 0.9, 0.05)
    record = json.loads(path.read_text()) | {"point": name, "settings": point.settings.to_mapping()}
    path.unlink()
    sweep.read("one.toml").result_path(point).write_text(json.dumps(record))
    for arguments in (["one.toml"], ["one.toml", "--table"]):
        assert cli.main(["sweep", *arguments]) == 0
        shown = capsys.readouterr().out
        assert safe(name) in shown
        assert not obeyed(shown)


def test_what_the_library_logs_is_a_complaint_too(monkeypatch, capsys):
    def logging(*_):
        import logging

        logging.getLogger("synaprune.engine.build").warning("'%s' is damaged", "\x1b[2J")

    monkeypatch.setattr(commands, "list_recipes", logging)
    assert cli.main(["recipes"]) == 0
    assert capsys.readouterr() == ("", "synaprune: '\\x1b[2J' is damaged\n")


class Broken(io.StringIO):
    """A stream that fails from the second write on."""

    def write(self, text):
        if self.tell():
            raise BrokenPipeError(32, "Broken pipe")
        return super().write(text)


def test_a_listener_never_fails_and_says_why_it_stopped():
    listener = Listener(Broken())
    assert listener.fault is None
    for _ in range(3):
        assert listener.write("four") == 4
        listener.flush()
    assert isinstance(listener.fault, BrokenPipeError)
    assert listener.getvalue() == "four"


def test_streams_come_back(capsys):
    before = sys.stdout, sys.stderr
    with listeners() as found:
        assert (sys.stdout, sys.stderr) == found
    assert (sys.stdout, sys.stderr) == before
    with pytest.raises(KeyError), listeners():
        raise KeyError
    assert (sys.stdout, sys.stderr) == before


# What a process is started with; it is deaf to nothing that it does not need.
CLOSED = {
    "stdout": ">&-",
    "stderr": "2>&-",
    "stdout and stderr": ">&- 2>&-",
    "all": "<&- >&- 2>&-",
    "stderr, whoever reads it has gone": "2> >(:)",
    "both, whoever reads them has gone": "&> >(:)",
    "stdout, on a full disk": ">/dev/full",
    "stdout, for reading": "1</dev/null",
}
# All commands one after another in one process; the first argument is the folder, the other how to begin a command.
COMMANDS = """
import json, os, sys
from synaprune.cli import main

folder, gone = sys.argv[1], sys.argv[2] == "gone"
codes = []
for arguments in json.loads(sys.argv[3]):
    if gone:  # each command has a reader of its own to lose
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
    codes.append(main([argument.replace("RUN", folder) for argument in arguments]))
with open(os.path.join(folder, "codes"), "w") as file:
    json.dump(codes, file)
"""
ALL = [
    ["recipes"], ["eval", "RUN"], ["report", "RUN", "--figures", "RUN/figures"], ["export", "RUN"], ["watch", "RUN"],
    ["bench", "RUN", "--repeats", "2"], ["bench", "RUN", "--repeats", "2", "--json", "RUN/speed.json"],
    ["eval", "nowhere"],
]  # fmt: skip
SWEEP = """recipe = "digits/grad_r"
[settings]
width = 16
time_steps = 3
batch_size = 256
epochs = 2
threads = 1
"""


def shell(command, *arguments, **environment):
    """Run a command of bash, whose arguments are Python and what is given."""
    return subprocess.run(
        ["bash", "-c", command, "bash", sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )


def assert_complete(folder):
    assert len(Run(folder).metrics()) == 2
    assert Run(folder).evaluation(2) is not None
    assert (folder / "training.png").stat().st_size > 10_000
    assert "Missing on this page" not in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("closed", CLOSED)
def test_a_training_is_complete_whoever_listens(closed, tmp_path):
    done = shell(f'sleep 0.1; "$@" {CLOSED[closed]}', "-m", "synaprune", *SMALL, "--out", tmp_path)
    assert_complete(tmp_path)
    assert "Traceback" not in done.stderr
    fault = re.findall(r"^synaprune: (.*)", done.stderr, re.MULTILINE)
    failed = closed in ("stdout, on a full disk", "stdout, for reading")
    assert done.returncode == failed
    assert len(fault) == failed
    assert all(re.fullmatch(r"standard output cannot be written \(.*\)", each) for each in fault)


@pytest.mark.slow
def test_a_training_is_complete_when_its_listener_goes_away(tmp_path):
    done = shell('("$@"; echo $? >&2) | head -1', "-m", "synaprune", *SMALL, "--out", tmp_path)
    assert_complete(tmp_path)
    assert done.stdout.count("\n") == 1
    assert done.stderr.endswith("\n0\n")
    assert "synaprune:" not in done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("terminal") / "run"
    assert cli.main([*SMALL, "--out", str(folder)]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("closed", "codes"),
    [
        ("stdout", [0, 0, 0, 0, 0, 0, 0, 2]),
        ("all", [0, 0, 0, 0, 0, 0, 0, 2]),
        ("gone", [1, 0, 0, 0, 1, 1, 0, 2]),  # what does nothing but print has failed
    ],
)
def test_every_command_is_complete_whoever_listens(closed, codes, trained):
    left = ["evaluation.json", "report.html", "sparse-fp32.safetensors", "speed.json", "figures/accuracy.svg"]
    for name in ("codes", *left):
        (trained / name).unlink(missing_ok=True)
    command = f'"$@" {CLOSED.get(closed, "")}'
    done = shell(command, "-c", COMMANDS, trained, closed, json.dumps(ALL))
    assert json.loads((trained / "codes").read_text()) == codes
    assert all((trained / name).stat().st_size > 100 for name in left)
    assert done.stderr == ("" if closed == "all" else "synaprune: 'nowhere' holds no run: there is no settings.json\n")
    assert done.stdout == ""


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["all", "both, whoever reads them has gone"])
def test_a_sweep_is_complete_whoever_listens(closed, tmp_path):
    (tmp_path / "one.toml").write_text(SWEEP)
    options = [tmp_path / "one.toml", "--runs", tmp_path / "runs", "--results", tmp_path / "results"]
    done = shell(f'sleep 0.1; "$@" {CLOSED[closed]}', "-m", "synaprune", "sweep", *options)
    assert done.returncode == 0
    assert len(list((tmp_path / "results").glob("*.json"))) == 1


@pytest.mark.slow
def test_an_alphabet_without_our_letters_is_no_hindrance(tmp_path):
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    folder = tmp_path / "θ [/]\x1b"  # seen as bytes of no alphabet
    done = shell('"$@"', "-m", "synaprune", *SMALL, "--out", folder, **environment)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert_complete(folder)
    assert done.stdout.isascii()
    assert f"page: {tmp_path}/\\udcce\\udcb8 [/]\\x1b/report.html" in done.stdout
    done = shell('"$@"', "-c", COMMANDS, folder, "", json.dumps(ALL[:-1]), **environment)
    assert json.loads((folder / "codes").read_text()) == [0] * 7
    assert done.stderr == ""
    assert not obeyed(done.stdout)


@pytest.mark.slow
def test_a_name_that_is_no_unicode(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    assert cli.main([*SMALL, "--out", str(folder)]) == 0
    assert_complete(folder)


def in_a_terminal(kind, *arguments):
    """Return what a command shows in a terminal of a kind, and its exit code."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "synaprune", *map(str, arguments)],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**os.environ, "TERM": kind, "COLUMNS": "100"},
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 10_000)
        except OSError:  # how Linux says that nobody writes any more
            piece = b""
        if not piece:
            break
        shown += piece
    os.close(leader)
    return shown.decode(), process.wait()


@pytest.mark.slow
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(tmp_path):
    shown, code = in_a_terminal("dumb", *SMALL, "--out", tmp_path)
    assert code == 0
    assert "\x1b" not in shown
    assert re.findall(r"^epoch (\d/2)  loss", shown, re.MULTILINE) == ["1/2", "2/2"]
    (tmp_path / "settings.json").write_text(
        (tmp_path / "settings.json").read_text().replace('"epochs": 2', '"epochs": 3')
    )
    shown, code = in_a_terminal("dumb", "watch", tmp_path)  # once, though it is not finished
    assert (code, shown.count("epoch 2 of 3"), "\x1b" in shown) == (0, 1, False)


@pytest.mark.slow
def test_a_terminal_that_can_move_its_cursor_gets_a_bar(tmp_path):
    shown, code = in_a_terminal("xterm", *SMALL, "--out", tmp_path)
    assert code == 0
    assert "\x1b[" in shown
    assert "eta" in shown
