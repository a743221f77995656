"""The Python of the first pages runs, links and names lead somewhere, and a forge can show every page."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import pkgutil
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Written when the pages are built, so a fresh checkout does not have them.
GENERATED = {ROOT / "docs" / name for name in ("changelog.md", "contributing.md")}
ROOT_PACKAGE = importlib.import_module("graphpool")
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("datasets/**/*.md")]
    if not {"_build", "reference"} & set(path.parts)
    and path.name not in ("changelog.md", "contributing.md")
)


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_code_of_first_pages_runs_from_top_to_bottom(page, capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
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


def prose(page):
    """The text of a page without its blocks of code."""
    return re.sub(r"^(```|~~~).*?^\1", "", page.read_text(), flags=re.M | re.S)


def anchors(page):
    """The anchors of the headings, as forges and the pages make them."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.M)
    titles = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
class TestPage:
    def test_links_and_pictures_lead_somewhere(self, page):
        links = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", prose(page))
        for target, anchor in links:
            if "://" in target:
                continue
            file = (page.parent / target).resolve() if target else page
            assert file in GENERATED or file.exists(), f"links to {target}"
            if anchor and file not in GENERATED:
                assert anchor in anchors(file), f"links to {target}#{anchor}"

    def test_is_plain_markdown(self, page):
        text = prose(page)
        assert re.findall(r"\{[\w:]+\}`[^`]*`", text) == [], (
            "write `graphpool.name`, [title](page.md) and $formula$: a forge shows roles raw"
        )
        directives = set(re.findall(r"^(?:```|:::)\{([\w-]+)\}", page.read_text(), re.M))
        # These are code with the interpreter's prompt, which a forge shows as code.
        assert directives <= {"doctest", "testcode", "testoutput", "testcleanup"}

    def test_names_of_the_library_exist(self, page):
        if page.name == "CHANGELOG.md":
            return  # it names what was, too
        for name in re.findall(r"`(graphpool(?:\.[A-Za-z_]\w*)+)(?:\(\))?`", prose(page)):
            if name == "graphpool.ops.segment_name":  # stands for all of them
                continue
            found, rest = ROOT_PACKAGE, name.split(".")[1:]
            for part in rest:
                if inspect.ismodule(found) and not hasattr(found, part):
                    module = f"{found.__name__}.{part}"
                    try:
                        importlib.import_module(module)
                    except ImportError:
                        # An adapter, whose package cannot be loaded here.
                        source = Path(importlib.util.find_spec(module).origin).read_text()
                        assert re.search(rf"^(?:class|def) {rest[-1]}\b", source, re.M) or (
                            rest[-1] == part
                        )
                        break
                found = getattr(found, part)


def test_pictures_are_small():
    large = [p.name for p in ROOT.glob("docs/images/*") if p.stat().st_size > 150_000]
    assert large == [], "draw them smaller, or with fewer colours (Image.quantize of Pillow)"


def test_first_page_shows_what_the_results_say():
    first, readme = ((ROOT / name).read_text() for name in ("docs/index.md", "README.md"))
    numbers = re.findall(r"\d+\.\d+ ± \d+\.\d+ %", first)
    assert len(numbers) == 2
    assert all(number in readme for number in numbers)


@pytest.mark.needs("sphinx")
def test_formulas_need_no_script():
    spec = importlib.util.spec_from_file_location("page_hooks", ROOT / "docs" / "page_hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    tree = hooks.mathml(r"y = \Big(\frac{\big(a\big)}{b}\Big) \\ &= c", block=True)
    assert tree.count("<mfrac>") == 1 and tree.count("<mtr>") == 2 and "big" not in tree
    for page in PAGES:
        for formula in re.findall(r"(?<![\w$])\$([^$\n]+)\$(?![\w$])", prose(page)):
            assert hooks.mathml(formula).startswith("<math")


def test_every_public_name_has_its_place_in_the_reference():
    path = ROOT / "docs" / "generated_pages.py"
    spec = importlib.util.spec_from_file_location("generated_pages", path)
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    listed = [module for module, _, _ in pages.REFERENCE]
    adapters = sorted((ROOT / "graphpool" / "adapters").glob("[!_]*.py"))
    assert {f"graphpool.adapters.{path.stem}" for path in adapters} <= set(listed)
    there = [importlib.import_module(name) for name in listed if pages._there(name)]
    shown = {id(getattr(module, name)) for module in there for name in pages.public_names(module)}
    for package in pkgutil.walk_packages(ROOT_PACKAGE.__path__, "graphpool."):
        if not package.ispkg or any(part.startswith("_") for part in package.name.split(".")):
            continue
        module = importlib.import_module(package.name)
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            told = inspect.isclass(value) or inspect.isfunction(value)
            assert not told or id(value) in shown, f"{package.name}.{name} is on no page"
