"""How a process gets at an account: the paper account in a file, or a venue on this machine that has it behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from poslock import CcxtExchange, PaperExchange

if TYPE_CHECKING:
    from loopback.server import Loopback

# What is in front of the account, and whether the guards are those for tasks.
GROUNDS = [
    pytest.param("paper", False, id="paper-sync"),
    pytest.param("paper", True, id="paper-async"),
    pytest.param("mexc", False, id="mexc-sync"),
    pytest.param("mexc hedge", True, id="mexc-hedge-async"),
]


def reached(where: str, *, asynchronous: bool = False, **settings: Any) -> Any:
    """The exchange for a guard: *where* is a path, or a venue and its address: ``"mexc http://127.0.0.1:8000"``.

    *settings* are those of a paper account; a venue's are its server's, but for ``settles_within``.
    """
    venue, _, url = where.partition(" ")
    if not url:
        return PaperExchange(where, **settings)
    client, settles_within = _client(venue, url, asynchronous=asynchronous), settings.get("settles_within", 10.0)
    return CcxtExchange(client, account="test", denies_for=0.5, settles_within=settles_within)


def _client(venue: str, url: str, *, asynchronous: bool) -> Any:
    from loopback import binance, mexc  # noqa: PLC0415  # ccxt takes its time, and few tests need it

    return {"mexc": mexc, "binanceusdm": binance}[venue].client_at(url, asynchronous=asynchronous)


def serving(venue: str, path: str) -> Loopback:
    """A venue with the account in the file *path* behind it: ``"mexc"``, ``"mexc hedge"``, ``"binanceusdm"``, ..."""
    from loopback.binance import Binance  # noqa: PLC0415  # as above
    from loopback.mexc import Mexc  # noqa: PLC0415

    name, _, mode = venue.partition(" ")
    served: Loopback = {"mexc": Mexc, "binanceusdm": Binance}[name](path, hedge=mode == "hedge")
    return served
