"""What may be wrong with a protocol buffer: any field of any message missing, doubled or of another value."""

import random
from collections.abc import Iterator
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor

_OPERATORS = (
    "Conv", "Relu", "Add", "MatMul", "Gemm", "Concat", "Slice", "Loop", "If", "Nonsense", "Identity", "Resize",
)  # fmt: skip
_NAMES = ("", "x", "y", "w", "n", "a" * 300, "../w", "/dev/zero", "\x1b[31m", "N**9", "n+n", "é", "location")
_TEXTS = _NAMES + _OPERATORS
_NUMBERS = (0, 1, -1, 2, 3, 7, 16, 1000, 2**31 - 1, -(2**31))


def damaged_model(data: bytes, rng: random.Random) -> bytes:
    """Change one to three fields of an ONNX model."""
    model = onnx.load_model_from_string(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        message, field = rng.choice(list(_fields(model)))
        _change(message, field, rng)
    return model.SerializeToString()


def _fields(message: Any) -> Iterator[tuple[Any, FieldDescriptor]]:
    """Every field that is set, with its message, the messages inside included."""
    for field, value in message.ListFields():
        yield message, field
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in value if _is_repeated(field) else (value,):
                yield from _fields(inner)


def _change(message: Any, field: FieldDescriptor, rng: random.Random) -> None:
    value = getattr(message, field.name)
    kind = rng.randrange(4)
    if kind == 0:
        message.ClearField(field.name)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        if _is_repeated(field):
            _change_list(value, rng)
        else:
            value.Clear()
    elif _is_repeated(field):
        if value and kind > 1:
            value[rng.randrange(len(value))] = _scalar(field, rng)
        else:
            _change_list(value, rng)
    else:
        setattr(message, field.name, _scalar(field, rng))


def _change_list(items: Any, rng: random.Random) -> None:
    index = rng.randrange(len(items)) if items else 0
    if items and rng.random() < 0.5:
        del items[index]
    else:
        items.extend(list(items) * rng.choice((1, 1, 3)))


def _scalar(field: FieldDescriptor, rng: random.Random) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return rng.choice(_TEXTS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return rng.choice((b"", b"\xff", b"SAME_UPPER", rng.randbytes(rng.choice((1, 4, 64)))))
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return rng.choice((0.0, -1.0, 1e30, float("inf"), float("nan")))
    if field.type == FieldDescriptor.TYPE_ENUM:
        return rng.choice([value.number for value in field.enum_type.values])
    return rng.choice(_NUMBERS)


def _is_repeated(field: FieldDescriptor) -> bool:
    return bool(field.is_repeated)
