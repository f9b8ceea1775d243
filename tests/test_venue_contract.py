"""What every venue must do, through real ccxt clients, against accounts on this machine; each behaviour once.

`VenueCase` says where a venue has what and what it cannot. What is a venue's own is in the test file of its name.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from decimal import Decimal
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from loopback.desk import DAY_MS, Desk, other, trigger
from loopback.server import KEYS, Fault, Reply
from poslock import ChangeRefused, ClosedPosition, CloseUnsettled, OrderRefused
from poslock.bridge import TaskPorts, ThreadPorts
from poslock.errors import (
    DuplicateClientOrderId,
    ExchangeError,
    ExchangeUnavailable,
    KeysRefused,
    NothingToReduce,
    NotServed,
    OutcomeUnknown,
    RateLimited,
    ReduceOnlyBlocked,
    RequestExpired,
    StopWouldTrigger,
    UnderMaintenance,
    UnsupportedMarket,
)
from poslock.exchange.port import Holding, Leg, Order
from poslock.lock.files.back_off import BackOffFile
from venue_cases import CASES, HTML, SWAPS, VenueCase, extra, opened, reworded, rewritten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from loopback.server import Request
    from poslock.position import Side

HOUR_MS = 3_600_000
_SIDES: tuple[Side, ...] = ("long", "short")
STATUSES: dict[int, type[ExchangeError]] = {
    401: KeysRefused,
    418: RateLimited,
    429: RateLimited,
    **dict.fromkeys((307, 400, 403, 404, 408, 500, 502, 503, 504, 520, 599), OutcomeUnknown),
}
# A gate, a proxy or a broken line does not know what the venue did; nor is what cannot be read an answer.
ELSEWHERE = ("drop", HTML, Reply(504, ""), Reply(200, ""), Reply(200, "OK"), Reply(200, "null"), Reply(200, {}))
NO_ANSWERS = (*ELSEWHERE, "cut", "garbage", Reply(200, "[7]"), Reply(200, [{}]), Reply(200, b"\x00\xff\xfe"))


def of(cases: Sequence[VenueCase]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def in_both_modes(cases: Sequence[VenueCase]) -> pytest.MarkDecorator:
    modes = [(case, hedge) for case in cases for hedge in ((False, True) if case.hedges else (False,))]
    return pytest.mark.parametrize(("case", "hedge"), modes, ids=[f"{case.name}{'-hedge' * on}" for case, on in modes])


def on_each_leg(cases: Sequence[VenueCase]) -> pytest.MarkDecorator:
    """In both modes, both sides; a balance is only long, in no mode."""
    spot = [(case, False, "long") for case in cases if case.is_spot]
    legs = [(case, mode, side) for case in cases if not case.is_spot for mode in (False, True) for side in _SIDES]
    ids = [f"{case.name}{'-hedge' * mode}-{side}" for case, mode, side in (*legs, *spot)]
    return pytest.mark.parametrize(("case", "hedge", "side"), [*legs, *spot], ids=ids)


everywhere, at_swaps = of(CASES), of(SWAPS)
where_stops_rest = of([case for case in CASES if case.stops])
in_hedge_mode = pytest.mark.parametrize("hedge", [True], ids=["hedge"])
with_both_clients = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
both_sides = pytest.mark.parametrize("side", ["long", "short"])
both_kinds = pytest.mark.parametrize("kind", ["stop_loss", "take_profit"])


@pytest.fixture
def asynchronous() -> bool:
    return False


@pytest.fixture
def hedge() -> bool:
    return False


@pytest.fixture
def settings() -> dict[str, Any]:
    return {}


@pytest.fixture
def desk(
    tmp_path: Path, case: VenueCase, settings: dict[str, Any], *, asynchronous: bool, hedge: bool
) -> Iterator[Desk]:
    with opened(case, tmp_path, asynchronous=asynchronous, hedge=hedge, **settings) as desk:
        yield desk


def questions(desk: Desk) -> list[tuple[str, Callable[[], Any]]]:
    """All that can be asked, and where."""
    exchange, leg, day = desk.exchange, desk.leg, desk.venue.clock_ms() - DAY_MS
    asked: list[tuple[str, Callable[[], Any]]] = [
        ("held", lambda: exchange.holding(leg)),
        ("held", lambda: exchange.holdings([leg])),
        ("price", lambda: exchange.price(leg)),
        ("order", lambda: exchange.order(leg, "c1")),
        *((name, lambda: exchange.open_orders(leg)) for name in desk.case.lists),
        ("trades", lambda: exchange.trades(leg, day)),
    ]
    return asked if desk.is_spot else [*asked, ("funding", lambda: exchange.funding(leg, day, day + 2 * DAY_MS))]


def orders(desk: Desk) -> list[tuple[str, Callable[[], Any]]]:
    """What can be sent, and where."""
    close = ("place", lambda: desk.exchange.place(desk.closing(4)))
    stop = ("stop", lambda: desk.exchange.place_stop(desk.stop("stop_loss", contracts=4)))
    return [close, stop] if desk.case.stops else [close]


def close_and_look(desk: Desk) -> list[Callable[[], Any]]:
    return [desk.held, lambda: desk.exchange.place(desk.closing(10))]


# What the account is.


@in_both_modes(CASES)
def test_the_account_is_inspected(desk: Desk, case: VenueCase, *, hedge: bool) -> None:
    """The clock, the mode and the rights of the key are told; where the rights cannot be asked they are unknown."""
    desk.venue.offset_ms = -900_000
    told = hedge if case.told_hedge else None
    for rights in ((True, False), (False, True), (True, True)):
        case.rights(desk.venue, *rights)
        found = desk.exchange.inspect()
        assert 900_000 <= found.clock_ms < 960_000
        assert (found.hedge, found.may_trade, found.may_withdraw) == (told, *rights)
    desk.strike("rights", Reply(404, "<html>not here</html>"))
    found = desk.exchange.inspect()
    assert (found.hedge, found.may_trade, found.may_withdraw) == (told, None, None)


@everywhere
@pytest.mark.parametrize("hours", [-1, 1])
def test_its_time_is_the_venues(desk: Desk, hours: int) -> None:
    """Requests are signed by the venue's clock, whatever this machine's says."""
    desk.venue.offset_ms = hours * HOUR_MS
    desk.hold()
    assert 0 <= desk.venue.clock_ms() - desk.exchange.time_ms() < 5000
    desk.exchange.place(desk.closing(10))
    assert desk.hand.left(desk.leg) == 0


@everywhere
def test_the_price_is_the_last_one(desk: Desk) -> None:
    """Stops trigger on it, so the guard compares with it; the mark price is another."""
    desk.exchange.prepare()
    desk.hand.price(desk.leg.symbol, Decimal("61234.5"))
    desk.venue.mark = Decimal(1)
    assert desk.exchange.price(desk.leg) == Decimal("61234.5")


@on_each_leg(SWAPS)
def test_what_is_held_is_one_side(desk: Desk, case: VenueCase, side: Side) -> None:
    """With the contract's sizes. The other side holds nothing; another market's position is not this one's."""
    leg = desk.hold(side)
    desk.hand.price(case.another, 3_000)
    desk.hand.open(Leg(case.another, side), 7)
    desk.hand.price(leg.symbol, 61_000)
    found = desk.exchange.holding(leg)
    smallest = Decimal(case.smallest or case.step)
    sizes: dict[str, Any] = {"smallest": smallest, "step": Decimal(case.step), "tick": Decimal(case.tick)}
    size = Decimal(case.contract_size)
    expected = Holding(leg, Decimal(10), Decimal(60_000), size, inverse=False, settle="USDT", **sizes)
    assert case.largest is not None
    assert found == replace(expected, largest=Decimal(case.largest), position_id=found.position_id)
    assert (found.position_id is None) == (case.name != "mexc")
    assert desk.exchange.holding(other(leg)) is None


