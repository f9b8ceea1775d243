"""Binance's spot market."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from poslock.errors import UnsupportedMarket
from poslock.exchange.ccxt.client import Dialect, Endpoint
from poslock.exchange.ccxt.listing import every_page
from poslock.exchange.ccxt.reading import decimal
from poslock.exchange.ccxt.spot import codes, rows
from poslock.exchange.ccxt.spot.venue import Spot

if TYPE_CHECKING:
    from poslock.exchange.ccxt.client import Client
    from poslock.exchange.port import CloseOrder, Leg, Order, StopOrder
    from poslock.position import Trade


class BinanceSpot(Spot):
    """A spot account at Binance."""

    # Orders that existed were denied for 22 to 62 seconds.
    denies_for: ClassVar[float] = 65.0
    public: ClassVar = ("public",)
    private: ClassVar = ("private",)
    page: ClassVar = 1000
    of_orders: ClassVar = {"newOrderRespType": "RESULT"}
    of_balances: ClassVar = {"omitZeroBalances": "true"}
    stop_types: ClassVar = {"stop_loss": "STOP_LOSS", "take_profit": "TAKE_PROFIT"}
    dialect: ClassVar[Dialect] = Dialect(
        codes=codes.BINANCE,
        clock=Endpoint(public, "GET", "time"),
        read_clock=lambda answer: int(answer["serverTime"]),
        history=frozenset({"myTrades"}),
    )

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        # With either option ccxt buys in the margin account. What the spot account holds is something else then.
        # (test_with_the_option_ccxt_trades_in_another_account)
        if any(client.ccxt.options.get(option) for option in ("portfolioMargin", "papi")):
            raise UnsupportedMarket(
                f"{client.ccxt.id}: portfolio margin accounts are not covered, nothing was sent; for the spot account "
                "use a client without the options portfolioMargin and papi"
            )

    async def _rights(self) -> tuple[bool, bool]:
        names = ("enableSpotAndMarginTrading", "enableWithdrawals")
        trades, withdraws = await self._get(
            "account/apiRestrictions", {}, lambda answer: [rows.is_true(answer[name]) for name in names], ("sapi",)
        )
        return trades, withdraws

    def _least_worth(self, market: dict[str, Any]) -> Decimal:
        # ccxt does not pass on whether it goes for market orders.
        rules = [each for each in market["info"]["filters"] if each["filterType"] in {"NOTIONAL", "MIN_NOTIONAL"}]
        applied = [each for each in rules if _is_on(each.get("applyMinToMarket", each.get("applyToMarket")))]
        return max((decimal(each["minNotional"]) for each in applied), default=Decimal(0))

    async def _sell(self, order: CloseOrder | StopOrder, params: dict[str, str]) -> Order:
        return await self._send_sale(order, params, lambda row: rows.order(row, order.leg))

    async def _trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        """From a time on the venue tells the oldest first, and from an id on, too; it counts trades by market."""

        async def page(start: dict[str, int]) -> tuple[list[Trade], dict[str, int] | None]:
            found = await self._list_trades(leg, start)
            return found, {"fromId": max(map(_number, found)) + 1} if len(found) >= self.page else None

        return sorted(await every_page(page, {"startTime": since_ms}), key=_number)


def _is_on(said: object) -> bool:
    return str(said).lower() == "true"


def _number(trade: Trade) -> int:
    return int(trade.fill.trade_id)
