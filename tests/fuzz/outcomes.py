"""What targets share: outcomes that a fuzzer is told of, and files."""

import tempfile
from collections.abc import Callable
from pathlib import Path

_watchers: list[Callable[[object], None]] = []


def watch(watcher: Callable[[object], None]) -> None:
    """Tell someone what compiled code did with an input, which has no coverage of its own."""
    _watchers.append(watcher)


def observe(outcome: object) -> None:
    """Tell the watchers of something that an input led to."""
    for watcher in _watchers:
        watcher(outcome)


_MEMORY = Path("/dev/shm")
_SCRATCH = Path(tempfile.mkdtemp(prefix="flowray-fuzz-", dir=_MEMORY if _MEMORY.is_dir() else None))


def scratch(name: str, data: bytes) -> Path:
    """A file with this content, in memory where that is possible."""
    path = _SCRATCH / name
    path.write_bytes(data)
    return path


def one_line(error: Exception) -> None:
    """What an operator sees is a clear line."""
    assert str(error)
    assert "\n" not in str(error)