@at_swaps
def test_a_flat_market_with_an_order_is_flat(desk: Desk) -> None:
    """Some venues list such a market, with an amount of 0."""
    leg = desk.hold()
    desk.hand.protect(leg, "stop_loss", 10, 50_000)
    desk.exchange.place(desk.closing(10))
    assert (desk.held(), desk.exchange.holding(leg)) == (0, None)


@in_both_modes(SWAPS)
def test_all_that_is_held_is_told_in_one_request(desk: Desk, case: VenueCase, *, hedge: bool) -> None:
    """Of the legs asked about, in their order; a market that is not known here is left out."""
    desk.hold("long", 10)
    desk.hand.price(case.another, 3_000)
    desk.hand.open(Leg(case.another, "short"), 3)
    if hedge:
        desk.hold("short", 4)
    asked = len(desk.venue.requests)
    gone = Leg("GONE/USDT:USDT", "long")
    legs = [Leg(case.another, "short"), gone, other(desk.leg), desk.leg, Leg(case.another, "long"), desk.leg]
    found = desk.exchange.holdings(legs)
    # Bybit's list of a currency goes on after its last row.
    assert {request.path for request in desk.venue.requests[asked:]} == {desk.sent("held")[-1].path}
    assert len(desk.venue.requests) - asked <= (2 if case.name == "bybit" else 1)
    held = [(Leg(case.another, "short"), 3), *([(other(desk.leg), 4)] if hedge else []), (desk.leg, 10)]
    assert [(each.leg, each.contracts) for each in found] == held
    assert found == [desk.exchange.holding(leg) for leg, _ in held]


@everywhere
def test_holdings_of_nothing(desk: Desk) -> None:
    """Nobody is asked; and before anything is prepared no leg is known, which is no answer."""
    with pytest.raises(ExchangeUnavailable, match="prepare"):
        desk.exchange.holdings([desk.leg])
    desk.exchange.prepare()
    asked = len(desk.venue.requests)
    assert desk.exchange.holdings([]) == desk.exchange.holdings([Leg("NONE/USDT", "long")]) == []
    assert len(desk.venue.requests) == asked


@everywhere
def test_only_its_own_markets_are_known(desk: Desk) -> None:
    """Another kind of market, and one that ccxt does not list, is refused before anything is asked."""
    desk.exchange.prepare()
    others = {"inverse": {"swap": True}, "option": {"option": True}, "other": {"swap": desk.is_spot, "linear": True}}
    others["other"]["spot"] = not desk.is_spot
    desk.clients[0].markets |= {name: {"id": "X", "info": {}, **kind} for name, kind in others.items()}
    asked, exchange = len(desk.venue.requests), desk.exchange
    for leg in [Leg(symbol, "long") for symbol in ("DOGE/USDT:USDT", "NONE/USDT", *others)]:
        requests: list[tuple[Callable[..., object], object]] = [
            *((ask, leg) for ask in (exchange.holding, exchange.open_orders, exchange.price, desk.trades)),
            (exchange.place, desk.closing(1, leg=leg)),
        ]
        for request, about in requests:
            with pytest.raises(UnsupportedMarket):
                request(about)
        assert exchange.holdings([leg]) == []
    assert len(desk.venue.requests) == asked


@everywhere
def test_what_does_not_change_is_asked_once(desk: Desk, case: VenueCase) -> None:
    """Markets, clock and mode, also when orders go out."""
    desk.hold()
    for number in range(3):
        desk.exchange.prepare()
        desk.exchange.place(desk.closing(1, f"c{number}"))
    assert [len(desk.sent(each)) for each in ("clock", "mode") if each in case.paths] == [1] * (
        1 + ("mode" in case.paths)
    )


@everywhere
@pytest.mark.parametrize("what", ["drop", "garbage", HTML], ids=["drop", "garbage", "502"])
def test_what_has_to_be_known_first_is_asked_for_again(desk: Desk, case: VenueCase, what: Any) -> None:
    """Markets, clock and mode: nothing is taken for known that was not told."""
    for name in [each for each in ("markets", "clock", "mode") if each in case.paths]:
        desk.strike_question(name, what)
        with pytest.raises(ExchangeUnavailable):
            desk.exchange.prepare()
    desk.hold()
    assert desk.held() == 10


# Questions and their answers.


@everywhere
@with_both_clients
def test_a_question_without_an_answer(desk: Desk) -> None:
    """It says so, is answered when it is put again, and is never taken for "nothing is there"."""
    desk.hold()
    desk.exchange.place(desk.closing(1))
    for name, ask in questions(desk):
        expected = ask()
        for what in NO_ANSWERS:
            desk.strike_question(name, what)
            with pytest.raises(ExchangeUnavailable) as caught:
                ask()
            assert type(caught.value) is ExchangeUnavailable, what
            assert all(fault.hits for fault in desk.venue._faults), what
            desk.venue._faults.clear()
            assert ask() == expected, what


@everywhere
def test_the_code_says_why_a_question_was_not_answered(desk: Desk, case: VenueCase) -> None:
    """Turned away unseen, of which the kind is told, or just not answered: a question is never refused or unknown."""
    desk.hold()
    for meaning, said in case.codes.items():
        for each in said:
            desk.strike("held", case.refusal(each))
            with pytest.raises(ExchangeUnavailable) as caught:
                desk.held()
            expected = meaning if issubclass(meaning, NotServed) else ExchangeUnavailable
            assert type(caught.value) is expected, each
    assert desk.held() == 10


@everywhere
def test_an_answer_that_cannot_be_read_is_no_answer(desk: Desk, case: VenueCase) -> None:
    """A row without what must be in it is never left out, nor guessed at, and no raw error comes out of it."""
    leg = desk.hold()
    case.by_hand(desk, leg)
    if not desk.is_spot:
        desk.hand.fund(leg.symbol, "0.0001")
    desk.hand.take(leg, 1)
    for path, name, value in case.odd:
        for _, ask in [each for each in questions(desk) if each[0] == path]:
            expected = ask()
            desk.answer_otherwise(path, partial(rewritten, fields={name: value}), times=99)
            with pytest.raises(ExchangeUnavailable):
                pytest.fail(f"{path}, {name} {value}: {ask()}")
            desk.venue._faults.clear()
            assert ask() == expected


@everywhere
def test_answers_with_more_in_them_are_read(desk: Desk, case: VenueCase) -> None:
    """A field that the venue has come to tell, with whatever in it, changes nothing."""
    leg = desk.hold()
    case.by_hand(desk, leg)
    if not desk.is_spot:
        desk.hand.fund(leg.symbol, "0.0001")
    desk.hand.take(leg, 1)
    asked = questions(desk)
    expected = [ask() for _, ask in asked]
    desk.answer_otherwise("", extra, times=999)
    assert [ask() for _, ask in asked] == expected
    for order in desk.exchange.open_orders(leg):
        desk.exchange.cancel(order)
    desk.exchange.place(desk.closing(9))
    desk.assert_flat(leg)


