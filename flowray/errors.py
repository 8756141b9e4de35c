"""The exceptions of flowray: one small tree, each message one clear line for an operator."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CaptureError", "ConfigError", "FlowrayError"]


class FlowrayError(Exception):
    """Base of every error flowray raises on purpose; `str()` is one line fit for a terminal."""


@dataclass(eq=False)
class ConfigError(FlowrayError):
    """A configuration that cannot be used.

    `file` is the configuration file, `place` the path inside it (``views[0].keys``), `found` what
    stands there and `allowed` what may stand there.
    """

    file: str
    place: str
    found: str
    allowed: str

    def __post_init__(self) -> None:
        # Exception.args must hold the fields, or the error does not survive pickling (Ray).
        super().__init__(self.file, self.place, self.found, self.allowed)

    def __str__(self) -> str:
        line = f"{self.file}: {self.place}: found {self.found}, allowed {self.allowed}"
        return " ".join(line.split())


class CaptureError(FlowrayError):
    """A capture file that cannot be read at all: missing, empty, or of another format."""
