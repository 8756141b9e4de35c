"""Operator maps: the syntax, labels and sampling rates by exporter."""

from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.addresses import address
from flowray.errors import ConfigError
from flowray.maps import (
    LABEL_KEYS,
    SAMPLING_KEYS,
    MapRow,
    compile_labels,
    compile_sampling,
    load_labels,
    load_sampling,
    parse_map,
)

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "a.map"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def words(*exporters: str) -> tuple[np.ndarray, np.ndarray]:
    numbers = [address(e) for e in exporters]
    high = np.array([n >> 64 for n in numbers], np.uint64)
    return high, np.array([n & ((1 << 64) - 1) for n in numbers], np.uint64)


class TestSyntax:
    def test_rows_comments_and_quotes(self, write: Write) -> None:
        path = write(
            "! a comment\n\n# another\n  ip=192.0.2.1/32\tset_label=nkey%1,pkey%a=b ! core\n"
            "set_label='two words' ip=::/0\r\nset_label=a#b"
        )
        assert parse_map(path, LABEL_KEYS) == [
            MapRow(str(path), 4, {"ip": "192.0.2.1/32", "set_label": "nkey%1,pkey%a=b"}),
            MapRow(str(path), 5, {"set_label": "two words", "ip": "::/0"}),
            MapRow(str(path), 6, {"set_label": "a#b"}),
        ]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("id=1\nset_lable=x", ":2: key: found 'set_lable', allowed ip, set_label"),
            ("ip = 1.1.1.1", ":1: row: found 'ip', allowed key=value without spaces around ="),
            ("ip=1.1.1.1 ip=2.2.2.2", ":1: ip: found the key twice, allowed one value a row"),
            ("set_label='x", ""),
            ("set_label='x'y", ""),
            ("=", ":1: row: found '=', allowed key=value without spaces around ="),
        ],
    )
    def test_errors_name_the_line(self, write: Write, text: str, message: str) -> None:
        path = write(text.replace("id=1", "ip=1.1.1.1"))
        if not message:  # An unfinished quote is an ordinary character.
            assert len(parse_map(path, LABEL_KEYS)) == 1
            return
        with pytest.raises(ConfigError) as caught:
            parse_map(path, LABEL_KEYS)
        assert str(caught.value) == f"{path}{message}"

    def test_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="No such file"):
            parse_map(tmp_path / "none.map", LABEL_KEYS)
        with pytest.raises(ConfigError, match="allowed a readable file"):
            parse_map(tmp_path, LABEL_KEYS)
        binary = tmp_path / "binary.map"
        binary.write_bytes(b"\xff\xfe")
        with pytest.raises(ConfigError, match="not UTF-8"):
            parse_map(binary, LABEL_KEYS)

    @given(text=st.text(max_size=80))
    def test_any_text_is_rows_or_an_error(
        self, tmp_path_factory: pytest.TempPathFactory, text: str
    ) -> None:
        path = tmp_path_factory.getbasetemp() / "any.map"
        path.write_text(text, encoding="utf-8", errors="replace")
        with suppress(ConfigError):
            compile_labels(parse_map(path, LABEL_KEYS))


class TestLabels:
    def test_the_first_match_wins(self, write: Write) -> None:
        path = write(
            "set_label=nkey%100.1,pkey%testing  ip=192.0.2.1/32\n"
            "set_label=net                      ip=192.0.2.0/24\n"
            "set_label=six                      ip=2001:db8::/32\n"
            "set_label=nkey%unknown,pkey%unknown\n"
            "set_label=never                    ip=198.51.100.1\n"
        )
        labels = load_labels(path)
        assert labels.labels(
            *words("192.0.2.1", "192.0.2.2", "2001:db8::1", "198.51.100.1", "::")
        ) == [
            b"nkey%100.1,pkey%testing",
            b"net",
            b"six",
            b"nkey%unknown,pkey%unknown",
            b"nkey%unknown,pkey%unknown",
        ]
        assert labels.labels(*words()) == []

    def test_without_a_match_the_label_is_empty(self, write: Write) -> None:
        labels = load_labels(write("set_label=é ip=0.0.0.0/0"))
        assert labels.labels(*words("::1", "192.0.2.1")) == [b"", "é".encode()]
        assert compile_labels([]).labels(*words("::1")) == [b""]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("set_label=a ip=10.0.0.300", ":1: ip: found '10.0.0.300', allowed an address or"),
            ("ip=10.0.0.1", ":1: row: found no result, allowed one of set_label"),
            ("set_label=", ":1: set_label: found '', allowed text"),
        ],
    )
    def test_errors(self, write: Write, text: str, message: str) -> None:
        path = write(text)
        with pytest.raises(ConfigError) as caught:
            load_labels(path)
        assert str(caught.value).startswith(f"{path}{message}")

    @given(
        st.lists(st.tuples(st.ip_addresses(v=4), st.integers(0, 32)), max_size=12),
        st.lists(st.ip_addresses(v=4), max_size=12),
    )
    def test_twin(self, rules: list, exporters: list) -> None:
        networks = [ip_network(f"{host}/{length}", strict=False) for host, length in rules]
        exporters += [n[0] for n in networks] + [n[-1] for n in networks]
        rows = [
            MapRow("m", i, {"ip": str(n), "set_label": str(i)}) for i, n in enumerate(networks, 1)
        ]
        expected = [
            next((str(i).encode() for i, n in enumerate(networks, 1) if e in n), b"")
            for e in exporters
        ]
        assert compile_labels(rows).labels(*words(*map(str, exporters))) == expected


class TestSampling:
    def test_rates(self, write: Write) -> None:
        rates = load_sampling(write("id=1024 ip=192.0.2.0/24\nid=4294967295 ip=::/0\n"))
        got = rates.rates(*words("192.0.2.7", "2001:db8::1", "198.51.100.1"))
        assert got.dtype == np.uint32
        assert got.tolist() == [1024, 4_294_967_295, 0]

    @pytest.mark.parametrize("rate", ["0", "-1", "x", "4294967296", "1.5", "²"])
    def test_errors(self, write: Write, rate: str) -> None:
        with pytest.raises(ConfigError, match="allowed a sampling rate from 1 to 4294967295"):
            load_sampling(write(f"id={rate}"))

    def test_keys(self) -> None:
        assert {"id", "ip"} == SAMPLING_KEYS
        rows = [MapRow("m", 1, {"id": "10"}), MapRow("m", 2, {"id": "20"})]
        assert compile_sampling(rows).rates(*words("::1")).tolist() == [10]
