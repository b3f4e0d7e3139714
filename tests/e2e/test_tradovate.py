"""Every kind at Tradovate, from the alert's body to the wire."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import requests

from bridge.call import Call
from tests.brokers.tradovate_kit import HOME, Description
from tests.e2e.running import Running
from tests.rig import wait_for

TIMES = {"day": "Day", "gtc": "GTC", "ioc": "IOC", "fok": "FOK", "gtd": "GTD"}
TYPES = {
    "market": ({}, {"orderType": "Market"}),
    "limit": ({"price": "5290.250"}, {"orderType": "Limit", "price": "5290.25"}),
    "stop": ({"stop": 5310}, {"orderType": "Stop", "stopPrice": 5310}),
    "stop_limit": ({"price": 5312, "stop": 5310}, {"orderType": "StopLimit", "price": 5312, "stopPrice": 5310}),
    "mit": ({"price": 5280}, {"orderType": "MIT", "price": 5280}),
    "trailing_stop": ({"stop": 5310, "trail": "2.5"},
                      {"orderType": "TrailingStop", "stopPrice": 5310, "pegDifference": "2.5"}),
    "trailing_stop_limit": ({"price": 5312, "stop": 5310, "trail": 2},
                            {"orderType": "TrailingStopLimit", "price": 5312, "stopPrice": 5310, "pegDifference": 2}),
}


def body_of(row: Mapping[str, Any]) -> dict[str, Any]:
    body = row["request"]["body"]
    assert isinstance(body, dict)
    return body


@pytest.mark.parametrize("of_type", TYPES)
def test_a_plain_order_of_each_type_reaches_the_broker_as_it_should(bridge: Running, of_type: str) -> None:
    fields, wire = TYPES[of_type]

    found = bridge.accepted(f"tv_{of_type}", side="buy", quantity=2, **fields)

    (row,) = bridge.at_broker(found)
    assert row["request"]["path"] == "/v1/order/placeorder" and row["symbol"] == "ESZ6" and row["type"] == of_type
    assert body_of(row) == {"accountSpec": "DEMO123456", "accountId": 123456, "action": "Buy", "symbol": "ESZ6",
                            "orderQty": 2, "timeInForce": "Day", "isAutomated": True, "clOrdId": found["id"], **wire}


@pytest.mark.parametrize("tif", TIMES)
def test_each_time_in_force_reaches_the_broker(bridge: Running, tif: str) -> None:
    until = {"until": "2030-01-02T03:04:05Z"} if tif == "gtd" else {}

    found = bridge.accepted("tv_limit", side="sell", quantity=1, price=5305, tif=tif, **until)

    body = body_of(bridge.at_broker(found)[0])
    assert body["timeInForce"] == TIMES[tif]
    assert body.get("expireTime") == ("2030-01-02T03:04:05Z" if tif == "gtd" else None)


def test_a_cover_order_is_an_entry_that_brings_its_stop(bridge: Running) -> None:
    found = bridge.accepted("tv_cover", side="buy", quantity=3, price=5295, stop="5285.5")

    entry, stop = bridge.settled(found, "working", "suspended")
    assert entry["request"]["path"] == "/v1/order/placeoso" and stop["parent_id"] == entry["broker_id"]
    assert (stop["side"], stop["type"], stop["stop_price"], stop["price"]) == ("sell", "stop", "5285.5", None)

    bridge.price("ESZ6", "5295")
    bridge.settled(found, "filled", "working")
    bridge.price("ESZ6", "5285")
    bridge.settled(found, "filled", "filled")
    bridge.price("ESZ6", "5300")


def test_an_oco_is_two_orders_of_which_one_fill_cancels_the_other(bridge: Running) -> None:
    found = bridge.accepted("tv_oco", side="sell", quantity=1, price=5320, stop=5270)

    limit, stop = bridge.settled(found, "working", "working")
    assert limit["request"]["path"] == "/v1/order/placeoco" and limit["oco_id"] == stop["oco_id"] is not None
    assert stop["client_order_id"] == f"{found['id']}.other"

    bridge.price("ESZ6", "5321")
    bridge.settled(found, "filled", "canceled")
    bridge.price("ESZ6", "5300")


def test_an_oso_brings_stop_and_target_that_cancel_each_other(bridge: Running) -> None:
    found = bridge.accepted("tv_oso", side="sell", quantity=2, price=5310, stop=5320, target=5290)

    entry, stop, target = bridge.settled(found, "working", "suspended", "suspended")
    assert {stop["client_order_id"], target["client_order_id"]} == {f"{found['id']}.sl", f"{found['id']}.tp"}
    assert (stop["side"], stop["stop_price"], target["price"]) == ("buy", 5320, 5290)
    assert body_of(entry)["bracket1"]["timeInForce"] == "Day"

    bridge.price("ESZ6", "5310")
    bridge.settled(found, "filled", "working", "working")
    bridge.price("ESZ6", "5290")
    bridge.settled(found, "filled", "canceled", "filled")
    bridge.price("ESZ6", "5300")


def test_a_target_alone_travels_as_bracket1(bridge: Running) -> None:
    found = bridge.accepted("tv_target_only", side="buy", quantity=1, price=5290)

    _, target = bridge.at_broker(found)
    assert (target["type"], target["price"]) == ("limit", 5300)
    assert "bracket2" not in body_of(bridge.at_broker(found)[0])


def test_a_market_entry_with_distances_is_a_strategy_that_counts_from_the_fill(bridge: Running) -> None:
    bridge.price("ESZ6", "5301.25")

    found = bridge.accepted("tv_strategy", side="sell", quantity=1)

    entry, *legs = bridge.settled(found, "filled", "working", "working")
    assert entry["request"]["path"] == "/v1/orderStrategy/startorderstrategy"
    params = json.loads(body_of(entry)["params"])
    assert params["brackets"] == [{"qty": 1, "profitTarget": -10, "stopLoss": 5, "trailingStop": False}]
    assert {leg["stop_price"] or leg["price"] for leg in legs} == {"5306.25", "5291.25"}
    bridge.price("ESZ6", "5300")


def test_a_market_cover_with_a_distance_is_a_strategy_too(bridge: Running) -> None:
    found = bridge.accepted("tv_cover_market", side="buy", quantity=1)

    _, stop = bridge.settled(found, "filled", "working")
    assert (stop["side"], stop["stop_price"]) == ("sell", 5296)


def test_a_cancel_by_ref_withdraws_the_newest_of_that_name(bridge: Running) -> None:
    old = bridge.accepted("tv_limit", side="buy", quantity=1, price=5201, ref="r1")
    new = bridge.accepted("tv_limit", side="buy", quantity=1, price=5202, ref="r1")

    done = bridge.accepted("tv_cancel", ref="r1")

    bridge.settled(new, "canceled")
    assert bridge.at_broker(old)[0]["state"] == "working" and done["kind"] == "cancel"
    assert bridge.until(new["id"], "accepted", status="canceled")
    assert bridge.accepted("tv_cancel", ref="r1") and bridge.settled(old, "canceled")
    assert bridge.accepted("tv_cancel", ref="r1")["reason"] == "nothing to cancel"


@pytest.mark.parametrize(("template", "fields"), [
    ("tv_cover", {"price": 5203, "stop": 5200}), ("tv_oco", {"price": 5203, "stop": 5403}),
    ("tv_oso", {"price": 5203, "stop": 5200, "target": 5210})])
def test_cancelling_a_composed_order_leaves_nothing_of_it(bridge: Running, template: str,
                                                          fields: Mapping[str, Any]) -> None:
    found = bridge.accepted(template, side="buy", quantity=1, ref=f"c-{template}", **fields)

    bridge.accepted("tv_cancel", ref=f"c-{template}")

    assert {row["state"] for row in bridge.at_broker(found)} == {"canceled"}


def test_the_legs_of_a_filled_entry_stay_unless_they_are_named(bridge: Running) -> None:
    found = bridge.accepted("tv_oso", side="buy", quantity=1, price=5300, stop=5250, target=5350, ref="legs")
    bridge.settled(found, "filled", "working", "working")
    bridge.until(found["id"], "accepted", status="filled")

    bridge.accepted("tv_cancel", ref="legs")
    bridge.settled(found, "filled", "working", "working")

    bridge.accepted("tv_cancel_legs", ref="legs")
    bridge.settled(found, "filled", "canceled", "canceled")


def test_the_legs_of_a_strategy_are_cancelled_through_its_links(bridge: Running) -> None:
    found = bridge.accepted("tv_strategy", side="buy", quantity=1, ref="strategy")
    bridge.settled(found, "filled", "working", "working")
    bridge.until(found["id"], "accepted", status="filled")

    bridge.accepted("tv_cancel_legs", ref="strategy")

    bridge.settled(found, "filled", "canceled", "canceled")


def test_a_cancel_by_symbol_withdraws_all_of_ours_on_it(bridge: Running) -> None:
    found = [bridge.accepted("tv_limit", side="buy", quantity=1, price=price) for price in (5101, 5102, 5103)]

    bridge.accepted("tv_cancel_all")

    for each in found:
        bridge.settled(each, "canceled")


def test_a_close_flattens_and_one_with_nothing_open_is_a_success(bridge: Running) -> None:
    bridge.accepted("tv_market", side="buy", quantity=4)
    resting = bridge.accepted("tv_limit", side="buy", quantity=1, price=5104)
    assert bridge.position("DEMO123456", "ESZ6") != 0

    bridge.accepted("tv_close")

    bridge.settled(resting, "canceled")
    assert bridge.position("DEMO123456", "ESZ6") == 0
    bridge.accepted("tv_close")


def test_every_request_that_was_made_fits_the_brokers_own_description(bridge: Running) -> None:
    made = [each for each in requests.get(f"{bridge.sandbox}/_control/requests", timeout=5).json()
            if each["broker"] == "tradovate" and each["method"] == "POST" and "/auth/" not in each["path"]]

    assert {each["path"].rpartition("/")[2] for each in made} >= {
        "placeorder", "placeoco", "placeoso", "startorderstrategy", "cancelorder", "liquidateposition"}
    for each in made:
        Description().check(Call(operation="", method="POST", step="", write=True, body=each["body"],
                                 url=HOME.removesuffix("/") + each["path"].removeprefix("/v1")))


def test_a_refusal_is_rejected_with_the_brokers_words(bridge: Running) -> None:
    order = bridge.send("tv_limit", side="buy", quantity=1, price="5290.13")

    assert "increment" in bridge.until(order, "rejected")["reason"]


@pytest.mark.parametrize("fault", ["drop_after", "http_500_after"])
def test_a_lost_reply_is_looked_up_and_never_sent_again(bridge: Running, fault: str) -> None:
    bridge.fault("tradovate", "placeoso", fault)

    found = bridge.accepted("tv_oso", side="buy", quantity=1, price=5105, stop=5100, target=5110)

    assert len([row for row in bridge.at_broker(found) if row["parent_id"] is None]) == 1
    assert "unknown" in [each["state"] for each in found["history"]]


@pytest.mark.parametrize("fault", ["drop_before", "garbage"])
def test_what_cannot_be_found_is_unknown_and_waits_for_a_person(bridge: Running, fault: str) -> None:
    bridge.fault("tradovate", "placeorder", fault)

    order = bridge.send("tv_limit", side="buy", quantity=1, price=5106)
    found = bridge.until(order, "unknown")

    assert bridge.at_broker(found) == []
    wait_for(lambda: order in [each["id"] for each in bridge.ledger.orders(waiting=True)])
    assert order in [each["id"] for each in bridge.bridge("orders", "--waiting")]


@pytest.mark.parametrize("fault", ["rate_limit", "penalty_ticket", "expired_token"])
def test_what_was_not_executed_is_sent_again_once(bridge: Running, fault: str) -> None:
    bridge.fault("tradovate", "placeorder", fault)

    found = bridge.accepted("tv_limit", side="buy", quantity=1, price=5107)

    assert len(bridge.at_broker(found)) == 1
    assert "unknown" not in [each["state"] for each in found["history"]]


def test_the_log_in_happened_once_for_all_of_it_but_the_dead_token(bridge: Running) -> None:
    made = [each for each in bridge.control("requests") if each["path"].endswith("/auth/accesstokenrequest")]

    assert len(made) == 2
