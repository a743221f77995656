"""Mutation testing: small changes to the code, each of which the tests ought to notice.

A change swaps an operator, flips a comparison, moves a constant by one, negates a condition, drops a
statement or a keyword argument. A seeded sample of all changes is drawn; for each, a forked process
puts the changed code into the functions of the module and runs the tests that belong to it, which were
collected once. Files are never touched, and a run that was interrupted goes on where it stopped.

    python tools/mutate.py --sample 300
    python tools/mutate.py --sample 300 --report
    python tools/mutate.py --only graphpool/ops/order.py:59 --show
"""

from __future__ import annotations

import argparse
import ast
import copy
import functools
import json
import os
import random
import signal
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from _pytest.mark.expression import Expression
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
FILES = ["tests/ops/test_refusals.py", "tests/ops/test_edges.py", "tests/ops/test_reference.py"]
#: Source file to the tests that must notice its changes, the quickest first, and to words in the names of
#: those out of the reference tests. Second derivatives and the third backend would only take time.
TARGETS: dict[str, tuple[list[str], str]] = {
    "graphpool/segments.py": (["tests/test_segments.py", *FILES], "test_value and mean"),
    "graphpool/ops/inputs.py": (
        FILES,
        "test_value and (mean or sum) or half or integers or gather",
    ),
    "graphpool/ops/moments.py": (
        FILES,
        "not quantile and not median and not power and not soft and not topk and not sort",
    ),
    "graphpool/ops/softmax.py": (FILES, "soft or logsumexp"),
    "graphpool/ops/power.py": (FILES, "power"),
    "graphpool/ops/order.py": (FILES, "quantile or median or topk or sort"),
    "graphpool/ops/second_moment.py": ([*FILES[:2], "tests/ops/test_second_moment.py"], ""),
}
ALWAYS = "test_edges or test_refusals or test_segments or test_second_moment"
NEVER = "not gradients and not torch_scatter and not shape2"
SWAPS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """Every changed form of one node (its parts are changed on their own)."""
    twin = copy.copy(node)
    if isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)) and type(node.op) in SWAPS:
        twin.op = SWAPS[type(node.op)]()
        yield twin
    elif isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            twin = copy.copy(node)
            twin.ops = [*node.ops[:i], SWAPS[type(op)](), *node.ops[i + 1 :]]
            yield twin
    elif isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.UAdd):
        yield node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield ast.Constant(node.value + 1)
        yield ast.Constant(node.value - 1)
    elif isinstance(node, (ast.If, ast.IfExp, ast.While)):
        twin.test = ast.UnaryOp(ast.Not(), node.test)
        yield twin
    elif isinstance(node, ast.Call):
        for i in range(len(node.keywords)):
            twin = copy.copy(node)
            twin.keywords = [*node.keywords[:i], *node.keywords[i + 1 :]]
            yield twin
    if isinstance(node, (ast.Expr, ast.Raise, ast.AugAssign, ast.Assign)):
        yield ast.Pass()


def skipped(node: ast.AST) -> bool:
    """Text, types and imports: changing them says nothing about the tests."""
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return text or isinstance(node, (ast.Import, ast.ImportFrom, ast.JoinedStr, ast.Global))


