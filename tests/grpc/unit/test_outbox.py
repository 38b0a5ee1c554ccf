"""The outbox: control first, calls in turn, order within each."""

from __future__ import annotations

import trio

from trio_mq_grpc._outbox import UNIT_COST, Frames, Outbox, Pieces


class Socket:
    """The socket's queue to one peer, with room for so many messages."""

    def __init__(self, room: int = 0) -> None:
        self.room = room
        self.sent: list[Frames] = []
        self.blocked: list[Outbox] = []

    def send_nowait(self, frames: Frames) -> None:
        if not self.room:
            raise trio.WouldBlock
        self.room -= 1
        self.sent.append(frames)

    def outbox(self) -> Outbox:
        return Outbox(self.send_nowait, self.blocked.append)

    async def more(self) -> None:
        await trio.lowlevel.checkpoint()
        self.room += 1


def pieces(*parts: bytes) -> Pieces:
    return Pieces(sum(map(len, parts)), iter([part] for part in parts))


def first_frames(socket: Socket) -> list[bytes]:
    return [frames[0] for frames in socket.sent]


def test_with_room_everything_goes_straight_to_the_socket() -> None:
    socket = Socket(room=3)
    outbox = socket.outbox()
    outbox.send(1, [b"a"], opens=True)
    outbox.send_control("pong", [b"b"])
    assert first_frames(socket) == [b"a", b"b"]
    assert not socket.blocked


async def test_control_goes_first_and_calls_take_turns() -> None:
    socket = Socket()
    outbox = socket.outbox()
    for at in range(3):
        outbox.send(1, [b"1.%d" % at])
    outbox.send(2, [b"2.0"])
    outbox.send_control(2, [b"control"])
    assert socket.blocked == [outbox]
    await outbox.drain(socket.more)
    assert first_frames(socket) == [b"control", b"1.0", b"2.0", b"1.1", b"1.2"]
    assert not outbox.blocked


async def test_a_large_message_lets_others_through_between_its_pieces() -> None:
    socket = Socket(room=9)
    outbox = socket.outbox()
    outbox.send_pieces(1, pieces(b"a", b"b", b"c"))
    outbox.send(2, [b"small"])
    outbox.send(1, [b"behind"])
    await outbox.drain(socket.more)
    assert first_frames(socket) == [b"a", b"small", b"b", b"c", b"behind"]


async def test_of_two_credits_of_one_call_the_later_is_sent() -> None:
    socket = Socket()
    outbox = socket.outbox()
    outbox.send_control(1, [b"old"])
    outbox.send_control(1, [b"new"])
    await outbox.drain(socket.more)
    assert first_frames(socket) == [b"new"]


def test_a_call_that_never_left_is_forgotten_without_a_trace() -> None:
    socket = Socket()
    outbox = socket.outbox()
    outbox.send(1, [b"call"], opens=True)
    outbox.send(1, [b"data"])
    assert outbox.unopened == {1}
    assert outbox.forget(1)
    assert outbox.unopened == set()
    assert outbox.waiting_bytes == 0
    assert not outbox.waits(1)


async def test_a_call_that_has_left_has_only_the_rest_forgotten() -> None:
    socket = Socket(room=1)
    outbox = socket.outbox()
    outbox.send(1, [b"call"], opens=True)
    outbox.send(1, [b"data"])
    assert not outbox.forget(1)
    outbox.send_control(1, [b"reset"])
    await outbox.drain(socket.more)
    assert first_frames(socket) == [b"call", b"reset"]


async def test_a_call_is_opened_by_its_first_piece() -> None:
    socket = Socket()
    outbox = socket.outbox()
    outbox.send_pieces(1, pieces(b"a", b"b"), opens=True)
    assert outbox.waiting_bytes == UNIT_COST + 2
    assert outbox.unopened == {1}

    async def one_place() -> None:
        if socket.sent:
            scope.cancel()
        await socket.more()

    with trio.CancelScope() as scope:
        await outbox.drain(one_place)
    assert first_frames(socket) == [b"a"]
    assert outbox.unopened == set()
    assert not outbox.forget(1)


async def test_when_the_peer_is_gone_nothing_is_left() -> None:
    socket = Socket()
    outbox = socket.outbox()
    outbox.send(1, [b"call"], opens=True)
    outbox.send_control(1, [b"credit"])
    outbox.clear()
    assert outbox.unopened == set()
    await outbox.drain(socket.more)
    assert socket.sent == []
