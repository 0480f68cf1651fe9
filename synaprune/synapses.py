"""Which parameters of a module are synapses: by explicit rules, never by shape.

A two-dimensional parameter may be a neuron's own (the T×T time mixing of SpikingJelly's `PSN`), and a synapse
may belong to no torch layer (the recurrent weights of Norse's cells). So a rule names, for one module type,
which of its parameters connect a sending neuron or pixel to a receiving neuron. Rules are keyed by
the qualified class name and matched along the class's bases: subclasses follow their parent, and
a framework that is not installed costs nothing. What no rule knows is reported, not guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple, TypeVar

from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import prune

from synaprune.computed import Computed, computed_weights
from synaprune.errors import UsageError, nearest

__all__ = ["Synapse", "Synapses", "adopt_pruned", "find_synapses", "rules_for"]

Rule = TypeVar("Rule")
Module = TypeVar("Module", bound=nn.Module)

SYNAPSE = "synapse"
BIAS = "bias"
EMBEDDING = "embedding"
ENCODER = "encoder"
NEURON = "neuron parameter"
NORM = "normalisation"
STANDARDISED = "standardised before use, so that a zero here is no absent synapse"

# Qualified class name (glob) → name of its parameter (glob) → what it is; the first match counts.
# Globs in class names bridge versions that moved a class to another file. A pattern without a dot speaks
# of the module's own parameters only, one with dots of those of its children. Parameters with fewer than two
# dimensions (biases, batch normalisation, PReLU, decays, thresholds) are no synapses and need no rule.
RULES: dict[str, dict[str, str]] = {
    "torch.nn.modules.linear.Linear": {"weight": SYNAPSE},
    "torch.nn.modules.conv._ConvNd": {"weight": SYNAPSE},
    "torch.nn.modules.rnn.RNNBase": {"weight_[ih][hr]_*": SYNAPSE},
    "torch.nn.modules.rnn.RNNCellBase": {"weight_[ih]h": SYNAPSE},
    "torch.nn.modules.activation.MultiheadAttention": {"*_proj_weight": SYNAPSE, "bias_[kv]": BIAS},
    "torch.nn.modules.normalization.*": {"*": NORM},
    "torch.nn.modules.sparse.Embedding*": {"*": EMBEDDING},
    # SpikingJelly: most of its layers subclass those of torch.
    "spikingjelly.*.DropConnectLinear": {"weight": SYNAPSE},
    "spikingjelly.*.TDLinear": {"weight": SYNAPSE},
    "spikingjelly.*.TDConv2d": {"weight": SYNAPSE},
    "spikingjelly.*.TD*Norm": {"*": NORM},
    "spikingjelly.*.NeuNorm": {"*": NORM},
    "spikingjelly.*.WSConv2d": {"weight": STANDARDISED, "gain": NORM},
    "spikingjelly.*.WSLinear": {"weight": STANDARDISED, "gain": NORM},
    "spikingjelly.*.encoding.*": {"*": ENCODER},
    "spikingjelly.*.neuron.*": {"*": NEURON},
    # snnTorch: recurrences of its neurons are children (`recurrent`, `lstm_cell`, `conv`) with rules above.
    "snntorch.*.SpikingNeuron": {"*": NEURON},
    "snntorch.*.RecurrentOneToOne": {"*": NEURON},
    "snntorch.*.GradedSpikes": {"*": NEURON},
    # Their `rnn` is a trick: weight_hh is the diagonal matrix of the neurons' decays. With
    # weight_hh_enable=True it is a true recurrence, which nothing on the module tells: then include it.
    "snntorch.*.LeakyParallel": {"*": NEURON, "rnn.weight_hh_*": NEURON},
    "snntorch.*.LeakyKernel": {"*": NEURON, "rnn.weight_hh_*": NEURON},
    # Norse: the recurrent cells own their weights. g_coupling joins the compartments of one neuron.
    "norse.*.SNNRecurrent*": {"input_weights": SYNAPSE, "recurrent_weights": SYNAPSE, "g_coupling": NEURON},
    "norse.*.CobaLIFCell": {"input_weights": SYNAPSE, "recurrent_weights": SYNAPSE},
    "norse.*.LILinearCell": {"input_weights": SYNAPSE},
    "norse.*.receptive_field.*": {"*": ENCODER},
}


@dataclass(frozen=True, eq=False)
class Synapse:
    """One tensor of synapses: its dotted name, the type of the module it serves, the rule that chose it."""

    name: str
    parameter: nn.Parameter
    module: str
    rule: str


@dataclass(frozen=True, eq=False)
class Synapses:
    """The choice made by `find_synapses`; iterate over it, or print it as a table.

    Of the parameters with two or more dimensions, `excluded` holds (name, reason) of those that a rule or
    `exclude` keeps out, `unknown` (name, module type) of those that no rule knows and that are not counted.
    `computed` are synapses too, but no parameters: their modules make them of others. Measures count them,
    optimizers cannot rewire them.
    """

    chosen: tuple[Synapse, ...]
    excluded: tuple[tuple[str, str], ...]
    unknown: tuple[tuple[str, str], ...]
    computed: tuple[Computed, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Return the dotted names, as in `module.named_parameters()`."""
        return tuple(synapse.name for synapse in self.chosen)

    @property
    def parameters(self) -> tuple[nn.Parameter, ...]:
        """Return the tensors themselves, in the order of the names."""
        return tuple(synapse.parameter for synapse in self.chosen)

    def __iter__(self) -> Iterator[Synapse]:
        return iter(self.chosen)

    def __len__(self) -> int:
        return len(self.chosen)

    def __str__(self) -> str:
        rows = [("tensor", "shape", "module", "synapses")]
        for s in self.chosen:
            shape = " × ".join(str(size) for size in s.parameter.shape)
            rows.append((s.name, shape, s.module, f"{s.parameter.numel():,}"))
        rows.append(("total", "", "", f"{sum(p.numel() for p in self.parameters):,}"))
        wide = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [f"{a:<{wide[0]}}  {b:<{wide[1]}}  {c:<{wide[2]}}  {d:>{wide[3]}}" for a, b, c, d in rows]
        lines += [f"excluded: {name} ({reason})" for name, reason in self.excluded]
        lines += [
            f"unknown: {name} in {module}, not counted; include='{name}' makes it synapses"
            for name, module in self.unknown
        ]
        lines += [
            f"computed: {weight.name} by {weight.how}, counted but no parameter; {weight.remedy} makes it one"
            for weight in self.computed
        ]
        return "\n".join(lines)


