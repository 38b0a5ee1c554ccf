"""ipc: Unix stream sockets, ``ipc://path``.

=================  =====================================================================================
``ipc:///a/path``  a file, absolute or relative to the working directory; at most 107 bytes
``ipc://@name``    a name without a file (Linux: the abstract namespace)
``ipc://*``        to bind: a path nobody else has, in a new directory that only this user can enter
=================  =====================================================================================

**Who owns the path.** A path that somebody listens at is never taken from him, nor one that is no socket; binding
there is ``EADDRINUSE``. A socket file that nobody listens at is what a crashed process left, and is replaced. To find
out which it is we connect to it, which a living listener sees as a connection that ends before its handshake. Closing
a listener removes the file if it is still the one it made. (libzmq removes any socket file before binding, so it will
take a path from us.)

**Who is at the other end.** An accepted link's peer address is ``ipc:uid=1000,gid=1000,pid=4242``, the credentials
the kernel vouches for (Linux; elsewhere the listener's endpoint), as an ipc peer has no address of its own. That of a
connecting link is its endpoint.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from .._endpoint import Endpoint
from .._errors import EndpointError
from .._options import Options
from ._abc import Link, Listener, StreamTransport
from ._socket_link import SocketLink, SocketListener, adopt_listening, set_buffers

# sizeof(sockaddr_un.sun_path) without the NUL that ends a path, or begins an abstract name.
MAX_PATH = 107 if sys.platform == "linux" else 103

_WILDCARD = "*"


@dataclass(frozen=True)
class IpcAddress:
    """An ipc endpoint understood. ``str()`` gives the endpoint as it was written."""

    endpoint: Endpoint = field(compare=False)
    path: str
    """A path, ``@name``, or ``*``."""

    def __str__(self) -> str:
        return self.endpoint.text

    @property
    def is_abstract(self) -> bool:
        """Whether it is a name without a file."""
        return self.path.startswith("@")


class IpcTransport(StreamTransport[IpcAddress]):
    """Unix stream sockets; see the module for paths and peer addresses."""

    schemes = ("ipc",)

    def available(self) -> bool:
        """Whether this platform (and this Python) has Unix sockets; Windows has not."""
        return hasattr(socket, "AF_UNIX")

    def parse(self, endpoint: Endpoint, *, binding: bool) -> IpcAddress:
        if not self.available():
            raise EndpointError(endpoint.text, "ipc needs Unix sockets, which Python has not on this platform")
        path = endpoint.rest
        if path == _WILDCARD and not binding:
            raise EndpointError(endpoint.text, "* is for binding; to connect, name the path of the other end")
        if path.startswith("@"):
            _check_abstract(endpoint)
        _check_path(endpoint)
        return IpcAddress(endpoint, path)

    async def listen(self, address: IpcAddress, options: Options) -> Listener:
        await trio.lowlevel.checkpoint()
        return self.listen_now(address, options)

    def listen_now(self, address: IpcAddress, options: Options) -> Listener:
        """`listen` at once; nothing here ever waits."""
        if options.use_fd is not None:
            return _adopt(options.use_fd, options)
        if address.is_abstract:
            return _listener(_bound(_sockaddr(address.path), options), options)
        if address.path == _WILDCARD:
            return _listen_anywhere(options)
        return _listen_at(address.path, options)

    async def connect(self, address: IpcAddress, options: Options) -> Link:
        """One attempt. A Unix socket connects at once, or fails: `BlockingIOError` says that the backlog is full."""
        await trio.lowlevel.checkpoint()
        sock = _new_socket(options)
        try:
            _connect_now(sock, address.path)
        except BaseException:
            sock.close()
            raise
        return SocketLink(sock, peer_address=str(address), local_address="")


def _check_abstract(endpoint: Endpoint) -> None:
    if sys.platform != "linux":
        raise EndpointError(endpoint.text, "names without a file (@name) exist on Linux only")
    if endpoint.rest == "@":
        raise EndpointError(endpoint.text, "a name must follow @")


def _check_path(endpoint: Endpoint) -> None:
    if "\0" in endpoint.rest:
        raise EndpointError(endpoint.text, "a path has no zero bytes")
    try:
        length = len(os.fsencode(endpoint.rest.removeprefix("@")))
    except UnicodeEncodeError as exc:
        raise EndpointError(endpoint.text, f"this cannot be a path: {exc}") from exc
    if length > MAX_PATH:
        raise EndpointError(endpoint.text, f"an ipc path has at most {MAX_PATH} bytes here, not {length}")


def _sockaddr(path: str) -> bytes:
    encoded = os.fsencode(path)
    return b"\0" + encoded[1:] if encoded.startswith(b"@") else encoded


def _endpoint(sockaddr: str | bytes) -> str:
    # Python gives an abstract name as bytes, a path as str.
    return f"ipc://@{os.fsdecode(sockaddr[1:])}" if isinstance(sockaddr, bytes) else f"ipc://{sockaddr}"


def _new_socket(options: Options) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    set_buffers(sock, options)
    return sock


def _connect_now(sock: socket.socket, path: str) -> None:
    try:
        sock.connect(_sockaddr(path))
    except BlockingIOError as exc:
        raise BlockingIOError(errno.EAGAIN, "the listener has its backlog full of connections", path) from exc


# ---- listening


class _FileListener(SocketListener):
    """A listener that made a file, and removes it on close unless somebody has put another in its place."""

    __slots__ = ("_directory", "_file", "_path")

    def __init__(self, sock: socket.socket, path: str, options: Options, directory: str | None = None) -> None:
        super().__init__(sock, endpoint=f"ipc://{path}", welcome=_welcome(f"ipc://{path}", options))
        # The working directory may be another one by the time we close.
        self._path = os.path.abspath(path)
        self._file = _identity(path)
        self._directory = directory

    def close(self) -> None:
        # The file before the socket: as long as that is open the kernel gives the inode number of our file to no
        # other, so equal numbers mean that it is ours; and nobody finds it without a listener and replaces it.
        if self._socket.fileno() >= 0:
            self._remove_file()
        super().close()

    def _remove_file(self) -> None:
        if self._file is not None and _identity(self._path) == self._file:
            _remove_quietly(os.unlink, self._path)
        if self._directory is not None:
            _remove_quietly(os.rmdir, self._directory)


def _remove_quietly(remove: Callable[[str], None], path: str) -> None:
    # A directory that was made read-only or in which somebody keeps files: what stays behind does no harm.
    with contextlib.suppress(OSError):
        remove(path)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _listen_at(path: str, options: Options, directory: str | None = None) -> Listener:
    sockaddr = _sockaddr(path)
    try:
        sock = _bound(sockaddr, options)
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE:
            raise OSError(exc.errno, exc.strerror or str(exc), path) from exc
        if not _remove_stale(path):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path) from exc
        sock = _bound(sockaddr, options)
    return _FileListener(sock, path, options, directory)


def _listen_anywhere(options: Options) -> Listener:
    directory = tempfile.mkdtemp(prefix="trio_mq-")
    path = os.path.join(directory, "socket")
    try:
        if len(os.fsencode(path)) > MAX_PATH:
            raise OSError(errno.ENAMETOOLONG, f"the temporary directory has no room in {MAX_PATH} bytes of path", path)
        return _listen_at(path, options, directory)
    except BaseException:
        _remove_quietly(os.rmdir, directory)
        raise


def _bound(sockaddr: bytes, options: Options) -> socket.socket:
    sock = _new_socket(options)
    try:
        sock.bind(sockaddr)
        sock.listen(options.backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> bool:
    """Whether the socket file at *path* had no listener, or is gone; then it is removed.

    Two processes that find the same stale file at the same instant might still remove each other's new one; looking
    at the file's identity again makes that window a few microseconds, and only a lock file could close it.
    """
    before = _identity(path)
    if before is None:
        return True
    if not stat.S_ISSOCK(os.lstat(path).st_mode) or _is_alive(path):
        return False
    if _identity(path) == before:
        os.unlink(path)
    return True


def _is_alive(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(_sockaddr(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # a full backlog, no permission, another kind of socket: somebody has it
        return True


def _adopt(fd: int, options: Options) -> Listener:
    # Whoever bound it (systemd, a parent process) owns the file; we leave it.
    return _listener(adopt_listening((socket.AF_UNIX,), fd), options)


def _listener(sock: socket.socket, options: Options) -> Listener:
    endpoint = _endpoint(sock.getsockname())
    return SocketListener(sock, endpoint=endpoint, welcome=_welcome(endpoint, options))


def _welcome(endpoint: str, options: Options) -> Callable[[socket.socket, object], Link]:
    def welcome(sock: socket.socket, _: object) -> Link:
        set_buffers(sock, options)
        return SocketLink(sock, peer_address=_credentials(sock) or endpoint, local_address=endpoint)

    return welcome


def _credentials(sock: socket.socket) -> str:
    if sys.platform != "linux":
        return ""
    ucred = struct.Struct("3i")
    pid, uid, gid = ucred.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, ucred.size))
    return f"ipc:uid={uid},gid={gid},pid={pid}"
