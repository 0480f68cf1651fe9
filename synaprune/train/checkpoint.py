"""One file that holds all of a run's state: tensors in safetensors, everything else as JSON in its metadata.

Nothing in it can execute code, and it is replaced atomically: at every moment the path holds the previous
state or the new one, whole. A checksum finds what a disk or a copy has changed since.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from synaprune.errors import UsageError, short
from synaprune.files import readable, replacing
from synaprune.reading import Fault, check_regular, from_json
from synaprune.tensorfile import Stored, checksum, write
from synaprune.train.memory import memory_for

__all__ = ["FORMAT", "REMEDY", "DamagedError", "check_model", "load", "pack", "save", "unpack"]

FORMAT = 1
"""Version of the file's layout; raised when older readers would misread a file."""

REMEDY = "give the folder of another run, or train anew"

SUM = "crc32"
# By the names that safetensors has for them.
TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}
NAMES = {dtype: name for name, dtype in TYPES.items()}
# What reading something else may raise.
NOT_OURS = (safetensors.SafetensorError, LookupError, TypeError, ValueError)


class DamagedError(UsageError):
    """A checkpoint that is lost, cut short, or changed since it was written; `fault` says which, without a remedy."""

    def __init__(self, fault: str, remedy: str = REMEDY) -> None:
        super().__init__("; ".join(filter(None, (fault, remedy))))
        self.fault = fault


