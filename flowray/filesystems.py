"""Local directories and object storage, by path or URI: what sinks, state and archives share."""

from __future__ import annotations

import os
import posixpath
import uuid
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

__all__ = [
    "PUBLISH_ON_CLOSE", "aside_name", "check_uri", "filesystem_of", "is_uri", "put_object",
    "replace_file", "shown", "sync_directory",
]  # fmt: skip

SCHEMES: Final = ("s3", "gs", "gcs", "hdfs", "viewfs")

PUBLISH_ON_CLOSE: Final = frozenset({"s3", "gcs", "abfs"})
"""File systems whose objects appear when their stream is closed: nothing to move."""

_S3_TEXTS: Final = ("region", "endpoint_override", "scheme")
_S3_SWITCHES: Final = (
    "allow_bucket_creation",
    "check_directory_existence_before_creation",
    "force_virtual_addressing",
)  # fmt: skip

S3_ATTEMPTS: Final = 3
"""Tries of a request to S3: who calls has a back-off of its own, and does not want to wait long."""
S3_SECONDS: Final = 10.0
"""Silence after which a request to S3 is given up."""


def is_uri(location: str) -> bool:
    """Whether this is a URI and no local path."""
    return "://" in location


def shown(location: str) -> str:
    """A location without what may be secret in it: credentials and options."""
    if not is_uri(location):
        return location
    scheme, _, rest = location.partition("?")[0].partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def check_uri(uri: str) -> None:
    """Raises ValueError, saying what is allowed, for a URI that cannot be right; asks nobody."""
    parts = urlsplit(uri)
    if parts.scheme not in SCHEMES or not parts.netloc.rpartition("@")[2]:
        schemes = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ValueError(f"a local directory, or a bucket or host after {schemes}")
    if parts.scheme == "s3":
        _s3_options(parts)


def _s3_options(parts: SplitResult) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in _S3_TEXTS and value:
            options[name] = value
        elif name in _S3_SWITCHES and value in ("true", "false"):
            options[name] = value == "true"
        else:
            switches = (f"{switch}=true" for switch in _S3_SWITCHES)
            allowed = ", ".join((*(f"{text}=..." for text in _S3_TEXTS), *switches))
            raise ValueError(f"of the options of s3:// {allowed}")
    if parts.username:
        options["access_key"] = unquote(parts.username)
        options["secret_key"] = unquote(parts.password or "")
    return options


def filesystem_of(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system of a URI and the path inside it.

    Raises ValueError for one that cannot be right, OSError if it cannot be reached.
    """
    parts = urlsplit(uri)
    if parts.scheme != "s3":
        found, path = fs.FileSystem.from_uri(uri)
        return found, path.rstrip("/")
    options = _s3_options(parts)
    bucket = parts.netloc.rpartition("@")[2]
    if not options.keys() & {"region", "endpoint_override"}:
        options["region"] = fs.resolve_s3_region(bucket)
    # Without a strategy pyarrow tries a server that is away for six seconds.
    retry = fs.AwsDefaultS3RetryStrategy(max_attempts=S3_ATTEMPTS)
    found = fs.S3FileSystem(  # type: ignore[call-arg]
        request_timeout=S3_SECONDS,
        retry_strategy=retry,
        allow_delayed_open=True,  # one request for what is small, instead of three
        **options,
    )
    return found, f"{bucket}{unquote(parts.path)}".rstrip("/")


def put_object(filesystem: fs.FileSystem, path: str, content: bytes | pa.Buffer) -> None:
    """Give an object new content, all or nothing. Raises OSError."""
    if filesystem.type_name in PUBLISH_ON_CLOSE:
        with filesystem.open_output_stream(path) as stream:
            stream.write(content)
        return
    directory, name = posixpath.split(path)
    filesystem.create_dir(directory, recursive=True)
    aside = posixpath.join(directory, aside_name(name))
    with filesystem.open_output_stream(aside) as stream:
        stream.write(content)
    try:
        filesystem.move(aside, path)
    except OSError:
        # HDFS does not replace on rename. Who reads meanwhile asks again, as for one not there.
        filesystem.delete_file(path)
        filesystem.move(aside, path)


def replace_file(path: Path, content: bytes | pa.Buffer) -> None:
    """Give a local file new content, all or nothing, also if power fails. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(aside_name(path.name))
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    sync_directory(path.parent)


def aside_name(name: str) -> str:
    """A name in the same directory that no reader takes for data and no other writer uses."""
    return f".{name[:200]}.{uuid.uuid4().hex}.tmp"


def sync_directory(path: Path) -> None:
    """Have renames in a directory survive power loss. Raises OSError."""
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
