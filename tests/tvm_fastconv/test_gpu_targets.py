"""CUDA targets as users write them; no GPU is needed."""

from pathlib import Path

import pytest
import torch
import tvm

import tvm_fastconv as fc
from tvm_fastconv import gpu_targets
from tvm_fastconv.autotune.conditions import conditions_of
from tvm_fastconv.errors import InputError, ModelError, TargetError
from tvm_fastconv.gpu_targets import ARCHES, ASSUMED, arches_of, gpu_spec, host_of, is_cuda, with_tf32
from tvm_fastconv.machine_files import target_and_machine
from tvm_fastconv.record_files import device_for
from tvm_fastconv.runtime.gpu import compute_capability
from tvm_fastconv.targets import cpu_features, resolve_target, spec_of, triple_of
from tvm_fastconv.topi.gpu import gpu_named
from tvm_fastconv.topi.machines import machine_of


@pytest.fixture(autouse=True)
def without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_targets, "present_arch", lambda: None)
    monkeypatch.setattr(gpu_targets, "device_name", lambda: None)


@pytest.mark.parametrize(
    ("spec", "arch", "arches"),
    [
        ("cuda", f"sm_{ASSUMED}", ARCHES),
        ("cuda -arch=sm_86", "sm_86", (86,)),
        ("nvidia/nvidia-h100", "sm_90", (90,)),
        ("nvidia/geforce-rtx-3090", "sm_86", (86,)),
        ({"kind": "cuda", "arch": "sm_75"}, "sm_75", (75,)),
        ({"kind": "cuda"}, f"sm_{ASSUMED}", ARCHES),
        (tvm.target.Target({"kind": "cuda", "arch": "sm_89"}), "sm_89", (89,)),
    ],
)
def test_what_a_user_may_write(spec: object, arch: str, arches: tuple[int, ...]) -> None:
    target = resolve_target(spec)
    assert is_cuda(target)
    assert str(target.attrs["arch"]) == arch
    assert arches_of(target) == arches


def test_the_host_is_any_cpu_of_this_architecture() -> None:
    native = resolve_target("native")
    target = resolve_target("cuda -arch=sm_80")
    assert not is_cuda(native)
    assert host_of(native) is native
    assert triple_of(target) == triple_of(native)
    assert cpu_features(target) == cpu_features(resolve_target(triple_of(native)))


def test_a_gpu_that_is_there_is_compiled_for_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_targets, "present_arch", lambda: 89)
    assert str(resolve_target("cuda").attrs["arch"]) == "sm_89"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cuda -arch=sm_70", "cannot compile for 'sm_70'; allowed: sm_75, "),
        ("cuda -arch=ninety", "cannot compile for 'ninety'"),
        ("cuda -mcpu=znver4", "unknown target option '-mcpu=znver4'; allowed: \"cuda\""),
        ("nvidia/geforce-410m", "cannot compile for 'sm_21'"),
        ("nvidia/abacus", "unknown target 'nvidia/abacus'"),
        ("cuda -arch=", "cannot compile for ''"),
        ("cuda -arch=sm_090", "cannot compile for 'sm_090'"),
        ("cuda -arch=sm_\u0669\u0660", "cannot compile for"),
        (
            {"kind": "cuda", "libs": ["cudnn"]},
            "unknown entries ['libs'] of a target; allowed: kind, arch, gpu",
        ),
        ("cuda -gpu=l40", "unknown GPU 'l40'; allowed: t4, a100, "),
        ("cuda -gpu", "unknown target option '-gpu'"),
        ("cuda -arch=sm_80 -gpu=h100", "the GPU h100 is sm_90, not sm_80"),
        ({"arch": "sm_90"}, "cannot compile for target kind None"),
    ],
)
def test_what_is_unknown_is_named(spec: str, message: str) -> None:
    with pytest.raises(TargetError) as error:
        resolve_target(spec)
    assert message in str(error.value)


def test_a_tag_stands_for_its_gpu() -> None:
    assert spec_of(resolve_target("nvidia/geforce-rtx-4090")) == "cuda -arch=sm_89 -gpu=rtx4090"
    assert spec_of(resolve_target("nvidia/nvidia-a10")) == "cuda -arch=sm_86"


