"""OKX's conditional orders: taken, looked up, listed and cancelled."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from loopback.okx_orders import insert, orders
from loopback.okx_rows import ALGO, ELSE, TICK, Asked, Terms, algo, fail, good, market_id, page, plain, refuse, terms
from loopback.server import Request, Routes

if TYPE_CHECKING:
    from loopback.okx import Okx
    from poslock.exchange.matching import Matching

ALGOS = Routes()
_TYPES = {"conditional", "oco", "trigger", "move_order_stop", "chase", "twap", "smart_iceberg"}


@ALGOS.on("POST", "/api/v5/trade/order-algo")
def place(venue: Okx, request: Request) -> Any:
    said = request.params
    client_id = said.get("algoClOrdId", "")
    if said["ordType"] not in _TYPES:
        refuse(51000)
    with venue.account() as account:
        if client_id and any(row["algoClOrdId"] == client_id for row in _all(venue, account)):
            fail(51065)
        asked = terms(venue, account, said, client_id)
        if said["ordType"] in {"conditional", "trigger"}:
            number = ALGO + _resting(venue, account, asked, said)
        else:
            number = ELSE + len(venue.algos)
            venue.algos.append(_other(venue, account, asked, said, number))
    return good({"algoId": str(number), "algoClOrdId": client_id, "sCode": "0", "sMsg": ""})


def _resting(venue: Okx, account: Matching, asked: Terms, said: dict[str, Any]) -> int:
    last, sells = account.price(asked.leg.symbol), said["side"] == "sell"
    if said["ordType"] == "trigger":
        trigger = Decimal(said["triggerPx"])
        kind = "take_profit" if (trigger > last) == sells else "stop_loss"
    else:
        kind = "stop_loss" if "slTriggerPx" in said else "take_profit"
        name = {"stop_loss": "sl", "take_profit": "tp"}[kind]
        by = said.get(f"{name}TriggerPxType", "last")
        if by not in {"last", "mark"} or f"{name}OrdPx" not in said:
            refuse(51000)
        last = (by == "mark" and venue.mark) or last
        trigger = Decimal(said[f"{name}TriggerPx"])
        if trigger == last or (trigger > last) is not ((kind == "take_profit") == sells):
            fail({("sl", True): 51280, ("sl", False): 51278, ("tp", True): 51279, ("tp", False): 51277}[name, sells])
    if asked.contracts > venue.largest:
        fail(51203)
    if trigger % TICK:
        fail(51000)  # its documentation has no code of its own for it
    number = insert(venue, account, asked, kind, trigger)
    venue.asked[number] = Asked(asked.client_id, said["ordType"], last=plain(last))
    return number


def _other(venue: Okx, account: Matching, asked: Terms, said: dict[str, Any], number: int) -> dict[str, Any]:
    return {
        "instType": "SWAP",
        "instId": market_id(asked.leg.symbol),
        "algoId": str(number),
        "algoClOrdId": asked.client_id,
        "ordType": said["ordType"],
        "side": said["side"],
        "posSide": said.get("posSide", "net"),
        "tdMode": said["tdMode"],
        "sz": said.get("sz", ""),
        "closeFraction": said.get("closeFraction", ""),
        "state": "live",
        "slTriggerPx": said.get("slTriggerPx", ""),
        "tpTriggerPx": said.get("tpTriggerPx", ""),
        "triggerPx": "",
        "last": plain(account.price(asked.leg.symbol)),
        "actualSz": "0",
        "ordIdList": [],
        "reduceOnly": "true" if said.get("reduceOnly") is True else "false",
        "cTime": str(venue.clock_ms()),
    }


@ALGOS.on("GET", "/api/v5/trade/order-algo")
def one(venue: Okx, request: Request) -> Any:
    with venue.account() as account:
        found = [row for row in _all(venue, account) if row["algoClOrdId"] == request.params["algoClOrdId"]]
    return good(found[0]) if found else refuse(51603)


@ALGOS.on("GET", "/api/v5/trade/orders-algo-pending")
def pending(venue: Okx, request: Request) -> Any:
    kinds = set(str(request.params.get("ordType")).split(","))
    if not kinds <= _TYPES or (len(kinds) > 1 and kinds != {"conditional", "oco"}):
        refuse(51000)
    with venue.account() as account:
        live = [row for row in _all(venue, account) if row["state"] == "live" and row["ordType"] in kinds]
    return page(request, [row for row in live if row["instId"] == request.params["instId"]], "algoId")


@ALGOS.on("POST", "/api/v5/trade/cancel-algos")
def cancel(venue: Okx, request: Request) -> Any:
    [said] = request.params
    with venue.account() as account:
        found = [row for row in _all(venue, account) if row["algoId"] == said["algoId"] and row["state"] == "live"]
        if not found or found[0]["instId"] != said["instId"]:
            fail(51400)
        account.cancel(str(int(said["algoId"]) - ALGO))
    venue.algos = [row for row in venue.algos if row["algoId"] != said["algoId"]]
    return good({"algoId": said["algoId"], "sCode": "0", "sMsg": ""})


def _all(venue: Okx, account: Matching) -> list[dict[str, Any]]:
    return [*(algo(venue, row) for row in orders(account, "family <> 'order'")), *venue.algos]
