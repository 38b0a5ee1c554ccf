"""Messages as values: what is a frame, what is a message, and who is meant by a peer."""

from __future__ import annotations

import array
import pickle
from dataclasses import asdict

import pytest

from trio_mq import _errors
from trio_mq._errors import (
    AuthenticationError,
    EndpointError,
    HostUnreachableError,
    MQError,
    MultipartError,
    PeerLostError,
)
from trio_mq._message import (
    Message,
    Payload,
    Peer,
    PeerJoined,
    PeerLeft,
    any_message,
    frames_of,
    single_frame,
    size_of,
    whole_message,
)

# --- one frame -------------------------------------------------------------------------------------------------------


def test_bytes_are_a_frame_as_they_are() -> None:
    frame = b"frame"
    assert single_frame(frame) is frame


@pytest.mark.parametrize("value", [bytearray(b"ab"), memoryview(b"ab"), memoryview(b"abab")[:2]])
def test_other_buffers_are_copied(value: bytearray | memoryview) -> None:
    frame = single_frame(value)
    assert type(frame) is bytes
    assert frame == b"ab"
    if isinstance(value, bytearray):
        value[0] = 0
        assert frame == b"ab"


def test_a_buffer_of_numbers_is_its_bytes() -> None:
    numbers = array.array("H", [1, 2])
    assert single_frame(memoryview(numbers)) == numbers.tobytes()


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("text", "encode"),
        ([b"a"], "send_multipart"),
        ((b"a",), "send_multipart"),
        (memoryview(b"abcd")[::2], "contiguous"),
        (5, "int"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_frame_is_refused_with_a_hint(value: object, hint: str) -> None:
    with pytest.raises(TypeError, match=hint):
        single_frame(value)


# --- one message -----------------------------------------------------------------------------------------------------


def test_a_message_of_one_frame_is_bare_and_one_of_several_a_list() -> None:
    assert whole_message([b"a"]) == b"a"
    assert whole_message((b"a", bytearray(b"b"), memoryview(b"c"))) == [b"a", b"b", b"c"]
    assert whole_message([b""]) == b""


def test_the_list_that_was_given_is_not_the_one_that_is_queued() -> None:
    frames = [b"a", b"b"]
    message = whole_message(frames)
    frames.append(b"c")
    assert message == [b"a", b"b"]


def test_a_message_has_a_frame() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        whole_message([])


@pytest.mark.parametrize("value", [b"ab", bytearray(b"ab"), memoryview(b"ab"), "ab"])
def test_a_buffer_is_no_sequence_of_frames(value: bytes) -> None:
    with pytest.raises(TypeError, match=r"send\(\)"):
        whole_message(value)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("frames", [["a", b"b"], [b"a", 5], [b"a", [b"b"]]])
def test_every_frame_must_be_one(frames: list[bytes]) -> None:
    with pytest.raises(TypeError):
        whole_message(frames)


def test_an_element_of_a_batch_is_a_frame_or_several() -> None:
    frame = b"a"
    assert any_message(frame) is frame
    assert any_message(bytearray(b"a")) == b"a"
    assert any_message([b"a"]) == b"a"
    assert any_message((b"a", b"b")) == [b"a", b"b"]
    with pytest.raises(TypeError):
        any_message("a")
    with pytest.raises(TypeError):
        any_message(5)


@pytest.mark.parametrize(
    ("payload", "frames", "size"), [(b"abc", [b"abc"], 3), ([b"a", b"", b"bc"], [b"a", b"", b"bc"], 3)]
)
def test_both_forms_have_frames_and_a_size(payload: Payload, frames: list[bytes], size: int) -> None:
    assert frames_of(payload) == frames
    assert size_of(payload) == size


def test_events_weigh_nothing() -> None:
    assert size_of(PeerJoined(Peer("inproc://x"))) == 0
    assert size_of(PeerLeft(Peer("inproc://x"), "gone", (b"unsent",))) == 0


# --- who -------------------------------------------------------------------------------------------------------------


def test_two_connections_are_two_peers_however_alike_they_look() -> None:
    one = Peer("ipc://x", "ipc://x", connection=1)
    assert one != Peer("ipc://x", "ipc://x", connection=2)
    assert one == Peer("ipc://x", "ipc://x", connection=1, properties={"X-a": "b"})
    assert len({one, Peer("ipc://x", "ipc://x", connection=1)}) == 1


def test_a_message_tells_what_is_known_of_its_sender() -> None:
    message = Message((b"a",), Peer("tcp://h:1", user_id="ann", properties={"X-a": "b"}))
    assert message.user_id == "ann"
    assert message.properties == {"X-a": "b"}
    assert Message((b"a",), Peer("tcp://h:1")).user_id is None


def test_a_change_to_the_properties_of_one_peer_reaches_no_other() -> None:
    one, other = Peer("tcp://a"), Peer("tcp://b")
    assert one.properties is not other.properties


# --- errors carry messages too ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "attribute", "value"),
    [
        (EndpointError("tcp:/x", "no slash"), "rule", "no slash"),
        (MultipartError([b"a", b"b"]), "frames", [b"a", b"b"]),
        (HostUnreachableError(b"ann"), "routing_id", b"ann"),
        (PeerLostError(None, "it fell"), "reason", "it fell"),
        (AuthenticationError("no", "300"), "status", "300"),
    ],
)
def test_an_error_with_attributes_survives_pickling(error: MQError, attribute: str, value: object) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert getattr(copy, attribute) == getattr(error, attribute) == value


def test_a_peer_survives_pickling_within_what_it_is_part_of() -> None:
    peer = Peer("tcp://h:1", routing_id=b"ann", properties={"X-a": "b"}, connection=7)
    copy = pickle.loads(pickle.dumps(PeerLostError(peer)))
    assert copy.peer == peer
    assert copy.peer.properties == {"X-a": "b"}
    assert pickle.loads(pickle.dumps(Peer("tcp://h:1"))) == Peer("tcp://h:1")


def test_a_message_can_be_taken_apart_into_plain_values() -> None:
    assert asdict(Message((b"a",), Peer("tcp://h:1", routing_id=b"ann")))["peer"]["routing_id"] == b"ann"


def test_every_error_of_ours_is_an_mq_error() -> None:
    found = [value for name, value in vars(_errors).items() if name.endswith("Error") and isinstance(value, type)]
    assert len(found) > 10
    assert all(issubclass(error, MQError) for error in found)
    assert issubclass(EndpointError, ValueError)
