"""Numpy views of Arrow arrays and back, without copies; null slots are told apart by masks."""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = [
    "Array",
    "Mask",
    "dense",
    "from_numpy",
    "frozen",
    "masked",
    "null_mask",
    "text",
    "text_array",
    "validity",
]

Array: TypeAlias = "pa.Array[Any]"
Scalar = TypeVar("Scalar", bound=np.generic)
Mask: TypeAlias = npt.NDArray[np.bool_]


def dense(array: Array) -> npt.NDArray[Any]:
    """Values of a fixed-width array: (n,) of its numpy type, (n, width) uint8 if it is binary.

    What stands in null slots is arbitrary.
    """
    data = array.buffers()[1]
    kind = array.type
    if pa.types.is_boolean(kind):
        bits = np.unpackbits(_bytes(data), bitorder="little")
        return bits[array.offset : array.offset + len(array)].astype(np.bool_)
    if pa.types.is_fixed_size_binary(kind):
        width = kind.byte_width
        raw = _bytes(data)[array.offset * width : (array.offset + len(array)) * width]
        return raw.reshape(len(array), width)
    values: npt.NDArray[Any] = _bytes(data).view(np.dtype(kind.to_pandas_dtype()))
    return values[array.offset : array.offset + len(array)]


def _bytes(data: pa.Buffer | None) -> npt.NDArray[np.uint8]:
    return frozen(np.frombuffer(b"" if data is None else data, np.uint8))


def frozen(array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """A view that cannot be written.

    To numba it is another type: kernels get all their inputs so, or they would be compiled for
    each mixture of arrays of Arrow and of numpy.
    """
    view = array.view()
    view.flags.writeable = False
    return view


def null_mask(array: Array) -> Mask | None:
    """(n,) bool, true where the array is null; None if it never is."""
    if array.null_count == 0:
        return None
    mask: Mask = array.is_null().to_numpy(zero_copy_only=False)
    return mask


def from_numpy(values: npt.NDArray[Any], mask: Mask | None = None) -> Array:
    """An array of these values, null where the mask is true."""
    array: Array = pa.array(values, mask=mask)
    return array


def validity(mask: Mask | None) -> pa.Buffer | None:
    """Arrow validity bitmap of a null mask."""
    if mask is None or not mask.any():
        return None
    return pa.py_buffer(np.packbits(~mask, bitorder="little"))


def masked(array: Array, mask: Mask | None) -> Array:
    """A fixed-width array (not boolean) with the slots of `mask` null, sharing the values."""
    if mask is None or not mask.any():
        return array
    data = pa.py_buffer(np.ascontiguousarray(dense(array)))
    return pa.Array.from_buffers(array.type, len(array), [validity(mask), data])


def text(array: Array) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """Offsets (n + 1,) int32 and the bytes that they cut, of a string or binary array."""
    buffers = array.buffers()
    offsets = _bytes(buffers[1]).view(np.int32)[array.offset : array.offset + len(array) + 1]
    if len(offsets) == 0:
        offsets = frozen(np.zeros(1, np.int32))
    return offsets, _bytes(buffers[2])


def text_array(
    offsets: npt.NDArray[np.int32], data: npt.NDArray[np.uint8], mask: Mask | None = None
) -> Array:
    """A string array of these offsets and UTF-8 bytes."""
    buffers = [validity(mask), pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.string(), len(offsets) - 1, buffers)
