"""grpcio-reflection's servicer, as it comes: what grpcurl and its kin ask."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

import trio_mq_grpc

from .._kit import ends, newest_stubs, orders_servicer

SERVICES = ["shop.v1.Orders", reflection.SERVICE_NAME]


async def asked(*questions: dict[str, Any], transport: str = "tcp") -> list[Any]:
    """The answers to all *questions*, of one stream."""
    stubs = newest_stubs()

    def add(servicer: Any, server: Any) -> None:
        stubs.orders_grpc.add_OrdersServicer_to_server(servicer, server)
        reflection.enable_server_reflection(SERVICES, server)

    async with ends((add, orders_servicer(stubs)), transport=transport) as both:
        make_stub: Any = reflection_pb2_grpc.ServerReflectionStub  # typeshed has no more than its name
        stub = make_stub(both.channel)
        requests = [reflection_pb2.ServerReflectionRequest(**question) for question in questions]
        return [answer async for answer in stub.ServerReflectionInfo(iter(requests))]


def files(answer: Any) -> list[str]:
    found = answer.file_descriptor_response.file_descriptor_proto
    return [descriptor_pb2.FileDescriptorProto.FromString(each).name for each in found]


def test_grpcio_takes_our_server_for_an_async_one() -> None:
    server = trio_mq_grpc.server()
    reflection.enable_server_reflection(SERVICES, server)


async def test_the_services_are_listed(transport: str) -> None:
    (answer,) = await asked({"list_services": ""}, transport=transport)
    assert sorted(service.name for service in answer.list_services_response.service) == sorted(SERVICES)


async def test_a_file_is_found_by_its_name_and_by_a_symbol() -> None:
    by_name, by_symbol = await asked({"file_by_filename": "orders.proto"}, {"file_containing_symbol": "shop.v1.Orders"})
    assert "orders.proto" in files(by_name)
    assert "orders.proto" in files(by_symbol)


@pytest.mark.parametrize(
    "question",
    [
        {"file_by_filename": "nothing.proto"},
        {"file_containing_symbol": "no.such.Symbol"},
        {"all_extension_numbers_of_type": "no.such.Type"},
        {
            "file_containing_extension": reflection_pb2.ExtensionRequest(
                containing_type="no.such.Type", extension_number=1
            )
        },
    ],
    ids=lambda question: next(iter(question)),
)
async def test_what_is_not_there_is_an_answer_not_an_error_of_the_call(question: dict[str, Any]) -> None:
    answers = await asked(question, {"list_services": ""})
    assert answers[0].error_response.error_code == 5
    assert len(answers[1].list_services_response.service) == 2
