"""What each venue has where, calls how and can: the cases of test_venue_contract.py."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from loopback.binance import Binance
from loopback.bybit import Bybit
from loopback.desk import SYMBOL, Desk, desk_at, other
from loopback.mexc import Mexc
from loopback.okx import Okx
from loopback.server import Reply
from loopback.spot import SpotVenue
from poslock.errors import (
    DuplicateClientOrderId,
    ExchangeError,
    KeysRefused,
    NothingToReduce,
    NotServed,
    OrderRefused,
    OutcomeUnknown,
    RateLimited,
    ReduceOnlyBlocked,
    RequestExpired,
    StopWouldTrigger,
    UnderMaintenance,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from loopback.server import Loopback, Request
    from poslock.exchange.port import Leg

# A code alone, or with the words or the status that it comes with; a status alone is an answer without a code.
Said = int | str | tuple[int | str, str] | Reply
HTML = Reply(502, "<html><body>Bad Gateway</body></html>", {"Content-Type": "text/html"})
_GET, _POST, _DELETE = "GET", "POST", "DELETE"


@dataclass(frozen=True, kw_only=True)
class VenueCase:
    """A venue as the tests see it.

    ``paths`` are methods and paths of its endpoints by what they are for. ``lists`` names those that tell what rests.
    ``codes`` is what became of an order, by what was said. ``odd`` are fields that make an answer unreadable: name of
    the path, then field and value, ``...`` for a field that is missing. ``families`` are those of ``by_hand``'s orders.
    """

    name: str
    opens: Callable[..., Loopback]
    symbol: str = SYMBOL
    another: str = "ETH/USDT:USDT"
    paths: Mapping[str, tuple[str | None, str]]
    lists: tuple[str, ...]
    refusal: Callable[[Said], Reply]
    codes: Mapping[type[ExchangeError], Iterable[Said]]
    gate: Mapping[int, type[ExchangeError]] = field(default_factory=dict)
    late: str
    wrong: Mapping[str, str]
    gone: str
    too_late: type[ExchangeError] = StopWouldTrigger
    no_order: tuple[Said, ...] = ()
    ended: tuple[Said, ...] = ()
    mode: Said | None = None
    names_order: Mapping[str, Any] | None = None
    size: str = "quantity"
    expires_ms: Callable[[Request], int]
    step: str = "0.001"
    tick: str = "0.1"
    smallest: str | None = None
    largest: int | None = 100
    contract_size: str = "1"
    fee_rate: str = "0.0005"
    hedges: bool = True
    told_hedge: bool = True
    stops: bool = True
    stop_ids: bool = True
    stop_fill: str = "s1"
    asks_ids: bool = False
    window_ms: int = 300
    ids_end: bool = False
    rounds: bool = False
    pages: tuple[str, Any] | None = None
    reach_days: int = 80
    states: tuple[str, str] | None = None
    odd: tuple[tuple[str, str, Any], ...]
    families: tuple[str, ...]
    by_hand: Callable[[Desk, Leg], None]
    opening: Callable[[Desk, Leg], None]
    rights: Callable[[Any, bool, bool], None]
    blocks: tuple[int, ...] | None = ()

    @property
    def is_spot(self) -> bool:
        return ":" not in self.symbol


def opened(case: VenueCase, folder: Path, **options: Any) -> AbstractContextManager[Desk]:
    """A desk at the venue of *case*; *options* are those of its server, and which client."""
    asynchronous = options.pop("asynchronous", False)
    venue = case.opens(folder / "exchange.db", **options)
    return desk_at(venue, folder, asynchronous=asynchronous, case=case, symbol=case.symbol)


def rewritten(answer: Any, fields: Mapping[str, Any]) -> Any:
    """*answer* with other values in each row that has all of *fields*; ``...`` takes a field away."""
    if isinstance(answer, list):
        return [rewritten(each, fields) for each in answer]
    if not isinstance(answer, dict):
        return answer
    row = {name: rewritten(each, fields) for name, each in answer.items()}
    if not set(fields) <= set(row):
        return row
    return {name: fields.get(name, each) for name, each in row.items() if fields.get(name) is not ...}


def reworded(answer: Any, known: str, unknown: str) -> Any:
    """*answer* with one text in place of another, wherever it is a value."""
    return json.loads(json.dumps(answer, default=float).replace(known, unknown))


def _sides(leg: Leg, *, reduces: bool = True) -> str:
    return "sell" if (leg.side == "long") == reduces else "buy"


def _exits(leg: Leg) -> tuple[str, str]:
    """The prices of a stop-loss and of a take-profit."""
    return ("57000", "66000") if leg.side == "long" else ("66000", "57000")


# MEXC futures.


def _mexc_refusal(said: Said) -> Reply:
    if isinstance(said, Reply):
        return said
    code, words = said if isinstance(said, tuple) else (said, "x")
    return Reply(200, {"success": False, "code": code, "message": words})


def _mexc_asked(desk: Desk, leg: Leg, **more: Any) -> dict[str, Any]:
    mode = {} if desk.venue.hedge else {"reduceOnly": True}
    common = {"symbol": "BTC_USDT", "vol": 2, "openType": 2, "leverage": 20, "positionMode": desk.venue.position_mode}
    return {**common, "side": {"long": 4, "short": 2}[leg.side], **mode, **more}


def mexc_trail(desk: Desk, leg: Leg, **more: Any) -> None:
    asked = _mexc_asked(desk, leg, trend=1, backType=1, backValue=0.02, **more)
    desk.trader.contract_private_post_trackorder_place(asked)


def mexc_protect(desk: Desk, leg: Leg, **prices: Any) -> None:
    """A TP/SL order of the position, with one price or both."""
    rows = desk.trader.contract_private_get_position_open_positions({"symbol": "BTC_USDT"})["data"]
    [held] = [row for row in rows if row["positionType"] == {"long": 1, "short": 2}[leg.side]]
    desk.trader.contract_private_post_stoporder_place({"positionId": held["positionId"], "vol": 2, **prices})


def _mexc_plans(desk: Desk, leg: Leg, price: str, **more: Any) -> None:
    kind = 2 if int(price) < 60_000 else 1
    trigger = {"triggerPrice": int(price), "triggerType": kind, "executeCycle": 1, "orderType": 5, "trend": 1}
    desk.trader.contract_private_post_planorder_place_v2(_mexc_asked(desk, leg, **trigger, **more))


def _mexc_by_hand(desk: Desk, leg: Leg) -> None:
    far = {"long": 70_000, "short": 50_000}[leg.side]
    plain = _mexc_asked(desk, leg, type=1, price=far, externalOid=f"{leg.side}-plain")
    desk.trader.contract_private_post_order_create(plain)
    _mexc_plans(desk, leg, _exits(leg)[0])
    mexc_protect(desk, leg, takeProfitPrice=int(_exits(leg)[1]))
    mexc_trail(desk, leg)


def _mexc_opening(desk: Desk, leg: Leg) -> None:
    side = {"side": {"long": 1, "short": 3}[leg.side], **({} if desk.venue.hedge else {"reduceOnly": False})}
    far = {"long": 50_000, "short": 70_000}[leg.side]
    plain = _mexc_asked(desk, leg, type=1, price=far, externalOid=f"{leg.side}-open", **side)
    desk.trader.contract_private_post_order_create(plain)
    _mexc_plans(desk, leg, "58000", **side)
    mexc_trail(desk, leg, **side)


def _mexc_rights(venue: Any, trades: bool, withdraws: bool) -> None:  # as all of them
    venue.rights = ["CONTRACT_DEAL_READ", "SPOT_WITHDRAW_READ"]
    venue.rights += ["CONTRACT_DEAL_WRITE"] * trades + ["SPOT_WITHDRAW_W"] * withdraws


MEXC = VenueCase(
    name="mexc",
    opens=Mexc,
    paths={
        "place": (_POST, "order/create$"),
        "stop": (_POST, "planorder/place/v2$"),
        "cancel": (_POST, "order/cancel$"),
        "held": (_GET, "position/open_positions$"),
        "price": (_GET, "contract/ticker$"),
        "order": (_GET, "order/external/"),
        "by id": (_GET, "order/get/"),
        "plain": (_GET, "list/open_orders$"),
        "plans": (_GET, "planorder/list/"),
        "stops": (_GET, "stoporder/open_orders$"),
        "tracks": (_GET, "trackorder/list/"),
        "trades": (_GET, "order_deals/v3$"),
        "funding": (_GET, "funding_records$"),
        "clock": (_GET, "contract/ping$"),
        "mode": (_GET, "position_mode$"),
        "markets": (_GET, "contract/detail$"),
        "rights": (_GET, "apiKeyInfo$"),
    },
    lists=("plain", "plans", "stops", "tracks"),
    refusal=_mexc_refusal,
    codes={
        OrderRefused: [
            *(600, 601, *range(1001, 1005), *range(2001, 2008), 2011, 2015, 2016, 2021, 2022, *range(2027, 2034)),
            *(2036, 2049, 2051, 2057, *range(3001, 3005), *range(3006, 3016), 5001, *range(5003, 5007), 6001, 6002),
            *(7003, 7004, 7008, 8817, 8917, 8920, 8930, 8932, 8934, 9069, 9070, 9071, 9998, 200005, 200006),
        ],
        # ccxt takes any answer with "maintenance" in it for an outage; codes may be text.
        NothingToReduce: [2009, 2043, (2009, "position maintenance margin: does not exist"), ("2009", "x")],
        ReduceOnlyBlocked: [2008, 7005],
        DuplicateClientOrderId: [2042],
        RateLimited: [429, 510, 2013, 2037],
        UnderMaintenance: [604, 801, 8921, 8922, 9068],
        KeysRefused: [401, 402, 403, 406, 511, 602, 701, 702, 703, 704, 1000],
        RequestExpired: [513],
        NotServed: [2056, 7002],
        OutcomeUnknown: [
            *(500, 501, 503, 504, 506, 603, 9999, 8002, 777_777),
            # ccxt hands these over like good answers.
            *(Reply(200, {"success": False, **code, "data": {"orderId": "7"}}) for code in ({}, {"code": 0})),
            Reply(200, {"success": False, "code": 200, "data": "7"}),
        ],
    },
    gate={403: KeysRefused},
    late="513",
    wrong={"apiKey": "401", "secret": "602"},
    gone="2009",
    too_late=OrderRefused,
    no_order=(2040, Reply(200, {"success": True, "code": 0, "data": None})),
    ended=(2040, 2041, 5002),
    size="vol",
    expires_ms=lambda request: int(request.headers["request-time"]) + 1000 * int(request.headers["recv-window"]),
    step="1",
    largest=1_000_000,
    stop_ids=False,
    stop_fill="_m_",
    asks_ids=True,
    window_ms=1000,
    rounds=True,
    pages=("poslock.exchange.ccxt.mexc.venue", ("_DEALS", "_FUNDING")),
    reach_days=100,
    odd=(
        *(("held", "holdVol", each) for each in (None, "many", "NaN")),
        *(("held", each, ...) for each in ("positionType", "positionId", "holdAvgPrice")),
        *(("plain", each, value) for each, value in (("vol", None), ("side", 9), ("orderId", None))),
        *(("plans", each, value) for each, value in (("triggerPrice", "x"), ("id", None))),
        *(("stops", each, value) for each, value in (("positionType", ...), ("vol", "x"))),
        ("tracks", "state", ...),
        *(("trades", each, value) for each, value in (("price", None), ("fee", ...), ("id", None))),
        *(("funding", each, value) for each, value in (("funding", None), ("settleTime", ...))),
    ),
    families=("order", "stop_loss", "take_profit", "trailing"),
    by_hand=_mexc_by_hand,
    opening=_mexc_opening,
    rights=_mexc_rights,
)


# Binance USD-M futures.


def _binance_refusal(said: Said) -> Reply:
    if isinstance(said, Reply):
        return said
    code, words = said if isinstance(said, tuple) else (said, "words")
    return Reply(400, {"code": code, "msg": words})


def binance_says(desk: Desk, path: str, **params: Any) -> Any:
    """What another program of the trader says to the venue, and what it is told."""
    return desk.trader.request(path, ["fapiPrivate"], "POST", {"symbol": "BTCUSDT", **params})


def _binance_orders(desk: Desk, leg: Leg, *, reduces: bool, orders: Mapping[str, dict[str, Any]]) -> None:
    side = _sides(leg, reduces=reduces).upper()
    for name, order in orders.items():
        whole = "closePosition" in order
        mode = {} if desk.venue.hedge or whole else {"reduceOnly": "true" if reduces else "false"}
        leg_of = {"positionSide": leg.side.upper()} if desk.venue.hedge else {}
        size = {} if whole else {"quantity": "2"}
        path = "algoOrder" if "algoType" in order else "order"
        names = {"algoOrder": "clientAlgoId", "order": "newClientOrderId"}
        binance_says(desk, path, side=side, **{names[path]: leg.side + name}, **size, **mode, **leg_of, **order)


def _binance_by_hand(desk: Desk, leg: Leg) -> None:
    stop, target, algo = *_exits(leg), {"algoType": "CONDITIONAL"}
    far = {"long": "70000", "short": "50000"}[leg.side]
    orders = {
        "plain": {"type": "LIMIT", "price": far},
        "stop": {**algo, "type": "STOP", "triggerPrice": stop},
        "whole": {**algo, "type": "STOP_MARKET", "triggerPrice": stop, "closePosition": "true"},
        "target": {**algo, "type": "TAKE_PROFIT", "triggerPrice": target},
        "trail": {**algo, "type": "TRAILING_STOP_MARKET"},
    }
    _binance_orders(desk, leg, reduces=True, orders=orders)


def _binance_opening(desk: Desk, leg: Leg) -> None:
    below, above, algo = "50000", "70000", {"algoType": "CONDITIONAL", "type": "STOP_MARKET"}
    far, breakout = (below, above) if leg.side == "long" else (above, below)
    orders = {"limit": {"type": "LIMIT", "price": far}, "breakout": {**algo, "triggerPrice": breakout}}
    _binance_orders(desk, leg, reduces=False, orders=orders)


def _binance_rights(venue: Any, trades: bool, withdraws: bool) -> None:  # as all of them
    venue.restrictions = {"enableFutures": trades, "enableWithdrawals": withdraws}


_UNKNOWN = "Unknown error, please check your request or try again later."
BINANCE = VenueCase(
    name="binance",
    opens=Binance,
    paths={
        "place": (_POST, "/v1/order$"),
        "stop": (_POST, "/algoOrder$"),
        "cancel": (_DELETE, "rder$"),
        "held": (_GET, "/positionRisk$"),
        "price": (_GET, "/ticker/price$"),
        "order": (_GET, "/v1/order$"),
        "by id": (_GET, "/v1/order$"),
        "algo": (_GET, "/algoOrder$"),
        "plain": (_GET, "/openOrders$"),
        "algos": (_GET, "/openAlgoOrders$"),
        "trades": (_GET, "/userTrades$"),
        "funding": (_GET, "/income$"),
        "clock": (_GET, "/v1/time$"),
        "mode": (_GET, "fapi/v1/positionSide/dual$"),
        "markets": (_GET, "/exchangeInfo$"),
        "rights": (_GET, "/apiRestrictions$"),
    },
    lists=("plain", "algos"),
    refusal=_binance_refusal,
    codes={
        RequestExpired: [-1021, -5028],
        KeysRefused: [-1022, -2014, -2015],
        RateLimited: [
            *(-1003, -1015, Reply(429, {"code": -1003, "msg": "x"}), Reply(418, {"code": -1003, "msg": "x"})),
            Reply(429, {"code": -1, "msg": "Too many requests. Please try again later."}),
        ],
        UnderMaintenance: [-1008, -1016, (-1001, "Service Unavailable.")],
        NotServed: [-4131, -4061],
        ReduceOnlyBlocked: [-4118],
        OrderRefused: [
            *(-1102, -1111, -1121, -2010, -2019, -2027, -4005, -4015, -4120, -4164, -4192, -4202, -4400),
            (-1013, "Filter failure: LOT_SIZE"),
        ],
        StopWouldTrigger: [-2021],
        DuplicateClientOrderId: [-4116],
        OutcomeUnknown: [
            *((code, _UNKNOWN) for code in (-1003, -1000, -2019)),
            *(Reply(503, {"msg": _UNKNOWN}), Reply(500, {"code": -1000, "msg": "x"})),
            (-1001, "Internal error; unable to process your request. Please try again."),
            *(-1006, -1007, -2020, -99_999),
        ],
    },
    late="-1021",
    wrong={"apiKey": "-2015", "secret": "-1022"},
    gone="-2022",
    no_order=(-2011, -2013),
    ended=(-2011, -2013),
    mode=-4061,
    expires_ms=lambda request: int(request.params["timestamp"]) + int(request.params["recvWindow"]),
    largest=120,
    stop_fill="autoalgo-",
    asks_ids=True,
    ids_end=True,
    pages=("poslock.exchange.ccxt.binance.venue", "_PAGE"),
    reach_days=30,
    states=('"NEW"', '"NEWBORN"'),
    odd=(
        *(("held", "positionAmt", each) for each in (None, "many", "NaN", ...)),
        *(("held", each, ...) for each in ("positionSide", "entryPrice", "symbol")),
        *(("plain", each, value) for each, value in (("origQty", None), ("side", ...), ("orderId", None))),
        *(("algos", each, value) for each, value in (("triggerPrice", "x"), ("algoId", None))),
        *(("trades", each, value) for each, value in (("price", None), ("commission", ...), ("id", None))),
        *(("funding", each, value) for each, value in (("income", None), ("time", ...))),
    ),
    families=("order", "stop_loss", "stop_loss", "take_profit", "trailing"),
    by_hand=_binance_by_hand,
    opening=_binance_opening,
    rights=_binance_rights,
    blocks=(-2022, -4118),
)


# Bybit.


def bybit_refusal(said: Said) -> Reply:
    if isinstance(said, Reply):
        return said
    code, words = said if isinstance(said, tuple) else (said, "words")
    return Reply(200, {"retCode": code, "retMsg": words, "result": {}, "retExtInfo": {}, "time": 1})


def _bybit_limit(desk: Desk, leg: Leg, *, reduces: bool) -> None:
    side = _sides(leg, reduces=reduces).capitalize()
    index = {"long": 1, "short": 2}[leg.side] if desk.venue.hedge else 0
    said = {"category": "linear", "symbol": "BTCUSDT", "orderType": "Limit", "qty": "2", "positionIdx": index}
    price = {"Sell": "70000", "Buy": "50000"}[side]
    desk.trader.private_post_v5_order_create({**said, "side": side, "price": price, "reduceOnly": reduces})


def _bybit_by_hand(desk: Desk, leg: Leg) -> None:
    """A limit order, a conditional one, and the position's TP/SL and trailing orders."""
    _bybit_limit(desk, leg, reduces=True)
    desk.exchange.place_stop(desk.stop("take_profit", f"tp{leg.side}", leg))
    index = {"long": 1, "short": 2}[leg.side] if desk.venue.hedge else 0
    position = {"category": "linear", "symbol": "BTCUSDT", "positionIdx": index, "tpslMode": "Full"}
    prices = dict(zip(("stopLoss", "takeProfit"), _exits(leg), strict=True))
    desk.trader.private_post_v5_position_trading_stop({**position, **prices, "trailingStop": "100"})


