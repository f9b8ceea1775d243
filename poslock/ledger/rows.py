"""The rows of the ledger, text there and Decimal here: read as values, and written in a transaction of the ledger."""

from __future__ import annotations

import os
import sqlite3
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal, localcontext
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias

from poslock.errors import PositionConflict, quoted
from poslock.ledger.journal import Attempt, Change, Close, CloseKey, LegAtTracking, LegHistory
from poslock.pnl import part_of, realized_pnl
from poslock.position import EXACT, ClosedPosition, Fill, Position, Side, TrackedPosition, Trade

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

KEY = "position_id = :position_id AND generation = :generation"

_HOUR_MS = 3_600_000
_Key: TypeAlias = tuple[str, int]
NOT_OVER = "state IN ('open', 'closing')"
_NEWEST = (
    "generation = (SELECT max(generation) FROM position AS any"
    " WHERE any.position_id = position.position_id AND any.account = position.account)"
)


@dataclass(frozen=True, slots=True)
class Rows:
    """Positions as they were read, by id; *tracked* may take its time, and needs no lock on the ledger."""

    positions: list[sqlite3.Row]
    bookings: dict[_Key, sqlite3.Row]
    fills: dict[_Key, list[sqlite3.Row]]
    changes: dict[_Key, list[sqlite3.Row]]
    exits: dict[_Key, list[sqlite3.Row]]

    def tracked(self) -> list[TrackedPosition]:
        """They as values.

        Raises:
            sqlite3.DatabaseError: a row holds what cannot have been written there.
        """
        keyed = [((row["position_id"], row["generation"]), row) for row in self.positions]
        several = (self.fills, self.changes, self.exits)
        return [_tracked(row, self.bookings.get(key), *(rows.get(key, ()) for rows in several)) for key, row in keyed]


def position_of(
    db: sqlite3.Connection, position_id: str, generation: int | None = None, account: str | None = None
) -> TrackedPosition | None:
    """A generation of a position, the newest one if none is given; on one account if given.

    Raises:
        sqlite3.DatabaseError: a row holds what cannot have been written there.
    """
    of_id = _all_of(position_id=position_id, account=account)
    which = f"(SELECT max(generation) FROM position WHERE {of_id})" if generation is None else ":generation"
    values: dict[str, object] = {"position_id": position_id, "generation": generation, "account": account}
    found = _read(db, f"{of_id} AND generation = {which}", values).tracked()
    return found[0] if found else None


def positions_of(db: sqlite3.Connection, position_id: str | None, account: str | None, *, only_open: bool) -> Rows:
    """The newest generation of each id on each account, or on those given; not over if that is wanted."""
    where = f"{NOT_OVER if only_open else 'TRUE'} AND {_all_of(position_id=position_id, account=account)} AND {_NEWEST}"
    return _read(db, where, {"position_id": position_id, "account": account})


def superseded_of(db: sqlite3.Connection, position_id: str | None, account: str | None) -> list[TrackedPosition]:
    """The oldest generation of each id on each account whose leg a later position has, and which is not booked."""
    # Not grouped by SQLite, which would visit all positions in the order of another index.
    where = f"{NOT_OVER} AND later IS NOT NULL AND {_all_of(position_id=position_id, account=account)}"
    found: dict[tuple[str, str], TrackedPosition] = {}
    for each in _read(db, where, {"position_id": position_id, "account": account}).tracked():
        found.setdefault((each.position.id, each.account), each)
    return list(found.values())


def _all_of(**given: str | None) -> str:
    """The condition that these columns are as given; None is any."""
    return " AND ".join(f"{column} = :{column}" for column, value in given.items() if value is not None) or "TRUE"


def _read(db: sqlite3.Connection, where: str, values: dict[str, object]) -> Rows:
    """Those positions, in as many statements for one as for all."""
    rows = db.execute(f"SELECT * FROM position WHERE {where} ORDER BY position_id, generation", values).fetchall()
    bookings: dict[_Key, sqlite3.Row] = {}
    fills: dict[_Key, list[sqlite3.Row]] = {}
    if any(row["state"] == "closed" for row in rows):
        bookings = {(row["position_id"], row["generation"]): row for row in _rows_of(db, "booking", where, values)}
        # As they were booked, which is the venue's order: its times may be whole seconds.
        fills = _grouped(_rows_of(db, "fill", where, values))
    changes = _grouped(_rows_of(db, "change", where, values))
    exits = _grouped(_rows_of(db, "trade", where, values, "effect = 'exit' AND NOT baseline"))
    return Rows(rows, bookings, fills, changes, exits)


def _rows_of(
    db: sqlite3.Connection, table: str, where: str, values: dict[str, object], only: str = "TRUE"
) -> sqlite3.Cursor:
    """The rows of *table* for those positions; these first, because they may be few where the table is large."""
    chosen = f"(SELECT position_id, generation FROM position WHERE {where})"
    sql = f"SELECT {table}.* FROM {chosen} CROSS JOIN {table} USING (position_id, generation)"
    return db.execute(f"{sql} WHERE {only} ORDER BY {table}.rowid", values)


