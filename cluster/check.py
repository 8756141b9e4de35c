"""What a configuration would run, in words."""

from __future__ import annotations

from flowray.filesystems import shown
from flowray.settings.compile import Program
from flowray.views.view import ViewPlan


def _seconds(ns: int) -> str:
    return f"{ns / 1e9:g}s"


def _view(program: Program, plan: ViewPlan) -> str:
    settings = next(v for v in program.settings.views if v.name == plan.name)
    parts = [f"view {plan.name}: {', '.join(f.name for f in plan.fields)}"]
    if plan.windows is None:
        parts.append("one row a counter block" if plan.of == "counters" else "one row a record")
    else:
        by = "start of the flow" if plan.by_start else "arrival"
        parts.append(f"windows of {_seconds(plan.windows.width)} by {by}")
        if plan.windows.lateness:
            parts.append(f"late by up to {_seconds(plan.windows.lateness)}")
        parts.append(f"at most {plan.max_keys} keys")
    if settings.filter:
        parts.append(f"where {settings.filter}")
    if plan.sample > 1:
        parts.append(f"one record in {plan.sample}")
    parts.append(f"to {', '.join(settings.sinks) or 'no sink'}")
    return "; ".join(parts)


def describe(program: Program) -> list[str]:
    """One line per listener, RIB group, view, stream and sink."""
    settings = program.settings
    lines = [f"listen {url}" for url in settings.listen.flows]
    for group in settings.route_groups:
        told = {"bgp": group.bgp, "bmp": group.bmp, "looking glass": group.looking_glass}
        places = ", ".join(f"{name} {place}" for name, place in told.items() if place)
        lines.append(f"routes {group.name}: {places}")
    lines += [_view(program, plan) for plan in program.views]
    lines += [
        f"stream {name}: to {', '.join(stream.sinks) or 'no sink'}"
        for name, stream in program.streams.items()
    ]
    lines += [
        f"sink {name}: {sink.type} at {shown(sink.path)}" for name, sink in settings.sinks.items()
    ]
    if (redis := settings.redis) is not None:
        how = "TLS" if redis.tls else "no TLS"
        every = _seconds(settings.live.interval)
        lines.append(f"live views: Redis at {redis.place}, {how}; every {every}")
    lines.append(f"state at {shown(settings.state.path)}")
    if (kept := settings.state.snapshots) is not None:
        place = shown(settings.state.shelf)
        lines.append(f"snapshots of it every {_seconds(kept.every)}, {kept.keep} kept, at {place}")
    return lines
