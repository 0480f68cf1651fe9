import grp
import logging
import multiprocessing
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from builds import plant, runs

from synaprune.engine import build
from synaprune.engine.trust import doubt_of_file, doubt_of_folder
from synaprune.errors import MachineError

pytestmark = pytest.mark.usefixtures("quickly_compiled")
NOBODY = 65534


@pytest.fixture
def own_group(monkeypatch):
    """Let this process's group be one that has the user's name and these members."""

    def make(members=(), name=None):
        user = pwd.getpwuid(os.geteuid())
        entry = grp.struct_group((name or user.pw_name, "x", user.pw_gid, list(members)))
        monkeypatch.setattr(grp, "getgrgid", lambda group: entry)

    return make


def test_folders_above_may_be_open_to_the_users_own_group(tmp_path, own_group):
    (tmp_path / "a" / "b").mkdir(parents=True, mode=0o700)
    os.chown(tmp_path / "a", -1, pwd.getpwuid(os.geteuid()).pw_gid)
    (tmp_path / "a").chmod(0o770)
    own_group()
    assert doubt_of_folder(tmp_path / "a" / "b") is None
    assert doubt_of_folder(tmp_path / "a") == f"others can write to '{tmp_path}/a'"
    own_group(members=[pwd.getpwuid(os.geteuid()).pw_name])
    assert doubt_of_folder(tmp_path / "a" / "b") is None
    for group in ({"members": ["mallory"]}, {"name": "staff"}):
        own_group(**group)
        assert doubt_of_folder(tmp_path / "a" / "b") == f"others can write to '{tmp_path}/a'"


def test_nothing_is_made_where_others_could_put_something(tmp_path):
    tmp_path.chmod(0o777)
    assert doubt_of_folder(tmp_path / "a" / "b") == f"others can write to '{tmp_path}'"
    assert not list(tmp_path.iterdir())


def test_folders_are_made_for_the_user_alone(tmp_path):
    before = os.umask(0)
    try:
        assert doubt_of_folder(tmp_path / "a" / "b") is None
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b")] == [0o700] * 2


def test_files(tmp_path):
    (tmp_path / "file").touch(mode=0o600)
    assert doubt_of_file(tmp_path / "file") is None
    (tmp_path / "file").chmod(0o620)
    assert doubt_of_file(tmp_path / "file") == f"others can write to '{tmp_path}/file'"
    assert doubt_of_folder(tmp_path / "file") == f"'{tmp_path}/file' is no folder"
    assert doubt_of_file(tmp_path) == f"'{tmp_path}' is no plain file"
    with pytest.raises(FileNotFoundError):
        doubt_of_file(tmp_path / "none")


# Nothing that others could have put into the cache is loaded.

MARK = """
#include <stdio.h>
#include <stdlib.h>
__attribute__((constructor)) static void planted(void) { fclose(fopen(getenv("PLANTED"), "w")); }
"""


@pytest.fixture
def below(tmp_path, monkeypatch):
    """A folder whose `cache` is the cache, and a place for the mark of what is planted."""
    (tmp_path / "a").mkdir(mode=0o700)
    monkeypatch.setenv("SYNAPRUNE_CACHE", str(tmp_path / "a" / "cache"))
    monkeypatch.setenv("PLANTED", str(tmp_path / "mark"))
    build.library.cache_clear()
    yield tmp_path / "a"
    build.library.cache_clear()


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A library that leaves a mark where it is loaded."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "planted.c").write_text(MARK)
    subprocess.run(
        [*build.compiler(), "-shared", "-fPIC", "-o", folder / "planted.so", folder / "planted.c"], check=True
    )
    return folder / "planted.so"


def given_away(*paths):
    if os.geteuid() != 0:
        pytest.skip("only root can give files to another user")
    for path in paths:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


OPEN = {  # what is wrong with a cache at tmp_path / "a" / "cache"
    "open to all": lambda a: (a / "cache").chmod(0o777),
    "open to a group": lambda a: (a / "cache").chmod(0o770),
    "open to all and sticky": lambda a: (a / "cache").chmod(0o1777),
    "another user's": lambda a: given_away(a / "cache"),
    "below one that is open to all": lambda a: a.chmod(0o777),
    "below another user's": lambda a: given_away(a),
    "behind another user's link": lambda a: linked(a, foreign=True),
    "behind a link to what is open": lambda a: (linked(a), (a / "elsewhere").chmod(0o777)),
}


def linked(a, foreign=False):
    (a / "cache").rename(a / "elsewhere")
    (a / "cache").symlink_to("elsewhere")
    if foreign:
        given_away(a / "cache")


def test_what_is_planted_in_a_cache_of_ones_own_would_run(below, planted, compiled, tmp_path):
    plant(planted, below / "cache", compiled)
    build.library()
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("fault", OPEN)
def test_a_cache_that_others_could_write_to_is_not_used(fault, below, planted, compiled, tmp_path, caplog):
    plant(planted, below / "cache", compiled)
    before = list((below / "cache").iterdir())
    OPEN[fault](below)
    assert runs()
    assert not (tmp_path / "mark").exists()
    assert list((below / "cache").iterdir()) == before
    (message,) = caplog.messages
    assert re.fullmatch(
        r"the cache of compiled code is not used: ('\S+' belongs to another user|others can write to '\S+'); the engine"
        r" is compiled anew for this process alone, unless SYNAPRUNE_CACHE names a folder that you alone can write to",
        message,
    )


