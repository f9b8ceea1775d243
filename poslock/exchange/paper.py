"""`PaperExchange`: an exchange account embedded in one SQLite file, shared by all processes that open it.

It behaves like a perpetuals account: reduce-only orders never reverse a position, stop orders stay when their position
is gone, client order ids are unique for ever, and a request that arrives after its receive window is refused. In
one-way mode a long and a short of one symbol net out; in hedge mode they are held side by side, each with its own
orders. Every request is atomic. It survives killed processes, not power cuts: it stands in for a venue, which is
somewhere else.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from decimal import localcontext
from importlib import resources
from typing import TYPE_CHECKING, Literal

from poslock.database import Database
from poslock.errors import (
    DuplicateClientOrderId,
    ExchangeUnavailable,
    NothingToReduce,
    OrderRefused,
    ReduceOnlyBlocked,
    RequestExpired,
    StopWouldTrigger,
)
from poslock.exchange.matching import Contract, Matching, Terms
from poslock.exchange.port import CloseOrder, Holding, Leg, Order, StopOrder
from poslock.position import EXACT, Fill, Number, Side, exact, name, positive, side_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence
    from decimal import Decimal
    from typing import Self

    from poslock.position import Trade

_LONGEST_CLIENT_ID = 32


class PaperExchange:
    """An embedded exchange account in the SQLite file *path*.

    Args:
        path: the file; made if it does not exist.
        hedge: whether it holds long and short side by side. The file keeps the mode in which it was made.
        contract_size, inverse, settle: what its contracts are, as in `poslock.position.Position`.
        fee_rate: fee per notional value of a fill.
        liquidity: contracts a market order can take at once; None for any number.
        remainder_rests: seconds for which what did not fill at once stays open before it is cancelled.
        blocks_covered: whether a close is refused while resting orders cover all of the leg, as some venues do.
        cancels_unlisted: whether it is a `poslock.exchange.port.CancelsUnlisted`, as some venues are.
        smallest: the fewest contracts that an order can close.
        latency: seconds each request travels before the account sees it.
        denies_for, settles_within: as in `poslock.exchange.port.Exchange`.
        clock, sleep: seconds since the epoch, and how to wait; for tests.

    Raises:
        ExchangeUnavailable: the file cannot be used, or its account is in the other mode.
    """

    def __init__(  # noqa: PLR0913  # settings with defaults
        self,
        path: str | os.PathLike[str],
        *,
        hedge: bool = False,
        contract_size: Number = 1,
        inverse: bool = False,
        settle: str = "USDT",
        fee_rate: Number = "0.0005",
        liquidity: Number | None = None,
        remainder_rests: float = 0.0,
        blocks_covered: bool = False,
        cancels_unlisted: bool = False,
        smallest: Number = 0,
        latency: float = 0.0,
        denies_for: float = 0.5,
        settles_within: float = 10.0,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.denies_for = denies_for
        self.settles_within = settles_within
        self.spot = False
        contract = Contract(positive("contract_size", contract_size), inverse, name("settle", settle))
        self._terms = Terms(exact("fee_rate", fee_rate), int(remainder_rests * 1000), hedge, contract)
        self._blocks_covered = blocks_covered
        self.cancels_unlisted = cancels_unlisted
        self._smallest = exact("smallest", smallest)
        self._liquidity = None if liquidity is None else positive("liquidity", liquidity)
        self._latency = latency
        self._clock = clock
        self._sleep = sleep
        self._database = Database(
            str(path),
            schema=_schema(hedge=hedge),
            upgrades={1: _schema(hedge=hedge)},
            version=2,
            synchronous="OFF",
            failure=lambda why, way_out: ExchangeUnavailable(f"paper exchange {path}: {why}; {way_out}"),
            mark="SELECT name FROM account WHERE name = ifnull(:key, name)",
        )
        with self._database.snapshot() as db:
            self.account, made_for_hedge = db.execute("SELECT name, hedge FROM account").fetchone()
        if bool(made_for_hedge) != hedge:
            raise ExchangeUnavailable(
                f"paper exchange {path}: its account is in {_mode(hedge=not hedge)} mode, not in {_mode(hedge=hedge)} "
                f"mode; pass hedge={not hedge}, or use another file",
                code="mode",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its file, in all threads, each when its request has ended; the next request opens it anew."""
        self._database.close()

    # What a closing poslock asks: the port.

    def prepare(self) -> None:
        """Nothing is unknown."""

    def time_ms(self) -> int:
        """The account's clock."""
        return int(self._clock() * 1000)

    def price(self, leg: Leg) -> Decimal:
        """The market's price."""
        with self._request() as account:
            try:
                return account.price(leg.symbol)
            except OrderRefused as error:
                raise ExchangeUnavailable(str(error), code=error.code) from None

    def holding(self, leg: Leg) -> Holding | None:
        """What *leg* holds now and what it cost on average."""
        with self._request() as account:
            return self._held(account, leg)

    def holdings(self, legs: Sequence[Leg]) -> list[Holding]:
        """Those of *legs* that are held."""
        with self._request() as account:
            found = [self._held(account, leg) for leg in legs]
        return [holding for holding in found if holding is not None]

    def place(self, order: CloseOrder) -> Order:
        """Take a reduce-only market order, or refuse it."""
        with self._request() as account:
            self._judge(account, order)
            held = account.held(order.leg)
            if positive("contracts", order.contracts) < self._smallest:
                raise OrderRefused(f"the smallest order is for {self._smallest} contracts", code="2011")
            if self._blocks_covered and account.resting(order.leg) >= held:
                raise ReduceOnlyBlocked("resting reduce-only orders cover the whole position already", code="-4118")
            # Venues differ here; like MEXC and Bybit this one cuts a reduce-only order down to what is there.
            contracts = min(positive("contracts", order.contracts), held)
            order_id = account.insert(order.leg, "order", contracts, client_order_id=order.client_order_id)
            account.execute(order_id, at_most=self._liquidity)
            return account.order(order_id)

    def place_stop(self, order: StopOrder) -> Order:
        """Rest a reduce-only order until its price is reached, or refuse it."""
        with self._request() as account:
            self._judge(account, order)
            contracts, trigger = positive("contracts", order.contracts), positive("trigger_price", order.trigger_price)
            if account.would_trigger(order.leg, order.kind, trigger):
                raise StopWouldTrigger(f"a {order.kind} at {trigger} would execute at once", code="trigger")
            order_id = account.insert(
                order.leg, order.kind, contracts, client_order_id=order.client_order_id, trigger_price=trigger
            )
            return account.order(order_id)

    def order(self, leg: Leg, client_order_id: str) -> Order | None:
        """The order with this client order id, if there is one."""
        with self._request() as account:
            found = account.order_by_client_id(client_order_id)
            return found if found and found.leg == leg else None

    def stop(self, order: StopOrder) -> Order | None:
        """The order with its client order id, if there is one."""
        return self.order(order.leg, order.client_order_id)

    def open_orders(self, leg: Leg) -> list[Order]:
        """Every resting order that would reduce *leg*."""
        with self._request() as account:
            return account.orders(leg, only_open=True)

    def cancel(self, order: Order) -> None:
        """Cancel *order* if it is still open."""
        with self._request() as account:
            account.cancel(order.order_id)

    def cancel_stops(self, orders: Sequence[StopOrder]) -> list[StopOrder]:
        """Cancel *orders* by their client order ids; those that were open."""
        with self._request() as account:
            found = [(order, account.order_by_client_id(order.client_order_id)) for order in orders]
            taken = {order: each.order_id for order, each in found if each is not None and each.state == "open"}
            for order_id in taken.values():
                account.cancel(order_id)
            return list(taken)

    def trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        """Entries and exits of *leg*, oldest first."""
        with self._request() as account:
            return account.trades(leg, since_ms)

    def funding(self, leg: Leg, since_ms: int, until_ms: int) -> Decimal:
        """Funding received on *leg* in that time."""
        with self._request() as account:
            return account.funding(leg, since_ms, until_ms)

    # What a trader sees, and what the trader and the market do with the account.

    def held(self, leg: Leg) -> Decimal:
        """Contracts that *leg* holds now."""
        with self._account() as account:
            return account.held(leg)

    def fills(self, leg: Leg, since_ms: int) -> list[Fill]:
        """Fills that reduced *leg*, oldest first."""
        with self._account() as account:
            return account.fills(leg, since_ms)

    def set_price(self, symbol: str, price: Number) -> None:
        """Move the market; stop-loss and take-profit orders that this triggers are executed."""
        moved = positive("price", price)
        with self._account() as account:
            account.set_price(name("symbol", symbol), moved)

    def open_position(self, symbol: str, side: Side, contracts: Number) -> None:
        """Buy (long) or sell (short) *contracts* at market, in one-way mode against whatever is held."""
        amount, leg = positive("contracts", contracts), Leg(symbol, side_of(side))
        with self._account() as account:
            account.require_market(symbol)
            account.execute(account.insert(leg, "order", amount, reducing=False))

    def protect(
        self,
        symbol: str,
        side: Side,
        kind: Literal["stop_loss", "take_profit"],
        contracts: Number,
        trigger_price: Number,
    ) -> str:
        """Rest a reduce-only order that executes at market when the price reaches *trigger_price*; its order id."""
        amount, trigger = positive("contracts", contracts), positive("trigger_price", trigger_price)
        leg = Leg(symbol, side_of(side))
        with self._account() as account:
            account.require_market(symbol)
            return str(account.insert(leg, kind, amount, trigger_price=trigger))

    def pay_funding(self, symbol: str, amount: Number, side: Side | None = None) -> None:
        """Pay *amount* to the account for its position in *symbol*; negative takes it. Hedge mode needs the *side*."""
        paid = exact("amount", amount)
        # Paid to neither leg by name it would count for both.
        paid_for = None if side is None and not self._terms.hedge else side_of(side)
        with self._account() as account:
            account.pay_funding(symbol, paid_for, paid)

    def orders(self, leg: Leg) -> list[Order]:
        """Every order ever taken that reduces *leg*, oldest first."""
        with self._account() as account:
            return account.orders(leg, only_open=False)

    # Inside.

    @contextmanager
    def _request(self) -> Iterator[Matching]:
        """The account as it is when a request has travelled there."""
        if self._latency:
            self._sleep(self._latency)
        with self._account() as account:
            yield account

    @contextmanager
    def _account(self) -> Iterator[Matching]:
        with self._database.transaction() as db, localcontext(EXACT):
            account = Matching(db, self._terms, self.time_ms())
            account.expire_remainders()
            yield account

    def _held(self, account: Matching, leg: Leg) -> Holding | None:
        holding = account.holding(leg)
        return holding and replace(holding, smallest=self._smallest)

    def _judge(self, account: Matching, order: CloseOrder | StopOrder) -> None:
        late_ms = self.time_ms() - order.signed_at_ms
        if late_ms > order.receive_window_ms:
            raise RequestExpired(
                f"request is {late_ms} ms old, its window was {order.receive_window_ms} ms", code="late"
            )
        if not 1 <= len(order.client_order_id) <= _LONGEST_CLIENT_ID:
            raise OrderRefused(f"client order id must have 1 to {_LONGEST_CLIENT_ID} characters", code="2030")
        if account.order_by_client_id(order.client_order_id):
            raise DuplicateClientOrderId(f"client order id {order.client_order_id} exists", code="duplicate")
        account.require_market(order.leg.symbol)
        if account.held(order.leg) == 0:
            raise NothingToReduce("no position, or already closed", code="2009")


def _schema(*, hedge: bool) -> str:
    # A script takes no bound values.
    script = resources.files("poslock.exchange").joinpath("paper.sql").read_text("utf-8")
    return script.replace(":hedge);", f"{hedge:d});")


def _mode(*, hedge: bool) -> str:
    return "hedge" if hedge else "one-way"