def _bybit_rights(venue: Any, trades: bool, withdraws: bool) -> None:  # as all of them
    of_trades = {"ContractTrade": ["Order", "Position"]} if trades else {}
    venue.permissions = {**of_trades, "Wallet": ["Withdraw"] if withdraws else ["AccountTransfer"]}


BYBIT = VenueCase(
    name="bybit",
    opens=Bybit,
    paths={
        "place": (_POST, "/order/create$"),
        "stop": (_POST, "/order/create$"),
        "cancel": (_POST, "/order/cancel$"),
        "held": (_GET, "/position/list$"),
        "price": (_GET, "/market/tickers$"),
        "order": (_GET, "/order/realtime$"),
        "plain": (_GET, "/order/realtime$"),
        "trades": (_GET, "/execution/list$"),
        "funding": (_GET, "/execution/list$"),
        "clock": (_GET, "/market/time$"),
        "mode": (_GET, "/account/info$"),
        "markets": (_GET, "/instruments-info$"),
        "rights": (_GET, "/query-api$"),
    },
    lists=("plain",),
    refusal=bybit_refusal,
    codes={
        RequestExpired: [10002, -1],
        KeysRefused: [10003, 10004, 10005, 10009, 10010],
        RateLimited: [429, 10006, 10018, Reply(429, {"retCode": 10429, "retMsg": "words"})],
        UnderMaintenance: [110063, 110074],
        NothingToReduce: [110017, 110034],
        DuplicateClientOrderId: [110072],
        OrderRefused: [10001, 110094],
        StopWouldTrigger: [110092, 110093],
        NotServed: [(10001, "position idx not match position mode")],
        OutcomeUnknown: [
            *(10000, 10014, 10016, 110079, 999_999),
            Reply(200, {"retCode": 30084, "result": {"orderId": "1", "orderLinkId": "c1"}}),
        ],
    },
    gate={403: RateLimited},
    late="10002",
    wrong={"apiKey": "10003", "secret": "10004"},
    gone="110017",
    ended=(110001, 110008, 110010),
    mode=(10001, "position idx not match position mode"),
    names_order={"retCode": 0, "result": {"orderId": "x", "orderLinkId": "another"}},
    size="qty",
    expires_ms=lambda request: sum(int(request.headers[f"x-bapi-{each}"]) for each in ("timestamp", "recv-window")),
    told_hedge=False,
    pages=("poslock.exchange.ccxt.bybit.venue", "_EXECUTIONS"),
    states=('"Untriggered"', '"Newborn"'),
    odd=(
        *(("held", "size", each) for each in (None, "many", "NaN", ...)),
        *(("held", each, ...) for each in ("side", "avgPrice", "positionIdx", "symbol")),
        *(
            ("plain", each, value)
            for each, value in (("qty", None), ("qty", "NaN"), ("orderId", ...), ("orderId", None))
        ),
        *(
            ("trades", each, value)
            for each, value in (("execPrice", None), ("execFee", ...), ("execId", ...), ("execId", None))
        ),
        *(("funding", each, value) for each, value in (("execFee", None), ("execTime", ...))),
    ),
    families=("order", "stop_loss", "take_profit", "take_profit", "trailing"),
    by_hand=_bybit_by_hand,
    opening=partial(_bybit_limit, reduces=False),
    rights=_bybit_rights,
    blocks=None,
)


