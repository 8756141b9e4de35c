"""`flowray replay --workers N`: captures decoded by actors, each for its share of the exporters.

Every worker reads all captures, which costs little beside decoding, and keeps the datagrams of its
exporters; so each exporter's templates and options stay in the order of the capture. The workers'
watermarks are how far they have read. Partials come back as Arrow tables and are merged here, hence
the rows are those of a replay in one process, whatever N is. Routes are followed by all workers;
the rows of their streams come from the first.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from cluster.replay import sinks_for
from cluster.runtime import own_runtime
from cluster.topology import absolute
from flowray.replay import Summary, summarise
from flowray.rib.streams import Stream
from flowray.settings.compile import Program
from flowray.sinks.files import FileKind
from flowray.views.aggregate import Aggregator


def replay_on_ray(
    program: Program,
    inputs: Sequence[Path],
    out: Path | None,
    kind: FileKind,
    workers: int,
    *,
    quiet: bool = False,
) -> Summary:
    """Replay on a Ray of its own. Raises CaptureError for a file that cannot be read at all."""
    with own_runtime(absolute(program.settings), cores=workers):
        return replay_on(program, inputs, out, kind, workers, quiet=quiet)


def replay_on(
    program: Program,
    inputs: Sequence[Path],
    out: Path | None,
    kind: FileKind,
    workers: int,
    *,
    quiet: bool = False,
) -> Summary:
    """Replay on the Ray that this process is connected to."""
    from actors.replay import ReplayActor

    settings = absolute(program.settings)
    paths = [path.absolute() for path in inputs]
    actors = [ReplayActor.remote(settings, paths, n, workers) for n in range(workers)]
    return merged(program, actors, out, kind, quiet=quiet)


def merged(
    program: Program, actors: Sequence[Any], out: Path | None, kind: FileKind, *, quiet: bool
) -> Summary:
    """Have workers go on to their end, and merge what comes of it."""
    import ray

    started = (time.monotonic(), time.process_time())
    workers = len(actors)
    outputs = sinks_for(program, out, kind)
    streams = {name: Stream(name, outputs(name, 0)) for name in program.streams}
    aggregators = {
        (plan.name, p): Aggregator(plan, outputs(plan.name, p), p, map(str, range(workers)))
        for plan in program.views
        for p in range(plan.partitions)
    }
    with outputs.discarded_on_error(), _bar(quiet=quiet) as bar:
        task = bar.add_task("replay", total=None)
        moving = {actor.step.remote(): actor for actor in actors}
        done = dict.fromkeys(actors, (0, 0))
        while moving:
            (ref,), _ = ray.wait(list(moving))
            actor = moving.pop(ref)
            step = _checked(ref)
            done[actor] = step.octets
            if step.more:
                moving[actor.step.remote()] = actor
            for partial in step.partials:
                aggregators[partial.view, partial.partition].merge(partial)
            for name, commits in step.rows.items():
                for commit in commits:
                    streams[name].take(*commit)
                streams[name].store()
            for aggregator in aggregators.values():
                aggregator.advance()
            read, total = min(done.values())
            bar.update(task, completed=read, total=total or None)
    ends = ray.get([actor.end.remote() for actor in actors])
    for aggregator in aggregators.values():
        aggregator.close()
    for stream in streams.values():
        stream.close()
    summary = summarise(
        [end["ledger"] for end in ends],
        sum(end["sets_held"] for end in ends),
        list(aggregators.values()),
        started,
    )
    summary.unstored += [line for stream in streams.values() if (line := stream.unstored)]
    summary.captures = ends[0]["captures"]
    summary.missing = max(end.get("missing", 0) for end in ends)
    summary.cpu_seconds += sum(end["cpu_seconds"] for end in ends)
    return summary


def _checked(ref: Any) -> Any:
    """The answer of a worker; an operator's mistake comes out as what it was."""
    import ray
    from ray.exceptions import RayTaskError

    from flowray.errors import FlowrayError

    try:
        return ray.get(ref)
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, FlowrayError):
            raise cause from None
        raise


def _bar(*, quiet: bool) -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("replay"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=quiet or not console.is_terminal)
