"""A hint to the processor, for compiled loops whose next rows are known ahead of time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from numba import types
from numba.extending import intrinsic


def _prefetch(typingctx: Any, column: Any, p: Any) -> Any:
    del typingctx, p

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        from llvmlite import ir  # type: ignore[import-untyped]

        octet, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        array = context.make_array(signature.args[0])(context, builder, args[0])
        size = context.get_constant(types.int64, signature.args[0].dtype.bitwidth // 8)
        at = builder.gep(builder.bitcast(array.data, octet), [builder.mul(args[1], size)])
        kind = ir.FunctionType(ir.VoidType(), [octet, number, number, number])
        hint = builder.module.declare_intrinsic("llvm.prefetch", [octet], kind)
        # For reading, to be kept in all levels of the cache, of data.
        builder.call(hint, [at, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(column, types.int64), codegen


_made: Any = intrinsic(_prefetch)

prefetch = cast("Callable[[Any, Any], None]", _made)
"""Have element `p` of a contiguous column brought into the cache, counted in elements from the
first whatever its shape. Returns at once; any `p` is allowed, inside the column or not.
"""
