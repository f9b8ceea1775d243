"""When requests reached a `Loopback`, and when they were answered there."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from loopback.server import Loopback, Reply, Request

_ORDERS = {
    "mexc": "/api/v1/private/order/create",
    "binance": "/fapi/v1/order",
    "bybit": "/v5/order/create",
    "okx": "/api/v5/trade/order",
}


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request; times are CLOCK_MONOTONIC nanoseconds, the same in all processes."""

    request: Request
    began_ns: int
    ended_ns: int


class Arrivals:
    """What reaches *venue*, the server in the module of that *name*, from now on."""

    def __init__(self, venue: Loopback, name: str) -> None:
        self._name = name
        self._all: list[Arrival] = []
        self._another = threading.Condition()
        self._arrived = venue.arrived
        venue.arrived = self._timed  # type: ignore[method-assign]  # it is all that a connection calls

    def since(self, began_ns: int) -> list[Arrival]:
        """Those that came later and were answered, as they came."""
        with self._another:
            return sorted((each for each in self._all if each.began_ns >= began_ns), key=lambda each: each.began_ns)

    def orders(self, began_ns: int, many: int, patience: float) -> list[Arrival]:
        """The orders among them, once there are so *many*; waits for them as many seconds as its *patience* is."""
        with self._another:
            if not self._another.wait_for(lambda: len(self._orders(began_ns)) >= many, patience):
                raise TimeoutError(f"{many} orders did not come")
            return self._orders(began_ns)

    def _orders(self, began_ns: int) -> list[Arrival]:
        return [each for each in self.since(began_ns) if is_order(each.request, self._name)]

    def _timed(self, request: Request) -> tuple[Reply | None, float]:
        began_ns = time.monotonic_ns()
        answer = self._arrived(request)
        with self._another:
            self._all.append(Arrival(request, began_ns, time.monotonic_ns()))
            self._another.notify_all()
        return answer


def is_order(request: Request, name: str) -> bool:
    """Whether *request* sends one to the venue in the module of that *name*."""
    return (request.method, request.path) == ("POST", _ORDERS[name])


def round_trips(arrivals: Iterable[Arrival]) -> int:
    """The longest chain of requests each of which came after the one before it was answered."""
    found, free_ns = 0, 0
    for each in sorted(arrivals, key=lambda each: each.ended_ns):
        if each.began_ns >= free_ns:
            found, free_ns = found + 1, each.ended_ns
    return found
