"""The course of a run as it is followed: the same as read at once, by new bytes only, and small."""

from __future__ import annotations

import io
import itertools
import json
import os
import tempfile
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import ODD_LINES, metrics, write_run
from synaprune.errors import UsageError
from synaprune.files import replacing
from synaprune.report import course as module
from synaprune.report.course import KEPT, Course
from synaprune.train.run import Run


def line(epoch, **changes):
    return json.dumps({**metrics(epoch), **changes}).encode() + b"\n"


def write(run, content, way="wb"):
    with run.metrics_path.open(way) as file:
        file.write(content)


def state(course):
    try:
        course.follow()
    except UsageError as error:
        return str(error)
    return course.finished, course.epochs, course.seconds


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path, 0)


@pytest.fixture
def counted(monkeypatch):
    """Counts the bytes that are read of metrics files."""
    read = []

    class Counting(io.FileIO):
        def read(self, size=-1):
            block = super().read(size)
            read.append(len(block))
            return block

    real = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, mode="r", *rest: Counting(path) if mode == "rb" else real(path, mode, *rest)
    )
    return read


def test_only_what_is_new_is_read(run, counted):
    course = Course(run)
    write(run, b"".join(map(line, range(1, 101))))
    assert course.follow()
    assert sum(counted) == run.metrics_path.stat().st_size
    counted.clear()
    assert not course.follow()
    assert sum(counted) <= module.TAIL
    write(run, line(101), "ab")
    counted.clear()
    assert course.follow()
    assert sum(counted) <= len(line(101)) + module.TAIL
    assert [epoch["epoch"] for epoch in course.epochs] == [*range(1, 102)]


def test_a_torn_last_line_is_waited_for(run):
    course = Course(run)
    whole = line(2)
    write(run, line(1) + whole[:10])
    assert course.follow()
    assert course.finished == 1
    for at in range(10, len(whole), 50):
        write(run, whole[at : at + 50], "ab")
        assert course.follow() == (at + 50 >= len(whole))
    assert course.epochs == [metrics(1), metrics(2)]


def test_the_newest_whole_epoch_is_kept_when_the_line_after_it_was_only_begun(run, monkeypatch):
    monkeypatch.setattr(module, "KEPT", 4)
    write(run, b"".join(map(line, range(1, 15))) + b'{"epoch": 15,{}\n')
    course = Course(run)
    assert course.follow()
    assert [epoch["epoch"] for epoch in course.epochs] == [1, 5, 9, 13, 14]


@pytest.mark.parametrize("replaced", [True, False])
@pytest.mark.parametrize("again", [0, 1, 2, 3, 9])
def test_a_file_that_was_cut_is_read_anew(run, replaced, again):
    course = Course(run)
    write(run, b"".join(map(line, range(1, 5))))
    course.follow()
    rest = [line(1), *(line(epoch, loss=9.0) for epoch in range(2, 2 + again))]
    if replaced:  # as a run that resumes does
        with replacing(run.metrics_path) as file:
            file.writelines(rest)
    else:
        write(run, b"".join(rest))
    assert course.follow()
    assert course.finished == 1 + again
    assert [epoch["loss"] for epoch in course.epochs] == [1.0] + again * [9.0]


def test_a_file_rewritten_at_the_same_length_is_read_anew(run):
    course = Course(run)
    write(run, line(1) + line(2))
    course.follow()
    write(run, line(1, loss=7.0) + line(2))
    os.utime(run.metrics_path, ns=(1, 1))
    assert course.follow()
    assert course.epochs[0]["loss"] == 7.0


def test_a_file_that_is_gone_is_an_empty_one(run):
    course = Course(run)
    write(run, line(1))
    course.follow()
    run.metrics_path.unlink()
    assert course.follow()
    assert (course.finished, course.epochs) == (0, [])
    assert not course.follow()


