"""What a bot's log tells of a close, and that it costs nothing when nobody listens."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from poslock import PaperExchange, Position, PositionGuard

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def guard(tmp_path: Path) -> PositionGuard:
    exchange = PaperExchange(tmp_path / "exchange.db")
    exchange.set_price("BTC", 100)
    exchange.open_position("BTC", "long", 10)
    guard = PositionGuard(exchange, lock_dir=tmp_path / "locks")
    guard.track(Position("p", "BTC", "long", 10, 100))
    guard.modify_position("p", stop_loss=95)
    return guard


def test_each_step_of_a_close_is_told(guard: PositionGuard, caplog: pytest.LogCaptureFixture) -> None:
    """Acquired, begun, decided, journaled, sent, swept, booked, released: in that order, with position and token."""
    with caplog.at_level(logging.DEBUG, "poslock"):
        closed = guard.close_position("p")
    records = [each for each in caplog.records if each.name.startswith("poslock")]
    steps = [step for each in records if (step := getattr(each, "step", None))]
    told = [
        step for step in steps if step in {"begin", "decide", "sending", "send", "filled", "cancel", "book", "booked"}
    ]
    assert told == ["decide", "sending", "send", "decide", "filled", "cancel", "decide", "book", "booked"]
    assert {(each.position, each.token) for each in records if hasattr(each, "step")} == {("p", closed.token)}  # type: ignore[attr-defined]
    said = [each.getMessage() for each in records]
    assert "acquired" in said[0]
    assert any("row 3: send 10" in each for each in said)


def test_nothing_is_formatted_when_nobody_listens(guard: PositionGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    """No record is made, so no text is either."""
    made: list[object] = []
    monkeypatch.setattr(logging.Logger, "makeRecord", lambda *arguments, **_options: made.append(arguments))
    log = logging.getLogger("poslock")
    log.setLevel(logging.ERROR)
    try:
        guard.close_position("p")
    finally:
        log.setLevel(logging.NOTSET)
    assert made == []
