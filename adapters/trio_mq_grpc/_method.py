"""A method as a channel knows it: its path, its shape, how its messages are written, and its limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._service_config import MethodConfig

NO_LIMIT = 1 << 62


class Method:
    """One method of one channel.

    Args:
        configure: sets what the channel's options say of it.

    Attributes:
        path: ``/package.Service/Method``.
        unary: one message each way.
        unary_request, unary_reply: one message this way.
        max_request, max_response: bytes a message may have.
        retries: whether an attempt that failed may be followed by another.
        retry_buffer: bytes of a stream that are kept for that; one that is longer is sent once.
    """

    __slots__ = (
        "_configure", "config", "deserialize", "max_request", "max_response", "path", "path_bytes", "retries",
        "retry_buffer", "serialize", "unary", "unary_reply", "unary_request",
    )  # fmt: skip

    def __init__(
        self,
        path: str | bytes,
        *,
        unary_request: bool,
        unary_reply: bool,
        serialize: Callable[[Any], bytes] | None,
        deserialize: Callable[[bytes], Any] | None,
        configure: Callable[[Method], None] | None = None,
    ) -> None:
        self.path_bytes: bytes = path if isinstance(path, bytes) else path.encode()
        self.path: str = self.path_bytes.decode()
        self.unary_request: bool = unary_request
        self.unary_reply: bool = unary_reply
        self.unary: bool = unary_request and unary_reply
        self.serialize: Callable[[Any], bytes] | None = serialize
        self.deserialize: Callable[[bytes], Any] | None = deserialize
        self.config: MethodConfig | None = None
        self.max_request: int = NO_LIMIT
        self.max_response: int = NO_LIMIT
        self.retries: bool = True
        self.retry_buffer: int = 1 << 18
        self._configure = configure
        if configure is not None:
            configure(self)

    def with_path(self, path: str | bytes) -> Method:
        """The same under another path, which an interceptor has put in its place."""
        return Method(
            path,
            unary_request=self.unary_request,
            unary_reply=self.unary_reply,
            serialize=self.serialize,
            deserialize=self.deserialize,
            configure=self._configure,
        )
