"""The rows of the ledger, text there and Decimal here: read as values, and written in a transaction of the ledger."""

from __future__ import annotations

import os
import sqlite3
import time
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING

from poslock.errors import PositionConflict, quoted
from poslock.ledger.journal import Attempt, Change, Close, CloseKey, Event, LegAtTracking, LegHistory
from poslock.pnl import part_of, realized_pnl
from poslock.position import EXACT, ClosedPosition, Fill, Position, Side, TrackedPosition, Trade

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY = "position_id = :position_id AND generation = :generation"


def position_of(db: sqlite3.Connection, position_id: str, generation: int | None = None) -> TrackedPosition | None:
    """A generation of a position, the newest one if none is given.

    Raises:
        sqlite3.DatabaseError: a row holds what cannot have been written there.
    """
    try:
        return _position_of(db, position_id, generation)
    except (ArithmeticError, LookupError, ValueError, TypeError) as error:
        raise sqlite3.DatabaseError(f"damaged row of position {quoted(position_id)}: {error}") from error


def _position_of(db: sqlite3.Connection, position_id: str, generation: int | None) -> TrackedPosition | None:
    sql = "SELECT * FROM position WHERE position_id = ? AND generation = ifnull(?, generation) ORDER BY generation DESC"
    row = db.execute(f"{sql} LIMIT 1", (position_id, generation)).fetchone()
    if row is None:
        return None
    closed = _booking(db, CloseKey(position_id, row["generation"])) if row["state"] == "closed" else None
    position = Position(
        row["position_id"],
        row["symbol"],
        row["side"],
        row["contracts"],
        row["entry_price"],
        contract_size=row["contract_size"],
        inverse=bool(row["inverse"]),
        settle=row["settle"],
        entry_fee=row["entry_fee"],
    )
    generation, tracked_at_ms = row["generation"], row["tracked_at_ms"]
    key = CloseKey(position_id, generation)
    with localcontext(EXACT):
        reduced = sum((each.filled or Decimal(0) for each in changes_of(db, key)), Decimal(0))
        exits = _exits_of(db, key, position.contracts)
        gone = max(reduced, sum((fill.contracts for fill in exits), Decimal(0)))
    so_far = realized_pnl(position, exits, Decimal(0)).net if exits and closed is None else None
    return TrackedPosition(
        position, generation, row["account"], row["state"], tracked_at_ms, closed, gone, row["unsettled"], so_far
    )


def _exits_of(db: sqlite3.Connection, key: CloseKey, contracts: Decimal) -> tuple[Fill, ...]:
    """The exits of a position that the venue has shown so far, the last one cut at its size."""
    where = "WHERE position_id = :position_id AND generation = :generation AND effect = 'exit' AND NOT baseline"
    found, missing = [], contracts
    for row in db.execute(f"SELECT * FROM trade {where} ORDER BY number", _of(key)):
        if missing > 0:
            found.append(part_of(_fill(row), missing))
            missing -= found[-1].contracts
    return tuple(found)


def leg_of(db: sqlite3.Connection, key: CloseKey) -> LegHistory:
    """What the ledger knows of the leg of a position."""
    where = "WHERE position_id = :position_id AND generation = :generation"
    row = db.execute(f"SELECT * FROM position {where}", _of(key)).fetchone()
    rows = db.execute(f"SELECT * FROM trade {where} ORDER BY number", _of(key)).fetchall()
    tracked = LegAtTracking(
        held=Decimal(row["held"]),
        entry_price=_decimal(row["held_price"]),
        position_id=row["venue_id"],
        trades_since_ms=row["trades_since_ms"],
        baseline=tuple(_trade(each) for each in rows if each["baseline"]),
        entry_known=bool(row["entry_known"]),
    )
    return LegHistory(tracked, tuple(_trade(each) for each in rows if not each["baseline"]), _decimal(row["later"]))


def highest_token(db: sqlite3.Connection, position_id: str) -> int:
    """The highest fencing token that any write on the position carried, 0 if none."""
    sql = "SELECT coalesce(max(token), 0) AS token FROM position WHERE position_id = ?"
    token: int = db.execute(sql, (position_id,)).fetchone()["token"]
    return token


