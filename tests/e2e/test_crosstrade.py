"""Every kind at CrossTrade, over REST and over the WebSocket, from the alert's body to the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.e2e.running import Running

WAYS = ("nt", "ws")
ACCOUNTS = {"nt": "Sim101", "ws": "Sim102"}
TYPES = {
    "market": ({}, {"orderType": "MARKET"}),
    "limit": ({"price": "5290.250"}, {"orderType": "LIMIT", "limitPrice": "5290.25"}),
    "stop": ({"stop": 5310}, {"orderType": "STOPMARKET", "stopPrice": 5310}),
    "stop_limit": ({"price": 5312, "stop": 5310}, {"orderType": "STOPLIMIT", "limitPrice": 5312, "stopPrice": 5310}),
}
TITLE = {"MARKET": "Market", "LIMIT": "Limit", "STOPMARKET": "StopMarket", "STOPLIMIT": "StopLimit", "BUY": "Buy",
         "DAY": "Day", "GTC": "Gtc"}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def sent(way: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked of the broker, checked for the way it went."""
    made = row["request"]
    if way == "ws":
        assert made["method"] == "WS" and made["path"] == "/ws/stream"
        assert made["body"]["action"] == "rpc" and made["body"]["id"]
        args = dict(made["body"]["args"])
        assert args.pop("account") == ACCOUNTS[way]
        return args
    assert made["method"] == "POST" and made["path"] == f"/v1/api/accounts/{ACCOUNTS[way]}/orders/place"
    return dict(made["body"])


@pytest.mark.parametrize("of_type", TYPES)
@pytest.mark.parametrize("tif", ["day", "gtc"])
def test_a_plain_order_of_each_type_reaches_the_broker_as_it_should(bridge: Running, way: str, of_type: str,
                                                                    tif: str) -> None:
    fields, wire = TYPES[of_type]

    found = bridge.accepted(f"{way}_{of_type}", side="buy", quantity=2, tif=tif, **fields)

    (row,) = bridge.at_broker(found)
    expected = {"instrument": "ES 12-26", "action": "BUY", "quantity": 2, "timeInForce": tif.upper(),
                "orderId": found["id"], **wire}
    if way == "ws":
        expected = {name: TITLE.get(str(value), value) for name, value in expected.items()}
    assert sent(way, row) == expected and row["type"] == of_type


def test_an_oco_is_two_places_that_share_a_fresh_id(bridge: Running, way: str) -> None:
    one = bridge.accepted(f"{way}_oco", side="sell", quantity=1, price=5320, stop=5270)
    two = bridge.accepted(f"{way}_oco", side="sell", quantity=1, price=5330, stop=5260)

    limit, stop = bridge.settled(one, "working", "working")
    assert sent(way, limit)["ocoId"] == sent(way, stop)["ocoId"] != sent(way, bridge.at_broker(two)[0])["ocoId"]
    assert stop["client_order_id"] == f"{one['id']}.other"

    bridge.price("ES 12-26", "5321")
    bridge.settled(one, "filled", "canceled")
    bridge.price("ES 12-26", "5300")
    bridge.settled(two, "working", "working")


def test_the_first_half_of_an_oco_is_undone_when_the_second_is_refused(bridge: Running, way: str) -> None:
    bridge.fault("crosstrade", "place", "delay", seconds=0)  # meets the first half, so that the next meets the second
    bridge.fault("crosstrade", "place", "reject")

    order = bridge.send(f"{way}_oco", side="sell", quantity=1, price=5340, stop=5250)
    found = bridge.until(order, "rejected")

    rows = bridge.at_broker(found)
    assert rows[0]["state"] == "canceled" and {row["state"] for row in rows[1:]} <= {"rejected"}
    assert [call["step"] for call in found["calls"] if call["write"]] == ["entry", "other", "undo.entry"]


def test_an_atm_strategy_owns_the_legs(bridge: Running, way: str) -> None:
    found = bridge.accepted(f"{way}_oso", side="buy", quantity=1)

    entry, *legs = bridge.at_broker(found)
    assert sent(way, entry)["strategy"] == "MyAtmStrategy" and len(legs) == 2
    assert {leg["parent_id"] for leg in legs} == {entry["broker_id"]}


def test_a_cancel_withdraws_and_one_of_an_order_that_is_gone_is_a_success(bridge: Running, way: str) -> None:
    found = bridge.accepted(f"{way}_limit", side="buy", quantity=1, price=5201, ref="r")

    bridge.accepted(f"{way}_cancel", ref="r")
    bridge.settled(found, "canceled")

    bridge.accepted(f"{way}_cancel", ref="r")


def test_cancelling_an_oco_withdraws_both_halves(bridge: Running, way: str) -> None:
    found = bridge.accepted(f"{way}_oco", side="buy", quantity=1, price=5203, stop=5403, ref="both")

    bridge.accepted(f"{way}_cancel", ref="both")

    bridge.settled(found, "canceled", "canceled")


def test_a_close_cancels_ours_and_closes_the_position(bridge: Running, way: str) -> None:
    bridge.accepted(f"{way}_market", side="buy", quantity=3)
    resting = bridge.accepted(f"{way}_limit", side="buy", quantity=1, price=5204)
    assert bridge.position(ACCOUNTS[way], "ES 12-26") > 0

    bridge.accepted(f"{way}_close")

    bridge.settled(resting, "canceled")
    assert bridge.position(ACCOUNTS[way], "ES 12-26") == 0
    assert "nothing" in bridge.accepted(f"{way}_close")["reason"]


def test_a_refusal_is_rejected_with_the_brokers_words(bridge: Running, way: str) -> None:
    bridge.fault("crosstrade", "place", "reject")

    order = bridge.send(f"{way}_limit", side="buy", quantity=1, price=5205)

    assert bridge.until(order, "rejected")["reason"]


def test_a_lost_reply_is_looked_up_by_our_own_id_and_never_sent_again(bridge: Running, way: str) -> None:
    bridge.fault("crosstrade", "place", "drop_after")

    found = bridge.accepted(f"{way}_limit", side="buy", quantity=1, price=5206)

    assert len(bridge.at_broker(found)) == 1
    assert "unknown" in [each["state"] for each in found["history"]]


def test_a_place_that_never_arrived_is_proven_absent_and_sent_once_more(bridge: Running, way: str) -> None:
    bridge.accepted(f"{way}_limit", side="buy", quantity=1, price=5201)  # by now the account has shown one of our ids
    bridge.fault("crosstrade", "place", "drop_before")

    found = bridge.accepted(f"{way}_limit", side="buy", quantity=1, price=5207)

    assert len(bridge.at_broker(found)) == 1
    assert [each["state"] for each in found["history"]][:4] == ["queued", "submitting", "unknown", "queued"]


def test_the_addons_408_on_a_write_is_unknown(bridge: Running, way: str) -> None:
    bridge.fault("crosstrade", "place", "http_408_before")

    bridge.until(bridge.send(f"{way}_limit", side="buy", quantity=1, price=5208), "unknown")


def test_a_rate_limit_is_waited_for(bridge: Running, way: str) -> None:
    bridge.fault("crosstrade", "place", "rate_limit")

    found = bridge.accepted(f"{way}_limit", side="buy", quantity=1, price=5209)

    assert len(bridge.at_broker(found)) == 1
