"""Machine code by NVRTC where it is installed: every operator, every architecture, a whole network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tvm_fastconv as fc
from benchmarks.cuobjdump import contents, find_cuobjdump
from tvm_fastconv.artifact import cuda_compiler
from tvm_fastconv.artifact.artifact import read_artifact
from tvm_fastconv.artifact.cuda_compiler import Nvcc, find_nvcc
from tvm_fastconv.artifact.machine_code import MAGIC
from tvm_fastconv.artifact.nvrtc import Nvrtc, find_nvrtc
from tvm_fastconv.errors import TargetError
from tvm_fastconv.gpu_targets import ARCHES
from tvm_fastconv.topi.gpu import GPUS

from .networks import residual_network, settled
from .operators import ON_GPUS, source_of

NVRTC = find_nvrtc()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        isinstance(NVRTC, str), reason=f"needs NVRTC, pip install tvm-fastconv[nvrtc]: {NVRTC}"
    ),
]


@pytest.fixture(name="nvrtc")
def _nvrtc() -> Nvrtc:
    assert isinstance(NVRTC, Nvrtc)
    return NVRTC


@pytest.mark.parametrize("name", ON_GPUS)
def test_every_operator_is_compiled(name: str, nvrtc: Nvrtc) -> None:
    source = source_of(name, GPUS["h100"])
    made = nvrtc.compile(source, (90,))
    assert len(made.kernels) == source.count("__global__") // 2 > 0  # declared and defined
    assert all(kernel.registers > 0 for kernel in made.kernels)


@pytest.mark.parametrize("name", ["conv2d", "bitserial_conv2d", "lookup_conv2d", "max_pool2d"])
@pytest.mark.skipif(find_cuobjdump() is None, reason="needs cuobjdump: pip install tvm-fastconv[dev]")
def test_every_architecture_and_ptx_of_the_last_are_in_it(name: str, nvrtc: Nvrtc) -> None:
    made = nvrtc.compile(source_of(name, GPUS["t4"]), ARCHES)
    assert contents(made.fatbin) == ([f"sm_{arch}" for arch in ARCHES], [f"sm_{ARCHES[-1]}"])
    assert [kernel.arch for kernel in made.kernels] == sorted(kernel.arch for kernel in made.kernels)
    assert {kernel.arch for kernel in made.kernels} == set(ARCHES)


@pytest.mark.skipif(find_nvcc() is None, reason="needs nvcc beside it: pip install tvm-fastconv[cuda]")
def test_nvcc_calls_the_same_kernels_by_the_same_names(nvrtc: Nvrtc) -> None:
    source = source_of("winograd_conv2d", GPUS["t4"])
    by_nvcc = Nvcc(str(find_nvcc())).compile(source, (75, 90)).kernels
    by_nvrtc = nvrtc.compile(source, (75, 90)).kernels
    assert sorted((kernel.name, kernel.arch) for kernel in by_nvrtc) == sorted(
        (kernel.name, kernel.arch) for kernel in by_nvcc
    )


@pytest.mark.skipif(find_cuobjdump() is None, reason="needs cuobjdump: pip install tvm-fastconv[dev]")
def test_a_network_is_compiled_and_saved(
    nvrtc: Nvrtc, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cuda_compiler, "find_nvcc", lambda: None)
    torch.manual_seed(0)
    images = torch.randn(2, 3, 20, 20)
    compiled = fc.compile(settled(residual_network(), images), images, target="cuda", verify=False)
    compiled.save(tmp_path / "model.so")
    found = read_artifact(tmp_path / "model.so")
    assert found.manifest.gpu_arches == ARCHES
    content = (tmp_path / "model.so").read_bytes()
    at = content.index(MAGIC)
    size = int.from_bytes(content[at + 8 : at + 16], "little")  # of what follows the header of 16 bytes
    assert contents(content[at : at + 16 + size])[0] == [f"sm_{arch}" for arch in ARCHES]


def test_what_it_refuses_is_shown(nvrtc: Nvrtc) -> None:
    with pytest.raises(
        TargetError, match=r"NVRTC failed: --gpu-architecture=sm_90 .*\nkernels.cu\(1\): error"
    ):
        nvrtc.compile("what is this", (90,))
    with pytest.raises(TargetError, match=r"NVRTC failed: --gpu-architecture=sm_12 "):
        nvrtc.compile("", (12,))
