"""A sandbox for the whole run, empty before each test, and small clients that speak to it over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket

from bridge.sandbox import Sandbox

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


class Client:
    """One keep-alive session to the sandbox; replies are decoded without floats."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False
        self.headers: dict[str, str] = {}

    def call(self, method: str, path: str, body: Any = None, **kwargs: Any) -> requests.Response:
        headers = {**self.headers, **kwargs.pop("headers", {})}
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
            kwargs["data"] = body if isinstance(body, (str, bytes)) else json.dumps(body)
        kwargs.setdefault("timeout", 5)
        return self.session.request(method, self.url + path, headers=headers, **kwargs)

    def get(self, path: str, **kwargs: Any) -> Any:
        return decoded(self.call("GET", path, **kwargs))

    def post(self, path: str, body: Any = None, **kwargs: Any) -> Any:
        return decoded(self.call("POST", path, {} if body is None else body, **kwargs))


def decoded(response: requests.Response) -> Any:
    return json.loads(response.content, parse_float=Decimal)


class Control(Client):
    """The switches and the witness."""

    def orders(self, **wanted: Any) -> list[dict[str, Any]]:
        return [row for row in self.get("/_control/orders") if all(row[name] == wanted[name] for name in wanted)]

    def states(self) -> list[str]:
        return [row["state"] for row in self.orders()]

    def positions(self) -> list[tuple[str, str, int]]:
        return [(row["account"], row["symbol"], row["quantity"]) for row in self.get("/_control/positions")]

    def requests(self, operation: str) -> list[dict[str, Any]]:
        return [row for row in self.get("/_control/requests") if row["operation"] == operation]

    def price(self, symbol: str, price: Any, **more: Any) -> Any:
        return self.post("/_control/price", {"symbol": symbol, "price": price, **more})

    def fault(self, broker: str, operation: str, fault: str, **more: Any) -> None:
        body = {"broker": broker, "operation": operation, "fault": fault, **more}
        assert self.call("POST", "/_control/faults", body).status_code == 200

    def behave(self, broker: str, **changes: Any) -> None:
        assert self.call("POST", "/_control/behaviour", {"broker": broker, **changes}).status_code == 200


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def control(sandbox: Sandbox) -> Iterator[Control]:
    client = Control(sandbox.url)
    client.post("/_control/reset", {"tokens": True})
    yield client
    client.session.close()


LOGIN = {
    "name": "trader",
    "password": "right",
    "appId": "Bridge",
    "appVersion": "1.0",
    "deviceId": "d1",
    "cid": 7,
    "sec": "s",
}


class Tradovate(Client):
    def log_in(self, **changes: Any) -> dict[str, Any]:
        reply: dict[str, Any] = self.post("/v1/auth/accesstokenrequest", {**LOGIN, **changes})
        if "accessToken" in reply:
            self.headers = {"Authorization": f"Bearer {reply['accessToken']}"}
        return reply

    def order(self, operation: str = "placeorder", **fields: Any) -> Any:
        body = {
            "accountSpec": "DEMO123456",
            "accountId": 123456,
            "action": "Buy",
            "symbol": "ESZ6",
            "orderQty": 1,
            "orderType": "Limit",
            "price": 5300.25,
            "isAutomated": True,
            **fields,
        }
        return self.post(f"/v1/order/{operation}", {name: value for name, value in body.items() if value is not None})


@pytest.fixture
def tradovate(sandbox: Sandbox, control: Control) -> Iterator[Tradovate]:
    client = Tradovate(sandbox.url)
    client.log_in()
    yield client
    client.session.close()


class CrossTrade(Client):
    def place(self, **fields: Any) -> requests.Response:
        body = {
            "instrument": "ES 12-26",
            "action": "BUY",
            "orderType": "LIMIT",
            "quantity": 1,
            "timeInForce": "DAY",
            "limitPrice": 5300.25,
            **fields,
        }
        kept = {name: value for name, value in body.items() if value is not None}
        return self.call("POST", "/v1/api/accounts/Sim101/orders/place", kept)


@pytest.fixture
def crosstrade(sandbox: Sandbox, control: Control) -> Iterator[CrossTrade]:
    client = CrossTrade(sandbox.url)
    client.headers = {"Authorization": "Bearer token"}
    yield client
    client.session.close()


class Stream:
    """CrossTrade's WebSocket."""

    def __init__(self, url: str) -> None:
        self.socket = websocket.create_connection(url + "/ws/stream", header=["Authorization: Bearer token"], timeout=5)

    def rpc(self, api: str, **arguments: Any) -> Any:
        self.send({"action": "rpc", "id": f"call-{api}", "api": api, "args": arguments})
        frame = self.receive()
        assert frame["id"] == f"call-{api}"
        return frame["data"]

    def send(self, frame: Any) -> None:
        self.socket.send(json.dumps(frame))

    def receive(self) -> Any:
        return json.loads(self.socket.recv(), parse_float=Decimal)


@pytest.fixture
def stream(sandbox: Sandbox, control: Control) -> Iterator[Stream]:
    client = Stream(sandbox.ws_url)
    yield client
    client.socket.shutdown()


class Pocketful(Client):
    BODY = {
        "exchange": "NSE",
        "instrument_token": "14366",
        "client_id": "YG1234",
        "order_type": "LIMIT",
        "amo": False,
        "price": 13,
        "quantity": 1,
        "disclosed_quantity": 0,
        "validity": "DAY",
        "product": "MIS",
        "order_side": "BUY",
        "device": "WEB",
        "user_order_id": 10002,
        "trigger_price": 0,
        "execution_type": "REGULAR",
    }

    def place(self, **fields: Any) -> Any:
        return self.post("/api/v1/orders", {**self.BODY, **fields})

    def kart(self, **fields: Any) -> Any:
        body = {**self.BODY, "execution_type": "CO", "is_trailing": False, "stop_loss_value": 12, **fields}
        body.setdefault("trailing_stop_loss", 0)
        body.pop("amo")
        return self.post("/api/v1/orders/kart", body)

    def book(self, kind: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.get(f"/api/v1/orders?type={kind}&client_id=YG1234")["data"]["orders"]
        return rows

    def cancel_row(self, row: dict[str, Any], **changes: Any) -> Any:
        body = {
            "client_id": "YG1234",
            "exchange_order_id": row["exchange_order_id"],
            "execution_type": row["execution_type"],
            "leg_order_indicator": row["leg_order_indicator"],
            "oms_order_id": row["oms_order_id"],
            **changes,
        }
        return decoded(self.call("DELETE", f"/api/v1/orders/kart/{row['oms_order_id']}", body))


@pytest.fixture
def pocketful(sandbox: Sandbox, control: Control) -> Iterator[Pocketful]:
    client = Pocketful(sandbox.url)
    client.headers = {"Authorization": "Bearer token"}
    yield client
    client.session.close()


@pytest.fixture(scope="session")
def tradovate_schemas() -> dict[str, Any]:
    """The schemas of the broker's own API description."""
    path = DATA / "tradovate-openapi-orders.json"
    if not path.exists():
        pytest.skip("needs ../shared/data/tradovate-openapi-orders.json beside the repository")
    document: dict[str, Any] = json.loads(path.read_text())
    return document
