"""Orders that are still on their way when nobody waits for them any more, nor is alive perhaps.

A bot leaves them in a directory; the market carries them to the venue when they are due.
"""

from __future__ import annotations

import os
import pickle
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from poslock import OrderRefused, OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from poslock import PaperExchange
    from poslock.exchange.port import CloseOrder, StopOrder


class Transit:
    """The orders under way of one run."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory, "transit")
        self._directory.mkdir(exist_ok=True)

    def send(self, account: int, method: str, order: CloseOrder | StopOrder, delay: float) -> None:
        """It arrives in so many seconds."""
        due = f"{time.time() + delay:.6f}-{order.client_order_id}"
        unfinished = self._directory / f".{due}"
        unfinished.write_bytes(pickle.dumps((account, method, order)))
        os.rename(unfinished, self._directory / due)

    def deliver(self, venues: Sequence[PaperExchange]) -> int:
        """What is due; how many orders the venues took."""
        taken = 0
        for path in sorted(each for each in self._directory.iterdir() if each.name[0] != "."):
            if float(path.name.split("-")[0]) > time.time():
                break
            account, method, order = pickle.loads(path.read_bytes())  # noqa: S301  # our own
            with suppress(OrderRefused, OutcomeUnknown):  # too late, or there already
                getattr(venues[account], method)(order)
                taken += 1
            path.unlink()
        return taken
