"""Point-NN: a point-cloud encoder without a single learnable parameter."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graphpool import ops
from graphpool._arguments import as_count, check_one_of
from graphpool._recorded import savable
from graphpool.points.encoding import bells, position_encoding
from graphpool.points.hierarchy import Level, build_levels
from graphpool.points.inputs import absolute, sorted_clouds
from graphpool.points.stages import apart, run_bell_stage, run_stage, together
from graphpool.segments import Segments

_STATISTICS = ("cloud", "batch")
_ENCODINGS = ("fourier", "gaussian", "adaptive")
_DESCRIPTORS = ("last", "stages")
# Clouds are encoded in portions of about so many points, which bounds the memory.
_PORTION = 1 << 15


@savable
class PointNN(torch.nn.Module):
    r"""The encoder of Point-NN (Zhang et al., *Parameter is Not All You Need*, CVPR 2023).

    The coordinates are encoded by sines and cosines. Each of the ``stages`` halves the cloud by farthest
    point sampling and pools, for every remaining point ``c``, its ``k`` nearest neighbours ``j``:

    .. math::
        \Delta x_j = \frac{x_j - x_c}{\sigma_x + 10^{-5}}, \quad
        e_j = \mathrm{PosE}\Bigl(\frac{p_j - p_c}{\sigma_p + 10^{-5}}\Bigr), \quad
        w_j = ([\Delta x_j, x_c] + e_j) \odot e_j, \quad
        x_c' = \mathrm{GELU}\Bigl(\frac{\max_j w_j + \mathrm{mean}_j\, w_j}{\sqrt{1 + 10^{-5}}}\Bigr)

    so that the width doubles. The descriptor is the maximum plus the mean over the last points.

    On the CPU in float32 a fused kernel does the neighbour stage without ever writing the neighbours'
    encodings to memory. On other devices, in float64, and where a derivative with respect to the
    coordinates is asked for, it is composed from PyTorch operations.

    **Bells instead of sines.** ``encoding="gaussian"`` is that of Point-GN (Mohammadi and Salarpour, WACV
    2025), ``"adaptive"`` that of NPNet (Saeid et al., IEEE IV 2026), which takes the width of the bells and
    their share of a cosine from the spread of the points; see :func:`gaussian_encoding`. Their networks are
    ``PointNN(27, k=120, encoding="gaussian", sigma=0.4, descriptor="stages")`` and ``PointNN(35, k=110,
    encoding="adaptive", sigma=0.232, descriptor="stages")``, but for the scales: the released codes divide
    differences by a deviation for each rank of a neighbour, over a batch, which depends on the order in which
    neighbours come and on the other clouds; here it is one scalar as above. The division by
    :math:`\sqrt{1 + 10^{-5}}` is Point-NN's alone.

    Args:
        channels: Width of the first encoding, with sines a multiple of 6. The descriptor has
            ``channels * 2 ** stages`` entries.
        stages: Number of stages.
        k: Neighbours per centre. A level with fewer points uses all of them.
        alpha: Base of the frequency ladder.
        beta: The highest frequency. Coordinates should be centred and of about unit size.
        statistics: Over what the scalars :math:`\sigma` are computed: ``"cloud"`` makes a descriptor
            independent of the other clouds in the batch; ``"batch"`` is what the released code does.
        start: First pick of the sampling in each cloud: 0 as in the released code, or ``"centroid"``,
            which makes the descriptor independent of the order of the points.
        encoding: ``"fourier"``, ``"gaussian"`` or ``"adaptive"``.
        sigma: Width of the bells; with sines it is not used.
        descriptor: ``"last"``: maximum plus mean over the points of the last level; ``"stages"``: both of
            every level side by side, ``channels * (2 ** (stages + 2) - 4)`` entries.

    Shape:
        ``pos`` ``[N, 3]`` with either ``batch`` ``[N]`` in any order or ``ptr`` ``[B + 1]``, or neither
        for one cloud. Result ``[B, out_channels]``; an empty cloud gives zeros.

    Raises:
        TypeError: ``pos`` is not a floating point tensor.
        ValueError: A coordinate is not finite, or sizes do not fit.

    Example:
        >>> encoder = PointNN(channels=12, stages=2, k=8)
        >>> encoder(torch.rand(100, 3), ptr=torch.tensor([0, 60, 100])).shape
        torch.Size([2, 48])
    """

    def __init__(
        self,
        channels: int = 72,
        stages: int = 4,
        k: int = 90,
        alpha: float = 1000.0,
        beta: float = 100.0,
        statistics: str = "cloud",
        start: int | str = 0,
        encoding: str = "fourier",
        sigma: float = 0.4,
        descriptor: str = "last",
    ) -> None:
        super().__init__()
        check_one_of(encoding, "encoding", _ENCODINGS)
        check_one_of(descriptor, "descriptor", _DESCRIPTORS)
        if as_count(channels, "channels") % 6 and encoding == "fourier":
            raise ValueError(f"`channels` must be a multiple of 6; got {channels}.")
        if not sigma > 0:
            raise ValueError(f"`sigma` must be > 0; got {sigma}.")
        check_one_of(statistics, "statistics", _STATISTICS)
        self.channels = channels
        self.stages = as_count(stages, "stages")
        self.k = as_count(k, "k")
        self.alpha, self.beta = alpha, beta
        self.statistics, self.start = statistics, start
        self.encoding, self.sigma, self.descriptor = encoding, sigma, descriptor
        self.out_channels = channels * (
            2**stages if descriptor == "last" else 2 ** (stages + 2) - 4
        )

    def forward(
        self,
        pos: Tensor,
        batch: Tensor | Segments | None = None,
        ptr: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Descriptors of the clouds.

        Args:
            pos: Points ``[N, 3]``.
            batch: The cloud of each point, in any order, or a :class:`graphpool.Segments`.
            ptr: Instead of ``batch``: the offsets of the clouds.
            batch_size: The number of clouds. With a ``batch`` tensor and ``None`` it is the largest entry
                plus one, as in PyG: empty clouds at the end exist only where it is given.
        """
        pos, segments, _ = sorted_clouds(pos, batch, ptr, batch_size)
        if self.statistics == "batch":
            return self._describe(pos, segments)
        bounds = segments.ptr.tolist()
        rows, low = [pos.new_empty(0, self.out_channels)], 0
        for high in range(1, segments.num_segments + 1):
            last = high == segments.num_segments
            if last or bounds[high + 1] - bounds[low] > _PORTION:
                part = Segments(ptr=segments.ptr[low : high + 1] - bounds[low])
                rows.append(self._describe(pos[bounds[low] : bounds[high]], part))
                low = high
        return torch.cat(rows)

    def _describe(self, pos: Tensor, segments: Segments) -> Tensor:
        levels = self.encode_levels(pos, segments)
        if self.descriptor == "stages":
            return torch.cat(
                [
                    self.in_order(pool(x, level.centre_segments))
                    for x, level in levels
                    for pool in (ops.segment_max, ops.segment_mean)
                ],
                1,
            )
        x, level = levels[-1]
        clouds = level.centre_segments
        return self.in_order(ops.segment_max(x, clouds) + ops.segment_mean(x, clouds))

    def in_order(self, x: Tensor) -> Tensor:
        """What :meth:`encode_levels` gives, with the channels in order."""
        return together(x) if self.encoding == "fourier" else x

    def encode_levels(self, pos: Tensor, segments: Segments) -> list[tuple[Tensor, Level]]:
        """The features of the centres of every level, finest level first; channels apart by parity if the
        encoding is that of Point-NN."""
        levels = build_levels(pos, segments, self.stages, self.k, self.start)
        shared, places = self.statistics == "batch", absolute(pos, segments, pos.dtype)
        out = []
        if self.encoding == "fourier":
            x = apart(self.embed(places, segments))
            for level in levels:
                x = run_stage(x, level, self.alpha, self.beta, shared)
                # The released code has a batch normalisation here, in its initial state: a division.
                x = torch.nn.functional.gelu(x / math.sqrt(1 + 1e-5))
                out.append((x, level))
            return out
        x = self.embed(places, segments)
        for level in levels:
            x = run_bell_stage(x, level, self.sigma, self.encoding == "adaptive", shared)
            x = torch.nn.functional.gelu(x)
            out.append((x, level))
        return out

    def embed(self, pos: Tensor, segments: Segments | None = None) -> Tensor:
        """The encoding of the raw coordinates of the clouds (of one, if absent), ``[N, channels]``."""
        if self.encoding == "fourier":
            return position_encoding(pos, self.channels, self.alpha, self.beta)
        if self.encoding == "gaussian":
            return bells(pos, self.channels, self.sigma, None)
        if segments is None:
            segments = Segments(ptr=torch.tensor([0, len(pos)], device=pos.device))
        spread = _spread(pos, segments, self.statistics == "batch")
        return bells(pos, self.channels, self.sigma, spread[segments.index])

    def extra_repr(self) -> str:
        waves = f"alpha={self.alpha:g}, beta={self.beta:g}"
        return (
            f"channels={self.channels}, stages={self.stages}, k={self.k}, encoding={self.encoding!r}, "
            f"{waves if self.encoding == 'fourier' else f'sigma={self.sigma:g}'}, "
            f"statistics={self.statistics!r}, start={self.start!r}, descriptor={self.descriptor!r}"
        )


def _spread(pos: Tensor, segments: Segments, shared: bool) -> Tensor:
    """The standard deviation of the points of each cloud, the mean of the three axes, ``[B]``."""
    count = segments.counts.clamp_min(2).to(pos.dtype)[:, None]
    deviation = ops.segment_var(pos, segments) * (count / (count - 1))
    spread = ops.standard_deviation(deviation).mean(1)
    return spread.mean().expand_as(spread) if shared and len(spread) else spread
