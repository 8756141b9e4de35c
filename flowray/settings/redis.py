"""pydantic models of live views: the Redis server, and what is written there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from flowray.settings.base import Model, misplaced
from flowray.settings.quantities import Duration

DEFAULT_PORT = 6379
_FORM = "redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], or rediss:// with TLS"
_FILES = ("ca", "cert", "key")
"""Options that may stand in the URL as parameters."""


class Redis(Model):
    """A Redis server: a URL, or a mapping of these options. What is secret is never shown."""

    url: SecretStr
    username: str | None = None
    password_file: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_url(cls, content: Any) -> Any:
        """A URL alone is the mapping of it; its parameters are options. Errors never tell it: it
        may hold a password.
        """
        if isinstance(content, str):
            content = {"url": content}
        if not isinstance(content, dict) or "url" not in content:
            return content
        url = content["url"]
        if not isinstance(url, str):
            raise misplaced("url", "no text", _FORM)
        try:
            parts = urlsplit(url)
            number = parts.path.strip("/") or "0"
            good = parts.scheme in ("redis", "rediss") and bool(parts.hostname)
            good = good and parts.port != 0 and number.isdecimal() and not parts.fragment
        except ValueError:
            good = False
        if not good:
            raise misplaced("url", "another form of URL", _FORM)
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        for name in given:
            if name not in _FILES:
                raise misplaced("url", f"the parameter {name}", ", ".join(_FILES))
            if name in content:
                raise misplaced(name, "it in the URL too", "it at one place")
        if parts.password is not None and content.get("password_file") is not None:
            raise misplaced("password_file", "a password in the URL too", "one of the two")
        if parts.username and content.get("username") is not None:
            raise misplaced("username", "a user in the URL too", "one of the two")
        return {**content, **given}

    @model_validator(mode="after")
    def _secured(self) -> Redis:
        if not self.tls:
            for name in _FILES:
                if getattr(self, name) is not None:
                    raise misplaced(name, str(getattr(self, name)), "it with rediss:// alone")
        if (self.cert is None) != (self.key is None):
            name = "key" if self.key is None else "cert"
            raise misplaced(name, "nothing", "both of cert and key, or none")
        return self

    @property
    def _parts(self) -> Any:
        return urlsplit(self.url.get_secret_value())

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return bool(self._parts.scheme == "rediss")

    @property
    def host(self) -> str:
        """Name or address of the server."""
        return str(self._parts.hostname)

    @property
    def port(self) -> int:
        """TCP port."""
        return int(self._parts.port or DEFAULT_PORT)

    @property
    def database(self) -> int:
        """Number of the database."""
        return int(self._parts.path.strip("/") or 0)

    @property
    def user(self) -> str | None:
        """Name of the user; None is the default one."""
        return self.username or unquote(self._parts.username or "") or None

    @property
    def password(self) -> str | None:
        """The password in the URL."""
        found = self._parts.password
        return None if found is None else unquote(found)

    @property
    def place(self) -> str:
        """host:port/database, for people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}/{self.database}"


class Live(Model):
    """What of the open windows is written to Redis."""

    interval: Annotated[Duration, Field(ge=100_000_000)] = 1_000_000_000
    top: int = Field(default=100, ge=1, le=10_000)
    windows: int = Field(default=3, ge=1, le=64)
    totals: int = Field(default=360, ge=1, le=100_000)
    expire: Annotated[Duration, Field(ge=1_000_000_000)] = 30_000_000_000
    prefix: str = Field(default="flowray", pattern=r"^[A-Za-z0-9_.:{}-]{1,64}$")

    @field_validator("expire")
    @classmethod
    def _outlives(cls, expire: int, info: Any) -> int:
        if expire < 3 * info.data.get("interval", 0):
            raise ValueError("at least three times live.interval")
        return expire
