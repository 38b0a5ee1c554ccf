"""Two of `grpc.aio`'s abstract classes that are generic for type checkers, and in grpcio itself only since 1.77."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import grpc.aio

if TYPE_CHECKING:
    StreamUnaryMultiCallableBase: TypeAlias = grpc.aio.StreamUnaryMultiCallable[Any, Any]
    StreamStreamMultiCallableBase: TypeAlias = grpc.aio.StreamStreamMultiCallable[Any, Any]
else:
    StreamUnaryMultiCallableBase = grpc.aio.StreamUnaryMultiCallable
    StreamStreamMultiCallableBase = grpc.aio.StreamStreamMultiCallable
