"""Networks for bags that differ in their training bags alone, trained side by side as one."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from _common import make_pool, width_of
from torch import Tensor, nn
from torch.nn import functional as F

from graphpool import Segments, aggr, ops
from graphpool.datasets import Bags
from graphpool.train import GraphBatches

MEAN_FIRST = "mean first"


class Stacked(nn.Module):
    """``count`` linear maps, ``[count, E, in]`` to ``[count, E, out]``."""

    def __init__(self, count: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(count, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(count, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class Networks(nn.Module):
    """``count`` times a perceptron for each instance, a pool, a linear map to classes.

    With :data:`MEAN_FIRST` the perceptron sees the mean of the features of a bag, and there is no other pool.
    """

    def __init__(self, count: int, features: int, classes: int, pool: str, hidden: int) -> None:
        super().__init__()
        self.mean_first = pool == MEAN_FIRST
        self.trunk = nn.Sequential(
            Stacked(count, features, hidden), nn.ReLU(), Stacked(count, hidden, hidden), nn.ReLU()
        )
        name = "mean" if self.mean_first else pool
        self.pools = nn.ModuleList(make_pool(name, hidden) for _ in range(count))
        self.head = Stacked(count, width_of(self.pools[0], hidden), classes)

    def forward(self, x: Tensor, bags: Segments) -> tuple[Tensor, Tensor | None]:
        """Scores ``[count, B, classes]``, and those of DSMIL's instances, ``[count, B]``."""
        if self.mean_first:
            return self.head(
                self.trunk(ops.segment_mean(x.movedim(0, 1), bags).movedim(1, 0))
            ), None
        h = self.trunk(x)
        pool = self.pools[0]
        if not any(True for _ in pool.parameters()) and not any(True for _ in pool.buffers()):
            many = Segments.from_counts(bags.counts.repeat(len(h)))
            pooled = pool(h.flatten(0, 1), many).unflatten(0, (len(h), -1))
        else:
            pooled = torch.stack([pool(own, bags) for pool, own in zip(self.pools, h, strict=True)])
        if not isinstance(pool, aggr.DSMIL):
            return self.head(pooled), None
        best = [pool.bag_scores(own, bags) for pool, own in zip(self.pools, h, strict=True)]
        return self.head(pooled), torch.stack(best).squeeze(-1)


class Scaled:
    """The bags, some at a time, as each network sees them: less the mean of the instances of its training
    bags and over their deviation. What is all in one part is scaled once."""

    def __init__(self, data: Bags, fit: Tensor, at_once: int, device: str) -> None:
        self.parts = list(GraphBatches(data, at_once, device=device))
        x, sizes = data._data.x, torch.tensor([len(data[i].x) for i in range(len(data))])
        rows = fit.repeat_interleave(sizes, 1)
        found = [(x[own].mean(0), x[own].std(0) + 1e-6) for own in rows]
        self.mean, self.deviation = (
            torch.stack(v)[:, None].to(device) for v in zip(*found, strict=True)
        )
        self.kept = [self.scale(self.parts[0].x)] if len(self.parts) == 1 else None

    def scale(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.deviation).clamp_(-10, 10)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Segments]]:
        for part in self.parts:
            x = self.kept[0] if self.kept else self.scale(part.x)
            yield x, part.y, part.nodes


def train(
    networks: Networks,
    bags: Scaled,
    fit: Tensor,
    held: Tensor,
    *,
    epochs: int,
    lr: float,
    weight_decay: float,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Of each network the scores of all bags where its held-out loss is least, that loss ``[K]``, and the
    state where that of the first is.

    ``fit`` and ``held`` ``[K, B]`` say which bags a network is trained on, and which choose the epoch. Each
    epoch is one step on all of them; nothing is random but the start, so that what a step sees is also the
    evaluation of the step before.
    """
    optimizer = torch.optim.AdamW(networks.parameters(), lr=lr, weight_decay=weight_decay)
    share = fit / fit.sum(1, keepdim=True)
    best = torch.full((len(fit),), torch.inf)
    scores, state = torch.empty(0), {}
    for _ in range(epochs):
        optimizer.zero_grad()
        losses, logits, first = [], [], 0
        for x, y, segments in bags:
            out, best_instance = networks(x, segments)
            loss = F.cross_entropy(out.flatten(0, 1), y.repeat(len(out)), reduction="none").view(
                len(out), -1
            )
            if best_instance is not None:
                # Its scores choose an instance; only this half of the loss trains them.
                positive = (y > 0).to(out.dtype).expand_as(best_instance)
                other = F.binary_cross_entropy_with_logits(
                    best_instance, positive, reduction="none"
                )
                loss = (loss + other) / 2
            # Networks share nothing: the gradient of each is that of its own loss.
            (loss * share[:, first : first + len(y)]).sum().backward()
            first += len(y)
            losses.append(loss.detach())
            logits.append(out.detach())
        value = (torch.cat(losses, 1) * held).sum(1) / held.sum(1)
        better = value < best
        now = torch.cat(logits, 1)
        scores = torch.where(better[:, None, None], now, scores) if len(scores) else now
        best = torch.where(better, value, best)
        if better[0]:
            state = {name: v.clone() for name, v in networks.state_dict().items()}
        optimizer.step()
    return scores.softmax(2), best, state
