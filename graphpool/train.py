"""Mini-batches of graphs and a plain training loop, as the examples use them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch_geometric.data import Data, InMemoryDataset

from graphpool.segments import Segments


@dataclass
class GraphBatch:
    """Some graphs side by side.

    Attributes:
        x: Node features ``[N, C]``.
        edge_index: ``[2, E]``, numbered over the batch; ``None`` for sets.
        edge_attr: Edge features ``[E, D]`` or ``None``.
        y: Labels, one row per graph (or per node).
        nodes: Which graph each node belongs to.
    """

    x: Tensor
    edge_index: Tensor | None
    edge_attr: Tensor | None
    y: Tensor
    nodes: Segments

    @property
    def num_graphs(self) -> int:
        return self.nodes.num_segments


class GraphBatches:
    """Iterates over a data set in batches, built by a few tensor operations each.

    Building a batch of small graphs from single graphs costs more than a training step on it, so
    this reads from the concatenated storage of the data set instead.

    Args:
        dataset: The graphs; without transform.
        batch_size: Graphs per batch; the last batch may be smaller.
        shuffle: Whether every pass has a new order.
        generator: Source of the order.
        indices: Use these graphs only.
        device: Where the batches go; the data set is moved there once.

    Raises:
        ValueError: If the data set has a transform, or no graph is left.
    """

    def __init__(
        self,
        dataset: InMemoryDataset,
        batch_size: int,
        shuffle: bool = False,
        generator: torch.Generator | None = None,
        indices: Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if dataset.transform is not None:
            raise ValueError("dataset must have no transform: its storage is read directly")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        storage, slices = dataset._data, dataset.slices
        if not isinstance(storage, Data) or slices is None:
            raise ValueError("dataset must hold more than one graph")
        self.indices = torch.as_tensor(list(dataset.indices()))
        if indices is not None:
            self.indices = self.indices[indices.cpu()]
        if self.indices.numel() == 0:
            raise ValueError("there must be at least one graph; got none")
        self.batch_size, self.shuffle, self.generator = batch_size, shuffle, generator
        self._slices = {key: torch.as_tensor(value).to(device) for key, value in slices.items()}
        self._x, self._y = storage.x.to(device), storage.y.to(device)
        self._edge_index = None if storage.edge_index is None else storage.edge_index.to(device)
        self._edge_attr = None if storage.edge_attr is None else storage.edge_attr.to(device)

    def __len__(self) -> int:
        return -(-self.indices.numel() // self.batch_size)

    def __iter__(self) -> Iterator[GraphBatch]:
        order = self.indices
        if self.shuffle:
            order = order[torch.randperm(order.numel(), generator=self.generator)]
        for graphs in order.split(self.batch_size):
            yield self._take(graphs.to(self._x.device))

    def _rows(self, key: str, graphs: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of ``key`` that the graphs own, and how many each has."""
        begin = self._slices[key][graphs]
        counts = self._slices[key][graphs + 1] - begin
        shift = begin - (counts.cumsum(0) - counts)
        total = int(counts.sum())
        rows = torch.arange(total, device=counts.device)
        return rows + shift.repeat_interleave(counts, output_size=total), counts

    def _take(self, graphs: Tensor) -> GraphBatch:
        node_rows, num_nodes = self._rows("x", graphs)
        nodes = Segments.from_counts(num_nodes)
        edge_index = edge_attr = None
        if self._edge_index is not None:
            edge_rows, num_edges = self._rows("edge_index", graphs)
            shift = nodes.ptr[:-1].repeat_interleave(num_edges, output_size=edge_rows.numel())
            edge_index = self._edge_index[:, edge_rows] + shift
            if self._edge_attr is not None:
                edge_attr = self._edge_attr[edge_rows]
        y = self._y[self._rows("y", graphs)[0]]
        return GraphBatch(self._x[node_rows], edge_index, edge_attr, y, nodes)


Forward = Callable[[nn.Module, GraphBatch], Tensor]
Metric = Callable[[Tensor, Tensor], Tensor]


@dataclass
class History:
    """What a run of :func:`fit` has seen.

    Attributes:
        train_loss: Mean training loss of each epoch.
        validation: The metric on the validation set after each epoch.
        best_epoch: The epoch (from 0) with the smallest finite validation metric, -1 before there is one.
    """

    train_loss: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best_epoch: int = -1


@torch.no_grad()
def predict(model: nn.Module, batches: GraphBatches, forward: Forward) -> tuple[Tensor, Tensor]:
    """Outputs and labels of every batch, concatenated, in evaluation mode."""
    model.eval()
    outputs, labels = zip(*((forward(model, batch), batch.y) for batch in batches), strict=True)
    return torch.cat(outputs), torch.cat(labels)


def fit(
    model: nn.Module,
    train: GraphBatches,
    validation: GraphBatches,
    optimizer: torch.optim.Optimizer,
    epochs: int,
    loss: Metric,
    metric: Metric,
    forward: Forward,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    after_epoch: Callable[[int, History], None] | None = None,
    restore_best: bool = True,
) -> History:
    """Trains for a number of epochs, validates after each, and goes back to the best epoch.

    Args:
        model: The network.
        train: Training batches.
        validation: Batches that choose the best epoch.
        optimizer: Updates the parameters.
        epochs: Number of passes over ``train``, at least 1.
        loss: ``loss(output, label)``, minimised on ``train``.
        metric: ``metric(output, label)``, measured on ``validation``; smallest is best.
        forward: ``forward(model, batch)`` gives the output.
        scheduler: Stepped once per epoch.
        after_epoch: Called with the epoch and the history so far, for progress bars.
        restore_best: Whether the model ends with the parameters of the best epoch, not of the last.

    Returns:
        The history of the run.

    Raises:
        ValueError: If ``epochs`` is below 1.
        FloatingPointError: If the training loss is not finite.
    """
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    history = History()
    best_state: dict[str, Tensor] = {}
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for batch in train:
            optimizer.zero_grad()
            value = loss(forward(model, batch), batch.y)
            value.backward()
            optimizer.step()
            total += float(value.detach()) * batch.num_graphs
        history.train_loss.append(total / train.indices.numel())
        if not math.isfinite(history.train_loss[-1]):
            raise FloatingPointError(
                f"the training loss became {history.train_loss[-1]} in epoch {epoch}"
            )
        if scheduler is not None:
            scheduler.step()
        score = float(metric(*predict(model, validation, forward)))
        best = history.validation[history.best_epoch] if history.best_epoch >= 0 else math.inf
        history.validation.append(score)
        if score < best:
            history.best_epoch = epoch
            if restore_best:
                best_state = {k: v.detach().clone() for k, v in model.state_dict().items()}
        if after_epoch is not None:
            after_epoch(epoch, history)
    if best_state:
        model.load_state_dict(best_state)
    return history
