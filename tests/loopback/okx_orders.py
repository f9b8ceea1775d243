"""OKX's plain orders: taken, looked up, listed and cancelled."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from loopback.okx_rows import ORDER, Asked, Terms, fail, good, order, order_id, page, refuse, terms
from loopback.server import Request, Routes

if TYPE_CHECKING:
    import sqlite3

    from loopback.okx import Okx
    from poslock.exchange.matching import Matching

ORDERS = Routes()


@ORDERS.on("POST", "/api/v5/trade/order")
def place(venue: Okx, request: Request) -> Any:
    said, expires = request.params, request.headers.get("exptime")
    if expires is not None and int(expires) < venue.clock_ms():
        refuse(50036)
    with venue.account() as account:
        client_id = said.get("clOrdId", "")
        if client_id and any(found["state"] == "open" for found in _by_client_id(venue, account, client_id)):
            fail(51016)
        asked = terms(venue, account, said, client_id)
        if said["ordType"] == "market" and asked.contracts > venue.largest:
            fail(51202)
        if venue.blocks and asked.reduces and _resting(account, asked) + asked.contracts > account.held(asked.leg):
            fail(venue.blocks)
        number = insert(venue, account, asked, "order", None)
        venue.asked[number] = Asked(client_id, said["ordType"], said.get("px", ""))
        if said["ordType"] == "market":
            account.execute(number, at_most=venue.book._liquidity)
    return good({"ordId": str(ORDER + number), "clOrdId": client_id, "sCode": "0", "sMsg": ""})


def insert(venue: Okx, account: Matching, asked: Terms, family: str, trigger: Decimal | None) -> int:
    # The id of one that has ended may be used again, of which the book knows nothing.
    client_id = asked.client_id or None
    known = client_id is not None and account.order_by_client_id(client_id)
    return account.insert(
        asked.leg,
        family,
        asked.contracts,
        reducing=asked.reduces,
        client_order_id=None if known else client_id,
        trigger_price=trigger,
    )


def _resting(account: Matching, asked: Terms) -> Decimal:
    resting = account.orders(asked.leg, only_open=True)
    return sum((each.contracts - each.filled for each in resting if each.family == "order"), Decimal(0))


@ORDERS.on("GET", "/api/v5/trade/order")
def one(venue: Okx, request: Request) -> Any:
    symbol, said = venue.symbol(request.params.get("instId")), request.params
    with venue.account() as account:
        if "ordId" in said:
            found = [row for row in orders(account) if order_id(row) == said["ordId"] and _is_plain(row)]
        else:
            found = _by_client_id(venue, account, said["clOrdId"])
    told = [order(venue, row) for row in found if row["symbol"] == symbol]
    return good(told[0]) if told else refuse(51603)


@ORDERS.on("GET", "/api/v5/trade/orders-pending")
def pending(venue: Okx, request: Request) -> Any:
    symbol = venue.symbol(request.params.get("instId"))
    with venue.account() as account:
        rows = orders(account, "symbol = ? AND state = 'open' AND family = 'order'", symbol)
    return page(request, [order(venue, row) for row in rows], "ordId")


@ORDERS.on("POST", "/api/v5/trade/cancel-order")
def cancel(venue: Okx, request: Request) -> Any:
    symbol, said = venue.symbol(request.params.get("instId")), request.params
    with venue.account() as account:
        found = [row for row in orders(account, "symbol = ?", symbol) if order_id(row) == said["ordId"]]
        if not found or found[0]["state"] != "open" or not _is_plain(found[0]):
            fail(51400)
        account.cancel(str(found[0]["order_id"]))
    return good({"ordId": said["ordId"], "clOrdId": "", "sCode": "0", "sMsg": ""})


def orders(account: Matching, where: str = "1", *values: object) -> list[sqlite3.Row]:
    """Orders, the latest first."""
    return account._db.execute(f"SELECT * FROM orders WHERE {where} ORDER BY order_id DESC", values).fetchall()


def _is_plain(row: sqlite3.Row) -> bool:
    """Whether it stands among the plain orders: a conditional one does once it has triggered."""
    return bool(row["family"] == "order" or Decimal(row["filled"]))


def _by_client_id(venue: Okx, account: Matching, client_id: str) -> list[sqlite3.Row]:
    rows = orders(account, "family = 'order'")
    return [
        row for row in rows if row["order_id"] in venue.asked and venue.asked[row["order_id"]].client_id == client_id
    ]
