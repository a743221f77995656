"""What the pages need of Sphinx: formulas without a script, links from names, and an order.

The pages themselves are plain Markdown, so that a forge shows them, too: no roles, no tables of contents.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.addnodes import pending_xref
from sphinx.transforms.post_transforms import SphinxPostTransform

#: The order of a learner.
CONTENTS = {
    "Start": (
        "everything-is-a-pool",
        "getting-started-graphs",
        "getting-started-points",
        "getting-started-meshes",
        "getting-started-bags",
        "your-own-data",
    ),
    "Choose and build": (
        "catalogue",
        "choosing-a-readout",
        "what-a-pool-forgets",
        "graph-tasks",
        "spurious-companions",
        "multiple-instances",
        "writing-your-own",
        "hierarchies",
        "links",
        "over-squashing",
        "weight-spaces",
        "finding-bags",
        "points",
        "meshes",
        "relational",
        "interoperability",
        "differences-to-pyg",
        "gallery",
    ),
    "How it computes": (
        "numerics",
        "performance",
        "compile-and-precision",
        "distributed",
        "streams",
        "reliability",
    ),
    "Results": ("results/index", "results/about", "results/safe_word", "results/*"),
    "Benchmarks": ("benchmarks/about", "benchmarks/*"),
    "Reference": ("reference/*",),
    "The project": ("architecture", "contributing", "changelog"),
}
#: The group at whose end stands what is not named above.
REST = "How it computes"
_NAME = re.compile(r"graphpool(\.\w+)+(\(\))?")


def mathml(tex: str, block: bool = False) -> str:
    """A formula as MathML, which browsers draw by themselves.

    >>> "<mfrac>" in mathml("\\\\frac{a}{b}")
    True
    """
    # The converter has the sizes for opening and closing brackets only.
    tex = re.sub(r"\\([bB]ig)(?=[(\[]|\\\{)", r"\\\1l", tex)
    tex = re.sub(r"\\([bB]ig)(?=[)\]]|\\\})", r"\\\1r", tex)
    try:
        return tex2mathml(tex, as_block=block)
    except MathError as problem:
        raise ValueError(f"Not a formula that can be drawn: {tex}\n{problem}") from None


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def _display(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{mathml(node.astext(), block=True)}</div>\n')
    raise nodes.SkipNode


class LinkedNames(SphinxPostTransform):
    """Code that is a name of this library leads to its description, where there is one."""

    default_priority = 5  # before references are resolved

    def run(self, **_: Any) -> None:
        for node in list(self.document.findall(nodes.literal)):
            if isinstance(node.parent, (nodes.reference, pending_xref)):
                continue
            name = node.astext()
            if _NAME.fullmatch(name):
                link = pending_xref(
                    "", refdomain="py", reftype="obj", reftarget=name.removesuffix("()"),
                    refdoc=self.env.docname, refexplicit=True, refwarn=False,
                )  # fmt: skip
                node.replace_self(link)
                link += node


def add_contents(app: Any, page: str, source: list[str]) -> None:
    """The tables of contents, behind the first page."""
    if page != app.config.root_doc:
        return
    pages = app.project.docnames
    named = {page, *(name for group in CONTENTS.values() for name in group)}
    for caption, names in CONTENTS.items():
        body = [name for name in names if "*" in name or name in pages]
        if caption == REST:
            body += sorted(name for name in pages if "/" not in name and name not in named)
        lines = "\n".join(body)
        source[0] += f"\n```{{toctree}}\n:hidden:\n:glob:\n:caption: {caption}\n\n{lines}\n```\n"


def setup(app: Any) -> dict[str, bool]:
    app.add_html_math_renderer(
        "mathml", inline_renderers=(_inline, None), block_renderers=(_display, None)
    )
    app.add_post_transform(LinkedNames)
    app.connect("source-read", add_contents)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
