"""Layers that PyTorch and PyTorch Geometric lack, or have in a form that transforms cannot differentiate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch_geometric import nn as pyg

from graphpool import _debug
from graphpool._arguments import as_count, what_came
from graphpool._memory import is_large, large


def check_input(x: Any, name: str, channels: int, module: torch.nn.Module) -> None:
    """Raises unless ``module`` can take ``x`` ``[..., channels]``, so that the message names the argument.

    Args:
        x: The features.
        name: What the caller calls them.
        channels: Their width; -1 where any will do.
        module: What they go into, in a precision of its parameters, where it has any.

    Raises:
        TypeError: ``x`` is no tensor, or in another precision.
        ValueError: It has another shape.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"`{name}` must be a tensor; got {what_came(x)}.")
    if x.dim() < 2:
        raise ValueError(f"`{name}` must have shape [..., rows, channels]; got {what_came(x)}.")
    if channels > 0 and x.size(-1) != channels:
        raise ValueError(
            f"`{name}` must have {channels} channels, its last dimension; got {what_came(x)}."
        )
    other = None
    for parameter in module.parameters():
        if parameter.dtype == x.dtype:
            return
        other = parameter.dtype if other is None and parameter.is_floating_point() else other
    if other is None or (x.is_floating_point() and torch.is_autocast_enabled(x.device.type)):
        return
    raise TypeError(
        f"`{name}` must be {other}, as the parameters are; got {what_came(x)}. Convert it: "
        f"`{name}.to({other})`."
    )


class Linear(pyg.Linear):
    """PyG's, which can be trained if its first input came in inference mode, too."""

    def initialize_parameters(self, module: torch.nn.Module, input: tuple[Tensor, ...]) -> None:
        with torch.inference_mode(False):
            super().initialize_parameters(module, input)


class ColumnEmbedding(torch.nn.Module):
    r"""A linear layer of columns of which some hold categories.

    .. math:: y = b + W x_{\mathrm{numbers}} + \sum_j E_j[x_j]

    the sum over the columns of categories: the linear layer of all columns, where each of these is one-hot.
    Without numbers there is no ``b``.

    Args:
        categories: For each column the number of its categories, or ``None`` where it holds numbers.
        channels: Width of the result.
        name: What messages call the input.

    Shape:
        ``[..., len(categories)]`` to ``[..., channels]``. Integers, or floating point where there are
        numbers, and then whole in the columns of categories. One column of integers may be ``[N]``.

    Raises:
        TypeError: The input is no tensor, or of the wrong type.
        ValueError: It has another shape, or a category is out of range; on a GPU only under
            :func:`graphpool.debug`.

    Example:
        >>> layer = ColumnEmbedding([28, 4], channels=16)
        >>> layer(torch.tensor([[6, 1], [8, 0]])).shape
        torch.Size([2, 16])
    """

    def __init__(self, categories: Sequence[int | None], channels: int, name: str = "x") -> None:
        super().__init__()
        self.categories, self.name = tuple(categories), name
        if not self.categories or all(count is None for count in self.categories):
            raise ValueError(
                "`categories` must name the number of categories of a column at least; got "
                f"{list(self.categories)}."
            )
        self.embeddings = torch.nn.ModuleDict(
            {
                str(i): torch.nn.Embedding(as_count(count, f"categories[{i}]"), channels)
                for i, count in enumerate(self.categories)
                if count is not None
            }
        )
        self.columns = [i for i, count in enumerate(self.categories) if count is None]
        self.numbers = Linear(len(self.columns), channels) if self.columns else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for table in self.embeddings.values():
            torch.nn.init.normal_(table.weight, std=1 / math.sqrt(len(self.categories)))  # type: ignore[arg-type]
        if self.numbers is not None:
            self.numbers.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, fx.Proxy):
            x = self._checked(x)
        parts = [table(x[..., int(i)].long()) for i, table in self.embeddings.items()]
        if self.numbers is not None:
            parts.append(self.numbers(x[..., self.columns]))
        return torch.stack(parts).sum(0)

    def _checked(self, x: Any) -> Tensor:
        name, width = self.name, len(self.categories)
        given = isinstance(x, Tensor) and x.dtype != torch.bool
        if not given or x.is_floating_point() != bool(self.columns):
            kind = "a floating point tensor" if self.columns else "integers, which are categories"
            raise TypeError(f"`{name}` must be {kind}; got {what_came(x)}.")
        if x.dim() == 1 and width == 1:
            x = x[:, None]
        if x.dim() < 2 or x.size(-1) != width:
            raise ValueError(
                f"`{name}` must have {width} columns, one for each entry of `categories`; got {what_came(x)}."
            )
        if self.numbers is not None:
            check_input(x, name, width, self.numbers)
        if _debug.values_are_checked(x.device):
            for i, count in enumerate(self.categories):
                values = x[..., i].detach().reshape(-1)
                if count is None:
                    continue
                bad = ~((values >= 0) & (values < count) & (values == values.long()))
                if bool(bad.any()):
                    row = int(bad.nonzero()[0])
                    raise ValueError(
                        f"`{name}[:, {i}]` must be categories, whole numbers in [0, {count}); got "
                        f"{values[row].item():g} in row {row}."
                    )
        return x


