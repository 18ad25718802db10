"""The table of architectures: what LLVM, ELF files and the table of processors must agree with."""

import pytest
import tvm
from tvm.target import codegen

from tvm_fastconv.architectures import ARCHITECTURES
from tvm_fastconv.artifact.elf import MACHINES
from tvm_fastconv.targets import cpu_features, known_cpus, resolve_target
from tvm_fastconv.topi.machines import machine_of

EACH = pytest.mark.parametrize("name", ARCHITECTURES)


@EACH
def test_llvm_knows_every_feature(name: str) -> None:
    row = ARCHITECTURES[name]
    triple = f"{name}-linux-{row.abi}"
    for feature in (*row.features, *row.unchecked, *row.unwanted, *row.unwanted.values()):
        config = {"kind": "llvm", "mtriple": triple, "mattr": [f"+{feature}"]}
        assert codegen.target_has_features(feature, tvm.target.Target(config)), feature


@EACH
def test_a_target_of_it_has_a_processor_in_the_table_and_features_that_the_loader_checks(name: str) -> None:
    triple = f"{name}-linux-{ARCHITECTURES[name].abi}"
    target = resolve_target(triple)
    assert machine_of(target).lanes >= 4
    assert set(cpu_features(target)) <= set(ARCHITECTURES[name].features)
    assert known_cpus(triple)


def test_elf_files_say_which_they_are_for() -> None:
    assert {MACHINES[row.elf_machine] for row in ARCHITECTURES.values()} == set(ARCHITECTURES)
    assert len(set(MACHINES.values())) == len(MACHINES)
