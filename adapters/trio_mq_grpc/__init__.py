"""gRPC services over ZeroMQ sockets on trio."""

from __future__ import annotations

from . import testing as testing
from ._broadcast import BroadcastChannel as BroadcastChannel
from ._broadcast import broadcast_channel as broadcast_channel
from ._channel import Channel as Channel
from ._channel import insecure_channel as insecure_channel
from ._channel import secure_channel as secure_channel
from ._credentials import PlainChannelCredentials as PlainChannelCredentials
from ._credentials import PlainServerCredentials as PlainServerCredentials
from ._deliveries import DeliveryStatistics as DeliveryStatistics
from ._deliveries import Failure as Failure
from ._errors import CallEndedError as CallEndedError
from ._event_stream import BadEvent as BadEvent
from ._event_stream import Event as Event
from ._event_stream import EventStatistics as EventStatistics
from ._event_stream import EventStream as EventStream
from ._events import EventPublisher as EventPublisher
from ._events import EventSubscriber as EventSubscriber
from ._gaps import Gap as Gap
from ._health import HealthServicer as HealthServicer
from ._interceptors import MessageInterceptor as MessageInterceptor
from ._oneway import OnewayChannel as OnewayChannel
from ._oneway import oneway_channel as oneway_channel
from ._server import Server as Server
from ._server import server as server
from ._snapshot import Position as Position
from ._snapshot import Snapshot as Snapshot
from ._snapshot import follow as follow
from ._subscription import Subscription as Subscription
