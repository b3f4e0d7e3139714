"""The switches: faults, settings, prices, reset; and what the witness tells."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
import websocket

from bridge.sandbox import Sandbox

from .conftest import Control, CrossTrade, Pocketful, Stream, Tradovate, decoded

Place = Callable[[], requests.Response]


@pytest.fixture(params=["tradovate", "crosstrade", "pocketful"])
def broker(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def place(broker: str, tradovate: Tradovate, crosstrade: CrossTrade, pocketful: Pocketful) -> Place:
    """Place one good order at the broker."""
    order = {"accountId": 123456, "action": "Buy", "symbol": "ESZ6", "orderQty": 1, "orderType": "Limit", "price": 5300}
    places: dict[str, Place] = {
        "tradovate": lambda: tradovate.call("POST", "/v1/order/placeorder", order),
        "crosstrade": crosstrade.place,
        "pocketful": lambda: pocketful.call("POST", "/api/v1/orders", Pocketful.BODY),
    }
    return places[broker]


def operation(broker: str) -> str:
    return "placeorder" if broker == "tradovate" else "place"


def test_a_request_dropped_before_is_not_executed(broker: str, place: Place, control: Control) -> None:
    control.fault(broker, operation(broker), "drop_before")

    with pytest.raises(requests.ConnectionError):
        place()

    assert control.orders() == []
    assert [row["status"] for row in control.requests(operation(broker))] == [None]
    assert place().status_code == 200


def test_a_request_dropped_after_is_executed(broker: str, place: Place, control: Control) -> None:
    control.fault(broker, operation(broker), "drop_after")

    with pytest.raises(requests.ConnectionError):
        place()

    assert control.states() == ["working"]
    assert [row["status"] for row in control.requests(operation(broker))] == [None]


def test_http_500_after_is_executed_and_answers_500(broker: str, place: Place, control: Control) -> None:
    control.fault(broker, operation(broker), "http_500_after")

    assert place().status_code == 500
    assert control.states() == ["working"]


def test_a_rate_limit_is_429_and_not_executed(broker: str, place: Place, control: Control) -> None:
    control.fault(broker, operation(broker), "rate_limit")

    reply = place()

    assert reply.status_code == 429
    if broker == "tradovate":
        assert (reply.content, reply.headers["Content-Length"]) == (b"", "0")
    if broker == "crosstrade":
        assert reply.json() == {"error": "Rate limit exceeded"}
    assert control.orders() == []
    assert control.requests(operation(broker))[0]["status"] == 429


def test_a_reject_is_the_brokers_own_no(broker: str, place: Place, control: Control) -> None:
    control.fault(broker, operation(broker), "reject", count=2)

    replies = [place(), place()]

    expected = {"tradovate": (200, "failureReason"), "crosstrade": (400, "error"), "pocketful": (400, "error_code")}
    for reply in replies:
        assert reply.status_code == expected[broker][0]
        assert expected[broker][1] in reply.json()
    assert control.orders() == []
    assert place().status_code == 200


def test_reject_later_accepts_and_then_rejects(broker: str, place: Place, control: Control) -> None:
    control.fault(broker, operation(broker), "reject_later")

    assert place().status_code == 200
    assert control.states() == ["rejected"]


def test_garbage_is_http_200_without_json_and_not_executed(broker: str, place: Place, control: Control) -> None:
    control.fault(broker, operation(broker), "garbage")

    reply = place()

    assert reply.status_code == 200
    with pytest.raises(requests.JSONDecodeError):
        reply.json()
    assert control.orders() == []


@pytest.mark.parametrize(("fault", "left"), [("http_408_before", 0), ("http_408_after", 1)])
def test_http_408_is_answered_before_or_after(
    broker: str, place: Place, control: Control, fault: str, left: int
) -> None:
    control.fault(broker, operation(broker), fault)

    assert place().status_code == 408
    assert len(control.orders()) == left


def test_a_delayed_request_is_executed_at_once_and_answered_late(broker: str, place: Place, control: Control) -> None:
    control.fault(broker, operation(broker), "delay", seconds=0.2)

    started = time.monotonic()
    assert place().status_code == 200
    assert time.monotonic() - started >= 0.2
    assert len(control.orders()) == 1


def test_others_are_served_while_one_is_delayed(tradovate: Tradovate, control: Control) -> None:
    control.fault("tradovate", "placeorder", "delay", seconds=30)

    with pytest.raises(requests.ReadTimeout):
        tradovate.call("POST", "/v1/order/placeorder", {"accountId": 123456, "action": "Buy", "symbol": "ESZ6",
                       "orderQty": 1, "orderType": "Market"}, timeout=0.1)  # fmt: skip

    assert control.states() == ["filled"]


def test_an_expired_tradovate_token_is_dead_until_a_new_login(tradovate: Tradovate, control: Control) -> None:
    control.fault("tradovate", "list", "expired_token")

    for path in ("/v1/order/list", "/v1/order/list", "/v1/auth/renewaccesstoken"):
        reply = tradovate.call("GET", path)
        assert (reply.status_code, reply.text) == (401, "Expired Access Token")
    tradovate.log_in()
    assert tradovate.call("GET", "/v1/order/list").status_code == 200


@pytest.mark.parametrize("broker", ["crosstrade", "pocketful"])
def test_an_expired_static_token_is_refused_once(broker: str, place: Place, control: Control) -> None:
    control.fault(broker, "place", "expired_token")

    assert [place().status_code, place().status_code] == [401, 200]
    assert len(control.orders()) == 1


def test_a_penalised_call_is_executed_when_it_comes_back_with_its_ticket(
    tradovate: Tradovate, control: Control
) -> None:
    control.fault("tradovate", "placeorder", "penalty_ticket", count=2)

    penalty = tradovate.order()
    assert (penalty["p-time"], penalty["p-captcha"]) == (1, False)
    assert control.orders() == []
    made_up = tradovate.order(**{"p-ticket": "made up"})
    assert made_up["p-ticket"] != penalty["p-ticket"]
    assert tradovate.order(**{"p-ticket": penalty["p-ticket"]})["orderId"]
    assert control.states() == ["working"]


def test_a_login_can_be_penalised_with_a_captcha(tradovate: Tradovate, control: Control) -> None:
    control.fault("tradovate", "accesstokenrequest", "penalty_ticket", seconds=3, captcha=True)

    reply = tradovate.log_in()
    assert (reply["p-time"], reply["p-captcha"]) == (3, True)
    assert "accessToken" in tradovate.log_in(**{"p-ticket": reply["p-ticket"]})


@pytest.mark.parametrize(
    ("fault", "data"),
    [
        ("rate_limit", {"success": False, "error": "Rate limit exceeded"}),
        ("reject", {"success": False, "error": "Order rejected by NinjaTrader"}),
        ("expired_token", {"success": False, "error": "Unauthorized"}),
        ("http_500_after", {"success": False, "error": "Internal server error"}),
    ],
)
def test_faults_reach_the_websocket_as_data(stream: Stream, control: Control, fault: str, data: Any) -> None:
    control.fault("crosstrade", "accounts", fault)

    assert stream.rpc("ListAccounts") == data
    assert stream.rpc("ListAccounts")["success"] is True


@pytest.mark.parametrize(("fault", "left"), [("drop_before", 0), ("drop_after", 1)])
def test_a_drop_closes_the_websocket(stream: Stream, control: Control, fault: str, left: int) -> None:
    control.fault("crosstrade", "place", fault)

    with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionError)):
        stream.rpc("PlaceOrder", account="Sim101", instrument="ES 12-26", action="Buy", orderType="Limit",
                   quantity=1, timeInForce="Day", limitPrice=5300)  # fmt: skip

    assert len(control.orders()) == left


def test_garbage_and_delay_reach_the_websocket(stream: Stream, control: Control) -> None:
    control.fault("crosstrade", "accounts", "garbage")
    stream.send({"action": "rpc", "id": "1", "api": "ListAccounts", "args": {}})
    assert "<html>" in stream.socket.recv()

    control.fault("crosstrade", "accounts", "delay", seconds=0.1)
    started = time.monotonic()
    stream.rpc("ListAccounts")
    assert time.monotonic() - started >= 0.1


def test_any_meets_every_operation_and_count_0_clears(broker: str, place: Place, control: Control) -> None:
    control.fault(broker, "any", "rate_limit", count=5)
    assert place().status_code == 429
    assert control.get("/_control/faults")[0]["count"] == 4

    control.fault(broker, "any", "rate_limit", count=0)
    assert control.get("/_control/faults") == []
    assert place().status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"broker": "etrade"},
        {"operation": "place"},
        {"operation": None},
        {"fault": "explode"},
        {"count": -1},
        {"count": "2"},
        {"seconds": "x"},
        {"broker": "pocketful", "operation": "place", "fault": "penalty_ticket"},
    ],
)
def test_a_wrong_fault_is_400_and_lists_what_would_be_right(control: Control, change: dict[str, Any]) -> None:
    body = {"broker": "tradovate", "operation": "placeorder", "fault": "reject", "count": 1, **change}

    reply = control.call("POST", "/_control/faults", body)

    assert reply.status_code == 400
    assert set(reply.json()["valid"]) == {"broker", "operation", "fault"}
    assert control.get("/_control/faults") == []


@pytest.mark.parametrize(
    "body", [{"broker": "x"}, {"broker": "tradovate", "nope": 1}, {"broker": "tradovate", "oso_ids": 1}]
)
def test_a_wrong_setting_is_400(control: Control, body: dict[str, Any]) -> None:
    assert control.call("POST", "/_control/behaviour", body).status_code == 400


@pytest.mark.parametrize("body", [{}, {"symbol": "ESZ6"}, {"symbol": "", "price": 1}, {"symbol": "ESZ6", "price": "x"},
                                  {"symbol": "ESZ6", "price": 1, "quantity": 0}, "{"])  # fmt: skip
def test_a_wrong_price_is_400(control: Control, body: Any) -> None:
    assert control.call("POST", "/_control/price", body).status_code == 400


def test_health_and_unknown_controls(control: Control) -> None:
    assert control.get("/_control/health") == {"ok": True}
    assert control.call("GET", "/_control/nope").status_code == 404
    assert control.call("GET", "/_control/reset").status_code == 405
    assert control.call("GET", "/").status_code == 404


def test_the_witness_lists_refused_requests_and_masks_secrets(tradovate: Tradovate, control: Control) -> None:
    tradovate.order(symbol="MES")

    login = control.requests("accesstokenrequest")[0]
    assert (login["body"]["password"], login["body"]["sec"], login["body"]["name"]) == ("***", "***", "trader")
    refused = control.requests("placeorder")[0]
    assert (refused["broker"], refused["status"], refused["method"]) == ("tradovate", 200, "POST")
    assert (refused["path"], refused["headers"]["Authorization"]) == ("/v1/order/placeorder", "***")
    assert refused["body"]["symbol"] == "MES"
    assert tradovate.headers["Authorization"].split()[1] not in control.call("GET", "/_control/requests").text


def test_an_order_has_the_fields_of_the_contract(broker: str, place: Place, control: Control) -> None:
    place()

    fields = {
        "broker", "account", "client_order_id", "broker_id", "parent_id", "oco_id", "symbol", "side", "quantity",
        "type", "price", "stop_price", "state", "filled", "request", "at",
    }  # fmt: skip
    row = control.orders()[0]
    assert fields <= set(row)
    assert row["broker"] == broker
    assert {"method", "path", "headers", "body"} <= set(row["request"])


def test_reset_empties_all_but_the_tokens(broker: str, place: Place, control: Control) -> None:
    place()
    control.price("ESZ6", 1)
    control.fault(broker, "any", "reject")
    control.behave("tradovate", oso_ids=False)

    control.post("/_control/reset")

    for name in ("orders", "requests", "positions", "faults"):
        assert control.get(f"/_control/{name}") == []
    assert control.get("/_control/prices") == {}
    assert control.get("/_control/behaviour")["tradovate"]["oso_ids"] is True
    assert place().status_code == 200
    assert decoded(control.call("POST", "/_control/reset", {"tokens": True})) == {"ok": True}
    assert place().status_code == (401 if broker == "tradovate" else 200)


def test_a_sandbox_on_a_taken_port_raises(sandbox: Sandbox) -> None:
    with pytest.raises(OSError), Sandbox(port=sandbox.port):
        pass
