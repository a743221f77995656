"""Pools of bags too large to be seen at once: exact, and from samples with a memory for each bag."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graphpool import _debug
from graphpool._arguments import as_count, as_indices, check_one_per
from graphpool.aggr.attentive.distributed import gather_rows, in_company
from graphpool.aggr.matrix import MatrixAggregation
from graphpool.aggr.registry import register
from graphpool.nn import perceptron
from graphpool.ops import align, segment_logsumexp, segment_softmax, segment_softmax_sum
from graphpool.segments import Segments
from graphpool.states import Exponential, Mergeable, Tensors, size_of


class _Stochastic(MatrixAggregation):
    """The memory: one row per training bag, written whenever a sample of the bag is pooled.

    Where several processes train in step (``torch.distributed`` is initialised), each also writes what the
    others have sampled, so that all hold the same memory and any of them can save it. ``shared = False``
    keeps a pool out of that.
    """

    visited: Tensor
    shared = True

    def __init__(self, channels: int | None, *, num_segments: int, gamma: float) -> None:
        super().__init__(channels)
        self.num_segments = as_count(num_segments, "num_segments", least=0)
        if not 0 < gamma <= 1:
            raise ValueError(f"`gamma` must lie in (0, 1]; got {gamma}.")
        self.gamma = float(gamma)

    def _make_memory(self, width: int, *names: str) -> None:
        for name in names:
            self.register_buffer(name, torch.zeros(self.num_segments, width))
        self.register_buffer("visited", torch.zeros(self.num_segments, dtype=torch.bool))

    def forget(self) -> None:
        """Clears the memory: every bag counts as never visited."""
        self.visited.zero_()

    @_debug.on_values
    def _checked(self, segment_index: Tensor, segments: Segments) -> Tensor:
        segment_index = as_indices(segment_index, "segment_index", "an integer tensor [S]")
        check_one_per("bag", segments.num_segments, "segment_index", segment_index.shape)
        self._check_range(segment_index)
        if segment_index.unique().numel() != segment_index.numel():
            raise ValueError(
                "`segment_index` must name each bag once; join its elements in one bag."
            )
        if bool((segments.counts == 0).any()):
            raise ValueError("A bag with a `segment_index` must have at least one sampled element.")
        return segment_index

    def _check_range(self, segment_index: Tensor) -> None:
        bad = (segment_index < 0) | (segment_index >= self.num_segments)
        if bool(bad.any()):
            first = int(bad.nonzero()[0])
            raise ValueError(
                f"`segment_index` must lie in [0, num_segments) = [0, {self.num_segments}); "
                f"got {int(segment_index[first])} at position {first}."
            )

    @_debug.on_values
    def _write(self, segment_index: Tensor, **rows: Tensor) -> None:
        """New rows of the memory, by the name of the buffer, for the bags of all processes."""
        if self.shared and in_company():
            segment_index = gather_rows(segment_index)
            rows = {name: gather_rows(value) for name, value in rows.items()}
            if segment_index.unique().numel() != segment_index.numel():
                raise ValueError("Two processes sampled the same bag in one step; each bag once.")
        for name, value in rows.items():
            getattr(self, name)[segment_index] = value
        self.visited[segment_index] = True

    @_debug.on_values
    def _visited(self, segment_index: Tensor) -> Tensor:
        segment_index = as_indices(segment_index, "segment_index")
        self._check_range(segment_index)
        unseen = ~self.visited[segment_index]
        if bool(unseen.any()):
            raise ValueError(
                f"Bag {int(segment_index[unseen][0])} has never been pooled, so nothing is known of it."
            )
        return segment_index


def _log_blend(old: Tensor, new: Tensor, gamma: float, known: Tensor) -> Tensor:
    """``log((1 - gamma) e^old + gamma e^new)``; where nothing is known, ``new``."""
    if gamma == 1:
        return new
    blend = torch.logaddexp(old + math.log1p(-gamma), new + math.log(gamma))
    return torch.where(known, blend, new)


@register("midam_lse")
class MIDAMLogSumExp(_Stochastic):
    r"""Smoothed maximum, :math:`y_s = \tau \log \frac{1}{n_s} \sum_{e \in s} e^{x_e / \tau}`, exact or from
    samples.

    Called with ``segment_index`` in training mode, the number of each bag among the ``num_segments`` training
    bags, ``x`` holds a few sampled elements of each. A running estimate of the inner mean, one per training
    bag, makes up for the rest:

    .. math:: u_s \leftarrow (1 - \gamma) u_s + \gamma\, \frac{1}{|B|} \sum_{e \in B} e^{x_e / \tau},
              \qquad y_s = \tau \log u_s, \qquad
              \nabla y_s = \frac{\tau}{u_s} \nabla \frac{1}{|B|} \sum_{e \in B} e^{x_e / \tau}

    It is kept as a logarithm, so nothing overflows, and starts with the first sample. The memory is part
    of the state, and processes that train in step share it. Without ``segment_index``, and in evaluation
    mode, the pool is exact.

    Zhu, Chen, et al., "Provable multi-instance deep AUC maximization with stochastic pooling", ICML 2023.

    Args:
        channels: Number of channels ``C``.
        tau: Temperature, positive; 0 is the maximum, infinity the mean.
        num_segments: Number of training bags, with the indices 0, ..., ``num_segments - 1``.
        gamma: Share of the new sample in the estimate, in (0, 1].

    Raises:
        ValueError: ``tau`` or ``gamma`` is out of range; an index is not in ``[0, num_segments)`` or comes
            twice.

    Example:
        >>> from graphpool import aggr
        >>> pool = aggr.MIDAMLogSumExp(1, num_segments=10)
        >>> pool(torch.zeros(4, 1), torch.tensor([0, 0, 1, 1]), segment_index=torch.tensor([7, 2]))
        tensor([[0.],
                [0.]])
        >>> pool.estimate(torch.tensor([2]))
        tensor([[0.]])
    """

    learnable = False
    log_mean: Tensor

    def __init__(
        self, channels: int, *, tau: float = 0.1, num_segments: int = 0, gamma: float = 0.9
    ) -> None:
        super().__init__(channels, num_segments=num_segments, gamma=gamma)
        if not 0 < tau < math.inf:
            raise ValueError(f"`tau` must be positive and finite; got {tau}.")
        self.tau = float(tau)

    def build(self, channels: int) -> None:
        self._make_memory(channels, "log_mean")

    def pool_matrix(
        self,
        x: Tensor,
        segments: Segments,
        weight: Tensor | None = None,
        segment_index: Tensor | None = None,
    ) -> Tensor:
        log_mean = _log_mean_exp(x / self.tau, segments, weight)
        if segment_index is None or not self.training:
            return self.tau * log_mean
        segment_index = self._checked(segment_index, segments)
        new, known = log_mean.detach().to(self.log_mean.dtype), self.visited[segment_index, None]
        updated = _log_blend(self.log_mean[segment_index], new, self.gamma, known)
        self._write(segment_index, log_mean=updated)
        # tau * (e^new / e^updated) has the gradient that tau * log e^updated lacks.
        slope = (log_mean - updated).exp()
        return self.tau * (updated + (slope - slope.detach())).to(x.dtype)

    def merging(self) -> Mergeable:
        def finish(mean: Tensor, log: Tensor, sums: Tensors) -> Tensor:
            return self.tau * (log - size_of(sums, log).log())

        return Exponential(finish, lambda s: s["x"] / self.tau)

    def estimate(self, segment_index: Tensor) -> Tensor:
        """What is known of whole bags, ``[n, C]``.

        Raises:
            ValueError: A bag has never been pooled.
        """
        segment_index = self._visited(segment_index)
        return self.tau * self.log_mean[segment_index]


def _log_mean_exp(x: Tensor, segments: Segments, weight: Tensor | None) -> Tensor:
    total = segment_logsumexp(x, segments, weight)
    ones = x.new_zeros(x.size(0))
    return total - align(segment_logsumexp(ones, segments, weight), total)


@register("midam_attention")
class MIDAMAttention(_Stochastic):
    r"""Attention pool of scores for whole bags, exact or from samples:

    .. math:: y_s = \frac{\sum_{e \in s} e^{g(x_e)} \delta(x_e)}{\sum_{e \in s} e^{g(x_e)}}

    with :math:`g` a perceptron and :math:`\delta` linear, and a sigmoid on top if asked for. From samples
    (called with ``segment_index`` in training mode), running means of numerator and denominator are kept for
    each training bag, and the gradient is that of the quotient at the running means. They are stored as the
    logarithm of the denominator and the quotient, so scores of any size do no harm.

    Zhu, Chen, et al., "Provable multi-instance deep AUC maximization with stochastic pooling", ICML 2023.

    Args:
        channels: Number of channels ``C``.
        num_outputs: Number of scores for a bag.
        hidden: Width of the attention network; ``C`` if ``None``.
        sigmoid: Sigmoid on top, as the paper has it.
        num_segments: Number of training bags, with the indices 0, ..., ``num_segments - 1``.
        gamma: Share of the new sample in the estimate, in (0, 1].

    Shapes:
        ``[E, ..., C]`` to ``[S, ..., num_outputs]``

    Raises:
        ValueError: ``gamma`` or a width is out of range; an index is not in ``[0, num_segments)`` or comes
            twice.

    Example:
        >>> from graphpool import aggr
        >>> aggr.MIDAMAttention(8)(torch.randn(5, 8)).shape
        torch.Size([1, 1])
    """

    learnable = True
    complexity = "E C^2"
    log_total: Tensor
    quotient: Tensor

    def __init__(
        self,
        channels: int,
        *,
        num_outputs: int = 1,
        hidden: int | None = None,
        sigmoid: bool = True,
        num_segments: int = 0,
        gamma: float = 0.9,
    ) -> None:
        super().__init__(channels, num_segments=num_segments, gamma=gamma)
        self.num_outputs = as_count(num_outputs, "num_outputs")
        self.hidden = None if hidden is None else as_count(hidden, "hidden")
        self.sigmoid = sigmoid

    def build(self, channels: int) -> None:
        hidden = self.hidden or channels
        self.gate = perceptron(channels, hidden, 1)
        self.gate[1] = torch.nn.Tanh()
        self.delta = torch.nn.Linear(channels, self.num_outputs)
        self._make_memory(1, "log_total")
        self.register_buffer("quotient", torch.zeros(self.num_segments, self.num_outputs))

    @property
    def out_channels(self) -> int:
        return self.num_outputs

    def pool_matrix(
        self,
        x: Tensor,
        segments: Segments,
        weight: Tensor | None = None,
        segment_index: Tensor | None = None,
    ) -> Tensor:
        gate, delta = self.gate(x), self.delta(x)
        y = segment_softmax_sum(gate, delta, segments, weight)
        if segment_index is not None and self.training:
            segment_index = self._checked(segment_index, segments)
            y = self._remember(y, _log_mean_exp(gate, segments, weight), segment_index)
        return y.sigmoid() if self.sigmoid else y

    def merging(self) -> Mergeable:
        def encode(x: Tensor) -> Tensors:
            x = x.to(self._dtype(x))
            return {"gate": self.gate(x), "delta": self.delta(x)}

        def finish(mean: Tensor, log: Tensor, sums: Tensors) -> Tensor:
            return mean.sigmoid() if self.sigmoid else mean

        return Exponential(finish, lambda s: s["gate"], lambda s: s["delta"], encode)

    def _remember(self, sampled: Tensor, log_total: Tensor, segment_index: Tensor) -> Tensor:
        """Mean of the sample and logarithm of its mean weight, blended with what is known."""
        known = self.visited[segment_index, None]
        new = log_total.detach().to(self.log_total.dtype)
        total = _log_blend(self.log_total[segment_index], new, self.gamma, known)
        # The share that the sample has in the running mean, by weight.
        share = torch.where(known, (new - total).exp() * self.gamma, 1)
        old = self.quotient[segment_index]
        value = old + share * (sampled.detach().to(old.dtype) - old)
        self._write(segment_index, log_total=total, quotient=value)
        # d(N / D) = (dN - (N / D) dD) / D, with N = e^log_total * sampled and D = e^log_total.
        slope = (log_total - total).exp() * (sampled - value)
        return (value + (slope - slope.detach())).to(sampled.dtype)

    def estimate(self, segment_index: Tensor) -> Tensor:
        """What is known of whole bags, ``[n, num_outputs]``.

        Raises:
            ValueError: A bag has never been pooled.
        """
        segment_index = self._visited(segment_index)
        y = self.quotient[segment_index]
        return y.sigmoid() if self.sigmoid else y

    def attention(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        """The weights ``[E, ..., 1]``; each bag sums to 1."""
        return segment_softmax(self.gate(x.to(self.delta.weight.dtype)), segments, weight)
