"""Positions and what becomes of them: the values that the guard, the ledger and the exchanges pass around.

Amounts are `Decimal`. `contracts` counts contracts, `contract_size` is what one of them is worth: units of the base
currency for a linear contract, of the quote currency for an inverse one.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from decimal import Context, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from poslock.errors import InvalidPosition

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

Side: TypeAlias = Literal["long", "short"]
State: TypeAlias = Literal["open", "closing", "closed", "forgotten"]
Number: TypeAlias = Decimal | int | str
Ladder: TypeAlias = "Sequence[tuple[Number, Number]]"

EXACT = Context(prec=100)
"""For sums and products of what `exact` lets in and venues report, whatever the caller's own context rounds to."""

# Far beyond any venue's prices and sizes, and small enough that products stay exact in `pnl`.
_MAX_DIGITS = 30
_MAX_EXPONENT = 18
_MAX_NAME = 64


def exact(field: str, value: object) -> Decimal:
    """*value* as a finite Decimal.

    Raises:
        InvalidPosition: it is a float (0.1 is not a tenth), not a number, not finite, or absurdly long.
    """
    if isinstance(value, float):
        raise InvalidPosition(field, value, f"a float is not exact; pass Decimal({str(value)!r}) or a string")
    if isinstance(value, bool) or not isinstance(value, Decimal | int | str):
        raise InvalidPosition(field, value, "must be a Decimal, an int or a decimal string")
    try:
        number = Decimal(value)
    except (InvalidOperation, ValueError):
        raise InvalidPosition(field, value, "is no decimal number") from None
    if not number.is_finite():
        raise InvalidPosition(field, value, "must be finite")
    _, digits, exponent = number.as_tuple()
    if len(digits) > _MAX_DIGITS or not -_MAX_EXPONENT <= int(exponent) <= _MAX_EXPONENT:
        raise InvalidPosition(field, value, f"must have at most {_MAX_DIGITS} digits, {_MAX_EXPONENT} after the point")
    return number


def on_step(number: Decimal, step: Decimal, *, up: bool = False) -> Decimal:
    """The multiple of *step* next below *number*, or next above it; *number* itself if it is one, or *step* is 0."""
    beyond = EXACT.remainder(number, step) if step else step
    if not beyond:
        return number
    return EXACT.add(number, EXACT.subtract(step, beyond)) if up else EXACT.subtract(number, beyond)


def positive(field: str, value: object) -> Decimal:
    """As `exact`, and above zero."""
    number = exact(field, value)
    if number <= 0:
        raise InvalidPosition(field, value, "must be above zero")
    return number


def name(field: str, value: object) -> str:
    """*value* if it is printable text of 1 to 64 characters, else `InvalidPosition`."""
    if not isinstance(value, str) or not 1 <= len(value) <= _MAX_NAME or not value.isprintable():
        raise InvalidPosition(field, value, f"must be printable text of 1 to {_MAX_NAME} characters")
    return value


def side_of(value: object) -> Side:
    """*value* if it is a side, else `InvalidPosition`."""
    if value == "long":
        return "long"
    if value == "short":
        return "short"
    raise InvalidPosition("side", value, f"must be one of {', '.join(get_args(Side))}")


