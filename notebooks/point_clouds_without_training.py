# %% [markdown]
# # Point clouds without training
#
# Point-NN has no parameters. It samples centres, finds their neighbours, encodes them by sines and
# cosines, and pools. Open this file as a notebook (any editor that knows `# %%` cells), or run it:
# `python notebooks/point_clouds_without_training.py`.

# %%
import matplotlib

matplotlib.use("Agg")  # leave this line out in a notebook

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch_geometric.data import Batch

from graphpool import plot
from graphpool.datasets import GeneratedShapes
from graphpool.ops import neighbors
from graphpool.points import MemoryBank, PointNN

# %% [markdown]
# Centres by farthest point sampling, and the neighbourhoods of two of them.

# %%
classes = ["torus", "box", "cylinder", "spring"]
cloud = GeneratedShapes(1, 512, classes=classes, seed=3)[0].pos
picks = neighbors.fps(cloud, num_samples=16)
groups = neighbors.knn_groups(cloud, 24, cloud[picks])

role = torch.zeros(len(cloud), dtype=torch.long)
for which in (1, 2):
    role[groups.index[groups.segments.index == which]] = which
role[picks] = 3
figure, axes = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
plot.cloud(axes[0], cloud)
axes[0].set_title("a cloud of 512 points")
plot.cloud(axes[1], cloud, role, size=10, num_values=4)
axes[1].set_title("16 centres, and the neighbours of two")
Path("outputs").mkdir(exist_ok=True)
figure.savefig("outputs/centres_and_neighbours.png", dpi=110)

# %% [markdown]
# Descriptors of labelled clouds are all there is to "training"; a similarity to them classifies.

# %%
train = Batch.from_data_list(list(GeneratedShapes(12, 256, "train", classes=classes)))
test = Batch.from_data_list(list(GeneratedShapes(8, 256, "test", classes=classes)))
encoder = PointNN(channels=36, stages=3, k=24)
bank = MemoryBank(gamma=100.0).fit(encoder(train.pos, ptr=train.ptr), train.y)
predicted = bank.predict(encoder(test.pos, ptr=test.ptr))
accuracy = (predicted == test.y).float().mean().item()
print(f"{accuracy:.0%} of {len(predicted)} clouds of {len(classes)} classes")
plot.confusion_matrix(predicted, test.y, classes, "outputs/confusion.png")