class LayerNorm(torch.nn.LayerNorm):
    """PyTorch's, but for transforms, where the derivative of its tangent is wrong (PyTorch 2.13); elements
    may be of higher precision than the parameters."""

    def forward(self, x: Tensor) -> Tensor:
        if not _debug.inside_transform():
            dtype = torch.promote_types(x.dtype, self.weight.dtype)
            weight, bias = self.weight.to(dtype), self.bias.to(dtype)
            return torch.nn.functional.layer_norm(x, self.normalized_shape, weight, bias, self.eps)
        deviation = x - x.mean(-1, keepdim=True)
        scale = (deviation.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return deviation * scale * self.weight + self.bias


class _Affine(torch.autograd.Function):
    """``x W^T + b``, and the positive part of it, with results and gradients in large pages."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool
    ) -> Tensor:
        y = large(x.new_empty(x.size(0), weight.size(0)))
        if bias is None:
            torch.mm(x, weight.t(), out=y)
        else:
            torch.addmm(bias, x, weight.t(), out=y)
        if relu:
            y.relu_()
        ctx.save_for_backward(x, weight, y if relu else None)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, y = ctx.saved_tensors
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        again = torch.is_grad_enabled()
        if y is not None and again:
            grad = grad * (y > 0)
        elif y is not None:
            passed = large(torch.empty_like(y))
            grad = torch.ops.aten.threshold_backward.grad_input(grad, y, 0, grad_input=passed)
        found_x = None
        if of_x:
            found_x = (
                grad @ weight if again else torch.mm(grad, weight, out=large(torch.empty_like(x)))
            )
        return found_x, grad.t() @ x if of_weight else None, grad.sum(0) if of_bias else None, None


def affine(layer: torch.nn.Module, x: Tensor, relu: bool = False) -> Tensor:
    """``layer(x)`` of a linear layer, and the positive part of it: the same numbers.

    Where that is a matrix of many megabytes on a CPU, the memory for it comes in large pages. The system
    takes longer to hand it out in small ones than the product takes.
    """
    if _fills_large_pages(layer, x):
        y: Tensor = _Affine.apply(x.flatten(0, -2), layer.weight, layer.bias, relu)
        return y if x.dim() == 2 else y.view(*x.shape[:-1], -1)
    y = layer(x)
    return torch.relu(y) if relu else y


def through(layers: Iterable[torch.nn.Module], x: Tensor) -> Tensor:
    """``x`` through layers, one after the other; linear ones by :func:`affine`, with a ReLU behind them."""
    left = list(layers)
    while left:
        layer = left.pop(0)
        if type(layer) is not torch.nn.Linear:
            x = layer(x)
            continue
        relu = bool(left) and type(left[0]) is torch.nn.ReLU and not _hooked(left[:1])
        x = affine(layer, x, relu)
        del left[:relu]
    return x


def _fills_large_pages(layer: torch.nn.Module, x: Tensor) -> bool:
    if x.device.type != "cpu" or _debug.being_traced() or _debug.inside_transform():
        return False
    # A subclass of tensors, or a mode, wants to hear of the layer.
    if type(x) is not Tensor or torch._C._len_torch_function_stack() or x.dim() < 2:
        return False
    if torch._C._len_torch_dispatch_stack() or not may_be_folded(layer):
        return False
    weight = layer.weight
    if type(weight) is not torch.nn.Parameter or x.dtype != weight.dtype:
        return False
    plain = x.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")
    return plain and is_large((*x.shape[:-1], weight.size(0)), x.dtype)


def may_be_folded(*modules: torch.nn.Module) -> bool:
    """Whether linear layers, and sequences, are nothing but their weights, so that products may be taken in
    another order: neither a hook nor a parametrisation nor another ``forward`` would be passed over."""
    return not _hooked(modules) and all(
        type(m) in (torch.nn.Linear, torch.nn.Sequential) and "forward" not in vars(m)
        for m in modules
    )


def may_be_folded_by_size(*modules: torch.nn.Module) -> bool:
    """:func:`may_be_folded`, to be asked before sizes say which order is better: an exported program must
    hold for other sizes, and takes the plain order."""
    return not _debug.is_exporting() and may_be_folded(*modules)


def has_hooks(module: torch.nn.Module) -> bool:
    """Whether a hook would see calls of ``module`` or of what it holds."""
    return _hooked(module.modules())


def _hooked(modules: Iterable[torch.nn.Module]) -> bool:
    hooks = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    return torch.nn.modules.module._has_any_global_hook() or any(
        vars(m)[h] for m in modules for h in hooks
    )


def gru_step(
    cell: torch.nn.GRUCell, x: Tensor, state: Tensor, first: torch.nn.Linear | None = None
) -> Tensor:
    """``cell(x, state)``, not in place: :func:`torch.vmap` cannot vectorise what PyTorch does there.

    ``first``: a layer without bias that ``x`` has yet to go through.
    """
    weight = cell.weight_ih if first is None else cell.weight_ih @ first.weight
    given = _affine(x, weight, cell.bias_ih).chunk(3, dim=-1)
    kept = _affine(state, cell.weight_hh, cell.bias_hh).chunk(3, dim=-1)
    reset_gate, update_gate = ((given[i] + kept[i]).sigmoid() for i in range(2))
    new = (given[2] + reset_gate * kept[2]).tanh()
    return new + update_gate * (state - new)


def lstm_step(
    cell: torch.nn.LSTMCell, x: Tensor, state: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """``cell(x, state)``, by operations that can be differentiated twice everywhere, and vectorised."""
    gates = _affine(x, cell.weight_ih, cell.bias_ih) + _affine(
        state[0], cell.weight_hh, cell.bias_hh
    )
    enter, keep, new, leave = gates.chunk(4, dim=-1)
    memory = keep.sigmoid() * state[1] + enter.sigmoid() * new.tanh()
    return leave.sigmoid() * memory.tanh(), memory


def in_precision(module: torch.nn.Module, x: Tensor) -> Tensor:
    """Linear layers and what lies between them, in the precision of ``x``, whatever theirs is."""
    if isinstance(module, torch.nn.Sequential):
        for part in module:
            x = in_precision(part, x)
        return x
    if isinstance(module, torch.nn.Linear):
        return _affine(x, module.weight, module.bias)
    return module(x)


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    bias = None if bias is None else bias.to(x.dtype)
    return torch.nn.functional.linear(x, weight.to(x.dtype), bias)


def perceptron(*widths: int, last_activation: bool = False) -> torch.nn.Sequential:
    """Linear layers of these widths with a ReLU between each two; the first width may be -1 (lazy)."""
    layers: list[torch.nn.Module] = []
    for before, after in zip(widths[:-1], widths[1:], strict=True):
        layers += [Linear(before, after) if before < 0 else torch.nn.Linear(before, after)]
        layers += [torch.nn.ReLU()]
    return torch.nn.Sequential(*(layers if last_activation else layers[:-1]))


def reset(*modules: torch.nn.Module) -> None:
    """Restores the initial parameters of modules and all that they contain."""
    for module in modules:
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()  # type: ignore[operator]
        else:
            reset(*module.children())


def signed_sqrt(x: Tensor, eps: float = 1e-6) -> Tensor:
    r""":math:`\mathrm{sign}(x) \sqrt{|x|}`, smoothed near 0, where its derivative would be infinite."""
    return x * (x.abs() + eps).rsqrt()


def l2_normalize(x: Tensor, eps: float = 1e-6) -> Tensor:
    """``x / max(|x|, eps)`` over the channels; a zero vector stays zero, with a finite derivative.

    Lengths whose squares are no numbers any more are no matter.
    """
    # Over the largest number of each row, which is as good as a constant: it cancels.
    scale = x.detach().abs().amax(-1, keepdim=True).clamp_min(eps)
    x = x / scale
    return x * (x * x).sum(-1, keepdim=True).clamp_min((eps / scale).square()).rsqrt()
