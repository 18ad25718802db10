"""Sizes of what is shipped: ``python -m benchmarks.bench_deploy`` writes ``results/deploy.json``.

Static programs of a network of bits, stripped, weights included, by zig (the extra [cross]); and what an installation
takes on disk, over a Python with NumPy, by what the installed packages say of their files.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from . import options, results

TRIPLES = ("aarch64-linux-musl", "x86_64-linux-musl")
INSTALLS = {"plain": (), "compile": ("compile",), "compile and tune": ("compile", "tune")}


def program_bytes(triple: str) -> int:
    """Of the kit's program of the demo's network of bits."""
    import tvm_fastconv as fc
    from tvm_fastconv.demo import trained_model
    from tvm_fastconv.train.data import load_data

    digits = load_data("digits")
    with tempfile.TemporaryDirectory() as folder:
        kit = Path(folder, "kit")
        fc.deploy(
            trained_model("bitserial", digits),
            (digits.test_images[:1],),
            folder=kit,
            name="bits",
            target=triple,
        )
        zig = [sys.executable, "-m", "ziglang", "cc", "-target", triple, "-O2", "-static", "-s"]
        command = [*zig, "main.c", "kit_program.c", "kit_pool.c", "libbits.a", "-o", "bits"]
        subprocess.run(command, cwd=kit, check=True)
        return (kit / "bits").stat().st_size


def installed_bytes(extras: tuple[str, ...]) -> dict[str, int]:
    """Bytes on disk of each distribution that an installation brings, without NumPy."""
    sizes: dict[str, int] = {}
    todo = [("tvm-fastconv", extras)]
    while todo:
        name, wanted = todo.pop()
        if name in sizes or name == "numpy":
            continue
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        sizes[name] = sum(
            path.stat().st_size
            for file in found.files or ()
            if (path := Path(str(found.locate_file(file)))).is_file()
        )
        for line in found.requires or ():
            requirement, _, marker = line.partition(";")
            if "extra" in marker and not any(f'"{extra}"' in marker.replace("'", '"') for extra in wanted):
                continue
            todo.append((re.split(r"[^\w.-]", requirement.strip())[0].lower().replace("_", "-"), ()))
    return {name: size for name, size in sizes.items() if name != "tvm-fastconv"}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    settings = options.settings_of(parser.parse_args(), min_time=0.05)
    programs = {triple: program_bytes(triple) for triple in TRIPLES}
    installs = {name: installed_bytes(extras) for name, extras in INSTALLS.items()}
    for triple, size in programs.items():
        print(f"{triple}: {size} bytes")
    for name, sizes in installs.items():
        print(f"{name}: {sum(sizes.values()) / 1e6:.0f} MB in {len(sizes)} packages")
    results.write_results(
        "deploy", settings, [], {"static_program_bytes": programs, "installed_bytes": installs}
    )


if __name__ == "__main__":
    main()
