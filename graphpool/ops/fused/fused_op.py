"""A fused op made of its parts: kernels in, a differentiable operator out.

The one file that speaks to ``torch.library``. An operator that this class makes runs on the CPU and on CUDA,
can be traced, and can be differentiated twice: its backward pass is an operator too, and where that shall
be differentiated the composed form takes its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from graphpool._memory import large
from graphpool.ops import dispatch
from graphpool.ops.derivatives import differentiate_again
from graphpool.ops.fused.common import converted, layout_of, working_array, working_dtype
from graphpool.ops.fused.cpu.layout import Arrays
from graphpool.ops.fused.layout import SCHEMA, Layout
from graphpool.ops.inputs import Gather
from graphpool.segments import Segments

_FIELDS = len(Layout._fields)
_PLAIN = (Tensor, torch.nn.Parameter)
_WEIGHT = Layout._fields.index("weight")


def define(name: str, schema: str, cpu: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """The operator ``graphpool::name``; ``fake`` gives empty results of the right shape."""
    op = torch.library.custom_op(
        f"graphpool::{name}", cpu, mutates_args=(), device_types="cpu", schema=schema
    )
    op.register_fake(fake)
    return op


class FusedOp:
    """``graphpool::name`` and ``graphpool::name_backward``, on the CPU and on CUDA.

    The CPU kernels are ``forward`` and ``backward``: they read and fill NumPy arrays, all in the precision in
    which the op accumulates, and find the bags in ``at``, a :class:`Arrays`. The CUDA kernels are launched
    by the functions of the same two names in :mod:`graphpool.ops.fused.cuda.ops`, if they are there; they
    take what the operators take. ``option`` stands for one argument of type ``str`` if the op has one, and
    for nothing if not.

    Args:
        name: Name of the operator.
        inputs: The tensors that it takes and is differentiated by, with their dimensions: ``E`` elements,
            ``R`` rows that ``gather`` reads (just one input has them), ``C`` channels, ``H`` heads that
            divide them, ``K`` exponents each. ``"score[E,H] value[R,C]"``.
        outputs: Names of the results. Only the first has a derivative; all of them are kept for it.
        shapes: ``shapes(*inputs, option, layout)``: the shape of each output.
        forward: ``forward(*inputs, option, at, *outputs)`` fills the outputs.
        backward: ``backward(grad, *read, option, at, *grads)`` fills the gradients of the inputs.
        composed: ``composed(*inputs, option, layout)``: the first output by plain operations. The rows are
            gathered, and in the precision of the others.
        reads: What ``backward`` reads out of inputs and outputs; everything if absent.
        options: Values that the option may have, for the tests.
        indices: Those of the outputs that are int64.
        integers: Whether the rows may be integers, which have no derivative.
        of_weight: ``of_weight(grad, *read, option, at, out)`` fills the gradient of the weights ``[E]``.
            Without it whoever wants that gets the composed form.

    Example (the whole of a new op; ``ops/fused/scores.py`` holds two of the shortest)::

        _softmax = FusedOp(
            "segment_softmax", "score[R,C]", "share", _shapes, _forward, _backward, _composed, reads="share"
        )

        @_softmax.serves("segment_softmax")
        def segment_softmax(score, segments, weight=None, gather=None): ...
    """

    def __init__(
        self,
        name: str,
        inputs: str,
        outputs: str,
        shapes: Callable[..., tuple[tuple[int, ...], ...]],
        forward: Callable[..., None],
        backward: Callable[..., None],
        composed: Callable[..., Tensor],
        *,
        reads: str | None = None,
        options: tuple[str, ...] = (),
        indices: str = "",
        integers: bool = False,
        of_weight: Callable[..., None] | None = None,
    ) -> None:
        self.name, self.shapes, self.options = name, shapes, options
        self.dimensions = {
            argument: tuple(letters.split(","))
            for argument, letters in re.findall(r"(\w+)\[([^]]+)\]", inputs)
        }
        self.inputs, self.outputs = tuple(self.dimensions), tuple(outputs.split())
        self.indices, self.integers = indices.split(), integers
        (self._row,) = (i for i, d in enumerate(self.dimensions.values()) if d[0] == "R")
        self._forward, self._backward, self._composed = forward, backward, composed
        saved = self.inputs + self.outputs
        self._read = [saved.index(v) for v in (saved if reads is None else reads.split())]
        self._count, self._has_option = len(self.inputs), bool(options)

        def schema(tensors: tuple[str, ...], results: int) -> str:
            takes = ", ".join(f"Tensor {v}" for v in tensors)
            says = "str option, " if options else ""
            gives = ", ".join(["Tensor"] * results)
            return f"({takes}, {says}{SCHEMA}) -> ({gives})"

        self.operators = {
            name: define(name, schema(self.inputs, len(self.outputs)), self._on_cpu, self._empty),
            f"{name}_backward": define(
                f"{name}_backward",
                schema(("grad", *saved), self._count),
                self._backward_on_cpu,
                lambda grad, *args: _few([torch.empty_like(v) for v in args[: self._count]]),
            ),
        }
        self._of_weight = of_weight
        if of_weight is not None:
            self.operators[f"{name}_weight"] = define(
                f"{name}_weight",
                schema(("grad", *saved), 1),
                self._weight_on_cpu,
                lambda grad, *args: torch.empty_like(self._split(args)[2].weight),  # type: ignore[arg-type]
            )
        for key, operator in self.operators.items():
            operator.register_kernel("cuda")(_launcher(key))
        self.operators[name].register_autograd(self._derive, setup_context=self._keep)
        methods = {
            "forward": staticmethod(self._differentiable),
            "backward": staticmethod(self._derive),
        }
        self._function = type(name, (torch.autograd.Function,), methods)
        ops = {key: getattr(torch.ops.graphpool, key).default for key in self.operators}
        self._op, self._op_backward = ops[name], ops[f"{name}_backward"]
        self._op_weight: Any = ops.get(f"{name}_weight")

    @property
    def learns_weight(self) -> bool:
        """Whether the CPU kernels have a derivative with respect to the weight."""
        return self._of_weight is not None

    def serves(self, *names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Makes a function the fused form of the public functions of these names."""

        def register(form: Callable[..., Any]) -> Callable[..., Any]:
            for name in names:
                dispatch.FUSED[name] = dispatch.Fused(form, self.name)
            return form

        dispatch.OPERATORS[self.name] = self
        return register

    def __call__(
        self,
        inputs: tuple[Tensor, ...],
        segments: Segments,
        weight: Tensor | None,
        gather: Gather | None,
        *option: str,
    ) -> Tensor:
        """The first output; inputs are contiguous and have the dimensions that they were declared with."""
        return self.results(inputs, segments, weight, gather, *option)[0]

    def results(
        self,
        inputs: tuple[Tensor, ...],
        segments: Segments,
        weight: Tensor | None,
        gather: Gather | None,
        *option: str,
    ) -> tuple[Tensor, ...]:
        """All outputs; only the first has a derivative."""
        layout = layout_of(segments, weight, gather, inputs, inputs[self._row])
        args = (*inputs, *option, *layout)
        if not is_plain(args):
            out = self._op(*args)
        elif torch.is_grad_enabled() and any(
            v.requires_grad for v in (*inputs, weight) if v is not None
        ):
            out = self._function.apply(*args)  # type: ignore[attr-defined]
        else:
            out = self._on_cpu(*args)
        return (out,) if isinstance(out, Tensor) else out

    def composed(self, *args: Any) -> Tensor:
        """What :meth:`__call__` computes, by plain operations; takes what the operator takes."""
        inputs, option, layout = self._split(args)
        x = inputs[self._row]
        elements = layout.gathered(x.to(working_dtype(x)))
        inputs = (*inputs[: self._row], elements, *inputs[self._row + 1 :])
        return self._composed(*inputs, *option, layout)

    def _split(self, args: tuple[Any, ...]) -> tuple[tuple[Tensor, ...], tuple[str, ...], Layout]:
        tensors = len(args) - _FIELDS - self._has_option
        return args[:tensors], args[tensors:-_FIELDS], Layout.from_args(args[-_FIELDS:])

    def _empty(self, *args: Any) -> Any:
        return self._empty_results(*self._split(args))

    def _empty_results(
        self, inputs: tuple[Tensor, ...], option: tuple[str, ...], layout: Layout
    ) -> Any:
        x = inputs[self._row]
        shapes = self.shapes(*inputs, *option, layout)
        dtypes = [torch.long if v in self.indices else working_dtype(x) for v in self.outputs]
        return _few([x.new_empty(s, dtype=d) for s, d in zip(shapes, dtypes, strict=True)])

    def _differentiable(self, ctx: Any, *args: Any) -> Any:
        results = self._on_cpu(*args)
        self._keep(ctx, args, results)
        return results

    def _on_cpu(self, *args: Any) -> Any:
        inputs, option, layout = self._split(args)
        results = self._empty_results(inputs, option, layout)
        outputs = (results,) if isinstance(results, Tensor) else results
        arrays = [working_array(v) for v in inputs]
        at = Arrays(layout, arrays[self._row].dtype)
        self._forward(*arrays, *option, at, *(large(v).numpy() for v in outputs))
        return results

    def _backward_on_cpu(self, grad: Tensor, *args: Any) -> Any:
        saved, option, layout = self._split(args)
        inputs = saved[: self._count]
        grads = [large(v.new_empty(v.shape, dtype=working_dtype(v))) for v in inputs]
        read = [working_array(saved[i]) for i in self._read]
        filled = [g.numpy() for g in grads]
        at = Arrays(layout, filled[self._row].dtype)
        self._backward(working_array(grad), *read, *option, at, *filled)
        return _few([converted(g, v.dtype) for g, v in zip(grads, inputs, strict=True)])

    def _weight_on_cpu(self, grad: Tensor, *args: Any) -> Tensor:
        saved, option, layout = self._split(args)
        read = [working_array(saved[i]) for i in self._read]
        assert layout.weight is not None
        out = torch.empty_like(layout.weight, memory_format=torch.contiguous_format)
        at = Arrays(layout, read[self._row].dtype)
        self._of_weight(working_array(grad), *read, *option, at, out.numpy())  # type: ignore[misc]
        return out

    def _keep(self, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        tensors, ctx.option, layout = self._split(inputs)
        outputs = (output,) if isinstance(output, Tensor) else output
        ctx.mark_non_differentiable(*outputs[1:])
        # PyTorch would fill zero gradients for them, with OpenMP threads that go on spinning for
        # milliseconds where the threads of the kernels ought to run.
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *outputs, *layout)

    def _derive(self, ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * len(ctx.needs_input_grad)
        # Asked for once: checkpoints hand a saved tensor out only once.
        kept = ctx.saved_tensors
        saved, layout = kept[:-_FIELDS], Layout.from_args(kept[-_FIELDS:])
        count, weight = self._count, layout.weight
        needs = ctx.needs_input_grad[:count]
        of_weight = weight is not None and ctx.needs_input_grad[_WEIGHT - _FIELDS]
        if torch.is_grad_enabled():
            weights = (weight,) if of_weight else ()
            *found, last = differentiate_again(
                lambda *v: self.composed(
                    *v[:count],
                    *ctx.option,
                    *(layout._replace(weight=v[count]) if of_weight else layout),
                ),
                (*saved[:count], *weights),
                (*needs, *(True for _ in weights)),
                grad,
            )
            found = found if of_weight else [*found, last]
            last = last if of_weight else None
        else:
            args = (grad, *saved, *ctx.option, *layout)
            plain = is_plain(args)
            backward = self._backward_on_cpu if plain else self._op_backward
            results = backward(*args) if any(needs) else (None,) * count
            found = [results] if isinstance(results, Tensor) else list(results)
            by_weight = self._weight_on_cpu if plain else self._op_weight
            last = by_weight(*args) if of_weight else None
        rest: list[Tensor | None] = [None] * (len(ctx.option) + _FIELDS)
        rest[_WEIGHT - _FIELDS] = last
        return *found, *rest


def is_plain(args: tuple[Any, ...]) -> bool:
    """Whether nobody but the kernel has to hear of a call: no tracer, mode, profiler or subclass of tensors.

    The dispatcher of PyTorch takes longer for an operator in Python than the kernel for a small batch.
    """
    return (
        not torch.compiler.is_compiling()
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._len_torch_function_stack() == 0
        and not torch._C._autograd._profiler_enabled()
        and all(
            v is None or type(v) is str or (type(v) in _PLAIN and v.device.type == "cpu")
            for v in args
        )
    )


def _few(values: list[Tensor]) -> Any:
    return values[0] if len(values) == 1 else tuple(values)


def _launcher(name: str) -> Callable[..., Any]:
    def launch(*args: Any) -> Any:
        # Imported at the first call on a device: triton is neither small nor always there.
        from graphpool.ops.fused.cuda import ops as cuda_ops

        # Triton launches on the current device, whichever holds the tensors.
        with torch.cuda.device_of(args[0]):
            return getattr(cuda_ops, name)(*args)

    return launch
