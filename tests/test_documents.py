"""The Python in the README runs, and its links lead somewhere."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Written when the pages are built, so a fresh checkout does not have it.
GENERATED = {ROOT / "docs" / "catalogue.md"}
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("datasets/**/*.md")]
    if "_build" not in path.parts and "reference" not in path.parts
)


def test_readme_code_runs_from_top_to_bottom(capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert "torch.Size([2, 2])" in capsys.readouterr().out


def test_readme_commands_are_targets():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    text = "".join(path.read_text() for path in PAGES)
    named = set(re.findall(r"(?:`|^)make ([a-z][\w-]*)", text, re.M))
    assert named
    assert named <= targets


def test_scripts_that_pages_name_exist():
    for page in PAGES:
        for script in re.findall(
            r"\b((?:examples|benchmarks|tools)/\w+\.(?:py|sh))", page.read_text()
        ):
            assert (ROOT / script).exists(), f"{page.name} names {script}"


def test_readme_shows_what_was_measured():
    spec = importlib.util.spec_from_file_location(
        "readme_table", ROOT / "tools" / "readme_table.py"
    )
    assert spec and spec.loader
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    readme = (ROOT / "README.md").read_text()
    assert tool.replaced(readme, tool.render(json.loads(tool.DATA.read_text()))) == readme


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_relative_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" in target:
            continue
        file = (page.parent / target).resolve()
        assert file in GENERATED or file.exists(), f"{page.name} links to {target}"
