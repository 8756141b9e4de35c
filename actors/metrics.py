"""Ray metrics of the actors: one row each, flushed as deltas once a second, never per datagram."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from flowray.ingest.movements import Movements

FLUSH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Metric:
    """`figure` is the key in the actor's status; Ray exports it as ray_`name`.

    With `label` the figure is a mapping, and each of its keys a series of its own.
    """

    name: str
    kind: Literal["counter", "gauge"]
    figure: str
    doc: str
    label: str = ""


SHARD: tuple[Metric, ...] = (
    Metric("flowray_datagrams_total", "counter", "datagrams", "Datagrams received."),
    Metric("flowray_octets_total", "counter", "octets", "Octets of UDP payload received."),
    Metric("flowray_refused_total", "counter", "refused", "Datagrams of senders not allowed."),
    Metric(
        *("flowray_kernel_drops_total", "counter", "drops_by_socket"),
        *("Datagrams that the kernel had no room for, by address listened on.", "socket"),
    ),
    Metric("flowray_resumed_total", "counter", "resumed", "Times it went on from a killed one."),
    Metric("flowray_recovered_total", "counter", "recovered", "Datagrams that killed ones left."),
    Metric("flowray_ring_failures_total", "counter", "ring_failures", "Partials not in the ring."),
    Metric("flowray_ring_used", "gauge", "ring_used", "Share of the ring in use, 0 to 1."),
    Metric("flowray_partials_total", "counter", "delivered", "Partials merged by aggregators."),
    Metric("flowray_resent_total", "counter", "resent", "Partials sent once more."),
    Metric("flowray_send_failures_total", "counter", "failures", "Partials that did not arrive."),
    Metric("flowray_errors_total", "counter", "errors", "Batches or exchanges that failed."),
    Metric(
        "flowray_thread_seconds_total", "counter", "thread_seconds", "CPU of the receive thread."
    ),
    Metric("flowray_cpu_seconds_total", "counter", "cpu_seconds", "CPU of the process."),
    Metric(
        "flowray_full_seconds_total", "counter", "full_seconds", "Time not receiving: memory full."
    ),
    Metric("flowray_buffer_full", "gauge", "buffer_full", "Fullest receive buffer, 0 to 1."),
    Metric("flowray_lag_seconds", "gauge", "lag_seconds", "Age of the oldest partial under way."),
    Metric("flowray_pending_rows", "gauge", "pending_rows", "Rows of open partials."),
    Metric("flowray_octets_held", "gauge", "octets_held", "Memory of partials not acknowledged."),
    Metric("flowray_exporters", "gauge", "exporters", "Exporters seen."),
    Metric("flowray_templates", "gauge", "templates", "Templates known."),
    Metric("flowray_snapshots_total", "counter", "snapshots", "Snapshots of routes installed."),
    Metric(
        "flowray_snapshot_failures_total",
        "counter",
        "snapshot_failures",
        "Pulls of snapshots in vain.",
    ),
)

AGGREGATOR: tuple[Metric, ...] = (
    Metric(
        *("flowray_committed_total", "counter", "committed"),
        *("Sums of counters over committed rows.", "counter"),
    ),
    Metric("flowray_merged_partials_total", "counter", "partials", "Partials merged."),
    Metric("flowray_rows_committed_total", "counter", "rows_committed", "Rows that sinks took."),
    Metric("flowray_sink_errors_total", "counter", "sink_errors", "Commits that a sink refused."),
    Metric("flowray_checkpoints_total", "counter", "checkpoints", "Checkpoints written."),
    Metric("flowray_aggregator_errors_total", "counter", "errors", "Ticks that failed."),
    Metric("flowray_aggregator_cpu_seconds_total", "counter", "cpu_seconds", "CPU of the process."),
    Metric("flowray_live_writes_total", "counter", "live_writes", "Live views written to Redis."),
    Metric("flowray_live_failures_total", "counter", "live_failures", "Such writes that failed."),
    Metric("flowray_live_cpu_seconds_total", "counter", "live_cpu_seconds", "CPU of these writes."),
    Metric("flowray_live_down", "gauge", "live_down", "1 while Redis does not take live views."),
    Metric("flowray_outstanding_commits", "gauge", "outstanding", "Commits that a sink lacks."),
    Metric("flowray_outbox_octets", "gauge", "outbox_octets", "What waits for sinks."),
    Metric("flowray_partials_refused_total", "counter", "refused", "Outbox full: shards wait."),
    Metric("flowray_open_windows", "gauge", "open_windows", "Windows not closed yet."),
    Metric("flowray_open_records", "gauge", "open_records", "Records in open windows."),
    Metric("flowray_behind_seconds", "gauge", "behind_seconds", "Age of the least watermark."),
    Metric(
        "flowray_checkpoint_octets", "gauge", "checkpoint_octets", "Size of the last checkpoint."
    ),
)

RIB: tuple[Metric, ...] = (
    Metric("flowray_rib_octets_total", "counter", "octets", "Octets received in sessions."),
    Metric("flowray_rib_refused_total", "counter", "connections_refused", "Sessions not taken."),
    Metric("flowray_rib_malformed_total", "counter", "messages_malformed", "Messages at fault."),
    Metric("flowray_rib_snapshots_total", "counter", "snapshots", "Snapshots made."),
    Metric(
        "flowray_rib_snapshot_cpu_seconds_total",
        "counter",
        "snapshot_cpu_seconds",
        "CPU of making them.",
    ),
    Metric("flowray_rib_rows_total", "counter", "rows", "Rows of message logs and dumps."),
    Metric("flowray_rib_rows_lost_total", "counter", "rows_lost", "Rows that no sink took."),
    Metric("flowray_rib_errors_total", "counter", "errors", "Beats that failed."),
    Metric("flowray_rib_cpu_seconds_total", "counter", "cpu_seconds", "CPU of the process."),
    Metric("flowray_rib_bgp_sessions", "gauge", "bgp_sessions", "BGP sessions."),
    Metric("flowray_rib_bmp_sessions", "gauge", "bmp_sessions", "BMP sessions."),
    Metric("flowray_rib_peers", "gauge", "peers", "Peers with tables, restored ones too."),
    Metric("flowray_rib_stale_peers", "gauge", "stale_peers", "Peers with stale routes."),
    Metric("flowray_rib_routes", "gauge", "routes", "Routes."),
    Metric("flowray_rib_table_octets", "gauge", "table_octets", "Memory of tables."),
    Metric("flowray_rib_attribute_octets", "gauge", "attribute_octets", "Memory of attributes."),
    Metric(
        "flowray_rib_snapshot_octets", "gauge", "snapshot_octets", "Size of the newest snapshot."
    ),
    Metric(
        "flowray_rib_snapshot_lag_seconds",
        "gauge",
        "snapshot_lag_seconds",
        "Age of what the newest one holds.",
    ),
)

STORE: tuple[Metric, ...] = (
    Metric("flowray_store_entries", "gauge", "entries", "Templates and facts in the store."),
    Metric("flowray_store_pending", "gauge", "pending", "Of these, not stored yet."),
    Metric("flowray_store_refused_total", "counter", "refused", "Entries beyond its bound."),
)


SUPERVISOR: tuple[Metric, ...] = (
    Metric("flowray_ledger_balanced", "gauge", "balanced", "1 if the ledger balances, else 0."),
    Metric("flowray_ledger_problems", "gauge", "problems", "Balances that do not hold."),
    Metric("flowray_members", "gauge", "members", "Actors by state.", "state"),
    Metric(
        *("flowray_sequence_missing", "gauge", "missing"),
        *("Units that exporters numbered and no shard received (docs/ledger.md).", "exporter"),
    ),
    Metric("flowray_restarts_total", "counter", "restarts", "Restarts of actors.", "actor"),
)

LEDGER: tuple[Metric, ...] = (
    Metric(
        *("flowray_ledger_total", "counter", "account"),
        *("Accounts of the ledger by exporter (docs/ledger.md).", "exporter, account"),
    ),
    Metric(
        *("flowray_view_ledger_total", "counter", "account"),
        *("Records of a view by account (docs/ledger.md).", "view, account"),
    ),
)
"""Of each shard; `ledger_counters` flushes them."""

TABLES: tuple[tuple[str, tuple[str, ...], tuple[Metric, ...]], ...] = (
    ("Ingest shards", ("shard",), SHARD),
    ("Ledger of ingest shards", ("shard",), LEDGER),
    ("Aggregators", ("view", "partition"), AGGREGATOR),
    ("RIB groups", ("group",), RIB),
    ("Template store", (), STORE),
    ("Supervisor", (), SUPERVISOR),
)
"""(whose, its tags, its metrics): docs/metrics.md."""


class Meter:
    """Flushes an actor's status to its metrics from a thread of its own; `more` flushes others."""

    def __init__(
        self,
        metrics: tuple[Metric, ...],
        tags: Mapping[str, str],
        status: Callable[[], Mapping[str, Any]],
        more: Callable[[], None] | None = None,
    ) -> None:
        self._status = status
        self._more = more
        self._told: dict[tuple[str, str], float] = {}
        self._instruments = [(metric, instrument(metric, tags)) for metric in metrics]
        threading.Thread(target=self._run, name="metrics", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(FLUSH_SECONDS)
            with suppress(TimeoutError):  # a shard that is stuck: the supervisor sees to it
                self.flush()

    def flush(self) -> None:
        """Bring all metrics up to date. Raises TimeoutError if the actor does not answer."""
        status = self._status()
        for metric, made in self._instruments:
            figure = status[metric.figure]
            for key, value in (figure if metric.label else {"": figure}).items():
                tags = {metric.label: str(key)} if metric.label else {}
                self._tell(metric, made, tags, float(value or 0))
        if self._more is not None:
            self._more()

    def _tell(self, metric: Metric, made: Any, tags: dict[str, str], value: float) -> None:
        series = metric.name, "".join(tags.values())
        if metric.kind == "gauge":
            made.set(value, tags)
        elif value > (told := self._told.get(series, 0.0)):
            made.inc(value - told, tags)
            self._told[series] = value


def instrument(metric: Metric, tags: Mapping[str, str]) -> Any:
    """Ray's counter or gauge of a metric."""
    from ray.util.metrics import Counter, Gauge  # the tables are read where there is no Ray

    make = Counter if metric.kind == "counter" else Gauge
    labels = tuple(metric.label.split(", ")) if metric.label else ()
    made = make(metric.name, description=metric.doc, tag_keys=(*tags, *labels))
    made.set_default_tags(dict(tags))
    return made


def ledger_counters(tags: Mapping[str, str], take: Callable[[], Movements]) -> Callable[[], None]:
    """What flushes the movements of a shard's ledger; a call for each account that moved."""
    of_exporter, of_view = (instrument(metric, tags) for metric in LEDGER)

    def flush() -> None:
        exporters, views = take()
        for exporter, account, n in exporters:
            of_exporter.inc(n, {"exporter": exporter, "account": account})
        for view, account, n in views:
            of_view.inc(n, {"view": view, "account": account})

    return flush
