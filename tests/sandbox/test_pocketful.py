"""Pocketful at the sandbox: regular, cover and bracket orders, both order books, and every form of its DELETE."""

from __future__ import annotations

import io
import json
import zipfile
from decimal import Decimal
from typing import Any

import pytest

from .conftest import Control, Pocketful, decoded


def test_a_regular_order_answers_its_oms_order_id(pocketful: Pocketful, control: Control) -> None:
    reply = pocketful.place()

    assert reply["message"] == "Order place successfully"
    assert list(reply["data"]) == ["oms_order_id"]
    row = pocketful.book("pending")[0]
    assert row["oms_order_id"] == reply["data"]["oms_order_id"]
    assert (row["user_order_id"], row["order_status"], row["mode"]) == ("10002", "CONFIRMED", "NEW")
    assert (row["instrument_token"], row["trading_symbol"], row["leg_order_indicator"]) == (14366, "IDEA-EQ", None)
    seen = control.orders()[0]
    assert (seen["client_order_id"], seen["symbol"], seen["account"]) == ("10002", "14366", "YG1234")


def test_the_row_keeps_the_last_activity_as_19_digits_of_text(pocketful: Pocketful) -> None:
    pocketful.place()

    reference = pocketful.book("pending")[0]["last_activity_reference"]
    assert isinstance(reference, str)
    assert len(reference) == 19


def test_an_order_moves_from_the_pending_to_the_completed_book(pocketful: Pocketful, control: Control) -> None:
    pocketful.place()
    assert pocketful.book("completed") == []

    control.price("14366", 12.95)
    assert pocketful.book("pending") == []
    row = pocketful.book("completed")[0]
    assert (row["order_status"], row["filled_quantity"], row["average_price"]) == ("COMPLETE", 1, 13)
    position = pocketful.get("/api/v1/positions?client_id=YG1234&type=live")["data"][0]
    assert (position["net_quantity"], position["product"], position["average_buy_price"]) == (1, "MIS", 13)
    trade = pocketful.get("/api/v1/trades?client_id=YG1234")["data"]["trades"][0]
    assert (trade["oms_order_id"], trade["trade_price"]) == (row["oms_order_id"], 13)
    assert control.get("/_control/positions")[0]["product"] == "MIS"


def test_a_price_can_name_the_exchange(pocketful: Pocketful, control: Control) -> None:
    pocketful.place()
    pocketful.place(exchange="BSE")

    control.price("NSE:14366", 12)
    assert control.states() == ["filled", "working"]
    control.price("14366", 12)
    assert control.states() == ["filled", "filled"]


@pytest.mark.parametrize(
    ("fields", "hit"),
    [
        ({"order_type": "SL", "price": 14, "trigger_price": 13.5}, 13.5),
        ({"order_type": "SLM", "price": 0, "trigger_price": 13.5}, 13.5),
    ],
)
def test_a_stop_order_is_trigger_pending_first(
    pocketful: Pocketful, control: Control, fields: dict[str, Any], hit: float
) -> None:
    pocketful.place(**fields)
    assert pocketful.book("pending")[0]["order_status"] == "TRIGGER PENDING"

    control.price("14366", hit)
    assert control.states() == ["filled"]


def test_a_market_order_fills_at_the_price_it_carries_while_none_is_known(
    pocketful: Pocketful, control: Control
) -> None:
    pocketful.place(order_type="MARKET", price=34.8)
    pocketful.place(order_type="MARKET", price=0, instrument_token="3045")

    assert [row["average_price"] for row in control.orders()] == [Decimal("34.8"), 100]


DELETES = ["query", "body", "both", "json query", "no execution type", "no id in path"]


