"""Keeps freed message buffers in the process.

glibc gives memory at the end of the heap back to the kernel as soon as it is freed, and maps chunks of 128 KiB and more
afresh each time; a stream of large messages then spends most of its time in page faults. Freeing one large mapped chunk
lifts both thresholds for the whole process: at most 64 MiB more stay with it. Elsewhere this costs microseconds and
does nothing. `tests.benchmarks`, rows "64 KiB" and "1 MiB".
"""

from __future__ import annotations

from functools import cache

_LARGEST_THAT_COUNTS = (32 << 20) - (64 << 10)


@cache
def keep_freed_memory() -> None:
    """Call it when a connection proves busy; only the first call does something."""
    bytearray(_LARGEST_THAT_COUNTS)
