"""One-line breakages of the shipped code, each of which the simulation must catch.

A mutant is a copy of the package with one piece of text replaced. A text that is not there, or there twice, is an
error: the list keeps up with the code.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
_SECONDS = 240
CAUGHT = 3  # the exit code of a run that has found something


@dataclass(frozen=True)
class Mutant:
    """What is broken, where, and the scenes in which it must come out, `prove.search.LEGS` or ``TABLE`` among them."""

    name: str
    path: str
    old: str
    new: str
    scenes: tuple[str, ...]


@dataclass(frozen=True)
class Caught:
    """How a mutant was caught; ``how`` is empty if it was not, and ``why`` says what happened instead."""

    mutant: str
    how: str
    why: str = ""


_LOCK = ("two, to the end", "three, one holds")
_TRANSITIONS, _FILE, _VERDICT = (
    "poslock/lock/transitions.py",
    "poslock/lock/files/lock_file.py",
    "poslock/lock/verdict.py",
)
_SLOTS = "poslock/lock/files/slots.py"
_REUSED = ("a presence is used again beside a waiter", "two want the presence of a dead one")
_CONTENDER = "poslock/lock/contender.py"
_REPLACING, _LEDGER = "poslock/lock/files/replacing.py", "poslock/ledger/ledger.py"
_CLOSES = ("two closes", "two closes, partial fills", "two closes, one breakdown", "three closes")
_EXITS, _LEGS, _TABLE = "poslock/closing/exits.py", ("legs",), ("table",)
_TALK, _MACHINE = "poslock/closing/session.py", "poslock/closing/close.py"
_LEG, _CHANGE = "poslock/closing/leg.py", "poslock/closing/change.py"
_ADMISSION, _TRACKING = "poslock/guard/admission.py", "poslock/guard/tracking.py"
_FIRST_LOOK = "poslock/guard/first_look.py"
_SETTLING = "poslock/guard/settling.py"
_HANDS = ("a close and a re-entry", "a close and a hand")
_BLOCKED = ("a blocked close and a re-entry",)
_UNLISTED = ("a close and a change, unlisted", "a close and a re-entry, unlisted")
_LEFT = ("a reduce and a re-entry", "a change and a re-entry")
_NEXT = ("the next one is tracked", "the next at the same price", "the next after an unsettled")

MUTANTS = (
    Mutant(
        "no second read under the lock",
        _TRANSITIONS,
        "            content, judged = draft.read(), None",
        "            content, judged = sight.content, None",
        _LOCK,
    ),
    Mutant(
        "no look at the path after a transition",
        _FILE,
        "        result = transition(file)\n        if not file.is_current():",
        "        result = transition(file)\n        if False:",
        ("a busy file is replaced", "three, one stopped"),
    ),
    Mutant(
        "a lock file with two names counts",
        _FILE,
        "named.st_dev == self._device and named.st_nlink == 1",
        "named.st_dev == self._device",
        ("a busy file is replaced", "three, one stopped"),
    ),
    Mutant(
        "the lease is the contender's",
        _VERDICT,
        "moment.unchanged_ns) >= holder.lease_ns:",
        "moment.unchanged_ns) >= moment.patience_ns:",
        ("different leases",),
    ),
    Mutant(
        "presence is ignored",
        _VERDICT,
        "    if alive is Liveness.DEAD:\n        return",
        "    if False:\n        return",
        ("two, to the end",),
    ),
    Mutant(
        "a living holder counts as dead",
        "poslock/lock/files/directory.py",
        "        if said == name:\n            return Liveness.ALIVE",
        "        if said == name:\n            return Liveness.DEAD",
        _LOCK,
    ),
    Mutant(
        "nobody proves that it lives",
        _SLOTS,
        "for lock in (system.probe_presence, system.try_lock_presence):",
        "for lock in (system.probe_presence,):",
        _LOCK,
    ),
    Mutant(
        "a presence is written without a lock",
        _SLOTS,
        "for lock in (system.probe_presence, system.try_lock_presence):",
        "for lock in (lambda _: True, system.try_lock_presence):",
        _REUSED,
    ),
    Mutant(
        "a presence is not written once more",
        _SLOTS,
        '        write_all(f"{name}\\n".encode(), system, descriptor)\n',
        '        if lock == system.probe_presence:\n            write_all(f"{name}\\n".encode(), system, descriptor)\n',
        _REUSED,
    ),
    Mutant(
        "who has a presence now is taken for who had it",
        "poslock/lock/files/directory.py",
        "return Liveness.DEAD if said is not None else Liveness.UNKNOWN",
        "return Liveness.ALIVE",
        _REUSED,
    ),
    Mutant(
        "release removes the lock file",
        _TRANSITIONS,
        '                draft.write(record._replace(state="free", freed_ns=draft.now_ns()))',
        "                self._system.unlink(self.entry.path)",
        _LOCK,
    ),
    Mutant(
        "renew without a look at the token",
        _TRANSITIONS,
        "            record = self._mine(draft, grant)\n            # The clock",
        "            record = draft.read()._replace(holders=(grant.holder,))\n            # The clock",
        ("cleared with force", *_LOCK),
    ),
    Mutant(
        "renew after the lease",
        _TRANSITIONS,
        "            self._check_lease(grant)\n            holder =",
        "            holder =",
        _LOCK,
    ),
    Mutant(
        "renewals are not looked at",
        _VERDICT,
        "age_ns = 0 if foreign else moment.now_ns - holder.renewed_ns",
        "age_ns = 0 if foreign else moment.now_ns - holder.granted_ns",
        ("a renewed lease",),
    ),
    Mutant(
        "check does not look at the record",
        _TRANSITIONS,
        "        if not carries(content, grant):\n            raise self._taken(content)\n        # Stopped",
        "        # Stopped",
        ("cleared with force", *_LOCK),
    ),
    Mutant(
        "check does not look at the clock after the record",
        _TRANSITIONS,
        "        self._check_lease(grant)\n\n    def renew",
        "\n    def renew",
        _LOCK,
    ),
    Mutant(
        "the grant is dated after it was written",
        _TRANSITIONS,
        "        token = self._next_token(content, request.token_floor, wall_ns)\n",
        "        token = self._next_token(content, request.token_floor, wall_ns)\n        now_ns += 3 * 10**9\n",
        _LOCK,
    ),
    Mutant(
        "tokens are the wall clock",
        _TRANSITIONS,
        "token = max(previous + 1, floor, wall_ns // 1000)",
        "token = max(floor, wall_ns // 1000)",
        ("the wall clock goes back", "two, to the end"),
    ),
    Mutant(
        "a live holder is cleared without force",
        _TRANSITIONS,
        "            if judged.verdict.living and not force:",
        "            if judged.verdict.living and False:",
        ("cleared if stale",),
    ),
    Mutant(
        "a reader joins a writer",
        _VERDICT,
        'return record.mode == "shared" and not',
        "return not",
        ("a writer and readers",),
    ),
    Mutant(
        "a writer joins the readers",
        _VERDICT,
        "        if not self.shared or not isinstance(record, Record):",
        "        if not isinstance(record, Record):",
        ("readers and a writer",),
    ),
    Mutant(
        "the last reader's release frees the others'",
        _TRANSITIONS,
        "            if others:\n",
        "            if False:\n",
        ("readers and a writer",),
    ),
    Mutant(
        "a busy file is copied before that is announced",
        _REPLACING,
        "            system.link(path, _announcement(path, name))\n"
        "            write_all(_content(folder, path), system, descriptor)\n",
        "            write_all(_content(folder, path), system, descriptor)\n"
        "            system.link(path, _announcement(path, name))\n",
        ("a busy file is replaced", "three, one stopped"),
    ),
    Mutant(
        "a busy file is never replaced",
        _REPLACING,
        "        if _is_busy(folder, path):",
        "        if False:",
        ("three, one stopped",),
    ),
    Mutant(
        "a replacement that was begun is never withdrawn",
        _REPLACING,
        "    for each in (_new(path, name), _announcement(path, name)):",
        "    for each in ():",
        ("a busy file is replaced", "three, one stopped"),
    ),
    Mutant(
        "check does not look at the presence",
        _TRANSITIONS,
        "        self._check_presence(grant)\n        content = self.entry.peek()",
        "        content = self.entry.peek()",
        ("lost presence, no renewal",),
    ),
    Mutant(
        "renew does not look at the presence",
        _TRANSITIONS,
        "        self._check_presence(grant)\n        content = draft.read()",
        "        content = draft.read()",
        ("lost presence",),
    ),
    Mutant(
        "a process takes itself for alive without its descriptor",
        "poslock/lock/files/directory.py",
        "if self.is_own(name) and self.proves(name):",
        "if self.is_own(name):",
        ("lost presence", "lost presence, no renewal"),
    ),
    Mutant(
        "a lost presence is used for the next grant",
        "poslock/lock/files/directory.py",
        "if mine is None or not self._is_seen(mine, thorough=thorough):",
        "if mine is None:",
        ("lost presence", "lost presence, no renewal"),
    ),
    Mutant(
        "of two replacements neither sees the other",
        _REPLACING,
        "    for name in _begun(folder, path) - {but}:",
        "    for name in () if but else _begun(folder, path):",
        ("two replacements",),
    ),
    Mutant(
        "a torn record means lost",
        _FILE,
        "return content if not isinstance(content, Unreadable) else self._certain(content)",
        "return content",
        ("torn writes", "readers of torn writes"),
    ),
    Mutant(
        "a record that nobody can read for now means lost",
        _TRANSITIONS,
        "        if isinstance(content, Unreadable) and content.being_written:",
        "        if False:",
        ("torn writes", "readers of torn writes"),
    ),
    Mutant(
        "nobody is rung when a lock becomes free",
        _FILE,
        "            if next_of:\n",
        "            if False:\n",
        ("a queue",),
    ),
    Mutant(
        "rung before it is written that the lock is free",
        _TRANSITIONS,
        "            draft.wake(record.waiting if wake_all else (), () if wake_all else record.waiting)\n",
        "            self._store.ring(record.waiting[0]) if record.waiting else None\n",
        ("a queue",),
    ),
    Mutant(
        "only the last reader's release rings",
        _TRANSITIONS,
        "            draft.wake(record.waiting if wake_all else (), () if wake_all else record.waiting)\n",
        "            draft.wake((), record.waiting if len(record.holders) == 1 else ())\n",
        ("two readers and a writer",),
    ),
    Mutant(
        "only the first one is rung",
        _VERDICT,
        "            if each.presence not in first and ring(each):\n                return\n",
        "            return\n",
        ("a queue, the first one stopped",),
    ),
    Mutant(
        "who is not there counts as rung",
        _VERDICT,
        "            if ring(each):\n                first.add",
        "            if ring(each) or True:\n                first.add",
        ("a queue",),
    ),
    Mutant(
        "nobody is rung when a place is given up",
        _TRANSITIONS,
        "            draft.wake(behind(content.waiting, place), ",
        "            draft.wake((), ",
        ("a reader behind one that leaves",),
    ),
    Mutant(
        "an old list of trades explains what is held",
        _TRACKING,
        "is_complete(look, entry_order_ids, contracts) and not is_old:",
        "is_complete(look, entry_order_ids, contracts):",
        ("the next at the same price",),
    ),
    Mutant(
        "the wake is made when the place is taken",
        _CONTENDER,
        "                self._wake = self._wake or self._store.wake(place)  # rung once the place is taken\n"
        "                judged = self._look(request, place)\n"
        "                if (hands := _hands(judged)) != known:\n"
        "                    known = hands\n"
        "                    yield Handover(judged.holder)\n"
        "                    judged = self._fresh(judged, request)\n"
        "                outcome = self._try(request, judged, place)\n",
        "                judged = self._look(request, place)\n"
        "                outcome = self._try(request, judged, place)\n"
        "                self._wake = self._wake or self._store.wake(place)\n",
        ("one who takes its place",),
    ),
    Mutant(
        "the next but one is watched",
        _VERDICT,
        "for each in self.ahead[:1]}",
        "for each in self.ahead[1:]}",
        ("a lock that became free",),
    ),
    Mutant(
        "who is behind one that may be stopped does not watch the holders",
        _VERDICT,
        "        return len(self.ahead) < 2",
        "        return len(self.ahead) < 1",
        ("a queue, the first one stopped",),
    ),
    Mutant(
        "the dead are not passed over",
        _VERDICT,
        "if _is_in_time(each, moment) and moment.liveness.get(each.presence) is not Liveness.DEAD:",
        "if _is_in_time(each, moment):",
        ("a queue",),
    ),
    Mutant(
        "the ledger takes any token",
        _LEDGER,
        "WHERE {_KEY} AND token <= :token",
        "WHERE {_KEY}",
        _CLOSES,
    ),
    Mutant(
        "the close of another one goes on without a look at how far it got",
        _MACHINE,
        "attempt, order = await self._resolve(watch, journal)",
        "attempt, order = await self._resolve(watch, None)",
        _CLOSES,
    ),
    Mutant(
        "an order is sent again without a question",
        _MACHINE,
        "await self._ended(watch, await self._session.find(attempts[-1]))",
        "None",
        _CLOSES,
    ),
    Mutant(
        "after a lost answer the order is sent again without a question",
        _MACHINE,
        "            return await session.find(attempt)\n",
        "            return None\n",
        _CLOSES,
    ),
    Mutant(
        "a question, but not until the request is too old",
        _TALK,
        "self._found_within(sent, self.in_flight(sent, self.stamp()) + self.exchange.denies_for)",
        "self._found_within(sent, self.exchange.denies_for)",
        _CLOSES,
    ),
    Mutant(
        "an order is sent without being journaled",
        _MACHINE,
        "version = await session.tell(self._ledger.sending, dispatch)",
        "version = dispatch.version",
        _CLOSES,
    ),
    Mutant(
        "the size is more than what is held",
        _MACHINE,
        "            decision.contracts,\n            client_id,",
        "            session.tracked.position.contracts,\n            client_id,",
        ("two closes, partial fills", "a close and a hand"),
    ),
    Mutant(
        "the net P&L is the gross one",
        _MACHINE,
        "            net_pnl=pnl.net,",
        "            net_pnl=pnl.gross,",
        _CLOSES[:1],
    ),
    Mutant(
        "sweep without a second read",
        _MACHINE,
        'if not await sweep.take(listed) and now.act == "ended":',
        'if now.act == "ended":',
        _CLOSES,
    ),
    Mutant(
        "no sweep",
        _LEG,
        "        self.listed = ours if self._session.exchange.spot else [*listed, *more]\n",
        "        self.listed = []\n",
        _CLOSES,
    ),
    Mutant(
        "an order that shows in part counts as filled whole",
        _MACHINE,
        "if watch.shown(client_id) >= order.contracts:",
        "if watch.shown(client_id):",
        ("two closes, partial fills",),
    ),
    Mutant(
        "what is cancelled unlisted is cancelled before the position is over",
        _LEG,
        "        if session.cancels_unlisted and may_rest(",
        "        await self.cancel()\n        if session.cancels_unlisted and may_rest(",
        _UNLISTED,
    ),
    Mutant(
        "what the venue denies at an unlisted cancel counts as cancelled",
        _TALK,
        "self._listed.update(numbers[each.client_order_id] for each in taken)",
        "self._listed.update(numbers[each.client_order_id] for each in orders)",
        _UNLISTED[:1],
    ),
    Mutant(
        "a change that was under way is not waited for",
        _TALK,
        "if change.number in self._shown or may_be_denied_for <= 0:",
        "if True:",
        ("a close and a change",),
    ),
    Mutant(
        "an order's window is longer than the lease",
        _TALK,
        "return min(int(_RECEIVE_WINDOW * 1000), max(0, ceil(stamp.lease_left * 1000) - 1))",
        "return int(_RECEIVE_WINDOW * 1000)",
        ("two closes, late",),
    ),
    Mutant(
        "an order's window ends with the lease",
        _TALK,
        "max(0, ceil(stamp.lease_left * 1000) - 1)",
        "int(stamp.lease_left * 1000)",
        ("two closes, late",),
    ),
    Mutant(
        "the position is closed as it was seen before the lock",
        _ADMISSION,
        "        standing = await self.standing(seen)\n        _expect_alive(standing.position)\n",
        "        standing = await self.standing(seen)\n",
        _CLOSES,
    ),
    Mutant(
        "a closer takes whichever generation is there",
        _ADMISSION,
        "        standing = await self.standing(seen)\n        _expect_alive(",
        "        standing = await self.standing(await self.position(seen.position.id))\n        _expect_alive(",
        _NEXT,
    ),
    Mutant(
        "any holder counts as one that closes",
        _ADMISSION,
        'holder is None or holder.intent != "close"',
        "holder is None",
        _LEFT,
    ),
    Mutant(
        "who waits takes the end of a holder for a booking",
        _ADMISSION,
        "            _expect_alive(await self._now(seen))\n",
        "            if _holder is None:\n"
        '                raise PositionAlreadyClosingError(seen.position.id, "closed")\n',
        _CLOSES,
    ),
    Mutant(
        "who waits takes a close that was begun for a booked one",
        _ADMISSION,
        "            _expect_alive(await self._now(seen))\n",
        '            if (await self._now(seen)).state == "closing":\n'
        '                raise PositionAlreadyClosingError(seen.position.id, "closed")\n',
        _CLOSES,
    ),
    Mutant(
        "the sweep does not see whether the leg is flat",
        _MACHINE,
        "            over = await self._over(watch)\n        what",
        "        what",
        _HANDS,
    ),
    Mutant(
        "what the holding alone shows to be over is booked",
        _MACHINE,
        'if not await sweep.take(listed) and now.act == "ended":',
        "if not await sweep.take(listed) and watch.holding is None:",
        _HANDS,
    ),
    Mutant(
        "no look after the sweep",
        _MACHINE,
        'if not await sweep.take(listed) and now.act == "ended":',
        "if not await sweep.take(listed):",
        _HANDS,
    ),
    Mutant(
        "on a leg of others all orders are cancelled",
        _LEG,
        '            orders = [each for each in ours if each.family != "stop_loss" or is_protected]\n',
        "            orders = list(listed)\n",
        _HANDS,
    ),
    Mutant(
        "what is left goes without its only stop-loss",
        _LEG,
        'if each.family != "stop_loss" or is_protected]',
        "if True]",
        ("a change and a larger leg",),
    ),
    Mutant(
        "what blocks a close is given up by the holding alone",
        _LEG,
        "        self.blocking = await self._session.ask(self._session.exchange.open_orders, self._session.leg)\n",
        """        session, exchange = self._session, self._session.exchange
        resting = await session.ask(exchange.open_orders, session.leg)
        holding = await session.ask(exchange.holding, session.leg)
        if holding is None or holding.contracts <= session.tracked.left:
            await session.cancel(*([each for each in resting if each.family != "stop_loss"] or resting))
