"""How calls end."""

from __future__ import annotations

import pickle
from typing import Any

import grpc
import grpc.aio
import pytest
import trio

from trio_mq_grpc._status import CODES, OK, Status, code_number, make_error, status_of_exception, to_code


def test_each_code_has_the_number_grpc_gave_it() -> None:
    assert [code.value[0] for code in CODES] == list(range(17))
    for code in grpc.StatusCode:
        assert CODES[code_number(code)] is code


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_a_code_its_number_and_its_value_all_mean_it(code: grpc.StatusCode) -> None:
    assert to_code(code) is code
    assert to_code(code.value[0]) is code
    assert to_code(code.value) is code


@pytest.mark.parametrize("code", [-1, 17, 2**32 - 1, None, "OK", (), (99, "x"), ("x",), 1.0], ids=repr)
def test_whatever_is_no_code_is_unknown(code: Any) -> None:
    assert to_code(code) is grpc.StatusCode.UNKNOWN


def test_an_error_has_what_the_status_has() -> None:
    status = Status(grpc.StatusCode.NOT_FOUND, "no such", (("t", "1"), ("d-bin", b"\0")))
    error = make_error(status, (("i", "2"),), "at tcp://127.0.0.1:5")
    assert isinstance(error, grpc.aio.AioRpcError)
    assert isinstance(error, grpc.RpcError)
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no such")
    assert tuple(error.trailing_metadata()) == (("t", "1"), ("d-bin", b"\0"))
    assert tuple(error.initial_metadata()) == (("i", "2"),)
    assert error.debug_error_string() == "at tcp://127.0.0.1:5"
    assert pickle.loads(pickle.dumps(error)).details() == "no such"


def test_each_error_is_a_new_one() -> None:
    first, second = make_error(OK), make_error(OK)
    assert first is not second
    assert first.trailing_metadata() is not second.trailing_metadata()


def test_a_failed_handler_is_unknown_with_type_and_text_as_in_grpcio() -> None:
    status = status_of_exception(KeyError("x"))
    assert status == Status(grpc.StatusCode.UNKNOWN, "Unexpected <class 'KeyError'>: 'x'")


def test_details_can_be_hidden() -> None:
    status = status_of_exception(KeyError("secret"), hide_details=True)
    assert status.code is grpc.StatusCode.UNKNOWN
    assert "secret" not in status.details
    assert "KeyError" not in status.details


def test_a_group_of_one_is_what_is_in_it() -> None:
    failure = ExceptionGroup("", [ExceptionGroup("", [ValueError("inner")])])
    assert status_of_exception(failure) == status_of_exception(ValueError("inner"))


def test_a_group_of_several_is_unknown_and_names_itself() -> None:
    status = status_of_exception(ExceptionGroup("two of them", [ValueError("a"), KeyError("b")]))
    assert status.code is grpc.StatusCode.UNKNOWN
    assert "ExceptionGroup" in status.details
    assert "two of them" in status.details


async def cancelled() -> trio.Cancelled:
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as exc:
            found = exc
            raise
    return found


async def test_a_cancellation_of_the_handlers_own_is_cancelled() -> None:
    exc = await cancelled()
    assert status_of_exception(exc).code is grpc.StatusCode.CANCELLED
    assert status_of_exception(exc, hide_details=True).code is grpc.StatusCode.CANCELLED
    group = BaseExceptionGroup("", [exc, BaseExceptionGroup("", [exc])])
    assert status_of_exception(group).code is grpc.StatusCode.CANCELLED


async def test_what_was_cancelled_beside_a_failure_does_not_hide_it() -> None:
    exc = await cancelled()
    group = BaseExceptionGroup("", [exc, ValueError("why"), BaseExceptionGroup("", [exc])])
    assert status_of_exception(group) == status_of_exception(ValueError("why"))


def test_an_exception_without_text_still_gives_a_status() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    status = status_of_exception(Mute())
    assert status.code is grpc.StatusCode.UNKNOWN
    assert "Mute" in status.details


def test_a_status_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        OK.details = "x"  # type: ignore[misc]  # which is what is tested
