"""The rows of the ledger, text there and Decimal here: read as values, and written in a transaction of the ledger."""

from __future__ import annotations

import os
import sqlite3
import time
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from decimal import Decimal, localcontext
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from poslock.errors import PositionConflict, quoted
from poslock.ledger.journal import Attempt, Change, Close, CloseKey, LegAtTracking, LegHistory
from poslock.pnl import part_of, realized_pnl
from poslock.position import EXACT, ClosedPosition, Fill, Position, Side, TrackedPosition, Trade

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from _typeshed import DataclassInstance

KEY = "position_id = :position_id AND generation = :generation"

_HOUR_MS = 3_600_000
# Columns of the tables are named as the fields of the values. Numbers are text there, and flags are 0 or 1.
_NUMBERS = {
    *("contracts", "entry_price", "contract_size", "entry_fee", "price", "fee", "trigger_price", "filled"),
    *("exit_price", "gross_pnl", "fees", "funding", "net_pnl", "left_at_venue", "written_off", "by_operator"),
}
_FLAGS = {"inverse", "follows"}

_Value = TypeVar("_Value", bound="DataclassInstance")
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
        position = _made(Position, row, id=row["position_id"])
        with localcontext(EXACT):
            shown = _within(sorted(exits, key=itemgetter("number")), position.contracts)
            # What reduces have filled, and the venue has not shown among its trades yet, is gone too.
            unseen = [(_decimal(each["filled"]) or Decimal(0)) - _shown(shown, each) for each in changes]
            gone = sum((fill.contracts for fill in shown), Decimal(0)) + sum(max(Decimal(0), each) for each in unseen)
            gone = min(gone, position.contracts)
        so_far = realized_pnl(position, shown, Decimal(0)).net if shown and closed is None else None
        return _made(TrackedPosition, row, position=position, closed=closed, reduced=gone, realized_pnl=so_far)
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
            found.append(part_of(_made(Fill, row), missing))
            missing -= found[-1].contracts
    return tuple(found)


def _shown(exits: tuple[Fill, ...], change: sqlite3.Row) -> Decimal:
    id_of_it = change["client_order_id"]
    return sum((each.contracts for each in exits if each.client_order_id == id_of_it), Decimal(0))


def leg_of(db: sqlite3.Connection, key: CloseKey) -> LegHistory:
    """What the ledger knows of the leg of a position."""
    row = db.execute(f"SELECT * FROM position WHERE {KEY}", asdict(key)).fetchone()
    rows = db.execute(f"SELECT * FROM trade WHERE {KEY} ORDER BY number", asdict(key)).fetchall()
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
    row = db.execute(f"SELECT step FROM close WHERE {KEY}", asdict(key)).fetchone()
    if row is None:
        return None
    rows = db.execute(f"SELECT * FROM attempt WHERE {KEY} ORDER BY number", asdict(key))
    return Close(row["step"], tuple(_made(Attempt, each) for each in rows))


def changes_of(db: sqlite3.Connection, key: CloseKey) -> tuple[Change, ...]:
    """The changes of a position, in order."""
    rows = db.execute(f"SELECT * FROM change WHERE {KEY} ORDER BY number", asdict(key))
    return tuple(_made(Change, each) for each in rows)


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
    booked = tuple(_made(Fill, each) for each in fills)
    return _made(ClosedPosition, row, fills=booked, closed_at=datetime.fromisoformat(row["closed_at"]))


def _trade(row: sqlite3.Row) -> Trade:
    return _made(Trade, row, fill=_made(Fill, row))


def _made(kind: type[_Value], row: sqlite3.Row, **others: object) -> _Value:
    """A value from the columns that are named as its fields; *others* are those that no column is."""
    named = {each.name: _read_from(row, each.name) for each in fields(kind) if each.name not in others}
    return kind(**named, **others)


