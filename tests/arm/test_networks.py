"""The demo's networks on ARM's CPUs: kits as static programs, executed by an emulator, which check themselves."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import tvm_fastconv as fc
from tvm_fastconv.demo import NETWORKS
from tvm_fastconv.train.models import make_model

from ..cuda.networks import settled
from .emulator import CPUS, emulators, target_of

pytestmark = [pytest.mark.arm, pytest.mark.slow]

EVERY = [("cortex-a53", name) for name in NETWORKS]
SOME = [(cpu, name) for cpu in CPUS if cpu != "cortex-a53" for name in ("bitserial", "lookup", "separable")]


@pytest.mark.parametrize(("cpu", "name"), [*EVERY, *SOME])
def test_a_network_computes_what_pytorch_does(cpu: str, name: str, tmp_path: Path) -> None:
    torch.manual_seed(4)  # no value lies at a threshold of bits
    images = torch.randn(8, 1, 8, 8)
    model = make_model("digits_net", classes=10, channels=1, size=8, **NETWORKS[name])
    place, target = tmp_path / "kit", target_of(cpu)
    fc.deploy(settled(model, images), images[:1], folder=place, name="digits", target=target)
    told = re.search("`zig (cc .*)`", (place / "README.md").read_text())
    assert told is not None
    subprocess.run([sys.executable, "-m", "ziglang", *told[1].split()], cwd=place, check=True)
    for emulator in emulators(cpu):
        for threads in ([], ["3"]):
            done = subprocess.run(
                [*emulator, "./digits", "check", *threads],
                cwd=place,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            # The kit allows more where a value may lie at its threshold; none does here.
            assert float(done.stdout.split()[3].rstrip(",")) < 1e-5


def test_a_kits_programs_in_c_and_cpp(tmp_path: Path) -> None:
    """For Android as well: static programs ask nothing of it."""
    place = tmp_path / "kit"
    torch.manual_seed(4)
    images = torch.randn(8, 1, 8, 8)
    model = make_model("digits_net", classes=10, channels=1, size=8, **NETWORKS["separable"])
    made = fc.deploy(
        settled(model, images), images[:1], folder=place, name="net", target=target_of("cortex-a53")
    )
    zig = [sys.executable, "-m", "ziglang"]
    flags = ["-target", "aarch64-linux-musl", "-O2", "-static"]
    for command in (
        [*zig, "cc", *flags, "main.c", "kit_program.c", "kit_pool.c", "libnet.a", "-o", "net"],
        [*zig, "c++", *flags, "-std=c++17", "main.cc", "libnet.a", "-o", "net_cc"],
    ):
        subprocess.run(command, cwd=place, check=True)
    (emulator,) = emulators("cortex-a53")
    for command in (
        ["./net", "run", "reference/input_0.bin", "c.bin"],
        ["./net_cc", "reference/input_0.bin", "cc.bin"],
    ):
        subprocess.run([*emulator, *command], cwd=place, check=True)
    assert (place / "c.bin").read_bytes() == (place / "cc.bin").read_bytes()
    reference = made.compiled.reference()
    assert reference is not None
    want = reference[1][0]
    got = np.fromfile(place / "cc.bin", np.float32).reshape(want.shape)
    np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())  # sums in another order