@pytest.mark.parametrize("form", DELETES)
def test_a_regular_order_is_cancelled_however_the_parameters_come(
    pocketful: Pocketful, control: Control, form: str
) -> None:
    number = pocketful.place()["data"]["oms_order_id"]
    wanted = {"oms_order_id": number, "client_id": "YG1234", "execution_type": "REGULAR"}
    path, body, query = f"/api/v1/orders/{number}", None, None
    if form in ("query", "both"):
        query = wanted
    if form in ("body", "both"):
        body = wanted
    if form == "json query":
        query = json.dumps(wanted)
    if form == "no execution type":
        query = {"client_id": "YG1234"}
    if form == "no id in path":
        path, body = "/api/v1/orders/", wanted

    reply = decoded(pocketful.call("DELETE", path, body, params=query))

    assert reply["data"] == {"oms_order_id": number}
    assert reply["message"] == f"Order cancellation request submitted for OMS Order: {number}"
    assert control.states() == ["canceled"]
    assert pocketful.book("completed")[0]["order_status"] == "CANCEL_CONFIRMED"


def test_a_regular_order_is_modified_by_a_put(pocketful: Pocketful, control: Control) -> None:
    number = pocketful.place()["data"]["oms_order_id"]

    reply = decoded(
        pocketful.call(
            "PUT", "/api/v1/orders", {**Pocketful.BODY, "oms_order_id": number, "price": 12.5, "quantity": 3}
        )
    )

    assert reply["message"] == "Order modification request submitted"
    assert (control.orders()[0]["price"], control.orders()[0]["quantity"]) == (Decimal("12.5"), 3)
    assert pocketful.book("pending")[0]["order_status"] == "MODIFY_CONFIRMED"


def test_a_cover_order_answers_a_basket_id_two_levels_deep_and_no_order_id(
    pocketful: Pocketful, control: Control
) -> None:
    reply = pocketful.kart()

    assert sorted(reply["data"]["data"]) == ["basket_id", "message"]
    assert "oms_order_id" not in json.dumps(reply)
    row = pocketful.book("pending")[0]
    assert (row["execution_type"], row["leg_order_indicator"]) == ("CO", "ENTRY")
    assert row["exchange_order_id"]


def test_a_filled_cover_order_gets_its_stop_as_third_leg(pocketful: Pocketful, control: Control) -> None:
    pocketful.kart()
    control.price("14366", 13)

    entry, stop = pocketful.book("completed")[0], pocketful.book("pending")[0]
    assert (entry["order_status"], entry["leg_order_indicator"]) == ("COMPLETE", "ENTRY")
    assert (stop["order_status"], stop["leg_order_indicator"]) == ("TRIGGER PENDING", "THIRD")
    assert stop["user_order_id"] == entry["user_order_id"] == "10002"
    assert (stop["trigger_price"], stop["order_side"]) == (12, "SELL")
    assert control.orders()[1]["parent_id"] == control.orders()[0]["broker_id"]
    control.price("14366", 12)
    assert control.states() == ["filled", "filled"]
    assert control.positions() == []


def test_stop_loss_value_is_a_price_or_a_distance_by_setting(pocketful: Pocketful, control: Control) -> None:
    control.behave("pocketful", stop_loss_value="distance")
    pocketful.kart(price=77.9, stop_loss_value=1)
    control.price("14366", 77.9)

    assert control.orders()[1]["stop_price"] == Decimal("76.9")


@pytest.mark.parametrize(("side", "price", "stop"), [("BUY", 12, 12), ("BUY", 11, 12), ("SELL", 13, 12)])
def test_a_cover_order_on_the_wrong_side_of_its_stop_is_refused(
    pocketful: Pocketful, control: Control, side: str, price: int, stop: int
) -> None:
    reply = pocketful.kart(order_side=side, price=price, stop_loss_value=stop)

    assert reply["error_code"] == 44000
    assert "stop_loss_value" in reply["message"]
    assert control.orders() == []


def test_cancelling_an_unfilled_cover_entry_cancels_the_basket(pocketful: Pocketful, control: Control) -> None:
    basket = pocketful.kart()["data"]["data"]["basket_id"]

    reply = pocketful.cancel_row(pocketful.book("pending")[0])

    assert reply == {
        "data": {"basket_id": basket, "message": "Order Cancelled Successfully"},
        "message": "",
        "status": "success",
    }
    assert control.states() == ["canceled"]
    control.price("14366", 12)
    assert control.positions() == []


def test_cancelling_the_stop_of_a_filled_cover_order_exits_at_market(pocketful: Pocketful, control: Control) -> None:
    pocketful.kart()
    control.price("14366", 13)

    pocketful.cancel_row(pocketful.book("pending")[0], leg_order_indicator="Third")

    assert control.states() == ["filled", "canceled", "filled"]
    assert control.positions() == []


