"""The tests, and what lives among them: examples, benchmarks, and the two commands of the README.

``python3 -m tests.run`` passes the tests and ``python3 -m tests.demo`` shows the gateway. Both make the environment
they need, so nothing that they import before that may need more than Python itself; this file least of all.
"""
