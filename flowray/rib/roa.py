"""Route origin validation: which AS may originate which prefix (RFC 6811)."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from flowray.errors import ConfigError
from flowray.rib import roa_kernels as kernels

__all__ = ["STATE_CODES", "RoaSet", "RoaState", "less_specific_states", "load_roas"]

U8: TypeAlias = npt.NDArray[np.uint8]
U32: TypeAlias = npt.NDArray[np.uint32]
U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]

_MAPPED = 0xFFFF
_WORD = (1 << 64) - 1
_LAST_AS = (1 << 32) - 1


class RoaState(IntEnum):
    """Validation state of a route (RFC 6811 section 2), an invalid one further told apart."""

    UNKNOWN = kernels.UNKNOWN
    """No payload covers the prefix (NotFound)."""
    VALID = kernels.VALID
    """A payload that covers the prefix matches the route."""
    INVALID = kernels.INVALID
    """Payloads cover the prefix, and none matches."""
    INVALID_UNDER_VALID = kernels.INVALID_UNDER_VALID
    """Invalid; of the prefixes that contain this one and for which the peer has a route that is not
    invalid, the nearest has a valid one."""
    INVALID_UNDER_UNKNOWN = kernels.INVALID_UNDER_UNKNOWN
    """The same, and the nearest has an unknown one."""


STATE_CODES = "uviVU"
"""One letter for each `RoaState`, as rows show it."""


@dataclass(frozen=True, slots=True)
class _Forest:
    """n distinct prefixes, sorted, and where each one's rows begin (n + 1,)."""

    hi: U64
    lo: U64
    bits: U8
    parents: I64
    begin: I64

    @classmethod
    def of(cls, hi: U64, lo: U64, bits: U8) -> Self:
        """From rows that are sorted by prefix."""
        new = np.ones(len(hi), np.bool_)
        new[1:] = (np.diff(hi) != 0) | (np.diff(lo) != 0) | (np.diff(bits) != 0)
        first = np.flatnonzero(new)
        hi, lo, bits, begin = hi[first], lo[first], bits[first], np.append(first, len(hi))
        parents = np.empty(len(first), np.int64)
        kernels.find_parents(hi, lo, bits, parents)
        return cls(hi, lo, bits, parents, begin)


class RoaSet:
    """Validated ROA payloads, immutable, made for validating many routes at once.

    Columns are (n,): `asn` uint32, `hi` and `lo` uint64 (IPv4 as v4-mapped), `plen` and
    `max_length` uint8 in bits of the address. Repeated payloads count once.
    """

    def __init__(self, asn: U32, hi: U64, lo: U64, plen: U8, max_length: U8) -> None:
        v4 = _is_v4(hi, lo)
        bits, longest = _bits(plen, v4), _bits(max_length, v4)
        order = np.lexsort((longest, asn, bits, lo, hi))
        asn, hi, lo, bits = asn[order], hi[order], lo[order], bits[order]
        longest = longest[order]
        new = np.ones(len(asn), np.bool_)
        for column in (asn, hi, lo, bits, longest):
            new[1:] &= column[1:] == column[:-1]
        new[1:] = ~new[1:]
        self._forest = _Forest.of(hi[new], lo[new], bits[new])
        self._asn, self._longest = asn[new], longest[new]

    @classmethod
    def empty(cls) -> Self:
        """No payloads: every route is unknown."""
        zero = np.zeros(0, np.uint64)
        small = np.zeros(0, np.uint8)
        return cls(np.zeros(0, np.uint32), zero, zero, small, small)

    def __len__(self) -> int:
        return len(self._asn)

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """The columns that it is made of, by the names of the parameters, without repeats."""
        forest = self._forest
        row = np.repeat(np.arange(len(forest.hi)), np.diff(forest.begin))
        hi, lo = forest.hi[row], forest.lo[row]
        mapped = np.where(_is_v4(hi, lo), np.uint8(96), np.uint8(0))
        plen, longest = forest.bits[row] - mapped, self._longest - mapped
        return {"asn": self._asn, "hi": hi, "lo": lo, "plen": plen, "max_length": longest}

    def validate(self, hi: U64, lo: U64, plen: U8, origin_as: U32) -> U8:
        """(n,) uint8 `RoaState` of n routes: UNKNOWN, VALID or INVALID.

        Prefixes are as in `RouteEvents`, host bits zero. `origin_as` is the origin (RFC 6811
        section 2): the last AS of the path; 0, which matches nothing, if the path ends in an
        AS_SET; for an empty path the AS of the collector's side.
        """
        state = np.empty(len(hi), np.uint8)
        forest = self._forest
        kernels.validate(
            forest.hi, forest.lo, forest.bits, forest.parents, forest.begin, self._asn,
            self._longest, hi, lo, _bits(plen, _is_v4(hi, lo)), origin_as, state,
        )  # fmt: skip
        return state


