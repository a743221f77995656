"""What the point-cloud examples share: transforms behind those of a data set, and evaluation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import Compose

Forward = Callable[[nn.Module, Batch], Tensor]


def followed_by(dataset: Any, *transforms: Callable) -> Any:
    """The data set with transforms behind its own."""
    changed = copy.copy(dataset)
    changed.transform = Compose([t for t in (dataset.transform, *transforms) if t is not None])
    return changed


@torch.no_grad()
def predict(
    model: nn.Module, loader: DataLoader, forward: Forward, votes: int, device: str
) -> tuple[Tensor, Tensor]:
    """Mean of the logits over ``votes`` passes (which differ if the loader draws points), and labels."""
    model.eval()
    mean: Tensor | None = None
    labels = torch.empty(0)
    for _ in range(votes):
        outputs, truth = [], []
        for batch in loader:
            batch = batch.to(device)
            outputs.append(forward(model, batch).cpu())
            truth.append(batch.y.cpu())
        total = torch.cat(outputs).softmax(1)
        mean = total if mean is None else mean + total
        labels = torch.cat(truth)
    if mean is None:
        raise ValueError("votes must be at least 1")
    return mean / votes, labels
