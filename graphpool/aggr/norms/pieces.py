"""Norms of bags that come in pieces, and sums beside them."""

from __future__ import annotations

from torch import Tensor

from graphpool.ops import norms_and_sums
from graphpool.segments import Segments
from graphpool.states import Powers, Several, Sums, Tensors


class Sizes(Sums):
    """Sums of absolute values."""

    def terms(self, seen: Tensors, at: Tensors) -> Tensors:
        return {"x": seen["x"].abs()}


class NormsAndSums(Several):
    """Norms and sums, which the kernel of the pool finds at once."""

    def piece(
        self, seen: Tensors, segments: Segments, weight: Tensor | None
    ) -> tuple[Tensors, Tensors]:
        x, powers = seen["norms.x"], self.parts["norms"]
        assert isinstance(powers, Powers)
        exponents = powers.exponents(x)[0].to(x.dtype)
        found = None if weight is not None else norms_and_sums(x, segments, exponents.flatten())
        if found is None or bool(found[2].isinf().any()):
            return super().piece(seen, segments, weight)
        logs, total, sizes = found
        top, u = powers.of_log(exponents * logs, segments)
        sums = {"norms.u": u["u"], "mean.x": total, "whole.x": sizes}
        return {"norms.top": top["top"]}, sums
