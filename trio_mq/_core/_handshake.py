"""The first seconds of a connection: moves bytes between a link and `zmtp.Connection`, and asks the authenticator.

Straight-line code under one time limit; every decision is the connection's.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio
from trio.lowlevel import disable_ki_protection

from .._errors import HandshakeError, MQError
from .._options import Options
from .._security import AuthenticationRequest, Decision, Identity, Plain
from .._transports import Link
from ..zmtp import (
    READ_SIZE,
    AuthenticationNeeded,
    Connection,
    ConnectionEvent,
    Mechanism,
    NullMechanism,
    PeerInfo,
    PlainClient,
    PlainServer,
)


def new_connection(socket_type: str, options: Options, link: Link, *, accepting: bool) -> Connection:
    """The beginning of a connection over *link* for a socket with these options."""
    return Connection(
        socket_type,
        identity=options.routing_id,
        properties=options.properties,
        mechanism=_mechanism(options),
        accepting=accepting,
        authenticate=options.authenticator is not None,
        peer_address=link.peer_address,
        max_message_size=options.max_message_size,
        max_frames=options.max_frames,
    )


def _mechanism(options: Options) -> Mechanism:
    security = options.security
    if not isinstance(security, Plain):
        return NullMechanism()
    return PlainServer() if security.server else PlainClient(security.username.encode(), security.password.encode())


@dataclass
class Handshake:
    """One handshake: over *link*, for the endpoint *endpoint* of ours."""

    connection: Connection
    link: Link
    options: Options
    endpoint: str

    async def run(self) -> PeerInfo:
        """The peer, after at most ``options.handshake_interval`` seconds. Cancelled: the link is still open.

        Raises:
            HandshakeError, RemoteProtocolError: it failed; what the peer should know of that was sent.
            OSError: the connection broke.
        """
        interval = self.options.handshake_interval
        with trio.move_on_after(float("inf") if interval is None else interval):
            try:
                return await self._converse()
            except MQError:
                self._say_goodbye()
                raise
        raise HandshakeError(
            f"{self.link.peer_address or 'the peer'} did not complete the handshake within {interval:g} s; "
            f"{self.connection.stage} was still missing"
        )

    async def _converse(self) -> PeerInfo:
        while True:
            await self._flush()
            await self.link.wait_readable()
            data = self.link.try_receive(READ_SIZE)
            if data is None:
                continue
            if not data:
                raise self.connection.receive_eof()
            for event in self.connection.receive(data):
                peer = await self._answer(event)
                if peer is not None:
                    await self._flush()
                    return peer

    async def _answer(self, event: ConnectionEvent) -> PeerInfo | None:
        if not isinstance(event, AuthenticationNeeded):
            return event.peer
        # READY of ours, or WELCOME, may be what the peer waits for while somebody thinks about it.
        await self._flush()
        decision = await self._decide(event)
        if decision is None:
            self.connection.refuse("400")
            assert self.connection.error is not None
            raise self.connection.error
        identity = decision if isinstance(decision, Identity) else Identity(decision)
        for further in self.connection.authenticated(identity.user_id, identity.properties):
            peer = await self._answer(further)
            if peer is not None:
                return peer
        return None

    async def _decide(self, event: AuthenticationNeeded) -> Decision:
        authenticator = self.options.authenticator
        if authenticator is None:
            return ""
        request = AuthenticationRequest(
            event.mechanism, self.link.peer_address, self.endpoint, event.username, event.password
        )
        try:
            return await disable_ki_protection(authenticator)(request)
        except Exception as exc:
            # 27/ZAP: 500 stands for "internal error of the authenticator"; the peer learns no more than that.
            self.connection.refuse("500")
            raise HandshakeError(f"the authenticator failed on {self.link.peer_address}: {exc!r}") from exc

    async def _flush(self) -> None:
        data: bytes | memoryview = self.connection.data_to_send()
        while data:
            sent = self.link.try_send([data])
            data = memoryview(data)[sent:]
            if data:
                await self.link.wait_writable()
        if self.link.unflushed:
            await self.link.flush()

    def _say_goodbye(self) -> None:
        """The ERROR command that tells the peer why, as far as the kernel takes it now."""
        data = self.connection.data_to_send()
        if data:
            try:
                self.link.try_send([data])
            except OSError:
                pass
