"""Spot markets of Binance and MEXC, whose spot APIs (v3) are alike: a balance as a position that can only be long.

What is held is the whole balance of the base currency, free and locked by orders alike. There is no reduce-only: a sale
is never for more than is free, and sells what is somebody's, but cannot open a short.

What a bot must know:

- Track what arrived. Where the fee of a purchase is taken from what was bought, less arrives than the order was for,
  and more than is there is refused. What is beyond the market's step, or below its smallest order, is left.
- A balance has no owner, nor has a sale: every sale on the market since the tracking is an exit of the position. A
  close sells no more than was tracked, and leaves orders alone that it does not know to be its own. Two markets with
  one base share its balance.
- Orders lock what they are for. A close cancels them to make room, a stop-loss last, and the position has none then
  until it is sold. A stop-loss cannot be moved while it locks all there is: remove it, then set it anew. It cannot
  stand beside a take-profit for the same amount either, unless you place both as one OCO list, and then a close cancels
  both at once.
- MEXC has no stop orders. No venue knows what a balance was bought for: a holding has no entry price.
- A contract is one unit of the base currency, and P&L is in the quote currency: name it as the position's ``settle``.
  Fees are in the currency that the trade names.

Not covered: margin, and portfolio margin accounts. Source: the venues' documentation of their spot APIs. What it leaves
open is said where it matters.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from poslock.errors import ExchangeUnavailable, NothingToReduce, NotServed, OrderRefused, ReduceOnlyBlocked
from poslock.exchange.ccxt.reading import plain, step
from poslock.exchange.ccxt.spot import rows
from poslock.exchange.ccxt.spot.rows import SELL, Stock
from poslock.exchange.ccxt.venue import Account
from poslock.exchange.port import Holding

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from poslock.exchange.port import CloseOrder, Leg, Order, StopOrder
    from poslock.position import Trade

T = TypeVar("T")


class Spot(Account):
    """A spot account. What differs between the venues is in the attributes, and in the methods at the end."""

    prices: ClassVar = {"last": ("ticker/price", "price")}
    may_be_cut: ClassVar = False  # what is held says nothing of what was sold
    page: ClassVar[int]
    # Besides what an order is: how its answer is wanted; and how the balances are.
    of_orders: ClassVar[Mapping[str, str]] = {}
    of_balances: ClassVar[Mapping[str, str]] = {}
    stop_types: ClassVar[Mapping[str, str]] = {}

    async def holding(self, leg: Leg) -> Holding | None:
        """The whole balance, locked or not; None if there is none. Dust is less than its ``smallest``."""
        return self._holding(leg, await self._stock(leg))

    async def holdings(self, legs: Sequence[Leg]) -> list[Holding]:
        """The same of *legs*, from one request for all balances, and one for the price of each that is not empty.

        Raises:
            ExchangeUnavailable: no market is known, because `prepare` was not called.
        """
        known = self._known(legs)
        balances = await self._balances(known) if known else {}
        found = [self._holding(leg, await self._stock_of(leg, balances)) for leg in known]
        return [holding for holding in found if holding is not None]

    async def place(self, order: CloseOrder) -> Order:
        """Sell at market, at most what is free, and at most the venue's largest size: less than was asked for, then."""
        stock = await self._unsent(self._stock(order.leg))
        amount, largest = self._part(order, stock), stock.lot.largest
        if stock.free < amount:
            await self._expect_other_locks(order.leg, stock)
            amount = stock.lot.sellable(stock.free)
        params = {"type": "MARKET", "quantity": plain(amount if largest is None else min(amount, largest))}
        try:
            return await self._sell(order, params)
        except NothingToReduce as refusal:
            if await self._still_holds(order.leg):
                raise ReduceOnlyBlocked(str(refusal), code=refusal.code) from None
            raise

    async def place_stop(self, order: StopOrder) -> Order:
        """Rest an order that sells at market. It locks what it is for, and needs it free."""
        if order.kind not in self.stop_types:
            raise OrderRefused(
                f"{self.client.ccxt.id} has no stop orders on spot markets; watch the price, and close at yours"
            )
        stock = await self._unsent(self._stock(order.leg))
        amount = self._part(order, stock)
        if stock.free < amount:
            raise ReduceOnlyBlocked(
                f"{plain(stock.locked)} {stock.base} are locked by orders, so {plain(amount)} cannot be had for another"
                " one; remove those first"
            )
        trigger, kind = plain(order.trigger_price), self.stop_types[order.kind]
        placed = await self._sell(order, {"type": kind, "quantity": plain(amount), "stopPrice": trigger})
        return replace(placed, family=order.kind, trigger_price=order.trigger_price)

    async def order(self, leg: Leg, client_order_id: str) -> Order | None:
        """The order with this client order id, if it sells."""
        return await self._look_up(leg, "origClientOrderId", client_order_id, lambda row: rows.sale(row, leg))

    async def stop(self, order: StopOrder) -> Order | None:
        return await self.order(order.leg, order.client_order_id)

    async def open_orders(self, leg: Leg) -> list[Order]:
        """Every resting order that would sell what is held on this market, of an OCO list too."""
        return await self._rows("openOrders", self._of(leg), lambda row: rows.resting(row, leg))

    async def cancel(self, order: Order) -> None:
        """Cancel *order*, and with it the OCO list that it is in."""
        await self._delete("order", {**self._of(order.leg), "orderId": order.order_id})

    async def funding(self, leg: Leg, since_ms: int, until_ms: int) -> Decimal:  # noqa: ARG002  # the port's
        """Spot has none."""
        return Decimal(0)

    # Inside.

    def _unfit(self, market: dict[str, Any], leg: Leg) -> str | None:
        if not market.get("spot"):
            return "is no spot market"
        return None if leg.side == "long" else "is a spot market, where nothing can be short"

    async def _read_mode(self) -> None:
        """A spot account has none."""

    async def _client_id(self, leg: Leg, order_id: str) -> str | None:
        return await self._look_up(leg, "orderId", order_id, lambda row: rows.order(row, leg).client_order_id or "")

    async def _balances(self, legs: Sequence[Leg]) -> dict[str, tuple[Decimal, Decimal]]:
        assets = {str(self.market(leg)["baseId"]) for leg in legs}
        return await self._get("account", dict(self.of_balances), lambda answer: rows.balances(answer, assets))

    async def _stock(self, leg: Leg) -> Stock:
        return await self._stock_of(leg, await self._balances([leg]))

    async def _stock_of(self, leg: Leg, balances: Mapping[str, tuple[Decimal, Decimal]]) -> Stock:
        market = self.market(leg)
        least_worth = self._least_worth(market)
        free, locked = balances.get(str(market["baseId"]), (Decimal(0), Decimal(0)))
        is_worth_asking = least_worth > 0 and (free > 0 or locked > 0)
        price = await self.price(leg) if is_worth_asking else Decimal(0)
        return Stock(str(market["base"]), free, locked, rows.lot(market, least_worth, price))

    def _holding(self, leg: Leg, stock: Stock) -> Holding | None:
        """A contract is one unit of the base currency. What it was bought for the venue does not know."""
        if not stock.total:
            return None
        market = self.market(leg)
        return Holding(
            leg,
            stock.total,
            entry_price=None,
            contract_size=Decimal(1),
            inverse=False,
            settle=str(market["quote"]),
            smallest=stock.lot.smallest,
            step=stock.lot.step,
            tick=step(market, "price"),
            largest=stock.lot.largest,
        )

    def _part(self, order: CloseOrder | StopOrder, stock: Stock) -> Decimal:
        """How much of *order* to ask for."""
        if not stock.held:
            raise NothingToReduce(f"{self.client.ccxt.id} holds no {stock.base} that could be sold")
        amount = stock.lot.sellable(min(order.contracts, stock.held))
        if not amount:
            raise OrderRefused(
                f"{plain(order.contracts)} {stock.base} is less than an order can be for: {plain(stock.lot.least)}, "
                f"and a worth of {plain(stock.lot.least_worth)}"
            )
        return amount

    async def _expect_other_locks(self, leg: Leg, stock: Stock) -> None:
        """Return if something of *stock* can be sold now, and what locks the rest of it is not to be cancelled here."""
        said = f"{plain(stock.locked)} {stock.base} are locked, {plain(stock.free)} are free"
        if await self._unsent(self.open_orders(leg)):
            raise ReduceOnlyBlocked(f"{said}: orders rest on {leg.symbol}")
        if not stock.lot.sellable(stock.free):
            raise NotServed(f"not sent: {said}, and no order of {leg.symbol} is what locks them")

    async def _still_holds(self, leg: Leg) -> bool:
        try:
            return (await self._stock(leg)).held > 0
        except ExchangeUnavailable:
            return False

    async def _send_sale(
        self, order: CloseOrder | StopOrder, params: dict[str, str], read: Callable[[dict[str, Any]], T]
    ) -> T:
        name = {**self._of(order.leg), "side": SELL, "newClientOrderId": order.client_order_id}
        return await self._send("order", {**name, **params, **self.of_orders}, order, read)

    async def _look_up(self, leg: Leg, by: str, wanted: str, read: Callable[[dict[str, Any]], T]) -> T | None:
        return await self._known_order(self._get("order", {**self._of(leg), by: wanted}, read))

    async def _list_trades(self, leg: Leg, which: dict[str, int]) -> list[Trade]:
        query = {**self._of(leg), "limit": self.page, **which}
        return await self._get("myTrades", query, lambda answer: [rows.trade(row) for row in self._listed(answer)])

    # What the venues do each in its way.

    @abstractmethod
    def _least_worth(self, market: dict[str, Any]) -> Decimal:
        """The least that a market order must be worth, in the quote currency."""

    @abstractmethod
    async def _sell(self, order: CloseOrder | StopOrder, params: dict[str, str]) -> Order: ...
