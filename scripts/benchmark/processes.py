"""Programs under measurement: run to their end, or as servers on a port until they are stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
METER = Path(__file__).with_name("meter.py")
PYTHON = ROOT / ".venv" / "bin" / "python"
FLOWRAY = ROOT / ".venv" / "bin" / "flowray"
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'scripts'}", "COLUMNS": "200"}

TICK = 1 / os.sysconf("SC_CLK_TCK")
RUN_SECONDS = 600.0
START_SECONDS = 60.0
STOP_SECONDS = 180.0
LOOK_SECONDS = 0.3
QUIET = 0.1
SETTLE_SECONDS = 30.0


class FailedError(Exception):
    """A program did not do what it was started for; the text is for the operator."""


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds (user and system, all processes), wall seconds, resident bytes of the largest."""

    cpu: float
    wall: float
    rss: int = 0

    def beyond(self, start: Cost) -> Cost:
        """The run itself: without what a run over next to nothing costs."""
        return Cost(max(self.cpu - start.cpu, 0.0), max(self.wall - start.wall, 0.0), self.rss)

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.cpu + other.cpu, self.wall + other.wall, max(self.rss, other.rss))


def cheapest(costs: Sequence[Cost]) -> Cost:
    """The one with least CPU: what other programs on the machine do only adds to it."""
    return min(costs, key=lambda cost: cost.cpu)


def _metered(report: Path, command: Sequence[str | Path]) -> list[str]:
    # -S -E: the meter itself shall start quickly, and no variable of the program's may reach it.
    return [sys.executable, "-S", "-E", str(METER), str(report), *map(str, command)]


def _cost(
    report: Path, command: Sequence[str | Path], log: Path, fine: Sequence[int] = (0,)
) -> Cost:
    data = json.loads(report.read_text())
    if data["status"] not in (*fine, -signal.SIGINT, -signal.SIGTERM):
        tail = log.read_text(errors="replace")[-2000:] if log.is_file() else ""
        raise FailedError(f"{Path(command[0]).name} ended with status {data['status']}:\n{tail}")
    return Cost(data["user"] + data["system"], data["wall"], data["rss"])


def run(
    command: Sequence[str | Path],
    folder: Path,
    *,
    stdout: Path | None = None,
    environment: Mapping[str, str] = ENVIRONMENT,
    fine: Sequence[int] = (0,),
) -> Cost:
    """Run to the end, output to `stdout` or a log in `folder`. Raises FailedError, for an end with
    a status that is not `fine` as well.
    """
    report, log = folder / "meter.json", folder / "run.log"
    with (stdout or log).open("wb") as out, log.open("ab") as errors:
        subprocess.run(
            _metered(report, command),
            stdout=out, stderr=errors, cwd=folder, env=environment, timeout=RUN_SECONDS, check=True,
        )  # fmt: skip
    return _cost(report, command, log, fine)


def free_port() -> int:
    """A UDP port of loopback that nobody uses now."""
    return _free_port(socket.SOCK_DGRAM)


def free_tcp_port() -> int:
    """A TCP port of loopback that nobody uses now."""
    return _free_port(socket.SOCK_STREAM)


def _free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Sockets:
    """All UDP sockets bound to a port, as of /proc/net/udp."""

    count: int
    queued: int
    drops: int


def sockets(port: int) -> Sockets:
    """What the kernel says of a UDP port: sockets, octets waiting, datagrams dropped."""
    rows = _bound("udp", port)
    return Sockets(len(rows), _queued(rows), sum(int(cells[-1]) for cells in rows))


def tcp_sockets(port: int) -> Sockets:
    """What the kernel says of a TCP port: sockets that listen or are connected, octets waiting."""
    rows = _bound("tcp", port)
    return Sockets(len(rows), _queued(rows), 0)


def _bound(protocol: str, port: int) -> list[list[str]]:
    rows = []
    for name in (protocol, f"{protocol}6"):
        table = Path("/proc/net") / name
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            cells = line.split()
            if int(cells[1].rpartition(":")[2], 16) == port:
                rows.append(cells)
    return rows


def _queued(rows: list[list[str]]) -> int:
    return sum(int(cells[4].partition(":")[2], 16) for cells in rows)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of the children that it has waited for; 0 if gone."""
    try:
        cells = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, cells[11:15])) * TICK


def resident_octets(pid: int) -> int:
    """Octets of memory of a process that are in use; 0 if it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_octets(pid: int) -> int:
    """Octets of memory of a process that were in use at most; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def descendants(pid: int) -> list[int]:
    """Processes below a process."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    todo = [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


class Server:
    """A program that listens on a port, under the meter."""

    def __init__(
        self,
        command: Sequence[str | Path],
        port: int,
        folder: Path,
        quiet: float = QUIET,
        look: Callable[[int], Sockets] = sockets,
    ) -> None:
        """Start, and wait until it listens: `look` knows its sockets. `quiet` is the share of a
        core that it uses when it has nothing to do. Raises FailedError.
        """
        self._quiet = quiet
        self._look = look
        self.port = port
        self.folder = folder
        self.started = time.monotonic()
        self._command = list(command)
        self._report, self.log = folder / "meter.json", folder / "server.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                _metered(self._report, command),
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=folder, env=ENVIRONMENT,
            )  # fmt: skip
        deadline = self.started + START_SECONDS
        while not look(port).count:
            if self._process.poll() is not None:
                raise FailedError(f"{Path(command[0]).name} did not start:\n{self.text()[-2000:]}")
            if time.monotonic() > deadline:
                self.stop()
                raise FailedError(
                    f"{Path(command[0]).name} does not listen:\n{self.text()[-2000:]}"
                )
            time.sleep(0.005)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self.stop()

    @property
    def pid(self) -> int:
        """The meter, under which all of it runs."""
        return self._process.pid

    def text(self) -> str:
        """What it said so far."""
        return self.log.read_text(errors="replace")

    def cpu(self) -> float:
        """CPU seconds so far, all processes."""
        return sum(map(cpu_seconds, descendants(self._process.pid)))

    def resident(self) -> int:
        """Octets of memory in use, all processes."""
        return sum(map(resident_octets, descendants(self._process.pid)))

    def peak(self) -> int:
        """Octets of memory that were in use at most, all processes."""
        return sum(map(peak_octets, descendants(self._process.pid)))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program."""
        os.kill(descendants(self._process.pid)[0], number)

    def settle(self) -> Sockets:
        """Wait until everything received is worked off; the state of its sockets then."""
        deadline = time.monotonic() + SETTLE_SECONDS
        used, at = self.cpu(), time.monotonic()
        while True:
            time.sleep(LOOK_SECONDS)
            now_used, now = self.cpu(), time.monotonic()
            state = self._look(self.port)
            quiet = now_used - used <= self._quiet * (now - at) + 2 * TICK
            if (quiet and not state.queued) or now > deadline:
                return state
            used, at = now_used, now

    def kill(self) -> None:
        """End all of it at once, when what it would do at its end is of no interest."""
        for pid in (*descendants(self._process.pid), self._process.pid):
            os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> Cost:
        """Ask it to end (SIGINT) and wait until all of it has. Raises FailedError."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise FailedError(f"{Path(self._command[0]).name} does not end") from None
        return _cost(self._report, self._command, self.log)
