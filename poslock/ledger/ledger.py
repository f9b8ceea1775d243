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

from dataclasses import asdict
from decimal import Decimal
from importlib import resources
from typing import TYPE_CHECKING

from poslock.database import Database
from poslock.errors import LedgerError, PositionConflict, PoslockError, TokenRefused
from poslock.ledger.journal import Change, CloseKey, Dispatch, Event, LegAtTracking, Standing, Step
from poslock.ledger.rows import KEY as _KEY
from poslock.ledger.rows import (
    NOT_OVER,
    audit,
    changes_of,
    check_leg_free,
    close_of,
    described,
    events_of,
    highest_token,
    insert,
    insert_booking,
    insert_position,
    insert_trades,
    leg_of,
    next_generation,
    open_on_leg,
    position_of,
    positions_of,
    resize,
    summary,
    superseded_of,
    written,
)
from poslock.position import ClosedPosition, Position, Side, TrackedPosition, Trade

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence
    from typing import Self

# By these columns a ledger is known again; the others are for people.
_NEWEST_EVENT = """
    SELECT number, position_id, generation, token, pid FROM audit
    WHERE number = ifnull(:key, (SELECT max(number) FROM audit))
"""
_ATTEMPT = "(position_id, generation, number)"
_UNFINISHED = "step IN ('intent', 'sending')"


class Moved(LedgerError):
    """Somebody has written about the position since it was read: read it and look at the venue again, then decide."""


