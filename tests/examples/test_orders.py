"""The order desk, in one process and in several."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest
import trio

pytest.importorskip("grpc")
pytest.importorskip("google.protobuf")

from .orders import demo
from .orders.board import listening
from .orders.customer import shop_at
from .orders.shop import Endpoints, open_shop
from .orders.worker import work


async def test_all_parts_work_together_in_one_process(capsys: pytest.CaptureFixture[str]) -> None:
    names = Endpoints(*(f"inproc://desk/{name}" for name in ("calls", "packing", "dispatch", "ticker")))
    with trio.fail_after(20):
        async with open_shop(names) as (shop, endpoints):
            board, screen, subscription = listening(endpoints.ticker)
            async with screen, trio.open_nursery() as nursery:
                for name in ("ann", "bob"):
                    nursery.start_soon(partial(work, name, endpoints.packing, endpoints.dispatch, seconds=0.001))
                await shop.wait_boards(1)
                await shop_at(endpoints.calls, 30)
                await shop.wait_packed()
                while subscription.statistics().done < 30:
                    await trio.sleep(0.005)
                nursery.cancel_scope.cancel()
    assert shop.calls == {"Restock": 1, "Haggle": 1, "Place": 31, "Track": 30}
    assert sum(shop.packed.values()) == 30
    assert board.sold == shop.sold == {"bread": 10, "cake": 10, "roll": 10}
    assert "refused 1 times: NOT_FOUND" in capsys.readouterr().out


async def test_the_demo_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with trio.fail_after(40):
        shop, account = await demo.demo(demo.Plan(customers=1, orders=20, workers=2, boards=2))
    assert demo.report(shop, account) == []
    assert "20 ticks to 2 boards, 0 missed" in capsys.readouterr().out


def test_a_report_names_what_was_lost(capsys: pytest.CaptureFixture[str]) -> None:
    from .orders.shop import Shop

    shop = Shop.__new__(Shop)
    shop.calls, shop.packed, shop.sold = Counter(), Counter(a=1), Counter(cake=2)
    account = demo.Account()
    account.add("board 1", {"heard": 1})
    assert demo.report(shop, account) == ["not every order was packed once", "a board has not heard every tick"]
