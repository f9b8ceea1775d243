"""Whether what a guard is given as its exchange is one, and of the kind that the guard can ask."""

from __future__ import annotations

from inspect import iscoroutinefunction

from poslock.text import shown

_PORT = ("prepare", "time_ms", "holding", "trades", "place", "order", "open_orders", "cancel")


def expect_port(exchange: object, *, asynchronous: bool) -> None:
    """Return if *exchange* answers the guard's questions, as coroutines only if the guard is *asynchronous*.

    Raises:
        TypeError: it does not; the message has the line to write instead.
    """
    guard = "AsyncPositionGuard" if asynchronous else "PositionGuard"
    if callable(getattr(exchange, "fetch", None)) and callable(getattr(exchange, "sign", None)):
        awaited = iscoroutinefunction(getattr(exchange, "fetch", None))
        right = "AsyncPositionGuard" if awaited else guard
        adapter = "AsyncCcxtExchange" if awaited else "CcxtExchange"
        raise TypeError(f'a ccxt client is no exchange of poslock; write {right}({adapter}(client, account="main"))')
    missing = [name for name in _PORT if isinstance(exchange, type) or not callable(getattr(exchange, name, None))]
    if missing:
        what = "PaperExchange(path), CcxtExchange(client, account=...) or another poslock.exchange.port.Exchange"
        raise TypeError(
            f"{shown(exchange)} is no exchange: it has no {missing[0]}(); write {guard}(exchange) with {what}"
        )
    if not asynchronous and any(iscoroutinefunction(getattr(exchange, name)) for name in _PORT):
        raise TypeError("the requests of this exchange are coroutines; write AsyncPositionGuard(exchange)")
