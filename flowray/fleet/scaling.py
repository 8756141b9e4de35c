"""How many shards a node should have, from the load that its shards tell: a pure function with
hysteresis, so that a number stays until the load has clearly changed for a while.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

BUSY, CALM = 0.75, 0.40
"""Share of a core that the busiest shard uses, above which one more is wanted; and below which the
rest must stay if there were one less.
"""

FULL = 0.5
"""Share of a receive buffer in use that asks for one more."""

RISE_SECONDS, FALL_SECONDS = 10.0, 300.0
"""How long the load must ask for more, or be small enough for less, without a pause. Drops by the
kernel ask at once.
"""

SETTLE_SECONDS = 30.0
"""After a change, how long the load is not looked at: exporters are spread anew meanwhile."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the shards of a node told since the last look: share of a core used by each of their
    receive threads, of the fullest receive buffer, and datagrams that the kernel dropped.
    """

    busy: tuple[float, ...]
    buffer_full: float = 0.0
    drops: int = 0


@dataclass(frozen=True, slots=True)
class Scale:
    """The number of shards wanted, and since when the load asks for another one (s)."""

    shards: int
    more_since: float | None = None
    fewer_since: float | None = None
    settled_at: float = float("-inf")


def scaled(scale: Scale, load: Load, now: float, least: int, most: int) -> Scale:
    """The scale after a look at the load at a time `now` (s). One step at a time, within bounds."""
    shards = min(max(scale.shards, least), most)
    if shards != scale.shards:
        return _changed(shards, now)
    if now < scale.settled_at or len(load.busy) < shards:
        # Some are starting: what the others tell says nothing about them all.
        return replace(scale, more_since=None, fewer_since=None)
    more = load.drops > 0 or max(load.busy) > BUSY or load.buffer_full > FULL
    fewer = not more and shards > 1 and sum(load.busy) / (shards - 1) < CALM
    more_since = (now if scale.more_since is None else scale.more_since) if more else None
    fewer_since = (now if scale.fewer_since is None else scale.fewer_since) if fewer else None
    if more_since is not None and shards < most:
        if load.drops or now - more_since >= RISE_SECONDS:
            return _changed(shards + 1, now)
    elif fewer_since is not None and shards > least and now - fewer_since >= FALL_SECONDS:
        return _changed(shards - 1, now)
    return replace(scale, more_since=more_since, fewer_since=fewer_since)


def _changed(shards: int, now: float) -> Scale:
    return Scale(shards, settled_at=now + SETTLE_SECONDS)


def no_room(scale: Scale, load: Load, now: float, most: int) -> bool:
    """Whether a node is as big as it may be and still has too much to do: others should help."""
    if scale.shards < most or scale.more_since is None:
        return False
    return load.drops > 0 or now - scale.more_since >= RISE_SECONDS
