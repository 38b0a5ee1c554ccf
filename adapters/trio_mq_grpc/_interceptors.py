"""Interceptors of a server that see the messages of a call.

`grpc.aio.ServerInterceptor` sees a call before it begins, and has to rebuild its handler to see more. This kind is told
of every message instead, whatever the handler's kind and style.
"""

from __future__ import annotations

from typing import Any


class MessageInterceptor:
    """Sees, and may replace, each message of each call of a server; pass it among ``interceptors=``.

    Both methods run in the call's own task and context, just outside the handler; what they raise fails the call as if
    the handler had raised it. Several interceptors are asked in their order for requests, in reverse for responses.
    """

    async def on_request(self, message: Any, context: Any) -> Any:
        """The message that the handler is given instead of *message*, which was just decoded."""
        return message

    async def on_response(self, message: Any, context: Any) -> Any:
        """The message that is encoded and sent instead of *message*, which the handler gave."""
        return message
