"""The looking glass over gRPC: `flowray.v1.Rib`, health and reflection."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn, TypeVar

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from flowray.errors import FlowrayError
from flowray.pb import rib_pb2 as pb
from flowray.pb import rib_pb2_grpc
from flowray.rib.glass_answers import Answers, BusyError
from flowray.rib.route_query import QueryError, UnknownPeerError

__all__ = ["GlassError", "GlassServer"]

log = logging.getLogger(__name__)

SERVICE = pb.DESCRIPTOR.services_by_name["Rib"].full_name

THREADS = 4
WAITING = 16
"""Calls that may wait for a thread; more are refused with RESOURCE_EXHAUSTED."""

STOP_SECONDS = 2.0

_OPTIONS = (
    # Two groups that share a port would take each other's questions.
    ("grpc.so_reuseport", 0),
    # A client that vanished while rows were on their way to it gives its thread back.
    ("grpc.keepalive_time_ms", 30_000),
)

_CODES: dict[type[Exception], grpc.StatusCode] = {
    UnknownPeerError: grpc.StatusCode.NOT_FOUND,
    QueryError: grpc.StatusCode.INVALID_ARGUMENT,
    BusyError: grpc.StatusCode.UNAVAILABLE,
    TimeoutError: grpc.StatusCode.UNAVAILABLE,
}
"""Codes of errors, the first that fits."""

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class GlassError(FlowrayError):
    """A looking glass that cannot be opened."""


class GlassServer:
    """Serves answers on an address (ADDRESS:PORT; port 0 takes a free one) until `stop`."""

    def __init__(self, address: str, answers: Answers) -> None:
        """Raises GlassError if the address is taken or none of this machine's."""
        self._health = health.HealthServicer()
        self._threads = ThreadPoolExecutor(THREADS, "looking-glass")
        self._server = grpc.server(
            self._threads,
            options=_OPTIONS,
            maximum_concurrent_rpcs=THREADS + WAITING,
        )
        rib_pb2_grpc.add_RibServicer_to_server(_Rib(answers), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        served = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(served, self._server)
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError:
            raise GlassError(f"looking glass: cannot listen on {address}") from None

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()
        for service in ("", SERVICE):
            self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    def stop(self) -> None:
        """Take no more calls, and end those that are not done soon."""
        self._health.enter_graceful_shutdown()
        self._server.stop(STOP_SECONDS).wait()
        self._threads.shutdown(wait=False, cancel_futures=True)


class _Rib(rib_pb2_grpc.RibServicer):
    """The methods of the service: answers, and errors as their codes."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def Peers(  # noqa: N802 - named by the service
        self, request: pb.PeersRequest, context: grpc.ServicerContext
    ) -> pb.PeersResponse:
        return _one(self._answers.peers, request, context)

    def Lookup(  # noqa: N802
        self, request: pb.LookupRequest, context: grpc.ServicerContext
    ) -> pb.LookupResponse:
        return _one(self._answers.lookup, request, context)

    def Routes(  # noqa: N802
        self, request: pb.RoutesRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.RoutesResponse]:
        return _many(self._answers.routes, request, context)

    def Diff(  # noqa: N802
        self, request: pb.DiffRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.DiffResponse]:
        return _many(self._answers.diff, request, context)


def _one(
    method: Callable[[_Request], _Response], request: _Request, context: grpc.ServicerContext
) -> _Response:
    try:
        return method(request)
    except Exception as error:  # noqa: BLE001 - the caller is told
        _abort(context, error)


def _many(
    method: Callable[[_Request], Iterator[_Response]],
    request: _Request,
    context: grpc.ServicerContext,
) -> Iterator[_Response]:
    try:
        yield from method(request)
    except Exception as error:  # noqa: BLE001 - the caller is told
        _abort(context, error)


def _abort(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    """End a call with a code and one line."""
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            context.abort(code, str(error) or "the tables are busy: ask again")
    log.error("looking glass: %s", error, exc_info=error)
    context.abort(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
