import platform

import pytest
import tvm

from tvm_fastconv import targets
from tvm_fastconv.architectures import ARCHITECTURES
from tvm_fastconv.errors import TargetError
from tvm_fastconv.runtime.cpu import host_features
from tvm_fastconv.targets import (
    NATIVE_CPU,
    cpu_features,
    known_cpus,
    known_tags,
    resolve_target,
    spec_of,
)
from tvm_fastconv.topi.machines import machine_of

X86 = "x86_64-linux-gnu"
FEATURES_OF_HASWELL = frozenset(cpu_features(resolve_target(f"{X86} -mcpu=haswell")))
FEATURES_OF_ZEN_4 = frozenset(cpu_features(resolve_target(f"{X86} -mcpu=znver4")))


@pytest.mark.parametrize(
    ("cpu", "lanes", "registers", "has", "lacks"),
    [
        ("znver4", 16, 32, "avx512vpopcntdq avx512vnni fma", "avx512fp16 avxvnni"),
        ("sapphirerapids", 16, 32, "avx512fp16 avxvnni avx512vpopcntdq", "sse4a"),
        ("haswell", 8, 16, "avx2 fma bmi2 lzcnt", "avx512f"),
        ("x86-64-v2", 4, 16, "sse4.2 popcnt", "avx"),
        ("x86-64", 4, 16, "", "sse3 popcnt"),
    ],
)
def test_x86_cpus(cpu: str, lanes: int, registers: int, has: str, lacks: str) -> None:
    target = resolve_target(f"{X86} -mcpu={cpu}")
    features = cpu_features(target)
    assert (machine_of(target).lanes, machine_of(target).registers) == (lanes, registers)
    assert set(has.split()) <= set(features)
    assert not set(lacks.split()) & set(features)
    assert list(features) == sorted(features)
    assert ("-prefer-256-bit" in target.attrs.get("mattr", ())) == (lanes == 16)


def test_neon() -> None:
    target = resolve_target("aarch64-linux-gnu -mcpu=cortex-a72")
    assert (machine_of(target).lanes, machine_of(target).registers) == (4, 32)
    assert cpu_features(target) == ("crc", "neon")


@pytest.mark.parametrize(
    ("spec", "triple", "cpu", "cores"),
    [
        ("cortex-a72", "aarch64-linux-gnu", "cortex-a72", 4),
        ("znver4 -num-cores=8", X86, "znver4", 8),
        ("apple-m1", "aarch64-linux-gnu", "apple-a14", 4),
        ("aarch64-linux-musl -mcpu=apple-m2", "aarch64-linux-musl", "apple-a15", 4),
        ("raspberry-pi/3b-aarch64", "aarch64-linux-gnu", "cortex-a53", 4),
        ("raspberry-pi/4b-aarch64", "aarch64-linux-gnu", "cortex-a72", 4),
        ("raspberry-pi/5-aarch64", "aarch64-linux-gnu", "cortex-a76", 4),
        ("aarch64-linux-android -mcpu=cortex-a78", "aarch64-linux-android", "cortex-a78", 4),
    ],
)
def test_cpus_boards_and_other_names(spec: str, triple: str, cpu: str, cores: int) -> None:
    target = resolve_target(spec)
    assert str(target.attrs["mtriple"]) == triple
    assert str(target.attrs["mcpu"]) == cpu
    assert int(target.attrs["num-cores"]) == cores
    assert str(resolve_target(spec_of(target))) == str(target)


@pytest.mark.parametrize(
    ("cpu", "dot_products", "dot_bits", "popcount"),
    [
        ("cortex-a53", False, 7, 3.0),
        ("cortex-a72", False, 7, 1.7),
        ("cortex-a76", True, 7, 3.3),
        ("cortex-a76 -mattr=-dotprod", False, 7, 3.3),
        ("neoverse-v1", True, 8, 3.3),
        ("cortex-a57", False, 7, 3.0),
        ("cortex-a710", True, 8, 3.0),
    ],
)
def test_arm_cpus(cpu: str, dot_products: bool, dot_bits: int, popcount: float) -> None:
    machine = machine_of(resolve_target(cpu))
    assert (machine.lanes, machine.dot_products, machine.dot_bits) == (4, dot_products, dot_bits)
    assert machine.popcount_cost == popcount


@pytest.mark.skipif(platform.system() != "Linux", reason="compiles for Linux")
def test_native_uses_what_this_machine_has_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NATIVE_CPU, raising=False)
    target = resolve_target("native")
    assert set(cpu_features(target)) == host_features()
    assert target.attrs["num-cores"] >= 1
    assert str(target.attrs["mtriple"]) == f"{platform.machine()}-linux-gnu"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names x86 features")
def test_native_leaves_out_what_the_hypervisor_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NATIVE_CPU, raising=False)
    monkeypatch.setattr(
        targets, "host_features", lambda: frozenset({"sse3", "ssse3", "sse4.1", "sse4.2", "popcnt"})
    )
    target = resolve_target("native")
    assert cpu_features(target) == ("popcnt", "sse3", "sse4.1", "sse4.2", "ssse3")
    assert machine_of(target).lanes == 4


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names x86 CPUs")
@pytest.mark.parametrize(
    ("cpu", "off"),
    [
        ("haswell", []),
        ("skylake-avx512", ["-prefer-256-bit"]),
        ("znver5", ["-avxvnni", "-prefer-256-bit"]),
        ("sapphirerapids", ["-avx512fp16", "-avxvnni", "-prefer-256-bit"]),
    ],
)
def test_native_can_be_another_cpu_less_what_this_machine_lacks(
    cpu: str, off: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NATIVE_CPU, cpu)
    monkeypatch.setattr(targets, "host_features", lambda: FEATURES_OF_ZEN_4)
    target, named = resolve_target("native"), resolve_target(f"{X86} -mcpu={cpu}")
    assert (target.attrs["mcpu"], list(target.attrs.get("mattr", ()))) == (cpu, off)
    assert set(cpu_features(target)) == set(cpu_features(named)) & FEATURES_OF_ZEN_4
    assert machine_of(target) == machine_of(named)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names x86 CPUs")
