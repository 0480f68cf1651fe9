"""Settings in words, and from words."""

from __future__ import annotations

from typing import Any

import pytest

from synaprune.errors import UsageError
from synaprune.train.fields import convert, expected, metavar, switch
from synaprune.train.settings import FIELDS


def test_in_words() -> None:
    assert expected(FIELDS["dropout"]) == "a number of at least 0 and below 1"
    assert expected(FIELDS["levels"]) == "a list of numbers above 0 and below 1 or none"
    assert [metavar(FIELDS[name]) for name in ("model", "width", "alpha")] == ["{cnn,mlp}", "N", "X"]
    assert [name for name, field in FIELDS.items() if switch(field)] == ["gated", "compile", "recompute"]


@pytest.mark.parametrize(
    ("name", "word", "value"),
    [
        ("lr", "1e-2", 0.01),
        ("alpha", "auto", "auto"),
        ("sparsity", "none", None),
        ("compile", "true", True),
        ("exclude", "fc1, fc2", ("fc1", "fc2")),
        ("levels", "0.9,0.95", (0.9, 0.95)),
    ],
)
def test_from_words(name: str, word: str, value: Any) -> None:
    assert convert(FIELDS[name], word) == value


@pytest.mark.parametrize(
    ("name", "word"),
    [("lr", "nan"), ("epochs", 1.5), ("seed", True), ("lr", "many"), ("model", "cnm"), ("levels", "0,1")],
)
def test_words_that_say_nothing(name: str, word: Any) -> None:
    with pytest.raises(UsageError, match=f"setting '{name}' must be .*, not {word!r}"):
        convert(FIELDS[name], word)
