"""A guard that is given no exchange, or one of the other kind, says at once what to write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ccxt
import ccxt.async_support
import pytest

from awaited import Coroutines
from poslock import AsyncPositionGuard, PaperExchange, PositionGuard

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("guard", "client", "line"),
    [
        (PositionGuard, ccxt.binanceusdm(), 'PositionGuard(CcxtExchange(client, account="main"))'),
        (AsyncPositionGuard, ccxt.mexc(), 'AsyncPositionGuard(CcxtExchange(client, account="main"))'),
        (PositionGuard, ccxt.async_support.okx(), 'AsyncPositionGuard(AsyncCcxtExchange(client, account="main"))'),
    ],
)
def test_a_ccxt_client_is_no_exchange(lock_dir: str, guard: Any, client: Any, line: str) -> None:
    with pytest.raises(TypeError) as caught:
        guard(client, lock_dir=lock_dir)
    assert str(caught.value).endswith(f"write {line}")


def test_coroutines_need_the_guard_for_tasks(tmp_path: Path, lock_dir: str) -> None:
    exchange: Any = Coroutines(PaperExchange(tmp_path / "exchange.db"))
    with pytest.raises(TypeError, match=r"write AsyncPositionGuard\(exchange\)"):
        PositionGuard(exchange, lock_dir=lock_dir)
    AsyncPositionGuard(exchange, lock_dir=lock_dir)


@pytest.mark.parametrize("wrong", [None, "exchange.db", {}, PaperExchange])
def test_what_is_no_exchange_is_named(lock_dir: str, wrong: Any) -> None:
    with pytest.raises(TypeError, match="no exchange"):
        PositionGuard(wrong, lock_dir=lock_dir)