@pytest.mark.parametrize(
    ("cpu", "message"),
    [
        ("skylake-avx512", "FASTCONV_NATIVE_CPU=skylake-avx512: this machine .* lacks avx512bw.*, avx512f"),
        ("znver9", "unknown FASTCONV_NATIVE_CPU 'znver9' for x86_64-linux-gnu; did you mean znver5"),
    ],
)
def test_native_cannot_be_any_other_cpu(cpu: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NATIVE_CPU, cpu)
    monkeypatch.setattr(targets, "host_features", lambda: FEATURES_OF_HASWELL)
    with pytest.raises(TargetError, match=message):
        resolve_target("native")


def test_options() -> None:
    target = resolve_target(f"{X86} -mcpu=sapphirerapids -mattr=-avx512f,+fma4 -num-cores=6")
    assert "fma4" in cpu_features(target)
    assert not any(name.startswith("avx512") for name in cpu_features(target))
    assert (machine_of(target).lanes, target.attrs["num-cores"]) == (8, 6)


def test_the_users_own_preference_for_256_bits_stays() -> None:
    target = resolve_target(f"{X86} -mcpu=znver4 -mattr=+prefer-256-bit")
    assert list(target.attrs["mattr"]) == ["+prefer-256-bit"]


def test_extensions_that_the_loader_cannot_check_are_off() -> None:
    features = targets._llvm_features(resolve_target(f"{X86} -mcpu=diamondrapids"))
    assert "avx512f" in features
    assert not {"avx10.2", "egpr"} & features


@pytest.mark.parametrize("spec", ["native", f"{X86} -mcpu=znver4", "aarch64-linux-gnu", *known_tags()])
def test_every_known_target_resolves_and_resolving_again_changes_nothing(spec: str) -> None:
    target = resolve_target(spec)
    assert resolve_target(target).export() == target.export()
    assert set(cpu_features(target)) <= set(ARCHITECTURES[targets.architecture(target)].features)


def test_tags() -> None:
    assert "aws/cpu/c5.large" in known_tags()
    assert "arm/pynq" not in known_tags()  # 32 bits
    assert machine_of(resolve_target("aws/cpu/c5.large")).lanes == 16


def test_a_target_object_keeps_its_other_attributes() -> None:
    given = tvm.target.Target({"kind": "llvm", "mtriple": X86, "mcpu": "haswell", "opt-level": 2})
    assert resolve_target(given).attrs["opt-level"] == 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "the target is empty"),
        ("foo-bar", r"unknown target 'foo-bar'.*native.*x86_64-linux-gnu.*raspberry-pi/4b-aarch64"),
        ("riscv64-linux-gnu", "unknown target 'riscv64-linux-gnu'"),
        ("x86_64-apple-darwin", "unknown target"),
        (f"{X86} -mcpu=znver99", "unknown mcpu 'znver99'.*did you mean znver5.*haswell"),
        (f"{X86} -mcpu=i386", "unknown mcpu 'i386'"),
        (f"{X86} -mattr=+avx5", r"unknown feature '\+avx5'.*avx512f"),
        (f"{X86} -mattr=avx2", "unknown feature 'avx2'"),
        (f"{X86} -mattr=-sse2", "unknown feature '-sse2'"),
        ("armv7l-linux-gnueabi", "unknown target 'armv7l-linux-gnueabi'.*armv7l-linux-gnueabihf"),
        ("armv7l-linux-androideabi", "unknown target"),
        ("arm1176jzf-s", "unknown target"),
        ("cortex-m4", "unknown target"),
        ("cortex-a9", "unknown target"),
        ("cortex-a7 -mattr=-neon", "nothing is compiled for armv7l-linux-gnueabihf without neon"),
        (f"{X86} -mcpu=znver4 -mcpu=znver5", "target option -mcpu= is given twice"),
        (f"{X86} -O3", "unknown target option '-O3'.*-mcpu"),
        (f"{X86} mcpu=haswell", "unknown target option"),
        *((f"{X86} -num-cores={cores}", f"-num-cores={cores[:40]} is not a number of cores; allowed: 1 to 1024")
          for cores in ("0", "-1", "²", "1025", "99999999999999999999", "9" * 5000)),
        (5, "the target is 5; allowed"),
        (tvm.target.Target({"kind": "llvm", "mtriple": X86, "num-cores": 2000}), "is not a number of cores"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_bad_targets(spec: object, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        resolve_target(spec)


def test_another_kind_of_target() -> None:
    with pytest.raises(TargetError, match="target kind 'c'"):
        resolve_target(tvm.target.Target("c"))


def test_known_cpus_are_64_bit_and_spelled_once() -> None:
    names = known_cpus(X86)
    assert {"znver4", "skylake-avx512", "x86-64-v3"} <= set(names)
    assert not {"i386", "pentium4", "skylake_avx512"} & set(names)
