"""How logs are written: a line for people or a JSON object, each with its component; lines that
repeat are sampled; passwords in addresses are left out.

Modules log with `logging.getLogger(__name__)`. What a line is about goes in as `extra`: `exporter`,
`peer` and `cause`.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

from flowray.settings.operations import Logs

FORMAT_VARIABLE = "FLOWRAY_LOG_FORMAT"
OURS = ("flowray", "actors", "cluster")
ABOUT = ("exporter", "peer", "cause")

KINDS_TOLD_APART = 4096
"""Kinds of lines that are counted apart; a flood of peers must not fill memory."""

_SECRET = re.compile(r"(://)[^/@\s\"']+@")


def without_secrets(text: str) -> str:
    """The text without the user and password of addresses such as redis://user:password@host."""
    return _SECRET.sub(r"\1***@", text)


class Sampled(logging.Filter):
    """Lets so many lines of a kind pass a minute; the next that passes tells how many did not.

    A kind is where it is said, and of whom: a message's words, exporter, peer and cause. Errors
    with a trace always pass: they are ours, not the network's.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._per_minute = per_minute
        self._clock = clock
        self._kinds: dict[tuple[object, ...], list[float]] = {}  # minute, passed, left out

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it passes."""
        if record.exc_info:
            return True
        kind = (record.name, record.msg, *(getattr(record, name, None) for name in ABOUT))
        minute = self._clock() // 60
        if kind not in self._kinds and len(self._kinds) >= KINDS_TOLD_APART:
            self._kinds.clear()
        count = self._kinds.setdefault(kind, [minute, 0, 0])
        if count[0] != minute:
            count[0], count[1] = minute, 0
        if count[1] >= self._per_minute:
            count[2] += 1
            return False
        count[1] += 1
        if count[2]:
            record.left_out, count[2] = int(count[2]), 0
        return True


def configure(component: str, logs: Logs, stream: Any = None) -> None:
    """Have this process write its logs so, to standard error. `component` is in every line."""

    def named(
        logger: object, method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        del logger, method
        event["component"] = component
        return event

    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(allow=(*ABOUT, "left_out")),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        named,
    ]
    as_json = os.environ.get(FORMAT_VARIABLE, logs.format) == "json"
    if as_json:
        last: list[Any] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ]
    else:
        last = [structlog.dev.ConsoleRenderer(colors=False)]
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Formatter(shared, last))
    handler.addFilter(Sampled(logs.per_minute))
    for name in OURS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logs.level.upper())
        logger.propagate = False


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Lines of the standard library through structlog's processors."""

    def __init__(self, shared: list[Any], last: list[Any]) -> None:
        drop = structlog.stdlib.ProcessorFormatter.remove_processors_meta
        super().__init__(foreign_pre_chain=shared, processors=[drop, *last])

    def format(self, record: logging.LogRecord) -> str:
        """One line; a trace follows it on the console, and is inside it in JSON."""
        return without_secrets(super().format(record))
