"""Peers of TMQ-RPC 1 written from its public page (proto/README.md) alone: plain pyzmq, and no code of ours.

They judge both ends of trio_mq_grpc, and show what a peer in another language has to do:

* ``level_1``: calls of all four kinds, with sequence numbers, credit and cancelling; both ends in one file of under 150
  lines that needs nothing else.
* ``level_0``: unary calls only, answered by a ROUTER or a REP, and made by a REQ.

The servers are programs, ``python -m tests.grpc.peers.level_1 tcp://127.0.0.1:0`` for example; the first line of
output is the endpoint that it is bound to. The clients are functions.
"""
