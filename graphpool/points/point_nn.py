"""Point-NN: a point-cloud encoder without a single learnable parameter."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graphpool import ops
from graphpool._arguments import as_count, check_one_of
from graphpool._recorded import savable
from graphpool.points.encoding import position_encoding
from graphpool.points.hierarchy import Level, build_levels
from graphpool.points.inputs import absolute, sorted_clouds
from graphpool.points.stages import apart, run_stage, together
from graphpool.segments import Segments

_STATISTICS = ("cloud", "batch")
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

    Args:
        channels: Width of the first encoding, a multiple of 6. The descriptor has
            ``channels * 2 ** stages`` entries.
        stages: Number of stages.
        k: Neighbours per centre. A level with fewer points uses all of them.
        alpha: Base of the frequency ladder.
        beta: The highest frequency. Coordinates should be centred and of about unit size.
        statistics: Over what the scalars :math:`\sigma` are computed: ``"cloud"`` makes a descriptor
            independent of the other clouds in the batch; ``"batch"`` is what the released code does.
        start: First pick of the sampling in each cloud: 0 as in the released code, or ``"centroid"``,
            which makes the descriptor independent of the order of the points.

    Shape:
        ``pos`` ``[N, 3]`` with either ``batch`` ``[N]`` in any order or ``ptr`` ``[B + 1]``, or neither
        for one cloud. Result ``[B, channels * 2 ** stages]``; an empty cloud gives zeros.

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
    ) -> None:
        super().__init__()
        if as_count(channels, "channels") % 6:
            raise ValueError(f"`channels` must be a multiple of 6; got {channels}.")
        check_one_of(statistics, "statistics", _STATISTICS)
        self.channels = channels
        self.stages = as_count(stages, "stages")
        self.k = as_count(k, "k")
        self.alpha, self.beta = alpha, beta
        self.statistics, self.start = statistics, start
        self.out_channels = channels * 2**stages

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
        x, level = self.encode_levels(pos, segments)[-1]
        clouds = level.centre_segments
        return together(ops.segment_max(x, clouds) + ops.segment_mean(x, clouds))

    def encode_levels(self, pos: Tensor, segments: Segments) -> list[tuple[Tensor, Level]]:
        """The features of the centres of every level (channels apart by parity), finest level first."""
        levels = build_levels(pos, segments, self.stages, self.k, self.start)
        x = apart(self.embed(absolute(pos, segments, pos.dtype)))
        out = []
        for level in levels:
            x = run_stage(x, level, self.alpha, self.beta, self.statistics == "batch")
            # The released code has a batch normalisation here, in its initial state: a division.
            x = torch.nn.functional.gelu(x / math.sqrt(1 + 1e-5))
            out.append((x, level))
        return out

    def embed(self, pos: Tensor) -> Tensor:
        """The encoding of the raw coordinates, ``[N, channels]``."""
        return position_encoding(pos, self.channels, self.alpha, self.beta)

    def extra_repr(self) -> str:
        return (
            f"channels={self.channels}, stages={self.stages}, k={self.k}, alpha={self.alpha:g}, "
            f"beta={self.beta:g}, statistics={self.statistics!r}, start={self.start!r}"
        )
