"""Writing the ledger: values as rows, Decimal as text. Each runs inside a transaction of `poslock.ledger.ledger`."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from poslock.errors import PositionConflict
from poslock.ledger.journal import CloseKey
from poslock.ledger.rows import open_on_leg

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from decimal import Decimal

    from poslock.ledger.journal import Change, LegAtTracking
    from poslock.position import ClosedPosition, Fill, Position, TrackedPosition, Trade

KEY = "position_id = :position_id AND generation = :generation"


def check_leg_free(db: sqlite3.Connection, position: Position, account: str) -> None:
    """Raise `PositionConflict` if another position is open or closing there."""
    taken = open_on_leg(db, account, position.symbol, position.side)
    if taken is not None:
        raise PositionConflict.on_leg(position.id, taken, position.symbol)


def insert_position(db: sqlite3.Connection, tracked: TrackedPosition, leg: LegAtTracking, token: int) -> None:
    """An open position, and the trades that its leg contained when it was tracked."""
    position = tracked.position
    db.execute(
        "INSERT INTO position VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open', ?, ?, ?, ?, ?, ?, '', NULL)",
        (
            position.id,
            tracked.generation,
            tracked.account,
            position.symbol,
            position.side,
            str(position.contracts),
            str(position.entry_price),
            str(position.contract_size),
            int(position.inverse),
            position.settle,
            str(position.entry_fee),
            tracked.tracked_at_ms,
            token,
            str(leg.held),
            text(leg.entry_price),
            leg.position_id,
            leg.trades_since_ms,
            int(leg.entry_known),
        ),
    )
    key = CloseKey(position.id, tracked.generation)
    insert_trades(db, key, leg.baseline, baseline=True)
    more = f"; the venue holds {leg.held}" if leg.held > position.contracts else ""
    audit(db, key, token, "tracked", f"{position.side} {position.contracts} {position.symbol}{more}")


def insert_booking(db: sqlite3.Connection, key: CloseKey, closed: ClosedPosition) -> None:
    """The P&L of a close."""
    db.execute(
        "INSERT INTO booking VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            key.position_id,
            key.generation,
            text(closed.exit_price),
            str(closed.gross_pnl),
            str(closed.fees),
            str(closed.funding),
            str(closed.net_pnl),
            closed.client_order_id,
            closed.token,
            closed.closed_at.isoformat(),
            closed.ended_by,
            text(closed.left_at_venue),
            str(closed.written_off),
            str(closed.by_operator),
        ),
    )


def insert_fill(db: sqlite3.Connection, key: CloseKey, fill: Fill) -> None:
    """A fill that a close has booked."""
    db.execute(
        "INSERT INTO fill SELECT account, symbol, side, ?, position_id, generation, ?, ?, ?, ?, ?, ?"
        " FROM position WHERE position_id = ? AND generation = ?",
        (
            fill.trade_id,
            fill.client_order_id,
            str(fill.price),
            str(fill.contracts),
            str(fill.fee),
            fill.fee_currency,
            fill.at_ms,
            key.position_id,
            key.generation,
        ),
    )


def insert_trades(db: sqlite3.Connection, key: CloseKey, trades: Sequence[Trade], *, baseline: bool = False) -> None:
    """Write what is new of *trades*, and the place of each in the venue's order."""
    sql = (
        "INSERT INTO trade VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (position_id, generation, trade_id) DO UPDATE SET number = excluded.number,"
        " baseline = max(baseline, excluded.baseline),"
        " client_order_id = ifnull(client_order_id, excluded.client_order_id)"
        " WHERE (number, baseline, client_order_id)"
        " IS NOT (excluded.number, max(baseline, excluded.baseline), excluded.client_order_id)"
    )
    for number, trade in enumerate(trades):
        fill = trade.fill
        amounts = (str(fill.price), str(fill.contracts), str(fill.fee))
        row = (fill.trade_id, number, int(baseline), trade.effect, trade.order_id, fill.client_order_id, *amounts)
        db.execute(sql, (key.position_id, key.generation, *row, fill.fee_currency, fill.at_ms))


def resize(db: sqlite3.Connection, key: CloseKey, position: Position) -> None:
    """Another size of a position, with its price and fee."""
    sql = f"UPDATE position SET contracts = :contracts, entry_price = :price, entry_fee = :fee WHERE {KEY}"
    contracts, price, fee = map(str, (position.contracts, position.entry_price, position.entry_fee))
    db.execute(sql, {**asdict(key), "contracts": contracts, "price": price, "fee": fee})


def summary(closed: ClosedPosition) -> str:
    """A booking as a line of the audit trail."""
    parts = [f"net {closed.net_pnl}"]
    if closed.left_at_venue:
        parts.append(f"{closed.left_at_venue} left at the venue")
    if closed.written_off:
        parts.append(f"{closed.written_off} written off")
    if closed.by_operator:
        parts.append(f"{closed.by_operator} at the operator's price")
    return ", ".join(parts)


def text(number: Decimal | None) -> str | None:
    """A number as the ledger keeps it."""
    return None if number is None else str(number)


def described(change: Change) -> str:
    """A change as a line of the audit trail."""
    if change.kind == "reduce":
        return f"reduce by {change.contracts if change.filled is None else change.filled}"
    if change.trigger_price is None:
        return f"{change.kind} removed"
    amount = f" for {change.contracts}" if change.ladder is not None or change.follows else ""
    return f"{change.kind} at {change.trigger_price}{amount}"


def audit(db: sqlite3.Connection, key: CloseKey, token: int, event: str, detail: str) -> None:
    """A line of the audit trail."""
    db.execute(
        "INSERT INTO audit (at, position_id, generation, token, pid, event, detail) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (time.time(), key.position_id, key.generation, token, os.getpid(), event, detail),
    )
