"""What the counters of `statistics()` count: messages, each once, and nothing that is not one."""

from __future__ import annotations

import trio

from trio_mq import Options, PeerJoined, Pull, Push
from trio_mq.events import Closed

from .kit import EVERYWHERE, dropped, event_of, over, until

BRIEF = Options(linger=0)
EVENTS = Options(peer_events=True)


@over(*EVERYWHERE)
async def test_peer_events_are_not_counted_as_messages(endpoint: str) -> None:
    async with Pull(bind=endpoint, options=EVENTS) as pull:
        async with Push(connect=pull.last_endpoint, options=BRIEF) as push:
            await push.send(b"one")
            await until(lambda: [each.unread_messages for each in pull.statistics().peers] == [1])
            peer = pull.statistics().peers[0]
            assert (peer.received, peer.unread_bytes) == (1, 3)
            joined: object = await pull.receive()
            assert isinstance(joined, PeerJoined)
            assert [each.unread_messages for each in pull.statistics().peers] == [1]
            assert await pull.receive() == b"one"
            peer = pull.statistics().peers[0]
            assert (peer.received, peer.unread_messages) == (1, 0)


@over(*EVERYWHERE)
async def test_what_was_received_is_counted_across_reconnects_without_their_events(endpoint: str) -> None:
    options = Options(peer_events=True, reconnect_interval=0.01)
    async with Pull(options=options) as pull:
        where = endpoint
        for total in (2, 4):
            async with Push(bind=where, options=BRIEF) as push:
                where = push.last_endpoint or ""
                if total == 2:
                    pull.connect(where)
                await push.wait_connected()
                await push.send_many([b"1", b"2"])
                await until(lambda total=total: pull.statistics().peers[0].received == total)  # type: ignore[misc] # meant so
        assert pull.statistics().peers[0].unread_messages == 4


@over(*EVERYWHERE)
async def test_what_a_closed_socket_could_not_send_counts_as_closed(endpoint: str) -> None:
    async with Pull(bind=endpoint) as reserved:
        where = reserved.last_endpoint or ""
    async with Push(connect=where, options=BRIEF) as push, push.monitor() as channel:
        await push.send_many([b"1", b"2", b"3"])
        await push.aclose()
        assert dropped(push, "closed") == 3
        assert dropped(push, "disconnected") == 0
        assert (await event_of(channel, Closed)).unsent == 3


@over("tcp")
async def test_what_a_peer_that_does_not_read_did_not_get_counts_as_closed(endpoint: str) -> None:
    narrow = Options(linger=0, send_buffer=4096)
    async with Push(bind=endpoint, options=narrow) as push:
        async with Pull(connect=push.last_endpoint, options=Options(receive_hwm=1, receive_buffer=4096)):
            await push.wait_connected()
            await push.send_many(bytes(5000) for _ in range(100))
            await trio.testing.wait_all_tasks_blocked()
            await push.aclose()
            assert 0 < dropped(push, "closed") < 100
            assert dropped(push, "disconnected") == 0