def open_on_leg(db: sqlite3.Connection, account: str, symbol: str, side: Side) -> str | None:
    """The id of the position that is open or closing on one side of a market."""
    sql = (
        "SELECT position_id FROM position WHERE account = ? AND symbol = ? AND side = ?"
        " AND state IN ('open', 'closing') AND later IS NULL"
    )
    row = db.execute(sql, (account, symbol, side)).fetchone()
    return None if row is None else row["position_id"]


def close_of(db: sqlite3.Connection, key: CloseKey) -> Close | None:
    """How far a close got; None if nobody has begun it."""
    where = "WHERE position_id = :position_id AND generation = :generation"
    row = db.execute(f"SELECT step FROM close {where}", _of(key)).fetchone()
    if row is None:
        return None
    rows = db.execute(f"SELECT * FROM attempt {where} ORDER BY number", _of(key))
    attempts = (
        Attempt(
            number=each["number"],
            client_order_id=each["client_order_id"],
            contracts=Decimal(each["contracts"]),
            expires_at_ms=each["expires_at_ms"],
            filled=_decimal(each["filled"]),
        )
        for each in rows
    )
    return Close(row["step"], tuple(attempts))


def changes_of(db: sqlite3.Connection, key: CloseKey) -> tuple[Change, ...]:
    """The changes of a position, in order."""
    where = "WHERE position_id = :position_id AND generation = :generation"
    rows = db.execute(f"SELECT * FROM change {where} ORDER BY number", _of(key))
    return tuple(
        Change(
            number=row["number"],
            kind=row["kind"],
            contracts=Decimal(row["contracts"]),
            trigger_price=_decimal(row["trigger_price"]),
            client_order_id=row["client_order_id"],
            step=row["step"],
            expires_at_ms=row["expires_at_ms"],
            filled=_decimal(row["filled"]),
            ladder=row["ladder"],
            follows=bool(row["follows"]),
        )
        for row in rows
    )


def events_of(db: sqlite3.Connection, position_id: str | None) -> list[Event]:
    """The audit trail, oldest first; of one position if given."""
    sql = "SELECT at, position_id, generation, token, pid, event, detail FROM audit"
    where = "" if position_id is None else " WHERE position_id = :position_id"
    return [Event(*row) for row in db.execute(f"{sql}{where} ORDER BY number", {"position_id": position_id})]


def _booking(db: sqlite3.Connection, key: CloseKey) -> ClosedPosition:
    where = "WHERE position_id = :position_id AND generation = :generation"
    row = db.execute(f"SELECT * FROM booking {where}", _of(key)).fetchone()
    # As they were booked, which is the venue's order: its times may be whole seconds.
    fills = db.execute(f"SELECT * FROM fill {where} ORDER BY rowid", _of(key))
    return ClosedPosition(
        position_id=row["position_id"],
        exit_price=_decimal(row["exit_price"]),
        gross_pnl=Decimal(row["gross_pnl"]),
        fees=Decimal(row["fees"]),
        funding=Decimal(row["funding"]),
        net_pnl=Decimal(row["net_pnl"]),
        fills=tuple(_fill(each) for each in fills),
        client_order_id=row["client_order_id"],
        token=row["token"],
        closed_at=datetime.fromisoformat(row["closed_at"]),
        ended_by=row["ended_by"],
        left_at_venue=_decimal(row["left_at_venue"]),
        written_off=Decimal(row["written_off"]),
        by_operator=Decimal(row["by_operator"]),
    )


def _fill(row: sqlite3.Row) -> Fill:
    return Fill(
        trade_id=row["trade_id"],
        client_order_id=row["client_order_id"],
        price=Decimal(row["price"]),
        contracts=Decimal(row["contracts"]),
        fee=Decimal(row["fee"]),
        fee_currency=row["fee_currency"],
        at_ms=row["at_ms"],
    )


def _trade(row: sqlite3.Row) -> Trade:
    return Trade(row["effect"], row["order_id"], _fill(row))


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _of(key: CloseKey) -> dict[str, object]:
    return {"position_id": key.position_id, "generation": key.generation}


def check_leg_free(db: sqlite3.Connection, position: Position, account: str) -> None:
    """Raise `PositionConflict` if another position is open or closing there."""
    taken = open_on_leg(db, account, position.symbol, position.side)
    if taken is not None:
        why = f"{taken!r} is open on that side of {position.symbol}; the venue holds both as one"
        raise PositionConflict(position.id, why)


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
