"""Imports point strictly down, files and functions are short, and nothing happens at import."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import ROOT, Outcome, run_apart

# Every room by its floor: one may import those on lower floors, and none beside it.
FLOORS = [
    ["common"],
    ["configs"],
    ["video"],
    ["annotated"],
    ["scoring", "tracking", "training"],
    ["utils", "dataset", "modules"],
    ["systems", "tools"],
    ["inference"],
    ["evaluate"],
    ["main", "tuning", "tools.export"],  # a command that knows the systems
    ["benchmarks"],
]
RANKS = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
SIBLINGS = {("systems.xmem", "systems.stcn")}  # XMem is STCN plus a memory hierarchy
AT_THEIR_USE = set("av clearml cv2 matplotlib optuna pycocotools scipy tensorboard torchvision tqdm".split())
MOST_LINES, MOST_FUNCTION_LINES, MOST_FILES = 400, 40, 16
MOST_IN_COMMON = 12

# Never the whole root: a user's ./dataset/ may hold 100,000 pictures.
FOLDERS = [room for room in RANKS if (ROOT / room).is_dir() and room != "dataset"]
SOURCES = [ROOT / f"{room}.py" for room in RANKS if (ROOT / f"{room}.py").is_file()]
for folder in FOLDERS:
    SOURCES += sorted((ROOT / folder).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
DOTTED = re.compile(rf"({'|'.join([*RANKS, 'tests'])})(\.(?!py$)[a-z_0-9]+)+(\.[A-Z]\w*)?")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


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
    return set(imports_in(parsed(path), functions=functions))


def room_of(module: str) -> str:
    """What is compared: a top-level file, a folder as a whole, one system, a file with a floor of its own."""
    parts = module.split(".")
    if module in RANKS:
        return module
    return ".".join(parts[:2]) if parts[0] == "systems" else parts[0]


def may_import(importer: str, imported: str) -> bool:
    """Whether one room (`utils`, `common`, `systems.stcn`) may import another."""
    above, below = (RANKS.get(name, RANKS[name.split(".")[0]]) for name in (importer, imported))
    return importer == imported or above > below or (importer, imported) in SIBLINGS


def test_the_rule_of_imports_is_the_one_of_the_design():
    for pair in (
        ("main", "evaluate"),
        ("systems.xmem", "systems.stcn"),
        ("common", "common"),
        ("inference", "systems.sam_track"),
        ("tools.export", "inference"),
        ("scoring", "video"),
        ("benchmarks", "main"),
    ):
        assert may_import(*pair), pair
    for pair in (
        ("utils", "dataset"),
        ("modules", "utils"),
        ("common", "modules"),
        ("common", "video"),
        ("scoring", "tracking"),
        ("tracking", "training"),
        ("tools", "systems.stcn"),
        ("systems.stcn", "systems.xmem"),
        ("systems.stcn", "inference"),
        ("evaluate", "main"),
        ("main", "benchmarks"),
        ("tools", "inference"),
        ("inference", "tools.export"),
    ):
        assert not may_import(*pair), pair


def test_imports_are_found_wherever_they_stand(tmp_path):
    source = (
        "import os.path\ntry:\n    from a.b import c\nexcept ImportError: pass\ndef f():\n    import tqdm\n"
    )
    (tmp_path / "x.py").write_text(source)
    assert imports_of(tmp_path / "x.py") == {"os.path", "a.b.c", "tqdm"}
    assert imports_of(tmp_path / "x.py", functions=False) == {"os.path", "a.b.c"}


def test_every_python_file_is_in_a_room():
    for path in ROOT.iterdir():
        if path.suffix == ".py":
            assert path.stem in RANKS, path
        elif path.is_dir() and (path / "__init__.py").is_file():
            assert path.name in [*RANKS, "tests"], path


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_imports_point_strictly_down(path):
    importer = room_of(module_of(path))
    rooms = {room_of(name) for name in imports_of(path) if name.split(".")[0] in [*RANKS, "tests"]}
    assert "tests" not in rooms
    assert [room for room in sorted(rooms) if not may_import(importer, room)] == []


@pytest.mark.parametrize("path", TESTS, ids=module_of)
def test_no_test_imports_from_another_test(path):
    from_tests = [name.split(".") for name in imports_of(path) if name.startswith("tests.")]
    assert [".".join(name) for name in from_tests if name[1] != "support"] == []


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_no_module_is_named_by_a_string(path):
    names = {node.value for node in ast.walk(parsed(path)) if isinstance(node, ast.Constant)} - {
        module_of(path)  # what a command calls itself
    }
    assert [name for name in names if isinstance(name, str) and DOTTED.fullmatch(name)] == []


def test_a_module_in_a_string_is_found():
    assert all(DOTTED.fullmatch(name) for name in ("systems.stcn.modules", "common.types.Clip", "tests.x"))
    assert not any(DOTTED.fullmatch(name) for name in ("main.py", "inference", "systems", "video/x"))


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


def test_the_files_of_pages_are_short():
    pages = [path for kind in ("js", "css", "html") for path in (ROOT / "tools").rglob(f"*.{kind}")]
    assert len(pages) >= 3
    assert [path for path in pages if len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES] == []


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_functions_are_short(path):
    functions = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.FunctionDef)]
    lengths = {(node.name, node.lineno): node.end_lineno - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > MOST_FUNCTION_LINES} == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_is_no_crowd(folder):
    for place in {path.parent for path in SOURCES if folder in path.parts}:
        assert len(list(place.glob("*.py"))) <= MOST_FILES, place
    assert len(list((ROOT / "common").glob("*.py"))) <= MOST_IN_COMMON


def test_importing_everything_prints_nothing_and_leaves_optional_packages_alone():
    modules = sorted(module_of(path) for path in SOURCES if path.name != "__main__.py")
    ours = "sys.modules.keys() - theirs"  # torch imports some of them where they are installed
    code = f"import sys, torch; theirs = set(sys.modules); import {', '.join(modules)}; "
    code += f"print(*(({ours}) & {AT_THEIR_USE}), end='')"
    assert run_apart("-c", code) == Outcome(status=0, out=[], err=[])
