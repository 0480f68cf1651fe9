import pytest

from synaprune.engine import build


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory):
    """Compile into a folder of the tests' own."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SYNAPRUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def quickly_compiled():
    """Compile in half a second: for tests of how it is done."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "FLAGS", tuple("-O0" if flag == "-O3" else flag for flag in build.FLAGS))
        yield


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and nothing loaded."""
    monkeypatch.setenv("SYNAPRUNE_CACHE", str(tmp_path / "cache"))
    build.library.cache_clear()
    yield tmp_path / "cache"
    build.library.cache_clear()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory, quickly_compiled):
    """A library that was compiled into an empty cache."""
    folder = tmp_path_factory.mktemp("compiled") / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNAPRUNE_CACHE", str(folder))
        build.library.cache_clear()
        build.library()
        build.library.cache_clear()
    (library,) = folder.iterdir()
    return library
