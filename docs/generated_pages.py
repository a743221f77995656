"""Pages written from the library itself, so that they cannot fall behind it."""

import importlib
import importlib.util
from pathlib import Path

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
    ("graphpool.datasets", "Data sets", "Generators and loaders of torch_geometric data."),
    ("graphpool.io", "Files", "Readers and writers: files in, arrays out."),
    ("graphpool.files", "Your own files", "From folders of files to checkpoints and predictions."),
    ("graphpool.train", "Training", "Training loops and metrics."),
    ("graphpool.evaluate", "Evaluation", "Protocols that compare networks and readouts."),
    ("graphpool.plot", "Pictures", "Plots of what pools learn and what they see."),
    ("graphpool.testing", "Testing your own pool", "The assertions every member must pass."),
    ("graphpool.info", "Environment report", "Versions, devices and settings for bug reports."),
]


def write_all(docs: Path) -> None:
    """Writes the reference pages and the catalogue below ``docs``."""
    folder = docs / "reference"
    folder.mkdir(exist_ok=True)
    wanted = {}
    described: set[type] = set()
    for number, (module, title, about) in enumerate(REFERENCE):
        if importlib.util.find_spec(module) is not None:
            page = f"{number:02d}-{module.rpartition('.')[2]}.md"
            wanted[page] = reference_page(module, title, about, described)
    for old in folder.glob("*.md"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        write_if_changed(folder / name, text)
    if importlib.util.find_spec("graphpool.catalogue") is not None:
        catalogue = importlib.import_module("graphpool.catalogue")
        write_if_changed(docs / "catalogue.md", catalogue.to_markdown())


def reference_page(module: str, title: str, about: str, described: set[type]) -> str:
    """The page of a module; a class is described on the first page that has it."""
    found = importlib.import_module(module)
    names = {
        n: v for n in getattr(found, "__all__", ()) if isinstance(v := getattr(found, n), type)
    }
    again = sorted(name for name, value in names.items() if value in described)
    described.update(names.values())
    directive = f".. automodule:: {module}\n   :members:\n"
    if again:
        directive += f"   :exclude-members: {', '.join(again)}\n"
        about += f" Also here, and described above: {', '.join(f'`{name}`' for name in again)}."
    return f"# {title}\n\n{about} `import {module}`\n\n```{{eval-rst}}\n{directive}```\n"


def write_if_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
