from __future__ import annotations

import json
from binascii import crc32
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poslock.errors import Holder, Intent
from poslock.lock.record import LAST_TOKEN, MAX_SIZE, RECORD_SIZE, Record, Unreadable, Waiting, decode, encode

HOLDER = Holder(
    pid=42,
    host="host",
    presence="42-abc",
    purpose="close: stop-loss",
    token=7,
    granted_at=1.5,
    granted_ns=10,
    renewed_ns=20,
    lease_ns=30,
    intent="close",
)
RECORD = Record("btc-1", "held", "exclusive", 7, "boot", 0, (HOLDER,), (Waiting("7-af", 3, True, 4, 5),))


def hand_made(**changes: Any) -> bytes:
    """Bytes with a right checksum and wrong content."""
    waiting = [asdict(each) for each in RECORD.waiting]
    row = {**RECORD._asdict(), "holders": [HOLDER._asdict()], "waiting": waiting, **changes}
    body = json.dumps(row).encode()[1:]
    return (b'{"format":1,"crc":"%08x",' % crc32(body)) + body


def test_a_record_survives_the_file() -> None:
    """What was encoded is decoded, in exactly one page that ends with a newline."""
    data = encode(RECORD)
    assert len(data) == RECORD_SIZE
    assert data.endswith(b" \n")
    assert json.loads(data)["holders"][0]["pid"] == 42
    assert decode(data, "btc-1") == RECORD


@pytest.mark.parametrize("character", ["x", "é", "\U0001f680", '"', "\u202e"])
def test_the_largest_record_fits(character: str) -> None:
    """128 characters of the widest kind, in id and purpose, fit into the fixed size."""
    holder = HOLDER._replace(
        pid=2**22,
        host="h" * 64,
        presence="9" * 15 + "-" + "f" * 16,
        purpose=character * 128,
        token=LAST_TOKEN,
        granted_at=1795346400.1234567,
        granted_ns=LAST_TOKEN,
        renewed_ns=LAST_TOKEN,
        lease_ns=LAST_TOKEN,
        intent="change",
    )
    record = Record(character * 128, "held", "exclusive", LAST_TOKEN, "b" * 36, LAST_TOKEN, (holder,))
    data = encode(record)
    assert len(data) == RECORD_SIZE
    assert decode(data) == record


def test_a_record_without_intents_is_read() -> None:
    """As earlier versions wrote it: its holders hold for something else than this one knows of."""
    holder = HOLDER._asdict()
    del holder["intent"]
    assert decode(hand_made(holders=[holder])) == RECORD._replace(holders=(HOLDER._replace(intent="other"),))


@pytest.mark.parametrize("intent", ["close", "change", "read", "other"])
def test_every_intent_survives_the_file(intent: Intent) -> None:
    """Each of those who share a lock keeps its own."""
    crowd = (HOLDER._replace(intent=intent), HOLDER._replace(intent="other"))
    record = RECORD._replace(mode="shared", holders=crowd)
    assert decode(encode(record)) == record


def test_nothing_written_is_no_record() -> None:
    """A file that was only created was never granted."""
    assert decode(b"") is None


@given(st.binary(min_size=1, max_size=200))
def test_arbitrary_bytes_are_unreadable(data: bytes) -> None:
    """Garbage never becomes a record or an exception."""
    assert isinstance(decode(data), Unreadable)


@given(st.integers(0, len(encode(RECORD).rstrip()) - 1), st.integers(1, 255))
def test_any_changed_byte_is_noticed(index: int, change: int) -> None:
    """One byte of damage anywhere makes the record unreadable."""
    data = bytearray(encode(RECORD))
    data[index] ^= change
    assert isinstance(decode(bytes(data)), Unreadable)


@pytest.mark.parametrize("length", [1, 10, 100, 250])
def test_a_cut_record_is_noticed(length: int) -> None:
    """Half a write is no record."""
    assert isinstance(decode(encode(RECORD)[:length]), Unreadable)


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "maybe"},
        {"mode": "shared?"},
        {"mode": "exclusive", "holders": [HOLDER._asdict()] * 2},
        {"waiting": [{"presence": "../x", "ticket": 1, "shared": True, "renewed_ns": 0, "lease_ns": 1}]},
        {"waiting": [{"presence": "7-af", "ticket": 1, "shared": 1, "renewed_ns": 0, "lease_ns": 1}]},
        {"token": "7"},
        {"token": -1},
        {"token": 2**63},
        {"token": True},
        {"holders": []},
        {"holders": [1]},
        {"holders": [{**HOLDER._asdict(), "pid": "42"}]},
        {"holders": [{**HOLDER._asdict(), "granted_at": float("inf")}]},
        {"holders": [{**HOLDER._asdict(), "granted_at": float("nan")}]},
        {"holders": [{**HOLDER._asdict(), "extra": 1}]},
        {"holders": [{**HOLDER._asdict(), "intent": "closing"}]},
        {"holders": [{**HOLDER._asdict(), "intent": "Close"}]},
        {"holders": [{**HOLDER._asdict(), "intent": ""}]},
        {"holders": [{**HOLDER._asdict(), "intent": None}]},
        {"holders": [{**HOLDER._asdict(), "intent": ["close"]}]},
        {"holders": [[]]},
        {"holders": [{**HOLDER._asdict(), "presence": "../../etc/passwd"}]},
        {"holders": [{**HOLDER._asdict(), "presence": "42-a\0"}]},
        {"position_id": "a\nb"},
        {"position_id": "\ud800"},
        {"token": 2**62},
        {"extra": 1},
    ],
)
def test_a_hand_made_record_is_unreadable(changes: dict[str, Any]) -> None:
    """A right checksum over wrong fields is still no record."""
    assert isinstance(decode(hand_made(**changes)), Unreadable)
    assert decode(hand_made()) == RECORD


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "x" * 3000},
        {"mode": "x" * 3000},
        {"state": "\x1b[2J", "mode": "\u202e"},
        {"holders": [{**HOLDER._asdict(), "intent": "x" * 3000}]},
        {"holders": [{**HOLDER._asdict(), "intent": "\x1b[2J\u202e"}]},
    ],
)
def test_a_hand_made_word_is_not_repeated_at_length(changes: dict[str, str]) -> None:
    """Of an unknown state, mode or intent the message shows the start, in characters that can be printed."""
    content = decode(hand_made(**changes))
    assert isinstance(content, Unreadable)
    assert content.why.startswith(("not a valid record: unknown state ", "not a valid record: unknown intent "))
    assert len(content.why) < 500
    assert content.why.isprintable()


def test_a_copied_lock_file_is_unreadable() -> None:
    """The record of another position proves nothing about this one."""
    assert isinstance(decode(encode(RECORD), "eth-1"), Unreadable)


def test_many_holders_make_the_record_longer() -> None:
    """In whole pages; and what is left of a longer record after a shorter one was written does not count."""
    crowd = RECORD._replace(mode="shared", holders=(HOLDER,) * 50)
    data = encode(crowd)
    assert len(data) > RECORD_SIZE
    assert len(data) % RECORD_SIZE == 0
    assert decode(data) == crowd
    assert decode(encode(RECORD) + data[RECORD_SIZE:]) == RECORD


def test_too_many_holders_are_refused() -> None:
    """There is a bound, far away."""
    with pytest.raises(ValueError, match=str(MAX_SIZE)):
        encode(RECORD._replace(mode="shared", holders=(HOLDER,) * 2000))
