"""When a flow began and ended, by whichever clock its exporter tells."""

import pytest

from flowray.generate.encode import v5_headers, v5_packets, v5_records
from tests.ingest.decoding import T0, UPTIME, V9, Datum, Decoded, Ipfix, decode, template

KEYS = ["timestamp_start", "timestamp_end", "timestamp_export"]
NTP_1900 = 2_208_988_800
WRAP = 1 << 32


def _times(got: Decoded) -> tuple[str, str]:
    return got.only["timestamp_start"], got.only["timestamp_end"]


def _seconds(value: float) -> str:
    return f"{value:.3f}"


@pytest.mark.parametrize(
    ("uptime", "first", "last", "start", "end"),
    [
        (UPTIME, UPTIME - 60_078, UPTIME - 2, T0 - 60.078, T0 - 0.002),
        (1_000, WRAP - 4_000, 500, T0 - 5, T0 - 0.5),
        (WRAP - 1_000, WRAP - 9_000, 2_000, T0 - 8, T0 + 3),
        (0, 0, 0, T0, T0),
    ],
    ids=["plain", "wrapped since the flow began", "wrapped before it ended", "no clock"],
)
def test_uptime(uptime: int, first: int, last: int, start: float, end: float) -> None:
    spec = template(256, (22, 4), (21, 4), (2, 4))
    got = decode(V9(uptime=uptime).send(spec, (first, last, 1)), keys=KEYS)
    assert _times(got) == (_seconds(start), _seconds(end))
    header = v5_headers(1, 1, uptime_ms=uptime, unix_secs=T0, unix_nsecs=0)
    record = v5_records(1, src=1, dst=2, first_ms=first, last_ms=last)
    assert _times(decode(v5_packets(header, record).tobytes(), keys=KEYS)) == _times(got)


@pytest.mark.parametrize(("age_ms", "start"), [(0, 0), (1, 0), (999, 0), (1000, -1), (60_078, -60)])
def test_whole_seconds_of_uptime_are_of_the_age(age_ms: int, start: int) -> None:
    """Start = export second - floor(age / 1000)."""
    spec = template(256, (22, 4), (21, 4), (2, 4))
    sent = V9().send(spec, (UPTIME - age_ms, UPTIME, 1))
    got = decode(sent, keys=KEYS, time_precision="s")
    assert _times(got) == (_seconds(T0 + start), _seconds(T0))


def _ntp(seconds: int, fraction: float) -> int:
    return (seconds + NTP_1900) % WRAP << 32 | int(fraction * WRAP)


@pytest.mark.parametrize(
    ("fields", "values", "start", "end"),
    [
        (((150, 4), (151, 4)), (T0 - 5, T0 - 3), T0 - 5, T0 - 3),
        (((152, 8), (153, 8)), (T0 * 1000 - 5_250, T0 * 1000 - 1), T0 - 5.25, T0 - 0.001),
        (((154, 8), (155, 8)), (_ntp(T0 - 5, 0.25), _ntp(T0 - 4, 0.5)), T0 - 4.75, T0 - 3.5),
        (((156, 8), (157, 8)), (_ntp(T0 - 5, 0.75), _ntp(T0 - 4, 0)), T0 - 4.25, T0 - 4),
        (((156, 8), (157, 8)), (_ntp(2_100_000_000, 0.5),) * 2, 2_100_000_000.5, 2_100_000_000.5),
        (((158, 4), (159, 4)), (2_500_000, 1_000), T0 - 2.5, T0 - 0.001),
        (((323, 8),), (T0 * 1000 - 7_000,), T0 - 7, T0 - 7),
        (((322, 4),), (T0 - 7,), T0 - 7, T0 - 7),
        (((153, 8),), (T0 * 1000 - 1_000,), T0 - 1, T0 - 1),
        (((152, 8), (153, 8)), (0, 0), T0, T0),
        (((10, 4),), (1,), T0, T0),
    ],
    ids=[
        "seconds", "milliseconds", "microseconds", "nanoseconds", "after 2036", "delta",
        "observation", "observation in seconds", "end alone", "zero", "none",
    ],
)  # fmt: skip
def test_absolute_times(
    fields: tuple[tuple[int, int], ...], values: tuple[Datum, ...], start: float, end: float
) -> None:
    spec = template(256, *fields, (2, 4))
    assert _times(decode(Ipfix().send(spec, (*values, 1)), keys=KEYS)) == (
        _seconds(start), _seconds(end)
    )  # fmt: skip


def test_most_precise_clock_of_a_record_counts() -> None:
    spec = template(256, (150, 4), (151, 4), (152, 8), (153, 8), (22, 4), (21, 4), (2, 4))
    x = Ipfix()
    got = decode(
        x.send(spec, (T0 - 5, T0 - 4, T0 * 1000 - 4_502, T0 * 1000 - 3_001, 7, 8, 1)), keys=KEYS
    )
    assert _times(got) == (_seconds(T0 - 4.502), _seconds(T0 - 3.001))
    got = decode(Ipfix().send(spec, (T0 - 5, T0 - 4, 0, 0, 7, 8, 1)), keys=KEYS)
    assert _times(got) == (_seconds(T0 - 5), _seconds(T0 - 4))


def test_absolute_times_are_cut_to_whole_seconds() -> None:
    spec = template(256, (152, 8), (153, 8), (2, 4))
    sent = Ipfix().send(spec, (T0 * 1000 - 5_250, T0 * 1000 - 1, 1))
    assert _times(decode(sent, keys=KEYS, time_precision="s")) == (
        _seconds(T0 - 6),
        _seconds(T0 - 1),
    )


def test_boot_time_in_the_record() -> None:
    spec = template(256, (22, 4), (160, 8), (21, 4), (2, 4))
    boot = (T0 - 1000) * 1000
    got = decode(Ipfix().send(spec, (990_250, boot, 995_000, 1)), keys=KEYS)
    assert _times(got) == (_seconds(T0 - 9.75), _seconds(T0 - 5))


def test_uptime_without_boot_time_is_the_export_time() -> None:
    spec = template(256, (22, 4), (21, 4), (2, 4))
    got = decode(Ipfix().send(spec, (990_250, 995_000, 1)), keys=KEYS)
    assert _times(got) == (_seconds(T0), _seconds(T0))
    assert got.only["timestamp_export"] == _seconds(T0)
