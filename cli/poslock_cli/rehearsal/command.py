"""``poslock rehearse``: a whole close at the configured venue, tried and compared with what the venue says of it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import threading
from contextlib import contextmanager, suppress
from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING

import click

from poslock.errors import printable
from poslock.exchange.port import Leg
from poslock_cli.account import amount, as_json
from poslock_cli.asking import ask, expect_terminal, yes_option
from poslock_cli.configuration import configuration_of
from poslock_cli.real_exchange import open_with_client
from poslock_cli.rehearsal.scene import Scene
from poslock_cli.rehearsal.venues import WIRES
from poslock_cli.table import table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from poslock_cli.rehearsal.wire import Wire

_USUAL_FEE = Decimal("0.001")
_CLEANS_UP = b"closing what was opened, which ends by itself; SIGQUIT leaves all as it is\n"
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command()
@click.argument("symbol")
@click.option("--live", is_flag=True, help="Also where the orders are for real money.")
@yes_option
@click.option("--json", "as_object", is_flag=True, help="Print an object instead of a table.")
@click.pass_context
def rehearse(context: click.Context, symbol: str, *, live: bool, yes: bool, as_object: bool) -> None:
    """Rehearse a close in the market SYMBOL of the venue in poslock.toml; meant for a test net or a demo account.

    Two signed reads show whether the venue keeps to the receive window. Then, with the smallest size that can be
    opened: a long position, a stop-loss and take-profits, and four processes that close it. The first one whose order
    is accepted is killed. What poslock has booked is compared with the venue's own history. SYMBOL is what ccxt calls
    it, as BTC/USDT:USDT; it must be a market where the account holds nothing and has no order.

    A venue that is not known as a test net counts as live: there it is done only with --live, and it shows what it can
    cost, and asks. Locks and ledger are in a directory of its own. Whatever happens, it ends by closing what it has
    opened and cancelling what it has set; also if it is interrupted or terminated.

    Exit 0 if all agrees, 1 with each thing that does not, or if nothing was done.
    """
    configuration = configuration_of(context)
    if configuration.venue is None:
        raise click.UsageError(f"A rehearsal needs venue and account in {printable(configuration.path)}.", context)
    exchange, client = open_with_client(configuration.path, configuration.venue)
    if exchange.spot:
        raise click.UsageError("A rehearsal is for swaps; a balance has no stop-loss.", context)
    wire = WIRES[exchange.account.partition(" ")[0]](client, symbol)
    hosts, is_live = ", ".join(wire.hosts()), wire.is_live()
    if is_live and not live:
        why = "is not known as a test net: orders there may be for real money; --live rehearses there all the same"
        raise click.ClickException(f"{hosts} {why}")
    if is_live and not yes:
        expect_terminal("rehearse --live")
    exchange.prepare()
    price = exchange.price(Leg(symbol, "long"))  # it says so of a market that is not there, or is none for poslock
    contracts = wire.smallest(price)
    with _to_be_removed_if_well() as place:
        scene = Scene(exchange, wire, configuration.path, place.path, configuration.lease)
        scene.expect_free()
        if is_live and not yes:
            ask(_cost(wire, hosts, contracts, price), "Rehearse with real money?")
        if scene.prove_window():
            click.echo(f"rehearsing {scene.id} at {hosts}; locks and ledger are in {place.path}", err=True)
            with _interrupted_once(scene):
                scene.play(contracts, price)
        place.is_well = scene.passed
    if as_object:
        report = {"venue": exchange.account, "hosts": wire.hosts(), "live": is_live, "symbol": symbol}
        click.echo(as_json({**report, **_as_object(scene)}))
    else:
        rows = [(each.check, each.verdict, each.reason) for each in scene.findings]
        click.echo(table(("CHECK", "VERDICT", "SEEN"), rows))
    for each in scene.findings:
        if each.verdict != "ok":
            way_out = f"; {each.way_out}" if each.way_out else ""
            click.echo(printable(f"Error: {each.check}: {each.reason}{way_out}"), err=True)
    context.exit(0 if scene.passed else 1)


def _as_object(scene: Scene) -> dict[str, object]:
    checks = [asdict(each) for each in scene.findings]
    closed = None if scene.closed is None else asdict(scene.closed)
    return {"contracts": scene.contracts, "passed": scene.passed, "checks": checks, "closed": closed}


class _Place:
    def __init__(self, path: str) -> None:
        self.path = path
        self.is_well = False


@contextmanager
def _to_be_removed_if_well() -> Iterator[_Place]:
    """A directory for the locks and the ledger; it stays where something is left to be looked into."""
    place = _Place(tempfile.mkdtemp(prefix="poslock-rehearsal-"))
    try:
        yield place
    finally:
        if place.is_well or not os.listdir(place.path):
            shutil.rmtree(place.path, ignore_errors=True)
        else:
            click.echo(f"locks and ledger stay in {place.path}", err=True)


@contextmanager
def _interrupted_once(scene: Scene) -> Iterator[None]:
    """An interrupt ends the rehearsal, and so does a SIGTERM or a lost terminal; what was opened is closed first.

    Any later one, and one while it cleans up, is answered and changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():  # there are no handlers elsewhere
        yield
        return
    is_interrupted = False

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_interrupted
        if is_interrupted or scene.is_cleaning_up:
            with suppress(OSError):  # there is nobody any more to read it
                os.write(sys.stderr.fileno(), _CLEANS_UP)
            return
        is_interrupted = True
        raise KeyboardInterrupt

    before = {each: signal.getsignal(each) for each in _ENDING}
    try:
        for each, handler in before.items():
            if handler is not signal.SIG_IGN:  # as under nohup
                signal.signal(each, interrupt)
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _cost(wire: Wire, hosts: str, contracts: Decimal, price: Decimal) -> list[str]:
    """What it may cost, as lines."""
    worth = contracts * price * wire.contract_size
    fee = Decimal(str(wire.market.get("taker") or _USUAL_FEE))
    settle = wire.market["settle"]
    return [
        f"{hosts} is not known as a test net: the orders may be for real money",
        f"  opens a long position of {amount(contracts)} contracts of {wire.symbol}, worth about {worth:.4f} {settle}",
        f"  likely cost: two fees of {worth * fee:.4f} {settle}, the spread twice, and how far the price moves",
        f"  largest possible cost: {worth * (1 + 2 * fee):.4f} {settle}, all of it and the fees",
    ]
