"""What values in filters mean: readers from an item to intervals of words, one per kind of field.

Every ordered kind is reduced to intervals: a point is an interval of one value, a prefix one of its
addresses, a name for a class of values (``dropped``) one of its members. Equality is then
membership, and so is every comparison.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from ipaddress import IPv6Address
from typing import TypeAlias

from flowray import protocols
from flowray.addresses import address, prefix
from flowray.field import Field, Kind
from flowray.intervals import Interval
from flowray.views.filter_syntax import Item

TCP_FLAGS: Mapping[str, int] = {
    "FIN": 0x001,
    "SYN": 0x002,
    "RST": 0x004,
    "PSH": 0x008,
    "ACK": 0x010,
    "URG": 0x020,
    "ECE": 0x040,
    "CWR": 0x080,
    "AE": 0x100,
}
"""TCP header flags (RFC 9293, section 3.1; AE: RFC 9768)."""

FORWARDING: Mapping[str, Interval] = {
    "unknown": (0, 63),
    "forwarded": (64, 127),
    "dropped": (128, 191),
    "consumed": (192, 255),
}
"""Forwarding status: two bits of status, six of reason (RFC 7270, section 4.12)."""

DIRECTIONS: Mapping[str, int] = {
    "i": 0,
    "ingress": 0,
    "e": 1,
    "egress": 1,
    "u": 255,
    "unknown": 255,
}
"""Sampling direction (IPFIX element 61); the letters are what rows print."""

_DECIMAL = re.compile(r"[0-9]{1,20}")
_HEX = re.compile(r"0[xX][0-9A-Fa-f]{1,16}")
_BARE_HEX = re.compile(r"[0-9A-Fa-f]{1,16}")
_MAC = re.compile(
    r"[0-9A-Fa-f]{2}(?:([:-])[0-9A-Fa-f]{2})(?:\1[0-9A-Fa-f]{2}){4}|[0-9A-Fa-f]{4}(?:\.[0-9A-Fa-f]{4}){2}"
)
_OCTETS = re.compile(r"0[xX](?:[0-9A-Fa-f]{2})+")


_SECONDS = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class LiteralError(ValueError):
    """A value that a field cannot be compared with; the text says why."""


def suggest(word: str, known: Iterable[str]) -> str:
    """``did you mean x?`` for the nearest known word, or nothing."""
    near = difflib.get_close_matches(word[:64], list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


def _integer(text: str) -> int | None:
    if _DECIMAL.fullmatch(text):
        return int(text)
    return int(text, 16) if _HEX.fullmatch(text) else None


def _fitting(value: int, field: Field, text: str) -> int:
    if value >> field.bits:
        raise LiteralError(f"{text} does not fit {field.name}, which has {field.bits} bits")
    return value


def _number(text: str, field: Field) -> int:
    value = _integer(text)
    if value is None:
        raise LiteralError(f"{text!r} is not a number, as {field.name} wants")
    return _fitting(value, field, text)


def _hexadecimal(text: str, field: Field) -> int:
    if not _BARE_HEX.fullmatch(text) and not _HEX.fullmatch(text):
        raise LiteralError(f"{text!r} is not hexadecimal, as {field.name} is")
    return _fitting(int(text, 16), field, text)


def _range(text: str, field: Field, point: Callable[[str, Field], int]) -> Interval:
    first, hyphen, last = text.partition("-")
    if hyphen and not (first and last):
        raise LiteralError(f"{text!r} is half a range")
    low = point(first, field)
    high = point(last, field) if hyphen else low
    if low > high:
        raise LiteralError(f"the range {text} is empty")
    return low, high


def _numeric(text: str, field: Field) -> Interval:
    return _range(text, field, _number)


def _hex(text: str, field: Field) -> Interval:
    return _range(text, field, _hexadecimal)


def _protocol(text: str, field: Field) -> Interval:
    known = protocols.number(text)
    if known is not None:
        return known, known
    if text[:1].isdigit():
        return _numeric(text, field)
    raise LiteralError(f"unknown protocol {text!r}{suggest(text.lower(), protocols.NAMES)}")


def _forwarding(text: str, field: Field) -> Interval:
    named = FORWARDING.get(text.lower())
    if named is not None:
        return named
    if text[:1].isdigit():
        return _numeric(text, field)
    raise LiteralError(f"unknown status {text!r}; a number or one of {', '.join(FORWARDING)}")


def _direction(text: str, field: Field) -> Interval:
    value = DIRECTIONS.get(text.lower())
    if value is None and not text[:1].isdigit():
        raise LiteralError(f"unknown direction {text!r}; one of {', '.join(DIRECTIONS)}")
    return _numeric(text, field) if value is None else (value, value)


def _flags(text: str, field: Field) -> Interval:
    bits = 0
    for part in text.split("+"):
        value = TCP_FLAGS.get(part.upper())
        if value is None:
            value = _integer(part)
        if value is None:
            raise LiteralError(f"unknown flag {part!r}; a number or {'+'.join(TCP_FLAGS)}")
        bits |= _fitting(value, field, part)
    return bits, bits


def _mac(text: str, _field: Field) -> Interval:
    if not _MAC.fullmatch(text):
        raise LiteralError(f"{text!r} is not a MAC address")
    value = int(re.sub("[^0-9A-Fa-f]", "", text), 16)
    return value, value


def _address(text: str, field: Field) -> tuple[Interval, ...]:
    first, hyphen, last = text.partition("-")
    try:
        if not hyphen:
            return prefix(text)
        low, high = address(first), address(last)
    except ValueError:
        wanted = f"an address or prefix, as {field.name} wants"
        raise LiteralError(f"{text!r} is not {wanted}") from None
    if low > high:
        raise LiteralError(f"the range {text} is empty")
    return ((low, high),)


def _time(text: str, field: Field) -> Interval:
    """RFC 3339 time (UTC unless it says otherwise), or seconds since the epoch."""
    try:
        nanoseconds = int(Decimal(text) * 10**9) if _SECONDS.fullmatch(text) else _calendar(text)
    except (ValueError, OverflowError, InvalidOperation):
        raise LiteralError(
            f"{text!r} is not a time, as {field.name} wants (2024-05-01T12:00:00Z or seconds)"
        ) from None
    if not 0 <= nanoseconds < 1 << 63:
        raise LiteralError(f"{text} is not a time that {field.name} can hold")
    return nanoseconds, nanoseconds


def _calendar(text: str) -> int:
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


_Reader: TypeAlias = Callable[[str, Field], Interval]


def _single(reader: _Reader) -> Callable[[str, Field], tuple[Interval, ...]]:
    return lambda text, field: (reader(text, field),)


INTERVALS: Mapping[Kind, Callable[[str, Field], tuple[Interval, ...]]] = {
    Kind.UINT: _single(_numeric),
    Kind.DIRECTION: _single(_direction),
    Kind.HEX: _single(_hex),
    Kind.PROTOCOL: _single(_protocol),
    Kind.FORWARDING: _single(_forwarding),
    Kind.FLAGS: _single(_flags),
    Kind.MAC: _single(_mac),
    Kind.TIME: _single(_time),
    Kind.ADDRESS: _address,
}
"""Readers of the kinds whose words are values. Each raises `LiteralError`."""


def _text(item: Item, _field: Field) -> bytes:
    try:
        return item.text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raise LiteralError(f"{item.text!r} is not text") from None


def _octets(item: Item, field: Field) -> bytes:
    if item.quoted:
        return _text(item, field)
    if not _OCTETS.fullmatch(item.text):
        raise LiteralError(f"{item.text!r} is not octets; write 0x0a0b or a quoted string")
    return bytes.fromhex(item.text[2:])


def _labels(item: Item, field: Field) -> bytes:
    """``69,24305``: the stack from its top, as four bytes a label: position and label value."""
    labels = [_integer(part.strip()) for part in item.text.split(",")] if item.text else []
    if len(labels) > 255 or not all(label is not None and label < 1 << 20 for label in labels):
        raise LiteralError(f"{item.text!r} is not a list of labels, as {field.name} wants")
    return b"".join(((i << 24) | (label or 0)).to_bytes(4) for i, label in enumerate(labels))


def _segments(item: Item, field: Field) -> bytes:
    """``2001:db8::1,2001:db8::2``: the segment list, 16 bytes a segment."""
    parts = item.text.split(",") if item.text else []
    try:
        return b"".join(IPv6Address(part.strip()).packed for part in parts)
    except ValueError:
        wanted = f"a list of IPv6 addresses, as {field.name} wants"
        raise LiteralError(f"{item.text!r} is not {wanted}") from None


STRINGS: Mapping[Kind, Callable[[Item, Field], bytes]] = {
    Kind.TEXT: _text,
    Kind.WORDS: _text,
    Kind.BYTES: _octets,
    Kind.LABELS: _labels,
    Kind.SEGMENTS: _segments,
}
"""Readers of the kinds whose words are ids of interned strings. Each raises `LiteralError`."""
