"""Passes the tests: makes an environment with what they need and runs pytest in it, with all further arguments.

python3 -m tests.run
python3 -m tests.run -k cancelled tests/live
"""

from __future__ import annotations

import sys

from ._setup import become, environment, scratch


def main() -> None:
    caches = scratch()
    become(
        environment("test"),
        *("-m", "pytest", "-o", f"cache_dir={caches / '.pytest_cache'}", *sys.argv[1:]),
        HYPOTHESIS_STORAGE_DIRECTORY=str(caches / ".hypothesis"),
    )


if __name__ == "__main__":
    main()
