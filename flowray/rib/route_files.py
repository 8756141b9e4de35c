"""RIBs out of files: what an MRT file tells, as it is when the file ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from flowray.rib.journal import Journal, Labels
from flowray.rib.looking_glass import Ask
from flowray.rib.mrt_routes import MrtRoutes
from flowray.rib.rib import Rib

_T = TypeVar("_T")

_END_OF_TIME = (1 << 63) - 1


def read_tables(path: Path) -> Rib:
    """The tables of a file: those it dumps, and what its messages made of them.

    Raises CaptureError for a file that cannot be read.
    """
    rib = Rib()
    MrtRoutes(path, rib, Journal({}, Labels())).until(_END_OF_TIME)
    return rib


def ask_file(path: Path) -> Ask:
    """Answers about the tables of a file, as `read_tables`, in the thread that asks."""
    rib = read_tables(path)

    def ask(question: Callable[[Rib], _T], /) -> _T:
        return question(rib)

    return ask
