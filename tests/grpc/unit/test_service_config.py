"""The service config: what it says about a method, and how retries are counted and spread."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mq_grpc._service_config import (
    MethodConfig,
    RetryPolicy,
    RetryThrottle,
    ServiceConfig,
    ServiceConfigError,
    pushback_of,
)

RETRY = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE", "resource_exhausted", 10],
}


def config_of(**entry: Any) -> ServiceConfig:
    return ServiceConfig.parse({"methodConfig": [{"name": [{}], **entry}]})


def test_all_of_a_method_is_read() -> None:
    config = config_of(
        timeout="1.5s",
        waitForReady=True,
        maxRequestMessageBytes=10,
        maxResponseMessageBytes="20",
        retryPolicy=RETRY,
        hedgingPolicy=None,
    )
    codes = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED})
    assert config.method("/any.Service/Method") == MethodConfig(1.5, True, 10, 20, RetryPolicy(4, 0.1, 1.0, 2.0, codes))


def test_the_most_exact_name_counts() -> None:
    config = ServiceConfig.parse(
        {
            "methodConfig": [
                {"name": [{"service": "a.S", "method": "M"}], "timeout": "1s"},
                {"name": [{"service": "a.S"}, {"service": "b.S", "method": ""}], "timeout": "2s"},
                {"name": [{}], "timeout": "3s"},
            ]
        }
    )
    timeouts = {path: config.method(path).timeout for path in ("/a.S/M", "/a.S/N", "/b.S/M", "/c.S/M", "nonsense")}
    assert timeouts == {"/a.S/M": 1, "/a.S/N": 2, "/b.S/M": 2, "/c.S/M": 3, "nonsense": 3}


def test_json_and_what_it_gives_mean_the_same() -> None:
    config = {"methodConfig": [{"name": [{"service": "s"}], "retryPolicy": RETRY}]}
    assert ServiceConfig.parse(json.dumps(config)) == ServiceConfig.parse(json.dumps(config).encode())
    assert ServiceConfig.parse(json.dumps(config)) == ServiceConfig.parse(config)


@pytest.mark.parametrize("config", [None, {}, "{}", {"methodConfig": []}, {"unknown": 5}], ids=repr)
def test_an_empty_config_says_nothing(config: Any) -> None:
    assert ServiceConfig.parse(config).method("/s/M") == MethodConfig()
    assert ServiceConfig.parse(config).make_throttle() is None


def test_more_than_five_attempts_are_five() -> None:
    retry = config_of(retryPolicy=RETRY | {"maxAttempts": 100}).method("").retry
    assert retry is not None
    assert retry.max_attempts == 5


@pytest.mark.parametrize(
    "change",
    [
        {"maxAttempts": 1},
        {"maxAttempts": None},
        {"maxAttempts": "3"},
        {"maxAttempts": True},
        {"initialBackoff": "0s"},
        {"initialBackoff": "-1s"},
        {"initialBackoff": 1},
        {"initialBackoff": "1"},
        {"maxBackoff": None},
        {"backoffMultiplier": 0},
        {"backoffMultiplier": float("inf")},
        {"backoffMultiplier": float("nan")},
        {"retryableStatusCodes": []},
        {"retryableStatusCodes": "UNAVAILABLE"},
        {"retryableStatusCodes": ["SOMETHING"]},
        {"retryableStatusCodes": [17]},
    ],
    ids=repr,
)
def test_a_retry_policy_that_breaks_a_rule_is_refused_by_field(change: dict[str, Any]) -> None:
    with pytest.raises(ServiceConfigError, match="|".join([*change, "status code", "retryableStatusCodes"])):
        config_of(retryPolicy=RETRY | change)


@pytest.mark.parametrize(
    "config",
    [
        "{",
        "[]",
        5,
        {"methodConfig": {}},
        {"methodConfig": ["x"]},
        {"methodConfig": [{"name": [{"method": "M"}]}]},
        {"methodConfig": [{"name": [{"service": 5}]}]},
        {"methodConfig": [{"name": [{}]}, {"name": [{}]}]},
        {"methodConfig": [{"name": [{}], "timeout": "soon"}]},
        {"methodConfig": [{"name": [{}], "waitForReady": "yes"}]},
        {"methodConfig": [{"name": [{}], "maxRequestMessageBytes": -1}]},
        {"methodConfig": [{"name": [{}], "retryPolicy": 5}]},
        {"methodConfig": [{"name": [{}], "retryPolicy": RETRY, "hedgingPolicy": {}}]},
        {"retryThrottling": 5},
        {"retryThrottling": {"maxTokens": 1001, "tokenRatio": 0.1}},
        {"retryThrottling": {"maxTokens": 0, "tokenRatio": 0.1}},
        {"retryThrottling": {"maxTokens": 10}},
        {"retryThrottling": {"maxTokens": 10, "tokenRatio": 0.0001}},
        {"loadBalancingConfig": "pick_first"},
    ],
    ids=repr,
)
def test_a_config_that_breaks_a_rule_is_refused(config: Any) -> None:
    with pytest.raises(ServiceConfigError, match="service config: "):
        ServiceConfig.parse(config)


@pytest.mark.parametrize(
    ("config", "policy"),
    [
        ({}, ""),
        ({"loadBalancingConfig": [{"other": {}}, {"round_robin": {}}, {"pick_first": {}}]}, "round_robin"),
        ({"loadBalancingPolicy": "PICK_FIRST"}, "pick_first"),
        ({"loadBalancingPolicy": "grpclb"}, ""),
    ],
)
def test_the_first_load_balancing_policy_that_exists_here_counts(config: Any, policy: str) -> None:
    assert ServiceConfig.parse(config).lb_policy == policy


POLICY = RetryPolicy(4, 0.1, 1.0, 3.0, frozenset({grpc.StatusCode.UNAVAILABLE}))


def test_the_wait_grows_up_to_its_bound() -> None:
    assert [round(POLICY.backoff(attempt, 0.5), 9) for attempt in range(1, 6)] == [0.1, 0.3, 0.9, 1.0, 1.0]


def test_the_wait_is_spread_by_a_fifth() -> None:
    assert POLICY.backoff(1, 0.0) == pytest.approx(0.08)
    assert POLICY.backoff(1, 1.0) == pytest.approx(0.12)


@given(st.integers(1, 5), st.floats(0, 1), st.floats(1e-9, 1e300), st.floats(1e-300, 1e308))
def test_no_policy_gives_a_wait_beyond_its_bound(
    attempt: int, random: float, initial: float, multiplier: float
) -> None:
    assert 0 <= RetryPolicy(5, initial, 10.0, multiplier, frozenset()).backoff(attempt, random) <= 12.000001


def test_the_last_attempt_and_other_codes_are_final() -> None:
    assert POLICY.allows(3, grpc.StatusCode.UNAVAILABLE)
    assert not POLICY.allows(4, grpc.StatusCode.UNAVAILABLE)
    assert not POLICY.allows(1, grpc.StatusCode.INTERNAL)


def test_retries_stop_at_half_of_the_tokens_and_come_back_with_success() -> None:
    throttle = RetryThrottle(4, 0.5)
    assert throttle.allows
    assert throttle.record_failure()
    assert not throttle.record_failure()
    assert not throttle.allows
    throttle.record_success()
    assert throttle.allows


def test_tokens_stay_between_none_and_all() -> None:
    throttle = RetryThrottle(2, 5)
    for _ in range(5):
        throttle.record_failure()
    assert throttle.tokens == 0
    throttle.record_success()
    assert throttle.tokens == 2


def test_each_channel_has_its_own_tokens_of_three_decimals() -> None:
    config = ServiceConfig.parse({"retryThrottling": {"maxTokens": 10, "tokenRatio": 0.12345}})
    first, second = config.make_throttle(), config.make_throttle()
    assert first is not None
    assert second is not None
    assert (first.max_tokens, first.ratio) == (10, 0.123)
    first.record_failure()
    assert second.tokens == 10


@pytest.mark.parametrize(
    ("trailers", "wait"),
    [
        ((), None),
        ((("other", "1"),), None),
        ((("grpc-retry-pushback-ms", "1500"),), 1.5),
        ((("grpc-retry-pushback-ms", "0"),), 0.0),
    ],
)
def test_a_server_may_ask_for_a_wait(trailers: Any, wait: float | None) -> None:
    assert pushback_of(trailers) == wait


@pytest.mark.parametrize("value", ["-1", "", "soon", "1.5", "9" * 30, "²"])
def test_a_push_back_that_is_no_wait_forbids_the_retry(value: str) -> None:
    wait = pushback_of((("grpc-retry-pushback-ms", value),))
    assert wait is not None
    assert wait < 0
