"""Rows that need several processes: how a waiter gets its turn, and what waiting costs.

Times are CLOCK_MONOTONIC, taken in the process where it happens; it is one clock for the whole host.
"""

from __future__ import annotations

import os
import random
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING

from bench.contestants import AMONG_PEERS, KERNEL, POSLOCK
from bench.processes import Peer
from bench.rows import Bound, Row
from bench.series import Series, in_turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.settings import Settings

_NAMES = [each.name for each in AMONG_PEERS]
_CROWD = 4
_FEW_ONCE, _MOST_ONCE = 8, 64
_SLEPT = "no kernel hands it over: two processes that slept each read and write a record, in Python with cold caches"
_HOLD_S = 0.001
_LEAD_S = 0.02
# As long as the slowest poller sleeps (portalocker, 0.25 s): the release falls anywhere into its sleep.
_SHORTEST_HOLD_S, _LONGEST_HOLD_S = 0.03, 0.28


@dataclass(frozen=True, slots=True)
class Arena:
    """Four processes of every contestant, all wanting one lock; those not measured sleep at their pipes."""

    directory: str
    settings: Settings
    groups: dict[str, list[Peer]]

    def newcomer(self, name: str) -> Peer:
        """One more, which the caller ends."""
        return Peer(name, _path(self.directory, name), self.directory)


@contextmanager
def arena(directory: str, settings: Settings) -> Iterator[Arena]:
    """Start the processes side by side, and end them."""
    with ExitStack() as stack:
        groups: dict[str, list[Peer]] = {name: [] for name in _NAMES}
        for name in _NAMES:
            os.makedirs(os.path.dirname(_path(directory, name)), mode=0o700)
        with Peer(_NAMES[0], _path(directory, _NAMES[0]), directory) as first:
            first.ready()  # leaves the byte code behind, which all the others would compile at the same time
        for name in _NAMES * _CROWD:
            groups[name].append(stack.enter_context(Peer(name, _path(directory, name), directory)))
        for peer in (peer for group in groups.values() for peer in group):
            peer.ready()
        yield Arena(directory, settings, groups)


def hand_over(arena: Arena) -> Row:
    """From the call of release to the return of a waiting peer's acquire."""
    series = {name: Series() for name in _NAMES}
    for order in in_turns(_NAMES, arena.settings.hand_overs):
        for name in order:
            holder, waiter = arena.groups[name][:2]
            _hold_while_waiting(holder, waiter)
            released = holder.ask("release")
            series[name].rounds.append([(waiter.hear()[0] - released) / 1e9])
            waiter.ask("release")
    return Row("release -> waiting peer holds it", "s", series, (Bound(8.0, KERNEL.name, _SLEPT),))


def take_over(arena: Arena) -> Row:
    """From SIGKILL of the holder to the return of a waiting peer's acquire."""
    series = {name: Series() for name in _NAMES}
    for order in in_turns(_NAMES, arena.settings.kills):
        for name in order:
            waiter = arena.groups[name][0]
            with arena.newcomer(name) as holder:
                _hold_while_waiting(holder.ready(), waiter)
                killed = holder.kill()
                series[name].rounds.append([(waiter.hear()[0] - killed) / 1e9])
            waiter.ask("release")
    return Row("SIGKILL of the holder -> waiting peer holds it", "s", series, (Bound(10.0, KERNEL.name),))


def crowd(arena: Arena) -> list[Row]:
    """Four processes that want nothing but the lock: how long they wait, and how much longer the unluckiest."""
    waits, unfairness = {name: Series() for name in _NAMES}, {name: Series() for name in _NAMES}
    for order in in_turns(_NAMES, arena.settings.loops):
        for name in order:
            race = _race(arena.groups[name], arena.settings.loop_s)
            waits[name].rounds.append([mean(race)])  # of a lock that is not fair most waits are none
            unfairness[name].rounds.append([max(race) / mean(race)])
    title = f"{_CROWD} processes in tight loops, 1 ms hold: "
    return [
        Row(f"{title}mean wait", "s", waits, (Bound(1.5, KERNEL.name),)),
        Row(f"{title}longest wait / mean wait", "x", unfairness, (Bound(4.0),)),
    ]


def once_each(directory: str, settings: Settings) -> list[Row]:
    """Many processes that want the lock once, for a moment, all at the same time: until the last one has had it."""
    names = [POSLOCK.name, KERNEL.name]
    of_few, rows = f"{POSLOCK.name}, {_FEW_ONCE} processes", []
    few = _once_each(directory, names, _FEW_ONCE, settings)
    for many in settings.crowds:
        series = _once_each(directory, names, many, settings) | {of_few: few[POSLOCK.name]}
        bounds = (Bound(10.0 * many / _MOST_ONCE, of_few),)
        rows.append(Row(f"{many} processes want it once for 1 ms: until the last is done", "s", series, bounds))
    return rows


def _once_each(directory: str, names: list[str], many: int, settings: Settings) -> dict[str, Series]:
    series = {name: Series() for name in names}
    with ExitStack() as stack:
        groups: dict[str, list[Peer]] = {}
        for name in names:
            path = _path(f"{directory}/once-{many}", name)
            os.makedirs(os.path.dirname(path), mode=0o700)
            groups[name] = [stack.enter_context(Peer(name, path, directory)) for _ in range(many)]
        for peer in (peer for group in groups.values() for peer in group):
            peer.ready()
        for order in in_turns(names, settings.loops):
            for name in order:
                begin = time.monotonic_ns() + int(_LEAD_S * many * 1e9) // _FEW_ONCE
                for peer in groups[name]:
                    peer.tell(f"once {begin} {_HOLD_S}")
                series[name].rounds.append([(max(peer.hear() for peer in groups[name]) - begin) / 1e9])
    return series


def idle(arena: Arena) -> Row:
    """The CPU time of a waiter whose holder holds on. All contestants wait at the same time."""
    seconds = arena.settings.wait_s
    series = {name: Series() for name in _NAMES}
    for holder, waiter, *_ in arena.groups.values():
        _hold(holder)
        waiter.ask("acquire")
    time.sleep(seconds)
    for name, (holder, waiter, *_) in arena.groups.items():
        holder.ask("release")
        _, worked_ns = waiter.hear()
        waiter.ask("release")
        series[name].rounds.append([worked_ns / 1e9 / seconds * 100])
    return Row(f"a waiter's CPU while it waits {seconds:g} s, of a core", "%", series, (Bound(0.5),))


def _path(directory: str, name: str) -> str:
    return f"{directory}/peers-{name}/btc-swing-1"


def _hold(holder: Peer) -> None:
    holder.ask("acquire")
    holder.hear()


def _hold_while_waiting(holder: Peer, waiter: Peer) -> None:
    _hold(holder)
    waiter.ask("acquire")
    time.sleep(random.uniform(_SHORTEST_HOLD_S, _LONGEST_HOLD_S))  # noqa: S311  # no secret


def _race(peers: list[Peer], seconds: float) -> list[float]:
    begin = time.monotonic_ns() + int(_LEAD_S * 1e9)
    for peer in peers:
        peer.tell(f"loop {begin} {seconds} {_HOLD_S}")
    return [wait for peer in peers for wait in peer.hear()]
