import numpy as np
import pytest
import torch
import tvm
from torch import nn
from torch.nn import functional
from tvm import relax

import tvm_fastconv as fc
from tvm_fastconv.configs import Method
from tvm_fastconv.decompose.cp import cp
from tvm_fastconv.decompose.depthwise_separable import depthwise_separable
from tvm_fastconv.decompose.fixed_stencil import STENCILS, fixed_stencil
from tvm_fastconv.decompose.spatial import spatial
from tvm_fastconv.decompose.tucker import tucker
from tvm_fastconv.relay_passes.graph.layer_names import named_layers, with_layer_name
from tvm_fastconv.relay_passes.graph.layer_notes import notes_of
from tvm_fastconv.relay_passes.separable.approximate_separable import ApproximateSeparable

from ...close import assert_close
from ..evaluate import evaluate

WHOLE = {"strides": (2, 1), "padding": (1, 0, 2, 3), "dilation": (1, 2)}
ROWS = {"strides": (2, 1), "padding": (1, 0, 2, 0), "dilation": (1, 1)}
COLUMNS = {"strides": (1, 1), "padding": (0, 0, 0, 3), "dilation": (1, 2)}

Call = tuple[str, np.ndarray, dict]
"""Layer, weight (o, c / groups, kh, kw), attributes."""


