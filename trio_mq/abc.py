"""Contracts for third parties: what a transport is made of. Register one with `trio_mq.register_transport`."""

from __future__ import annotations

from ._endpoint import Endpoint as Endpoint
from ._transports import ConnectionRefusedByFilter as ConnectionRefusedByFilter
from ._transports import Link as Link
from ._transports import Listener as Listener
from ._transports import StreamLink as StreamLink
from ._transports import StreamTransport as StreamTransport
from ._transports import Transport as Transport
