"""What a rehearsal does at the venue, what it finds there, and how it leaves the market.

It begins on a market of the account that holds nothing and has no order, and tells what is there later from what was
there before by the venue's ids. Whatever goes wrong, in the end it closes what it has opened, and no more, and
cancels the orders that it has set.
"""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from poslock import Position, PositionGuard
from poslock.errors import ExchangeError, OrderRefused, OutcomeUnknown, PositionNotFound, PoslockError
from poslock.exchange.port import CloseOrder, Leg
from poslock.position import EXACT
from poslock_cli.account import amount
from poslock_cli.findings import Finding, are_safe, ok, refused
from poslock_cli.rehearsal import comparison
from poslock_cli.rehearsal.comparison import LOOK_AT_VENUE, size, total
from poslock_cli.rehearsal.race import Outcome, race

if TYPE_CHECKING:
    from collections.abc import Callable

    from poslock import CcxtExchange
    from poslock.exchange.port import Order
    from poslock.position import ClosedPosition, Side
    from poslock_cli.rehearsal.wire import Deal, Wire

T = TypeVar("T")

HISTORY_S = 30.0
"""How long the venue's own lists may take to show what has happened."""
_LOOK_S = 0.3
_BEFORE_MS = 60_000
_WINDOW_MS = 10_000
_STOP, _TARGETS = Decimal("0.95"), (Decimal("1.05"), Decimal("1.06"))
_SIDES: tuple[Side, Side] = ("long", "short")


class NotFree(PoslockError):
    """The market holds something or has orders; nothing was sent."""


