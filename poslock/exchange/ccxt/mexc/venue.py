"""MEXC perpetual futures (contract API v1), one-way and hedge mode.

Sides are the venue's own numbers: 1 opens a long, 2 closes a short, 3 opens a short, 4 closes a long. Sizes are
contracts. Orders of a position live in four families with ids of their own: plain orders, trigger orders ("plan"),
TP/SL orders of a position ("stop") and trailing orders ("track").

Source: the venue's documentation of its contract API. What it leaves open is said where it matters.
"""

from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from poslock.errors import (
    DuplicateClientOrderId,
    ExchangeError,
    ExchangeUnavailable,
    NothingToReduce,
    NotServed,
    OrderRefused,
    ReduceOnlyBlocked,
    RequestExpired,
)
from poslock.exchange.ccxt.client import Dialect, Endpoint, Stamp
from poslock.exchange.ccxt.mexc import rows
from poslock.exchange.ccxt.mexc.account import PRIVATE, MexcAccount
from poslock.exchange.ccxt.venue import Held, Inspection, decimal
from poslock.exchange.port import Leg, Order

if TYPE_CHECKING:
    from collections.abc import Callable

    from poslock.exchange.port import CloseOrder, StopOrder

T = TypeVar("T")

_PUBLIC = ("contract", "public")
_SECOND_MS = 1000
_CANCEL_WINDOW_MS = 10_000
_MARKET, _LAST_PRICE, _SEVEN_DAYS = 5, 1, 2
_WRONG_MODE = "7002"
_ENDED = {"0", "2040", "2041", "5002"}


