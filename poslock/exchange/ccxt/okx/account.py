"""What an OKX account holds and what it did: its positions, trades and funding."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from poslock.errors import ExchangeUnavailable, NothingToReduce, UnsupportedMarket
from poslock.exchange.ccxt.client import Client, Endpoint
from poslock.exchange.ccxt.okx import rows
from poslock.exchange.ccxt.venue import Held, Swap, decimal
from poslock.exchange.port import Leg
from poslock.position import EXACT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from poslock.exchange.port import Order
    from poslock.position import Side, Trade

T = TypeVar("T")

PRIVATE, PUBLIC = ("private",), ("public",)
SWAP = "SWAP"
_PAGE, _MOST_PAGES = 100, 100
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
# Of what the lists of recent things hold, a day less.
_RECENT_FILLS_MS, _RECENT_BILLS_MS = 2 * _DAY_MS, 6 * _DAY_MS
_FUNDING = "8"
# Seconds pass from the time of a funding to its bill; an hour at least from one funding to the next.
_SAME_FUNDING_MS = _HOUR_MS // 2


class OkxAccount(Swap):
    """The questions that no order is the answer to."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._client_ids: dict[str, str | None] = {}

    def market(self, leg: Leg) -> dict[str, Any]:
        """As `Swap.market`; also `UnsupportedMarket` if ccxt's contract size is not the whole of it."""
        market = super().market(leg)
        if str(market["info"].get("ctMult") or 1) != "1":
            raise UnsupportedMarket(f"{quoted(leg.symbol)} at okx has contracts with a multiplier")
        return market

    async def trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        """Entries and exits of *leg*, oldest first; those of the last three months."""
        symbol = self.symbol(leg)

        def read(row: dict[str, Any]) -> tuple[str, Trade | None]:
            return row["billId"], rows.trade(row, leg) if row["instId"] == symbol else None

        query, paths = {"instType": SWAP, "instId": symbol}, ("trade/fills", "trade/fills-history")
        found = await self._history(paths, _RECENT_FILLS_MS, query, since_ms, read)
        # By the id that the venue's own lists go by. Its trade ids are below zero for liquidations.
        trades = [trade for _, trade in sorted(found.items(), key=lambda each: int(each[0])) if trade is not None]
        return [await self._named(leg, trade) for trade in trades if trade.fill.at_ms >= since_ms]

    async def funding(self, leg: Leg, since_ms: int, until_ms: int) -> Decimal:
        """Funding received by *leg*. Bills do not name the leg: a long one receives when the rate is below zero."""
        symbol = self.symbol(leg)

        def read(row: dict[str, Any]) -> tuple[str, tuple[int, Decimal]]:
            is_it = row["instId"] == symbol and row["type"] == _FUNDING
            return row["billId"], (int(row["ts"]), decimal(row["pnl"] or 0) if is_it else Decimal(0))

        query = {"instType": SWAP, "instId": symbol, "type": _FUNDING, "end": until_ms + _SAME_FUNDING_MS}
        paths = ("account/bills", "account/bills-archive")
        found = await self._history(paths, _RECENT_BILLS_MS, query, since_ms, read)
        bills = sorted((at_ms, amount) for at_ms, amount in found.values() if amount)
        rates = await self._rates(leg, bills[0][0], bills[-1][0]) if bills else {}
        received = Decimal(0)
        for at_ms, amount in bills:
            funding_ms = min(rates, key=lambda each: abs(each - at_ms), default=0)
            if abs(funding_ms - at_ms) > _SAME_FUNDING_MS or not rates[funding_ms]:
                raise ExchangeUnavailable(f"okx shows no funding rate for the bill of {at_ms}")
            is_long = (amount > 0) == (rates[funding_ms] < 0)
            if since_ms <= funding_ms <= until_ms and is_long == (leg.side == "long"):
                received = EXACT.add(received, amount)
        return received

    def symbol(self, leg: Leg) -> str:
        """The venue's name of a market."""
        return str(self.market(leg)["id"])

    async def get(self, path: str, query: dict[str, Any], read: Callable[[dict[str, Any]], T]) -> list[T]:
        """What *read* makes of the rows of an answer."""
        return await self.client.ask(Endpoint(PRIVATE, "GET", path), query, lambda answer: rows.of(answer, read))

    async def every(
        self, path: str, query: dict[str, Any], read: Callable[[dict[str, Any]], tuple[str, T]]
    ) -> dict[str, T]:
        """The same of all pages of a list; *read* gives the id of a row, too."""
        found: dict[str, T] = {}
        for _ in range(_MOST_PAGES):
            page = await self.get(path, {**query, "limit": _PAGE}, read)
            found.update(page)
            if len(page) < _PAGE:
                return found
            query = {**query, "after": page[-1][0]}
        raise ExchangeUnavailable(f"okx's list has more than {_MOST_PAGES} pages of {_PAGE}")

    async def plain(self, leg: Leg, key: dict[str, str]) -> Order | None:
        """A plain order by an id of it, None if the venue says that there is none."""
        query = {"instId": self.symbol(leg), **key}

        def read(row: dict[str, Any]) -> Order | None:
            is_it = all(row[name] == value for name, value in query.items())
            return rows.order(row, leg) if is_it and rows.takes_from(row, leg) else None

        found = await self.known("trade/order", query, read)
        return found[0] if found else None

    async def known(self, path: str, query: dict[str, Any], read: Callable[[dict[str, Any]], T]) -> list[T]:
        """As `get`, nothing if the venue says that there is no such order."""
        try:
            return await self.get(path, query, read)
        except ExchangeUnavailable as error:
            if error.code != rows.NO_SUCH_ORDER:
                raise
            return []

    async def need_position(self, leg: Leg) -> Held:
        """What *leg* holds; raises `NothingToReduce` if that is nothing."""
        position = await self._position(leg)
        if position is None:
            raise NothingToReduce(f"okx holds no {leg.side} position in {leg.symbol}")
        return position

    # Inside.

    async def _position(self, leg: Leg) -> Held | None:
        symbol = self.symbol(leg)
        held = await self._positions({"instId": symbol}, {symbol})
        return next((position for side, position in held if side == leg.side), None)

    async def _all_positions(self, legs: Sequence[Leg]) -> dict[Leg, Held]:
        ids = {self.symbol(leg): leg.symbol for leg in legs}
        held = await self._positions({}, set(ids))
        return {Leg(ids[position.said["instId"]], side): position for side, position in held}

    async def _positions(self, query: dict[str, str], symbols: set[str]) -> list[tuple[Side, Held]]:
        """What is held of *symbols*. What the account holds beside them is not looked at."""

        def read(row: dict[str, Any]) -> tuple[Side, Held] | None:
            return rows.position(row) if row["instId"] in symbols else None

        found = await self.get("account/positions", {"instType": SWAP, **query}, read)
        held = [each for each in found if each is not None]
        names = Counter((position.said["instId"], position.said["posSide"]) for _, position in held)
        if twice := next((symbol for (symbol, _), times in names.items() if times > 1), None):
            raise UnsupportedMarket(f"okx holds {twice} in both margin modes; an order names one")
        return held

    async def _history(
        self,
        paths: tuple[str, str],
        recent_ms: int,
        query: dict[str, Any],
        since_ms: int,
        read: Callable[[dict[str, Any]], tuple[str, T]],
    ) -> dict[str, T]:
        """What a list of recent things and, if need be, the one of older things have."""
        recent, archive = paths
        query = {**query, "begin": since_ms - 1}  # whether the limit itself is in is not documented
        is_old = since_ms < self.client.clock.now_ms() - recent_ms
        older = await self.every(archive, query, read) if is_old else {}
        return {**older, **await self.every(recent, query, read)}

    async def _rates(self, leg: Leg, since_ms: int, until_ms: int) -> dict[int, Decimal]:
        """Funding rates by their time."""
        endpoint, query = Endpoint(PUBLIC, "GET", "public/funding-rate-history"), {"instId": self.symbol(leg)}
        rates: dict[int, Decimal] = {}
        after = until_ms + 2 * _SAME_FUNDING_MS
        for _ in range(_MOST_PAGES):
            page = await self.client.ask(
                endpoint, {**query, "after": after, "limit": _PAGE}, lambda answer: rows.of(answer, rows.rate)
            )
            rates.update(page)
            after = min(rates, default=0)
            if len(page) < _PAGE or after < since_ms - _SAME_FUNDING_MS:
                return rates
        raise ExchangeUnavailable(f"okx's list has more than {_MOST_PAGES} pages of {_PAGE}")

    async def _named(self, leg: Leg, trade: Trade) -> Trade:
        """*trade* with its client order id, which that of a conditional order does not name; of exits only."""
        order_id = trade.order_id
        if trade.effect == "entry" or trade.fill.client_order_id or order_id is None:
            return trade
        if order_id not in self._client_ids:
            order = await self.plain(leg, {"ordId": order_id})
            if order is None:  # for now: an order that exists may be denied for a while
                return trade
            self._client_ids[order_id] = order.client_order_id
        return replace(trade, fill=replace(trade.fill, client_order_id=self._client_ids[order_id]))
