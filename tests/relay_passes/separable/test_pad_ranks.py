import pytest
import torch
import tvm
from torch import nn

import tvm_fastconv as fc
from tvm_fastconv.frontend import import_model
from tvm_fastconv.relay_passes import pipeline
from tvm_fastconv.relay_passes.graph.layer_names import named_layers
from tvm_fastconv.relay_passes.graph.rewrite import constant_array, op_name
from tvm_fastconv.relay_passes.separable.pad_ranks import PadRanks
from tvm_fastconv.topi.machines import machine_of

from ...close import assert_close

MACHINE = machine_of(tvm.target.Target({"kind": "llvm", "mcpu": "x86-64-v4"}))
X = torch.randn(1, 20, 9, 11, generator=torch.Generator().manual_seed(0))


def _depthwise(channels: int, kernel: tuple[int, int], **kwargs: object) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel, groups=channels, **kwargs)  # type: ignore[arg-type]


def _cp(rank: int, bias: bool = False) -> list[nn.Module]:
    return [
        nn.Conv2d(20, rank, 1, bias=bias), _depthwise(rank, (3, 1), stride=(2, 1), padding=(1, 0), bias=bias),
        _depthwise(rank, (1, 3), bias=bias), nn.Conv2d(rank, 30, 1),
    ]  # fmt: skip


def _outputs(layers: list[nn.Module]) -> list[int]:
    """Output channels of the convolutions that are left."""
    mod = tvm.IRModule({"main": import_model(nn.Sequential(*layers).eval(), (X,)).mod["main"]})
    passes = [*pipeline.simplify(), *pipeline.canonicalize(MACHINE), PadRanks(MACHINE)]
    main = tvm.transform.Sequential(passes)(mod)["main"]
    assert named_layers(main) == [str(i) for i, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
    values = [binding.value for block in main.body.blocks for binding in block.bindings]
    return [len(constant_array(value.args[1])) for value in values if op_name(value) == "nn.conv2d"]


@pytest.mark.parametrize(
    ("layers", "outputs"),
    [
        (_cp(39), [40, 40, 40, 30]),
        (_cp(39, bias=True), [40, 40, 40, 30]),
        (_cp(40), [40, 40, 40, 30]),
        (_cp(3), [3, 3, 3, 30]),
        ([nn.Conv2d(20, 7, 1), nn.Conv2d(7, 9, 3), nn.Conv2d(9, 30, 1)], [8, 16, 30]),
        ([nn.Conv2d(20, 13, (3, 1)), nn.Conv2d(13, 13, (1, 3))], [16, 13]),
        # With an activation inside, zeros need not stay zeros.
        ([nn.Conv2d(20, 39, 1), nn.Sigmoid(), _depthwise(39, (3, 3)), nn.Conv2d(39, 30, 1)], [39, 39, 30]),
        ([_depthwise(20, (3, 1)), _depthwise(20, (1, 3))], [20, 20]),
        ([nn.Conv2d(20, 34, (3, 1), groups=2), nn.Conv2d(34, 34, (1, 3))], [34, 34]),
    ],
)
def test_inner_channels_fill_vectors(layers: list[nn.Module], outputs: list[int]) -> None:
    assert _outputs(layers) == outputs


@pytest.mark.parametrize("bias", [False, True])
def test_it_computes_the_same(bias: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*_cp(39, bias)).eval()
    want = model(X)
    got = fc.compile(model, (X,))(X)
    # 2e-6: four sums of at most 40 float32 terms in another order
    assert_close(got, want, 2e-6)
