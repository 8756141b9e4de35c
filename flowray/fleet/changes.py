"""What differs between two configurations, and whether what runs can take it over as it runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from flowray.settings.model import Settings, View

FIXED: dict[str, str] = {
    "listen": "sockets and sessions stay open",
    "decode.exporters": "exporters keep their numbers",
    "routes": "sessions and tables of RIB groups stay",
    "state": "what runs is kept there",
    "redis": "the connections stay",
    "gateway": "its addresses stay",
    "logs": "set at the start",
    "metrics": "set at the start",
    "archive": "its files stay open",
    "cluster.address": "actors stay on their cluster",
    "cluster.object_store": "Ray takes it at its start",
    "cluster.dashboard": "Ray starts it",
    "cluster.hand_over": "set at the start of a shard",
    "cluster.shard_memory": "set at the start of a shard",
    "maps.fields": "names of fields stay",
}
"""Options that what runs cannot take over, and why. All others are taken over."""

MOVING = ("name", "sinks", "encoding")
"""Options of a view that its shards need not know of, beside its name."""


@dataclass(slots=True)
class Changes:
    """`refused`: a line each; `rows`: views that are folded otherwise than before; `sinks`: views
    whose rows go elsewhere, or are written otherwise; `maps`: files that are read again; `other`:
    options that are taken over.
    """

    refused: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    sinks: list[str] = field(default_factory=list)
    maps: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__slots__)

    def lines(self) -> Iterator[str]:
        """The plan, in words."""
        yield from (f"refused: {line}" for line in self.refused)
        yield from (f"view {name}: added" for name in self.added)
        yield from (f"view {name}: removed" for name in self.removed)
        yield from (f"view {name}: folded anew" for name in self.rows)
        yield from (f"view {name}: its sinks are opened anew" for name in self.sinks)
        yield from (f"maps.{name}: read again" for name in self.maps)
        yield from (f"{place}: changed" for place in self.other)


def changes(old: Settings, new: Settings) -> Changes:
    """What is to be done so that what runs with `old` runs with `new`."""
    found = Changes()
    before = {view.name: view for view in old.views}
    after = {view.name: view for view in new.views}
    found.added = [name for name in after if name not in before]
    found.removed = [name for name in before if name not in after]
    for name in (name for name in after if name in before):
        if _folding(before[name]) != _folding(after[name]):
            found.rows.append(name)
        elif before[name] != after[name] or _sinks(old, name) != _sinks(new, name):
            found.sinks.append(name)
    for place, was, is_ in _differences(old, new):
        reason = next((r for p, r in FIXED.items() if f"{place}.".startswith(f"{p}.")), None)
        if reason is None:
            found.other.append(place)
        else:
            found.refused.append(
                f"{place}: found {_shown(is_)}, allowed {_shown(was)} until a restart: {reason}"
            )
    found.maps = _rewritten(old, new)
    return found


def folded(settings: Settings) -> dict[str, str]:
    """What views are folded into, by name: the same text, the same partials."""
    return {view.name: _digest(_folding(view)) for view in settings.views}


def written(settings: Settings) -> dict[str, str]:
    """How and where the rows of views are written, by name."""
    return {
        view.name: _digest([view.encoding.model_dump(), _sinks(settings, view.name)])
        for view in settings.views
    }


def _folding(view: View) -> dict[str, Any]:
    return view.model_dump(exclude=set(MOVING))


def _sinks(settings: Settings, view: str) -> list[Any]:
    names = next(v.sinks for v in settings.views if v.name == view)
    return [settings.sinks[name] for name in names]


def _differences(old: Settings, new: Settings) -> Iterator[tuple[str, Any, Any]]:
    """Options that differ, views and sinks left out: (place, before, after)."""
    for section in type(old).model_fields:
        if section not in ("views", "sinks"):
            was, is_ = getattr(old, section), getattr(new, section)
            if not isinstance(was, BaseModel) or type(was) is not type(is_):
                if was != is_:
                    yield section, was, is_
                continue
            for name in type(was).model_fields:
                if getattr(was, name) != getattr(is_, name):
                    yield f"{section}.{name}", getattr(was, name), getattr(is_, name)


def _rewritten(old: Settings, new: Settings) -> list[str]:
    """Maps that are the same files: what is in them may have changed, so they are read again."""
    paths = ((n, getattr(old.maps, n), getattr(new.maps, n)) for n in ("labels", "sampling"))
    return [name for name, was, is_ in paths if is_ is not None and was == is_]


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def digest(settings: Settings) -> str:
    """Names a configuration, with what its files of maps hold now. Raises OSError."""
    files = [p for p in (settings.maps.labels, settings.maps.sampling) if p is not None]
    held = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    return _digest([settings.model_dump(mode="json"), held])


def _digest(told: Any) -> str:
    text = json.dumps(told, sort_keys=True, default=lambda model: model.model_dump(mode="json"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