def test_the_spec_makes_the_same_target_again() -> None:
    for spec in ("cuda", "cuda -arch=sm_86", "cuda -gpu=l4"):
        target = resolve_target(spec)
        assert str(resolve_target(target)) == str(target)
        assert str(resolve_target(spec_of(target))) == str(target)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("cuda -arch=sm_75", "t4"),
        ("cuda -arch=sm_90", "h100"),
        ("cuda", "a100"),
        ("cuda -gpu=l4", "l4"),
        ("cuda -arch=sm_90 -gpu=h200", "h200"),
        ({"kind": "cuda", "gpu": "rtx3090"}, "rtx3090"),
        ("nvidia/geforce-rtx-4090", "rtx4090"),
        ("nvidia/nvidia-a10", "rtx3090"),
        ("nvidia/jetson-agx-orin-64gb", "orin"),
    ],
)
def test_the_row_is_that_of_its_name_or_one_of_its_architecture(spec: str, name: str) -> None:
    assert machine_of(resolve_target(spec)).name == name


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA A100-SXM4-40GB", "a100"),
        ("Tesla T4", "t4"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40", None),
        ("NVIDIA RTX A1000", None),
    ],
)
def test_rows_are_found_by_what_the_driver_calls_a_gpu(name: str, row: str | None) -> None:
    found = gpu_named(name)
    assert (found and found.name) == row


def test_a_gpu_that_is_there_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_targets, "present_arch", lambda: 90)
    monkeypatch.setattr(gpu_targets, "device_name", lambda: "NVIDIA H200")
    target = resolve_target("cuda")
    assert machine_of(target).name == "h200"
    assert arches_of(target) == ARCHES
    assert gpu_spec(target, one_arch=True) == "cuda -arch=sm_90 -gpu=h200"


def test_an_architecture_without_a_row_is_an_error() -> None:
    with pytest.raises(ValueError, match="no GPU is known of architecture 'sm_120'; allowed: sm_75, "):
        machine_of(tvm.target.Target({"kind": "cuda", "arch": "sm_120"}))


def test_tf32_is_for_gpus_that_have_it() -> None:
    every, one = resolve_target("cuda"), resolve_target("cuda -arch=sm_86")
    assert arches_of(with_tf32(every, machine_of(every))) == tuple(arch for arch in ARCHES if arch >= 80)
    assert arches_of(with_tf32(one, machine_of(one))) == (86,)
    assert spec_of(with_tf32(every, machine_of(every))) == "cuda"
    assert str(host_of(with_tf32(every, machine_of(every)))) == str(host_of(every))
    for spec, what in (("native", "a CPU"), ("cuda -arch=sm_75", "a GPU of architecture sm_75")):
        with pytest.raises(
            TargetError, match=f"allow_tf32 is set, and the target is {what}, which has no TF32"
        ):
            fc.compile(torch.nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8), target=spec, allow_tf32=True)


@pytest.mark.skipif(compute_capability() is not None, reason="there is a GPU")
def test_tuning_needs_the_gpu(tmp_path: Path) -> None:
    model, images = torch.nn.Conv2d(3, 8, 3).eval(), torch.randn(1, 3, 8, 8)
    with pytest.raises(InputError, match="cannot run what is compiled for cuda: it needs an NVIDIA GPU"):
        fc.tune(model, images, target="cuda", records=tmp_path / "records.jsonl", trials=1)


def test_measurements_are_of_a_gpu_by_its_name_whatever_else_is_compiled_for() -> None:
    for spec, name in (("cuda", "a100"), ("cuda -gpu=l4", "l4"), ("cuda -arch=sm_90", "h100")):
        target, machine = target_and_machine(spec)
        device = device_for(target, machine, 4)
        assert len(arches_of(resolve_target(device.target))) == 1
        assert machine_of(resolve_target(device.target)) == machine
        conditions = conditions_of(device)
        assert (conditions.cpu, conditions.threads) == (name, 1)


class Sums(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cumsum(x, 1)


def test_what_would_run_on_the_host_is_refused() -> None:
    with pytest.raises(ModelError, match="no kernel for a GPU can be made of cumsum"):
        fc.compile(Sums().eval(), torch.randn(2, 8), target="cuda -arch=sm_90")


def test_a_host_that_is_named_is_checked() -> None:
    for host in ({"kind": "c"}, {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "abacus"}):
        with pytest.raises(TargetError):
            resolve_target(tvm.target.Target({"kind": "cuda", "arch": "sm_80"}, host=tvm.target.Target(host)))


def test_without_a_compiler_nothing_is_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NVCC", str(tmp_path / "nvcc"))
    steps: list[str] = []
    with pytest.raises(TargetError, match="no CUDA compiler found at"):
        fc.compile(torch.nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8), target="cuda", progress=steps.append)
    assert steps == ["importing"]
