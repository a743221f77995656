"""Losses of the scores of whole bags."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool import _debug


class MinMaxAUCLoss(torch.nn.Module):
    r"""Margin loss whose minimum over ``a`` and ``b`` and maximum over :math:`\alpha \ge 0` is a squared
    surrogate of one minus the area under the ROC curve:

    .. math:: F = E_+ (h - a)^2 + E_- (h - b)^2 + 2 \alpha (c + E_- h - E_+ h) - \alpha^2

    Minimise it over the network and this module's ``a`` and ``b``; after each step call :meth:`ascend`.

    Yuan, Yan, Sonka, Yang, "Large-scale robust deep AUC maximization", ICCV 2021.

    Args:
        margin: The margin ``c``.
        released: Take :math:`\alpha` instead of :math:`2 \alpha` in the gradient of the scores, as the
            released code does; the fixed point is the same.

    Example:
        >>> loss = MinMaxAUCLoss(margin=1.0)
        >>> loss(torch.tensor([0.9, 0.1]), torch.tensor([1, 0]))
        tensor(0.8200, grad_fn=...)
    """

    alpha: Tensor
    gap: Tensor

    def __init__(self, margin: float = 1.0, released: bool = False) -> None:
        super().__init__()
        self.margin = float(margin)
        self.released = released
        self.a = torch.nn.Parameter(torch.zeros(()))
        self.b = torch.nn.Parameter(torch.zeros(()))
        self.register_buffer("alpha", torch.zeros(()))
        self.register_buffer("gap", torch.zeros(()))

    def forward(self, score: Tensor, label: Tensor) -> Tensor:
        """The loss of scores ``[n]`` (or ``[n, 1]``) with labels ``[n]`` that are 1 or 0.

        Raises:
            ValueError: Sizes differ, or one class is missing, whose mean would not exist.
        """
        score, label = score.reshape(-1), label.reshape(-1)
        if score.shape != label.shape:
            raise ValueError(f"`score` has {score.numel()} entries, `label` {label.numel()}.")
        positive = label > 0
        many = _debug.is_vectorized(score) or _debug.is_vectorized(label)
        if not many and (bool(positive.all()) or not bool(positive.any())):
            raise ValueError("`label` must hold both classes: sample batches with some of each.")
        difference = _mean(score, ~positive) - _mean(score, positive)
        # What torch.vmap vectorises is no one batch.
        self._remember(self.gap.new_tensor(torch.nan) if many else difference.detach())
        factor = 1 if self.released else 2
        return (
            _mean((score - self.a).square(), positive)
            + _mean((score - self.b).square(), ~positive)
            + factor * self.alpha * (self.margin + difference)
            - self.alpha.square()
        )

    @_debug.on_values
    def _remember(self, difference: Tensor) -> None:
        self.gap.copy_(difference)

    @torch.no_grad()
    def ascend(self, lr: float, from_batch: bool = False) -> None:
        r"""A step of :math:`\alpha` upwards, kept at 0 or above:
        :math:`\alpha \leftarrow \max(0, \alpha + \eta (c + b - a - \alpha))`.

        Args:
            lr: Step size.
            from_batch: Take the means of the last batch in place of ``a`` and ``b``.

        Raises:
            ValueError: Several batches were the last, side by side under :func:`torch.vmap`.
        """
        if from_batch and bool(self.gap.isnan()):
            raise ValueError("`from_batch` needs a last batch; torch.vmap vectorised several.")
        gap = self.gap if from_batch else self.b - self.a
        self.alpha.add_(lr * (self.margin + gap - self.alpha)).clamp_(min=0)

    def extra_repr(self) -> str:
        return f"margin={self.margin}, released={self.released}"


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """The mean of some values; NaN of none."""
    return torch.where(chosen, values, 0).sum() / chosen.sum()
