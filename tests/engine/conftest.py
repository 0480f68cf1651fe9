import pytest


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory):
    """Compile into a folder of the tests' own."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SYNAPRUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()
