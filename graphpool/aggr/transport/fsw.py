"""The Fourier sliced-Wasserstein embedding."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool._arguments import as_count
from graphpool.aggr.matrix import MatrixAggregation
from graphpool.aggr.registry import register
from graphpool.aggr.robust.trimmed_mean import TIES
from graphpool.ops import segment_cosine, segment_gather, segment_mean, segment_sum, working
from graphpool.segments import Segments

FREQUENCIES = ("even", "random")
MASSES = (None, "log", "linear")


@register("fsw")
class FSW(MatrixAggregation):
    r"""Fourier sliced-Wasserstein embedding: the bag as a measure, seen along lines, one frequency for each:

    .. math:: y_{s,k} = 2 (1 + f_k) \int_0^1 Q_{s,k}(u) \cos(2 \pi f_k u)\, du

    with :math:`Q_{s,k}` the quantile function of the projections :math:`v_k^\top x_e` and unit vectors
    :math:`v_k`. Weights are the measure, and are divided by their sum; what that loses, the total, is a
    channel of its own, the first. ``f = 0`` gives twice the mean.

    With slices and frequencies drawn at random, ``2 N d + 1`` outputs tell apart, almost surely, any two bags
    of at most ``N`` elements in ``d`` dimensions, and do so in a bi-Lipschitz manner: distances of
    outputs are those of bags (Wasserstein) up to two factors. The squared distance of two outputs over
    ``m`` estimates the squared sliced 2-Wasserstein distance (``frequencies="random"``: without bias).

    Amir, Dym, "Fourier sliced-Wasserstein embedding for multisets and measures", ICLR 2025. Weights that add
    up to less than 1 are not filled up with zero vectors here, as the released code does.

    Args:
        channels: Number of channels ``C``.
        out_channels: Width of the result, the channel of the total included; one output for each of the
            ``C`` channels and that channel if ``None``.
        frequencies: ``"even"``, :math:`f_k = u/(1-u)` at :math:`u = (k + \frac12)/m`; or ``"random"``, at
            uniform random :math:`u`. An output whose frequency is a multiple of the size of a bag
            without weights is 0 for it.
        total: What the first channel holds: ``"log"``, :math:`\log(1 + \sum w)`; ``"linear"``,
            :math:`\sum w`; with ``None`` there is no such channel, and copying a whole bag changes nothing.
        learn: Whether slices and frequencies are learned. Slices are random, in groups of up to ``C`` that
            are orthogonal to one another, and are not normalised again.

    Raises:
        ValueError: ``frequencies`` or ``total`` is unknown, or ``out_channels`` leaves no output.

    Example:
        >>> from graphpool import aggr
        >>> pool = aggr.FSW(2, total="linear")
        >>> pool(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])).shape
        torch.Size([1, 3])
        >>> aggr.FSW(1, out_channels=2, frequencies="even")(torch.zeros(3, 1))[:, 0].exp()
        tensor([4.])
    """

    multiplicity_aware = True
    whole_bag = "it sorts the projections of all elements"
    complexity = "E C m + E m log E, m outputs"
    exempt = {"ties": TIES}

    def __init__(
        self,
        channels: int,
        *,
        out_channels: int | None = None,
        frequencies: str = "even",
        total: str | None = "log",
        learn: bool = False,
    ) -> None:
        super().__init__(channels)
        if frequencies not in FREQUENCIES:
            raise ValueError(f"`frequencies` must be one of {FREQUENCIES}; got {frequencies!r}.")
        if total not in MASSES:
            raise ValueError(f"`total` must be one of {MASSES}; got {total!r}.")
        least = 1 if total is None else 2
        self.width = None if out_channels is None else as_count(out_channels, "out_channels", least)
        self.how, self.total = frequencies, total
        self.learn = self.learnable = learn  # type: ignore[misc]

    @property
    def out_channels(self) -> int | None:
        if self.width is not None or self.channels in (None, -1):
            return self.width or self.channels
        return self.channels + (self.total is not None)

    def build(self, channels: int) -> None:
        outputs = (self.out_channels or 0) - (self.total is not None)
        for name, shape in (("slices", (outputs, channels)), ("frequencies", (outputs,))):
            if self.learn:
                self.register_parameter(name, torch.nn.Parameter(torch.empty(shape)))
            else:
                self.register_buffer(name, torch.empty(shape))

    def reset_parameters(self) -> None:
        outputs = len(self.slices)
        if self.how == "even":
            place = (torch.arange(outputs) + 0.5) / outputs
        else:
            place = torch.rand(outputs).sort().values
        with torch.no_grad():
            for rows in self.slices.split(self.slices.size(1)):
                # Rotations of the axes: each row is uniform on the sphere.
                torch.nn.init.orthogonal_(rows)
            self.frequencies.copy_(place / (1 - place))

    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = working(x)
            slices, f = self.slices.to(x.dtype).mT, self.frequencies.to(x.dtype)
            # Far from 0 numbers are coarse. What moves all elements alike moves the result by a known amount.
            middle = segment_mean(x.detach(), segments, None if weight is None else weight.detach())
            t = (x - segment_gather(middle, segments)) @ slices
            moved = (middle @ slices) * torch.sinc(2 * f.double()).to(x.dtype)
            y = 2 * (1 + f) * (moved + segment_cosine(t, segments, f, weight))
            if self.total is None:
                return y
            if weight is None:
                whole = segments.counts.to(x.dtype)
            else:
                whole = segment_sum(weight.to(x.dtype), segments)
            return torch.cat([(whole.log1p() if self.total == "log" else whole)[:, None], y], dim=1)

    def extra_repr(self) -> str:
        learn = ", learn=True" if self.learn else ""
        return (
            f"{self.channels}, out_channels={self.out_channels}, frequencies={self.how!r}, "
            f"total={self.total!r}{learn}"
        )
