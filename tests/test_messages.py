"""Errors speak one dialect: whole sentences, arguments in backticks, "`x` must be ...; got ...".

What is read here are the ``ValueError`` and ``TypeError`` of the package whose text stands where they
are raised; a value that is put in counts as one mark, ``{}``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "graphpool"

RULES = {
    "begins with a capital, an argument in backticks or a value": re.compile(r"[A-Z`{]"),
    "ends with a full stop, a question mark, or the reason that another error gives": re.compile(
        r".*([.?]|(:|\.) ?\{\})$", re.DOTALL
    ),
    "says what came as '; got ...'": re.compile(r"(?!.*[^;] got\b)", re.DOTALL),
    "puts the argument that it begins with in backticks": re.compile(r"(?![a-z_]+ (must|may)\b)"),
    "has its backticks in pairs": re.compile(r"[^`]*(`[^`]*`[^`]*)*$"),
}


def text_of(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
    return None


def messages(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of the errors that are raised with a text."""
    for node in ast.walk(tree):
        raised = node.exc if isinstance(node, ast.Raise) else None
        if isinstance(raised, ast.Call) and raised.args and isinstance(raised.func, ast.Name):
            text = text_of(raised.args[0])
            if raised.func.id in ("ValueError", "TypeError") and text is not None:
                yield raised.lineno, text


def faults(text: str) -> list[str]:
    return [rule for rule, pattern in RULES.items() if not pattern.match(text)]


def test_the_rules_tell_good_from_bad():
    good = ["`k` must be at least 1; got {}.", "{}: Face {} is flat.", "{} is damaged: {}"]
    assert [faults(text) for text in good] == [[], [], []]
    bad = ["k must be at least 1; got {}.", "`k` must be 1, got {}.", "`k` must be {}", "No `k."]
    assert [len(faults(text)) for text in bad] == [2, 1, 1, 1]


def test_errors_speak_one_dialect():
    found, count = [], 0
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).as_posix()
        for line, text in messages(ast.parse(file.read_text("utf-8"))):
            count += 1
            found += [f"graphpool/{name}:{line}: {text!r} {rule}" for rule in faults(text)]
    assert count > 500
    assert found == []