def less_specific_states(hi: U64, lo: U64, plen: U8, state: U8) -> U8:
    """The states (n,) of the routes of one peer and family, the invalid ones told apart by what it
    announces for prefixes that contain theirs.
    """
    bits = _bits(plen, _is_v4(hi, lo))
    order = np.lexsort((bits, lo, hi))
    forest = _Forest.of(hi[order], lo[order], bits[order])
    told = state.copy()
    kernels.overlaps(forest.parents, forest.begin, order, told)
    return told


def load_roas(path: str | os.PathLike[str]) -> RoaSet:
    """Read a file ``{"roas": [{"asn": …, "prefix": …, "maxLength": …}, …]}``, as rpki-client,
    Routinator and RIPE's validator write it.

    `asn` is a number or a text like "AS64496"; without `maxLength` a payload is for its prefix
    alone. Raises ConfigError, which tells file and place, for anything else.
    """
    name = os.fspath(path)
    try:
        told = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise ConfigError(name, "file", str(error.strerror), "a readable file") from error
    except ValueError as error:
        raise ConfigError(name, "file", f"no JSON ({error})", "a JSON object") from error
    roas = told.get("roas") if isinstance(told, dict) else None
    if not isinstance(roas, list):
        raise ConfigError(name, "roas", _word(roas), "a list of ROAs")
    rows = []
    for i, roa in enumerate(roas):
        try:
            rows.append(_payload(roa))
        except _WrongError as wrong:
            place = f"roas[{i}]{wrong.place}"
            raise ConfigError(name, place, wrong.found, wrong.allowed) from wrong
    asn, hi, lo, plen, longest = np.array(rows, np.uint64).reshape(-1, 5).T
    return RoaSet(asn.astype(np.uint32), hi, lo, plen.astype(np.uint8), longest.astype(np.uint8))


@dataclass
class _WrongError(Exception):
    place: str
    found: str
    allowed: str


def _payload(roa: Any) -> tuple[int, int, int, int, int]:
    """(AS, hi, lo, length, longest length) of an element of `roas`."""
    if not isinstance(roa, dict):
        raise _WrongError("", _word(roa), "an object with asn, prefix and maxLength")
    hi, lo, plen, most = _prefix(roa.get("prefix"))
    longest = roa.get("maxLength", plen)
    if type(longest) is not int or not plen <= longest <= most:
        raise _WrongError(".maxLength", _word(longest), f"{plen} to {most}")
    return _as_number(roa.get("asn")), hi, lo, plen, longest


def _as_number(told: Any) -> int:
    number = told
    if isinstance(told, str):
        digits = told[2:] if told[:2].upper() == "AS" else told
        number = int(digits) if digits.isascii() and digits.isdigit() else -1
    if type(number) is not int or not 0 <= number <= _LAST_AS:
        raise _WrongError(".asn", _word(told), f"AS number, 0 to {_LAST_AS}")
    return number


def _prefix(told: Any) -> tuple[int, int, int, int]:
    """(hi, lo, length, longest possible length)."""
    text, slash, length = str(told).partition("/")
    six = ":" in text
    most = 128 if six else 32
    try:
        raw = socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, text)
    except (OSError, ValueError):
        raw = b""
    digits = length.isascii() and length.isdigit()
    if not raw or not slash or not digits or len(length) > 3 or int(length) > most:
        raise _WrongError(".prefix", _word(told), "an IP prefix")
    plen, value = int(length), int.from_bytes(raw, "big")
    if value & ((1 << (most - plen)) - 1):
        raise _WrongError(".prefix", _word(told), "an IP prefix without host bits")
    value |= 0 if six else _MAPPED << 32
    return value >> 64, value & _WORD, plen, most


def _word(value: Any) -> str:
    """What stands there, short."""
    if value is None:
        return "nothing"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_v4(hi: U64, lo: U64) -> npt.NDArray[np.bool_]:
    v4: npt.NDArray[np.bool_] = (hi == 0) & (lo >> np.uint64(32) == _MAPPED)
    return v4


def _bits(plen: U8, v4: npt.NDArray[np.bool_]) -> U8:
    """Lengths on the line of 128-bit addresses."""
    return plen + np.where(v4, np.uint8(96), np.uint8(0))
