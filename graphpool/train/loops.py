"""Mini-batches of graphs, a plain training loop, losses, and statistics, as the examples use them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Data, InMemoryDataset

from graphpool._arguments import check_at_least
from graphpool.segments import Segments
from graphpool.train.running import recalibrate


@dataclass
class MiniBatch:
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
            raise ValueError("`dataset` must have no transform: its storage is read directly.")
        check_at_least(batch_size, "batch_size", 1)
        storage, slices = dataset._data, dataset.slices
        if not isinstance(storage, Data) or slices is None:
            raise ValueError("`dataset` must hold more than one graph.")
        self.indices = torch.as_tensor(list(dataset.indices()))
        if indices is not None:
            self.indices = self.indices[indices.cpu()]
        if self.indices.numel() == 0:
            raise ValueError("There must be at least one graph; got none.")
        self.batch_size, self.shuffle, self.generator = batch_size, shuffle, generator
        self._slices = {key: torch.as_tensor(value).to(device) for key, value in slices.items()}
        self._x, self._y = storage.x.to(device), storage.y.to(device)
        self._edge_index = None if storage.edge_index is None else storage.edge_index.to(device)
        self._edge_attr = None if storage.edge_attr is None else storage.edge_attr.to(device)

    def __len__(self) -> int:
        return -(-self.indices.numel() // self.batch_size)

    def __iter__(self) -> Iterator[MiniBatch]:
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

    def _take(self, graphs: Tensor) -> MiniBatch:
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
        return MiniBatch(self._x[node_rows], edge_index, edge_attr, y, nodes)


Forward = Callable[[nn.Module, MiniBatch], Tensor]
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

    Before each validation batch normalisations get the statistics of all of ``train``
    (:func:`graphpool.train.recalibrate`): one more pass over it, without gradients.

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
    check_at_least(epochs, "epochs", 1)
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
        recalibrate(model, train, forward)
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


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int = -1,
    weight: Tensor | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """Mean cross-entropy over what is labelled; 0, with gradient 0, where nothing is.

    Args:
        logits: ``[N, K]``.
        labels: ``[N]``, integers in [0, K) or ``ignore_index``.
        ignore_index: The label of elements that have none.
        weight: One weight per class, ``[K]``; the mean is weighted by them.
        smoothing: Share of the target that is spread evenly over the classes, in [0, 1].

    Raises:
        ValueError: A label is out of range, or there is not one per row.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [9.0, 0.0]])
        >>> round(float(cross_entropy(logits, torch.tensor([0, 1, -1]))), 4)
        0.1269
    """
    used = _labelled(labels, ignore_index, logits.size(1), logits.size(0))
    if not bool(used.any()):
        return logits.sum() * 0.0
    return F.cross_entropy(
        logits[used],
        labels[used],
        None if weight is None else weight.to(logits),
        label_smoothing=smoothing,
    )


def accuracy(predicted: Tensor, labels: Tensor, ignore_index: int = -1) -> float:
    """Share of right answers among what is labelled.

    Args:
        predicted: Classes ``[N]``, or scores ``[N, K]``, of which the largest counts.
        labels: ``[N]``, ``ignore_index`` where an element has none.
        ignore_index: The label of elements that have none.

    Raises:
        ValueError: Nothing is labelled, or there is not one label per row.

    Example:
        >>> accuracy(torch.tensor([1, 0, 0]), torch.tensor([1, 1, -1]))
        0.5
    """
    guess = predicted.argmax(1) if predicted.dim() == 2 else predicted
    used = _labelled(labels, ignore_index, None, guess.size(0))
    if not bool(used.any()):
        raise ValueError(f"`labels` must hold a label; all {labels.numel()} are {ignore_index}.")
    return float((guess[used] == labels[used]).double().mean())


def class_weights(labels: Tensor, num_classes: int, ignore_index: int = -1) -> Tensor:
    """Weights under which all classes count alike: ``n / (present classes * n_c)``, 0 for absent ones.

    The mean weight of a labelled element is 1.

    Args:
        labels: Integers in [0, ``num_classes``) or ``ignore_index``.
        num_classes: Number of classes.
        ignore_index: The label of elements that have none.

    Raises:
        ValueError: Nothing is labelled, or a label is out of range.

    Example:
        >>> class_weights(torch.tensor([0, 0, 0, 1, -1]), 3)
        tensor([0.6667, 2.0000, 0.0000])
    """
    used = _labelled(labels, ignore_index, num_classes, labels.numel())
    count = labels[used].bincount(minlength=num_classes)
    if not bool(used.any()):
        raise ValueError(f"`labels` must hold a label; all {labels.numel()} are {ignore_index}.")
    share = count.sum() / (count.count_nonzero() * count.clamp_min(1).double())
    return torch.where(count > 0, share, 0.0).float()


def _labelled(labels: Tensor, ignore_index: int, num_classes: int | None, rows: int) -> Tensor:
    if labels.dim() != 1 or labels.numel() != rows:
        raise ValueError(f"`labels` must have shape [{rows}]; got {list(labels.shape)}.")
    used = labels != ignore_index
    wrong = used & (labels < 0)
    if num_classes is not None:
        wrong |= used & (labels >= num_classes)
    if bool(wrong.any()):
        at = int(wrong.nonzero()[0])
        below = "" if num_classes is None else f" and below {num_classes}"
        raise ValueError(
            f"`labels` must be at least 0{below}, or {ignore_index} for no label; "
            f"got {int(labels[at])} at {at}."
        )
    return used
