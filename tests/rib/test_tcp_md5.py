"""The file of passwords; that the kernel checks them is tested with the listener."""

import socket
from pathlib import Path

import pytest

from flowray.errors import ConfigError
from flowray.rib.tcp_md5 import load_passwords, passwords_for


def test_passwords_by_prefix(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    file.write_text(
        "! routers\n192.0.2.1, first\n\n# and more\n 192.0.2.129/25,se,cond \n2001:db8::/32,third\n"
    )
    passwords = load_passwords(file)
    assert passwords == {
        "192.0.2.1/32": b"first",
        "192.0.2.128/25": b"se,cond",
        "2001:db8::/32": b"third",
    }
    assert passwords_for(socket.AF_INET6, passwords) == passwords
    assert list(passwords_for(socket.AF_INET, passwords)) == ["192.0.2.1/32", "192.0.2.128/25"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("192.0.2.1 secret\n", "'192.0.2.1 secret'"),
        ("router, secret\n", "'router'"),
        ("192.0.2.1,\n", "0 octets"),
        ("192.0.2.1," + "x" * 81 + "\n", "81 octets"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, text: str, found: str) -> None:
    file = tmp_path / "passwords"
    file.write_text("# head\n" + text)
    with pytest.raises(ConfigError) as raised:
        load_passwords(file)
    assert (raised.value.file, raised.value.found) == (f"{file}:2", found)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load_passwords(tmp_path / "none")
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError):
        load_passwords(binary)
