"""What is to be changed of a position, and whether it can be: judged before anything is written or sent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Literal, TypeAlias

from poslock.closing.session import client_order_id, may_rest
from poslock.errors import InvalidChange, InvalidPosition
from poslock.ledger.journal import Change
from poslock.position import EXACT, on_step, positive

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import EllipsisType

    from poslock.ledger.journal import Kind
    from poslock.position import Ladder, Number, Side, TrackedPosition

Rung: TypeAlias = tuple[Decimal, Decimal]
_MOST_RUNGS = 10
_PAIR = 2


@dataclass(frozen=True, slots=True)
class Seen:
    """A leg as it was looked at for a change.

    ``left`` is what is left of the position, and ``to_close`` what a close would take off now; ``smallest`` are the
    fewest contracts of an order, whose sizes are multiples of ``step`` and whose prices are multiples of ``tick``.
    An order is for ``largest`` at most, if that is not None. ``is_sure`` says that the holding and the trades agree on
    what is left.
    """

    left: Decimal
    to_close: Decimal
    smallest: Decimal
    price: Decimal
    is_sure: bool
    step: Decimal = Decimal(0)
    tick: Decimal = Decimal(0)
    largest: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Passed:
    """The wanted stop-loss cannot be set, because the price has passed it: the position is to be closed instead."""

    why: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be changed: prices, None to remove, ``...`` to leave it; contracts to take off, None for none.

    A take-profit may be a ladder, of pairs of price and contracts. ``or_close`` asks for a close where the price has
    passed the stop-loss already.
    """

    stop_loss: Decimal | EllipsisType | None
    take_profit: Decimal | tuple[Rung, ...] | EllipsisType | None
    reduce_by: Decimal | None
    or_close: bool = False

    @classmethod
    def of(
        cls,
        stop_loss: Number | EllipsisType | None,
        take_profit: Number | Ladder | EllipsisType | None,
        reduce_by: Number | None,
        *,
        or_close: object = False,
    ) -> Wanted:
        """What a caller asks for.

        Raises:
            InvalidPosition: it is not of the right shape.
        """
        stop = stop_loss if stop_loss is None or stop_loss is ... else positive("stop_loss", stop_loss)
        reduce = None if reduce_by is None else positive("reduce_by", reduce_by)
        if reduce is None and stop is ... and take_profit is ...:
            raise InvalidPosition("change", None, "is none: give stop_loss, take_profit or reduce_by")
        if not isinstance(or_close, bool) or (or_close and not isinstance(stop, Decimal)):
            raise InvalidPosition("or_close", or_close, "must be True or False, and True only with a stop_loss price")
        return cls(stop, _targets(take_profit), reduce, or_close)

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """The rungs of the ladder, none if it is no ladder."""
        return self.take_profit if isinstance(self.take_profit, tuple) else ()

    @property
    def prices(self) -> tuple[Decimal, ...]:
        """Those at which take-profits are to be set."""
        if isinstance(self.take_profit, Decimal):
            return (self.take_profit,)
        return tuple(price for price, _ in self.rungs)

    @property
    def needs_price(self) -> bool:
        """Whether it depends on the price of the market."""
        return self.stop_loss is not ... or self.take_profit is not ...

    def fitted(self, tracked: TrackedPosition, seen: Seen) -> Wanted:
        """The same as the venue can have it: prices on its tick, contracts cut down to its step.

        A price is rounded towards the market: where it rests, it triggers up to a tick before the price that was asked
        for, and never after it.

        Raises:
            InvalidChange: a price becomes 0, or two rungs come to stand at one price.
        """
        side, position_id = tracked.position.side, tracked.position.id

        def price(kind: Literal["stop_loss", "take_profit"], asked: Decimal) -> Decimal:
            rounded = on_step(asked, seen.tick, up=not is_above(kind, side))
            if not rounded:
                raise InvalidChange(position_id, kind, asked, f"is less than the venue's tick of {seen.tick}")
            return rounded

        stop, target, reduce = self.stop_loss, self.take_profit, self.reduce_by
        if isinstance(stop, Decimal):
            stop = price("stop_loss", stop)
        if isinstance(target, Decimal):
            target = price("take_profit", target)
        elif isinstance(target, tuple):
            target = tuple((price("take_profit", at), on_step(contracts, seen.step)) for at, contracts in target)
            if len({at for at, _ in target}) < len(target):
                why = f"has rungs at one price on the venue's tick of {seen.tick}"
                raise InvalidChange(position_id, "take_profit", self._said(), why)
        return replace(
            self,
            stop_loss=stop,
            take_profit=target,
            reduce_by=None if reduce is None else on_step(reduce, seen.step),
        )

    def check(self, tracked: TrackedPosition, seen: Seen) -> None:
        """Whether it can be made, but for the price of the stop-loss.

        Raises:
            InvalidChange: naming what it is measured by.
        """
        position_id = tracked.position.id
        if self.reduce_by is not None and (why := too_much(self.reduce_by, seen.to_close, seen.smallest)):
            raise InvalidChange(position_id, "reduce_by", self.reduce_by, why)
        side = tracked.position.side
        for price in self.prices:
            if not is_ahead("take_profit", side, price, seen.price):
                raise InvalidChange(position_id, "take_profit", price, must_be("take_profit", side, seen.price))
        for _, contracts in self.rungs:
            if contracts < seen.smallest:
                why = f"has a rung of {contracts} contracts, and the venue's smallest order is for {seen.smallest}"
                raise InvalidChange(position_id, "take_profit", self._said(), why)
        with localcontext(EXACT):
            total = sum((contracts for _, contracts in self.rungs), Decimal(0))
            left = seen.left - (self.reduce_by or 0)
        if total > left:
            after = " after the reduce" if self.reduce_by else ""
            why = f"has rungs that add up to {total} contracts, and {left} are left{after}"
            raise InvalidChange(position_id, "take_profit", self._said(), why)

    def passed(self, side: Side, market: Decimal) -> str:
        """What is wrong with the price of the stop-loss: the market is there already, or beyond it; empty if not."""
        price = self.stop_loss
        is_late = isinstance(price, Decimal) and not is_ahead("stop_loss", side, price, market)
        return must_be("stop_loss", side, market) if is_late else ""

    def changes(self, tracked: TrackedPosition, seen: Seen, *, first: int) -> tuple[Change, ...]:
        """What is to be journaled, numbered from *first* on.

        Raises:
            InvalidChange: it takes more orders than are placed at once.
        """
        # For all that is left, although a reduce may follow: that may be refused, or filled in part.
        made = list[Change]()
        if isinstance(self.stop_loss, Decimal):
            made += orders_for(tracked, "stop_loss", [(self.stop_loss, seen.left)], seen, first=first)
        elif self.stop_loss is None:
            made.append(Change(first, "stop_loss", seen.left, None, None))
        if self.prices:
            targets = self.rungs or [(price, seen.left) for price in self.prices]
            made += orders_for(tracked, "take_profit", targets, seen, first=first + len(made))
        elif self.take_profit is None:
            made.append(Change(first + len(made), "take_profit", seen.left, None, None))
        if self.reduce_by is not None:
            number = first + len(made)
            made.append(Change(number, "reduce", self.reduce_by, None, client_order_id(tracked, "change", number)))
        return tuple(made)

    def _said(self) -> str:
        return ", ".join(f"{contracts} at {price}" for price, contracts in self.rungs)


