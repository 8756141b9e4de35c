"""Origin validation: RFC 6811 said plainly, and files of ROAs that are not what they should be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.errors import ConfigError
from flowray.rib.roa import STATE_CODES, RoaSet, RoaState, less_specific_states, load_roas
from flowray.wire.packets import address_words

Network = IPv4Network | IPv6Network
Payload = tuple[int, Network, int]

networks = st.one_of(
    st.builds(
        lambda value, bits: ip_network((value << 28, bits), strict=False),
        st.integers(0, 3),
        st.integers(0, 32),
    ),
    st.builds(
        lambda value, bits: ip_network((0x20010DB8 << 96 | value << 62, bits), strict=False),
        st.integers(0, 7),
        st.integers(0, 128),
    ),
)
numbers = st.integers(0, 3)
payloads = st.builds(
    lambda asn, network, more: (asn, network, min(network.prefixlen + more, network.max_prefixlen)),
    numbers,
    networks,
    st.integers(0, 8),
)


def columns(prefixes: Sequence[Network]) -> tuple[Any, Any, Any]:
    words = [address_words(str(p.network_address)) for p in prefixes]
    return (
        np.array([hi for hi, _ in words], np.uint64),
        np.array([lo for _, lo in words], np.uint64),
        np.array([p.prefixlen for p in prefixes], np.uint8),
    )


def roa_set(rows: Sequence[Payload]) -> RoaSet:
    asn = np.array([r[0] for r in rows], np.uint32)
    return RoaSet(asn, *columns([r[1] for r in rows]), np.array([r[2] for r in rows], np.uint8))


def covers(outer: Network, inner: Network) -> bool:
    return outer.version == inner.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def validity(rows: Sequence[Payload], route: Network, origin: int) -> int:
    covering = [row for row in rows if covers(row[1], route)]
    if any(origin == asn != 0 and route.prefixlen <= most for asn, _, most in covering):
        return RoaState.VALID
    return RoaState.INVALID if covering else RoaState.UNKNOWN


@given(st.lists(payloads, max_size=20), st.lists(st.tuples(networks, numbers), max_size=20))
def test_validation(rows: list[Payload], routes: list[tuple[Network, int]]) -> None:
    origins = np.array([origin for _, origin in routes], np.uint32)
    got = roa_set(rows).validate(*columns([route for route, _ in routes]), origins)
    assert got.tolist() == [validity(rows, route, origin) for route, origin in routes]


@given(st.sampled_from([4, 6]), st.lists(st.tuples(networks, st.integers(0, 2)), max_size=20))
def test_less_specific_routes(version: int, told: list[tuple[Network, int]]) -> None:
    # Whether payloads cover a prefix is a matter of the prefix: its routes are all unknown or none.
    known = {p: s for p, s in told if p.version == version}
    routes = [(p, s if known[p] and s else known[p]) for p, s in told if p.version == version]
    expected = []
    for route, state in routes:
        above = [(p, s) for p, s in routes if p != route and covers(p, route)]
        above = [(p.prefixlen, s) for p, s in above if s != RoaState.INVALID]
        if state == RoaState.INVALID and above:
            nearest = max(above)[1]
            valid = nearest == RoaState.VALID
            told_apart = RoaState.INVALID_UNDER_VALID if valid else RoaState.INVALID_UNDER_UNKNOWN
            expected.append(int(told_apart))
        else:
            expected.append(state)
    states = np.array([s for _, s in routes], np.uint8)
    assert less_specific_states(*columns([p for p, _ in routes]), states).tolist() == expected


@pytest.mark.parametrize(
    ("prefix", "origin", "code"),
    [
        ("192.0.2.0/24", 64496, "v"),
        ("192.0.2.0/25", 64496, "i"),
        ("192.0.2.0/24", 64497, "i"),
        ("192.0.2.0/23", 64496, "u"),
        ("198.51.100.0/25", 64496, "v"),
        ("198.51.100.0/26", 64496, "i"),
        ("203.0.113.0/24", 64496, "i"),  # AS 0: nobody may
        ("203.0.113.0/24", 0, "i"),
        ("2001:db8:1::/48", 64498, "v"),
        ("::ffff:0:0/96", 64498, "u"),
        ("0.0.0.0/0", 64498, "u"),
    ],
)
def test_states(prefix: str, origin: int, code: str) -> None:
    told = [
        (64496, "192.0.2.0/24", 24),
        (64496, "198.51.100.0/24", 25),
        (0, "203.0.113.0/24", 32),
        (64498, "2001:db8::/32", 48),
    ]
    roas = roa_set([(asn, ip_network(text), most) for asn, text, most in told])
    (state,) = roas.validate(*columns([ip_network(prefix)]), np.array([origin], np.uint32))
    assert STATE_CODES[state] == code


def test_empty_and_repeated() -> None:
    assert len(RoaSet.empty()) == 0
    row = (1, ip_network("10.0.0.0/8"), 9)
    assert len(roa_set([row, row, (*row[:2], 8)])) == 2
    unknown = RoaSet.empty().validate(*columns([row[1]]), np.array([1], np.uint32))
    assert unknown.tolist() == [RoaState.UNKNOWN]


# -- files


def written(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_file(tmp_path: Path) -> None:
    roas = [
        {"asn": "AS64496", "prefix": "192.0.2.0/24", "maxLength": 26, "ta": "ripe"},
        {"asn": 64497, "prefix": "2001:db8::/32", "expires": 1},
        {"asn": "64498", "prefix": "0.0.0.0/0", "maxLength": 0},
    ]
    got = load_roas(written(tmp_path / "roas.json", {"metadata": {}, "roas": roas}))
    assert len(got) == 3
    routes = [ip_network(t) for t in ("192.0.2.64/26", "2001:db8::/32", "2001:db8::/33")]
    origins = np.array([64496, 64497, 64497], np.uint32)
    assert got.validate(*columns(routes), origins).tolist() == [1, 1, 2]
    assert len(load_roas(written(tmp_path / "none.json", {"roas": []}))) == 0


GOOD = {"asn": 1, "prefix": "10.0.0.0/8"}


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("{", "file: found no JSON"),
        ([], "roas: found nothing, allowed a list of ROAs"),
        ({"roas": {}}, "roas: found {}, allowed a list"),
        ({"roas": [GOOD, 7]}, "roas[1]: found 7, allowed an object with asn, prefix"),
        ({"roas": [{**GOOD, "asn": "ASX"}]}, 'roas[0].asn: found "ASX", allowed AS number'),
        ({"roas": [{**GOOD, "asn": 1 << 32}]}, "roas[0].asn: found 4294967296"),
        ({"roas": [{**GOOD, "asn": True}]}, "roas[0].asn: found true"),
        ({"roas": [{**GOOD, "asn": None}]}, "roas[0].asn: found nothing"),
        ({"roas": [{**GOOD, "prefix": "10.0.0.0"}]}, 'prefix: found "10.0.0.0", allowed an IP'),
        ({"roas": [{**GOOD, "prefix": "10.0.0.0/33"}]}, "allowed an IP prefix"),
        ({"roas": [{**GOOD, "prefix": "10.0.0.0/²"}]}, "allowed an IP prefix"),
        ({"roas": [{**GOOD, "prefix": "1\0/8"}]}, "allowed an IP prefix"),
        ({"roas": [{**GOOD, "prefix": "10.0.0.1/8"}]}, "allowed an IP prefix without host bits"),
        ({"roas": [{**GOOD, "prefix": "x" * 99}]}, "xxx..., allowed an IP prefix"),
        ({"roas": [{**GOOD, "maxLength": 7}]}, "roas[0].maxLength: found 7, allowed 8 to 32"),
        ({"roas": [{**GOOD, "maxLength": "8"}]}, 'maxLength: found "8", allowed 8 to 32'),
        ({"roas": [{**GOOD, "maxLength": 8.5}]}, "maxLength: found 8.5"),
    ],
)
def test_wrong_files(tmp_path: Path, value: Any, line: str) -> None:
    path = written(tmp_path / "roas.json", value)
    with pytest.raises(ConfigError) as caught:
        load_roas(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.json: file: found No such file"):
        load_roas(tmp_path / "none.json")
