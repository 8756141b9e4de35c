"""Snapshots in parts, so that what two of them share is handed on once."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from flowray.rib.snapshot import Snapshot

Array: TypeAlias = npt.NDArray[Any]

LARGE = 1 << 20
"""Octets from which on an array is handed on by itself."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A snapshot: what it is made of, without arrays, and these: `small` and `large` ones.

    Arrays of tables that have not changed are the same ones each time, by their address, as long as
    a snapshot that has them is kept.
    """

    skeleton: bytes
    small: list[Array]
    large: list[Array]


class _Packer(pickle.Pickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.small: list[Array] = []
        self.large: list[Array] = []

    def persistent_id(self, obj: Any) -> tuple[bool, int] | None:
        if not isinstance(obj, np.ndarray):
            return None
        large = obj.nbytes >= LARGE
        arrays = self.large if large else self.small
        arrays.append(obj)
        return large, len(arrays) - 1


class _Unpacker(pickle.Unpickler):
    def __init__(self, skeleton: bytes, small: Sequence[Array], large: Sequence[Array]) -> None:
        super().__init__(io.BytesIO(skeleton))
        self._arrays = small, large

    def persistent_load(self, pid: Any) -> Array:
        large, number = pid
        array: Array = self._arrays[large][number]
        return array


def pack(snapshot: Snapshot) -> Packed:
    """Take a snapshot apart."""
    file = io.BytesIO()
    packer = _Packer(file)
    packer.dump(snapshot)
    return Packed(file.getvalue(), packer.small, packer.large)


def unpack(packed: Packed) -> Snapshot:
    """Put a snapshot together; its arrays are those that are given. What it comes from must be our
    own: it may name any code.
    """
    snapshot: Snapshot = _Unpacker(packed.skeleton, packed.small, packed.large).load()
    return snapshot
