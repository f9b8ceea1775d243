"""What simulated guards do with a position, what befalls them, and how far each scene is explored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prove.actor import Program
from prove.close_witness import Closes
from prove.deeds import ALL, DEEDS, FOUR, FOUR_UNSEEN, LACK, MORE, OTHER, SAME, STOP
from prove.disk import SECOND
from prove.explore import Violation
from prove.guards import LEASE, Guards
from prove.market import CONTRACTS, ENTRY_PRICE, FAULTS, FUNDING, LAGS, LATER_PRICE, LEG, WRITES, Market, is_private
from prove.world import Bounds, Process, Spent, State, World

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from prove.actor import Actor
    from prove.explore import Move

_PATIENCE = 120.0
_NAP = 0.5
_BEFORE, _LAST = 98, 99
_ANSWERS = {"closed", "already closing", "already closed", "changed", "tracked", "not tracked", "recovered", "settled"}


class CloseState(State):
    """As `State`, with what can happen at the venue."""

    __slots__ = ()

    def moves(self) -> list[Move]:
        """What can happen next."""
        found = super().moves()
        bounds, spent = self.world.bounds, self.spent
        moving = [each for each in self.processes if each.moves]
        asking = [each for each in moving if each.call.name == "ask_venue"]
        if spent.faults < bounds.faults:
            for process in asking:
                kinds = FAULTS if process.call.args[0] in WRITES else FAULTS[:1]
                found += [(kind, process.pid) for kind in kinds if ("run", process.pid) in found]
            if spent.lags < bounds.lags:
                placing = [each.pid for each in asking if each.call.args[0] == "place" and ("run", each.pid) in found]
                found += [(lag, pid) for lag in LAGS for pid in placing]
        if spent.crashes < bounds.crashes:
            sent = [each.pid for each in asking if each.call.args[0] in WRITES]
            found += [("dies, its request arrives later", pid) for pid in sent]
        if self.disk.late:
            found.append(("a late request arrives", 0))
        if self.disk.is_behind:
            found.append(("the venue catches up", 0))
        if moving and spent.triggers < bounds.triggers:
            found += self._done(STOP)
        if moving and spent.acts < bounds.acts:
            found += [each for deed in bounds.deeds for each in self._done(deed)]
        return found

    def _done(self, deed: str) -> list[Move]:
        """What somebody may do now, and how late it shows."""
        if not DEEDS[deed](self.disk.copy()):
            return []
        lags = LAGS if self.spent.lags < self.world.bounds.lags else ()
        return [(deed, 0), *((f"{deed}; {lag}", 0) for lag in lags)]

    def after(self, move: Move) -> CloseState:
        """The state after one of these moves."""
        what, pid = move
        disk, spent = self.disk.copy(), self.spent
        if what in FAULTS:
            disk.fault = what
            spent = spent._replace(faults=spent.faults + 1)
            return type(self)(self.world, disk, self.processes, self.seen, spent).run(pid)
        if what in LAGS:
            disk.falls_behind(what)
            spent = spent._replace(lags=spent.lags + 1)
            return type(self)(self.world, disk, self.processes, self.seen, spent).run(pid)
        if what == "dies, its request arrives later":
            disk.send_late(pid, *self.process(pid).call.args)
            return type(self)(self.world, disk, self.processes, self.seen, spent).after(("crash", pid))
        if what == "a late request arrives":
            disk.arrive()
        elif what == "the venue catches up":
            disk.lag = None
        elif what.partition("; ")[0] in DEEDS:
            spent = self._acted(disk, *what.partition("; ")[::2])
        else:
            return super().after(move)
        return self._with(disk, spent)

    def _acted(self, disk: Market, deed: str, lag: str) -> Spent:
        """What is spent of the bounds when this is done to *disk*."""
        spent = self.spent
        if lag:
            disk.falls_behind(lag)
            spent = spent._replace(lags=spent.lags + 1)
        DEEDS[deed](disk)
        if deed == STOP and deed not in self.world.bounds.deeds:
            return spent._replace(triggers=spent.triggers + 1)
        return spent._replace(acts=spent.acts + 1)

    def finished(self, *, calm: bool) -> None:
        """Whoever comes last finds it closed, or closes it; then it is closed once."""
        answers = _ANSWERS | {"unsettled", "not settled"} if self.disk.unseen else _ANSWERS
        for process in self.processes:
            if calm and process.result.partition(":")[0] not in answers:
                raise Violation(f"process {process.pid} is told, with nothing amiss: {process.result}")
        state = self
        while state.disk.late:
            state = state.after(("a late request arrives", 0))
        program = Program(_last_of(self.disk), _LAST)
        done = state.joined(Process(_LAST, program, program.start)).completed(None)
        result = done.process(_LAST).result
        if result not in {"closed", "already closed"}:
            raise Violation(f"who comes last is told: {result}")
        if not done.seen.looked(done.disk, torn=False).is_booked(done.disk):
            raise Violation("who comes last finds nothing booked")


def _last_of(market: Market) -> Callable[[Actor], str]:
    return Guards(market).last


@dataclass(frozen=True)
class Scene:
    """Guards, what may befall them, and how far it is explored; as `prove.lock_scenes.Scene`.

    ``before`` is what has happened already: what the trader did, or a guard to its end.
    """

    name: str
    guards: tuple[str, ...]
    bounds: Bounds
    terms: dict[str, Any] = field(default_factory=dict)
    share: float = 1
    jump: float | None = None
    opening: tuple[tuple[int, str], ...] = ()
    before: tuple[str, ...] = ()

    @property
    def processes(self) -> int:
        """How many there are at first."""
        return len(self.guards)

    def start(self, folder: Path) -> CloseState:
        """A market with an open position of ten contracts from 60000, and both exit orders; the price is 59000.

        Four more had been there and were sold before it was tracked.
        """
        market = Market(folder, **self.terms)
        market.market_does("set_price", LEG.symbol, ENTRY_PRICE)
        market.market_does("open_position", LEG.symbol, LEG.side, CONTRACTS + 4)
        market.market_does("open_position", LEG.symbol, "short", 4)
        market.market_does("protect", LEG.symbol, LEG.side, "stop_loss", CONTRACTS, 57_000)
        market.market_does("protect", LEG.symbol, LEG.side, "take_profit", CONTRACTS, 66_000)
        guards = Guards(market)
        tracked = CloseState.at_start(self._world(market, (guards.tracker,))).completed(None)
        market = tracked.disk
        market.market_does("set_price", LEG.symbol, LATER_PRICE)
        market.market_does("pay_funding", LEG.symbol, FUNDING)
        market.now_ns += SECOND
        for what in self.before:
            if what in DEEDS:
                assert DEEDS[what](market), what
            else:
                program = Program(getattr(Guards(market), what), _BEFORE)
                state = CloseState.at_start(self._world(market, ()))
                market = state.joined(Process(_BEFORE, program, program.start)).completed(None).disk
                market.end(_BEFORE)
        guards = Guards(market)
        programs = tuple(getattr(guards, each) for each in self.guards)
        return CloseState.at_start(self._world(market, programs)).opened(self.opening)

    def _world(self, market: Market, runs: tuple[Callable[[Actor], str], ...]) -> World:
        lease_ns, patience_ns = int(LEASE * SECOND), int(_PATIENCE * SECOND)
        jump_ns = lease_ns if self.jump is None else int(self.jump * SECOND)
        return World(
            runs, self.bounds, market, Closes(), is_private, jump_ns, patience_ns, patience_ns, int(_NAP * SECOND)
        )


SCENES = (
    Scene("two closes", ("closer", "closer"), Bounds(crashes=1, jumps=1, faults=1, triggers=1, preemptions=2), share=2),
    Scene("two closes, one breakdown", ("closer", "closer"), Bounds(crashes=1)),
    Scene(
        "two closes, partial fills",
        ("closer", "closer"),
        Bounds(crashes=1, faults=1, preemptions=2),
        {"liquidity": 6, "remainder_rests": 1},
    ),
    Scene(
        "two closes, late",
        ("closer", "closer"),
        Bounds(jumps=1, faults=1, preemptions=1),
        jump=2.5,
        opening=((1, "time_ms"), (0, "jump"), (1, "place")),
    ),
    Scene("three closes", ("closer", "closer", "closer"), Bounds(crashes=2, jumps=1, preemptions=2)),
    Scene("a close and a change", ("closer", "changer"), Bounds(crashes=1, jumps=1, faults=1, preemptions=2)),
    Scene(
        "a close and a change, unlisted",
        ("closer", "changer"),
        Bounds(crashes=1, jumps=1, faults=1, preemptions=2),
        {"cancels_unlisted": True},
    ),
    Scene(
        "a close and a re-entry, unlisted",
        ("closer", "closer"),
        Bounds(crashes=1, faults=1, deeds=(ALL, SAME), acts=2, preemptions=1),
        {"cancels_unlisted": True},
        before=("changer",),
    ),
    Scene(
        "a close and a hand",
        ("closer", "closer"),
        Bounds(crashes=1, deeds=(FOUR, ALL, MORE), acts=2, lags=1, preemptions=1),
        {"rounds": "down", "behind_ms": 400},
    ),
    Scene(
        "a close and a re-entry",
        ("closer", "closer"),
        Bounds(deeds=(STOP, ALL, SAME, OTHER), acts=2, lags=1, preemptions=1),
        {"rounds": "up", "behind_ms": 400},
    ),
    Scene(
        "a blocked close and a re-entry",
        ("closer",),
        Bounds(crashes=1, deeds=(ALL, OTHER), acts=2, lags=1),
        {"blocks_covered": True},
        share=0.25,
    ),
    Scene(
        "a close of all that is held",
        ("closer_of_all", "closer"),
        Bounds(crashes=1, deeds=(FOUR, MORE), acts=2, lags=1, preemptions=1),
    ),
    Scene(
        "recover and a stop",
        ("recoverer", "closer"),
        Bounds(crashes=1, jumps=1, deeds=(STOP, SAME, OTHER), acts=2, lags=1, preemptions=1),
        {"rounds": "up"},
    ),
    Scene(
        "the next one is tracked",
        ("closer", "next_tracker"),
        Bounds(crashes=1, jumps=1, lags=1, deeds=(FOUR,), acts=1, preemptions=2),
        {"rounds": "down", "behind_ms": 400},
        before=(STOP, OTHER),
    ),
    Scene(
        "the next at the same price",
        ("closer", "next_tracker_at_the_same_price"),
        Bounds(deeds=(LACK,), acts=1, faults=1, preemptions=2),
        before=(STOP, SAME),
    ),
    Scene(
        "the next after an unsettled",
        ("closer", "next_tracker"),
        Bounds(crashes=1, jumps=2, preemptions=2),
        before=(FOUR_UNSEEN, "closer", OTHER),
        share=0.25,
    ),
    Scene(
        "superseded too late",
        ("closer", "next_tracker"),
        Bounds(crashes=1, jumps=1, preemptions=1),
        before=(FOUR_UNSEEN, "closer", OTHER),
        opening=((2, "track"),),
        share=0.25,
    ),
    Scene(
        "settle, an order on its way",
        ("settler", "closer"),
        Bounds(crashes=1, jumps=1, deeds=(STOP, OTHER), acts=2, preemptions=1),
        before=(FOUR_UNSEEN,),
        opening=((2, "place"),),
        share=0.25,
    ),
    Scene(
        "settle and a close",
        ("settler", "closer"),
        Bounds(crashes=1, jumps=1, faults=1, preemptions=2),
        before=(FOUR_UNSEEN,),
        share=0.25,
    ),
    Scene(
        "a reduce and a close",
        ("reducer", "closer"),
        Bounds(crashes=1, jumps=1, faults=1, preemptions=2),
    ),
    Scene(
        "a reduce and a re-entry",
        ("reducer", "recoverer"),
        Bounds(crashes=1, jumps=1, deeds=(STOP, OTHER), acts=2, preemptions=1),
    ),
    Scene(
        "a change and a re-entry",
        ("changer", "recoverer"),
        Bounds(crashes=1, jumps=1, deeds=(STOP, OTHER), acts=2, lags=1, preemptions=1),
    ),
    Scene(
        "a change and a larger leg",
        ("closer", "closer"),
        Bounds(crashes=1, faults=1, preemptions=1),
        before=("changer", MORE),
    ),
    Scene(
        "adopt and a close",
        ("adopter", "closer"),
        Bounds(crashes=1, jumps=1, faults=1, deeds=(FOUR,), acts=1, lags=1, preemptions=1),
        before=(MORE,),
    ),
)
