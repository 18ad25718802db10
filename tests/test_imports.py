"""Who imports whom: no circles, and no folder reaches for one that it must not know."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("tvm_fastconv", "relay_passes", "topi", "autotune", "train")
FORBIDDEN = {
    "topi": ("tvm_fastconv.relay_passes", "tvm_fastconv.compiler", "torch"),
    "train": ("tvm", "tvm_fastconv.topi", "tvm_fastconv.relay_passes"),
    "tvm_fastconv/decompose": ("tvm", "torch", "tvm_fastconv.topi", "tvm_fastconv.relay_passes"),
    "autotune": ("torch", "tvm_fastconv.relay_passes", "tvm_fastconv.frontend", "tvm_fastconv.compiler"),
    "relay_passes": ("torch", "tvm_fastconv.frontend", "tvm_fastconv.compiler"),
}
"""Folder to the modules that nothing in it imports, whatever lies below them included."""


def _name(path: Path) -> str:
    """The module that a file is, as it is installed: the folders are one package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts if parts[0] == "tvm_fastconv" else ("tvm_fastconv", *parts))


MODULES = {_name(path): path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}


def _imports(name: str) -> Iterator[str]:
    """What a module imports anywhere in it, also for the type checker alone."""
    path = MODULES[name]
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            parts = {alias.name: f"{base}.{alias.name}" for alias in node.names}
            yield from (part if part in MODULES else base for part in parts.values())


GRAPH = {name: {found for found in _imports(name) if found in MODULES and found != name} for name in MODULES}


def _circle_through(start: str) -> list[str]:
    """The shortest way from a module back to itself."""
    ways, seen = [[start]], set()
    while ways:
        way = ways.pop(0)
        for found in sorted(GRAPH[way[-1]]):
            if found == start:
                return [*way, start]
            if found not in seen:
                seen.add(found)
                ways.append([*way, found])
    return []


def test_no_module_imports_itself_by_way_of_others() -> None:
    # The public face names what it offers for the type checker only; at run time it imports on first use.
    circles = [_circle_through(name) for name in MODULES if name != "tvm_fastconv"]
    assert not [" -> ".join(circle) for circle in circles if circle and "tvm_fastconv" not in circle]


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_folders_know_only_what_they_may(folder: str) -> None:
    reaching = [
        f"{name} imports {found}"
        for name, path in MODULES.items()
        if path.is_relative_to(ROOT / folder)
        for found in _imports(name)
        for forbidden in FORBIDDEN[folder]
        if found == forbidden or found.startswith(f"{forbidden}.")
    ]
    assert not reaching