def _read_from(row: sqlite3.Row, column: str) -> Any:
    value = row[column]
    if column in _NUMBERS:
        return _decimal(value)
    return bool(value) if column in _FLAGS else value


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def insert(db: sqlite3.Connection, table: str, row: Mapping[str, object], otherwise: str = "") -> None:
    """A new row, whose columns are named as in *row*; *otherwise* says what to do if its key is there."""
    columns, values = ", ".join(row), ", ".join(f":{column}" for column in row)
    db.execute(f"INSERT INTO {table} ({columns}) VALUES ({values}) {otherwise}", written(row))


def written(row: Mapping[str, object]) -> dict[str, object]:
    """*row* as the ledger keeps it: numbers are text."""
    return {column: str(value) if isinstance(value, Decimal) else value for column, value in row.items()}


def check_leg_free(db: sqlite3.Connection, position: Position, account: str) -> None:
    """Raise `PositionConflict` if another position is open or closing there."""
    taken = open_on_leg(db, account, position.symbol, position.side)
    if taken is not None:
        raise PositionConflict.on_leg(position.id, taken, position.symbol)


def insert_position(db: sqlite3.Connection, tracked: TrackedPosition, leg: LegAtTracking, token: int) -> None:
    """An open position, and the trades that its leg contained when it was tracked."""
    position = asdict(tracked.position)
    key = CloseKey(position.pop("id"), tracked.generation)
    insert(
        db,
        "position",
        {
            **asdict(key),
            **position,
            "account": tracked.account,
            "tracked_at_ms": tracked.tracked_at_ms,
            "token": token,
            "held": leg.held,
            "held_price": leg.entry_price,
            "venue_id": leg.position_id,
            "trades_since_ms": leg.trades_since_ms,
            "entry_known": leg.entry_known,
        },
    )
    insert_trades(db, key, leg.baseline, baseline=True)
    of = tracked.position
    more = f"; the venue holds {leg.held}" if leg.held > of.contracts else ""
    audit(db, key, token, "tracked", f"{of.side} {of.contracts} {of.symbol}{more}")


def insert_booking(db: sqlite3.Connection, key: CloseKey, closed: ClosedPosition) -> None:
    """The P&L of a close, and the fills it was made from."""
    row = {**asdict(replace(closed, fills=())), **asdict(key), "closed_at": closed.closed_at.isoformat()}
    del row["fills"]
    insert(db, "booking", row)
    on_leg = "SELECT account, symbol, side FROM position"
    leg = dict(db.execute(f"{on_leg} WHERE {KEY}", asdict(key)).fetchone())
    for fill in closed.fills:
        insert(db, "fill", {**leg, **asdict(key), **asdict(fill)})


def insert_trades(db: sqlite3.Connection, key: CloseKey, trades: Sequence[Trade], *, baseline: bool = False) -> None:
    """Write what is new of *trades*, and the place of each in the venue's order."""
    known = (
        "ON CONFLICT (position_id, generation, trade_id) DO UPDATE SET number = excluded.number,"
        " baseline = max(baseline, excluded.baseline),"
        " client_order_id = ifnull(client_order_id, excluded.client_order_id)"
        " WHERE (number, baseline, client_order_id)"
        " IS NOT (excluded.number, max(baseline, excluded.baseline), excluded.client_order_id)"
    )
    for number, trade in enumerate(trades):
        place = {"number": number, "baseline": baseline, "effect": trade.effect, "order_id": trade.order_id}
        insert(db, "trade", {**asdict(key), **asdict(trade.fill), **place}, known)


def resize(db: sqlite3.Connection, key: CloseKey, position: Position) -> None:
    """Another size of a position, with its price and fee."""
    sql = f"UPDATE position SET contracts = :contracts, entry_price = :entry_price, entry_fee = :entry_fee WHERE {KEY}"
    db.execute(sql, written({**asdict(position), **asdict(key)}))


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
    more = {"at": time.time(), "token": token, "pid": os.getpid(), "event": event, "detail": detail}
    insert(db, "audit", {**asdict(key), **more})
