"""The demo: the play of `scenario.py` performed by processes, shown on the terminal. See `gateway.py`."""

from __future__ import annotations

import argparse
import sys

import trio

from . import terminal
from .gateway import open_gateway
from .plan import Plan
from .processes import HAVE_PYZMQ, ProcessHosting
from .scenario import Play, Summary


async def demo(plan: Plan) -> Summary:
    """Perform *plan* with processes and show it."""
    async with open_gateway(patience=plan.patience) as gateway, trio.open_nursery() as nursery:
        nursery.start_soon(terminal.show, gateway)
        hosting = ProcessHosting(nursery, gateway.endpoints, plan.work)
        summary = await Play(plan, gateway, hosting).perform()
        nursery.cancel_scope.cancel()
    return summary


def wanted() -> Plan:
    """The plan that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.examples.gateway",
        description="A gateway PUSHes players' requests to game servers that come and go, and publishes a scoreboard.",
    )
    parser.add_argument("--players", type=int, default=Plan.players, help="how many ask (%(default)s)")
    parser.add_argument("--work", type=float, default=Plan.work, help="seconds of work for one request (%(default)s)")
    parser.add_argument("--hold", type=float, default=Plan.hold, help="seconds of each quiet phase (%(default)s)")
    parser.add_argument("--without-pyzmq", action="store_true", help="let trio_mq take all parts")
    given = parser.parse_args()
    plan = Plan(players=given.players, work=given.work, hold=given.hold)
    if HAVE_PYZMQ and not given.without_pyzmq:
        return plan
    print("Without pyzmq: trio_mq takes the parts of the plain ZeroMQ programs, too.")
    return plan.without_pyzmq()


def main() -> None:
    """Run the demo; Ctrl-C leaves it. Exits with 1 if a request was lost that must not be."""
    plan, summary = wanted(), None
    try:
        summary = trio.run(demo, plan)
    except* KeyboardInterrupt:
        print("\nstopped")
    if summary is None:
        sys.exit(130)
    terminal.report(summary)
    if summary.lost_by_the_living or summary.repeated:
        sys.exit("requests for servers that stayed were lost, or answered twice")


if __name__ == "__main__":
    main()
