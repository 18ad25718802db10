import dataclasses
import json

import pytest

from tvm_fastconv.artifact.manifest import CallRecord, Manifest, ReferencePair
from tvm_fastconv.report import LayerReport, StoredTensor, TensorSpec

MANIFEST = Manifest(
    format_version=1,
    package_version="0.1.0",
    tvm_version="0.27.0",
    tvm_ffi_version="0.1.14",
    abi="x86_64 tvm-0.27 ffi-0.1",
    target="llvm",
    cpu_features=("avx2",),
    inputs=(TensorSpec(name="x", shape=("batch", 3), dtype="float32"),),
    outputs=(TensorSpec(name="y", shape=("batch", 2), dtype="float32"),),
    layers=(
        LayerReport(
            name="fc",
            method="dense",
            op="dense",
            reason="r",
            input_shape=(1, 3),
            output_shape=(1, 2),
            dense_macs=6,
            operations=12,
            weight_bytes=24,
            schedule="",
        ),
    ),
    calls=(CallRecord(function="dense", layer="fc"), CallRecord(function="softmax", layer=None)),
    weights=(StoredTensor(offset=0, shape=(3, 2), dtype="float32"),),
    reference=ReferencePair(
        inputs=(StoredTensor(offset=0, shape=(5, 3), dtype="float32"),),
        outputs=(StoredTensor(offset=64, shape=(5, 2), dtype="float32"),),
    ),
    verify="max relative error 1e-7",
    notices=("cast from float16",),
    virtual_machine="shapes are dynamic",
    workspace_bytes=0,
    gpu_arches=(80, 90),
)
STORED = [field.name for field in dataclasses.fields(Manifest) if field.name not in ("file_size", "checksum")]


def read(data):
    return Manifest.from_section(json.dumps(data).encode() + b"  ", file_size=7, checksum="crc32:0")


def stored():
    return json.loads(MANIFEST.to_section())


def test_round_trip_adds_size_and_checksum_of_the_file():
    assert set(stored()) == set(STORED)
    assert read(stored()) == dataclasses.replace(MANIFEST, file_size=7, checksum="crc32:0")
    assert MANIFEST.to_dict()["file_size"] == 0
    assert MANIFEST.weight_bytes == 24


@pytest.mark.parametrize("field", STORED)
def test_every_field_is_required_and_typed(field):
    data = stored()
    value = data.pop(field)
    with pytest.raises(ValueError, match=rf"manifest\.{field} is missing"):
        read(data)
    wrong = 3.5 if not isinstance(value, list) else {}
    with pytest.raises(ValueError, match=rf"manifest\.{field} is "):
        read(data | {field: wrong})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outputs": []}, "there are no outputs"),
        ({"inputs": stored()["inputs"] * 2}, "two inputs are named 'x'"),
        ({"reference": {"inputs": [], "outputs": []}}, "0 reference inputs for 1 inputs"),
        ({"unheard_of": 1}, r"manifest\.unheard_of is unknown"),
    ],
)
def test_contradictions_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        read(stored() | change)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((5, 4), "float32", "has shape"),
        ((5, 3, 1), "float32", "has shape"),
        ((5, 3), "int32", "has dtype int32"),
    ],
)
def test_reference_must_fit_the_inputs(shape, dtype, message):
    data = stored()
    data["reference"]["inputs"][0] |= {"shape": list(shape), "dtype": dtype}
    with pytest.raises(ValueError, match=message):
        read(data)


@pytest.mark.parametrize("section", [b"", b"{", b"\xff\xfe", b"[" * 100000, b"null", b"3"])
def test_what_is_no_manifest_is_a_value_error(section):
    with pytest.raises(ValueError, match="manifest"):
        Manifest.from_section(section, file_size=0, checksum="")


def test_a_manifest_of_any_size_is_refused_by_a_limit(monkeypatch):
    data = stored()
    spec = data["inputs"][0]
    many = {**data, "inputs": [{**spec, "name": f"x{i}"} for i in range(20_000)]}
    with pytest.raises(ValueError, match=r"manifest\.inputs has 20000 items; allowed: up to 1024"):
        read(many)
    with pytest.raises(ValueError, match=r"manifest\.inputs\[0\]\.shape has 300000 items; allowed: up to 64"):
        read({**data, "inputs": [{**spec, "shape": [1] * 300_000}]})
    monkeypatch.setattr(json, "loads", None)  # what is larger than any manifest is not even parsed
    with pytest.raises(ValueError, match="the manifest has 9000000 bytes; allowed: up to 8388608"):
        Manifest.from_section(b" " * 9_000_000, file_size=7, checksum="crc32:0")


def test_names_are_counted_and_not_searched_for():
    """1024 names, each compared with each, would be a million comparisons."""
    compared = []

    class Name(str):
        __hash__ = str.__hash__

        def __eq__(self, other):
            compared.append(self)
            return str.__eq__(self, other)

    specs = tuple(TensorSpec(name=Name(f"x{i}"), shape=(1,), dtype="float32") for i in range(1000))
    dataclasses.replace(MANIFEST, inputs=specs, reference=None)
    assert len(compared) < 5000


def test_dynamic_shapes_without_a_machine_are_refused():
    with pytest.raises(
        ValueError, match=r"x \(batch, 3\) float32 is dynamic, and no virtual machine is needed"
    ):
        read(stored() | {"virtual_machine": ""})


def test_a_workspace_of_less_than_nothing_is_refused():
    with pytest.raises(ValueError, match="the workspace has -1 bytes"):
        read(stored() | {"workspace_bytes": -1})
