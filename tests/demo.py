"""Shows the gateway: makes an environment with what it needs and runs `tests.examples.gateway` in it.

python3 -m tests.demo
python3 -m tests.demo --help
"""

from __future__ import annotations

import sys

from ._setup import become, environment


def main() -> None:
    become(environment("test"), "-m", "tests.examples.gateway", *sys.argv[1:])


if __name__ == "__main__":
    main()
