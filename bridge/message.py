"""What to paste into TradingView's alert message for a template."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from bridge.fields import Declared
from bridge.pattern import TextPattern, example

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
_TYPICAL: Mapping[str, str] = {"side": "buy", "integer": "2", "number": "5300.25", "time": "2026-11-20T15:30:00Z",
                               "bool": "true", "text": "ES1!"}
_ORDER_ID, _NOW = "{{strategy.order.id}}", "{{timenow}}"


def message_of(declared: Iterable[Declared], pattern: TextPattern | None) -> str:
    """A JSON object that fills the declared fields, or for a `parse:` template a text of the pattern's shape.

    A strategy's message carries TradingView's order id, so that two fills in one second differ; every message carries
    the time, so that the same alert tomorrow is another one.
    """
    known = list(declared)
    texts = _texts(known)
    if pattern is not None:
        return example(pattern.source, {each.path[0]: (texts[each.name], _TYPICAL[each.type]) for each in known
                                        if isinstance(each.path[0], str)})
    message: dict[str, Any] = {}
    for each in known:
        if not (each.optional and each.tradingview is None and each.name not in _BY_NAME):
            _put(message, each.path, texts[each.name])
    written = _written(message)
    if "{{strategy." in written and _ORDER_ID not in written:
        _put(message, (_free("order_id", message),), _ORDER_ID)
    if _NOW not in written:
        _put(message, (_free("timenow", message),), _NOW)
    return _written(message)


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


def _written(message: Any, indent: str = "") -> str:
    """JSON, with placeholders exactly as TradingView knows them: it replaces them before anybody reads the JSON."""
    inner = indent + "  "
    if isinstance(message, dict):
        parts = [f"{inner}{json.dumps(name)}: {_written(value, inner)}" for name, value in message.items()]
        return "{\n" + ",\n".join(parts) + f"\n{indent}}}" if parts else "{}"
    if isinstance(message, list):
        return "[" + ", ".join(_written(value, inner) for value in message) + "]"
    return f'"{message}"' if "{{" in message else json.dumps(message, ensure_ascii=False)
