"""Slot attention, and its mixture of Gaussians."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool._arguments import as_count
from graphpool.aggr.absent import segment_sizes
from graphpool.aggr.matrix import MatrixAggregation
from graphpool.aggr.registry import register
from graphpool.nn import LayerNorm, gru_step, in_precision, may_be_folded_by_size, perceptron, reset
from graphpool.ops import (
    segment_gather,
    segment_matmul,
    segment_mean,
    segment_outer,
    segment_sum,
    working,
)
from graphpool.segments import Segments

_FLOOR = 1e-8
_LIMIT = 5.0


class _Slots(MatrixAggregation):
    """What both slot pools share: arguments, initial slots, and iterations."""

    learnable = True
    whole_bag = (
        "it goes over the elements again and again, with slots that the pass before has found"
    )
    complexity = "T E K C + E C^2, T iterations, K slots"
    example_arguments = {"num_slots": 2, "slot_channels": 4, "iterations": 2}
    _state = 1
    """Numbers per channel and slot."""

    def __init__(
        self,
        channels: int,
        *,
        num_slots: int = 4,
        slot_channels: int | None = None,
        iterations: int = 3,
        sample: bool = False,
        implicit: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(channels)
        self.num_slots = as_count(num_slots, "num_slots")
        self.slot_channels = (
            None if slot_channels is None else as_count(slot_channels, "slot_channels")
        )
        self.iterations = as_count(iterations, "iterations")
        self.sample, self.implicit, self.seed = sample, implicit, seed
        # The noise of a call would be that of its parts.
        self.bags_apart = not sample

    def build(self, channels: int) -> None:
        width = self.slot_channels or channels
        size = self._state * width
        self.mean = torch.nn.Parameter(torch.empty(1, size))
        self.log_std = torch.nn.Parameter(torch.empty(1, size))
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(self.num_slots, size, generator=generator)
        self.register_buffer("noise", noise)
        self.input_norm = LayerNorm(channels)
        self.key = torch.nn.Linear(channels, width, bias=False)
        self.value = torch.nn.Linear(channels, width, bias=False)
        self.query = torch.nn.Linear(width, width, bias=False)
        self.slot_norm = LayerNorm(size)
        self.gru = torch.nn.GRUCell(width, width)
        self.mlp_norm = LayerNorm(width)
        self.mlp = perceptron(width, 2 * width, width)

    def reset_parameters(self) -> None:
        torch.nn.init.xavier_uniform_(self.mean)
        torch.nn.init.xavier_uniform_(self.log_std)
        reset(*self.children())

    @property
    def out_channels(self) -> int | None:
        width = self.slot_channels or self.channels
        return width if width in (None, -1) else self.num_slots * width

    def _initial(self, size: int) -> Tensor:
        noise = self.noise.expand(size, -1, -1)
        if self.sample:
            noise = torch.randn_like(noise)
        mean = working(self.mean)
        return mean + working(self.log_std).exp() * noise.to(mean.dtype)

    def _update(
        self, update: Tensor, before: Tensor, first: torch.nn.Linear | None = None
    ) -> Tensor:
        """The recurrent step, and a perceptron with residual, for each slot."""
        shape = before.shape
        # Rows of all slots of all bags; the unit takes none of zero length.
        slots = gru_step(self.gru, update.flatten(0, 1), before.flatten(0, 1), first).view(shape)
        return slots + in_precision(self.mlp, self.mlp_norm(slots))


@register("slots")
class SlotAttention(_Slots):
    r"""``K`` slots compete for the elements of a bag:

    .. math::
        A = \mathrm{softmax}_{k}\big(K(x)\, Q(z)^\top / \sqrt D\big), \qquad
        z_k \leftarrow \mathrm{GRU}\Big(\frac{\sum_e A_{ek} V(x_e)}{\sum_e A_{ek}}, z_k\Big), \qquad
        z_k \leftarrow z_k + \mathrm{MLP}(z_k)

    with layer norms on elements and slots, repeated ``iterations`` times. The slots start from
    :math:`\mu + \sigma \circ \varepsilon`, with one learned :math:`\mu` and :math:`\sigma` for all.

    Locatello et al., "Object-centric learning with slot attention", NeurIPS 2020.

    Args:
        channels: Number of channels ``C``.
        num_slots: Number ``K`` of slots.
        slot_channels: Width ``D`` of a slot; ``C`` if ``None``.
        iterations: Number of iterations.
        sample: Draw the noise anew for every bag and call, as the paper does. Otherwise the noise is
            part of the state, and the result is reproducible.
        implicit: Let gradients flow through the last iteration only.
        seed: Seed of the noise that is part of the state.

    Shapes:
        ``[E, ..., C]`` to ``[S, ..., K * D]``; ``y.unflatten(-1, (K, D))`` are the slots.

    Raises:
        ValueError: A number is less than 1.

    Example:
        >>> from graphpool import aggr
        >>> aggr.SlotAttention(8, num_slots=3)(torch.randn(5, 8)).shape
        torch.Size([1, 24])
    """

    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        x = self.input_norm(x)
        folds = self._folds(x, segments)
        # <K x, Q z> = <x, K^T Q z>, and V sum a x = sum a (V x): slots are fewer than elements, and weights
        # can be multiplied beforehand.
        key = working(x if folds else self.key(x))
        value = key if folds else working(self.value(x))
        slots = self._initial(segments.num_segments).to(self.mean.dtype)
        for step in range(self.iterations):
            if self.implicit and step == self.iterations - 1:
                slots = slots.detach()
            share = self._shares(key, slots, segments, folds) + _FLOOR
            total = segment_sum(share, segments, weight)
            total = torch.where(total == 0, 1, total)
            update = segment_outer(share, value, segments, weight) / total.unsqueeze(-1)
            slots = self._update(update.to(slots.dtype), slots, self.value if folds else None)
        return slots.flatten(1)

    def _folds(self, x: Tensor, segments: Segments) -> bool:
        if not may_be_folded_by_size(self.query, self.key, self.value):
            return False
        (size, channels), width = x.shape, self.query.in_features
        slots = self.iterations * self.num_slots
        wider = slots * (4 * width * segments.num_segments + 2 * size) * (channels - width)
        return wider <= 2 * size * channels * width

    def _shares(
        self, key: Tensor, slots: Tensor, segments: Segments, folds: bool = False
    ) -> Tensor:
        z = self.slot_norm(slots) * slots.size(-1) ** -0.5
        query = z @ (self.query.weight.mT @ self.key.weight) if folds else self.query(z)
        return segment_matmul(key, query.mT.contiguous(), segments).softmax(-1)

    def assignment(self, x: Tensor, segments: Segments) -> Tensor:
        """How much each element ``[E, C]`` belongs to each slot after the last iteration, ``[E, K]``."""
        slots = self.pool_matrix(x, segments).unflatten(-1, (self.num_slots, -1))
        return self._shares(working(self.key(self.input_norm(x))), slots, segments)


@register("slot_mixture")
class SlotMixture(_Slots):
    r"""Slots as a mixture of Gaussians, fitted to each bag by steps of expectation and maximisation:

    .. math::
        \gamma_{ek} &= \mathrm{softmax}_k \big(\log \pi_k - d_{ek}\big), \qquad
        d_{ek} = \frac{1}{\sqrt D} \sum_c \Big(\frac{(K(x_e) - Q(\mu_k))_c^2}{\sigma_{kc}^2}
                 + 2 \log \sigma_{kc}\Big) \\
        \mu_k &\leftarrow \mathrm{GRU}\big(\bar v_k, \mu_k\big) + \mathrm{MLP}, \quad
        \sigma_k^2 \leftarrow \frac{\sum_e \gamma_{ek} (V(x_e) - \mu_k)^2}{\sum_e \gamma_{ek}}, \quad
        \pi_k \leftarrow \frac{1}{n} \sum_e \gamma_{ek}

    where :math:`\bar v_k` is the mean of the values under :math:`\gamma`. All of the E step happens in the
    log domain, and :math:`\log \sigma` is kept in [-5, 5] there, so that a slot that collapses onto one
    element does no harm. A perceptron of mean and deviation gives the slot.

    Kirilenko, Vorobyov, Kovalev, Panov, "Object-centric learning with slot mixture module", ICLR 2024. The
    initial slots come from one learned Gaussian, not from one that a transformer predicts.

    Args:
        channels: Number of channels ``C``.
        num_slots: Number ``K`` of slots.
        slot_channels: Width ``D`` of a slot; ``C`` if ``None``.
        iterations: Number of iterations.
        sample: See :class:`SlotAttention`.
        implicit: Let gradients flow through the last iteration only, as the released code does.
        seed: See :class:`SlotAttention`.
        released: Follow the released code: no term :math:`2 \log \sigma`, :math:`\pi` stays uniform, and
            likelihoods have a floor of 1e-8.

    Shapes:
        ``[E, ..., C]`` to ``[S, ..., K * D]``

    Raises:
        ValueError: A number is less than 1.

    Example:
        >>> from graphpool import aggr
        >>> aggr.SlotMixture(8, num_slots=3, slot_channels=4)(torch.randn(5, 8)).shape
        torch.Size([1, 12])
    """

    _state = 2

    def __init__(
        self,
        channels: int,
        *,
        num_slots: int = 4,
        slot_channels: int | None = None,
        iterations: int = 3,
        sample: bool = False,
        implicit: bool = False,
        seed: int = 0,
        released: bool = False,
    ) -> None:
        super().__init__(
            channels,
            num_slots=num_slots,
            slot_channels=slot_channels,
            iterations=iterations,
            sample=sample,
            implicit=implicit,
            seed=seed,
        )
        self.released = released

    def build(self, channels: int) -> None:
        super().build(channels)
        width = self.slot_channels or channels
        self.out = perceptron(2 * width, 2 * width, width)

    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        # Small variances magnify what half precision rounds away: a quarter of the result and more.
        with torch.autocast(x.device.type, enabled=False):
            return self._fit(working(x), segments, weight)

    def _fit(self, x: Tensor, segments: Segments, weight: Tensor | None) -> Tensor:
        x = self.input_norm(x)
        key, value = in_precision(self.key, x), in_precision(self.value, x)
        # Variances are differences of squares, so the squares had better be small.
        centre = segment_mean(value, segments, weight)
        value = value - segment_gather(centre, segments)
        # Side by side, so that each step takes one product of matrices.
        features = torch.cat([key * key, key], dim=-1)
        powers = torch.cat([value, value * value], dim=-1)
        slots = self._initial(segments.num_segments)
        log_prior = key.new_zeros(segments.num_segments, self.num_slots)
        for step in range(self.iterations):
            if self.implicit and step == self.iterations - 1:
                slots, log_prior = slots.detach(), log_prior.detach()
            mean, log_std = self.slot_norm(slots).chunk(2, dim=-1)
            share = self._shares(features, mean, log_std, log_prior, segments)
            total = segment_sum(share, segments, weight)
            sums = segment_outer(share, powers, segments, weight)
            slots = self._maximise(sums, total, centre, mean)
            if not self.released:
                log_prior = (total / segment_sizes(segments, weight, total) + _FLOOR).log()
        return in_precision(self.out, slots).flatten(1)

    def _shares(
        self,
        features: Tensor,
        mean: Tensor,
        log_std: Tensor,
        log_prior: Tensor,
        segments: Segments,
    ) -> Tensor:
        mean, log_std = in_precision(self.query, mean), in_precision(self.query, log_std)
        log_std = log_std.clamp(-_LIMIT, _LIMIT)
        # The factor of the distance belongs to the slots, which are fewer than the elements.
        scale = mean.size(-1) ** -0.5
        precision = scale * (-2 * log_std).exp()
        matrix = torch.cat([-precision, 2 * precision * mean], dim=-1).mT.contiguous()
        offset = -(precision * mean * mean).sum(-1)
        if not self.released:
            offset = offset - 2 * scale * log_std.sum(-1) + log_prior
        score = segment_matmul(features, matrix, segments) + segment_gather(offset, segments)
        if self.released:
            likelihood = score.exp() + _FLOOR
            return likelihood / likelihood.sum(-1, keepdim=True)
        return score.softmax(-1)

    def _maximise(self, sums: Tensor, total: Tensor, centre: Tensor, before: Tensor) -> Tensor:
        divisor = torch.where(total == 0, 1, total).unsqueeze(-1)
        first, second = (sums / divisor).chunk(2, dim=-1)
        centre = centre.unsqueeze(1)
        # The hidden state is the normalised mean, as published.
        mean = self._update((first + centre).to(before.dtype), before)
        spread = (second - first * first).clamp_min(0) + (first + centre - mean).square()
        log_std = 0.5 * (spread + _FLOOR).log()
        return torch.cat([mean, log_std.to(mean.dtype)], dim=-1)
