"""Symbols as charts name them, from the alert to the wire, with the sandbox's own instrument master and no other network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conftest import GIVEN_REDIS
from tests.e2e.cells import ACCOUNTS
from tests.e2e.running import Running
from tests.rig import wait_for

TEMPLATE = """
account: ACCOUNT
alert:
  ticker: text
  command: {type: text, one_of: [buy, sell, exit, cancel]}
  quantity: {type: integer, optional: true}
  price: {type: number, optional: true}
max_age: 5m
orders:
  - when: alert.command in ("buy", "sell")
    kind: oso
    symbol: "{{ alert.ticker }}"
    side: "{{ alert.command }}"
    quantity: "{{ alert.quantity }}"
    type: limit
    price: "{{ alert.price }}"
    stop_loss: {ticks: 40}
    take_profit: {percent: 1}
  - {when: alert.command == "exit", kind: close, symbol: "{{ alert.ticker }}"}
  - {when: alert.command == "cancel", kind: cancel, symbol: "{{ alert.ticker }}"}
"""


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    if GIVEN_REDIS:
        pytest.skip("its folder of data is looked into")
    folder = tmp_path_factory.mktemp("indian")
    (folder / "templates").mkdir()
    (folder / "accounts.yaml").write_text(ACCOUNTS)
    for name, account in (("pf", "pf"), ("pa", "pf-algo")):
        (folder / "templates" / f"{name}.yaml").write_text(TEMPLATE.replace("ACCOUNT", account))
    found = Running(folder)
    try:
        wait_for(lambda: list((folder / ".bridge" / "instruments").glob("*.zip")))
        yield found
    finally:
        found.stop()


def listed(bridge: Running, name: str) -> dict[str, Any]:
    """What the sandbox's own search says of an instrument, for there the tokens change with the month."""
    url = f"{bridge.sandbox}/api/v1/search?key={name}"
    rows = requests.get(url, headers={"Authorization": "Bearer sandbox-token"}, timeout=5).json()["result"]
    found: dict[str, Any] = rows[0]
    return found


@pytest.mark.parametrize("style", ["pf", "pa"])
def test_a_share_goes_out_by_its_number_with_legs_in_its_own_ticks(bridge: Running, style: str) -> None:
    found = bridge.accepted(style, ticker="NSE:SBIN", command="buy", quantity=10, price=800)

    (row,) = bridge.at_broker(found)
    body = row["request"]["body"]
    assert (body["exchange"], body["instrument_token"]) == ("NSE", "3045")
    assert (body["stop_loss_value"], body["square_off_value"]) == (2, 8)
    assert bridge.show(found["id"])["symbol"] == "NSE:SBIN"


def test_the_front_future_goes_out_and_a_close_names_the_same_one(bridge: Running) -> None:
    front = listed(bridge, "NIFTY")
    bridge.price(str(front["token"]), "26000")
    found = bridge.accepted("pf", ticker="NSE:NIFTY1!", command="buy", quantity=75, price="26000")

    body = bridge.at_broker(found)[0]["request"]["body"]
    assert (body["exchange"], body["instrument_token"]) == (front["exchange"], str(front["token"]))
    assert body["stop_loss_value"] == 4
    wait_for(lambda: bridge.position("YG1234", body["instrument_token"]) == 75)
    bridge.accepted("pf", ticker="NSE:NIFTY1!", command="exit")
    wait_for(lambda: bridge.position("YG1234", body["instrument_token"]) == 0)


def test_a_cancel_by_symbol_needs_no_look_up(bridge: Running) -> None:
    found = bridge.accepted("pf", ticker="BSE:SBIN", command="buy", quantity=1, price=700)
    assert bridge.at_broker(found)[0]["request"]["body"]["instrument_token"] == "500112"

    bridge.accepted("pf", ticker="BSE:SBIN", command="cancel")

    bridge.settled(found, "canceled")


@pytest.mark.parametrize(("ticker", "quantity", "price", "field", "words"), [
    ("SBIN", 1, 800, "orders.0.symbol", "BSE:SBIN-A"), ("NSE:SBNI", 1, 800, "orders.0.symbol", "did you mean NSE:SBIN"),
    ("NSE:NIFTY1!", 74, 26000, "orders.0.quantity", "lot of 75"),
    ("NSE:SBIN", 1, 800.01, "orders.0.price", "0.05")])
def test_what_the_master_rules_out_is_refused_before_anything_is_sent(bridge: Running, ticker: str, quantity: int,
                                                                      price: float, field: str, words: str) -> None:
    before = len(bridge.control("requests"))

    answer = bridge.post("pf", ticker=ticker, command="buy", quantity=quantity, price=price)

    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == field and words in error["message"]
    assert not [each for each in bridge.control("requests")[before:] if each["method"] == "POST"]


def test_render_reads_the_kept_master_and_without_one_leaves_the_number_open(bridge: Running, tmp_path: Path) -> None:
    alert = json.dumps({"ticker": "NSE:SBIN", "command": "exit"})
    bridge.environ["BRIDGE_SANDBOX"] = bridge.sandbox
    (order,) = bridge.bridge("render", "pf", "--alert", "-", stdin=alert)["orders"]
    assert order["order"]["options"] == {"exchange": "NSE", "instrument_token": "3045", "trading_symbol": "SBIN-EQ"}

    bridge.environ["BRIDGE_DATA"] = str(tmp_path)
    try:
        (order,) = bridge.bridge("render", "pf", "--alert", "-", stdin=alert)["orders"]
    finally:
        del bridge.environ["BRIDGE_DATA"], bridge.environ["BRIDGE_SANDBOX"]
    assert order["order"]["options"]["instrument_token"] == "<from: instrument master>"