# OKX.


def okx_failed(code: int | str, words: str = "words", *, top: str = "1", status: int = 200) -> Reply:
    """An operation that failed, inside an answer."""
    row = {"ordId": "", "clOrdId": "", "algoId": "", "sCode": str(code), "sMsg": words}
    return Reply(status, {"code": top, "msg": "", "data": [row]})


def okx_refusal(said: Said, status: int = 200) -> Reply:
    """Of a request that was not let in."""
    return said if isinstance(said, Reply) else Reply(status, {"code": str(said), "msg": "words", "data": []})


def okx_said(desk: Desk, leg: Leg, *, reduces: bool) -> dict[str, Any]:
    """What all orders of the trader say that take from *leg*, or open it."""
    mode = {"posSide": leg.side} if desk.venue.hedge else {"posSide": "net", "reduceOnly": reduces}
    common = {"instId": "BTC-USDT-SWAP", "tdMode": desk.venue.margin_mode, "sz": "2"}
    return {**common, "side": _sides(leg, reduces=reduces), **mode}


def _okx_by_hand(desk: Desk, leg: Leg) -> None:
    """An order of each type that waits for one price or for none."""
    common, (stop, target) = okx_said(desk, leg, reduces=True), _exits(leg)
    desk.trader.private_post_trade_order({**common, "ordType": "limit", "px": "70000"})
    for kind, more in (
        ("trigger", {"triggerPx": stop, "orderPx": "-1"}),
        ("trigger", {"triggerPx": target, "orderPx": "-1"}),
        ("move_order_stop", {"callbackRatio": "0.01"}),
        *((kind, {}) for kind in ("chase", "twap", "smart_iceberg")),
    ):
        desk.trader.private_post_trade_order_algo({**common, **more, "ordType": kind})
    desk.exchange.place_stop(desk.stop("stop_loss", f"sl{leg.side}", leg, contracts=2))


