"""For how long a venue is left alone: what its answers ask for, and the file by which all processes keep to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from poslock.closing.session import Patience
from poslock.errors import RateLimited
from poslock.exchange.ccxt.limits import Heard, back_off, is_ban
from poslock.exchange.port import LONGEST_BACK_OFF, SCOPES
from poslock.lock.files.back_off import BackOffFile
from systems import Clock, failing

if TYPE_CHECKING:
    from collections.abc import Callable

NOW_MS = 1_700_000_000_000
NOON = "Tue, 14 Nov 2023 22:13:20 GMT"  # NOW_MS
RESET = "x-bapi-limit-reset-timestamp"
BANNED = "Way too many requests; IP banned until 1700000120000. Please use the websocket"


@pytest.mark.parametrize(
    ("headers", "words", "venue_ms", "seconds"),
    [
        ({}, "", NOW_MS, 3.0),
        ({"retry-after": "120"}, "", None, 120),
        ({"retry-after": "120"}, BANNED, NOW_MS + 100_000, 120),
        ({"retry-after": "0"}, "", NOW_MS, 1),
        ({"retry-after": "99999999999"}, "", NOW_MS, LONGEST_BACK_OFF),
        *[({"retry-after": said}, "", NOW_MS, 3.0) for said in ("-5", "soon", "1e9", "٣", NOON)],
        ({}, BANNED, NOW_MS, 120),
        ({"date": NOON}, BANNED, None, 120),
        ({}, BANNED, None, 3.0),
        ({"date": "yesterday"}, BANNED, None, 3.0),
        ({}, "banned until 9999999999999.", NOW_MS, LONGEST_BACK_OFF),
        ({}, "banned until further notice", NOW_MS, 3.0),
        ({RESET: str(NOW_MS + 2500)}, "", NOW_MS, 2.5),
        ({RESET: str(NOW_MS)}, "", NOW_MS, 1),
        ({RESET: str(NOW_MS - 10**6)}, "", NOW_MS, 1),
        ({RESET: "none"}, "", NOW_MS, 3.0),
    ],
)
def test_how_long_an_answer_asks_for(headers: dict[str, str], words: str, venue_ms: int | None, seconds: float) -> None:
    """By the venue's clock or in seconds, never by this machine's clock, and within bounds whatever it says."""
    assert back_off(Heard(429, headers), words, venue_ms, usual=3.0) == seconds


@pytest.mark.parametrize(
    ("status", "words", "is_one"),
    [(418, "", True), (429, BANNED, True), (429, "Too many requests", False), (0, "", False)],
)
def test_what_is_a_ban(status: int, words: str, *, is_one: bool) -> None:
    """The status, or the words where ccxt has kept the status back."""
    assert is_ban(Heard(status), words) is is_one


# The file.


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file_of(lock_dir: str, clock: Clock) -> Callable[..., BackOffFile]:
    """Makes the file as another process sees it."""

    def made(account: str = "binance swap main", **calls: Any) -> BackOffFile:
        directory = clock.directory(lock_dir, **calls)
        directory.prepare()
        return BackOffFile(directory, account, SCOPES, LONGEST_BACK_OFF)

    return made


def lefts(file: BackOffFile) -> dict[str, float]:
    return {scope: left for scope in SCOPES if (left := file.left(scope))}


def test_all_processes_learn_of_a_pause_and_when_it_ends(file_of: Any, clock: Clock) -> None:
    """Each scope has its own, and one for all counts for each."""
    mine, others = file_of(), file_of()
    assert lefts(others) == {}
    mine.hold("history", 20)
    assert lefts(others) == lefts(mine) == {"history": 20}
    others.hold("orders", 5)
    others.hold("all", 10)
    assert lefts(mine) == {"all": 10, "orders": 10, "account": 10, "history": 20}
    clock.sleep(10.5)
    assert lefts(mine) == {"history": 9.5}
    assert lefts(file_of("binance swap other")) == {}
    assert Path(mine.path).stat().st_mode & 0o777 == 0o600


def test_a_shared_directory_shares_the_pauses(file_of: Any, lock_dir: str) -> None:
    """Bots of other users read and write them, as they do with lock files."""
    os.mkdir(lock_dir)
    os.chmod(lock_dir, 0o2770)  # noqa: S103  # what README says
    mine = file_of()
    mine.hold("all", 5)
    assert Path(mine.path).stat().st_mode & 0o777 == 0o660


def test_the_longer_pause_counts(file_of: Any) -> None:
    """An answer to a request that was sent before the ban, and comes after it, does not end it."""
    mine, others = file_of(), file_of()
    mine.hold("all", 120)
    others.hold("all", 1)
    assert file_of().left("orders") == 120


def test_nobody_can_ask_for_longer_than_an_hour(file_of: Any, clock: Clock) -> None:
    """Neither an answer nor a file, of which nobody knows who has written it."""
    mine = file_of()
    mine.hold("all", 10**9)
    assert file_of().left("orders") == LONGEST_BACK_OFF
    clock.now_ns -= 10**9  # as if it said that much more
    assert file_of().left("orders") == 0


def test_what_was_written_before_a_boot_counts_for_nothing(file_of: Any) -> None:
    """Its clock is another one."""
    file_of(clock_name="01234567-89ab-cdef-0123-456789abcdef").hold("all", 120)
    assert lefts(file_of()) == {}
    file_of().hold("all", 5)
    assert file_of().left("all") == 5
    unnamed = {"clock_name": ""}
    file_of("other", **unnamed).hold("all", 5)
    assert file_of("other", **unnamed).left("all") == 5


def test_half_a_line_counts_for_nothing(file_of: Any) -> None:
    """And nothing else that is in the file: the next pause is written over it."""
    mine = file_of()
    mine.hold("all", 120)
    whole = Path(mine.path).read_bytes()
    for damaged in (
        b"",
        whole[:40],
        whole.replace(b"1", b"2"),
        b"\0" * 600,
        b"all waits until x of boot y z",
        b"\xff" * 128,
    ):
        Path(mine.path).write_bytes(damaged)
        assert lefts(file_of()) == {}
    file_of().hold("orders", 7)
    assert lefts(file_of()) == {"orders": 7}


@pytest.mark.parametrize("planted", ["symlink", "fifo", "directory", "link"])
def test_what_was_planted_there_is_neither_read_nor_written(
    file_of: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, planted: str
) -> None:
    """It stops no close either: the process keeps to the pause by itself, and says that others do not learn of it."""
    mine, other = file_of(), tmp_path / "other"
    other.write_text("mine")
    make: dict[str, Callable[[], object]] = {
        "symlink": lambda: os.symlink(other, mine.path),
        "fifo": lambda: os.mkfifo(mine.path),
        "directory": lambda: os.mkdir(mine.path),
        "link": lambda: os.link(other, mine.path),
    }
    make[planted]()
    mine.hold("all", 120)
    assert (mine.left("orders"), lefts(file_of())) == (120, {})
    assert other.read_text() == "mine"
    assert mine.path in caplog.text


def test_a_full_disk_stops_no_close(file_of: Any) -> None:
    """As above."""
    mine = file_of(write=failing(OSError(28, "No space left on device")))
    mine.hold("all", 120)
    assert (mine.left("orders"), lefts(file_of())) == (120, {})


@pytest.mark.parametrize("retry_after", [0.0, None, 2.0])
def test_a_venue_that_always_refuses_is_not_asked_for_ever(retry_after: float | None) -> None:
    """Whatever it names, the pauses add up to what the caller waits."""
    patience, error = Patience(5.0), RateLimited("busy", retry_after=retry_after)
    assert 2 <= sum(patience.pause(error) is not None for _ in range(1000)) <= 50
