"""The log of the lock, which decides nothing: what a filter or a handler of the bot's raises does not end an acquire.

But an error that a signal handler raises, which may come while something is logged, is for the bot.
"""

from __future__ import annotations

import logging
import signal
import traceback

LOG = logging.getLogger("poslock.lock")


def tell(level: int, what: str, *more: object, **fields: object) -> None:
    """Log *what*, with *more* in its places, and *fields* for the record."""
    try:
        LOG.log(level, what, *more, extra=fields, stacklevel=2)
    except Exception as error:
        if _is_of_signal(error):
            raise
        if logging.raiseExceptions:  # as for what a handler's own emit() raises
            traceback.print_exc()


def _is_of_signal(error: Exception) -> bool:
    handlers = {getattr(signal.getsignal(each), "__code__", None) for each in signal.valid_signals()}
    return any(frame.f_code in handlers for frame, _ in traceback.walk_tb(error.__traceback__))
