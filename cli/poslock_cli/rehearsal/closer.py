"""A process that closes the rehearsed position: ``python -m poslock_cli.rehearsal.closer CONFIG LOCK_DIR POSITION``.

It says a JSON object a line: that it is ready, that its order was accepted, and what came of its close. After the first
two it goes on when it is told to, or when nobody is there any more to tell it. Keys come from where the configuration
has them.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from poslock import PositionGuard
from poslock.errors import PositionAlreadyClosingError, PoslockError
from poslock_cli.configuration import load
from poslock_cli.real_exchange import open_venue

if TYPE_CHECKING:
    from poslock.exchange.port import CloseOrder, Order

TIMEOUT_S = 100.0


class _Announcing:
    """An exchange that says when an order was accepted, and waits before anything else is done."""

    def __init__(self, exchange: Any) -> None:
        self._exchange = exchange

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exchange, name)

    def place(self, order: CloseOrder) -> Order:
        accepted: Order = self._exchange.place(order)
        _say(said="accepted", order_id=accepted.order_id)
        sys.stdin.readline()
        return accepted


def _say(**words: object) -> None:
    with suppress(BrokenPipeError):  # nobody listens any more: the close goes on all the same
        os.write(sys.stdout.fileno(), f"{json.dumps(words)}\n".encode())


def main(config: str, lock_dir: str, position_id: str) -> None:
    """Close the position once told to, and say what came of it."""
    configuration = load(config)
    assert configuration.venue is not None  # noqa: S101  # the command has looked
    try:
        exchange = open_venue(configuration.path, configuration.venue)
        exchange.prepare()
        lease = configuration.lease
        guard = PositionGuard(_Announcing(exchange), lock_dir=lock_dir, timeout=TIMEOUT_S, stale_after=lease)
        _say(said="ready")
        sys.stdin.readline()
        closed = guard.close_position(position_id, reason="rehearsal")
    except PositionAlreadyClosingError as other:
        _say(said="ended", outcome=f"was told it is {other.state}")
    except PoslockError as error:
        _say(said="ended", outcome="failed", why=str(error))
    else:
        _say(said="ended", outcome="closed by this one", client_order_id=closed.client_order_id)


if __name__ == "__main__":
    main(*sys.argv[1:])
