from collections.abc import Callable

import numpy as np
import pytest
import torch
import tvm
from torch import nn
from torch.nn import functional as F
from tvm import relax, te, tirx

import tvm_fastconv as fc
from tvm_fastconv import prepare
from tvm_fastconv.relay_passes import pipeline
from tvm_fastconv.relay_passes.graph.rewrite import CallRewriter, keep_name, rewrite_calls
from tvm_fastconv.relay_passes.module import straight_line
from tvm_fastconv.relay_passes.module.plan_memory import Life
from tvm_fastconv.verify import random_inputs
from tvm_fastconv.verify.compare import Comparison, compare, moved_by_roundings
from tvm_fastconv.verify.source import Known, Roundings


@tvm.transform.module_pass(opt_level=0, name="BreakFunction")
class BreakFunction:
    """Stands for a schedule with a bug: the function called ``name`` stores zeros."""

    def __init__(self, name: str) -> None:
        self.name = name

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        mod = mod.clone()
        var = mod.get_global_var(self.name)
        buffers = list(mod[var].params)
        tensors = [te.placeholder(b.shape, str(b.dtype), name=f"t{i}") for i, b in enumerate(buffers[:-1])]
        zeros = te.compute(buffers[-1].shape, lambda *at: tirx.const(0, "float32"), name="zeros")
        broken = te.create_prim_func([*tensors, zeros]).with_attr("tirx.is_scheduled", True)
        mod.update_func(var, broken)
        return mod


def test_names_the_first_layer_that_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 5, stride=2), nn.ReLU(), nn.Conv2d(16, 4, 1)
    )
    x = torch.randn(1, 3, 14, 14)
    names = {layer.name: call.function for layer, call in zip(*_layers_and_calls(model, x), strict=True)}
    original = pipeline.schedule_passes
    monkeypatch.setattr(
        prepare.pipeline, "schedule_passes", lambda *where: [*original(*where), BreakFunction(names["2"])]
    )
    with pytest.raises(fc.FastconvError, match=r"wrong in 2: off by .* This is a bug"):
        fc.compile(model.eval(), x)
    assert fc.compile(model, x, verify=False).manifest.verify == "not asked for"


def test_memory_that_is_used_twice_at_once_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_small(lives: list[Life]) -> tuple[list[int], int]:
        return [0] * len(lives), max((life.size for life in lives), default=0)

    monkeypatch.setattr(straight_line, "plan_memory", too_small)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 3))
    with pytest.raises(
        fc.FastconvError, match=r"its entry function computes another output than its functions"
    ):
        fc.compile(model.eval(), torch.randn(1, 3, 14, 14))


def _layers_and_calls(model: nn.Module, x: torch.Tensor) -> tuple[list, list]:
    compiled = fc.compile(model.eval(), x)
    return compiled.layers, [call for call in compiled.manifest.calls if call.layer]


class Xnor(nn.Conv2d):
    """Weights of ±α, where α is the mean magnitude of each filter; its input becomes ±1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight.abs().mean((1, 2, 3), keepdim=True) * torch.sign(self.weight)
        return F.conv2d(torch.where(x >= 0, 1.0, -1.0), weight, padding=self.padding)


class Half(Xnor):
    """The same, of 0 and 1 where its input is cut off and where it is not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.where(F.relu(x) > 0, 1.0, -1.0)) + 0.1


