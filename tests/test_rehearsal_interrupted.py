"""`poslock rehearse`, a process of its own, that is interrupted: at which moment, and how often."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from loopback.bybit import Bybit
from loopback.server import KEYS, Fault
from poslock.exchange.port import Leg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from loopback.server import Request

SYMBOL = "BTC/USDT:USDT"
LONG, SHORT = Leg(SYMBOL, "long"), Leg(SYMBOL, "short")
PATIENCE = 100.0


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[Bybit]:
    with Bybit(tmp_path / "venue.db") as venue:
        venue.book.set_price(SYMBOL, 60_000)
        yield venue


class Rehearsal:
    """The process; *when* tells from a request whether it is the moment for the next of *signals*."""

    def __init__(
        self, venue: Bybit, folder: Path, *signals: signal.Signals, when: Callable[[Request], bool] = lambda _: True
    ) -> None:
        self._signals, self._when = list(signals), when
        urls = venue.client().urls["api"]
        addresses = "".join(f'{name} = "{urls[name]}"\n' for name in urls)
        config = folder / "poslock.toml"
        config.write_text(f'venue = "bybit"\naccount = "main"\nlock_dir = "{folder}/locks"\n[urls]\n{addresses}')
        command = [sys.executable, "-m", "poslock_cli", "--config", str(config), "rehearse", SYMBOL]
        keys = {"POSLOCK_API_KEY": KEYS["apiKey"], "POSLOCK_API_SECRET": KEYS["secret"], "TMPDIR": str(folder)}
        venue.strike(Fault("", self._arrived, method="POST", times=10**6))
        self.process = subprocess.Popen(
            [*command, "--live", "--yes", "--json"],
            env={**os.environ, **keys},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _arrived(self, request: Request) -> None:
        if self._signals and self._when(request):
            self.process.send_signal(self._signals.pop(0))

    def ended(self) -> tuple[dict[str, str], str]:
        """What it found, and what it said beside that; every signal was sent by then."""
        try:
            out, said = self.process.communicate(timeout=PATIENCE)
        finally:
            self.process.kill()
        assert (self.process.returncode, self._signals) == (1, []), said
        return {each["check"]: each["reason"] for each in json.loads(out)["checks"]}, said


def of_closing_order(request: Request) -> bool:
    return bool(re.search("order/create$", request.path)) and b'"reduceOnly":true' in request.body.replace(b" ", b"")


MOMENTS = {
    "the opening order is on its way": lambda request: request.path.endswith("order/create"),
    "a stop order is on its way": lambda request: b"triggerPrice" in request.body,
    "a closing order is on its way": lambda request: of_closing_order(request) and b"triggerPrice" not in request.body,
}


def assert_free(venue: Bybit) -> None:
    for leg in (LONG, SHORT):
        assert venue.book.held(leg) == 0
        assert venue.book.open_orders(leg) == []


@pytest.mark.parametrize("moment", MOMENTS)
def test_it_leaves_the_market_as_it_was(venue: Bybit, tmp_path: Path, moment: str) -> None:
    """It closes what it has opened, cancels what it has set, and says so."""
    found, _ = Rehearsal(venue, tmp_path, signal.SIGTERM, when=MOMENTS[moment]).ended()
    assert found["rehearsal"] == "it was interrupted"
    assert re.match("nothing is held and no order rests", found["cleaned up"])
    assert_free(venue)


def test_interrupted_again_it_goes_on_cleaning_up(venue: Bybit, tmp_path: Path) -> None:
    """A lost terminal while its stop order is on its way, and an interrupt at the next thing that it sends."""
    stopped: list[Request] = []

    def is_due(request: Request) -> bool:
        if b"triggerPrice" in request.body:
            stopped.append(request)
        return bool(stopped)

    found, said = Rehearsal(venue, tmp_path, signal.SIGHUP, signal.SIGINT, when=is_due).ended()
    assert found["rehearsal"] == "it was interrupted"
    assert re.match("nothing is held and no order rests", found["cleaned up"])
    assert said.count("closing what was opened, which ends by itself") == 1
    assert_free(venue)