@of([case for case in CASES if case.stops and case.states])
def test_an_unknown_state_counts_as_resting(desk: Desk, case: VenueCase) -> None:
    """OKX has one that is not documented, ``order_placed``. The lists stay readable, and a close sweeps the order."""
    guard, leg = desk.tracked()
    guard.modify_position("btc-1", stop_loss=57_000)
    known, unknown = case.states or ("", "")
    for name in case.lists:
        desk.answer_otherwise(name, lambda body: reworded(body, known, unknown), times=10**6)
    [order] = desk.exchange.open_orders(leg)
    assert (order.family, order.state) == ("stop_loss", "open")
    guard.close_position("btc-1")
    desk.assert_closed_once(guard, leg)


@everywhere
def test_keys_that_are_not_accepted(desk: Desk, case: VenueCase) -> None:
    """Questions and orders say so, no key is in a message, and nothing is taken."""
    desk.hold()
    for name, code in case.wrong.items():
        setattr(desk.clients[0], name, "of-somebody-else-DO-NOT-LOG-4")
        for request in close_and_look(desk):
            with pytest.raises(KeysRefused) as caught:
                request()
            assert (caught.value.code, "DO-NOT-LOG" in str(caught.value)) == (code, False)
        setattr(desk.clients[0], name, KEYS[name])
    assert desk.hand.sold(desk.leg) == []


@everywhere
@pytest.mark.parametrize("missing", ["apiKey", "secret"])
def test_a_client_without_keys_sends_nothing(desk: Desk, missing: str) -> None:
    """It is told like keys that the venue does not know."""
    desk.hold()
    setattr(desk.clients[0], missing, None)
    asked = len(desk.venue.requests)
    for request in close_and_look(desk):
        with pytest.raises(KeysRefused):
            request()
    assert len(desk.venue.requests) == asked


# Orders that close.


@on_each_leg(CASES)
@with_both_clients
def test_a_close_reduces(desk: Desk, case: VenueCase, side: Side, *, hedge: bool) -> None:
    """It takes off what was asked from its leg alone, is found by its id, and says when it was signed and expires."""
    leg = desk.hold(side)
    if hedge:
        desk.hand.open(other(leg), 3)
    order = desk.closing(4, leg=leg, age_ms=300, window_ms=4000)
    placed = desk.exchange.place(order)
    told = replace(placed, filled=Decimal(0), state="open")
    assert told == Order(placed.order_id, "c1", "order", leg, Decimal(4), Decimal(0), "open")
    assert desk.exchange.order(leg, "c1") == replace(placed, state="filled", filled=Decimal(4))
    assert (desk.hand.left(leg), desk.hand.sold(leg)) == (6, [4])
    if not desk.is_spot:
        assert desk.hand.left(other(leg)) == (3 if hedge else 0)
    [request] = desk.sent("place")
    assert case.expires_ms(request) == order.signed_at_ms + 4000


@on_each_leg(SWAPS)
def test_nothing_is_sent_for_what_is_not_held(desk: Desk, side: Side) -> None:
    """Neither a close nor a stop, although the other side is held."""
    leg = other(desk.hold(side))
    with pytest.raises(NothingToReduce):
        desk.exchange.place(desk.closing(10, leg=leg))
    with pytest.raises(NothingToReduce):
        desk.exchange.place_stop(desk.stop("stop_loss", leg=leg))
    assert desk.sent("place") == desk.sent("stop") == []


@on_each_leg(CASES)
def test_a_close_of_too_much_reverses_nothing(desk: Desk, side: Side, *, hedge: bool) -> None:
    """Whatever size is asked for, no more goes than there is, and the other side stays as it was."""
    leg = desk.hold(side, 3)
    if hedge:
        desk.hand.open(other(leg), 2)
    desk.exchange.place(desk.closing(10, leg=leg))
    assert (desk.hand.left(leg), desk.exchange.order(leg, "c1").filled) == (0, 3)
    if not desk.is_spot:
        assert desk.hand.left(other(leg)) == (2 if hedge else 0)


@of([case for case in CASES if case.largest])
def test_an_order_is_no_larger_than_the_venue_takes(desk: Desk) -> None:
    """What is beyond is left for the next one; the id finds all of the first."""
    (desk.venue.books if desk.is_spot else desk.venue).largest = Decimal(4)
    desk.hold()
    assert desk.exchange.place(desk.closing(10)).contracts == 4
    assert (desk.hand.left(desk.leg), desk.exchange.order(desk.leg, "c1").filled) == (6, 4)


@everywhere
@pytest.mark.parametrize(("contracts", "said"), [("1E+1", "10"), ("0.500000", "0.5"), ("2.00", "2"), ("2.1234567", "")])
def test_sizes_are_written_plainly(desk: Desk, case: VenueCase, contracts: str, said: str) -> None:
    """No exponent, no zeros that count as digits too many, and nothing beyond the step."""
    step = Decimal(case.step)
    desk.hold()
    if Decimal(contracts) < step:
        with pytest.raises(OrderRefused, match="less than"):
            desk.exchange.place(desk.closing(contracts))
        assert desk.sent("place") == []
        return
    desk.exchange.place(desk.closing(contracts))
    [request] = desk.sent("place")
    cut = Decimal(contracts) // step * step
    assert str(request.params[case.size]) == (said or format(cut, "f"))


@at_swaps
@pytest.mark.parametrize("settings", [{"liquidity": 6, "remainder_rests": 60.0}])
def test_an_order_that_is_filled_in_part_is_open(desk: Desk) -> None:
    """It says what it has done, is listed, can be cancelled, and says what it did then."""
    leg = desk.hold()
    desk.exchange.place(desk.closing(10))
    order = desk.exchange.order(leg, "c1")
    assert (order.filled, order.contracts, order.state) == (6, 10, "open")
    assert desk.exchange.open_orders(leg) == [order]
    desk.exchange.cancel(order)
    assert desk.exchange.order(leg, "c1") == replace(order, state="canceled")
    assert desk.exchange.open_orders(leg) == []


@everywhere
def test_a_market_order_that_finds_too_little_has_ended(desk: Desk) -> None:
    """With what it took off."""
    if desk.is_spot:
        desk.venue.books.liquidity = Decimal(4)
    else:
        desk.book._liquidity = Decimal(4)
    desk.hold()
    desk.exchange.place(desk.closing(10))
    found = desk.exchange.order(desk.leg, "c1")
    assert (found.state, found.contracts, found.filled) == ("canceled", 10, 4)


@of([case for case in SWAPS if case.stop_ids])
@pytest.mark.parametrize("settings", [{"liquidity": 4, "remainder_rests": 60.0}])
def test_a_client_order_id_that_is_out_already(desk: Desk, case: VenueCase) -> None:
    """A second order under it is told to ask, not that it was refused: the first is what the id stands for."""
    leg = desk.hold()
    desk.exchange.place(desk.closing(6))
    first = desk.exchange.order(leg, "c1")
    stop = desk.exchange.place_stop(desk.stop("stop_loss", contracts=2))
    with pytest.raises(DuplicateClientOrderId):
        desk.exchange.place(desk.closing(6))
    with pytest.raises(DuplicateClientOrderId):
        desk.exchange.place_stop(desk.stop("stop_loss", contracts=2, at=56_000))
    assert desk.exchange.order(leg, "c1") == first
    assert (desk.exchange.order(leg, "s1"), desk.hand.sold(leg)) == (stop, [4])


@of([case for case in CASES if case.ids_end])
def test_a_client_order_id_is_free_when_its_order_has_ended(desk: Desk) -> None:
    """So it keeps nobody from closing twice: that is what reduce-only is for. Who asks is told of the newest one."""
    desk.hold()
    desk.exchange.place(desk.closing(4))
    desk.exchange.place(desk.closing(6))
    assert desk.hand.sold(desk.leg) == [4, 6]
    assert desk.exchange.order(desk.leg, "c1").filled == 6
    assert [fill.client_order_id for fill in desk.told()] == ["c1", "c1"]


