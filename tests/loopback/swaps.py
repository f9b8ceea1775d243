"""What all venues of swaps have alike: an account in the books of a `PaperExchange`, and what it was asked for."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from loopback.executions import History
from loopback.server import Loopback
from poslock.errors import OrderRefused
from poslock.exchange.matching import Matching
from poslock.exchange.port import Leg

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping

    from loopback.connections import Reply, Request
    from loopback.executions import Position
    from loopback.server import Route
    from poslock.exchange.matching import Contract
    from poslock.position import Side

    Row = sqlite3.Row | Mapping[str, Any]

SYMBOLS = ("BTC/USDT:USDT", "ETH/USDT:USDT", *(f"COIN{number}/USDT:USDT" for number in range(50)))
SIDES: tuple[Side, ...] = ("long", "short")


def plain(number: Decimal) -> str:
    return format(number, "f")


def together(rows: Iterable[Row], column: str) -> str:
    """The sum of a column."""
    return plain(sum((Decimal(row[column]) for row in rows), Decimal(0)))


def leg_of(symbol: str, side: str, *, reduces: bool) -> Leg:
    """The leg that an order, or a fill, of a side is about: ``"buy"`` or ``"sell"``, in whatever letters."""
    return Leg(symbol, "long" if (side.lower() == "sell") == bool(reduces) else "short")


def falls(row: Row) -> bool:
    """Whether an order waits for a price at or below its trigger."""
    return bool((row["family"] == "stop_loss") == (row["side"] == "sell"))


@dataclass(frozen=True, slots=True)
class Rate:
    """The funding rate of a market at one time, and the price that it was paid by."""

    symbol: str
    at_ms: int
    rate: Decimal
    price: Decimal

    def __iter__(self) -> Iterator[Any]:
        yield from (self.symbol, self.at_ms, self.rate)


class Account(Matching):
    """The books in one transaction, and what a venue tells out of them. *request* is what it is there for."""

    def __init__(self, venue: Any, books: Matching, request: Request | None = None) -> None:
        super().__init__(books._db, books._terms, books._now_ms)
        self.venue = venue
        self.request = request
        self._histories: dict[str, History] = {}

    def settle(self) -> None:
        """Nobody runs in the background: who comes next does what prices and time have brought."""

    @property
    def said(self) -> Any:
        return self.request.params if self.request else {}

    @property
    def contract(self) -> Contract:
        return self._terms.contract

    def rows(self, where: str = "1", *values: object) -> list[sqlite3.Row]:
        """Orders, the latest first."""
        return self._db.execute(f"SELECT * FROM orders WHERE {where} ORDER BY order_id DESC", values).fetchall()

    def deals(self, where: str = "1", *values: object) -> list[sqlite3.Row]:
        """Fills with what is known of their orders, oldest first."""
        sql = "SELECT fills.*, family, reduce_only, client_order_id FROM fills JOIN orders USING (order_id)"
        return self._db.execute(f"{sql} WHERE {where} ORDER BY trade_id", values).fetchall()

    def payments(self, symbol: str | None = None) -> list[sqlite3.Row]:
        """Of funding, oldest first."""
        sql = "SELECT rowid, * FROM funding WHERE symbol = ? OR ? ORDER BY rowid"
        return self._db.execute(sql, (symbol, symbol is None)).fetchall()

    def history(self, symbol: str) -> History:
        """Of the positions of a market."""
        if symbol not in self._histories:
            self._histories[symbol] = History.of(symbol, self.deals("fills.symbol = ?", symbol), self.contract)
        return self._histories[symbol]

    def paid_for(self, payment: sqlite3.Row) -> Position | None:
        """The position that funding was paid for."""
        for each in reversed(self.history(payment["symbol"]).positions):
            ended_ms = self.venue.clock_ms() if each.held else each.updated_ms
            if payment["side"] in {None, each.leg.side} and each.opened_ms <= payment["at_ms"] <= ended_ms:
                return each
        return None

    def frozen(self, leg: Leg) -> Decimal:
        """Contracts that resting plain orders may still take; those of trigger orders are free."""
        resting = self.orders(leg, only_open=True)
        return sum((each.contracts - each.filled for each in resting if each.family == "order"), Decimal(0))

    def enter(
        self,
        leg: Leg,
        family: str,
        contracts: Decimal,
        said: Any,
        *,
        reducing: bool = True,
        client_id: str | None = None,
        trigger: Decimal | None = None,
    ) -> int:
        """Enter an order that was asked for with *said*; its number."""
        # The books take an id once; at some venues one may come again when the order that had it has ended.
        free = client_id is None or self.order_by_client_id(client_id) is None
        name = client_id if free else None
        number = self.insert(leg, family, contracts, reducing=reducing, client_order_id=name, trigger_price=trigger)
        self.venue.asked[number] = said
        return number

    def fill(self, number: int) -> None:
        """Execute an order at market."""
        self.execute(number, at_most=self.venue.book._liquidity)

    def triggers_at_once(self, symbol: str, trigger: Decimal, *, falls: bool, by_mark: bool = False) -> bool:
        price = (by_mark and self.venue.mark) or self.price(symbol)
        return bool(trigger >= price if falls else trigger <= price)

    def shown(self, row: Row) -> bool:
        """Whether the venue does not deny it any more."""
        return bool(self.venue.clock_ms() - row["created_ms"] >= self.venue.denies * 1000)


class SwapVenue(Loopback):
    """A venue whose handlers are called with its `Account`, what the request says, and the parts of the path.

    ``denies`` is for how many seconds an order is not found by its client order id; ``mark`` is what the venue says
    that the mark price is, None for the last one: the books trigger by that. ``asked`` is what was asked for with each
    order, by its number in the books; ``rates`` are those of the funding that was paid. With ``nets_funding`` both legs
    are paid in one payment.
    """

    books_of: ClassVar[type[Account]] = Account

    def __init__(
        self, path: str | os.PathLike[str], *, hedge: bool = False, largest: Any = None, **settings: Any
    ) -> None:
        super().__init__(path, hedge=hedge, **settings)
        self.hedge, self.denies = hedge, 0.0
        if largest is not None:
            self.largest = Decimal(largest)
        self.mark: Decimal | None = None
        self.nets_funding = False
        self.symbols = {self.market_id(symbol): symbol for symbol in SYMBOLS}
        self.asked: dict[int, Any] = {}
        self.rates: list[Any] = []

    def symbol(self, said: Any) -> str:
        """ccxt's name of a market, which must exist."""
        return self.symbols[said] if said in self.symbols else self.refuse("symbol")

    @contextmanager
    def account(self, request: Request | None = None) -> Iterator[Account]:
        """The books in one transaction."""
        with self.book._account() as books:
            account = self.books_of(self, books, request)
            account.settle()
            yield account

    @classmethod
    def market_id(cls, symbol: str) -> str:
        return symbol.partition(":")[0].replace("/", "")

    def handled(self, route: Route, request: Request, parts: Mapping[str, str]) -> Any:
        with self.account(request) as account:
            return route.handler(account, request.params, **parts)

    def raised(self, error: Exception) -> Reply:
        if isinstance(error, OrderRefused):  # of the books, which have no such market
            return self.refusal("symbol")
        return super().raised(error)

    def fund(self, symbol: str, rate: str) -> None:
        """Pay funding at *rate*: a long pays, and a short receives, while it is above zero."""
        with self.account() as account:
            price = account.price(symbol)
            worth = price * account.contract.size * Decimal(rate)
            long, short = (account.held(Leg(symbol, side)) * worth for side in SIDES)
            due: dict[Side, Decimal] = {"long": short - long} if self.nets_funding else {"long": -long, "short": short}
            for side, amount in due.items():
                if amount:
                    account.pay_funding(symbol, side if self.hedge else None, amount)
        self.rates.append(Rate(symbol, self.clock_ms() - 3, Decimal(rate), price))
