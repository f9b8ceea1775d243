"""What has happened at a simulated account, in truth, and what the ledger has written: the two that must fit."""

from __future__ import annotations

from decimal import Context, Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from poslock.pnl import part_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from poslock.exchange.port import Order
    from poslock.position import Fill, Trade
    from prove.store import Store


class Account(NamedTuple):
    """Every trade of the leg, oldest first, and every exit order that it ever had."""

    trades: tuple[Trade, ...]
    orders: tuple[Order, ...]

    @property
    def last_trade(self) -> int:
        """The id of the newest trade."""
        return number(self.trades[-1]) if self.trades else 0

    @property
    def last_order(self) -> int:
        """The id of the newest exit order."""
        return max((int(each.order_id) for each in self.orders), default=0)

    @property
    def resting(self) -> list[Order]:
        """The exit orders that may still be filled."""
        return [each for each in self.orders if each.state == "open"]

    def until(self, trade: int) -> tuple[Trade, ...]:
        """The trades up to the one with this id."""
        return tuple(each for each in self.trades if number(each) <= trade)


class Run(NamedTuple):
    """What trades made of a position: whether its leg went through flat, and the exits that are its own."""

    ended: bool
    exits: tuple[Fill, ...]


def run(trades: Sequence[Trade], start: int, contracts: Decimal) -> Run:
    """A position of *contracts* that was tracked after the trade *start*.

    Exits count against it first, whoever made them, until its leg is flat.
    """
    size, _ = held([each for each in trades if number(each) <= start])
    missing, ended = contracts, False
    exits: list[Fill] = []
    for trade in trades:
        if number(trade) <= start:
            continue
        if trade.effect == "entry":
            size += Fraction(trade.fill.contracts)
            continue
        if not ended and missing:
            exits.append(part_of(trade.fill, missing))
            missing -= exits[-1].contracts
        size -= Fraction(trade.fill.contracts)
        ended = ended or size <= 0
    return Run(ended, tuple(exits))


def held(trades: Sequence[Trade]) -> tuple[Fraction, Fraction]:
    """What *trades* leave on the leg, and what it has cost on average."""
    size = price = Fraction(0)
    for each in trades:
        contracts = Fraction(each.fill.contracts)
        if each.effect == "entry":
            price = (size * price + contracts * Fraction(each.fill.price)) / (size + contracts)
            size += contracts
        else:
            size -= contracts
    return size, price if size else Fraction(0)


def number(trade: Trade) -> int:
    """Its id at the paper account."""
    return int(trade.fill.trade_id)


class Booked(NamedTuple):
    """A booking; ``left`` is what it says is left at the venue."""

    pnl: tuple[Decimal, ...]
    exit_price: Decimal | None
    token: int
    ended_by: str
    left: Decimal | None
    given_up: Decimal
    fills: tuple[tuple[str, Decimal], ...]


class Kept(NamedTuple):
    """A generation as the ledger has it. ``own`` are the ids of orders that were journaled for it.

    ``begun`` counts its closes, ``orders_left`` are the orders that it told of.
    """

    contracts: Decimal
    entry_price: Decimal
    entry_fee: Decimal
    state: str
    is_superseded: bool
    own: frozenset[str]
    begun: int
    orders_left: frozenset[str]
    booked: Booked | None

    def expected(self, exits: Sequence[Fill], funding: Decimal) -> tuple[Decimal, ...]:
        """Gross, fees, funding and net of these exits. Of a linear contract: the difference for each contract."""
        gross = sum(((each.price - self.entry_price) * each.contracts for each in exits), Decimal(0))
        fees = sum((each.fee for each in exits), self.entry_fee)
        return gross, fees, funding, gross - fees + funding


class Written(NamedTuple):
    """All that the ledger has of one id."""

    tokens: tuple[int, ...]
    kept: tuple[Kept, ...]


_POSITIONS = (
    "SELECT generation, contracts, entry_price, entry_fee, state, later IS NOT NULL FROM position"
    " WHERE position_id = '{id}' ORDER BY generation"
)
_OWN = (
    "SELECT generation, client_order_id FROM attempt WHERE position_id = '{id}' UNION"
    " SELECT generation, client_order_id FROM change WHERE position_id = '{id}' AND client_order_id IS NOT NULL"
)
_AUDIT = "SELECT generation, token, event, detail FROM audit WHERE position_id = '{id}' ORDER BY number"
_BOOKED = "SELECT * FROM booking WHERE position_id = '{id}'"
_FILLS = (
    "SELECT generation, trade_id, contracts FROM fill WHERE position_id = '{id}' ORDER BY CAST(trade_id AS INTEGER)"
)


def written(ledger: Store, state: int, position_id: str) -> Written:
    """What the ledger has in one of its states."""
    positions, own, audit, bookings, fills = (
        ledger.rows(state, sql.format(id=position_id)) for sql in (_POSITIONS, _OWN, _AUDIT, _BOOKED, _FILLS)
    )
    booked = {row[1]: row for row in bookings}
    kept = []
    for generation, contracts, entry_price, entry_fee, at, superseded in positions:
        events = [(event, detail) for of, _, event, detail in audit if of == generation]
        taken = tuple((trade, Decimal(part)) for of, trade, part in fills if of == generation)
        kept.append(
            Kept(
                Decimal(contracts),
                Decimal(entry_price),
                Decimal(entry_fee),
                at,
                bool(superseded),
                frozenset(each for of, each in own if of == generation),
                sum(event == "intent" for event, _ in events),
                frozenset(detail.rpartition(" ")[2] for event, detail in events if event == "order left"),
                _booked(booked[generation], taken) if generation in booked else None,
            )
        )
    return Written(tuple(row[1] for row in audit), tuple(kept))


def _booked(row: tuple[object, ...], fills: tuple[tuple[str, Decimal], ...]) -> Booked:
    _, _, exit_price, *pnl, _, token, _, ended_by, left, off, by_operator = row
    numbers = tuple(Decimal(str(each)) for each in pnl)
    given_up = Decimal(str(off)) + Decimal(str(by_operator))
    price, remains = (None if each is None else Decimal(str(each)) for each in (exit_price, left))
    return Booked(numbers, price, int(str(token)), str(ended_by), remains, given_up, fills)


def average(exits: Sequence[Fill]) -> Decimal:
    """The price of *exits* on average."""
    paid = sum((each.price * each.contracts for each in exits), Decimal(0))
    return Context(prec=28).divide(paid, sum((each.contracts for each in exits), Decimal(0)))
