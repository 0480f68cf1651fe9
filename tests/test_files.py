"""Files appear whole or not at all, whoever else writes them, whatever lies in their place, and wherever it ends."""

from __future__ import annotations

import ast
import errno
import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import synaprune
from synaprune import files
from synaprune.errors import MachineError, UsageError
from synaprune.files import appending, check_place, full_disk_named, locked, replacing

LOCKS = pytest.mark.skipif(files.fcntl is None, reason="needs a platform with flock")


def program(text, *arguments, **options):
    """Start a Python program that has what this file imports of `synaprune.files`."""
    code = "import os, sys, time\nfrom pathlib import Path\nfrom synaprune.files import *\n" + textwrap.dedent(text)
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def write(path, content=b"new"):
    with replacing(path) as file:
        file.write(content)


def test_many_writers_of_one_file_neither_fail_nor_mix_nor_leave_anything(tmp_path):
    path = tmp_path / "file"
    write(path, b"0" * 100_000)
    writers = [
        program(
            """
            for _ in range(100):
                with replacing(Path(sys.argv[1])) as file:
                    for _ in range(100):
                        file.write(sys.argv[2].encode() * 1000)
            """,
            path,
            number,
        )
        for number in range(1, 4)
    ]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        content = path.read_bytes()
        assert len(content) == 100_000
        assert len(set(content)) == 1
        seen.add(content[0])
    assert [writer.communicate() for writer in writers] == [("", "")] * 3
    assert len(seen) > 1
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("target", ["file", "nowhere", "folder"])
def test_a_link_in_the_place_of_the_file_is_replaced_and_not_followed(target, tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / target)
    write(link)
    assert not link.is_symlink()
    assert link.read_bytes() == b"new"
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "link"]


def test_planted_names_of_temporary_files_are_not_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    tokens = ["0" * 16, "1" * 16, "2" * 16]
    (tmp_path / f".file-{tokens[0]}.tmp").symlink_to(victim)
    (tmp_path / f".file-{tokens[1]}.tmp").symlink_to(tmp_path / "nowhere")
    monkeypatch.setattr(files.secrets, "token_hex", lambda size: tokens.pop(0))
    write(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert victim.read_bytes() == b"mine"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("open_it", [appending, lambda path: locked(path, "held")], ids=["append", "lock"])
@pytest.mark.parametrize("target", ["victim", "nowhere"])
def test_what_is_opened_in_its_place_is_never_behind_a_link(target, open_it, tmp_path):
    (tmp_path / "victim").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / target)
    with pytest.raises(UsageError, match="link' is a link, which is not followed"), open_it(tmp_path / "link"):
        pass
    assert (tmp_path / "victim").read_bytes() == b"mine"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("through_link", [False, True])
def test_devices_and_pipes_are_refused_and_stay(through_link, tmp_path):
    pipe = path = tmp_path / "pipe"
    os.mkfifo(pipe)
    if through_link:
        path = tmp_path / "link"
        path.symlink_to(pipe)
    for attempt in (lambda: write(path), lambda: check_place(path)):
        with pytest.raises(UsageError, match="it is a device or a pipe; name another"):
            attempt()
    with pytest.raises((UsageError, OSError)), appending(path):  # without waiting for a reader
        pass
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    with pytest.raises(UsageError, match="no file can be written to '/dev/null': it is a device"):
        write(Path(os.devnull))