FOREIGN = {
    "another user's": given_away,
    "open to all": lambda path: path.chmod(0o777),
    "open to a group": lambda path: path.chmod(0o770),
    "a link": lambda path: path.symlink_to(path.rename(path.parents[1] / "planted.so")),
}


@pytest.mark.parametrize("fault", FOREIGN)
def test_a_library_that_others_could_write_to_is_replaced(fault, below, planted, compiled, tmp_path, caplog):
    place = plant(planted, below / "cache", compiled)
    FOREIGN[fault](place)
    assert runs()
    assert not (tmp_path / "mark").exists()
    assert [path.name for path in (below / "cache").iterdir()] == [compiled.name]
    assert len(caplog.messages) == 1
    assert "compiled anew" in caplog.text


USED = {
    "missing": lambda a: shutil.rmtree(a / "cache"),
    "below missing ones": lambda a: shutil.rmtree(a),
    "below one that is open to all and sticky": lambda a: a.chmod(0o1777),
    "behind a link of one's own": linked,
    "behind a link to nothing": lambda a: (linked(a), shutil.rmtree(a / "elsewhere")),
    "behind two dots": lambda a: os.environ.update(SYNAPRUNE_CACHE=f"{a}/cache/../cache"),
    "open to be read": lambda a: (a / "cache").chmod(0o755),
}


@pytest.mark.parametrize("how", USED)
@pytest.mark.parametrize("umask", [0o022, 0o000, 0o077])
def test_a_cache_that_is_used(how, umask, below, compiled, caplog):
    plant(compiled, below / "cache", compiled)
    before = os.umask(umask)
    try:
        USED[how](below)
        for _ in range(2):
            build.library.cache_clear()
            assert runs()
    finally:
        os.umask(before)
    cache = below / "cache"
    assert [path.name for path in cache.iterdir()] == [compiled.name]
    assert not (cache / compiled.name).stat().st_mode & 0o022
    assert not cache.stat().st_mode & 0o022
    assert not caplog.messages


def test_a_relative_cache(below, compiled, monkeypatch):
    (below / "cache").mkdir(mode=0o700)
    monkeypatch.chdir(below / "cache")
    monkeypatch.setenv("SYNAPRUNE_CACHE", ".")
    for _ in range(2):
        build.library.cache_clear()
        assert runs()
    assert [path.name for path in (below / "cache").iterdir()] == [compiled.name]


UNREACHABLE = {
    "a file above": lambda a: (a / "file", (a / "file").touch())[0] / "cache",
    "a file": lambda a: (a / "file", (a / "file").touch())[0],
    "a system's folder": lambda a: Path("/proc/synaprune"),
    "a link to itself": lambda a: (a / "self", (a / "self").symlink_to("self"))[0],
    "a name that is too long": lambda a: a / ("x" * 300),
}


@pytest.mark.parametrize("why", UNREACHABLE)
def test_a_cache_that_cannot_be_made(why, below, monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("SYNAPRUNE_CACHE", str(UNREACHABLE[why](below)))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert runs()
    assert len(caplog.messages) == 1
    assert "the cache of compiled code is not used: " in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["a"]  # the temporary folder is gone


def test_no_folder_at_all(below, monkeypatch):
    monkeypatch.setenv("SYNAPRUNE_CACHE", "/proc/synaprune")
    monkeypatch.setattr(tempfile, "tempdir", "/proc/none")
    with pytest.raises(MachineError, match=r"cannot be compiled: .*; name a folder with SYNAPRUNE_CACHE"):
        build.library()


def test_a_user_without_a_home(below, monkeypatch, caplog):
    def none():
        raise RuntimeError("Could not determine home directory.")

    for name in ("SYNAPRUNE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", none)
    assert runs()
    assert "home directory" in caplog.text


def _as_nobody(results):
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    with_messages, messages = logging.Handler(), []
    with_messages.emit = lambda record: messages.append(record.getMessage())
    build.log.addHandler(with_messages)
    results.put((build.library()._name, messages))


@pytest.mark.parametrize("filled", [True, False])
def test_a_cache_of_the_system(filled, compiled, monkeypatch):
    """Another user runs what root has compiled, and compiles for himself what root has not."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    cache = Path(tempfile.mkdtemp(prefix="synaprune-test-"))
    monkeypatch.setenv("SYNAPRUNE_CACHE", str(cache))
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    build.library.cache_clear()
    try:
        if filled:
            plant(compiled, cache, compiled).chmod(0o755)
        cache.chmod(0o755)
        context = multiprocessing.get_context("fork")
        results = context.Queue()
        process = context.Process(target=_as_nobody, args=(results,))
        process.start()
        name, messages = results.get(timeout=60)
        process.join()
        assert (name == str(cache / compiled.name)) is filled
        assert [message.partition(":")[0] for message in messages] == ["the cache of compiled code is not used"][
            filled:
        ]
        assert len(list(cache.iterdir())) == filled
    finally:
        shutil.rmtree(cache)
