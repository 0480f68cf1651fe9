"""Damaged files: bytes and numbers changed, cut, exchanged; shared by the tests of export/ and engine/."""

import copy
import json

import numpy as np
import safetensors.numpy

from synaprune.export import sparse

ODD = [None, True, -1, 0, 1, 2, 7, 2**31 - 1, 2**31, 2**63, 10**30, 0.5, -1e300, "", "linear", "conv", [], [1], {}]
WILD = [
    *ODD,
    3,
    33,
    1023,
    65_537,
    2**20,
    2**27,
    -(2**31),
    1e-45,
    3e38,
    float("nan"),
    "spikes",
    "neuron",
    [2**31 - 1] * 2,
]
LENGTHS = [0, 1, 2**31, 2**63, 2**64 - 1]


def packed(header, arrays):
    """A file as `write` makes it, with any content."""
    text = json.dumps(header)
    metadata = {"synaprune": text, "crc32": sparse._checksum(text, arrays)}
    return safetensors.numpy.save(arrays, metadata=metadata)


def mutate_bytes(rng, content):
    """Change, cut, or put in some bytes."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 3, 20])):
        at = rng.randrange(len(content) + 1)
        match rng.randrange(6):
            case 0 | 1 | 2 if at < len(content):
                content[at] ^= 1 << rng.randrange(8)
            case 3:
                content[at : at + 8] = rng.choice(LENGTHS).to_bytes(8, "little")
            case 4:
                del content[at : at + rng.choice([1, 8, 1000])]
            case _:
                content[at:at] = rng.randbytes(rng.choice([1, 8, 1000]))
    return bytes(content)


def nodes(tree):
    """All places in a tree of dicts and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [place for key, value in items for place in [(tree, key), *nodes(value)]]


def mutate_content(rng, header, arrays):
    """Change some of the numbers that a file with the right checksum holds."""
    for _ in range(rng.choice([1, 1, 2, 5])):
        if rng.random() < 0.6:
            where, key = rng.choice(nodes(header["network"]) or [(header, "network")])
            if rng.random() < 0.2:
                del where[key]
            elif rng.random() < 0.2 and isinstance(where, list):
                where.insert(key, where[rng.randrange(len(where))])
            else:
                where[key] = where[key] + rng.choice([-1, 1]) if type(where[key]) is int else rng.choice(ODD)
            if "network" not in header or not isinstance(header["network"], dict):
                break
        elif arrays:
            name = rng.choice(sorted(arrays))
            raw, dtype = mutate_bytes(rng, arrays[name].tobytes()), arrays[name].dtype
            arrays[name] = np.frombuffer(raw[: len(raw) // dtype.itemsize * dtype.itemsize], dtype)
            if rng.random() < 0.1:
                arrays[rng.choice(sorted(arrays))] = arrays.pop(name)


def mutate_container(rng, content):
    """Change lengths, types, shapes and places in the header of the container itself, or where it ends."""
    size = int.from_bytes(content[:8], "little")
    header, payload = json.loads(content[8 : 8 + size]), content[8 + size :]
    for _ in range(rng.choice([1, 1, 2])):
        where, key = rng.choice(nodes({name: entry for name, entry in header.items() if name != "__metadata__"}))
        where[key] = where[key] + rng.choice([-1, 1, 8]) if type(where[key]) is int else rng.choice(WILD)
    text = json.dumps(header).encode()
    length = rng.choice([len(text)] * 4 + LENGTHS)
    return length.to_bytes(8, "little") + text + payload[: rng.choice([None, None, -1, rng.randrange(len(payload))])]


def mutate_settings(rng, header):
    """Give some fields other values that they could well have: the file often holds a network all the same."""
    places = [(where, key) for where, key in nodes(header["network"]) if key not in ("layers", "kind", "name", "shape")]
    for where, key in rng.choices(places, k=rng.choice([1, 1, 2, 3])):
        value = where[key]
        if type(value) is int:
            where[key] = rng.choice([value - 1, value + 1, rng.randrange(4), rng.randrange(70)])
        elif isinstance(value, float | None):
            where[key] = rng.choice([None, 0.0, 1.0, 1.5, 2.0, 1e-40, -1.0, 1e38, 3.0])
        elif isinstance(value, bool):
            where[key] = not value
        elif key == "coding":
            where[key] = "static" if value == "spikes" else "spikes"


def exchange(rng, header, arrays):
    """Give two tensors, or two layers, each other's place."""
    if rng.random() < 0.7:
        one, other = rng.sample(sorted(arrays), 2)
        arrays[one], arrays[other] = arrays[other], arrays[one]
    else:
        layers = header["network"]["layers"]
        i, j = rng.randrange(len(layers)), rng.randrange(len(layers))
        layers[i], layers[j] = layers[j], layers[i]


def each_field(header):
    """List which value each field of the description can be replaced by, for `replace_field`."""
    return [(place, value) for place in range(len(nodes(header["network"]))) for value in range(len(WILD))]


def replace_field(header, place, value):
    """Put a wild value into one of the fields."""
    where, key = nodes(header["network"])[place]
    where[key] = copy.copy(WILD[value])
