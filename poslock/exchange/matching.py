"""The inside of the paper exchange: what one request sees of the account, and does to it, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Context, Decimal, localcontext
from typing import TYPE_CHECKING

from poslock.errors import OrderRefused
from poslock.exchange.port import Holding, Leg, Order
from poslock.position import Fill, Side, Trade

if TYPE_CHECKING:
    import sqlite3

_REDUCING: dict[Side, str] = {"long": "sell", "short": "buy"}
_OPENING: dict[Side, str] = {"long": "buy", "short": "sell"}
_REDUCED: dict[str, Side] = {"sell": "long", "buy": "short"}
_OPENED: dict[str, Side] = {"buy": "long", "sell": "short"}
# What `poslock.position.exact` lets in: a reported entry price must be good for a `Position`.
_PRICE_DIGITS = 30
_PRICE_PLACES = 18
_INVERSE_PLACES = Decimal("1e-12")


@dataclass(frozen=True, slots=True)
class Contract:
    """A linear contract is *size* units of the base currency, an inverse one of the quote currency."""

    size: Decimal
    inverse: bool
    settle: str

    def notional(self, price: Decimal, contracts: Decimal) -> Decimal:
        """Worth of *contracts* at *price* in the settle currency; of inverse ones rounded to 12 places."""
        if self.inverse:
            return (contracts * self.size / price).quantize(_INVERSE_PLACES)
        return price * contracts * self.size

    def average(self, entry: tuple[Decimal, Decimal], added: tuple[Decimal, Decimal]) -> Decimal:
        """Entry price of two amounts together, each (contracts, price), that gives the P&L of both."""
        (held, price), (more, at) = entry, added
        # Exact products and one division, rounded once: the bot's own average of the same entries is the same.
        with localcontext(Context(prec=250)):
            if self.inverse:  # its P&L goes by 1 / price
                mean = (held + more) * price * at / (held * at + more * price)
            else:
                mean = (held * price + more * at) / (held + more)
        return Context(prec=min(_PRICE_DIGITS, mean.adjusted() + 1 + _PRICE_PLACES)).plus(mean)


@dataclass(frozen=True, slots=True)
class Terms:
    """How the exchange fills: fee per notional value, how long an unfilled remainder stays open, and of what.

    With ``hedge`` both legs of a symbol are held side by side; without, they net out.
    """

    fee_rate: Decimal
    remainder_rests_ms: int
    hedge: bool
    contract: Contract


class Matching:
    """The account at *now_ms*, inside a transaction."""

    def __init__(self, db: sqlite3.Connection, terms: Terms, now_ms: int) -> None:
        self._db = db
        self._terms = terms
        self._now_ms = now_ms

    def expire_remainders(self) -> None:
        """Nobody runs in the background: whoever comes next carries out what time has brought."""
        sql = "UPDATE orders SET state = 'canceled' WHERE state = 'open' AND rests_until_ms <= ?"
        self._db.execute(sql, (self._now_ms,))

    def require_market(self, symbol: str) -> None:
        """Raise `OrderRefused` if the market has no price."""
        self.price(symbol)

    def price(self, symbol: str) -> Decimal:
        """The market's price; raises `OrderRefused` if there is no such market."""
        row = self._db.execute("SELECT price FROM market WHERE symbol = ?", (symbol,)).fetchone()
        if row is None:
            raise OrderRefused(f"there is no market {symbol!r}; call set_price first", code="market")
        return Decimal(row["price"])

    def held(self, leg: Leg) -> Decimal:
        """Contracts of *leg*."""
        holding = self.holding(leg)
        return holding.contracts if holding else Decimal(0)

    def holding(self, leg: Leg) -> Holding | None:
        """*leg* and its average entry price, None if nothing is held."""
        sql = "SELECT contracts, entry_price FROM legs WHERE symbol = ? AND side = ?"
        row = self._db.execute(sql, (leg.symbol, leg.side)).fetchone()
        if row is None:
            return None
        contracts, entry_price, of = Decimal(row["contracts"]), Decimal(row["entry_price"]), self._terms.contract
        return Holding(leg, contracts, entry_price, of.size, of.inverse, of.settle)

    def resting(self, leg: Leg) -> Decimal:
        """Contracts that the open reduce-only orders of *leg* may still take."""
        return sum((order.contracts - order.filled for order in self.orders(leg, only_open=True)), Decimal(0))

    def would_trigger(self, leg: Leg, kind: str, trigger_price: Decimal) -> bool:
        """Whether such an order for *leg* would execute at the price there is."""
        return _reached(kind, _REDUCING[leg.side], trigger_price, self.price(leg.symbol))

    def set_price(self, symbol: str, price: Decimal) -> None:
        """Move the market, and execute what that triggers."""
        self._db.execute(
            "INSERT INTO market (symbol, price) VALUES (?, ?)"
            " ON CONFLICT (symbol) DO UPDATE SET price = excluded.price",
            (symbol, str(price)),
        )
        for row in self._db.execute("SELECT * FROM orders WHERE symbol = ? AND state = 'open'", (symbol,)).fetchall():
            trigger = row["trigger_price"]
            if trigger is not None and _reached(row["family"], row["side"], Decimal(trigger), price):
                self.execute(row["order_id"])

    def insert(  # noqa: PLR0913  # the columns of an order
        self,
        leg: Leg,
        family: str,
        contracts: Decimal,
        *,
        reducing: bool = True,
        client_order_id: str | None = None,
        trigger_price: Decimal | None = None,
    ) -> int:
        """A new open order; its id."""
        side = (_REDUCING if reducing else _OPENING)[leg.side]
        trigger = None if trigger_price is None else str(trigger_price)
        cursor = self._db.execute(
            "INSERT INTO orders (client_order_id, symbol, side, family, reduce_only, contracts, trigger_price, state,"
            " created_ms) VALUES (?, ?, ?, ?, ?, ?, ?, 'open', ?)",
            (client_order_id, leg.symbol, side, family, reducing, str(contracts), trigger, self._now_ms),
        )
        return int(cursor.lastrowid or 0)

    def execute(self, order_id: int, *, at_most: Decimal | None = None) -> None:
        """Fill an open order at the market price as far as it goes, and settle what becomes of the rest."""
        row = self._row(order_id)
        wanted, reducible = Decimal(row["contracts"]), self._reducible(row)
        amount = min(wanted, reducible) if row["reduce_only"] else wanted
        if at_most is not None:
            amount = min(amount, at_most)
        # What goes beyond flat opens the other side: to those who ask for fills, two fills.
        reducing = min(amount, reducible)
        self._fill(row, reducing, reduced=True)
        self._fill(row, amount - reducing, reduced=False)
        rests = amount < wanted and bool(amount) and at_most is not None and self._terms.remainder_rests_ms > 0
        self._db.execute(
            "UPDATE orders SET filled = ?, state = ?, rests_until_ms = ? WHERE order_id = ?",
            (
                str(amount),
                "filled" if amount == wanted else "open" if rests else "canceled",
                self._now_ms + self._terms.remainder_rests_ms if rests else None,
                order_id,
            ),
        )

    def cancel(self, order_id: str) -> None:
        """Cancel an order if it is still open."""
        sql = "UPDATE orders SET state = 'canceled' WHERE order_id = ? AND state = 'open'"
        self._db.execute(sql, (order_id,))

    def order(self, order_id: int) -> Order:
        """An order by the exchange's own id."""
        return _order(self._row(order_id))

    def order_by_client_id(self, client_order_id: str) -> Order | None:
        """An order by the client's id."""
        row = self._db.execute("SELECT * FROM orders WHERE client_order_id = ?", (client_order_id,)).fetchone()
        return _order(row) if row else None

    def orders(self, leg: Leg, *, only_open: bool) -> list[Order]:
        """Orders that would reduce *leg*, oldest first."""
        sql = "SELECT * FROM orders WHERE symbol = ? AND side = ? AND reduce_only AND (state = 'open' OR ?)"
        rows = self._db.execute(f"{sql} ORDER BY order_id", (leg.symbol, _REDUCING[leg.side], not only_open))
        return [_order(row) for row in rows]

    def fills(self, leg: Leg, since_ms: int) -> list[Fill]:
        """Fills that reduced *leg*, oldest first."""
        sql = """
            SELECT fills.*, client_order_id FROM fills JOIN orders USING (order_id)
            WHERE fills.symbol = ? AND fills.side = ? AND reduced AND at_ms >= ? ORDER BY trade_id
        """
        return [_fill(row) for row in self._db.execute(sql, (leg.symbol, _REDUCING[leg.side], since_ms))]

    def trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        """Entries and exits of *leg*, oldest first; in one-way mode those of its other side too, as `Trade` says."""
        sql = """
            SELECT fills.*, client_order_id FROM fills JOIN orders USING (order_id)
            WHERE fills.symbol = ? AND at_ms >= ? ORDER BY trade_id
        """
        found: list[Trade] = []
        for row in self._db.execute(sql, (leg.symbol, since_ms)):
            is_exit = row["side"] == _REDUCING[leg.side]
            if self._terms.hedge and is_exit != bool(row["reduced"]):
                continue  # of the other leg
            trade = Trade("exit" if is_exit else "entry", str(row["order_id"]), _fill(row))
            last = found[-1] if found else None
            if last is not None and last.order_id == trade.order_id and not self._terms.hedge:
                found[-1] = _together(last, trade)
            else:
                found.append(trade)
        return found

    def pay_funding(self, symbol: str, side: Side | None, amount: Decimal) -> None:
        """Enter a funding payment, without *side* to whichever leg is held."""
        self._db.execute("INSERT INTO funding VALUES (?, ?, ?, ?)", (symbol, side, str(amount), self._now_ms))

    def funding(self, leg: Leg, since_ms: int, until_ms: int) -> Decimal:
        """Sum of the funding payments to *leg* in that time."""
        sql = "SELECT amount FROM funding WHERE symbol = ? AND (side IS NULL OR side = ?) AND at_ms BETWEEN ? AND ?"
        rows = self._db.execute(sql, (leg.symbol, leg.side, since_ms, until_ms))
        return sum((Decimal(row["amount"]) for row in rows), Decimal(0))

    def _reducible(self, row: sqlite3.Row) -> Decimal:
        """Contracts that an order may take off the leg opposite to its side."""
        if self._terms.hedge and not row["reduce_only"]:
            return Decimal(0)  # what opens one leg leaves the other alone
        return self.held(Leg(row["symbol"], _REDUCED[row["side"]]))

    def _fill(self, row: sqlite3.Row, amount: Decimal, *, reduced: bool) -> None:
        if not amount:
            return
        symbol, price = row["symbol"], self.price(row["symbol"])
        fee = self._terms.contract.notional(price, amount) * self._terms.fee_rate
        currency = self._terms.contract.settle
        self._db.execute(
            "INSERT INTO fills (order_id, symbol, side, reduced, price, contracts, fee, fee_currency, at_ms)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (row["order_id"], symbol, row["side"], reduced, str(price), str(amount), str(fee), currency, self._now_ms),
        )
        if reduced:
            self._reduce(Leg(symbol, _REDUCED[row["side"]]), amount)
        else:
            self._add(Leg(symbol, _OPENED[row["side"]]), amount, price)

    def _reduce(self, leg: Leg, amount: Decimal) -> None:
        """Take *amount* off a leg that has it: the rest keeps its entry price, and a flat leg has none."""
        left = self.held(leg) - amount
        if left:
            sql = "UPDATE legs SET contracts = ? WHERE symbol = ? AND side = ?"
            self._db.execute(sql, (str(left), leg.symbol, leg.side))
        else:
            self._db.execute("DELETE FROM legs WHERE symbol = ? AND side = ?", (leg.symbol, leg.side))

    def _add(self, leg: Leg, amount: Decimal, price: Decimal) -> None:
        before, whole, entry = self.holding(leg), amount, price
        if before and before.entry_price is not None:
            whole = before.contracts + amount
            entry = self._terms.contract.average((before.contracts, before.entry_price), (amount, price))
        self._db.execute(
            "INSERT OR REPLACE INTO legs VALUES (?, ?, ?, ?)", (leg.symbol, leg.side, str(whole), str(entry))
        )

    def _row(self, order_id: int) -> sqlite3.Row:
        row: sqlite3.Row = self._db.execute("SELECT * FROM orders WHERE order_id = ?", (order_id,)).fetchone()
        return row


