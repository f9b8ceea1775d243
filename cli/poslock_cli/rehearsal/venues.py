"""The venues' own ways, as far as a rehearsal needs them. Source: their documentation, read a second time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from poslock.exchange.ccxt.client import Endpoint
from poslock.exchange.ccxt.reading import decimal, plain
from poslock_cli.rehearsal.wire import Deal, Window, Wire, refused

if TYPE_CHECKING:
    from decimal import Decimal

    from poslock.position import Side

_DAY_MS = 86_400_000
_LONG_OR_SHORT: tuple[Side, Side] = ("long", "short")


class _Mexc(Wire):
    venue: ClassVar = "poslock.exchange.ccxt.mexc.venue.Mexc"
    addresses: ClassVar = (("contract", "private"),)
    question: ClassVar = Endpoint(("contract", "private"), "GET", "position/open_positions")
    # Without the header it is 10 s. Were the header in milliseconds, a read signed 2 s ago would be too old for it.
    window: ClassVar = Window(5000, 2000, 8000)

    def held(self) -> dict[Side, Decimal]:
        rows = self._get(self.question.path, self._asked(), _mexc)
        mine = [row for row in rows if row["symbol"] == self.id]
        return {_LONG_OR_SHORT[int(row["positionType"]) - 1]: decimal(row["holdVol"]) for row in mine}

    def is_hedge(self) -> bool:
        return self._get("position/position_mode", {}, lambda answer: int(_mexc(answer)) == 1)

    def resting(self) -> dict[str, str]:
        page, until_ms = {"page_num": 1, "page_size": 100}, self.now_ms() + _DAY_MS
        time = {"start_time": until_ms - 2 * _DAY_MS, "end_time": until_ms}
        asked: dict[str, dict[str, Any]] = {
            "order/list/open_orders": page,
            "planorder/list/orders": {"symbol": self.id, "states": "1", **time, **page},
            "stoporder/open_orders": {"symbol": self.id},
            "trackorder/list/orders": {"symbol": self.id, "states": "0,1", "pageIndex": 1, "pageSize": 20},
        }
        found = {}
        for path, params in asked.items():
            for row in self._get(path, params, _mexc):
                if row["symbol"] == self.id and not int(row.get("isFinished") or 0):
                    number = f"{path.partition('/')[0]} {row.get('id') or row.get('orderId')}"
                    found[number] = number
        return found

    def deals(self, since_ms: int) -> dict[str, Deal]:
        time = {"start_time": since_ms, "end_time": self.now_ms() + _DAY_MS}
        asked = {"symbol": self.id, **time, "page_num": 1, "page_size": 100}
        return {
            str(row["id"]): Deal(
                str(row["orderId"]),
                "buy" if int(row["side"]) in {1, 2} else "sell",
                decimal(row["vol"]),
                decimal(row["price"]),
                self._fee(row["fee"], row["feeCurrency"]),
            )
            for row in self._get("order/list/order_deals/v3", asked, _mexc)
        }

    def statement(self, since_ms: int) -> dict[str, Decimal]:  # noqa: ARG002  # the latest positions are the first
        asked = {"symbol": self.id, "page_num": 1, "page_size": 20}
        rows = self._get("position/list/history_positions", asked, _mexc)
        return {str(row["positionId"]): decimal(row["realised"]) for row in rows if row["symbol"] == self.id}

    def opening(self, contracts: Decimal, client_order_id: str, *, hedge: bool) -> tuple[str, dict[str, Any]]:
        number = int(contracts) if contracts == contracts.to_integral_value() else float(contracts)
        body = {"symbol": self.id, "side": 1, "vol": number, "openType": 2, "type": 5, "externalOid": client_order_id}
        return "order/create", {**body, "positionMode": 1 if hedge else 2}

    def _asked(self) -> dict[str, Any]:
        return {"symbol": self.id}

    def _judge(self, answer: Any) -> None:
        _mexc(answer)


def _mexc(answer: Any) -> Any:
    """What a good answer carries, without the wrapping of its pages."""
    if answer["success"] is not True:
        raise refused(answer)
    data = answer.get("data")
    return data["resultList"] if isinstance(data, dict) and "resultList" in data else data


class _Binance(Wire):
    venue: ClassVar = "poslock.exchange.ccxt.binance.venue.BinanceUsdm"
    addresses: ClassVar = (("fapiPrivate",), ("fapiPrivateV3",))
    question: ClassVar = Endpoint(("fapiPrivateV3",), "GET", "positionRisk")

    def held(self) -> dict[Side, Decimal]:
        endpoint, params = self.question, self._asked()
        amounts = self._ask(endpoint, params, lambda rows: [decimal(row["positionAmt"]) for row in rows])
        return {_LONG_OR_SHORT[amount < 0]: abs(amount) for amount in amounts if amount}

    def is_hedge(self) -> bool:
        return self._get("positionSide/dual", {}, lambda answer: str(answer["dualSidePosition"]).lower() == "true")

    def resting(self) -> dict[str, str]:
        found = {}
        for path, number in (("openOrders", "orderId"), ("openAlgoOrders", "algoId")):
            for row in self._get(path, {"symbol": self.id}, list[dict[str, Any]]):
                found[f"{number} {row[number]}"] = f"{row.get('type') or row.get('orderType')} {row[number]}"
        return found

    def deals(self, since_ms: int) -> dict[str, Deal]:
        asked = {"symbol": self.id, "startTime": since_ms, "limit": 1000}
        return {
            str(row["id"]): Deal(
                str(row["orderId"]),
                _side(row["side"]),
                decimal(row["qty"]),
                decimal(row["price"]),
                self._fee(row["commission"], row["commissionAsset"]),
            )
            for row in self._get("userTrades", asked, list[dict[str, Any]])
        }

    def statement(self, since_ms: int) -> dict[str, Decimal]:
        asked = {"symbol": self.id, "startTime": since_ms, "limit": 1000}
        rows = self._get("income", asked, list[dict[str, Any]])
        return {
            f"{row['incomeType']} {row['tranId']} {row['tradeId']}": self._fee(row["income"], row["asset"])
            for row in rows
        }

    def opening(self, contracts: Decimal, client_order_id: str, *, hedge: bool) -> tuple[str, dict[str, Any]]:
        body = {"symbol": self.id, "side": "BUY", "type": "MARKET", "quantity": plain(contracts)}
        return "order", {**body, "positionSide": "LONG" if hedge else "BOTH", "newClientOrderId": client_order_id}

    def _asked(self) -> dict[str, Any]:
        return {"symbol": self.id}

    def _judge(self, answer: Any) -> None:
        if "orderId" not in answer:
            raise refused(answer)

    def _private(self) -> str:
        return "fapiPrivate"


class _Bybit(Wire):
    venue: ClassVar = "poslock.exchange.ccxt.bybit.venue.Bybit"
    addresses: ClassVar = (("private",),)
    question: ClassVar = Endpoint(("private",), "GET", "v5/position/list")

    def held(self) -> dict[Side, Decimal]:
        rows = self._list(self.question.path, {})
        return {
            _LONG_OR_SHORT[row["side"] == "Sell"]: decimal(row["size"]) for row in rows if decimal(row["size"] or 0)
        }

    def is_hedge(self) -> bool:
        return any(int(row["positionIdx"]) for row in self._list(self.question.path, {}))

    def resting(self) -> dict[str, str]:
        rows = self._list("v5/order/realtime", {"openOnly": 0, "limit": 50})
        live = [row for row in rows if row["orderStatus"] in {"New", "PartiallyFilled", "Untriggered"}]
        return {row["orderId"]: f"{row.get('stopOrderType') or row['orderType']} {row['orderId']}" for row in live}

    def deals(self, since_ms: int) -> dict[str, Deal]:
        rows = self._list("v5/execution/list", {"startTime": since_ms, "limit": 100})
        return {
            row["execId"]: Deal(
                row["orderId"],
                _side(row["side"]),
                decimal(row["execQty"]),
                decimal(row["execPrice"]),
                decimal(row["execFee"]),
            )
            for row in rows
            if row["execType"] != "Funding"
        }

    def statement(self, since_ms: int) -> dict[str, Decimal]:
        rows = self._list("v5/position/closed-pnl", {"startTime": since_ms, "limit": 100})
        return {f"{row['orderId']} {row['createdTime']}": decimal(row["closedPnl"]) for row in rows}

    def opening(self, contracts: Decimal, client_order_id: str, *, hedge: bool) -> tuple[str, dict[str, Any]]:
        body = {**self._asked(), "side": "Buy", "orderType": "Market", "qty": plain(contracts)}
        return "v5/order/create", {**body, "positionIdx": int(hedge), "orderLinkId": client_order_id}

    def _asked(self) -> dict[str, Any]:
        return {"category": "linear", "symbol": self.id}

    def _judge(self, answer: Any) -> None:
        _bybit(answer)

    def _list(self, path: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._get(path, {**self._asked(), **params}, lambda answer: _bybit(answer)["list"])
        return rows


def _bybit(answer: Any) -> Any:
    if str(answer["retCode"]) != "0":
        raise refused(answer)
    return answer["result"]


class _Okx(Wire):
    venue: ClassVar = "poslock.exchange.ccxt.okx.venue.Okx"
    addresses: ClassVar = (("rest",),)
    question: ClassVar = Endpoint(("private",), "GET", "account/positions")
    # Only some of its requests honour another one; this one holds for all.
    window: ClassVar = Window(30_000, 25_000, 33_000)

    def is_live(self) -> bool:
        headers = {name.lower(): str(value) for name, value in (self.ccxt.headers or {}).items()}
        return headers.get("x-simulated-trading") != "1"

    def held(self) -> dict[Side, Decimal]:
        found: dict[Side, Decimal] = {}
        for row in self._rows(self.question.path, {}):
            amount = decimal(row["pos"] or 0)
            if amount:
                found[_LONG_OR_SHORT[row["posSide"] == "short" or amount < 0]] = abs(amount)
        return found

    def is_hedge(self) -> bool:
        [row] = self._get("account/config", {}, _okx)
        return bool(row["posMode"] == "long_short_mode")

    def resting(self) -> dict[str, str]:
        found = {row["ordId"]: f"{row['ordType']} {row['ordId']}" for row in self._rows("trade/orders-pending", {})}
        for kind in ("conditional", "oco", "trigger", "move_order_stop"):
            for row in self._rows("trade/orders-algo-pending", {"ordType": kind}):
                found[row["algoId"]] = f"{kind} {row['algoId']}"
        return found

    def deals(self, since_ms: int) -> dict[str, Deal]:
        return {
            row["billId"]: Deal(
                row["ordId"],
                _side(row["side"]),
                decimal(row["fillSz"]),
                decimal(row["fillPx"]),
                -self._fee(row["fee"], row["feeCcy"]),
            )
            for row in self._rows("trade/fills", {"begin": since_ms, "limit": 100})
        }

    def statement(self, since_ms: int) -> dict[str, Decimal]:
        rows = self._rows("account/positions-history", {"limit": 100})
        recent = [row for row in rows if int(row["uTime"]) >= since_ms]
        return {f"{row['posId']} {row['cTime']}": decimal(row["realizedPnl"]) for row in recent}

    def opening(self, contracts: Decimal, client_order_id: str, *, hedge: bool) -> tuple[str, dict[str, Any]]:
        body = {"instId": self.id, "tdMode": "cross", "side": "buy", "ordType": "market", "sz": plain(contracts)}
        return "trade/order", {**body, "posSide": "long" if hedge else "net", "clOrdId": client_order_id}

    def _asked(self) -> dict[str, Any]:
        return {"instType": "SWAP", "instId": self.id}

    def _judge(self, answer: Any) -> None:
        if any(row.get("sCode") not in {"0", None} for row in _okx(answer)):
            raise refused(answer)

    def _opening_times(self, now_ms: int) -> tuple[int, int]:
        signed_at_ms, window_ms = super()._opening_times(now_ms)
        return signed_at_ms + window_ms - self.window.length_ms, self.window.length_ms

    def _rows(self, path: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._get(path, {**self._asked(), **params}, _okx)
        return [row for row in rows if row["instId"] == self.id]


def _okx(answer: Any) -> Any:
    if str(answer["code"]) != "0":
        raise refused(answer)
    return answer["data"]


def _side(said: str) -> Literal["buy", "sell"]:
    return "buy" if said.lower() == "buy" else "sell"


WIRES: dict[str, type[Wire]] = {"mexc": _Mexc, "binance": _Binance, "bybit": _Bybit, "okx": _Okx}
