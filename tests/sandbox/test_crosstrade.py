"""CrossTrade at the sandbox, over REST and over its WebSocket."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import websocket

from bridge.sandbox import Sandbox

from .conftest import Control, CrossTrade, Stream, decoded

A = "/v1/api/accounts/Sim101"


def test_a_place_answers_a_generated_id_and_success(crosstrade: CrossTrade, control: Control) -> None:
    reply = crosstrade.place(orderId="b-1")

    body = decoded(reply)
    assert reply.status_code == 200
    assert list(body) == ["orderId", "success"]
    assert len(body["orderId"]) == 32
    row = control.orders()[0]
    assert (row["client_order_id"], row["broker_id"]) == ("b-1", body["orderId"])
    assert (row["symbol"], row["side"], row["type"], row["price"]) == ("ES 12-26", "buy", "limit", Decimal("5300.25"))
    assert row["request"]["headers"]["Authorization"] == "***"


@pytest.mark.parametrize("name", ["ES 12-26", "ESZ6", "ESZ26", "ESZ2026", "ES DEC26"])
def test_every_spelling_of_an_instrument_is_one_market(crosstrade: CrossTrade, control: Control, name: str) -> None:
    crosstrade.place(instrument=name)

    control.price("ESZ6", 5300)
    assert [(row["symbol"], row["state"]) for row in control.orders()] == [("ES 12-26", "filled")]


@pytest.mark.parametrize(
    ("fields", "hit"),
    [
        ({"orderType": "stopmarket", "limitPrice": None, "stopPrice": 5310}, 5311),
        ({"orderType": "StopLimit", "limitPrice": 5312, "stopPrice": 5310}, 5311),
        ({"orderType": "Limit", "action": "Sell", "timeInForce": "Gtc"}, 5301),
    ],
)
def test_order_types_are_read_in_any_case(
    crosstrade: CrossTrade, control: Control, fields: dict[str, Any], hit: int
) -> None:
    crosstrade.place(**fields)
    assert control.states() == ["working"]

    control.price("ES 12-26", hit)
    assert control.states() == ["filled"]


@pytest.mark.parametrize(
    "fields",
    [
        {"quantity": None},
        {"quantity": 0},
        {"quantity": "1"},
        {"action": "HOLD"},
        {"orderType": None},
        {"orderType": "MIT"},
        {"timeInForce": "IOC"},
        {"limitPrice": None},
        {"limitPrice": "5300"},
        {"orderType": "STOPMARKET"},
        {"instrument": "NOPE 12-26"},
        {"strategy": "missing"},
        {"requireMarketPosition": "long,short"},
    ],
)
def test_a_wrong_place_is_400_with_an_error_alone(
    crosstrade: CrossTrade, control: Control, fields: dict[str, Any]
) -> None:
    reply = crosstrade.place(**fields)

    assert reply.status_code == 400
    assert list(decoded(reply)) == ["error"]
    assert control.orders() == []


def test_no_token_is_401_and_an_unknown_path_names_a_near_one(crosstrade: CrossTrade) -> None:
    unknown = crosstrade.call("POST", A + "/order/place", {})
    assert unknown.status_code == 404
    assert decoded(unknown)["did_you_mean"] == "/v1/api/accounts/{account}/orders/place"

    crosstrade.headers = {}
    assert crosstrade.place().status_code == 401
    crosstrade.headers = {"Authorization": "Bearer wrong"}
    assert crosstrade.place().status_code == 401


def test_two_orders_with_one_oco_id_fill_one_and_cancel_the_other(crosstrade: CrossTrade, control: Control) -> None:
    crosstrade.place(action="SELL", limitPrice=5310, ocoId="oco-1")
    crosstrade.place(action="SELL", orderType="STOPMARKET", limitPrice=None, stopPrice=5290, ocoId="oco-1")
    assert {row["oco_id"] for row in control.orders()} == {"oco-1"}

    control.price("ES 12-26", 5310)
    assert control.states() == ["filled", "canceled"]


def test_a_used_oco_id_or_order_id_is_refused_the_second_time(crosstrade: CrossTrade, control: Control) -> None:
    placed = decoded(crosstrade.place(ocoId="oco-1", orderId="b-1"))
    crosstrade.post(f"{A}/orders/{placed['orderId']}/cancel")

    burned = crosstrade.place(ocoId="oco-1", orderId="b-2")
    again = crosstrade.place(orderId="b-1")

    assert (burned.status_code, again.status_code) == (400, 400)
    assert "cannot be reused" in burned.json()["error"]
    assert "already been used" in again.json()["error"]
    assert len(control.orders()) == 1


def test_an_order_is_found_by_its_own_and_by_our_id(crosstrade: CrossTrade, control: Control) -> None:
    placed = decoded(crosstrade.place(orderId="b-1"))["orderId"]

    for wanted in (placed, "b-1"):
        assert crosstrade.get(f"{A}/orders/{wanted}/status") == {"status": "Working", "success": True}
        assert crosstrade.get(f"{A}/orders/{wanted}")["orderId"] == placed
    life = crosstrade.get(f"{A}/orders/b-1/lifecycle")
    assert (life["orderId"], life["originalOrderId"], life["account"]) == (placed, "b-1", "Sim101")
    assert [event["orderState"] for event in life["events"]] == [None, "Submitted", "Working"]
    assert life["count"] == 3

    control.behave("crosstrade", order_id_lookup=False)
    assert crosstrade.call("GET", f"{A}/orders/b-1/lifecycle").status_code == 400


def test_the_lifecycle_shows_fills_and_later_attempts(crosstrade: CrossTrade, control: Control) -> None:
    crosstrade.place(orderId="b-1")
    control.price("ES 12-26", 5300)
    crosstrade.place(orderId="b-1")

    events = crosstrade.get(f"{A}/orders/b-1/lifecycle")["events"]

    assert [event["event"] for event in events][-2:] == ["Execution", "PlaceOrder"]
    assert events[-2]["orderState"] == "Filled"
    without = crosstrade.get(f"{A}/orders/b-1/lifecycle?includeFills=false")["events"]
    assert "Execution" not in [event["event"] for event in without]


def test_a_cancelled_order_cannot_be_cancelled_again(crosstrade: CrossTrade, control: Control) -> None:
    placed = decoded(crosstrade.place())["orderId"]

    assert crosstrade.post(f"{A}/orders/{placed}/cancel") == {"orderId": placed, "success": True}
    assert control.states() == ["canceled"]
    for gone in (placed, "never-seen"):
        reply = crosstrade.call("POST", f"{A}/orders/{gone}/cancel", {})
        assert reply.status_code == 400
        assert reply.json() == {"error": f"Order linked to '{gone}' not found or already terminal."}


def test_cancel_by_instrument_leaves_the_others(crosstrade: CrossTrade, control: Control) -> None:
    crosstrade.place()
    crosstrade.place(instrument="NQ 12-26")

    reply = crosstrade.post(A + "/orders/cancel", {"instrument": "ES 12-26"})

    assert len(reply["orderIds"]) == 1
    assert control.states() == ["canceled", "working"]
    crosstrade.post("/v1/api/orders/cancelall")
    assert control.states() == ["canceled", "canceled"]


def test_the_order_list_shows_the_active_ones_or_all(crosstrade: CrossTrade, control: Control) -> None:
    crosstrade.place(ocoId="group")
    crosstrade.place(orderType="MARKET", limitPrice=None)

    active = crosstrade.get(A + "/orders?activeOnly=true")["orders"]
    assert [(row["orderState"], row["ocoId"], row["orderAction"]) for row in active] == [("Working", "group", "Buy")]
    assert crosstrade.get(A + "/orders?activeOnly=false")["count"] == 2


def test_a_whole_close_cancels_the_instruments_orders_and_a_part_leaves_them(
    crosstrade: CrossTrade, control: Control
) -> None:
    control.price("ES 12-26", 5300)
    crosstrade.place(orderType="MARKET", limitPrice=None, quantity=3)
    crosstrade.place(limitPrice=5200)

    part = crosstrade.post(A + "/positions/close", {"instrument": "ES 12-26", "percent": 0.5})
    assert part["closedPositions"][0]["quantity"] == 2
    assert control.positions() == [("Sim101", "ES 12-26", 1)]
    assert control.states() == ["filled", "working", "filled"]
    crosstrade.post(A + "/positions/close", {"instrument": "ESZ6"})
    assert control.positions() == []
    assert control.states() == ["filled", "canceled", "filled", "filled"]


def test_closing_a_flat_instrument_is_400_and_leaves_resting_orders(crosstrade: CrossTrade, control: Control) -> None:
    crosstrade.place()

    reply = crosstrade.call("POST", A + "/positions/close", {"instrument": "ES 12-26"})

    assert (reply.status_code, reply.json()) == (400, {"error": "No positions found for instrument 'ES 12-26'"})
    assert control.states() == ["working"]


def test_a_flatten_with_an_empty_body_flattens_every_account(crosstrade: CrossTrade, control: Control) -> None:
    crosstrade.place(orderType="MARKET", limitPrice=None)
    crosstrade.post("/v1/api/accounts/Sim102/orders/place", {
        "instrument": "NQ 12-26", "action": "SELL", "orderType": "MARKET", "quantity": 2, "timeInForce": "DAY",
    })  # fmt: skip
    crosstrade.place(limitPrice=90)

    kept = crosstrade.post("/v1/api/positions/flatten", {"account": "Sim101", "instrument": "NQ 12-26"})
    assert kept["warning"]
    assert len(control.positions()) == 2
    reply = crosstrade.post("/v1/api/positions/flatten", {})
    assert len(reply["closedPositions"]) == 2
    assert control.positions() == []
    assert "working" not in control.states()


def test_an_atm_places_a_stop_and_a_target_around_the_fill(crosstrade: CrossTrade, control: Control) -> None:
    control.price("ES 12-26", 5300)
    crosstrade.place(orderType="MARKET", limitPrice=None, strategy="MyAtmStrategy", orderId="b-1")

    entry, stop, target = control.orders()
    assert stop["parent_id"] == target["parent_id"] == entry["broker_id"]
    assert (stop["stop_price"], target["price"]) == (Decimal("5297.5"), 5305)
    rows = crosstrade.get(A + "/orders?activeOnly=false")["orders"]
    assert "<AutomatedTradingOrderId>b-1<" in rows[0]["userData"]
    control.price("ES 12-26", 5305)
    assert control.states() == ["filled", "canceled", "filled"]


def test_change_replace_flatplace_and_reverse(crosstrade: CrossTrade, control: Control) -> None:
    placed = decoded(crosstrade.place())["orderId"]
    changed = crosstrade.call("PUT", f"{A}/orders/{placed}/change", {"limitPrice": 5299, "quantity": 2})
    assert changed.json() == {"orderId": placed, "success": True}
    assert (control.orders()[0]["price"], control.orders()[0]["quantity"]) == (5299, 2)

    market = {"instrument": "ES 12-26", "action": "BUY", "orderType": "MARKET", "quantity": 1, "timeInForce": "DAY"}
    crosstrade.post(f"{A}/orders/{placed}/replace", market)
    assert control.states() == ["canceled", "filled"]
    crosstrade.post(A + "/orders/flatplace", {**market, "action": "SELL"})
    assert control.positions() == [("Sim101", "ES 12-26", -1)]
    crosstrade.post(A + "/positions/reverse", {"instrument": "ES 12-26"})
    assert control.positions() == [("Sim101", "ES 12-26", 1)]
    crosstrade.post(A + "/positions/reverseposition", {**market, "action": "SELL", "quantity": 4})
    assert control.positions() == [("Sim101", "ES 12-26", -4)]


def test_cancel_and_bracket_protects_the_position(crosstrade: CrossTrade, control: Control) -> None:
    control.price("ES 12-26", 5300)
    crosstrade.place(orderType="MARKET", limitPrice=None, quantity=2)

    crosstrade.post(A + "/orders/cancel_and_bracket", {
        "instrument": "ES 12-26", "action": "Buy", "quantity": 9, "takeProfit": 5310, "stopLoss": 5290,
    })  # fmt: skip

    assert [(row["side"], row["quantity"], row["type"]) for row in control.orders()[1:]] == [
        ("sell", 2, "limit"),
        ("sell", 2, "stop"),
    ]


def test_positions_accounts_quotes_and_executions_are_read(crosstrade: CrossTrade, control: Control) -> None:
    control.price("ES 12-26", 5300)
    crosstrade.call("POST", "/v1/api/accounts/sim101/orders/place", {
        "instrument": "ES1!", "action": "BUY", "orderType": "MARKET", "quantity": 1, "timeInForce": "DAY",
    })  # fmt: skip
    control.price("ES 12-26", 5302)

    position = crosstrade.get(A + "/position?instrument=ES%2012-26")
    assert (position["account"], position["marketPosition"], position["unrealizedProfitLoss"]) == (
        "Sim101",
        "Long",
        100,
    )
    assert crosstrade.get("/v1/api/positions")["count"] == 1
    assert crosstrade.get(A + "/positions")["positions"][0]["tag"] is None
    assert crosstrade.get("/v1/api/accounts")["accounts"][0]["name"] == "Sim101"
    assert crosstrade.get("/v1/api/accounts/snapshot")["type"] == "snapshot"
    assert crosstrade.get("/v1/api/accounts/SIM101")["name"] == "Sim101"
    assert crosstrade.get("/v1/api/market/quote?instrument=ESZ6")["last"] == 5302
    execution = crosstrade.get(A + "/executions")["executions"][0]
    assert crosstrade.get(f"{A}/executions/{execution['id']}")["price"] == 5300
    assert "MyAtmStrategy" in crosstrade.get("/v1/api/atm-templates")["templates"]
    assert crosstrade.get("/v1/api/_endpoints")["count"] > 20


# -- the WebSocket


def test_an_order_is_placed_and_cancelled_over_the_websocket(stream: Stream, control: Control) -> None:
    placed = stream.rpc("PlaceOrder", account="Sim101", instrument="ES 12-26", action="Buy", orderType="Limit",
                        quantity=1, timeInForce="Gtc", limitPrice=5300, orderId="w-1")  # fmt: skip

    assert placed["success"] is True
    row = control.orders()[0]
    assert (row["request"]["method"], row["request"]["path"]) == ("WS", "/ws/stream")
    assert row["request"]["body"]["api"] == "PlaceOrder"
    assert row["request"]["headers"]["Authorization"] == "***"
    assert stream.rpc("GetOrderLifecycle", account="Sim101", orderId="w-1")["originalOrderId"] == "w-1"
    assert stream.rpc("ListOrders", account="Sim101", activeOnly=False)["count"] == 1
    assert stream.rpc("Cancel", account="Sim101", orderId="w-1")["success"] is True
    assert control.states() == ["canceled"]


def test_an_error_over_the_websocket_says_success_false(stream: Stream) -> None:
    gone = stream.rpc("Cancel", account="Sim101", orderId="nope")

    assert gone == {"success": False, "error": "Order linked to 'nope' not found or already terminal."}
    assert stream.rpc("Dance")["success"] is False
    assert stream.rpc("ClosePosition", account="Sim101", instrument="ES 12-26")["success"] is False


def test_everything_over_the_websocket_flattens_whatever_the_filters_say(stream: Stream, control: Control) -> None:
    for instrument in ("ES 12-26", "NQ 12-26"):
        stream.rpc("PlaceOrder", account="Sim101", instrument=instrument, action="Buy", orderType="Market",
                   quantity=1, timeInForce="Day")  # fmt: skip

    stream.rpc("Flatten", account="Sim101", instrument="ES 12-26")
    assert control.positions() == [("Sim101", "NQ 12-26", 1)]
    stream.rpc("FlattenEverything", account="Sim101", instrument="ES 12-26")
    assert control.positions() == []


def test_the_stream_answers_pings_and_quotes_subscribed_instruments(stream: Stream, control: Control) -> None:
    stream.send({"action": "ping"})
    assert stream.receive() == {"type": "pong"}
    stream.socket.ping("hello")
    opcode, payload = stream.socket.recv_data(control_frame=True)
    assert (opcode, bytes(payload)) == (websocket.ABNF.OPCODE_PONG, b"hello")

    stream.send({"action": "subscribe", "instruments": ["ES 12-26"]})
    assert stream.receive()["type"] == "marketData"
    control.price("ESZ6", 5333)
    assert stream.receive()["quotes"][0]["last"] == 5333
    stream.socket.send("not json")
    assert stream.receive() == {"success": False, "error": "Invalid request"}


def test_the_handshake_needs_the_bearer(sandbox: Sandbox, control: Control) -> None:
    for header in ([], ["Authorization: Bearer wrong"]):
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            websocket.create_connection(sandbox.ws_url + "/ws/stream", header=header, timeout=5)
        assert refused.value.status_code == 401


def test_large_and_split_messages_arrive_whole(stream: Stream, control: Control) -> None:
    long = "x" * 70_000
    assert long in stream.rpc("Cancel", account="Sim101", orderId=long)["error"]

    text = '{"action":"rpc","id":"s","api":"ListAccounts","args":{}}'
    stream.socket.send_frame(websocket.ABNF.create_frame(text[:9], websocket.ABNF.OPCODE_TEXT, 0))
    stream.socket.send_frame(websocket.ABNF.create_frame(text[9:], websocket.ABNF.OPCODE_CONT, 1))
    assert stream.receive()["id"] == "s"
