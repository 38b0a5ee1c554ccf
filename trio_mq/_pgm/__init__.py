"""Reliable multicast (RFC 3208, PGM) as pure code: datagrams and the time in, datagrams, messages and losses out.

It knows no sockets, no clock and no random source: those are arguments. A `Source` numbers what is published, keeps a
window of it and repairs what is asked for; a `Receiver` hears any number of sources, asks for what is missing, and
gives the messages of each in order, or says what was lost.
"""

from __future__ import annotations

from ._figures import EndpointFigures as EndpointFigures
from ._figures import PublisherFigures as PublisherFigures
from ._figures import SubscriberFigures as SubscriberFigures
from ._packets import DATA_HEADER_SIZE as DATA_HEADER_SIZE
from ._packets import Data as Data
from ._packets import Nak as Nak
from ._packets import Packet as Packet
from ._packets import PacketError as PacketError
from ._packets import Spm as Spm
from ._packets import Spmr as Spmr
from ._packets import checksum as checksum
from ._packets import encode_packet as encode_packet
from ._packets import parse_packet as parse_packet
from ._receiver import Receiver as Receiver
from ._sequence import MASK as MASK
from ._sequence import ahead as ahead
from ._sequence import unwrapped as unwrapped
from ._session import Key as Key
from ._session import ReceiverSettings as ReceiverSettings
from ._session import Request as Request
from ._session import Session as Session
from ._source import Source as Source
from ._source import SourceSettings as SourceSettings
from ._stream import Packer as Packer
from ._stream import Unpacker as Unpacker
from ._stream import encode_v1 as encode_v1
from ._window import Gap as Gap