def _weight(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _function(*calls: Call) -> tvm.IRModule:
    """``calls`` one after the other, in NHWC."""
    x = relax.Var("x", relax.TensorType((2, 9, 11, 8), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            y = x
            for name, weight, attrs in calls:
                kernel = relax.const(np.ascontiguousarray(weight.transpose(0, 2, 3, 1)))
                call = relax.op.nn.conv2d(y, kernel, data_layout="NHWC", kernel_layout="OHWI", **attrs)
                y = builder.emit(with_layer_name(call, name))
            result = builder.emit_output(y)
        builder.emit_func_output(result)
    return builder.get()


def _cp(weight: np.ndarray) -> tuple[Method, list[Call], np.ndarray]:
    found = cp(weight, rank=5)
    calls = [
        ("a.input", found.input[:, :, None, None], {}),
        ("a.column", found.column[:, None, :, None], {**ROWS, "groups": 5}),
        ("a.row", found.row[:, None, None, :], {**COLUMNS, "groups": 5}),
        ("a", found.output[:, :, None, None], {}),
    ]
    return fc.CP(rank=5), calls, found.weight


def _tucker(weight: np.ndarray) -> tuple[Method, list[Call], np.ndarray]:
    found = tucker(weight, ranks=(4, 6))
    calls = [
        ("a.input", found.input[:, :, None, None], {}),
        ("a.core", found.core, WHOLE),
        ("a", found.output[:, :, None, None], {}),
    ]
    return fc.Tucker(ranks=(4, 6)), calls, found.weight


def _tucker_of_outputs(weight: np.ndarray) -> tuple[Method, list[Call], np.ndarray]:
    found = tucker(weight, ranks=(8, 6))
    calls = [("a.core", found.core, WHOLE), ("a", found.output[:, :, None, None], {})]
    return fc.Tucker(ranks=(8, 6)), calls, found.weight


def _tucker_of_inputs(weight: np.ndarray) -> tuple[Method, list[Call], np.ndarray]:
    found = tucker(weight, ranks=(4, 99))
    calls = [("a.input", found.input[:, :, None, None], {}), ("a", found.core, WHOLE)]
    return fc.Tucker(ranks=(4, 99)), calls, found.weight


def _spatial(weight: np.ndarray) -> tuple[Method, list[Call], np.ndarray]:
    found = spatial(weight, channels=len(weight))
    return (
        fc.SpatialSeparable(),
        [("a.column", found.column, ROWS), ("a", found.row, COLUMNS)],
        found.weight,
    )


def _separable(weight: np.ndarray) -> tuple[Method, list[Call], np.ndarray]:
    found = depthwise_separable(weight, multiplier=2)
    calls = [("a.depthwise", found.depthwise, {**WHOLE, "groups": 8}), ("a", found.pointwise, {})]
    return fc.DepthwiseSeparable(multiplier=2), calls, found.weight


def _fixed(weight: np.ndarray) -> tuple[Method, list[Call], np.ndarray]:
    found = fixed_stencil(weight)
    stencils = np.concatenate([STENCILS[:, None]] * 8)
    return (
        fc.FixedStencil(),
        [("a.stencils", stencils, {**WHOLE, "groups": 8}), ("a", found.pointwise, {})],
        found.weight,
    )


@pytest.mark.parametrize(
    ("chain", "kernel"),
    [
        (_cp, (3, 5)),
        (_tucker, (3, 5)),
        (_tucker_of_inputs, (3, 5)),
        (_tucker_of_outputs, (3, 5)),
        (_spatial, (3, 5)),
        (_spatial, (4, 2)),
        (_separable, (3, 5)),
        (_separable, (1, 3)),
        (_fixed, (3, 3)),
    ],
)
def test_a_convolution_becomes_a_chain(chain, kernel: tuple[int, int]) -> None:
    weight = _weight(10, 8, *kernel)
    config, calls, rebuilt = chain(weight)
    got = ApproximateSeparable({"a": config})(_function(("a", weight, WHOLE)))
    tvm.ir.assert_structural_equal(got["main"], _function(*calls)["main"])
    assert named_layers(got["main"]) == [name for name, _, _ in calls]
    _check_numbers(got, rebuilt)
    off = 100 * np.linalg.norm(weight - rebuilt) / np.linalg.norm(weight)
    learnt = [array for name, array, _ in calls if name != "a.stencils"]
    kept = 100 * sum(array.size for array in learnt) / weight.size
    text = notes_of(got)["a"]["approximation"]
    assert f"{kept:.3g} % of the parameters; the weights are off by {off:.3g} %" in text


@pytest.mark.parametrize(("kernel", "side"), [((3, 1), "column"), ((1, 3), "row")])
def test_cp_of_a_kernel_of_one_row_or_column_has_one_side(kernel: tuple[int, int], side: str) -> None:
    weight = _weight(10, 8, *kernel)
    got = ApproximateSeparable({"a": fc.CP(rank=4)})(_function(("a", weight, WHOLE)))
    assert named_layers(got["main"]) == ["a.input", f"a.{side}", "a"]
    _check_numbers(got, cp(weight, rank=4).weight)


def _check_numbers(got: tvm.IRModule, rebuilt: np.ndarray) -> None:
    """``got`` against PyTorch's convolution with the reconstructed kernel and the attributes WHOLE."""
    x = np.random.default_rng(1).standard_normal((2, 9, 11, 8), np.float32)
    padded = functional.pad(torch.from_numpy(x).permute(0, 3, 1, 2), (0, 3, 1, 2)).double()
    want = functional.conv2d(padded, torch.from_numpy(rebuilt), stride=(2, 1), dilation=(1, 2))
    want = want.permute(0, 2, 3, 1).numpy()
    # 1e-5: sums of some 100 products in another order
    assert_close(evaluate(got, x), want, 1e-5)


@pytest.mark.parametrize("methods", [{}, {"a": fc.Dense()}, {"b": fc.CP(rank=2)}, {"a": fc.Lookup()}])
def test_what_is_not_asked_for_stays(methods: dict) -> None:
    before = _function(("a", _weight(10, 8, 3, 3), {}))
    tvm.ir.assert_structural_equal(ApproximateSeparable(methods)(before)["main"], before["main"])


@pytest.mark.parametrize(
    ("weight", "attrs", "config", "why"),
    [
        (_weight(10, 8, 1, 1), {}, fc.CP(rank=2), "its kernel is 1×1"),
        (_weight(10, 4, 3, 3), {"groups": 2}, fc.Tucker(ranks=(2, 2)), "it has 2 groups"),
        (_weight(8, 1, 3, 3), {"groups": 8}, fc.DepthwiseSeparable(), "it has 8 groups"),
        (_weight(10, 8, 3, 1), {}, fc.SpatialSeparable(), "its kernel is 3×1"),
        (_weight(10, 8, 1, 1), {}, fc.FixedStencil(), "its kernel is 1×1"),
        (_weight(10, 8, 5, 5), {}, fc.FixedStencil(), "its kernel is 5×5, and the stencils are 3×3"),
    ],
)
def test_what_has_no_use_for_factors_stays(weight: np.ndarray, attrs: dict, config: Method, why: str) -> None:
    before = _function(("a", weight, attrs))
    got = ApproximateSeparable({"a": config})(before)
    tvm.ir.assert_structural_equal(got["main"], before["main"])
    assert notes_of(got) == {"a": {"reason": f"left as it is: {why}"}}


def test_one_method_for_a_whole_model() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ConvTranspose2d(8, 4, 2), nn.Flatten(), nn.Linear(196, 5)
    ).eval()  # fmt: skip
    compiled = fc.compile(model, torch.randn(1, 3, 8, 8), methods=fc.SpatialSeparable())
    reasons = {layer.name: layer.reason for layer in compiled.layers}
    assert reasons["0"].startswith(
        "approximated: 3×1 and 1×3 with 8 channels between, 122 % of the parameters; "
    )
    assert reasons["0.column"].startswith("column of 0")
    assert reasons["2"].startswith("left as it is: its kernel is 1×1")
    assert reasons["3"].startswith("left as it is: it is a transposed convolution")
    assert reasons["5"].startswith("left as it is: it is a linear layer")


@pytest.mark.parametrize(
    ("layer", "config", "message"),
    [
        (nn.Conv2d(8, 9, 3), fc.CP(ratio=0.001), "ratio is 0.001; one term has 0.035 of the parameters"),
    ],
)
def test_what_cannot_be_done_is_said(layer: nn.Module, config: Method, message: str) -> None:
    model = nn.Sequential(layer).eval()
    with pytest.raises(fc.MethodError, match=f"layer '0' cannot be approximated as asked: .*{message}"):
        fc.compile(model, (torch.randn(1, 8, 6, 6),), methods=config)


REBUILT = {
    "cp": (fc.CP(ratio=0.3), lambda weight: cp(weight, ratio=0.3).weight),
    "tucker": (fc.Tucker(error=0.5), lambda weight: tucker(weight, error=0.5).weight),
    "spatial": (fc.SpatialSeparable(), lambda weight: spatial(weight, channels=len(weight)).weight),
    "separable": (
        fc.DepthwiseSeparable(multiplier=3),
        lambda weight: depthwise_separable(weight, multiplier=3).weight,
    ),
    "fixed": (fc.FixedStencil(), lambda weight: fixed_stencil(weight).weight),
}


@pytest.mark.parametrize("method", REBUILT)
def test_a_model_computes_what_the_reconstructed_weights_do(method: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 20, 3), nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 24, 3, stride=2, padding=1)
    ).eval()
    config, rebuild = REBUILT[method]
    x = torch.randn(2, 3, 12, 10)
    compiled = fc.compile(model, (x,), methods={"3": config})
    report = {layer.name: layer for layer in compiled.layers}
    assert report["3"].method == method
    assert "% of the parameters; the weights are off by" in report["3"].reason
    weight = model.get_submodule("3").weight
    rebuilt = rebuild(weight.detach().numpy())
    with torch.no_grad():
        weight.copy_(torch.from_numpy(rebuilt))
        want = model(x)
    # 1e-5: float32 sums in another order
    assert_close(compiled(x), want, 1e-5)