def _okx_opening(desk: Desk, leg: Leg) -> None:
    desk.trader.private_post_trade_order({**okx_said(desk, leg, reduces=False), "ordType": "limit", "px": "65000"})


def _okx_rights(venue: Any, trades: bool, withdraws: bool) -> None:  # as all of them
    venue.permissions = ",".join(["read_only", *["trade"] * trades, *["withdraw"] * withdraws])


def _okx_expires_ms(request: Request) -> int:
    """Of its two ways to say it, where the second one is an order's only."""
    stamp_ms = round(datetime.fromisoformat(request.headers["ok-access-timestamp"]).timestamp() * 1000)
    assert request.headers["exptime"] == str(stamp_ms + 30_000)
    return stamp_ms + 30_000


OKX = VenueCase(
    name="okx",
    opens=Okx,
    paths={
        "place": (_POST, "/trade/order$"),
        "stop": (_POST, "/trade/order-algo$"),
        "cancel": (_POST, "/trade/cancel-"),
        "held": (_GET, "/account/positions$"),
        "price": (_GET, "/market/ticker$"),
        "order": (_GET, "/trade/order$"),
        "by id": (_GET, "/trade/order$"),
        "algo": (_GET, "/trade/order-algo$"),
        "plain": (_GET, "/orders-pending$"),
        "algos": (_GET, "/orders-algo-pending$"),
        "trades": (_GET, "/trade/fills$"),
        "funding": (_GET, "/account/bills$"),
        "clock": (_GET, "/public/time$"),
        "mode": (_GET, "/account/config$"),
        "markets": (_GET, "/public/instruments$"),
        "rights": (_GET, "/account/config$"),
    },
    lists=("plain", "algos"),
    refusal=okx_refusal,
    codes={
        RequestExpired: [50036, 50037, 50102],
        KeysRefused: [50105, 50110, 50111, 50113, 50119],
        RateLimited: [50011, 50061],
        UnderMaintenance: [50046, okx_failed(51030)],
        DuplicateClientOrderId: [okx_failed(51016), okx_failed(51065)],
        NothingToReduce: [
            *(okx_failed(code) for code in (51169, 51023, 51170)),
            *(okx_failed(51169, top=top) for top in "02"),
        ],
        ReduceOnlyBlocked: [okx_failed(code) for code in (51112, 51206, 51148)],
        OrderRefused: [51000, okx_failed(51121), okx_failed(51010)],
        StopWouldTrigger: [okx_failed(code) for code in range(51277, 51281)],
        NotServed: [okx_failed(51000, "Parameter posSide  error")],
        OutcomeUnknown: [
            50004,
            1,
            *(okx_refusal(code, status) for code, status in ((50001, 503), (50013, 429), (50026, 500))),
            *(okx_failed(code, status=500) for code in (51149, 51054)),
            *(okx_failed(code) for code in (51032, 59999)),
        ],
    },
    late="50102",
    wrong={"apiKey": "50111", "secret": "50113", "password": "50105"},
    gone="51169",
    no_order=(51603,),
    ended=tuple(okx_failed(code, top=top) for code, top in ((51400, "2"), (51400, "1"), (51410, "1"), (51416, "1"))),
    mode=okx_failed(51000, "Parameter posSide  error"),
    names_order={"code": "0", "data": [{"ordId": "x", "clOrdId": "another", "sCode": "0"}]},
    size="sz",
    expires_ms=_okx_expires_ms,
    step="0.01",
    largest=100_000,
    contract_size="0.01",
    ids_end=True,
    pages=("poslock.exchange.ccxt.okx.venue", "_PAGE"),
    states=('"live"', '"order_placed"'),
    odd=(
        *(("held", "pos", each) for each in ("many", "NaN", ...)),
        *(("held", each, ...) for each in ("posSide", "mgnMode", "avgPx", "instId")),
        *(("plain", each, value) for each, value in (("sz", "many"), ("ordId", None), ("ordId", ...), ("side", ...))),
        *(
            ("algos", each, value)
            for each, value in (("sz", "many"), ("algoId", None), ("algoId", ...), ("reduceOnly", ...))
        ),
        *(
            ("trades", each, value)
            for each, value in (("fillPx", None), ("fee", "x"), ("tradeId", ...), ("tradeId", None))
        ),
        *(("funding", each, value) for each, value in (("pnl", "x"), ("ts", ...))),
    ),
    families=(*["order"] * 4, *["stop_loss"] * 2, "take_profit", "trailing"),
    by_hand=_okx_by_hand,
    opening=_okx_opening,
    rights=_okx_rights,
    blocks=(51112, 51206),
)


