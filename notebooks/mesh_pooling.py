# %% [markdown]
# # Pooling a mesh
#
# Faces are nodes of a graph; pooling merges those that attend to each other most. Which function pools the
# faces of a cluster is a word. Open this file as a notebook (any editor that knows `# %%` cells), or
# run it: `python notebooks/mesh_pooling.py`.

# %%
import matplotlib

matplotlib.use("Agg")  # leave this line out in a notebook

from pathlib import Path

import matplotlib.pyplot as plt
import torch

from graphpool import plot
from graphpool.datasets import generate_mesh
from graphpool.mesh import FaceClusterPool, PrimalDualConv, primal_dual

torch.manual_seed(0)
creature = generate_mesh("creature", seed=2, num_faces=(800, 1200))
graph = primal_dual(creature.vertices, creature.faces)
print(graph)

# %% [markdown]
# Convolve, pool, and do it again. `cluster` of a level says where each face of the level before went, so
# the clusters of the original faces follow by looking them up.

# %%
topology, primal, dual = graph.topology(), graph.x, graph.x_dual
cluster = torch.arange(topology.num_faces)
levels = [cluster]
for reduce in ("mean", "max", "gnp"):
    conv = PrimalDualConv((primal.size(1), dual.size(1)), (16, 16))
    out = conv(primal, dual, topology)
    pooled = FaceClusterPool((16, 16), keep=0.5, reduce=reduce)(
        out.primal.relu(), out.dual.relu(), topology, out.attention
    )
    cluster = pooled.clusters.cluster[cluster]
    levels.append(cluster)
    topology, primal, dual = pooled.topology, pooled.primal, pooled.dual
    print(f"{reduce:5} {topology.num_faces:5} clusters, features {tuple(primal.shape)}")

# %%
figure, axes = plt.subplots(1, len(levels), figsize=(12, 3.4), layout="constrained")
for ax, level in zip(axes, levels, strict=True):
    count = level.unique().numel()
    title = f"{count} clusters"
    plot.mesh(creature.vertices, creature.faces, ax=ax, title=title, clusters=level)
Path("outputs").mkdir(exist_ok=True)
figure.savefig("outputs/mesh_pooling.png", dpi=110)
