"""Expressions: what they may say, what they come to, and what cannot be said at all."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.expressions import Context, ExpressionError, compile_condition, compile_value

FIELDS = {"ticker": "text", "action": "side", "contracts": "integer", "price": "number", "time": "time",
"stop": "number",
          "live": "bool"}
ALERT = {
    "ticker": "ES1!", "action": "buy", "contracts": Decimal(2), "price": Decimal("5300.30"), "stop": None, "live": True,
    "time": datetime(2026, 11, 20, 15, 30, tzinfo=UTC),
    "raw": {"a b": {"x": ["1", {"y": "5300.30"}]}, "strategy.order.id": "L1", "n": None, "ph": "{{x}}", "nul": "\0"}}
CONTEXT = Context(alert=ALERT, contract=lambda symbol: {"ES1!": "ESZ6"}[symbol])


def value(source: Any) -> Any:
    return compile_value(source, FIELDS).evaluate(CONTEXT)


def condition(source: Any) -> bool:
    found = compile_condition(source, FIELDS).evaluate(CONTEXT)
    assert isinstance(found, bool)
    return found


@pytest.mark.parametrize(("source", "expected"), [
    ("{{ alert.ticker | contract }}", "ESZ6"), ("{{ alert.price | tick(0.25) }}", Decimal("5300.25")),
    ("{{ alert.price * 1.002 }}", Decimal("5310.9006")), ("x {{ alert.price }} y", "x 5300.30 y"),
    ("{{ alert.price }}", Decimal("5300.30")), ("{{ alert['price'] }}", Decimal("5300.30")), ("{{ alert.stop }}", None),
    ("{{ alert.stop | tick(0.25) }}", None), ("{{ alert.stop | default(5) }}", Decimal(5)),
    ("{{ alert.stop | default(alert.price - 10) }}", Decimal("5290.30")), ("{{ 'a' if alert.live }}", "a"),
    ("{{ 'a' if not alert.live }}", None), ("{{ 0.1 + 0.2 }}", Decimal("0.3")), ("{{ -7 // 2 }}", Decimal(-4)),
    ("{{ -7 % 3 }}", Decimal(2)), ("{{ 10 / 4 }}", Decimal("2.5")), ("{{ alert.ticker ~ '-' ~ 1 }}", "ES1!-1"),
    ("{{ alert.action | opposite }}", "sell"), ("{{ 'LONG' | side }}", "buy"), ("{{ -1 | side }}", "sell"),
    ("{{ (-1) | side }}", "sell"), ("{{ alert.action | map({'buy': 'B', 'sell': 'S'}) }}", "B"),
    ("{{ alert.contracts | map({1: 'one', 2: alert.ticker}) }}", "ES1!"),
    ("{{ alert.price | round(1) }}", Decimal("5300.3")), ("{{ 2.5 | round }}", Decimal(3)),
    ("{{ 7.9 | int }}", Decimal(7)), ("{{ 7.9 | round_down(0.5) }}", Decimal("7.5")),
    ("{{ (0 - 5) | abs }}", Decimal(5)), ("{{ ' aB ' | trim | lower | upper }}", "AB"),
    ("{{ '1.50' | number }}", Decimal("1.5")), ("{{ alert.ticker | replace('1!', '') }}", "ES"),
    ("{{ alert.raw['a b'].x[1].y }}", "5300.30"), ("{{ alert.raw['a b'].x[0] }}", "1"),
    ("{{ alert.raw['strategy.order.id'] }}", "L1"), ("{{ alert.raw.n }}", None),
    ("{{ alert.raw.none.of.it | default('q') }}", "q"),
    ("{{ alert.raw['a b'].x[1].y | number | tick(0.25) }}", Decimal("5300.25")), ("{{ alert.time }}", ALERT["time"]),
    ("at {{ alert.time }}", "at 2026-11-20T15:30:00Z"), ("{{ none }}", None), ("{# why #}{{ 5 }}", Decimal(5)),
    ("plain", "plain"), (5, Decimal(5)), (Decimal("1.5"), Decimal("1.5")), (True, True), ("100%", "100%"),
    ("{{ alert.live }} it is", "true it is")])
def test_an_expression_comes_to(source: Any, expected: Any) -> None:
    found = value(source)

    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(("source", "expected"), [
    ('alert.action in ("buy", "sell")', True), ("{{ alert.action == 'buy' }}", True),
    ("alert.price > 5 and alert.live", True), ("not alert.live or false", False), ("alert.stop is none", True),
    ("alert.stop is defined", False), ("true", True), ("1 < alert.contracts <= 2", True),
    ("alert.raw.zz is undefined", True), ("alert.stop != 5", True), (False, False), ("'ES' in alert.ticker", True),
    ("alert.action not in ['sell']", True), ("alert.stop is not none and alert.stop > 1", False),
    ("alert.raw.n is number", False), ("alert.price is number", True), ("-1 < 0", True)])
def test_a_condition_is_true_or_false(source: Any, expected: bool) -> None:
    assert condition(source) is expected


REFUSED = [
    ("{{ alert.prce }}", "did you mean alert.price"), ("{{ price }}", "did you mean alert.price"),
    ("{{ alert.price ", "no expression"),
    ("{{ alert.price | rond }}", "did you mean 'round'"), ("{{ alert.price | tick(-1) }}", "above zero"),
    ("{{ alert.price | tick(0) }}", "above zero"), ("{{ alert.price | tick('0.25') }}", "above zero"),
    ("{{ alert.price | tick }}", "the tick's size"), ("{{ alert.price | tick(size=1) }}", "plain arguments"),
    ("{{ alert.price | tick(*[1]) }}", "plain arguments"), ("{{ alert.price | round(1.5) }}", "0 to 12"),
    ("{{ alert.__class__.__mro__ }}", "not allowed"), ("{{ alert['__class__'] }}", "not allowed"),
    ("{{ cycler.__init__.__globals__.os }}", "only the alert"), ("{{ ''.__class__ }}", "not allowed"),
    ("{{ lipsum(n=9) }}", "calls"),
    ("{{ ().__class__.__bases__ }}", "not allowed"), ("{{ alert | attr('x') }}", "not known"), ("{{ self }}",
    "not known"),
    ("{{ 9**9**9 }}", "powers"), ("{{ 'x' * 500000000 }}", "text"), ("{{ alert.ticker * 500000000 }}", "text"),
    ("{{ [1] * 100000000 }}", "list"), ("{{ '%0400000000d' % 1 }}", "text"), ("{{ 'a'.ljust(900000000) }}", "calls"),
    ("{{ alert.ticker | center(900000000) }}", "not known"), ("{{ 'a' | format(1) }}", "not known"),
    ("{{ range(9) }}", "calls"),
    ("{% for x in y %}{% endfor %}", "statements"), ("{% raw %}{{ x }}{% endraw %}", "statements"), ("a }} b",
    "closing"),
    ("{# only this #}", "no expression"), ("{{ 1 / 0 }}", "zero"), ("{{ alert.ticker + 'x' }}", "join texts with ~"),
    ("{{ alert.price + alert.ticker }}", "join texts with ~"), ("{{ 1_000 }}", "no plain number"), ("{{ 0x10 }}",
    "no plain number"),
    ("{{ 1234567890123456 }}", "15 digits"), ("{{ 0.12345678901234567 }}", "15 digits"), ("{{ 1e30 * 1e30 }}",
    "too large"),
    ("{{ alert }}", "alone is no value"), ("{{ alert.raw }}", "an object"), ("{{ {'a': 1} }}", "not allowed"),
    ("{{ alert.ticker[0:2] }}", "slices"), ("{{ alert.raw.x[0:2] }}", "slices"),
    ("{{ alert[alert.ticker] }}", "written out"),
    ("{{ alert.price if alert.ticker else 1 }}", "true or false"), ("{{ alert.price is divisibleby 3 }}", "not known"),
    ("{{ " + "(" * 900 + "1" + ")" * 900 + " }}", "too deep"), ("{{ " + "+".join(["1"] * 400) + " }}", "too deep"),
    ("{{ " + "-" * 500 + "1 }}", "too deep"), ("{{ '" + "x" * 3000 + "' }}", "characters"), ("{{ '\\ud800' }}",
    "surrogate"),
    ("{{ alert.action | map({}) }}", "empty"), ("{{ alert.action | map('x') }}", "table"),
    ("{{ 'maybe' | side }}", "no side"),
    ("{{ alert.price | upper }}", "expected a text")]


@pytest.mark.parametrize(("source", "words"), REFUSED, ids=[source[:40] for source, _ in REFUSED])
def test_what_can_never_work_is_refused_when_the_template_loads(source: str, words: str) -> None:
    began = time.process_time()
    with pytest.raises(ExpressionError) as refused:
        compile_value(source, FIELDS)

    assert words in str(refused.value)
    assert time.process_time() - began < 0.1


@pytest.mark.parametrize(("source", "words"), [
    ("alert.price", "true or false"), ('alert.price > "5"', "compares"), ('alert.contracts == "2"', "compares"),
    ("", "no expression"), ("alert.live garbage", "no expression"), ("a }} {{ b", "closing"),
    ("{{ alert.live }} x", "one expression"), (5, "true or false")])
def test_a_condition_that_is_none_is_refused(source: Any, words: str) -> None:
    with pytest.raises(ExpressionError, match=words):
        compile_condition(source, FIELDS)


@pytest.mark.parametrize(("source", "words"), [
    ("{{ alert.price / (alert.contracts - 2) }}", "zero"), ("{{ alert.action | map({'sell': 1}) }}", "it has 'sell'"),
    ("{{ alert.price ~ alert.stop }}", "none cannot stand inside a text"),
    ("{{ alert.stop + 1 }}", "none; expected a number"), ("{{ alert.raw.zz }}", "alert.raw.zz is not in this alert"),
    ("{{ alert.raw['a b'] }}", "an object"), ("{{ alert.raw.ph }}", "placeholder"),
    ("{{ alert.raw.nul }}", "control character"), ("{{ alert.raw['a b'].x }}", "a list"),
    ("{{ alert.raw['a b'].x[1].y | tick(0.25) }}", "`| number`"),
    ("{{ alert.price | tick(alert.contracts - 2) }}", "above zero"),
    ("{{ alert.price * 99999999999999 * 99999999999999 * 99999999999999 }}", "too large"),
    ("{{ alert.ticker | opposite }}", "no opposite"), ("{{ alert.ticker | number }}", "plain number")])
def test_what_has_no_value_for_this_alert_says_why(source: str, words: str) -> None:
    compiled = compile_value(source, FIELDS)

    with pytest.raises(ExpressionError) as refused:
        compiled.evaluate(CONTEXT)
    assert words in str(refused.value)


def test_a_joined_text_has_an_end() -> None:
    compiled = compile_value("{{ alert.raw.big ~ alert.raw.big ~ alert.raw.big ~ alert.raw.big ~ alert.raw.big }}", FIELDS)

    with pytest.raises(ExpressionError, match="at most 4096"):
        compiled.evaluate(Context(alert={"raw": {"big": "x" * 1000}}, contract=str))


def test_what_an_expression_reads_is_known() -> None:
    assert compile_value("{{ alert.price + alert.contracts }} {{ alert.raw.x }}", FIELDS).reads == {"price",
    "contracts", "raw"}
    assert compile_value("{{ 5 }}", FIELDS).is_constant
    assert not compile_value("{{ 'ES1!' | contract }}", FIELDS).is_constant


@given(st.text("{}%'\"()[]|~+-*/.,:=<> abelrtuxipcks_019", max_size=50))
def test_no_source_raises_anything_but_expression_errors(source: str) -> None:
    for text in (source, f"{{{{ {source} }}}}", f"{{{{ alert.price{source} }}}}"):
        try:
            compile_value(text, FIELDS).evaluate(CONTEXT)
        except ExpressionError as error:
            assert str(error)


PRICES = st.decimals("0.00001", "999999", places=5)


@given(PRICES, st.sampled_from(["0.25", "0.1", "0.005", "0.0078125", "5", "0.0000005"]))
def test_the_nearest_tick_is_a_multiple_and_never_further_than_half_a_tick(price: Decimal, tick: str) -> None:
    found = compile_value(f"{{{{ alert.price | tick({tick}) }}}}", FIELDS).evaluate(
        Context(alert={"price": price}, contract=str))

    size = Decimal(tick)
    assert found % size == 0
    assert abs(found - price) * 2 <= size


@given(PRICES)
def test_a_price_that_passes_through_is_unchanged_to_the_last_digit(price: Decimal) -> None:
    context = Context(alert={"price": price}, contract=str)

    assert str(compile_value("{{ alert.price }}", FIELDS).evaluate(context)) == str(price)
    assert compile_value("{{ alert.price + 0.1 - 0.1 }}", FIELDS).evaluate(context) == price