def test_a_folder_is_refused_by_its_own_name(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"Is a directory: '.*/folder'$"):
        write(tmp_path / "folder")
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*/no/file'$"):
        write(tmp_path / "no" / "file")
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_any_new_file_or_of_the_one_before(umask, tmp_path):
    before = os.umask(umask)
    try:
        write(tmp_path / "new")
        with appending(tmp_path / "lines"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o666 & ~umask
    assert stat.S_IMODE((tmp_path / "lines").stat().st_mode) == 0o666 & ~umask
    (tmp_path / "new").chmod(0o640)
    write(tmp_path / "new")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_names_as_long_as_they_can_be_and_of_any_letters(tmp_path):
    for name in ("x" * 255, "θ" * 127, "[a]*?", "a\nb", os.fsdecode(b"\xff\xfe")):
        for content in (b"1", b"2"):
            write(tmp_path / name, content)
        assert (tmp_path / name).read_bytes() == b"2"
    assert len(os.listdir(tmp_path)) == 5


@LOCKS
def test_what_a_killed_writer_leaves_is_cleared_away_and_what_a_living_one_writes_is_not(tmp_path):
    path = tmp_path / "file"
    writer = program(
        """
        with replacing(Path(sys.argv[1])) as file:
            file.write(b"half")
            print("writing", flush=True)
            sys.stdin.readline()
        """,
        path,
        stdin=subprocess.PIPE,
    )
    assert writer.stdout.readline() == "writing\n"
    write(path)
    assert len(os.listdir(tmp_path)) == 2
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    assert len(os.listdir(tmp_path)) == 2
    (tmp_path / ".file-mine.tmp").write_bytes(b"")
    write(path)
    assert sorted(os.listdir(tmp_path)) == [".file-mine.tmp", "file"]


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, PermissionError(errno.EACCES, "Permission denied")])
def test_a_writer_that_fails_leaves_what_was_there(where, error, tmp_path, monkeypatch):
    def fail(*_):
        raise error

    path = tmp_path / "file"
    write(path, b"old")
    if where != "write":
        monkeypatch.setattr(os, where, fail)
    with pytest.raises(error if isinstance(error, type) else type(error)), replacing(path) as file:
        fail() if where == "write" else file.write(b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_sentence(code, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(code, os.strerror(code))

    write(tmp_path / "file", b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match=r"^no space left on the disk for '.*/file'; what it held is kept"):
        write(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_is_really_full(tmp_path, monkeypatch):
    class Full:
        """A temporary file on a full disk."""

        name = str(tmp_path / ".file-0.tmp")

        def __init__(self):
            self._file = open("/dev/full", "wb")  # noqa: SIM115 (closed below)

        def __getattr__(self, name):
            return getattr(self._file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._file.close()

    write(tmp_path / "file", b"old")
    monkeypatch.setattr(files, "_temporary", lambda path: Full())
    with pytest.raises(MachineError, match="no space left on the disk"):
        write(tmp_path / "file", b"x" * 1_000_000)
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.parametrize("kind", ["replacing", "appending"])
def test_a_limit_on_the_size_of_files_is_one_sentence_and_keeps_the_file(kind, tmp_path):
    pytest.importorskip("resource")
    path = tmp_path / "file"
    write(path, b"old")
    done = program(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            with full_disk_named(Path(sys.argv[1])), globals()[sys.argv[2]](Path(sys.argv[1])) as file:
                file.write(b"x" * 100_000)
        except OSError as error:
            print(error)
        """,
        path,
        kind,
    )
    assert done.communicate() == (
        f"'{path}' would be larger than this system allows; raise the limit (ulimit -f)\n",
        "",
    )
    assert path.read_bytes().startswith(b"old")
    assert kind == "appending" or path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_cannot_be_written_to_is_named_by_the_file_asked_for(tmp_path):
    done = program(
        """
        os.chdir(sys.argv[1])
        os.chmod(".", 0o555)
        if os.geteuid() == 0:  # to whom nothing is forbidden
            os.setuid(65534)
        for attempt in (replacing, appending, lambda path: locked(path, "held")):
            try:
                with attempt(Path("file")):
                    pass
            except PermissionError as error:
                print(error)
        """,
        tmp_path,
    )
    assert done.communicate() == ("[Errno 13] Permission denied: 'file'\n" * 3, "")
    tmp_path.chmod(0o755)
    assert os.listdir(tmp_path) == []


def test_file_and_folder_are_brought_to_the_disk_in_this_order(tmp_path, monkeypatch):
    calls = []
    real_sync, real_replace = os.fsync, os.replace

    def fsync(descriptor):
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_sync(descriptor)

    def replace(*names):
        calls.append("replace")
        real_replace(*names)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write(tmp_path / "file")
    assert calls == ["file", "replace", "folder"]
    calls.clear()
    for _ in range(2):
        with appending(tmp_path / "lines") as file:
            file.write(b"line\n")
    assert calls == ["file", "folder", "file"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_file_systems_that_sync_no_folders_are_no_hindrance(code, tmp_path, monkeypatch):
    real = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("links", [True, False])
def test_the_file_that_is_replaced_can_be_kept(links, tmp_path, monkeypatch):
    def refused(*_, **__):
        raise OSError(errno.EPERM, "no hard links here")

    if not links:
        monkeypatch.setattr(os, "link", refused)
    path, previous = tmp_path / "file", tmp_path / "previous"
    for number in range(4):
        with replacing(path, previous=previous) as file:
            file.write(b"%d" % number)
        assert path.read_bytes() == b"%d" % number
        assert previous.exists() == (number > 0)
        if number:
            assert previous.read_bytes() == b"%d" % (number - 1)
        assert len(os.listdir(tmp_path)) == 1 + (number > 0)


@pytest.mark.parametrize("call", [1, 2])
def test_an_end_while_files_change_places_loses_neither(call, tmp_path, monkeypatch):
    path, previous = tmp_path / "file", tmp_path / "previous"
    for content in (b"1", b"2"):
        with replacing(path, previous=previous) as file:
            file.write(content)
    real, calls = os.replace, []

    def stopping(*names):
        calls.append(names)
        if len(calls) == call:
            raise KeyboardInterrupt
        real(*names)

    monkeypatch.setattr(os, "replace", stopping)
    with pytest.raises(KeyboardInterrupt), replacing(path, previous=previous) as file:
        file.write(b"3")
    monkeypatch.undo()
    assert path.read_bytes() == b"2"
    assert previous.read_bytes() == (b"1" if call == 1 else b"2")
    with replacing(path, previous=previous) as file:
        file.write(b"3")
    assert (path.read_bytes(), previous.read_bytes()) == (b"3", b"2")
    assert len(os.listdir(tmp_path)) == 2


@LOCKS
def test_a_lock_is_held_by_one_process_and_freed_by_its_death(tmp_path):
    for path in (tmp_path, tmp_path / ".lock"):
        holder = program(
            "with locked(Path(sys.argv[1]), 'x'): print('held', flush=True); time.sleep(60)",
            path,
        )
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="held by another"), locked(path, "held by another"):
            pass
        holder.kill()
        holder.communicate()
        with locked(path, "held by another"):
            pass


def test_where_there_are_no_locks_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    with locked(tmp_path / ".lock", "x"), locked(tmp_path / ".lock", "x"):
        write(tmp_path / "file")
    assert sorted(os.listdir(tmp_path)) == [".lock", "file"]


def test_other_errors_keep_their_own_name(tmp_path):
    with pytest.raises(PermissionError, match="Operation not permitted: 'theirs'"), full_disk_named(tmp_path):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), "theirs")
    with pytest.raises(FileNotFoundError, match="theirs"), replacing(tmp_path / "file"):
        raise FileNotFoundError(errno.ENOENT, "gone", "theirs")


# What opens files for writing elsewhere than in files.py, and why it may.
ELSEWHERE = {
    "train/board.py": {"open"},  # an event file, in its place from the first: TensorBoard reads it while it grows
    "terminal.py": {"open"},  # /dev/null, in the place of what is closed
    "engine/build.py": {"replace"},  # what the compiler has written into a folder of its own
}
WRITING = {"write_text", "write_bytes", "touch", "save_file", "rename", "to_json", "NamedTemporaryFile", "mkstemp"}


def writes(tree):
    """Yield the names of calls by which a module writes files."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        words = [a.value for a in [*node.args, *(k.value for k in node.keywords)] if isinstance(a, ast.Constant)]
        if name in WRITING or (name == "open" and any(isinstance(w, str) and set(w) & set("wax+") for w in words[:2])):
            yield name
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        if isinstance(owner, ast.Name) and owner.id == "os" and name in {"open", "replace", "fdopen", "link"}:
            yield name


def test_every_file_is_written_by_the_one_writer():
    root = Path(synaprune.__file__).parent
    found = {}
    for path in root.glob("**/*.py"):
        names = set(writes(ast.parse(path.read_text(encoding="utf-8"))))
        if names and path != root / "files.py":
            found[str(path.relative_to(root))] = names
    assert found == ELSEWHERE
