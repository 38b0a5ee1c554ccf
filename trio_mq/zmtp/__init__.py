"""ZMTP 3.1 (RFC 37) as pure code: bytes in, events out. No sockets, no clock, no randomness.

`Connection` takes a peer through greeting and handshake; `Decoder` and `encode` carry the traffic that follows, whole
batches in a call; `Heartbeat` decides when to ask whether the peer is alive, and when it is not.
"""

from __future__ import annotations

from ._commands import Cancel as Cancel
from ._commands import Command as Command
from ._commands import Error as Error
from ._commands import Hello as Hello
from ._commands import Initiate as Initiate
from ._commands import Join as Join
from ._commands import Leave as Leave
from ._commands import Ping as Ping
from ._commands import Pong as Pong
from ._commands import Ready as Ready
from ._commands import Subscribe as Subscribe
from ._commands import Unknown as Unknown
from ._commands import Welcome as Welcome
from ._commands import encode_command as encode_command
from ._commands import encode_membership as encode_membership
from ._commands import encode_subscription as encode_subscription
from ._commands import parse_command as parse_command
from ._connection import Connection as Connection
from ._datagrams import LARGEST_DATAGRAM as LARGEST_DATAGRAM
from ._datagrams import encode_datagram as encode_datagram
from ._datagrams import parse_datagram as parse_datagram
from ._events import AuthenticationNeeded as AuthenticationNeeded
from ._events import ConnectionEvent as ConnectionEvent
from ._events import HandshakeDone as HandshakeDone
from ._events import PeerInfo as PeerInfo
from ._frames import LARGEST_READ as LARGEST_READ
from ._frames import READ_SIZE as READ_SIZE
from ._frames import Decoder as Decoder
from ._frames import decode_all as decode_all
from ._frames import encode as encode
from ._frames import encode_message as encode_message
from ._frames import interleave as interleave
from ._heartbeat import Expired as Expired
from ._heartbeat import Heartbeat as Heartbeat
from ._heartbeat import SendPing as SendPing
from ._mechanisms import Mechanism as Mechanism
from ._mechanisms import NullMechanism as NullMechanism
from ._mechanisms import PlainClient as PlainClient
from ._mechanisms import PlainServer as PlainServer
from ._metadata import encode_metadata as encode_metadata
from ._metadata import parse_metadata as parse_metadata
from ._socket_types import SOCKET_TYPES as SOCKET_TYPES
from ._socket_types import accepts as accepts
