"""Peers of TMQ-RPC 1 written from its public page (proto/README.md) alone: plain pyzmq, and no code of ours.

They judge both ends of trio_mq_grpc, and show what a peer in another language has to do:

* ``level_0``: unary calls, server and client.
* ``level_1_server``, ``level_1_client``: calls of all four kinds, with sequence numbers, credit and cancelling.
* ``strict``: the level-0 peer on REP and REQ.

Each is a program: ``python -m tests.grpc.peers.level_0 serve tcp://127.0.0.1:0``, for example. A server's first line of
output is the endpoint that it is bound to; a client prints how its call ended, as a JSON object.
"""
