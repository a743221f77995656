# %% [markdown]
# # Swap a readout
#
# The largest degree of a graph: count neighbours, then take the largest count. A network that pools
# otherwise can fit the graphs it was trained on, and fails on larger ones. Open this file as a notebook
# (any editor that knows `# %%` cells), or run it: `python notebooks/swap_a_readout.py`.

# %%
import matplotlib

matplotlib.use("Agg")  # leave this line out in a notebook

from pathlib import Path

import matplotlib.pyplot as plt
import torch

from graphpool.datasets import MaxDegree
from graphpool.models import GraphModel
from graphpool.train import GraphBatches, fit, predict

torch.manual_seed(0)

# %% [markdown]
# Small graphs to train on, larger ones to test on.

# %%
small = MaxDegree(split="train", num_graphs=450)
large = MaxDegree(split="test", num_graphs=180)
train = GraphBatches(small, 16, shuffle=True)
print(small[0], large[0], sep="\n")

# %% [markdown]
# One network, and one word that differs.


# %%
def forward(model, batch):
    return model(batch.x, batch.edge_index, batch.nodes)


def mape(output, label):
    return 100 * ((output - label) / label).abs().mean()


EPOCHS = 15


def error_on_larger_graphs(readout):
    model = GraphModel(1, 32, 1, num_layers=1, conv="pair_mlp", aggr="sum", readout=readout)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    loss, validation = torch.nn.MSELoss(), GraphBatches(small, 64)
    fit(model, train, validation, optimizer, EPOCHS, loss, mape, forward, scheduler=schedule)
    return [
        mape(*predict(model, GraphBatches(graphs, 64), forward)).item() for graphs in (small, large)
    ]


readouts = ["max", "gnp", "mean", "sum", ["mean", "std"]]
errors = {str(readout): error_on_larger_graphs(readout) for readout in readouts}
for readout, (inside, outside) in errors.items():
    print(f"{readout:20} {inside:6.1f} % on graphs as in training, {outside:6.1f} % on larger ones")

# %%
figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
position = torch.arange(len(errors)).numpy()
inside, outside = zip(*errors.values(), strict=True)
ax.barh(position - 0.2, inside, 0.4, color="#0072B2", label="graphs as in training")
ax.barh(position + 0.2, outside, 0.4, color="#D55E00", label="larger graphs")
ax.set_yticks(position, list(errors))
ax.invert_yaxis()
ax.set(xlabel="mean absolute percentage error", xscale="log")
ax.legend()
Path("outputs").mkdir(exist_ok=True)
figure.savefig("outputs/swap_a_readout.png", dpi=110)
