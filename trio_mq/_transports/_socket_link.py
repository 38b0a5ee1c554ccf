"""A `Link` and a `Listener` over the standard library's non-blocking sockets.

The socket is ours alone, a `socket.socket` and no `trio.socket`: the engine sends and receives without waiting, and
two calls through trio's wrapper for each batch are two checkpoints too many. trio is asked only to wait.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable, Sequence

import trio

from .._options import Options
from ._abc import Link, Listener

# Linux and the BSDs take at most this many buffers in one sendmsg() and refuse more with EMSGSIZE.
IOV_MAX = 1024

# accept() also reports errors of the connection it was about to give: that peer is gone, the next one may be
# there already. The list is that of accept(2), "Error handling"; everything else is about us and is raised.
# fmt: off
_ABOUT_THE_PEER_NAMES = (
    "EAGAIN", "ECONNABORTED", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENONET", "ENOPROTOOPT",
    "ENOSR", "EOPNOTSUPP", "EPERM", "EPROTO", "ETIMEDOUT", "EWOULDBLOCK",
)
# fmt: on
_ABOUT_THE_PEER = frozenset(getattr(errno, name) for name in _ABOUT_THE_PEER_NAMES if hasattr(errno, name))


def close_socket(sock: socket.socket) -> None:
    """Close *sock* and wake whoever waits for it with `trio.ClosedResourceError`. The only place that closes one.

    A plain ``close()`` would leave the waiting task asleep for ever, and give the next socket with the same
    descriptor a `trio.BusyResourceError`.
    """
    if sock.fileno() >= 0 and trio.lowlevel.in_trio_run():
        # Outside a loop (a listener made by trio_mq.listen and never bound) nobody can be waiting.
        trio.lowlevel.notify_closing(sock)
    sock.close()


def set_buffers(sock: socket.socket, options: Options) -> None:
    """Give *sock* the buffer sizes of *options*. Do it before connect or listen: then TCP settles its window scale."""
    if options.send_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, options.send_buffer)
    if options.receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, options.receive_buffer)


def adopt_listening(families: tuple[int, ...], fd: int) -> socket.socket:
    """The listening stream socket behind *fd* (``Options(use_fd=...)``), ours from now on.

    Raises:
        OSError: *fd* is something else; it was left alone.
    """
    sock = socket.socket(fileno=fd)
    try:
        fits = sock.family in families and sock.type == socket.SOCK_STREAM
        if not fits or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise OSError(errno.EINVAL, f"Options(use_fd={fd}) is no listening stream socket of this transport")
    except OSError:
        sock.detach()
        raise
    return sock


class SocketLink(Link):
    """A connected stream socket as a `Link`, which owns it from now on."""

    __slots__ = ("_receive", "_send", "_send_many", "_socket", "local_address", "peer_address")

    def __init__(self, sock: socket.socket, *, peer_address: str, local_address: str) -> None:
        sock.setblocking(False)
        self._socket = sock
        self.peer_address = peer_address
        self.local_address = local_address
        # Bound once: these are called for every batch. They outlive close() and then raise EBADF.
        self._send = sock.send
        self._receive = sock.recv
        self._send_many = _send_many(sock)

    def try_send(self, buffers: Sequence[bytes | memoryview]) -> int:
        try:
            if len(buffers) == 1:
                return self._send(buffers[0])
            return self._send_many(buffers if len(buffers) <= IOV_MAX else buffers[:IOV_MAX])
        except BlockingIOError:
            return 0

    def try_receive(self, limit: int) -> bytes | None:
        try:
            return self._receive(limit)
        except BlockingIOError:
            return None

    async def wait_writable(self) -> None:
        self._check_open()
        await trio.lowlevel.wait_writable(self._socket)
        self._check_open()

    async def wait_readable(self) -> None:
        self._check_open()
        await trio.lowlevel.wait_readable(self._socket)
        self._check_open()

    async def flush(self) -> None:
        """Nothing to wait for: what `try_send` took is the kernel's. A checkpoint all the same."""
        self._check_open()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        close_socket(self._socket)

    def _check_open(self) -> None:
        # Also after a wait: a task that was woken by its descriptor may find the link closed before it runs.
        if self._socket.fileno() < 0:
            raise trio.ClosedResourceError("this link is closed")


def _send_many(sock: socket.socket) -> Callable[[Sequence[bytes | memoryview]], int]:
    if sys.platform == "win32":  # no sendmsg there
        return lambda buffers: sock.send(b"".join(buffers))
    return sock.sendmsg


class SocketListener(Listener):
    """A listening stream socket as a `Listener`, which owns it from now on.

    Args:
        sock: bound and listening.
        endpoint: what it is bound to, resolved.
        welcome: makes the `Link` of an accepted socket and its peer's address. When it raises, the accepted socket
            is closed and the error comes out of `accept`.
    """

    __slots__ = ("_socket", "_welcome", "endpoint")

    def __init__(self, sock: socket.socket, *, endpoint: str, welcome: Callable[[socket.socket, object], Link]) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._welcome = welcome
        self.endpoint = endpoint

    async def accept(self) -> Link:
        while True:
            self._check_open()
            await trio.lowlevel.wait_readable(self._socket)
            self._check_open()
            try:
                sock, address = self._socket.accept()
            except OSError as exc:
                if exc.errno not in _ABOUT_THE_PEER:
                    raise
                continue
            try:
                return self._welcome(sock, address)
            except BaseException:
                sock.close()
                raise

    def close(self) -> None:
        close_socket(self._socket)

    def _check_open(self) -> None:
        if self._socket.fileno() < 0:
            raise trio.ClosedResourceError("this listener is closed")
