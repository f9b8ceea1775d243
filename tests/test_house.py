"""How many modules somebody has to read who follows a close."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from poslock import PaperExchange, Position, PositionGuard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_MOST = 20


def test_a_close_on_paper_leads_through_few_modules(tmp_path: Path) -> None:
    """A call of a close leads through a module if it goes on from there into another one.

    What is only asked for a value, such as the text of an error or a P&L, leads nowhere else.
    """
    exchange = PaperExchange(tmp_path / "exchange.db")
    exchange.set_price("BTC", 100)
    exchange.open_position("BTC", "long", 10)
    guard = PositionGuard(exchange, lock_dir=tmp_path / "locks")
    guard.track(Position("p", "BTC", "long", 10, 100))
    guard.modify_position("p", stop_loss=95, take_profit=120)
    calls = _calls(lambda: guard.close_position("p"))
    through = {caller for caller, _ in calls}
    assert {"poslock.guard.operations", "poslock.closing.close", "poslock.exchange.paper"} <= through
    assert len(through) <= _MOST, sorted(through)


def _calls(work: Callable[[], object]) -> set[tuple[str, str]]:
    """The calls from one module of poslock into another one while *work* is done."""
    found: set[tuple[str, str]] = set()

    def note(frame: Any, event: str, _argument: object) -> None:
        if event == "call":
            callee, caller = frame.f_globals.get("__name__", ""), _module_of(frame.f_back)
            if callee.startswith("poslock.") and caller not in {callee, ""}:
                found.add((caller, callee))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return found


def _module_of(frame: Any) -> str:
    """The nearest module of poslock that a call comes from, whatever of Python or a library is in between."""
    while frame is not None:
        name: str = frame.f_globals.get("__name__", "")
        if name.startswith("poslock.") and not frame.f_code.co_filename.startswith("<"):
            return name
        frame = frame.f_back
    return ""
