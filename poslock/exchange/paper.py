"""`PaperExchange`: an exchange account embedded in one SQLite file, shared by all processes that open it.

It behaves like a linear perpetuals account in one-way mode: a long and a short of one symbol net out, reduce-only
orders never reverse a position, stop orders stay when their position is gone, client order ids are unique for ever,
and a request that arrives after its receive window is refused. Every request is atomic. It survives killed
processes, not power cuts: it stands in for a venue, which is somewhere else.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from decimal import Decimal, localcontext
from importlib import resources
from typing import TYPE_CHECKING, Literal

from poslock.database import Database
from poslock.errors import DuplicateClientOrderId, ExchangeUnavailable, NothingToReduce, OrderRefused, RequestExpired
from poslock.exchange.port import CloseOrder, Leg, Order
from poslock.position import EXACT, Fill, Number, Side, exact, name, positive, side_of

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Iterator

_CURRENCY = "USDT"
_LONGEST_CLIENT_ID = 32
_REDUCING: dict[Side, str] = {"long": "sell", "short": "buy"}
_OPENING: dict[Side, str] = {"long": "buy", "short": "sell"}
_REDUCED: dict[str, Side] = {"sell": "long", "buy": "short"}


class PaperExchange:
    """An embedded exchange account in the SQLite file *path*.

    Args:
        path: the file; made if it does not exist.
        fee_rate: fee per notional value of a fill.
        liquidity: contracts a market order can take at once; None for any number.
        remainder_rests: seconds for which what did not fill at once stays open before it is cancelled.
        latency: seconds each request travels before the account sees it.
        denies_for, settles_within: as in `poslock.exchange.port.Exchange`.
        clock, sleep: seconds since the epoch, and how to wait; for tests.
    """

    def __init__(  # noqa: PLR0913  # settings with defaults
        self,
        path: str | os.PathLike[str],
        *,
        fee_rate: Number = "0.0005",
        liquidity: Number | None = None,
        remainder_rests: float = 0.0,
        latency: float = 0.0,
        denies_for: float = 0.5,
        settles_within: float = 10.0,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.denies_for = denies_for
        self.settles_within = settles_within
        self._fee_rate = exact("fee_rate", fee_rate)
        self._liquidity = None if liquidity is None else positive("liquidity", liquidity)
        self._remainder_rests = remainder_rests
        self._latency = latency
        self._clock = clock
        self._sleep = sleep
        self._database = Database(
            str(path),
            schema=resources.files("poslock.exchange").joinpath("paper.sql").read_text("utf-8"),
            version=1,
            synchronous="OFF",
            failure=lambda why, way_out: ExchangeUnavailable(f"paper exchange {path}: {why}; {way_out}"),
        )
        with self._database.snapshot() as db:
            (self.account,) = db.execute("SELECT name FROM account").fetchone()

    # What a closing poslock asks: the port.

    def time_ms(self) -> int:
        """The account's clock."""
        return int(self._clock() * 1000)

    def held(self, leg: Leg) -> Decimal:
        """Contracts that *leg* holds now."""
        self._travel()
        with self._changing() as db:
            return self._held(db, leg)

    def place(self, order: CloseOrder) -> Order:
        """Take a reduce-only market order, or refuse it."""
        self._travel()
        with self._changing() as db:
            now_ms = self._expire_remainders(db)
            self._judge(db, order, now_ms)
            # Venues differ here; like MEXC and Bybit this one cuts a reduce-only order down to what is there.
            contracts = min(positive("contracts", order.contracts), self._held(db, order.leg))
            order_id = self._insert(db, order.leg, "order", contracts, client_order_id=order.client_order_id)
            self._execute(db, order_id, now_ms, at_most=self._liquidity)
            return _order(self._row(db, order_id))

    def order(self, leg: Leg, client_order_id: str) -> Order | None:
        """The order with this client order id, if there is one."""
        self._travel()
        with self._changing() as db:
            self._expire_remainders(db)
            sql = "SELECT * FROM orders WHERE client_order_id = ? AND symbol = ?"
            row = db.execute(sql, (client_order_id, leg.symbol)).fetchone()
            return _order(row) if row else None

    def open_orders(self, leg: Leg) -> list[Order]:
        """Every resting order that would reduce *leg*."""
        self._travel()
        with self._changing() as db:
            self._expire_remainders(db)
            return [_order(row) for row in self._open_rows(db, leg)]

    def cancel(self, order: Order) -> None:
        """Cancel *order* if it is still open."""
        self._travel()
        with self._changing() as db:
            db.execute("UPDATE orders SET state = 'canceled' WHERE order_id = ? AND state = 'open'", (order.order_id,))

    def fills(self, leg: Leg, since_ms: int) -> list[Fill]:
        """Fills that reduced *leg*, oldest first."""
        self._travel()
        sql = """
            SELECT fills.*, client_order_id FROM fills JOIN orders USING (order_id)
            WHERE fills.symbol = ? AND fills.side = ? AND reduced AND at_ms >= ? ORDER BY trade_id
        """
        with self._database.snapshot() as db:
            rows = db.execute(sql, (leg.symbol, _REDUCING[leg.side], since_ms)).fetchall()
        return [
            Fill(
                trade_id=str(row["trade_id"]),
                client_order_id=row["client_order_id"],
                price=Decimal(row["price"]),
                contracts=Decimal(row["contracts"]),
                fee=Decimal(row["fee"]),
                fee_currency=row["fee_currency"],
                at_ms=row["at_ms"],
            )
            for row in rows
        ]

    def funding(self, leg: Leg, since_ms: int, until_ms: int) -> Decimal:
        """Funding received on the symbol in that time."""
        self._travel()
        sql = "SELECT amount FROM funding WHERE symbol = ? AND at_ms BETWEEN ? AND ?"
        with self._database.snapshot() as db:
            rows = db.execute(sql, (leg.symbol, since_ms, until_ms))
            return sum((Decimal(row["amount"]) for row in rows), Decimal(0))

    # What a trader and the market do with the account.

    def set_price(self, symbol: str, price: Number) -> None:
        """Move the market; stop-loss and take-profit orders that this triggers are executed."""
        moved = positive("price", price)
        with self._changing() as db:
            now_ms = self._expire_remainders(db)
            db.execute(
                "INSERT INTO market (symbol, price) VALUES (?, ?)"
                " ON CONFLICT (symbol) DO UPDATE SET price = excluded.price",
                (name("symbol", symbol), str(moved)),
            )
            for row in db.execute("SELECT * FROM orders WHERE symbol = ? AND state = 'open'", (symbol,)).fetchall():
                if _triggered(row, moved):
                    self._execute(db, row["order_id"], now_ms)

    def open_position(self, symbol: str, side: Side, contracts: Number) -> None:
        """Buy (long) or sell (short) *contracts* at market."""
        amount = positive("contracts", contracts)
        leg = Leg(symbol, side_of(side))
        with self._changing() as db:
            self._price(db, symbol)
            self._execute(db, self._insert(db, leg, "order", amount, reducing=False), self.time_ms())

    def protect(
        self,
        symbol: str,
        side: Side,
        kind: Literal["stop_loss", "take_profit"],
        contracts: Number,
        trigger_price: Number,
    ) -> str:
        """Rest a reduce-only order that executes at market when the price reaches *trigger_price*; its order id."""
        amount, trigger = positive("contracts", contracts), positive("trigger_price", trigger_price)
        leg = Leg(symbol, side_of(side))
        with self._changing() as db:
            self._price(db, symbol)
            return str(self._insert(db, leg, kind, amount, trigger_price=str(trigger)))

    def pay_funding(self, symbol: str, amount: Number) -> None:
        """Pay *amount* to the account for its position in *symbol*; negative takes it."""
        with self._changing() as db:
            db.execute("INSERT INTO funding VALUES (?, ?, ?)", (symbol, str(exact("amount", amount)), self.time_ms()))

    def orders(self, leg: Leg) -> list[Order]:
        """Every order ever taken that reduces *leg*, oldest first."""
        sql = "SELECT * FROM orders WHERE symbol = ? AND side = ? AND reduce_only ORDER BY order_id"
        with self._database.snapshot() as db:
            return [_order(row) for row in db.execute(sql, (leg.symbol, _REDUCING[leg.side]))]

    # Inside.

    def _travel(self) -> None:
        if self._latency:
            self._sleep(self._latency)

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._database.transaction() as db, localcontext(EXACT):
            yield db

    def _judge(self, db: sqlite3.Connection, order: CloseOrder, now_ms: int) -> None:
        if now_ms > order.signed_at_ms + order.receive_window_ms:
            late = now_ms - order.signed_at_ms
            raise RequestExpired(f"request is {late} ms old, its window was {order.receive_window_ms} ms", code="late")
        if not 1 <= len(order.client_order_id) <= _LONGEST_CLIENT_ID:
            raise OrderRefused(f"client order id must have 1 to {_LONGEST_CLIENT_ID} characters", code="2030")
        if db.execute("SELECT 1 FROM orders WHERE client_order_id = ?", (order.client_order_id,)).fetchone():
            raise DuplicateClientOrderId(f"client order id {order.client_order_id} exists", code="duplicate")
        if self._held(db, order.leg) == 0:
            raise NothingToReduce("no position, or already closed", code="2009")

    def _price(self, db: sqlite3.Connection, symbol: str) -> Decimal:
        row = db.execute("SELECT price FROM market WHERE symbol = ?", (symbol,)).fetchone()
        if row is None:
            raise OrderRefused(f"there is no market {symbol!r}; call set_price first", code="market")
        return Decimal(row["price"])

    def _held(self, db: sqlite3.Connection, leg: Leg) -> Decimal:
        row = db.execute("SELECT contracts FROM market WHERE symbol = ?", (leg.symbol,)).fetchone()
        contracts = Decimal(row["contracts"]) if row else Decimal(0)
        return max(Decimal(0), contracts if leg.side == "long" else -contracts)

    def _expire_remainders(self, db: sqlite3.Connection) -> int:
        # Nobody runs in the background: whoever comes next carries out what time has brought.
        now_ms = self.time_ms()
        db.execute("UPDATE orders SET state = 'canceled' WHERE state = 'open' AND rests_until_ms <= ?", (now_ms,))
        return now_ms

    def _insert(  # noqa: PLR0913  # the columns of an order
        self,
        db: sqlite3.Connection,
        leg: Leg,
        family: str,
        contracts: Decimal,
        *,
        reducing: bool = True,
        client_order_id: str | None = None,
        trigger_price: str | None = None,
    ) -> int:
        side = (_REDUCING if reducing else _OPENING)[leg.side]
        cursor = db.execute(
            "INSERT INTO orders (client_order_id, symbol, side, family, reduce_only, contracts, trigger_price, state,"
            " created_ms) VALUES (?, ?, ?, ?, ?, ?, ?, 'open', ?)",
            (client_order_id, leg.symbol, side, family, reducing, str(contracts), trigger_price, self.time_ms()),
        )
        return int(cursor.lastrowid or 0)

    def _execute(self, db: sqlite3.Connection, order_id: int, now_ms: int, *, at_most: Decimal | None = None) -> None:
        """Fill an open order at the market price, as far as it goes, and settle what becomes of the rest."""
        row = self._row(db, order_id)
        held = self._held(db, Leg(row["symbol"], _REDUCED[row["side"]]))
        wanted = Decimal(row["contracts"])
        amount = min(wanted, held) if row["reduce_only"] else wanted
        if at_most is not None:
            amount = min(amount, at_most)
        # What goes beyond flat opens the other side: to those who ask for fills, two fills.
        reducing = min(amount, held)
        self._fill(db, row, reducing, now_ms, reduced=True)
        self._fill(db, row, amount - reducing, now_ms, reduced=False)
        rests = amount < wanted and bool(amount) and at_most is not None and self._remainder_rests > 0
        db.execute(
            "UPDATE orders SET filled = ?, state = ?, rests_until_ms = ? WHERE order_id = ?",
            (
                str(amount),
                "filled" if amount == wanted else "open" if rests else "canceled",
                now_ms + int(self._remainder_rests * 1000) if rests else None,
                order_id,
            ),
        )

    def _fill(self, db: sqlite3.Connection, row: sqlite3.Row, amount: Decimal, now_ms: int, *, reduced: bool) -> None:
        if not amount:
            return
        symbol, price = row["symbol"], self._price(db, row["symbol"])
        fee = price * amount * self._fee_rate
        db.execute(
            "INSERT INTO fills (order_id, symbol, side, reduced, price, contracts, fee, fee_currency, at_ms)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (row["order_id"], symbol, row["side"], reduced, str(price), str(amount), str(fee), _CURRENCY, now_ms),
        )
        (held,) = db.execute("SELECT contracts FROM market WHERE symbol = ?", (symbol,)).fetchone()
        after = Decimal(held) + (amount if row["side"] == "buy" else -amount)
        db.execute("UPDATE market SET contracts = ? WHERE symbol = ?", (str(after), symbol))

    def _open_rows(self, db: sqlite3.Connection, leg: Leg) -> list[sqlite3.Row]:
        sql = "SELECT * FROM orders WHERE symbol = ? AND side = ? AND reduce_only AND state = 'open' ORDER BY order_id"
        return db.execute(sql, (leg.symbol, _REDUCING[leg.side])).fetchall()

    def _row(self, db: sqlite3.Connection, order_id: int) -> sqlite3.Row:
        row: sqlite3.Row = db.execute("SELECT * FROM orders WHERE order_id = ?", (order_id,)).fetchone()
        return row


def _triggered(row: sqlite3.Row, price: Decimal) -> bool:
    if row["trigger_price"] is None:
        return False
    trigger = Decimal(row["trigger_price"])
    falling = (row["family"] == "stop_loss") == (row["side"] == "sell")
    return price <= trigger if falling else price >= trigger


def _order(row: sqlite3.Row) -> Order:
    return Order(
        order_id=str(row["order_id"]),
        client_order_id=row["client_order_id"],
        family=row["family"],
        leg=Leg(row["symbol"], _REDUCED[row["side"]]),
        contracts=Decimal(row["contracts"]),
        filled=Decimal(row["filled"]),
        state=row["state"],
    )
