"""The service config: per-method timeouts, limits and retries, in gRPC's JSON form. Pure.

Retries are gRFC A6. Time and chance are the caller's: a policy says how long to wait for a number it is given, a
throttle counts what it is told. Hedging, which grpcio's core does not have either, is read past.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc

from ._blocks import Entry
from ._status import CODES

_MOST_ATTEMPTS = 5  # A6: "values greater than 5 are treated as 5 without being considered a validation error"
_DURATION = re.compile(r"(\d{1,12})(\.\d{1,9})?s")
PUSHBACK = "grpc-retry-pushback-ms"
"""The trailer by which a server delays a retry, or forbids it."""


class ServiceConfigError(ValueError):
    """A service config that gRPC would not take. grpcio logs it and goes on without; here nothing starts."""

    def __init__(self, rule: str) -> None:
        super().__init__(f"service config: {rule}")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When and how often a failed call is sent again (gRFC A6).

    Attributes:
        max_attempts: all attempts together, 2 to 5.
        initial_backoff, max_backoff: seconds.
        multiplier: by which the wait grows from one retry to the next.
        codes: the codes worth another attempt.
    """

    max_attempts: int
    initial_backoff: float
    max_backoff: float
    multiplier: float
    codes: frozenset[grpc.StatusCode]

    def backoff(self, attempt: int, random: float) -> float:
        """Seconds to wait before retry number *attempt* (the first is 1); *random* is 0 to 1 and spreads it ± 20 %."""
        wait = min(self.initial_backoff, self.max_backoff)
        for _ in range(attempt - 1):  # not a power, which overflows for a multiplier that JSON may well hold
            wait = min(wait * self.multiplier, self.max_backoff)
        return wait * (0.8 + 0.4 * random)

    def allows(self, attempt: int, code: grpc.StatusCode) -> bool:
        """Whether attempt number *attempt* (the first call is 1), which ended with *code*, may be followed by one."""
        return attempt < self.max_attempts and code in self.codes


class RetryThrottle:
    """The tokens that a channel's retries draw on, so that a server in trouble is not called more, but less.

    A retryable failure costs one, a success gives *ratio* back; at half of *max_tokens* or below nothing is retried.
    """

    __slots__ = ("max_tokens", "ratio", "tokens")

    def __init__(self, max_tokens: float, ratio: float) -> None:
        self.max_tokens = max_tokens
        self.ratio = ratio
        self.tokens = max_tokens

    def __repr__(self) -> str:
        return f"<RetryThrottle {self.tokens:g} of {self.max_tokens:g} tokens>"

    @property
    def allows(self) -> bool:
        """Whether there may be a retry now."""
        return self.tokens > self.max_tokens / 2

    def record_failure(self) -> bool:
        """Count a retryable failure, or a push-back. Returns whether it may be retried."""
        self.tokens = max(0.0, self.tokens - 1)
        return self.allows

    def record_success(self) -> None:
        """Count a call that ended OK. Failures that are not worth a retry count neither way."""
        self.tokens = min(self.max_tokens, self.tokens + self.ratio)


@dataclass(frozen=True, slots=True)
class MethodConfig:
    """What the service config says about one method; None: nothing.

    Attributes:
        timeout: seconds; the smaller of this and the caller's holds.
        wait_for_ready: what a call does that does not say.
        max_request, max_response: bytes; the smaller of these and the channel's limits hold.
        retry: how failures are retried.
    """

    timeout: float | None = None
    wait_for_ready: bool | None = None
    max_request: int | None = None
    max_response: int | None = None
    retry: RetryPolicy | None = None


_NOTHING = MethodConfig()


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """A service config, read.

    Attributes:
        methods: by ``"/service/method"``, ``"/service/"`` for a whole service, ``""`` for all.
        throttling: most tokens and their refund, or None; see `make_throttle`.
        lb_policy: the first of the policies it names that exists here; "" if none does.
    """

    methods: Mapping[str, MethodConfig] = field(default_factory=dict)
    throttling: tuple[float, float] | None = None
    lb_policy: str = ""

    @classmethod
    def parse(cls, config: str | bytes | Mapping[str, Any] | None) -> ServiceConfig:
        """The config in *config*: JSON, or what JSON gives. None is an empty one; unknown fields are read past.

        Raises:
            ServiceConfigError: it breaks a rule of the service config's schema; the text names the field.
        """
        if config is None:
            return cls()
        if isinstance(config, (str, bytes)):
            try:
                config = json.loads(config)
            except ValueError as exc:
                raise ServiceConfigError(f"it is no JSON: {exc}") from exc
        if not isinstance(config, Mapping):
            raise ServiceConfigError("it is a JSON object")
        return cls(_methods(config), _throttling(config.get("retryThrottling")), _lb_policy(config))

    def method(self, path: str) -> MethodConfig:
        """What holds for ``/package.Service/Method``: its own entry, else its service's, else that for all."""
        methods = self.methods
        if not methods:
            return _NOTHING
        found = methods.get(path) or methods.get(path[: path.rfind("/") + 1]) or methods.get("")
        return found or _NOTHING

    def make_throttle(self) -> RetryThrottle | None:
        """A new throttle for one channel, or None if the config has no throttling."""
        return None if self.throttling is None else RetryThrottle(*self.throttling)


