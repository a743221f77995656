"""The table of tasks."""

from __future__ import annotations

from functools import partial

from _safe_word import graphs, sets, shapes
from _safe_word.problem import Task, both

TASKS: dict[str, Task] = {
    "blocks-sage": Task(
        partial(graphs.block_model, "sage"), {"blocks, SAGE": "accuracy"}, 100, 0.01
    ),
    "blocks-gin": Task(partial(graphs.block_model, "gin"), {"blocks, GIN": "accuracy"}, 100, 0.01),
    "edges": Task(graphs.edge_features, {"edge features": "error"}, 12, 0.01),
    "mutag": Task(partial(graphs.tu, "MUTAG", 5, 32), {"MUTAG": "accuracy"}, 20, 0.01),
    "maxdegree": Task(graphs.max_degree, both("maximum degree", "graphs"), 20, 0.01),
    "sets": Task(sets.set_functions, both("set functions", "sets"), 25, 0.01),
    "shortest": Task(graphs.shortest_path, both("shortest path", "graphs"), 20, 0.005),
    "enzymes": Task(partial(graphs.tu, "ENZYMES", 3, 64), {"ENZYMES": "accuracy"}, 20, 0.01),
    "proteins": Task(partial(graphs.tu, "PROTEINS", 3, 64), {"PROTEINS": "accuracy"}, 10, 0.01),
    "parts": Task(shapes.parts, {"parts": "accuracy"}, 8, 0.003),
    "modelnet": Task(shapes.point_cloud, {"ModelNet10": "accuracy"}, 6, 0.003),
    "shrec": Task(shapes.meshes, {"SHREC": "accuracy"}, 20, 0.002),
}
"""Cheap ones first."""