def _stamp(_signed_at_ms: int, window_ms: int) -> Stamp:
    # In whole seconds. The documentation spells the header in two ways, so it goes out in both.
    seconds = str(window_ms // _SECOND_MS)
    return Stamp(headers={"Recv-Window": seconds, "Revc-Window": seconds, "Language": "English"})


def _code(body: dict[str, Any]) -> tuple[str | None, str]:
    if body.get("success") is True or "code" not in body:
        return None, ""
    return str(body["code"]), str(body.get("message", ""))


class Mexc(MexcAccount):
    """An account at MEXC futures."""

    denies_for: ClassVar[float] = 10.0
    dialect: ClassVar[Dialect] = Dialect(
        stamp=_stamp,
        code=_code,
        meanings=rows.MEANINGS,
        clock=Endpoint(_PUBLIC, "GET", "ping"),
        read_clock=lambda answer: int(rows.data(answer)),
    )

    async def prepare(self) -> None:
        """Load the markets, read the clock and the position mode."""
        if self._mode is None or not self.client.clock.is_known:
            await self.client.markets("swap")
            await self.client.set_clock()
            self._mode = None
            await self.position_mode()

    async def inspect(self) -> Inspection:
        """The clock, the mode, and what the key may do."""
        await self.prepare()
        ahead_ms = time.time_ns() // 10**6 - self.client.clock.now_ms()
        hedge = await self.position_mode() == rows.HEDGE
        endpoint, params = Endpoint(("spot", "private"), "GET", "apiKeyInfo"), {"accessKey": self.client.ccxt.apiKey}
        try:
            rights = await self.client.ask(endpoint, params, lambda answer: str(answer["permissions"]).split(","))
        except ExchangeUnavailable:  # it is the spot account's question; a key for futures alone may not ask it
            return Inspection(ahead_ms, hedge, None, None)
        withdraws = any("WITHDRAW" in right and not right.endswith(("_READ", "_R")) for right in rights)
        return Inspection(ahead_ms, hedge, "CONTRACT_DEAL_WRITE" in rights, withdraws)

    async def price(self, leg: Leg) -> Decimal:
        """The last price, which `place_stop` triggers on."""
        endpoint, params = Endpoint(_PUBLIC, "GET", "ticker"), {"symbol": self.symbol(leg)}
        return await self.client.ask(endpoint, params, lambda answer: decimal(rows.data(answer)["lastPrice"]))

    async def place(self, order: CloseOrder) -> Order:
        """Send a market order that only reduces: by its side in hedge mode, by ``reduceOnly`` in one-way mode.

        Of at most the venue's largest size: less than was asked for, then. It is bound to the position that it names,
        or else to the present one. If the leg holds another position by now, nothing is sent.

        Raises:
            DuplicateClientOrderId: the venue has answered with an order that was there before.
        """
        position = await self._held(order.leg, order.position_id)
        contracts = min(order.contracts, position.contracts, self._largest(order.leg))
        params = {
            **await self._closing(order.leg, contracts, position),
            "type": _MARKET,
            "externalOid": order.client_order_id,
            "positionId": position.said["positionId"],
        }
        known = {order_id for order_id, name in self._client_ids.items() if name == order.client_order_id}
        try:
            order_id = await self._send("order/create", params, order, lambda found: rows.identifier(found["orderId"]))
        except ReduceOnlyBlocked as refusal:
            # More than is held by now, or covered by what rests: only this is a reason to cancel what rests.
            if (await self._held(order.leg, order.position_id)).contracts < contracts:
                raise NotServed(str(refusal), code=refusal.code) from None
            raise
        self._client_ids[order_id] = order.client_order_id
        try:
            found = await self.get(f"order/get/{order_id}", {}, lambda row: rows.order(row, order.leg))
        except ExchangeUnavailable:  # it is taken; what became of it is for later
            found = Order(order_id, order.client_order_id, "order", order.leg, contracts, Decimal(0), "open")
        # The venue may answer a second order under one client order id with the first one, as if it was new. Its time
        # would not tell: it is a whole second, rounded up or down. What tells is that its id was seen before, or its
        # size. A first order of the same size that was not seen here is returned: it is what the id names.
        # (test_a_silent_duplicate_is_not_taken_for_a_new_order)
        if order_id in known or found.contracts != contracts:
            raise DuplicateClientOrderId(f"client order id {order.client_order_id} was taken before, by {order_id}")
        return found

    async def place_stop(self, order: StopOrder) -> Order:
        """Rest a trigger order that closes at market. The venue drops it after seven days: set it anew before."""
        rises = (order.kind == "take_profit") == (order.leg.side == "long")
        params = {
            **await self._closing(order.leg, order.contracts, await self._held(order.leg)),
            "triggerPrice": _number(order.trigger_price),
            "triggerType": 1 if rises else 2,
            "executeCycle": _SEVEN_DAYS,
            "orderType": _MARKET,
            "trend": _LAST_PRICE,
        }
        order_id = await self._send("planorder/place/v2", params, order, rows.identifier)
        amount, trigger = order.contracts, order.trigger_price
        return Order(f"plan:{order_id}", None, order.kind, order.leg, amount, Decimal(0), "open", trigger)

    async def cancel(self, order: Order) -> None:
        """Cancel *order*, in the family that its id names.

        Raises:
            OrderRefused: it is one half of a TP/SL order, and the other half protects the position.
        """
        family, _, number = order.order_id.rpartition(":")
        if family == "stop:half" and await self._position(order.leg) is not None:
            raise OrderRefused(f"TP/SL order {number} of the venue holds both prices; cancel it there")
        symbol = self.symbol(order.leg)
        path, body = {
            "": ("order/cancel", [number]),
            "plan": ("planorder/cancel", [{"symbol": symbol, "orderId": number}]),
            "track": ("trackorder/cancel", {"symbol": symbol, "trackOrderId": number}),
            "stop": ("stoporder/cancel", [{"stopPlanOrderId": number}]),
            "stop:half": ("stoporder/cancel", [{"stopPlanOrderId": number}]),
        }[family]
        endpoint, at_ms = Endpoint(PRIVATE, "POST", path), self.client.clock.now_ms()
        try:
            code = await self.client.send(
                endpoint, body, rows.cancelled, signed_at_ms=at_ms, receive_window_ms=_CANCEL_WINDOW_MS
            )
        except ExchangeError as error:
            if error.code not in _ENDED:
                raise
        else:
            if code not in _ENDED:
                raise OrderRefused(f"mexc answered {code} to the cancel of {order.order_id}", code=code)

    # Inside.

    async def _held(self, leg: Leg, position_id: str | None = None) -> Held:
        """What an order would reduce; asks all that has to be known before it is sent."""
        try:
            await self.position_mode()
            position = await self._position(leg)
        except NotServed:
            raise
        except ExchangeUnavailable as error:  # nothing was sent, so this is not for the caller to find out
            raise NotServed(f"not sent, because the account does not answer: {error}", code=error.code) from None
        if position is None:
            raise NothingToReduce(f"mexc holds no {leg.side} position in {leg.symbol}")
        if position_id not in {None, position.position_id}:
            raise NothingToReduce(f"mexc holds position {position.position_id} in {leg.symbol}, not {position_id}")
        return position

    async def _closing(self, leg: Leg, contracts: Decimal, position: Held) -> dict[str, Any]:
        """What all orders that reduce have in common. An isolated position wants its leverage repeated."""
        mode = await self.position_mode()
        params = {
            "symbol": self.symbol(leg),
            "side": rows.CLOSING[leg.side],
            "vol": _number(contracts),
            "openType": position.said["openType"],
            "leverage": position.said["leverage"],
            "positionMode": mode,
        }
        return {**params, "reduceOnly": True} if mode == rows.ONE_WAY else params

    def _largest(self, leg: Leg) -> Decimal:
        largest = self.market(leg)["limits"]["amount"]["max"]
        return Decimal("Infinity") if largest is None else decimal(largest)

    async def _send(
        self, path: str, params: dict[str, Any], order: CloseOrder | StopOrder, read: Callable[[Any], T]
    ) -> T:
        if order.receive_window_ms < _SECOND_MS:
            raise RequestExpired("less than a second of the lease is left, and this venue counts in seconds")
        try:
            return await self.client.send(
                Endpoint(PRIVATE, "POST", path),
                params,
                lambda answer: read(rows.data(answer)),
                signed_at_ms=order.signed_at_ms,
                receive_window_ms=order.receive_window_ms,
            )
        except OrderRefused as refusal:
            if refusal.code == _WRONG_MODE:
                self._mode = None  # it was changed meanwhile: `prepare` reads it again
            raise


def _number(amount: Decimal) -> int | float:
    """As JSON has it: a whole number, or the float that is written in the same digits."""
    return int(amount) if amount == amount.to_integral_value() else float(amount)
