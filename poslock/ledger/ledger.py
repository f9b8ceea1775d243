"""`Ledger`: the durable side of a close. Its transactions are where a broken holder stops.

Every write of a close is a compare-and-set: the position must not have seen a newer fencing token than the one the
write carries, and the close must be at the step the writer believes. Both are judged in the transaction that writes,
so whoever was paused, broken and resumed is refused here however late it comes.

Durability: ``journal_mode=TRUNCATE`` and ``synchronous=EXTRA``; with SQLite's defaults a power cut right after COMMIT
can lose the row. An acknowledged write is on the disk.

Not protected: a process that is stopped inside a transition of SQLite's own keeps other writers out until it goes on;
they get a `LedgerError` after a bounded wait.

Errors: `TokenRefused` for an old token; `LedgerError` when the file cannot be used or the close is at another step.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from decimal import Decimal
from importlib import resources
from typing import TYPE_CHECKING

from poslock.database import Database
from poslock.errors import LedgerError, PositionConflict, TokenRefused
from poslock.ledger.journal import Attempt, Change, Close, CloseKey, Event, Step
from poslock.ledger.rows import changes_of, close_of, events_of, highest_token, latest_position, open_on_leg
from poslock.position import ClosedPosition, Fill, Position, Side, TrackedPosition

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

_KEY = "position_id = :position_id AND generation = :generation"
_UNFINISHED = "step IN ('intent', 'sending')"


class Ledger:
    """The ledger in the SQLite file *path*. Safe to share between processes and threads."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._database = Database(
            path,
            schema=resources.files("poslock.ledger").joinpath("schema.sql").read_text("utf-8"),
            version=2,
            synchronous="EXTRA",
            failure=lambda why, way_out: LedgerError(path, why, way_out),
        )

    def track(self, position: Position, account: str, tracked_at_ms: int) -> TrackedPosition:
        """Enter an open position; tracking the same one again changes nothing.

        Raises:
            PositionConflict: the id is closing, or the id or the leg is taken by another open position.
        """
        with self._database.transaction() as db:
            known = latest_position(db, position.id)
            if known is not None and known.state != "closed":
                if (known.position, known.account, known.state) == (position, account, "open"):
                    return known
                raise PositionConflict(position.id, f"it is {known.state} on {known.account} as {known.position}")
            _check_leg_free(db, position, account)
            tracked = TrackedPosition(
                position, known.generation + 1 if known else 1, account, "open", tracked_at_ms, None
            )
            _insert_position(db, tracked, highest_token(db, position.id))
            return tracked

    def find(self, position_id: str) -> TrackedPosition | None:
        """The newest generation of a position."""
        with self._database.snapshot() as db:
            return latest_position(db, position_id)

    def positions(self, account: str | None = None) -> list[TrackedPosition]:
        """The newest generation of every position, by id; of those on one account if given."""
        where = "" if account is None else " WHERE account = :account"
        sql = f"SELECT DISTINCT position_id FROM position{where} ORDER BY position_id"
        with self._database.snapshot() as db:
            rows = db.execute(sql, {"account": account}).fetchall()
            found = [latest_position(db, row["position_id"]) for row in rows]
        return [each for each in found if each is not None and account in {None, each.account}]

    def on_leg(self, account: str, symbol: str, side: Side) -> TrackedPosition | None:
        """The position that is open or closing on one side of a market."""
        with self._database.snapshot() as db:
            position_id = open_on_leg(db, account, symbol, side)
            return None if position_id is None else latest_position(db, position_id)

    def history(self, position_id: str | None = None) -> list[Event]:
        """The audit trail, oldest first; of one position if given."""
        with self._database.snapshot() as db:
            return events_of(db, position_id)

    def unfinished(self, account: str) -> list[str]:
        """Ids of the positions on *account* with a close that was begun and not booked, or a change not ended."""
        sql = """
            SELECT position_id FROM position WHERE account = :account AND (state = 'closing' OR state = 'open' AND
                EXISTS (SELECT * FROM change WHERE change.position_id = position.position_id
                 AND change.generation = position.generation AND step IN ('intent', 'sending')))
            ORDER BY position_id
        """
        with self._database.snapshot() as db:
            return [row["position_id"] for row in db.execute(sql, {"account": account})]

    def highest_token(self, position_id: str) -> int:
        """The highest fencing token seen for a position, 0 if none."""
        with self._database.snapshot() as db:
            return highest_token(db, position_id)

    def booked_trades(self, account: str, symbol: str, since_ms: int) -> frozenset[str]:
        """Trade ids that a close has booked already."""
        sql = "SELECT trade_id FROM fill WHERE account = ? AND symbol = ? AND at_ms >= ?"
        with self._database.snapshot() as db:
            return frozenset(row["trade_id"] for row in db.execute(sql, (account, symbol, since_ms)))

    # The journal of a close, in the order of its steps.

    def close(self, key: CloseKey) -> Close | None:
        """How far the close got; None if nobody has begun it."""
        with self._database.snapshot() as db:
            return close_of(db, key)

    def begin(self, key: CloseKey, token: int, reason: str) -> None:
        """open → intent: from here on the position is closing."""
        with self._database.transaction() as db:
            self._fence(db, key, token)
            sql = f"UPDATE position SET state = 'closing' WHERE {_KEY} AND state = 'open'"
            if db.execute(sql, asdict(key)).rowcount != 1:
                raise self._unexpected(key, "open")
            sql = "INSERT INTO close VALUES (:position_id, :generation, 'intent', :reason)"
            db.execute(sql, {**asdict(key), "reason": reason})
            _audit(db, key, token, "intent", reason)

    def sending(self, key: CloseKey, token: int, attempt: Attempt, filled_before: Decimal | None) -> None:
        """intent or sending → sending: durable before the request leaves; the same attempt again updates it.

        *filled_before* is what the previous attempt had filled when it ended, None for the first one.
        """
        with self._database.transaction() as db:
            self._advance(db, key, token, "sending", after=("intent", "sending"))
            if filled_before is not None:
                sql = f"UPDATE attempt SET filled = :filled WHERE {_KEY} AND number = :number"
                db.execute(sql, {**asdict(key), "filled": str(filled_before), "number": attempt.number - 1})
            db.execute(
                "INSERT INTO attempt VALUES (:position_id, :generation, :number, :client_order_id, :contracts,"
                " :expires_at_ms, :filled) ON CONFLICT (position_id, generation, number)"
                " DO UPDATE SET contracts = excluded.contracts, expires_at_ms = excluded.expires_at_ms",
                {**asdict(key), **asdict(attempt), "contracts": str(attempt.contracts), "filled": None},
            )
            _audit(db, key, token, "sending", f"{attempt.client_order_id} {attempt.contracts}")

    def filled(self, key: CloseKey, token: int) -> None:
        """intent or sending → filled: nothing of the position is left at the venue."""
        with self._database.transaction() as db:
            self._advance(db, key, token, "filled", after=("intent", "sending"))
            _audit(db, key, token, "filled", "")

    def book(self, key: CloseKey, token: int, closed: ClosedPosition) -> None:
        """filled → booked: the P&L and the fills it was made from, once and for all. No order is left at the venue."""
        with self._database.transaction() as db:
            self._advance(db, key, token, "booked", after=("filled",))
            db.execute(f"UPDATE position SET state = 'closed' WHERE {_KEY}", asdict(key))
            db.execute(f"UPDATE change SET step = 'dropped' WHERE {_KEY} AND {_UNFINISHED}", asdict(key))
            _insert_booking(db, key, closed)
            for fill in closed.fills:
                _insert_fill(db, key, fill)
            _audit(db, key, token, "booked", f"net {closed.net_pnl}")

    # The journal of changes of an open position.

    def changes(self, key: CloseKey) -> tuple[Change, ...]:
        """All changes of a position, in order."""
        with self._database.snapshot() as db:
            return changes_of(db, key)

    def change(self, key: CloseKey, token: int, changes: Sequence[Change]) -> None:
        """Enter changes that are about to be made, all or none."""
        with self._database.transaction() as db:
            self._fence(db, key, token)
            self._expect_open(db, key)
            for each in changes:
                row = {**asdict(each), "contracts": str(each.contracts), "trigger_price": _text(each.trigger_price)}
                db.execute(
                    "INSERT INTO change VALUES (:position_id, :generation, :number, :kind, :contracts, :trigger_price,"
                    " :client_order_id, :step, :expires_at_ms, :filled)",
                    {**asdict(key), **row},
                )
                _audit(db, key, token, "change", _described(each))

    def sending_change(self, key: CloseKey, token: int, change: Change) -> None:
        """intent or sending → sending: durable before the request leaves."""
        with self._database.transaction() as db:
            self._fence(db, key, token)
            self._expect_open(db, key)
            self._update_change(db, key, change)
            _audit(db, key, token, "sending", f"{change.client_order_id} {_described(change)}")

    def end_change(self, key: CloseKey, token: int, change: Change) -> None:
        """intent or sending → done or refused."""
        with self._database.transaction() as db:
            self._fence(db, key, token)
            self._update_change(db, key, change)
            _audit(db, key, token, change.step, _described(change))

    def held_price(self, key: CloseKey) -> Decimal | None:
        """The venue's average entry price when the position was last resized, None if it never was."""
        with self._database.snapshot() as db:
            row = db.execute(f"SELECT entry_price FROM growth WHERE {_KEY}", asdict(key)).fetchone()
            return None if row is None else Decimal(row["entry_price"])

    def resize(self, key: CloseKey, token: int, position: Position, held_price: Decimal) -> None:
        """Another size and entry price of an open position, after an entry that was not tracked.

        *held_price* is the venue's average of what it holds now.
        """
        with self._database.transaction() as db:
            self._fence(db, key, token)
            self._expect_open(db, key)
            sql = f"UPDATE position SET contracts = :contracts, entry_price = :price, entry_fee = :fee WHERE {_KEY}"
            amounts = {
                "contracts": str(position.contracts),
                "price": str(position.entry_price),
                "fee": str(position.entry_fee),
            }
            db.execute(sql, {**asdict(key), **amounts})
            sql = "INSERT OR REPLACE INTO growth VALUES (:position_id, :generation, :held)"
            db.execute(sql, {**asdict(key), "held": str(held_price)})
            _audit(db, key, token, "adopted", f"{position.contracts} from {position.entry_price}")

    def took_over(self, key: CloseKey, token: int, broken: str) -> None:
        """Write down whose lock was broken."""
        with self._database.transaction() as db:
            self._fence(db, key, token)
            _audit(db, key, token, "took over", f"from {broken}")

    def _update_change(self, db: sqlite3.Connection, key: CloseKey, change: Change) -> None:
        sql = (
            "UPDATE change SET step = :step, contracts = :contracts, expires_at_ms = :expires_at_ms, filled = :filled"
            f" WHERE {_KEY} AND number = :number AND {_UNFINISHED}"
        )
        row = {**asdict(change), "contracts": str(change.contracts), "filled": _text(change.filled)}
        if db.execute(sql, {**asdict(key), **row}).rowcount != 1:
            raise self._unexpected(key, f"change {change.number} unfinished")

    def _expect_open(self, db: sqlite3.Connection, key: CloseKey) -> None:
        row = db.execute(f"SELECT state FROM position WHERE {_KEY}", asdict(key)).fetchone()
        if row is None or row["state"] != "open":
            raise self._unexpected(key, "open")

    def _advance(
        self, db: sqlite3.Connection, key: CloseKey, token: int, step: Step, *, after: tuple[Step, ...]
    ) -> None:
        self._fence(db, key, token)
        now = close_of(db, key)
        if now is None or now.step not in after:
            raise self._unexpected(key, " or ".join(after))
        db.execute(f"UPDATE close SET step = :step WHERE {_KEY}", {**asdict(key), "step": step})

    def _fence(self, db: sqlite3.Connection, key: CloseKey, token: int) -> None:
        # A was paused with its token, B took over and wrote with a higher one, A resumes and writes: refused here,
        # whatever A believes. (test_a_stopped_closer_writes_nothing_after_it_resumes)
        sql = f"UPDATE position SET token = :token WHERE {_KEY} AND token <= :token"
        if db.execute(sql, {**asdict(key), "token": token}).rowcount != 1:
            raise TokenRefused(key.position_id, self.path, token, highest_token(db, key.position_id))

    def _unexpected(self, key: CloseKey, expected: str) -> LedgerError:
        why = f"close of {key.position_id!r}, generation {key.generation}, is not at step {expected}"
        return LedgerError(self.path, why, "somebody else wrote to it; look at the position and call again")


