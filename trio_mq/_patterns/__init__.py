"""The message models, pure: who gets a message, who is heard next, what a socket type adds to that.

Nothing here waits, knows the time, or touches a wire. The pieces (fair queue, load balancer, distributor,
subscriptions, envelopes) are composed into one pattern for each socket type; `trio_mq._core` brings them to life.
"""

from __future__ import annotations

from ._dgram import Dgram
from ._face import NO_TURNS, NOTHING, Batch, Carrier, Pattern, PipeFace, Turns
from ._pair import Pair
from ._pipeline import Pull, Push
from ._pubsub import Pub, XPub, XSub
from ._radio import EVERY_GROUP, Dish, Radio
from ._reply import Incoming, Rep
from ._request import Exchange, Req
from ._routing import Dealer, Router

__all__ = [
    "EVERY_GROUP", "NOTHING", "NO_TURNS", "Batch", "Carrier", "Dealer", "Dgram", "Dish", "Exchange", "Incoming", "Pair",
    "Pattern", "PipeFace", "Pub", "Pull", "Push", "Radio", "Rep", "Req", "Router", "Turns", "XPub", "XSub",
]  # fmt: skip