@in_both_modes(CASES)
def test_what_was_held_is_gone_when_the_close_arrives(desk: Desk, case: VenueCase) -> None:
    """Closed by hand meanwhile: the venue says so, nothing is taken, and nothing is opened the other way."""
    leg = desk.hold()
    desk.strike("place", lambda _: desk.hand.take(leg, 10))
    with pytest.raises(NothingToReduce) as caught:
        desk.exchange.place(desk.closing(10))
    assert (type(caught.value), caught.value.code) == (NothingToReduce, case.gone)
    assert desk.hand.left(leg) == 0
    assert desk.is_spot or desk.hand.left(other(leg)) == 0


@in_both_modes([case for case in CASES if case.blocks is not None])
def test_a_close_that_resting_orders_block(desk: Desk, case: VenueCase) -> None:
    """That is another thing than being flat, and the position tells."""
    leg = desk.hold()
    assert case.blocks is not None
    desk.hand.rest(leg, 10)
    for code in case.blocks or (0,):
        desk.venue.blocks = code or None
        with pytest.raises(ReduceOnlyBlocked) as caught:
            desk.exchange.place(desk.closing(10))
        assert caught.value.code == (str(code) if code else "2008" if case.name == "mexc" else None)
    assert desk.hand.left(leg) == 10


@everywhere
@pytest.mark.parametrize("what", ["drop", HTML, "429"], ids=str)
def test_nothing_is_sent_when_what_is_held_cannot_be_read(desk: Desk, what: Any) -> None:
    """The outcome is known: none."""
    desk.hold()
    for _, send in orders(desk):
        desk.strike_question("held", Reply(429, "<html></html>") if what == "429" else what)
        with pytest.raises(NotServed) as caught:
            send()
        assert type(caught.value) is (RateLimited if what == "429" else NotServed)
    assert desk.sent("place") == desk.sent("stop") == []


# What became of an order.


@everywhere
def test_the_code_says_what_became_of_an_order(desk: Desk, case: VenueCase) -> None:
    """By its code, or by its words where those decide; not by the status, nor by ccxt's class for it."""
    desk.hold()
    for meaning, said in case.codes.items():
        for each in said:
            for name, send in orders(desk):
                desk.strike(name, case.refusal(each))
                with pytest.raises(ExchangeError) as caught:
                    send()
                assert type(caught.value) is meaning, each
    assert desk.hand.sold(desk.leg) == []
    assert desk.exchange.open_orders(desk.leg) == []
    desk.exchange.place(desk.closing(10))
    assert desk.hand.left(desk.leg) == 0


@everywhere
@pytest.mark.parametrize("status", [400, 500])
def test_the_code_counts_whatever_the_status(desk: Desk, case: VenueCase, status: int) -> None:
    """The venue's word counts for more than the status it comes with."""
    desk.hold()
    for meaning, said in case.codes.items():
        plain = [each for each in said if isinstance(each, int)][:3]
        for each in plain:
            desk.strike("place", replace(case.refusal(each), status=status))
            with pytest.raises(ExchangeError) as caught:
                desk.exchange.place(desk.closing(4))
            assert (type(caught.value), caught.value.code) == (meaning, str(each))


@everywhere
@pytest.mark.parametrize("body", ['<html>var said = {"code": 2009, "retCode": 110017};</html>', ""])
def test_a_status_without_a_code_comes_from_the_gate(desk: Desk, case: VenueCase, body: str) -> None:
    """A few let nothing in; behind any other the order may have been taken. A page's own words are not the venue's."""
    desk.hold()
    for status, usual in STATUSES.items():
        expected, reply = case.gate.get(status, usual), Reply(status, body, {"Content-Type": "text/html"})
        for name, send in orders(desk):
            desk.strike(name, reply)
            with pytest.raises(ExchangeError) as caught:
                send()
            assert type(caught.value) is expected, status
        desk.strike_question("held", reply)
        with pytest.raises(ExchangeUnavailable) as asked:
            desk.held()
        assert type(asked.value) is (expected if issubclass(expected, NotServed) else ExchangeUnavailable), status


@everywhere
@with_both_clients
@pytest.mark.parametrize("what", ["lose", "cut", "garbage", 500, 503])
def test_an_answer_that_was_lost_leaves_the_outcome_unknown(desk: Desk, case: VenueCase, what: Any) -> None:
    """The order was taken, and is found by its client order id, or by its shape; so is a stop."""
    desk.hold()

    def with_status(request: Request) -> Reply:
        reply: Reply = desk.venue._carried_out(request)
        return replace(reply, status=what)

    for name, send in orders(desk):
        desk.strike(name, with_status if isinstance(what, int) else what)
        with pytest.raises(OutcomeUnknown) as caught:
            send()
        assert type(caught.value) is OutcomeUnknown
        assert len(desk.sent(name)) == (2 if name == "stop" and case.paths["stop"] == case.paths["place"] else 1)
    assert desk.exchange.order(desk.leg, "c1").filled == 4
    if case.stops:
        assert desk.exchange.stop(desk.stop("stop_loss", contracts=4, age_ms=3000)).state == "open"


@everywhere
@with_both_clients
def test_a_request_that_was_lost_leaves_the_outcome_unknown(desk: Desk) -> None:
    """It left once, and there is no such order; an answer that cannot be read is no success."""
    desk.hold()
    for name, send in orders(desk):
        for what in ELSEWHERE:
            desk.strike(name, what)
            sent = len(desk.sent(name))
            with pytest.raises(OutcomeUnknown) as caught:
                send()
            assert (type(caught.value), len(desk.sent(name)) - sent) == (OutcomeUnknown, 1), what
    assert desk.exchange.order(desk.leg, "c1") is None
    assert desk.exchange.open_orders(desk.leg) == []
    assert desk.hand.left(desk.leg) == 10


@of([case for case in CASES if case.names_order])
def test_an_answer_about_another_order(desk: Desk, case: VenueCase) -> None:
    """It is not believed."""
    desk.hold()
    desk.strike("place", Reply(200, case.names_order))
    with pytest.raises(OutcomeUnknown):
        desk.exchange.place(desk.closing(4))


@everywhere
def test_an_answer_that_takes_too_long_leaves_the_outcome_unknown(desk: Desk) -> None:
    """The client gives up; the order gets there when it gets there, within its window."""
    desk.hold()
    desk.connect(config={"timeout": 300})
    desk.exchange.prepare()
    go_on = threading.Event()
    desk.strike("place", go_on)
    with pytest.raises(OutcomeUnknown) as caught:
        desk.exchange.place(desk.closing(4))
    assert type(caught.value) is OutcomeUnknown
    assert desk.exchange.order(desk.leg, "c1") is None
    go_on.set()
    for _ in range(400):
        if desk.hand.sold(desk.leg):
            break
        threading.Event().wait(0.01)
    assert desk.exchange.order(desk.leg, "c1").filled == 4


# Time.


@in_both_modes(CASES)
def test_a_request_that_was_signed_long_ago_is_refused(desk: Desk, case: VenueCase) -> None:
    """A close that went out under a lock that is gone does nothing; and the clock is asked for anew."""
    desk.hold()
    for age_ms in (5100, 60_000):
        with pytest.raises(RequestExpired) as caught:
            desk.exchange.place(desk.closing(10, age_ms=age_ms))
        assert caught.value.code == case.late
    assert desk.hand.left(desk.leg) == 10
    assert desk.exchange.order(desk.leg, "c1") is None
    assert len(desk.sent("clock")) == 3


