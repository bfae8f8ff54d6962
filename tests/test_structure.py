"""The structure of the package: imports follow the levels, files and functions stay small."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "intaglio"
ALLOWED: dict[str, set[str]] = {
    "shared": set(),
    "ops": {"shared"},
    "graph": {"shared", "ops"},
    "loop": {"shared", "ops", "graph"},
    "native": {"shared", "ops", "loop"},
    "array": {"shared", "ops", "graph"},
    "readers": {"shared", "ops", "graph", "array"},
    "scalar": {"shared", "ops", "loop", "native"},
}
ABOVE = {"readers/onnx_backend.py"}
"""Modules that know all levels, as those at the top of the package do; their place is their users'."""
EXTRAS = {"torch", "onnx", "onnxruntime", "ziglang", "sklearn", "matplotlib"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split("."))
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def imported(path: Path, *, everywhere: bool = True) -> set[str]:
    """Modules a file imports; without `everywhere` only at its top level, outside of type checking."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if everywhere else iter(tree.body)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if is_module(inner) else node.module or "")
    return found


@pytest.mark.parametrize("folder", ALLOWED)
def test_a_folder_imports_only_what_data_passed_through_before(folder: str) -> None:
    for path in (PACKAGE / folder).rglob("*.py"):
        if path.relative_to(PACKAGE).as_posix() in ABOVE:
            continue
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == "intaglio" and len(parts) > 1:
                assert parts[1] == folder or parts[1] in ALLOWED[folder], f"{path.name} imports {name}"


def test_no_import_cycles() -> None:
    graph = {}
    for path in modules():
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        graph[name] = {i for i in imported(path, everywhere=False) if i.startswith("intaglio.")}
    state: dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if state.get(name) == 2 or name not in graph:
            return
        assert state.get(name) != 1, " -> ".join((*trail, name))
        state[name] = 1
        for other in graph[name]:
            visit(other, (*trail, name))
        state[name] = 2

    for name in graph:
        visit(name, ())


FOUND_BY_EXTRAS = {"torch_backend.py"}  # an entry point that PyTorch imports


def test_extras_are_not_imported_at_import() -> None:
    for path in modules():
        if "readers" in path.parts or path.name in FOUND_BY_EXTRAS:
            continue
        tops = {name.split(".")[0] for name in imported(path, everywhere=False)}
        assert not tops & EXTRAS, f"{path} imports {tops & EXTRAS}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_sizes(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 420, f"{path} is long"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno
            assert length <= 70, f"{path.name}: {node.name} has {length} lines"


def test_test_files_have_names_of_their_own() -> None:
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert len(names) == len(set(names))