def _tracked(
    row: sqlite3.Row,
    booking: sqlite3.Row | None,
    fills: Sequence[sqlite3.Row],
    changes: Sequence[sqlite3.Row],
    exits: Sequence[sqlite3.Row],
) -> TrackedPosition:
    try:
        closed = _booking(booking, fills) if row["state"] == "closed" else None
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
        with localcontext(EXACT):
            shown = _within(sorted(exits, key=itemgetter("number")), position.contracts)
            # What reduces have filled, and the venue has not shown among its trades yet, is gone too.
            unseen = [(_decimal(each["filled"]) or Decimal(0)) - _shown(shown, each) for each in changes]
            gone = sum((fill.contracts for fill in shown), Decimal(0)) + sum(max(Decimal(0), each) for each in unseen)
            gone = min(gone, position.contracts)
        so_far = realized_pnl(position, shown, Decimal(0)).net if shown and closed is None else None
        generation, tracked_at_ms = row["generation"], row["tracked_at_ms"]
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
    except (ArithmeticError, LookupError, ValueError, TypeError) as error:
        raise sqlite3.DatabaseError(f"damaged row of position {quoted(row['position_id'])}: {error}") from error


def _grouped(rows: Iterable[sqlite3.Row]) -> dict[_Key, list[sqlite3.Row]]:
    groups: dict[_Key, list[sqlite3.Row]] = {}
    for row in rows:
        groups.setdefault((row["position_id"], row["generation"]), []).append(row)
    return groups


def _within(exits: Iterable[sqlite3.Row], contracts: Decimal) -> tuple[Fill, ...]:
    """The exits of a position that the venue has shown so far, the last one cut at its size."""
    found, missing = [], contracts
    for row in exits:
        if missing > 0:
            found.append(part_of(_fill(row), missing))
            missing -= found[-1].contracts
    return tuple(found)


def _shown(exits: tuple[Fill, ...], change: sqlite3.Row) -> Decimal:
    id_of_it = change["client_order_id"]
    return sum((each.contracts for each in exits if each.client_order_id == id_of_it), Decimal(0))


def leg_of(db: sqlite3.Connection, key: CloseKey) -> LegHistory:
    """What the ledger knows of the leg of a position."""
    where = "WHERE position_id = :position_id AND generation = :generation"
    row = db.execute(f"SELECT * FROM position {where}", _of(key)).fetchone()
    rows = db.execute(f"SELECT * FROM trade {where} ORDER BY number", _of(key)).fetchall()
    inside = tuple(_trade(each) for each in rows if each["baseline"])
    trades = tuple(_trade(each) for each in rows if not each["baseline"])
    tracked = LegAtTracking(
        held=Decimal(row["held"]),
        entry_price=_decimal(row["held_price"]),
        position_id=row["venue_id"],
        trades_since_ms=row["trades_since_ms"],
        baseline=inside,
        entry_known=bool(row["entry_known"]),
    )
    # An hour before the newest trade that the ledger has nothing can come to show any more.
    since_ms = max(tracked.trades_since_ms, max((each.fill.at_ms for each in trades), default=0) - _HOUR_MS)
    baseline = frozenset(each.fill.trade_id for each in inside)
    return LegHistory(tracked, trades, baseline, _decimal(row["later"]), since_ms)


def highest_token(db: sqlite3.Connection, position_id: str) -> int:
    """The highest fencing token that any write on a position of this id carried, 0 if none."""
    sql = "SELECT coalesce(max(token), 0) AS token FROM position WHERE position_id = ?"
    token: int = db.execute(sql, (position_id,)).fetchone()["token"]
    return token


def next_generation(db: sqlite3.Connection, position_id: str) -> int:
    """The number of the next position under this id, counted over all accounts."""
    sql = "SELECT coalesce(max(generation), 0) + 1 AS next FROM position WHERE position_id = ?"
    number: int = db.execute(sql, (position_id,)).fetchone()["next"]
    return number


def open_on_leg(db: sqlite3.Connection, account: str, symbol: str, side: Side) -> str | None:
    """The id of the position that is open or closing on one side of a market."""
    sql = (
        "SELECT position_id FROM position WHERE account = ? AND symbol = ? AND side = ?"
        f" AND {NOT_OVER} AND later IS NULL"
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


def events_of(db: sqlite3.Connection, position_id: str | None, account: str | None) -> list[sqlite3.Row]:
    """The audit trail, oldest first; of one position, and of one account, if given."""
    sql = """
        SELECT at, audit.position_id, generation, audit.token, pid, event, detail, coalesce(account, '')
        FROM audit LEFT JOIN position USING (position_id, generation)
    """
    of_position = "TRUE" if position_id is None else "audit.position_id = :position_id"
    where = f"WHERE {of_position} AND {_all_of(account=account)} ORDER BY number"
    return db.execute(f"{sql}{where}", {"position_id": position_id, "account": account}).fetchall()


def _booking(row: sqlite3.Row | None, fills: Sequence[sqlite3.Row]) -> ClosedPosition:
    if row is None:
        raise LookupError("it is closed, and not booked")
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
