"""What is to be pasted into TradingView fills the template's fields and tells fills apart."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.accounts import load_accounts
from bridge.alert import read_body
from bridge.errors import InputError
from bridge.fields import Fields, declare
from bridge.message import FORMS, message_for, message_of
from bridge.pattern import compile_pattern
from bridge.template import load_template

ROOT = Path(__file__).resolve().parents[1]

VALUES = {"{{ticker}}": "ES1!", "{{strategy.order.action}}": "buy", "{{strategy.order.contracts}}": "2", "{{close}}": "5300.25",
          "{{timenow}}": "2026-11-20T15:30:00Z", "{{strategy.order.id}}": "Long", "{{strategy.market_position}}": "long",
          "{{plot_0}}": "1.5", "{{plot_1}}": "2.5", '{{plot("Stop")}}': "5290"}


def message(fields: Fields, pattern: str = "") -> str:
    return message_of(fields.declared.values(), compile_pattern(pattern) if pattern else None)


def replaced(text: str) -> str:
    """The message as TradingView sends it."""
    return re.sub(r"\{\{.*?\}\}", lambda found: VALUES[found[0]], text)


def test_a_message_fills_every_field_by_its_name_or_as_declared() -> None:
    section: dict[str, Any] = {
        "ticker": "text", "action": "side", "contracts": "integer", "price": "number", "high_line": "number", "low_line": "number",
        "time": "time", "stop": {"type": "number", "tradingview": '{{plot("Stop")}}'}, "command": {"type": "text", "one_of": ["buy", "sell"]},
        "deep": {"type": "text", "from": ["order", "legs", 1, "id"], "tradingview": "{{strategy.order.id}}"},
        "note": {"type": "text", "optional": True}}
    fields = declare(section)

    found = json.loads(replaced(message(fields)))

    assert found["ticker"] == "ES1!"
    assert (found["high_line"], found["low_line"], found["stop"]) == ("1.5", "2.5", "5290")
    assert found["order"]["legs"][1]["id"] == "Long"
    assert "note" not in found
    read = fields.read(read_body(replaced(message(fields)).encode()))
    assert (read["action"], read["contracts"], read["command"], read["deep"], read["note"]) == ("buy", 2, "buy", "Long", None)


def test_a_strategys_message_carries_the_order_id_and_the_time_so_that_no_two_are_alike() -> None:
    fields = declare({"ticker": "text", "action": "side"})

    assert json.loads(message(fields)) == {
        "ticker": "{{ticker}}", "action": "{{strategy.order.action}}", "order_id": "{{strategy.order.id}}", "timenow": "{{timenow}}"}


def test_an_indicators_message_has_no_order_id() -> None:
    assert json.loads(message(declare({"ticker": "text", "price": "number", "time": "time"}))) == {
        "ticker": "{{ticker}}", "price": "{{close}}", "time": "{{timenow}}"}


def test_a_text_template_gets_a_text_that_its_own_pattern_takes_apart() -> None:
    pattern = r"(?P<action>BUY|SELL) (?P<ticker>\S+) (?P<contracts>\d+) @ (?P<price>[\d.]+)"
    fields = declare({"action": "side", "ticker": "text", "contracts": "integer", "price": "number"})

    text = message(fields, pattern)

    assert text == "BUY {{ticker}} {{strategy.order.contracts}} @ {{close}}"
    taken = compile_pattern(pattern).search(replaced(text))
    assert taken is not None
    assert fields.read(taken)["action"] == "buy"


# -- indicators, pairs and texts ---------------------------------------------------------------------------------------


def declared(**section: Any) -> Fields:
    return declare(section)


STRATEGY: dict[str, Any] = {
    "ticker": "text", "action": "side", "contracts": "integer", "price": "number",
    "position": {"type": "text", "one_of": ["long", "short", "flat"]}, "order_id": "text",
    "time": {"type": "time", "tradingview": "{{timenow}}"}}


def test_an_indicators_message_holds_nothing_that_only_a_strategy_fills_in() -> None:
    found = message_for(declared(**STRATEGY).declared.values(), None, "indicator")

    assert found.form == "indicator" and "{{strategy." not in found.text
    read = declared(**STRATEGY).read(read_body(replaced(found.text).encode()))
    assert (read["action"], read["contracts"], read["position"]) == ("buy", 1, "long")
    assert "for action: buy, sell" in found.notes[0] and "for position: long, short, flat" in found.notes[1]
    assert "knows no strategy" in found.notes[-1]


def test_without_a_wish_the_message_is_a_strategys_where_the_fields_are() -> None:
    assert message_for(declared(**STRATEGY).declared.values(), None).form == "strategy"
    assert message_for(declared(ticker="text", price="number").declared.values(), None).form == "indicator"
    assert message_for(declared(action={"type": "side", "tradingview": "buy"}).declared.values(), None).form == "indicator"


def test_a_strategys_message_has_the_order_id_in_every_shape() -> None:
    fields = declared(ticker="text", price="number")

    for pairs in (False, True):
        assert "{{strategy.order.id}}" in message_for(fields.declared.values(), None, "strategy", pairs=pairs).text
    text = message_for(declared(action="side").declared.values(), compile_pattern("(?P<action>buy|sell)"), "strategy")
    assert text.text == "{{strategy.order.action}}" and "no place for TradingView's order id" in text.notes[0]
    loud = message_for(declared(action="side").declared.values(), compile_pattern("(?P<action>BUY|SELL)"), "strategy")
    assert "begin the pattern with (?i)" in loud.notes[1]


def test_pairs_are_read_as_they_were_meant() -> None:
    fields = declared(**STRATEGY)

    text = message_for(fields.declared.values(), None, pairs=True).text

    body = read_body(replaced(text).encode())
    assert body.form == "key_value"
    assert fields.read(body)["action"] == "buy"


def test_pairs_of_nested_fields_are_refused() -> None:
    fields = declared(price={"type": "number", "from": ["order", "price"]})

    with pytest.raises(InputError, match="pairs have no nested fields, and the template reads price"):
        message_for(fields.declared.values(), None, pairs=True)


# -- Pine --------------------------------------------------------------------------------------------------------------


class Str:
    """Pine's own functions on texts, as its manual describes them."""

    @staticmethod
    def tostring(value: Any) -> str:
        return f"{value:.10f}".rstrip("0").rstrip(".") if isinstance(value, (int, float)) else str(value)

    @staticmethod
    def replace_all(source: str, target: str, replacement: str) -> str:
        return source.replace(target, replacement)

    @staticmethod
    def format_time(moment: str, form: str, zone: str) -> str:
        assert (form, zone) == ("yyyy-MM-dd'T'HH:mm:ss'Z'", "UTC")
        return moment