class Scene:
    """One rehearsal in the market of *wire*; *config* and *lock_dir* are for the processes that close.

    ``findings`` are its report. ``closed`` is what was booked, None until then. An interrupt while it
    ``is_cleaning_up`` would leave what was opened.
    """

    def __init__(self, exchange: CcxtExchange, wire: Wire, config: str, lock_dir: str, lease: float) -> None:
        self.id = f"rehearsal-{secrets.token_hex(6)}"
        self.contracts = Decimal(0)
        self.findings: list[Finding] = []
        self.closed: ClosedPosition | None = None
        self.is_cleaning_up = False
        self._exchange, self._wire = exchange, wire
        self._places = (config, lock_dir)
        self._leg = Leg(wire.symbol, "long")
        self._guard = PositionGuard(exchange, lock_dir=lock_dir, stale_after=lease)
        self._outcome = Outcome()
        self._is_on_its_way = False
        self._prices: set[Decimal] = set()
        self._before: set[str] = set()
        self._since_ms = 0

    def prove_window(self) -> bool:
        """By two signed reads, which change nothing, whether the venue keeps to the receive window."""
        window = self._wire.window
        length, beyond, within = (f"{ms / 1000:g} s" for ms in (window.length_ms, window.beyond_ms, window.within_ms))
        late, early = self._wire.taken(window.beyond_ms), self._wire.taken(window.within_ms)
        if not late:
            why = f"a read signed {beyond} ago was answered, under a receive window of {length}: the venue ignores it"
            self._doubt("window", why, "do not use poslock there: a late order could be taken under a lost lock")
        if early:
            why = f"a read signed {within} ago was refused, under a receive window of {length}: {early}"
            self._doubt("window", why, "the window is counted in another unit, or the clock jumps")
        if late and not early:
            self._say(
                "window", f"of {length}: a read signed {beyond} ago was refused, one signed {within} ago answered"
            )
        return bool(late) and not early

    def expect_free(self) -> None:
        """Raise `NotFree` unless nothing is held and no order rests in the market, on either side."""
        held, resting = self._wire.held(), self._wire.resting()
        if held:
            what = ", ".join(f"{amount(each)} contracts {side}" for side, each in held.items())
            raise NotFree(f"{self._leg.symbol} is not free: {what} are held; choose another market")
        if resting:
            raise NotFree(
                f"{self._leg.symbol} is not free: {', '.join(resting.values())} rests there; choose another market"
            )

    def play(self, contracts: Decimal, price: Decimal) -> None:
        """Open, protect, let four processes close, compare; then leave the market as it was, whatever has happened."""
        self._since_ms = self._wire.now_ms() - _BEFORE_MS
        self._before = {*self._wire.deals(self._since_ms), *self._wire.statement(self._since_ms)}
        self.contracts = contracts
        try:
            self._act(price)
        except KeyboardInterrupt:
            self._doubt("rehearsal", "it was interrupted", "")
        finally:
            try:
                self._clean_up()
            except KeyboardInterrupt:  # of before it had begun: later ones raise nothing
                self._clean_up()
            self._guard.close()

    # The acts.

    def _act(self, price: Decimal) -> None:
        try:
            self._open(price)
            self._race()
            self._compare()
            self._look()
        except PoslockError as error:
            self._doubt("rehearsal", f"it could not go on: {error}", LOOK_AT_VENUE)
        except (LookupError, TypeError, ValueError, ArithmeticError) as error:  # a row that is not as documented
            self._doubt("rehearsal", f"an answer cannot be read ({type(error).__name__}: {error})", LOOK_AT_VENUE)

    def _open(self, price: Decimal) -> None:
        client_order_id = f"rehearse{secrets.token_hex(8)}"
        hedge, self._is_on_its_way = self._wire.is_hedge(), True
        try:
            self._wire.open(self.contracts, client_order_id, hedge=hedge)
        except OutcomeUnknown:  # it is looked for longer than it can be on its way
            pass
        except OrderRefused:
            self._is_on_its_way = False
            raise
        held = self._shown(self._wire.held, lambda held: held == {"long": self.contracts})
        self._is_on_its_way = not held
        entries = self._shown(self._deals, lambda deals: size(deals, "buy") == self.contracts)
        holding = self._exchange.holding(self._leg)
        if holding is None or holding.entry_price is None or not entries:
            raise ExchangeError(f"the venue does not show the position that {client_order_id} has opened")
        position = Position(
            self.id,
            self._leg.symbol,
            "long",
            holding.contracts,
            holding.entry_price,
            contract_size=holding.contract_size,
            settle=holding.settle,
            entry_fee=total(each.fee for each in entries),
        )
        self._guard.track(position, entry_order_ids=sorted({each.order_id for each in entries}))
        self._say("open", f"{amount(self.contracts)} contracts from {amount(holding.entry_price)}, tracked")
        self._protect(price)

    def _protect(self, price: Decimal) -> None:
        stop, *targets = (self._wire.price(price * factor) for factor in (_STOP, *_TARGETS))
        self._prices = {stop, *targets}
        self._guard.modify_position(self.id, stop_loss=stop)
        half = (self.contracts / 2) // self._wire.step * self._wire.step
        if half < self._exchange_smallest():
            changed = self._guard.modify_position(self.id, take_profit=targets[0])
        else:
            ladder = [(targets[0], half), (targets[1], EXACT.subtract(self.contracts, half))]
            changed = self._guard.modify_position(self.id, take_profit=ladder)
        rungs = ", ".join(f"{amount(part)} at {amount(rung)}" for rung, part in changed.take_profits)
        rest = self._wire.resting()
        if changed.stop_loss != stop or len(rest) != 1 + len(changed.take_profits):
            found = f"{len(rest)} orders rest, {', '.join(rest.values())}; the stop-loss is read as {changed.stop_loss}"
            self._doubt("exits", found, LOOK_AT_VENUE)
        else:
            self._say("exits", f"a stop-loss at {amount(stop)}, take-profits: {rungs}")

    def _race(self) -> None:
        outcome = self._outcome
        race(*self._places, self.id, outcome)
        told = ", ".join(f"PID {pid} {how}" for pid, how in sorted(outcome.ended.items()))
        if outcome.killed is None:
            self._doubt("race", f"no process said that its order was accepted; {told}", LOOK_AT_VENUE)
        elif sum(how == "closed by this one" for how in outcome.ended.values()) != 1:
            self._doubt("race", f"PID {outcome.killed} was killed, and not one of the others closed: {told}", "")
        else:
            self._say("race", f"PID {outcome.killed} was killed after its order was accepted; {told}")

    # What the venue says of it.

    def _compare(self) -> None:
        tracked = self._guard.position(self.id)
        self.closed = tracked.closed
        deals = self._shown(self._deals, lambda found: size(found, "sell") >= self.contracts)
        self.findings.append(comparison.orders(deals, self._accepted(), self.contracts))
        if (closed := self.closed) is None:
            self._doubt("close", f"not ended: {tracked.unsettled or 'nobody came to an end'}", LOOK_AT_VENUE)
            return
        self.findings += comparison.executions(closed, deals)
        rows = self._shown(self._statement, lambda found: comparison.net(closed, found).verdict == "ok")
        self.findings.append(comparison.net(closed, rows))

    def _look(self) -> None:
        """What is there when all is over, before anything is cleaned up."""
        held = self._shown(self._wire.held, lambda found: not found)
        resting = self._shown(self._wire.resting, lambda found: not found)
        if held:
            what = ", ".join(f"{amount(each)} contracts {side}" for side, each in held.items())
            self._doubt("flat", f"{what} are held after the close", LOOK_AT_VENUE)
        else:
            self._say("flat", "nothing is held on either side")
        if resting:
            self._doubt("orders", f"after the close there rests: {', '.join(resting.values())}", LOOK_AT_VENUE)
        else:
            self._say("orders", "no order rests")

    def _clean_up(self) -> None:
        """Leave nothing held that was opened here, and no order that was set here; one failure stops no other step."""
        self.is_cleaning_up = True
        failed: list[str] = []

        def tried(step: Callable[[], T], otherwise: T) -> T:
            try:
                return step()
            except Exception as error:  # noqa: BLE001  # a row that cannot be read must not leave a position open
                failed.append(str(error) if isinstance(error, PoslockError) else type(error).__name__)
                return otherwise

        nothing: dict[Side, Decimal] = {}
        if self._is_on_its_way:
            tried(lambda: self._shown(self._wire.held, bool), nothing)
        if tried(lambda: not self._wire.held() and not self._wire.resting(), otherwise=False):
            if "flat" not in {each.check for each in self.findings}:
                self._say("cleaned up", "nothing is held and no order rests")
            return
        tried(lambda: self._sell_off("long", self._close_tracked()), None)
        tried(lambda: self._sell_off("short", self._oversold()), None)
        for side in _SIDES:
            tried(partial(self._cancel, Leg(self._leg.symbol, side)), None)
        held = tried(lambda: self._shown(self._wire.held, lambda found: not found), nothing)
        resting = tried(self._wire.resting, dict[str, str]())
        left = [*(f"{amount(each)} contracts {side}" for side, each in held.items()), *resting.values()]
        if failed or left:
            why = f"there is left: {', '.join(left)}" if left else f"not to the end: {'; '.join(failed)}"
            self._doubt("cleaned up", why, f"look at {self._leg.symbol} at the venue, now")
        else:
            self._say("cleaned up", "nothing is held and no order rests now")

    def _close_tracked(self) -> Decimal:
        """Close the position as any bot would; the contracts of it that are left all the same."""
        with suppress(PoslockError):  # not to be settled: what is left is sold off
            self._guard.close_position(self.id, reason="end of the rehearsal")
        try:
            tracked = self._guard.position(self.id)
        except PositionNotFound:  # it did not come to that
            return self.contracts
        return Decimal(0) if tracked.closed is not None else tracked.left

    def _oversold(self) -> Decimal:
        """Contracts that orders of ours have sold beyond what was opened: the account is short by so many."""
        ours = self._accepted()
        sold = size([each for each in self._deals() if each.order_id in ours], "sell")
        return max(Decimal(0), EXACT.subtract(sold, self.contracts))

    def _sell_off(self, side: Side, contracts: Decimal) -> None:
        """Close so many of what is held, which are ours; what somebody else has opened meanwhile stays."""
        held = self._wire.held().get(side, Decimal(0))
        if not (ours := min(held, contracts)):
            return
        self._exchange.prepare()
        client_order_id, leg = f"rehearse{secrets.token_hex(8)}", Leg(self._leg.symbol, side)
        self._exchange.place(CloseOrder(leg, ours, client_order_id, self._exchange.time_ms(), _WINDOW_MS))
        self._shown(self._wire.held, lambda found: found.get(side, Decimal(0)) < held)

    def _cancel(self, leg: Leg) -> None:
        for order in self._exchange.open_orders(leg):
            if self._is_ours(order):
                self._exchange.cancel(order)

    def _is_ours(self, order: Order) -> bool:
        """One at a price of ours: nothing rested here before, and the sizes of some venues' orders are 0 for all."""
        return order.trigger_price in self._prices and order.contracts <= self.contracts

    # Used by all.

    def _deals(self) -> list[Deal]:
        return [each for key, each in self._wire.deals(self._since_ms).items() if key not in self._before]

    def _statement(self) -> list[Decimal]:
        found = self._wire.statement(self._since_ms)
        return [each for key, each in found.items() if key not in self._before]

    def _exchange_smallest(self) -> Decimal:
        holding = self._exchange.holding(self._leg)
        return Decimal(0) if holding is None else max(holding.smallest, self._wire.step)

    def _accepted(self) -> set[str]:
        """The venue's ids of the closing orders that were accepted, as it writes them."""
        return {each.rpartition(":")[2] for each in self._outcome.accepted}

    def _shown(self, look: Callable[[], T], wanted: Callable[[T], bool]) -> T:
        """What *look* sees once it is *wanted*, or after the time that the venue's lists may take."""
        deadline = time.monotonic() + HISTORY_S
        while not wanted(seen := look()) and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        return seen

    def _say(self, check: str, seen: str) -> None:
        self.findings.append(ok(check, seen))

    def _doubt(self, check: str, seen: str, way_out: str) -> None:
        self.findings.append(refused(check, seen, way_out))

    @property
    def passed(self) -> bool:
        """Whether nothing was found that should not be."""
        return are_safe(self.findings)
