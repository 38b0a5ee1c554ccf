"""An order desk made of protobuf services, and the demo of trio_mq_grpc.

    python -m tests.examples.orders

A shop takes orders by ordinary calls of all four kinds (`shop.py`, `customer.py`), has them packed by whichever workers
are there (`worker.py`, one-way), and tells what it sells to everybody who listens (`board.py`, broadcast). Stubs and
servicers are those that protoc has generated from `desk.proto`; nothing else is installed or started beside them.
"""