@dataclass(frozen=True, slots=True)
class Position:
    """An open position, as the bot that opened it knows it.

    Args:
        id: the bot's own name for it; 1 to 128 characters.
        symbol: the venue's or ccxt's name of the market.
        side: ``"long"`` or ``"short"``.
        contracts: how many, above zero.
        entry_price: average price of the entry, above zero.
        contract_size: worth of one contract, above zero.
        inverse: whether contracts are quoted in the quote and settled in the base currency.
        settle: the currency in which fees and P&L are counted.
        entry_fee: what opening it cost, in `settle`; negative for a rebate.

    Numbers are Decimal, int or decimal strings, never floats.

    Raises:
        InvalidPosition: a field is out of range.
    """

    id: str
    symbol: str
    side: Side
    contracts: Decimal
    entry_price: Decimal
    _: KW_ONLY
    contract_size: Decimal = Decimal(1)
    inverse: bool = False
    settle: str = "USDT"
    entry_fee: Decimal = Decimal(0)

    if TYPE_CHECKING:

        def __init__(  # noqa: PLR0913  # the fields of a position
            self,
            id: str,  # noqa: A002  # the field's public name
            symbol: str,
            side: Side,
            contracts: Number,
            entry_price: Number,
            *,
            contract_size: Number = 1,
            inverse: bool = False,
            settle: str = "USDT",
            entry_fee: Number = 0,
        ) -> None: ...

    def __post_init__(self) -> None:
        # The id is the lock's to judge: `track` refuses a bad one as InvalidPositionId before anything is written.
        checked = {
            "symbol": name("symbol", self.symbol),
            "side": side_of(self.side),
            "contracts": positive("contracts", self.contracts),
            "entry_price": positive("entry_price", self.entry_price),
            "contract_size": positive("contract_size", self.contract_size),
            "settle": name("settle", self.settle),
            "entry_fee": exact("entry_fee", self.entry_fee),
        }
        if not isinstance(self.inverse, bool):
            raise InvalidPosition("inverse", self.inverse, "must be True or False")
        for field, value in checked.items():
            object.__setattr__(self, field, value)

    def scaled_in(self, contracts: Number, price: Number, *, fee: Number = 0) -> Position:
        """The same position after another entry of *contracts* at *price*, which cost *fee*, in `settle`.

        Contracts and fees add up, exactly. With contracts c and prices p, the entry price becomes

        - linear:  (c1 · p1 + c2 · p2) / (c1 + c2), the mean weighted by size;
        - inverse: (c1 + c2) / (c1 / p1 + c2 / p2), the harmonic mean weighted by size;

        rounded half-even once, to 18 places after the point, or to 30 digits where those are fewer. The formulas are
        OKX's (help page "Calculation of expiry futures contracts' profit and loss") and Bybit's (help pages "P&L
        calculations", part "Average Entry Price"). BitMEX cuts the value of each part to 8 places first.

        Raises:
            InvalidPosition: an argument is out of range, or a sum is.
        """
        added, paid, cost = positive("contracts", contracts), positive("price", price), exact("fee", fee)
        # One division of exact products, whose quotient 250 digits keep apart from every tie; as in `pnl`.
        wide, held = Context(prec=250), self.contracts
        total = wide.add(held, added)
        if self.inverse:
            worth = wide.fma(held, paid, wide.multiply(added, self.entry_price))
            average = wide.divide(wide.multiply(total, wide.multiply(self.entry_price, paid)), worth)
        else:
            average = wide.divide(wide.fma(held, self.entry_price, wide.multiply(added, paid)), total)
        return replace(self, contracts=total, entry_price=price_of(average), entry_fee=wide.add(self.entry_fee, cost))


def grown(position: Position, *, before: tuple[Decimal, Decimal], now: tuple[Decimal, Decimal]) -> Position:
    """*position* with what was added, from the contracts held and the venue's average entry *before* and *now*.

    The average changes with each entry and with no exit. So with h contracts at v before and H at V now, what was added
    is H - h contracts at

    - linear:  (H · V - h · v) / (H - h)
    - inverse: (H - h) / (H / V - h / v)

    This is the formula of `Position.scaled_in`, solved for the price of the second entry.

    Raises:
        InvalidPosition: no price can have led from there to here.
    """
    (held, entry_price), (contracts, average) = before, now
    wide = Context(prec=250)
    added = wide.subtract(contracts, held)
    if position.inverse:
        worth = wide.subtract(wide.divide(contracts, average), wide.divide(held, entry_price))
        price = wide.divide(added, worth) if worth else Decimal(0)
    else:
        worth = wide.fma(contracts, average, -wide.multiply(held, entry_price))
        price = wide.divide(worth, added)
    return position.scaled_in(added, price_of(price))


