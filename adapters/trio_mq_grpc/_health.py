"""The health service of gRPC, ``grpc.health.v1``: whether a server, and each of its services, can be used.

grpcio's own servicer for coroutines is made of asyncio, so it cannot run here. This one has its names. The messages are
those of the package grpcio-health-checking, which is needed for this module alone and imported when it is used.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import grpc
import trio

if TYPE_CHECKING:
    from ._server import Server

MOST_LISTED: Final = 100
"""Services that `HealthServicer.List` tells of; with more it refuses (gRFC A90)."""


class HealthServicer:
    """Answers Check, Watch and List. Until something else is said, the server ("") is SERVING.

    ::

        health = HealthServicer()
        health.add_to(server)
        await health.set("shop.v1.Orders", health_pb2.HealthCheckResponse.NOT_SERVING)

    Added so, it says NOT_SERVING for everything when the server begins to stop, and ends the calls that watch, which
    would otherwise keep a graceful stop waiting for its whole grace. With ``add_HealthServicer_to_server`` it knows
    nothing of the server, as grpcio's.

    Raises:
        ModuleNotFoundError: grpcio-health-checking is not installed.
    """

    def __init__(self) -> None:
        self._messages: Any = import_module("grpc_health.v1.health_pb2")
        self._response: Any = self._messages.HealthCheckResponse
        self._statuses: dict[str, int] = {"": self._response.SERVING}
        self._shutting_down = False
        self._stopping = False
        self._changed = trio.Event()

    def __repr__(self) -> str:
        name = self._response.ServingStatus.Name
        return f"<HealthServicer: { {service: name(status) for service, status in self._statuses.items()} }>"

    def add_to(self, server: Server) -> None:
        """Serve it on *server*, and follow its end."""
        stubs: Any = import_module("grpc_health.v1.health_pb2_grpc")
        stubs.add_HealthServicer_to_server(self, server)
        server.on_stop.append(self._stop)

    # --- what is so -------------------------------------------------------------------------------------------------

    async def set(self, service: str, status: int) -> None:
        """Say that *service* is in *status*, a ``HealthCheckResponse.ServingStatus``; all who watch it are told.

        After `enter_graceful_shutdown` it says nothing any more. Cancelled: it was said.
        """
        if not self._shutting_down:
            self._put({service: status})
        await trio.lowlevel.checkpoint()

    async def enter_graceful_shutdown(self) -> None:
        """Say NOT_SERVING for every service, for good. Cancelled: it was said."""
        self._shut_down()
        await trio.lowlevel.checkpoint()

    def _shut_down(self) -> None:
        self._shutting_down = True
        not_serving: int = self._response.NOT_SERVING
        self._put(dict.fromkeys(self._statuses, not_serving))

    def _stop(self) -> None:
        self._stopping = True
        self._shut_down()

    def _put(self, statuses: dict[str, int]) -> None:
        self._statuses.update(statuses)
        self._changed.set()
        self._changed = trio.Event()

    # --- the service ------------------------------------------------------------------------------------------------

    async def Check(self, request: Any, context: Any) -> Any:
        """The status of one service; NOT_FOUND if nothing was said of it."""
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"nothing is known of {request.service!r}")
        return self._response(status=status)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """The status of one service now, SERVICE_UNKNOWN if nothing was said of it, and each time it changes.

        One that changes faster than it is read may be left out; the last is not.
        """
        told = None
        while True:
            changed = self._changed
            status = self._statuses.get(request.service, self._response.SERVICE_UNKNOWN)
            if status != told:
                told = status
                yield self._response(status=status)
            elif self._stopping:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
            else:
                await changed.wait()

    async def List(self, request: Any, context: Any) -> Any:
        """The statuses of all services."""
        if len(self._statuses) > MOST_LISTED:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"there are more than {MOST_LISTED} services")
        statuses = {service: self._response(status=status) for service, status in self._statuses.items()}
        return self._messages.HealthListResponse(statuses=statuses)