def _check_leg_free(db: sqlite3.Connection, position: Position, account: str) -> None:
    taken = open_on_leg(db, account, position.symbol, position.side)
    if taken is not None:
        why = f"{taken!r} is open on that side of {position.symbol}; the venue holds both as one"
        raise PositionConflict(position.id, why)


def _insert_position(db: sqlite3.Connection, tracked: TrackedPosition, token: int) -> None:
    position = tracked.position
    db.execute(
        "INSERT INTO position VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open', ?)",
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
        ),
    )
    key = CloseKey(position.id, tracked.generation)
    _audit(db, key, token, "tracked", f"{position.side} {position.contracts} {position.symbol}")


def _insert_booking(db: sqlite3.Connection, key: CloseKey, closed: ClosedPosition) -> None:
    db.execute(
        "INSERT INTO booking VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            key.position_id,
            key.generation,
            str(closed.exit_price),
            str(closed.gross_pnl),
            str(closed.fees),
            str(closed.funding),
            str(closed.net_pnl),
            closed.client_order_id,
            closed.token,
            closed.closed_at.isoformat(),
        ),
    )


def _insert_fill(db: sqlite3.Connection, key: CloseKey, fill: Fill) -> None:
    db.execute(
        "INSERT INTO fill SELECT account, symbol, ?, position_id, generation, ?, ?, ?, ?, ?, ?"
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


def _text(number: Decimal | None) -> str | None:
    return None if number is None else str(number)


def _described(change: Change) -> str:
    if change.kind == "reduce":
        return f"reduce by {change.contracts if change.filled is None else change.filled}"
    return f"{change.kind} {'removed' if change.trigger_price is None else f'at {change.trigger_price}'}"


def _audit(db: sqlite3.Connection, key: CloseKey, token: int, event: str, detail: str) -> None:
    db.execute(
        "INSERT INTO audit (at, position_id, generation, token, pid, event, detail) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (time.time(), key.position_id, key.generation, token, os.getpid(), event, detail),
    )
