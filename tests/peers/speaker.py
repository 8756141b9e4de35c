"""Routers of other projects as processes of a test: started, waited for, ended by their id."""

from __future__ import annotations

import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import pytest

from tests.ingest.live_rig import wait_for

H = TypeVar("H", bound=Hashable)

PATIENCE_S = 60.0
END_S = 10.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Speaker:
    """A program that runs in the foreground as long as the context lasts; its output is a file."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str | Path]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str] | None:
        return None

    def ready(self) -> bool:
        """Whether it answers questions."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*map(str, self.command())], cwd=self.folder, env=self.environment(),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            wait_for(self._ready, f"answer of {self.log.stem}", PATIENCE_S)
        except BaseException:
            self.end()
            raise
        return self

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text(errors="replace")
        return self.ready()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def end(self) -> None:
        """End the process."""
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def output(*command: object, status: Sequence[int] = (0,)) -> str:
    """What a command of a speaker prints."""
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode in status, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def wait_equal(
    ours: Callable[[], Counter[H]], theirs: Callable[[], Counter[H]], rows: int | None = None
) -> Counter[H]:
    """Wait until both tables are the same, and have so many rows: the table. What the difference
    is in the end is the failure.
    """
    seen: list[tuple[Counter[H], Counter[H]]] = []

    def same() -> bool:
        seen[:] = [(ours(), theirs())]
        have, want = seen[0]
        return have == want and (rows is None or want.total() == rows)

    try:
        wait_for(same, "equal tables", PATIENCE_S / 3)
    except AssertionError:
        have, want = seen[0]
        lines = [f"we have beyond it: {row}" for row in (have - want).elements()]
        lines += [f"we lack: {row}" for row in (want - have).elements()]
        lines += [f"both have: {row}" for row in (want & have).elements()]
        pytest.fail("\n".join((f"{want.total()} rows told, {rows} wanted", *lines)))
    return seen[0][0]
