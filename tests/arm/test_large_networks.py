"""Whole networks on ARM's CPUs: every function of theirs, executed by an emulator, gives what PyTorch does."""

import pytest

import tvm_fastconv as fc
from benchmarks.lookup_networks import LOOKUP_NETWORKS, make_lookup_network
from benchmarks.networks import make_network
from tvm_fastconv.artifact.elf import process_machine

pytestmark = [
    pytest.mark.arm,
    pytest.mark.slow,
    pytest.mark.skipif(process_machine() == "aarch64", reason="there is nothing to emulate here"),
]


@pytest.mark.parametrize(
    ("network", "cpu"),
    [
        ("resnet18", "cortex-a72"),
        ("mobilenet_v2", "cortex-a53"),
        ("bireal18", "cortex-a76"),
        ("lcnn_accurate_alexnet", "neoverse-v1"),
    ],
)
def test_every_function_is_verified(network: str, cpu: str) -> None:
    make = make_lookup_network if network in LOOKUP_NETWORKS else make_network
    model, inputs = make(network)
    made = fc.compile(model, inputs, target=cpu)
    assert made.manifest.verify.startswith("verified in qemu-aarch64 against PyTorch from equal inputs: all ")
    assert made.verified_error is not None
    assert made.verified_error < 2e-5
