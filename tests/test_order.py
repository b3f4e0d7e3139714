"""The rules that every broker would refuse an order by."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.numbers import dump_json
from bridge.order import (
    KINDS,
    NEEDS_PRICE,
    NEEDS_STOP,
    NEEDS_TRAIL,
    TIMES_IN_FORCE,
    TYPES,
    Leg,
    Order,
    Product,
    faults_of,
    opposite,
    order_from_json,
)

PLAIN = Order(kind="plain", symbol="ESZ6", side="buy", quantity=Decimal(2), type="limit", price=Decimal("5300.25"),
              time_in_force="day")
STOP = Leg(role="stop_loss", side="sell", type="stop", stop_price=Decimal(5295))
TARGET = Leg(role="take_profit", side="sell", type="limit", price=Decimal(5310))
OTHER = Leg(role="other", side="sell", type="stop", stop_price=Decimal(5290))
OCO = replace(PLAIN, kind="oco", side="sell", price=Decimal(5310), other=OTHER)


def faults(order: Order, **product: Any) -> dict[str, str]:
    return dict(faults_of(order, Product(**product)))


def test_sound_orders_have_no_faults() -> None:
    for order in (PLAIN, OCO, replace(PLAIN, kind="oso", stop_loss=STOP, take_profit=TARGET),
                  replace(PLAIN, kind="cover", stop_loss=STOP), Order(kind="close", symbol="ESZ6"),
                  Order(kind="cancel", ref="a"), Order(kind="cancel", symbol="ESZ6"),
                  Order(kind="cancel", options={"orderId": 5})):
        assert faults(order) == {}


@pytest.mark.parametrize(("change", "field", "words"), [
    ({"symbol": None}, "symbol", "is missing"), ({"symbol": "  "}, "symbol", "is missing"),
    ({"side": None}, "side", "is missing"), ({"side": "hold"}, "side", "neither buy nor sell"),
    ({"quantity": None}, "quantity", "is missing"), ({"quantity": Decimal(0)}, "quantity", "above zero"),
    ({"quantity": Decimal(-1)}, "quantity", "above zero"), ({"quantity": Decimal("1.37")}, "quantity", "whole number"),
    ({"quantity": Decimal(10**15)}, "quantity", "more than any"), ({"type": None}, "type", "is missing"),
    ({"type": "limt"}, "type", "none of"), ({"price": None}, "price", "is missing"),
    ({"price": Decimal(0)}, "price", "above zero"), ({"price": Decimal("-37.63")}, "price", "above zero"),
    ({"stop_price": Decimal(1)}, "stop_price", "has no stop_price"), ({"trail": Decimal(1)}, "trail", "does not trail"),
    ({"trail": Decimal(0)}, "trail", ""), ({"time_in_force": "forever"}, "time_in_force", "none of"),
    ({"time_in_force": "gtd"}, "expire_time", "needs it"),
    ({"expire_time": datetime(2026, 12, 1, tzinfo=UTC)}, "expire_time", "only for")])
def test_an_entry_with_one_wrong_field_is_refused_for_it(change: dict[str, Any], field: str, words: str) -> None:
    found = faults(replace(PLAIN, **change))

    assert words in found[field]


@pytest.mark.parametrize("kind", TYPES)
def test_each_type_has_the_prices_that_it_needs_and_no_other(kind: str) -> None:
    full = replace(PLAIN, type=kind, price=Decimal(1) if kind in NEEDS_PRICE else None,
                   stop_price=Decimal(1) if kind in NEEDS_STOP else None, trail=Decimal(1) if kind in NEEDS_TRAIL else None)

    assert faults(full) == {}
    for name, types in (("price", NEEDS_PRICE), ("stop_price", NEEDS_STOP), ("trail", NEEDS_TRAIL)):
        change: dict[str, Any] = {name: None if kind in types else Decimal(1)}
        wrong = replace(full, **change)
        assert name in faults(wrong), f"{kind} with a wrong {name}"


def test_a_price_below_zero_is_for_products_that_have_been_there() -> None:
    order = replace(PLAIN, symbol="CLF7", price=Decimal("-37.63"))

    assert "price" in faults(order)
    assert faults(order, may_be_negative=True) == {}


def test_fractions_are_for_products_that_come_in_them() -> None:
    assert faults(replace(PLAIN, quantity=Decimal("0.5")), whole_quantity=False) == {}


@pytest.mark.parametrize(("side", "price", "stop", "sound"), [
    ("buy", 100, 99, True), ("buy", 100, 100, False), ("buy", 100, 101, False), ("sell", 100, 101, True),
    ("sell", 100, 100, False), ("sell", 100, 99, False)])
@pytest.mark.parametrize("kind", ["cover", "oso"])
def test_a_stop_lies_below_a_buy_and_above_a_sell(kind: Any, side: Any, price: int, stop: int, sound: bool) -> None:
    leg = Leg(role="stop_loss", side=opposite(side), type="stop", stop_price=Decimal(stop))
    order = replace(PLAIN, kind=kind, side=side, price=Decimal(price), stop_loss=leg)

    assert ("stop_loss" in faults(order)) is not sound


def test_a_target_lies_above_a_buy_and_below_a_sell() -> None:
    assert "must be above" in faults(replace(PLAIN, kind="oso", take_profit=replace(TARGET, price=Decimal(5000))))["take_profit"]
    assert "must be below" in faults(replace(PLAIN, kind="oso", side="sell", take_profit=TARGET))["take_profit"]


def test_a_cover_has_its_stop_and_nothing_else() -> None:
    cover = replace(PLAIN, kind="cover")

    assert "compulsory" in faults(cover)["stop_loss"]
    assert "use kind: oso" in faults(replace(cover, stop_loss=STOP, take_profit=TARGET))["take_profit"]


def test_an_oso_has_brackets_or_named_legs_and_at_most_two() -> None:
    oso = replace(PLAIN, kind="oso")
    bracket = replace(STOP, role="bracket1")

    assert "either" in faults(replace(oso, stop_loss=STOP, brackets=(bracket,)))["brackets"]
    assert "at most two" in faults(replace(oso, brackets=(bracket,) * 3))["brackets"]
    assert "kind: oco" in faults(replace(oso, other=OTHER))["other"]


@pytest.mark.parametrize(("side", "own", "other", "field"), [
    # same side: one limit and one stop, the sell limit above the sell stop, the buy limit below the buy stop
    ("sell", ("limit", 110), ("sell", "stop", 90), None), ("sell", ("limit", 90), ("sell", "stop", 110), "other"),
    ("sell", ("stop", 90), ("sell", "limit", 110), None), ("sell", ("limit", 100), ("sell", "stop", 100), "other"),
    ("buy", ("limit", 90), ("buy", "stop", 110), None), ("buy", ("limit", 110), ("buy", "stop", 90), "other"),
    ("buy", ("limit", 90), ("buy", "limit", 95), "other.type"), ("sell", ("stop", 90), ("sell",
    "stop", 95), "other.type"),
    # opposite sides: a buy stop above a sell stop, or a buy limit below a sell limit
    ("buy", ("stop", 110), ("sell", "stop", 90), None), ("buy", ("stop", 90), ("sell", "stop", 110), "other"),
    ("sell", ("stop", 90), ("buy", "stop", 110), None), ("buy", ("limit", 90), ("sell", "limit", 110), None),
    ("buy", ("limit", 110), ("sell", "limit", 90), "other"), ("buy", ("limit", 90), ("sell",
    "stop", 80), "other.type")])
def test_the_halves_of_an_oco_fit_together(side: Any, own: tuple[str, int], other: tuple[Any, str, int], field: str | None) -> None:
    def prices(kind: str, at: int) -> dict[str, Any]:
        return {"type": kind, "price": Decimal(at) if kind == "limit" else None,
                "stop_price": Decimal(at) if kind == "stop" else None}

    order = replace(OCO, side=side, **prices(*own), other=Leg(role="other", side=other[0], **prices(*other[1:])))

    assert list(faults(order)) == ([field] if field else [])


def test_an_oco_takes_two_resting_orders() -> None:
    assert "is missing" in faults(replace(OCO, other=None))["other"]
    assert "market" in faults(replace(OCO, type="market", price=None))["type"]
    assert "market" in faults(replace(OCO, other=Leg(role="other", side="sell", type="market")))["type"]


def test_a_leg_is_held_to_its_own_type_and_time() -> None:
    oso = replace(PLAIN, kind="oso")

    assert "stop_loss.stop_price" in faults(replace(oso, stop_loss=replace(STOP, stop_price=None)))
    assert "stop_loss.type" in faults(replace(oso, stop_loss=replace(STOP, type="stp")))
    assert "stop_loss.expire_time" in faults(replace(oso, stop_loss=replace(STOP, time_in_force="gtd")))
    assert "stop_loss" in faults(replace(oso, stop_loss=replace(STOP, stop_price=None, offset=Decimal(0))))
    assert "brackets.1.price" in faults(replace(oso, brackets=(replace(STOP, role="bracket1"),
                                                              replace(TARGET, role="bracket2", price=None))))


def test_a_close_names_its_symbol_and_a_cancel_names_something() -> None:
    assert "closing everything at once cannot be expressed" in faults(Order(kind="close"))["symbol"]
    assert "names what it withdraws" in faults(Order(kind="cancel"))["ref"]


def test_exits_are_what_can_only_reduce() -> None:
    assert [kind for kind in KINDS if Order(kind=kind).is_exit] == ["cancel", "close"]  # type: ignore[arg-type]


PRICES = st.none() | st.decimals("-99999.99999", "99999.99999", places=5)
TIMES = st.none() | st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
OPTIONS = st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=5) | st.integers() | st.booleans(), max_size=3)


def legs(role: Any) -> st.SearchStrategy[Leg]:
    return st.builds(Leg, role=st.just(role), side=st.sampled_from(["buy",
    "sell"]), type=st.sampled_from(TYPES), price=PRICES,
                     stop_price=PRICES, offset=PRICES, trail=PRICES, time_in_force=st.sampled_from(TIMES_IN_FORCE),
                     expire_time=TIMES)


ORDERS = st.builds(
    Order, kind=st.sampled_from(KINDS), symbol=st.none() | st.text(max_size=6), side=st.sampled_from([None, "buy",
    "sell"]),
    quantity=PRICES, type=st.none() | st.sampled_from(TYPES), price=PRICES, stop_price=PRICES, trail=PRICES,
    time_in_force=st.none() | st.sampled_from(TIMES_IN_FORCE), expire_time=TIMES, ref=st.none() | st.text(max_size=6),
    other=st.none() | legs("other"), stop_loss=st.none() | legs("stop_loss"), take_profit=st.none() | legs("take_profit"),
    brackets=st.lists(legs("bracket1"), max_size=2).map(tuple), legs_too=st.booleans(), options=OPTIONS.map(MappingProxyType))


@given(ORDERS)
def test_an_order_goes_through_json_and_back_unchanged(order: Order) -> None:
    stored = json.loads(dump_json(order.to_json()), parse_float=Decimal, parse_int=Decimal)
    stored["options"] = dict(order.options)

    assert order_from_json(stored) == order


@given(ORDERS, st.booleans(), st.booleans())
def test_no_order_makes_the_rules_fail(order: Order, whole: bool, negative: bool) -> None:
    for field, message in faults_of(order, Product(whole_quantity=whole, may_be_negative=negative)):
        assert field
        assert message