def places(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    """``(parent, field, position)`` of every node that may be changed."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        # Of an error only whether it is raised counts, not its words.
        if isinstance(tree, ast.Raise):
            continue
        for i, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST) and not skipped(child):
                yield tree, name, i
                yield from places(child)


def mutants(file: str) -> Iterator[tuple[str, str, ast.Module]]:
    """``(name, what changes, changed module)`` of every mutant of a file; a module lasts one step."""
    tree = ast.parse((ROOT / file).read_text())
    count = 0
    for parent, field, i in places(tree):
        old = getattr(parent, field) if i is None else getattr(parent, field)[i]
        for new in changes(old):
            _put(parent, field, i, new)
            line = getattr(old, "lineno", 0)
            said = " ".join(ast.unparse(old).split())[:70], " ".join(ast.unparse(new).split())[:70]
            yield f"{file}:{line}#{count}", f"{said[0]}  ->  {said[1]}", tree
            _put(parent, field, i, old)
            count += 1


def _put(parent: ast.AST, field: str, i: int | None, node: ast.AST) -> None:
    if i is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[i] = node


def put_in(file: str, tree: ast.Module) -> None:
    """Gives the functions of a module that is in use the code of a changed one."""
    module = sys.modules[file.removesuffix(".py").replace("/", ".")]
    changed = {"__name__": module.__name__}
    exec(compile(ast.fix_missing_locations(tree), str(ROOT / file), "exec"), changed)
    _replace(vars(module), changed, functools.partial(setattr, module))


def _replace(old: Any, new: Any, assign: Callable[[str, Any], None]) -> None:
    for name, value in list(new.items()):
        before = old.get(name)
        if name.startswith("__") and not callable(value):
            continue
        if isinstance(value, (staticmethod, classmethod)):
            value, before = value.__func__, getattr(before, "__func__", None)
        elif isinstance(value, property):
            value, before = value.fget, getattr(before, "fget", None)
        if isinstance(value, type) and isinstance(before, type):
            if before.__module__ == new.get("__name__"):
                _replace(vars(before), vars(value), functools.partial(setattr, before))
        elif isinstance(value, types.FunctionType):
            if isinstance(before, types.FunctionType) and before.__module__ == value.__module__:
                before.__code__ = value.__code__
                before.__defaults__, before.__kwdefaults__ = (
                    value.__defaults__,
                    value.__kwdefaults__,
                )
        elif not isinstance(value, types.ModuleType) and before is not None:
            assign(name, value)


class Loop:
    """A pytest plugin that runs the collected tests once per mutant instead of once."""

    def __init__(self, work: Callable[[Loop], int]) -> None:
        self.work, self.items, self.code = work, [], 1
        self.failed = False

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.items = session.items
        self.code = self.work(self)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed |= report.failed

    def of(self, file: str) -> list[pytest.Item]:
        files, words = TARGETS[file]
        chosen = f"({ALWAYS} or ({words})) and {NEVER}" if words else NEVER
        matches = Expression.compile(chosen)
        mine = [item for item in self.items if item.nodeid.partition("::")[0] in files]
        return [
            item
            for item in mine
            if matches.evaluate(lambda word, item=item, **_: word in item.nodeid)
        ]

    def passes(self, file: str) -> bool:
        self.failed = False
        for item in self.of(file):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            if self.failed:
                return False
        return True

    def outcome(self, file: str, tree: ast.Module, seconds: float) -> str:
        """``"survived"``, ``"killed"`` or ``"timeout"``."""
        child = os.fork()
        if child == 0:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal ends the process
            try:
                put_in(file, tree)
                code = 0 if self.passes(file) else 1
            except BaseException:
                code = 1
            os._exit(code)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            return "timeout" if os.WTERMSIG(status) == signal.SIGPROF else "killed"
        return "survived" if os.WEXITSTATUS(status) == 0 else "killed"


def report(found: dict[str, dict]) -> str:
    lines = []
    for file in TARGETS:
        rows = {k: v for k, v in found.items() if k.startswith(file + ":")}
        count = Counter(row["outcome"] for row in rows.values())
        lines.append(
            f"{file}: {len(rows)} mutants, {count['killed']} killed, {count['timeout']} out of time, "
            f"{count['survived']} survived"
        )
        lines += [
            f"    {name}  {row['change']}"
            for name, row in sorted(rows.items(), key=lambda item: int(item[0].split("#")[1]))
            if row["outcome"] == "survived"
        ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", type=int, default=100, help="mutants to draw over all files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=120, help="processor time of one mutant")
    parser.add_argument("--out", type=Path, default=Path("outputs/mutants.jsonl"))
    parser.add_argument(
        "--only", help="mutants whose name begins so; ignores what was found before"
    )
    parser.add_argument("--again", action="store_true", help="run the survivors once more")
    parser.add_argument("--report", action="store_true", help="print what was found, and stop")
    parser.add_argument("--show", action="store_true", help="list the mutants, and stop")
    args = parser.parse_args()

    os.chdir(ROOT)
    torch.set_num_threads(1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict] = {}
    if args.out.exists():
        found = {r["name"]: r for r in map(json.loads, args.out.read_text().splitlines())}
    if args.report:
        print(report(found))
        return 0

    every = [(file, name, change) for file in TARGETS for name, change, _ in mutants(file)]
    if args.only:
        chosen = [m for m in every if m[1].startswith(args.only)]
    elif args.again:
        chosen = [m for m in every if found.get(m[1], {}).get("outcome") == "survived"]
    else:
        chosen = random.Random(args.seed).sample(every, min(args.sample, len(every)))
        chosen = [m for m in chosen if m[1] not in found]
    print(f"{len(chosen)} of {len(every)} mutants")
    if args.show:
        print("\n".join(f"{name}  {change}" for _, name, change in chosen))
        return 0

    def work(loop: Loop) -> int:
        for file in sorted({m[0] for m in chosen}):
            count = len(loop.of(file))
            if not count or not loop.passes(file):
                print(f"{file} unchanged does not pass its {count} tests", file=sys.stderr)
                return 1
        with args.out.open("a") as log, tqdm(chosen) as bar:
            for file, name, change in bar:
                tree = next(tree for other, _, tree in mutants(file) if other == name)
                row = {"name": name, "change": change}
                row["outcome"] = loop.outcome(file, tree, args.seconds)
                found[name] = row
                log.write(json.dumps(row) + "\n")
                log.flush()
                survivors = sum(r["outcome"] == "survived" for r in found.values())
                bar.set_postfix(survivors=survivors)
        return 0

    loop = Loop(work)
    files = sorted({name for wanted, _ in TARGETS.values() for name in wanted})
    pytest.main(["-s", "-p", "no:cacheprovider", "-p", "no:terminal", *files], plugins=[loop])
    print(report(found))
    return loop.code


if __name__ == "__main__":
    sys.exit(main())
