"""Settings: one field, one type, one range, whether it comes from TOML, a flag, JSON or Python."""

from __future__ import annotations

import dataclasses
import json
import tomllib

import pytest

from synaprune.cli.parser import make_parser
from synaprune.data import DATASETS
from synaprune.errors import UsageError
from synaprune.models import MODELS
from synaprune.optim import METHODS
from synaprune.train.fields import expected, metavar, switch
from synaprune.train.settings import BUDGET, Settings

# For every setting a value that is not its default, as TOML writes it and as the command line does.
SAMPLES = {
    "task": ('"mnist"', "mnist"),
    "model": ('"cnn"', "cnn"),
    "width": ("32", "32"),
    "time_steps": ("4", "4"),
    "gain": ("3", "3"),
    "dropout": ("0.25", "0.25"),
    "method": ('"dense"', "dense"),
    "alpha": ("5e-2", "5e-2"),
    "beta": ("0.1", "0.1"),
    "threshold": ("2", "2"),
    "threshold_decay": ("1", "1"),
    "s_init": ("-10", "-10"),
    "gated": ("true", None),
    "temperature": ("1e-4", "1e-4"),
    "noise": ('"uniform"', "uniform"),
    "sparsity": ("0.9", "0.9"),
    "connectivity": ("0.02", "0.02"),
    "synapses": ("740", "740"),
    "allocation": ('"erk"', "erk"),
    "schedule": ('"linear"', "linear"),
    "schedule_pause": ("0.1", "0.1"),
    "schedule_flat": ("0.5", "0.5"),
    "levels": ("[0.5, 0.7]", "0.5,0.7"),
    "tail": ("2", "2"),
    "period": ("4", "4"),
    "floor": ("0.2", "0.2"),
    "drop": ("0.2", "0.2"),
    "drop_end": ("0.5", "0.5"),
    "growth": ('"random"', "random"),
    "initial": ("0.6", "0.6"),
    "exclude": ('["fc2.*", "conv1.*"]', "fc2.*, conv1.*"),
    "base": ('"SGD"', "SGD"),
    "lr": ("0.03", "0.03"),
    "weight_decay": ("0.0", "0"),
    "lr_schedule": ('"cosine"', "cosine"),
    "warmup": ("0.5", "0.5"),
    "batch_size": ("64", "64"),
    "epochs": ("60", "60"),
    "loss": ('"mse+ce"', "mse+ce"),
    "clip_grad": ("1", "1"),
    "augment": ("0.5", "0.5"),
    "augment_end": ("0.25", "0.25"),
    "fade_start": ("0.4", "0.4"),
    "fade_end": ("0.8", "0.8"),
    "holdout": ("100", "100"),
    "limit": ("1000", "1000"),
    "seed": ("7", "7"),
    "precision": ('"bf16"', "bf16"),
    "compile": ("true", None),
    "recompute": ("true", None),
    "device": ('"cpu"', "cpu"),
    "threads": ("1", "1"),
}
# What some settings need beside them to make sense.
COMPANIONS = {
    "dropout": {"model": "cnn"},
    "recompute": {"model": "cnn"},
    "augment": {"task": "mnist"},
    "augment_end": {"task": "mnist"},
    **{name: {"sparsity": 0.9} for name in BUDGET},
    "beta": {"method": "lats", "alpha": 0.1},
    "levels": {"sparsity": 0.9},
    "tail": {"sparsity": 0.9, "levels": [0.5]},
    "threshold": {"method": "stds"},
    "threshold_decay": {"method": "str"},
    "s_init": {"method": "str", "sparsity": 0.9},
    "gated": {"method": "stds", "sparsity": 0.9},
    "temperature": {"method": "deep_r", "sparsity": 0.9},
    "noise": {"method": "soft_deep_r", "sparsity": 0.9},
    **{name: {"method": "granet", "sparsity": 0.9} for name in ("drop", "drop_end", "growth", "initial")},
}


def test_samples_cover_every_setting():
    assert list(SAMPLES) == [field.name for field in dataclasses.fields(Settings)]


