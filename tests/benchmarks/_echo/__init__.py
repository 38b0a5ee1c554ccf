r"""The service of the RPC rows, as its schema and as generated Python that all contestants share.

Made by grpcio-tools 1.62.3, whose output loads with protobuf 4.25 and every later one, and by mypy-protobuf 3.6:

    python -m grpc_tools.protoc -I. --python_out=. --grpc_python_out=. --mypy_out=. --mypy_grpc_out=. \
        tests/benchmarks/_echo/echo.proto
"""
