"""How the answers of venues are read: numbers as they are written, lists that are complete, and whose a trade is."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from poslock.errors import ExchangeUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from poslock.exchange.port import Leg
    from poslock.position import Trade

T = TypeVar("T")
K = TypeVar("K")

# A state that is in no table counts as "open": what may rest is cancelled by a sweep if it is ours, and one row does
# not make a list unreadable. (test_an_unknown_state_counts_as_resting)
State = Literal["open", "filled", "canceled"]
Kind = Literal["stop_loss", "take_profit"]

_MOST_PAGES = 100


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


async def every_page(ask: Callable[[K], Awaitable[tuple[Sequence[T], K | None]]], first: K) -> list[T]:
    """All rows of a list, never a part of it: *ask* gives those of a page, and which page is next, None at the end.

    Raises:
        ExchangeUnavailable: there is more than can be read in reasonable time.
    """
    found, page = list[T](), first
    for _ in range(_MOST_PAGES):
        rows, following = await ask(page)
        found.extend(rows)
        if following is None:
            return found
        page = following
    raise ExchangeUnavailable(f"the list has more than {_MOST_PAGES} pages")


def spans(since_ms: int, until_ms: int, longest_ms: int) -> list[tuple[int, int]]:
    """The time from *since_ms* to *until_ms*, cut into pieces that a venue can be asked about; both ends are inside."""
    starts = range(since_ms, until_ms + 1, longest_ms)
    return [(start, min(start + longest_ms - 1, until_ms)) for start in starts]


async def halved(ask: Callable[[int, int], Awaitable[list[T]]], full: int, start_ms: int, end_ms: int) -> list[T]:
    """All of that time, asked for in halves where *full* rows came: which end such a list leaves out nobody says.

    Raises:
        ExchangeUnavailable: there are as many in one millisecond.
    """
    found = await ask(start_ms, end_ms)
    if len(found) < full:
        return found
    if start_ms >= end_ms:
        raise ExchangeUnavailable(f"there are {full} trades in one millisecond, or more")
    middle_ms = (start_ms + end_ms) // 2
    before = await halved(ask, full, start_ms, middle_ms)
    return [*before, *(await halved(ask, full, middle_ms + 1, end_ms))]


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
