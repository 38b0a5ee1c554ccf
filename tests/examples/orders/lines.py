"""How the processes of the demo speak: a line of text each, with figures behind a tab where there are any."""

from __future__ import annotations

import json
import sys

import trio


def tell(text: str, **figures: int) -> None:
    """Print a line."""
    print(f"{text}\t{json.dumps(figures)}" if figures else text, flush=True)


def heard(line: str) -> tuple[str, dict[str, int]]:
    """The text and the figures of a line."""
    text, _, figures = line.partition("\t")
    return text, json.loads(figures) if figures else {}


async def wait_input_ended() -> None:
    """Return when the standard input ends, which says that it is time to go."""
    await trio.to_thread.run_sync(sys.stdin.buffer.read, abandon_on_cancel=True)
