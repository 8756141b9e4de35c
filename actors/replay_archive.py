"""A worker of a replay of an archive as an actor: its share of the exporters."""

from __future__ import annotations

import time
from typing import Any

import ray

from actors.replay import STEP_SECONDS, Step
from flowray.archive.life import Span
from flowray.archive.place import Place
from flowray.archive.replay import ArchiveReplay
from flowray.replay import HAND_OVER_ROWS
from flowray.settings.compile import compile_settings
from flowray.settings.model import Settings


class ReplayArchive:
    """Worker `number` of `workers`. `step` is called until it says that there is no more."""

    def __init__(
        self, settings: Settings, path: str, span: Span, number: int, workers: int
    ) -> None:
        self._number, self._workers = number, workers
        self._run: ArchiveReplay | None = None
        self._arguments = settings, path, span

    def __repr__(self) -> str:
        return f"ReplayArchive({self._number} of {self._workers})"

    def _open(self) -> ArchiveReplay:
        settings, path, span = self._arguments
        program = compile_settings(settings, "configuration")
        return ArchiveReplay(program, Place(path), span, self._number, self._workers)

    @ray.method
    def step(self) -> Step:
        """What there is up to some point. Raises CaptureError."""
        if self._run is None:
            self._run = self._open()
        run = self._run
        run.steps(HAND_OVER_ROWS, STEP_SECONDS)
        return Step(run.hand_over(), {}, (0, 0), run.more)

    @ray.method
    def end(self) -> dict[str, Any]:
        """The accounts and figures of this worker."""
        assert self._run is not None, "asked when it has ended"
        return {
            "ledger": self._run.ledger(),
            "sets_held": self._run.sets_held,
            "captures": self._run.reports(),
            "missing": self._run.missing,
            "cpu_seconds": time.process_time(),
        }


ReplayArchiveActor: Any = ray.remote(ReplayArchive)
