"""A server that speaks S3, for tests: versitygw over a directory, or moto's where Go is missing."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlencode

from flowray.filesystems import filesystem_of

BUCKET = "flowray-test"
SECONDS = 30.0
GO_BIN = Path.home() / "go" / "bin"
"""Where `scripts/services install` puts what it builds."""


def versitygw() -> str | None:
    """The program, if it is to be had."""
    path = os.pathsep.join([os.environ.get("PATH", ""), str(GO_BIN)])
    return shutil.which("versitygw", path=path)


class S3Server:
    """One server on a free loopback port, with one bucket and credentials of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        (directory / "data" / BUCKET).mkdir(parents=True)
        (directory / "meta").mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.environment = {
            "AWS_ACCESS_KEY_ID": secrets.token_hex(8),
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16),
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.durable = versitygw() is not None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the server that runs."""
        assert self._process is not None
        return self._process.pid

    def uri(self, prefix: str = "", *, keys: bool = False) -> str:
        """Where a store or a sink finds the bucket; `keys`: for a process with another environment,
        credentials included.
        """
        user = ":".join(list(self.environment.values())[:2]) + "@" if keys else ""
        options = {"endpoint_override": f"127.0.0.1:{self.port}", "scheme": "http"}
        return f"s3://{user}{BUCKET}/{prefix}?{urlencode({**options, 'region': 'us-east-1'})}"

    def start(self) -> None:
        """Start it, with all that it held before if it is `durable`, and wait until it answers."""
        here = f"127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        if (program := versitygw()) is not None:
            sidecar = ["--sidecar", str(self._directory / "meta")]
            command = [program, "--quiet", "--port", here, "posix", *sidecar]
            command.append(str(self._directory / "data"))
        keys = {
            "ROOT_ACCESS_KEY": self.environment["AWS_ACCESS_KEY_ID"],
            "ROOT_SECRET_KEY": self.environment["AWS_SECRET_ACCESS_KEY"],
        }
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env={**os.environ, **keys}, stdout=log, stderr=log
            )
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                filesystem, bucket = filesystem_of(self.uri() + "&allow_bucket_creation=true")
                if not self.durable:
                    filesystem.create_dir(bucket)
                filesystem.get_file_info(f"{bucket}/x")
            except OSError:
                log_text = (self._directory / "log").read_text()
                assert self._process.poll() is None, log_text
                assert time.monotonic() < deadline, log_text
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