def too_much(reduce_by: Decimal, to_close: Decimal, smallest: Decimal) -> str:
    """Why so many contracts cannot be taken off; empty if they can."""
    if not reduce_by or reduce_by < smallest:
        return f"is less than the venue's smallest order, which is for {smallest}"
    if reduce_by >= to_close:
        return f"is not below the {to_close} contracts left; close_position takes off all"
    left = EXACT.subtract(to_close, reduce_by)
    if left < smallest:
        # Nobody could close them: neither a stop-loss nor close_position. (test_a_reduce_leaves_no_crumb)
        why = f"would leave {left} contracts, and the venue's smallest order is for {smallest}"
        return f"{why}; close_position takes off all"
    return ""


def orders_for(  # noqa: PLR0913  # whose they are, what for, and how
    tracked: TrackedPosition, kind: Kind, wanted: Sequence[Rung], seen: Seen, *, first: int, follows: bool = False
) -> list[Change]:
    """The orders that are to rest, numbered from *first* on; several are all made, or those before them stay.

    What is larger than the venue's largest order becomes several at one price, each of another size: where they have no
    client order id, price and size are what one is found by.

    Raises:
        InvalidChange: it takes more orders than are placed at once.
    """
    orders = [(price, part) for price, contracts in wanted for part in _parts(contracts, seen)]
    if len(orders) > _MOST_RUNGS:
        why = f"takes more than {_MOST_RUNGS} orders; the venue's largest is for {seen.largest} contracts"
        raise InvalidChange(tracked.position.id, kind, wanted[0][0], why)
    return [
        Change(
            number,
            kind,
            contracts,
            price,
            client_order_id(tracked, "change", number),
            ladder=first if len(orders) > 1 else None,
            follows=follows,
        )
        for number, (price, contracts) in enumerate(orders, start=first)
    ]


