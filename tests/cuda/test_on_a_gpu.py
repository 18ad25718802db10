"""What only a GPU can show: files loaded by the driver, streams, threads, tensors that stay there.

Where there is none, `test_stand_in.py` runs what needs none of PyTorch's tensors there.
"""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tvm_fastconv as fc
from tvm_fastconv.errors import ArtifactError, InputError
from tvm_fastconv.gpu_targets import ARCHES
from tvm_fastconv.runtime import cudart as cudart_functions
from tvm_fastconv.runtime.cudart import cudart
from tvm_fastconv.runtime.gpu import compute_capability, gpu_obstacle
from tvm_fastconv.train.layers import BinaryConv2d

from ..close import assert_close
from .networks import residual_network, settled
from .stand_in import is_stand_in

REASON = gpu_obstacle((compute_capability() or max(ARCHES),))

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(REASON is not None, reason=str(REASON))]

of_torch = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU")


def binary_network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, 1, 1), nn.BatchNorm2d(32), BinaryConv2d(32, 64, 3, 1, 1), nn.BatchNorm2d(64),
        BinaryConv2d(64, 48, 3, 2, 1), nn.BatchNorm2d(48), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 10),
    )  # fmt: skip


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 3, 20, 20)


@pytest.fixture(scope="module")
def model(images: torch.Tensor) -> nn.Module:
    return settled(residual_network(), images)


@pytest.fixture(scope="module")
def compiled(model: nn.Module, images: torch.Tensor) -> fc.CompiledModel:
    return fc.compile(model, images, target="cuda")


def test_every_function_is_verified_on_the_gpu(compiled: fc.CompiledModel) -> None:
    assert compiled.manifest.verify.startswith("verified against PyTorch")
    assert compiled.check() < 1e-5


def test_tf32_is_verified_with_its_own_tolerance(model: nn.Module, images: torch.Tensor) -> None:
    found = fc.compile(model, images, target="cuda", allow_tf32=True)
    assert found.manifest.verify.startswith("verified against PyTorch")
    assert "tf32_conv2d" in [layer.op for layer in found.layers]
    # Seven layers whose factors are off by 2^-11, each by less than a thousandth of its largest output.
    assert 1e-5 < found.check() < 2e-3


def test_a_binary_network_is_verified_layer_by_layer(images: torch.Tensor) -> None:
    found = fc.compile(settled(binary_network(), images), images, target="cuda")
    assert found.manifest.verify.startswith("verified against PyTorch")
    assert [layer.op for layer in found.layers].count("bitserial_conv2d") == 2


@torch.no_grad()
def test_arrays_of_the_host_come_back_there(
    compiled: fc.CompiledModel, model: nn.Module, images: torch.Tensor, tmp_path: Path
) -> None:
    compiled.save(tmp_path / "model.so")
    loaded, want = fc.load(tmp_path / "model.so"), model(images).numpy()
    for _ in range(3):  # the first call captures graphs, which the others replay
        assert_close(loaded(images.numpy()), want, 1e-5)  # layers in another order of summation
    assert_close(loaded(images), want, 1e-5)


@of_torch
@torch.no_grad()
def test_tensors_of_the_gpu_stay_there(
    compiled: fc.CompiledModel, model: nn.Module, images: torch.Tensor
) -> None:
    loaded, want = compiled, model(images).numpy()
    on_gpu = loaded(images.cuda())
    assert on_gpu.is_cuda
    for got in (on_gpu.cpu(), loaded(images.cuda()[:, :, :, :]).cpu()):
        # Layers in another order of summation.
        assert_close(got, want, 1e-5)
    strided = images.cuda().to(memory_format=torch.channels_last)
    assert_close(loaded(strided).cpu(), want, 1e-5)


