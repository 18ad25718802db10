"""Frozen dataclasses to JSON and back, with every field's presence and type checked on the way in.

A type is one of: ``str``, ``int``, ``float``, ``bool``, ``None``, a union of them, ``tuple[T, ...]``, a dataclass;
``Annotated[tuple[T, ...], AtMost(n)]`` is a tuple whose length is checked before anything in it is read.
"""

import dataclasses
import json
import types
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

Record = TypeVar("Record")


@dataclass(frozen=True)
class AtMost:
    """The largest number of items of a tuple."""

    count: int


def to_json(record: Any) -> dict[str, Any]:
    """Return a dataclass instance as plain dicts, lists and scalars, in the order of its fields."""
    return _plain(dataclasses.asdict(record))


def one_line(fields: Any) -> str:
    """JSON without line breaks, the same for equal fields."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def from_json(cls: type[Record], data: Any, where: str) -> Record:
    """Build a ``cls`` from what ``to_json`` returned.

    Parameters
    ----------
    cls
        A dataclass; its ``__post_init__`` may check more and raise ``ValueError``.
    data
        What ``json.loads`` gave.
    where
        What to call the record in errors, such as ``"manifest"``.

    Raises
    ------
    ValueError
        Naming the first field that is missing, unknown or of another type, as in ``manifest.inputs[0].shape[1]``.
    """
    if not isinstance(data, dict):
        raise ValueError(f"{where} is {_show(data)}; expected an object")
    hints = _hints(cls)  # type: ignore[arg-type]
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    optional = {f.name for f in fields if f.default is not dataclasses.MISSING}
    if unknown := [name for name in data if name not in hints]:
        raise ValueError(f"{where}.{unknown[0]} is unknown; known: {', '.join(hints)}")
    if missing := [name for name in hints if name not in data and name not in optional]:
        raise ValueError(f"{where}.{missing[0]} is missing")
    values = {name: _checked(hints[name], value, f"{where}.{name}") for name, value in data.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


@cache
def _hints(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _checked(kind: Any, value: Any, where: str) -> Any:
    """Return ``value`` as ``kind``, lists turned into tuples and objects into dataclasses."""
    if get_origin(kind) is Annotated:
        kind, limit = get_args(kind)
        if isinstance(value, list) and len(value) > limit.count:
            raise ValueError(f"{where} has {len(value)} items; allowed: up to {limit.count}")
    if dataclasses.is_dataclass(kind):
        return from_json(kind, value, where)  # type: ignore[arg-type]
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{where} is {_show(value)}; expected a list")
        element = get_args(kind)[0]
        return tuple(_checked(element, item, f"{where}[{i}]") for i, item in enumerate(value))
    if get_origin(kind) in (Union, types.UnionType):
        return _checked_union(get_args(kind), value, where)
    if kind is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise ValueError(f"{where} is {_show(value)}; expected a number") from None
    if type(value) is not kind:  # not isinstance: a bool is no int here
        raise ValueError(f"{where} is {_show(value)}; expected {kind.__name__}")
    return value


def _checked_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """Return ``value`` as the scalar of ``kinds`` that it is, else as their one dataclass."""
    if type(value) in kinds:
        return value
    records = [kind for kind in kinds if dataclasses.is_dataclass(kind) or kind is float]
    if not records:
        raise ValueError(f"{where} is {_show(value)}; expected {' or '.join(k.__name__ for k in kinds)}")
    return _checked(records[0], value, where)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
