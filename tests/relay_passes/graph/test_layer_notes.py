"""What is noted of a layer belongs to the layer, not to what else happens in its module."""

import pytest
import torch
import tvm
from torch.nn import functional as F
from tvm import relax

import tvm_fastconv as fc
from tvm_fastconv.errors import MethodError
from tvm_fastconv.relay_passes.graph.layer_names import with_layer_name
from tvm_fastconv.relay_passes.graph.layer_notes import LayerNotes, notes_of, with_notes

SKYLAKE = "x86_64-linux-gnu -mcpu=skylake"


class Smaller(torch.nn.Module):
    """A resize, which is a product with a sparse matrix and gets a finding, and a pool, under one name."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        resized = F.interpolate(x, scale_factor=1.5, mode="bilinear", align_corners=True)
        return F.avg_pool2d(resized, 2)


def test_a_pool_beside_a_layer_without_a_module_is_no_layer() -> None:
    model = torch.nn.Sequential(Smaller()).eval()
    compiled = fc.compile(model, torch.randn(1, 8, 9, 9), target=SKYLAKE, verify=False)
    assert {(layer.name, layer.method) for layer in compiled.layers} == {("0", "lookup")}


def _layer(name: str) -> relax.Call:
    x = relax.Var("x", relax.TensorType((2, 3), "float32"))
    return with_layer_name(relax.op.matmul(x, relax.Var("w", relax.TensorType((3, 4), "float32"))), name)


def test_notes_of_several_passes_add_up() -> None:
    first, second = LayerNotes(), LayerNotes()
    first.note("a", approximation="approximated: half of it")
    first.note("b", reason="small")
    first.take_back("b")
    second.note("a", method="cp", reason="fused")
    mod = second.written_to(first.written_to(tvm.IRModule()))
    assert notes_of(mod) == {
        "a": {"approximation": "approximated: half of it", "method": "cp", "reason": "fused"}
    }
    fields = {"name": "a", "method": "dense", "reason": ""}
    said = "approximated: half of it; fused"
    assert with_notes(fields, notes_of(mod)) == {"name": "a", "method": "cp", "reason": said}


def test_all_refused_layers_are_one_error() -> None:
    notes = LayerNotes("run on bits")
    notes.refuse(_layer("a"), "it is transposed")
    notes.refuse(_layer("b"), "it is too small")
    notes.refuse(_layer("c"), "it has no levels")
    notes.allow(_layer("c"))
    said = "layer 'a' cannot run on bits: it is transposed; layer 'b' cannot run on bits: it is too small"
    with pytest.raises(MethodError, match=f"^{said}$"):
        notes.written_to(tvm.IRModule())
