"""Damage to files, drawn from a seeded generator: what accidents do to bytes, and what people and programs write.

A tree of plain values is mutated in one to three places and written as JSON, lines of JSON, TOML or the header of a
safetensors file; then, one time in four, the bytes are damaged too.
"""

from __future__ import annotations

import copy
import json
import math
import struct
import zlib

DEEP = (70, 300, 100_000)
SWAPS = [
    None, True, False, 0, 1, -1, 7, 0.5, -0.5, 2**31, 2**63, 2**64, -(2**70), 10**400, 1e30, 1e308, -1e308, 5e-324,
    math.nan, math.inf, -math.inf, "", "x", "0.5", "1", "none", "true", "auto", "x" * 5000, "\ud800", "\x00", "[/]",
    "\x1b[2J", "a\nb", "θ", "‮", "../..", [], [0], [None], ["grad_r", "set"], [[]], [1, "x"], [1e308] * 3, [0.5] * 3000,
    ["x" * 300] * 40, {}, {"": 0}, {"a": {"b": [1]}}, {"$tensor": "x"}, {"x" * 5000: 1},
]  # fmt: skip


class Raw(str):
    """A value that is written as it is, whatever the language makes of it."""


def tree(rng, value):
    """Return a copy of plain data with one to three places changed."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        places = list(_places(value))
        holder, key = rng.choice(places) if places else (None, None)
        if holder is None:
            return _swap(rng, value)
        way = rng.randrange(12)
        if way == 0:
            del holder[key]
        elif way == 1 and isinstance(holder, dict):
            holder[rng.choice(["x", "", "epoch", "lr", "seed", "θ", "y" * 3000, "\ud800", "[/]"])] = holder.pop(key)
        elif way == 2:
            holder[key] = [holder[key]] * rng.choice([1, 2, 500])
        elif way == 3:
            holder[key] = {"value": holder[key]}
        elif way == 4:
            others = [other[inner] for other, inner in places]
            holder[key] = copy.deepcopy(rng.choice(others))
        elif way == 5 and isinstance(holder[key], int | float) and math.isfinite(holder[key]):
            old = holder[key]
            holder[key] = rng.choice([-old, old + 1, str(old), [old], min(old, 1e9) * 1e9])
        else:
            holder[key] = _swap(rng, holder[key])
    return value


def _swap(rng, old):
    """Return something else, at times as deep as a file can say it."""
    if rng.random() < 0.04:
        depth = rng.choice(DEEP)
        return Raw("[" * depth + "]" * depth if rng.random() < 0.7 else '{"a":' * depth + "1" + "}" * depth)
    if rng.random() < 0.03:
        return Raw(rng.choice(["9" * 5000, "-" + "1" * 4000, "1e999", "0x10", "1_000", "+1", ".5", "nul", "'a'"]))
    return copy.deepcopy(rng.choice(SWAPS))


def _places(node):
    """Yield each place in nested data: what holds it, and its key there."""
    for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield node, key
        yield from _places(node[key])


def as_json(value, indent=None):
    """Return JSON, with `Raw` as it is; NaN and the like as Python writes them."""
    raws = []

    def marked(node):
        if isinstance(node, Raw):
            raws.append(node)
            return f"raw value {len(raws) - 1}"
        if isinstance(node, dict):
            return {key: marked(inner) for key, inner in node.items()}
        return [marked(inner) for inner in node] if isinstance(node, list) else node

    text = json.dumps(marked(value), indent=indent)
    for index, raw in enumerate(raws):
        text = text.replace(f'"raw value {index}"', raw)
    return text


def as_toml(value, tables=("settings", "points")):
    """Return TOML: plain keys first, then what is headed by `[…]` or `[[…]]`."""
    if not isinstance(value, dict):
        return f"value = {_toml(value)}\n"
    heads = {key: value[key] for key in tables if isinstance(value.get(key), dict | list) and value[key]}
    lines = [f"{_name(key)} = {_toml(inner)}" for key, inner in value.items() if key not in heads]
    for key, inner in heads.items():
        if isinstance(inner, list) and not all(isinstance(table, dict) for table in inner):
            lines.insert(0, f"{key} = {_toml(inner)}")
            continue
        for table in inner if isinstance(inner, list) else [inner]:
            lines.append(f"[[{key}]]" if isinstance(inner, list) else f"[{key}]")
            lines += [f"{_name(name)} = {_toml(entry)}" for name, entry in table.items()]
    return "\n".join(lines) + "\n"


def _name(key):
    return key if key.isidentifier() and key.isascii() else json.dumps(key)


def _toml(value):
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_name(key)} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value)  # null is none of TOML's words


def damaged(rng, content):
    """Return bytes that were cut, flipped, doubled, or saved by another program."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(len(content) + 1)
        match rng.randrange(9):
            case 0:
                del content[at:]
            case 1 if content:
                content[min(at, len(content) - 1)] ^= 1 << rng.randrange(8)
            case 2:
                content[at:at] = rng.choice([b"\xff", b"\0", b"\xed\xa0\x80", b"\r", b"\n", b",", b"{", b'"', b"\\"])
            case 3:
                content[:0] = rng.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\xef\xbb\xbf" * 2])
            case 4:
                end = min(len(content), at + rng.randrange(60))
                content[end:end] = content[at:end]  # names come twice
            case 5:
                del content[at : at + rng.randrange(1, 30)]
            case 6:
                content[at:] = bytes(len(content) - at)  # as after a power cut
            case 7:
                text = content.decode("utf-8", "replace")
                content = bytearray(text.encode(rng.choice(["utf-16", "utf-32", "utf-7"])))
            case _:
                content += rng.choice([b"\n", b"{}", b"\n\n", b"\0" * 4096, b"x"])
    return bytes(content)


