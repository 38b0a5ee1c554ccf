"""Everything below the engine: what carries bytes, and by which scheme it is found."""

from __future__ import annotations

from ._abc import ConnectionRefusedByFilter, Link, Listener, StreamTransport, Transport
from ._attachment import Attachment, MessageTransport, Owner, Party, RemoteConnection
from ._inproc import InprocTransport
from ._ipc import IpcTransport
from ._pgm import EpgmTransport, PgmTransport
from ._registry import has, register_transport, schemes, transport_for
from ._stream_link import StreamLink
from ._tcp import TcpTransport
from ._udp import UdpTransport
from ._udp_sockets import LARGEST_PAYLOAD, split_address

__all__ = [
    "LARGEST_PAYLOAD",
    "Attachment",
    "ConnectionRefusedByFilter",
    "Link",
    "Listener",
    "MessageTransport",
    "Owner",
    "Party",
    "RemoteConnection",
    "StreamLink",
    "StreamTransport",
    "Transport",
    "has",
    "register_transport",
    "schemes",
    "split_address",
    "transport_for",
]

register_transport(TcpTransport())
register_transport(IpcTransport())
register_transport(InprocTransport())
register_transport(UdpTransport())
register_transport(EpgmTransport())
register_transport(PgmTransport())
