"""Lines of logs: JSON or for people, sampled, without passwords."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from flowray.logs import OURS, Sampled, configure, without_secrets
from flowray.settings.operations import Logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    before = [(logging.getLogger(n), list(logging.getLogger(n).handlers)) for n in OURS]
    yield io.StringIO()
    for logger, handlers in before:
        logger.handlers, logger.propagate = handlers, True
        logger.setLevel(logging.NOTSET)


def test_a_line_says_who_about_whom_and_why(stream: io.StringIO) -> None:
    configure("rib/one", Logs(format="json"), stream)
    log = logging.getLogger("flowray.rib.bgp_routes")
    log.warning("peer %s: %d malformed", "192.0.2.1", 3, extra={"peer": "192.0.2.1", "cause": "x"})
    log.debug("not asked for")
    line = json.loads(stream.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "component": "rib/one",
        "event": "peer 192.0.2.1: 3 malformed",
        "level": "warning",
        "logger": "flowray.rib.bgp_routes",
        "peer": "192.0.2.1",
        "cause": "x",
    }


def test_a_trace_is_one_line_of_json(stream: io.StringIO) -> None:
    configure("a", Logs(format="json"), stream)
    try:
        int("amqp://user:secret@host/")
    except ValueError:
        logging.getLogger("actors.x").exception("failed")
    (line,) = stream.getvalue().splitlines()
    assert "Traceback" in json.loads(line)["exception"]
    assert "secret" not in line


def test_the_environment_goes_first(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWRAY_LOG_FORMAT", "json")
    configure("a", Logs(), stream)
    logging.getLogger("flowray").info("hello")
    assert json.loads(stream.getvalue())["event"] == "hello"


def test_lines_for_people(stream: io.StringIO) -> None:
    configure("shard 1", Logs(), stream)
    logging.getLogger("flowray.x").info("hello", extra={"exporter": "192.0.2.9"})
    assert "hello" in stream.getvalue()
    assert "192.0.2.9" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def record(message: str, peer: str) -> logging.LogRecord:
    made = logging.LogRecord("flowray.x", logging.WARNING, "", 0, message, (), None)
    made.peer = peer
    return made


def test_what_repeats_is_sampled_by_whom_it_is_about() -> None:
    now = [0.0]
    sampled = Sampled(2, lambda: now[0])
    assert [sampled.filter(record("bad", "a")) for _ in range(5)] == [True, True] + 3 * [False]
    assert sampled.filter(record("bad", "b"))
    assert sampled.filter(record("other", "a"))
    now[0] = 61.0
    later = record("bad", "a")
    assert sampled.filter(later)
    assert later.left_out == 3


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://user:pass@host:6379/0", "redis://***@host:6379/0"),
        ("a b", "a b"),
        ("http://host/a@b", "http://host/a@b"),
    ],
)
def test_passwords_in_addresses_are_left_out(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
