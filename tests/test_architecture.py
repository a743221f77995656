"""The floors of the house: imports point down, side wings do not see each other."""

from __future__ import annotations

import ast
import importlib
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from graphpool.conv import GINConv
from graphpool.ops import dispatch

PACKAGE = Path(__file__).resolve().parents[1] / "graphpool"


def floors() -> list[set[str]]:
    """The table of the architecture page, from the ground up; "" is the package itself.

    Parts on one floor are wings: they do not import one another.
    """
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", page, re.MULTILINE)
    parts = {int(number): set(re.findall(r"`([\w.]+)`", named)) for number, named in rows}
    assert sorted(parts) == list(range(len(parts)))
    return [{"" if p == "graphpool" else p for p in parts[number]} for number in sorted(parts)]


FLOORS = floors()
FLOOR_OF = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}

# Imported in one place only; triton in the folders named cuda, which hold its kernels and stand each beside a
# folder named cpu: the kernels of an op and of a search lie with the rest of them.
OPTIONAL = {"torch_scatter", "torch_cluster", "open3d", "matplotlib", "networkx", "safetensors"}
OPTIONAL |= {
    "laspy",
    "h5py",
    "trimesh",
    "dask",
    "datasketches",
    "mil",
    "tgp",
    "sklearn",
    "chemprop",
    "sentence_transformers",
    "yacs",
}

FILES = sorted(PACKAGE.rglob("*.py"))


def module_name(file: Path) -> str:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """The part of the house a module (named from below ``graphpool``) lies in."""
    inner = ".".join(module.split(".")[:2])
    return inner if inner in FLOOR_OF else module.partition(".")[0]


def is_module(name: str) -> bool:
    path = PACKAGE.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or path.is_dir()


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import that runs, those inside functions included."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        if is_type_checking(node):
            continue
        yield from imports(node)


