"""Imports point strictly down, files are short, and nothing happens at import."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import ROOT, Outcome, run_apart

TOP = ["utils", "dataset", "modules", "inference", "evaluate", "main"]
RANKS = {
    "common": 0,
    "utils": 1,
    "dataset": 1,
    "modules": 1,
    "systems": 2,
    "tools": 2,
    "inference": 3,
    "evaluate": 4,
    "main": 5,
}
SIBLINGS = {("systems.xmem", "systems.stcn")}  # XMem is STCN plus a memory hierarchy
AT_THEIR_USE = {"av", "clearml", "cv2", "matplotlib", "pycocotools", "tqdm"}
MOST_LINES = 500

# Never the whole root: a user's ./dataset/ may hold 100,000 pictures.
SOURCES = [ROOT / f"{name}.py" for name in TOP]
for folder in ("common", "systems", "tools"):
    SOURCES += sorted((ROOT / folder).rglob("*.py"))
TESTS = sorted((ROOT / "tests").glob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_in(node: ast.AST, *, functions: bool) -> Iterator[str]:
    """The full names of the modules that are imported below a node, in its functions too or outside only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif functions or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports_in(child, functions=functions)


def imports_of(path: Path, *, functions: bool = True) -> set[str]:
    return set(imports_in(ast.parse(path.read_text(encoding="utf-8")), functions=functions))


def package_of(module: str) -> str:
    """What is compared: a top-level file, `common` as a whole, one system."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "systems" else parts[0]


def may_import(importer: str, imported: str) -> bool:
    """Whether one part of the house (`utils`, `common`, `systems.stcn`) may import another."""
    above, below = (RANKS[name.split(".")[0]] for name in (importer, imported))
    return importer == imported or above > below or (importer, imported) in SIBLINGS


def test_the_rule_of_imports_is_the_one_of_the_design():
    assert may_import("main", "evaluate") and may_import("systems.xmem", "systems.stcn")
    assert may_import("common", "common") and may_import("inference", "systems.sam_track")
    for pair in (
        ("utils", "dataset"),
        ("modules", "utils"),
        ("common", "modules"),
        ("systems.stcn", "systems.xmem"),
        ("systems.stcn", "inference"),
        ("evaluate", "main"),
    ):
        assert not may_import(*pair), pair


def test_imports_are_found_wherever_they_stand(tmp_path):
    source = (
        "import os.path\ntry:\n    from a.b import c\nexcept ImportError: pass\ndef f():\n    import tqdm\n"
    )
    (tmp_path / "x.py").write_text(source)
    assert imports_of(tmp_path / "x.py") == {"os.path", "a.b.c", "tqdm"}
    assert imports_of(tmp_path / "x.py", functions=False) == {"os.path", "a.b.c"}


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_imports_point_strictly_down(path):
    importer = package_of(module_of(path))
    ours = {package_of(name) for name in imports_of(path) if name.split(".")[0] in RANKS}
    assert [name for name in sorted(ours) if not may_import(importer, name)] == []


def test_only_evaluation_and_training_import_inference_and_nobody_imports_main():
    importers = {name: set() for name in ("inference", "main")}
    for path in SOURCES:
        for name in {package_of(name) for name in imports_of(path)} & importers.keys():
            importers[name].add(module_of(path))
    assert importers["inference"] <= {"evaluate", "main"}
    assert importers["main"] == set()


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_optional_packages_are_imported_at_their_use(path):
    packages = {name.split(".")[0] for name in imports_of(path, functions=False)}
    assert packages & AT_THEIR_USE == set()


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=module_of)
def test_a_file_says_what_it_is_and_is_short(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    if path in SOURCES:
        assert ast.get_docstring(ast.parse(text)) is not None


def test_importing_everything_prints_nothing_and_leaves_optional_packages_alone():
    modules = sorted(module_of(path) for path in SOURCES)
    ours = "sys.modules.keys() - theirs"  # torch and torchvision import tqdm, and some versions av
    code = f"import sys, torchvision; theirs = set(sys.modules); import {', '.join(modules)}; "
    code += f"print(*(({ours}) & {AT_THEIR_USE}), end='')"
    assert run_apart("-c", code) == Outcome(status=0, out=[], err=[])
