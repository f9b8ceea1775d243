"""What is Bybit's own: its order families, its position index, its order history, its executions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from loopback.desk import LONG, SHORT, SYMBOL, Desk
from loopback.server import Reply
from poslock import UnsupportedMarket
from poslock.errors import ExchangeUnavailable
from poslock.exchange.port import Leg
from venue_cases import BYBIT, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from poslock.position import Side

both_modes = pytest.mark.parametrize("hedge", [False, True], ids=["one-way", "hedge"])


@pytest.fixture
def hedge() -> bool:
    return False


@pytest.fixture
def desk(tmp_path: Path, *, hedge: bool) -> Iterator[Desk]:
    with opened(BYBIT, tmp_path, hedge=hedge) as desk:
        yield desk


def listed(*rows: dict[str, Any]) -> Reply:
    return Reply(200, {"retCode": 0, "retMsg": "OK", "result": {"list": [*rows], "nextPageCursor": ""}})


@both_modes
@pytest.mark.parametrize("side", ["long", "short"])
def test_what_orders_say(desk: Desk, side: Side, *, hedge: bool) -> None:
    """They only reduce, name their leg and bear the id; a stop triggers on the last price, as its kind wants."""
    leg = desk.hold(side)
    desk.exchange.place(desk.closing("2.5", "close1", leg))
    desk.exchange.place_stop(desk.stop("stop_loss", leg=leg, contracts=7))
    close, stop = desk.sent("place")
    common = {
        "category": "linear",
        "symbol": "BTCUSDT",
        "side": "Sell" if side == "long" else "Buy",
        "orderType": "Market",
        "positionIdx": {"long": 1, "short": 2}[side] if hedge else 0,
        "reduceOnly": True,
    }
    trigger = {"triggerPrice": "57000", "triggerDirection": 2}
    trigger = trigger if side == "long" else {"triggerPrice": "66000", "triggerDirection": 1}
    assert close.params == {**common, "qty": "2.5", "orderLinkId": "close1"}
    assert stop.params == {**common, "qty": "7", "orderLinkId": "s1", "triggerBy": "LastPrice", **trigger}


@pytest.mark.parametrize(
    ("kind", "trigger", "direction", "family"),
    [
        ("PartialStopLoss", "57000", 2, "stop_loss"),
        ("PartialTakeProfit", "66000", 1, "take_profit"),
        ("Stop", "57000", 2, "stop_loss"),
        ("Stop", "66000", 1, "take_profit"),
        ("UNKNOWN", "", 0, "order"),
        ("MmRateClose", "0.00", 0, "order"),
        ("TrailingStop", "61000", 1, "trailing"),
    ],
)
def test_kinds_of_orders(desk: Desk, kind: str, trigger: str, direction: int, family: str) -> None:
    """The kind that the venue names decides, else the direction of the trigger."""
    BYBIT.by_hand(desk, desk.hold())
    row = desk.venue.trailing[-1]
    row.update(stopOrderType=kind, triggerPrice=trigger, triggerDirection=direction)
    [order] = [each for each in desk.exchange.open_orders(LONG) if each.order_id == row["orderId"]]
    assert order.family == family


def test_an_order_that_only_the_history_knows(desk: Desk) -> None:
    """After a restart of the venue the first list has forgotten it."""
    desk.hold()
    desk.exchange.place(desk.closing(4))
    desk.venue.forgets = True
    assert desk.exchange.order(LONG, "c1").filled == 4
    assert desk.exchange.order(LONG, "c2") is None


@pytest.mark.parametrize("status", [1, 2, 7])
def test_an_account_that_is_not_unified(desk: Desk, status: int) -> None:
    """It is refused before anything is sent."""
    desk.venue.status = status
    with pytest.raises(UnsupportedMarket, match="unified"):
        desk.exchange.prepare()
    with pytest.raises(UnsupportedMarket, match="unified"):
        desk.guard().adopt(SYMBOL, "long")


def test_a_position_mode_that_is_not_known(desk: Desk) -> None:
    """A position index that contradicts its side is refused."""
    desk.hold()
    row = {"positionIdx": 2, "symbol": "BTCUSDT", "side": "Buy", "size": "10", "avgPrice": "60000"}
    desk.strike("held", listed(row))
    with pytest.raises(UnsupportedMarket, match="position index"):
        desk.exchange.place(desk.closing(10))
    assert desk.sent("place") == []


def test_positions_of_many_pages(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each goes on where the one before ended."""
    monkeypatch.setattr("poslock.exchange.ccxt.bybit.venue._POSITIONS", 2)
    held = [Leg(f"COIN{number}/USDT:USDT", "short") for number in range(5)]
    for leg in held:
        desk.hand.price(leg.symbol, 60_000)
        desk.hand.open(leg, 3)
    desk.exchange.prepare()
    assert [holding.leg for holding in desk.exchange.holdings(held[::-1])] == held[::-1]
    assert [request.params.get("cursor") for request in desk.sent("held")] == [None, "page:2", "page:4", "page:6"]