def imported_modules(file: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute name of each module that a file imports."""
    package = ["graphpool", *file.relative_to(PACKAGE).parent.parts]
    for node in imports(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
            continue
        base = package[: len(package) - node.level + 1] if node.level else []
        source = ".".join([*base, *([node.module] if node.module else [])])
        for alias in node.names:
            inner = f"{source}.{alias.name}".removeprefix("graphpool.")
            found = source.split(".")[0] == "graphpool" and is_module(inner)
            yield node.lineno, f"graphpool.{inner}" if found else source


def test_the_reader_of_imports_sees_every_form(monkeypatch):
    file = PACKAGE / "ops" / "reduce.py"
    text = "from . import reference\nfrom .. import segments\nfrom graphpool import aggr\n"
    text += "def f():\n    import graphpool.plot\n"
    text += "if TYPE_CHECKING:\n    import graphpool.models\n"
    monkeypatch.setattr(Path, "read_text", lambda self, encoding: text)
    found = [name for _, name in imported_modules(file)]
    assert found == [
        "graphpool.ops.reference",
        "graphpool.segments",
        "graphpool.aggr",
        "graphpool.plot",
    ]


def offenders(broken: Callable[[Path, str], str | None]) -> list[str]:
    """Every import of the package that breaks a rule, with what is wrong about it."""
    found = []
    for file in FILES:
        for line, name in imported_modules(file):
            fault = broken(file, name)
            if fault:
                found.append(
                    f"graphpool/{file.relative_to(PACKAGE)}:{line} imports {name}: {fault}"
                )
    return found


#: Folders of tests that belong to no folder of the package.
ACROSS = {"distributed", "examples", "field", "interop"}


def test_folders_of_tests_mirror_folders_of_code():
    """Every part that is a folder has its tests in one of the same name, and no test stands elsewhere."""
    tests = Path(__file__).parent
    code = {file.parent.relative_to(PACKAGE).as_posix() for file in PACKAGE.rglob("*.py")} - {"."}
    held = {file.parent.relative_to(tests).as_posix() for file in tests.rglob("test_*.py")} - {"."}
    held = {folder for folder in held if folder.partition("/")[0] not in ACROSS}
    assert sorted(held - code) == []
    assert sorted({c.partition("/")[0] for c in code} - {h.partition("/")[0] for h in held}) == []


def test_imports_point_down():
    def broken(file: Path, name: str) -> str | None:
        if name.split(".")[0] != "graphpool":
            return None
        here = part_of(module_name(file))
        there = part_of(name.removeprefix("graphpool").removeprefix("."))
        for part in (here, there):
            if part not in FLOOR_OF:
                return f"{part!r} lies in no part of the house: give it a floor"
        if there == here or FLOOR_OF[there] < FLOOR_OF[here]:
            return None
        return f"{there or 'the package itself'} is not below {here or 'graphpool'}"

    assert offenders(broken) == []


def test_what_lies_below_the_ops_is_theirs():
    """Everyone else imports from graphpool.ops itself, or from its neighbours."""

    def broken(file: Path, name: str) -> str | None:
        inside = part_of(module_name(file)) == "ops"
        below = name.startswith("graphpool.ops.") and not name.startswith("graphpool.ops.neighbors")
        return "from graphpool.ops only" if below and not inside else None

    assert offenders(broken) == []


def test_custom_operators_have_one_home():
    """One file makes operators, so that every one has a backward pass, fakes and a CUDA registration."""
    named = re.compile(r"\btorch\.library\b")
    found = [str(f.relative_to(PACKAGE)) for f in FILES if named.search(f.read_text("utf-8"))]
    assert found == ["ops/fused/fused_op.py"]


def test_optional_packages_come_through_one_door():
    def broken(file: Path, name: str) -> str | None:
        in_kernels = "cuda" in file.relative_to(PACKAGE).parent.parts
        hidden = OPTIONAL if in_kernels else OPTIONAL | {"triton"}
        return "through graphpool._optional only" if name.split(".")[0] in hidden else None

    assert offenders(broken) == []


def test_compiled_code_has_one_home():
    """One file asks Numba to compile, so that every kernel works where no cache folder can be written."""
    named = re.compile(r"\b(?:njit|prange|vectorize|guvectorize)\b")
    found = [str(f.relative_to(PACKAGE)) for f in FILES if named.search(f.read_text("utf-8"))]
    assert found == ["_compiled.py"]


def test_packages_say_what_is_public():
    """In `__all__`; in a file of one, what begins with an underscore is its own, and no more."""
    said = re.compile(r"^__all__\b", re.MULTILINE)
    inside = [f for f in FILES if f.name != "__init__.py" and f.parent != PACKAGE]
    found = [f for f in inside if said.search(f.read_text("utf-8"))]
    assert [str(f.relative_to(PACKAGE)) for f in found] == []


def test_files_stay_small():
    sizes = {str(f.relative_to(PACKAGE)): len(f.read_text("utf-8").splitlines()) for f in FILES}
    assert {name: size for name, size in sizes.items() if size >= 400} == {}


def test_folders_are_small_and_a_prefix_of_three_is_a_folder():
    crowded, prefixed = {}, {}
    for folder in sorted({file.parent for file in FILES}):
        room = folder.relative_to(PACKAGE).as_posix()
        names = [f.stem for f in FILES if f.parent == folder and f.stem != "__init__"]
        families: dict[str, list[str]] = {}
        for name in names:
            families.setdefault(name.partition("_")[0], []).append(name)
        shared = [family for prefix, family in families.items() if prefix and len(family) >= 3]
        if len(names) > 15:
            crowded[room] = len(names)
        if shared:
            prefixed[room] = shared
    assert (crowded, prefixed) == ({}, {})


def test_the_walk_from_a_layer_to_the_loop_is_as_told(monkeypatch):
    """The files named in docs/architecture.md are those on the stack when the sum is computed."""
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text("utf-8")
    told = re.findall(r"^\d+\. `([\w/]+\.py)`", page, re.MULTILINE)
    dispatch.load()
    stacks = []

    def forward(*args):
        files = [Path(frame.filename) for frame in traceback.extract_stack()]
        stacks.append([str(f.relative_to(PACKAGE)) for f in files if PACKAGE in f.parents])
        return compute(*args)

    kernels = importlib.import_module("graphpool.ops.fused.cpu.moments")
    compute = kernels.forward
    monkeypatch.setattr(kernels, "forward", forward)
    GINConv(4, 4)(torch.rand(3, 4), torch.tensor([[0, 1], [1, 2]]))
    passed = list(dict.fromkeys(stacks[0]))
    # The path is chosen, and the question answered, before the sum is computed.
    assert [*passed, "ops/fused/cpu/moments.py"] == [f for f in told if f != "ops/dispatch.py"]
    assert len(told) <= 10
