"""One bot of the demo: a process of its own that closes the position as every bot would.

It tells the stage what it is about to ask of the exchange, one JSON line each on its standard output, and goes on when
it reads a line. That is how the stage can kill or pause it at a known point; poslock itself knows nothing of it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

from poslock import LockLost, PaperExchange, PositionAlreadyClosingError, PositionGuard, PoslockError

POSITION = "btc-swing-1"


def main() -> None:
    """Run the bot described by the JSON object in the first argument."""
    setting = json.loads(sys.argv[1])
    exchange = _Watched(PaperExchange(setting["exchange"]))
    # Wait for a killed and a paused closer before us, and then some.
    timeout = 4 * setting["lease"] + 10
    guard = PositionGuard(exchange, lock_dir=setting["lock_dir"], timeout=timeout, stale_after=setting["lease"])
    _tell("ready")
    try:
        closed = guard.close_position(POSITION, reason=setting["name"])
        _say("told", outcome="closed", text=f"closed at {closed.exit_price}, net P&L {closed.net_pnl}")
    except PositionAlreadyClosingError as error:
        _say("told", outcome=f"already {error.state}", text=str(error))
    except LockLost as error:
        _say("told", outcome="lock lost", text=str(error))
    except PoslockError as error:
        _say("told", outcome="error", text=str(error))


@dataclass
class _Watched:
    """An exchange whose every request is announced first, and every accepted order afterwards."""

    exchange: PaperExchange

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.exchange, name)
        if not callable(attribute) or name == "time_ms":
            return attribute

        def announced(*args: object) -> object:
            _tell("asks", what=name)
            answer = attribute(*args)
            if name == "place":
                _tell("accepted", order=answer.order_id)
            return answer

        return announced


def _say(event: str, **details: object) -> None:
    sys.stdout.write(json.dumps({"event": event, **details}) + "\n")
    sys.stdout.flush()


def _tell(event: str, **details: object) -> None:
    """Say it, and wait for the stage's word to go on."""
    _say(event, **details)
    if not sys.stdin.readline():
        sys.exit("the stage is gone")


if __name__ == "__main__":
    main()
