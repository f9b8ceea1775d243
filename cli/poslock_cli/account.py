"""The account and the ledger that a command is about, and what became of the account's positions, as text."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from poslock import PaperExchange
from poslock.errors import (
    ChangeUnsettled,
    CloseUnsettled,
    ExchangeUnavailable,
    LockTimeout,
    OperationRefused,
    PositionAlreadyClosingError,
    PoslockError,
    printable,
    quoted,
)
from poslock.guard.guard import Recovery
from poslock.ledger.ledger import Ledger
from poslock.position import EXACT
from poslock_cli.configuration import configuration_of
from poslock_cli.real_exchange import open_venue

if TYPE_CHECKING:
    from collections.abc import Callable

    from poslock.exchange.port import Exchange
    from poslock.lock.files.directory import LockDirectory
    from poslock.position import ClosedPosition

_LONGEST_AMOUNT = 100
_OF_A_LEDGER = frozenset({"position", "audit"})
_OF_AN_EXCHANGE = frozenset({"account", "legs"})


def _paper(path: str) -> Exchange:
    if not is_made(path, _OF_AN_EXCHANGE):  # PaperExchange would make one
        raise FileNotFoundError(f"there is no paper exchange {quoted(path)}; check the path")
    try:
        return PaperExchange(path)
    except ExchangeUnavailable as error:
        if error.code != "mode":
            raise
        return PaperExchange(path, hedge=True)


_KINDS: dict[str, Callable[[str], Exchange]] = {"paper": _paper}
_KNOWN = ", ".join(f"{kind}:PATH" for kind in _KINDS)


def _opened(context: click.Context, param: click.Parameter, named: str | None) -> Exchange:
    """The account that ``KIND:WHERE`` names, else the configured one."""
    if named is None:
        configuration = configuration_of(context)
        if configuration.venue is not None:
            return open_venue(configuration.path, configuration.venue)
        ways = f"Name the exchange by --exchange or $POSLOCK_EXCHANGE: {_KNOWN}."
        raise click.UsageError(f"{ways} A real one: venue and account in {printable(configuration.path)}.", context)
    kind, _, where = named.partition(":")
    if kind not in _KINDS:
        raise click.BadParameter(f"{quoted(kind)} is no kind of exchange; known: {_KNOWN}.", context, param)
    try:
        return _KINDS[kind](where)
    except FileNotFoundError as error:
        raise click.BadParameter(f"{error}.", context, param) from error


exchange_option = click.option(
    "--exchange",
    metavar="KIND:PATH",
    envvar="POSLOCK_EXCHANGE",
    show_envvar=True,
    callback=_opened,
    help=f"Where the account is: {_KNOWN}; by default the venue in poslock.toml.",
)
ledger_option = click.option(
    "--ledger",
    metavar="PATH",
    help="The ledger; by default the one in poslock.toml, else ledger.db in the lock directory.",
)

account_option = click.option("--account", metavar="NAME", help="Only what is on this account.")


def ledger_at(directory: LockDirectory, path: str | None) -> Ledger:
    """The ledger that ``--ledger`` names, or the one in *directory*; not opened yet."""
    return Ledger(f"{directory.path}/ledger.db" if path is None else str(Path(path).absolute()))


def is_made(path: str, tables: frozenset[str] = _OF_A_LEDGER) -> bool:
    """Whether *path* is a file that a `Ledger` or `PaperExchange` made; either would make one where none is.

    True too where that cannot be told: whoever opens it says why.

    Raises:
        click.ClickException: it is a database with a version, but without these *tables*.
    """
    try:
        os.stat(path)
    except FileNotFoundError:
        # With its journal left there was one, and to say that it has no positions would be good news of a loss.
        return os.path.lexists(f"{path}-journal")
    except OSError:
        return True
    try:
        with closing(sqlite3.connect(f"file:{quote(os.fsencode(path))}?mode=rw", uri=True, timeout=0)) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            found = {table for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error:
        return True
    if version and not tables <= found:
        # Whoever opens it would take its version for one of ours, make tables in it, and change how it is journaled.
        raise click.ClickException(f"{quoted(path)} is a database of another kind; check the path")
    return bool(version)


def amount(number: Decimal) -> str:
    """*number* in full, without an exponent."""
    # A damaged ledger may hold 1E+999999.
    return f"{number:f}" if number.is_zero() or abs(number.adjusted()) < _LONGEST_AMOUNT else str(number)


def moment(seconds: float) -> str:
    """Seconds since the epoch as UTC in ISO form, to the millisecond."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):  # damaged
        return "unknown"


def as_json(value: object) -> str:
    """*value* as JSON, with amounts and moments as text."""
    return json.dumps(value, indent=2, default=_text)


def attempted(position_id: str, attempt: Callable[[], ClosedPosition | None]) -> Recovery:
    """What came of one *attempt* to end a position, errors of ours too."""
    try:
        return Recovery(position_id, attempt(), None)
    except PoslockError as error:
        return Recovery(position_id, None, error)


def as_object(outcome: Recovery, done: str | None = None) -> dict[str, object]:
    """What became of a position, for scripts. *done* is the word for it if nothing went wrong."""
    error = outcome.error
    holder = error.holder if isinstance(error, PositionAlreadyClosingError | LockTimeout) else None
    return {
        "position": outcome.position_id,
        "outcome": done if done and outcome.error is None else _in_a_word(outcome),
        "closed": None if outcome.closed is None else asdict(outcome.closed),
        "holder": None if holder is None else {"pid": holder.pid, "host": holder.host, "purpose": holder.purpose},
        "error": None if error is None else str(error),
    }


def described(closed: ClosedPosition) -> str:
    """A finished close as a line."""
    contracts = closed.by_operator
    for fill in closed.fills:
        contracts = EXACT.add(contracts, fill.contracts)
    parts = f"gross {amount(closed.gross_pnl)}, fees {amount(closed.fees)}, funding {amount(closed.funding)}"
    at = "" if closed.exit_price is None else f" at {amount(closed.exit_price)}"
    line = f"closed {amount(contracts)} contracts{at}, net P&L {amount(closed.net_pnl)} ({parts})"
    return f"{line}; {ending(closed)}"


def ending(closed: ClosedPosition) -> str:
    """By what it ended, what is left at the venue, and what is in no P&L or in it by the operator's word."""
    match closed.left_at_venue:
        case None:
            left = "it is not known whether something is left at the venue"
        case contracts if contracts:
            left = f"{amount(contracts)} contracts are left at the venue"
        case _:
            left = "nothing is left at the venue"
    found = [f"ended by {printable(closed.ended_by)}", left]
    if closed.written_off:
        found.append(f"{amount(closed.written_off)} contracts are written off, in no P&L")
    if closed.by_operator:
        found.append(f"{amount(closed.by_operator)} contracts are booked at the operator's price")
    return ", ".join(found)


def _in_a_word(outcome: Recovery) -> str:
    match outcome.error:
        case None:
            return "changes finished" if outcome.closed is None else "closed"
        case PositionAlreadyClosingError(state=state):
            return f"already {state}"
        case CloseUnsettled() | ChangeUnsettled():
            return "unsettled"
        case LockTimeout():
            return "busy"
        case OperationRefused():
            return "refused"
        case _:
            return "failed"


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return amount(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")
