"""Reading what anybody may have written: good files come out as they are, bad ones end in a few words."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synaprune.errors import UsageError, short
from synaprune.reading import Fault, Malformed, content, from_json, from_toml, line_of, lines, named

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda node: st.lists(node) | st.dictionaries(st.text(), node),
    max_leaves=10,
)


@given(plain, st.booleans(), st.sampled_from([None, 2]))
def test_json_of_python_comes_back(value, ascii_only, indent):
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert from_json(text) == from_json(text.encode()) == from_json("\ufeff".encode() + text.encode()) == value


@given(st.text() | st.binary() | st.text('[]{}",:0e-.NaN '))
def test_whatever_is_no_json_is_a_fault(source):
    with contextlib.suppress(Fault):
        assert from_json(source) == json.loads(source)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("", "is not JSON: Expecting value (line 1, column 1)"),
        ('{\n"a": }', "is not JSON: Expecting value (line 2, column 6)"),
        ("[" * 100_000, "is nested too deeply"),
        ("[" * 65 + "]" * 65, "is nested too deeply"),
        ('{"a":' * 65 + "1" + "}" * 65, "is nested too deeply"),
        ("9" * 4301, "holds a number that is too long"),
        ('{"a": 1, "b": 2, "a": 3}', "names 'a' twice"),
        ('{"a": {"b": [1, NaN]}}', "holds nan where 'a/b/1' must be a finite number"),
        ('{"a": -Infinity}', "holds -inf where 'a' must be a finite number"),
        ("[1e400]", "holds inf where '0' must be a finite number"),
        (r'["\ud800"]', r"holds '\ud800' where '0' must be Unicode"),
        (r'{"\udfff": 1}', r"holds '\udfff' in place of Unicode"),
        ("NaN", "holds nan in place of a finite number"),
        (b'{"a": "\xff"}', "is not UTF-8 text (byte 0xff at 7); save it as UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "is not UTF-8 text, perhaps UTF-16; save it as UTF-8"),
        ('{"a": 1}'.encode("utf-16-be"), "is not UTF-8 text, perhaps UTF-16; save it as UTF-8"),
        ('{"a": 1}'.encode("utf-32"), "is not UTF-8 text, perhaps UTF-16; save it as UTF-8"),
        (b"\0" * 9, "is not UTF-8 text, perhaps UTF-16; save it as UTF-8"),
    ],
    ids=short,
)
def test_faults_of_json(source, fault):
    with pytest.raises(Fault) as raised:
        from_json(source)
    assert str(raised.value) == fault


def test_depth_and_infinity_have_their_limit_and_their_leave():
    assert from_json("[" * 64 + "]" * 64) is not None
    assert math.isnan(from_json("[NaN]", finite=False)[0])
    assert from_json("[" + "9" * 4300 + "]") == [int("9" * 4300)]


def test_the_marks_and_ends_of_lines_of_other_systems_are_read():
    text = '# mine\r\nlr = 0.5\r\nname = "θ"\r\n'
    for source in (text, text.encode(), text.encode("utf-8-sig")):
        assert from_toml(source) == {"lr": 0.5, "name": "θ"}
    assert from_toml("a = inf")["a"] == math.inf


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("lr = ", "is not valid TOML: Invalid value (at end of document)"),
        ("a = 1\na = 2", "is not valid TOML: Cannot overwrite a value (at end of document)"),
        ("a = " + "[" * 3000, "is nested too deeply"),
        (".".join("a" * 66) + " = 1", "is nested too deeply"),
        ("a." * 1900 + "a = 1", "is nested too deeply"),
        ("x" * 4001, "has a line 1 of more than 4,000 characters"),
        ("\n" * 300_000, "is longer than 262,144 characters"),
        (b"\xe4", "is not valid TOML: it is not UTF-8 text (byte 0xe4 at 0); save it as UTF-8"),
        ("a = 1\n".encode("utf-16"), "is not valid TOML: it is not UTF-8 text, perhaps UTF-16; save it as UTF-8"),
    ],
    ids=short,
)
def test_faults_of_toml(source, fault):
    with pytest.raises(Fault) as raised:
        from_toml(source)
    assert str(raised.value) == fault


@pytest.mark.parametrize("name", ["x" * 2000, "\x1b[2J\x07" * 100, "a b" * 500], ids=short)
def test_what_toml_quotes_is_short_and_keeps_its_place(name):
    table = f"[{json.dumps(name)}]\n"
    with pytest.raises(Malformed) as raised:
        from_toml(table + table)
    sentence = str(raised.value)
    assert len(sentence) < 150
    assert sentence.isprintable()
    assert "(at line 2, column " in sentence
    with pytest.raises(tomllib.TOMLDecodeError):
        tomllib.loads(table + table)


def test_the_slowest_toml_is_read_in_time():
    source = "\n".join(".".join(f"{row}k{i}" for i in range(500)) + " = 1" for row in range(70))
    started = time.monotonic()
    with pytest.raises(Fault, match="nested too deeply"):
        from_toml(source)
    assert time.monotonic() - started < 10


def test_no_more_is_read_than_may_be(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    assert content(path, 100) == b"x" * 100
    with pytest.raises(Fault, match="is larger than 1 MiB"):
        content(path, 99)
    os.truncate(path, 2**40)  # of which the disk holds nothing
    with pytest.raises(Fault, match="is larger than 16 MiB"):
        content(path)
    with pytest.raises(Fault, match="has a line 1 of more than 1 MiB"):
        list(lines(path))


def test_lines_come_with_their_ends(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"a\nb\r\n\nc")
    assert list(lines(path)) == [b"a\n", b"b\r\n", b"\n", b"c"]


@pytest.mark.parametrize("reader", [content, lambda path: list(lines(path))])
def test_only_regular_files_are_opened(tmp_path, reader):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, fault in ((".", "is a folder, not a file"), ("pipe", "is no regular file"), ("zero", "is no regular")):
        with pytest.raises(Fault, match=fault):
            reader(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        reader(tmp_path / "nowhere")


def test_a_fault_becomes_a_sentence():
    with pytest.raises(UsageError) as raised, named("'x.json' is damaged: it", "delete it"):
        from_json("")
    assert str(raised.value) == "'x.json' is damaged: it is not JSON: Expecting value (line 1, column 1); delete it"
    assert not isinstance(raised.value, Fault)
    with pytest.raises(UsageError, match=r"^another$"), named("x"):
        raise UsageError("another")


def test_lines_of_settings():
    text = '# lr = 1\nlr = 1\n"warm up" = 2\n[[points]]\nlr = 3\n[[points]]\n  lr=4\n'
    assert [line_of(text, "lr", table) for table in range(4)] == [" (line 2)", " (line 5)", " (line 7)", ""]
    assert (line_of(text, "warm up"), line_of(text, "l."), line_of("", "lr")) == (" (line 3)", "", "")


@given(plain | st.binary() | st.tuples(st.integers()))
def test_any_value_is_quoted_in_one_short_line(value):
    quoted = short(value)
    assert 0 < len(quoted) <= 60
    assert quoted.isprintable()


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("fast", "'fast'"),
        ("'", '"\'"'),
        ("a\n\x1b[2J\ud800", r"'a\n\x1b[2J\ud800'"),
        (10**5000, "a number of 5001 digits"),
        (-(10**400), "a number of 401 digits"),
        (2**63, "9223372036854775808"),
        ([1, [2, [3, [4, [5]]]]], "[1, [2, [3, [4, […]]]]]"),
        (math.nan, "nan"),
        (None, "None"),
    ],
    ids=short,
)
def test_quotes(value, quoted):
    assert short(value) == quoted
