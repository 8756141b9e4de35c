"""Durations and sizes as operators write them: 500ms, 10s, 5m, 1h, 1d; 64KiB, 16MiB, 1GiB."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

_NANOSECONDS = {
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}
_OCTETS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_LARGEST = 1 << 62
"""Octets or nanoseconds; times are added to it in signed words."""
_NUMBER = re.compile(r"(\d+)\s*([A-Za-z]*)")


def _quantity(value: Any, units: dict[str, int], example: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and "" in units:
        return value
    match = _NUMBER.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise ValueError(
            f"a number with a unit ({', '.join(filter(None, units))}), such as {example}"
        )
    quantity = int(match[1]) * units[match[2]]
    if quantity > _LARGEST:
        raise ValueError(f"less, such as {example}: it must fit 62 bits")
    return quantity


def duration_ns(value: Any) -> int:
    """Nanoseconds of a duration. Raises ValueError."""
    return _quantity(value, _NANOSECONDS, "5m")


def octets(value: Any) -> int:
    """Octets of a size. Raises ValueError."""
    return _quantity(value, _OCTETS, "16MiB")


Duration = Annotated[int, BeforeValidator(duration_ns)]
"""Nanoseconds."""

Octets = Annotated[int, BeforeValidator(octets)]
