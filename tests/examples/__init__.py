"""Programs to copy from: two of a page each, a gateway, and an order desk of gRPC services, the demo of this project.

    python -m tests.examples.request_reply
    python -m tests.examples.publish_subscribe
    python -m tests.examples.gateway
    python -m tests.examples.orders

Each is run by a test.
"""
