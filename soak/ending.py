"""After the run: with all bots gone, everything that was begun is finished, and everything open is closed."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from poslock.ledger.ledger import Ledger
from soak.watching import WatchedDirectory, WatchedGuard

if TYPE_CHECKING:
    from collections.abc import Iterable

    from poslock import Recovery
    from soak.diary import Diary
    from soak.setting import Setting

_PATIENCE = 60.0


def finish(setting: Setting, diary: Diary) -> None:
    """Recover until nothing more can be finished, then close the rest; the books show what was not achieved."""
    directory = WatchedDirectory(setting.lock_dir, diary)
    with ThreadPoolExecutor(setting.accounts) as executor:  # an account at a time takes long: each waits for its venue
        for done in [executor.submit(_finish, setting, diary, directory, each) for each in range(setting.accounts)]:
            done.result()


def _finish(setting: Setting, diary: Diary, directory: WatchedDirectory, account: int) -> None:
    venue = setting.venue(account, blocks_covered=False)  # as it costs a second for each
    guard = WatchedGuard(venue, directory, setting, diary, setting.patience)
    began_ns, deadline = time.monotonic_ns(), time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        outcomes = guard.recover()
        _tell(outcomes, diary, began_ns)
        if all(each.error is not None for each in outcomes):
            break
    alive = Ledger(setting.ledger).alive(venue.account)
    _tell(guard.close_positions(each.position.id for each in alive), diary, began_ns)


def _tell(outcomes: Iterable[Recovery], diary: Diary, began_ns: int) -> None:
    for each in outcomes:
        if each.closed is not None:
            diary.answer("closed", each.position_id, began_ns, each.closed.token)
            diary.tell("closed", each.position_id, each.closed.token, each.closed.net_pnl)
        diary.tell("finished at the end", each.position_id, each.error or "")
