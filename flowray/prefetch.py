"""Cache lines asked for ahead of their use, by compiled loops.

A loop whose loads all miss the cache waits for the memory every some hundred instructions. One that
asked for its lines a block of rows earlier finds them there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

READ, KEEP, DATA = 0, 3, 1
"""Arguments of llvm.prefetch: what for, in which cache, of what."""


def _prefetch(typingctx: Any, array: Any, i: Any) -> Any:
    del typingctx

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        memory = context.make_array(signature.args[0])(context, builder, args[0]).data
        octet, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [octet, number, number, number])
        ask = builder.module.declare_intrinsic("llvm.prefetch", [octet], kind)
        line = builder.bitcast(builder.gep(memory, [args[1]]), octet)
        builder.call(ask, [line, *(ir.Constant(number, n) for n in (READ, KEEP, DATA))])
        return context.get_dummy_value()

    return types.void(array, i), codegen


_made: Any = intrinsic(_prefetch)

prefetch = cast("Callable[[Any, Any], None]", _made)
"""Ask for the line of the i-th item of an array in C order. Never fails, whatever i is."""
