"""ZeroMQ for trio, written natively.

Sockets of every stable ZeroMQ type over tcp, ipc and inproc, wire-compatible with libzmq, in pure Python on trio.

>>> import trio, trio_mq
>>> async def main():
...     async with trio_mq.Pull(bind="tcp://127.0.0.1:*") as pull:
...         async with trio_mq.Push(connect=pull.last_endpoint) as push:
...             await push.send(b"hello")
...             return await pull.receive()
>>> trio.run(main)
b'hello'
"""

from __future__ import annotations

from . import abc as abc
from . import events as events
from . import zmtp as zmtp
from ._core._address_book import PreparedListener as Listener
from ._core._address_book import listen
from ._core._monitor import EventChannel
from ._core._proxy import proxy
from ._core._reactor import Reactor
from ._core._socket import Socket
from ._core._statistics import EndpointStatistics, PeerStatistics, SocketStatistics
from ._errors import (
    AuthenticationError,
    EndpointError,
    HandshakeError,
    HostUnreachableError,
    InternalError,
    LocalProtocolError,
    MechanismMismatchError,
    MQError,
    MultipartError,
    PeerLostError,
    ProtocolError,
    RemoteProtocolError,
    SocketTypeMismatchError,
    StateError,
    VersionMismatchError,
)
from ._message import Datagram, GroupMessage, Message, Peer, PeerJoined, PeerLeft
from ._options import Options
from ._pgm import EndpointFigures, PublisherFigures, SubscriberFigures
from ._security import AuthenticationRequest, Curve, Identity, Null, Plain, curve_keypair
from ._sockets._dgram import Dgram
from ._sockets._multicast_check import MulticastReport, check_multicast
from ._sockets._pair import Pair
from ._sockets._pipeline import Pull, Push
from ._sockets._pubsub import Pub, Sub, XPub, XSub
from ._sockets._radio import Dish, Radio
from ._sockets._reply import Rep, Request, Requests
from ._sockets._request import Req
from ._sockets._routing import Dealer, Router
from ._transports import has, register_transport

__version__ = "0.1.0.dev0"

__all__ = [
    "AuthenticationError",
    "AuthenticationRequest",
    "Curve",
    "Datagram",
    "Dealer",
    "Dgram",
    "Dish",
    "EndpointError",
    "EndpointFigures",
    "EndpointStatistics",
    "EventChannel",
    "GroupMessage",
    "HandshakeError",
    "HostUnreachableError",
    "Identity",
    "InternalError",
    "Listener",
    "LocalProtocolError",
    "MQError",
    "MechanismMismatchError",
    "Message",
    "MulticastReport",
    "MultipartError",
    "Null",
    "Options",
    "Pair",
    "Peer",
    "PeerJoined",
    "PeerLeft",
    "PeerLostError",
    "PeerStatistics",
    "Plain",
    "ProtocolError",
    "Pub",
    "PublisherFigures",
    "Pull",
    "Push",
    "Radio",
    "Reactor",
    "RemoteProtocolError",
    "Rep",
    "Req",
    "Request",
    "Requests",
    "Router",
    "Socket",
    "SocketStatistics",
    "SocketTypeMismatchError",
    "StateError",
    "Sub",
    "SubscriberFigures",
    "VersionMismatchError",
    "XPub",
    "XSub",
    "abc",
    "check_multicast",
    "curve_keypair",
    "events",
    "has",
    "listen",
    "proxy",
    "register_transport",
    "zmtp",
]
