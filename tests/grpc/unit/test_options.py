"""Options by grpcio's names and our own."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest

import trio_mq
from trio_mq_grpc._options import (
    USER_AGENT,
    ChannelOptions,
    ServerOptions,
    parse_channel_options,
    parse_server_options,
)
from trio_mq_grpc._service_config import ServiceConfig


@pytest.mark.parametrize("options", [None, (), []])
def test_without_options_there_are_the_defaults(options: Any) -> None:
    assert parse_channel_options(options) == ChannelOptions()
    assert parse_server_options(options) == ServerOptions()


def test_the_defaults_are_the_documented_ones() -> None:
    channel = ChannelOptions()
    assert (channel.max_receive_message_length, channel.max_send_message_length) == (4194304, None)
    assert (channel.max_metadata_size, channel.window, channel.fragment_size) == (16384, 262144, 1048576)
    assert (channel.heartbeat_interval, channel.reconnect_interval, channel.reconnect_interval_max) == (20, 0.1, 5)
    assert (channel.lb_policy, channel.enable_retries, channel.strict_reqrep) == ("pick_first", True, False)
    assert ServerOptions().output_limit == 16 << 20
    assert f"trio-mq-grpc/{trio_mq.__version__}" == USER_AGENT


@pytest.mark.parametrize(
    ("name", "value", "field", "meaning"),
    [
        ("grpc.max_receive_message_length", 10, "max_receive_message_length", 10),
        ("grpc.max_receive_message_length", -1, "max_receive_message_length", None),
        ("grpc.max_send_message_length", 0, "max_send_message_length", 0),
        ("grpc.max_send_message_length", -1, "max_send_message_length", None),
        ("grpc.max_metadata_size", 100, "max_metadata_size", 100),
        ("grpc.absolute_max_metadata_size", 100, "max_metadata_size", 100),
        ("grpc.keepalive_time_ms", 1500, "heartbeat_interval", 1.5),
        ("grpc.keepalive_time_ms", 2**31 - 1, "heartbeat_interval", None),
        ("grpc.keepalive_timeout_ms", 500, "heartbeat_timeout", 0.5),
        ("trio_mq_grpc.window", 2**32 - 1, "window", 2**32 - 1),
        ("trio_mq_grpc.fragment_size", 1000, "fragment_size", 1000),
    ],
)
def test_an_option_of_both_sets_its_field(name: str, value: Any, field: str, meaning: Any) -> None:
    assert getattr(parse_channel_options([(name, value)]), field) == meaning
    assert getattr(parse_server_options([(name, value)]), field) == meaning


@pytest.mark.parametrize(
    ("name", "value", "field", "meaning"),
    [
        ("grpc.initial_reconnect_backoff_ms", 300, "reconnect_interval", 0.3),
        ("grpc.min_reconnect_backoff_ms", 300, "reconnect_interval", 0.3),
        ("grpc.max_reconnect_backoff_ms", 9000, "reconnect_interval_max", 9),
        ("grpc.lb_policy_name", "round_robin", "lb_policy", "round_robin"),
        ("grpc.primary_user_agent", "mine/1", "user_agent", ("mine/1", USER_AGENT)),
        ("grpc.secondary_user_agent", "theirs", "user_agent", (USER_AGENT, "theirs")),
        ("grpc.default_authority", "here", "authority", "here"),
        ("grpc.enable_retries", 0, "enable_retries", False),
        ("grpc.per_rpc_retry_buffer_size", 5, "retry_buffer_size", 5),
        ("trio_mq_grpc.allow_call_credentials_on_plain", True, "allow_call_credentials_on_plain", True),
        ("trio_mq_grpc.brokered", True, "brokered", True),
        ("trio_mq_grpc.strict_reqrep", True, "strict_reqrep", True),
    ],
)
def test_an_option_of_channels_sets_its_field(name: str, value: Any, field: str, meaning: Any) -> None:
    assert getattr(parse_channel_options([(name, value)]), field) == meaning
    assert parse_server_options([(name, value)]) == ServerOptions()


@pytest.mark.parametrize(
    ("name", "value", "field", "meaning"),
    [
        ("grpc.max_concurrent_streams", 7, "max_concurrent_streams", 7),
        ("trio_mq_grpc.hide_error_details", True, "hide_error_details", True),
        ("trio_mq_grpc.output_limit", 5, "output_limit", 5),
        ("trio_mq_grpc.max_timeout_ms", 60_000, "max_timeout", 60),
        ("trio_mq_grpc.max_resets_per_second", 5, "max_resets_per_second", 5),
    ],
)
def test_an_option_of_servers_sets_its_field(name: str, value: Any, field: str, meaning: Any) -> None:
    assert getattr(parse_server_options([(name, value)]), field) == meaning
    assert parse_channel_options([(name, value)]) == ChannelOptions()


def test_the_last_of_two_values_counts() -> None:
    name = "grpc.max_receive_message_length"
    assert parse_channel_options([(name, 1), (name, 2)]).max_receive_message_length == 2


def test_the_exact_metadata_limit_counts_whatever_the_order() -> None:
    both = [("grpc.absolute_max_metadata_size", 2000), ("grpc.max_metadata_size", 1000)]
    assert parse_channel_options(both).max_metadata_size == 2000
    assert parse_channel_options(both[::-1]).max_metadata_size == 2000


def test_a_long_first_wait_lengthens_the_later_ones() -> None:
    parsed = parse_channel_options([("grpc.initial_reconnect_backoff_ms", 30_000)])
    assert (parsed.reconnect_interval, parsed.reconnect_interval_max) == (30, 30)


def test_a_strict_channel_counts_as_brokered() -> None:
    assert parse_channel_options([("trio_mq_grpc.strict_reqrep", True)]).brokered


def test_the_service_config_is_read_with_the_options() -> None:
    config = {"loadBalancingPolicy": "round_robin", "methodConfig": [{"name": [{}], "timeout": "2s"}]}
    for value in (json.dumps(config), ServiceConfig.parse(config)):
        parsed = parse_channel_options([("grpc.service_config", value)])
        assert parsed.service_config.method("/a/b").timeout == 2
        assert parsed.lb_policy == "round_robin"


def test_an_option_beats_the_service_configs_policy() -> None:
    options = [("grpc.service_config", {"loadBalancingPolicy": "round_robin"}), ("grpc.lb_policy_name", "pick_first")]
    assert parse_channel_options(options).lb_policy == "pick_first"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("grpc.max_receive_message_length", "4"),
        ("grpc.max_receive_message_length", True),
        ("grpc.keepalive_time_ms", 1.5),
        ("grpc.enable_retries", "no"),
        ("grpc.primary_user_agent", 5),
    ],
)
def test_a_value_of_the_wrong_type_names_its_option(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=name):
        parse_channel_options([(name, value)])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("grpc.max_metadata_size", 0),
        ("grpc.keepalive_time_ms", 0),
        ("grpc.lb_policy_name", "grpclb"),
        ("grpc.primary_user_agent", "line\nline"),
        ("grpc.service_config", "{"),
        ("grpc.per_rpc_retry_buffer_size", -1),
        ("trio_mq_grpc.window", 0),
        ("trio_mq_grpc.window", 2**32),
        ("trio_mq_grpc.fragment_size", 0),
    ],
)
def test_a_value_out_of_range_is_a_value_error(name: str, value: Any) -> None:
    with pytest.raises(ValueError):
        parse_channel_options([(name, value)])


@pytest.mark.parametrize("options", [[5], ["ab"], [("name",)], [(b"grpc.x", 5)], [("a", 1, 2)], {"name": 1}], ids=repr)
def test_what_are_no_pairs_is_a_type_error(options: Any) -> None:
    with pytest.raises(TypeError, match="pairs"):
        parse_channel_options(options)


def test_unknown_options_are_passed_over() -> None:
    options = [("grpc.http2.lookahead_bytes", 5), ("other", None), ("grpc.so_reuseport", 1)]
    assert parse_channel_options(options) == ChannelOptions()


def test_a_slip_in_a_name_of_ours_is_not_passed_over() -> None:
    with pytest.raises(ValueError, match=r"trio_mq_grpc\.windoe.*trio_mq_grpc\.window"):
        parse_channel_options([("trio_mq_grpc.windoe", 5)])


def test_ignored_options_that_change_safety_are_named_in_one_warning() -> None:
    options = [
        ("grpc.ssl_target_name_override", "x"),
        ("grpc.max_connection_age_ms", 5),
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", 5),
    ]
    for parse in (parse_channel_options, parse_server_options):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            parse(options)
        assert [warning.category for warning in caught] == [RuntimeWarning]
        text = str(caught[0].message)
        assert "grpc.max_connection_age_ms, grpc.ssl_target_name_override" in text
        assert "so_reuseport" not in text
        assert "max_receive" not in text
