"""What the next process need not ask a venue for: the file, and the venue's clock as it comes out of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from poslock.exchange.ccxt.clock import VenueClock
from poslock.lock.files.memory import MemoryFile
from systems import Clock, failing

if TYPE_CHECKING:
    from collections.abc import Callable

FULL = OSError(28, "No space left on device")


@pytest.fixture
def memory_of(lock_dir: str) -> Callable[..., MemoryFile]:
    """Makes the memory as another process sees it."""

    def made(account: str = "binance swap main", **calls: Any) -> MemoryFile:
        directory = Clock().directory(lock_dir, **calls)
        directory.prepare()
        return MemoryFile(directory, account)

    return made


def test_the_next_process_recalls_what_was_remembered(memory_of: Any) -> None:
    """All of it, by name, of this account alone; the file is its user's."""
    memory_of().remember(clock=[1, 2])
    mine = memory_of()
    mine.remember(mode=[True])
    assert memory_of().recall() == {"clock": [1, 2], "mode": [True]}
    mine.remember(mode=[None])
    assert memory_of().recall()["mode"] == [None]
    assert memory_of("binance swap other").recall() == {}
    assert Path(mine.path).stat().st_mode & 0o777 == 0o600
    assert [name for name in os.listdir(os.path.dirname(mine.path)) if ".known" in name] == [Path(mine.path).name]


def test_what_a_process_with_another_clock_remembered_counts_for_nothing(memory_of: Any) -> None:
    """After a reboot, in a container with clocks of its own, and where nobody knows which clock it is."""
    memory_of(clock_name="another boot").remember(clock=[1, 2])
    assert memory_of().recall() == {}
    memory_of(clock_name="a container").remember(clock=[1, 2])
    assert memory_of().recall() == {}
    memory_of(clock_name="").remember(clock=[1, 2])
    assert memory_of(clock_name="").recall() == {}


@pytest.mark.parametrize(
    "said", [b"", b"{", b"[]", b"3", b'{"known": 3}', b"\xff\xfe", b'{"clock_of": "x", "known": []}']
)
def test_a_file_that_says_nothing_is_begun_anew(memory_of: Any, said: bytes) -> None:
    """Damaged, or of somebody else's making."""
    mine = memory_of()
    mine.remember(mode=[True])
    Path(mine.path).write_bytes(said)
    assert mine.recall() == {}
    mine.remember(mode=[False])
    assert memory_of().recall() == {"mode": [False]}


def test_values_of_another_kind_are_for_who_reads_them(memory_of: Any) -> None:
    """The file is valid, and its clock is no time."""
    mine = memory_of()
    for odd in ("now", [], [1], [None, 2], {"a": 1}):
        mine.remember(clock=odd)
        clock = VenueClock(lambda: 10)
        clock.memory = memory_of()
        clock.recall()
        assert not clock.is_known


def test_a_planted_file_is_not_read_and_what_it_leads_to_stays(memory_of: Any, tmp_path: Path) -> None:
    """A link, or a file with a second name."""
    mine, other = memory_of(), tmp_path / "other"
    mine.remember(mode=[True])
    said = Path(mine.path).read_bytes()
    other.write_bytes(said)
    for plant in (os.symlink, os.link):
        Path(mine.path).unlink()
        plant(other, mine.path)
        assert mine.recall() == {}
        mine.remember(mode=[False])
        assert (other.read_bytes(), mine.recall()) == (said, {"mode": [False]})


@pytest.mark.parametrize("call", ["create", "write", "rename"])
def test_what_cannot_be_written_is_forgotten_without_a_word(memory_of: Any, call: str) -> None:
    """Nothing is left over, and what was remembered before is there still."""
    memory_of().remember(mode=[True])
    mine = memory_of(**{call: failing(FULL)})
    mine.remember(mode=[False])
    assert memory_of().recall() == {"mode": [True]}
    assert len([name for name in os.listdir(os.path.dirname(mine.path)) if ".known" in name]) == 1


def test_the_oldest_goes_where_there_is_too_much(memory_of: Any) -> None:
    """A bot may have been on very many markets."""
    mine = memory_of()
    for number in range(300):
        mine.remember(**{f"long C{number}/USDT": {"number": number}})
    known = memory_of().recall()
    assert len(known) == 256
    assert list(known)[-1] == "long C299/USDT"
    assert len(json.dumps(known)) < 1 << 16


def test_a_clock_goes_on_where_another_process_has_read_it(memory_of: Any) -> None:
    """By the ticks of both; one that was asked itself knows better, and one of more than a day ago is asked anew."""
    ticks_ns = [10**15]
    first, second = (VenueClock(lambda: ticks_ns[0]) for _ in range(2))
    first.memory = second.memory = memory_of()
    first.set(1_000_000)
    ticks_ns[0] += 2 * 10**9
    second.recall()
    assert (second.is_known, second.is_fresh, second.now_ms()) == (True, True, 1_001_998)
    second.set(5_000_000)
    second.recall()
    assert second.now_ms() == 5_000_000
    ticks_ns[0] += 25 * 3600 * 10**9
    third = VenueClock(lambda: ticks_ns[0])
    third.memory = memory_of()
    third.recall()
    assert not third.is_known


@pytest.mark.parametrize("drift", [-500, 0, 500], ids=["slow", "exact", "fast"])
@pytest.mark.parametrize("passed_s", [1, 600, 999, 20_000, 80_000])
def test_a_venues_clock_is_never_ahead_for_an_order_and_near_for_a_question(drift: int, passed_s: int) -> None:
    """However long ago it was read, by clocks that drift apart by 500 millionths, which is more than they do."""
    ticks_ns = [0]
    clock = VenueClock(lambda: ticks_ns[0])
    clock.set(0)
    ticks_ns[0] = passed_s * (10**9 + drift * 1000)
    venue_ms = passed_s * 1000
    assert clock.now_ms() <= venue_ms
    assert clock.is_fresh == (passed_s < 1000)
    if clock.is_fresh:
        assert venue_ms - clock.now_ms() < 1500
    # A question is refused from a second ahead, and ten seconds behind.
    if passed_s <= 600 or drift == 0:
        assert -10_000 < clock.question_ms() - venue_ms < 1000
