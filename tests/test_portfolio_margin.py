"""A client for portfolio margin at Binance's spot market: it trades in another account than the spot account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from loopback.spot import SpotVenue
from poslock import CcxtExchange, UnsupportedMarket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SYMBOL = "BTC/USDT"
OPTIONS = ("portfolioMargin", "papi")


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[SpotVenue]:
    with SpotVenue(tmp_path / "clock.db", name="binance") as venue:
        yield venue


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("option", OPTIONS)
def test_a_client_for_portfolio_margin_is_refused(venue: SpotVenue, option: str, *, asynchronous: bool) -> None:
    """Before anything is sent."""
    client = venue.client(asynchronous=asynchronous, options={option: True})
    with pytest.raises(UnsupportedMarket, match="nothing was sent; for the spot account use"):
        CcxtExchange(client, account="main", market="spot")
    assert venue.requests == []


@pytest.mark.parametrize("option", OPTIONS)
def test_with_the_option_ccxt_trades_in_another_account(venue: SpotVenue, option: str) -> None:
    """That is why: what such a bot buys is in the margin account, and the spot account's balance is something else."""
    client = venue.client()
    client.set_markets(client.fetch_markets())
    seen: list[str] = []

    def fetch(url: str, *_: Any) -> dict[str, Any]:
        seen.append(url)
        return {"orderId": 1, "symbol": "BTCUSDT"}

    client.fetch = fetch
    client.create_order(SYMBOL, "market", "buy", 1)
    client.options[option] = True
    client.create_order(SYMBOL, "market", "buy", 1)
    assert [url.rpartition("/v")[2] for url in seen] == ["3/order", "1/margin/order"]
