"""A real Redis server on a free port of loopback, with its own directory."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import redis

START_SECONDS = 20.0
TLS_DAYS = 2


class RedisServer:
    """One server. `password`: AUTH of the default user; `tls`: TLS alone, with a certificate of an
    authority of its own (`ca`); `persist`: what was written is there after `kill` and `start`;
    `options`: further lines of redis.conf, such as `("maxmemory 3mb",)`.
    """

    def __init__(
        self,
        program: Path,
        openssl: Path,
        directory: Path,
        *,
        password: str = "",
        tls: bool = False,
        persist: bool = False,
        options: tuple[str, ...] = (),
    ) -> None:
        self._program = program
        self._openssl = openssl
        self.directory = directory
        self.password = password
        self.tls = tls
        self.persist = persist
        self._options = options
        self.port = _free_port()
        self.ca = directory / "ca.crt"
        self._process: subprocess.Popen[bytes] | None = None
        if tls:
            self._certificates()

    @property
    def url(self) -> str:
        """For a configuration, password and authority included."""
        user = f":{self.password}@" if self.password else ""
        if self.tls:
            return f"rediss://{user}127.0.0.1:{self.port}/0?ca={self.ca}"
        return f"redis://{user}127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Of the server that runs."""
        assert self._process is not None
        return self._process.pid

    def client(self, **options: Any) -> redis.Redis:
        """Connected as the default user; answers are text."""
        secured = {"ssl": True, "ssl_ca_certs": str(self.ca)} if self.tls else {}
        return redis.Redis(
            host="127.0.0.1",
            port=self.port,
            password=self.password or None,
            decode_responses=True,
            **secured,
            **options,
        )

    def start(self) -> None:
        """Run it on its port, and wait until it answers."""
        command = [str(self._program), str(self._written_configuration())]
        log = (self.directory / "log").open("ab")
        with log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with self.client() as client:
                    client.ping()
            except redis.RedisError:
                assert self._process.poll() is None, (self.directory / "log").read_text()
                assert time.monotonic() < deadline, "Redis does not answer"
                time.sleep(0.01)
            else:
                return

    def kill(self) -> None:
        """End it as kill -9 does. Does nothing if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _written_configuration(self) -> Path:
        port = f"tls-port {self.port}" if self.tls else f"port {self.port}"
        lines = [port, "bind 127.0.0.1", f"dir {self.directory}", 'save ""', *self._options]
        if self.tls:
            named = {"cert": "server.crt", "key": "server.key", "ca-cert": "ca.crt"}
            lines += [f"tls-{what}-file {self.directory / name}" for what, name in named.items()]
            lines += ["port 0", "tls-auth-clients no"]
        if self.password:
            lines.append(f"requirepass {self.password}")
        if self.persist:
            lines += ["appendonly yes", "appendfsync always"]
        path = self.directory / "redis.conf"
        path.write_text("\n".join(lines) + "\n")
        return path

    def _certificates(self) -> None:
        """An authority, and a certificate by it for 127.0.0.1 and localhost."""
        at = self.directory
        (at / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        days = ("-days", str(TLS_DAYS))
        request = ("req", *curve, "-keyout")
        signed = ("-CA", self.ca, "-CAkey", at / "ca.key", "-CAcreateserial")
        named = ("-extfile", at / "names", *days)
        for arguments in (
            (*request, at / "ca.key", "-x509", "-out", self.ca, "-subj", "/CN=flowray", *days),
            (*request, at / "server.key", "-out", at / "server.csr", "-subj", "/CN=redis"),
            ("x509", "-req", "-in", at / "server.csr", "-out", at / "server.crt", *signed, *named),
        ):
            subprocess.run([self._openssl, *arguments], check=True, capture_output=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
