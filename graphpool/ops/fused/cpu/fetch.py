"""Asking for rows ahead of time: the hardware does not foresee rows that an index names."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic, register_jitable

AHEAD = 32
"""How many rows ahead to ask: long enough for memory to answer, short enough to stay in cache."""


@intrinsic
def _prefetch(typing_context: Any, array: Any, row: Any, column: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        from llvmlite import ir
        from numba.core import cgutils
        from numba.np import arrayobj

        kind = signature.args[0]
        data = arrayobj.make_array(kind)(context, builder, args[0])
        at = cgutils.get_item_pointer(context, builder, kind, data, [args[1], args[2]])
        number, pointer = ir.IntType(32), ir.PointerType(ir.IntType(8))
        signature_ = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        ask = cgutils.get_or_insert_function(builder.module, signature_, "llvm.prefetch.p0")
        # To read, keep it in all caches, data.
        builder.call(ask, [builder.bitcast(at, pointer), number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), codegen


@register_jitable(forceinline=True)
def fetch_row(array, row):  # type: ignore[no-untyped-def]
    """Asks for ``array[row]``, which is read soon."""
    for column in range(0, array.shape[1], 64 // array.itemsize):
        _prefetch(array, row, column)  # type: ignore[call-arg]