@pytest.mark.parametrize("name", SAMPLES)
def test_toml_flag_json_and_python_agree(name):
    toml, flag = SAMPLES[name]
    beside = COMPANIONS.get(name, {})
    value = tomllib.loads(f"{name} = {toml}")[name]
    from_toml = Settings.from_mapping({**beside, name: value})
    flags = ["--" + name.replace("_", "-"), *([] if flag is None else [flag])]
    options = vars(make_parser().parse_args(["train", "digits/grad_r", *flags]))
    assert Settings.from_mapping({**beside, name: options[name]}) == from_toml
    assert Settings.from_mapping(json.loads(json.dumps(from_toml.to_mapping()))) == from_toml
    name = "sparsity" if name == "connectivity" else name  # which it is kept as
    kinds = (getattr(from_toml, name), getattr(Settings(), name))
    assert kinds[0] != kinds[1]
    assert kinds[1] is None or type(kinds[0]) is type(kinds[1])


def test_every_flag_shows_its_help_and_default(capsys):
    with pytest.raises(SystemExit):
        make_parser().parse_args(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for field in dataclasses.fields(Settings):
        word = metavar(field)
        values = "" if word.startswith("{") else f" ({expected(field)})"
        assert f"{field.metadata['help']}{values} [" in shown.replace("- ", "-")
        assert switch(field) or f"--{field.name.replace('_', '-')} {word} " in shown


@pytest.mark.parametrize(("field", "known"), [("task", DATASETS), ("model", MODELS), ("method", METHODS)])
def test_choices_are_what_the_layers_offer(field, known):
    assert list(Settings.__dataclass_fields__[field].metadata["choices"]) == sorted(known)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("task", "minst", "must be cifar10, digits or mnist, not 'minst'; did you mean 'mnist'?"),
        ("width", 0, "must be a whole number of at least 1 and at most 1000000, not 0"),
        ("width", 2.5, "must be a whole number of at least 1 and at most 1000000, not 2.5"),
        ("width", True, "must be a whole number of at least 1 and at most 1000000, not True"),
        ("lr", 0, "must be a number above 0 and below 1e+30, not 0"),
        ("lr", "fast", "must be a number above 0 and below 1e+30, not 'fast'"),
        ("lr", float("nan"), "must be a number above 0 and below 1e+30, not nan"),
        ("lr", "inf", "must be a number above 0 and below 1e+30, not 'inf'"),
        ("lr", None, "must be a number above 0 and below 1e+30, not None"),
        ("alpha", -0.1, "must be a number of at least 0 and below 1e+30, auto or none, not -0.1"),
        (
            "alpha",
            "atuo",
            "must be a number of at least 0 and below 1e+30, auto or none, not 'atuo'; did you mean 'auto'?",
        ),
        ("sparsity", 1, "must be a number of at least 0 and below 1 or none, not 1"),
        ("dropout", 1.0, "must be a number of at least 0 and below 1, not 1.0"),
        ("augment", 1.5, "must be a number of at least 0 and at most 1, not 1.5"),
        ("exclude", [1], "must be a list of names, not [1]"),
        ("levels", [0.5, 1.0], "must be a list of numbers above 0 and below 1 or none, not [0.5, 1.0]"),
        ("levels", "a,b", "must be a list of numbers above 0 and below 1 or none, not 'a,b'"),
        ("compile", "yes", "must be true or false, not 'yes'"),
        ("compile", 1, "must be true or false, not 1"),
        ("seed", -1, "must be a whole number of at least 0 and below 9223372036854775808, not -1"),
        ("seed", 2**63, f"must be a whole number of at least 0 and below {2**63}, not {2**63}"),
        ("batch_size", 2_000_000, "must be a whole number of at least 1 and at most 1000000, not 2000000"),
        ("threads", 5000, "must be a whole number of at least 0 and at most 4096, not 5000"),
        ("epochs", 10**400, "must be a whole number of at least 1 and at most 1000000, not a number of 401 digits"),
        ("lr", 10**400, "must be a number above 0 and below 1e+30, not a number of 401 digits"),
        ("alpha", 1e30, "must be a number of at least 0 and below 1e+30, auto or none, not 1e+30"),
    ],
)
def test_a_bad_value_is_one_sentence(name, value, sentence):
    with pytest.raises(UsageError) as raised:
        Settings.from_mapping({name: value})
    assert str(raised.value) == f"setting '{name}' {sentence}"


