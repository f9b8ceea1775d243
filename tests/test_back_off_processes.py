"""A ban that real processes keep to: whoever meets it first tells the others, by the file beside the locks."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from awaited import guard_on
from loopback.server import Fault, Reply
from poslock.exchange.port import LONGEST_BACK_OFF, SCOPES, Leg
from poslock.lock.files.back_off import BackOffFile
from poslock.lock.files.directory import open_directory
from reach import reached, serving

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Children
    from loopback.server import Request

CHILDREN, SECONDS, PATIENCE = 3, 2, 30.0
SYMBOLS = [f"COIN{number}/USDT:USDT" for number in range(2 * CHILDREN)]


class Ban:
    """From the next request on everything is answered with 418, for so many seconds."""

    def __init__(self) -> None:
        self.met, self.orders_after = 0, 0
        self._ends: float | None = None
        self._noting = threading.Lock()

    def answered(self, request: Request) -> Reply | None:
        with self._noting:
            if self._ends is None:
                self._ends = time.monotonic() + SECONDS
            if time.monotonic() >= self._ends:
                self.orders_after += request.method == "POST"
                return None
            self.met += 1
        return Reply(418, {"code": -1003, "msg": "Way too many requests"}, {"Retry-After": str(SECONDS)})


def test_one_request_of_all_processes_goes_into_a_ban(start: Children, tmp_path: Path) -> None:
    """Three want to close, each another position; the first one meets the ban, and after it all of them close."""
    lock_dir = str(tmp_path / "locks")
    with serving("binanceusdm", str(tmp_path / "venue.db")) as venue:
        where = f"binanceusdm {venue.url}"
        for symbol in SYMBOLS:
            venue.book.set_price(symbol, 60_000)
            venue.book.open_position(symbol, "long", 10)
        exchange = reached(where, settles_within=2.0)
        exchange.prepare()
        with guard_on(exchange, asynchronous=False, lock_dir=lock_dir) as guard:
            ids = [guard.adopt(symbol, "long").position.id for symbol in SYMBOLS]
        children = [
            start(
                "close_when_told",
                exchange=where,
                lock_dir=lock_dir,
                settings={"settles_within": 2.0},
                asynchronous=bool(number % 2),
            )
            for number in range(CHILDREN)
        ]
        for child, warm_up in zip(children, ids, strict=False):  # markets and clock are known afterwards
            child.hear()
            child.tell(warm_up)
        assert [child.hear()["outcome"] for child in children] == ["booked"] * CHILDREN
        ban = Ban()
        venue.strike(Fault("", ban.answered, times=10**6))
        children[0].tell(ids[CHILDREN])
        told = BackOffFile(open_directory(lock_dir), exchange.account, SCOPES, LONGEST_BACK_OFF)
        deadline = time.monotonic() + PATIENCE
        while not os.path.exists(told.path):
            assert not ban.orders_after, "the others are not told of the ban"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        for child, position_id in zip(children[1:], ids[CHILDREN + 1 :], strict=True):
            child.tell(position_id)
        assert [child.hear()["outcome"] for child in children] == ["booked"] * CHILDREN
        assert (ban.met, ban.orders_after) == (1, CHILDREN)
        assert {venue.book.held(Leg(symbol, "long")) for symbol in SYMBOLS} == {0}
