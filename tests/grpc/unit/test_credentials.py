"""Credentials in grpcio's classes: what they become, and how a call's are asked."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any

import grpc
import pytest
import trio
import trio.testing

from trio_mq import AuthenticationRequest, Identity, Null, Plain
from trio_mq_grpc._credentials import (
    CredentialsError,
    PlainChannelCredentials,
    PlainServerCredentials,
    call_metadata,
    call_plugins,
    is_private,
    security_of,
)


class Token(grpc.AuthMetadataPlugin):
    """Answers with what it was asked, in the thread that asked it."""

    def __init__(self, name: str = "authorization") -> None:
        self.name = name
        self.threads: list[str] = []

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        self.threads.append(threading.current_thread().name)
        callback(((self.name, f"{context.service_url} {context.method_name}"),), None)


class Plug(grpc.AuthMetadataPlugin):
    def __init__(self, function: Callable[[Any, Any], None]) -> None:
        self._function = function

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        self._function(context, callback)


def call_credentials(function: Callable[[Any, Any], None]) -> grpc.CallCredentials:
    return grpc.metadata_call_credentials(Plug(function))


PLAIN = PlainChannelCredentials("user", "secret")
TOKEN = grpc.access_token_call_credentials("abc")


def test_plain_credentials_are_what_grpcio_asks_for_and_become_the_mechanism() -> None:
    assert isinstance(PLAIN, grpc.ChannelCredentials)
    assert security_of(PLAIN) == {"security": Plain("user", "secret")}


def test_a_password_is_in_no_repr() -> None:
    assert "secret" not in repr(PLAIN)
    assert "user" in repr(PLAIN)


@pytest.mark.parametrize(("username", "password"), [("", "x"), ("x", ""), ("x" * 256, "x")])
def test_a_user_name_or_password_that_plain_cannot_carry_is_refused(username: str, password: str) -> None:
    with pytest.raises(ValueError, match="1 to 255"):
        PlainChannelCredentials(username, password)


def test_composed_credentials_count_as_their_channel_part() -> None:
    composed = grpc.composite_channel_credentials(PLAIN, TOKEN)
    assert security_of(composed) == security_of(PLAIN)
    assert security_of(grpc.composite_channel_credentials(composed, TOKEN)) == security_of(PLAIN)


def test_without_credentials_nothing_is_set() -> None:
    assert security_of(None) == {}


def test_local_credentials_are_no_security() -> None:
    assert security_of(grpc.local_channel_credentials()) == {"security": Null()}


@pytest.mark.parametrize(
    "make",
    [
        grpc.ssl_channel_credentials,
        lambda: grpc.composite_channel_credentials(grpc.ssl_channel_credentials(), TOKEN),
        lambda: grpc.ssl_server_credentials([(b"key", b"chain")]),
        grpc.alts_channel_credentials,
        grpc.insecure_server_credentials,
    ],
    ids=["ssl", "ssl composed", "ssl server", "alts", "insecure server"],
)
def test_tls_is_refused_with_the_name_of_what_there_is_instead(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"CURVE.*Plain"):
        security_of(make())


@pytest.mark.parametrize("credentials", [5, "secret", TOKEN], ids=["int", "str", "call"])
def test_what_are_no_credentials_is_a_type_error(credentials: Any) -> None:
    with pytest.raises(TypeError, match="ChannelCredentials"):
        security_of(credentials)


@pytest.mark.parametrize(
    ("endpoint", "private"),
    [("ipc:///a", True), ("inproc://a", True), ("tcp://127.0.0.1:5", False), ("ws://h:1", False)],
)
def test_only_ipc_and_inproc_keep_a_token_within_the_machine(endpoint: str, private: bool) -> None:
    assert is_private(endpoint) is private


def ask(username: str, password: str) -> AuthenticationRequest:
    return AuthenticationRequest("PLAIN", username=username, password=password)


async def test_a_ports_credentials_ask_the_users_function() -> None:
    async def authenticate(request: AuthenticationRequest) -> Identity | None:
        await trio.lowlevel.checkpoint()
        return Identity(request.username) if request.password == "right" else None

    fields = security_of(PlainServerCredentials(authenticate))
    assert fields["security"] == Plain(server=True)
    assert await fields["authenticator"](ask("u", "right")) == Identity("u")
    assert await fields["authenticator"](ask("u", "wrong")) is None


async def test_a_mapping_of_passwords_lets_in_who_is_in_it() -> None:
    authenticate = PlainServerCredentials({"user": "pä", "empty": ""}).authenticate
    assert await authenticate(ask("user", "pä")) == "user"
    for username, password in (("user", "x"), ("user", ""), ("nobody", ""), ("nobody", "pä"), ("empty", "")):
        assert await authenticate(ask(username, password)) is None


def test_a_port_needs_somebody_to_ask() -> None:
    with pytest.raises(TypeError, match="authenticate"):
        PlainServerCredentials(None)  # type: ignore[arg-type]  # which is what is tested


def test_the_plug_ins_of_composed_credentials_come_in_their_order() -> None:
    names = ["a", "b", "c", "d"]
    a, b, c, d = (grpc.metadata_call_credentials(Token(name)) for name in names)
    channel = grpc.composite_channel_credentials(grpc.composite_channel_credentials(PLAIN, a), b)
    assert [plugin.name for plugin in call_plugins(channel)] == ["a", "b"]  # type: ignore[attr-defined]  # a Token
    calls = grpc.composite_call_credentials(c, d)
    assert [plugin.name for plugin in call_plugins(calls)] == ["c", "d"]  # type: ignore[attr-defined]  # a Token
    nested = grpc.composite_channel_credentials(channel, calls)
    assert [plugin.name for plugin in call_plugins(nested)] == names  # type: ignore[attr-defined]  # a Token


@pytest.mark.parametrize("credentials", [None, PLAIN, grpc.local_channel_credentials()], ids=["none", "plain", "local"])
def test_a_channels_own_credentials_add_nothing_to_calls(credentials: Any) -> None:
    assert call_plugins(credentials) == ()


def test_call_credentials_that_are_no_plug_in_are_refused() -> None:
    with pytest.raises(ValueError, match="plug-ins"):
        call_plugins(grpc.CallCredentials(object()))
    with pytest.raises(TypeError, match="CallCredentials"):
        call_plugins("token")  # type: ignore[arg-type]  # which is what is tested


async def test_an_access_token_becomes_a_bearer() -> None:
    assert await call_metadata(call_plugins(TOKEN), "host:1", "/s/M") == (("authorization", "Bearer abc"),)


async def test_a_plug_in_is_asked_in_a_worker_thread_about_the_service_and_the_method() -> None:
    first, second = Token("first"), Token("second")
    plugins = call_plugins(
        grpc.composite_call_credentials(grpc.metadata_call_credentials(first), grpc.metadata_call_credentials(second))
    )
    expected = "https://host:5/pkg.Service Method"
    metadata = await call_metadata(plugins, "host:5", "/pkg.Service/Method")
    assert metadata == (("first", expected), ("second", expected))
    assert first.threads != [threading.current_thread().name]


async def test_a_plug_in_sees_the_callers_context_variables() -> None:
    variable = contextvars.ContextVar("variable", default="")
    variable.set("of the caller")
    credentials = call_credentials(lambda _, callback: callback((("seen", variable.get()),), None))
    assert await call_metadata(call_plugins(credentials), "h:1", "/s/M") == (("seen", "of the caller"),)


async def test_a_plug_in_may_answer_later_from_a_thread_of_its_own() -> None:
    returned = threading.Event()

    def plugin(_: Any, callback: Any) -> None:
        def later() -> None:
            assert returned.wait(5)
            callback((("late", "yes"),), None)

        threading.Thread(target=later).start()

    async def watch() -> None:
        await trio.testing.wait_all_tasks_blocked()
        returned.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        assert await call_metadata(call_plugins(call_credentials(plugin)), "h:1", "/s/M") == (("late", "yes"),)


def raising(_: Any, __: Any) -> None:
    raise KeyError("lost")


@pytest.mark.parametrize(
    ("plugin", "cause"),
    [
        (raising, KeyError),
        (lambda _, callback: callback(None, OSError("no token")), OSError),
        (lambda _, callback: callback({"a": "b"}, None), TypeError),
        (lambda _, callback: callback((("Bad Key", "b"),), None), ValueError),
        (lambda _, callback: callback(None, "only text"), type(None)),
    ],
    ids=["raises", "gives an error", "gives a dict", "gives a bad key", "gives an error text"],
)
async def test_a_plug_in_that_fails_is_one_error_with_its_cause(
    plugin: Callable[[Any, Any], None], cause: type[BaseException]
) -> None:
    with pytest.raises(CredentialsError, match=r"^Getting metadata from plugin failed with error: ") as caught:
        await call_metadata(call_plugins(call_credentials(plugin)), "h:1", "/s/M")
    assert type(caught.value.__cause__) is cause


async def test_a_plug_in_that_answers_twice_or_fails_afterwards_has_answered_once() -> None:
    errors: list[Exception] = []

    def plugin(_: Any, callback: Any) -> None:
        callback((("first", "1"),), None)
        try:
            callback((("second", "2"),), None)
        except RuntimeError as exc:
            errors.append(exc)
        raise ValueError("afterwards")

    assert await call_metadata(call_plugins(call_credentials(plugin)), "h:1", "/s/M") == (("first", "1"),)
    assert len(errors) == 1


async def test_a_cancelled_call_does_not_wait_for_its_plug_in() -> None:
    release = threading.Event()
    ended = threading.Event()

    def plugin(_: Any, callback: Any) -> None:
        release.wait(5)
        callback((), None)
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call_metadata, call_plugins(call_credentials(plugin)), "h:1", "/s/M")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert not ended.is_set()
    release.set()
    assert await trio.to_thread.run_sync(ended.wait, 5)
