"""Figures and verdicts, on the terminal and as JSON."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmark.processes import Cost


@dataclass(frozen=True, slots=True)
class Figure:
    """What one program did. `records` is None where there is nothing to divide by."""

    program: str
    cost: Cost
    records: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Records per CPU second."""
        return (self.records or 0) / self.cost.cpu if self.cost.cpu else 0.0

    @property
    def microseconds(self) -> float:
        """CPU microseconds a record."""
        return self.cost.cpu / self.records * 1e6 if self.records else 0.0

    def to_dict(self) -> dict[str, Any]:
        out: dict[str, Any] = {
            "program": self.program,
            "cpu_seconds": round(self.cost.cpu, 4),
            "wall_seconds": round(self.cost.wall, 4),
            "rss_bytes": self.cost.rss,
        }
        if self.records is not None:
            out |= {
                "records": self.records,
                "records_per_cpu_second": round(self.rate),
                "cpu_microseconds_per_record": round(self.microseconds, 4),
            }
        return out | self.extra


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target beside what was measured; `met` is None where there is no target, or no figure."""

    what: str
    target: str
    measured: str
    met: bool | None = None

    @classmethod
    def at_least(cls, what: str, measured: float, target: float, unit: str = " x") -> Verdict:
        return cls(what, f">= {target:g}{unit}", f"{measured:.2f}{unit}", measured >= target)

    @classmethod
    def faster(cls, own: Figure, peer: Figure, target: float) -> Verdict:
        """Records per CPU second of one, as a multiple of the other's."""
        what = f"{own.program}, to {peer.program}, records per CPU second"
        if not own.cost.cpu or not peer.cost.cpu:
            return cls(what, f">= {target:g} x", "the run is too short to tell")
        return cls.at_least(what, own.rate / peer.rate, target)

    @classmethod
    def at_most(cls, what: str, measured: float, target: float, unit: str) -> Verdict:
        return cls(what, f"<= {target:g}{unit}", f"{measured:.2f}{unit}", measured <= target)


@dataclass(slots=True)
class Section:
    """A row of the table of targets: figures of all programs, verdicts, what to know about them."""

    title: str
    figures: list[Figure] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "figures": [figure.to_dict() for figure in self.figures],
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "notes": self.notes,
        }


_MARKS = {True: "[green]met[/]", False: "[red]short[/]", None: ""}


def show(section: Section, console: Console) -> None:
    """Print a section."""
    console.print(f"\n[bold]{section.title}[/]")
    if section.figures:
        table = Table(box=None, pad_edge=False, padding=(0, 2))
        table.add_column("program")
        for name in ("CPU s", "wall s", "records/CPU s", "µs/record"):
            table.add_column(name, justify="right")
        table.add_column("")
        for figure in section.figures:
            per = ("", "")
            if figure.records:
                per = (f"{figure.rate:,.0f}", f"{figure.microseconds:.3f}")
            extra = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in figure.extra.items())
            cpu = f"{figure.cost.cpu:.2f}" if figure.cost.cpu else ""
            cells = (figure.program, cpu, f"{figure.cost.wall:.2f}", *per)
            table.add_row(*cells, extra)
        console.print(table)
    for verdict in section.verdicts:
        console.print(
            f"  {verdict.what}: {verdict.measured} (target {verdict.target}) {_MARKS[verdict.met]}",
            highlight=False,
        )
    for note in section.notes:
        console.print(f"  {note}", highlight=False, markup=False)


_VERSIONS: dict[str, Callable[[str], str]] = {
    "nfacctd -V": lambda text: text.splitlines()[0],
    "nfcapd -V": lambda text: text.splitlines()[0],
    "nfdump -V": lambda text: text.splitlines()[0],
}


def machine() -> dict[str, Any]:
    """Where the figures come from."""
    info = Path("/proc/cpuinfo").read_text()
    models = {line.partition(": ")[2] for line in info.splitlines() if "model name" in line}
    rmem = Path("/proc/sys/net/core/rmem_max").read_text().strip()
    return {
        "cpu": ", ".join(sorted(models)),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "rmem_max": int(rmem),
        "load": os.getloadavg()[0],
        "peers": {command: _version(command) for command in _VERSIONS},
    }


def _version(command: str) -> str:
    try:
        done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    except OSError:
        return "missing"
    text = (done.stdout + done.stderr).strip()
    return _VERSIONS[command](text) if text else "unknown"
