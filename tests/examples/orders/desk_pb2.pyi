from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Order(_message.Message):
    __slots__ = ("number", "item", "quantity")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    number: int
    item: str
    quantity: int
    def __init__(self, number: _Optional[int] = ..., item: _Optional[str] = ..., quantity: _Optional[int] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("step",)
    STEP_FIELD_NUMBER: _ClassVar[int]
    step: str
    def __init__(self, step: _Optional[str] = ...) -> None: ...

class Goods(_message.Message):
    __slots__ = ("item", "quantity")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    item: str
    quantity: int
    def __init__(self, item: _Optional[str] = ..., quantity: _Optional[int] = ...) -> None: ...

class Stock(_message.Message):
    __slots__ = ("quantities",)
    class QuantitiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    QUANTITIES_FIELD_NUMBER: _ClassVar[int]
    quantities: _containers.ScalarMap[str, int]
    def __init__(self, quantities: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Bid(_message.Message):
    __slots__ = ("item", "cents")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    CENTS_FIELD_NUMBER: _ClassVar[int]
    item: str
    cents: int
    def __init__(self, item: _Optional[str] = ..., cents: _Optional[int] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("accepted", "cents")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    CENTS_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    cents: int
    def __init__(self, accepted: bool = ..., cents: _Optional[int] = ...) -> None: ...

class Parcel(_message.Message):
    __slots__ = ("number", "worker")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    number: int
    worker: str
    def __init__(self, number: _Optional[int] = ..., worker: _Optional[str] = ...) -> None: ...

class Tick(_message.Message):
    __slots__ = ("item", "sold", "left")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    SOLD_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    item: str
    sold: int
    left: int
    def __init__(self, item: _Optional[str] = ..., sold: _Optional[int] = ..., left: _Optional[int] = ...) -> None: ...
