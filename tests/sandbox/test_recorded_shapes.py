"""The sandbox's replies have the fields of those recorded from the brokers' pages and from real accounts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import DATA, Control, CrossTrade, Pocketful


def recorded(broker: str, operation: str) -> Any:
    """The body of the recorded reply of that name."""
    path = DATA / f"{broker}-cases.json"
    if not path.exists():
        pytest.skip(f"needs ../shared/data/{broker}-cases.json beside the repository")
    return next(case["response"]["body"] for case in json.loads(path.read_text()) if case["operation"] == operation)


def test_pocketful_order_rows_have_every_recorded_field_and_type(pocketful: Pocketful, control: Control) -> None:
    real = recorded("pocketful", "order book row: CO REJECTED")["data"]["orders"][0]
    control.fault("pocketful", "place_co", "reject_later")
    pocketful.kart()

    row = pocketful.book("completed")[0]
    assert set(row) == set(real)
    kept = ("mode", "order_status", "leg_order_indicator", "execution_type", "pro_cli", "target_price_type")
    assert {name: row[name] for name in kept} == {name: real[name] for name in kept}
    texts = [name for name, value in real.items() if isinstance(value, str)]
    assert all(isinstance(row[name], str) for name in texts)


def test_pocketful_positions_and_trades_have_the_recorded_fields(pocketful: Pocketful, control: Control) -> None:
    pocketful.place(order_type="MARKET")

    real = recorded("pocketful", "positions live (day) (success)")["data"][0]
    assert set(pocketful.get("/api/v1/positions?client_id=YG1234&type=live")["data"][0]) == set(real)
    trade = recorded("pocketful", "PACE trade book (success)")["data"]["trades"][0]
    assert set(pocketful.get("/api/v1/trades?client_id=YG1234")["data"]["trades"][0]) <= set(trade)


@pytest.mark.parametrize(
    "operation",
    ["place after-market order (success)", "cancel cover order (success)", "PACE place cover order (success)"],
)
def test_pocketful_acknowledgements_nest_as_recorded(pocketful: Pocketful, operation: str) -> None:
    pocketful.kart()
    real = recorded("pocketful", operation)

    replies = {
        "place after-market order (success)": lambda: pocketful.place(execution_type="amo"),
        "cancel cover order (success)": lambda: pocketful.cancel_row(pocketful.book("pending")[0]),
        "PACE place cover order (success)": pocketful.kart,
    }
    assert shape(replies[operation]()) == shape(real)


def test_crosstrade_replies_have_the_recorded_fields(crosstrade: CrossTrade, control: Control) -> None:
    account = "/v1/api/accounts/Sim101"
    control.price("MES 12-25", 5779)
    crosstrade.place(instrument="MES 12-25", orderType="MARKET", limitPrice=None, orderId="mine", quantity=9)

    for operation, reply in (
        ("order lifecycle", crosstrade.get(account + "/orders/mine/lifecycle")),
        ("get order status", crosstrade.get(account + "/orders/mine/status")),
        ("list positions, all accounts", crosstrade.get("/v1/api/positions")),
        ("get one position", crosstrade.get(account + "/position?instrument=MES%2012-25")),
        ("close position", crosstrade.post(account + "/positions/close", {"instrument": "MES 12-25", "quantity": 4})),
        ("flatten everything with filters", crosstrade.post("/v1/api/positions/flatten", {"instrument": "MES 12-25"})),
    ):
        assert shape(reply) == shape(recorded("crosstrade", operation)), operation


def shape(value: Any) -> Any:
    """The names in a reply, first row of each list only."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    return [shape(item) for item in value[:1]] if isinstance(value, list) else None
