import logging
import multiprocessing
import os
import stat

import numpy as np
import pytest

from synaprune.engine import Engine, Linear, Network, Neuron, Weight, build
from synaprune.errors import MachineError

NETWORK = Network((Linear(weight=Weight.from_dense(np.eye(2) * 2)), Neuron()), (2,), T=2)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and nothing loaded."""
    monkeypatch.setenv("SYNAPRUNE_CACHE", str(tmp_path / "cache"))
    build.library.cache_clear()
    yield tmp_path / "cache"
    build.library.cache_clear()


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
    monkeypatch.setattr(build, "_compile", None)
    assert Engine(NETWORK, backend="c")(np.ones((1, 2))).tolist() == [[1.0, 1.0]]
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
    real = build.compiler()
    script = f'case "$*" in *native*) echo "error: bad value for -march" >&2; exit 1;; esac; exec {real} "$@"'
    monkeypatch.setenv("CC", compiler(tmp_path / "old", script))
    assert Engine(NETWORK, backend="c")(np.ones((1, 2))).tolist() == [[1.0, 1.0]]


def test_a_compiler_that_hangs(cache, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "PATIENCE", 0.1)
    monkeypatch.setenv("CC", compiler(tmp_path / "hanging", "exec sleep 60"))
    with pytest.raises(MachineError, match=r"did not finish within 0\.1 seconds"):
        build.library()
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_to(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SYNAPRUNE_CACHE", str(tmp_path / "file" / "cache"))
    build.library.cache_clear()
    with pytest.raises(MachineError, match="name another folder with SYNAPRUNE_CACHE"):
        build.library()


def test_a_damaged_library_is_compiled_anew(cache, caplog):
    path = cache / f"engine-{build._key(build.compiler(), ())}.so"
    cache.mkdir()
    path.write_bytes(b"")
    assert Engine(NETWORK, backend="c")(np.ones((1, 2))).tolist() == [[1.0, 1.0]]
    assert "compiled anew" in caplog.text


def _first_call(start, results):
    start.wait()
    results.put(Engine(NETWORK, backend="c")(np.ones((1, 2))).tolist())


def test_processes_that_compile_at_once(cache):
    context = multiprocessing.get_context("fork" if os.name == "posix" else "spawn")
    start, results = context.Event(), context.Queue()
    processes = [context.Process(target=_first_call, args=(start, results)) for _ in range(3)]
    for process in processes:
        process.start()
    start.set()
    assert [results.get(timeout=120) for _ in processes] == [[[1.0, 1.0]]] * 3
    for process in processes:
        process.join()
    assert len(list(cache.iterdir())) == 1
