"""What to paste into TradingView's alert message for a template: for the alerts of a strategy and of an indicator, and
the Pine code of a script that calls alert() itself.

In a strategy's alert TradingView fills in what the strategy did. In an indicator's it does not: such a placeholder
arrives as it stands, and the template refuses it. So an indicator has one alert for each thing to do, with the word for
it written out. In alert() nothing is replaced: there the script itself puts the values in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bridge.errors import InputError
from bridge.fields import Declared, has_value
from bridge.pattern import TextPattern, example
from bridge.pine import pine_code

_BY_NAME: Mapping[str, str] = {
    **dict.fromkeys(("ticker", "symbol", "instrument"), "{{ticker}}"),
    "exchange": "{{exchange}}", "interval": "{{interval}}", "open": "{{open}}", "high": "{{high}}", "low": "{{low}}",
    "volume": "{{volume}}",
    **dict.fromkeys(("close", "price", "last"), "{{close}}"),
    **dict.fromkeys(("action", "side"), "{{strategy.order.action}}"),
    **dict.fromkeys(("contracts", "quantity", "qty", "size", "shares", "lots"), "{{strategy.order.contracts}}"),
    **dict.fromkeys(("time", "timenow", "sent", "sent_at", "timestamp"), "{{timenow}}"),
    **dict.fromkeys(("id", "order_id"), "{{strategy.order.id}}"),
    "comment": "{{strategy.order.comment}}",
    **dict.fromkeys(("position", "market_position"), "{{strategy.market_position}}"),
    "position_size": "{{strategy.position_size}}",
}
_BY_TYPE: Mapping[str, str] = {"side": "{{strategy.order.action}}", "time": "{{timenow}}", "bool": "true"}
_TYPICAL: Mapping[str, str] = {"side": "buy", "word": "buy", "integer": "2", "number": "5300.25", "time": "2026-11-20T15:30:00Z",
                               "bool": "true", "text": "ES1!"}
_ORDER_ID, _NOW = "{{strategy.order.id}}", "{{timenow}}"
_WRITTEN_OUT: Mapping[str, str] = {
    "{{strategy.order.action}}": "buy", "{{strategy.order.contracts}}": "1", "{{strategy.market_position}}": "long",
    "{{strategy.market_position_size}}": "1", "{{strategy.position_size}}": "1",
    "{{strategy.prev_market_position}}": "flat", "{{strategy.order.price}}": "{{close}}", _ORDER_ID: _NOW}
"""What stands in an indicator's message for what only a strategy knows."""

_SIDES = ("buy", "BUY", "Buy", "long", "LONG", "Long", "B", "b", "1")
"""Words for the side that a text's pattern may want."""
FORMS = ("strategy", "indicator", "pine")


@dataclass(frozen=True, slots=True)
class Message:
    """What to paste, for which form of alert, and what the trader has to know about it."""

    form: str
    text: str
    notes: tuple[str, ...] = ()


def message_of(declared: Iterable[Declared], pattern: TextPattern | None) -> str:
    """The message of the form that fits best."""
    return message_for(declared, pattern).text


def message_for(declared: Iterable[Declared], pattern: TextPattern | None, form: str = "", *,
                pairs: bool = False) -> Message:
    """A JSON object that fills the declared fields, with `pairs` key=value; pairs, or for a `parse:` template a text of
    the pattern's shape. Without a form, that of a strategy where the fields are those of one, else of an indicator.

    A strategy's message carries TradingView's order id, so that two fills in one second differ; every message carries
    the time, so that the same alert tomorrow is another one. Raises InputError for pairs of nested fields.
    """
    known = [each for each in declared if has_value(each.type)]
    texts = _texts(known)
    of_strategy = any("{{strategy." in texts[each.name] for each in _sent(known))
    form = form or ("strategy" if of_strategy else "indicator")
    if pairs and pattern is None and (nested := [each.name for each in _sent(known) if len(each.path) > 1]):
        raise InputError(f"pairs have no nested fields, and the template reads {', '.join(nested)} from inside; "
                         "leave --pairs out")
    if form == "pine":
        return _pine(known, texts, pattern, pairs)
    notes: list[str] = []
    if form == "indicator":
        texts = {name: _WRITTEN_OUT.get(text, f"<{name}>" if "{{strategy." in text else text)
                 for name, text in texts.items()}
        notes += _indicator_notes(known, texts, of_strategy)
    if pattern is not None:
        text = _shaped(known, texts, pattern)
        if form == "strategy" and _ORDER_ID not in text:
            notes.append("This text has no place for TradingView's order id: two equal fills within the dedupe window "
                         "make one order. A JSON message carries it.")
        notes += [f"The pattern does not take the words that TradingView writes for {each.name} (buy, sell), so one is "
                  "written out: begin the pattern with (?i), or make one alert for each."
                  for each in known if each.type == "side" and texts[each.name] not in text and form == "strategy"]
        return Message(form, text, tuple(notes))
    message = _message(known, texts)
    written = _written(message)
    if form == "strategy" and _ORDER_ID not in written:
        _put(message, (_free("order_id", message),), _ORDER_ID)
    if _NOW not in written:
        _put(message, (_free("timenow", message),), _NOW)
    return Message(form, _in_pairs(message) if pairs else _written(message), tuple(notes))


