"""After the run: with all bots gone, everything that was begun is finished, and everything open is closed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from soak.watching import WatchedDirectory, WatchedGuard

if TYPE_CHECKING:
    from collections.abc import Iterable

    from poslock import Recovery
    from soak.diary import Diary
    from soak.setting import Setting

_PATIENCE = 60.0


def finish(setting: Setting, diary: Diary) -> None:
    """Recover until nothing is unfinished, then close the rest; bounded, the books show what was not achieved."""
    directory = WatchedDirectory(setting.lock_dir, diary)
    for account in range(setting.accounts):
        venue = setting.venue(account, blocks_covered=False)  # as it costs a second for each
        guard = WatchedGuard(venue, directory, setting, diary, setting.patience)
        deadline = time.monotonic() + _PATIENCE
        began_ns = time.monotonic_ns()
        while (outcomes := guard.recover()) and time.monotonic() < deadline:
            _tell(outcomes, diary, began_ns)
        ids = [spot.id for spot in setting.spots() if spot.account == account]
        left = [each for each in ids if guard.position(each).state != "closed"]
        _tell(guard.close_positions(left), diary, began_ns)


def _tell(outcomes: Iterable[Recovery], diary: Diary, began_ns: int) -> None:
    for each in outcomes:
        if each.closed is not None:
            diary.answer("closed", each.position_id, began_ns, each.closed.token)
            diary.tell("closed", each.position_id, each.closed.token, each.closed.net_pnl)
        diary.tell("finished at the end", each.position_id, each.error or "")
