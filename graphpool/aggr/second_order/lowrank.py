"""Second-order pools of lower cost: products of projections, and sketches."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from graphpool._arguments import as_count, check_one_of
from graphpool.aggr.absent import segment_sizes
from graphpool.aggr.matrix import MatrixAggregation
from graphpool.aggr.registry import register
from graphpool.aggr.rowwise import rowwise
from graphpool.nn import l2_normalize, signed_sqrt
from graphpool.ops import segment_second_moment, segment_sum, working
from graphpool.segments import Segments
from graphpool.states import Central, Mergeable, Sums, Tensors, size_of

METHODS = ("auto", "moment", "fft")


@register("lowrank_bilinear")
class LowRankBilinear(MatrixAggregation):
    r"""Product of two projections, summed and projected:
    :math:`y_s = P^\top \sum_{e \in s} (U^\top x_e) \circ (V^\top x_e)`.

    Each output is a quadratic form of rank at most ``rank`` of the second moment of the bag.

    Kim et al., "Hadamard product for low-rank bilinear pooling", ICLR 2017.

    Args:
        channels: Number of channels ``C``.
        rank: Width of the projections; ``C`` if ``None``.
        out_channels: Width of the output; ``C`` if ``None``.
        mean: Divide by the size of the bag.

    Raises:
        ValueError: A width is less than 1.

    Example:
        >>> from graphpool import aggr
        >>> aggr.LowRankBilinear(8, rank=4, out_channels=2)(torch.randn(5, 8)).shape
        torch.Size([1, 2])
    """

    learnable = True
    multiplicity_aware = True
    complexity = "E C r"

    def __init__(
        self,
        channels: int,
        *,
        rank: int | None = None,
        out_channels: int | None = None,
        mean: bool = False,
    ) -> None:
        super().__init__(channels)
        self.rank = None if rank is None else as_count(rank, "rank")
        self.width = None if out_channels is None else as_count(out_channels, "out_channels")
        self.mean = mean

    def build(self, channels: int) -> None:
        rank = self.rank or channels
        self.u = torch.nn.Linear(channels, rank, bias=False)
        self.v = torch.nn.Linear(channels, rank, bias=False)
        self.p = torch.nn.Linear(rank, self.width or channels, bias=False)

    @property
    def out_channels(self) -> int | None:
        return self.width or self.channels

    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        total = segment_sum(self.u(x) * self.v(x), segments, weight)
        if self.mean:
            total = total / segment_sizes(segments, weight, total)
        return self.p(total)

    def merging(self) -> Mergeable:
        def encode(x: Tensor) -> Tensors:
            x = x.to(self._dtype(x))
            return {"x": self.u(x) * self.v(x)}

        def finish(sums: Tensors) -> Tensor:
            total = sums["x"] / size_of(sums, sums["x"]) if self.mean else sums["x"]
            return self.p(total.to(self.p.weight.dtype))

        return Sums(finish, encode)


@register("mfb")
class MFB(MatrixAggregation):
    r"""Multi-modal factorised bilinear pooling, of a bag with itself:

    .. math:: z_{s,o} = \sum_{e \in s} \sum_{k=1}^{K} (x_e W^1)_{o,k} (x_e W^2)_{o,k}, \qquad
              y_s = \ell_2(\mathrm{sqrt}_\pm(z_s))

    With ``blocks > 1`` it is the high-order variant (MFH): each further block multiplies its products by
    those of the block before, and the blocks are concatenated.

    Yu et al., "Multi-modal factorized bilinear pooling with co-attention learning for visual question
    answering", ICCV 2017; "Beyond bilinear", 2018, for the blocks.

    Args:
        channels: Number of channels ``C``.
        out_channels: Outputs ``O`` of each block; ``C`` if ``None``.
        factors: Rank ``K`` of each output.
        blocks: Number of blocks.
        dropout: Dropout of the products, in [0, 1); the paper takes 0.1.
        mean: Divide by the size of the bag. Only the derivative sees it, because of the normalisation.

    Shapes:
        ``[E, ..., C]`` to ``[S, ..., blocks * O]``

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> from graphpool import aggr
        >>> aggr.MFB(8, out_channels=4)(torch.randn(5, 8)).norm()
        tensor(1., grad_fn=...)
    """

    learnable = True
    complexity = "E C O K"
    example_arguments = {"blocks": 2, "factors": 3}

    def __init__(
        self,
        channels: int,
        *,
        out_channels: int | None = None,
        factors: int = 5,
        blocks: int = 1,
        dropout: float = 0.0,
        mean: bool = True,
    ) -> None:
        super().__init__(channels)
        self.width = None if out_channels is None else as_count(out_channels, "out_channels")
        self.factors = as_count(factors, "factors")
        self.blocks = as_count(blocks, "blocks")
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must lie in [0, 1); got {dropout}.")
        self.dropout = dropout
        self.mean = mean

    def build(self, channels: int) -> None:
        inner = (self.width or channels) * self.factors
        self.first = torch.nn.ModuleList(
            torch.nn.Linear(channels, inner) for _ in range(self.blocks)
        )
        self.second = torch.nn.ModuleList(
            torch.nn.Linear(channels, inner) for _ in range(self.blocks)
        )

    @property
    def out_channels(self) -> int | None:
        width = self.width or self.channels
        return width if width in (None, -1) else self.blocks * width

    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        outputs = []
        for products in self._products(x):
            z = segment_sum(products, segments, weight)
            if self.mean:
                z = z / segment_sizes(segments, weight, z)
            outputs.append(l2_normalize(signed_sqrt(z)))
        return torch.cat(outputs, dim=-1)

    def _products(self, x: Tensor) -> Iterator[Tensor]:
        """What is summed over the bag, of each block."""
        before: Tensor | None = None
        for first, second in zip(self.first, self.second, strict=True):
            product = first(x) * second(x)
            product = torch.nn.functional.dropout(product, self.dropout, self.training)
            before = product if before is None else before * product
            # The sum over the factors commutes with the one over the bag, which is then narrower.
            yield before.unflatten(-1, (-1, self.factors)).sum(-1)

    def merging(self) -> Mergeable:
        def encode(x: Tensor) -> Tensors:
            return {"x": torch.stack(list(self._products(x.to(self._dtype(x)))), 1)}

        def finish(sums: Tensors) -> Tensor:
            z = sums["x"] / size_of(sums, sums["x"]) if self.mean else sums["x"]
            return l2_normalize(signed_sqrt(z)).flatten(1)

        return Sums(finish, encode)

    def extra_repr(self) -> str:
        # The argument `out_channels` is the width of a block, the attribute that of the output.
        return (
            f"channels={self.channels}, out_channels={self.width}, factors={self.factors}, "
            f"blocks={self.blocks}, dropout={self.dropout}, mean={self.mean}"
        )


@register("compact_bilinear")
class CompactBilinear(MatrixAggregation):
    r"""Sketch of the second moment of a bag in ``d`` numbers, whose inner products are, in expectation,
    those of the matrices: :math:`E \langle y_s, y_t \rangle = \langle G_s, G_t \rangle`.

    With random hashes :math:`h_1, h_2` to ``[0, d)`` and signs :math:`\sigma_1, \sigma_2`,

    .. math:: y_{s,t} = \sum_{h_1(i) + h_2(j) \equiv t} \sigma_1(i) \sigma_2(j)\, (G_s)_{i,j}, \qquad
              G_s = \sum_{e \in s} x_e x_e^\top

    which is the sum over the bag of the circular convolutions of two count sketches of each element
    (the tensor sketch). The hashes are drawn once, from ``seed``, and are part of the state.

    Gao, Beijbom, Zhang, Darrell, "Compact bilinear pooling", CVPR 2016.

    Args:
        channels: Number of channels ``C``.
        out_channels: Size ``d`` of the sketch; the relative error of an inner product falls as
            :math:`1 / \sqrt d`.
        mean: Divide by the size of the bag.
        sqrt: Signed square root.
        l2: Divide by the length of the vector.
        method: ``"fft"`` multiplies the spectra of the two sketches of each element and transforms back
            once per bag; ``"moment"`` forms the matrices ``[S, C, C]`` and sketches them. The results are
            equal; ``"auto"`` takes the second as long as ``C^2 <= 4 d``.
        seed: Seed of the hashes.

    Raises:
        ValueError: ``out_channels`` is less than 1, or ``method`` is unknown.

    Example:
        >>> from graphpool import aggr
        >>> aggr.CompactBilinear(8, out_channels=16)(torch.randn(5, 8)).shape
        torch.Size([1, 16])
    """

    learnable = False
    complexity = "E C^2, or E d log d"
    empty_gives_zero = True
    example_arguments = {"out_channels": 12}

    def __init__(
        self,
        channels: int,
        *,
        out_channels: int = 1024,
        mean: bool = True,
        sqrt: bool = True,
        l2: bool = True,
        method: str = "auto",
        seed: int = 0,
    ) -> None:
        super().__init__(channels)
        self.width = as_count(out_channels, "out_channels")
        check_one_of(method, "method", METHODS)
        self.mean, self.sqrt, self.l2, self.method, self.seed = mean, sqrt, l2, method, seed

    def build(self, channels: int) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        hashes = torch.randint(self.width, (2, channels), generator=generator)
        signs = torch.randint(2, (2, channels), generator=generator) * 2 - 1
        self.register_buffer("hashes", hashes)
        self.register_buffer("signs", signs)

    @property
    def out_channels(self) -> int:
        return self.width

    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        # Without elements or bags there is nothing to transform.
        nothing = 0 in (x.size(0), segments.num_segments)
        if nothing or self._takes_moments():
            return self._by_moment(x, segments, weight)
        y = self._by_fft(x, segments, weight)
        if self.mean:
            y = y / segment_sizes(segments, weight, y)
        return rowwise(self._normalize, y)

    def _normalize(self, y: Tensor) -> Tensor:
        y = signed_sqrt(y) if self.sqrt else y
        return l2_normalize(y) if self.l2 else y

    def _by_moment(self, x: Tensor, segments: Segments, weight: Tensor | None) -> Tensor:
        moment = segment_second_moment(x, segments, weight, mean=False)
        n = (
            segment_sizes(segments, weight, moment)
            if self.mean
            else moment.new_ones(len(moment), 1, 1)
        )
        return rowwise(self._sketch_of(), moment, n)

    def _takes_moments(self) -> bool:
        small = self.signs.size(1) ** 2 <= 4 * self.width
        return self.method == "moment" or (small and self.method == "auto")

    def _sketch_of(self) -> Callable[[Tensor, Tensor], Tensor]:
        sign = self.signs[0][:, None] * self.signs[1]
        bucket = ((self.hashes[0][:, None] + self.hashes[1]) % self.width).flatten()
        columns = Segments(index=bucket, num_segments=self.width)

        def sketch(moment: Tensor, size: Tensor) -> Tensor:
            flat = (moment / size * sign.to(moment.dtype)).flatten(1)
            return self._normalize(_count_sketch(flat, columns))

        return sketch

    def merging(self) -> Mergeable:
        def by_moment(mean: Tensor, moment: Tensor, sums: Tensors) -> Tensor:
            size = size_of(sums, moment) if self.mean else torch.ones_like(moment)
            return self._sketch_of()(moment, size)

        def by_fft(sums: Tensors) -> Tensor:
            y = torch.fft.irfft(torch.view_as_complex(sums["x"]), n=self.width)
            return self._normalize(y / size_of(sums, y) if self.mean else y)

        if self._takes_moments():
            return Central(by_moment, outer=True, centred=False)
        return Sums(by_fft, lambda x: {"x": self._spectra(x)})

    def _spectra(self, x: Tensor) -> Tensor:
        """What is summed of the elements: the product of the spectra of their sketches."""
        if not x.size(0):
            return working(x).new_zeros(0, self.width // 2 + 1, 2)
        spectra = []
        for bucket, sign in zip(self.hashes, self.signs, strict=True):
            columns = Segments(index=bucket, num_segments=self.width)
            sketch = _count_sketch(working(x * sign.to(x.dtype)), columns)
            spectra.append(torch.fft.rfft(sketch))
        return torch.view_as_real(spectra[0] * spectra[1])

    def _by_fft(self, x: Tensor, segments: Segments, weight: Tensor | None) -> Tensor:
        product = self._spectra(x)
        # The inverse transform is linear: one per bag, not one per element.
        total = torch.view_as_complex(segment_sum(product, segments, weight))
        return torch.fft.irfft(total, n=self.width).to(x.dtype)


def _count_sketch(x: Tensor, columns: Segments) -> Tensor:
    """Sums of the columns that fall into the same bucket: ``[N, C]`` to ``[N, width]``."""
    return segment_sum(x.T.contiguous(), columns).T
