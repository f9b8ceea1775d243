"""An exchange that is slow, loses requests and answers, fills by parts, and takes orders late."""

from __future__ import annotations

import os
import signal
from functools import partial
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, cast

from poslock import ExchangeUnavailable, OutcomeUnknown
from soak.setting import KINDS
from soak.transit import Transit

if TYPE_CHECKING:
    from random import Random

    from poslock.exchange.port import CloseOrder, StopOrder
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
_ORDERS = ("place", "place_stop")
_LOOKS = ("order", "stop")


class FaultyExchange:
    """One account as one bot sees it; what goes wrong is *chance*'s choice."""

    def __init__(self, setting: Setting, account: int, chance: Random, diary: Diary) -> None:
        liquidity = KINDS[account % len(KINDS)].liquidity
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

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._whole, name)
        return partial(self._request, name) if callable(attribute) and name != "time_ms" else attribute

    def _request(self, name: str, *args: object) -> object:
        self._travel()
        if self._chance.random() < _REQUEST_LOST:
            self._diary.tell("lost request", name)
            raise _unknown(name)
        if name in _ORDERS and self._chance.random() < _LATE:
            self._leave_under_way(name, cast("CloseOrder | StopOrder", args[0]))
        venue = self._chance.choice(self._moods) if name == "place" else self._whole
        answer = getattr(venue, name)(*args)
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
            raise _unknown(name)
        return answer

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
