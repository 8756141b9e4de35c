"""A Ray runtime for flowray: one of its own on this machine, or a cluster that runs already."""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from actors.naming import ENVIRONMENT, NAMESPACE, SUPERVISOR
from flowray.errors import FlowrayError
from flowray.filesystems import replace_file
from flowray.settings.model import Settings

HEALTH = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}
"""A node that is gone is seen in about 2 s instead of 15."""

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}


class NotRunningError(FlowrayError):
    """There is no flowray to talk to."""


@dataclass(frozen=True, slots=True)
class Running:
    """How other commands find a running flowray: a small file of mode 0600, under the state path if
    that is on this machine.
    """

    address: str
    token_path: str
    pid: int
    dashboard: str

    @staticmethod
    def path(settings: Settings) -> Path:
        """Where the file is."""
        return settings.state.local / "running.json"

    def write(self, settings: Settings) -> None:
        """Say that it runs. Raises OSError."""
        path = self.path(settings)
        replace_file(path, json.dumps(asdict(self)).encode())
        path.chmod(0o600)

    @classmethod
    def read(cls, settings: Settings) -> Running:
        """Raises NotRunningError."""
        path = cls.path(settings)
        try:
            return cls(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            raise NotRunningError(
                f"nothing runs here: there is no {path}; start it: flowray up"
            ) from None
        except (ValueError, TypeError, OSError) as error:
            raise NotRunningError(f"{path} cannot be read: {error}") from None


@contextmanager
def own_runtime(settings: Settings, *, cores: int | None = None) -> Iterator[Running]:
    """A Ray runtime of this process, ended with it."""
    # Not under the state path: Ray puts sockets there, and a socket's path ends at 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="fr"))
    token = directory / "token"
    token.touch(0o600)
    token.write_text(secrets.token_hex(32))
    os.environ.update(QUIET | ENVIRONMENT)
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token))
    os.environ.pop("RAY_AUTH_TOKEN", None)
    import ray

    try:
        context = ray.init(
            address="local",
            num_cpus=cores,
            object_store_memory=settings.cluster.object_store,
            include_dashboard=settings.cluster.dashboard,
            log_to_driver=False,
            logging_level=logging.ERROR,
            namespace=NAMESPACE,
            _temp_dir=str(directory),
            _system_config=HEALTH,
        )
        yield _running(context, str(token))
    finally:
        ray.shutdown()
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def joined_runtime(address: str, token_path: str = "") -> Iterator[Running]:
    """A connection to a Ray cluster that runs already; authentication as the environment says."""
    os.environ.update(QUIET)
    if token_path:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=token_path)
        os.environ.pop("RAY_AUTH_TOKEN", None)
    import ray

    try:
        context = ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            namespace=NAMESPACE,
            runtime_env={"env_vars": ENVIRONMENT},
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise NotRunningError(f"no Ray cluster at {address}: {error}") from None
    try:
        yield _running(context, os.environ.get("RAY_AUTH_TOKEN_PATH", token_path))
    finally:
        ray.shutdown()


def _running(context: Any, token_path: str) -> Running:
    info = context.address_info
    url = info.get("webui_url") or ""
    return Running(info["gcs_address"], token_path, os.getpid(), f"http://{url}" if url else "")


@contextmanager
def supervisor(settings: Settings) -> Iterator[Any]:
    """The supervisor of the flowray that runs with this state path. Raises NotRunningError."""
    running = Running.read(settings)
    with joined_runtime(running.address, running.token_path):
        import ray

        try:
            yield ray.get_actor(SUPERVISOR, NAMESPACE)
        except ValueError:
            raise NotRunningError(f"Ray at {running.address} runs no flowray") from None


def forget(settings: Settings) -> None:
    """Remove the file that says it runs."""
    with suppress(OSError):
        Running.path(settings).unlink(missing_ok=True)
