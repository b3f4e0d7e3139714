"""What the tests of the Tradovate file share: accounts, orders, a driver for plans, the broker's own description."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bridge.brokers.tradovate import AccountOptions, Tradovate
from bridge.call import Call, LookUp, Outcome, Pause, Plan, Reply, Seen
from bridge.numbers import dump_json
from bridge.order import NEEDS_PRICE, NEEDS_STOP, NEEDS_TRAIL, Leg, Order
from bridge.work import Account, Credentials, Ids, Work

BROKER = Tradovate()
D = Decimal
HOME = "https://demo.tradovateapi.com/v1/"
SECRETS = {"name": "trader-leak-me", "password": "pass-leak-me", "cid": "815", "sec": "sec-leak-me",
           "device_id": "device-leak-me"}
ACCOUNT = Account(name="tradovate-demo", broker="tradovate", environment="demo", account="DEMO123456",
                  account_id=123456, rest_url="https://demo.tradovateapi.com", ws_url="wss://demo.tradovateapi.com",
                  credentials=Credentials(SECRETS), options=AccountOptions().load({}))
UNTIL = datetime(2026, 11, 27, 21, 0, tzinfo=UTC)
_SHARED = Path(__file__).resolve().parents[3] / "shared/data"


def shared(name: str) -> Any:
    """A file of the shared test data; the test is skipped where the data is not there."""
    path = _SHARED / name
    if not path.exists():
        pytest.skip(f"the shared test data has no {name} here")
    return json.loads(path.read_text())


def account(**options: str) -> Account:
    return replace(ACCOUNT, options={**ACCOUNT.options, **options})


def plain(kind: str = "limit", time_in_force: str = "day", side: str = "buy", **more: Any) -> Order:
    """A plain order with the price fields that its type takes."""
    prices: dict[str, Any] = {}
    if kind in NEEDS_PRICE:
        prices["price"] = D("5300.25")
    if kind in NEEDS_STOP:
        prices["stop_price"] = D("5310.50")
    if kind in NEEDS_TRAIL:
        prices["trail"] = D("4.00")
    values: dict[str, Any] = {"kind": "plain", "symbol": "ESZ6", "side": side, "quantity": D(2), "type": kind,
                              "time_in_force": time_in_force,
                              "expire_time": UNTIL if time_in_force == "gtd" else None, **prices}
    return Order(**(values | more))


def leg(role: str, kind: str, **more: Any) -> Leg:
    return Leg(**({"role": role, "side": "sell", "type": kind} | more))  # type: ignore[arg-type]


STOP = leg("stop_loss", "stop", stop_price=D("5290"), time_in_force="gtc")
TARGET = leg("take_profit", "limit", price=D("5320.5"), time_in_force="gtc")
FAR_STOP = leg("stop_loss", "stop", offset=D("5.00"))
FAR_TARGET = leg("take_profit", "limit", offset=D("10.5"))

COVER = plain(kind="limit", time_in_force="gtc", stop_loss=STOP)
COVER = replace(COVER, kind="cover")
OSO = replace(COVER, kind="oso", take_profit=TARGET)
OCO = replace(plain(side="sell"), kind="oco", price=D("5320"), other=leg("other", "stop", stop_price=D("5290")))
STRATEGY = replace(plain("market"), kind="oso", stop_loss=FAR_STOP, take_profit=FAR_TARGET)
CANCEL = Order(kind="cancel", ref="breakout")
CLOSE = Order(kind="close", symbol="ESZ6")
ORDERS = {"plain": plain(), "cover": COVER, "oco": OCO, "oso": OSO, "strategy": STRATEGY,
          "target only": replace(OSO, stop_loss=None), "close": CLOSE}


def work(order: Order | None = None, order_id: str = "o1", arming: int = 1, **more: Any) -> Work:
    return Work(**{"order": order or plain(), "account": ACCOUNT,  # type: ignore[arg-type]
                   "ids": Ids(order_id=order_id, arming=arming)} | more)


def drive(plan: Plan | LookUp, answer: Sequence[Reply] | Callable[[Call], Reply]) -> tuple[list[Call], Any]:
    """The calls made and what it came to. Of a list every reply has to be asked for, and none more."""
    calls: list[Call] = []
    left = None if callable(answer) else list(answer)
    reply: Reply | None = None
    try:
        while True:
            asked = plan.send(reply)
            if isinstance(asked, Pause):
                reply = None
                continue
            calls.append(asked)
            assert len(calls) < 60, "the plan does not end"
            if callable(answer):
                reply = answer(asked)
            else:
                assert left, f"the plan asks for more than was foreseen: {asked.step} {asked.url}"
                reply = left.pop(0)
    except StopIteration as done:
        assert not left, f"never asked for: {left}"
        outcome: Outcome | Seen | None = done.value
        return calls, outcome


def one(order: Order, reply: Reply, **more: Any) -> Any:
    """What an order of one call comes to with this reply."""
    return drive(BROKER.submit(work(order, **more)), [reply])[1]


class Desk:
    """A broker's side just deep enough for look-ups and cancels: orders by id with their status, fills and commands.

    `cancels`: what a cancel does to an order, by its id: a status to set and the reply, the default being a cancel
    that works at once.
    """

    def __init__(self, orders: dict[int, str], *, fills: dict[int, int] | None = None,
                 commands: list[dict[str, Any]] | None = None, account_id: int = 123456) -> None:
        self.orders, self.fills, self.commands = dict(orders), fills or {}, commands or []
        self.account_id = account_id
        self.cancels: dict[int, Callable[[], Reply]] = {}
        self.tables: dict[str, Any] = {"account/list": [{"id": account_id}]}
        self.cancelled: list[int] = []

    def __call__(self, call: Call) -> Reply:
        path, _, query = call.url.removeprefix(HOME).partition("?")
        value = query.partition("=")[2]
        if path in self.tables:
            found = self.tables[path]
            return found if isinstance(found, Reply) else Reply.of(found)
        if path == "order/item":
            if int(value) not in self.orders:
                return Reply(status=404)
            return Reply.of({"id": int(value), "accountId": self.account_id, "contractId": 7, "action": "Buy",
                             "ordStatus": self.orders[int(value)]})
        if path == "fill/deps":
            filled = self.fills.get(int(value), 0)
            return Reply.of([{"id": 9, "orderId": int(value), "qty": filled, "price": 5300}] if filled else [])
        if path == "command/list":
            return Reply.of(self.commands)
        if path == "order/cancelorder":
            order_id = call.body["orderId"]
            self.cancelled.append(order_id)
            if order_id in self.cancels:
                return self.cancels[order_id]()
            self.orders[order_id] = "Canceled"
            return Reply.of({"commandId": 1000 + order_id})
        raise AssertionError(f"nothing here answers {call.method} {call.url}")


def new(order_id: int, client_id: str) -> dict[str, Any]:
    """A row of command/list."""
    return {"id": order_id + 500, "orderId": order_id, "commandType": "New", "clOrdId": client_id}


# -- the broker's description of its requests --------------------------------------------------------------------------


class Description:
    """Checks calls against the order-related part of Tradovate's OpenAPI description."""

    def __init__(self) -> None:
        self._document = shared("tradovate-openapi-orders.json")

    def check(self, call: Call) -> None:
        """The path and method are described, and body or parameters are as described, with no field beyond."""
        path, _, query = call.url.removeprefix(HOME.removesuffix("/")).partition("?")
        operation = self._document["paths"][path][call.method.lower()]
        required = {each["name"] for each in operation.get("parameters", ()) if each.get("required")}
        assert {pair.partition("=")[0] for pair in query.split("&") if pair} == required, call.url
        if call.method == "GET":
            assert call.body is None
            return
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        body = json.loads(re.sub(r'"<from: [^<>"]+>"', "1", dump_json(call.body)))  # an id that only the broker gives
        jsonschema.Draft4Validator({**schema, "components": self._document["components"]}).validate(body)
        self._no_more(body, schema)

    def _no_more(self, body: dict[str, Any], schema: dict[str, Any]) -> None:
        name = schema["$ref"].rpartition("/")[2]
        known = self._document["components"]["schemas"][name]["properties"]
        assert set(body) <= set(known), f"{name} has no {set(body) - set(known)}"
        for field, value in body.items():
            if "$ref" in known[field]:
                self._no_more(value, known[field])
            if known[field].get("format") == "date-time":
                assert datetime.fromisoformat(value).tzinfo is not None
                assert value.endswith("Z")


@pytest.fixture(scope="session")
def description() -> Description:
    return Description()
