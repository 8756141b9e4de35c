"""The gateway: health, status, accounts and views for programs, over HTTP and gRPC."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

import grpc
import ray
from aiohttp import web
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from actors.naming import READY_SERVICE, as_actor
from flowray.errors import FlowrayError
from flowray.logs import configure, without_secrets
from flowray.settings.model import Settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
THREADS, WAITING = 4, 16


class GatewayError(FlowrayError):
    """A gateway that cannot be opened."""


class UnknownError(FlowrayError):
    """Something was asked for that is not there."""


class Answers(Protocol):
    """What is asked. Calls may block, and raise RayError, TimeoutError, UnknownError."""

    def reasons(self) -> list[str]:
        """Why it is not ready; empty if it is."""

    def status(self) -> Mapping[str, Any]:
        """What runs and how it is."""

    def ledger(self) -> Mapping[str, Any]:
        """The accounts, and what does not balance."""

    def top(self, view: str, n: str, by: str) -> Mapping[str, Any]:
        """The biggest rows of a view's newest open window."""


class Gateway:
    """Two servers and a look at the readiness each second."""

    def __init__(self, settings: Settings, answers: Answers) -> None:
        """Raises GatewayError if an address is taken."""
        configure("gateway", settings.logs)
        self._answers = answers
        self._addresses = settings.gateway
        self._pool = ThreadPoolExecutor(THREADS, "gateway")
        self._busy = 0
        self._reasons = ["starting"]
        self._stop = threading.Event()
        self._health = health.HealthServicer()
        self._grpc = self._open_grpc(settings.gateway.grpc)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="http", daemon=True).start()
        if settings.gateway.http is not None:
            opened = asyncio.run_coroutine_threadsafe(self._open_http(), self._loop)
            opened.result(30)
        threading.Thread(target=self._watch, name="readiness", daemon=True).start()

    def __repr__(self) -> str:
        return f"Gateway({self._addresses.http or self._addresses.grpc})"

    @ray.method(concurrency_group="control")
    def status(self) -> dict[str, Any]:
        """Where it answers, and why it is not ready."""
        return {**self._addresses.model_dump(), "reasons": self._reasons}

    # -- gRPC --------------------------------------------------------------------------------------

    def _open_grpc(self, address: str | None) -> grpc.Server | None:
        if address is None:
            return None
        server = grpc.server(
            ThreadPoolExecutor(THREADS, "grpc"),
            options=(("grpc.so_reuseport", 0),),
            maximum_concurrent_rpcs=THREADS + WAITING,
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        served = (health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(served, server)
        try:
            server.add_insecure_port(address)
        except RuntimeError:
            raise GatewayError(f"gateway: cannot listen on {address}") from None
        server.start()
        self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        return server

    def _watch(self) -> None:
        states = health_pb2.HealthCheckResponse
        while not self._stop.wait(LOOK_SECONDS):
            self._reasons = self._answers.reasons()
            state = states.NOT_SERVING if self._reasons else states.SERVING
            self._health.set(READY_SERVICE, state)

    # -- HTTP --------------------------------------------------------------------------------------

    async def _open_http(self) -> None:
        assert self._addresses.http is not None
        app = web.Application()
        ask = self._answers
        app.router.add_get("/healthz", _alive)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/status", lambda _: self._answer(ask.status))
        app.router.add_get("/ledger", lambda _: self._answer(ask.ledger))
        app.router.add_get("/top/{view}", self._top)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        host, _, port = self._addresses.http.rpartition(":")
        try:
            await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        except OSError as error:
            place = self._addresses.http
            raise GatewayError(f"gateway: cannot listen on {place}: {error.strerror}") from None

    async def _ready(self, request: web.Request) -> web.Response:
        del request
        reasons = self._reasons
        return _json({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    async def _top(self, request: web.Request) -> web.Response:
        query = request.query
        asked = request.match_info["view"], query.get("n", "20"), query.get("by", "bytes")
        return await self._answer(partial(self._answers.top, *asked))

    async def _answer(self, ask: Callable[[], Mapping[str, Any]]) -> web.Response:
        if self._busy >= THREADS + WAITING:
            return _json({"error": "too many questions at once"}, 503)
        self._busy += 1
        try:
            return _json(await self._loop.run_in_executor(self._pool, ask))
        except UnknownError as error:
            return _json({"error": str(error)}, 404)
        except Exception as error:  # noqa: BLE001 - the asker is told, and may ask again
            log.warning("no answer: %s", error, extra={"cause": type(error).__name__})
            return _json({"error": f"no answer: {type(error).__name__}"}, 503)
        finally:
            self._busy -= 1

    def __ray_shutdown__(self) -> None:
        self._stop.set()
        if self._grpc is not None:
            self._grpc.stop(None)


async def _alive(request: web.Request) -> web.Response:
    del request
    return _json({"status": "ok"})


def _json(content: Mapping[str, Any], code: int = 200) -> web.Response:
    text = without_secrets(json.dumps(content, default=str)) + "\n"
    return web.Response(text=text, status=code, content_type="application/json")


GatewayActor = as_actor(Gateway)
