"""Vectors of 64 bytes, for kernels that keep their sums in registers instead of leaving loops to LLVM.

A :class:`Vector` holds neighbouring channels of one row. It has arithmetic, comparisons and :func:`pick`,
also with numbers; LLVM splits it where registers are shorter. A loop over rows then needs no arrays in
between, and takes as long for each of few channels as for each of many.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.core.typing.templates import signature as typed
from numba.extending import intrinsic as _intrinsic
from numba.extending import lower_builtin, register_model
from numba.np import arrayobj

BYTES = 64
# What it makes is called without the first argument.
intrinsic: Any = _intrinsic

_LANES = {
    types.boolean: ir.IntType(1),
    types.int32: ir.IntType(32),
    types.int64: ir.IntType(64),
    types.float32: ir.FloatType(),
    types.float64: ir.DoubleType(),
}


class Vector(types.Type):
    """``lanes`` numbers of the type ``of``."""

    def __init__(self, of: Any, lanes: int) -> None:
        self.of, self.lanes = of, lanes
        super().__init__(f"Vector({of} x {lanes})")

    @property
    def held(self) -> Any:
        """The type in LLVM."""
        return ir.VectorType(_LANES[self.of], self.lanes)


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, vector.held)


def has(v: Any, of: Any) -> bool:
    """Whether the type ``v`` is the number ``of``, or a vector of such."""
    return bool(v == of or (isinstance(v, Vector) and v.of == of))


def _filled(builder, number, lanes):
    """``number`` on every lane."""
    index = ir.IntType(32)
    one = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
    one = builder.insert_element(one, number, index(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(index, lanes), None))


def _spread(context, builder, value, given, vector):
    """A number on every lane, in the type of these; a vector as it is."""
    if isinstance(given, Vector):
        return value
    return _filled(builder, context.cast(builder, value, given, vector.of), vector.lanes)


# -------------------------------------------------------------------------------------- arithmetic


def _define(function: Any, floats: Any, ints: Any, compares: bool = False) -> None:
    """Makes ``function`` of two vectors, or of one and a number, an instruction of the builder."""

    @infer_global(function)
    class _Typed(AbstractTemplate):
        def generic(self, args, kws):
            of = [v for v in args if isinstance(v, Vector)]
            if len(args) != 2 or not of:
                return None
            return typed(Vector(types.boolean, of[0].lanes) if compares else of[0], *args)

    def lower(context, builder, signature, args):
        vector = next(v for v in signature.args if isinstance(v, Vector))
        both = (
            _spread(context, builder, v, given, vector)
            for v, given in zip(args, signature.args, strict=True)
        )
        return (floats if isinstance(vector.of, types.Float) else ints)(builder, *both)

    for pair in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(function, *pair)(lower)


_define(operator.add, ir.IRBuilder.fadd, ir.IRBuilder.add)
_define(operator.sub, ir.IRBuilder.fsub, ir.IRBuilder.sub)
_define(operator.mul, ir.IRBuilder.fmul, ir.IRBuilder.mul)
_define(operator.truediv, ir.IRBuilder.fdiv, None)
_define(operator.lshift, None, ir.IRBuilder.shl)
_define(operator.rshift, None, ir.IRBuilder.ashr)
_define(operator.and_, None, ir.IRBuilder.and_)
for _function, _sign in ((operator.lt, "<"), (operator.gt, ">"), (operator.eq, "==")):
    _define(
        _function,
        lambda b, x, y, sign=_sign: b.fcmp_ordered(sign, x, y),
        lambda b, x, y, sign=_sign: b.icmp_signed(sign, x, y),
        compares=True,
    )


@intrinsic
def pick(typing, where, a, b):
    """``a if where else b``, lane by lane. Of vectors, one of the two may be a number."""
    vector = next((v for v in (a, b) if isinstance(v, Vector)), None)

    def codegen(context, builder, signature, args):
        both = zip(args[1:], signature.args[1:], strict=True)
        if vector is not None:
            return builder.select(args[0], *(_spread(context, builder, *v, vector) for v in both))
        return builder.select(args[0], *(context.cast(builder, *v, a) for v in both))

    return (vector or a)(where, a, b), codegen


def _converted(name: str, of: Any, how: Any) -> Any:
    """An intrinsic for a number or a vector; ``of``: what becomes of its type."""

    def convert(typing, v):
        to = Vector(of(v.of), v.lanes) if isinstance(v, Vector) else of(v)

        def codegen(context, builder, signature, args):
            return how(builder, args[0], to.held if isinstance(to, Vector) else _LANES[to])

        return to(v), codegen

    convert.__name__ = name
    return intrinsic(convert)


def _narrowed(builder, value, to):
    return value if value.type == to else builder.trunc(value, to)


def _called(name):
    def call(builder, value, to):
        kind = f"llvm.{name}.v{to.count}f{32 if to.element == ir.FloatType() else 64}"
        function = ir.FunctionType(to, [to])
        return builder.call(cgutils.get_or_insert_function(builder.module, function, kind), [value])

    return call


def _from_integer(builder, value, to):
    # From 32 bits: few machines have an instruction for 64.
    short = ir.IntType(32)
    short = ir.VectorType(short, to.count) if isinstance(to, ir.VectorType) else short
    return builder.sitofp(_narrowed(builder, value, short), to)


def _resized(builder, value, to):
    if value.type == to:
        return value
    wide = (to.element if isinstance(to, ir.VectorType) else to) == ir.DoubleType()
    return (builder.fpext if wide else builder.fptrunc)(value, to)


_INTEGER = {types.float32: types.int32, types.float64: types.int64}
_FLOAT = {i: f for f, i in _INTEGER.items()}

as_bits = _converted("as_bits", _INTEGER.__getitem__, ir.IRBuilder.bitcast)
from_bits = _converted("from_bits", _FLOAT.__getitem__, ir.IRBuilder.bitcast)
magnitude = _converted("magnitude", lambda of: of, _called("fabs"))
root = _converted("root", lambda of: of, _called("sqrt"))
short = _converted("short", lambda _: types.int32, _narrowed)
to_float = _converted("to_float", _FLOAT.__getitem__, _from_integer)
widen = _converted("widen", lambda _: types.float64, _resized)


# ------------------------------------------------------------------------------------------ memory


def _lanes(array: Any) -> Vector:
    return Vector(array.dtype, BYTES * 8 // array.dtype.bitwidth)


def _first(builder, vector, count):
    """Which are the first ``count`` lanes."""
    number = ir.IntType(32)
    lanes = ir.Constant(ir.VectorType(number, vector.lanes), [*range(vector.lanes)])
    return builder.icmp_signed(
        "<", lanes, _filled(builder, builder.trunc(count, number), vector.lanes)
    )


def _masked(builder, name, vector, returns, args):
    """Calls ``llvm.masked.load`` or ``llvm.masked.store``."""
    called = ir.FunctionType(returns, [v.type for v in args])
    function = f"llvm.masked.{name}.v{vector.lanes}f{vector.of.bitwidth}.p0"
    return builder.call(cgutils.get_or_insert_function(builder.module, called, function), args)


def _place(context, builder, kind, value, row, column, vector):
    data = arrayobj.make_array(kind)(context, builder, value)
    one = cgutils.get_item_pointer(context, builder, kind, data, [row, column])
    return builder.bitcast(one, vector.held.as_pointer())


@intrinsic
def load(typing, array, row, column, count, other):
    """``array[row, column : column + count]`` on the first lanes, ``other`` on those beyond ``count``."""
    vector = _lanes(array)

    def codegen(context, builder, signature, args):
        place = _place(context, builder, array, args[0], args[1], args[2], vector)
        full = builder.icmp_signed(">=", args[3], args[3].type(vector.lanes))
        with builder.if_else(full, likely=True) as (whole, part):
            with whole:
                a = builder.load(place, align=vector.of.bitwidth // 8)
                from_whole = builder.block
            with part:
                rest = _spread(context, builder, args[4], other, vector)
                mask = _first(builder, vector, args[3])
                given = (place, ir.IntType(32)(vector.of.bitwidth // 8), mask, rest)
                b = _masked(builder, "load", vector, vector.held, given)
                from_part = builder.block
        either = builder.phi(vector.held)
        either.add_incoming(a, from_whole)
        either.add_incoming(b, from_part)
        return either

    return vector(array, types.int64, types.int64, types.int64, other), codegen


@intrinsic
def store(typing, array, row, column, count, value):
    """``array[row, column : column + count] = value``, its first lanes, of the type of ``array``."""
    vector = value

    def codegen(context, builder, signature, args):
        place = _place(context, builder, array, args[0], args[1], args[2], vector)
        full = builder.icmp_signed(">=", args[3], args[3].type(vector.lanes))
        with builder.if_else(full, likely=True) as (whole, part):
            with whole:
                builder.store(args[4], place, align=vector.of.bitwidth // 8)
            with part:
                mask = _first(builder, vector, args[3])
                given = (args[4], place, ir.IntType(32)(vector.of.bitwidth // 8), mask)
                _masked(builder, "store", vector, ir.VoidType(), given)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, types.int64, vector), codegen


@intrinsic
def spread(typing, array, number):
    """``number`` on every lane, in the precision of ``array``."""
    vector = _lanes(array)

    def codegen(context, builder, signature, args):
        return _spread(context, builder, args[1], number, vector)

    return vector(array, number), codegen


@intrinsic
def rounded(typing, array, v):
    """``v`` in the precision of ``array``."""
    to = Vector(array.dtype, v.lanes)

    def codegen(context, builder, signature, args):
        return _resized(builder, args[1], to.held)

    return to(array, v), codegen


@intrinsic
def borrowed(typing, array):
    """``array`` without a count of its references, which the caller holds.

    A function that takes an array counts it, and not all of that is optimised away: in a loop over bags it
    takes as long as some elements, with a counter that all threads share.
    """

    def codegen(context, builder, signature, args):
        view = arrayobj.make_array(array)(context, builder, args[0])
        view.meminfo = ir.Constant(view.meminfo.type, None)
        view.parent = ir.Constant(view.parent.type, None)
        return view._getvalue()

    return array(array), codegen
