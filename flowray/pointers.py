"""Reads at addresses, for compiled loops over arrays of which only a table of addresses is passed.

A loop that is given each array needs all of one kind in a single one. One that is given addresses
goes over as many as there are, wherever they are mapped. The caller keeps the arrays alive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, cast

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from flowray.prefetch import DATA, KEEP, READ

Read: TypeAlias = Callable[[Any, Any], Any]


def _reader(bits: int) -> Read:
    """A read of the i-th number of so many bits behind an address, as uint64."""
    kind = ir.IntType(bits)

    def read(typingctx: Any, address: Any, i: Any) -> Any:
        del typingctx, address, i

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            del context, signature
            first = builder.inttoptr(args[0], kind.as_pointer())
            number = builder.load(builder.gep(first, [args[1]]), align=bits // 8)
            return number if bits == 64 else builder.zext(number, ir.IntType(64))

        return types.uint64(types.uint64, types.int64), codegen

    made: Any = intrinsic(read)
    return cast("Read", made)


word_at, half_at = _reader(64), _reader(32)


def _prefetch_at(typingctx: Any, address: Any) -> Any:
    del typingctx, address

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        del signature
        octet, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [octet, number, number, number])
        ask = builder.module.declare_intrinsic("llvm.prefetch", [octet], kind)
        line = builder.inttoptr(args[0], octet)
        builder.call(ask, [line, *(ir.Constant(number, n) for n in (READ, KEEP, DATA))])
        return context.get_dummy_value()

    return types.void(types.uint64), codegen


_made: Any = intrinsic(_prefetch_at)

prefetch_at = cast("Callable[[Any], None]", _made)
"""Ask for the line at an address. Never fails, whatever it is."""
