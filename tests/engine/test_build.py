import logging
import multiprocessing
import os
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builds import NETWORK, plant, replaced, runs

from synaprune.engine import Engine, build
from synaprune.errors import MachineError

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def compiler(path, script):
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_compiled_once(cache, monkeypatch):
    Engine(NETWORK, backend="c")
    (library,) = cache.iterdir()
    assert library.name.startswith("engine-")
    before = library.stat().st_mtime_ns
    build.library.cache_clear()
    monkeypatch.setattr(build, "_compiled", None)
    assert runs()
    assert library.stat().st_mtime_ns == before


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("SYNAPRUNE_CACHE", "/somewhere")
    assert str(build.cache()) == "/somewhere"
    monkeypatch.delenv("SYNAPRUNE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build.cache() == tmp_path / "synaprune"


def test_no_compiler(cache, monkeypatch, caplog):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(MachineError, match=r"there is no C compiler \(cc, gcc, clang\); install one"):
        Engine(NETWORK, backend="c")
    with caplog.at_level(logging.WARNING):
        engine = Engine(NETWORK)
    assert engine.backend == "torch"
    assert len(caplog.messages) == 1
    assert "runs in PyTorch" in caplog.text
    assert engine(np.ones((1, 2))).tolist() == [[1.0, 1.0]]
    assert engine.spikes == {"1": 4}


def test_a_compiler_that_is_not_there(cache, monkeypatch):
    monkeypatch.setenv("CC", "no-such-cc")
    with pytest.raises(MachineError, match="'no-such-cc' named by CC is not there"):
        build.library()


def test_a_compiler_that_fails(cache, monkeypatch, tmp_path):
    script = 'echo "In file included from somewhere" >&2; echo "engine.c:7:1: error: no such thing" >&2; exit 1'
    monkeypatch.setenv("CC", compiler(tmp_path / "failing", script))
    with pytest.raises(MachineError, match=r"fails: engine\.c:7:1: error: no such thing; name another one with CC"):
        build.library()
    assert list(cache.iterdir()) == []


def test_a_failing_compiler_is_no_reason_not_to_run(cache, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("CC", compiler(tmp_path / "failing", "echo 'cc1: fatal error: no space' >&2; exit 1"))
    engine = Engine(NETWORK)
    assert engine(np.ones((1, 2))).tolist() == [[1.0, 1.0]]
    assert "fails: cc1: fatal error: no space; name another one with CC; until then the network runs" in caplog.text
    assert caplog.text.count("\n") == 1


def test_an_interrupted_compiler_leaves_nothing(cache, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(build.subprocess, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build.library()
    assert list(cache.iterdir()) == []


def test_a_compiler_that_makes_nothing(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("CC", compiler(tmp_path / "lazy", "exit 0"))
    with pytest.raises(MachineError, match="exit status 0"):
        build.library()
    assert list(cache.iterdir()) == []


def test_a_compiler_that_does_not_know_this_processor(cache, monkeypatch, tmp_path):
    real = build.compiler()[0]
    script = f'case "$*" in *native*) echo "error: bad value for -march" >&2; exit 1;; esac; exec {real} "$@"'
    monkeypatch.setenv("CC", compiler(tmp_path / "old", script))
    assert runs()


def test_a_compiler_that_hangs(cache, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "PATIENCE", 0.1)
    monkeypatch.setenv("CC", compiler(tmp_path / "hanging", "exec sleep 60"))
    with pytest.raises(MachineError, match=r"did not finish within 0\.1 seconds"):
        build.library()
    assert list(cache.iterdir()) == []


# What CC and CFLAGS may be: a command line each, the C compiler being the first word or behind a launcher.


def recording(path, log, real=None):
    """Make a launcher that notes what it is called with, and calls it, or a compiler of its own."""
    return compiler(path, f'echo "$@" >> {shlex.quote(str(log))}; exec {real or ""} "$@"')


COMMANDS = ("{launcher} {gcc}", "{gcc} -m64", "'{spaced}' -O1", " {gcc}  ", "{launcher} {gcc} -g")


@pytest.mark.parametrize("words", COMMANDS)
def test_cc_is_a_command_line(words, cache, monkeypatch, tmp_path):
    gcc = shutil.which("gcc") or build.compiler()[0]
    if "-m64" in words and os.uname().machine != "x86_64":
        words = words.replace("-m64", "-g0")
    (tmp_path / "two words").mkdir()
    spaced, launcher = tmp_path / "two words" / "cc", recording(tmp_path / "ccache", tmp_path / "log")
    spaced.symlink_to(gcc)
    monkeypatch.setenv("CC", words.format(launcher=launcher, gcc=gcc, spaced=spaced))
    assert runs()
    assert len(list(cache.iterdir())) == 1
    if "launcher" in words:
        assert (tmp_path / "log").read_text().startswith(gcc)


def test_a_launcher_is_found_on_the_path(cache, monkeypatch, tmp_path):
    recording(tmp_path / "ccache", tmp_path / "log")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("CC", "ccache cc")
    assert runs()
    assert (tmp_path / "log").read_text().startswith("cc ")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("CC", "no-such-cc", "the C compiler 'no-such-cc' named by CC is not there; install one"),
        ("CC", "no-such-cc -m64", "the C compiler 'no-such-cc' named by CC is not there"),
        ("CC", "/no/such/cc", "the C compiler '/no/such/cc' named by CC is not there"),
        ("CC", "cc '", "CC is no command line: No closing quotation; mend its quotes"),
        ("CFLAGS", '-DA="b', "CFLAGS is no command line: No closing quotation; mend its quotes"),
        ("CC", "env no-such-cc", r"the C compiler '.*env no-such-cc' fails: .*no-such-cc.*; name another one with CC"),
        ("CC", "{text}", r"the C compiler '.*text' cannot be run: .*; name another one with CC"),
        ("CFLAGS", "--no-such-flag", r"the C compiler '.* --no-such-flag' fails: .*; name another one with CC"),
    ],
)
def test_compilers_that_cannot_be_called(variable, value, said, cache, monkeypatch, tmp_path, caplog):
    text = tmp_path / "text"
    text.write_bytes(b"\x7fELF, it says")
    text.chmod(0o755)
    monkeypatch.setenv(variable, value.format(text=text))
    with pytest.raises(MachineError, match=f"^{said}") as raised:
        build.library()
    assert "\n" not in str(raised.value)
    assert runs(backend=None)  # in PyTorch
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_cc_names_no_compiler(value, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    expected = build.compiler()
    monkeypatch.setenv("CC", value)
    assert build.compiler() == expected


def test_code_that_cannot_be_loaded(cache, monkeypatch, tmp_path):
    script = 'while [ "$1" != -o ]; do shift; done; echo "no library" > "$2"'
    monkeypatch.setenv("CC", compiler(tmp_path / "other", script))
    for _ in range(2):
        with pytest.raises(MachineError, match=r"'.*other' makes cannot be loaded: .*; name another one with CC, or"):
            build.library()
    assert list(cache.iterdir()) == []


def test_what_the_cache_depends_on(cache, monkeypatch, tmp_path):
    keys = [build._key(build.compiler(), ())]
    keys.append(build._key(build.compiler(), ("-DA",)))
    monkeypatch.setenv("CFLAGS", "-DB")
    keys.append(build._key(build.compiler(), ()))
    monkeypatch.setenv("CC", f"{build.compiler()[0]} -DC")
    keys.append(build._key(build.compiler(), ()))
    real, launcher = tmp_path / "real", recording(tmp_path / "launcher", tmp_path / "log")
    monkeypatch.setenv("CC", f"{launcher} {real}")
    for script in ("exec cc", "exec  cc"):  # another compiler behind the same launcher
        compiler(real, script)
        keys.append(build._key(build.compiler(), ()))
    assert len(set(keys)) == len(keys)
    assert build._key(build.compiler(), ()) == keys[-1]


def test_no_flag_makes_floats_other_than_they_are(cache, monkeypatch):
    monkeypatch.setattr(build, "FLAGS", tuple("-O1" if flag == "-O0" else flag for flag in build.FLAGS))
    flags = ["", "-ffast-math", "-Ofast", "-funsafe-math-optimizations", "-ffp-contract=fast -freciprocal-math"]
    for variable, value in [("CFLAGS", each) for each in flags] + [("CC", f"{build.compiler()[0]} -g0 -ffast-math")]:
        monkeypatch.setenv(variable, value)
        build.library.cache_clear()
        build.library()
        monkeypatch.delenv(variable)
    made = [path.read_bytes() for path in cache.iterdir()]
    assert len(made) == len(flags) + 1
    assert len(set(made)) == 1  # the same code, and none that flushes denormals when it is loaded


def test_a_processor_that_was_chosen(cache, monkeypatch, tmp_path):
    launcher = recording(tmp_path / "launcher", tmp_path / "log")
    monkeypatch.setenv("CC", f"{launcher} {build.compiler()[0]}")
    monkeypatch.setenv("CFLAGS", "-march=x86-64" if os.uname().machine == "x86_64" else "-mcpu=generic")
    assert runs()
    assert "native" not in (tmp_path / "log").read_text()


# What is damaged is not loaded.

DAMAGE = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "cut by a byte": lambda content: content[:-1],
    "cut within a page": lambda content: content[:5000],
    "one bit": lambda content: content[:9000] + bytes([content[9000] ^ 1]) + content[9001:],
    "zeros": lambda content: bytes(len(content)),
    "longer": lambda content: content + b"x",
    "no library": lambda content: b"hello\n" * 1000,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_library_is_compiled_anew(damage, cache, compiled, caplog):
    place = plant(compiled, cache, compiled)
    replaced(place, DAMAGE[damage](compiled.read_bytes()))
    # In a process of its own, since what is wrong would end it.
    program = f"import builds; builds.build.FLAGS = {build.FLAGS}; assert builds.runs()"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "is damaged" in done.stderr
    assert place.read_bytes() == compiled.read_bytes()
    assert runs()  # it is sound again
    assert not caplog.messages


def test_no_library_but_its_name(cache, compiled, caplog, tmp_path):
    """Its digest says that it is as it was made; it cannot be loaded all the same."""
    text = tmp_path / "text"
    text.write_text("no library")
    plant(text, cache, compiled)
    assert runs()
    assert "cannot be loaded" in caplog.text
    assert [path.name for path in cache.iterdir()] == [compiled.name]


def test_a_folder_where_the_library_should_be(cache, compiled, caplog):
    cache.mkdir(mode=0o700)
    (cache / compiled.name).mkdir()
    assert runs()
    assert "no plain file" in caplog.text


def _first_call(start, results):
    start.wait()
    results.put(runs())


@pytest.mark.parametrize("damaged", [False, True])
def test_processes_that_compile_at_once(damaged, cache, compiled):
    if damaged:
        replaced(plant(compiled, cache, compiled), b"damaged")
    context = multiprocessing.get_context("fork" if os.name == "posix" else "spawn")
    start, results = context.Event(), context.Queue()
    processes = [context.Process(target=_first_call, args=(start, results)) for _ in range(3)]
    for process in processes:
        process.start()
    start.set()
    assert [results.get(timeout=120) for _ in processes] == [True] * 3
    for process in processes:
        process.join()
    assert [path.name for path in cache.iterdir()] == [compiled.name]
