"""Ticks: `tick` rounds the way it is told, and a leg between two ticks is refused before a broker refuses it alone."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.expressions import Context, ExpressionError, compile_value
from bridge.order import Leg, Order, Product, faults_of, off_tick

FIELDS = {"price": "number", "action": "side", "way": "text"}
PRICES = st.decimals("-100", "99999", places=4)
TICKS = st.sampled_from(["0.25", "0.1", "0.0078125", "5", "0.0000005"])


def evaluate(expression: str, **alert: Any) -> Any:
    return compile_value(f"{{{{ {expression} }}}}", FIELDS).evaluate(Context(alert=alert, contract=str))


@pytest.mark.parametrize(("way", "below", "above", "tie"), [
    ("", "5300.25", "5300.50", "5300.50"), (", 'nearest'", "5300.25", "5300.50", "5300.50"),
    (", 'down'", "5300.25", "5300.25", "5300.25"), (", 'up'", "5300.50", "5300.50", "5300.50"),
    (", 'buy'", "5300.25", "5300.25", "5300.25"), (", 'sell'", "5300.50", "5300.50", "5300.50")])
def test_tick_rounds_to_the_nearest_unless_it_is_told(way: str, below: str, above: str, tie: str) -> None:
    for price, expected in (("5300.30", below), ("5300.40", above), ("5300.375", tie), ("5300.5", "5300.5")):
        assert evaluate(f"alert.price | tick(0.25{way})", price=Decimal(price)) == Decimal(expected)


@given(PRICES, TICKS, st.sampled_from(["buy", "sell"]))
def test_rounding_for_a_side_never_makes_its_limit_worse(price: Decimal, tick: str, side: str) -> None:
    found = evaluate(f"alert.price | tick({tick}, alert.action)", price=price, action=side)

    better = price - found if side == "buy" else found - price
    assert 0 <= better < Decimal(tick)
    assert found % Decimal(tick) == 0
    way = "down" if side == "buy" else "up"
    assert found == evaluate(f"alert.price | tick({tick}, '{way}')", price=price)
    assert evaluate(f"alert.price | tick({tick})", price=found) == found


@pytest.mark.parametrize("way", ["'half'", "5", "none", "true", "['down']"])
def test_a_way_that_nobody_knows_is_a_fault_when_the_template_loads(way: str) -> None:
    with pytest.raises(ExpressionError):
        compile_value(f"{{{{ alert.price | tick(0.25, {way}) }}}}", FIELDS)


def test_a_way_that_comes_with_the_alert_is_looked_at_then() -> None:
    assert evaluate("alert.price | tick(0.25, alert.way)", price=Decimal("1.1"), way="up") == Decimal("1.25")
    with pytest.raises(ExpressionError, match="rounds nearest, down or up, or as is never worse for a side, buy or sell; not 'off'"):
        evaluate("alert.price | tick(0.25, alert.way)", price=Decimal(1), way="off")
    with pytest.raises(ExpressionError, match="which way to round"):
        evaluate("alert.price | tick(0.25, 'up', 'down')", price=Decimal(1))


ES = Product(tick=Decimal("0.25"))
ENTRY: dict[str, Any] = {"kind": "oso", "symbol": "ESZ6", "side": "buy", "quantity": Decimal(1), "time_in_force": "day",
                         "type": "stop_limit", "price": Decimal(5300), "stop_price": Decimal("5299.75")}
STOP = Leg(role="stop_loss", side="sell", type="trailing_stop", stop_price=Decimal(5290), trail=Decimal(10))


def off(**changed: Any) -> list[tuple[str, str]]:
    return list(faults_of(Order(**{**ENTRY, "stop_loss": STOP, **changed}), ES))


def test_a_leg_between_two_ticks_is_refused_with_the_nearest_prices_whichever_price_it_is() -> None:
    odd = Decimal("5290.300")
    leg = Leg(role="stop_loss", side="sell", type="trailing_stop", stop_price=odd, trail=Decimal("0.1"))
    target = Leg(role="take_profit", side="sell", type="limit", price=Decimal("5310.01"))

    assert off() == []
    assert off(stop_loss=leg, take_profit=target) == [
        ("stop_loss.stop_price", "5290.300 is not a multiple of the tick 0.25; 5290.25 and 5290.50 are the nearest: round it with "
         "`| tick(0.25)`"),
        ("stop_loss.trail", "0.1 is not a multiple of the tick 0.25; 0.00 and 0.25 are the nearest: round it with `| tick(0.25)`"),
        ("take_profit.price", "5310.01 is not a multiple of the tick 0.25; 5310.00 and 5310.25 are the nearest: round it with "
         "`| tick(0.25)`")]
    assert list(faults_of(Order(**{**ENTRY, "stop_loss": leg}), Product())) == []


def test_an_entrys_own_price_is_the_brokers_to_refuse_for_nothing_stands_then() -> None:
    assert off(price=Decimal("5300.30"), stop_price=Decimal("5299.9")) == []


@given(PRICES, TICKS)
def test_the_prices_that_are_named_lie_on_the_tick_around_the_one_that_was_refused(price: Decimal, tick: str) -> None:
    found = off_tick(price, Decimal(tick))

    assert bool(found) is (price % Decimal(tick) != 0)
    if found:
        below, _, above = found.split("; ")[1].split(" are ")[0].split()
        assert Decimal(below) < price < Decimal(above) and Decimal(above) - Decimal(below) == Decimal(tick)
        assert Decimal(below) % Decimal(tick) == 0
    assert off_tick(price, None) == ""
