"""Endpoints: what a socket says about its own, and what takes them back.

libzmq's test_last_endpoint, test_unbind_wildcard, test_ipc_wildcard, test_rebind_ipc, test_term_endpoint.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import pytest

from trio_mq import Dealer, EndpointError, Options, Pair, Pub, Pull, Push, Rep, Req, Router, StateError, Sub, listen
from trio_mq.events import Unbound

from .kit import EVERYWHERE, NETWORK, event_of, over, ready_peers, until, waiting

BRIEF = Options(linger=0)


def exists(path: str) -> bool:
    return os.path.lexists(path)


async def bounce(rep: Rep, req: Req) -> None:
    """One question and its answer."""
    await req.send_multipart([b"some", b"question"])
    assert await rep.receive_multipart() == [b"some", b"question"]
    await rep.send_multipart([b"the", b"answer"])
    assert await req.receive_multipart() == [b"the", b"answer"]


@over(*EVERYWHERE)
async def test_the_last_endpoint_is_the_one_bound_last_as_it_can_be_connected_to(
    new_endpoint: Callable[[], str],
) -> None:
    router = Router()
    seen = [router.last_endpoint]
    async with router:
        seen.append(router.last_endpoint)
        assert seen == [None, None]
        resolved = [await router.bind(new_endpoint()) for _ in range(2)]
        assert router.last_endpoint == resolved[1]
        assert router.endpoints == tuple(resolved)
        assert not any("*" in endpoint for endpoint in resolved)


@over("tcp")
async def test_a_port_that_was_named_is_reported_as_it_was_named(endpoint: str) -> None:
    async with Router(bind=endpoint) as first:
        named = first.last_endpoint or ""
    async with Router(bind=named) as second:
        assert second.last_endpoint == named


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


WILDCARDS = [
    ("tcp://*:*", False, "tcp://0.0.0.0:"),
    ("tcp://*:0", False, "tcp://0.0.0.0:"),
    ("tcp://127.0.0.1:*", False, "tcp://127.0.0.1:"),
    ("tcp://127.0.0.1:*", True, "tcp://127.0.0.1:"),
    ("tcp://lo:*", False, "tcp://127.0.0.1:"),
    ("tcp://*:*", True, "tcp://[::]:"),
    ("tcp://[::1]:*", True, "tcp://[::1]:"),
]


@over("tcp")
@pytest.mark.parametrize(("wildcard", "ipv6", "resolved"), WILDCARDS)
async def test_a_wildcard_is_resolved_connected_to_disconnected_and_unbound(
    endpoint: str, wildcard: str, ipv6: bool, resolved: str
) -> None:
    if ":" in resolved.removeprefix("tcp:")[:-1] and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    options = Options(ipv6=ipv6, linger=0)
    async with Rep(bind=wildcard, options=options) as rep, Req(options=options) as req:
        bound = rep.last_endpoint or ""
        assert bound.startswith(resolved)
        assert bound.removeprefix(resolved).isdecimal()
        reachable = bound.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")
        req.connect(reachable)
        await bounce(rep, req)
        await req.disconnect(reachable)
        await rep.unbind(bound)
        assert (rep.endpoints, req.endpoints) == ((), ())


@over("tcp", "ipc")
async def test_unbind_takes_the_form_that_was_given_too(endpoint: str, transport: str) -> None:
    given = "ipc://*" if transport == "ipc" else endpoint
    async with Rep() as rep:
        assert await rep.bind(given) != given
        await rep.unbind(given)
        assert rep.endpoints == ()


@over(*NETWORK)
async def test_unbind_cuts_the_connections_that_came_through_it_and_no_others(new_endpoint: Callable[[], str]) -> None:
    async with Pull(bind=[new_endpoint(), new_endpoint()], options=BRIEF) as pull:
        one, two = pull.endpoints
        once = Options(retry=False, linger=0)
        async with Push(connect=one, options=once) as cut, Push(connect=two, options=once) as kept:
            await pull.wait_connected(2)
            await pull.unbind(one)
            await until(lambda: ready_peers(pull) == 1)
            await until(lambda: ready_peers(cut) == 0)
            assert pull.endpoints == (two,)
            await kept.send(b"still here")
            assert await pull.receive() == b"still here"


@over(*EVERYWHERE)
async def test_after_disconnect_nothing_more_is_sent_there(endpoint: str, new_endpoint: Callable[[], str]) -> None:
    async with Pull(bind=endpoint) as left, Pull(bind=new_endpoint()) as right:
        async with Push(connect=[*left.endpoints, *right.endpoints]) as push:
            await push.wait_connected(2)
            await push.disconnect(left.last_endpoint or "")
            for _ in range(4):
                await push.send(b"right")
            assert [await right.receive() for _ in range(4)] == [b"right"] * 4
            await until(lambda: ready_peers(left) == 0)
            assert waiting(left) == []


@over(*EVERYWHERE)
async def test_disconnect_lets_what_is_queued_go_first(endpoint: str) -> None:
    async with Pull(bind=endpoint) as pull, Push(connect=pull.last_endpoint) as push:
        await push.send_many([b"%d" % number for number in range(100)])
        await push.disconnect(pull.last_endpoint or "")
        assert [await pull.receive() for _ in range(100)] == [b"%d" % number for number in range(100)]


@over(*EVERYWHERE)
async def test_an_endpoint_that_was_never_given_cannot_be_taken_back(
    endpoint: str, new_endpoint: Callable[[], str]
) -> None:
    async with Pull(bind=endpoint) as pull, Push(connect=pull.last_endpoint) as push:
        unknown = new_endpoint().replace("*", "1")
        for attempt in (pull.unbind, pull.disconnect, push.unbind, push.disconnect):
            with pytest.raises(EndpointError) as caught:
                await attempt(unknown)
            assert caught.value.endpoint == unknown
        with pytest.raises(EndpointError):
            await push.unbind(pull.last_endpoint or "")
        await push.send(b"fine")
        assert await pull.receive() == b"fine"


@over(*EVERYWHERE)
async def test_connecting_twice_is_once_where_libzmq_has_it_so(endpoint: str) -> None:
    pairs: list[tuple[type[Pub | Rep | Router], type[Sub | Req | Dealer]]] = [(Pub, Sub), (Rep, Req), (Router, Dealer)]
    for binder, dialler in pairs:
        async with binder(bind=endpoint) as bound, dialler() as socket_:
            for _ in range(2):
                socket_.connect(bound.last_endpoint or "")
            async with dialler(connect=bound.last_endpoint):
                await bound.wait_connected(2)
            await until(lambda bound=bound: ready_peers(bound) == 1)  # type: ignore[misc] # the loop's variable is meant


@over(*EVERYWHERE)
async def test_connecting_twice_is_two_connections_elsewhere(endpoint: str) -> None:
    async with Pull(bind=endpoint) as pull, Push() as push:
        for _ in range(2):
            push.connect(pull.last_endpoint or "")
        await pull.wait_connected(2)
        for _ in range(4):
            await push.send(b"x")
        assert [await pull.receive() for _ in range(4)] == [b"x"] * 4


@over(*NETWORK)
async def test_an_endpoint_can_be_bound_again_as_soon_as_it_is_free(endpoint: str) -> None:
    async with Pull(bind=endpoint) as first:
        where = first.last_endpoint or ""
    for _ in range(5):
        async with Pull(bind=where) as pull, Push(connect=where) as push:
            await push.send(b"again")
            assert await pull.receive() == b"again"


@over("ipc")
async def test_an_ipc_wildcard_makes_a_path_and_takes_it_away(endpoint: str) -> None:
    async with Pull(bind="ipc://*") as pull, Push(connect=pull.last_endpoint) as push:
        path = (pull.last_endpoint or "").removeprefix("ipc://")
        assert exists(path)
        await push.send(b"through a file")
        assert await pull.receive() == b"through a file"
    assert not exists(path)


@over("ipc")
async def test_the_file_of_an_ipc_endpoint_goes_with_its_listener(endpoint: str) -> None:
    path = endpoint.removeprefix("ipc://")
    async with Pull(bind=endpoint) as pull:
        assert exists(path)
        await pull.unbind(endpoint)
        assert not exists(path)


@over("ipc")
async def test_a_live_ipc_path_is_not_stolen_and_a_stale_one_is(endpoint: str) -> None:
    path = endpoint.removeprefix("ipc://")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    assert exists(path), "the socket is closed and its file is still there"
    async with Pull(bind=endpoint) as pull, Pull() as thief:
        with pytest.raises(OSError, match="use"):
            await thief.bind(endpoint)
        async with Push(connect=endpoint) as push:
            await push.send(b"mine")
            assert await pull.receive() == b"mine"


@over("ipc")
async def test_an_abstract_name_leaves_no_file(endpoint: str) -> None:
    abstract = "ipc://@" + endpoint.removeprefix("ipc:///")
    async with Pair(bind=abstract) as one, Pair(connect=abstract) as two:
        assert one.last_endpoint == abstract
        await two.send(b"no file")
        assert await one.receive() == b"no file"
    assert not exists("@")


@over(*NETWORK)
async def test_a_listener_made_before_the_socket_is_adopted_by_it(endpoint: str) -> None:
    listener = listen(endpoint)
    async with Pull(bind=listener) as pull, Push(connect=listener.endpoint) as push:
        assert pull.last_endpoint == listener.endpoint
        await push.send(b"adopted")
        assert await pull.receive() == b"adopted"
    async with Pull(bind=listener.endpoint):
        pass  # it is free again


@over(*NETWORK)
async def test_a_listener_that_is_closed_leaves_its_connections_to_the_socket_and_its_place_to_others(
    endpoint: str,
) -> None:
    listener = listen(endpoint)
    async with Pull(bind=listener) as first, Push(connect=listener.endpoint) as push:
        await push.wait_connected()
        async with first.monitor() as events:
            listener.close()
            assert (await event_of(events, Unbound)).endpoint == listener.endpoint
        async with Pull(bind=listener.endpoint) as second, Push(connect=listener.endpoint) as other:
            await push.send(b"one")
            await other.send(b"two")
            assert (await first.receive(), await second.receive()) == (b"one", b"two")
            await first.aclose()  # takes nothing that is the second one's
            await other.send(b"three")
            assert await second.receive() == b"three"
            async with Push(connect=listener.endpoint) as third:
                await third.send(b"four")
                assert await second.receive() == b"four"


@over(*NETWORK)
async def test_a_listener_that_was_closed_is_taken_by_no_socket(endpoint: str) -> None:
    listener = listen(endpoint)
    listener.close()
    with pytest.raises(StateError, match="was closed"):
        async with Pull(bind=listener):
            raise AssertionError("it was entered")


@over("tcp")
async def test_a_source_address_is_used(endpoint: str) -> None:
    async with Router(bind=endpoint) as router:
        _, _, host = (router.last_endpoint or "").partition("://")
        async with Dealer(connect=f"tcp://127.0.0.2:*;{host}") as dealer:
            await dealer.send(b"from the other loopback")
            message = await router.receive_message()
            assert message.peer.address.startswith("tcp://127.0.0.2:")
