"""The looking glass of a RIB group: a server beside the group's thread."""

from __future__ import annotations

import logging
from typing import Any

from flowray.rib.glass_answers import Answers
from flowray.rib.glass_server import GlassError, GlassServer

log = logging.getLogger(__name__)


class GroupGlass:
    """Opened again and again until its address is free: that of a group that was killed may be
    taken for a moment, and routes matter more than who looks at them.
    """

    def __init__(self, address: str | None, answers: Answers) -> None:
        """None: there is no looking glass."""
        self._address, self._answers = address, answers
        self._server: GlassServer | None = None
        self.error = ""

    def open(self) -> None:
        """Open it if it is not open yet."""
        if self._address is None or self._server is not None:
            return
        try:
            self._server = GlassServer(self._address, self._answers)
        except GlassError as error:
            if not self.error:
                log.error("%s", error)  # noqa: TRY400 - the message says it
            self.error = str(error)
            return
        self._server.start()
        self.error = ""

    def close(self) -> None:
        """Close it for good."""
        self._address = None
        if self._server is not None:
            self._server.stop()

    def status(self) -> dict[str, Any]:
        """Where it answers (None: nowhere), and why it does not."""
        return {"port": None if self._server is None else self._server.port, "error": self.error}
