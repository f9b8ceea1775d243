"""OKX's orders, plain and conditional: taken, looked up, listed and cancelled."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from loopback.okx_rows import ALGO, ELSE, ORDER, WORDS, algo, fail, good, judged, operation, order, order_id, page
from loopback.samples import sample
from loopback.server import Routes
from loopback.swaps import plain

if TYPE_CHECKING:
    import sqlite3

    from loopback.swaps import Account

ORDERS = Routes()
_TYPES = {"conditional", "oco", "trigger", "move_order_stop", "chase", "twap", "smart_iceberg"}


@ORDERS.on("POST", "/api/v5/trade/order")
def place(books: Account, said: dict[str, Any]) -> Any:
    venue, client_id = books.venue, books.venue.client_id(said.get("clOrdId"))
    expires = books.request.headers.get("exptime") if books.request else None
    if expires is not None and int(expires) < venue.clock_ms():
        venue.refuse(50036)
    if any(row["state"] == "open" for row in _by_client_id(books, client_id)):
        fail(51016)
    if said["ordType"] not in {"market", "limit"}:
        venue.refuse(51000)
    is_market = said["ordType"] == "market"
    if not is_market:
        operation(venue.on_tick, said["px"])
    leg, reduces, contracts = judged(books, said, *((venue.largest, 51202) if is_market else (venue.most, 51203)))
    if venue.blocks and reduces and books.frozen(leg) + contracts > books.held(leg):
        fail(venue.blocks)
    number = books.enter(leg, "order", contracts, said, reducing=reduces, client_id=client_id)
    if is_market:
        books.fill(number)
    return good({"ordId": str(ORDER + number), "clOrdId": client_id or "", "sCode": "0", "sMsg": ""})


@ORDERS.on("GET", "/api/v5/trade/order")
def one(books: Account, said: dict[str, Any]) -> Any:
    symbol = books.venue.symbol(said.get("instId"))
    if "ordId" in said:
        found = [row for row in books.rows() if order_id(row) == said["ordId"] and _is_plain(row)]
    else:
        found = [row for row in _by_client_id(books, said["clOrdId"]) if books.shown(row)]
    told = [order(books.venue, row) for row in found if row["symbol"] == symbol]
    return good(told[0]) if told else books.venue.refuse(51603)


@ORDERS.on("GET", "/api/v5/trade/orders-pending")
def pending(books: Account, said: dict[str, Any]) -> Any:
    symbol = books.venue.symbol(said.get("instId"))
    rows = books.rows("symbol = ? AND state = 'open' AND family = 'order'", symbol)
    return page(books, [order(books.venue, row) for row in rows], "ordId")


@ORDERS.on("POST", "/api/v5/trade/cancel-order")
def cancel(books: Account, said: dict[str, Any]) -> Any:
    symbol = books.venue.symbol(said.get("instId"))
    found = [row for row in books.rows("symbol = ?", symbol) if order_id(row) == said["ordId"]]
    if not found or found[0]["state"] != "open" or not _is_plain(found[0]):
        fail(51400)
    books.cancel(str(found[0]["order_id"]))
    return good({"ordId": said["ordId"], "clOrdId": "", "sCode": "0", "sMsg": ""})


def _is_plain(row: sqlite3.Row) -> bool:
    """Whether it stands among the plain orders: a conditional one does once it has triggered."""
    return bool(row["family"] == "order" or Decimal(row["filled"]))


def _by_client_id(books: Account, client_id: str | None) -> list[sqlite3.Row]:
    asked = books.venue.asked
    plain_ones = books.rows("family = 'order'") if client_id else []
    return [row for row in plain_ones if asked.get(row["order_id"], {}).get("clOrdId") == client_id]


# Conditional ones.


@ORDERS.on("POST", "/api/v5/trade/order-algo")
def place_algo(books: Account, said: dict[str, Any]) -> Any:
    venue, client_id = books.venue, books.venue.client_id(said.get("algoClOrdId"))
    if said["ordType"] not in _TYPES:
        venue.refuse(51000)
    if client_id and any(row["algoClOrdId"] == client_id for row in _algos(books)):
        fail(51065)
    leg, reduces, contracts = judged(books, said, venue.largest, 51203)
    last = books.price(leg.symbol)
    if said["ordType"] in {"conditional", "trigger"}:
        kind, trigger = _trigger(books, leg.symbol, said)
        asked = {**said, "last": plain(last)}
        taken = books.enter(leg, kind, contracts, asked, reducing=reduces, client_id=client_id, trigger=trigger)
        number = str(ALGO + taken)
    else:
        number = str(ELSE + len(venue.algos))
        names = ("instId", "algoClOrdId", "ordType", "side", "posSide", "tdMode", "sz", "closeFraction")
        echoed = {name: said[name] for name in (*names, "slTriggerPx", "tpTriggerPx") if name in said}
        only = {"reduceOnly": "true" if said.get("reduceOnly") is True else "false", "cTime": str(venue.clock_ms())}
        size = {"sz": said.get("sz", ""), "last": plain(last), "algoId": number}
        venue.algos.append(sample("okx", "algo", echoed, only, size))
    return good({"algoId": number, "algoClOrdId": client_id or "", "sCode": "0", "sMsg": ""})


def _trigger(books: Account, symbol: str, said: dict[str, Any]) -> tuple[str, Decimal]:
    venue, sells = books.venue, said["side"] == "sell"
    if said["ordType"] == "trigger":
        trigger: Decimal = operation(venue.on_tick, said["triggerPx"])
        return "take_profit" if (trigger > books.price(symbol)) == sells else "stop_loss", trigger
    kind = "stop_loss" if "slTriggerPx" in said else "take_profit"
    name = {"stop_loss": "sl", "take_profit": "tp"}[kind]
    by = said.get(f"{name}TriggerPxType", "last")
    if by not in {"last", "mark"} or f"{name}OrdPx" not in said:
        venue.refuse(51000)
    trigger = operation(venue.on_tick, said[f"{name}TriggerPx"])
    if books.triggers_at_once(symbol, trigger, falls=(kind == "stop_loss") == sells, by_mark=by == "mark"):
        fail({("sl", True): 51280, ("sl", False): 51278, ("tp", True): 51279, ("tp", False): 51277}[name, sells])
    return kind, trigger


@ORDERS.on("GET", "/api/v5/trade/order-algo")
def one_algo(books: Account, said: dict[str, Any]) -> Any:
    found = [row for row in _algos(books) if row["algoClOrdId"] == said["algoClOrdId"]]
    return good(found[0]) if found and _is_shown(books, found[0]) else books.venue.refuse(51603)


def _is_shown(books: Account, row: dict[str, Any]) -> bool:
    return books.shown({"created_ms": int(row["cTime"])})


@ORDERS.on("GET", "/api/v5/trade/orders-algo-pending")
def algos_pending(books: Account, said: dict[str, Any]) -> Any:
    kinds = set(str(said.get("ordType")).split(","))
    if not kinds <= _TYPES or (len(kinds) > 1 and kinds != {"conditional", "oco"}):
        books.venue.refuse(51000)
    live = [row for row in _algos(books) if row["state"] == "live" and row["ordType"] in kinds]
    return page(books, [row for row in live if row["instId"] == said["instId"]], "algoId")


@ORDERS.on("POST", "/api/v5/trade/cancel-algos")
def cancel_algos(books: Account, wanted: list[dict[str, Any]]) -> Any:
    """Ten at most, each by one of its ids, and each with an outcome of its own."""
    if not 1 <= len(wanted) <= 10:
        books.venue.refuse(51000)
    told = [_cancel_algo(books, each) for each in wanted]
    failed = sum(row["sCode"] != "0" for row in told)
    code = "0" if not failed else "1" if failed == len(told) else "2"
    words = {"0": "", "1": "All operations failed", "2": "Bulk operation partially succeeded."}
    return {"code": code, "msg": words[code], "data": told}


def _cancel_algo(books: Account, said: dict[str, Any]) -> dict[str, Any]:
    name = "algoId" if said.get("algoId") else "algoClOrdId"
    found = [row for row in _algos(books) if row["state"] == "live" and row["instId"] == said.get("instId")]
    found = [row for row in found if row[name] == said.get(name)]
    told = {"algoClOrdId": "", "algoId": "", name: said.get(name, ""), "clOrdId": "", "tag": ""}
    if not told[name] or not said.keys() <= {"instId", "algoId", "algoClOrdId"}:
        return {**told, "sCode": "51000", "sMsg": f"Parameter {name} error"}
    if not found or (name == "algoClOrdId" and not _is_shown(books, found[0])):
        return {**told, "sCode": "51400", "sMsg": WORDS[51400].words}
    number = found[0]["algoId"]
    books.cancel(str(int(number) - ALGO))
    books.venue.algos = [row for row in books.venue.algos if row["algoId"] != number]
    return {**told, "algoId": number, "sCode": "0", "sMsg": ""}


def _algos(books: Account) -> list[dict[str, Any]]:
    return [*(algo(books.venue, row) for row in books.rows("family <> 'order'")), *books.venue.algos]
