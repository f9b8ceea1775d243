"""The operations of a run, for the checker of histories: from the diaries, and from the ledger's own audit.

The audit says which writes were accepted and in which order; it decides those whose process was killed before it knew.
A hold without a word of its end (a killed process) lasts at least until the last write under it, and a silent one at
least as long as its lease, which begins after the acquire was invoked (Gray and Cheriton 1989).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from prove.history import Operation
from soak.diary import told_by_each

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping

    from prove.history_model import Kind, Outcome


@dataclass(slots=True)
class _Write:
    """A write as its process began it, and the lines of the audit that it makes.

    ``detail`` is that of its line, where it may make none; of a track it is the process that writes it.
    """

    method: str
    events: list[str]
    detail: str
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
            operation = replace(begun, token=int(words[1]), generation=generation)
            writes.append(_Write(words[0], words[3].split(","), words[4], operation))
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
    rows: dict[tuple[str, int, int], list[_Line]] = defaultdict(list)
    begun: dict[tuple[str, int, int], list[_Write]] = defaultdict(list)
    tracked: list[sqlite3.Row | Mapping[str, Any]] = []
    for row in audit:
        line = _Line(row["number"], row["event"], row["detail"])
        if line.event == "tracked":
            tracked.append(row)
        else:
            rows[row["position_id"], row["generation"], row["token"]].append(line)
    writes = [each for each in writes if str(each.operation.outcome) != "rejected"]
    for write in writes:
        if write.method != "track":
            begun[write.operation.position, write.operation.generation, write.operation.token].append(write)
    placed, contradictions = _tracks([each for each in writes if each.method == "track"], tracked)
    for key in rows.keys() | begun.keys():
        name = f"{key[0]}, generation {key[1]}, token {key[2]}"
        accepted, said = _accepted(begun[key], rows[key])
        placed += accepted
        contradictions += [f"{name}: {each}" for each in said]
    refused = [write.operation for write in writes if write.operation.outcome == "refused"]
    return [*_numbered(placed), *refused], contradictions


class _Line(NamedTuple):
    """A line of the audit."""

    number: int
    event: str
    detail: str


def _tracks(
    writes: list[_Write], tracked: Iterable[sqlite3.Row | Mapping[str, Any]]
) -> tuple[list[tuple[int | None, Operation]], list[str]]:
    """The tracks with the lines that they made. One that found the same position there has made none."""
    placed: list[tuple[int | None, Operation]] = []
    said: list[str] = []
    known = set[tuple[str, int]]()
    for row in tracked:
        position, generation = row["position_id"], row["generation"]
        known.add((position, generation))
        own = [each for each in writes if (each.operation.position, each.detail) == (position, str(row["pid"]))]
        done = [each for each in own if each.operation.outcome == "done" and each.operation.generation == generation]
        undecided = [each for each in own if each.operation.outcome == "undecided"]
        if not done and not undecided:
            said.append(f"{position}, generation {generation}: 'tracked' was written, and nobody began that")
            continue
        write = (done or undecided)[0]
        writes.remove(write)
        placed.append((row["number"], replace(write.operation, outcome="done", generation=generation)))
    for write in writes:
        operation = write.operation
        if operation.outcome == "done" and (operation.position, operation.generation) not in known:
            said.append(f"{operation.position}: {operation.process} was told that track is written, but it is not")
    return placed, said


def _accepted(writes: Iterable[_Write], rows: list[_Line]) -> tuple[list[tuple[int | None, Operation]], list[str]]:
    """The writes of one hold, one after the other, with the lines of the audit that they made."""
    placed: list[tuple[int | None, Operation]] = []
    said: list[str] = []
    for write in writes:
        if write.operation.outcome == "refused":
            continue
        made = rows[: len(write.events)]
        is_made = [each.event for each in made] == write.events
        if write.method == "unsettled":  # it leaves a line if the reason is another one than before
            is_made = is_made and made[0].detail.replace("\n", " ") == write.detail
        if is_made:
            placed.append((made[0].number, replace(write.operation, outcome="done")))
            rows = rows[len(made) :]
        elif write.method == "unsettled":
            placed.append((None, replace(write.operation, kind="touch")))
        elif write.operation.outcome == "done":
            said.append(f"{write.operation.process} was told that {write.method} is written, but it is not")
        # Else it was undecided, and the ledger knows nothing of it.
    return placed, [*said, *(f"{each.event!r} was written, and nobody began that" for each in rows)]


def _numbered(placed: Iterable[tuple[int | None, Operation]]) -> Iterator[Operation]:
    places: dict[str, int] = defaultdict(int)
    yield from (operation for number, operation in placed if number is None)
    numbered = [(number, operation) for number, operation in placed if number is not None]
    for _, operation in sorted(numbered, key=lambda each: each[0]):
        places[operation.position] += 1
        yield replace(operation, place=places[operation.position])
