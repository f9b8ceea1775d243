"""MEXC at the end of a wire on which requests and answers get lost, for the owners of `every_step`."""

from __future__ import annotations

import pickle
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from every_step import ORDERS, WRITES, Door, Kind, World
from loopback.mexc import Mexc
from loopback.mexc_books import PLAN, REDUCES
from poslock import CcxtExchange
from poslock.errors import ExchangeError
from poslock.exchange.ccxt.clock import VenueClock

if TYPE_CHECKING:
    from decimal import Decimal
    from pathlib import Path

    from loopback.server import Reply, Request
    from poslock.exchange.port import Leg

_PRIVATE = "/api/v1/private"
_PLACES = {f"{_PRIVATE}/order/create", f"{_PRIVATE}/planorder/place/v2"}
_LIVE = {0, 1}


@dataclass(frozen=True, eq=False)
class Late:
    """A request that is under way, and the client order id of what it is about."""

    request: Request
    client_order_id: str | None

    def due_ms(self) -> int:
        """The last moment in which the venue takes it."""
        headers = self.request.headers
        return int(headers["request-time"]) + 1000 * int(headers.get("recv-window", 10))


class Wire(Mexc):
    """The venue and the wire to it.

    ``method`` is what is asked of the port, and ``client_order_id`` about which order. ``befalls`` is what befalls the
    next request; for a method that changes something, the one that does it. ``unanswered`` is the number, in
    ``requests``, of one whose answer is lost. ``taken`` are the client order ids of the orders that the venue has,
    also of those that it was not told them of; ``taken_again`` are those of which it has two. For as long as it denies
    an order, questions what became of a trigger order do not show it either.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.method = ""
        self.client_order_id: str | None = None
        self.befalls: Kind | None = None
        self.unanswered: int | None = None
        self.late: Late | None = None
        self.taken: list[str] = []
        self.taken_again: list[str] = []
        self.taken_late = 0

    def arrived(self, request: Request) -> tuple[Reply | None, float]:
        kind: Kind | None = "answer lost" if len(self.requests) == self.unanswered else None
        if self.befalls is not None and (self.method not in WRITES or request.method == "POST"):
            kind, self.befalls = self.befalls, None
        answer = super().arrived(request) if kind in {None, "answer lost"} else None
        if kind == "request late":
            self.late = Late(request, self.client_order_id)
        return answer if answer is not None and kind is None else (None, 0)

    def arrived_late(self, late: Late) -> None:
        self.client_order_id = late.client_order_id
        self.taken_late += self._carried_out(late.request).body["success"] is True

    def _carried_out(self, request: Request) -> Reply:
        reply = super()._carried_out(request)
        if request.path in _PLACES and reply.body["success"] is True and self.client_order_id is not None:
            self.taken_again += [self.client_order_id] if self.client_order_id in self.taken else []
            self.taken.append(self.client_order_id)
        if request.path == f"{_PRIVATE}/planorder/list/orders" and self.method == "stop":
            shown_ms = self.clock_ms() - self.denies * 1000
            with self.books() as books:
                shown = {str(PLAN + row["order_id"]) for row in books.rows("created_ms <= ?", shown_ms)}
            reply.body["data"] = [row for row in reply.body["data"] if row["id"] in shown]
        return reply


class MexcDoor(Door):
    """The account as it is reached through *client*, a ccxt client at the near end of *wire*.

    What is lost is lost on the wire, so it is the client that finds out; what is late arrives as it was signed.
    """

    def __init__(self, wire: Wire, client: Any, world: World, kept: Any) -> None:
        super().__init__(world, {})
        self._wire = wire
        self._client = client
        wire.book, wire.hedge = world.exchange, world.hedge
        nothing: Any = ({}, [], [], [])
        wire.asked, wire.pairs, wire.tracks, wire.taken = pickle.loads(kept) if kept else nothing  # noqa: S301  # ours
        wire.requests.clear()
        wire.taken_again.clear()

    def kept(self) -> Any:
        return pickle.dumps((self._wire.asked, self._wire.pairs, self._wire.tracks, self._wire.taken))

    def exchange(self) -> Any:
        exchange: Any = CcxtExchange(self._client, account="main")
        exchange._client.clock = VenueClock(lambda: self.world.now_ns)
        self._wire.denies = exchange.denies_for
        return exchange

    def ask(self, exchange: Any, method: str, *args: Any) -> Any:
        self._wire.method = method
        self._wire.client_order_id = args[0].client_order_id if method in ORDERS else None
        try:
            return getattr(exchange, method)(*args)
        finally:
            assert not self._wire.taken_again, "an order was sent again that the venue has"

    def ask_in_vain(self, kind: Kind, exchange: Any, method: str, *args: Any) -> Any:
        self._wire.befalls = kind
        try:
            return self.ask(exchange, method, *args)
        finally:
            self.world.send(self._struck())

    def late(self, exchange: Any, method: str, *args: Any) -> list[tuple[int, Any]]:
        self._wire.befalls = "request late"
        with suppress(ExchangeError):
            self.ask(exchange, method, *args)
        return self._struck()

    def arrive(self, request: Any) -> None:
        self._wire.arrived_late(request)
        assert not self._wire.taken_again, "an order was taken again that the venue had"

    def resting(self, leg: Leg) -> list[tuple[str, Decimal | None]]:
        live = [track for track in self._wire.tracks if track["state"] in _LIVE and REDUCES[track["side"]] == leg.side]
        return [*super().resting(leg), *(("trailing", None) for _ in live)]

    def others(self) -> list[tuple[str, Decimal | None]]:
        return [*super().others(), ("trailing", None)] if self.world.hedge else []

    def _struck(self) -> list[tuple[int, Any]]:
        """What is under way after a blow."""
        late, self._wire.late, self._wire.befalls = self._wire.late, None, None
        return [(late.due_ms() * 10**6, late)] if late is not None else []