def test_a_trailing_cover_order_pulls_its_stop_up(pocketful: Pocketful, control: Control) -> None:
    pocketful.kart(is_trailing=True, trailing_stop_loss="0.05")
    control.price("14366", 13)

    control.price("14366", 15)
    assert control.orders()[1]["type"] == "trailing_stop"
    assert control.orders()[1]["stop_price"] == 14
    control.price("14366", 13.9)
    assert control.positions() == []


def test_a_bracket_order_has_target_and_stop_by_distance(pocketful: Pocketful, control: Control) -> None:
    pocketful.kart(execution_type="BO", stop_loss_value=1, square_off_value=2)
    control.price("14366", 13)

    legs = {row["leg_order_indicator"]: row for row in pocketful.book("pending")}
    assert sorted(legs) == ["SECOND", "THIRD"]
    assert (legs["SECOND"]["price"], legs["THIRD"]["trigger_price"]) == (15, 12)
    control.price("14366", 15)
    assert control.states() == ["filled", "filled", "canceled"]


def test_cancelling_one_leg_of_a_bracket_ends_the_other_too(pocketful: Pocketful, control: Control) -> None:
    pocketful.kart(execution_type="BO", stop_loss_value=1, square_off_value=2)
    control.price("14366", 13)

    pocketful.cancel_row(pocketful.book("pending")[0], status="CONFIRMED")

    assert control.states() == ["filled", "canceled", "canceled", "filled"]
    assert control.positions() == []


def test_a_kart_order_is_modified_with_its_last_activity(pocketful: Pocketful, control: Control) -> None:
    pocketful.kart()
    row = pocketful.book("pending")[0]
    body = {
        "client_id": "YG1234",
        "execution_type": "CO",
        "oms_order_id": row["oms_order_id"],
        "exchange_order_id": row["exchange_order_id"],
        "price": 12.5,
    }

    rounded = str(int(float(row["last_activity_reference"]) + 512))
    stale = decoded(pocketful.call("PUT", "/api/v1/orders/kart", {**body, "last_activity_reference": rounded}))
    assert stale["error_code"] == 45000
    good = {**body, "last_activity_reference": row["last_activity_reference"]}
    assert decoded(pocketful.call("PUT", "/api/v1/orders/kart", good))["data"]["message"].endswith("Successfully")
    assert control.orders()[0]["price"] == Decimal("12.5")


def test_the_exchange_order_id_can_show_late_and_a_cancel_without_it_is_refused(
    pocketful: Pocketful, control: Control
) -> None:
    control.behave("pocketful", exchange_id_delay=2)
    pocketful.kart()

    first = pocketful.book("pending")[0]
    assert first["exchange_order_id"] == ""
    refused = pocketful.cancel_row(first)
    assert (refused["error_code"], refused["message"]) == (44000, "`exchange_order_id` can't be blank")
    assert pocketful.book("pending")[0]["exchange_order_id"] == ""
    assert pocketful.cancel_row(pocketful.book("pending")[0])["status"] == "success"


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({"product": "MTF"}, 44000, "`product` is invalid"),
        ({"exchange": "NYSE"}, 44000, "`exchange` is invalid"),
        ({"order_type": "STOP"}, 44000, "`order_type` is invalid"),
        ({"validity": ""}, 44000, "`validity` can't be blank"),
        ({"user_order_id": "abc"}, 44000, "`user_order_id` is invalid"),
        ({"order_type": "SL"}, 44000, "`trigger_price` is invalid"),
        ({"price": 0}, 45000, "Invalid `Price`"),
        ({"quantity": 0}, 45000, "Invalid `Quantity`"),
        ({"quantity": 1.5}, 45000, "Invalid `Quantity`"),
        ({"instrument_token": "IDEA"}, 45010, "Something Went Wrong"),
        ({"execution_type": "CO"}, 44000, "`execution_type` is invalid"),
    ],
)
def test_an_error_comes_in_the_documented_envelope(
    pocketful: Pocketful, control: Control, fields: dict[str, Any], code: int, message: str
) -> None:
    reply = pocketful.place(**fields)

    assert reply == {"data": {}, "error_code": code, "message": message, "status": "error"}
    assert control.orders() == []
    control.behave("pocketful", error_status=200)
    assert pocketful.call("POST", "/api/v1/orders", {**Pocketful.BODY, **fields}).status_code == 200


