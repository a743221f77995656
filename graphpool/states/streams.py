"""Both passes over the pieces of bags that do not fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from tqdm import tqdm

from graphpool._arguments import what_came
from graphpool.states.bag_state import BagState
from graphpool.states.held import begin
from graphpool.states.mergeable import Tensors

Pieces = Iterable[Any] | Callable[[], Iterable[Any]]


def stream(
    encoder: nn.Module | None,
    pool: Any,
    pieces: Pieces,
    num_bags: int = 1,
    *,
    group: Any = None,
    progress: bool = False,
    **kind: Any,
) -> Tensor:
    """Pools bags that come in pieces, of which one at a time is in memory; gradients are exact.

    The first pass encodes and pools piece by piece. ``backward`` of whatever is computed from the result goes
    over the pieces again, encodes each once more and hands it its part of the gradient. So it takes one
    forward pass of the encoder more than if all were in memory, and memory does not grow with the bags.

    Both passes must see the same: ``pieces`` are gone through twice, in the same order; random numbers that
    the encoder draws (dropout) are drawn again; that the sums of both passes agree is checked.

    Args:
        encoder: What elements go through first, one piece at a time; ``None`` for nothing.
        pool: A pool whose bags can be pooled in pieces.
        pieces: The pieces: a sequence, a ``DataLoader``, a data set, or a function that gives an iterator.
            A piece is the input of the encoder, or ``(input, bag)``, or ``(input, bag, weight)``; an input
            that is a tuple is several arguments. ``bag`` is as in :meth:`BagState.add`.
        num_bags: The number of bags.
        group: A ``torch.distributed`` group whose processes hold pieces of the same bags each
            (``torch.distributed.group.WORLD`` for all). Average the gradients of all parameters
            afterwards, see :func:`~graphpool.states.average_gradients`.
        progress: Show a bar for each pass.
        **kind: Further arguments of ``pool.begin``.

    Returns:
        The pooled bags ``[S, out_channels]``.

    Raises:
        TypeError: ``encoder`` is no module, or the pool must see a bag at once.
        ValueError: A batch norm of the encoder is in training mode; pieces can be gone through once only, or
            were others in the second pass (or too large to tell, where training diverges); elements or
            weights require a gradient of their own.

    Example:
        >>> import graphpool
        >>> from graphpool import aggr
        >>> encoder, x = nn.Linear(2, 4), torch.randn(1000, 2)
        >>> graphpool.stream(encoder, aggr.Mean(), x.split(100)).sum().backward()
        >>> encoder.weight.grad.allclose(x.mean(0).expand(4, 2), atol=1e-5)
        True
    """
    if encoder is not None and not isinstance(encoder, nn.Module):
        raise TypeError(
            f"`encoder` must be a module, whose parameters are known, or None; got {what_came(encoder)}."
        )
    _refuse_batch_norm(encoder)
    if isinstance(pieces, Iterator) and torch.is_grad_enabled():
        raise ValueError(
            "`pieces` can be gone through once, and gradients take two passes; give a function that makes "
            "the iterator."
        )
    state: BagState = begin(pool, num_bags, kind)
    run = _Run(encoder, pieces, progress)
    with torch.no_grad():
        for elements, bag, weight in run.encoded("first pass"):
            state.add(elements, bag, weight)
    run.size = state.sums.get("n")
    if group is not None:
        state.all_reduce(group)
    learned = [p for module in (encoder, pool) if module for p in module.parameters()]
    learned = list({id(p): p for p in learned if p.requires_grad}.values())
    if not learned or not torch.is_grad_enabled():
        return state.result()
    names = [name for name, v in state.sums.items()]
    sums = _TwoPasses.apply(run, state, names, *learned)
    return state.finished(dict(zip(names, sums, strict=True)))


class _Run:
    """What has to be the same in both passes."""

    def __init__(self, encoder: nn.Module | None, pieces: Pieces, progress: bool) -> None:
        self.encoder, self.pieces, self.progress = encoder, pieces, progress
        self.seed = int(torch.randint(2**62, ()))
        self.size: Tensor | None = None
        tensors = [] if encoder is None else list(encoder.parameters())
        self.device = tensors[0].device if tensors else torch.device("cpu")
        kind = self.device.type
        self.cast: dict[str, Any] = {
            "device_type": kind,
            "dtype": torch.get_autocast_dtype(kind),
            "enabled": torch.is_autocast_enabled(kind),
        }

    def encoded(self, name: str) -> Iterator[tuple[Tensor, Any, Tensor | None]]:
        """Elements, bags and weights of one piece after the other."""
        pieces: Any = self.pieces if isinstance(self.pieces, Iterable) else self.pieces()
        for number, piece in enumerate(tqdm(pieces, desc=name, disable=not self.progress)):
            given, bag, weight = parts_of(piece)
            del piece
            with self._drawing(number), torch.autocast(**self.cast):
                arguments = given if isinstance(given, tuple) else (given,)
                x = arguments[0] if self.encoder is None else self.encoder(*arguments)
            for what, values in (("elements", arguments), ("weights", (weight,))):
                if any(isinstance(v, Tensor) and v.requires_grad for v in values):
                    raise ValueError(
                        f"The {what} of `pieces` require a gradient, for which nothing is kept; let the "
                        "encoder hold what is learned, or go over the pieces with BagState.backprop."
                    )
            del given, arguments
            yield x, bag, weight
            del x, bag, weight

    @contextmanager
    def _drawing(self, number: int) -> Iterator[None]:
        """Random numbers that depend on the piece alone, which takes no memory per piece."""
        cuda = self.device.type == "cuda"
        with torch.random.fork_rng([self.device] if cuda else []):
            torch.default_generator.manual_seed(self.seed + number)
            if cuda:
                with torch.cuda.device(self.device):
                    torch.cuda.manual_seed(self.seed + number)
            yield


class _TwoPasses(torch.autograd.Function):
    """The sums of the first pass, whose derivative is the second."""

    @staticmethod
    def forward(
        ctx: Any, run: _Run, state: BagState, names: list[str], *learned: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.run, ctx.state, ctx.names, ctx.learned = run, state, names, learned
        ctx.set_materialize_grads(False)
        return tuple(state.totals()[name].clone() for name in names)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor | None) -> tuple[Any, ...]:
        state, found = ctx.state, [torch.zeros_like(p) for p in ctx.learned]
        given = {
            name: state.processes * slope
            for name, slope in zip(ctx.names, slopes, strict=True)
            if slope is not None
        }
        seen: Tensors = {}
        size: Tensors = {}
        # The pool learns from a piece under autocast, too, wherever `backward` is called.
        with torch.enable_grad(), torch.autocast(**ctx.run.cast):
            for piece in ctx.run.encoded("second pass"):
                sums = state.piece_sums(*piece)
                for name, value in sums.items():
                    value = value.detach()
                    seen[name] = value + seen.get(name, 0)
                    size[name] = value.abs() + size.get(name, 0)
                outputs = [name for name, v in sums.items() if v.requires_grad and name in given]
                gradients = (
                    torch.autograd.grad(
                        [sums[name] for name in outputs],
                        ctx.learned,
                        [given[name] for name in outputs],
                        allow_unused=True,
                    )
                    if outputs
                    else ()
                )
                for total, gradient in zip(found, gradients, strict=False):
                    if gradient is not None:
                        total += gradient
        _check_same(state, ctx.run.size, seen, size)
        return (None, None, None, *found)


def _check_same(state: BagState, own: Tensor | None, seen: Tensors, size: Tensors) -> None:
    """Raises unless the sums of both passes agree to what their rounding allows; of the sums of several
    processes only how many elements this one had can be compared."""
    eps = torch.finfo(state.dtype).eps if state.dtype.is_floating_point else 0.0
    before = state.totals() if state.processes == 1 else {} if own is None else {"n": own}
    for name, first in before.items():
        first, n = first.double(), before["n"].double()
        if name not in seen:
            differs = bool((first != 0).any())
        else:
            rounding = 1e6 * eps * n.view(-1, *[1] * (first.dim() - 1))
            apart = (seen[name].double() - first).abs()
            differs = bool((apart > eps**0.4 * size[name] + rounding).any())
        if differs:
            raise ValueError(
                f"{_too_large(state)}`pieces` were others in the second pass, or the encoder gave something "
                f"else for them: the sums {name!r} differ. Shuffle and augment before, not while they are "
                "gone through, and change no parameter between the passes."
            )


def _too_large(state: BagState) -> str:
    """What to say first where scores or elements have outgrown the digits of the sums."""
    found = [v.abs() for v in state.reference.values() if v.dtype.is_floating_point and v.numel()]
    most = max((float(torch.where(v.isfinite(), v, 0).max()) for v in found), default=0.0)
    if not found or most * torch.finfo(found[0].dtype).eps < 1e-6:
        return ""
    return (
        f"What is pooled has grown to {most:.1e}, for which {state.dtype} has too few digits: has training "
        "diverged? Take a smaller step or a norm before the pool. If not so, "
    )


def parts_of(piece: Any) -> tuple[Any, Any, Any]:
    """Input, bag and weight of a piece."""
    if not isinstance(piece, (tuple, list)):
        return piece, None, None
    if not 1 <= len(piece) <= 3:
        raise ValueError(
            f"A piece of `pieces` must be an input, or (input, bag), or (input, bag, weight); "
            f"got {len(piece)} parts."
        )
    given, bag, weight = (*piece, None, None)[:3]
    return given, bag, weight


def _refuse_batch_norm(encoder: nn.Module | None) -> None:
    for name, module in () if encoder is None else encoder.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (
            module.training or module.running_mean is None
        ):
            raise ValueError(
                f"`encoder` normalises by the statistics of a piece: {type(module).__name__} at {name!r}. "
                "Put it in evaluation mode (`eval()`), where it has statistics of its own, or take a layer "
                "or group norm."
            )
