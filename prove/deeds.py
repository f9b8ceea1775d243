"""What the trader and the market do with a simulated account while guards are at it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from prove.account import held
from prove.market import CONTRACTS, ENTRY_PRICE, LATER_PRICE, LEG

if TYPE_CHECKING:
    from collections.abc import Callable

    from prove.market import Market

_OTHER_PRICE = 59_500


def _take_off_four(market: Market) -> bool:
    is_held = _held(market) > 4  # noqa: PLR2004  # as its name says
    if is_held:
        market.market_does("open_position", LEG.symbol, "short", 4)
    return is_held


def _take_off_four_unseen(market: Market) -> bool:
    is_held = _take_off_four(market)
    if is_held:
        market.unseen = (*market.unseen, market.account.last_trade)
    return is_held


def _close(market: Market) -> bool:
    contracts = _held(market)
    if contracts:
        market.market_does("open_position", LEG.symbol, "short", contracts)
    return bool(contracts)


def _add_five(market: Market) -> bool:
    is_held = _held(market) > 0
    if is_held:
        market.market_does("set_price", LEG.symbol, _OTHER_PRICE)
        market.market_does("open_position", LEG.symbol, LEG.side, 5)
    return is_held


def _enter(market: Market, price: int) -> bool:
    """Enter anew, with a stop-loss."""
    is_flat = not _held(market)
    if is_flat:
        market.market_does("set_price", LEG.symbol, price)
        market.market_does("open_position", LEG.symbol, LEG.side, CONTRACTS)
        market.market_does("protect", LEG.symbol, LEG.side, "stop_loss", CONTRACTS, 55_000)
    return is_flat


def _stop(market: Market) -> bool:
    market.market_does("set_price", LEG.symbol, 56_000)
    return True


def _lack_the_newest(market: Market) -> bool:
    """Another server of the venue answers, which does not have the last two trades yet."""
    market.lacks_the_newest(2)
    return True


def _held(market: Market) -> int:
    return int(held(market.account.trades)[0])


# Each says whether it was possible.
DEEDS: dict[str, Callable[[Market], bool]] = {
    "the stop-loss is triggered": _stop,
    "a hand takes off four": _take_off_four,
    "a hand takes off four, unseen": _take_off_four_unseen,
    "a hand closes": _close,
    "a hand adds five": _add_five,
    "somebody enters at the same price": partial(_enter, price=ENTRY_PRICE),
    "somebody enters at another price": partial(_enter, price=LATER_PRICE),
    "the trades lack the newest": _lack_the_newest,
}
STOP = "the stop-loss is triggered"
FOUR, FOUR_UNSEEN, ALL, MORE, SAME, OTHER, LACK = tuple(DEEDS)[1:]