def json_file(rng, value):
    """Return a damaged JSON file."""
    return _finished(rng, as_json(tree(rng, value), rng.choice([None, 1])).encode())


def toml_file(rng, value):
    """Return a damaged TOML file."""
    return _finished(rng, as_toml(tree(rng, value)).encode("utf-8", "surrogatepass"))


def lines_file(rng, values):
    """Return a damaged file of one JSON object per line."""
    lines = [as_json(value) for value in values]
    for _ in range(rng.choice([1, 1, 2])):
        at = rng.randrange(len(lines))
        match rng.randrange(8):
            case 0:
                del lines[at:]
            case 1:
                lines.insert(at, rng.choice(["", "x", "{}", "[]", lines[at]]))
            case 2:
                rng.shuffle(lines)
            case _:
                lines[at] = as_json(tree(rng, values[min(at, len(values) - 1)]))
        if not lines:
            break
    end = rng.choice(["\n", "\n", "\n", "", "\r\n"])
    return _finished(rng, "".join(f"{line}{end}" for line in lines).encode())


def safetensors_file(rng, content):
    """Return a file with a damaged header: its own, or the JSON within, with a checksum that fits, or without one."""
    size = struct.unpack("<Q", content[:8])[0]
    header, rest = json.loads(content[8 : 8 + size]), content[8 + size :]
    metadata = header["__metadata__"]
    way = rng.random()
    if way < 0.2:
        return damaged(rng, content)
    if way < 0.4:
        header = tree(rng, header)
    else:
        metadata["synaprune"] = as_json(tree(rng, json.loads(metadata["synaprune"])))
        if rng.random() < 0.2:
            metadata["synaprune"] = damaged(rng, metadata["synaprune"].encode()).decode("utf-8", "replace")
        metadata.pop("crc32")
        if rng.random() < 0.5:
            metadata["crc32"] = _checksum(metadata["synaprune"], header, rest)
    text = as_json(header).encode()
    return struct.pack("<Q", len(text)) + text + rest


def _checksum(text, header, rest):
    """Return the sum that a file of this content has; see `synaprune.tensorfile`."""
    crc = zlib.crc32(text.encode())
    for name in sorted(header.keys() - {"__metadata__"}):
        entry = header[name]
        begin, end = entry["data_offsets"]
        crc = zlib.crc32(f"{name} {entry['dtype']} {tuple(entry['shape'])}".encode(), crc)
        crc = zlib.crc32(rest[begin:end], crc)
    return f"{crc:08x}"


def _finished(rng, content):
    return damaged(rng, content) if rng.random() < 0.25 else content