""",
        _BLOCKED,
    ),
    Mutant(
        "what is left is not told",
        _MACHINE,
        "            left_at_venue=over.left,",
        "            left_at_venue=over.contracts * 0,",
        _HANDS,
    ),
    Mutant(
        "a first look is enough",
        _LEG,
        "settled=same >= settles_within",
        "settled=True",
        _HANDS,
    ),
    Mutant(
        "trades that the venue does not show any more are forgotten",
        _LEG,
        "self.trades = merged(self.trades, [",
        "self.trades = tuple([",
        _NEXT,
    ),
    Mutant(
        "a change that was left is made without a look",
        _CHANGE,
        "        if not looked and not is_reduced and",
        "        if False and not is_reduced and",
        _LEFT,
    ),
    Mutant(
        "a stop-loss replaces that of a later position",
        "poslock/closing/resting.py",
        "            and decision.row in _OF_THE_POSITION\n",
        "",
        ("a change and a re-entry",),
    ),
    Mutant(
        "a reduce that was under way is not asked for",
        _LEG,
        '            if change.kind == "reduce" and change.step == "sending":',
        "            if False:",
        ("a reduce and a close",),
    ),
    Mutant(
        "tracked at the first look",
        _TRACKING,
        "                if is_complete(look, entry_order_ids, contracts) and not is_old:",
        "                if True:",
        _NEXT,
    ),
    Mutant(
        "a holding from before the newest trades is tracked",
        _FIRST_LOOK,
        "may_be_another = _may_lack_an_exit(look.holding, trades) or _may_be_old(look.holding, trades)",
        "may_be_another = _may_lack_an_exit(look.holding, trades)",
        _LEGS,
    ),
    Mutant(
        "a part of the entry is enough to track",
        _FIRST_LOOK,
        "        return size <= 0\n",
        "        return True\n",
        _LEGS,
    ),
    Mutant(
        "an exit that does not show yet is not waited for",
        _FIRST_LOOK,
        "may_be_another = _may_lack_an_exit(look.holding, trades) or _may_be_old(look.holding, trades)",
        "may_be_another = _may_be_old(look.holding, trades)",
        _LEGS,
    ),
    Mutant(
        "the venue's tick is not looked at",
        _EXITS,
        "(min(last, tick) if tick else last)",
        "last",
        _TABLE,
    ),
    Mutant(
        "any average is tracked",
        _FIRST_LOOK,
        "    return average is not None and is_as_reported(average, price, prices, holding.tick)",
        "    return True",
        _LEGS,
    ),
    Mutant(
        "exits count for what the entries have cost",
        _LEG,
        'entries = [trade for trade in watch.trades if trade.effect == "entry"]',
        "entries = list(watch.trades)",
        ("adopt and a close",),
    ),
    Mutant(
        "settled while an order may be taken",
        _SETTLING,
        "        if left_ms > 0:",
        "        if False:",
        ("settle, an order on its way",),
    ),
    Mutant(
        "settled though a close can end it",
        _SETTLING,
        "            if decision.act in _CLOSABLE:",
        "            if False:",
        ("settle and a close",),
    ),
    Mutant(
        "the baseline is not kept",
        "poslock/ledger/rows.py",
        "    insert_trades(db, key, leg.baseline, baseline=True)\n",
        "",
        ("two closes", *_NEXT),
    ),
    Mutant(
        "superseded with any token",
        _LEDGER,
        '        self._fence(db, key, token)\n        sql = f"UPDATE position SET later',
        '        sql = f"UPDATE position SET later',
        ("superseded too late",),
    ),
    Mutant(
        "exits down to flat do not end a position",
        _EXITS,
        "            size -= fill.contracts\n            ended = ended or (size <= 0 and not tracked.spot)",
        "            size -= fill.contracts",
        _LEGS,
    ),
    Mutant(
        "trades that were there before count",
        _EXITS,
        "[trade for trade in reads.trades if trade.fill.trade_id not in tracked.baseline]",
        "list(reads.trades)",
        _LEGS,
    ),
    Mutant(
        "what others added is ours to close",
        _EXITS,
        "else min(tracked.contracts, tracked.held + grown)",
        "else tracked.held + grown",
        _LEGS,
    ),
    Mutant(
        "all that is held is closed",
        _EXITS,
        "wanted = seen.held if whole else min(seen.held, seen.ours)",
        "wanted = seen.held",
        _LEGS,
    ),
    Mutant(
        "what an order filled counts once it shows",
        _EXITS,
        "    if unseen:\n",
        "    unseen = _NONE\n    if unseen:\n",
        _LEGS,
    ),
    Mutant(
        "a second order before the fills of the first show",
        _EXITS,
        "        if seen.unseen:  # the fills",
        "        if False:  # the fills",
        _LEGS,
    ),
    Mutant(
        "booked before its fills show",
        _EXITS,
        '    if seen.unseen:\n        why = f"the venue shows no trades yet',
        '    if False:\n        why = f"the venue shows no trades yet',
        _LEGS,
    ),
    Mutant(
        "exits that do not show are added to what is ours",
        _EXITS,
        "    with localcontext(EXACT):\n        missing = seen.net - seen.held",
        "    with localcontext(EXACT):\n        missing = seen.held - seen.net",
        _TABLE,
    ),
    Mutant(
        "exits that do not show are not counted",
        _EXITS,
        "            return max(_NONE, seen.ours - missing)\n",
        "            return seen.ours\n",
        _LEGS,
    ),
    Mutant(
        "any holding below its trades is an old one",
        _EXITS,
        "return seen.ours if seen.held in seen.sizes[:-1] else _NONE",
        "return seen.ours",
        _TABLE,
    ),
    Mutant(
        "late entries count where less was held than tracked",
        _EXITS,
        "_viewed(tracked, rest, seen.held).ours if late else None)",
        "seen.ours if late else None)",
        _TABLE,
    ),
    Mutant(
        "the entry price is not looked at",
        _EXITS,
        "or holding.entry_price is None or holding.entry_price == tracked.entry_price",
        "or True",
        _LEGS,
    ),
    Mutant(
        "the trades explain any price",
        _EXITS,
        "    return average is not None and is_as_reported(average, holding.entry_price, read, holding.tick)",
        "    return True",
        _LEGS,
    ),
    Mutant(
        "the venue's id is not looked at",
        _EXITS,
        "return tracked.position_id is None or holding.position_id == tracked.position_id",
        "return True",
        _LEGS,
    ),
    Mutant(
        "no entry shows late",
        _EXITS,
        "    if tracked.entry_known or tracked.spot or missing <= 0:",
        "    if True:",
        _LEGS,
    ),
    Mutant(
        "any entry may have shown late",
        _EXITS,
        "    if not seen.held or _is_same(tracked, reads) or _explains(tracked, rest, reads):",
        "    if True:",
        _TABLE,
    ),
    Mutant(
        "no entry shows late of a position that has ended",
        _EXITS,
        "return tuple(late) if settled and _viewed(tracked, rest, seen.held).ended else ()",
        "return ()",
        _TABLE,
    ),
    Mutant(
        "a flip is not explained",
        _EXITS,
        "return self.held == max(_NONE, self.net)",
        "return self.held == self.net",
        _LEGS,
    ),
    Mutant(
        "what is held after its end is left at once",
        _EXITS,
        '    if settled:\n        return Decision(2, "left"',
        '    if True:\n        return Decision(2, "left"',
        _LEGS,
    ),
    Mutant(
        "what does not fit is not looked at again",
        _EXITS,
        '    if not settled:\n        return Decision(5, "look"',
        '    if False:\n        return Decision(5, "look"',
        _LEGS,
    ),
    Mutant(
        "less than the venue lets one close is sent",
        _EXITS,
        "return reads.holding is not None and contracts >= reads.holding.smallest",
        "return reads.holding is not None",
        _LEGS,
    ),
    Mutant(
        "a later position is not looked at",
        _EXITS,
        "        if tracked.later is not None:\n",
        "        if False:\n",
        _LEGS,
    ),
)


def copied(mutant: Mutant, folder: Path) -> Path:
    """The package with this mutant in it.

    Raises:
        ValueError: the text to be replaced is not there once.
    """
    for package in ("poslock", "prove"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests").mkdir()
    shutil.copy(ROOT / "tests/test_exits.py", folder / "tests")
    path = folder / mutant.path
    text = path.read_text("utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError(f"mutant {mutant.name!r}: its text is {text.count(mutant.old)} times in {mutant.path}")
    path.write_text(text.replace(mutant.old, mutant.new), "utf-8")
    return folder


def caught(mutant: Mutant) -> Caught:
    """What the simulation says of a mutant."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "prove", "--catch", *mutant.scenes]
        try:
            done = subprocess.run(  # noqa: S603  # this very module
                command,
                cwd=copied(mutant, Path(folder)),
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Caught(mutant.name, "", f"nothing was found in {_SECONDS} s")
    if done.returncode == CAUGHT and done.stdout.strip():
        return Caught(mutant.name, done.stdout.strip())
    return Caught(mutant.name, "", done.stdout.strip() or done.stderr.strip()[-300:] or "nothing was found")
