"""The ``demo`` command: sets the scene, plays it, reads the outcome back."""

from __future__ import annotations

import random
import sqlite3
import sys
import tempfile
from decimal import Decimal
from typing import TYPE_CHECKING

import click

from poslock import PaperExchange, Position, PositionGuard
from poslock.exchange.port import Leg
from poslock_cli.demo.bot import POSITION
from poslock_cli.demo.stage import Bot, Cast, Stage
from poslock_cli.demo.verdict import Facts, judge
from poslock_cli.seconds import Seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

_SYMBOL = "BTC/USDT:USDT"
_FEWEST_BOTS = 3
_LAST_REQUEST = 5  # the second closer asks at least so often before it books


@click.command()
@click.option("--bots", type=click.IntRange(_FEWEST_BOTS, 64), default=8, show_default=True, help="Bot processes.")
@click.option("--seed", type=int, default=1, show_default=True, help="Prices, sizes, and where the pause strikes.")
@click.option(
    "--lease",
    type=Seconds(0.5, 60),
    default=2.0,
    show_default=True,
    help="Seconds a holder may be silent before others take over.",
)
def demo(bots: int, seed: int, lease: float) -> None:
    """Race real processes for one close; kill the first closer, pause the second, and count what happened.

    Exit 1 if a promise is broken.
    """
    with tempfile.TemporaryDirectory(prefix="poslock-demo-") as folder:
        scene = _Scene(folder, random.Random(seed))  # noqa: S311  # a play, not a secret
        click.echo(f"{scene.text}\n{bots} bots see it at once (seed {seed}, lease {lease:g} s)\n")
        settings = {"exchange": scene.exchange_path, "lock_dir": scene.lock_dir, "lease": lease}
        stage = Stage(settings, bots, Cast(scene.pause_at_request), _show)
        stage.play()
        findings = judge(scene.facts(stage.bots))
    click.echo()
    for finding in findings:
        mark = click.style("ok    ", fg="green") if finding.kept else click.style("BROKEN", fg="red")
        click.echo(f"{mark} {finding.text}")
    sys.exit(0 if all(finding.kept for finding in findings) else 1)


class _Scene:
    """A position with protective orders on a fresh exchange, and a price that calls for closing it."""

    def __init__(self, folder: str, chance: random.Random) -> None:
        self.exchange_path = f"{folder}/exchange.db"
        self.lock_dir = f"{folder}/locks"
        self.pause_at_request = chance.randint(1, _LAST_REQUEST)
        side = "long" if chance.random() < 0.5 else "short"  # noqa: PLR2004  # a coin
        sign = 1 if side == "long" else -1
        entry = Decimal(chance.randrange(20_000, 90_000))
        contracts = chance.randint(1, 40)
        hit = entry - sign * entry / 50
        self._leg = Leg(_SYMBOL, "long" if sign > 0 else "short")
        self._exchange = PaperExchange(self.exchange_path)
        self._guard = PositionGuard(self._exchange, lock_dir=self.lock_dir)
        self._exchange.set_price(_SYMBOL, entry)
        self._exchange.open_position(_SYMBOL, self._leg.side, contracts)
        self._exchange.protect(_SYMBOL, self._leg.side, "stop_loss", contracts, entry - sign * entry / 20)
        self._exchange.protect(_SYMBOL, self._leg.side, "take_profit", contracts, entry + sign * entry / 10)
        self._position = Position(POSITION, _SYMBOL, self._leg.side, contracts, entry)
        self._guard.track(self._position)
        self._exchange.set_price(_SYMBOL, hit)
        self.text = (
            f"{side} {contracts} {_SYMBOL} from {entry}, a stop-loss and a take-profit order resting; "
            f"the price is {hit}: close!"
        )

    def facts(self, bots: Sequence[Bot]) -> Facts:
        """Read the outcome back from the exchange and the ledger, not from what the bots say."""
        fills = self._exchange.fills(self._leg, 0)
        sign = 1 if self._leg.side == "long" else -1
        moved = sum(((fill.price - self._position.entry_price) * fill.contracts for fill in fills), Decimal(0))
        with sqlite3.connect(f"{self.lock_dir}/ledger.db") as ledger:
            booked = [Decimal(pnl) for (pnl,) in ledger.execute("SELECT net_pnl FROM booking")]
            tokens = tuple(token for (token,) in ledger.execute("SELECT token FROM audit ORDER BY number"))
        ledger.close()
        return Facts(
            closing_orders=sum(order.family == "order" for order in self._exchange.orders(self._leg)),
            contracts_left=self._exchange.held(self._leg),
            orders_left=len(self._exchange.open_orders(self._leg)),
            bookings=len(booked),
            booked_pnl=booked[0] if booked else None,
            pnl_of_fills=sign * moved - sum((fill.fee for fill in fills), Decimal(0)),
            tokens=tokens,
            told=tuple(bot.outcome for bot in bots),
        )


def _show(seconds: float, bot: Bot, text: str) -> None:
    click.echo(f"{seconds:6.2f}s  bot {bot.number:<2} {bot.name:<14} PID {bot.process.pid:<7} {text}")