def test_holdings_of_several_currencies(desk: Desk) -> None:
    """The venue is asked for each of them."""
    desk.hold()
    leg = Leg("ETH/USDT:USDT", "long")
    desk.clients[0].markets[leg.symbol] |= {"settle": "USDC", "settleId": "USDC"}
    assert [holding.leg for holding in desk.exchange.holdings([leg, LONG])] == [LONG]
    assert [request.params["settleCoin"] for request in desk.sent("held")] == ["USDC", "USDT", "USDT"]


# Executions.


def executed(kind: str, side: str, size: str, closed: str, at_ms: int, **more: Any) -> dict[str, Any]:
    """A row of the list of executions."""
    row = {"symbol": "BTCUSDT", "orderId": f"of-{kind}", "orderLinkId": "", "side": side, "execFee": "1"}
    row |= {"execId": f"{kind}-{side}-{size}", "execPrice": "60000", "execQty": size, "execType": kind}
    return {**row, "execTime": str(at_ms), "closedSize": closed, "seq": 10**9, **more}


@both_modes
@pytest.mark.parametrize("kind", ["AdlTrade", "BustTrade", "Delivery", "BlockTrade", "MovePosition", "FutureSpread"])
def test_executions_that_nobody_ordered(desk: Desk, kind: str) -> None:
    """Liquidation, deleveraging, delisting: they take from the position, so they are exits."""
    desk.hold()
    desk.venue.executions = [executed(kind, "Sell", "4", "4", desk.venue.clock_ms())]
    assert desk.changes() == [("entry", 10), ("exit", 4)]


@both_modes
@pytest.mark.parametrize("closed", ["", "0", "10"])
@pytest.mark.parametrize("kind", ["Funding", "Settle", "SessionSettlePnL", "Dividend", "ReverseSplitSettle", "UNKNOWN"])
def test_executions_that_are_no_trades(desk: Desk, kind: str, closed: str) -> None:
    """What settles moves no position, whatever size it names; what is not known is not guessed."""
    desk.hold()
    now_ms = desk.venue.clock_ms()
    desk.venue.executions = [executed(kind, side, "10", closed, now_ms) for side in ("Buy", "Sell")]
    assert desk.changes() == [("entry", 10)]


def test_executions_of_one_millisecond(desk: Desk) -> None:
    """The list may tell them in any order; the venue's sequence number says which came first."""
    desk.exchange.prepare()
    at_ms, sides = desk.venue.clock_ms(), {3: "Buy", 1: "Buy", 4: "Sell", 2: "Sell"}
    desk.venue.executions = [executed("Trade", side, str(seq), "", at_ms, seq=seq) for seq, side in sides.items()]
    assert desk.changes() == [("entry", 1), ("exit", 2), ("entry", 3), ("exit", 4)]


@both_modes
def test_the_mode_of_a_market_is_asked_once(desk: Desk, *, hedge: bool) -> None:
    """Executions do not tell which leg they are of; a position does, and an empty one too."""
    desk.exchange.prepare()
    desk.venue.executions = [executed("Trade", "Sell", "4", "", desk.venue.clock_ms())]
    for _ in range(2):
        assert desk.changes(LONG) == ([] if hedge else [("exit", 4)])
        assert desk.changes(SHORT) == [("entry", 4)]
    assert [request.params.get("cursor") for request in desk.sent("held")] == [None]


def test_a_market_whose_mode_is_not_told(desk: Desk) -> None:
    """Whose trades they are is not guessed."""
    desk.exchange.prepare()
    desk.strike("held", listed())
    with pytest.raises(ExchangeUnavailable, match="position mode"):
        desk.trades()
    assert desk.trades() == []