def find_synapses(module: nn.Module, *, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> Synapses:
    """Return the parameters of `module` that are synapses, each tensor once however often it is used.

    `include` and `exclude` are glob patterns on dotted parameter names, with or without the prefix that
    `torch.compile` or `DataParallel` adds. `exclude` beats `include`, which beats the rules. Frozen tensors
    count. One that is also used where it is no synapse (an embedding tied to the output layer) does not.

    Raises `UsageError` for a pattern that matches nothing and for lazy layers without weights.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm([3]), nn.Linear(3, 2, bias=False))
    >>> print(find_synapses(net, exclude=["2.*"]))
    tensor    shape  module  synapses
    0.weight  3 × 4  Linear        12
    total                          12
    excluded: 2.weight (exclude='2.*')
    """
    include, exclude = _as_patterns(include), _as_patterns(exclude)
    modules = dict(module.named_modules(remove_duplicate=False))
    shared: dict[int, tuple[nn.Parameter, list[_Place]]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        place = _judge(name, modules)
        if is_lazy(parameter):
            raise UsageError(
                f"parameter '{name}' of {place.module} has no shape yet; run one batch through the network "
                "before its synapses are looked up"
            )
        shared.setdefault(id(parameter), (parameter, []))[1].append(place)
    made: dict[int, list[Computed]] = {}
    for weight in computed_weights(module):
        for source in weight.sources.values():
            made.setdefault(id(source), []).append(weight)
            shared[id(source)][1].insert(0, _judge(weight.name, modules))  # its rule is that of what is made of it
    aliases = [{alias for place in places for alias in _aliases(place.name)} for _, places in shared.values()]
    _refuse_strays("include", include, aliases, modules)
    _refuse_strays("exclude", exclude, aliases, modules)

    chosen: list[Synapse] = []
    excluded: list[tuple[str, str]] = []
    unknown: list[tuple[str, str]] = []
    computed: dict[Computed, bool] = {}  # whether it is counted as such, and not as what it is made of
    for (parameter, places), names in zip(shared.values(), aliases):
        name = places[0].name
        place = min(places, key=lambda place: (not place.kind, place.kind == SYNAPSE))
        large = parameter.ndim >= 2
        if barred := _matches(names, exclude):
            excluded += [(name, f"exclude='{barred}'")] * large
        elif id(parameter) in made and (place.kind == SYNAPSE or _matches(names, include)):
            weights = made[id(parameter)]
            behind = {alias for w in weights for key in w.sources if not w.pruned for alias in _aliases(key)}
            asked = _matches(names & behind, include)
            if asked:
                own = next(place.name for place in places if _aliases(place.name) & behind)
                chosen.append(Synapse(own, parameter, place.module, f"include='{asked}'"))
            computed |= {weight: computed.get(weight, True) and not asked for weight in weights}
        elif wanted := _matches(names, include):
            chosen.append(Synapse(name, parameter, place.module, f"include='{wanted}'"))
        elif place.kind == SYNAPSE:
            chosen.append(Synapse(name, parameter, place.module, place.rule))
        elif place.kind:
            excluded += [(name, f"{place.module}: {place.kind}")] * large
        else:
            unknown += [(name, place.module)] * large
    left_out, open_ = (tuple(dict.fromkeys(rows)) for rows in (excluded, unknown))  # one made of two is there twice
    return Synapses(tuple(chosen), left_out, open_, tuple(weight for weight, counts in computed.items() if counts))


def adopt_pruned(module: Module, *, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> Module:
    """Make parameters of the synapses that `torch.nn.utils.prune` has pruned, with 0 for each absent one.

    The network computes what it did before, its tensors stay the objects that they were, and any of our optimizers can
    take it from here: absent synapses begin absent, and may regrow. Biases and whatever else is no synapse stay pruned
    as they are; `include` and `exclude` are those of `find_synapses`. Returns the module.

    >>> net = adopt_pruned(prune.l1_unstructured(nn.Linear(4, 3), "weight", amount=0.5))
    >>> list(net.state_dict()), int((net.weight != 0).sum())
    (['bias', 'weight'], 6)

    Raises:
        UsageError: a pruned tensor is also used where it is not pruned, or by another mask; or none is pruned, but some
            are computed otherwise.
    """
    computed = find_synapses(module, include=include, exclude=exclude).computed
    pruned = [weight for weight in computed if weight.pruned]
    if computed and not pruned:
        raise UsageError(
            f"'{computed[0].name}' is not pruned, but computed by {computed[0].how}; {computed[0].remedy} makes it a "
            "parameter"
        )
    masked = {weight.owner: weight.value() for weight in pruned}
    for weight in pruned:
        (source,) = weight.sources.values()
        for name, other in module.named_modules():
            used = any(p is source for p in other._parameters.values())
            if used and not (other in masked and masked[other].equal(masked[weight.owner])):
                raise UsageError(
                    f"'{weight.name}' shares its values with '{name}', which does not prune them in the same way; "
                    "untie the two, or prune both by one mask"
                )
    for weight in pruned:
        prune.remove(weight.owner, weight.attribute)
    return module


def rules_for(cls: type, rules: Mapping[str, Rule]) -> Iterator[tuple[str, Rule]]:
    """Yield the (key, rule) pairs that apply to a class: those of the class itself first, then its bases'."""
    for base in cls.__mro__:
        qualified = f"{base.__module__}.{base.__qualname__}"
        yield from ((key, rule) for key, rule in rules.items() if fnmatchcase(qualified, key))


class _Place(NamedTuple):
    """One place where a parameter is used; kind and rule are empty where no rule knows it."""

    name: str
    module: str
    kind: str
    rule: str


def _judge(name: str, modules: Mapping[str, nn.Module]) -> _Place:
    """Apply the rules to one dotted parameter name, those of the outermost module first."""
    parts = name.split(".")
    owner = type(modules[".".join(parts[:-1])]).__name__
    for depth in range(len(parts)):
        local = ".".join(parts[depth:])
        for key, rule in rules_for(type(modules[".".join(parts[:depth])]), RULES):
            for pattern, kind in rule.items():
                if pattern.count(".") == local.count(".") and fnmatchcase(local, pattern):
                    return _Place(name, owner, kind, f"{key}: {pattern}")
    return _Place(name, owner, "", "")


def _aliases(name: str) -> set[str]:
    """Return the name as it is and as it was before a wrapper added its prefix."""
    return {name, name.replace("_orig_mod.", "").removeprefix("module.")}


def _as_patterns(patterns: Iterable[str]) -> tuple[str, ...]:
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)


def _matches(names: Iterable[str], patterns: Iterable[str]) -> str | None:
    """Return the first pattern that matches one of the names."""
    return next((pattern for pattern in patterns if any(fnmatchcase(n, pattern) for n in names)), None)


def _refuse_strays(option: str, patterns: Iterable[str], aliases: list[set[str]], layers: Iterable[str]) -> None:
    """Raise `UsageError` for a pattern that matches no parameter; a silent one would leave its user in error."""
    names = set().union(*aliases)
    for pattern in patterns:
        if not _matches(names, (pattern,)):
            whole = {f"{alias}.*" for layer in layers if layer for alias in _aliases(layer)}
            layer = f"; did you mean '{pattern}.*'?" if f"{pattern}.*" in whole else ""
            hint = layer or nearest(pattern, sorted(names | whole)) or "; print(find_synapses(module)) shows them"
            raise UsageError(f"{option}: no parameter's name matches '{pattern}'{hint}")
