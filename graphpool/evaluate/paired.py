"""The reliable paired comparison: is a trained or random network able to tell a pair of graphs apart?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from scipy.stats import f as f_distribution
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from graphpool._arguments import as_count, check_one_of
from graphpool.evaluate.expressiveness import relabelled

#: Threshold of the authors' program, for mu' Sigma^+ mu without the factor q of Hotelling's statistic.
PUBLISHED_THRESHOLD = 72.34

# Differences that vary less than this, relative to the embeddings, vary by rounding only.
_CONSTANT = 1e-6


def hotelling(first: Tensor, second: Tensor) -> Tensor:
    r"""The statistic :math:`\mu^\top \Sigma^+ \mu` of paired samples, without the factor q.

    :math:`\mu` and :math:`\Sigma` are mean and (unbiased) covariance of the differences. Hotelling's
    :math:`T^2` is q times this.

    Args:
        first: ``[..., q, d]``.
        second: ``[..., q, d]``.

    Returns:
        ``[...]``.

    Raises:
        TypeError: If they are not of floating point.
        ValueError: If the shapes differ or q <= d, where the covariance cannot be inverted, or one of them is
            not finite.
    """
    if first.shape != second.shape or first.dim() < 2:
        raise ValueError(
            f"Both samples must be [..., q, d]; got {list(first.shape)} and {list(second.shape)}."
        )
    q, d = first.shape[-2:]
    if q <= d:
        raise ValueError(f"The number of copies q must exceed the width d; got q={q} and d={d}.")
    difference = first - second
    if not difference.is_floating_point():
        raise TypeError(f"Both samples must be floating point; got {difference.dtype}.")
    if not difference.isfinite().all():
        raise ValueError(
            "Both samples must be finite; a model whose embeddings are not has diverged, or divides by zero."
        )
    mean = difference.mean(-2, keepdim=True)
    centred = difference - mean
    covariance = centred.transpose(-1, -2) @ centred / (q - 1)
    inverse = torch.linalg.pinv(covariance, hermitian=True)
    return (mean @ inverse @ mean.transpose(-1, -2)).squeeze(-1).squeeze(-1)


def statistical_threshold(q: int = 32, d: int = 16, alpha: float = 0.05) -> float:
    """Critical value of Hotelling's T^2 (q times :func:`hotelling`) at level ``alpha``.

    Example:
        >>> round(statistical_threshold(), 3)
        72.338
    """
    if not 0 < alpha < 1:
        raise ValueError(f"`alpha` must be in (0, 1); got {alpha}.")
    if q <= as_count(d, "d"):
        raise ValueError(f"The number of copies q must exceed the width d; got q={q} and d={d}.")
    return (q - 1) * d / (q - d) * float(f_distribution.ppf(1 - alpha, d, q - d))


@dataclass(frozen=True)
class PairedResult:
    """The outcome of one paired comparison.

    Attributes:
        statistic: ``mu' Sigma^+ mu`` of the pair.
        reliability: The same of the reliability block, two halves of copies of one graph.
        constant: Whether all differences agree up to rounding: the model is invariant and deterministic, the
            covariance is zero, and the statistics mean nothing. Then ``gap`` decides.
        gap: Largest entry of the mean difference, relative to the embeddings.
        noise: Largest deviation among copies of one graph, relative to the embeddings.
        q: Number of copies of each graph.
        d: Width of the embeddings.
    """

    statistic: float
    reliability: float
    constant: bool
    gap: float
    noise: float
    q: int
    d: int

    def distinguished(self, threshold: str = "published", alpha: float = 0.05) -> bool:
        """Whether the pair is told apart.

        Args:
            threshold: ``"published"``: the statistic above 72.34 and not equal to that of the reliability
                block, as in the authors' program, which leaves out the factor q and so is 32 times stricter
                than its level says. ``"statistical"``: Hotelling's T^2 at level ``alpha``. With zero
                covariance, both ask whether the gap exceeds 1000 times the noise.
            alpha: Level of the statistical threshold.

        Raises:
            ValueError: If the threshold is unknown.
        """
        check_one_of(threshold, "threshold", ("published", "statistical"))
        if self.constant:
            return self.gap > max(1e3 * self.noise, 1e-11)
        if threshold == "published":
            equal = abs(self.statistic - self.reliability) <= 1e-6
            return self.statistic > PUBLISHED_THRESHOLD and not equal
        return self.q * self.statistic > statistical_threshold(self.q, self.d, alpha)

    def reliable(self, threshold: str = "published", alpha: float = 0.05) -> bool:
        """Whether copies of one graph are not told apart: otherwise the pair must not be counted.

        Args:
            threshold: As in :meth:`distinguished`.
            alpha: Level of the statistical threshold.

        Raises:
            ValueError: If the threshold is unknown.
        """
        check_one_of(threshold, "threshold", ("published", "statistical"))
        if self.constant:
            return True
        if threshold == "published":
            return self.reliability < PUBLISHED_THRESHOLD
        return self.q * self.reliability <= statistical_threshold(self.q, self.d, alpha)


def copies_block(first: Data, second: Data, q: int = 32, seed: int = 0) -> list[Data]:
    """q relabelled copies of each of two graphs, alternating, the originals first.

    With the same graph twice this is a reliability block.

    Raises:
        ValueError: If ``q`` is below 1.
    """
    q = as_count(q, "q")
    rest = relabelled([graph for _ in range(q - 1) for graph in (first, second)], seed)
    return [first, second, *rest]


def compare_pair(
    make_model: Callable[[], nn.Module],
    block: Sequence[Data],
    reliability_block: Sequence[Data],
    *,
    epochs: int = 20,
    lr: float = 1e-4,
    weight_decay: float = 1e-4,
    batch_size: int = 16,
    stop_below: float = 0.2,
) -> PairedResult:
    """The procedure of BREC for one pair (Wang and Zhang, ICML 2024).

    A new model is trained to push the embeddings of aligned copies apart (cosine embedding loss with
    target -1, Adam, rate lowered on plateaus, stopped early when the loss is below ``stop_below``), then the
    differences of aligned copies are tested against zero. ``epochs=0`` tests random weights. Runs in float64,
    so that rounding cannot pass for a difference.

    Args:
        make_model: Makes a model, called as ``model(x, edge_index, batch, batch_size) -> [B, d]`` with d < q.
        block: 2 q graphs, copies of the one graph at even and of the other at odd positions.
        reliability_block: 2 q copies of one of the graphs.
        epochs: Passes over the block, at least 0.
        lr: Learning rate.
        weight_decay: Weight decay.
        batch_size: Graphs per mini-batch, even.
        stop_below: Loss at which training stops.

    Returns:
        The result.

    Raises:
        ValueError: If the blocks do not hold the same even number of graphs, ``batch_size`` is odd,
            ``epochs`` is negative, d >= q, or an embedding is not finite.
    """
    epochs = as_count(epochs, "epochs", least=0)
    if len(block) != len(reliability_block) or len(block) % 2 or not block:
        raise ValueError(
            "Both blocks must hold the same even number of graphs; "
            f"got {len(block)} and {len(reliability_block)}."
        )
    if batch_size < 2 or batch_size % 2:
        raise ValueError(f"`batch_size` must be even; got {batch_size}.")
    model = make_model().double()
    batches = [
        Batch.from_data_list(list(block[start : start + batch_size]))
        for start in range(0, len(block), batch_size)
    ]
    if epochs:
        _train(model, batches, epochs, lr, weight_decay, stop_below)
    model.eval()
    with torch.no_grad():
        rows = torch.cat([_run(model, batch) for batch in batches])
        others = torch.cat(
            [
                _run(model, Batch.from_data_list(list(reliability_block[s : s + batch_size])))
                for s in range(0, len(reliability_block), batch_size)
            ]
        )
    scale = max(float(rows.abs().max()), float(others.abs().max()), torch.finfo(rows.dtype).tiny)
    difference = rows[::2] - rows[1::2]
    mean = difference.mean(0)
    spread = float((difference - mean).abs().max()) / scale
    noise = float((others - others.mean(0)).abs().max()) / scale
    return PairedResult(
        statistic=float(hotelling(rows[::2], rows[1::2])),
        reliability=float(hotelling(others[::2], others[1::2])),
        constant=max(spread, noise) < _CONSTANT,
        gap=float(mean.abs().max()) / scale,
        noise=noise,
        q=len(block) // 2,
        d=rows.size(1),
    )


def _run(model: nn.Module, batch: Batch) -> Tensor:
    return model(batch.x.double(), batch.edge_index, batch.batch, batch.num_graphs)


def _train(
    model: nn.Module,
    batches: Sequence[Batch],
    epochs: int,
    lr: float,
    weight_decay: float,
    stop_below: float,
) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    criterion = nn.CosineEmbeddingLoss()
    model.train()
    for _ in range(epochs):
        total = 0.0
        for batch in batches:
            out = _run(model, batch)
            first, second = out[::2], out[1::2]
            loss = criterion(first, second, out.new_full((len(first),), -1.0))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(first)
        mean = total / sum(batch.num_graphs // 2 for batch in batches)
        if mean < stop_below:
            return
        scheduler.step(mean)
