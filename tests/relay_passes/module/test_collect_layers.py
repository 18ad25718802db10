import torch
import tvm
from torch import nn

from tvm_fastconv.frontend import import_model
from tvm_fastconv.relay_passes import graph_passes
from tvm_fastconv.relay_passes.module.collect_layers import RecordedCall, recorded_calls

from ..operators import HASWELL, PLANNER


def _calls(model: nn.Module, x: torch.Tensor) -> tuple[tvm.IRModule, list[RecordedCall]]:
    with HASWELL:
        mod = tvm.transform.Sequential(graph_passes(PLANNER))(import_model(model.eval(), x).mod)
    return mod, recorded_calls(mod)


def test_equal_layers_share_one_function_and_keep_their_names() -> None:
    layers = [nn.Conv2d(8, 8, 3, padding=1, groups=8) for _ in range(3)]
    mod, calls = _calls(nn.Sequential(*layers), torch.randn(1, 8, 9, 9))
    ours = [call for call in calls if call.layers]
    assert [call.layers[-1]["name"] for call in ours] == ["0", "1", "2"]
    assert len({call.function for call in ours}) == 1
    assert {call.function for call in calls} <= {var.name_hint for var in mod.get_global_vars()}


def test_no_function_holds_a_name_any_more() -> None:
    mod, _ = _calls(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), torch.randn(1, 3, 9, 9))
    functions = [func for func in mod.functions.values() if isinstance(func, tvm.tirx.PrimFunc)]
    assert not any("fastconv.layer" in func.script() for func in functions)


class Branches(nn.Module):
    """Two layers of one input, added."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.left(x), 1) + torch.softmax(self.right(x), 1)


def test_calls_say_which_calls_they_read() -> None:
    _, calls = _calls(Branches(), torch.randn(1, 3, 9, 9))
    layer_of = {place: call.layers[-1]["name"] for place, call in enumerate(calls) if call.layers}

    def behind(place: int) -> set[str]:
        found = {layer_of[place]} if place in layer_of else set()
        return found.union(*(behind(read) for read in calls[place].reads))

    assert behind(len(calls) - 1) == {"left", "right"}
    assert [read for place in layer_of for read in calls[place].reads if read in layer_of] == []
