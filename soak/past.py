"""What an account held a while ago: for a venue whose answer about a leg is not of this moment."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING

from poslock.exchange.matching import Contract
from poslock.exchange.port import Holding
from poslock.position import EXACT, exact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from poslock import PaperExchange
    from poslock.exchange.port import Leg
    from poslock.position import Trade
    from soak.setting import Kind

_SECOND_MS = 1000


def held_at(venue: PaperExchange, kind: Kind, leg: Leg, at_ms: int) -> Holding | None:
    """The leg after all fills until *at_ms*."""
    contract = Contract(exact("contract_size", kind.contract_size), kind.inverse, kind.settle)
    contracts, price, entered = Decimal(0), Decimal(0), "buy" if leg.side == "long" else "sell"
    with venue._database.snapshot() as db, localcontext(EXACT):  # noqa: SLF001  # a trader sees no past
        sql = "SELECT side, reduced, price, contracts FROM fills WHERE symbol = ? AND at_ms <= ? ORDER BY trade_id"
        for side, reduced, paid, amount in db.execute(sql, (leg.symbol, at_ms)):
            changed = Decimal(amount)
            if side != entered and reduced:
                contracts -= changed
            elif side == entered and not reduced:
                price = contract.average((contracts, price), (changed, Decimal(paid))) if contracts else Decimal(paid)
                contracts += changed
    if not contracts:
        return None
    return Holding(leg, contracts, price, contract.size, contract.inverse, contract.settle)


def rounded(trades: Sequence[Trade], kind: Kind) -> list[Trade]:
    """The same, with the times as this kind of account tells them."""
    if not kind.rounds:
        return [*trades]
    return [
        replace(each, fill=replace(each.fill, at_ms=_whole_seconds(each.fill.at_ms, up=kind.rounds > 0)))
        for each in trades
    ]


def _whole_seconds(at_ms: int, *, up: bool) -> int:
    return -(-at_ms // _SECOND_MS) * _SECOND_MS if up else at_ms // _SECOND_MS * _SECOND_MS
