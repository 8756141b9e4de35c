"""RIBs out of files: saved tables, and what an MRT file tells, as it is when the file ends."""

from __future__ import annotations

import logging
from pathlib import Path

from flowray.errors import CaptureError
from flowray.rib.history import read_saved
from flowray.rib.journal import Journal, Labels
from flowray.rib.mrt_routes import MrtFiles
from flowray.rib.rib import Rib
from flowray.state.store import open_store
from flowray.views.checkpoint import MAGIC, Checkpoint

log = logging.getLogger(__name__)

_END_OF_TIME = (1 << 63) - 1


def read_tables(path: Path) -> Rib:
    """The tables of a file, told by content: those that a RIB group saved, those of a table dump,
    or what the messages of recorded sessions made of them.

    Raises FlowrayError for a file that cannot be read.
    """
    if _is_saved(path):
        return read_saved(Checkpoint(open_store(path.parent), path.name))
    rib = Rib()
    files = MrtFiles(rib, Journal(rib, {}, Labels()))
    reader = files.add(path).reader
    files.until(_END_OF_TIME)
    report = reader.report
    if not report.records:
        raise CaptureError(report.fault or f"{path}: neither saved tables nor MRT records in it")
    if report.fault:
        log.warning("%s; read up to there", report.fault)
    return rib


def _is_saved(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False  # told by who reads it next
