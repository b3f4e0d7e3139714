"""Every kind at Pocketful, in both styles of host and log-in, from the alert's body to the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.e2e.running import Running
from tests.rig import wait_for
from tests.wait import not_at_midnight_in_india

CLIENTS = {"pf": "YG1234", "pa": "YG5678"}
TYPES = {
    "market": ({}, {"order_type": "MARKET", "price": 0, "trigger_price": 0}),
    "limit": ({"price": "12.950"}, {"order_type": "LIMIT", "price": "12.95", "trigger_price": 0}),
    "stop": ({"stop": "13.5"}, {"order_type": "SLM", "price": 0, "trigger_price": "13.5"}),
    "stop_limit": ({"price": "13.6", "stop": "13.5"}, {"order_type": "SL", "price": "13.6", "trigger_price": "13.5"}),
}


@pytest.fixture(params=CLIENTS)
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def body_of(row: Mapping[str, Any]) -> dict[str, Any]:
    body = row["request"]["body"]
    assert isinstance(body, dict)
    return body


@pytest.mark.parametrize("of_type", TYPES)
@pytest.mark.parametrize("tif", ["day", "ioc"])
def test_a_plain_order_of_each_type_reaches_the_broker_as_it_should(bridge: Running, style: str, of_type: str,
                                                                    tif: str) -> None:
    fields, wire = TYPES[of_type]

    found = bridge.accepted(f"{style}_{of_type}", side="buy", quantity=2, tif=tif, **fields)

    (row,) = bridge.at_broker(found)
    assert row["request"]["path"] == "/api/v1/orders" and row["type"] == of_type
    assert body_of(row) == {
        "exchange": "NSE", "instrument_token": "14366", "client_id": CLIENTS[style], "amo": False, "quantity": 2,
        "disclosed_quantity": 0, "validity": tif.upper(), "product": "MIS", "order_side": "BUY", "device": "WEB",
        "user_order_id": int(found["client_order_id"]), "execution_type": "REGULAR", **wire}


def test_each_style_has_its_own_header(bridge: Running, style: str) -> None:
    found = bridge.accepted(f"{style}_limit", side="buy", quantity=1, price=12)

    headers = {name.lower() for name in bridge.at_broker(found)[0]["request"]["headers"]}
    assert ("x-authorization-token" in headers) == (style == "pa") and ("authorization" in headers) == (style == "pf")


def test_a_cover_order_sends_its_stop_as_the_account_says(bridge: Running, style: str) -> None:
    if style == "pa":
        bridge.control("behaviour", broker="pocketful", stop_loss_value="distance")

    found = bridge.accepted(f"{style}_cover", side="buy", quantity=1, price="12.5", stop="12.2")

    entry = bridge.at_broker(found)[0]
    assert entry["request"]["path"] == "/api/v1/orders/kart" and body_of(entry)["execution_type"] == "CO"
    assert body_of(entry)["stop_loss_value"] == {"pf": "12.2", "pa": "0.3"}[style]
    bridge.price("14366", "12.5")
    wait_for(lambda: [row["stop_price"] for row in bridge.at_broker(found)[1:] if row["state"] == "working"]
             == ["12.2"])
    bridge.price("14366", "13")
    bridge.control("behaviour", broker="pocketful", stop_loss_value="price")


def test_a_bracket_order_sends_distances(bridge: Running, style: str) -> None:
    found = bridge.accepted(f"{style}_oso", side="buy", quantity=1, price="12.4", stop="12.1", target="12.9")

    entry = bridge.at_broker(found)[0]
    body = body_of(entry)
    assert (body["execution_type"], body["stop_loss_value"], body["square_off_value"]) == ("BO", "0.3", "0.5")
    bridge.price("14366", "12.4")
    wait_for(lambda: {row["state"] for row in bridge.at_broker(found)} == {"filled", "working"})
    bridge.price("14366", "13")
    wait_for(lambda: sorted(row["state"] for row in bridge.at_broker(found)) == ["canceled", "filled", "filled"])


@pytest.mark.parametrize("kind", ["limit", "cover", "oso"])
def test_a_cancel_reads_the_ids_from_the_order_book(bridge: Running, style: str, kind: str) -> None:
    if kind == "cover" and style == "pa":
        bridge.control("behaviour", broker="pocketful", stop_loss_value="distance")
    fields = {"limit": {}, "cover": {"stop": 10}, "oso": {"stop": 10, "target": 12}}[kind]
    found = bridge.accepted(f"{style}_{kind}", side="buy", quantity=1, price=11, ref=f"c-{kind}", **fields)

    bridge.accepted(f"{style}_cancel", ref=f"c-{kind}")

    assert {row["state"] for row in bridge.at_broker(found)} == {"canceled"}
    made = [each for each in bridge.control("requests") if each["method"] == "DELETE"][-1]
    assert made["path"].startswith("/api/v1/orders/" if kind == "limit" else "/api/v1/orders/kart/")
    assert made["query"] and bool(made["body"]) == (style == "pf")
    bridge.control("behaviour", broker="pocketful", stop_loss_value="price")


def test_a_cancel_waits_for_the_exchange_id(bridge: Running, style: str) -> None:
    bridge.control("behaviour", broker="pocketful", exchange_id_delay=4, stop_loss_value="distance")
    found = bridge.accepted(f"{style}_oso", side="buy", quantity=1, price=11, stop=10, target=12, ref="late")

    bridge.accepted(f"{style}_cancel", ref="late")

    assert {row["state"] for row in bridge.at_broker(found)} == {"canceled"}
    bridge.control("behaviour", broker="pocketful", exchange_id_delay=0, stop_loss_value="price")


def test_a_close_sends_the_opposite_of_what_is_open(bridge: Running, style: str) -> None:
    bridge.accepted(f"{style}_market", side="buy", quantity=5)
    resting = bridge.accepted(f"{style}_limit", side="buy", quantity=1, price=11)
    assert bridge.position(CLIENTS[style], "14366") > 0

    bridge.accepted(f"{style}_close")

    assert {row["state"] for row in bridge.at_broker(resting)} == {"canceled"}
    wait_for(lambda: bridge.position(CLIENTS[style], "14366") == 0)
    assert "nothing" in bridge.accepted(f"{style}_close")["reason"]


def test_error_codes_become_words(bridge: Running, style: str) -> None:
    bridge.fault("pocketful", "place", "reject")

    found = bridge.until(bridge.send(f"{style}_limit", side="buy", quantity=1, price=11), "rejected")

    assert "4" in found["reason"] and len(found["reason"]) > 20


@pytest.mark.parametrize("kind", ["limit", "oso"])
def test_a_lost_reply_is_found_in_the_order_books_and_never_sent_again(bridge: Running, style: str, kind: str) -> None:
    bridge.fault("pocketful", {"limit": "place", "oso": "place_bo"}[kind], "drop_after")
    fields = {"limit": {}, "oso": {"stop": 10, "target": 12}}[kind]

    found = bridge.accepted(f"{style}_{kind}", side="buy", quantity=1, price=11, **fields)

    assert len([row for row in bridge.at_broker(found) if row["state"] == "working"]) == 1
    assert "unknown" in [each["state"] for each in found["history"]]


def test_an_order_that_never_arrived_is_proven_absent_and_sent_once_more(bridge: Running, style: str) -> None:
    not_at_midnight_in_india()
    bridge.fault("pocketful", "place", "drop_before")

    found = bridge.accepted(f"{style}_limit", side="buy", quantity=1, price=11)

    assert len(bridge.at_broker(found)) == 1
    assert [each["state"] for each in found["history"]][:4] == ["queued", "submitting", "unknown", "queued"]