def _untrained(layer: type[Xnor]) -> nn.Module:
    """Even sums of ±α, so that many are 0 but for rounding."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), layer(32, 32, 3, padding=1), nn.BatchNorm2d(32), layer(32, 8, 3)
    ).eval()  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_sums_that_are_zero_but_for_rounding_are_no_bug(seed: int) -> None:
    torch.manual_seed(seed)
    compiled = fc.compile(_untrained(Xnor), torch.randn(1, 3, 12, 12))
    assert "differ by more, where rounding decides" in compiled.manifest.verify
    assert [layer.method for layer in compiled.layers] == ["dense", "bitserial", "bitserial"]


@tvm.transform.module_pass(opt_level=0, name="ShiftDecisions")
class ShiftDecisions:
    """Stands for a graph pass with a bug: everything is compared with 0.2 instead of 0."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        def shift(_rewriter: CallRewriter, call: relax.Call) -> relax.Expr:
            return relax.Call(call.op, [call.args[0], relax.const(0.2, "float32")])

        return rewrite_calls(mod, {"greater": shift, "greater_equal": shift})


@pytest.mark.parametrize("layer", [Xnor, Half])
def test_a_wrong_threshold_is_a_bug(layer: type[Xnor], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = _untrained(layer)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.3, 0.3)
    original = pipeline.canonicalize
    monkeypatch.setattr(
        prepare.pipeline, "canonicalize", lambda machine: [ShiftDecisions(), *original(machine)]
    )
    with pytest.raises(fc.FastconvError, match=r"wrong in [02]: off by .* This is a bug"):
        fc.compile(model, torch.randn(1, 3, 12, 12))


def test_says_so_where_nothing_can_be_compared() -> None:
    model, x = nn.Conv2d(3, 4, 3).eval(), torch.randn(1, 3, 8, 8)
    program = torch.export.export(model, (x,))
    program.example_inputs = None
    with pytest.warns(UserWarning, match="not verified: there are no example inputs"):
        compiled = fc.compile(program)
    assert compiled.manifest.verify == "not verified: no example inputs"