def test_threads_take_turns(compiled: fc.CompiledModel, images: torch.Tensor) -> None:
    inputs = [np.random.default_rng(seed).random(images.shape, np.float32) for seed in range(4)]
    wanted = [compiled(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for got, want in zip(pool.map(compiled, inputs * 5), wanted * 5, strict=True):
            np.testing.assert_array_equal(got, want)


def test_memory_is_given_back(compiled: fc.CompiledModel, images: torch.Tensor, tmp_path: Path) -> None:
    def unused() -> int:
        gc.collect()
        sizes = (ctypes.c_size_t(), ctypes.c_size_t())
        assert not cudart().cudaMemGetInfo(*map(ctypes.byref, sizes))
        return sizes[0].value

    compiled.save(tmp_path / "model.so")
    fc.load(tmp_path / "model.so")(images.numpy())
    before = unused()
    for _ in range(3):
        loaded = fc.load(tmp_path / "model.so")
        loaded(images.numpy())
        assert not is_stand_in() or unused() < before
        del loaded
    assert unused() >= before


def test_what_cannot_be_loaded_leaves_others_alone(
    compiled: fc.CompiledModel, images: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, want = cudart_functions.new, compiled(images.numpy())

    def refuses(name: str, *arguments: int) -> int:
        if name == "cudaGraphInstantiate":
            raise ArtifactError("cudaGraphInstantiate: out of memory")
        return plain(name, *arguments)

    compiled.save(tmp_path / "model.so")
    with monkeypatch.context() as patch:
        patch.setattr(cudart_functions, "new", refuses)
        with pytest.raises(ArtifactError, match="out of memory"):
            fc.load(tmp_path / "model.so")
    np.testing.assert_array_equal(compiled(images.numpy()), want)
    with pytest.raises(ArtifactError, match="cudaMalloc"):
        cudart_functions.new("cudaMalloc", 1 << 60)
    assert cudart().cudaPeekAtLastError() == 0


def test_daemons_may_be_calling_at_the_end(compiled: fc.CompiledModel, tmp_path: Path) -> None:
    compiled.save(tmp_path / "model.so")
    program = f"""
import threading, time, numpy as np, tvm_fastconv as fc
model = fc.load({str(tmp_path / "model.so")!r})
def work():
    while True:
        model(np.zeros((2, 3, 20, 20), np.float32))
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.5)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


class Signs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return torch.where(y > 0.1, 1.0, -1.0) * y.abs().sum()


def test_numbers_of_python_are_part_of_the_graph(images: torch.Tensor) -> None:
    compiled = fc.compile(Signs().eval(), images, target="cuda")
    assert compiled.manifest.virtual_machine == ""
    assert compiled.check() < 1e-5


def test_it_is_one_graph(compiled: fc.CompiledModel) -> None:
    assert compiled.manifest.virtual_machine == ""
    with pytest.raises(InputError, match="cannot be bound: it runs on a GPU"):
        compiled.bind(np.zeros((2, 3, 20, 20), np.float32))


@of_torch
@torch.no_grad()
def test_streams_in_turn_do_not_disturb_each_other(compiled: fc.CompiledModel, images: torch.Tensor) -> None:
    """TVM's pool of memory would give one stream what another still reads."""
    inputs = [torch.randn_like(images).cuda() for _ in range(40)]
    wanted = [compiled(x).cpu() for x in inputs]
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    torch.cuda.synchronize()
    outputs = []
    for number, x in enumerate(inputs):
        with torch.cuda.stream(streams[number % 2]):
            outputs.append(compiled(x))
    torch.cuda.synchronize()
    for got, want in zip(outputs, wanted, strict=True):
        torch.testing.assert_close(got.cpu(), want, rtol=0, atol=0)


@of_torch
@torch.no_grad()
def test_threads_with_streams_of_their_own(model: nn.Module, images: torch.Tensor) -> None:
    """From the first call on, which captures a graph."""
    fresh, failures = fc.compile(model, images, target="cuda"), []
    inputs = [torch.randn_like(images).cuda() for _ in range(4)]
    wanted = [model.cuda()(x) for x in inputs]
    model.cpu()
    torch.cuda.synchronize()

    def work(x: torch.Tensor, want: torch.Tensor) -> None:
        stream = torch.cuda.Stream()
        with torch.no_grad(), torch.cuda.stream(stream):
            for _ in range(20):
                got = fresh(x)
                stream.synchronize()
                if (got - want).abs().max() > 1e-4 * want.abs().max():
                    failures.append(float((got - want).abs().max()))

    threads = [threading.Thread(target=work, args=pair) for pair in zip(inputs, wanted, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@torch.no_grad()
def test_models_in_turn_do_not_disturb_each_other(model: nn.Module, images: torch.Tensor) -> None:
    """The larger one needs more memory between the kernels of a layer; graphs of the other hold on to theirs."""
    small = fc.compile(model, images[:1], target="cuda")
    large = fc.compile(model, more := torch.randn(16, 3, 40, 40), target="cuda")
    for x, compiled in [(images[:1], small), (more, large)] * 3:
        assert_close(compiled(x), model(x), 1e-5)  # layers in another order of summation


@torch.no_grad()
def test_any_batch(model: nn.Module, images: torch.Tensor) -> None:
    program = torch.export.export(model, (images,), dynamic_shapes=[{0: torch.export.Dim("n", min=1)}])
    found = fc.compile(program, images, target="cuda")
    assert found.manifest.virtual_machine == "shapes are dynamic"
    for batch in (2, 1, 5):
        x = torch.randn(batch, 3, 20, 20)
        assert_close(found(x), model(x), 1e-5)


def test_layers_are_timed(compiled: fc.CompiledModel, images: torch.Tensor) -> None:
    profile = compiled.profile(images, repeat=3)
    assert {layer.name for layer in compiled.layers} <= set(profile.layers)
    assert all(ms > 0 for ms in profile.layers.values())


@of_torch
@pytest.mark.parametrize("shape", [(33, 100, 70), (128, 1024, 256), (1, 31, 1)])
def test_signs_are_multiplied_on_the_gpu(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    m, k, n = shape
    a, b = (torch.randn(size, device="cuda", requires_grad=True) for size in ((m, k), (k, n)))
    got = fc.ops.xnor_gemm(a, b)
    want = torch.where(a >= 0, 1.0, -1.0) @ torch.where(b >= 0, 1.0, -1.0)
    assert got.is_cuda
    np.testing.assert_array_equal(got.detach().cpu(), want.detach().cpu())
    got.backward(torch.ones_like(got))
    assert a.grad is not None
    passed = torch.where(a.abs() <= 1, torch.ones_like(want) @ torch.where(b >= 0, 1.0, -1.0).T, 0)
    torch.testing.assert_close(a.grad, passed.detach())


@of_torch
def test_signs_are_convolved_on_the_gpu() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 40, 9, 11, device="cuda"), torch.randn(24, 40, 3, 3, device="cuda")
    got = fc.ops.xnor_conv2d(x, weight, stride=2, padding=1)
    signs = [torch.where(each >= 0, 1.0, -1.0) for each in (x, weight)]
    want = nn.functional.conv2d(*signs, stride=2, padding=1)
    np.testing.assert_array_equal(got.cpu(), want.round().cpu())


@of_torch
def test_tensors_of_two_devices_are_refused() -> None:
    with pytest.raises(InputError, match="a is on cpu, b is on cuda:0; expected one device"):
        fc.ops.xnor_gemm(torch.ones(2, 3), torch.ones(3, 2, device="cuda"))