def test_without_a_token_reads_are_forbidden_and_writes_unauthorised(pocketful: Pocketful) -> None:
    for headers in ({}, {"x-authorization-token": "wrong"}):
        pocketful.headers = headers
        read = pocketful.call("GET", "/api/v1/orders?type=pending&client_id=YG1234")
        write = pocketful.call("POST", "/api/v1/orders", Pocketful.BODY)
        assert (read.status_code, read.json()["message"]) == (401, "Request forbidden")
        assert (write.json()["error_code"], write.json()["message"]) == (40000, "Request Unauthorised")


def test_an_unknown_book_or_position_type_is_invalid(pocketful: Pocketful) -> None:
    for path in ("/api/v1/orders?type=all&client_id=YG1234", "/api/v1/positions?client_id=YG1234"):
        assert pocketful.get(path)["message"] == "`type` is invalid"


def test_history_has_its_key_with_a_space(pocketful: Pocketful, control: Control) -> None:
    number = pocketful.place()["data"]["oms_order_id"]
    control.price("14366", 12)

    data = pocketful.get(f"/api/v1/order/{number}/history?client_id=YG1234")["data"]

    assert sorted(data) == ["message", "order history", "status"]
    assert [row["status"] for row in data["order history"]] == ["COMPLETE", "CONFIRMED"]


@pytest.mark.parametrize(("setting", "kind"), [("pin", "PIN"), ("totp", "TOTP")])
def test_a_direct_login_takes_two_steps(pocketful: Pocketful, control: Control, setting: str, kind: str) -> None:
    control.behave("pocketful", twofa=setting)
    pocketful.headers = {}
    first = pocketful.post("/api/v3/user/login", {"channel_id": "XYZ001", "channel_secret": "pw"})["data"]["twofa"]
    question = first["questions"][0]["question_id"]
    body = {
        "login_id": "XYZ001",
        "twofa": [{"question_id": question, "answer": "1234"}],
        "twofa_token": first["twofa_token"],
        "type": kind,
        "device_type": "web",
    }

    wrong = pocketful.post("/api/v3/user/twofa", {**body, "type": "PIN" if kind == "TOTP" else "TOTP"})
    token = pocketful.post("/api/v3/user/twofa", body)["data"]["auth_token"]

    assert wrong["error_code"] == 40000
    pocketful.headers = {"x-authorization-token": token}
    assert pocketful.get("/api/v1/user/trading_info")["data"]["client_id"] == "XYZ001"


def test_the_instrument_master_is_a_zip_and_needs_no_login(pocketful: Pocketful) -> None:
    pocketful.headers = {}
    reply = pocketful.call("GET", "/api/v1/contract/Compact?info=download&exchanges=NSE,MCX")

    with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
        assert archive.namelist() == ["NSECompactScrip.csv", "MCXCompactScrip.csv"]
        lines = archive.read("NSECompactScrip.csv").decode().splitlines()
    assert lines[0].startswith("exchange_token,trading_symbol")
    assert any(line.startswith("14366,IDEA-EQ") for line in lines)


def test_scrip_facts_search_and_last_price_are_read(pocketful: Pocketful, control: Control) -> None:
    control.price("NSE:14366", "13.37")

    assert pocketful.get("/api/v1/contract/NSE?info=scrip&token=14366")["result"]["tick_size"] == Decimal("0.01")
    assert pocketful.get("/api/v1/search?key=idea")["result"][0]["token"] == 14366
    last = pocketful.get("/api/v1/marketdata/NSE/Capital?token=14366&key=last_trade_price")
    assert last == {"data": Decimal("13.37"), "message": "", "status": "success"}
    assert pocketful.get("/api/v1/holdings?client_id=YG1234")["data"] == {"holdings": []}
    assert pocketful.get("/api/v2/funds/view?client_id=YG1234&type=all")["status"] == "success"