def test_what_is_not_as_the_model_says_on_purpose_is_said() -> None:
    class Signs(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.conv2d(torch.sign(x), torch.sign(self.weight))

    model, x = Signs(32, 32, 3).eval(), torch.randn(1, 32, 8, 8)
    with pytest.warns(UserWarning, match=r"sign\(0\) is taken as \+1"):
        assert "PyTorch, with sign(0) taken as +1, from equal" in fc.compile(model, x).manifest.verify
    lossy = fc.compile(nn.Conv2d(16, 16, 3).eval(), torch.randn(1, 16, 8, 8), methods=fc.Tucker(error=0.5))
    assert "the approximations that were asked for" in lossy.manifest.verify


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_among_the_example_inputs_are_said_and_no_bug(value: float) -> None:
    class Rounded(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(torch.round(x.clamp(0, 1) * 3) / 3)

    model, x = Rounded(32, 32, 3).eval(), torch.randn(1, 32, 8, 8)
    model.weight.data.sign_()
    x[0, 0, 0, 0] = value
    with pytest.warns(UserWarning, match="the example inputs hold NaN or infinity"):
        compiled = fc.compile(model, x)
    assert compiled.manifest.verify == "not verified: the example inputs hold NaN or infinity"


def test_an_example_that_hides_a_layer_is_no_excuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of zeros, every convolution without bias is right; random inputs tell."""
    model, x = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.ReLU()).eval(), torch.zeros(1, 3, 14, 14)
    (layer, call), *_ = zip(*_layers_and_calls(model, x), strict=True)
    original = pipeline.schedule_passes
    monkeypatch.setattr(
        prepare.pipeline, "schedule_passes", lambda *where: [*original(*where), BreakFunction(call.function)]
    )
    with pytest.raises(fc.FastconvError, match=f"wrong in {layer.name}: .* on random inputs"):
        fc.compile(model, x)


def test_layers_report_what_they_are_off_by() -> None:
    compiled = fc.compile(
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1)).eval(), torch.randn(1, 3, 9, 9)
    )
    errors = [layer.error for layer in compiled.layers]
    assert None not in errors
    assert 0 < max(errors) < 2e-5  # float32 sums in another order


def test_random_inputs_keep_to_the_examples_range() -> None:
    examples = (
        np.array([2.0, 5.0] * 50, np.float32), np.zeros(100, np.float32), np.arange(3, 9), np.zeros(100, bool),
    )  # fmt: skip
    spread, normal, integers, masks = random_inputs(examples)
    assert 2 <= spread.min() < spread.max() <= 5
    assert normal.std() > 0.5
    assert integers.dtype == examples[2].dtype
    assert set(integers) <= set(range(3, 9))
    assert set(masks) == {False, True}


class OneValue:
    """A source of one value, which rounding moves by ``spread``."""

    by, inputs, outputs, channel_axes = "a test", (), ("y",), (1,)

    def __init__(self, spread: np.ndarray, values: tuple[float, ...] = (1.0, 1000.0)) -> None:
        self.spread, self.values = spread, np.array(values)

    def run(self, *_inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return ()

    def evaluate(self, _name: str, _known: Known, roundings: Roundings | None = None) -> np.ndarray:
        moved = self.spread * roundings.signs(self.spread.shape) if roundings else 0.0
        return self.values + moved

    def decides(self, _name: str, _known: Known) -> bool:
        return False


def _compared(got: list[float], spread: tuple[float, float] = (0.0, 0.0)) -> Comparison:
    return compare(np.array(got), np.array([1.0, 1000.0]), OneValue(np.array(spread)), "y", {})


def test_comparing_allows_rounding_and_nothing_else() -> None:
    assert _compared([1.01, 1000.0]).agrees  # 2e-5 of the largest value is 0.02
    assert not _compared([1.1, 1000.0]).agrees
    assert not _compared([float("nan"), 1000.0]).agrees
    assert _compared([9.0, 1000.0], spread=(5.0, 0.0)).agrees
    assert not _compared([9.0, 1000.0], spread=(0.0, 5.0)).agrees
    assert _compared([9.0, 1000.0], spread=(5.0, 0.0)).open == 0.5


def test_each_channel_is_compared_with_its_own_largest_value() -> None:
    want = np.ones((1, 2, 3, 3))
    want[0, 1] = 1e6
    source, off = OneValue(np.zeros(want.shape), want), np.zeros(want.shape)
    off[0, 0, 1, 1] = 1e-4  # 1e-10 of the largest of all
    assert not compare(want + off, want, source, "y", {}).agrees
    assert compare(want + off / 10, want, source, "y", {}).agrees
    assert compare(want + 1e5 * np.flip(off, 1), want, source, "y", {}).agrees


def test_integers_are_equal() -> None:
    source, want = OneValue(np.zeros(2), (1, 100_000)), np.array([1, 100_000])
    assert compare(want, want, source, "y", {}).agrees
    assert not compare(want + np.array([0, 1]), want, source, "y", {}).agrees


def test_a_trial_beyond_all_numbers_allows_nothing() -> None:
    assert not _compared([9.0, 1000.0], spread=(float("inf"), 0.0)).agrees


class Outputs(nn.Module):
    """An output that is an input, and one of an operator with several results."""

    def forward(self, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return F.layer_norm(y, (12,)).relu(), y


def test_outputs_that_are_inputs_and_nodes_of_several_results() -> None:
    compiled = fc.compile(Outputs(), torch.randn(1, 3, 12, 12))
    assert "verified against PyTorch" in compiled.manifest.verify
    assert (
        "verified" in fc.compile(nn.Softmax(1), torch.tensor([[-1.7e308, 1.7e308]]).double()).manifest.verify
    )


def test_means_that_cancel_are_no_bug_after_approximations() -> None:
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(3, 16, 3),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3),
        nn.InstanceNorm2d(16),
        nn.AdaptiveAvgPool2d(1),
    )
    lookup = {"2": fc.Lookup(dictionary_size=8, density=0.3)}
    fc.compile(nn.Sequential(*layers).eval(), torch.randn(1, 3, 12, 12), methods=lookup)


class Signs(nn.Conv2d):
    """Weights and inputs of exactly ±1: its sums are integers, and 0 is no matter of rounding."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(torch.where(x >= 0, 1.0, -1.0), torch.where(self.weight >= 0, 1.0, -1.0))


def test_exact_ties_are_no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Signs(32, 32, 3), Signs(32, 32, 3)).eval()
    x = torch.randn(1, 32, 10, 10)

    @tvm.transform.module_pass(opt_level=0, name="StrictDecisions")
    class StrictDecisions:
        def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
            def strict(_rewriter: CallRewriter, call: relax.Call) -> relax.Expr:
                return relax.op.greater(*call.args)

            return rewrite_calls(mod, {"greater_equal": strict})

    assert "threshold" not in fc.compile(model, x).manifest.verify
    original = pipeline.canonicalize
    monkeypatch.setattr(
        prepare.pipeline, "canonicalize", lambda machine: [StrictDecisions(), *original(machine)]
    )
    with pytest.raises(fc.FastconvError, match=r"wrong in [01]: "):
        fc.compile(model, x)


@tvm.transform.module_pass(opt_level=0, name="AbsForRelu")
class AbsForRelu:
    """Stands for a graph pass with a bug: negative values change their signs."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        return rewrite_calls(mod, {"nn.relu": lambda _, call: keep_name(relax.op.abs(call.args[0]), call)})


def test_an_approximated_layer_exempts_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3)).eval()
    x, methods = torch.randn(1, 3, 12, 12), {"3": fc.Tucker(error=0.5)}
    fc.compile(model, x, methods=methods)
    original = pipeline.canonicalize
    monkeypatch.setattr(prepare.pipeline, "canonicalize", lambda machine: [*original(machine), AbsForRelu()])
    with pytest.raises(fc.FastconvError, match=r"wrong in 2: .* that PyTorch computes in that channel"):
        fc.compile(model, x, methods=methods)


class Filled(nn.Module):
    """Writes into memory that nobody has written before, piece by piece."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.empty_like(x)
        y[:, :2] = x[:, :2] * 2
        y[:, 2:] = x[:, 2:] + 1
        return y.new_empty(y.shape).copy_(y)


def test_what_is_filled_later_is_not_compared_with_what_memory_held() -> None:
    x = torch.randn(1, 4, 6, 6)
    assert torch.equal(fc.compile(Filled().eval(), x)(x), Filled()(x))


class Applied(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


SMALL = 1e-3 * torch.randn(1, 3, 64, 64)

RIGHT: dict[str, tuple[nn.Module, torch.Tensor]] = {
    "attention, whose result lies in memory as PyTorch likes": (
        nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), torch.randn(2, 10, 16),
    ),
    "two roundings of the same size, one against the other": (Applied(lambda x: 1 - torch.cos(x)), SMALL),
    "the same of a tanh": (Applied(F.tanhshrink), SMALL),
    "a norm by the batch's own statistics": (
        nn.BatchNorm2d(3, track_running_stats=False), 200 + 0.1 * torch.rand(2, 3, 16, 16),
    ),
    "a channel without values": (
        nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.Conv2d(3, 4, 3)),
        1000 * torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1, 1) + torch.rand(2, 3, 16, 16),
    ),
    "an image enlarged": (nn.Upsample(scale_factor=7, mode="bilinear"), torch.rand(1, 3, 40, 40)),
    "a softmax of large numbers": (nn.Softmax(1), 80 * torch.randn(1, 100)),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_rounding_is_no_bug(name: str) -> None:
    model, x = RIGHT[name]
    assert "verified" in fc.compile(model.eval(), x).manifest.verify


@pytest.mark.parametrize("spread", [0.0, 5.0])
def test_what_rounding_moves_is_relative_to_the_largest_output(spread: float) -> None:
    source = OneValue(np.array([spread, 0.0]))
    assert moved_by_roundings(source, ()) == spread / 1000.0
