"""Exported programs are read as data.

Most of the attacks here run their payload when ``torch.export.load`` and ``module()`` get the file; from the others
only a check that comes later, or the syntax of what is generated today, protects.
"""

import io
import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._export.serde.serialize import serialize

from tvm_fastconv.errors import ModelError
from tvm_fastconv.frontend import import_model
from tvm_fastconv.frontend.pt2_file import read_program

GRAPH = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
INPUTS = "data/sample_inputs/model.pt"


class Net(nn.Module):
    """A dynamic batch, a size that is computed, a constant, nested outputs, a part without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> Any:
        y = self.norm(self.conv(x)) + torch.tensor([1.5])
        with torch.no_grad():
            mean = y.mean((2, 3))
        return mean.view(x.shape[0] * 4), {"a": y.flatten(1), "b": [y]}


class Canary:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def program() -> torch.export.ExportedProgram:
    torch.manual_seed(0)
    batch = torch.export.Dim("n", min=1, max=64)
    return torch.export.export(Net().eval(), (torch.randn(4, 3, 8, 8),), dynamic_shapes=({0: batch},))


@pytest.fixture(scope="module")
def archive(program: torch.export.ExportedProgram, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "net.pt2"
    torch.export.save(program, path)
    return path


@pytest.fixture
def rewritten(archive: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that copies the archive with members changed, added, or taken out (``None``)."""

    def rewrite(**changes: Any) -> Path:
        return _rewritten(archive, tmp_path / "changed.pt2", changes["members"])

    return rewrite


def _rewritten(source: Path, path: Path, members: dict[str, Any]) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        names = {name.partition("/")[2]: name for name in old.namelist()}
        for name in dict.fromkeys((*names, *members)):
            data = old.read(names[name]) if name in names else b""
            change = members.get(name, lambda data: data)
            if change is not None:
                new.writestr(f"net/{name}", change(data) if callable(change) else change)
    return path