# Spot.


def _spot_by_hand(desk: Desk, leg: Leg) -> None:
    enter = partial(desk.venue.books.enter, leg.symbol, "SELL")
    enter("LIMIT", Decimal(1), price=Decimal(70_000), client_id="limit")
    enter("STOP_LOSS_LIMIT", Decimal(1), trigger=Decimal(57_000), price=Decimal(56_000), client_id="stop")
    enter("TAKE_PROFIT", Decimal(1), trigger=Decimal(66_000), client_id="profit")
    enter("STOP_LOSS", Decimal(1), trailing=100, client_id="trail")


def _spot_opening(desk: Desk, leg: Leg) -> None:
    """A purchase, one that waits for a purchase, and one of another market with the same base."""
    enter = desk.venue.books.enter
    enter(leg.symbol, "BUY", "LIMIT", Decimal("0.1"), price=Decimal(50_000), client_id="entry")
    enter(leg.symbol, "SELL", "LIMIT", Decimal(3), price=Decimal(70_000), status="PENDING_NEW", client_id="later")


def _spot_rights(venue: Any, trades: bool, withdraws: bool) -> None:  # as all of them
    venue.rights = {"trades": trades, "withdraws": withdraws}


_SPOT = VenueCase(
    name="binance-spot",
    opens=lambda path, hedge=False, **settings: SpotVenue(path, name="binance", **settings),  # none here
    symbol="BTC/USDT",
    another="ETH/USDT",
    paths={
        "place": (_POST, "/v3/order$"),
        "stop": (_POST, "/v3/order$"),
        "cancel": (_DELETE, "/v3/order$"),
        "held": (_GET, "/v3/account$"),
        "price": (_GET, "/ticker/price$"),
        "order": (_GET, "/v3/order$"),
        "by id": (_GET, "/v3/order$"),
        "plain": (_GET, "/openOrders$"),
        "trades": (_GET, "/myTrades$"),
        "clock": (_GET, "/v3/time$"),
        "markets": (_GET, "/exchangeInfo$"),
        "rights": (_GET, "apiRestrictions$|apiKeyInfo$"),
    },
    lists=("plain",),
    refusal=_binance_refusal,
    codes={
        RequestExpired: [-1021],
        KeysRefused: [-1022, -2015],
        RateLimited: [-1003, -1015, Reply(418, {"code": -1003, "msg": "x"})],
        UnderMaintenance: [-1016, (-1013, "Market is closed."), (1, "System is under maintenance.")],
        OrderRefused: [
            *(-1102, -1121, (-2010, "This symbol is not permitted for this account.")),
            *((-1013, f"Filter failure: {each}") for each in ("LOT_SIZE", "NOTIONAL", "PERCENT_PRICE_BY_SIDE")),
            (-2010, "This account may not place or cancel orders."),
        ],
        StopWouldTrigger: [(-2010, "Stop price would trigger immediately.")],
        DuplicateClientOrderId: [(-2010, "Duplicate order sent.")],
        OutcomeUnknown: [
            *((-1003, _UNKNOWN), (-2010, _UNKNOWN), Reply(503, {"msg": _UNKNOWN}), (-1000, "System abnormality")),
            *(-1000, -1006, -1007, -1008, -99_999),
        ],
    },
    late="-1021",
    wrong={"apiKey": "-2015", "secret": "-1022"},
    gone="Account has insufficient balance",
    no_order=(-2011, -2013, -2026),
    ended=(-2011, -2013, -2026),
    expires_ms=BINANCE.expires_ms,
    step="0.00001",
    tick="0.01",
    smallest="0.00009",
    fee_rate="0.001",
    hedges=False,
    told_hedge=False,
    asks_ids=True,
    ids_end=True,
    pages=("page", None),
    reach_days=27,
    states=('"NEW"', '"NEWBORN"'),
    odd=(
        *(("held", each, value) for each, value in (("free", None), ("free", "NaN"), ("locked", ...))),
        ("held", "balances", None),
        *(("plain", each, ...) for each in ("side", "orderId", "status")),
        ("plain", "orderId", None),
        ("plain", "origQty", None),
        *(("trades", each, value) for each, value in (("price", None), ("commission", ...), ("id", ...), ("id", None))),
        ("trades", "isBuyer", None),
    ),
    families=("order", "stop_loss", "take_profit", "trailing"),
    by_hand=_spot_by_hand,
    opening=_spot_opening,
    rights=_spot_rights,
)
BINANCE_SPOT = _SPOT
MEXC_SPOT = replace(
    _SPOT,
    name="mexc-spot",
    opens=lambda path, hedge=False, **settings: SpotVenue(path, name="mexc", **settings),  # none here
    codes={
        RequestExpired: [700003, 10073],
        KeysRefused: [700002, 10072, 700006, 700007],
        RateLimited: [429],
        NotServed: [403, 30025],
        UnderMaintenance: [30000, 30016],
        OrderRefused: [30002, 30019, 30028, 10096, -1121, 700005],
        OutcomeUnknown: [500, 503, 504, 20002, 99999, 30099],
    },
    late="700003",
    wrong={"apiKey": "10072", "secret": "700002"},
    gone="30005",
    no_order=(-2011, -2013, 22222, 30026),
    ended=(-2011, -2013, 22222, 30026),
    largest=None,
    stops=False,
    asks_ids=False,
    ids_end=False,
    rounds=True,
)
SWAPS = (MEXC, BINANCE, BYBIT, OKX)
CASES = (*SWAPS, BINANCE_SPOT, MEXC_SPOT)


def extra(answer: Any) -> Any:
    """*answer* with more in each row than is known."""
    if isinstance(answer, list):
        return [extra(each) for each in answer]
    if not isinstance(answer, dict):
        return answer
    return {**{name: extra(each) for name, each in answer.items()}, "newField": None, "another": {"a": [1]}}


__all__ = ["CASES", "HTML", "SWAPS", "Desk", "VenueCase", "opened", "other"]
