"""Many processes close many positions at once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from reach import GROUNDS

if TYPE_CHECKING:
    from conftest import Account, Children

pytestmark = pytest.mark.parametrize(("venue", "asynchronous"), GROUNDS)

PROCESSES, POSITIONS = 8, 50


def test_eight_processes_close_fifty_positions(start: Children, account: Account) -> None:
    """Of 400 calls 50 close, each a different position; 350 are told "closing" or "closed"."""
    opened = [account.open(f"p{i}", symbol=f"COIN{i}/USDT:USDT", contracts=i + 1) for i in range(POSITIONS)]
    ids = [position.id for position in opened]
    children = [start("close", **account.of_child(), positions=ids) for _ in range(PROCESSES)]
    for child in children:
        child.hear()
    for child in children:
        child.tell()
    told = [child.hear(100)["outcomes"] for child in children]
    for each_process in zip(*told, strict=True):
        assert [each["outcome"] for each in each_process].count("booked") == 1
    counts = Counter(each["outcome"] for row in told for each in row)
    assert counts.pop("booked") == POSITIONS
    assert set(counts) <= {"already closing", "already closed"}
    assert sum(counts.values()) == (PROCESSES - 1) * POSITIONS
    assert account.rows("SELECT count(*) FROM booking") == [(POSITIONS,)]
    for position in opened:
        account.assert_closed_once(position)
