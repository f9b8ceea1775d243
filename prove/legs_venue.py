"""One leg at a simulated venue: what is true of it, and two reads that each lag on their own.

What happens is a list of *facts*: trades, and now and then a new entry price without a trade. The truth after the first
``k`` facts is ``sizes[k]`` and ``holdings[k]``. A read of the holding shows the truth after an earlier number of facts,
a read of the trades shows a prefix of them; neither goes back, and each shows a fact ``lag`` ticks after it happened at
the latest. Single entries may show later than the trades after them, within the same bound, or never. A venue that
forgets shows only the newest trades.

In one-way mode the size has a sign, and a trade that crosses flat is one trade. Sizes are ints, made Decimals up front.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from poslock.exchange.port import Holding, Leg
from poslock.position import Fill, Trade

if TYPE_CHECKING:
    from random import Random

LEG = Leg("BTC_USDT", "long")
AMOUNTS = tuple(Decimal(each) for each in range(400))
NEVER = 10**6
BEFORE = -100  # the tick of what both reads have shown for long
_NAMES = tuple(f"t{each:03}" for each in range(400))
_ONE = Decimal(1)
_FEE = Decimal(0)


@dataclass(slots=True)
class Rules:
    """What this venue is like."""

    ids: bool = False
    one_way: bool = False
    lag: int = 0
    smallest: int = 0
    places: Decimal = Decimal("1e-8")  # averages are kept exactly, and shown rounded to this
    idle_zeros: bool = False  # 100.00 rather than 100
    tick: Decimal = Decimal(0)  # of prices, 0 if it says none; never less than `places`
    newest: int = NEVER  # so many trades are shown, older ones are forgotten


class Venue:
    """The truth of one leg."""

    def __init__(self, rng: Random, rules: Rules) -> None:
        self.rules = rules
        self.now = BEFORE
        self.trades: list[Trade | None] = []  # None: a new price, no trade
        self.amounts: list[int] = []  # signed: entries above 0
        self.sizes = [0]
        self.holdings: list[Holding | None] = [None]
        self.ticks: list[int] = []
        self.shows: list[int] = []  # the tick from which each may show
        self._rng = rng
        self._price = Decimal(0)
        self._position = 0

    @property
    def size(self) -> int:
        """Contracts held now, below 0 on the other side."""
        return self.sizes[-1]

    def trade(self, amount: int, price: int, order: str | None = None, shows: int = 0) -> None:
        """Trade *amount*, below 0 for an exit; *shows* is how many ticks later it may show."""
        size, paid = self.size, self.price(price)
        after = size + amount
        if size <= 0 < after:
            self._position += 1
            self._price = paid
        elif amount > 0 and size > 0:
            self._price = (size * self._price + amount * paid) / after
        name = _NAMES[len(self.trades)]
        contracts = AMOUNTS[abs(amount)]
        fill = Fill(name, order, paid, contracts, _FEE, "USDT", 0)
        self._add(Trade("entry" if amount > 0 else "exit", order, fill), amount, shows)

    def reprice(self) -> None:
        """A new entry price without a trade, as a daily settlement makes it."""
        self._price += 7 * _ONE
        self._add(None, 0, 0)

    def price(self, whole: int) -> Decimal:
        """*whole* as this venue writes prices."""
        return AMOUNTS[whole].quantize(self.rules.places) if self.rules.idle_zeros else AMOUNTS[whole]

    def _add(self, trade: Trade | None, amount: int, shows: int) -> None:
        self.trades.append(trade)
        self.amounts.append(amount)
        self.ticks.append(self.now)
        self.shows.append(self.now + shows)
        size = self.size + amount
        self.sizes.append(size)
        price = self._price.quantize(self.rules.places)
        if not self.rules.idle_zeros:
            price = short if (short := price.to_integral_value()) == price else price.normalize()
        name = f"p{self._position}" if self.rules.ids else None
        self.holdings.append(
            Holding(
                LEG, AMOUNTS[size], price, _ONE, False, "USDT", name, AMOUNTS[self.rules.smallest], tick=self.rules.tick
            )
            if size > 0
            else None
        )


class Sight:
    """What one reader has seen of a venue: ``holding_at`` facts in the holding, and the trades ``seen``, by number."""

    def __init__(self, venue: Venue, rng: Random) -> None:
        self.holding_at = 0
        self.seen: list[int] = []
        self.trades: list[Trade] = []
        self._venue, self._rng = venue, rng
        self._trades_at = 0
        self._sure = 0  # facts that both reads must show by now
        self._unseen: list[int] = []

    @property
    def newest(self) -> int:
        """How many facts the newest one in either read makes."""
        return max(self.holding_at, self.seen[-1] + 1 if self.seen else 0)

    def read(self) -> Holding | None:
        """Read both; ``trades`` is every trade ever seen, in the venue's order. Returns the holding."""
        venue = self._venue
        facts, oldest_moving = len(venue.trades), venue.now - venue.rules.lag
        while self._sure < facts and venue.ticks[self._sure] <= oldest_moving:
            self._sure += 1
        self.holding_at = self._advanced(self.holding_at, facts)
        advanced = self._advanced(self._trades_at, facts)
        self._unseen.extend(range(self._trades_at, advanced))
        self._trades_at = advanced
        if self._unseen:
            self._show(facts)
        return venue.holdings[self.holding_at]

    def is_caught_up(self) -> bool:
        """Whether both reads show all that will ever show."""
        facts = len(self._venue.trades)
        return self.holding_at == facts == self._trades_at and not any(
            self._venue.shows[each] < NEVER // 2 for each in self._unseen
        )

    def _advanced(self, before: int, facts: int) -> int:
        least = max(before, self._sure)
        if least == facts:
            return facts
        luck = self._rng.random()
        return facts if luck < 0.4 else least if luck < 0.7 else self._rng.randint(least, facts)  # noqa: PLR2004

    def _show(self, facts: int) -> None:
        venue, rest, count = self._venue, [], len(self.seen)
        for number in self._unseen:
            if venue.trades[number] is None:
                continue
            if number < facts - venue.rules.newest:
                venue.shows[number] = NEVER  # forgotten before it was seen
            if venue.shows[number] <= venue.now:
                self.seen.append(number)
            else:
                rest.append(number)
        self._unseen = rest
        if len(self.seen) > count:
            self.seen.sort()
            self.trades = [trade for number in self.seen if (trade := venue.trades[number])]
