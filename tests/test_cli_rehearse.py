"""``poslock rehearse``, against every server of the tests, and against servers that break what it is there to find."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from loopback.binance import Binance
from loopback.bybit import Bybit
from loopback.mexc import Mexc
from loopback.mexc_words import refuse
from loopback.okx import Okx
from loopback.server import KEYS, Fault, Reply, Request
from poslock.exchange.port import Leg
from poslock_cli.main import main
from poslock_cli.rehearsal import scene
from poslock_cli.rehearsal.race import race
from poslock_cli.rehearsal.venues import WIRES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from loopback.server import Loopback

SYMBOL = "BTC/USDT:USDT"
LONG, SHORT = Leg(SYMBOL, "long"), Leg(SYMBOL, "short")
SERVERS: dict[str, type[Mexc | Binance | Bybit | Okx]] = {
    "mexc": Mexc,
    "binanceusdm": Binance,
    "bybit": Bybit,
    "okx": Okx,
}
# Where each has what takes an order, and its own account of the P&L.
ORDERS = {
    "mexc": r"order/create$",
    "binanceusdm": r"/v1/order$",
    "bybit": r"order/create$",
    "okx": r"trade/order$",
}
# Where its executions are, what identifies one, and what it has cost.
EXECUTIONS = {
    "binanceusdm": ("v1/userTrades", "id", "commission"),
    "bybit": ("execution/list", "execId", "execFee"),
    "okx": ("trade/fills", "billId", "fee"),
    "mexc": ("order_deals", "id", "fee"),
}
STATEMENTS = {
    "mexc": ("history_positions", "realised"),
    "binanceusdm": ("v1/income", "income"),
    "bybit": ("closed-pnl", "closedPnl"),
    "okx": ("positions-history", "realizedPnl"),
}


class Desk:
    """An operator's configuration for a server, whose market holds nothing and is at 60000."""

    def __init__(self, name: str, venue: Loopback, folder: Path) -> None:
        self.name, self.venue = name, venue
        self.config = folder / "poslock.toml"
        self.config.write_text(
            f'venue = "{name}"\naccount = "main"\nlock_dir = "{folder}/locks"\n'
            + ("sandbox = true\n" if name == "okx" else "")
            + self._urls()
        )
        venue.book.set_price(SYMBOL, 60_000)

    def _urls(self) -> str:
        client = self.venue.client()
        known = {"mexc": ("contract", "spot"), "okx": ("rest",)}.get(self.name, tuple(client.urls["api"]))
        lines, tables = ["[urls]"], []
        for each in known:
            address = client.urls["api"][each]
            if isinstance(address, dict):
                tables += [f"[urls.{each}]", *(f'{name} = "{where}"' for name, where in address.items())]
            else:
                lines.append(f'{each} = "{address}"')
        return "\n".join([*lines, *tables]) + "\n"

    def __call__(self, *options: str, live: bool = True) -> Result:
        arguments = ["--config", str(self.config), "rehearse", SYMBOL, *options]
        result = CliRunner().invoke(main, arguments + (["--live", "--yes"] if live and self.name != "okx" else []))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert [key for key in KEYS.values() if key in result.output] == []
        return result

    def doubts(self) -> dict[str, str]:
        """What a rehearsal that exits 1 has found, and it has left the market as it was."""
        result = self("--json")
        checks = json.loads(result.stdout)["checks"]
        doubts = {each["check"]: each["reason"] for each in checks if each["verdict"] != "ok"}
        assert result.exit_code == 1, result.output
        assert all(f"Error: {check}: " in result.stderr for check in doubts)
        self.assert_free()
        return doubts

    def assert_free(self) -> None:
        for leg in (LONG, SHORT):
            assert self.venue.book.held(leg) == 0
            assert self.venue.book.open_orders(leg) == []

    def sent(self) -> list[Request]:
        return [each for each in self.venue.requests if each.method != "GET"]


BOTH_MODES = [f"{name}{mode}" for name in SERVERS for mode in ("", " hedge")]


@pytest.fixture(params=list(SERVERS))
def desk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    for variable, key in (("KEY", "apiKey"), ("SECRET", "secret"), ("PASSWORD", "password")):
        monkeypatch.setenv(f"POSLOCK_API_{variable}", KEYS[key])
    monkeypatch.delenv("POSLOCK_DIR", raising=False)
    monkeypatch.setattr(scene, "HISTORY_S", 1.5)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("ccxt.Exchange.throttle", lambda *_: None)  # a tenth of a second before each request
    name, _, mode = request.param.partition(" ")
    with SERVERS[name](tmp_path / "venue.db", hedge=mode == "hedge") as venue:
        yield Desk(name, venue, tmp_path)


