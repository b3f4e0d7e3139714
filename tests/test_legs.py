"""Legs are worked out from what a template says, never looser than asked."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.legs import Entry, LegFault, exit_time_in_force, is_left_out, market_faults, resolve_exit, resolve_leg

BUY = Entry(side="buy", type="limit", price=Decimal("5300.25"), tick=Decimal("0.25"))
SELL = replace(BUY, side="sell")
AT_MARKET = Entry(side="buy", type="market", from_fill=True, tick=Decimal("0.25"))


def numbers(**given: Any) -> dict[str, Any]:
    return {name: Decimal(str(value)) if not isinstance(value, str) or value[0].isdigit() else value
            for name, value in given.items()}


@pytest.mark.parametrize(("entry", "role", "given", "at"), [
    (BUY, "stop_loss", {"ticks": 20}, "5295.25"), (SELL, "stop_loss", {"ticks": 20}, "5305.25"),
    (BUY, "take_profit", {"points": 10}, "5310.25"), (SELL, "take_profit", {"points": 10}, "5290.25"),
    (BUY, "stop_loss", {"points": "1.1"}, "5299.25"), (SELL, "stop_loss", {"points": "1.1"}, "5301.25"),
    (BUY, "take_profit", {"points": "1.1"}, "5301.50"), (SELL, "take_profit", {"points": "1.1"}, "5299.00"),
    (BUY, "stop_loss", {"percent": 1}, "5247.25"), (BUY, "stop_loss", {"price": "5295.3"}, "5295.3"),
    (replace(BUY, tick=None), "stop_loss", {"percent": 1}, "5247.2475"),
    (replace(BUY, type="stop", price=None, stop_price=Decimal(5000)), "stop_loss", {"points": 5}, "4995"),
    (replace(BUY, type="stop_limit", stop_price=Decimal(5299)), "stop_loss", {"points": 5}, "5295.25"),
    (replace(BUY, type="mit"), "take_profit", {"points": 5}, "5305.25")])
def test_an_exit_counts_from_the_entrys_own_price(entry: Entry, role: str, given: dict[str, Any], at: str) -> None:
    leg = resolve_exit(role, numbers(**given), entry)

    assert (leg.stop_price if role == "stop_loss" else leg.price) == Decimal(at)
    assert leg.side == ("sell" if entry.side == "buy" else "buy")
    assert leg.offset is None


def test_the_type_of_a_stop_says_which_prices_it_has() -> None:
    both = resolve_exit("stop_loss", numbers(type="stop_limit", stop_price=5295, price=5294), BUY)
    same = resolve_exit("stop_loss", numbers(type="stop_limit", points=5), BUY)
    trailing = resolve_exit("stop_loss", numbers(type="trailing_stop", points=5), BUY)
    closer = resolve_exit("stop_loss", numbers(points=5, trail=2), BUY)

    assert (both.stop_price, both.price) == (5295, 5294)
    assert (same.stop_price, same.price) == (Decimal("5295.25"), Decimal("5295.25"))
    assert (trailing.stop_price, trailing.trail) == (Decimal("5295.25"), 5)
    assert (closer.type, closer.trail) == ("trailing_stop", 2)


def test_a_market_entrys_distances_stay_distances_where_the_broker_counts_from_the_fill() -> None:
    stop = resolve_exit("stop_loss", numbers(ticks=24), AT_MARKET)
    percent = resolve_exit("take_profit", numbers(percent=1), replace(AT_MARKET, reference=Decimal("5300.25")))
    trailing = resolve_exit("stop_loss", numbers(type="trailing_stop", points=6), AT_MARKET)

    assert (stop.offset, stop.stop_price) == (6, None)
    assert percent.offset == Decimal("53.25")
    assert (trailing.offset, trailing.trail) == (6, 6)


def test_an_absolute_price_on_a_market_entry_becomes_a_distance_from_the_reference() -> None:
    entry = replace(AT_MARKET, reference=Decimal(5300))

    assert resolve_exit("stop_loss", numbers(price=5290), entry).offset == 10
    assert resolve_exit("take_profit", numbers(price=5320), replace(entry, side="buy")).offset == 20
    with pytest.raises(LegFault, match="must be below the reference 5300"):
        resolve_exit("stop_loss", numbers(price=5310), entry)
    assert resolve_exit("stop_loss", numbers(price=5290), replace(entry, absolute=True)).stop_price == 5290


def test_where_nothing_counts_from_the_fill_the_reference_does() -> None:
    entry = replace(AT_MARKET, from_fill=False, absolute=True, reference=Decimal(5300))

    leg = resolve_exit("stop_loss", numbers(points=10), entry)
    assert (leg.stop_price, leg.offset) == (5290, None)


@pytest.mark.parametrize(("entry", "role", "given", "field", "words"), [
    (BUY, "stop_loss", {"points": -5}, "points", "above zero"), (BUY, "stop_loss", {}, "", "exactly one"),
    (replace(BUY, tick=None), "stop_loss", {"ticks": 5}, "ticks", "give points or price"),
    (BUY, "stop_loss", {"points": 5, "type": "limit"}, "type", "none of stop"),
    (BUY, "take_profit", {"points": 5, "trail": 1}, "trail", "trailing_stop"),
    (AT_MARKET, "take_profit", {"percent": 5}, "percent", "reference"),
    (AT_MARKET, "stop_loss", {"points": "0.1"}, "", "less than one tick"),
    (replace(AT_MARKET, from_fill=False), "stop_loss", {"points": 5}, "points", "nothing to count from"),
    (replace(AT_MARKET, absolute=True), "stop_loss", {"price": 5, "type": "trailing_stop"}, "trail", "is missing")])
def test_a_leg_that_cannot_be_worked_out_says_why(entry: Entry, role: str, given: dict[str, Any], field: str,
                                                  words: str) -> None:
    with pytest.raises(LegFault, match=words) as refused:
        resolve_exit(role, numbers(**given), entry)
    assert refused.value.field == field


@pytest.mark.parametrize(("given", "reference", "absolute", "from_fill", "sound"), [
    ({"points": 5}, False, False, True, True), ({"percent": 5}, False, False, True, False),
    ({"percent": 5}, True, False, True, True), ({"points": 5}, False, False, False, False),
    ({"points": 5}, True, False, False, False), ({"points": 5}, True, True, False, True),
    ({"price": 5}, False, False, True, False), ({"price": 5}, True, False, True, True),
    ({"price": 5}, True, False, False, False), ({"price": 5}, False, True, False, True),
    ({"price": 5}, False, True, True, True)])
def test_what_a_market_entry_may_have_is_known_at_load(given: dict[str, Any], reference: bool, absolute: bool, from_fill: bool,
                                                       sound: bool) -> None:
    found = list(market_faults("oso", "stop_loss", given, reference=reference, absolute=absolute, from_fill=from_fill))

    assert (found == []) is sound


def test_brackets_on_a_market_entry_have_to_accept_the_risk_by_name() -> None:
    assert list(market_faults("oso", "bracket1", {}, reference=True, absolute=False, from_fill=True))
    assert not list(market_faults("oso", "bracket1", {}, reference=False, absolute=True, from_fill=True))


def test_a_legs_time_in_force_is_its_entrys_where_that_lets_it_rest() -> None:
    assert [exit_time_in_force(replace(BUY, time_in_force=each)) for each in ("day", "gtc", "ioc", "fok", "gtd")] == [
        "day", "gtc", "gtc", "gtc", "gtc"]
    assert exit_time_in_force(replace(BUY, time_in_force="ioc", has_gtc=False)) == "day"
    assert resolve_exit("stop_loss", numbers(points=5, time_in_force="gtc"), BUY).time_in_force == "gtc"


def test_a_leg_whose_price_came_out_as_none_is_left_out() -> None:
    assert is_left_out("stop_loss", {"price": None})
    assert is_left_out("stop_loss", {"price": None, "stop_price": None})
    assert not is_left_out("stop_loss", {"points": Decimal(5), "trail": None})
    assert is_left_out("other", {"price": None, "stop_price": None})
    assert not is_left_out("other", {"price": None, "stop_price": Decimal(5)})


def test_a_stop_of_which_only_one_of_two_prices_came_is_refused_and_never_dropped() -> None:
    for prices in ({"price": Decimal(5), "stop_price": None}, {"price": None, "stop_price": Decimal(5)}):
        assert not is_left_out("stop_loss", prices)
        with pytest.raises(LegFault, match="both, or neither"):
            resolve_exit("stop_loss", {"type": "stop_limit", **prices}, BUY)


def test_a_leg_with_all_its_fields_is_taken_as_it_is() -> None:
    leg = resolve_leg("other", {"type": "limit", "price": Decimal("5300.30")}, BUY, "sell")

    assert (leg.role, leg.side, leg.price, leg.time_in_force) == ("other", "sell", Decimal("5300.30"), "day")
    with pytest.raises(LegFault, match="is missing"):
        resolve_leg("other", {"price": Decimal(1)}, BUY, "sell")


DISTANCES = st.decimals("0.01", "500", places=4)
TICKS = st.sampled_from([Decimal("0.25"), Decimal("0.1"), Decimal("0.015625"), Decimal(5), None])
PRICES = st.decimals("1000", "9000", places=2)


@given(st.sampled_from(["buy", "sell"]), st.sampled_from(["stop_loss", "take_profit"]), PRICES, DISTANCES, TICKS)
def test_rounding_never_makes_a_stop_looser_or_a_target_a_worse_price(side: Any, role: str, price: Decimal, points: Decimal,
                                                          tick: Decimal | None) -> None:
    leg = resolve_exit(role, {"points": points}, Entry(side=side, type="limit", price=price, tick=tick))

    at = leg.stop_price if role == "stop_loss" else leg.price
    assert at is not None
    below = (side == "buy") == (role == "stop_loss")
    distance = price - at if below else at - price
    assert 0 <= (points - distance if role == "stop_loss" else distance - points) < (tick or Decimal("0.000001"))
    assert tick is None or at % tick == 0


@given(st.sampled_from(["buy", "sell"]), st.sampled_from(["stop_loss", "take_profit"]), PRICES, DISTANCES, TICKS)
def test_a_distance_from_the_fill_is_rounded_the_same_way(side: Any, role: str, reference: Decimal, points: Decimal,
                                                          tick: Decimal | None) -> None:
    entry = Entry(side=side, type="market", from_fill=True, reference=reference, tick=tick)
    below = (side == "buy") == (role == "stop_loss")
    for given_as in ({"points": points}, {"price": reference - points if below else reference + points}):
        if role == "stop_loss" and points < (tick or 0):
            with pytest.raises(LegFault, match="less than one tick"):
                resolve_exit(role, given_as, entry)
            continue
        offset = resolve_exit(role, given_as, entry).offset
        assert offset is not None
        assert 0 <= (points - offset if role == "stop_loss" else offset - points) < (tick or Decimal("0.000001"))
        assert tick is None or offset % tick == 0


@given(st.sampled_from(["buy", "sell"]), PRICES, DISTANCES, TICKS)
def test_a_trail_that_is_worked_out_is_never_longer_than_asked_and_on_the_tick(side: Any, price: Decimal, points: Decimal,
                                                                               tick: Decimal | None) -> None:
    entry = Entry(side=side, type="limit", price=price, tick=tick)
    try:
        leg = resolve_exit("stop_loss", {"points": points, "type": "trailing_stop"}, entry)
    except LegFault as fault:
        assert "less than one tick" in str(fault)
        return
    assert leg.trail is not None and 0 < leg.trail <= points
    assert tick is None or leg.trail % tick == 0
