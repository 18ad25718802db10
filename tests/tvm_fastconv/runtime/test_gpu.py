"""What the runtime says of a GPU where there is none, or another one."""

import pytest
import torch
import tvm_ffi
from torch import nn

import tvm_fastconv as fc
from tvm_fastconv.artifact.machine_code import MachineCode
from tvm_fastconv.errors import ArtifactError
from tvm_fastconv.runtime import gpu
from tvm_fastconv.runtime.gpu import gpu_obstacle, without_graphs


@pytest.mark.parametrize(
    ("arches", "present", "obstacle"),
    [
        ((90,), None, "it needs an NVIDIA GPU, and this machine has none, or no driver for it"),
        ((75, 80), 70, "it holds code for sm_75, sm_80, and this GPU is sm_70"),
        ((90,), 89, "it holds code for sm_90, and this GPU is sm_89"),
        ((90,), 90, None),
        ((80,), 86, None),
        ((75, 80), 120, None),
    ],
)
def test_machine_code_runs_on_its_major_version_and_ptx_on_all_that_come_later(
    arches: tuple[int, ...], present: int | None, obstacle: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "compute_capability", lambda: present)
    monkeypatch.setattr(gpu, "_cuda_runtime", object)
    assert gpu_obstacle(arches) == obstacle


def test_without_the_cuda_runtime_the_reason_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "compute_capability", lambda: 90)
    monkeypatch.setattr(gpu, "_cuda_runtime", lambda: None)
    assert "pip install nvidia-cuda-runtime" in str(gpu_obstacle((90,)))


def test_graphs_are_left_out_and_put_back() -> None:
    names = ("vm.builtin.cuda_graph.run_or_capture", "vm.builtin.cuda_graph.get_cached_alloc")
    before = [tvm_ffi.get_global_func(name, allow_missing=True) for name in names]
    with without_graphs():
        assert all(tvm_ffi.get_global_func(name) is not None for name in names)
    after = [tvm_ffi.get_global_func(name, allow_missing=True) for name in names]
    assert [each is None for each in after] == [each is None for each in before]


@pytest.mark.skipif(gpu.compute_capability() is not None, reason="there is a GPU")
def test_a_file_for_a_gpu_is_made_and_described_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    made_code = MachineCode(b"code", ())
    monkeypatch.setattr("tvm_fastconv.artifact.fatbin.compile_cuda", lambda _source, _arches: made_code)
    monkeypatch.setattr("tvm_fastconv.prepare.find_cuda_compiler", object)
    torch.manual_seed(0)
    model, images = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval(), torch.randn(1, 3, 8, 8)
    made = fc.compile(model, images, target="cuda -arch=sm_86")
    assert made.manifest.gpu_arches == (86,)
    assert made.manifest.verify.startswith("not verified: it needs an NVIDIA GPU")
    assert made.manifest.reference is not None
    assert [layer.op for layer in made.layers] == ["conv2d"]
    with pytest.raises(ArtifactError, match="cannot run here: it needs an NVIDIA GPU"):
        made(images)
