"""Reading the ledger: its rows as values, its text as Decimal."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from decimal import Decimal, localcontext

from poslock.ledger.journal import Attempt, Change, Close, CloseKey, Event, LegAtTracking, LegHistory
from poslock.pnl import part_of, realized_pnl
from poslock.position import EXACT, ClosedPosition, Fill, Position, Side, TrackedPosition, Trade
from poslock.text import quoted


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
        exits = _exits_of(db, key, position.contracts)
        # What reduces have filled, and the venue has not shown among its trades yet, is gone too.
        gone = sum((fill.contracts for fill in exits), Decimal(0)) + sum(
            max(Decimal(0), (each.filled or Decimal(0)) - _shown(exits, each)) for each in changes_of(db, key)
        )
    so_far = realized_pnl(position, exits, Decimal(0)).net if exits and closed is None else None
    return TrackedPosition(
        position,
        generation,
        row["account"],
        row["state"],
        tracked_at_ms,
        closed,
        min(gone, position.contracts),
        row["unsettled"],
        so_far,
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


def _shown(exits: tuple[Fill, ...], change: Change) -> Decimal:
    return sum((each.contracts for each in exits if each.client_order_id == change.client_order_id), Decimal(0))


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
