"""Options of what watches flowray: metrics, the gateway, logs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from flowray.settings.base import Model, TcpAddress


class Metrics(Model):
    """What Prometheus is told."""

    exporters: int = Field(default=200, ge=0, le=10_000)


class Gateway(Model):
    """Where the gateway answers: health, status, accounts and views over HTTP, health over gRPC."""

    http: TcpAddress | None = None
    grpc: TcpAddress | None = None


class Logs(Model):
    """How the actors' logs are written."""

    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"
    per_minute: int = Field(default=10, ge=1)
