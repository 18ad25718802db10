import subprocess
import sys

import pytest

from tvm_fastconv.report import LayerReport, StoredTensor, TensorSpec
from tvm_fastconv.typed_json import from_json, to_json

LAYER = LayerReport(
    name="layer1.0.conv2",
    method="dense",
    op="conv2d",
    reason="nothing better applies",
    input_shape=("batch", 3, 8, 8),
    output_shape=("batch", 4, 8, 8),
    dense_macs=6912,
    operations=13824,
    weight_bytes=432,
    schedule="tile_w=7",
)


def test_layer_report_round_trip():
    assert from_json(LayerReport, to_json(LAYER), "layer") == LAYER


def test_importable_without_numpy_tvm_or_torch():
    script = "import sys, tvm_fastconv.report; print({'numpy', 'tvm', 'tvm_ffi', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((0,), "float32", "x: dimension 0 is neither a positive size nor a name"),
        ((2, -1), "float32", "dimension -1"),
        (("",), "float32", "dimension ''"),
        ((1,), "float31", "x: dtype 'float31' is unknown; known: bool, int8"),
    ],
)
def test_tensor_spec_refuses(shape, dtype, message):
    with pytest.raises(ValueError, match=message):
        TensorSpec(name="x", shape=shape, dtype=dtype)


def test_stored_tensor_size_and_offset():
    assert StoredTensor(offset=0, shape=(3, 5), dtype="int16").nbytes == 30
    assert StoredTensor(offset=0, shape=(), dtype="float64").nbytes == 8
    with pytest.raises(ValueError, match="offset -64 is negative"):
        StoredTensor(offset=-64, shape=(1,), dtype="int8")