class Ledger:
    """The ledger in the SQLite file *path*. Safe to share between processes and threads."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._database = Database(
            path,
            schema=_script("schema", "indexes"),
            upgrades={
                **dict.fromkeys((1, 2), _script("aside", "schema", "carried", "indexes")),
                **dict.fromkeys((3, 4), _script("indexes")),
            },
            version=5,
            synchronous="EXTRA",
            failure=lambda why, way_out: LedgerError(path, why, way_out),
            mark=_NEWEST_EVENT,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_file()

    def close_file(self) -> None:
        """Close its connections, those of all threads, each when its transaction has ended.

        The ledger is opened again by the next call.
        """
        self._database.close()

    def track(
        self,
        position: Position,
        account: str,
        tracked_at_ms: int,
        leg: LegAtTracking,
        after: tuple[CloseKey, int] | None = None,
    ) -> TrackedPosition:
        """Enter an open position; tracking the same one again changes nothing.

        *after* is the position on the leg whose close cannot end, if there is one, and the token of its lock, which the
        caller holds: nothing is sent for it any more.

        Raises:
            PositionConflict: the id is closing, or the id or the leg is taken by another open position.
        """
        with self._database.transaction() as db:
            known = position_of(db, position.id, account=account)
            is_taken = known is not None and known.state in {"open", "closing"} and not _is_superseded(db, known)
            if known is not None and is_taken and (after is None or _key_of(known) != after[0]):
                if (known.position, known.state) == (position, "open"):
                    return known
                raise PositionConflict(position.id, f"it is {known.state} as {known.position}")
            if after is not None:
                self._supersede(db, *after, leg.held)
            check_leg_free(db, position, account)
            generation = next_generation(db, position.id)
            tracked = TrackedPosition(position, generation, account, "open", tracked_at_ms, None)
            insert_position(db, tracked, leg, highest_token(db, position.id))
            return tracked

    def find(
        self, position_id: str, generation: int | None = None, account: str | None = None
    ) -> TrackedPosition | None:
        """A generation of a position, the newest one if none is given; None if it is not on that account, if given."""
        with self._database.snapshot() as db:
            return position_of(db, position_id, generation, account)

    def is_shared(self, position_id: str, account: str) -> bool:
        """Whether another account has a position of this id, or ever had."""
        sql = "SELECT 1 FROM position WHERE position_id = :id AND account {} :account"
        with self._database.snapshot() as db:
            asked = (db.execute(sql.format(each), {"id": position_id, "account": account}) for each in "<>")
            return any(found.fetchone() for found in asked)

    def positions(self, account: str | None = None, position_id: str | None = None) -> list[TrackedPosition]:
        """The newest generation of each id on each account, by id; of those on one account, or of one id, if given."""
        return self._positions(account, position_id, only_open=False)

    def alive(self, account: str | None = None) -> list[TrackedPosition]:
        """Those that are open or closing, without a look at all the others."""
        return self._positions(account, None, only_open=True)

    def on_leg(self, account: str, symbol: str, side: Side) -> TrackedPosition | None:
        """The position that is open or closing on one side of a market."""
        with self._database.snapshot() as db:
            position_id = open_on_leg(db, account, symbol, side)
            return None if position_id is None else position_of(db, position_id)

    def history(self, position_id: str | None = None, account: str | None = None) -> list[Event]:
        """The audit trail, oldest first; of one position, and of one account, if given."""
        with self._database.snapshot() as db:
            rows = events_of(db, position_id, account)
        return [Event(*row) for row in rows]

    def unfinished(self, account: str) -> list[CloseKey]:
        """Positions on *account* with a close that was begun and not booked, or a change not ended; by id."""
        sql = f"""
            SELECT position_id, generation FROM position WHERE {NOT_OVER} AND account = :account AND (state = 'closing'
                OR EXISTS (SELECT * FROM change WHERE change.position_id = position.position_id
                 AND change.generation = position.generation AND {_UNFINISHED}))
            ORDER BY position_id, generation
        """
        with self._database.snapshot() as db:
            return [CloseKey(*row) for row in db.execute(sql, {"account": account})]

    def superseded(self, position_id: str | None = None, account: str | None = None) -> list[TrackedPosition]:
        """The oldest generation of each id on each account whose leg a later position has, and which is not booked.

        By id; of one id, and of one account, if given.
        """
        with self._database.snapshot() as db:
            return superseded_of(db, position_id, account)

    def standing(self, key: CloseKey) -> Standing:
        """All that is known of one position."""
        with self._database.snapshot() as db:
            tracked = position_of(db, key.position_id, key.generation)
            if tracked is None:
                raise self._unexpected(key, "known here")
            return Standing(tracked, leg_of(db, key), changes_of(db, key), close_of(db, key), _version(db, key))

    def highest_token(self, position_id: str) -> int:
        """The highest fencing token seen for an id, on all accounts, which share its lock; 0 if none."""
        with self._database.snapshot() as db:
            return highest_token(db, position_id)

    def booked_elsewhere(self, key: CloseKey, trade_ids: Iterable[str]) -> frozenset[str]:
        """Those of *trade_ids*, on the leg of *key*, that another position has booked."""
        sql = """
            SELECT trade_id FROM fill JOIN position AS own USING (account, symbol, side)
            WHERE own.position_id = :position_id AND own.generation = :generation AND trade_id = :trade_id
             AND (fill.position_id, fill.generation) <> (:position_id, :generation)
        """
        with self._database.snapshot() as db:
            asked = [{**asdict(key), "trade_id": each} for each in trade_ids]
            return frozenset(each["trade_id"] for each in asked if db.execute(sql, each).fetchone())

    def booked_on(self, account: str, symbol: str, side: Side, trade_ids: Iterable[str]) -> frozenset[str]:
        """Those of *trade_ids*, on one side of a market, that a position has booked."""
        sql = "SELECT 1 FROM fill WHERE account = ? AND symbol = ? AND side = ? AND trade_id = ?"
        with self._database.snapshot() as db:
            return frozenset(each for each in trade_ids if db.execute(sql, (account, symbol, side, each)).fetchone())

    def booked_last(self, account: str, symbol: str, side: Side, since_ms: int) -> str | None:
        """The id of the last trade booked on one side of a market, if the venue's time of it is *since_ms* or later."""
        sql = "SELECT trade_id FROM fill WHERE account = ? AND symbol = ? AND side = ? AND at_ms >= ?"
        with self._database.snapshot() as db:
            found = db.execute(f"{sql} ORDER BY at_ms DESC LIMIT 1", (account, symbol, side, since_ms)).fetchone()
            return None if found is None else str(found["trade_id"])

    def sent(self, client_order_id: str) -> bool:
        """Whether an order with this id was journaled here."""
        sql = "SELECT 1 FROM attempt WHERE client_order_id = :id UNION SELECT 1 FROM change WHERE client_order_id = :id"
        with self._database.snapshot() as db:
            return db.execute(sql, {"id": client_order_id}).fetchone() is not None

    # The journal of a close, in the order of its steps.

    def begin(self, key: CloseKey, token: int, reason: str, version: int) -> int:
        """open → intent: from here on the position is closing. *version* and what is returned are as in `sending`.

        Raises:
            Moved: as `sending`.
        """
        with self._database.transaction() as db:
            self._fence(db, key, token)
            if _version(db, key) != version:
                raise self._moved(key)
            if not self._begin(db, key, token, reason):
                raise self._unexpected(key, "open")
            return _version(db, key)

    def sending(self, key: CloseKey, token: int, dispatch: Dispatch) -> int:
        """open, intent or sending → sending: durable before the request leaves; the same attempt again updates it.

        The version of what is known of the position now.

        Raises:
            Moved: somebody has written about the position since *dispatch* was decided.
        """
        [version] = self.sending_all([(key, token, dispatch)])
        if isinstance(version, PoslockError):
            raise version
        return version

    def sending_all(self, dispatches: Sequence[tuple[CloseKey, int, Dispatch]]) -> list[int | PoslockError]:
        """As `sending`, for several positions in one commit; for one that must not be sent, the error that says so."""
        with self._database.transaction() as db:
            return [self._send(db, *each) for each in dispatches]

    def unsettled(self, key: CloseKey, token: int, why: str, trades: Sequence[Trade]) -> None:
        """The close cannot end for now, and why; what the leg has shown so far."""
        with self._database.transaction() as db:
            self._fence(db, key, token)
            insert_trades(db, key, trades)
            sql = f"UPDATE position SET unsettled = :why WHERE {_KEY} AND unsettled <> :why"
            if db.execute(sql, {**asdict(key), "why": why}).rowcount:
                audit(db, key, token, "unsettled", why)

    def filled(
        self, key: CloseKey, token: int, reason: str, trades: Sequence[Trade] = (), late: Sequence[Trade] = ()
    ) -> None:
        """open, intent or sending → filled: the trades that the leg has shown prove that the position is over.

        *late* showed after the tracking, and the holding of then contained them: they join the baseline.
        """
        with self._database.transaction() as db:
            self._fence(db, key, token)
            self._begin(db, key, token, reason)
            self._advance(db, key, "filled", after=("intent", "sending"))
            insert_trades(db, key, trades)
            insert_trades(db, key, late, baseline=True)
            late_ids = " ".join(each.fill.trade_id for each in late)
            audit(db, key, token, "filled", f"late entry {late_ids}" if late else "")

    def book(self, key: CloseKey, token: int, closed: ClosedPosition) -> None:
        """filled → booked: the P&L and the fills it was made from, once and for all."""
        with self._database.transaction() as db:
            self._fence(db, key, token)
            self._advance(db, key, "booked", after=("filled",))
            self._book(db, key, token, closed)

    def settle(self, key: CloseKey, token: int, closed: ClosedPosition, reason: str) -> None:
        """open or closing → booked, by the operator's word: what the trades prove, and what is written off."""
        with self._database.transaction() as db:
            self._fence(db, key, token)
            sql = f"UPDATE position SET state = 'closing' WHERE {_KEY} AND state IN ('open', 'closing')"
            if db.execute(sql, asdict(key)).rowcount != 1:
                raise self._unexpected(key, "open or closing")
            sql = "INSERT INTO close VALUES (:position_id, :generation, 'booked', :reason) ON CONFLICT DO UPDATE"
            db.execute(f"{sql} SET step = 'booked'", {**asdict(key), "reason": reason})
            audit(db, key, token, "settled", reason)
            self._book(db, key, token, closed)

    def forget(self, key: CloseKey, token: int, reason: str) -> None:
        """open → forgotten: it was tracked by mistake. Row, token and history stay.

        Raises:
            LedgerError: something was sent for it, or it is not open.
        """
        with self._database.transaction() as db:
            self._fence(db, key, token)
            self._expect_open(db, key)
            # Dropped with its request out: the position had ended by then, and the order goes with it.
            sent = "step IN ('sending', 'done') OR step = 'dropped' AND expires_at_ms > 0"
            sql = f"SELECT 1 FROM change WHERE {_KEY} AND client_order_id IS NOT NULL AND ({sent})"
            if db.execute(sql, asdict(key)).fetchone():
                raise self._unexpected(key, "nothing sent")
            db.execute(f"UPDATE position SET state = 'forgotten' WHERE {_KEY}", asdict(key))
            db.execute(f"UPDATE change SET step = 'dropped' WHERE {_KEY} AND {_UNFINISHED}", asdict(key))
            audit(db, key, token, "forgotten", reason)

    def seen(self, key: CloseKey, token: int, trades: Sequence[Trade]) -> None:
        """What the leg of a position has shown so far; the history says what is gone, and the net P&L of that."""
        with self._database.transaction() as db:
            self._fence(db, key, token)
            insert_trades(db, key, trades)
            now = position_of(db, key.position_id, key.generation)
            if now is None:  # the fence has seen it
                raise self._unexpected(key, "tracked")
            net = "" if now.realized_pnl is None else f", net {now.realized_pnl} so far"
            audit(db, key, token, "seen", f"{now.reduced} of {now.position.contracts} gone{net}")

    def note(self, key: CloseKey, token: int, event: str, detail: str) -> None:
        """A line of the audit trail alone."""
        with self._database.transaction() as db:
            self._fence(db, key, token)
            audit(db, key, token, event, detail)

    # The journal of changes of an open position.

    def change(self, key: CloseKey, token: int, changes: Sequence[Change]) -> None:
        """Enter changes that are about to be made, all or none."""
        with self._database.transaction() as db:
            self._fence(db, key, token)
            self._expect_open(db, key)
            for each in changes:
                insert(db, "change", {**asdict(key), **asdict(each)})
                audit(db, key, token, "change", described(each))

    def sending_change(self, key: CloseKey, token: int, change: Change) -> None:
        """intent or sending → sending: durable before the request leaves."""
        with self._database.transaction() as db:
            self._fence(db, key, token)
            self._expect_open(db, key)
            self._update_change(db, key, change)
            audit(db, key, token, "sending", f"{change.client_order_id} {described(change)}")

    def end_change(self, key: CloseKey, token: int, *changes: Change) -> None:
        """intent or sending → done, refused or dropped: of several, all or none."""
        with self._database.transaction() as db:
            self._fence(db, key, token)
            for each in changes:
                self._update_change(db, key, each)
                audit(db, key, token, each.step, described(each))

    def held_price(self, key: CloseKey) -> Decimal | None:
        """What all that its leg ever held had cost on average when it was last resized, None if it never was."""
        with self._database.snapshot() as db:
            row = db.execute(f"SELECT entry_price FROM growth WHERE {_KEY}", asdict(key)).fetchone()
            return None if row is None else Decimal(row["entry_price"])

    def resize(
        self, key: CloseKey, token: int, position: Position, held_price: Decimal, trades: Sequence[Trade] = ()
    ) -> None:
        """Another size and entry price of an open position, after an entry that was not tracked.

        *held_price* is what all that the leg ever held has cost on average, *trades* what the leg has shown so far.
        """
        with self._database.transaction() as db:
            self._fence(db, key, token)
            self._expect_open(db, key)
            resize(db, key, position)
            insert_trades(db, key, trades)
            sql = "INSERT OR REPLACE INTO growth VALUES (:position_id, :generation, :held)"
            db.execute(sql, {**asdict(key), "held": str(held_price)})
            audit(db, key, token, "adopted", f"{position.contracts} from {position.entry_price}")

    def _positions(self, account: str | None, position_id: str | None, *, only_open: bool) -> list[TrackedPosition]:
        with self._database.errors():
            with self._database.snapshot() as db:
                rows = positions_of(db, position_id, account, only_open=only_open)
            # A writer waits for all who read, so it does not wait for this.
            return rows.tracked()

    def _book(self, db: sqlite3.Connection, key: CloseKey, token: int, closed: ClosedPosition) -> None:
        db.execute(f"UPDATE position SET state = 'closed', unsettled = '' WHERE {_KEY}", asdict(key))
        db.execute(f"UPDATE change SET step = 'dropped' WHERE {_KEY} AND {_UNFINISHED}", asdict(key))
        insert_booking(db, key, closed)
        audit(db, key, token, "booked", summary(closed))

    def _begin(self, db: sqlite3.Connection, key: CloseKey, token: int, reason: str) -> bool:
        """Whether the position was open; it is closing now."""
        sql = f"UPDATE position SET state = 'closing' WHERE {_KEY} AND state = 'open'"
        if db.execute(sql, asdict(key)).rowcount != 1:
            return False
        sql = "INSERT INTO close VALUES (:position_id, :generation, 'intent', :reason)"
        db.execute(sql, {**asdict(key), "reason": reason})
        audit(db, key, token, "intent", reason)
        return True

    def _send(self, db: sqlite3.Connection, key: CloseKey, token: int, dispatch: Dispatch) -> int | PoslockError:
        try:
            self._fence(db, key, token)
        except TokenRefused as refused:
            return refused
        # The last owner was stopped in mid-write and lost the lock; its size, its change or its attempt has landed
        # since the journal was read, and before this token was seen. (test_a_late_growth_of_the_position_is_closed_too)
        if _version(db, key) != dispatch.version:
            return self._moved(key)
        self._begin(db, key, token, dispatch.reason)
        self._advance(db, key, "sending", after=("intent", "sending"))
        attempt = dispatch.attempt
        if dispatch.filled_before is not None:
            sql = f"UPDATE attempt SET filled = :filled WHERE {_KEY} AND number = :number"
            values = {"filled": str(dispatch.filled_before), "number": attempt.number - 1}
            db.execute(sql, {**asdict(key), **values})
        again = "SET contracts = excluded.contracts, expires_at_ms = excluded.expires_at_ms"
        insert(db, "attempt", {**asdict(key), **asdict(attempt)}, f"ON CONFLICT {_ATTEMPT} DO UPDATE {again}")
        insert_trades(db, key, dispatch.trades)
        if dispatch.grown is not None:
            resize(db, key, dispatch.grown)
            audit(db, key, token, "adopted", f"{dispatch.grown.contracts} from {dispatch.grown.entry_price}")
        audit(db, key, token, "sending", f"{attempt.client_order_id} {attempt.contracts}")
        return _version(db, key)

    def _supersede(self, db: sqlite3.Connection, key: CloseKey, token: int, held: Decimal) -> None:
        self._fence(db, key, token)
        sql = f"UPDATE position SET later = :held WHERE {_KEY} AND state = 'closing' AND later IS NULL"
        if db.execute(sql, {**asdict(key), "held": str(held)}).rowcount != 1:
            raise self._unexpected(key, "closing")
        audit(db, key, token, "later position", f"tracked on its leg, with {held} held; nothing is sent for this one")

    def _update_change(self, db: sqlite3.Connection, key: CloseKey, change: Change) -> None:
        sql = (
            "UPDATE change SET step = :step, contracts = :contracts, expires_at_ms = :expires_at_ms, filled = :filled"
            f" WHERE {_KEY} AND number = :number AND {_UNFINISHED}"
        )
        if db.execute(sql, written({**asdict(key), **asdict(change)})).rowcount != 1:
            raise self._unexpected(key, f"change {change.number} unfinished")

    def _expect_open(self, db: sqlite3.Connection, key: CloseKey) -> None:
        row = db.execute(f"SELECT state FROM position WHERE {_KEY}", asdict(key)).fetchone()
        if row is None or row["state"] != "open":
            raise self._unexpected(key, "open")

    def _advance(self, db: sqlite3.Connection, key: CloseKey, step: Step, *, after: tuple[Step, ...]) -> None:
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

    def _moved(self, key: CloseKey) -> Moved:
        return Moved(self.path, f"{key.position_id!r} is another one than was read", "look at it again")

    def _unexpected(self, key: CloseKey, expected: str) -> LedgerError:
        why = f"close of {key.position_id!r}, generation {key.generation}, is not at step {expected}"
        return LedgerError(self.path, why, "somebody else wrote to it; look at the position and call again")


def _version(db: sqlite3.Connection, key: CloseKey) -> int:
    """Another one after every write about a position of this id: each has its line in the audit trail."""
    sql = "SELECT max(number) AS newest FROM audit WHERE position_id = ?"
    newest: int | None = db.execute(sql, (key.position_id,)).fetchone()["newest"]
    return newest or 0


def _is_superseded(db: sqlite3.Connection, tracked: TrackedPosition) -> bool:
    sql = f"SELECT 1 FROM position WHERE {_KEY} AND later IS NOT NULL"
    return db.execute(sql, asdict(_key_of(tracked))).fetchone() is not None


def _key_of(tracked: TrackedPosition) -> CloseKey:
    return CloseKey(tracked.position.id, tracked.generation)


def _script(*names: str) -> str:
    folder = resources.files("poslock.ledger")
    return "".join(folder.joinpath(f"{name}.sql").read_text("utf-8") for name in names)
