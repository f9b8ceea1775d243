"""The operations of a run, for the checker of histories: from the diaries, and from the ledger's own audit.

The audit says which writes were accepted and in which order; it decides those whose process was killed before it knew.
A hold without a word of its end (a killed process) lasts at least until the last write under it, and a silent one at
least as long as its lease, which begins after the acquire was invoked (Gray and Cheriton 1989).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from prove.history import Operation
from soak.diary import told_by_each

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping

    from prove.history_model import Kind, Outcome

# What the audit calls the writes that it does not call as the ledger does.
_EVENTS = {
    "track": {"tracked"},
    "begin": {"intent"},
    "book": {"booked"},
    "sending_change": {"sending"},
    "end_change": {"done", "refused", "dropped"},
    "resize": {"adopted"},
    "took_over": {"took over"},
}


@dataclass(slots=True)
class _Write:
    """A write as its process began it, and how many lines of the audit it makes."""

    method: str
    lines: int
    operation: Operation


def operations_of(
    directory: str, audit: Iterable[sqlite3.Row | Mapping[str, Any]]
) -> tuple[list[Operation], list[str]]:
    """All operations of all processes, and where the audit and what the processes were told contradict each other."""
    found: list[Operation] = []
    writes: list[_Write] = []
    gone = dict[str, int]()
    for process, lines in told_by_each(directory).items():
        gone.update({line[1]: int(line[2]) for line in lines if line[0] == "killed"})
        process_found, process_writes = _of_process(process, lines)
        found += process_found
        writes += process_writes
    placed, contradictions = _placed(writes, audit)
    found += placed
    return [_ended(each, gone) for each in found], contradictions


def _ended(operation: Operation, gone: dict[str, int]) -> Operation:
    """What did not return has no effect after its process was dead; but a hold ends then at the earliest."""
    if operation.returned_ns is None and operation.kind != "release":
        return replace(operation, returned_ns=gone.get(operation.process))
    return operation


def _of_process(process: str, lines: Iterable[list[str]]) -> tuple[list[Operation], list[_Write]]:
    lines = list(lines)
    returns = {line[1]: (int(line[2]), line[3], line[4]) for line in lines if line[0] == "returned"}
    ends = {(line[4], line[5]): int(line[2]) for line in lines if line[0] == "answered" and line[3] == "release"}
    found: list[Operation] = []
    writes: list[_Write] = []
    leases = dict[tuple[str, int], int]()
    for line in lines:
        if line[0] == "answered" and line[3] != "release":
            began_ns, ended_ns, kind, position, token = line[1:]
            found.append(
                Operation(process, cast("Kind", kind), position, int(began_ns), int(ended_ns), token=int(token))
            )
        if line[0] != "invoked":
            continue
        number, at_ns, kind, position, *words = line[1:]
        returned_ns, outcome, word = returns.get(number, (None, "undecided", ""))
        begun = Operation(
            process, cast("Kind", kind), position, int(at_ns), returned_ns, cast("Outcome", outcome), int(word or 0)
        )
        if kind == "acquire":
            found.append(replace(begun, shared=words[0] == "shared"))
            leases[position, begun.token] = int(words[1])
            if outcome == "refused" and returned_ns is not None:
                # It gives up its place in the queue if the file is not busy; else that stays as long as a lease.
                stays_ns = returned_ns + int(words[1])
                found.append(replace(begun, kind="place", outcome="undecided", returned_ns=stays_ns))
        else:
            generation = begun.token if kind == "track" else int(words[2])
            writes.append(_Write(words[0], int(words[3]), replace(begun, token=int(words[1]), generation=generation)))
    found += _releases(found, writes, leases, ends)
    return found, writes


def _releases(
    found: Iterable[Operation],
    writes: Iterable[_Write],
    leases: dict[tuple[str, int], int],
    ends: dict[tuple[str, str], int],
) -> list[Operation]:
    """The ends of the holds that were granted."""
    seen = dict[tuple[str, int], int]()
    for write in writes:
        each = write.operation
        seen[each.position, each.token] = max(each.invoked_ns, each.returned_ns or 0)
    made = []
    for each in found:
        if each.kind == "acquire" and each.outcome == "done" and each.returned_ns is not None:
            key = each.position, each.token
            earliest_ns = min(max(each.returned_ns, seen.get(key, 0)), each.invoked_ns + leases[key])
            end_ns = ends.get((each.position, str(each.token)))
            outcome: Outcome = "undecided" if end_ns is None else "done"
            made.append(Operation(each.process, "release", each.position, earliest_ns, end_ns, outcome, each.token))
    return made


def _placed(
    writes: Iterable[_Write], audit: Iterable[sqlite3.Row | Mapping[str, Any]]
) -> tuple[list[Operation], list[str]]:
    """The writes with their places in the audit, and what cannot be placed."""
    rows: dict[tuple[str, int, int], list[tuple[int, str]]] = defaultdict(list)
    begun: dict[tuple[str, int, int], list[_Write]] = defaultdict(list)
    for row in audit:
        token = 0 if row["event"] == "tracked" else row["token"]
        rows[row["position_id"], row["generation"], token].append((row["number"], row["event"]))
    for write in writes:
        begun[write.operation.position, write.operation.generation, write.operation.token].append(write)
    contradictions: list[str] = []
    placed: list[tuple[int, Operation]] = []
    for key in rows.keys() | begun.keys():
        name = f"{key[0]}, generation {key[1]}, token {key[2]}"
        accepted, said = _accepted(begun[key], rows[key])
        placed += accepted
        contradictions += [f"{name}: {each}" for each in said]
    refused = [write.operation for write in writes if write.operation.outcome == "refused"]
    return [*_numbered(placed), *refused], contradictions


def _accepted(writes: Iterable[_Write], rows: list[tuple[int, str]]) -> tuple[list[tuple[int, Operation]], list[str]]:
    """The writes of one hold, one after the other, with the lines of the audit that they made."""
    placed: list[tuple[int, Operation]] = []
    said: list[str] = []
    for write in writes:
        if write.operation.outcome == "refused":
            continue
        made, expected = rows[: write.lines], _EVENTS.get(write.method, {write.method})
        if len(made) == write.lines and all(event in expected for _, event in made):
            placed.append((made[0][0], replace(write.operation, outcome="done")))
            rows = rows[write.lines :]
        elif write.operation.outcome == "done":
            said.append(f"{write.operation.process} was told that {write.method} is written, but it is not")
        # Else it was undecided, and the ledger knows nothing of it.
    return placed, [*said, *(f"{event!r} was written, and nobody began that" for _, event in rows)]


def _numbered(placed: Iterable[tuple[int, Operation]]) -> Iterator[Operation]:
    places: dict[str, int] = defaultdict(int)
    for _, operation in sorted(placed, key=lambda each: each[0]):
        places[operation.position] += 1
        yield replace(operation, place=places[operation.position])
