"""The message models, pure: who gets a message, who is heard next, what a socket type adds to that.

Nothing here waits, knows the time, or touches a wire. The pieces (fair queue, load balancer, distributor,
subscriptions, envelopes) are composed into one pattern for each socket type; `trio_mq._core` brings them to life.
"""

from __future__ import annotations

from ._face import NO_TURNS, NOTHING, Batch, Carrier, Pattern, PipeFace, Turns
from ._pair import Pair
from ._pipeline import Pull, Push
from ._pubsub import Pub, XPub, XSub
from ._reply import Incoming, Rep
from ._request import Exchange, Req
from ._routing import Dealer, Router

__all__ = [
    "NOTHING", "NO_TURNS", "Batch", "Carrier", "Dealer", "Exchange", "Incoming", "Pair", "Pattern", "PipeFace", "Pub",
    "Pull", "Push", "Rep", "Req", "Router", "Turns", "XPub", "XSub",
]  # fmt: skip
