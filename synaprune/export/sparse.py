"""A trained network in one small file: safetensors with the synapses that are left, everything else as JSON.

Of layer `i` of `synaprune.engine.graph.Network`, with `n` synapses:

| tensor     | type         | content                                                                 |
| ---------- | ------------ | ----------------------------------------------------------------------- |
| `i.code`   | U8           | positions of the synapses, in the code of `synaprune.export.rice`       |
| `i.values` | F32, F16, I8 | `[n]` weights, in the order of their positions                          |
| `i.scale`  | U16          | with I8: `[out]` factors of the output channels, as upper halves of F32 |
| `i.bias`   | F32          | `[out]`, if there is one                                                |

The metadata holds a JSON text under `synaprune`, and under `crc32` the checksum of it and of all tensors.
docs/file_format.md describes both. Nothing in a file can execute code; PyTorch is not needed to read it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors

from synaprune import __version__
from synaprune.engine.graph import LATER, Network
from synaprune.engine.layers import Conv, Linear, check_sizes
from synaprune.errors import UsageError, short
from synaprune.export import rice
from synaprune.export.values import check, from_stored, to_stored
from synaprune.files import check_place, readable, replacing
from synaprune.reading import from_json
from synaprune.tensorfile import Stored, checksum
from synaprune.tensorfile import write as write_tensors

if TYPE_CHECKING:
    from torch import nn

__all__ = ["FORMAT", "provenance", "read", "write"]

FORMAT = 2
"""Latest version of the file's layout. What the first one can say is written in it, for older readers."""

FORMATS = (1, FORMAT)
NAMES = {"uint8": "U8", "float32": "F32", "float16": "F16", "int8": "I8", "uint16": "U16"}  # NumPy's, safetensors'
DTYPES = {"code": ("U8",), "values": ("F32", "F16", "I8"), "scale": ("U16",), "bias": ("F32",)}
REMEDY = "export the network again"

Arrays = dict[str, np.ndarray]


def write(
    network: Network | nn.Module,
    path: str | os.PathLike[str],
    *,
    values: str = "fp32",
    provenance: Mapping[str, Any] | None = None,
    **form: Any,
) -> None:
    """Write a network to `path`, atomically: a failure leaves the file that was there.

    The same network and provenance give the same bytes. A synapse whose weight is rounded to 0 is left out.

    Args:
        network: what to write; a PyTorch model as `engine.from_torch` takes it.
        path: of the file.
        values: "fp32" keeps weights as they are, "fp16" rounds them, "int8" rounds them to multiples of the largest
            one in their output channel, divided by 127.
        provenance: where the network comes from, as plain data for JSON.
        form: of a model: `T`, `input_shape`, `coding`, `readout`, see `engine.from_torch`.

    Raises:
        UsageError: there are no such values, the model cannot be written, a weight is too large for them, or no file
            can be at `path`.
        MachineError: the disk is full.

    """
    check(values)
    if not isinstance(network, Network):
        from synaprune.engine.convert import from_torch  # which needs torch

        network = from_torch(network, **form)
    elif form:
        raise UsageError(f"{next(iter(form))} is part of the network already; leave it out")
    plain, arrays = network.plain()
    for index, layer in enumerate(network.layers):
        if isinstance(layer, Linear | Conv):
            stored, scale = to_stored(layer, values)
            left, name = np.flatnonzero(stored), f"{index}."
            positions = arrays.pop(name + "positions")[left].astype(np.int64)
            plain["layers"][index]["m"], arrays[name + "code"] = rice.encode(positions, prod(layer.weight.shape))
            arrays[name + "values"] = stored[left]
            if scale is not None:
                arrays[name + "scale"] = scale
    origin = {"synaprune": __version__, **(provenance or {})}
    text = json.dumps({"format": _format(plain["layers"]), "network": plain, "provenance": origin}, allow_nan=False)
    metadata = {"synaprune": text, "crc32": _checksum(text, arrays)}
    path = Path(path)
    check_place(path)
    content = {name: Stored(NAMES[array.dtype.name], array.shape, array) for name, array in arrays.items()}
    with replacing(path, remedy="free some space") as file:
        write_tensors(file, content, metadata)


