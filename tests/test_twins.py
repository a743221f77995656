"""No two public things share a name, and no function body stands twice."""

from __future__ import annotations

import ast
import importlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "graphpool"
FILES = sorted(PACKAGE.rglob("*.py"))

Function = ast.FunctionDef | ast.AsyncFunctionDef


def module_name(file: Path) -> str:
    parts = ("graphpool", *file.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def definitions(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name


def doubly_defined(files: list[tuple[str, str]]) -> dict[str, list[str]]:
    """Public functions and classes that several files, given by name and text, define."""
    found = defaultdict(list)
    for where, text in files:
        for name in definitions(ast.parse(text)):
            found[name].append(where)
    return {name: places for name, places in found.items() if len(places) > 1}


def bodies(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Line, name and body of every function of at least four statements, without its docstring; arguments
    and what is assigned inside go by numbers, so that a copy with other names is one, too."""
    for node in ast.walk(tree):
        if not isinstance(node, Function):
            continue
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        if sum(isinstance(part, ast.stmt) for stmt in body for part in ast.walk(stmt)) < 4:
            continue
        block = ast.parse(ast.unparse(ast.Module(body, [])))
        arguments = [a.arg for a in ast.walk(node.args) if isinstance(a, ast.arg)]
        stored = [n for n in ast.walk(block) if isinstance(n, ast.Name)]
        local = [*arguments, *(n.id for n in stored if isinstance(n.ctx, ast.Store))]
        number = {name: f"_{i}" for i, name in enumerate(dict.fromkeys(local))}
        for name in stored:
            name.id = number.get(name.id, name.id)
        yield node.lineno, node.name, ast.dump(block)


def repeated(files: list[tuple[str, str]]) -> list[list[str]]:
    """The places of every function body that stands more than once."""
    found = defaultdict(list)
    for where, text in files:
        for line, name, body in bodies(ast.parse(text)):
            found[body].append(f"{where}:{line} {name}")
    return [places for places in found.values() if len(places) > 1]


def sources(skip: str = "-") -> list[tuple[str, str]]:
    """Name and text of every file whose name below the package does not begin with ``skip``."""
    named = ((str(f.relative_to(PACKAGE)), f.read_text("utf-8")) for f in FILES)
    return [(name, text) for name, text in named if not name.startswith(skip)]


def test_a_public_name_means_one_thing():
    """The name in an ``__all__`` is the same object in all packages that offer it."""
    meant = defaultdict(dict)
    for file in PACKAGE.rglob("__init__.py"):
        module = importlib.import_module(module_name(file))
        for name in getattr(module, "__all__", []):
            meant[name].setdefault(id(getattr(module, name)), module.__name__)
    assert len(meant) > 100
    assert {name: list(m.values()) for name, m in meant.items() if len(m) > 1} == {}


def test_a_public_name_is_defined_once():
    # The paths of one op have its name, and each command line begins in its `main`.
    found = doubly_defined(sources(skip="ops/"))
    assert {name: places for name, places in found.items() if name != "main"} == {}


def test_no_function_body_stands_twice():
    assert repeated(sources()) == []


FIRST = "def f(a, b):\n    '''Adds.'''\n    c = a + b\n    d = c * 2\n    e = d - 1\n    return e\n"


def test_twins_are_found():
    renamed = (
        "class K:\n    def g(x, y):\n        s = x + y\n        t = s * 2\n        u = t - 1\n"
    )
    renamed += "        return u\n"
    assert repeated([("one", FIRST), ("two", renamed)]) == [["one:1 f", "two:2 g"]]
    assert repeated([("one", FIRST), ("two", renamed.replace("* 2", "* 3"))]) == []
    assert doubly_defined([("one", FIRST), ("two", FIRST)]) == {"f": ["one", "two"]}
    assert doubly_defined([("one", FIRST), ("two", renamed)]) == {}
