"""A bot that logs everything and handles no error: ``python talkative_bot.py SETTINGS``, settings as JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

from loopback.mexc import client_at
from poslock import AsyncPositionGuard, CcxtExchange, Position, PositionGuard
from poslock.exchange.port import CloseOrder, Leg

LEG = Leg("BTC/USDT:USDT", "long")
POSITION = Position("btc-1", LEG.symbol, LEG.side, 10, 60_000)
CONTRACTS = POSITION.contracts


def exchange_at(url: str, folder: str, *, asynchronous: bool, hides: bool) -> CcxtExchange:
    """The account, with what is logged in a file."""
    logging.basicConfig(level=logging.DEBUG, filename=f"{folder}/bot.log")
    exchange = CcxtExchange(client_at(url, asynchronous=asynchronous), account="main")
    if not hides:
        loggers = [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
        for logger in loggers:
            logger.filters.clear()
    return exchange


def turn(client: Any, changes: dict[str, Any]) -> None:
    """Something about the client goes wrong."""
    for name, value in changes.items():
        setattr(client, name, value)


def threaded(exchange: CcxtExchange, folder: str, does: str, changes: dict[str, Any], late_ms: int) -> None:
    guard = PositionGuard(exchange, lock_dir=f"{folder}/locks")
    guard.track(POSITION)
    exchange._client.ccxt.contract_private_get_position_position_mode()  # a request of its own
    with guard.closing(POSITION.id) as close:
        sending = close.sending()
        turn(exchange._client.ccxt, changes)
        if does == "held":
            exchange.holding(LEG)
        signed_at_ms = sending.signed_at_ms - late_ms
        exchange.place(CloseOrder(LEG, CONTRACTS, close.client_order_id, signed_at_ms, sending.receive_window_ms))


async def awaited(exchange: Any, folder: str, does: str, changes: dict[str, Any], late_ms: int) -> None:
    guard = AsyncPositionGuard(exchange, lock_dir=f"{folder}/locks")
    await guard.track(POSITION)
    await exchange._client.ccxt.contract_private_get_position_position_mode()  # a request of its own
    async with guard.closing(POSITION.id) as close:
        sending = await close.sending()
        turn(exchange._client.ccxt, changes)
        if does == "held":
            await exchange.holding(LEG)
        signed_at_ms = sending.signed_at_ms - late_ms
        order = CloseOrder(LEG, CONTRACTS, close.client_order_id, signed_at_ms, sending.receive_window_ms)
        await exchange.place(order)


def main(url: str, folder: str, *, asynchronous: bool, hides: bool, does: str, changes: Any, late_ms: int) -> None:
    exchange = exchange_at(url, folder, asynchronous=asynchronous, hides=hides)
    if asynchronous:
        asyncio.run(awaited(exchange, folder, does, changes, late_ms))
    else:
        threaded(exchange, folder, does, changes, late_ms)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
