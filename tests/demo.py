"""Shows trio_mq at work: makes an environment with what is needed, and runs one of the larger examples in it.

python3 -m tests.demo                 an order desk of gRPC services: calls, one-way work, broadcast
python3 -m tests.demo gateway         a gateway whose game servers come and go, some of them plain pyzmq programs
python3 -m tests.demo [gateway] --help
"""

from __future__ import annotations

import sys

from ._setup import become, environment

DEMOS = {"orders": "tests.examples.orders", "gateway": "tests.examples.gateway"}


def main() -> None:
    name, *rest = sys.argv[1:] if sys.argv[1:2] and sys.argv[1] in DEMOS else ["orders", *sys.argv[1:]]
    become(environment("test"), "-m", DEMOS[name], *rest)


if __name__ == "__main__":
    main()
