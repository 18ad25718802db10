"""What may be wrong with a file: bytes, members of an archive, fields of a JSON tree. All from one number."""

import io
import json
import random
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

PAYLOAD = "__import__('os').mkdir({canary!r})"
"""Code in a string: if anything evaluates it, the folder is there."""


class Canary:
    """Code in a pickle: unpickled, it makes a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        import os

        return os.mkdir, (self.path,)


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flip, set, cut out, double or replace some bytes, or cut the end off."""
    place = rng.randrange(len(data)) if data else 0
    size = rng.choice((1, 1, 2, 8, 100, 4096))
    part = data[place : place + size]
    other = rng.randrange(len(data)) if data else 0
    new = rng.choice(
        (
            bytes(byte ^ 1 << rng.randrange(8) for byte in part[:1]) + part[1:],
            bytes(byte ^ 1 << rng.randrange(8) for byte in part[:1]) + part[1:],
            bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF))]) * len(part),
            rng.randbytes(len(part)),
            b"",
            part * rng.randint(2, 4),
            data[other : other + size],
        )
    )
    return data[:place] if rng.random() < 0.1 else data[:place] + new + data[place + len(part) :]


def damaged_tree(tree: Any, rng: random.Random, canary: str) -> Any:
    """Change one place of a JSON tree: a value of another kind or size, a field missing, doubled, or from elsewhere."""
    places = list(_places(tree))
    if not places:
        return _value(rng, canary)
    holder, key = rng.choice(places)
    old = holder[key]
    kind = rng.randrange(8)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[_value(rng, canary, str)] = old
    elif kind == 2:
        source, name = rng.choice(places)
        holder[key] = json.loads(json.dumps(source[name])) if name in _keys(source) else None
    elif kind == 3 and isinstance(old, list | str):
        holder[key] = old * rng.choice((0, 2, 3, 100))
    elif kind == 4 and type(old) is int:
        holder[key] = old + rng.choice((-1, 1, 2, -(2**31), 2**31, 2**63))
    else:
        holder[key] = _value(rng, canary, type(old) if rng.random() < 0.5 else None)
    return tree


def damaged_archive(data: bytes, rng: random.Random, canary: str, plant: Callable[[str], bytes]) -> bytes:
    """Change one member of a zip archive: its bytes, its JSON, its place, or put a pickle there (``plant``)."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name, other = rng.choice(list(members)), rng.choice(list(members))
    kind = rng.randrange(8)
    if kind == 0:
        del members[name]
    elif kind == 1:
        members[name] = members[other]
    elif kind == 2:
        members[name] = plant(canary)
    elif kind == 3:
        members[name] = damaged_bytes(members[name], rng)
    else:
        name = rng.choice([name for name in members if name.endswith(".json")] or [name])
        members[name] = _damaged_json(members[name], rng, canary)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return buffer.getvalue()


def _damaged_json(text: bytes, rng: random.Random, canary: str) -> bytes:
    try:
        tree = json.loads(text)
    except ValueError:
        return damaged_bytes(text, rng)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        tree = damaged_tree(tree, rng, canary)
    return json.dumps(tree).encode()


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    for key in _keys(tree):
        yield tree, key
        yield from _places(tree[key])


def _keys(tree: Any) -> list[Any]:
    return list(tree) if isinstance(tree, dict) else list(range(len(tree))) if isinstance(tree, list) else []


def _value(rng: random.Random, canary: str, kind: type | None = None) -> Any:
    texts = (
        "", "a", "x.y", "../x", "/dev/zero", "\x1b[31m", "\ud800", "a" * 300, "__class__", "import", "é", "0", "\0",
        "NaN", "torch.os.mkdir", "torch.ops.aten.relu.default", "float32", PAYLOAD.format(canary=canary),
        f"x={PAYLOAD.format(canary=canary)}", f'x", {PAYLOAD.format(canary=canary)}, "',
    )  # fmt: skip
    numbers = (0, 1, -1, 2, 7, 64, 255, 2**31, 2**32, 2**63, -(2**63), 10**30)
    values: dict[type, Any] = {
        str: rng.choice(texts),
        int: rng.choice(numbers),
        float: rng.choice((0.5, -1.5, 1e300, 1e-300, float("inf"), float("nan"))),
        bool: rng.choice((True, False)),
        list: [rng.choice(numbers)] * rng.choice((0, 1, 2, 70, 3000)),
        dict: {rng.choice(texts): rng.choice(numbers)},
        type(None): None,
    }
    return values[kind] if kind in values else rng.choice(list(values.values()))
