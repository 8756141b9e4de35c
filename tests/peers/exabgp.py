"""ExaBGP as a router: it says what it is told to, malformed attributes included."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from tests.peers.speaker import Speaker

FAMILIES = ("ipv4 unicast", "ipv6 unicast", "ipv4 mpls-vpn", "ipv6 mpls-vpn", "ipv4 flow")


@dataclass(frozen=True)
class Session:
    """From `local` to a port of `address`."""

    address: str
    port: int
    local: str
    asn: int = 65001
    peer_as: int = 65001


class ExaBgp(Speaker):
    """exabgp, which reads commands from a named pipe."""

    def __init__(self, program: Path, folder: Path, session: Session) -> None:
        super().__init__(folder, "exabgp")
        self._program = program
        self._file, self._pipe = folder / "exabgp.conf", folder / "commands"
        self._commands: TextIO | None = None
        os.mkfifo(self._pipe)
        self._file.write_text(
            f"""neighbor {session.address} {{
    router-id 198.51.100.4;
    local-address {session.local};
    local-as {session.asn};
    peer-as {session.peer_as};
    connect {session.port};
    capability {{
        asn4 enable;
        aigp enable;
        route-refresh enable;
    }}
    family {{ {" ".join(f"{family};" for family in FAMILIES)} }}
    api {{ processes [ commands ]; }}
}}
process commands {{ run /bin/cat {self._pipe}; encoder text; }}
"""
        )

    def command(self) -> Sequence[str | Path]:
        return self._program, self._file

    def environment(self) -> Mapping[str, str]:
        own = {
            "exabgp_daemon_user": getpass.getuser(),
            "exabgp_api_cli": "false",
            "exabgp_log_level": "WARNING",
        }
        return os.environ | own

    def ready(self) -> bool:
        """Once its helper reads the pipe, which opens then."""
        try:
            end = os.open(self._pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return False
        os.set_blocking(end, True)
        self._commands = os.fdopen(end, "w", encoding="ascii")
        return True

    def say(self, commands: Iterable[str]) -> None:
        assert self._commands is not None
        self._commands.writelines(f"{command}\n" for command in commands)
        self._commands.flush()

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        if self._commands is not None:
            self._commands.close()
