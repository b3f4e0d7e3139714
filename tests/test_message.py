"""What is to be pasted into TradingView fills the template's fields and tells fills apart."""

from __future__ import annotations

import json
import re
from typing import Any

from bridge.alert import read_body
from bridge.fields import Fields, declare
from bridge.message import message_of
from bridge.pattern import compile_pattern

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