@where_stops_rest
def test_a_late_stop_order_is_refused(desk: Desk, case: VenueCase) -> None:
    """As a close, although OKX has no deadline for conditional orders."""
    desk.hold()
    with pytest.raises(RequestExpired) as caught:
        desk.exchange.place_stop(desk.stop("stop_loss", age_ms=5100))
    assert caught.value.code == case.late
    assert desk.exchange.open_orders(desk.leg) == []


@everywhere
def test_a_request_from_the_future_is_refused(desk: Desk) -> None:
    """A timestamp ahead of the venue's clock would lengthen its life; then the clock is asked again."""
    desk.hold()
    with pytest.raises(RequestExpired):
        desk.exchange.place(desk.closing(10, age_ms=-60_000))
    desk.exchange.place(desk.closing(10))
    assert (desk.hand.left(desk.leg), len(desk.sent("clock"))) == (0, 2)


@everywhere
def test_a_late_question_has_the_clock_read_again(desk: Desk, case: VenueCase) -> None:
    """This machine was stopped in a way that its own clocks did not see; the next request is in time."""
    desk.hold()
    desk.venue.offset_ms = HOUR_MS
    with pytest.raises(ExchangeUnavailable) as caught:
        desk.held()
    assert caught.value.code == case.late
    assert desk.held() == 10


@everywhere
def test_a_request_that_is_held_up_is_refused_by_its_timestamp(desk: Desk, case: VenueCase) -> None:
    """It says until when it is good, so the venue refuses it when it comes late; within its window it is taken."""
    desk.hold()
    for name, order in (("place", desk.closing(10)), ("stop", desk.stop("stop_loss"))):
        if name == "stop" and not case.stops:
            continue
        desk.strike(name, case.window_ms / 1000 + 0.2)
        now = replace(order, signed_at_ms=desk.exchange.time_ms(), receive_window_ms=case.window_ms)
        with pytest.raises(RequestExpired) as caught:
            (desk.exchange.place if name == "place" else desk.exchange.place_stop)(now)
        assert caught.value.code == case.late
    assert desk.exchange.open_orders(desk.leg) == []
    assert desk.hand.left(desk.leg) == 10
    desk.exchange.place(desk.closing(10, age_ms=4000))
    assert desk.hand.left(desk.leg) == 0


# Orders that rest.


@on_each_leg([case for case in CASES if case.stops])
@both_kinds
def test_a_stop_order(desk: Desk, case: VenueCase, side: Side, kind: Any, *, hedge: bool) -> None:
    """It rests, is listed and found, triggers by the last price, and its fill bears its id."""
    leg = desk.hold(side)
    if hedge:
        desk.hand.open(other(leg), 3)
    order = desk.stop(kind, leg=leg)
    placed = desk.exchange.place_stop(order)
    client_id = "s1" if case.stop_ids else None
    expected = Order(placed.order_id, client_id, kind, leg, Decimal(10), Decimal(0), "open", trigger(kind, leg))
    assert placed == expected
    assert desk.exchange.open_orders(leg) == [placed]
    assert desk.is_spot or desk.exchange.open_orders(other(leg)) == []
    assert desk.exchange.stop(order) == placed
    assert desk.exchange.order(leg, "s1") == (placed if case.stop_ids else None)
    desk.hand.price(leg.symbol, trigger(kind, leg))
    assert desk.hand.left(leg) == 0
    assert desk.is_spot or desk.hand.left(other(leg)) == (3 if hedge else 0)
    found = desk.exchange.stop(order)
    assert replace(found, order_id="") == replace(placed, order_id="", state="filled", filled=Decimal(10))
    desk.exchange.cancel(found)
    assert desk.exchange.open_orders(leg) == []
    [fill] = desk.told("exit", leg)
    assert (fill.contracts, fill.price) == (10, trigger(kind, leg))
    assert str(fill.client_order_id).startswith(case.stop_fill)


@on_each_leg([case for case in CASES if case.stops])
@both_kinds
def test_a_stop_on_the_wrong_side_is_refused(desk: Desk, case: VenueCase, kind: Any, side: Side) -> None:
    """It would trigger at once: that is definite, and nothing rests."""
    leg = desk.hold(side)
    for at in (trigger(kind, other(leg)), 60_000):
        with pytest.raises(case.too_late) as caught:
            desk.exchange.place_stop(desk.stop(kind, leg=leg, at=at))
        assert type(caught.value) is case.too_late
    assert desk.exchange.open_orders(leg) == []
    assert desk.exchange.stop(desk.stop(kind, leg=leg, at=60_000)) is None


@on_each_leg(CASES)
@with_both_clients
def test_every_family_is_listed_and_cancelled(desk: Desk, case: VenueCase, side: Side, *, hedge: bool) -> None:
    """Those of the leg, whoever placed them, by another process; none of the other leg or market, none that opens."""
    leg = desk.hold(side)
    case.by_hand(desk, leg)
    case.opening(desk, leg)
    elsewhere = Leg(case.another, side)
    desk.hand.price(case.another, 3_000)
    desk.hand.open(elsewhere, 5)
    desk.hand.rest(elsewhere, 2)
    if not desk.is_spot:
        case.opening(desk, other(leg))
    if hedge:
        desk.hand.open(other(leg), 10)
        case.by_hand(desk, other(leg))
    listed = desk.exchange.open_orders(leg)
    assert tuple(sorted(order.family for order in listed)) == case.families
    assert {(order.leg, order.state, order.filled) for order in listed} == {(leg, "open", 0)}
    assert len({order.order_id for order in listed}) == len(listed)
    others = desk.exchange.open_orders(other(leg)) if hedge else []
    desk.connect()
    desk.exchange.prepare()
    for number, order in enumerate(listed, 1):
        desk.exchange.cancel(order)
        desk.exchange.cancel(order)
        assert len(desk.exchange.open_orders(leg)) == len(listed) - number
    if not desk.is_spot:
        assert desk.exchange.open_orders(other(leg)) == others
        assert len(others) == (len(case.families) if hedge else 0)
    assert len(desk.exchange.open_orders(elsewhere)) == 1


@where_stops_rest
def test_a_cancelled_stop_says_so(desk: Desk, case: VenueCase) -> None:
    """To whoever asks for it by its id."""
    desk.hold()
    placed = desk.exchange.place_stop(desk.stop("stop_loss"))
    desk.exchange.cancel(placed)
    found = desk.exchange.order(desk.leg, "s1")
    assert found == (replace(placed, state="canceled") if case.stop_ids else None)


@everywhere
def test_a_cancel_that_failed_says_so(desk: Desk, case: VenueCase) -> None:
    """Only that the order has ended is no failure."""
    leg = desk.hold()
    desk.hand.rest(leg, 2)
    [order] = desk.exchange.open_orders(leg)
    unknown, limited = (next(iter(case.codes[each])) for each in (OutcomeUnknown, RateLimited))
    for what, expected in (
        ("drop", (OutcomeUnknown, ExchangeUnavailable)),
        (HTML, (OutcomeUnknown, ExchangeUnavailable)),
        (case.refusal(unknown), (OutcomeUnknown, ExchangeUnavailable)),
        (case.refusal(limited), RateLimited),
    ):
        desk.strike("cancel", what)
        with pytest.raises(expected):
            desk.exchange.cancel(order)
    for code in case.ended:
        desk.strike("cancel", case.refusal(code))
        desk.exchange.cancel(order)
    assert desk.exchange.open_orders(leg) == [order]
    desk.exchange.cancel(order)
    assert desk.exchange.open_orders(leg) == []
    desk.exchange.place(desk.closing(4))
    desk.exchange.cancel(desk.exchange.order(leg, "c1"))