def test_a_rehearsal_finds_all_in_order(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every check is ok, one process is killed and another one ends it, and nothing is left, not even its directory."""

    def after_a_rise(*arguments: Any) -> None:
        desk.venue.book.set_price(SYMBOL, 60_500)
        race(*arguments)

    monkeypatch.setattr(scene, "race", after_a_rise)
    result = desk("--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    checks = {each["check"]: each["reason"] for each in report["checks"]}
    names = ["window", "open", "exits", "race", "one order", "fees", "fills", "P&L", "flat", "orders"]
    assert (list(checks), report["passed"]) == (names, True)
    assert "was killed after its order was accepted" in checks["race"]
    assert checks["race"].count("closed by this one") == 1
    assert (report["closed"]["ended_by"], Decimal(report["closed"]["gross_pnl"]) > 0) == ("close", True)
    assert len([order for order in desk.venue.book.orders(LONG) if order.family == "order" and order.filled]) == 1
    desk.assert_free()
    assert not [each.name for each in desk.config.parent.iterdir() if "rehearsal" in each.name]


def test_a_server_that_ignores_the_window_is_named_and_nothing_is_opened(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers whatever was signed, whenever that was."""
    monkeypatch.setattr(type(desk.venue), "admit", lambda *_: None)
    doubts = desk.doubts()
    assert list(doubts) == ["window"]
    assert "the venue ignores it" in doubts["window"]
    assert desk.sent() == []


@pytest.mark.parametrize("desk", ["mexc"], indirect=True)
def test_a_window_in_another_unit_is_named(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A MEXC that counts it in milliseconds refuses what was signed two seconds ago."""
    admit = type(desk.venue).admit

    def in_milliseconds(venue: Any, request: Request) -> None:
        window = request.headers.get("recv-window")
        if window and venue.clock_ms() - int(request.headers["request-time"]) > int(window) + 500:
            refuse(513)
        admit(venue, request)

    monkeypatch.setattr(type(desk.venue), "admit", in_milliseconds)
    doubts = desk.doubts()
    assert list(doubts) == ["window"]
    assert "signed 2 s ago was refused" in doubts["window"]
    assert desk.sent() == []


@pytest.mark.parametrize("desk", ["mexc", "binanceusdm"], indirect=True)
def test_a_stop_that_stays_and_another_pnl_are_named(desk: Desk) -> None:
    """A cancelled stop-loss rests again after the close, and the venue's own account of the P&L is another one."""
    path, field = STATEMENTS[desk.name]

    def answer(request: Request) -> Reply:
        with desk.venue.book._account() as account:
            account._db.execute("UPDATE orders SET state = 'open' WHERE family = 'stop_loss' AND state = 'canceled'")
        reply = desk.venue._carried_out(request)
        rows = reply.body if isinstance(reply.body, list) else reply.body["data"]
        for row in rows[:1]:
            row[field] = str(Decimal(str(row[field])) - Decimal("0.5"))
        return reply

    desk.venue.strike(Fault(path, answer, times=1000, spared=1))
    doubts = desk.doubts()
    assert list(doubts) == ["P&L", "orders"]
    assert re.search(r"booked -[\d.]+, the venue says -[\d.]+", doubts["P&L"])
    assert "after the close there rests: " in doubts["orders"]


def in_executions(desk: Desk, change: Callable[[dict[str, Any]], list[dict[str, Any]]]) -> None:
    """From now on the venue's list of executions has, instead of each sale, what *change* makes of it."""

    def answer(request: Request) -> Reply:
        reply = desk.venue._carried_out(request)
        rows: Any = reply.body
        while isinstance(rows, dict):  # its wrapping
            rows = next(rows[name] for name in ("result", "data", "list", "resultList") if name in rows)
        sales = {"Sell", "SELL", "sell", 4}
        rows[:] = [each for row in rows for each in (change(row) if row["side"] in sales else [row])]
        return reply

    desk.venue.strike(Fault(EXECUTIONS[desk.name][0], answer, times=10**6))


@pytest.mark.parametrize("desk", ["mexc", "okx"], indirect=True)
def test_executions_that_change_once_they_are_booked_are_named(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The venue's own account of the P&L agrees; the fee of the sale is another one all the same."""

    def then_changed(*arguments: Any) -> None:
        race(*arguments)
        _, _, fee = EXECUTIONS[desk.name]
        in_executions(desk, lambda row: [{**row, fee: str(Decimal(str(row[fee])) * 2)}])

    monkeypatch.setattr(scene, "race", then_changed)
    doubts = desk.doubts()
    assert list(doubts) == ["fees"]
    assert "its executions" in doubts["fees"]


@pytest.mark.parametrize("desk", ["bybit"], indirect=True)
def test_executions_with_another_fee_than_the_venues_own_account_are_named(desk: Desk) -> None:
    """Whoever reads them sees the same, so only the P&L differs: by what the fee does."""
    _, _, fee = EXECUTIONS[desk.name]
    in_executions(desk, lambda row: [{**row, fee: str(Decimal(str(row[fee])) * 2)}])
    doubts = desk.doubts()
    assert list(doubts) == ["P&L"]


@pytest.mark.parametrize("desk", ["binanceusdm"], indirect=True)
def test_a_sale_that_is_told_twice_is_named(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under two ids, once it is booked; the venue's own account of the P&L agrees."""

    def then_doubled(*arguments: Any) -> None:
        race(*arguments)
        _, number, _ = EXECUTIONS[desk.name]
        in_executions(desk, lambda row: [row, {**row, number: f"{row[number]}9"}])

    monkeypatch.setattr(scene, "race", then_doubled)
    doubts = desk.doubts()
    assert list(doubts) == ["one order", "fees", "fills"]


@pytest.mark.parametrize("desk", ["bybit", "okx"], indirect=True)
def test_an_order_that_fills_twice_is_named_and_what_it_opened_is_closed(desk: Desk) -> None:
    """The closing order sells what is held, and as much again: the account is short."""

    def twice(request: Request) -> Reply:
        held = desk.venue.book.held(LONG)
        reply = desk.venue._carried_out(request)
        if held and not desk.venue.book.held(LONG):
            desk.venue.book.open_position(SYMBOL, "short", held)
            [closing] = [each for each in desk.venue.book.orders(LONG) if each.family == "order" and each.filled]
            with desk.venue.book._account() as account:
                last = "trade_id = (SELECT max(trade_id) FROM fills)"
                account._db.execute(f"UPDATE fills SET order_id = ? WHERE {last}", (int(closing.order_id),))
        return reply

    desk.venue.strike(Fault(ORDERS[desk.name], twice, method="POST", times=1000))
    doubts = desk.doubts()
    assert {"one order", "flat"} <= doubts.keys()
    assert "1 closing orders filled" in doubts["one order"]
    assert "short are held after the close" in doubts["flat"]


@pytest.mark.parametrize("desk", ["bybit"], indirect=True)
def test_what_somebody_else_opens_meanwhile_is_named_and_left(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """As much as was opened is closed, and no more; nothing of ours rests."""

    def bought(*_: object) -> None:
        desk.venue.book.open_position(SYMBOL, "long", 5)

    monkeypatch.setattr(scene, "race", bought)
    result = desk()
    assert result.exit_code == 1
    assert re.search(r"there is left: 5[.0]* contracts long", result.stderr)
    assert desk.venue.book.held(LONG) == 5
    assert desk.venue.book.open_orders(LONG) == []


def test_a_market_that_is_not_free_is_refused_and_nothing_is_sent(desk: Desk) -> None:
    """It holds something, or has an order of whatever kind; both stay as they are."""
    desk.venue.book.open_position(SYMBOL, "short", 3)
    held = desk()
    assert desk.venue.book.held(SHORT) == 3
    assert (held.exit_code, "3 contracts short are held; choose another market" in held.stderr) == (1, True)
    desk.venue.book.open_position(SYMBOL, "long", 3)
    desk.venue.book.protect(SYMBOL, "short", "take_profit", 3, 50_000)
    resting = desk()
    assert not [each.name for each in desk.config.parent.iterdir() if "rehearsal" in each.name]
    assert (resting.exit_code, "rests there; choose another market" in resting.stderr) == (1, True)
    assert len(desk.venue.book.open_orders(SHORT)) == 1
    assert desk.sent() == []


def test_a_server_that_is_no_test_net_is_left_alone_without_live(desk: Desk) -> None:
    """No request leaves: with OKX's header there is no money in it, and any other address may be a way to a venue."""
    if desk.name == "okx":
        desk.config.write_text(desk.config.read_text().replace("sandbox = true\n", ""))
    result = CliRunner().invoke(main, ["--config", str(desk.config), "rehearse", SYMBOL])
    assert (result.exit_code, "127.0.0.1 is not known as a test net" in result.stderr) == (1, True)
    assert desk.venue.requests == []


@pytest.mark.parametrize("desk", ["bybit"], indirect=True)
def test_on_a_live_account_it_shows_the_largest_cost_and_asks(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal it wants --yes; the answer no sends nothing."""
    arguments = ["--config", str(desk.config), "rehearse", SYMBOL, "--live"]
    assert "--yes does not ask" in CliRunner().invoke(main, arguments).stderr
    assert desk.venue.requests == []
    monkeypatch.setattr("poslock_cli.asking.is_terminal", lambda: True)
    result = CliRunner().invoke(main, arguments, input="n\n")
    assert (result.exit_code, "declined, nothing was done" in result.stderr) == (1, True)
    assert "opens a long position of 0.001 contracts of BTC/USDT:USDT, worth about 60.0000 USDT" in result.stdout
    assert re.search(r"largest possible cost: 60\.\d+ USDT", result.stdout)
    assert desk.sent() == []


@pytest.mark.parametrize("desk", BOTH_MODES, indirect=True)
def test_interrupted_it_leaves_the_market_as_it_was(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the processes close, of which none has come to it yet; the stop-loss and the take-profits go, too."""
    seen = []

    def interrupted(*_: object) -> None:
        seen.append(len(desk.venue.book.open_orders(LONG)))
        raise KeyboardInterrupt

    monkeypatch.setattr(scene, "race", interrupted)
    assert desk.doubts() == {"rehearsal": "it was interrupted"}
    assert seen[0] >= 2


@pytest.mark.parametrize("desk", ["bybit"], indirect=True)
def test_interrupted_where_no_order_is_taken_any_more_it_names_what_is_left(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many contracts, and which orders; and where its locks and its ledger are."""
    refusal = Reply(200, {"retCode": 110007, "retMsg": "ab not enough for new order", "result": {}, "time": 1})

    def interrupted(*_: object) -> None:
        desk.venue.strike(Fault("order/(create|cancel)$", refusal, method="POST", times=10**6))
        raise KeyboardInterrupt

    monkeypatch.setattr(scene, "race", interrupted)
    result = desk("--json")
    checks = {each["check"]: each["reason"] for each in json.loads(result.stdout)["checks"]}
    assert (result.exit_code, checks["rehearsal"]) == (1, "it was interrupted")
    assert re.fullmatch("there is left: 0.001[0]* contracts long(, [^,]+){2}", checks["cleaned up"])
    assert f"look at {SYMBOL} at the venue, now" in result.stderr
    assert "locks and ledger stay in " in result.stderr


@pytest.mark.parametrize("desk", ["mexc", "okx"], indirect=True)
def test_an_opening_whose_answer_is_lost_is_found(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on with what it has opened."""
    desk.venue.strike(Fault(ORDERS[desk.name], "lose", method="POST"))
    seen = []
    monkeypatch.setattr(scene, "race", lambda *_: seen.append(desk.venue.book.held(LONG)))
    assert "rehearsal" not in desk.doubts()
    assert seen[0] > 0


@pytest.mark.parametrize("desk", ["bybit"], indirect=True)
def test_an_opening_that_is_interrupted_on_its_way_is_closed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has opened shows a moment later; the first look of the cleaning up sees nothing yet."""
    wire = WIRES[desk.name.removesuffix("usdm")]
    contracts = []

    def interrupted(self: Any, size: Decimal, *_: Any, **__: Any) -> None:
        contracts.append(size)
        raise KeyboardInterrupt

    def held(self: Any) -> Any:
        if contracts and len(contracts) < 3:
            contracts.append(Decimal(0))
            if len(contracts) == 3:
                desk.venue.book.open_position(SYMBOL, "long", contracts[0])
            return {}
        return shown(self)

    shown: Any = wire.held
    monkeypatch.setattr(wire, "open", interrupted)
    monkeypatch.setattr(wire, "held", held)
    assert desk().exit_code == 1
    assert len(contracts) == 3
    desk.assert_free()


def test_with_rows_that_cannot_be_read_it_leaves_the_market_as_it_was(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Executions lack a field from some moment on; what needs none of them is done all the same."""

    def unreadable(*_: object) -> None:
        raise KeyError("price")

    def spoiled(*_: object) -> None:
        monkeypatch.setattr(WIRES[desk.name.removesuffix("usdm")], "deals", unreadable)

    monkeypatch.setattr(scene, "race", spoiled)
    assert {"rehearsal", "cleaned up"} <= desk.doubts().keys()


@pytest.mark.parametrize("desk", ["bybit"], indirect=True)
def test_a_size_that_can_be_halved_gets_a_ladder(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a low price the least worth of an order is several of the smallest sizes."""
    desk.venue.book.set_price(SYMBOL, 1000)
    seen = []

    def nobody(*_: object) -> None:
        seen.append(len(desk.venue.book.open_orders(LONG)))

    monkeypatch.setattr(scene, "race", nobody)
    doubts = desk.doubts()
    assert (seen, "race" in doubts) == ([3], True)
