"""GPU machine code in place of source; the compiler is a stand-in."""

from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import te

from tvm_fastconv.artifact import fatbin
from tvm_fastconv.artifact.fatbin import (
    kept_source,
    pack_imports,
    source_kept,
    with_machine_code,
)
from tvm_fastconv.artifact.machine_code import MachineCode
from tvm_fastconv.errors import ArtifactError, TargetError
from tvm_fastconv.topi.build_operator import build
from tvm_fastconv.topi.gpu import GPUS
from tvm_fastconv.topi.planner import Planner

from ...topi.operator_cases import CASES

CODE = b"machine code"


@pytest.fixture(scope="module")
def packed() -> bytes:
    """A convolution's kernels as TVM packs them."""
    gpu = GPUS["h100"]
    op, problem = CASES["conv2d"]
    func = build(op, problem, Planner(gpu).planned(op, problem).knobs, gpu).func
    target = tvm.target.Target({"kind": "cuda", "arch": "sm_90"}, host={"kind": "llvm"})
    with source_kept():
        module = tvm.compile(
            tvm.IRModule({"main": func.with_attr("global_symbol", "main")}), target=target
        ).mod
    tensor = tvm.get_global_func("runtime.ModulePackImportsToTensor")(module)
    return tensor.numpy().tobytes()


def test_only_the_source_is_replaced(packed: bytes) -> None:
    seen: list[str] = []

    def compiler(source: str) -> bytes:
        seen.append(source)
        return CODE

    made = with_machine_code(packed, compiler)
    (source,) = seen
    assert "__global__" in source
    assert int.from_bytes(made[:8], "little") == len(made) - 8
    assert b"cubin" in made
    assert source.encode() not in made
    # A second time there is no source left to compile.
    assert with_machine_code(made, compiler) == made
    assert len(seen) == 1


@pytest.mark.parametrize("size", [7, 8, 40, 100])
def test_a_damaged_pack_is_an_error(packed: bytes, size: int) -> None:
    with pytest.raises(ValueError, match="end in the middle"):
        with_machine_code(packed[:size], lambda _source: CODE)


def test_the_source_is_kept_on_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fatbin, "compile_cuda", lambda _source, _arches: MachineCode(CODE, ()))
    x = te.placeholder((64,), "float32")
    func = te.create_prim_func([x, te.compute((64,), lambda i: x[i] + np.float32(1), name="more")])
    sch = tvm.s_tir.Schedule(tvm.IRModule({"main": func.with_attr("global_symbol", "main")}))
    sch.bind(sch.get_loops("more")[0], "threadIdx.x")
    target = tvm.target.Target({"kind": "cuda", "arch": "sm_90"}, host={"kind": "llvm"})
    with source_kept():
        module = tvm.compile(sch.mod, target=target).mod
    work = tmp_path / "work"
    work.mkdir()
    pack_imports((90,), kept_source(tmp_path / "kept", "cuda"))(module, False, "", str(work))
    assert "__global__" in (tmp_path / "kept" / "kernels.cu").read_text()
    assert CODE in (work / "devices.bin").read_bytes()


def test_a_file_in_place_of_the_folder_for_the_source_is_named(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("")
    with pytest.raises(ArtifactError, match=f"cannot keep CUDA source in {tmp_path / 'kept'}"):
        kept_source(tmp_path / "kept", "cuda")


@pytest.mark.parametrize("target", ["native", "x86_64-linux-gnu", Path("target.json")])
def test_source_of_a_target_that_is_no_gpu_is_refused(target: str | Path, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="there is no CUDA source to keep"):
        kept_source(tmp_path / "kept", target)
    assert not (tmp_path / "kept").exists()
