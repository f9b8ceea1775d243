from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poslock import InvalidPositionId, PositionGuard, PositionLock
from poslock.lock.files.directory import lock_file_name
from poslock.lock.record import check_position_id

BAD = ["", "x" * 129, "a\nb", "a\0b", "\x1b[31m", "a\x7fb", "a\x85b", "\ud800", None, 7, b"bytes"]
GOOD = ["x", "x" * 128, "BTC/USDT:USDT", "../../etc/passwd", ".", "..", "/", "-rf", "позиция", "🚀" * 128, " ", "a b"]


@pytest.mark.parametrize("position_id", BAD)
def test_a_bad_id_is_refused_and_nothing_is_written(position_id: Any, lock_dir: str, account: Any) -> None:
    """Empty, too long, control characters or no text: InvalidPositionId before a directory is made."""
    with pytest.raises(InvalidPositionId) as caught:
        PositionLock(position_id, lock_dir=lock_dir)
    assert isinstance(caught.value, ValueError)
    assert str(caught.value).isprintable()
    with pytest.raises(InvalidPositionId):
        PositionGuard(account.exchange, lock_dir=lock_dir).close_position(position_id)
    assert not Path(lock_dir).exists()


@pytest.mark.parametrize("position_id", GOOD)
def test_a_good_id_locks_inside_the_directory(position_id: str, lock_dir: str) -> None:
    """Whatever the id says, its file is in the lock directory."""
    with PositionLock(position_id, lock_dir=lock_dir) as lock:
        lock.check()
        assert Path(lock.path).resolve().parent == Path(lock_dir).resolve()


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=128))
def test_file_names_are_plain(position_id: str) -> None:
    """Any valid id gives a short ASCII file name without a separator."""
    name = lock_file_name(check_position_id(position_id))
    assert name.isascii()
    assert "/" not in name
    assert not name.startswith((".", "-"))
    assert len(name) < 64


def test_ids_that_look_alike_have_different_files() -> None:
    """The slug may be the same, the hash tells them apart."""
    alike = ["BTC/USDT", "BTC-USDT", "BTC USDT", "btc/usdt", "BTC/USDT "]
    assert len({lock_file_name(each) for each in alike}) == len(alike)
