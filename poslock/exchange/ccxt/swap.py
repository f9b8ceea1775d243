"""Positions of one side of a linear swap, which all venues of swaps have alike."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from poslock.errors import ExchangeUnavailable, NothingToReduce, OrderRefused, UnsupportedMarket
from poslock.exchange.ccxt.reading import decimal, is_half, plain, smallest, step
from poslock.exchange.ccxt.venue import Account
from poslock.exchange.port import Holding, Leg, hurried
from poslock.position import on_step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from poslock.exchange.ccxt.client import Client
    from poslock.exchange.port import CloseOrder, Order, StopOrder
    from poslock.position import Side


_POSITION_ID = "positionId"


@dataclass(frozen=True, slots=True)
class Held:
    """A leg at the venue: its contracts, their average entry price, and all that the venue says of it.

    ``symbol`` is the venue's name of its market, ``position_id`` its id of the position, None where it has none.
    """

    symbol: str
    side: Side
    contracts: Decimal
    entry_price: Decimal
    said: dict[str, Any]
    position_id: str | None = None


class Swap(Account):
    """A venue of perpetual swaps. Subclasses ask it; here is what the answers mean."""

    positions: ClassVar[str]
    held: Callable[[dict[str, Any]], Held | None]
    """The list of positions; and what a row of it holds, None for nothing."""
    needed: ClassVar[tuple[str, ...]] = ()
    """The fields of such a row that an order for the position repeats."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._needed: dict[Leg, dict[str, Any]] = {}

    @abstractmethod
    async def _close(self, order: CloseOrder, position: Held) -> Order:
        """As `place`, for what *position* is."""

    @abstractmethod
    async def _rest(self, order: StopOrder, position: Held) -> Order:
        """As `place_stop`."""

    @abstractmethod
    async def order(self, leg: Leg, client_order_id: str) -> Order | None:
        """The order with this client order id, of any family."""

    async def _positions(self, query: dict[str, Any], read: Callable[[dict[str, Any]], Held | None]) -> list[Held]:
        """What *read* makes of the positions that *query* is about."""
        return await self._rows(self.positions, query, read)

    @abstractmethod
    def _most(self, market: dict[str, Any]) -> Decimal | None:
        """The most contracts that an order at market can be for, also one that rests until it triggers.

        What goes wrong says that it is not known.
        """

    async def place(self, order: CloseOrder) -> Order:
        """Send a market order that only reduces, of at most the venue's largest size: less than was asked for, then.

        It is bound to the position that it names. If the leg holds another position by now, nothing is sent.
        """
        return await self._close(order, await self._position_of(order))

    async def place_stop(self, order: StopOrder) -> Order:
        """Rest an order that closes at market."""
        return await self._rest(order, await self._reducible(order.leg))

    async def stop(self, order: StopOrder) -> Order | None:
        """What became of a stop order: as `order`, where stop orders have a client order id."""
        return await self.order(order.leg, order.client_order_id)

    async def holding(self, leg: Leg) -> Holding | None:
        """What *leg* holds now, and what its contracts are."""
        position = await self._position(leg)
        return None if position is None else self._holding(leg, position)

    async def holdings(self, legs: Sequence[Leg]) -> list[Holding]:
        """Those of *legs* that are held, in their order, from one request; without those of markets not known here.

        Raises:
            ExchangeUnavailable: no market is known, because `prepare` was not called.
        """
        known = self._known(legs)
        found = await self._all_positions(known) if known else {}
        return [self._holding(leg, found[leg]) for leg in known if leg in found]

    async def _position(self, leg: Leg) -> Held | None:
        """*leg* as the venue has it now, None if nothing is held."""
        return (await self._positions_of([leg], self._of(leg))).get(leg)

    async def _all_positions(self, legs: Sequence[Leg]) -> dict[Leg, Held]:
        """Those of *legs* that are held, from one request for the whole account."""
        return await self._positions_of(legs, dict(self.category))

    async def _positions_of(self, legs: Sequence[Leg], query: dict[str, Any]) -> dict[Leg, Held]:
        """The same of what *query* is about. What the account holds beside the markets of *legs* is not looked at."""
        symbols, found = {self._id(leg): leg.symbol for leg in legs}, dict[Leg, Held]()

        def read(row: dict[str, Any]) -> Held | None:
            return self.held(row) if row[self.symbol] in symbols else None

        for held in await self._positions(query, read):
            found.setdefault(Leg(symbols[held.symbol], held.side), held)
        return found

    async def _position_of(self, order: CloseOrder) -> Held:
        """The position that *order* closes: as it was looked at, or as it was last known, or as it is now."""
        if order.holding is not None and isinstance(order.holding.said, Held):
            return order.holding.said
        # As small as the order: that one only reduces, and nobody has looked how much there is.
        # Nor whether it is the same position; where it has an id, an order for another one is not sent unseen.
        # (test_an_urgent_close_does_not_take_the_id_of_a_later_position)
        remembered = self._remembered(order.leg) if hurried.get() else None
        has_id = _POSITION_ID in self.needed and order.position_id is not None
        if remembered is not None and not (has_id and str(remembered[_POSITION_ID]) != order.position_id):
            position_id = order.position_id
            return Held(self._id(order.leg), order.leg.side, order.contracts, Decimal(0), remembered, position_id)
        return await self._reducible(order.leg, order.position_id)

    def _remembered(self, leg: Leg) -> dict[str, Any] | None:
        """What an order for *leg* needs, as it was last seen, here or by another process; None if it never was."""
        found = self._needed.get(leg)
        if found is None and self.memory is not None:
            found = self.memory.recall().get(_name(leg))
        return found if isinstance(found, dict) and [*found] == [*self.needed] else None

    def _remember(self, leg: Leg, position: Held) -> None:
        """Keep what an order for *leg* needs, so that an urgent one need not ask for it."""
        needed = {each: position.said[each] for each in self.needed}
        if self.memory is not None and self._needed.get(leg) != needed:
            self._needed[leg] = needed
            self.memory.remember(**{_name(leg): needed})

    async def _reducible(self, leg: Leg, position_id: str | None = None) -> Held:
        """What an order would reduce, asked before it is sent: the position with that id, or else the present one."""
        position = await self._unsent(self._position(leg))
        if position is None:
            raise NothingToReduce(f"{self.client.ccxt.id} holds no {leg.side} position in {leg.symbol}")
        if position_id not in {None, position.position_id}:
            said = f"position {position.position_id} in {leg.symbol}, not {position_id}"
            raise NothingToReduce(f"{self.client.ccxt.id} holds {said}")
        return position

    def _sendable(self, leg: Leg, *most: Decimal) -> Decimal:
        """What an order at market can be for, of *most* and the market's largest: cut down to the step, never more."""
        size, largest, contracts = step(self.market(leg), "amount"), self._largest(leg), min(most)
        cut = on_step(contracts if largest is None else min(contracts, largest), size)
        if not cut:
            raise OrderRefused(f"{plain(contracts)} contracts are less than the {plain(size)} that sizes go by")
        return cut

    def _largest(self, leg: Leg) -> Decimal | None:
        market = self.market(leg)
        try:
            return self._most(market)
        except (KeyError, TypeError, ValueError, ArithmeticError):
            why = f"the largest market order of {leg.symbol} is not known"
            raise UnsupportedMarket(f"{self.client.ccxt.id}: {why}") from None

    async def _expect_whole(self, order: Order) -> None:
        """Raise `OrderRefused` if *order* is half of one whose other half protects a position."""
        if is_half(order) and await self._position(order.leg) is not None:
            number = order.order_id.rpartition(":")[2]
            raise OrderRefused(f"order {number} of the venue holds both prices; cancel it there")

    async def _cancellable(self, orders: Sequence[Order]) -> tuple[list[Order], OrderRefused | None]:
        """Those of *orders* that may be cancelled, and why another one may not."""
        whole: list[Order] = []
        refused: OrderRefused | None = None
        for order in orders:
            try:
                await self._expect_whole(order)
            except OrderRefused as refusal:
                refused = refusal
            else:
                whole.append(order)
        return whole, refused

    async def _still_holds(self, leg: Leg) -> bool:
        """Whether *leg* holds something, as far as the venue says."""
        try:
            return await self._position(leg) is not None
        except ExchangeUnavailable:
            return False

    def _unfit(self, market: dict[str, Any], leg: Leg) -> str | None:  # noqa: ARG002  # spot looks at the leg
        return None if market.get("swap") and market.get("linear") else "is no linear swap"

    def _holding(self, leg: Leg, position: Held) -> Holding:
        market = self.market(leg)
        self._remember(leg, position)
        return Holding(
            leg=leg,
            contracts=position.contracts,
            entry_price=position.entry_price,
            contract_size=decimal(market["contractSize"]),
            inverse=bool(market["inverse"]),
            settle=str(market["settle"]),
            position_id=position.position_id,
            smallest=smallest(market),
            step=step(market, "amount"),
            tick=step(market, "price"),
            largest=self._largest(leg),
            said=position,
        )


def _name(leg: Leg) -> str:
    return f"{leg.side} {leg.symbol}"