def pushback_of(trailers: Iterable[Entry]) -> float | None:
    """Seconds that the server asks to wait before a retry; None if it does not say.

    A negative number, or anything that is none, forbids the retry (A6): then the result is negative.
    """
    for key, value in trailers:
        if key == PUSHBACK:
            text = value if isinstance(value, str) else ""
            return int(text) / 1000 if text.isdecimal() and len(text) < 10 else -1.0
    return None


def _methods(config: Mapping[str, Any]) -> dict[str, MethodConfig]:
    methods: dict[str, MethodConfig] = {}
    for entry in _objects("methodConfig", config.get("methodConfig", ())):
        parsed = _method_config(entry)
        for name in _objects("methodConfig.name", entry.get("name", ())):
            path = _path(name)
            if path in methods:
                raise ServiceConfigError(f"methodConfig has two entries for {path or 'all methods'!r}")
            methods[path] = parsed
    return methods


def _path(name: Mapping[str, Any]) -> str:
    service, method = name.get("service") or "", name.get("method") or ""
    if not isinstance(service, str) or not isinstance(method, str):
        raise ServiceConfigError("service and method of a name are strings")
    if not service:
        if method:
            raise ServiceConfigError(f"the name of method {method!r} has no service")
        return ""
    return f"/{service}/{method}"


def _method_config(entry: Mapping[str, Any]) -> MethodConfig:
    retry = entry.get("retryPolicy")
    if retry is not None and entry.get("hedgingPolicy") is not None:
        raise ServiceConfigError("a method has a retryPolicy or a hedgingPolicy, not both")
    wait_for_ready = entry.get("waitForReady")
    if wait_for_ready is not None and not isinstance(wait_for_ready, bool):
        raise ServiceConfigError(f"waitForReady is true or false, not {wait_for_ready!r}")
    return MethodConfig(
        timeout=_duration("timeout", entry["timeout"]) if entry.get("timeout") is not None else None,
        wait_for_ready=wait_for_ready,
        max_request=_size("maxRequestMessageBytes", entry.get("maxRequestMessageBytes")),
        max_response=_size("maxResponseMessageBytes", entry.get("maxResponseMessageBytes")),
        retry=None if retry is None else _retry_policy(retry),
    )


def _retry_policy(policy: Any) -> RetryPolicy:
    if not isinstance(policy, Mapping):
        raise ServiceConfigError("retryPolicy is an object")
    attempts = policy.get("maxAttempts")
    if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 2:
        raise ServiceConfigError(f"maxAttempts is a whole number above 1, not {attempts!r}")
    return RetryPolicy(
        min(attempts, _MOST_ATTEMPTS),
        _positive("initialBackoff", _duration("initialBackoff", policy.get("initialBackoff"))),
        _positive("maxBackoff", _duration("maxBackoff", policy.get("maxBackoff"))),
        _positive("backoffMultiplier", policy.get("backoffMultiplier")),
        _codes(policy.get("retryableStatusCodes")),
    )


def _codes(codes: Any) -> frozenset[grpc.StatusCode]:
    if not isinstance(codes, (list, tuple)) or not codes:
        raise ServiceConfigError("retryableStatusCodes is a list of at least one code")
    return frozenset(map(_code, codes))


def _code(code: Any) -> grpc.StatusCode:
    if isinstance(code, str) and code.upper() in grpc.StatusCode.__members__:
        return grpc.StatusCode[code.upper()]
    if isinstance(code, int) and not isinstance(code, bool) and 0 <= code < len(CODES):
        return CODES[code]
    raise ServiceConfigError(f"{code!r} is no status code")


def _throttling(throttling: Any) -> tuple[float, float] | None:
    if throttling is None:
        return None
    if not isinstance(throttling, Mapping):
        raise ServiceConfigError("retryThrottling is an object")
    tokens = _positive("maxTokens", throttling.get("maxTokens"))
    if tokens > 1000:
        raise ServiceConfigError(f"maxTokens is at most 1000, not {tokens:g}")
    # A6: "up to 3 decimal places", the rest is ignored.
    return tokens, _positive("tokenRatio", int(_positive("tokenRatio", throttling.get("tokenRatio")) * 1000) / 1000)


def _lb_policy(config: Mapping[str, Any]) -> str:
    named = [name for entry in _objects("loadBalancingConfig", config.get("loadBalancingConfig", ())) for name in entry]
    named.append(str(config.get("loadBalancingPolicy", "")).lower())
    return next((name for name in named if name in ("pick_first", "round_robin")), "")


def _objects(name: str, values: Any) -> Iterable[Mapping[str, Any]]:
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, Mapping) for value in values):
        raise ServiceConfigError(f"{name} is a list of objects")
    return values


def _duration(name: str, text: Any) -> float:
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ServiceConfigError(f"{name} is a duration such as '0.1s', not {text!r}")
    return float(found[1] + (found[2] or ""))


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ServiceConfigError(f"{name} is a number above zero, not {value!r}")
    return float(value)


def _size(name: str, value: Any) -> int | None:
    # JSON of protobuf writes a uint32 as a number, and reads a string, too.
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ServiceConfigError(f"{name} is a number of bytes, not {value!r}")
    return value