def _together(first: Trade, second: Trade) -> Trade:
    """Two fills of one order that crossed flat, as venues report it: one trade."""
    contracts, fee = first.fill.contracts + second.fill.contracts, first.fill.fee + second.fill.fee
    return replace(first, fill=replace(first.fill, contracts=contracts, fee=fee))


def _reached(kind: str, side: str, trigger: Decimal, price: Decimal) -> bool:
    falling = (kind == "stop_loss") == (side == "sell")
    return price <= trigger if falling else price >= trigger


def _order(row: sqlite3.Row) -> Order:
    trigger = row["trigger_price"]
    return Order(
        order_id=str(row["order_id"]),
        client_order_id=row["client_order_id"],
        family=row["family"],
        leg=Leg(row["symbol"], _REDUCED[row["side"]]),
        contracts=Decimal(row["contracts"]),
        filled=Decimal(row["filled"]),
        state=row["state"],
        trigger_price=None if trigger is None else Decimal(trigger),
    )


def _fill(row: sqlite3.Row) -> Fill:
    return Fill(
        trade_id=str(row["trade_id"]),
        client_order_id=row["client_order_id"],
        price=Decimal(row["price"]),
        contracts=Decimal(row["contracts"]),
        fee=Decimal(row["fee"]),
        fee_currency=row["fee_currency"],
        at_ms=row["at_ms"],
    )
