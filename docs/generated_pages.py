"""Pages written from the library itself, so that they cannot fall behind it."""

import importlib
import re
import types
from pathlib import Path

from graphpool import catalogue

# Module, title, and a sentence on what lives there.
REFERENCE = [
    ("graphpool", "Top level", "What a user needs first."),
    ("graphpool.ops", "Segment operations", "Functions of values and segments, no parameters."),
    ("graphpool.ops.neighbors", "Neighbours", "Sampling, searches, voxels, interpolation."),
    ("graphpool.aggr", "Aggregations", "Learnable pools, and the registry of their names."),
    ("graphpool.states", "Bags in pieces", "States that merge, streams, windows, processes."),
    ("graphpool.conv", "Convolutions", "Message passing that takes any aggregation."),
    ("graphpool.coarsen", "Coarsening", "Select, reduce, connect, lift; contracting a graph."),
    ("graphpool.overlap", "Overlap", "What the neighbourhoods of two nodes share."),
    ("graphpool.relational", "Relational pooling", "Pools over labelled copies of a graph."),
    ("graphpool.points", "Point clouds", "Layers, the training-free encoder and transforms."),
    ("graphpool.mesh", "Meshes", "Primal-dual graphs, features, convolution and pooling."),
    ("graphpool.models", "Models", "Whole networks in which every pool is one argument."),
    (
        "graphpool.models.weight_space",
        "Networks as data",
        "Networks that read the weights of networks.",
    ),
    ("graphpool.datasets", "Data sets", "Generators and loaders of torch_geometric data."),
    ("graphpool.io", "Files", "Readers and writers: files in, arrays out."),
    ("graphpool.files", "Your own files", "From folders of files to checkpoints and predictions."),
    ("graphpool.train", "Training", "Training loops and metrics."),
    ("graphpool.evaluate", "Evaluation", "Protocols that compare networks and readouts."),
    ("graphpool.plot", "Pictures", "Plots of what pools learn and what they see."),
    ("graphpool.testing", "Testing your own pool", "The assertions every member must pass."),
    ("graphpool.adapters.sklearn", "In scikit-learn", "Estimators of bags and clouds."),
    ("graphpool.adapters.chemprop", "In chemprop", "A pool over the atoms of a molecule."),
    ("graphpool.adapters.sentence_transformers", "In sentence-transformers", "Pools over tokens."),
    ("graphpool.adapters.graphgym", "In GraphGym", "A head whose pool is a word."),
    ("graphpool.info", "Environment report", "Versions, devices and settings for bug reports."),
]


# Of the root of the repository, as pages with links that lead on from here.
COPIED = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}


def write_all(docs: Path) -> None:
    """Writes the reference, the catalogue, and the copies of pages outside ``docs``."""
    folder = docs / "reference"
    folder.mkdir(exist_ok=True)
    wanted = {}
    described: dict[type, str] = {}
    for number, (module, title, about) in enumerate(REFERENCE):
        if _there(module):
            page = f"{number:02d}-{module.rpartition('.')[2]}.md"
            wanted[page] = reference_page(module, title, about, described)
    for old in folder.glob("*.md"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        write_if_changed(folder / name, text)
    for source, page in COPIED.items():
        text = (docs.parent / source).read_text(encoding="utf-8")
        text = re.sub(r"\]\((?!docs/|\w+:|#)", "](../", text).replace("](docs/", "](")
        write_if_changed(docs / page, text)
    write_if_changed(docs / "catalogue.md", catalogue.to_markdown())


def _there(module: str) -> bool:
    """Whether a module can be imported; adapters need the packages they are named after."""
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def public_names(module: types.ModuleType) -> list[str]:
    """What a package says is public, or what a file defines without an underscore."""
    own = [
        name
        for name, value in vars(module).items()
        if isinstance(value, (type, types.FunctionType))
        and value.__module__ == module.__name__
        and not name.startswith("_")
    ]
    return sorted(getattr(module, "__all__", own), key=str.lower)


def reference_page(module: str, title: str, about: str, described: dict[type, str]) -> str:
    """The page of a module: a table of its names, then each; a class stands on the first page that has it."""
    found = importlib.import_module(module)
    rows, bodies = [], []
    for name in public_names(found):
        value, full = getattr(found, name), f"{module}.{name}"
        if isinstance(value, types.ModuleType):
            full = value.__name__
        elif isinstance(value, type) and value in described:
            full = described[value]
        else:
            if isinstance(value, type):
                described[value] = full
            bodies.append(f".. {_directive(value)}:: {full}\n")
        alias = isinstance(value, types.GenericAlias)
        told = (callable(value) and not alias) or isinstance(value, types.ModuleType)
        text = catalogue.summary(value) if told else _content(value)
        rows.append(f"   * - :py:obj:`{name} <{full}>`\n     - {_escaped(text)}\n")
    table = ".. list-table::\n   :widths: 1 3\n   :class: summary\n\n" + "".join(rows)
    parts = [f".. automodule:: {module}\n   :no-members:\n", *([table] if rows else []), *bodies]
    directive = "\n".join(parts)
    return f"# {title}\n\n{about} `import {module}`\n\n```{{eval-rst}}\n{directive}```\n"


def _directive(value: object) -> str:
    if isinstance(value, type):
        return "autoexception" if issubclass(value, BaseException) else "autoclass"
    alias = isinstance(value, types.GenericAlias)
    return "autofunction" if callable(value) and not alias else "py:data"


def _content(value: object) -> str:
    """What a constant holds; it has no docstring."""
    if isinstance(value, (dict, tuple, list, set, frozenset)):
        return ", ".join(f"`{key}`" for key in value)
    return f"`{value!r}`"


def _escaped(text: str) -> str:
    """A summary, whose single backticks are code, as text for reStructuredText."""
    halves = re.split(r"`([^`]*)`", text)
    return "".join(
        f"``{part}``" if i % 2 else re.sub(r"([*_|\\])", r"\\\1", part)
        for i, part in enumerate(halves)
    )


def write_if_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
