"""The lock record: the content of a lock file.

One line of JSON, padded with spaces to a multiple of `RECORD_SIZE` bytes and ended by a newline: ``cat`` shows it, and
writing it again does not extend the file unless very many holders share it, so on most file systems a full disk does
not stop a renewal or a release. What follows the first line is left over from a longer record.
"""

from __future__ import annotations

import json
import re
import unicodedata
from binascii import crc32
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from poslock.errors import Holder, Intent, InvalidPositionId, shown

# An id and a purpose of 128 characters each, all of them escaped as surrogate pairs (12 bytes), and the longest
# host name together stay below one page.
RECORD_SIZE = 4096
MAX_SIZE = 64 * RECORD_SIZE
# As many as fit into half of the largest record, so that there is room for holders; more wait outside.
MAX_WAITING = MAX_SIZE // 2 // 160
MAX_LENGTH = 128  # of an id

_HEAD = b'{"format":1,"crc":"%08x",'
_HEAD_LENGTH = len(_HEAD % 0)
_TOO_LARGE = 2**62  # the ledger keeps tokens as 64-bit integers; also keeps NaN and infinity out
LAST_TOKEN = _TOO_LARGE - 1
_NUMBERS = int, float
_PRESENCE = re.compile(r"[0-9]+-[0-9a-f]+")
_RECORD_TYPES = {
    "position_id": str,
    "state": str,
    "mode": str,
    "token": int,
    "boot_id": str,
    "freed_ns": int,
    "holders": list,
    "waiting": list,
}
_HOLDER_TYPES = {
    "pid": int,
    "host": str,
    "presence": str,
    "purpose": str,
    "token": int,
    "granted_at": float,
    "granted_ns": int,
    "renewed_ns": int,
    "lease_ns": int,
    "intent": str,
}
_INTENTS = frozenset(get_args(Intent))
_WAITING_TYPES = {"presence": str, "ticket": int, "shared": bool, "renewed_ns": int, "lease_ns": int}
_text = json.encoder.encode_basestring_ascii
_read = json.JSONDecoder().decode


def check_position_id(position_id: object) -> str:
    """Return *position_id* if it is 1 to 128 characters of text without control characters.

    Raises:
        InvalidPositionId: it is not.
    """
    if not isinstance(position_id, str):
        raise InvalidPositionId(position_id, f"must be a string, not {type(position_id).__name__}")
    if not 1 <= len(position_id) <= MAX_LENGTH:
        raise InvalidPositionId(position_id, f"must have 1 to {MAX_LENGTH} characters, has {len(position_id)}")
    if position_id.isascii() and position_id.isprintable():
        return position_id
    for character in position_id:
        # Cs: half a surrogate pair has no UTF-8 form, so no hash and no place in a record.
        if unicodedata.category(character) in {"Cc", "Cs"}:
            raise InvalidPositionId(position_id, f"contains {character!r}")
    return position_id


@dataclass(frozen=True, slots=True)
class Waiting:
    """One who waits, in the order of arrival. ``ticket`` tells apart those of one process.

    A place is good for ``lease_ns`` from ``renewed_ns`` on; whoever waits longer renews it.
    """

    presence: str
    ticket: int
    shared: bool
    renewed_ns: int = field(compare=False)
    lease_ns: int = field(compare=False)


class Record(NamedTuple):
    """One state of a lock.

    A free record keeps its last holder, for `status`; a broken one is free, and its last holders did not release it.
    ``freed_ns`` is when it became free or broken. ``token`` is the highest one granted so far.
    """

    position_id: str
    state: Literal["free", "held", "broken"]
    mode: Literal["exclusive", "shared"]
    token: int
    boot_id: str
    freed_ns: int
    holders: tuple[Holder, ...]
    waiting: tuple[Waiting, ...] = ()

    @property
    def holder(self) -> Holder | None:
        """The exclusive holder or one of those who share, of a free record the last one."""
        return self.holders[0] if self.holders else None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Bytes in a lock file that are no record; ``why`` says what is wrong with them.

    ``being_written``: they were read without the OS lock, which somebody else had. They may be half of a record.
    """

    why: str = field(compare=False)
    data: bytes
    being_written: bool = field(default=False, compare=False)


Content: TypeAlias = Record | Unreadable | None
"""What a lock file holds; None if nothing was ever written to it."""


class Grant(NamedTuple):
    """What an acquire got, and who was broken for it. ``ends_ns`` is when its lease ends, by the holder's own clock."""

    holder: Holder
    recovered_from: Holder | None
    ends_ns: int


def ends_ns(holder: Holder) -> int:
    """When the lease of *holder* runs out, by the clock of the record."""
    return holder.renewed_ns + holder.lease_ns


def is_at_rest(content: Content) -> bool:
    """Whether nobody holds the lock or waits for it, and the last one gave it back."""
    return content is None or (isinstance(content, Record) and content.state == "free" and not content.waiting)


def is_of(holder: Holder, grant: Grant) -> bool:
    """Whether *holder* is the one whom *grant* made."""
    # Not the token alone: in a wiped directory, under a clock that went back, a token can come a second time.
    # (test_equal_tokens_are_not_enough)
    mine = grant.holder
    return holder.token == mine.token and holder.presence == mine.presence and holder.granted_ns == mine.granted_ns