def read(path: str | os.PathLike[str]) -> Network:
    """Return the network in the file, its weights as float32.

    Memory is taken in proportion to the size of the file, whatever it claims.

    Raises:
        UsageError: a missing, truncated, damaged or foreign file, or one of a later version.
        OSError: a file that cannot be read at all.

    """
    header, tensors = _open(Path(path))
    arrays: Arrays = {}
    try:
        plain = header["network"]
        for index, entry in enumerate(plain["layers"]):
            if "m" in entry:
                arrays |= _synapses(f"{index}.", entry, tensors)
        if tensors:
            raise UsageError(f"tensor {min(tensors)} belongs to no layer")
        return Network.from_plain(plain, arrays)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        fault = str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
        raise UsageError(f"'{path}' holds no network that synaprune can run: {fault[:200]}; {REMEDY}") from error


def provenance(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what `write` was told of where the network comes from; raises as `read`."""
    found = _open(Path(path))[0].get("provenance")
    if not isinstance(found, dict):
        raise UsageError(f"'{path}' does not say where its network comes from; {REMEDY}")
    return found


def _format(layers: Sequence[Mapping[str, Any]]) -> int:
    """Return the first format that knows all fields of the layers, and such an end."""
    last = max(index for index, layer in enumerate(layers) if layer["kind"] == "neuron")
    known = not any(layer.keys() & set(LATER) for layer in layers)
    return 1 if known and all(layer["kind"] == "vote" for layer in layers[last + 1 :]) else FORMAT


def _synapses(name: str, entry: dict[str, Any], tensors: Arrays) -> Arrays:
    """Take one layer's tensors out of `tensors`; return its positions, weights and bias."""
    shape, m = entry["shape"], entry.pop("m")
    if not isinstance(shape, list) or len(shape) > 4 or type(m) is not int:
        raise UsageError(f"layer {name[:-1]} has no shape, or no parameter of its code")
    check_sizes("the shape of the weights", shape)
    code, weights = tensors.pop(name + "code"), tensors.pop(name + "values")
    if code.ndim != 1 or weights.ndim != 1:
        raise UsageError(f"the tensors of layer {name[:-1]} are no lists of numbers")
    positions = rice.decode(code, m, len(weights), prod(shape))
    scale = tensors.pop(name + "scale") if weights.dtype == np.int8 else None
    arrays = {name + "positions": positions, name + "values": from_stored(weights, scale, positions, tuple(shape))}
    if name + "bias" in tensors:
        arrays[name + "bias"] = tensors.pop(name + "bias")
    return arrays


def _checksum(text: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Return the CRC-32 of the text and of all tensors: their names, types, shapes and bytes."""
    return checksum(text, ((f"{name} {a.dtype} {a.shape}", a.data) for name, a in sorted(arrays.items())))


def _open(path: Path) -> tuple[dict[str, Any], Arrays]:
    """Return the JSON object and the tensors of a file, as they were written."""
    if not path.is_file():
        raise UsageError(f"there is no file '{path}'; make one with synaprune export")
    try:
        # safetensors itself says of every file that cannot be opened that it is not there.
        with readable(path) as name, safetensors.safe_open(name, framework="np") as file:
            metadata = file.metadata() or {}
            header = from_json(metadata["synaprune"])
            if header["format"] in FORMATS and "state" not in header:
                arrays = {name: _tensor(file, name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (safetensors.SafetensorError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise UsageError(f"'{path}' is no sparse file of synaprune, or is cut short; {REMEDY}") from error
    if header["format"] not in FORMATS:
        raise UsageError(
            f"'{path}' has format {short(header['format'])}, this version of synaprune reads {FORMAT} and before;"
            " use the version that wrote it"
        )
    if "state" in header:
        raise UsageError(f"'{path}' is the checkpoint of a run; export the run")
    if metadata.get("crc32") != _checksum(metadata["synaprune"], arrays):
        raise UsageError(f"'{path}' is damaged: its checksum is another; {REMEDY}")
    return header, arrays


def _tensor(file: Any, name: str) -> np.ndarray:
    """Read one tensor if its type is among those that such a tensor can have."""
    if file.get_slice(name).get_dtype() not in DTYPES[name.partition(".")[2]]:
        raise UsageError(f"tensor {name} is of another type")
    return file.get_tensor(name)
