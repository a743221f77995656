"""Classification by comparison with remembered vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graphpool._arguments import as_count, check_at_least
from graphpool._recorded import savable
from graphpool.io import load_tensors
from graphpool.ops.neighbors.clouds import full_precision, unit_vectors

#: Sharpnesses that leave-one-out chooses from: half powers of two from 1 to 8192, and the nearest neighbour.
GAMMAS: tuple[float, ...] = (*(round(2 ** (i / 2), 4) for i in range(27)), torch.inf)


@savable
class MemoryBank(torch.nn.Module):
    r"""Scores by similarity to remembered vectors; no gradient, no epochs.

    .. math:: s(q) = \sum_i \frac{e^{\gamma \cos(q, k_i)}}{\sum_j e^{\gamma \cos(q, k_j)}} \, v_i

    with the training descriptors as keys :math:`k_i` and their labels, one-hot or soft, as values
    :math:`v_i`. It has the same maximum as the unnormalised
    :math:`\sum_i e^{-\gamma (1 - \cos(q, k_i))} v_i` of Point-NN, but the exponent is shifted by the
    largest similarity, so that no :math:`\gamma` can make every term underflow.
    :math:`\gamma = 0` is the vote of the class frequencies, which ignores the query,
    :math:`\gamma = \infty` the nearest neighbour by cosine (the mean of equally near ones). A vector of
    zeros has cosine 0 with all.

    Args:
        gamma: Sharpness, >= 0, infinity included. With ``None`` :meth:`fit` chooses it from the remembered
            vectors alone; see :meth:`choose_gamma`.
        gammas: The candidates, > 0.
        chunk: Queries compared at once, which bounds the memory.

    Example:
        >>> bank = MemoryBank(gamma=10.0).fit(torch.eye(3), torch.tensor([0, 1, 1]))
        >>> bank.predict(torch.tensor([[1.0, 0.1, 0.0], [0.0, 0.2, 1.0]]))
        tensor([0, 1])
    """

    keys: Tensor
    values: Tensor
    gamma: Tensor

    def __init__(
        self,
        gamma: float | None = None,
        gammas: Sequence[float] = GAMMAS,
        chunk: int = 1024,
    ) -> None:
        super().__init__()
        if gamma is not None:
            _check_gamma(gamma, "gamma")
        if not gammas:
            raise ValueError("`gammas` must not be empty.")
        for candidate in gammas:
            _check_gamma(candidate, "gammas")
        if min(gammas) == 0:
            raise ValueError(
                "`gammas` must be > 0: 0 ignores the query; pass gamma=0 to ask for that."
            )
        self.chosen = gamma is None
        self.gammas = tuple(sorted(gammas))
        self.chunk = as_count(chunk, "chunk")
        self.register_buffer("keys", torch.empty(0, 0))
        self.register_buffer("values", torch.empty(0, 0))
        self.register_buffer(
            "gamma", torch.tensor(torch.nan if gamma is None else gamma, dtype=torch.float64)
        )

    @property
    def num_classes(self) -> int:
        return self.values.size(1)

    def __len__(self) -> int:
        return self.keys.size(0)

    @torch.no_grad()
    def fit(self, features: Tensor, labels: Tensor, num_classes: int | None = None) -> MemoryBank:
        """Remembers these vectors and forgets all others.

        Args:
            features: ``[N, D]``, finite; their lengths do not matter.
            labels: Classes ``[N]``, or values ``[N, classes]`` (>= 0), such as soft labels.
            num_classes: With class labels: the number of classes; the largest label plus one if ``None``.

        Returns:
            The bank itself.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: There is nothing to remember, or sizes or values do not fit.
        """
        keys = _unit(features, "features")
        if keys.size(0) == 0:
            raise ValueError("`features` must hold at least one vector.")
        values = _values(labels, keys, num_classes)
        self.keys, self.values = keys, values
        if self.chosen:
            self.choose_gamma()
        return self

    @torch.no_grad()
    def add(self, features: Tensor, labels: Tensor) -> MemoryBank:
        """Remembers more vectors, with the classes known so far; :attr:`gamma` stays as it is."""
        if len(self) == 0:
            raise ValueError("Call `fit` first: the bank is empty.")
        keys = _unit(features, "features")
        if keys.size(1) != self.keys.size(1):
            raise ValueError(
                f"`features` must have {self.keys.size(1)} entries each; got {keys.size(1)}."
            )
        values = _values(labels, keys, self.num_classes)
        if values.size(1) != self.num_classes:
            raise ValueError(
                f"`labels` must have {self.num_classes} classes; got {values.size(1)}."
            )
        self.keys = torch.cat([self.keys, keys.to(self.keys)])
        self.values = torch.cat([self.values, values.to(self.values)])
        return self

    def leave_one_out(self, gammas: Sequence[float] | None = None) -> Tensor:
        """Accuracy on the remembered vectors for each of ``gammas``, none of them seeing itself, ``[G]``.

        The mean over the classes of the share that is found again, so that a rare class counts as much
        as a frequent one. A class with a single vector cannot be found once that is left out, whatever
        the sharpness: it does not count.

        Raises:
            ValueError: No class has two vectors.
        """
        accuracy, _ = self._judge(self.gammas if gammas is None else gammas)
        if accuracy is None:
            raise ValueError("Leaving one out needs a class with at least two remembered vectors.")
        return accuracy

    @torch.no_grad()
    def _judge(self, gammas: Sequence[float]) -> tuple[Tensor | None, Tensor]:
        """:meth:`leave_one_out`, and of the classes with one vector, how many that vector finds."""
        truth = self.values.argmax(1)
        counts = truth.bincount(minlength=self.num_classes)
        hits = counts.new_zeros(len(gammas), self.num_classes)
        recalled = counts.new_zeros(len(gammas))
        for low in range(0, len(self), self.chunk):
            rows = torch.arange(low, min(low + self.chunk, len(self)), device=self.keys.device)
            similarity = self._similarity(self.keys[rows])
            single = counts[truth[rows]] == 1
            others = (rows - low)[~single], rows[~single]
            similarity[others] = -torch.inf
            for g, gamma in enumerate(gammas):
                guess = _product(_weights(similarity, gamma), self.values).argmax(1)
                right = guess == truth[rows]
                recalled[g] += (right & single).sum()
                found = truth[rows][right & ~single]
                hits[g] += found.bincount(minlength=self.num_classes)
        judged = counts > 1
        if not bool(judged.any()):
            return None, recalled
        return (hits[:, judged].double() / counts[judged]).mean(1), recalled

    def choose_gamma(self) -> float:
        """Sets :attr:`gamma` from the remembered vectors alone, and returns it.

        The candidate with the best :meth:`leave_one_out` accuracy, of equals the largest: with one vector
        for each class the nearest neighbour. Where a class has a single vector, only candidates take
        part at which that vector is still given its own class, as far as any candidate does that.
        """
        accuracy, recalled = self._judge(self.gammas)
        if accuracy is None:
            accuracy = torch.zeros(len(self.gammas), device=recalled.device)
        accuracy = accuracy.masked_fill(recalled < recalled.max(), -1.0)
        best = self.gammas[int((accuracy == accuracy.max()).nonzero()[-1])]
        self.gamma = torch.tensor(best, dtype=torch.float64, device=self.keys.device)
        return best

    @torch.no_grad()
    def scores(self, features: Tensor) -> Tensor:
        """``[Q, classes]``; with one-hot values every row sums to 1."""
        if len(self) == 0:
            raise ValueError("Call `fit` first: the bank is empty.")
        queries = _unit(features, "features").to(self.keys)
        if queries.size(1) != self.keys.size(1):
            raise ValueError(
                f"`features` must have {self.keys.size(1)} entries each; got {queries.size(1)}."
            )
        gamma = float(self.gamma)
        rows = [self.values.new_empty(0, self.num_classes)]
        for chunk in queries.split(self.chunk):
            rows.append(_product(_weights(self._similarity(chunk), gamma), self.values))
        return torch.cat(rows)

    def predict(self, features: Tensor) -> Tensor:
        """The class with the largest score, ``[Q]``."""
        return self.scores(features).argmax(1)

    forward = scores

    def _similarity(self, queries: Tensor) -> Tensor:
        return _product(queries, self.keys.T)

    def save(self, path: str | Path) -> None:
        """Writes the bank to a file."""
        torch.save(self.state_dict(), path)

    @classmethod
    def load(cls, path: str | Path, **kwargs: Any) -> MemoryBank:
        """A bank from a file written by :meth:`save`; ``kwargs`` go to the constructor.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged, or holds something else.
        """
        bank, stored = cls(**kwargs), load_tensors(path)
        try:
            bank.load_state_dict(stored)
        except (RuntimeError, TypeError, AttributeError) as error:
            reason = str(error).strip().split("\n")[-1].strip()
            raise ValueError(f"{path} holds no MemoryBank: {reason}") from None
        keys, values, gamma = bank.keys, bank.values, float(bank.gamma)
        sizes = keys.dim() == values.dim() == 2 and len(keys) == len(values)
        if not (sizes and keys.isfinite().all() and (values >= 0).all() and not gamma < 0):
            raise ValueError(
                f"{path}: expected finite keys [N, D] and values [N, classes] >= 0; got "
                f"{list(keys.shape)}, {list(values.shape)}, gamma {gamma:g}."
            )
        return bank

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # How much a bank remembers, and how precisely, is part of its state, not of its construction.
        for name in ("keys", "values"):
            stored = state_dict.get(prefix + name)
            if isinstance(stored, Tensor):
                device = getattr(self, name).device
                setattr(self, name, torch.empty_like(stored, device=device))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def extra_repr(self) -> str:
        return f"vectors={len(self)}, classes={self.num_classes}, gamma={float(self.gamma):g}"


def _weights(similarity: Tensor, gamma: float) -> Tensor:
    """The softmax of ``gamma * similarity``; what has similarity -inf does not count at any sharpness."""
    shifted = similarity - similarity.amax(1, keepdim=True)
    if gamma == torch.inf:
        weight = (shifted == 0).to(shifted)
    elif gamma == 0:
        weight = (shifted > -torch.inf).to(shifted)
    else:
        weight = (shifted * gamma).exp()
    return weight / weight.sum(1, keepdim=True)


def _product(a: Tensor, b: Tensor) -> Tensor:
    with full_precision(a):
        return a @ b


def _check_gamma(gamma: float, name: str) -> None:
    if isinstance(gamma, bool) or not isinstance(gamma, (int, float)):
        raise TypeError(f"`{name}` must be numbers; got {type(gamma).__name__}.")
    check_at_least(gamma, name, 0)


def _unit(features: Tensor, name: str) -> Tensor:
    return unit_vectors(features, name).to(features.dtype)


def _values(labels: Tensor, keys: Tensor, num_classes: int | None) -> Tensor:
    if not isinstance(labels, Tensor):
        raise TypeError(f"`labels` must be a tensor; got {type(labels).__name__}.")
    if labels.dim() == 0 or labels.size(0) != keys.size(0):
        got = labels.size(0) if labels.dim() else "no"
        raise ValueError(f"`labels` has {got} rows, but `features` {keys.size(0)}.")
    if labels.dim() == 2 and labels.is_floating_point():
        if not bool((labels >= 0).all() & labels.isfinite().all()):
            raise ValueError("Soft `labels` must be finite and >= 0.")
        return labels.detach().to(keys)
    if labels.dim() != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
        raise TypeError(
            "`labels` must be classes [N] (integers) or values [N, classes] (floating)."
        )
    labels = labels.long()
    highest = int(labels.max()) if labels.numel() else -1
    if labels.numel() and int(labels.min()) < 0:
        raise ValueError(f"`labels` must be >= 0; got {int(labels.min())}.")
    if num_classes is None:
        num_classes = highest + 1
    if highest >= num_classes:
        raise ValueError(f"`labels` must be below `num_classes` = {num_classes}; got {highest}.")
    return torch.nn.functional.one_hot(labels, num_classes).to(keys)