def _parts(contracts: Decimal, seen: Seen) -> list[Decimal]:
    """*contracts* as sizes of orders, of which each is a step smaller than the one before, or more."""
    found, largest = list[Decimal](), seen.largest
    with localcontext(EXACT):
        while largest is not None and contracts > largest and len(found) <= _MOST_RUNGS:
            # The last one must not be less than the venue takes.
            found.append(min(largest, contracts - seen.smallest))
            contracts, largest = contracts - found[-1], largest - seen.step
    return [*found, contracts]


def following(
    tracked: TrackedPosition, changes: Sequence[Change], seen: Seen
) -> tuple[list[Change], list[Change]] | None:
    """The stop-loss of ours that is larger than what is left, and the one that is to follow it at its price.

    Each may be several orders. None if there is none, or if the venue has refused that very one already.
    """
    stops = [each for each in may_rest(changes) if each.kind == "stop_loss" and each.step == "done"]
    old = [each for each in stops if each is stops[-1] or (each.ladder and each.ladder == stops[-1].ladder)]
    with localcontext(EXACT):
        covered = sum((each.contracts for each in old), Decimal(0))
    if not old or not seen.left or not seen.smallest <= seen.left < covered:
        return None
    wanted = [(old[-1].trigger_price or Decimal(0), seen.left)]
    new = orders_for(tracked, "stop_loss", wanted, seen, first=len(changes) + 1, follows=True)
    refused = [each for each in changes if each.follows and each.step == "refused" and each.number > old[-1].number]
    wishes = {(each.contracts, each.trigger_price) for each in new}
    return None if wishes & {(each.contracts, each.trigger_price) for each in refused} else (old, new)


def is_ahead(kind: Kind, side: Side, price: Decimal, market: Decimal) -> bool:
    """Whether the market has still to move before such an order triggers."""
    return price != market and (price > market) is is_above(kind, side)


def is_above(kind: Kind, side: Side) -> bool:
    """Whether an order of this kind has to be above the price."""
    return (kind == "take_profit") == (side == "long")


def must_be(kind: Kind, side: Side, market: Decimal) -> str:
    """Where an order of this kind has to be."""
    where = "above" if is_above(kind, side) else "below"
    return f"must be {where} the price of {market} for a {side} position"


def _targets(take_profit: Number | Ladder | EllipsisType | None) -> Decimal | tuple[Rung, ...] | EllipsisType | None:
    if take_profit is None or take_profit is ...:
        return take_profit
    if not isinstance(take_profit, list | tuple):
        return positive("take_profit", take_profit)
    if not 1 <= len(take_profit) <= _MOST_RUNGS or not all(
        isinstance(each, list | tuple) and len(each) == _PAIR for each in take_profit
    ):
        why = f"must be a price, None, or a ladder: 1 to {_MOST_RUNGS} pairs (price, contracts)"
        raise InvalidPosition("take_profit", take_profit, why)
    rungs = tuple(
        (positive("take_profit", price), positive("take_profit", contracts)) for price, contracts in take_profit
    )
    if len({price for price, _ in rungs}) < len(rungs):
        raise InvalidPosition("take_profit", take_profit, "must have distinct prices")
    return rungs
