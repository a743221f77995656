"""Second-order pools that keep the whole matrix of products."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool._arguments import as_count
from graphpool.aggr.absent import segment_sizes
from graphpool.aggr.matrix import MatrixAggregation
from graphpool.aggr.registry import register
from graphpool.aggr.rowwise import rowwise
from graphpool.nn import l2_normalize, signed_sqrt
from graphpool.ops import segment_second_moment
from graphpool.segments import Segments
from graphpool.states import Central, Mergeable, Tensors, size_of


def upper_triangle(matrix: Tensor) -> Tensor:
    """Symmetric matrices ``[S, C, C]`` as vectors ``[S, C (C + 1) / 2]`` with the same inner products.

    Example:
        >>> upper_triangle(torch.tensor([[[1.0, 2.0], [2.0, 3.0]]]))
        tensor([[1.0000, 2.8284, 3.0000]])
    """
    size = matrix.size(-1)
    row, column = torch.triu_indices(size, size, device=matrix.device)
    scale = torch.where(row == column, 1.0, 2.0**0.5).to(matrix.dtype)
    return matrix.flatten(1).index_select(1, row * size + column) * scale


class _SecondOrder(MatrixAggregation):
    """A pool that vectorises one symmetric matrix per bag."""

    empty_gives_zero = True

    @property
    def out_channels(self) -> int | None:
        c = self.channels
        return c if c in (None, -1) else c * (c + 1) // 2  # type: ignore[operator]


@register("bilinear")
class Bilinear(_SecondOrder):
    r"""Second moment of the bag, as a normalised vector:

    .. math:: y_s = \ell_2\big(\mathrm{sqrt}_\pm(\mathrm{vec}(G_s))\big), \qquad
              G_s = \frac{1}{n_s} \sum_{e \in s} x_e x_e^\top

    ``vec`` is the upper triangle, off-diagonal entries times :math:`\sqrt 2` so that inner products stay
    what they are. Computed as a product of matrices per bag; outer products of elements are never
    stored. An all-zero bag gives 0 with finite derivatives.

    Lin, RoyChowdhury, Maji, "Bilinear CNN models for fine-grained visual recognition", ICCV 2015.

    Args:
        channels: Number of channels ``C``.
        center: Subtract the mean of the bag first: the covariance.
        mean: Divide by the size of the bag. Only without ``l2`` does that make a difference.
        sqrt: Signed square root.
        l2: Divide by the length of the vector.

    Shapes:
        ``[E, ..., C]`` to ``[S, ..., C (C + 1) / 2]``

    Example:
        >>> from graphpool import aggr
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> aggr.Bilinear(2, sqrt=False, l2=False)(x)
        tensor([[1.0000, 2.8284, 4.0000]])
    """

    complexity = "E C^2"

    def __init__(
        self,
        channels: int | None = None,
        *,
        center: bool = False,
        mean: bool = True,
        sqrt: bool = True,
        l2: bool = True,
    ) -> None:
        super().__init__(channels)
        self.center, self.mean, self.sqrt, self.l2 = center, mean, sqrt, l2

    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        moment = segment_second_moment(x, segments, weight, mean=False, center=self.center)
        n = (
            segment_sizes(segments, weight, moment)
            if self.mean
            else moment.new_ones(len(moment), 1, 1)
        )
        return rowwise(self._vector, moment, n)

    def merging(self) -> Mergeable:
        def finish(mean: Tensor, moment: Tensor, sums: Tensors) -> Tensor:
            return self._vector(
                moment, size_of(sums, moment) if self.mean else torch.ones_like(moment)
            )

        return Central(finish, outer=True, centred=self.center)

    def _vector(self, moment: Tensor, size: Tensor) -> Tensor:
        y = upper_triangle(moment / size)
        if self.sqrt:
            y = signed_sqrt(y)
        return l2_normalize(y) if self.l2 else y


@register("isqrt_cov")
class ISqrtCov(_SecondOrder):
    r"""Matrix square root of the covariance, by Newton-Schulz iteration:

    .. math::
        A = \Sigma / \mathrm{tr}\,\Sigma, \quad Y_0 = A, \quad Z_0 = I, \quad
        T_k = \tfrac{1}{2} (3 I - Z_k Y_k), \quad Y_{k+1} = Y_k T_k, \quad Z_{k+1} = T_k Z_k,

    and the upper triangle of :math:`\sqrt{\mathrm{tr}\,\Sigma}\; Y_K` (off-diagonal entries times
    :math:`\sqrt 2`). A bag of equal elements has no covariance and gives 0.

    Li, Xie, Wang, Gao, "Towards faster training of global covariance pooling networks by iterative matrix
    square root normalization", CVPR 2018.

    Args:
        channels: Number of channels ``C``.
        iterations: Number of iterations ``K``. Five suffice for training; small eigenvalues (relative to
            the trace) converge last.
        center: Subtract the mean of the bag; otherwise the second moment takes the place of the
            covariance.

    Shapes:
        ``[E, ..., C]`` to ``[S, ..., C (C + 1) / 2]``

    Raises:
        ValueError: ``iterations`` is less than 1.

    Example:
        >>> from graphpool import aggr
        >>> x = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> aggr.ISqrtCov(2, iterations=20)(x).round(decimals=4)
        tensor([[1.4142, 0.0000, 0.7071]])
    """

    complexity = "E C^2 + S C^3"

    def __init__(
        self, channels: int | None = None, *, iterations: int = 5, center: bool = True
    ) -> None:
        super().__init__(channels)
        self.iterations = as_count(iterations, "iterations")
        self.center = center

    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        moment = segment_second_moment(x, segments, weight, mean=False, center=self.center)
        return rowwise(self._root, moment, segment_sizes(segments, weight, moment))

    def merging(self) -> Mergeable:
        def finish(mean: Tensor, moment: Tensor, sums: Tensors) -> Tensor:
            return self._root(moment, size_of(sums, moment))

        return Central(finish, outer=True, centred=self.center)

    def _root(self, moment: Tensor, size: Tensor) -> Tensor:
        root = newton_schulz_sqrt(moment / size, self.iterations)
        return upper_triangle(root).to(moment.dtype)


def newton_schulz_sqrt(matrix: Tensor, iterations: int) -> Tensor:
    """Square root of positive semi-definite matrices ``[S, C, C]``; a zero matrix gives zero."""
    trace = matrix.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
    zero = trace <= 0
    trace = torch.where(zero, 1, trace)
    # Autocast would run the products in half precision, in which the iteration does not converge.
    with torch.autocast(matrix.device.type, enabled=False):
        y = matrix / trace
        eye = torch.eye(matrix.size(-1), dtype=matrix.dtype, device=matrix.device)
        z = eye.expand_as(y)
        for _ in range(iterations):
            t = 1.5 * eye - 0.5 * (z @ y)
            y, z = y @ t, t @ z
        return torch.where(zero, 0, trace.sqrt() * y)
