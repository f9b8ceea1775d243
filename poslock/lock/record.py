"""The lock record: the content of a lock file.

One line of JSON, padded with spaces to `RECORD_SIZE` bytes and ended by a newline: ``cat`` shows it, and writing it
again never extends the file, so on most file systems a full disk does not stop a renewal or a release.
"""

from __future__ import annotations

import json
import re
from binascii import crc32
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias, cast

from poslock.holder import Holder
from poslock.lock.ids import check_position_id

# An id and a purpose of 128 characters each, all of them escaped as surrogate pairs (12 bytes), and the longest
# host name together stay below one page.
RECORD_SIZE = 4096

_HEAD = b'{"format":1,"crc":"%08x",'
_HEAD_LENGTH = len(_HEAD % 0)
_TOO_LARGE = 2**62  # the ledger keeps tokens as 64-bit integers; also keeps NaN and infinity out
LAST_TOKEN = _TOO_LARGE - 1
_PRESENCE = re.compile(r"[0-9]+-[0-9a-f]+")
_HOLDER_TYPES = {
    "pid": int,
    "host": str,
    "presence": str,
    "purpose": str,
    "granted_at": float,
    "granted_ns": int,
    "renewed_ns": int,
    "lease_ns": int,
}


@dataclass(frozen=True, slots=True)
class Record:
    """One state of a lock. A free record keeps its last holder, for `status`."""

    position_id: str
    state: Literal["free", "held"]
    mode: Literal["exclusive"]
    token: int
    boot_id: str
    holders: tuple[Holder, ...]

    @property
    def holder(self) -> Holder | None:
        """The exclusive holder, or of a free record the last one."""
        return self.holders[0] if self.holders else None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Bytes in a lock file that are no record; ``why`` says what is wrong with them."""

    why: str
    data: bytes


Content: TypeAlias = Record | Unreadable | None
"""What a lock file holds; None if nothing was ever written to it."""


def encode(record: Record) -> bytes:
    """The bytes of *record*, exactly `RECORD_SIZE` of them."""
    body = json.dumps(asdict(record), separators=(",", ":")).encode("ascii")[1:]
    line = _HEAD % crc32(body) + body
    if len(line) >= RECORD_SIZE:
        raise ValueError(f"lock record of {len(line)} bytes does not fit into {RECORD_SIZE}")
    return line.ljust(RECORD_SIZE - 1) + b"\n"


def decode(data: bytes, position_id: str | None = None) -> Content:
    """The record in *data*, None if nothing was ever written there, or why it cannot be read.

    With *position_id* a record of another position is unreadable too: somebody copied a lock file.
    """
    if not data:
        return None
    line = data.rstrip()
    body = line[_HEAD_LENGTH:]
    if line[:_HEAD_LENGTH] != _HEAD % crc32(body):
        return Unreadable("checksum does not match, or not a poslock record of format 1", data)
    try:
        record = _from_json(json.loads(b"{" + body))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        return Unreadable(f"not a valid record: {error}", data)
    if position_id is not None and record.position_id != position_id:
        return Unreadable(f"record of another position, {record.position_id!r}", data)
    return record


def _from_json(raw: object) -> Record:
    # The checksum only guards against accidents; a hand-made record still must not become a traceback later.
    row = _typed(raw, {"position_id": str, "state": str, "mode": str, "token": int, "boot_id": str, "holders": list})
    holders = tuple(_holder(each) for each in cast("list[object]", row.pop("holders")))
    check_position_id(row["position_id"])
    if row["state"] not in {"free", "held"} or row["mode"] != "exclusive":
        raise ValueError(f"unknown state {row['state']!r} or mode {row['mode']!r}")
    if row["state"] == "held" and not holders:
        raise ValueError("held by nobody")
    return Record(holders=holders, **row)  # type: ignore[arg-type]  # _typed has just checked them


def _holder(raw: object) -> Holder:
    holder = Holder(**_typed(raw, _HOLDER_TYPES))  # type: ignore[arg-type]  # as above
    if not _PRESENCE.fullmatch(holder.presence):  # it becomes part of a path
        raise ValueError("no presence name")
    return holder


def _typed(raw: object, types: dict[str, type]) -> dict[str, object]:
    if not isinstance(raw, dict) or raw.keys() != types.keys():
        raise ValueError("wrong fields")
    for name, kind in types.items():
        value = raw[name]
        if type(value) is not kind:
            raise TypeError(f"{name} is no {kind.__name__}")
        if isinstance(value, int | float) and not 0 <= value < _TOO_LARGE:
            raise ValueError(f"{name} is out of range")
    return raw