@of([case for case in CASES if case.no_order])
def test_ways_to_say_that_there_is_no_such_order(desk: Desk, case: VenueCase) -> None:
    """Each of the venue's own; any other one is no answer."""
    desk.hold()
    desk.exchange.place(desk.closing(4))
    for said in case.no_order:
        desk.strike("order", case.refusal(said))
        assert desk.exchange.order(desk.leg, "c1") is None
    desk.strike("order", case.refusal(next(iter(case.codes[OutcomeUnknown]))))
    with pytest.raises(ExchangeUnavailable):
        desk.exchange.order(desk.leg, "c1")
    assert desk.exchange.order(desk.leg, "c1").filled == 4


# Trades and funding.


@on_each_leg(CASES)
def test_entries_and_exits_are_told_in_one_list(desk: Desk, case: VenueCase, side: Side, *, hedge: bool) -> None:
    """Oldest first, with price, fee and order; exits bear their client order ids, which entries are not asked for."""
    leg, size = desk.hold(side, 4), Decimal(case.contract_size)
    if desk.is_spot:
        desk.venue.books.buy(leg.symbol, 4)
    desk.hand.price(leg.symbol, 61_000)
    if desk.is_spot:
        desk.venue.books.buy(leg.symbol, 6)
    else:
        desk.hand.open(leg, 6)
        desk.hand.fund(leg.symbol, "0.0001")
        desk.hand.fund(leg.symbol, "-0.0001")
    asked = len(desk.sent("by id"))
    placed = [desk.exchange.place(desk.closing(*each, leg)) for each in ((3, "c1"), (5, "c2"))]
    told = desk.trades(leg)
    assert desk.changes(leg) == [("entry", 4), ("entry", 6), ("exit", 3), ("exit", 5)]
    assert [each.fill.price for each in told] == [60_000, 61_000, 61_000, 61_000]
    fee = Decimal(case.fee_rate) * size
    fees = [each.fill.fee for each in told][2:] if desk.is_spot else [each.fill.fee for each in told]
    contracts = [4 * 60_000, 6 * 61_000, 3 * 61_000, 5 * 61_000]
    assert fees == [fee * each for each in contracts[-len(fees) :]]
    assert {each.fill.fee_currency for each in told[2:]} == {"USDT"}
    assert [each.fill.client_order_id for each in told] == [None, None, "c1", "c2"]
    assert [each.order_id for each in told[2:]] == [order.order_id.removeprefix("order:") for order in placed]
    assert len({each.fill.trade_id for each in told}) == len({each.order_id for each in told}) == 4
    if case.asks_ids:
        assert len(desk.sent("by id")) - asked <= len(placed), "an order is asked for once, or known from its placing"
    if not desk.is_spot:
        turned = [("exit", 4), ("exit", 6), ("entry", 3), ("entry", 5)]
        assert desk.changes(other(leg)) == ([] if hedge else turned)


@everywhere
def test_trades_from_a_time_on(desk: Desk, case: VenueCase) -> None:
    """Those before it are none of them, also where times are rounded."""
    desk.hold()
    desk.exchange.place(desk.closing(1, "c0"))
    for number in range(1, 5):
        since_ms = desk.later()
        desk.hand.price(desk.leg.symbol, 60_000 + number)
        desk.exchange.place(desk.closing(1, f"c{number}"))
        since_ms -= 999 if case.rounds and desk.is_spot else 0
        assert [each.client_order_id for each in desk.told(since_ms=since_ms)] == [f"c{number}"]
    assert [each.price for each in desk.told()] == [60_000, 60_001, 60_002, 60_003, 60_004]


@at_swaps
@both_sides
def test_a_trade_that_crosses_flat_is_one_of_both_legs(desk: Desk, case: VenueCase, side: Side) -> None:
    """One-way mode: what takes 15 while 10 are held closes them and opens 5 of the other side; whole, with its fee."""
    leg = desk.hold(side)
    desk.hand.open(other(leg), 15)
    desk.exchange.place(desk.closing(5, leg=other(leg)))
    assert desk.changes(leg) == [("entry", 10), ("exit", 15), ("entry", 5)]
    assert desk.changes(other(leg)) == [("exit", 10), ("entry", 15), ("exit", 5)]
    mine, theirs = desk.trades(leg), desk.trades(other(leg))
    assert [each.fill.trade_id for each in mine] == [each.fill.trade_id for each in theirs]
    assert mine[1].fill.fee == 15 * 60_000 * Decimal(case.contract_size) * Decimal(case.fee_rate)


@at_swaps
@in_hedge_mode
def test_a_trade_is_of_one_leg_in_hedge_mode(desk: Desk) -> None:
    """Both legs buy and sell."""
    long, short = desk.hold("long", 10), desk.hold("short", 6)
    for leg, contracts, client_id in ((long, 4, "c1"), (short, 5, "c2"), (long, 1, "c3")):
        desk.exchange.place(desk.closing(contracts, client_id, leg))
    assert desk.changes(long) == [("entry", 10), ("exit", 4), ("exit", 1)]
    assert desk.changes(short) == [("entry", 6), ("exit", 5)]


@of([case for case in CASES if case.asks_ids])
def test_a_fill_of_an_order_that_is_denied_is_told(desk: Desk, case: VenueCase) -> None:
    """Without the id of it until the venue shows it; if it cannot be asked, that is no answer."""
    desk.hold()
    desk.exchange.place(desk.closing(4))
    desk.connect()
    desk.exchange.prepare()
    for said in case.no_order:
        desk.strike_question("by id", case.refusal(said))
        assert [each.client_order_id for each in desk.told()] == [None]
    desk.strike_question("by id", "drop")
    with pytest.raises(ExchangeUnavailable):
        desk.told()
    assert [each.client_order_id for each in desk.told()] == ["c1"]


