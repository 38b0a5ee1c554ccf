"""Credentials of channels, ports and calls, in the classes that grpcio's signatures ask for.

A channel's become a ZeroMQ mechanism: PLAIN now, CURVE when the sockets have it. A call's become metadata. What grpcio
keeps in private attributes (the parts of composed credentials, the plug-in of call credentials) is read here only.
"""

from __future__ import annotations

import hmac
import importlib
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import grpc
import trio

from trio_mq import AuthenticationRequest, Identity, Null, Plain

from ._blocks import Entry
from ._metadata import checked_metadata

Authenticate: TypeAlias = "Callable[[AuthenticationRequest], Awaitable[str | Identity | None]]"
"""Says who a peer is: a user id, or None to turn it away. See `trio_mq.Options.authenticator`."""

Plugin: TypeAlias = "Callable[[grpc.AuthMetadataContext, grpc.AuthMetadataPluginCallback], None]"

# `composite_channel_credentials` keeps only this inner object of the credentials it is given, and takes no other class.
_Core: Any = importlib.import_module("grpc._cython.cygrpc").ChannelCredentials


class CredentialsError(Exception):
    """The credentials of a call gave no metadata: UNAUTHENTICATED. The cause is the plug-in's error, if any."""


class _PlainCore(_Core):  # type: ignore[misc]  # the base is a class of an extension module without types
    def __init__(self, mechanism: Plain) -> None:
        self.mechanism = mechanism


class PlainChannelCredentials(grpc.ChannelCredentials):
    """User name and password of a channel: ZeroMQ's PLAIN mechanism (RFC 24).

    They prove who calls, and travel in the clear, as everything after them does.

    Raises:
        ValueError: one of them is not 1 to 255 bytes of UTF-8.
    """

    def __init__(self, username: str, password: str) -> None:
        super().__init__(_PlainCore(Plain(username, password)))
        self.username = username

    def __repr__(self) -> str:
        return f"PlainChannelCredentials(username={self.username!r})"


class PlainServerCredentials(grpc.ServerCredentials):
    """What a port asks of its callers: PLAIN, decided by *authenticate*.

    *authenticate* is an async function of a `trio_mq.AuthenticationRequest` that returns the user's id, or None to turn
    the caller away; or simply a mapping of user names to passwords.
    """

    def __init__(self, authenticate: Authenticate | Mapping[str, str]) -> None:
        super().__init__(None)
        if not callable(authenticate) and not isinstance(authenticate, Mapping):
            raise TypeError(f"authenticate is an async function or a mapping, not {authenticate!r}")
        self.authenticate: Authenticate = (
            _by_password(authenticate) if isinstance(authenticate, Mapping) else authenticate
        )


def security_of(credentials: grpc.ChannelCredentials | grpc.ServerCredentials | None) -> dict[str, Any]:
    """The fields of `trio_mq.Options` that *credentials* mean; none for None.

    Credentials that are composed count as their channel part. grpcio's "local" ones and its "insecure" ones are NULL.

    Raises:
        ValueError: they ask for TLS, or for a service of a cloud; the text names CURVE.
        TypeError: they are no credentials of a channel or a port.
    """
    if credentials is None:
        return {}
    if isinstance(credentials, PlainServerCredentials):
        return {"security": Plain(server=True), "authenticator": credentials.authenticate}
    if isinstance(credentials, grpc.ServerCredentials):
        # They are opaque: insecure ones cannot be told from those that promise encryption.
        raise ValueError(  # noqa: TRY004  # the type is right; it is what these stand for that cannot be had
            f"a port takes PlainServerCredentials, or is added by add_insecure_port; {_NO_TLS}"
        )
    if not isinstance(credentials, grpc.ChannelCredentials):
        raise TypeError(f"credentials are grpc.ChannelCredentials or grpc.ServerCredentials, not {credentials!r}")
    core = _channel_core(credentials)
    if isinstance(core, _PlainCore):
        return {"security": core.mechanism}
    if type(core).__name__ in ("LocalChannelCredentials", "InsecureChannelCredentials"):
        return {"security": Null()}
    raise ValueError(f"{type(core).__name__}: {_NO_TLS}")


_NO_TLS = (
    "TLS is not spoken over ZeroMQ, whose own encryption is CURVE, which trio_mq does not have yet. Until then use "
    "PlainChannelCredentials and PlainServerCredentials over ipc, inproc or a network you trust"
)


def is_private(endpoint: str) -> bool:
    """Whether what goes to *endpoint* stays within this machine, where no wire can be listened to: ipc and inproc.

    gRPC sends call credentials over secure channels only. PLAIN over tcp would send them in the clear.
    """
    return endpoint.startswith(("ipc://", "inproc://"))


