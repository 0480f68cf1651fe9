"""One file that holds all of a run's state: tensors in safetensors, everything else as JSON in its metadata.

Nothing in it can execute code, and it is replaced atomically: at every moment the path holds the previous
state or the new one, whole.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from synaprune.errors import UsageError
from synaprune.files import replacing

__all__ = ["FORMAT", "REMEDY", "check_model", "load", "pack", "save", "unpack"]

FORMAT = 1
"""Version of the file's layout; raised when older readers would misread a file."""

REMEDY = "give the folder of another run, or train anew"


def pack(tree: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """Split nested dicts, lists and tuples into plain data for JSON and tensors by name.

    What JSON cannot say is written as a one-key object: `{"$tensor": name}`, `{"$tuple": [...]}`,
    `{"$float": "inf"}`, and `{"$dict": [[key, value], ...]}` for dicts with other keys than strings.

    Raises:
        TypeError: something that is neither a tensor nor plain data.

    """
    tensors: dict[str, torch.Tensor] = {}
    storages: set[int] = set()

    def visit(node: Any, path: str) -> Any:
        if isinstance(node, torch.Tensor):
            while path in tensors:  # {"a/b": x, "a": {"b": y}}: the path is for the reader, any free one serves
                path += "'"
            tensor = node.detach().cpu().contiguous()
            storage = tensor.untyped_storage().data_ptr()
            # safetensors refuses tensors that share memory, as a view and its base do.
            tensors[path] = tensor.clone() if storage in storages else tensor
            storages.add(storage)
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


def unpack(plain: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
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


def save(state: Mapping[str, Any], path: Path) -> None:
    """Write nested `state` to `path`, atomically: a failure leaves the file that was there.

    Raises:
        MachineError: the disk is full.

    """
    plain, tensors = pack(state)
    text = json.dumps({"format": FORMAT, "state": plain}, allow_nan=False)
    content = safetensors.torch.save(tensors, metadata={"synaprune": text})
    with replacing(path) as file:
        file.write(content)


def load(path: Path) -> dict[str, Any]:
    """Return the nested state that `save` wrote, its tensors on the CPU.

    Raises:
        UsageError: a missing, truncated or foreign file, or one of a later version.
        OSError: a file that cannot be read at all.

    """
    try:
        path.open("rb").close()  # safetensors says of every file that cannot be opened that it is not there
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise UsageError(f"there is no checkpoint '{path}'; {REMEDY}") from error
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["synaprune"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        if header["format"] == FORMAT:
            return dict(unpack(header["state"], tensors))
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"'{path}' is no checkpoint of synaprune, or is cut short; {REMEDY}") from error
    raise UsageError(
        f"checkpoint '{path}' has format {header['format']}, this version of synaprune reads {FORMAT};"
        " use the version that wrote it"
    )


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