def short_pages(desk: Desk, case: VenueCase, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Let a page of what is past have so many rows."""
    assert case.pages is not None
    where, names = case.pages
    if desk.is_spot:
        monkeypatch.setattr(type(desk.behind._venue), where, rows)
        desk.venue.page = rows
        return
    module = import_module(where)
    for name in (names,) if isinstance(names, str) else names:
        found = getattr(module, name)
        monkeypatch.setattr(module, name, rows if isinstance(found, int) else replace(found, rows=rows))


@in_both_modes(CASES)
@pytest.mark.parametrize("keeps", ["newest", "oldest"])
def test_all_trades_are_told(
    desk: Desk, case: VenueCase, keeps: str, monkeypatch: pytest.MonkeyPatch, *, hedge: bool
) -> None:
    """However many pages it takes, whichever end of a list without pages is left out, and each once."""
    short_pages(desk, case, monkeypatch, 3)
    desk.venue.page_keeps = keeps
    leg = desk.hold(contracts=60)
    since_ms = desk.venue.clock_ms() - HOUR_MS
    for number in range(10):
        desk.venue.offset_ms += 3000
        desk.hand.take(leg, number + 1)
    desk.later(3000)
    assert [each.contracts for each in desk.told(since_ms=since_ms)] == list(range(1, 11))
    if not desk.is_spot:
        assert len(desk.trades(other(leg))) == (0 if hedge else 11)


@in_both_modes(CASES)
def test_trades_of_weeks_are_told(desk: Desk, case: VenueCase) -> None:
    """Beyond what one question may be about, and when lists of what is recent have forgotten them."""
    days = (case.reach_days, 20, 10, 3, 0)
    desk.venue.offset_ms = -days[0] * DAY_MS
    leg = desk.hold()
    since_ms = desk.venue.clock_ms() - 60_000
    for ago in days:
        desk.venue.offset_ms = -ago * DAY_MS
        desk.later(0)
        desk.exchange.place(desk.closing(1, f"c{ago}"))
    for _ in range(2):
        assert [each.client_order_id for each in desk.told(leg=leg, since_ms=since_ms)] == [f"c{ago}" for ago in days]


@on_each_leg(SWAPS)
def test_funding_is_what_the_leg_received(desk: Desk, case: VenueCase, side: Side, *, hedge: bool) -> None:
    """Less what it paid, in that time and no other; neither the other leg's nor another market's."""
    leg = desk.hold(side)
    if hedge:
        desk.hand.open(other(leg), 4)
    desk.hand.price(case.another, 3_000)
    desk.hand.open(Leg(case.another, side), 5)
    began_ms = desk.venue.clock_ms()
    for rate, offset_ms in (("0.0003", 0), ("-0.0001", 2 * HOUR_MS)):
        desk.later(offset_ms)
        desk.hand.fund(leg.symbol, rate)
        desk.hand.fund(case.another, "0.01")
    desk.later(HOUR_MS)
    one = Decimal(10) * 60_000 * Decimal(case.contract_size) * Decimal("0.0001") * (-1 if side == "long" else 1)
    for start, end, expected in ((-1, 1, 3), (1, 3, -1), (-1, 3, 2), (-3, -1, 0), (4, 5, 0)):
        span = began_ms + start * HOUR_MS, began_ms + end * HOUR_MS
        assert desk.exchange.funding(leg, *span) == expected * one
        if hedge:
            assert desk.exchange.funding(other(leg), *span) == expected * -one * 4 / 10


@at_swaps
def test_all_funding_is_told(desk: Desk, case: VenueCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page after page, over weeks."""
    short_pages(desk, case, monkeypatch, 2)
    leg, since_ms = desk.hold(), desk.venue.clock_ms()
    for _ in range(7):
        desk.later(2 * DAY_MS)
        desk.hand.fund(leg.symbol, "-0.0001")
    until_ms = desk.later(HOUR_MS)
    one = Decimal(10) * 60_000 * Decimal(case.contract_size) * Decimal("0.0001")
    assert desk.exchange.funding(leg, since_ms, until_ms) == 7 * one


# The guard.


@on_each_leg(CASES)
@with_both_clients
def test_a_position_from_its_tracking_to_its_booking(desk: Desk, case: VenueCase, side: Side, *, hedge: bool) -> None:
    """Stops are set, moved and swept, a part is taken off, funding is paid, others' orders go: booked once."""
    stops = case.stops and not desk.is_spot
    guard, leg = desk.tracked(side, exits=stops)
    if hedge:
        desk.hand.open(other(leg), 4)
    if stops:
        moved = 58_000 if side == "long" else 65_000
        changed = guard.modify_position("btc-1", stop_loss=moved, reduce_by=3)
        assert (changed.stop_loss, changed.contracts) == (moved, 7)
        assert {order.family for order in desk.exchange.open_orders(leg)} == {"stop_loss", "take_profit"}
        desk.hand.fund(leg.symbol, "0.0001")
    else:
        assert guard.modify_position("btc-1", reduce_by=3).contracts == 7
    desk.hand.rest(leg, 1)
    desk.hand.price(leg.symbol, 61_000)
    guard.close_position("btc-1", reason="test")
    closed = desk.assert_closed_once(guard, leg)
    paid = Decimal(7 * 6) * Decimal(case.contract_size) if stops else 0
    assert closed.funding == (-paid if side == "long" else paid)
    assert len({fill.client_order_id for fill in closed.fills}) == len(desk.hand.sold(leg)) <= 3
    assert desk.is_spot or desk.hand.left(other(leg)) == (4 if hedge else 0)


@in_both_modes([case for case in CASES if case.stops])
def test_a_position_that_its_stop_has_closed_is_booked(desk: Desk) -> None:
    """Nothing is sent, and what is left resting is swept."""
    guard, leg = desk.tracked(exits=not desk.is_spot)
    if desk.is_spot:
        guard.modify_position("btc-1", stop_loss=57_000)
    desk.hand.price(leg.symbol, 56_900)
    desk.venue.requests.clear()
    assert guard.close_position("btc-1").client_order_id is None
    assert desk.sent("place") == []
    assert desk.assert_closed_once(guard, leg).exit_price == 56_900


@in_both_modes(CASES)
def test_a_position_that_is_gone_by_hand_is_booked(desk: Desk) -> None:
    """Nothing is sent; the trader's own trade is the exit, and the orders that are left are swept."""
    guard, leg = desk.tracked(exits=not desk.is_spot)
    desk.hand.take(leg, 10)
    desk.venue.requests.clear()
    guard.close_position("btc-1")
    assert desk.sent("place") == []
    desk.assert_closed_once(guard, leg)


@in_both_modes(CASES)
def test_a_close_leaves_no_order_of_any_family(desk: Desk, case: VenueCase) -> None:
    """Whoever placed them; what blocks the close goes first."""
    guard, leg = desk.tracked()
    case.by_hand(desk, leg)
    if case.blocks:
        desk.venue.blocks = case.blocks[0]
    desk.hand.rest(leg, 6 if desk.is_spot else 8)
    guard.close_position("btc-1")
    desk.assert_closed_once(guard, leg)


@in_both_modes([case for case in CASES if case.largest])
def test_a_position_beyond_the_largest_order_is_closed_in_parts(desk: Desk) -> None:
    """Each under an id of its own."""
    (desk.venue.books if desk.is_spot else desk.venue).largest = Decimal(4)
    guard, leg = desk.tracked()
    closed = guard.close_position("btc-1")
    assert desk.hand.sold(leg) == [4, 4, 2]
    assert len({fill.client_order_id for fill in closed.fills}) == 3
    desk.assert_closed_once(guard, leg)


@everywhere
@pytest.mark.parametrize("rests", [False, True])
def test_a_close_that_fills_in_parts_is_finished(desk: Desk, *, rests: bool) -> None:
    """What is left when the first order has ended goes out as the next one."""
    if desk.is_spot:
        desk.venue.books.liquidity = Decimal(6)
    else:
        desk.book._liquidity = Decimal(6)
        desk.book._terms = replace(desk.book._terms, remainder_rests_ms=100 * rests)
    guard, leg = desk.tracked()
    guard.close_position("btc-1")
    assert desk.hand.sold(leg) == [6, 4]
    desk.assert_closed_once(guard, leg)


@where_stops_rest
@pytest.mark.parametrize("or_close", [False, True])
def test_a_stop_that_comes_too_late(desk: Desk, case: VenueCase, *, or_close: bool) -> None:
    """The price ran through it: the old one stays and the caller is told, or all is closed if that is wanted."""
    guard, leg = desk.tracked()
    stops = not desk.is_spot and not or_close
    if stops:
        guard.modify_position("btc-1", stop_loss=57_000, take_profit=66_000)
    desk.strike("stop", lambda _: desk.hand.price(leg.symbol, 58_000))
    if or_close and case.too_late is StopWouldTrigger:
        closed = guard.modify_position("btc-1", stop_loss=59_000, or_close=True)
        assert isinstance(closed, ClosedPosition)
        assert closed.exit_price == 58_000
        desk.assert_closed_once(guard, leg)
        return
    with pytest.raises(ChangeRefused):
        guard.modify_position("btc-1", stop_loss=59_000)
    resting = sorted((order.family, order.trigger_price) for order in desk.exchange.open_orders(leg))
    assert resting == ([("stop_loss", 57_000), ("take_profit", 66_000)] if stops else [])
    assert desk.hand.left(leg) == 10


@on_each_leg(SWAPS)
def test_what_is_held_is_adopted(desk: Desk, case: VenueCase, side: Side) -> None:
    """At the venue's average, and what was added later too; then it closes like any other."""
    leg, guard = desk.hold(side, 6), desk.guard()
    adopted = guard.adopt(leg.symbol, side).position
    assert [adopted.contracts, adopted.entry_price] == [6, 60_000]
    assert (adopted.settle, adopted.contract_size) == ("USDT", Decimal(case.contract_size))
    desk.hand.price(leg.symbol, 63_000)
    desk.hand.open(leg, 6)
    grown = guard.adopt(leg.symbol, side).position
    assert [grown.contracts, grown.entry_price] == [12, 61_500]
    guard.close_position(grown.id)
    desk.assert_closed_once(guard, leg, 12, grown.id)


@everywhere
def test_a_close_is_made_of_few_requests(desk: Desk) -> None:
    """Venues count them."""
    guard, leg = desk.tracked()
    desk.venue.requests.clear()
    guard.close_position("btc-1")
    assert len(desk.venue.requests) <= 24
    desk.assert_closed_once(guard, leg)


# The guard in trouble.


@pytest.fixture
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses take a twentieth of their time: nothing here comes true by waiting."""
    for ports in (ThreadPorts, TaskPorts):
        sleep = ports.sleep

        async def shorter(self: Any, seconds: float, sleep: Any = sleep) -> None:
            await sleep(self, seconds / 20)

        monkeypatch.setattr(ports, "sleep", shorter)
    hold = BackOffFile.hold
    monkeypatch.setattr(BackOffFile, "hold", lambda self, scope, seconds: hold(self, scope, seconds / 20))


def trouble_at(case: VenueCase, name: str) -> Any:
    kinds: dict[str, type[ExchangeError]] = {"rate limit": RateLimited, "maintenance": UnderMaintenance}
    kinds |= {"late": RequestExpired, "wrong key": KeysRefused}
    others: dict[str, Any] = {"502": HTML, "empty 429": Reply(429, "")}
    return case.refusal(next(iter(case.codes[kinds[name]]))) if name in kinds else others.get(name, name)


# Nothing was taken, or it was and only the answer is missing.
NEVER_TAKEN = ("rate limit", "maintenance", "late", "wrong key", "502", "empty 429", "drop")
troubles = pytest.mark.parametrize("trouble", [*NEVER_TAKEN, "lose", "cut", "garbage"])


@pytest.fixture
def bot(desk: Desk, in_a_hurry: None) -> tuple[Any, Leg]:
    """A guard, over a position with orders of others, that knows nothing of the venue yet."""
    _, leg = desk.tracked()
    if not desk.is_spot:
        desk.hand.protect(leg, "stop_loss", 10, 57_000)
        desk.hand.protect(leg, "take_profit", 10, 66_000)
    desk.connect(settles_within=1.0)
    return desk.guard(stale_after=3.0), leg


def went_on(desk: Desk, leg: Leg) -> None:
    """The trouble is over, and another process comes by."""
    desk.venue._faults.clear()
    desk.connect()
    guard = desk.guard()
    [recovery] = guard.recover()
    assert recovery.error is None
    assert desk.hand.sold(leg) == [10]
    desk.assert_closed_once(guard, leg)


@everywhere
@troubles
def test_trouble_at_the_order_once(desk: Desk, case: VenueCase, bot: Any, trouble: str) -> None:
    """The close gets over it by itself: one order is taken, under one id, whether the first was or not."""
    guard, leg = bot
    desk.strike("place", trouble_at(case, trouble))
    guard.close_position("btc-1")
    sent = desk.sent("place")
    assert len(sent) == (2 if trouble in NEVER_TAKEN else 1)
    assert len({client_id_of(request) for request in sent}) == 1
    assert desk.hand.sold(leg) == [10]
    desk.assert_closed_once(guard, leg)


def client_id_of(request: Request) -> str:
    names = ("newClientOrderId", "orderLinkId", "clOrdId", "externalOid")
    [found] = [request.params[name] for name in names if name in request.params]
    return str(found)


@everywhere
@troubles
def test_trouble_at_every_question_once(desk: Desk, case: VenueCase, bot: Any, trouble: str) -> None:
    """Each is put again; of the lists of what rests only the first is in trouble."""
    guard, leg = bot
    for name in dict.fromkeys(("markets", "clock", "mode", "held", "trades", "funding", case.lists[0])):
        if name in case.paths and not (desk.is_spot and name == "funding"):
            desk.strike_question(name, trouble_at(case, trouble))
    guard.close_position("btc-1")
    assert desk.hand.sold(leg) == [10]
    desk.assert_closed_once(guard, leg)


@everywhere
@pytest.mark.parametrize("where", ["place", "held", "trades", "lists", "everything after"])
@pytest.mark.parametrize("trouble", ["maintenance", "drop", "garbage"])
def test_trouble_that_lasts(desk: Desk, case: VenueCase, bot: Any, where: str, trouble: str) -> None:
    """The close says that it is not settled; nothing is doubled or left when it is over and another goes on with it."""
    _, leg = bot
    guard, what = desk.guard(timeout=2.0, stale_after=3.0), trouble_at(case, trouble)
    if where == "place" and trouble == "garbage":
        what = HTML
    if where == "everything after":
        desk.strike("place", lambda _: desk.venue._faults.append(Fault("", what, times=999)))
    else:
        for name in case.lists if where == "lists" else (where,):
            desk.strike(name, what, times=999)
    with pytest.raises(CloseUnsettled) as caught:
        guard.close_position("btc-1")
    assert not [key for key in KEYS.values() if key in str(caught.value)]
    assert guard.position("btc-1").state == "closing"
    assert len(desk.hand.sold(leg)) <= 1
    went_on(desk, leg)


@everywhere
@pytest.mark.parametrize("trouble", ["rate limit", "late", "502", "garbage", "drop", "lose"])
def test_trouble_at_a_cancel(desk: Desk, case: VenueCase, bot: Any, trouble: str) -> None:
    """The next read tells what rests; nothing does in the end."""
    guard, leg = bot
    desk.hand.rest(leg, 1)
    desk.strike("cancel", trouble_at(case, trouble))
    guard.close_position("btc-1")
    desk.assert_closed_once(guard, leg)


@everywhere
def test_an_order_that_gets_there_after_the_client_gave_up(desk: Desk) -> None:
    """It is found by its client order id, and not sent again: within its window the close goes on asking."""
    _, leg = desk.tracked()
    desk.connect(config={"timeout": 300}, denies_for=1.0)
    guard, arrive = desk.guard(), threading.Event()
    desk.venue.strike(Fault(desk.case.paths["place"][1], arrive, method="POST"))
    desk.strike_question("order", lambda _: arrive.set())
    guard.close_position("btc-1")
    assert len(desk.sent("place")) == 1
    desk.assert_closed_once(guard, leg)


@everywhere
@pytest.mark.usefixtures("in_a_hurry")
def test_a_bot_with_wrong_keys(desk: Desk, case: VenueCase) -> None:
    """It closes nothing and says why; a bot with the right ones goes on with it."""
    _, leg = desk.tracked()
    desk.connect(config={"secret": "wrong"})
    with pytest.raises(CloseUnsettled, match=case.wrong["secret"]):
        desk.guard(timeout=2.0).close_position("btc-1")
    assert desk.sent("place") == []
    went_on(desk, leg)