def _edited(edit: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        tree = json.loads(data)
        edit(tree)
        return json.dumps(tree).encode()

    return change


def _replaced(old: str, new: str) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        assert old in data.decode()
        return data.decode().replace(old, new).encode()

    return change


def _payload(canary: Path) -> str:
    return f"__import__('os').mkdir('{canary}')"


def _pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _stored(tree: Any, **fields: Any) -> None:
    next(iter(tree["config"].values())).update(fields)


def _node(tree: Any, **fields: Any) -> None:
    tree["graph_module"]["graph"]["nodes"][0].update(fields)


def _signature(tree: Any) -> Any:
    return tree["graph_module"]["module_call_graph"][0]["signature"]


def _opaque(tree: Any) -> None:
    entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    tree["config"]["thing"] = entry


def _default_factory(tree: Any) -> None:
    context = {"default_factory_module": "canary_module", "default_factory_name": "x", "dict_context": "[]"}
    spec = {"type": "collections.defaultdict", "context": context, "children_spec": []}
    _signature(tree)["out_spec"] = json.dumps([1, spec])


def _enumeration(tree: Any) -> None:
    context = json.dumps([{"__enum__": True, "fqn": "canary_module:X", "name": "A"}])
    leaf = {"type": None, "context": None, "children_spec": []}
    spec = {"type": "builtins.dict", "context": context, "children_spec": [leaf]}
    _signature(tree)["out_spec"] = json.dumps([1, spec])


ATTACKS: dict[str, tuple[Callable[[Path], dict[str, Any]], str]] = {
    "sample inputs": (lambda c: {INPUTS: _pickled(Canary(c))}, f"'{INPUTS}', a pickle holds more"),
    "a bare pickle": (lambda c: {INPUTS: pickle.dumps(Canary(c), 2)}, f"'{INPUTS}', a pickle holds more"),
    "a pickled weight": (
        lambda c: {
            WEIGHTS: _edited(lambda t: _stored(t, use_pickle=True)),
            "data/weights/weight_0": _pickled(Canary(c)),
        },
        "'data/weights/weight_0', a pickle holds more",
    ),
    "a pickled constant": (
        lambda c: {
            CONSTANTS: _edited(lambda t: _stored(t, use_pickle=True)),
            "data/constants/tensor_0": _pickled(Canary(c)),
        },
        "'data/constants/tensor_0', a pickle holds more",
    ),
    "an opaque object": (
        lambda c: {CONSTANTS: _edited(_opaque), "data/constants/opaque_obj_0": pickle.dumps(Canary(c))},
        f"'{CONSTANTS}', 'thing' lies in no file",
    ),
    "old weights": (
        lambda c: {"data/weights/model.pt": _pickled(Canary(c))},
        "'data/weights/model.pt', a pickle holds more",
    ),
    "old constants": (
        lambda c: {"data/constants/model.pt": _pickled(Canary(c))},
        "'data/constants/model.pt', a pickle holds more",
    ),
    "any function as an operator": (
        lambda c: {
            GRAPH: _edited(
                lambda t: _node(
                    t,
                    target="torch.os.mkdir",
                    inputs=[{"name": "", "arg": {"as_string": str(c)}, "kind": 1}],
                )
            )
        },
        "nodes[0].target is 'torch.os.mkdir'; allowed: operators",
    ),
    "a size": (
        lambda c: {GRAPH: _replaced("Symbol('s77', positive=True, integer=True)", _payload(c))},
        "expr_str is \"__import__",
    ),
    "the name of an input": (
        lambda c: {GRAPH: _replaced('"x"', json.dumps(f"x={_payload(c)}"))},
        "which is no name",
    ),
    "the name of a parameter": (
        lambda c: {
            GRAPH: _replaced('"conv.weight"', json.dumps(f'conv.w", {_payload(c)}) + getattr(self, "x')),
            WEIGHTS: _replaced('"conv.weight"', json.dumps(f'conv.w", {_payload(c)}) + getattr(self, "x')),
        },
        "which is no name",
    ),
    "the name of an argument": (
        lambda c: {
            GRAPH: _edited(lambda t: _signature(t).update(forward_arg_names=[f"x={_payload(c)}"]))
        },
        "forward_arg_names[0] is ",
    ),
    "a module to import": (lambda c: {GRAPH: _edited(_default_factory)}, "holds 'collections.defaultdict'"),
    "an enumeration to import": (lambda c: {GRAPH: _edited(_enumeration)}, "out_spec holds the keys"),
    "an attribute of Python": (
        lambda c: {GRAPH: _replaced('"conv.weight"', '"conv.__class__.forward"')},
        "'conv.__class__.forward', which is no name",
    ),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_no_data_is_refused_and_never_run(
    attack: str, rewritten: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = tmp_path / "canary"
    (tmp_path / "canary_module.py").write_text(f"import os\nos.mkdir({str(canary)!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    members, message = ATTACKS[attack]
    path = rewritten(members=members(canary))
    with pytest.raises(ModelError, match=re.escape(message)) as raised:
        import_model(path)
    assert str(raised.value).startswith(f"'{path}' is refused: ")
    assert not canary.exists()


@pytest.mark.parametrize(
    "members",
    [
        lambda canary: {GRAPH: _edited(lambda tree: tree.update(guards_code=[_payload(canary)]))},
        lambda canary: {"data/aotinductor/model/model.so": b"\x7fELF", "extra/notes": b"\xff"},
        lambda canary: {
            "models/other.json": b"{",
            "data/sample_inputs/other.pt": pickle.dumps(Canary(canary)),
        },
    ],
    ids=["guards", "compiled code and notes", "another model"],
)
def test_what_is_not_needed_is_not_looked_at(
    members: Callable[[Path], dict[str, Any]], rewritten: Callable[..., Path], tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    imported = import_model(rewritten(members=members(canary)))
    assert imported.reference is not None
    assert imported.example_inputs is not None
    imported.reference(*imported.example_inputs)
    assert not canary.exists()


def test_a_program_comes_back_as_pytorch_reads_it(
    archive: Path, program: torch.export.ExportedProgram
) -> None:
    read, expected = read_program(archive), torch.export.load(archive)
    assert str(read.graph) == str(expected.graph)
    assert str(read.graph_signature) == str(expected.graph_signature)
    assert str(read.range_constraints) == str(expected.range_constraints)
    x = torch.randn(2, 3, 8, 8)
    for got, want in zip(read.module()(x), program.module()(x), strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=0)  # the same weights, the same operators


def test_weights_that_share_memory_and_names_that_are_no_identifiers(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleDict({"3x3 conv-a": nn.Linear(4, 4)})
            self.tied = nn.Linear(4, 4)
            self.tied.weight = self.layers["3x3 conv-a"].weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.tied(self.layers["3x3 conv-a"](x))

    model, x = Tied().eval(), torch.randn(2, 4)
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "m.pt2")
    torch.testing.assert_close(read_program(tmp_path / "m.pt2").module()(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize("attacked", [None, "state_dict", "constants", "example_inputs"])
def test_the_format_before_pytorch_2_8(
    attacked: str | None, program: torch.export.ExportedProgram, tmp_path: Path
) -> None:
    artifact, canary, path = serialize(program), tmp_path / "canary", tmp_path / "old.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", "8.8")
        archive.writestr("serialized_exported_program.json", artifact.exported_program)
        for part in ("state_dict", "constants", "example_inputs"):
            data = _pickled(Canary(canary)) if part == attacked else getattr(artifact, part)
            archive.writestr(f"serialized_{part}.pt", data)
    if attacked is None:
        assert str(read_program(path).graph) == str(torch.export.load(path).graph)
        return
    with pytest.raises(ModelError, match=f"'serialized_{attacked}.pt', a pickle holds more"):
        read_program(path)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"data/weights/weight_0": None}, "the tensor 'conv.weight' in 'data/weights/weight_0', which is missing"),
        ({"data/weights/weight_0": b""}, "'net/data/weights/weight_0' is empty"),
        ({GRAPH: b"{"}, f"'{GRAPH}' cannot be read"),
        ({GRAPH: b"[" * 100_000}, f"'{GRAPH}' cannot be read"),
        ({GRAPH: None}, "cannot be read as an exported program"),
        ({WEIGHTS: b"[]"}, f"in '{WEIGHTS}', it is no table of tensors"),
        ({WEIGHTS: _edited(lambda t: _stored(t, path_name="../weight_0"))}, "path_name is '../weight_0', which"),
        ({GRAPH: _edited(lambda t: _node(t, target="torch.ops.aten.from_file.default"))}, "allowed: operators"),
    ],
)  # fmt: skip
def test_damaged_archives(members: dict[str, Any], message: str, rewritten: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match=re.escape(message)):
        read_program(rewritten(members=members))


def test_archives_that_say_two_things_are_refused(archive: Path, tmp_path: Path) -> None:
    twice = tmp_path / "twice.pt2"
    twice.write_bytes(archive.read_bytes())
    with zipfile.ZipFile(twice, "a") as added, pytest.warns(UserWarning, match="Duplicate name"):
        added.writestr(f"net/{INPUTS}", b"")
    with pytest.raises(ModelError, match=f"it holds '{INPUTS}' twice"):
        read_program(twice)
    with zipfile.ZipFile(tmp_path / "small.pt2", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(f"net/{GRAPH}", b"{}")
    with pytest.raises(ModelError, match="is compressed"):
        read_program(tmp_path / "small.pt2")


def test_members_that_share_their_bytes_are_no_bomb(tmp_path: Path) -> None:
    """Of an archive of 1 MB, a thousand members over the same bytes would be read as 1 GB."""
    path = tmp_path / "bomb.pt2"
    with zipfile.ZipFile(path, "w") as bomb:
        bomb.writestr("net/data/weights/weight_0", bytes(10_000))
        for number in range(1, 30):
            info = zipfile.ZipInfo(f"net/data/weights/weight_{number}")
            shared = bomb.filelist[0]
            info.file_size, info.compress_size, info.CRC = shared.file_size, shared.compress_size, shared.CRC
            info.header_offset = shared.header_offset
            bomb.filelist.append(info)
        bomb.writestr(f"net/{GRAPH}", b"{}")
    with pytest.raises(ModelError, match="its members claim 300002 bytes, and the file has"):
        read_program(path)
