"""What the gateway answers, asked of the supervisor and the aggregators."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from actors.naming import NAMESPACE, SUPERVISOR
from cluster.accounts import live_problems
from flowray.live.newest import NewestRows, ViewError
from flowray.settings.compile import Program, compile_settings
from flowray.settings.model import Settings

ANSWER_SECONDS = 30
READY_SECONDS = 5
MOST_ROWS = 10_000


class Api:
    """Implements `actors.gateway.Answers`. Goes to the gateway's process as its settings."""

    def __init__(self, settings: Settings, file: str) -> None:
        self._settings, self._file = settings, file

    def __reduce__(self) -> tuple[type[Api], tuple[Settings, str]]:
        return Api, (self._settings, self._file)

    @cached_property
    def _program(self) -> Program:
        return compile_settings(self._settings, self._file)

    @cached_property
    def _newest_rows(self) -> NewestRows:
        from actors.newest import ask_aggregators  # imports Ray, which reads its environment then

        return NewestRows(self._program, ask_aggregators)

    def reasons(self) -> list[str]:
        """Why it is not ready, one line each."""
        from ray.exceptions import RayError

        try:
            return unready(_ask("status", READY_SECONDS))
        except (RayError, TimeoutError, ValueError) as error:
            return [f"{SUPERVISOR}: no answer: {type(error).__name__}"]

    def status(self) -> Mapping[str, Any]:
        """What runs and how it is."""
        return _ask("status")

    def ledger(self) -> Mapping[str, Any]:
        """The accounts, and what does not balance."""
        found = _ask("ledger")
        wrong = live_problems(found)
        return {**found, "balanced": not wrong, "problems": wrong}

    def top(self, view: str, n: str, by: str) -> Mapping[str, Any]:
        """The biggest rows of a view's newest open window. Raises UnknownError."""
        from actors.gateway import UnknownError

        if not n.isdecimal() or not 1 <= int(n) <= MOST_ROWS:
            raise UnknownError(f"n: found {n!r}, allowed a number from 1 to {MOST_ROWS}")
        try:
            found = self._newest_rows(view, int(n), by)
        except ViewError as error:
            raise UnknownError(str(error)) from None
        if found is None:
            return {"view": view, "window": None, "rows": []}
        return {"view": view, "window": found.start / 1e9, "rows": found.rows}


def unready(status: Mapping[str, Any]) -> list[str]:
    """Why it is not ready, from the supervisor's status."""
    found = ["it is being stopped"] if status["stopping"] else []
    receiving = [m for m in status["shards"].values() if m["state"] == "healthy"]
    if len(receiving) < status["wanted_shards"]:
        found.append(f"{len(receiving)} of {status['wanted_shards']} shards receive")
    for kind in ("aggregators", "ribs"):
        for name, member in status[kind].items():
            if member["state"] != "healthy":
                found.append(f"{name}: {member['state']} {member['error']}".rstrip())
    return found


def _ask(method: str, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
    import ray

    supervisor: Any = ray.get_actor(SUPERVISOR, NAMESPACE)
    answer: dict[str, Any] = ray.get(getattr(supervisor, method).remote(), timeout=seconds)
    return answer