def carries(content: Content, grant: Grant) -> bool:
    """Whether a record still says that *grant* holds."""
    if not isinstance(content, Record) or content.state != "held":
        return False
    # Mostly it is the very holder that was granted, or another one that says the same.
    return grant.holder in content.holders or any(is_of(each, grant) for each in content.holders)


def encode(record: Record) -> bytes:
    """The bytes of *record*, a multiple of `RECORD_SIZE`.

    Raises:
        ValueError: more holders than fit into `MAX_SIZE`.
    """
    # By hand, in a tenth of the time that dataclasses.asdict and a JSONEncoder take: this runs under the OS lock.
    position_id, state, mode, token, boot_id, freed_ns, holders, waiting = record
    body = (
        f'"position_id":{_text(position_id)},"state":"{state}","mode":"{mode}","token":{token},'
        f'"boot_id":{_text(boot_id)},"freed_ns":{freed_ns},'
        f'"holders":[{",".join(map(_holder_text, holders))}],"waiting":[{",".join(map(_waiting_text, waiting))}]}}'
    ).encode()
    length = _HEAD_LENGTH + len(body)
    size = (length // RECORD_SIZE + 1) * RECORD_SIZE
    if size > MAX_SIZE:
        raise ValueError(f"lock record of {length} bytes does not fit into {MAX_SIZE}")
    return b"%b%b\n" % (_HEAD % crc32(body), body.ljust(size - 1 - _HEAD_LENGTH))


@lru_cache(maxsize=64)  # what a release leaves in the record was written by the acquire
def _holder_text(holder: Holder) -> str:
    pid, host, presence, purpose, token, granted_at, granted_ns, renewed_ns, lease_ns, intent = holder
    return (
        f'{{"pid":{pid},"host":{_text(host)},"presence":{_text(presence)},"purpose":{_text(purpose)},"token":{token},'
        f'"granted_at":{granted_at!r},"granted_ns":{granted_ns},"renewed_ns":{renewed_ns},"lease_ns":{lease_ns},'
        f'"intent":"{intent}"}}'
    )


def _waiting_text(waiting: Waiting) -> str:
    return (
        f'{{"presence":{_text(waiting.presence)},"ticket":{waiting.ticket},'
        f'"shared":{"true" if waiting.shared else "false"},"renewed_ns":{waiting.renewed_ns},'
        f'"lease_ns":{waiting.lease_ns}}}'
    )


def decode(data: bytes, position_id: str | None = None) -> Content:
    """The record in *data*, None if nothing was ever written there, or why it cannot be read.

    With *position_id* a record of another position is unreadable too: somebody copied a lock file.
    """
    if not data:
        return None
    line = data[: data.find(b"\n") % (len(data) + 1)].rstrip()
    body = line[_HEAD_LENGTH:]
    if line[:_HEAD_LENGTH] != _HEAD % crc32(body):
        return Unreadable("checksum does not match, or not a poslock record of format 1", data)
    try:
        record = _from_json(_read("{" + body.decode("ascii")))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        return Unreadable(f"not a valid record: {error}", data)
    if position_id is not None and record.position_id != position_id:
        return Unreadable(f"record of another position, {record.position_id!r}", data)
    return record


def _from_json(raw: object) -> Record:
    # The checksum only guards against accidents; a hand-made record still must not become a traceback later.
    row = _typed(raw, _RECORD_TYPES)
    row["holders"] = tuple(map(_holder, row["holders"]))
    row["waiting"] = tuple(_waiting(**each) for each in row["waiting"])
    check_position_id(row["position_id"])
    if row["state"] not in {"free", "held", "broken"} or row["mode"] not in {"exclusive", "shared"}:
        raise ValueError(f"unknown state {shown(row['state'])} or mode {shown(row['mode'])}")
    if row["state"] == "held" and not 1 <= len(row["holders"]) <= (MAX_SIZE if row["mode"] == "shared" else 1):
        raise ValueError("wrong number of holders")
    return Record(**row)


def _holder(raw: object) -> Holder:
    if isinstance(raw, dict):
        raw.setdefault("intent", "other")  # a version that knew of no intents wrote it
    row = _process(raw, _HOLDER_TYPES)
    if row["intent"] not in _INTENTS:
        raise ValueError(f"unknown intent {shown(row['intent'])}")
    return Holder(**row)


@lru_cache(maxsize=1024, typed=True)
def _waiting(**row: Any) -> Waiting:
    # A crowd reads the same places again and again.
    return Waiting(**_process(row, _WAITING_TYPES))


def _process(raw: object, types: dict[str, type]) -> dict[str, Any]:
    row = _typed(raw, types)
    if not _PRESENCE.fullmatch(row["presence"]):  # it becomes part of a path
        raise ValueError("no presence name")
    return row


def _typed(raw: object, types: dict[str, type]) -> dict[str, Any]:
    if not isinstance(raw, dict) or raw.keys() != types.keys():
        raise ValueError("wrong fields")
    for name, kind in types.items():
        value = raw[name]
        if type(value) is not kind:
            raise TypeError(f"{name} is no {kind.__name__}")
        if isinstance(value, _NUMBERS) and not 0 <= value < _TOO_LARGE:
            raise ValueError(f"{name} is out of range")
    return raw
