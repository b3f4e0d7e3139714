"""A client that others wrote agrees with the sandbox about Pocketful's wire: only its address is replaced."""

from __future__ import annotations

from typing import Any

import pocketful.pocketful as library
import pytest
import requests

from bridge.sandbox import Sandbox

from .conftest import Control

PARAMETERS = {
    "exchange": "NSE",
    "instrument_token": "14366",
    "client_id": "YG1234",
    "order_type": "LIMIT",
    "price": 13,
    "quantity": 1,
    "disclosed_quantity": 0,
    "validity": "DAY",
    "product": "MIS",
    "order_side": "BUY",
    "device": "WEB",
    "execution_type": "CO",
    "is_trailing": True,
    "stop_loss_value": 12,
    "trailing_stop_loss": "0.05",
    "trigger_price": 0,
    "user_order_id": 10002,
}


@pytest.fixture
def client(sandbox: Sandbox, control: Control, monkeypatch: pytest.MonkeyPatch) -> library.Pocketful:
    def no_lookup(url: str, **kwargs: Any) -> requests.Response:
        raise requests.ConnectionError(f"{url} is out of reach")  # the client goes on without its public address

    with monkeypatch.context() as patched:
        patched.setattr(library.Pocketful, "_root_url", sandbox.url)
        patched.setattr(library.requests, "get", no_lookup)
        return library.Pocketful(clientId="YG1234", access_token="token")


def test_it_places_and_cancels_a_cover_order(client: library.Pocketful, control: Control) -> None:
    placed = client.placeConditionalOrder(dict(PARAMETERS))
    assert placed["data"]["data"]["basket_id"]

    row = next(row for row in client.getPendingOrder()["data"]["orders"] if row["user_order_id"] == "10002")
    cancelled = client.cancelConditionalOrder(
        {
            "client_id": "YG1234",
            "exchange_order_id": row["exchange_order_id"],
            "execution_type": "CO",
            "leg_order_indicator": row["leg_order_indicator"],
            "oms_order_id": row["oms_order_id"],
        }
    )

    assert cancelled["data"]["basket_id"] == placed["data"]["data"]["basket_id"]
    assert control.states() == ["canceled"]
    assert client.getPendingOrder()["data"]["orders"] == []


def test_it_logs_in_and_trades_a_regular_order(client: library.Pocketful, control: Control) -> None:
    client.generateSession("XYZ001", "password", pin="1234")
    placed = client.placeOrder({**PARAMETERS, "execution_type": "REGULAR", "client_id": "XYZ001"})

    number = placed["data"]["oms_order_id"]
    assert client.getOrderHistory(number)["data"]["order history"]
    assert client.cancelOrder({"oms_order_id": number, "client_id": "XYZ001", "execution_type": "REGULAR"})["data"]
    assert client.getCompletedOrder()["data"]["orders"][0]["order_status"] == "CANCEL_CONFIRMED"
    assert client.getLtp("NSE", "14366")["status"] == "success"
    assert client.getPositionsDaywise()["data"] == []
