"""``poslock settle`` and ``poslock forget``: positions that end by the operator's word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from poslock import PositionGuard
from poslock.errors import PositionNotFound, printable
from poslock_cli.account import (
    amount,
    as_json,
    as_object,
    attempted,
    described,
    exchange_option,
    is_made,
    ledger_at,
    ledger_option,
)
from poslock_cli.arguments import exact_price, spoken_reason
from poslock_cli.asking import ask, expect_terminal, look, say_whom_it_waits_for, unbooked, yes_option
from poslock_cli.configuration import configuration_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from poslock.exchange.port import Exchange
    from poslock.guard.guard import Recovery
    from poslock.lock.files.directory import LockDirectory
    from poslock.position import ClosedPosition

_TIMEOUT = 35.0
_reason_option = click.option(
    "--reason", metavar="TEXT", required=True, callback=spoken_reason, help="Why, for the history."
)
_json_option = click.option(
    "--json", "as_objects", is_flag=True, help="Print an object instead of a line, also if it fails."
)


@click.command()
@click.argument("position")
@exchange_option
@ledger_option
@_reason_option
@click.option(
    "--exit-price",
    metavar="PRICE",
    callback=exact_price,
    help="Book at this price what no trade proves; else it is written off.",
)
@yes_option
@_json_option
@click.pass_obj
@click.pass_context
def settle(  # noqa: PLR0913  # one for each option
    context: click.Context,
    directory: LockDirectory,
    position: str,
    *,
    exchange: Exchange,
    ledger: str | None,
    reason: str,
    exit_price: Decimal | None,
    yes: bool,
    as_objects: bool,
) -> None:
    """End POSITION by your word, where the venue will not explain what became of it. No order is sent.

    What the trades prove is booked. The rest is written off, in no P&L, or booked at --exit-price. Only the position's
    own orders are cancelled. It works when the venue does not answer. It shows what it will do, and asks first; without
    a terminal it needs --yes.

    Exit 0 if it is settled. 1 if not: the answer was no, a request may still be taken, or 'poslock close' can end it.
    """
    rest = "writes the rest off, in no P&L" if exit_price is None else f"books the rest at {amount(exit_price)}"
    will_do = f"sends no order, books what the trades prove, {rest}, cancels only the orders that poslock placed for it"
    word = _Word(context, directory, exchange, ledger, position)

    def settled(guard: PositionGuard) -> ClosedPosition:
        return guard.settle(position, reason=reason, exit_price=exit_price)

    outcome = word.done("settle", will_do, settled, yes=yes)
    if outcome.closed is not None and not as_objects:
        click.echo(f"{printable(position)}: {described(outcome.closed)}")
    word.end(outcome, "settled", as_objects=as_objects)


@click.command()
@click.argument("position")
@exchange_option
@ledger_option
@_reason_option
@yes_option
@_json_option
@click.pass_obj
@click.pass_context
def forget(  # noqa: PLR0913  # one for each option
    context: click.Context,
    directory: LockDirectory,
    position: str,
    *,
    exchange: Exchange,
    ledger: str | None,
    reason: str,
    yes: bool,
    as_objects: bool,
) -> None:
    """Take POSITION out of the ledger's open ones, because it was tracked by mistake. Nothing is sent or cancelled.

    Its row and its history stay, and its state is 'forgotten'. It shows what it will do, and asks first; without a
    terminal it needs --yes.

    Exit 0 if it is forgotten. 1 if not: the answer was no, something was sent for it, or an order of its own rests.
    """
    will_do = "sends and cancels nothing; from then on poslock does nothing about what is held, its history stays"
    word = _Word(context, directory, exchange, ledger, position)

    def forgotten(guard: PositionGuard) -> None:
        guard.forget(position, reason=reason)

    outcome = word.done("forget", will_do, forgotten, yes=yes)
    if outcome.error is None and not as_objects:
        click.echo(f"{printable(position)}: forgotten")
    word.end(outcome, "forgotten", as_objects=as_objects)


class _Word:
    """The operator's word on one position."""

    def __init__(
        self, context: click.Context, directory: LockDirectory, exchange: Exchange, ledger: str | None, position_id: str
    ) -> None:
        self._context = context
        self._directory = directory
        self._exchange = exchange
        self._book = ledger_at(directory, ledger)
        self._position_id = position_id

    def done(
        self, command: str, will_do: str, act: Callable[[PositionGuard], ClosedPosition | None], *, yes: bool
    ) -> Recovery:
        """Show, ask unless *yes*, act; what came of it."""
        if not yes:
            expect_terminal(command)
        configuration = configuration_of(self._context)
        timeout = _TIMEOUT if configuration.timeout is None else configuration.timeout

        def attempt() -> ClosedPosition | None:
            if not is_made(self._book.path):
                raise PositionNotFound(self._position_id, self._book.path)
            guard = PositionGuard(
                self._exchange,
                lock_dir=self._directory,
                ledger=self._book,
                timeout=timeout,
                stale_after=configuration.lease,
            )
            tracked = unbooked(self._book, self._exchange, self._position_id, oldest=command == "settle")
            if tracked is not None:
                if not yes:
                    shown = [*look(self._exchange, tracked).lines(), f"  {command}: {will_do}"]
                    ask(shown, f"{command.capitalize()} it?")
                say_whom_it_waits_for(self._directory, self._position_id, timeout)
            return act(guard)

        return attempted(self._position_id, attempt)

    def end(self, outcome: Recovery, word: str, *, as_objects: bool) -> None:
        """Print what is left to be printed, and exit."""
        if as_objects:
            click.echo(as_json(as_object(outcome, word)))
        if outcome.error is not None:
            click.echo(f"Error: {printable(str(outcome.error))}", err=True)
        self._context.exit(0 if outcome.error is None else 1)
