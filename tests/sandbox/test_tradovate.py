"""Tradovate at the sandbox: what its API answers, oddities included, and what then stands in the book."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import jsonschema
import pytest

from .conftest import Control, Tradovate

STOP = {"action": "Sell", "orderType": "Stop", "stopPrice": 5290}
TARGET = {"action": "Sell", "orderType": "Limit", "price": 5310}


def test_a_good_login_gives_a_token_that_works(tradovate: Tradovate) -> None:
    assert tradovate.get("/v1/auth/me")["name"] == "trader"
    assert tradovate.get("/v1/account/list")[0]["name"] == "DEMO123456"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"password": "wrong"}, "Incorrect username"),
        ({"name": ""}, "Incorrect username"),
        ({"sec": ""}, "not registered"),
    ],
)
def test_a_bad_login_is_http_200_with_error_text_alone(tradovate: Tradovate, change: dict[str, Any], text: str) -> None:
    reply = tradovate.log_in(**change)

    assert list(reply) == ["errorText"]
    assert text in reply["errorText"]


def test_a_renewal_gives_another_token_for_a_living_one(tradovate: Tradovate) -> None:
    before = tradovate.headers["Authorization"]
    renewed = tradovate.get("/v1/auth/renewaccesstoken")

    assert renewed["accessToken"] not in before
    tradovate.headers = {"Authorization": f"Bearer {renewed['accessToken']}"}
    assert tradovate.call("GET", "/v1/order/list").status_code == 200


def test_a_list_without_a_token_is_404_and_an_order_401(tradovate: Tradovate, control: Control) -> None:
    tradovate.headers = {}

    assert tradovate.call("GET", "/v1/account/list").status_code == 404
    refused = tradovate.call("POST", "/v1/order/placeorder", {"symbol": "ESZ6"})
    assert (refused.status_code, refused.text) == (401, "Access is denied")
    assert control.orders() == []


def test_a_limit_order_rests_and_fills_when_the_price_crosses(tradovate: Tradovate, control: Control) -> None:
    placed = tradovate.order(clOrdId="b-1")

    assert list(placed) == ["orderId"]
    row = control.orders()[0]
    assert (row["state"], row["side"], row["type"], row["price"]) == ("working", "buy", "limit", Decimal("5300.25"))
    assert (row["client_order_id"], row["broker_id"], row["account"]) == ("b-1", str(placed["orderId"]), "DEMO123456")
    control.price("ESZ6", 5301)
    assert control.states() == ["working"]
    control.price("ES 12-26", "5300.25")
    assert control.states() == ["filled"]
    assert control.positions() == [("DEMO123456", "ESZ6", 1)]


def test_paths_are_matched_without_case(tradovate: Tradovate, control: Control) -> None:
    body = {"accountId": 123456, "action": "Buy", "symbol": "ESZ6", "orderQty": 1, "orderType": "Market"}

    assert "orderId" in tradovate.post("/v1/Order/placeOrder", body)


def test_a_market_order_fills_at_the_last_price(tradovate: Tradovate, control: Control) -> None:
    control.price("ESZ6", "5277.75")
    placed = tradovate.order(orderType="Market", price=None)

    fills = tradovate.get(f"/v1/fill/deps?masterid={placed['orderId']}")
    assert [(fill["qty"], fill["price"]) for fill in fills] == [(1, Decimal("5277.75"))]
    assert tradovate.get(f"/v1/order/item?id={placed['orderId']}")["ordStatus"] == "Filled"


@pytest.mark.parametrize(
    ("fields", "before", "hit"),
    [
        ({"orderType": "Stop", "price": None, "stopPrice": 5310}, 5309, 5310),
        ({"orderType": "MIT", "price": 5290}, 5291, 5290),
        ({"orderType": "StopLimit", "price": 5312, "stopPrice": 5310}, 5309, 5311),
        ({"orderType": "TrailingStop", "price": None, "stopPrice": 5310, "pegDifference": 5}, 5300, 5305),
        ({"orderType": "TrailingStopLimit", "price": 5311, "stopPrice": 5310, "pegDifference": 5}, 5300, 5305),
    ],
)
def test_each_order_type_waits_for_its_price(
    tradovate: Tradovate, control: Control, fields: dict[str, Any], before: int, hit: int
) -> None:
    tradovate.order(**fields)

    control.price("ESZ6", before)
    assert control.states() == ["working"]
    control.price("ESZ6", hit)
    assert control.states() == ["filled"]


def test_a_part_fill_is_working_at_the_broker_and_partially_filled_for_the_witness(
    tradovate: Tradovate, control: Control
) -> None:
    placed = tradovate.order(orderQty=3)

    control.price("ESZ6", 5300, quantity=2)
    row = control.orders()[0]
    assert (row["state"], row["filled"]) == ("partially_filled", 2)
    assert tradovate.get(f"/v1/order/item?id={placed['orderId']}")["ordStatus"] == "Working"
    command = tradovate.get(f"/v1/command/deps?masterid={placed['orderId']}")[0]
    assert tradovate.get(f"/v1/executionReport/deps?masterid={command['id']}")[-1]["cumQty"] == 2


def test_ioc_that_cannot_fill_is_canceled_and_a_day_order_expires_with_its_session(
    tradovate: Tradovate, control: Control
) -> None:
    control.price("ESZ6", 5350)
    tradovate.order(timeInForce="IOC")
    tradovate.order(timeInForce="Day")
    tradovate.order(timeInForce="GTC")
    assert control.states() == ["canceled", "working", "working"]

    control.post("/_control/session_end")
    assert control.states() == ["canceled", "expired", "working"]


def test_gtd_expires_at_its_time_and_needs_one(tradovate: Tradovate, control: Control) -> None:
    assert tradovate.order(timeInForce="GTD")["violations"][0]["constraint"] == "expireTime"
    tradovate.order(timeInForce="GTD", expireTime="2020-01-01T00:00:00Z")

    tradovate.get("/v1/order/list")
    assert control.states() == ["expired"]


def test_oco_fills_one_and_cancels_the_other(tradovate: Tradovate, control: Control) -> None:
    placed = tradovate.order("placeoco", action="Sell", price=5310, clOrdId="a", other={**STOP, "clOrdId": "b"})

    first, second = control.orders()
    assert (first["client_order_id"], second["client_order_id"]) == ("a", "b")
    assert first["oco_id"] == second["oco_id"] == str(placed["ocoId"])
    control.price("ESZ6", 5290)
    assert control.states() == ["canceled", "filled"]


def test_a_part_fill_of_an_oco_leg_takes_its_quantity_from_the_other(tradovate: Tradovate, control: Control) -> None:
    tradovate.order("placeoco", action="Sell", orderQty=3, price=5310, other=STOP)

    control.price("ESZ6", 5310, quantity=2)
    assert [(row["state"], row["quantity"]) for row in control.orders()] == [("partially_filled", 3), ("working", 1)]
    control.price("ESZ6", 5290)
    assert control.states() == ["canceled", "filled"]
    assert control.positions() == [("DEMO123456", "ESZ6", -3)]


def test_a_position_averages_and_turns(tradovate: Tradovate, control: Control) -> None:
    for price, action, quantity in ((5300, "Buy", 1), (5310, "Buy", 3), (5320, "Sell", 2), (5330, "Sell", 5)):
        control.price("ESZ6", price)
        tradovate.order(orderType="Market", price=None, action=action, orderQty=quantity)
        if quantity == 2:
            assert control.get("/_control/positions")[0]["price"] == Decimal("5307.5")

    row = control.get("/_control/positions")[0]
    assert (row["quantity"], row["price"]) == (-3, 5330)


@pytest.mark.parametrize(
    ("fields", "other"),
    [
        ({"action": "Sell", "price": 5310}, {**STOP, "price": 5289}),
        ({"action": "Sell", "price": 5280}, STOP),
        ({"action": "Buy", "price": 5320}, {"action": "Sell", "orderType": "Limit", "price": 5310}),
    ],
)
def test_an_oco_that_cannot_rest_is_refused_whole(
    tradovate: Tradovate, control: Control, fields: dict[str, Any], other: dict[str, Any]
) -> None:
    reply = tradovate.order("placeoco", **fields, other=other)

    assert reply == {"failureReason": "InvalidPrice", "failureText": "Wrong OCO combination"}
    assert control.orders() == []


def test_oso_children_are_suspended_then_work_as_oco(tradovate: Tradovate, control: Control) -> None:
    placed = tradovate.order("placeoso", bracket1={**STOP, "clOrdId": "sl"}, bracket2={**TARGET, "clOrdId": "tp"})

    assert sorted(placed) == ["orderId", "oso1Id", "oso2Id"]
    assert control.states() == ["working", "suspended", "suspended"]
    assert {row["parent_id"] for row in control.orders()[1:]} == {str(placed["orderId"])}
    children = tradovate.get("/v1/order/deps?masterid=123456")[1:]
    assert {child["ordStatus"] for child in children} == {"Suspended"}
    assert {child["parentId"] for child in children} == {placed["orderId"]}
    control.price("ESZ6", 5300)
    assert control.states() == ["filled", "working", "working"]
    control.price("ESZ6", 5310)
    assert control.states() == ["filled", "canceled", "filled"]
    assert control.positions() == []


def test_oso_child_ids_can_be_left_out_and_success_be_said(tradovate: Tradovate, control: Control) -> None:
    control.behave("tradovate", oso_ids=False, success_word=True)

    reply = tradovate.order("placeoso", bracket1=STOP)

    assert reply["failureReason"] == "Success"
    assert "oso1Id" not in reply
    assert reply["orderId"]


def test_a_market_oso_fills_between_its_legs_when_no_price_is_known(tradovate: Tradovate, control: Control) -> None:
    tradovate.order("placeoso", orderType="Market", price=None, bracket1=STOP, bracket2=TARGET)

    assert control.states() == ["filled", "working", "working"]
    assert control.orders()[0]["average_price"] == 5300


def test_a_stop_past_the_fill_is_rejected_and_leaves_the_position_naked(tradovate: Tradovate, control: Control) -> None:
    control.price("ESZ6", 5280)

    tradovate.order("placeoso", orderType="Market", price=None, bracket1=STOP)

    assert control.states() == ["filled", "rejected"]
    assert control.positions() == [("DEMO123456", "ESZ6", 1)]


def test_cancelling_a_parent_cancels_its_suspended_children(tradovate: Tradovate, control: Control) -> None:
    placed = tradovate.order("placeoso", bracket1=STOP, bracket2=TARGET)

    reply = tradovate.post("/v1/order/cancelorder", {"orderId": placed["orderId"], "isAutomated": True})

    assert list(reply) == ["commandId"]
    assert control.states() == ["canceled"] * 3


def test_a_finished_order_is_too_late_to_cancel_and_an_unknown_one_404(tradovate: Tradovate) -> None:
    placed = tradovate.order(orderType="Market", price=None)

    assert tradovate.post("/v1/order/cancelorder", {"orderId": placed["orderId"]})["failureReason"] == "TooLate"
    assert tradovate.call("POST", "/v1/order/cancelorder", {"orderId": 1}).status_code == 404


def strategy(**changes: Any) -> dict[str, Any]:
    bracket = {"qty": 1, "profitTarget": 10, "stopLoss": -5, "trailingStop": False}
    params = {"entryVersion": {"orderQty": 1, "orderType": "Market"}, "brackets": [bracket]}
    return {
        "accountId": 123456,
        "accountSpec": "DEMO123456",
        "symbol": "ESZ6",
        "action": "Buy",
        "orderStrategyTypeId": 2,
        "params": json.dumps(params),
        "uuid": "u-1",
        **changes,
    }


def test_a_strategy_makes_its_exits_from_the_fill(tradovate: Tradovate, control: Control) -> None:
    control.price("ESZ6", 5300)

    started = tradovate.post("/v1/orderStrategy/startorderstrategy", strategy())["orderStrategy"]

    entry, stop, target = control.orders()
    assert (entry["client_order_id"], stop["client_order_id"]) == ("u-1", None)
    assert (stop["stop_price"], target["price"]) == (5295, 5310)
    assert stop["parent_id"] == target["parent_id"] == entry["broker_id"]
    links = tradovate.get(f"/v1/orderStrategyLink/deps?masterid={started['id']}")
    assert [link["orderId"] for link in links] == [int(row["broker_id"]) for row in control.orders()]
    assert tradovate.get("/v1/orderStrategy/list")[0]["uuid"] == "u-1"
    control.price("ESZ6", 5310)
    assert control.states() == ["filled", "canceled", "filled"]
    assert tradovate.get(f"/v1/orderStrategy/item?id={started['id']}")["status"] == "ExecutionFinished"


def test_interrupting_a_strategy_cancels_what_it_has_open(tradovate: Tradovate, control: Control) -> None:
    started = tradovate.post("/v1/orderStrategy/startOrderStrategy", strategy())["orderStrategy"]

    tradovate.post("/v1/orderStrategy/interruptorderstrategy", {"orderStrategyId": started["id"]})

    assert control.states() == ["filled", "canceled", "canceled"]
    missing = tradovate.call("POST", "/v1/orderStrategy/interruptorderstrategy", {"orderStrategyId": 1})
    assert missing.status_code == 404


@pytest.mark.parametrize(
    "changes",
    [
        {"params": {"entryVersion": {}}},
        {"params": "{"},
        {"params": '{"entryVersion":{"orderQty":1,"orderType":"Market"},"brackets":[{"qty":1,"stopLoss":5}]}'},
        {"orderStrategyTypeId": 3},
    ],
)
def test_a_wrong_strategy_answers_error_text(tradovate: Tradovate, control: Control, changes: dict[str, Any]) -> None:
    reply = tradovate.post("/v1/orderStrategy/startorderstrategy", strategy(**changes))

    assert reply == {"errorText": "Invalid or missed parameters"}
    assert control.orders() == []


def test_liquidation_cancels_every_order_on_the_contract_and_closes(tradovate: Tradovate, control: Control) -> None:
    control.price("ESZ6", 5300)
    tradovate.order(orderType="Market", price=None, orderQty=2)
    tradovate.order(price=5200)
    contract = tradovate.get("/v1/contract/find?name=ESZ6")
    body = {"accountId": 123456, "contractId": contract["id"], "admin": False}

    reply = tradovate.post("/v1/order/liquidateposition", body)

    assert [(row["side"], row["quantity"], row["state"]) for row in control.orders()] == [
        ("buy", 2, "filled"),
        ("buy", 1, "canceled"),
        ("sell", 2, "filled"),
    ]
    assert control.orders()[-1]["broker_id"] == str(reply["orderId"])
    assert control.positions() == []
    assert tradovate.get("/v1/position/list")[0]["netPos"] == 0
    assert tradovate.post("/v1/order/liquidateposition", body) == {}
    assert tradovate.call("POST", "/v1/order/liquidateposition", {**body, "customTag50": "x"}).status_code == 404


def test_a_modify_replaces_the_order_and_drops_a_changed_time_in_force(tradovate: Tradovate, control: Control) -> None:
    placed = tradovate.order(timeInForce="GTC")["orderId"]
    body = {"orderId": placed, "orderQty": 2, "orderType": "Limit", "price": 5299.5}

    dropped = tradovate.post("/v1/order/modifyorder", body)
    assert control.orders()[0]["quantity"] == 1
    report = tradovate.get(f"/v1/commandReport/deps?masterid={dropped['commandId']}")[0]
    assert report["commandStatus"] == "ExecutionRejected"
    tradovate.post("/v1/order/modifyorder", {**body, "timeInForce": "GTC"})
    row = control.orders()[0]
    assert (row["quantity"], row["price"]) == (2, Decimal("5299.5"))
    versions = tradovate.get(f"/v1/orderVersion/deps?masterid={placed}")
    assert [version["orderQty"] for version in versions] == [1, 2]


def test_the_client_order_id_lives_on_the_command_and_not_on_the_order(tradovate: Tradovate) -> None:
    placed = tradovate.order(clOrdId="mine", text="note")

    order = tradovate.get(f"/v1/order/item?id={placed['orderId']}")
    assert not {"clOrdId", "symbol", "price", "orderQty", "orderType"} & set(order)
    commands = [row for row in tradovate.get("/v1/command/list") if row.get("clOrdId") == "mine"]
    assert [row["orderId"] for row in commands] == [placed["orderId"]]
    version = tradovate.get(f"/v1/orderVersion/deps?masterid={placed['orderId']}")[0]
    assert (version["id"], version["text"], version["timeInForce"]) == (commands[0]["id"], "note", "Day")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"symbol": "E6H9"}, ("UnknownReason", "Access is denied")),
        ({"symbol": "MES"}, ("UnknownReason", "Access is denied")),
        ({"symbol": "ESZ26"}, ("UnknownReason", "Access is denied")),
        ({"accountId": 900001}, ("UnknownReason", "Access is denied")),
        ({"accountId": 77}, ("UnknownReason", "Access is denied")),
        ({"price": 5300.3}, ("InvalidPrice", "Invalid price increment")),
        ({"orderType": "QTS"}, ("Unsupported", "QTS is not supported")),
    ],
)
def test_a_rejection_is_http_200_with_a_failure_reason(
    tradovate: Tradovate, control: Control, fields: dict[str, Any], expected: tuple[str, str]
) -> None:
    reply = tradovate.order(**fields)

    assert (reply["failureReason"], reply["failureText"]) == expected
    assert control.orders() == []


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"symbol": None}, "symbol"),
        ({"orderQty": 0}, "orderQty"),
        ({"orderType": "Banana"}, "orderType"),
        ({"price": None}, "price"),
        ({"orderType": "Stop"}, "stopPrice"),
        ({"clOrdId": "x" * 65}, "clOrdId"),
        ({"accountId": None, "accountSpec": None}, "accountId"),
    ],
)
def test_a_missing_or_invalid_field_is_named_in_violations(
    tradovate: Tradovate, fields: dict[str, Any], constraint: str
) -> None:
    assert tradovate.order(**fields)["violations"][0]["constraint"] == constraint


@pytest.mark.parametrize("body", ["action=Buy&symbol=ESZ6", "{", "[]", '{"symbol": 5}', '{"orderQty": "1"}'])
def test_a_body_of_the_wrong_type_is_400(tradovate: Tradovate, body: str) -> None:
    assert tradovate.call("POST", "/v1/order/placeorder", body).status_code == 400


def test_contracts_and_products_are_found_with_their_ticks(tradovate: Tradovate) -> None:
    contract = tradovate.get("/v1/contract/find?name=RTYZ6")
    maturity = tradovate.get(f"/v1/contractMaturity/item?id={contract['contractMaturityId']}")
    product = tradovate.get(f"/v1/product/item?id={maturity['productId']}")

    assert (product["name"], product["tickSize"], maturity["expirationMonth"]) == ("RTY", Decimal("0.1"), 202612)
    assert tradovate.get("/v1/product/find?name=ES")["id"] == 799
    assert tradovate.get(f"/v1/contract/items?ids={contract['id']},1")[0]["name"] == "RTYZ6"
    assert tradovate.call("GET", "/v1/contract/find?name=").status_code == 404
    suggested = [row["name"] for row in tradovate.get("/v1/contract/suggest?t=ES&l=3")]
    assert len(suggested) == 3
    assert all(name.startswith("ES") for name in suggested)


def test_accounts_are_made_when_they_are_first_used(tradovate: Tradovate) -> None:
    tradovate.order(accountId=42, accountSpec="OTHER42")

    assert {(row["id"], row["name"]) for row in tradovate.get("/v1/account/list")} == {
        (123456, "DEMO123456"),
        (42, "OTHER42"),
    }
    assert tradovate.get("/v1/account/find?name=OTHER42")["id"] == 42
    assert len(tradovate.get("/v1/order/deps?masterid=42")) == 1


def test_the_account_spec_may_be_the_account_or_the_user_and_the_id_decides(
    tradovate: Tradovate, control: Control
) -> None:
    tradovate.order(accountSpec="MINE", accountId=123456)
    tradovate.order(accountSpec="trader", accountId=123456)
    tradovate.order(accountSpec="OTHER", accountId=123456)
    tradovate.order(accountSpec="trader", accountId=42)

    assert [row["account"] for row in control.orders()] == ["MINE", "MINE", "MINE", "42"]


def test_an_unknown_path_is_404(tradovate: Tradovate) -> None:
    assert tradovate.call("POST", "/v1/position/closeposition", {}).status_code == 404


SHAPES = [
    ("/order/list", "Order"),
    ("/orderVersion/list", "OrderVersion"),
    ("/command/list", "Command"),
    ("/commandReport/list", "CommandReport"),
    ("/executionReport/list", "ExecutionReport"),
    ("/fill/list", "Fill"),
    ("/position/list", "Position"),
    ("/orderStrategy/list", "OrderStrategy"),
    ("/orderStrategyLink/list", "OrderStrategyLink"),
    ("/account/list", "Account"),
    ("/product/list", "Product"),
    ("/contract/suggest?t=NQ&l=5", "Contract"),
]


def test_every_list_fits_the_brokers_own_schema(
    tradovate: Tradovate, control: Control, tradovate_schemas: dict[str, Any]
) -> None:
    control.price("ESZ6", 5300)
    tradovate.post("/v1/orderStrategy/startorderstrategy", strategy())
    tradovate.order("placeoso", price=5290, bracket1={**STOP, "stopPrice": 5280}, clOrdId="x", text="y")
    tradovate.order("placeoco", action="Sell", price=5310, other=STOP)

    for path, schema in SHAPES:
        rows = tradovate.get("/v1" + path)
        assert rows, path
        validate(rows, {"type": "array", "items": {"$ref": f"#/components/schemas/{schema}"}}, tradovate_schemas)


def test_replies_of_writes_fit_the_brokers_own_schema(tradovate: Tradovate, tradovate_schemas: dict[str, Any]) -> None:
    for operation, fields, schema in (
        ("placeorder", {}, "PlaceOrderResult"),
        ("placeorder", {"symbol": "MES"}, "PlaceOrderResult"),
        ("placeoco", {"action": "Sell", "price": 5310, "other": STOP}, "PlaceOcoResult"),
        ("placeoso", {"bracket1": STOP}, "PlaceOsoResult"),
    ):
        validate(tradovate.order(operation, **fields), {"$ref": f"#/components/schemas/{schema}"}, tradovate_schemas)
    validate(tradovate.log_in(), {"$ref": "#/components/schemas/AccessTokenResponse"}, tradovate_schemas)


def validate(value: Any, schema: dict[str, Any], document: dict[str, Any]) -> None:
    """OpenAPI 3.0 writes `exclusiveMinimum` as a boolean, as JSON Schema draft 4 does."""
    jsonschema.Draft4Validator({**schema, "components": document["components"]}).validate(value)
