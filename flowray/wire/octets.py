"""Big-endian numbers in a buffer, for compiled loops: one load and one byte swap each.

The shifts and ors that would say the same in plain Python become a load per octet, and keep a loop
over records from being vectorised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, cast

from numba import config, types
from numba.extending import intrinsic

Load: TypeAlias = Callable[[Any, Any], Any]


def _load(bits: int) -> Load:
    """A load of so many bits at an octet offset, as uint64. The caller keeps it inside `buf`."""
    unsigned = types.Integer.from_bitwidth(bits, signed=False)

    def load(typingctx: Any, buf: Any, p: Any) -> Any:
        del typingctx, p

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            array = context.make_array(signature.args[0])(context, builder, args[0])
            if getattr(config, "BOUNDSCHECK", None):
                _check(context, builder, array, args[1], bits // 8)
            kind = context.get_value_type(unsigned).as_pointer()
            at = builder.bitcast(builder.gep(array.data, [args[1]]), kind)
            number = builder.load(at, align=1)
            if bits > 8:
                number = builder.bswap(number)
            return context.cast(builder, number, unsigned, types.uint64)

        return types.uint64(buf, types.int64), codegen

    made: Any = intrinsic(load)
    return cast("Load", made)


def _check(context: Any, builder: Any, array: Any, p: Any, width: int) -> None:
    """As numba does for an index in a build with bounds checks: IndexError."""
    size = builder.extract_value(array.shape, 0)
    last = builder.add(p, context.get_constant(types.int64, width))
    below = builder.icmp_signed("<", p, context.get_constant(types.int64, 0))
    beyond = builder.icmp_signed(">", last, size)
    with builder.if_then(builder.or_(below, beyond), likely=False):
        context.call_conv.return_user_exc(builder, IndexError, ("load is out of bounds",))


u8, u16, u32, u64 = _load(8), _load(16), _load(32), _load(64)