@pytest.mark.parametrize(
    ("values", "culprit"),
    [
        ({"method": "dense", "alpha": 0.1}, "'alpha' belongs to methods deep_r, grad_r, lats and soft_deep_r"),
        ({"method": "dense", "sparsity": 0.9}, "'sparsity' belongs to methods deep_r, grad_r, granet, lats"),
        ({"method": "static", "sparsity": 0.9, "schedule": "cubic"}, "'schedule' belongs to methods grad_r, granet"),
        ({"method": "magnitude"}, "method magnitude needs a 'sparsity'"),
        ({"alpha": "auto"}, "'alpha' = auto needs a 'sparsity'"),
        ({"alpha": 0.1, "sparsity": 0.9, "schedule": "cubic"}, "'schedule' belongs to a budget"),
        ({"method": "deep_r", "sparsity": 0.9, "alpha": "auto"}, "give deep_r a number or none"),
        ({"method": "deep_r"}, "method deep_r needs a 'sparsity'"),
        ({"method": "deep_r", "sparsity": 0.9, "period": 4}, "'period' belongs to methods"),
        ({"method": "stds"}, "needs one of two: a 'threshold', how strongly it prunes, or a 'sparsity'"),
        ({"method": "str", "threshold_decay": 1.0, "sparsity": 0.9}, "needs one of two: a 'threshold_decay'"),
        ({"method": "lats", "alpha": 0.1, "schedule": "linear"}, "and lats no number for 'alpha'"),
        ({"method": "stds", "threshold": 1.0, "floor": 0.1}, "and stds no number for 'threshold'"),
        ({"levels": [0.5]}, "'levels' belongs to a budget"),
        ({"sparsity": 0.9, "levels": [0.95]}, r"must rise, not go \[0.95, 0.9\]"),
        ({"sparsity": 0.9, "levels": [0.5], "epochs": 5}, "must be a multiple of the 2 levels"),
        ({"sparsity": 0.9, "levels": [0.5], "schedule": "cubic"}, "leave out 'schedule'"),
        ({"sparsity": 0.9, "tail": 2}, "'tail' branches off at 'levels'"),
        ({"method": "set", "sparsity": 0.9, "levels": [0.5]}, "'levels' belongs to methods grad_r, lats, magnitude"),
        ({"period": 4}, "'period' belongs to a budget"),
        ({"sparsity": 0.9, "schedule_pause": 0.5, "schedule_flat": 0.5}, "leave no time"),
        ({"model": "mlp", "dropout": 0.5}, "'dropout' belongs to model cnn"),
        ({"task": "digits", "augment": 1.0}, "'augment' must be 0 for task digits"),
        ({"task": "digits", "augment_end": 1.0}, "'augment' must be 0 for task digits"),
        ({"fade_start": 0.8, "fade_end": 0.4}, r"'fade_start' \(0.8\) must not be above 'fade_end' \(0.4\)"),
        ({"warmup": 31.0}, r"'warmup' \(31.0\) must not be above 'epochs' \(30\)"),
    ],
)
def test_contradictions_are_refused(values, culprit):
    with pytest.raises(UsageError, match=culprit):
        Settings(**values)


def test_unknown_setting_names_the_nearest_and_its_source():
    with pytest.raises(UsageError) as raised:
        Settings.from_mapping({"bacth_size": 3}, source="recipe 'x'")
    assert str(raised.value) == "unknown setting 'bacth_size' in recipe 'x'; did you mean 'batch_size'?"


def test_difference_passes_over_what_a_resumed_run_may_change():
    assert Settings().difference(Settings(device="cpu", threads=1)) is None
    assert Settings().difference(Settings(epochs=31, threads=1)) == "epochs"
    assert Settings(exclude=("a",)).difference(Settings(exclude="a")) is None


@pytest.mark.parametrize("connectivity", [0.0073, 0.0225, 0.05, 0.1, 0.3, 1.0])
def test_a_connectivity_is_the_sparsity_that_one_would_write(connectivity):
    settings = Settings(connectivity=connectivity)
    assert settings == Settings(sparsity=float(f"{1 - connectivity:.6f}"))
    assert settings.budget


def test_a_budget_is_said_once():
    with pytest.raises(UsageError, match="settings 'sparsity' and 'synapses' both say how many synapses are left"):
        Settings(sparsity=0.9, synapses=740)
    with pytest.raises(UsageError, match="'levels' belongs to a budget; give a 'sparsity'"):
        Settings(synapses=740, levels=(0.5,))
    with pytest.raises(UsageError, match="method set needs a 'sparsity'"):
        Settings(method="set")
    assert Settings(method="set", synapses=740).budget
    assert Settings(method="stds", synapses=740).course == "cubic"
