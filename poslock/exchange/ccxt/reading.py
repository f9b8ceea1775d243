"""How the answers of venues are read: numbers as they are written, orders and trades, and whose a trade is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from poslock.exchange.port import Order, StopOrder
from poslock.position import EXACT, Fill, Trade

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from poslock.exchange.port import CloseOrder, Leg

# A state that is in no table counts as "open": what may rest is cancelled by a sweep if it is ours, and one row does
# not make a list unreadable. (test_an_unknown_state_counts_as_resting)
State = Literal["open", "filled", "canceled"]
Kind = Literal["stop_loss", "take_profit"]

_HALF = "half"


def decimal(number: object) -> Decimal:
    """A number in a venue's answer, as it is written there: a float's shortest form is what the JSON had."""
    if number is None or isinstance(number, bool):
        raise ValueError(f"{number!r} is no number")
    value = Decimal(str(number))
    if not value.is_finite():
        raise ValueError(f"{number!r} is no finite number")
    return value


def plain(number: Decimal) -> str:
    """In plain digits without idle zeros, which some venues count as digits too many."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def identifier(said: Any) -> str:
    """An id, which some answers have as text and some as a number."""
    if isinstance(said, bool) or not isinstance(said, int | str) or said == "":
        raise TypeError(f"{said!r} is no id")
    return str(said)


def listed(answer: Any) -> list[dict[str, Any]]:
    """*answer*, if it is a list."""
    if not isinstance(answer, list):
        raise TypeError("it is no list")
    return answer


def total(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum of *amounts*, whatever the caller's own context rounds to."""
    found = Decimal(0)
    for amount in amounts:
        found = EXACT.add(found, amount)
    return found


@dataclass(frozen=True, slots=True)
class OrderFields:
    """By which names a row states an order, and what its states mean; ``prefix`` is what its id begins with here.

    ``filled`` is "" where nothing of it is filled as long as it is one of those.
    """

    order_id: str
    client_order_id: str
    contracts: str
    filled: str
    state: str
    states: Mapping[str, State]
    trigger_price: str | None = None
    prefix: str = ""

    def read(self, row: Mapping[str, Any], leg: Leg, family: str = "order") -> Order:
        """The order that *row* states."""
        return Order(
            order_id=self.prefix + identifier(row[self.order_id]),
            client_order_id=row[self.client_order_id] or None,
            family=family,
            leg=leg,
            contracts=decimal(row[self.contracts]),
            filled=decimal(row[self.filled]) if self.filled else Decimal(0),
            state=self.states.get(str(row[self.state]), "open"),
            trigger_price=(decimal(row[self.trigger_price] or 0) or None) if self.trigger_price else None,
        )


@dataclass(frozen=True, slots=True)
class TradeFields:
    """By which names a row states an execution; ``client_order_id`` is None where it does not name that."""

    trade_id: str
    order_id: str
    client_order_id: str | None
    price: str
    contracts: str
    fee: str
    fee_currency: str
    at_ms: str

    def read(self, row: Mapping[str, Any], *, is_exit: bool) -> Trade:
        """The trade that *row* states; its fee is positive when it was paid. What the venue ordered has no order id."""
        fill = Fill(
            trade_id=identifier(row[self.trade_id]),
            client_order_id=(row[self.client_order_id] or None) if self.client_order_id else None,
            price=decimal(row[self.price]),
            contracts=decimal(row[self.contracts]),
            fee=decimal(row[self.fee]),
            fee_currency=str(row[self.fee_currency]),
            at_ms=int(row[self.at_ms]),
        )
        order_id = None if row[self.order_id] == "" else identifier(row[self.order_id])
        return Trade("exit" if is_exit else "entry", order_id, fill)


def taken(order: CloseOrder | StopOrder, order_id: str, contracts: Decimal) -> Order:
    """What is known of *order* when the venue has no more than taken it, for *contracts*: it rests."""
    kind, price = (order.kind, order.trigger_price) if isinstance(order, StopOrder) else ("order", None)
    return Order(order_id, order.client_order_id, kind, order.leg, contracts, Decimal(0), "open", price)


def each_price(order: Order, prices: Mapping[str, Decimal | None]) -> list[Order]:
    """*order*, which waits for one of *prices*, as one order for each; by their kinds, None for no fixed price.

    One half cannot be cancelled by itself: its id says so, and `Swap` looks before a cancel.
    """
    family, _, number = order.order_id.rpartition(":")
    name = f"{family}:{_HALF}:{number}" if len(prices) > 1 else order.order_id
    return [replace(order, order_id=name, family=kind, trigger_price=price) for kind, price in prices.items()]


def is_half(order: Order) -> bool:
    """Whether *order* is one of several that the venue has as one."""
    return f":{_HALF}:" in order.order_id


def by_number(trades: Iterable[Trade]) -> list[Trade]:
    """*trades* in the order of their ids, numbers that grow."""
    return sorted(trades, key=lambda each: (len(each.fill.trade_id), each.fill.trade_id))


def smallest(market: dict[str, Any]) -> Decimal:
    """The fewest contracts that a market order can be for, by ccxt's description of the market; 0 if it has none."""
    limits = market.get("limits") or {}
    least = [(limits.get(kind) or {}).get("min") for kind in ("amount", "market")]
    return max([step(market, "amount"), *(decimal(each) for each in least if each is not None)])


def step(market: dict[str, Any], of: Literal["amount", "price"]) -> Decimal:
    """What sizes or prices are multiples of, by ccxt's description of the market; 0 if it has none.

    Every venue here is one whose precision ccxt states as such a step (``TICK_SIZE``), not as a number of digits.
    """
    return decimal((market.get("precision") or {}).get(of) or 0)


def rises(leg: Leg, kind: str) -> bool:
    """Whether a stop order of that kind triggers when the price rises."""
    return (kind == "take_profit") == (leg.side == "long")


def kind_of(leg: Leg, *, rises: bool) -> Kind:
    """The kind of a stop order that triggers when the price rises, or falls."""
    return "take_profit" if rises == (leg.side == "long") else "stop_loss"


class ClientIds:
    """The client order ids of orders, for trades that do not name them; *ask* is called once for each order.

    *ask* gives None while the venue denies the order, "" for an order without a client order id.
    """

    def __init__(self, ask: Callable[[Leg, str], Awaitable[str | None]]) -> None:
        self._ask = ask
        self._known: dict[tuple[str, str], str] = {}  # by market too: Binance counts orders by market

    def note(self, leg: Leg, order_id: str, client_order_id: str | None) -> None:
        """An order was shown."""
        self._known[leg.symbol, order_id] = client_order_id or ""

    def orders(self, client_order_id: str) -> set[str]:
        """The ids of the orders that were shown under this client order id."""
        return {order_id for (_, order_id), known in self._known.items() if known == client_order_id}

    def known(self, leg: Leg, trade: Trade) -> Trade:
        """As `named`, without a question."""
        client_order_id = trade.fill.client_order_id or self._known.get((leg.symbol, trade.order_id or "")) or None
        return replace(trade, fill=replace(trade.fill, client_order_id=client_order_id))

    async def named(self, leg: Leg, trade: Trade) -> Trade:
        """*trade* with the client order id of its order, if it is an exit: one may be ours."""
        if trade.effect == "entry" or trade.fill.client_order_id or trade.order_id is None:
            return trade
        key = (leg.symbol, trade.order_id)
        if key not in self._known:
            found = await self._ask(leg, trade.order_id)
            if found is None:  # for now: an order that exists may be denied for a while
                return trade
            self._known[key] = found
        return replace(trade, fill=replace(trade.fill, client_order_id=self._known[key] or None))
