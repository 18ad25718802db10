"""Read an exported program (``.pt2``) as data: nothing in the file is executed, whatever it holds.

``torch.export.load`` trusts a file: pickles are read with ``weights_only=False`` where that is asked for or the safe
way fails, compiled code is loaded, and strings of the graph are evaluated (see ``pt2_graph``). So it is handed another
file, made in memory of what is known to be data: the graph, checked; tensors as bytes; pickles as they come out of the
restricted unpickler, pickled again. Members that are none of these are not looked at.
"""

import io
import json
import os
import re
import zipfile
from collections.abc import Callable
from typing import Any

import torch
from torch.export import ExportedProgram

from tvm_fastconv.errors import ModelError
from tvm_fastconv.regular_files import open_regular

from .pt2_graph import UnsafeGraphError, checked_graph, checked_tensors
from .torch_export import quiet

_GRAPH, _OLD_GRAPH = "models/model.json", "serialized_exported_program.json"
_TABLES = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_PLAIN = re.compile(r"archive_format|archive_version|version|byteorder|\.data/(version|serialization_id)")
_PICKLES = re.compile(
    r"data/(weights|constants|sample_inputs)/model\.pt"
    r"|serialized_(state_dict|constants|example_inputs)\.(pt|json)"
)
_ROOT = "model"
_Members = dict[str, zipfile.ZipInfo]


def read_program(path: str | os.PathLike[str]) -> ExportedProgram:
    """Read what ``torch.export.save`` wrote.

    Raises
    ------
    ModelError
        The file cannot be read, is no exported program, or holds something that is no data; names the member.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(io.BufferedReader(file)) as archive:
            copy = _copy(archive, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise ModelError(f"cannot read '{path}': {error.strerror or error}") from error
    except UnsafeMemberError as error:
        raise ModelError(f"'{path}' is refused: {error}") from error
    except Exception as error:
        raise ModelError(_unreadable(path, error)) from error
    try:
        with quiet():
            return torch.export.load(copy)
    except Exception as error:
        raise ModelError(_unreadable(path, error)) from error


class UnsafeMemberError(Exception):
    """A member of the archive is not the data that it should be."""


def _copy(archive: zipfile.ZipFile, size: int) -> io.BytesIO:
    """Return an archive of the members that were understood."""
    members = _members(archive)
    if (claimed := sum(info.file_size for info in members.values())) > size:
        raise UnsafeMemberError(f"its members claim {claimed} bytes, and the file has {size}")
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as target:
        is_old = _OLD_GRAPH in members
        for name, data in _contents(archive, members):
            target.writestr(name if is_old else f"{_ROOT}/{name}", data)
    copy.seek(0)
    return copy


def _members(archive: zipfile.ZipFile) -> _Members:
    """Return the members by their names below the archive's one folder, which the old format does not have."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    is_old = any(info.filename == _OLD_GRAPH for info in infos)
    members: _Members = {}
    for info in infos:
        name = info.filename if is_old else info.filename.partition("/")[2]
        if name in members:
            raise UnsafeMemberError(f"it holds '{name}' twice")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise UnsafeMemberError(f"'{name}' is compressed or encrypted, which PyTorch never does")
        members[name] = info
    return members


def _contents(archive: zipfile.ZipFile, members: _Members) -> list[tuple[str, bytes]]:
    """Return names and bytes of what an exported program consists of."""
    readers: dict[str, Callable[[bytes], bytes]] = {
        _GRAPH: checked_graph,
        _OLD_GRAPH: checked_graph,
        **dict.fromkeys((name for name in members if _PLAIN.fullmatch(name)), bytes),
        **dict.fromkeys((name for name in members if _PICKLES.fullmatch(name)), _repickled),
    }
    for table in _TABLES:
        if table in members:
            readers |= _tensor_readers(table, _read(archive, members, table, _checked_table), members)
    return [(name, _read(archive, members, name, readers[name])) for name in members if name in readers]


def _tensor_readers(table: str, text: bytes, members: _Members) -> dict[str, Callable[[bytes], bytes]]:
    """Return how to read each file that a table of tensors names."""
    folder = os.path.dirname(table)
    readers: dict[str, Callable[[bytes], bytes]] = {table: lambda _: text}
    for tensor, entry in json.loads(text)["config"].items():
        name = f"{folder}/{entry['path_name']}"
        if name not in members:
            raise UnsafeMemberError(f"{table} places the tensor '{tensor}' in '{name}', which is missing")
        if entry["use_pickle"]:
            readers[name] = _repickled
        elif readers.get(name) is not _repickled:
            _check_size(tensor, entry, members[name])
            readers[name] = bytes
    return readers


def _checked_table(text: bytes) -> bytes:
    """Return a table of tensors whose entries have the fields that matter here."""
    table = checked_tensors(text)
    for tensor, entry in table["config"].items():
        if not isinstance(entry, dict) or not re.fullmatch(
            r"(weight|tensor)_\d+", str(entry.get("path_name"))
        ):
            raise UnsafeGraphError(f"'{tensor}' lies in no file of weights or constants")
        if not isinstance(entry.get("use_pickle"), bool):
            raise UnsafeGraphError(f"'{tensor}' does not say how it is stored")
    return json.dumps(table).encode()


def _check_size(tensor: str, entry: dict[str, Any], member: zipfile.ZipInfo) -> None:
    """Refuse a tensor of no bytes that claims elements: PyTorch would allocate them."""
    sizes = (entry.get("tensor_meta") or {}).get("sizes")
    if not member.file_size and {"as_int": 0} not in (sizes or []):
        raise UnsafeMemberError(f"'{member.filename}' is empty, but '{tensor}' has the shape {sizes}")


def _read(archive: zipfile.ZipFile, members: _Members, name: str, convert: Callable[[bytes], bytes]) -> bytes:
    """Return a member's bytes, converted; errors name the member."""
    try:
        return convert(archive.read(members[name]))
    except UnsafeGraphError as error:
        raise UnsafeMemberError(f"in '{name}', {error}") from error
    except (ValueError, RecursionError) as error:
        raise UnsafeMemberError(f"'{name}' cannot be read: {error}") from error


def _repickled(data: bytes) -> bytes:
    """Return what a pickle holds, if that is tensors and plain values, pickled anew."""
    if not data:
        return data
    try:
        value = torch.load(io.BytesIO(data), weights_only=True)
    except Exception as error:
        raise UnsafeGraphError("a pickle holds more than tensors and plain values, or is damaged") from error
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _unreadable(path: str | os.PathLike[str], error: Exception) -> str:
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return f"'{path}' cannot be read as an exported program (torch.export.save): {line}"
