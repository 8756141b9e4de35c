"""Connections to the Redis server of the configuration."""

from __future__ import annotations

from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from flowray.settings.redis import Redis

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0


class _PasswordFile(redis.CredentialProvider):
    """Reads the password at each connection: a new one needs no restart."""

    def __init__(self, user: str | None, path: Path) -> None:
        self._user = user
        self._path = path

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """User, if any, and password. Raises AuthenticationError."""
        try:
            password = self._path.read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            # Of the library's errors: after another one it would use the connection all the same.
            raise redis.AuthenticationError(f"password_file: {error}") from error
        return (password,) if self._user is None else (self._user, password)


def connect(settings: Redis) -> redis.Redis:
    """A client, which connects when it is first used and again after a failure. One try a command:
    who asks knows what to do meanwhile.
    """
    file = settings.password_file
    return redis.Redis(
        host=settings.host,
        port=settings.port,
        db=settings.database,
        username=settings.user if file is None else None,
        password=settings.password,
        credential_provider=None if file is None else _PasswordFile(settings.user, file),
        ssl=settings.tls,
        ssl_ca_certs=_text(settings.ca),
        ssl_certfile=_text(settings.cert),
        ssl_keyfile=_text(settings.key),
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
        protocol=2,  # what servers before 6 speak, too
        decode_responses=True,
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
