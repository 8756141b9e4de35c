"""What every test may ask for: a Ray runtime, real peers, and kernels that check their bounds."""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from flowray.kernel_cache import drop_stale
from tests.redis_rig import RedisServer
from tests.s3_rig import S3Server

ROOT = Path(__file__).resolve().parent.parent

# Before the first import of numba: kernels under test raise IndexError instead of reading past an
# array. They are cached apart from those of scripts/run, which do not check. Processes started by a
# test inherit both.
KERNELS = ROOT / ".cache" / "numba-boundscheck"
os.environ["NUMBA_BOUNDSCHECK"] = "1"
os.environ["NUMBA_CACHE_DIR"] = str(KERNELS)
drop_stale(KERNELS)

# No deadline: the first example of a property may compile its kernel.
settings.register_profile(
    "default", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("default"), max_examples=50, derandomize=True)
settings.register_profile("nightly", settings.get_profile("default"), max_examples=5000)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") == "true" else "default")
)


@pytest.fixture(scope="session")
def ray_local() -> Iterator[ModuleType]:
    """The `ray` module, connected to a runtime of this session's own (about five seconds, once)."""
    os.environ.update(
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN=secrets.token_hex(16),
        RAY_USAGE_STATS_ENABLED="0",
        RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",  # without it ray.init gives a FutureWarning
    )
    import ray

    # Not tmp_path: Ray puts sockets there, and a socket's path ends at 107 bytes.
    with tempfile.TemporaryDirectory(prefix="ry", dir="/tmp", ignore_cleanup_errors=True) as short:
        ray.init(
            address="local",
            num_cpus=2,
            object_store_memory=256 << 20,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            namespace="flowray",
            _temp_dir=short,
        )
        yield ray
        ray.shutdown()


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server with an empty bucket; its credentials are in the environment meanwhile."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        server.start()
        yield server
        server.kill()


@pytest.fixture(scope="session")
def peer() -> Callable[[str], Path]:
    """Find a real program by name: `peer("nfacctd")`.

    A missing one skips the test and says how to get it; under CI=true it fails the test.
    """
    listed = subprocess.run(
        [ROOT / "scripts" / "services", "list"], check=True, capture_output=True, text=True
    )
    packages = dict(line.split() for line in listed.stdout.splitlines())
    path = os.pathsep.join(
        [os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin", "/usr/lib/frr"]
    )

    def find(name: str) -> Path:
        package = packages[name]  # KeyError: add the program to scripts/services
        if found := shutil.which(name, path=path):
            return Path(found)
        reason = f"{name} is missing: scripts/services install (Debian package {package})"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)

    return find


@pytest.fixture
def redis_server(
    peer: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., RedisServer]]:
    """Start real Redis servers: `redis_server(password="x", tls=True)`, see `RedisServer`."""
    program, openssl = peer("redis-server"), peer("openssl")
    servers: list[RedisServer] = []

    def start(**options: Any) -> RedisServer:
        directory = tmp_path_factory.mktemp("redis")
        servers.append(RedisServer(program, openssl, directory, **options))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