def price_of(average: Decimal) -> Decimal:
    """*average*, rounded to as many digits as `exact` lets in."""
    digits = min(_MAX_DIGITS, average.adjusted() + 1 + _MAX_EXPONENT)
    return Context(prec=max(1, digits)).plus(average)


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution, as the venue reports it.

    ``fee`` is what it cost, in ``fee_currency``; negative for a rebate. ``at_ms`` is the venue's time, milliseconds
    since the epoch.
    """

    trade_id: str
    client_order_id: str | None
    price: Decimal
    contracts: Decimal
    fee: Decimal
    fee_currency: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Trade:
    """One execution on a leg: an ``"entry"`` added its contracts to the leg, an ``"exit"`` took them off.

    In one-way mode every buy is an entry of the long leg and an exit of the short one, every sell the reverse; one that
    crosses flat is one trade of both legs. ``order_id`` is the venue's id of the order, None where it names none.
    Funding is no trade.
    """

    effect: Literal["entry", "exit"]
    order_id: str | None
    fill: Fill


@dataclass(frozen=True, slots=True)
class ClosedPosition:
    """A finished close and its booking.

    ``net_pnl`` = ``gross_pnl`` - ``fees`` + ``funding``, all in the position's settle currency; fees in another
    currency stay with their fills. ``exit_price`` is the average of `fills`, rounded to 28 digits; None if there are
    none. ``client_order_id`` is None if nothing of ours had to be sent (stop-loss, liquidation, closed by hand), and
    ``ended_by`` names what took the last contract: ``"close"``, ``"stop_loss"``, ``"take_profit"``, ``"reduce"``,
    ``"another poslock"``, ``"other"`` or ``"settle"``.

    ``left_at_venue`` is how many contracts the venue held on that side when the position was over, 0 when flat, None
    when that is not known: they are not of the position, and their orders were left alone. ``written_off`` are the
    contracts of the position that are in no P&L, because no fill proves their exit; ``by_operator`` are those whose
    exit price was the operator's word to `settle`.
    """

    position_id: str
    exit_price: Decimal | None
    gross_pnl: Decimal
    fees: Decimal
    funding: Decimal
    net_pnl: Decimal
    fills: tuple[Fill, ...]
    client_order_id: str | None
    token: int
    closed_at: datetime
    ended_by: str = "close"
    left_at_venue: Decimal | None = Decimal(0)
    written_off: Decimal = Decimal(0)
    by_operator: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class TrackedPosition:
    """A position as the ledger has it. The same id opened again is a new ``generation``, counted from 1.

    ``closed`` is there once ``state`` is ``"closed"``. ``tracked_at_ms`` is the venue's time. ``reduced`` is how many
    of the position's contracts are gone already: what `modify_position` has taken off, and other exits that a look at
    the venue has shown; their fills are part of the close's booking. ``unsettled`` says why its close cannot end, empty
    if nothing is in its way. ``realized_pnl`` is the net P&L of the exits that were seen so far, without funding, None
    if there are none or the position is closed.
    """

    position: Position
    generation: int
    account: str
    state: State
    tracked_at_ms: int
    closed: ClosedPosition | None
    reduced: Decimal = Decimal(0)
    unsettled: str = ""
    realized_pnl: Decimal | None = None

    @property
    def left(self) -> Decimal:
        """Contracts that a close still has to take off."""
        return EXACT.subtract(self.position.contracts, self.reduced)


@dataclass(frozen=True, slots=True)
class ModifiedPosition:
    """What a change of a position led to, read from the venue afterwards.

    ``stop_loss`` and ``take_profit`` are the prices of those that rest now, None if none does; ``contracts`` is what is
    left of the position. ``take_profits`` are the prices at which any rest, each with its contracts, the nearest to
    the market first; ``take_profit`` is None if they are several.
    """

    position_id: str
    stop_loss: Decimal | None
    take_profit: Decimal | None
    contracts: Decimal
    token: int
    take_profits: tuple[tuple[Decimal, Decimal], ...] = ()