def test_damage_is_said_again_without_reading_and_forgotten_with_the_file(run, counted):
    course = Course(run)
    write(run, line(1) + b"x\n" + line(3))
    for _ in range(3):
        with pytest.raises(UsageError, match="line 2 does not hold the metrics of epoch 2"):
            course.follow()
    counted.clear()
    write(run, line(4), "ab")
    with pytest.raises(UsageError, match="line 2"):
        course.follow()
    assert sum(counted) <= module.TAIL
    write(run, line(1) + line(2))
    assert course.follow()
    assert course.finished == 2


def test_a_line_without_end_is_not_kept_for_ever(run, monkeypatch):
    monkeypatch.setattr(module, "LONGEST", 1000)
    write(run, line(1) + b"[" * 3000)
    with pytest.raises(UsageError, match="line 2"):
        Course(run).follow()


@pytest.mark.parametrize("odd", ODD_LINES)
def test_a_line_of_another_shape_is_refused_in_a_sentence_or_taken(run, odd):
    write(run, odd + b"\n" + line(2))
    found = state(Course(run))
    assert found[0] == 2 or (run.metrics_path.name in found and "line 1" in found and len(found) < 400)


steps = st.one_of(
    st.tuples(st.just("epochs"), st.integers(1, 40)),
    st.tuples(st.just("torn"), st.integers(1, 200)),
    st.tuples(st.just("odd"), st.sampled_from([b"\n", b"{}\n", b'{"epoch": 1}\n', b"x"])),
    st.tuples(st.just("cut"), st.integers(0, 30)),
    st.tuples(st.just("shorten"), st.integers(0, 3000)),
)


@settings(deadline=None)
@given(st.lists(steps, max_size=12), st.integers(4, 16))
def test_following_finds_what_reading_at_once_does(script, kept):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "KEPT", kept)
        patch.setattr(module, "BLOCK", 100)
        run = Run(folder)
        write(run, b"")
        course, rest = Course(run), b""
        for tries, (what, value) in enumerate(script):
            lines = run.metrics_path.read_bytes().splitlines(keepends=True)
            whole = len([one for one in lines if one.endswith(b"\n")])
            if what == "epochs":
                write(run, rest + b"".join(line(whole + 1 + i, loss=tries) for i in range(value)), "ab")
                rest = b""
            elif what == "torn" and not rest:
                one = line(whole + 1, loss=tries)
                write(run, one[:value], "ab")
                rest = one[value:]
            elif what == "odd":
                write(run, value, "ab")
                rest = b""
            elif what == "cut":
                with replacing(run.metrics_path) as file:
                    file.writelines(lines[:value])
                rest = b""
            elif what == "shorten":
                os.truncate(run.metrics_path, min(value, run.metrics_path.stat().st_size))
                rest = b""
            assert state(course) == state(Course(run))


@settings(deadline=None)
@given(st.integers(1, 3000))
def test_of_many_epochs_those_are_kept_that_lie_equally_far_apart_and_the_newest(count):
    with tempfile.TemporaryDirectory() as folder:
        run = Run(folder)
        write(run, b"".join(COUNTED[:count]))
        course = Course(run)
        course.follow()
        epochs = [epoch["epoch"] for epoch in course.epochs]
        assert course.finished == epochs[-1] == count
        assert epochs[0] == 1
        assert len(epochs) <= KEPT + 1
        assert len(epochs) == count or len(epochs) > KEPT // 2
        steps = {b - a for a, b in itertools.pairwise(epochs[:-1])}
        assert len(steps) <= 1
        assert course.seconds == pytest.approx(1.5 * count)


COUNTED = [line(epoch) for epoch in range(1, 3001)]


def test_two_hundred_thousand_epochs_are_followed_in_a_moment_and_little_memory(run):
    with run.metrics_path.open("wb") as file:
        file.writelines(map(line, range(1, 200_001)))
    course = Course(run)
    begin = time.process_time()
    course.follow()
    first = time.process_time() - begin
    assert (course.finished, course.epochs[-1]) == (200_000, metrics(200_000))
    assert first < 3
    begin = time.process_time()
    for epoch in range(200_001, 200_101):
        write(run, line(epoch), "ab")
        assert course.follow()
    assert time.process_time() - begin < 1
    assert course.epochs[-1] == metrics(200_100)
    course = Course(run)
    tracemalloc.start()
    course.follow()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 25e6
