"""What must be true of simulated closes in every state, judged from the ledger, the account, and what was answered.

G1: of all who close, at most one is told that it did, and "already closed" is said only of what is booked. G4: the
ledger's tokens never fall. G5: one booking, of exactly the venue's fills. G6: once it is booked no order rests, and the
account is flat, not reversed.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from prove.explore import Violation
from prove.market import CONTRACTS, FUNDING, LEG, OTHER_LEG

if TYPE_CHECKING:
    from prove.market import Market

_BOOKED = "SELECT gross_pnl, fees, funding, net_pnl, exit_price FROM booking"
_TOKENS = "SELECT token FROM audit ORDER BY number"
_INTENTS = "SELECT count(*) FROM audit WHERE event = 'intent'"
_TRADES = "SELECT trade_id, contracts FROM fill ORDER BY CAST(trade_id AS INTEGER)"
ENTRY_PRICE = 60_000


class Closes(NamedTuple):
    """What the witness remembers: who was told that it closed the position, and of which states it was sure."""

    closers: tuple[int, ...] = ()
    sure: tuple[int, int, tuple[object, ...]] = (-1, -1, ())

    def told(self, disk: Market, pid: int, what: str, details: tuple[object, ...]) -> Closes:
        """A process says how its close ended."""
        booked = bool(_facts(disk).bookings)
        if what == "closed":
            if self.closers:
                raise Violation(f"process {pid} closed what process {self.closers[0]} had closed")
            if not booked:
                raise Violation(f"process {pid} was told that it closed what is not booked")
            return self._replace(closers=(pid,))
        if what == "already closed" and not booked:
            raise Violation(f"process {pid} was told that it is closed, and it is not booked")
        return self

    def is_booked(self, disk: Market) -> bool:
        """Whether the ledger has it."""
        return bool(_facts(disk).bookings)

    def died(self, pid: int) -> Closes:
        """A process has ended; what it was told stays so."""
        return self

    def looked(self, disk: Market, *, torn: bool) -> Closes:
        """The ledger or the account may have changed."""
        state = (disk.ledger, disk.venue, disk.late)
        if self.sure == state:
            return self
        facts = _facts(disk)
        if facts.tokens != tuple(sorted(facts.tokens)):
            raise Violation(f"the ledger took writes with tokens {facts.tokens}")
        if facts.intents > 1:
            raise Violation(f"{facts.intents} closes were begun")
        if facts.reversed_by:
            raise Violation(f"the account holds {facts.reversed_by} contracts on the other side")
        if len(facts.bookings) > 1:
            raise Violation(f"{len(facts.bookings)} bookings")
        if facts.bookings:
            _check_booked(facts)
            if disk.may_still_come():
                raise Violation("it is booked, and an order may still come")
        return self._replace(sure=state)


class _Facts(NamedTuple):
    tokens: tuple[int, ...]
    intents: int
    bookings: tuple[tuple[Decimal, ...], ...]
    trades: tuple[tuple[str, str], ...]
    reversed_by: Decimal
    held: Decimal
    resting: int
    fills: tuple[tuple[str, str, Decimal, Decimal], ...]


def _facts(disk: Market) -> _Facts:
    known, key = disk.books.facts, (disk.ledger, disk.venue)
    if key not in known:
        ledger, venue = disk.books.ledger, disk.books.venue

        def asked(method: str, *args: object) -> object:
            return venue.ask(disk.venue, disk.now_ns, method, args)[1]

        disk.books.now_ns = disk.now_ns
        bookings = tuple(tuple(map(Decimal, row)) for row in ledger.rows(disk.ledger, _BOOKED))
        fills = asked("fills", LEG, 0)
        known[key] = _Facts(
            tuple(token for (token,) in ledger.rows(disk.ledger, _TOKENS)),
            ledger.rows(disk.ledger, _INTENTS)[0][0],
            bookings,
            tuple(ledger.rows(disk.ledger, _TRADES)),
            asked("held", OTHER_LEG),  # type: ignore[arg-type]  # by the port
            asked("held", LEG),  # type: ignore[arg-type]  # by the port
            len(asked("open_orders", LEG)),  # type: ignore[arg-type]  # by the port
            tuple((fill.trade_id, str(fill.contracts), fill.price, fill.fee) for fill in fills),  # type: ignore[attr-defined]
        )
    facts: _Facts = known[key]
    return facts


def _check_booked(facts: _Facts) -> None:
    if facts.held:
        raise Violation(f"it is booked, and the account holds {facts.held} contracts")
    if facts.resting:
        raise Violation(f"it is booked, and {facts.resting} orders rest")
    if tuple((trade, contracts) for trade, contracts, _, _ in facts.fills) != facts.trades:
        raise Violation(f"booked are the fills {facts.trades}, the account has {facts.fills}")
    if sum(Decimal(contracts) for _, contracts in facts.trades) != CONTRACTS:
        raise Violation(f"booked are the fills {facts.trades}, which are not {CONTRACTS} contracts")
    # Of a linear contract: the difference for each contract; what fees take and funding gives makes the net.
    gross = sum((price - ENTRY_PRICE) * Decimal(contracts) for _, contracts, price, _ in facts.fills)
    fees = sum(fee for *_, fee in facts.fills)
    exit_price = ENTRY_PRICE + gross / CONTRACTS
    due = (gross, fees, FUNDING, gross - fees + FUNDING, exit_price)
    if facts.bookings != (due,):
        raise Violation(f"booked is {facts.bookings[0]}, and due {due}")
