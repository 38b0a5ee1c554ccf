"""What `Socket.monitor` reports, one frozen dataclass for each kind of event."""

from __future__ import annotations

from ._events import Accepted as Accepted
from ._events import AcceptFailed as AcceptFailed
from ._events import BindFailed as BindFailed
from ._events import Closed as Closed
from ._events import Connected as Connected
from ._events import DataLost as DataLost
from ._events import DialFailed as DialFailed
from ._events import Dialling as Dialling
from ._events import Disconnected as Disconnected
from ._events import Dropped as Dropped
from ._events import Event as Event
from ._events import HandshakeFailed as HandshakeFailed
from ._events import HandshakeSucceeded as HandshakeSucceeded
from ._events import Listening as Listening
from ._events import RequestUnanswered as RequestUnanswered
from ._events import RetryIn as RetryIn
from ._events import Unbound as Unbound