def pack(tree: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """Split nested dicts, lists and tuples into plain data for JSON and tensors by name.

    What JSON cannot say is written as a one-key object: `{"$tensor": name}`, `{"$tuple": [...]}`,
    `{"$float": "inf"}`, and `{"$dict": [[key, value], ...]}` for dicts with other keys than strings.

    Raises:
        TypeError: something that is neither a tensor nor plain data.

    """
    tensors: dict[str, torch.Tensor] = {}

    def visit(node: Any, path: str) -> Any:
        if isinstance(node, torch.Tensor) and node.dtype in NAMES:
            while path in tensors:  # {"a/b": x, "a": {"b": y}}: the path is for the reader, any free one serves
                path += "'"
            tensors[path] = node.detach().cpu().contiguous()
            return {"$tensor": path}
        if isinstance(node, Mapping):
            items = [(key, visit(value, f"{path}/{key}".lstrip("/"))) for key, value in node.items()]
            if all(isinstance(key, str) and not key.startswith("$") for key, _ in items):
                return dict(items)
            return {"$dict": [[visit(key, path), value] for key, value in items]}
        if isinstance(node, list | tuple):
            values = [visit(value, f"{path}/{index}") for index, value in enumerate(node)]
            return {"$tuple": values} if isinstance(node, tuple) else values
        if isinstance(node, float) and not math.isfinite(node):
            return {"$float": repr(node)}
        if node is None or isinstance(node, str | bool | int | float):
            return node
        raise TypeError(f"cannot save {path!r}: {type(node).__name__} is neither a tensor nor plain data")

    return visit(tree, ""), tensors


def unpack(plain: Any, tensors: Mapping[str, torch.Tensor | None]) -> Any:
    """Join what `pack` has split."""
    if isinstance(plain, list):
        return [unpack(value, tensors) for value in plain]
    if not isinstance(plain, dict):
        return plain
    match plain:
        case {"$tensor": name}:
            return tensors[name]
        case {"$tuple": values}:
            return tuple(unpack(value, tensors) for value in values)
        case {"$float": text}:
            return float(text)
        case {"$dict": items}:
            return {unpack(key, tensors): unpack(value, tensors) for key, value in items}
    return {key: unpack(value, tensors) for key, value in plain.items()}


def save(state: Mapping[str, Any], path: Path, previous: Path | None = None) -> None:
    """Write nested `state` to `path`, atomically: a failure leaves the file that was there.

    The file that is replaced is kept as `previous`, if that is given.

    Raises:
        MachineError: the disk or the memory is full.

    """
    with memory_for(f"the checkpoint '{path}'"):
        plain, tensors = pack(state)
        text = json.dumps({"format": FORMAT, "state": plain}, allow_nan=False)
        content = {
            name: Stored(NAMES[tensor.dtype], tuple(tensor.shape), _bytes(tensor)) for name, tensor in tensors.items()
        }
        metadata = {"synaprune": text, SUM: checksum(text, (_part(name, tensors[name]) for name in sorted(tensors)))}
        with replacing(path, previous=previous) as file:
            write(file, content, metadata)


def load(path: Path, only: Callable[[str], bool] | None = None) -> dict[str, Any]:
    """Return the nested state that `save` wrote, its tensors on the CPU.

    Args:
        path: of the file.
        only: which tensors to return, by path such as `model/fc1.weight`, if not all; others are None, and take no
            memory.

    Raises:
        DamagedError: a missing, truncated, changed or foreign file. Where an older version has written no checksum,
            only the form is checked.
        UsageError: a file of a later version.
        OSError: a file that cannot be read at all.

    """
    try:
        with memory_for(f"the checkpoint '{path}'"):
            metadata, tensors, found = _read(path, only)
        text = metadata["synaprune"]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DamagedError(f"there is no checkpoint '{path}'") from error
    except Fault as fault:
        raise DamagedError(f"there is no checkpoint '{path}': it {fault}") from fault
    except NOT_OURS as error:
        raise DamagedError(f"'{path}' is no checkpoint of synaprune, or is cut short") from error
    if metadata.get(SUM, found) != found:
        raise DamagedError(f"checkpoint '{path}' is damaged: its checksum is another")
    try:
        header = from_json(text)
        if header["format"] == FORMAT and metadata.keys() <= {"synaprune", SUM}:  # none hides behind a damaged key
            return dict(unpack(header["state"], tensors))
    except NOT_OURS as error:
        raise DamagedError(f"'{path}' is no checkpoint of synaprune, or is cut short") from error
    if header["format"] == FORMAT:
        raise DamagedError(f"checkpoint '{path}' is damaged: its header is another")
    raise UsageError(
        f"checkpoint '{path}' has format {short(header['format'])}, this version of synaprune reads {FORMAT};"
        " use the version that wrote it"
    )


def _read(path: Path, only: Callable[[str], bool] | None) -> tuple[dict[str, str], dict[str, torch.Tensor | None], str]:
    """Return the texts and tensors of a file, and the checksum that they have."""
    tensors: dict[str, torch.Tensor | None] = {}

    def parts() -> Iterator[tuple[str, Any]]:
        for name in sorted(file.keys()):
            tensor = file.get_tensor(name)
            tensors[name] = tensor if only is None or only(name) else None
            yield _part(name, tensor)

    check_regular(path)
    # safetensors itself says of every file that cannot be opened that it is not there.
    with readable(path) as name, safetensors.safe_open(name, framework="pt") as file:
        metadata = file.metadata() or {}
        return metadata, tensors, checksum(metadata.get("synaprune", ""), parts())


def _part(name: str, tensor: torch.Tensor) -> tuple[str, Any]:
    """Return what the checksum is taken of: a tensor's name, type and shape, and its bytes."""
    return f"{name} {NAMES[tensor.dtype]} {tuple(tensor.shape)}", _bytes(tensor)


def _bytes(tensor: torch.Tensor) -> Any:
    """Return the memory of a tensor on the CPU."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy()


def check_model(model: torch.nn.Module, saved: Mapping[str, torch.Tensor], source: object) -> None:
    """Check that a saved `state_dict` fits a model.

    Raises:
        UsageError: it is of another model; the sentence names the first tensor that differs.

    """
    here = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    there = {name: tuple(tensor.shape) for name, tensor in saved.items()}
    for name in [*here, *there]:
        if here.get(name) != there.get(name):
            shapes = [str(shapes.get(name, "absent")) for shapes in (there, here)]
            raise UsageError(
                f"checkpoint '{source}' is of another model: '{name}' is {shapes[0]} there, {shapes[1]} here;"
                " give the settings it was trained with"
            )
