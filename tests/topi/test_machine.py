"""What is known of a processor: the table, what a target picks from it, and a row in a file."""

import json
from dataclasses import replace

import pytest
import tvm

from tvm_fastconv.architectures import ARCHITECTURES
from tvm_fastconv.targets import known_cpus, resolve_target
from tvm_fastconv.topi.arm_machines import ARM_ROWS, ARMV7_ROWS
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.machines import GENERIC, machine_of
from tvm_fastconv.topi.x86_machines import X86_ROWS

X86 = "x86_64-linux-gnu"
ROWS = {"x86_64": X86_ROWS, "aarch64": ARM_ROWS, "armv7l": ARMV7_ROWS}
NAMED = {(name, cpu): row for name, rows in ROWS.items() for cpu, row in rows.items()}
EVERY = {f"generic {level.machine.name}": level.machine for level in GENERIC} | {
    " ".join(key): row for key, row in NAMED.items()
}


def _of(spec: str) -> Machine:
    return machine_of(resolve_target(spec))


@pytest.mark.parametrize(("name", "cpu"), NAMED)
def test_every_row_is_of_a_cpu_that_llvm_knows_and_is_found_by_its_name(name: str, cpu: str) -> None:
    triple = f"{name}-linux-{ARCHITECTURES[name].abi}"
    assert cpu in known_cpus(triple)
    found = _of(f"{triple} -mcpu={cpu}")
    features = {name: getattr(found, name) for name in ("dot_products", "dot_bits", "counts_words")}
    assert found == replace(NAMED[name, cpu], **features)


def test_names_of_rows_are_those_of_one_row() -> None:
    named = {row.name: row for row in EVERY.values()}
    assert all(named[row.name] == row for row in EVERY.values())


@pytest.mark.parametrize(
    ("spec", "name", "lanes"),
    [
        (f"{X86} -mcpu=x86-64-v4", "avx512", 16),
        (f"{X86} -mcpu=x86-64-v3", "avx2", 8),
        (f"{X86} -mcpu=sierraforest", "avx2", 8),
        (f"{X86} -mcpu=x86-64-v2", "sse", 4),
        (X86, "sse", 4),
        ("aarch64-linux-gnu -mcpu=cortex-a57", "neon", 4),
    ],
)
def test_a_cpu_without_a_row_is_known_by_its_vectors(spec: str, name: str, lanes: int) -> None:
    assert (_of(spec).name, _of(spec).lanes) == (name, lanes)


@pytest.mark.parametrize(
    ("spec", "name", "lanes"),
    [
        ("znver4 -mattr=-avx512f", "avx2", 8),
        ("znver4 -mattr=-avx2", "sse", 4),
        ("sapphirerapids -mattr=-avx512f", "avx2", 8),
        ("haswell -mattr=-avx2", "sse", 4),
        ("haswell -mattr=+avx512f", "avx512", 16),
        ("znver4 -mattr=-avx512vnni,-avx512vpopcntdq", "zen4", 16),
    ],
)
def test_a_row_says_nothing_of_a_cpu_with_other_vectors(spec: str, name: str, lanes: int) -> None:
    found = _of(f"{X86} -mcpu={spec}")
    assert (found.name, found.lanes) == (name, lanes)
    assert not found.dot_products
    assert not found.counts_words


@pytest.mark.parametrize(
    ("cpu", "dot_products", "counts_words"),
    [
        ("znver4", True, True),
        ("icelake-server", True, True),
        ("cascadelake", True, False),
        ("skylake-avx512", False, False),
        ("haswell", False, False),
    ],
)
def test_instructions_are_those_of_the_target(cpu: str, dot_products: bool, counts_words: bool) -> None:
    found = _of(f"{X86} -mcpu={cpu}")
    assert (found.dot_products, found.counts_words) == (dot_products, counts_words)
    assert found.popcount_cost == (found.word_popcount_cost if counts_words else found.byte_popcount_cost)


@pytest.mark.parametrize(("cpu", "name"), [("znver5", "zen5"), ("sapphirerapids", "sapphirerapids")])
def test_whole_vectors_of_512_bits_are_not_split_as_on_zen_4(cpu: str, name: str) -> None:
    found, zen4 = _of(f"{X86} -mcpu={cpu}"), _of(f"{X86} -mcpu=znver4")
    assert (found.name, zen4.name) == (name, "zen4")
    assert (found.vector_cost(8), zen4.vector_cost(8)) == (1, 0.5)
    assert found.cycles(100) == zen4.cycles(100) / 2


def test_a_kind_of_target_without_processors_is_an_error() -> None:
    with pytest.raises(ValueError, match="no processor of kind 'opencl' is known; allowed: llvm, cuda"):
        machine_of(tvm.target.Target({"kind": "opencl"}))


def test_a_processor_without_vectors_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no processor is known .* of .*riscv64"):
        machine_of(tvm.target.Target({"kind": "llvm", "mtriple": "riscv64-linux-gnu"}))


@pytest.mark.parametrize("name", EVERY)
def test_a_row_survives_a_file(name: str) -> None:
    assert Machine.from_json(EVERY[name].to_json()) == EVERY[name]


def test_what_a_file_leaves_out_is_assumed_and_whole_numbers_are_numbers() -> None:
    read = Machine.from_json('{"lanes": 8, "registers": 16, "fma_per_cycle": 1}')
    assert read == Machine(lanes=8, registers=16, fma_per_cycle=1.0)
    assert type(read.fma_per_cycle) is float


WRONG = {
    "an unknown field": ({"lames": 8}, "unknown fields lames; allowed: .*lanes"),
    "a name that is no text": ({"name": 4}, "name is 4; allowed: str"),
    "a number as text": ({"lanes": "8"}, "lanes is '8'; allowed: int"),
    "a fraction of a register": ({"registers": 16.0}, r"registers is 16\.0; allowed: int"),
    "a truth for a number": ({"lanes": True}, "lanes is True; allowed: int"),
    "a truth for a fraction": ({"load_cost": True}, "load_cost is True; allowed: float"),
    "a number for a truth": ({"counts_words": 1}, "counts_words is 1; allowed: bool"),
    "nothing": ({"l2_bytes": None}, "l2_bytes is None; allowed: int"),
    "a list": ({"tap_cost": [1.0]}, r"tap_cost is \[1\.0\]; allowed: float"),
    "zero": ({"lanes": 0}, "lanes is 0; allowed: "),
    "a negative number": ({"l2_bandwidth": -48.0}, r"l2_bandwidth is -48\.0; allowed: "),
    "a negative whole number": ({"wake_cycles": -1}, "wake_cycles is -1; allowed: "),
    "zero as a fraction": ({"fma_per_cycle": 0}, "fma_per_cycle is 0; allowed: "),
    "infinity": ({"memory_bandwidth": float("inf")}, "memory_bandwidth is inf; allowed: "),
    "no number": ({"digit_cost": float("nan")}, "digit_cost is nan; allowed: "),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_row_is_refused_by_the_name_of_the_field(name: str) -> None:
    change, message = WRONG[name]
    text = json.dumps({"lanes": 8, "registers": 16} | change)
    with pytest.raises(ValueError, match=message):
        Machine.from_json(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "fields lanes and registers are missing"),
        ('{"registers": 16}', "fields lanes are missing"),
        ("[8, 16]", "it holds no fields"),
        ("null", "it holds no fields"),
        ("lanes: 8", "Expecting value"),
    ],
)
def test_what_is_no_row_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Machine.from_json(text)
