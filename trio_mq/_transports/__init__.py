"""Everything below the engine: what carries bytes, and by which scheme it is found."""

from __future__ import annotations

from ._abc import ConnectionRefusedByFilter, Link, Listener, StreamTransport, Transport
from ._attachment import Attachment, MessageTransport, Party
from ._inproc import InprocTransport
from ._ipc import IpcTransport
from ._registry import has, register_transport, schemes, transport_for
from ._stream_link import StreamLink
from ._tcp import TcpTransport

__all__ = [
    "Attachment",
    "ConnectionRefusedByFilter",
    "Link",
    "Listener",
    "MessageTransport",
    "Party",
    "StreamLink",
    "StreamTransport",
    "Transport",
    "has",
    "register_transport",
    "schemes",
    "transport_for",
]

register_transport(TcpTransport())
register_transport(IpcTransport())
register_transport(InprocTransport())
