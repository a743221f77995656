"""Running statistics of the network as it is, not as it was on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from graphpool.models.weight_space.layers import RoleNorm
from graphpool.ops import segment_mean, segment_var
from graphpool.segments import Segments

#: Where the deviation of a channel is a smaller part of its mean, the channel is constant.
_SAME = 1e-6


@torch.no_grad()
def recalibrate(
    model: nn.Module,
    batches: Iterable[Any],
    forward: Callable[[nn.Module, Any], Any] | None = None,
) -> int:
    """Recomputes the running statistics of all batch normalisations in one pass.

    Running averages lag behind the weights; after a few dozen steps they still hold much of their
    initial values, and a network that fits its data fails on the same data in evaluation mode. Here
    every layer gets the mean and the unbiased variance of *all* rows that it saw during the pass,
    however they were divided into batches. The layers normalise by each batch, as in training; the
    rest of the network, such as dropout, is in evaluation mode.

    A channel that is the same in all rows, as behind a ReLU that is never active, has no scale and gets the
    variance 1. With 0, new data in which it is active would be magnified by ``eps ** -0.5``, in every layer.

    Layers without running statistics, and layers that the pass does not reach, are left alone. The roles of
    :class:`graphpool.models.DWSNet` count one by one; one of which the pass has a single row is left alone.

    Args:
        model: The network; in the end each module is in the mode in which it was.
        batches: The training data, such as a ``DataLoader``; batches as large as those of training.
        forward: ``forward(model, batch)`` runs the network; ``model(batch)`` if ``None``.

    Returns:
        The number of layers whose statistics were recomputed.

    Raises:
        ValueError: There is no batch, or a layer sees a single row.

    Example:
        >>> norm = nn.BatchNorm1d(1)
        >>> recalibrate(norm, [torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0], [5.0]])])
        1
        >>> norm.running_mean, norm.running_var
        (tensor([3.]), tensor([2.5000]))
    """
    norms: list[Any] = [module for module in model.modules() if running_statistics(module)]
    if not norms:
        return 0
    moments: dict[nn.Module, _Moments] = {}

    def watch(norm: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(norm, RoleNorm):
            rows, bags = inputs
        else:
            rows = inputs[0].transpose(0, 1).flatten(1).T
            bags = Segments.from_counts(torch.tensor([len(rows)], device=rows.device))
        moments.setdefault(norm, _Moments()).add(rows.double(), bags)

    modes = {module: module.training for module in model.modules()}
    handles = [norm.register_forward_pre_hook(watch) for norm in norms]
    ran = False
    try:
        model.eval()
        for norm in norms:
            norm.training, norm.track_running_stats = True, False
        for batch in batches:
            ran = True
            model(batch) if forward is None else forward(model, batch)
    finally:
        for handle in handles:
            handle.remove()
        for norm in norms:
            norm.track_running_stats = True
        for module, training in modes.items():
            module.training = training
    if not ran:
        raise ValueError("`batches` must hold at least one batch; got none.")
    for norm, found in moments.items():
        found.write(*running_statistics(norm))
    return len(moments)


def running_statistics(module: nn.Module) -> tuple[Tensor, ...]:
    """The running mean and variance of a layer, a row for each bag of its rows; nothing if it keeps none."""
    if isinstance(module, RoleNorm):
        return module.mean, module.var
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
        return tuple(module.get_buffer(f"running_{name}").unsqueeze(0) for name in ("mean", "var"))
    return ()


class _Moments:
    """Numbers, means and squared deviations of the rows of some bags, batch by batch."""

    def __init__(self) -> None:
        self.count = self.mean = self.square = torch.zeros((), dtype=torch.float64)

    def add(self, rows: Tensor, bags: Segments) -> None:
        count = bags.counts.to(rows).unsqueeze(1)
        step = segment_mean(rows, bags) - self.mean
        total = self.count + count
        share = count / total.clamp_min(1)
        within = segment_var(rows, bags) * count
        self.square = self.square + within + step.square() * (self.count * share)
        self.count, self.mean = total, self.mean + step * share

    def write(self, mean: Tensor, variance: Tensor) -> None:
        """Puts the mean and the unbiased variance of bags of several rows into two buffers."""
        several = self.count > 1
        unbiased = self.square / (self.count - 1).clamp_min(1)
        unbiased = unbiased.masked_fill(unbiased <= (_SAME * self.mean).square(), 1.0)
        mean.copy_(torch.where(several, self.mean.to(mean), mean))
        variance.copy_(torch.where(several, unbiased.to(variance), variance))
