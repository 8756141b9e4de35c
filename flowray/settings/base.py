"""What the models of flowray.yaml have in common."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

MISPLACED = "misplaced"
"""Type of the errors of `misplaced`."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$")]


class Model(BaseModel):
    """Unknown options are mistakes; settings do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _location(value: Any) -> str:
    text = str(value) if isinstance(value, Path) else value
    if not isinstance(text, str) or not text:
        raise ValueError("a local directory, or a URI such as s3://bucket/prefix?region=eu-west-1")
    if "://" in text:
        from flowray.filesystems import check_uri

        check_uri(text)
    return text


Location = Annotated[str, BeforeValidator(_location)]
"""A local directory, or a URI of pyarrow.fs."""


def misplaced(place: str, found: str, allowed: str) -> PydanticCustomError:
    """A mistake that several options make together, told at one of them: `place` below the model
    that is validated.
    """
    told = {"place": place, "found": found, "allowed": allowed}
    return PydanticCustomError(MISPLACED, "{allowed}", told)


def _prefix(value: str) -> str:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError("an address or prefix, such as 192.0.2.0/24") from None
    return value


def _tcp_address(value: str) -> str:
    try:
        url = urlsplit(f"tcp://{value}")
        port, host = url.port, url.hostname
        ipaddress.ip_address((host or "").split("%")[0])
    except ValueError:
        port = None
    if port is None:
        raise ValueError("ADDRESS:PORT, such as [::]:1179")
    return value


def _udp_url(value: str) -> str:
    try:
        url = urlsplit(value)
        port, host = url.port, url.hostname
        ipaddress.ip_address((host or "").split("%")[0])
    except ValueError:
        port = None
    if port is None or urlsplit(value).scheme != "udp":
        raise ValueError("udp://ADDRESS:PORT, such as udp://[::]:2055")
    return value


Prefix = Annotated[str, AfterValidator(_prefix)]
TcpAddress = Annotated[str, AfterValidator(_tcp_address)]
UdpUrl = Annotated[str, AfterValidator(_udp_url)]