def call_plugins(credentials: grpc.CallCredentials | grpc.ChannelCredentials | None) -> tuple[Plugin, ...]:
    """The metadata plug-ins in *credentials*, those of composed ones in order; none for None.

    Raises:
        ValueError: they hold something that is no plug-in, such as a cloud's own credentials.
        TypeError: they are no credentials.
    """
    if credentials is None:
        return ()
    if not isinstance(credentials, (grpc.CallCredentials, grpc.ChannelCredentials)):
        raise TypeError(f"credentials are grpc.CallCredentials, not {credentials!r}")
    return tuple(
        _plugins(getattr(credentials, "_credentials", None), of_call=isinstance(credentials, grpc.CallCredentials))
    )


async def call_metadata(plugins: Iterable[Plugin], authority: str, method: str) -> tuple[Entry, ...]:
    """What *plugins* say about a call of *method* (``/package.Service/Method``) at *authority*, in their order.

    Each runs in a worker thread, because tokens come from files and other servers, and may call back later from any
    thread. If cancelled, the thread is left to itself and what it says is dropped.

    Raises:
        CredentialsError: one of them failed, or gave what cannot be metadata.
    """
    service, _, name = method.rpartition("/")
    context = _Context(f"https://{authority}{service}", name)
    entries: list[Entry] = []
    for plugin in plugins:
        entries += await _run(plugin, context)
    return tuple(entries)


class _ContextFields(NamedTuple):
    service_url: str
    method_name: str


class _Context(_ContextFields, grpc.AuthMetadataContext):
    __slots__ = ()


class _Callback(grpc.AuthMetadataPluginCallback):
    """Takes the one answer of a plug-in, from whichever thread it comes."""

    def __init__(self) -> None:
        self.metadata: Any = None
        self.error: Any = None
        self.called = False
        self._lock = threading.Lock()
        self._arrived = trio.Event()
        self._token = trio.lowlevel.current_trio_token()

    def __call__(self, metadata: Any, error: Any) -> None:
        with self._lock:
            if self.called:
                raise RuntimeError("a metadata plug-in has answered already")
            self.metadata, self.error, self.called = metadata, error, True
        try:
            self._token.run_sync_soon(self._arrived.set)
        except trio.RunFinishedError:
            pass  # the program ended meanwhile; nobody waits

    async def wait(self) -> None:
        """Wait for the answer."""
        await self._arrived.wait()


_FAILED = "Getting metadata from plugin failed with error"  # grpcio's words


async def _run(plugin: Plugin, context: _Context) -> tuple[Entry, ...]:
    callback = _Callback()
    try:
        await trio.to_thread.run_sync(plugin, context, callback, abandon_on_cancel=True)
    except Exception as exc:
        if not callback.called:  # else the answer stands, as in grpcio
            raise CredentialsError(f"{_FAILED}: {exc}") from exc
    await callback.wait()
    if callback.error is not None:
        cause = callback.error if isinstance(callback.error, BaseException) else None
        raise CredentialsError(f"{_FAILED}: {callback.error}") from cause
    try:
        return checked_metadata(callback.metadata)
    except (TypeError, ValueError) as exc:
        raise CredentialsError(f"{_FAILED}: {exc}") from exc


def _by_password(passwords: Mapping[str, str]) -> Authenticate:
    async def authenticate(request: AuthenticationRequest) -> str | None:
        await trio.lowlevel.checkpoint()
        expected = passwords.get(request.username)
        # Compared also when there is no such user, so that the time does not tell which names exist.
        same = hmac.compare_digest((expected or "").encode(), request.password.encode())
        return request.username if same and expected else None

    return authenticate


def _channel_core(credentials: grpc.ChannelCredentials) -> Any:
    core: Any = getattr(credentials, "_credentials", None)
    while hasattr(core, "_channel_credentials"):
        core = core._channel_credentials  # noqa: SLF001  # grpcio has no public way to the parts of composed credentials
    return core


def _plugins(core: Any, *, of_call: bool) -> Iterable[Plugin]:
    parts = getattr(core, "_call_credentialses", None)
    if parts is not None:
        # Those composed first are in the channel part, so it goes first.
        yield from _plugins(getattr(core, "_channel_credentials", None), of_call=False)
        for part in parts:
            yield from _plugins(part, of_call=True)
    elif of_call:
        # grpcio wraps the user's plug-in in one of its own, which wants a callback of the core's.
        wrapper = getattr(core, "_metadata_plugin", None)
        plugin = getattr(wrapper, "_metadata_plugin", None)
        if plugin is None:
            raise ValueError(f"{type(core).__name__} cannot be used here: only metadata plug-ins and access tokens can")
        yield plugin
