"""Route distinguishers as text."""

from __future__ import annotations

__all__ = ["rd_text"]


def rd_text(raw: int) -> str:
    """A route distinguisher as type:administrator:number (RFC 4364 section 4.2)."""
    kind, rest = raw >> 48, raw & 0xFFFFFFFFFFFF
    if kind == 0:
        return f"0:{rest >> 32}:{rest & 0xFFFFFFFF}"
    if kind == 1:
        address = rest >> 16
        dotted = ".".join(str(address >> s & 255) for s in (24, 16, 8, 0))
        return f"1:{dotted}:{rest & 0xFFFF}"
    return f"{kind}:{rest >> 16}:{rest & 0xFFFF}"
