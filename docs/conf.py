"""Sphinx settings; warnings are errors in ``make docs``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import generated_pages

import graphpool

project = "graphpool"
author = "graphpool contributors"
copyright = "2026, graphpool contributors"
release = version = graphpool.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"graphpool {release}"

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# The examples of docstrings run under pytest, which gives each its module's names; here only the
# doctest and testcode directives of the guides do.
doctest_test_doctest_blocks = ""
doctest_global_setup = """
import torch
import graphpool
from graphpool import *
torch.manual_seed(0)
"""

suppress_warnings = ["myst.header", "ref.python"]

generated_pages.write_all(Path(__file__).parent)


def skip_shared_forward(app, what, name, obj, skip, options):
    """Every pool has a copy of the one ``forward``; it is described once, at ``Aggregation``."""
    return True if getattr(obj, "copied_from", None) else None


def setup(app):
    app.connect("autodoc-skip-member", skip_shared_forward)
