"""Which transport a scheme stands for, and how third parties bring theirs."""

from __future__ import annotations

import importlib.util
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from trio_mq._endpoint import Endpoint, parse_endpoint
from trio_mq._errors import EndpointError
from trio_mq._options import Options
from trio_mq._transports import StreamTransport, _registry, has, register_transport, schemes, transport_for

from ._transports import HallTransport


class Offered(HallTransport):
    schemes = ("offered",)


class Nonsense(HallTransport):
    schemes = ("fine", "not fine")


class Unavailable(HallTransport):
    schemes = ("unavailable",)

    def available(self) -> bool:
        return False


offered_instance = Offered()
no_transport = "a string"


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten afterwards."""
    monkeypatch.setattr(_registry, "_transports", dict(_registry._transports))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Installed packages that offer transports, and a record of each time somebody looks them up."""
    asked: list[str] = []
    here = __name__
    installed = EntryPoints(
        EntryPoint(name, value, _registry.ENTRY_POINTS)
        for name, value in (
            ("offered", f"{here}:Offered"),
            ("instance", f"{here}:offered_instance"),
            ("broken", "no.such.module:Transport"),
            ("nonsense", f"{here}:no_transport"),
        )
    )

    def entry_points(**selection: str) -> EntryPoints:
        asked.append(selection.get("name", "*"))
        return EntryPoints(entry for entry in installed if entry.name == selection.get("name", entry.name))

    monkeypatch.setattr(_registry, "entry_points", entry_points)
    return asked


def test_the_built_in_schemes_are_known() -> None:
    assert {"tcp", "ipc"} <= set(schemes())
    for scheme in ("tcp", "ipc"):
        assert scheme in transport_for(Endpoint(scheme, "x")).schemes


def test_an_unknown_scheme_is_refused_with_a_list_of_the_known() -> None:
    with pytest.raises(EndpointError, match=r"unknown scheme 'carrier-pigeon'; known: .*ipc.*tcp") as caught:
        transport_for(parse_endpoint("carrier-pigeon://nest"))
    assert caught.value.endpoint == "carrier-pigeon://nest"


def test_a_registered_transport_is_found_by_each_of_its_schemes() -> None:
    transport = HallTransport()
    register_transport(transport)
    register_transport(transport)  # changes nothing
    for scheme in ("hall", "step"):
        assert transport_for(Endpoint(scheme, "x")) is transport
        assert scheme in schemes()
        assert has(scheme)


def test_a_scheme_belongs_to_whoever_came_first() -> None:
    class Thief(HallTransport):
        schemes = ("new", "tcp")

    before = transport_for(Endpoint("tcp", "x"))
    with pytest.raises(ValueError, match=r"'tcp' belongs to .*TcpTransport"):
        register_transport(Thief())
    assert transport_for(Endpoint("tcp", "x")) is before
    assert "new" not in schemes()


def test_a_malformed_scheme_is_refused_and_none_of_that_transport_registered() -> None:
    with pytest.raises(ValueError, match="'not fine' is no scheme"):
        register_transport(Nonsense())
    assert "fine" not in schemes()


@pytest.mark.parametrize("value", [HallTransport, "tcp", None])
def test_only_a_transport_can_be_registered(value: object) -> None:
    with pytest.raises(TypeError, match=r"an instance of trio_mq\.abc\.Transport"):
        register_transport(value)  # type: ignore[arg-type]  # on purpose


def test_an_installed_transport_is_loaded_when_its_scheme_is_first_met(asked: list[str]) -> None:
    found = transport_for(Endpoint("offered", "x"))
    assert isinstance(found, Offered)
    assert transport_for(Endpoint("offered", "x")) is found
    assert asked == ["offered"]


def test_an_installed_transport_may_be_an_instance_of_another_scheme_name(asked: list[str]) -> None:
    # Registered by its own schemes; the entry point's name that is none of them stays unknown.
    with pytest.raises(EndpointError, match="unknown scheme 'instance'"):
        transport_for(Endpoint("instance", "x"))
    assert transport_for(Endpoint("offered", "x")) is offered_instance


def test_known_schemes_cost_no_look_at_installed_packages(asked: list[str]) -> None:
    transport_for(Endpoint("tcp", "x"))
    has("ipc")
    assert asked == []


def test_installed_transports_are_listed_before_they_are_loaded(asked: list[str]) -> None:
    assert {"offered", "broken", "tcp"} <= set(schemes())


def test_a_broken_installed_transport_says_so_itself(asked: list[str]) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"no"):
        transport_for(Endpoint("broken", "x"))


def test_an_installed_thing_that_is_no_transport_is_refused(asked: list[str]) -> None:
    with pytest.raises(TypeError, match=r"trio_mq\.abc\.Transport"):
        transport_for(Endpoint("nonsense", "x"))


@pytest.mark.parametrize("feature", ["curve", "", "no such thing"])
def test_what_this_version_does_not_have_is_false(feature: str) -> None:
    assert has(feature) is False


def test_the_adapter_is_here_when_what_it_needs_is() -> None:
    needed = ("trio_mq_grpc", "grpc")
    assert has("grpc") is all(importlib.util.find_spec(name) is not None for name in needed)


def test_has_asks_the_transport_whether_it_works_here() -> None:
    assert has("tcp") is True
    register_transport(Unavailable())
    assert has("unavailable") is False


def test_a_transport_that_cannot_listen_without_waiting_says_so() -> None:
    class Waiting(HallTransport):
        listen_now = StreamTransport.listen_now

    with pytest.raises(EndpointError, match="cannot listen without waiting; use bind"):
        Waiting().listen_now(Endpoint("hall", "x"), Options())
