"""The paper account as MEXC keeps it: orders in families with ids of their own, and what is asked with each."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from loopback.executions import executions
from loopback.mexc_words import refuse
from loopback.rules import DAY_MS
from loopback.swaps import Account
from poslock.errors import OrderRefused
from poslock.exchange.port import Leg

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from poslock.position import Side

Family = Literal["order", "plan", "stop"]

# The number of a paper order, added to one of these, is its id there; the order that a trigger becomes has another one.
ORDER, CHILD = 739_113_577_000_000_000, 739_114_000_000_000_000
PLAN, STOP, TRACK = 739_206_374_000_000_000, 357_000_000, 739_218_627_000_000_000
EXPIRED, TRIGGERED = 4, 3
_TRIGGER_STATES = {"open": 1, "canceled": 2, "filled": TRIGGERED}

OPENS: dict[int, Side] = {1: "long", 3: "short"}
REDUCES: dict[int, Side] = {1: "short", 2: "short", 3: "long", 4: "long"}
CLOSES: dict[Side, int] = {"short": 2, "long": 4}


@dataclass(slots=True)
class Asked:
    """What the request for an order said beyond what a paper order holds."""

    family: Family = "order"
    side: int = 0
    kind: int = 5
    price: Decimal = Decimal(0)
    external_oid: str = ""
    reduce_only: bool = False
    trend: int = 1
    rests_ms: int | None = None
    expired: bool = False

    @property
    def reduces(self) -> bool:
        return self.side in CLOSES.values() or self.reduce_only


class Books(Account):
    """The account inside a transaction."""

    def told(self, where: str = "1", *values: object) -> list[dict[str, Any]]:
        """Executions, the latest first, as they are told: one row for one that crosses flat."""
        return executions(self.deals(where, *values))[::-1]

    def markets(self) -> list[str]:
        """Those that have a price, of which one may be asked about."""
        said = self.said.get("symbol") if isinstance(self.said, dict) else None
        priced = [row["symbol"] for row in self._db.execute("SELECT symbol FROM market")]
        return [self.venue.symbol(said)] if said else priced

    def price(self, symbol: str) -> Decimal:
        try:
            return super().price(symbol)
        except OrderRefused:
            refuse(1002)

    def span(self) -> range:
        """The time asked about: the last seven days unless said otherwise, and at most 90."""
        names = ("start_time", "end_time")
        times: range = self.venue.span(self.said, 90 * DAY_MS, usual_ms=7 * DAY_MS, names=names)
        return times

    def asked(self, row: sqlite3.Row) -> Asked:
        """What was asked for; of orders that did not come over HTTP, what would have been."""
        known: Asked | None = self.venue.asked.get(row["order_id"])
        if known is not None:
            return known
        reducing = bool(row["reduce_only"])
        side = (2 if reducing else 1) if row["side"] == "buy" else (4 if reducing else 3)
        family: Family = "order" if row["family"] == "order" else self.venue.rests_as[row["family"]]
        return Asked(family, side, external_oid=f"_m_{row['order_id']:032x}", reduce_only=reducing)

    def triggers(self, family: Family, where: str = "1") -> list[sqlite3.Row]:
        """Orders of a family that waits for a price, the latest first."""
        rows = self.rows(f"family <> 'order' AND {where}")
        return [row for row in rows if self.asked(row).family == family]

    def trigger_state(self, row: sqlite3.Row) -> int:
        if self.asked(row).expired:
            return EXPIRED
        return TRIGGERED if row["filled"] != "0" else _TRIGGER_STATES[row["state"]]

    def terms(self) -> tuple[Leg, int, bool]:
        """The leg that an order is about, its side, and whether it only takes; refuses what does not fit the account.

        Cross and isolated are not mixed within a leg, and isolated wants to be told its leverage.
        """
        said, venue = self.said, self.venue
        symbol, side = venue.symbol(said.get("symbol")), said.get("side")
        if side not in REDUCES:
            refuse(2001)
        if said.get("openType") not in {1, 2}:
            refuse(2002)
        if said.get("positionMode", venue.position_mode) != venue.position_mode:
            refuse(7002)
        if venue.hedge and "reduceOnly" in said:
            refuse(600)
        reducing = side in CLOSES.values() or said.get("reduceOnly") is True
        leg = Leg(symbol, REDUCES[side] if reducing else OPENS[side])
        self.price(symbol)
        held = self.history(symbol).held(leg.side)
        if held and said["openType"] != venue.open_type:
            refuse(7003)
        if said["openType"] == 1 and not said.get("leverage"):
            refuse(2006)
        return leg, side, reducing if held else self._nothing(reducing=reducing)

    def _nothing(self, *, reducing: bool) -> bool:
        return refuse(2009) if reducing else False

    def take(self, leg: Leg, asked: Asked, contracts: Decimal, kind: str, trigger: Decimal | None = None) -> int:
        """Enter an order; its number."""
        oid = asked.external_oid or None
        return self.enter(leg, kind, contracts, asked, reducing=asked.reduces, client_id=oid, trigger=trigger)

    def settle(self) -> None:
        for row in self.rows("state = 'open' AND rests_until_ms IS NULL"):
            asked = self.venue.asked.get(row["order_id"])
            if asked is None:
                continue
            if asked.rests_ms is not None and row["created_ms"] + asked.rests_ms <= self.venue.clock_ms():
                asked.expired = True
                self.cancel(row["order_id"])
            elif row["trigger_price"] is None and self.reaches(row["symbol"], row["side"], asked):
                self.execute(row["order_id"])
        for numbers in self.venue.pairs:
            if any(row["state"] != "open" for number in numbers for row in self.rows("order_id = ?", number)):
                self.cancel_all(numbers)

    def cancel_all(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.cancel(str(number))

    def change(self, number: int, column: str, value: Decimal) -> None:
        """Of an order that rests."""
        self._db.execute(f"UPDATE orders SET {column} = ? WHERE order_id = ?", (str(value), number))

    def reaches(self, symbol: str, side: str, asked: Asked) -> bool:
        """Whether an order can be executed at the price there is."""
        if asked.kind >= 5:
            return True
        price = self.price(symbol)
        return price <= asked.price if side == "buy" else price >= asked.price


def wanted(said: Mapping[str, Any], rows: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    """Those of *rows* that a question is about: what it says of a field may be several values, with commas."""
    asked = {name: str(said[name]).split(",") for name in ("symbol", *names) if said.get(name) is not None}
    fields = {"states": "state", "position_type": "positionType", "position_id": "positionId"}
    return [row for row in rows if all(str(row[fields.get(name, name)]) in value for name, value in asked.items())]
