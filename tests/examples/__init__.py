"""Programs to copy from: two of a page each, and the gateway, which is the demo of this project.

    python -m tests.examples.request_reply
    python -m tests.examples.publish_subscribe
    python -m tests.examples.gateway

Each is run by a test.
"""
