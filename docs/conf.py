"""Sphinx settings; warnings are errors in ``make docs``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import generated_pages

import graphpool
from graphpool.aggr import Aggregation

project = "graphpool"
author = "graphpool contributors"
copyright = "2026, graphpool contributors"
release = version = graphpool.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
    "page_hooks",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_title = f"graphpool {release}"

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

# What scikit-learn writes into every estimator leads to its own pages.
autodoc_default_options = {
    "exclude-members": "set_fit_request, set_score_request, set_transform_request",
    "members": True,
}
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

SHARED = {n for kind in Aggregation.__mro__ for n in vars(kind).get("__annotations__", ())}


def skip_what_all_have(app, what, name, obj, skip, options):
    """What all pools have is described at ``Aggregation``: ``forward``, and what it says of itself."""
    # The fields of a named tuple are told in its docstring.
    if getattr(obj, "copied_from", None) or type(obj).__name__ == "_tuplegetter":
        return True
    described = app.env.temp_data.get("autodoc:class")
    return True if name in SHARED and described != "Aggregation" else None


def setup(app):
    app.connect("autodoc-skip-member", skip_what_all_have)