CHART: dict[str, Any] = {
    "str": Str, "syminfo": SimpleNamespace(ticker="ES1!", prefix="CME_MINI"), "timeframe": SimpleNamespace(period="5"),
    "close": 5300.25, "open": 5290, "timenow": "2026-11-20T15:30:00Z", "time": "2026-11-20T15:25:00Z",
    "math": SimpleNamespace(abs=abs), "strategy": SimpleNamespace(position_size=-2)}


def run_pine(code: str, **given: Any) -> str:
    """What the function gives: Pine's expressions here are Python's, but for the choice between two."""
    def value(source: str, names: dict[str, Any]) -> Any:
        choice = re.fullmatch(r"\((.*?) \? (.*?) : (.*)\)", source)
        if choice:
            return value(choice[2] if value(choice[1], names) else f"({choice[3]})", names)
        return eval(source, {"__builtins__": {}}, names)

    escape = re.search(r"^bridge_text\(string value\) =>\n    (.*)$", code, re.MULTILINE)
    names = {**CHART, **given}
    if escape:
        names["bridge_text"] = lambda text: value(escape[1], {**CHART, "value": text})
    function = re.search(r"^bridge_message\((.*)\) =>\n((?:    .*\n)+)", code, re.MULTILINE)
    assert function
    assert [each.split()[1] for each in function[1].split(", ") if each] == list(given)
    said = ""
    *steps, result = function[2].splitlines()
    for step in steps:
        said += value(re.sub(r"^    (string m =|m \+=) ", "", step), names)
    assert result == "    m"
    return said


def test_the_pine_code_makes_a_message_that_fills_the_fields() -> None:
    found = message_for(declared(**STRATEGY).declared.values(), None, "pine")

    body = run_pine(found.text, action="sell", contracts=2.0, order_id="Long")

    assert declared(**STRATEGY).read(read_body(body.encode())) == {
        "ticker": "ES1!", "action": "sell", "contracts": 2, "price": Decimal("5300.25"), "position": "short",
        "order_id": "Long", "time": datetime(2026, 11, 20, 15, 30, tzinfo=UTC)}
    assert "Any alert() function call" in found.notes[0]
    assert "{{" not in found.text and 'alert(bridge_message("buy", 1, "Long"), alert.freq_once_per_bar_close)' in found.text


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40).filter(str.strip))
def test_no_text_of_the_script_breaks_the_json_of_the_pine_code(text: str) -> None:
    found = message_for(declared(note="text").declared.values(), None, "pine")

    assert json.loads(run_pine(found.text, note=text))["note"] == text
    assert json.loads(run_pine(found.text, note=f'"{text}\n"'))["note"] == f'"{text} "'


def test_names_with_quotes_stay_whole_in_pine() -> None:
    fields = declared(price={"type": "number", "from": ["a'b\"c\\d", "x"]})

    body = run_pine(message_for(fields.declared.values(), None, "pine").text)

    assert fields.read(read_body(body.encode()))["price"] == Decimal("5300.25")


def test_the_pine_code_of_pairs_and_texts_is_read_too() -> None:
    fields = declared(ticker="text", action="side", qty="number")

    pairs = message_for(fields.declared.values(), None, "pine", pairs=True).text
    assert fields.read(read_body(run_pine(pairs, action="sell", qty=3).encode()))["qty"] == 3
    pattern = compile_pattern(r"(?P<action>BUY|SELL) (?P<ticker>\S+) (?P<qty>\d+)")
    text = message_for(fields.declared.values(), pattern, "pine").text
    assert 'bridge_message("BUY", 1)' in text
    taken = pattern.search(run_pine(text, action="SELL", qty=3))
    assert taken is not None and fields.read(taken)["action"] == "sell"


def test_a_field_named_like_a_word_of_pine_is_a_parameter_of_another_name() -> None:
    fields = declared(type="text", method={"type": "bool", "tradingview": "{{plot_0}}"})

    code = message_for(fields.declared.values(), None, "pine").text

    assert "bridge_message(string type_, bool method_)" in code
    assert json.loads(run_pine(code, type_="x", method_=True))["method"] == "true"


@pytest.mark.parametrize("path", sorted((ROOT / "templates").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_template_has_a_message_in_each_form(path: Path) -> None:
    template = load_template(path, load_accounts(ROOT / "accounts.yaml", {}))

    for form in FORMS:
        found = template.message(form)
        assert found.text and found.form == form
        assert form != "indicator" or "{{strategy." not in found.text
        assert form != "pine" or "{{" not in found.text