def _sent(declared: list[Declared]) -> list[Declared]:
    """The fields that the message fills: not those that may be absent and that nothing is known of."""
    return [each for each in declared
            if not (each.optional and each.tradingview is None and each.name not in _BY_NAME)]


def _message(declared: list[Declared], texts: Mapping[str, str]) -> dict[str, Any]:
    message: dict[str, Any] = {}
    for each in _sent(declared):
        _put(message, each.path, texts[each.name])
    return message


def _shaped(declared: list[Declared], texts: Mapping[str, str], pattern: TextPattern, *, side: str = "") -> str:
    """A text of the pattern's shape; a pattern may want whole numbers, or with a point."""
    shapes = []
    for number in (_TYPICAL["number"], _TYPICAL["integer"]):
        typical = {**_TYPICAL, "side": side or _TYPICAL["side"], "number": number}
        shapes.append(example(pattern.source, {each.path[0]: (texts[each.name], typical[each.type]) for each in declared
                                               if isinstance(each.path[0], str)}))
    return max(shapes, key=lambda shape: shape.count("{{"))


def _in_pairs(message: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value};" for name, value in message.items())


def _indicator_notes(declared: list[Declared], texts: Mapping[str, str], of_strategy: bool) -> list[str]:
    """What has to be written by hand: one alert for each thing to do."""
    notes = []
    for each in _sent(declared):
        words = each.examples or (("buy", "sell") if texts[each.name] in ("buy", "sell") else ())
        if texts[each.name] in words and len(words) > 1:
            notes.append(f"Make one alert for each thing to do, and write in its message for {each.name}: "
                         f"{', '.join(words)}.")
    if of_strategy:
        notes.append("An indicator's alert knows no strategy: what only a strategy can fill in is written out; put your "
                     "own values there.")
    return notes


# -- Pine ------------------------------------------------------------------------------------------------------------


def _pine(declared: list[Declared], texts: Mapping[str, str], pattern: TextPattern | None, pairs: bool) -> Message:
    """The code of a function that makes the message, with a parameter for each value that only the script knows."""
    sent = declared if pattern is not None else _sent(declared)
    if pattern is None and not any(texts[each.name] == _NOW for each in sent):
        name = _free("timenow", {str(each.path[0]): None for each in sent})
        sent = [*sent, Declared(name=name, type="time", path=(name,), optional=False, tradingview=_NOW)]
        texts = {**texts, name: _NOW}
    marks = {each.name: f"{{{{field:{each.name}}}}}" for each in sent}
    if pattern is not None:
        shapes = [_shaped(sent, marks, pattern, side=word) for word in _SIDES]
        text = max(shapes, key=lambda each: each.count("{{field:"))
        said = _SIDES[shapes.index(text)]
    else:
        said = "buy"
        message = _message([replace(each, optional=False) for each in sent], marks)
        text = _in_pairs(message) if pairs else _written(message, flat=True)
    code = pine_code(text, {each.name: (each, texts[each.name]) for each in sent},
                     in_json=pattern is None and not pairs, side=said)
    return Message("pine", code, ("Create the alert with the condition \"Any alert() function call\": the dialog's own "
                                  "message is not used then.",))


def _texts(declared: list[Declared]) -> dict[str, str]:
    """For each field what TradingView is to put there; numbers of no known name are the script's plots in turn."""
    texts: dict[str, str] = {}
    plots = 0
    for each in declared:
        if each.tradingview is not None:
            text = each.tradingview
        elif {"buy", "sell"} <= set(each.examples):
            text = _BY_NAME["action"]
        elif each.name in _BY_NAME:
            text = _BY_NAME[each.name]
        elif each.type in _BY_TYPE:
            text = _BY_TYPE[each.type]
        elif each.type in ("number", "integer"):
            text = f"{{{{plot_{plots}}}}}"
            plots += 1
        else:
            text = each.examples[0] if each.examples else f"<{each.name}>"
        texts[each.name] = text
    return texts


def _put(message: Any, path: tuple[str | int, ...], text: str) -> None:
    """Set a place in nested objects and lists, making those on the way."""
    step: Any = path[0]
    rest = path[1:]
    if isinstance(message, list):
        while len(message) <= step:
            message.append({} if rest else "")
    value: Any = text
    if rest:
        at = message[step] if isinstance(message, list) or step in message else None
        value = at if isinstance(at, (dict, list)) and at else [] if isinstance(rest[0], int) else {}
        _put(value, rest, text)
    message[step] = value


def _free(name: str, message: Mapping[str, Any]) -> str:
    while name in message:
        name += "_"
    return name


def _written(message: Any, indent: str = "", *, flat: bool = False) -> str:
    """JSON (`flat`: in one line), with placeholders exactly as TradingView knows them: it replaces them before anybody reads the JSON."""
    inner = indent + "  "
    if isinstance(message, dict) and flat:
        return "{" + ", ".join(f"{json.dumps(name)}: {_written(each, flat=True)}" for name, each in message.items()) + "}"
    if isinstance(message, dict):
        parts = [f"{inner}{json.dumps(name)}: {_written(value, inner)}" for name, value in message.items()]
        return "{\n" + ",\n".join(parts) + f"\n{indent}}}" if parts else "{}"
    if isinstance(message, list):
        return "[" + ", ".join(_written(value, inner, flat=flat) for value in message) + "]"
    return f'"{message}"' if "{{" in message else json.dumps(message, ensure_ascii=False)
