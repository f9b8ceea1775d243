"""What an OKX account holds and what it did: its positions, fills and funding."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from poslock.errors import ExchangeUnavailable, NothingToReduce, UnsupportedMarket
from poslock.exchange.venues import okx_answers as answers
from poslock.exchange.venues.client import Client, Endpoint
from poslock.exchange.venues.venue import Held, Swap, decimal
from poslock.position import EXACT
from poslock.text import quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    from poslock.exchange.port import Leg, Order
    from poslock.position import Fill, Side

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
_LOOKS = 5


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

    async def fills(self, leg: Leg, since_ms: int) -> list[Fill]:
        """Fills that took from *leg*, oldest first; those of the last three months."""
        fills = []
        for deal, contracts in await self._exits(leg, since_ms):
            client_id = deal.client_order_id or await self._client_id(leg, deal.order_id)
            fills.append(deal.as_fill(contracts, client_id))
        return fills

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
        return await self.client.ask(Endpoint(PRIVATE, "GET", path), query, lambda answer: answers.rows(answer, read))

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
            return answers.order(row, leg) if is_it and answers.takes_from(row, leg) else None

        found = await self.known("trade/order", query, read)
        return found[0] if found else None

    async def known(self, path: str, query: dict[str, Any], read: Callable[[dict[str, Any]], T]) -> list[T]:
        """As `get`, nothing if the venue says that there is no such order."""
        try:
            return await self.get(path, query, read)
        except ExchangeUnavailable as error:
            if error.code != answers.NO_SUCH_ORDER:
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
        held = [position for side, position in await self._positions(leg) if side == leg.side]
        return held[0] if held else None

    async def _positions(self, leg: Leg) -> list[tuple[Side, Held]]:
        symbol = self.symbol(leg)
        rows = await self.get("account/positions", {"instType": SWAP, "instId": symbol}, answers.position)
        held = [each for each in rows if each is not None and each[1].said["instId"] == symbol]
        if len({position.said["posSide"] for _, position in held}) < len(held):
            raise UnsupportedMarket(f"okx holds {quoted(leg.symbol)} in both margin modes; an order names one")
        return held

    async def _exits(self, leg: Leg, since_ms: int) -> list[tuple[answers.Deal, Decimal]]:
        deals = await self._deals(leg, since_ms)
        if all(deal.leg != answers.NET for deal in deals):
            return answers.hedge_exits(deals, leg)
        for _ in range(_LOOKS):
            held = [each for each in await self._positions(leg) if each[1].said["posSide"] == answers.NET]
            net = sum((size.contracts if side == "long" else -size.contracts for side, size in held), Decimal(0))
            before, deals = deals, await self._deals(leg, since_ms)
            if before == deals:
                # Of both: the account may have changed its mode meanwhile.
                exits = [*answers.net_exits(deals, net, leg), *answers.hedge_exits(deals, leg)]
                return sorted(exits, key=lambda exit_: exit_[0].at)
        raise ExchangeUnavailable("okx is filling orders at this moment")

    async def _deals(self, leg: Leg, since_ms: int) -> list[answers.Deal]:
        """All executions since then, of both sides, oldest first."""
        query = {"instType": SWAP, "instId": self.symbol(leg)}
        paths = ("trade/fills", "trade/fills-history")
        found = await self._history(
            paths, _RECENT_FILLS_MS, query, since_ms, lambda row: (row["billId"], answers.deal(row))
        )
        return sorted((deal for deal in found.values() if deal.at[0] >= since_ms), key=lambda deal: deal.at)

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
                endpoint, {**query, "after": after, "limit": _PAGE}, lambda answer: answers.rows(answer, answers.rate)
            )
            rates.update(page)
            after = min(rates, default=0)
            if len(page) < _PAGE or after < since_ms - _SAME_FUNDING_MS:
                return rates
        raise ExchangeUnavailable(f"okx's list has more than {_MOST_PAGES} pages of {_PAGE}")

    async def _client_id(self, leg: Leg, order_id: str) -> str | None:
        """The client order id of an order whose fills do not name it, such as that of a conditional one."""
        if order_id and order_id not in self._client_ids:
            order = await self.plain(leg, {"ordId": order_id})
            self._client_ids[order_id] = order.client_order_id if order else None
        return self._client_ids.get(order_id)
