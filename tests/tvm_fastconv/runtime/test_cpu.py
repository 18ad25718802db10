import ctypes
import os
import platform
import subprocess
import sys

import pytest

from tvm_fastconv.architectures import ARCHITECTURES, aarch64, x86_64
from tvm_fastconv.runtime import cpu

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="compares with x86 sources of truth")


def _run(code: str, **environment: str) -> set[str]:
    command = [sys.executable, "-c", f"from tvm_fastconv.runtime import cpu; {code}"]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_cpuid_agrees_with_cpuinfo() -> None:
    flags = cpu._cpuinfo_flags()
    features = ARCHITECTURES["x86_64"].features
    assert cpu.host_features() == {name for name, flag in features.items() if flag in flags}


def test_an_old_c_library_leaves_cpuinfo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(x86_64.ctypes, "CDLL", lambda name: _NoSymbols())
    monkeypatch.setattr(cpu, "_cpuinfo_flags", lambda: frozenset({"avx2", "abm", "unrelated"}))
    assert cpu.host_features() == {"avx2", "lzcnt"}


def test_a_processor_has_a_name() -> None:
    assert cpu.processor_name()


class _NoSymbols:
    def __getitem__(self, name: str) -> None:
        raise AttributeError(name)


def test_a_feature_that_the_system_switched_off_is_missing() -> None:
    if "avx2" not in cpu.host_features() or not hasattr(ctypes.CDLL(None), "__x86_get_cpuid_feature_leaf"):
        pytest.skip("needs AVX2 and glibc 2.33, whose tunables can hide it")
    code = "print(*cpu.missing_features(['sse3', 'avx2']))"
    assert _run(code, GLIBC_TUNABLES="glibc.cpu.hwcaps=-AVX2") == {"avx2"}


def test_missing_features_keeps_the_order_and_names_the_unknown() -> None:
    assert "sse3" in cpu.host_features()
    assert cpu.missing_features(["from-the-future", "sse3", "amx-tile"]) == ("from-the-future", "amx-tile")


class _Auxiliary:
    """A C library whose ``getauxval`` knows these."""

    def __init__(self, **values: int) -> None:
        self.values = {16: values["hwcap"], 26: values["hwcap2"]}

    def __getitem__(self, name: str) -> object:
        assert name == "getauxval"

        def value_of(entry: int) -> int:
            return self.values[entry]

        return value_of


@pytest.mark.parametrize(
    ("hwcap", "hwcap2", "features"),
    [  # as qemu answers for a cortex-a72 and a neoverse-n1, and what a neoverse-v1 has besides
        (0x8FB, 0, "neon crc"),
        (0x119FFB, 0, "neon crc lse fullfp16 rdm dotprod"),
        (0x119FFB | 1 << 22, 1 << 13 | 1 << 14, "neon crc lse fullfp16 rdm dotprod sve i8mm bf16"),
        (0, 1 << 1, "sve2"),
    ],
)
def test_arm_asks_the_auxiliary_vector(
    hwcap: int, hwcap2: int, features: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(aarch64.ctypes, "CDLL", lambda name: _Auxiliary(hwcap=hwcap, hwcap2=hwcap2))
    assert cpu.host_features() == set(features.split())


def test_arm_reads_cpuinfo_where_there_is_no_auxiliary_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(aarch64.ctypes, "CDLL", lambda name: _NoSymbols())
    monkeypatch.setattr(cpu, "_cpuinfo_flags", lambda: frozenset({"fp", "asimd", "asimddp"}))
    assert cpu.host_features() == {"neon", "dotprod"}


def test_of_an_architecture_without_a_row_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu.platform, "machine", lambda: "riscv64")
    assert cpu.host_features() == frozenset()


def test_neither_tvm_nor_numpy_is_imported() -> None:
    code = (
        "import sys; print(*cpu.host_features()); assert not {'tvm', 'tvm_ffi', 'numpy'} & set(sys.modules)"
    )
    assert _run(code) == cpu.host_features()
