"""With the oldest and the newest ccxt of the declared range (.ci/run) every kind of client signs for every venue."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import ccxt
import ccxt.async_support
import ccxt.pro
import pytest

from loopback import binance, bybit, mexc, okx
from loopback.desk import LONG, desk_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback.server import Loopback

ROOT = Path(__file__).parent.parent
KINDS: dict[str, Callable[[Path], Loopback]] = {
    "mexc": mexc.Mexc,
    "binance": binance.Binance,
    "bybit": bybit.Bybit,
    "okx": okx.Okx,
}


@pytest.mark.parametrize("client", ["sync", "async", "pro"])
@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_client_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, client: str) -> None:
    """Questions and orders: the server looks at every signature."""
    if client == "pro":
        monkeypatch.setattr(ccxt, "async_support", ccxt.pro)
    venue = KINDS[name](tmp_path / "exchange.db")
    with desk_at(venue, tmp_path, asynchronous=client != "sync") as desk:
        leg = desk.hold()
        assert type(desk.clients[0]).__module__.startswith("ccxt.pro." if client == "pro" else "ccxt.")
        desk.exchange.place_stop(desk.stop("stop_loss", "s1", leg))
        [stop] = desk.exchange.open_orders(leg)
        desk.exchange.cancel(stop)
        desk.exchange.place(desk.closing(10, leg=leg))
        assert desk.book.held(LONG) == 0
        assert len(desk.told("exit")) == 1
        assert desk.venue.refused == []


def test_the_range_is_the_one_that_is_tried() -> None:
    """The oldest that is declared is the one in .ci/oldest.txt, and no newer than what freqtrade asks for, 4.5.76."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [declared] = {found[1] for each in (*extras["ccxt"], *extras["dev"]) if (found := re.match("ccxt>=(.*)", each))}
    assert f"ccxt=={declared}" in (ROOT / ".ci" / "oldest.txt").read_text().split()
    assert tuple(map(int, declared.split("."))) <= (4, 5, 76)
