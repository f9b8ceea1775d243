"""An exchange that is slow, loses requests and answers, fills by parts, takes orders late, and is late to tell.

What is held and the trades are each read on its own, and each may be as of a moment ago, for less than the account says
that it may take to show a change. Before each order the diary is told as of when its bot saw the leg last.
"""

from __future__ import annotations

import os
import signal
from functools import partial
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, cast

from poslock import ExchangeUnavailable, OutcomeUnknown
from soak.past import held_at, rounded
from soak.setting import SETTLES_WITHIN
from soak.transit import Transit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from poslock.exchange.port import CloseOrder, Holding, Leg, Order, StopOrder
    from poslock.position import Trade
    from soak.diary import Diary
    from soak.setting import Setting

_SHORT_DELAY = 0.005
_HANGS = 0.003  # for longer than a lease, perhaps
_REQUEST_LOST = 0.01
_ANSWER_LOST = 0.05
_REMAINDER_RESTS = 0.3
_LATE = 0.05
_DIES_WAITING = 0.5
_DENIED = 0.3
_DENIES_FOR = 0.4  # seconds; less than the accounts say of themselves
_STALE = 0.1
_STALEST = 0.8 * SETTLES_WITHIN
_SHOWS_NOTHING = 0.01
_SECOND_MS = 1000
_ORDERS = ("place", "place_stop")
_READS = ("holding", "holdings", "trades")
_LOOKS = ("order", "stop")


class FaultyExchange:
    """One account as one bot sees it; what goes wrong is *chance*'s choice."""

    def __init__(self, setting: Setting, account: int, chance: Random, diary: Diary) -> None:
        self._kind = setting.kind(account)
        liquidity = self._kind.liquidity
        self._whole = setting.venue(account)
        self._moods = (
            self._whole,
            setting.venue(account, liquidity=liquidity),
            setting.venue(account, liquidity=liquidity, remainder_rests=_REMAINDER_RESTS),
        )
        self._account = account
        self._transit = Transit(setting.directory)
        self._lease = setting.lease
        self._chance = chance
        self._diary = diary
        self._taken: dict[str, float] = {}
        self._looks: dict[tuple[str, Leg], int] = {}

    def forget_looks(self) -> None:
        """A lock was acquired: what was seen before is no reason to send anything under it."""
        self._looks.clear()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._whole, name)
        return partial(self._request, name) if callable(attribute) and name != "time_ms" else attribute

    def _request(self, name: str, *args: object) -> object:
        self._travel()
        if name == "trades":
            self._looks.pop((name, cast("Leg", args[0])), None)  # until it is answered, nothing is known of them
        if self._chance.random() < _REQUEST_LOST:
            self._diary.tell("lost request", name)
            raise _unknown(name)
        self._tell_seen(name, args)
        if name in _ORDERS and self._chance.random() < _LATE:
            self._leave_under_way(name, cast("CloseOrder | StopOrder", args[0]))
        venue = self._chance.choice(self._moods) if name == "place" else self._whole
        answer = getattr(self, f"_{name}")(*args) if name in _READS else getattr(venue, name)(*args)
        if name in _ORDERS:
            self._taken = {answer.client_order_id: monotonic()}
        if name in _LOOKS and answer is not None and self._denies(answer.client_order_id):
            self._diary.tell("denied order", answer.client_order_id)
            return None
        if name == "place" and answer.filled < answer.contracts:
            self._diary.tell("partial fill", answer.client_order_id)
        self._travel()
        if self._chance.random() < _ANSWER_LOST:
            self._diary.tell("lost answer", name)
            if name == "trades":
                self._looks.pop((name, cast("Leg", args[0])), None)
            raise _unknown(name)
        return answer

    def _holding(self, leg: Leg) -> Holding | None:
        if self._chance.random() < _SHOWS_NOTHING:
            self._diary.tell("shown nothing")
            self._looks["holding", leg] = -1
            return None
        at_ms = self._as_of()
        self._looks["holding", leg] = self._now_ms() if at_ms is None else at_ms
        return self._whole.holding(leg) if at_ms is None else held_at(self._whole, self._kind, leg, at_ms)

    def _holdings(self, legs: Sequence[Leg]) -> list[Holding]:
        if self._chance.random() < _SHOWS_NOTHING:
            self._diary.tell("shown nothing")
            return []
        at_ms = self._as_of()
        if at_ms is None:
            return self._whole.holdings(legs)
        found = [held_at(self._whole, self._kind, leg, at_ms) for leg in legs]
        return [each for each in found if each is not None]

    def _trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        at_ms = self._as_of()
        self._looks["trades", leg] = self._now_ms() if at_ms is None else at_ms
        shown = self._whole.trades(leg, since_ms - _SECOND_MS)
        shown = [each for each in shown if at_ms is None or each.fill.at_ms <= at_ms]
        return [each for each in rounded(shown, self._kind) if each.fill.at_ms >= since_ms]

    def _as_of(self) -> int | None:
        """A moment ago, once in a while; None for now."""
        if self._chance.random() >= _STALE:
            return None
        self._diary.tell("stale answer")
        return self._now_ms() - int(self._chance.uniform(0, _STALEST) * _SECOND_MS)

    def _now_ms(self) -> int:
        return self._whole.time_ms()

    def _tell_seen(self, name: str, args: tuple[object, ...]) -> None:
        if name in _ORDERS:
            sent = cast("CloseOrder | StopOrder", args[0])
            self._diary.tell("sent", sent.client_order_id, name, *self._seen(sent.leg))
        elif name == "cancel":
            order = cast("Order", args[0])
            self._diary.tell("cancel", self._whole.account, order.order_id, *self._seen(order.leg))

    def _seen(self, leg: Leg) -> list[int]:
        """As of when leg and trades were read last under this lock: 0 if they were not, -1 if nothing showed."""
        return [self._looks.get((each, leg), 0) for each in ("holding", "trades")]

    def _leave_under_way(self, name: str, order: CloseOrder | StopOrder) -> None:
        self._diary.tell("order under way", order.client_order_id)
        self._transit.send(self._account, name, order, self._chance.uniform(0.05, 1.2) * self._lease)
        if self._chance.random() < _DIES_WAITING:
            os.kill(os.getpid(), signal.SIGKILL)
        raise _unknown(name)

    def _denies(self, client_order_id: str) -> bool:
        since = monotonic() - self._taken.get(client_order_id, 0)
        return since < _DENIES_FOR and self._chance.random() < _DENIED

    def _travel(self) -> None:
        if self._chance.random() < _HANGS:
            self._diary.tell("hanging request")
            sleep(self._chance.uniform(0.4, 1.4) * self._lease)
        else:
            sleep(self._chance.uniform(0.001, _SHORT_DELAY))


def _unknown(name: str) -> Exception:
    return OutcomeUnknown("connection lost") if name in _ORDERS else ExchangeUnavailable("connection lost")
