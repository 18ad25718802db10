"""What ARM's CPUs execute for one inference by ncnn and ONNX Runtime, counted as ours is (`arm_blocks`).

Their wheels for ARM run in Debian 12's Python for ARM, under the emulator. All of it, and pnnx, which converts networks
for ncnn, is fetched once into ``.cache/arm-rivals`` by apt-get, dpkg and pip; nothing is installed. An engine asks
Linux which core it runs on: the emulator is given files that say so, since its own are the host's.
"""

from __future__ import annotations

import copy
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tvm_fastconv.train.layers import BinaryConv2d

from .arm_blocks import QEMU, SOURCES, Block, run_counted

RIVALS = ("ncnn", "onnxruntime")
WITHOUT_WINOGRAD = "ncnn_without_winograd"
NCNN = "1.0.20261020"
PNNX = "20261020"
CACHE = Path(__file__).parents[1] / ".cache" / "arm-rivals"
DEBIAN = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6", "zlib1g", "libgomp1")
PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64")
_FEATURES = "fp asimd evtstrm aes pmull sha1 sha2 crc32"
_FEATURES_N1 = f"{_FEATURES} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp ssbs"


@dataclass(frozen=True)
class Core:
    """What Linux tells of a core.

    Attributes
    ----------
    midr : int
        The register that names it.
    l1_kib, l2_kib : int
        Caches of data, as those of the Raspberry Pi 3 and 4, Graviton 2 and 3.
    features : str
        As in ``/proc/cpuinfo``.
    """

    midr: int
    l1_kib: int
    l2_kib: int
    features: str = _FEATURES


CORES = {
    "cortex-a53": Core(0x410FD034, 32, 512),
    "cortex-a72": Core(0x410FD083, 32, 1024),
    "neoverse-n1": Core(0x413FD0C1, 64, 1024, _FEATURES_N1),
    "neoverse-v1": Core(0x411FD401, 64, 1024, f"{_FEATURES_N1} sve asimdfhm svei8mm svebf16 i8mm bf16"),
}


def rival_obstacle() -> str | None:
    """Why no rival can be counted here."""
    missing = [name for name in (QEMU, "apt-get", "dpkg") if shutil.which(name) is None]
    return f"counting rivals needs {', '.join(missing)} (Debian 12, with qemu-user)" if missing else None


def rival_versions() -> dict[str, str]:
    """Those that are counted; ONNX Runtime's is the one installed here."""
    return {"ncnn": NCNN, "onnxruntime": importlib.metadata.version("onnxruntime")}


def fetch_rivals() -> None:
    """Fill `CACHE`, unless it is filled.

    Raises
    ------
    CalledProcessError
        Something cannot be fetched: apt-get or pip has said what.
    """
    wanted = f"{rival_versions()} {PNNX} {DEBIAN}"
    filled = CACHE / "filled"
    if filled.exists() and filled.read_text() == wanted:
        return
    print("fetching ncnn, ONNX Runtime, pnnx and a Python for ARM into .cache/arm-rivals", file=sys.stderr)
    shutil.rmtree(CACHE, ignore_errors=True)
    subprocess.run([SOURCES / "fetch_debian.sh", CACHE / "system", *DEBIAN], check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--target"]
    arm = [f"--platform={name}" for name in PLATFORMS]
    needed = {name: importlib.metadata.version(name) for name in ("numpy", "flatbuffers", "protobuf")}
    wheels = [f"{name}=={version}" for name, version in {**rival_versions(), **needed}.items()]
    subprocess.run([*pip, CACHE / "wheels", "--python-version=3.11", *arm, *wheels], check=True)
    subprocess.run([*pip, CACHE / "pnnx", f"pnnx=={PNNX}"], check=True)
    filled.write_text(wanted)


class _Signs(nn.Module):
    """Binary convolution of floats, by operators that each engine has."""

    def __init__(self, layer: BinaryConv2d) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, bias=False
        )
        self.conv.weight.data = layer.quantized_weight().detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.clamp(x * 1e30 + 1, -1, 1))


def export(model: nn.Module, x: torch.Tensor, folder: Path) -> None:
    """Write the network for every rival, its input and PyTorch's answer."""
    model = copy.deepcopy(model)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.save(folder / "x.npy", x.numpy())
        np.save(folder / "y.npy", model(x).numpy())
        for name, layer in list(model.named_modules()):
            if isinstance(layer, BinaryConv2d):
                model.set_submodule(name, _Signs(layer).eval())
        torch.onnx.export(model, (x,), dynamo=True, verbose=False).save(folder / "net.onnx")
        torch.jit.trace(model, x).save(folder / "net.pt")
    shape = ",".join(map(str, x.shape))
    pnnx = [str(CACHE / "pnnx" / "pnnx" / "pnnx"), "net.pt", f"inputshape=[{shape}]", "fp16=0"]
    subprocess.run(pnnx, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def rival_blocks(engine: str, folder: Path, core: str, qemu_cpu: str) -> tuple[list[Block], float]:
    """Run one inference of a network that was exported to ``folder``, on one thread.

    Parameters
    ----------
    engine
        Of `RIVALS`, or `WITHOUT_WINOGRAD`.
    core
        Of `CORES`: the one that the engine is told it runs on.

    Returns
    -------
    tuple
        What is executed, and the largest difference to PyTorch's answer, relative to its largest output.

    Raises
    ------
    CalledProcessError
        The engine fails.
    """
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        for entry in (CACHE / "system").iterdir():
            (root / entry.name).symlink_to(entry)
        _describe(CORES[core], root)
        variables = ("OMP_NUM_THREADS=1", f"PYTHONHOME={root}/usr", f"PYTHONPATH={CACHE}/wheels")
        options = [part for variable in variables for part in ("-E", variable)]
        command = [f"{root}/usr/bin/python3.11", str(SOURCES / "count_rival.py"), engine, str(folder)]
        blocks = run_counted(command, qemu_cpu, folder, "-L", made, *options)
    return blocks, float((folder / "error.txt").read_text())


def _describe(core: Core, root: Path) -> None:
    """Write the files by which Linux describes its cores, as many as the host has."""
    cpuinfo = ""
    for index in range(os.cpu_count() or 1):
        cpuinfo += f"processor\t: {index}\nFeatures\t: {core.features} cpuid\nCPU implementer\t: 0x41\n"
        cpuinfo += f"CPU architecture: 8\nCPU variant\t: {core.midr >> 20 & 15:#x}\n"
        cpuinfo += f"CPU part\t: {core.midr >> 4 & 0xFFF:#05x}\nCPU revision\t: {core.midr & 15}\n\n"
        system = root / "sys/devices/system/cpu" / f"cpu{index}"
        (system / "regs/identification").mkdir(parents=True)
        (system / "regs/identification/midr_el1").write_text(f"{core.midr:#018x}\n")
        caches = ((1, "Data", core.l1_kib), (1, "Instruction", core.l1_kib), (2, "Unified", core.l2_kib))
        for number, (level, kind, kib) in enumerate(caches):
            cache = system / "cache" / f"index{number}"
            cache.mkdir(parents=True)
            told = {"level": level, "type": kind, "size": f"{kib}K", "shared_cpu_map": f"{1 << index:x}"}
            for name, value in told.items():
                (cache / name).write_text(f"{value}\n")
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text(cpuinfo)
