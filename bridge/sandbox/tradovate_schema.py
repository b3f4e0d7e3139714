"""Bodies of Tradovate's requests against the schema of its API description.

Two ways to be wrong, as the broker has them: a value of the wrong JSON type is HTTP 400, a field that is missing, out
of range or not in its list is HTTP 200 with `violations`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from .wire import Reply, parse_iso, plain_number

ACTIONS = ("Buy", "Sell")
TYPES = {
    "Limit": "limit",
    "MIT": "mit",
    "Market": "market",
    "QTS": "qts",
    "Stop": "stop",
    "StopLimit": "stop_limit",
    "TrailingStop": "trailing_stop",
    "TrailingStopLimit": "trailing_stop_limit",
}
TIMES = {"Day": "day", "FOK": "fok", "GTC": "gtc", "GTD": "gtd", "IOC": "ioc"}
# field → kind: int (above zero), number, bool, time, object, (text, longest), or the list of allowed words
_VERSION: dict[str, Any] = {
    "action": ACTIONS,
    "clOrdId": ("text", 64),
    "orderType": tuple(TYPES),
    "price": "number",
    "stopPrice": "number",
    "maxShow": "int",
    "pegDifference": "number",
    "timeInForce": tuple(TIMES),
    "expireTime": "time",
    "text": ("text", 64),
}
_PLACE: dict[str, Any] = {
    "accountSpec": ("text", 64),
    "accountId": "int",
    "symbol": ("text", 64),
    "orderQty": "int",
    "activationTime": "time",
    "customTag50": ("text", 64),
    "isAutomated": "bool",
    **_VERSION,
}
SCHEMAS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "placeorder": (_PLACE, ("action", "symbol", "orderQty", "orderType")),
    "placeoco": ({**_PLACE, "other": "object"}, ("action", "symbol", "orderQty", "orderType", "other")),
    "placeoso": (
        {**_PLACE, "bracket1": "object", "bracket2": "object"},
        ("action", "symbol", "orderQty", "orderType", "bracket1"),
    ),
    "leg": (_VERSION, ("action", "orderType")),
    "modifyorder": (
        {**_PLACE, "orderId": "int"},
        ("orderId", "orderQty", "orderType"),
    ),
    "cancelorder": (
        {
            "orderId": "int",
            "clOrdId": ("text", 64),
            "activationTime": "time",
            "customTag50": ("text", 64),
            "isAutomated": "bool",
        },
        ("orderId",),
    ),
    "liquidateposition": (
        {"accountId": "int", "contractId": "int", "admin": "bool", "isAutomated": "bool"},
        ("accountId", "contractId", "admin"),
    ),
    "liquidatepositions": ({"positions": "list", "admin": "bool"}, ("positions", "admin")),
    "startorderstrategy": (
        {
            "accountId": "int",
            "accountSpec": ("text", 64),
            "symbol": ("text", 64),
            "orderStrategyTypeId": "int",
            "action": ACTIONS,
            "params": ("text", 8192),
            "uuid": ("text", 64),
            "customTag50": ("text", 64),
            "isAutomated": "bool",
        },
        ("symbol", "orderStrategyTypeId", "action"),
    ),
    "interruptorderstrategy": ({"orderStrategyId": "int"}, ("orderStrategyId",)),
}


class Refused(Exception):
    """A request that is not executed, with the reply that says so."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def violation(field: str, value: Any, description: str) -> Refused:
    shown = "" if value is None else value
    return Refused(Reply(200, {"violations": [{"constraint": field, "value": shown, "description": description}]}))


def failure(reason: str, text: str) -> Refused:
    return Refused(Reply(200, {"failureReason": reason, "failureText": text}))


def check(schema: str, body: Any, prefix: str = "") -> dict[str, Any]:
    """The body, if it fits; raises `Refused`. Fields that the schema lacks are ignored, as the broker does."""
    if not isinstance(body, dict):
        raise Refused(Reply(400, {"errorText": "The request body is not a JSON object"}))
    fields, required = SCHEMAS[schema]
    problems: list[dict[str, Any]] = []
    for name in required:
        if body.get(name) is None:
            problems.append(_problem(prefix + name, "", f"{prefix + name} should be specified"))
    for name, kind in fields.items():
        value = body.get(name)
        if value is not None and (text := _wrong(kind, value, prefix + name)):
            problems.append(_problem(prefix + name, value, text))
    if problems:
        raise Refused(Reply(200, {"violations": problems}))
    return body


def check_prices(fields: dict[str, Any], prefix: str = "") -> None:
    """The prices that an order type needs, and a time for GTD; raises `Refused`."""
    needs = {
        "Limit": ("price",),
        "MIT": ("price",),
        "Stop": ("stopPrice",),
        "StopLimit": ("price", "stopPrice"),
        "TrailingStop": ("stopPrice",),
        "TrailingStopLimit": ("price", "stopPrice"),
    }.get(fields["orderType"], ())
    for name in needs:
        if fields.get(name) is None:
            raise violation(prefix + name, None, f"{name} should be specified for {fields['orderType']}")
    if fields.get("timeInForce") == "GTD" and fields.get("expireTime") is None:
        raise violation(prefix + "expireTime", None, "expireTime should be specified for GTD")
    if fields["orderType"] == "QTS":
        raise failure("Unsupported", "QTS is not supported")


def _problem(field: str, value: Any, description: str) -> dict[str, Any]:
    return {"constraint": field, "value": value, "description": description}


def _wrong(kind: Any, value: Any, name: str) -> str | None:
    """What is out of range, or None; raises `Refused` (400) for a wrong JSON type."""
    if isinstance(kind, tuple) and kind[0] == "text":
        _expect(isinstance(value, str), name, "text")
        return f"{name} is longer than {kind[1]}" if len(value) > kind[1] else None
    if isinstance(kind, tuple):
        _expect(isinstance(value, str), name, "text")
        return None if value in kind else f"{name} should be one of {', '.join(kind)}"
    if kind == "int":
        whole = isinstance(value, Decimal) and value == value.to_integral_value()
        _expect((isinstance(value, int) and not isinstance(value, bool)) or whole, name, "a whole number")
        return None if 0 < value < 2**63 else f"{name} should be positive"
    if kind == "number":
        _expect(isinstance(value, (int, Decimal)) and not isinstance(value, bool), name, "a number")
        return None if plain_number(value) is not None else f"{name} is out of range"
    if kind == "bool":
        _expect(isinstance(value, bool), name, "true or false")
    elif kind == "object":
        _expect(isinstance(value, dict), name, "an object")
    elif kind == "list":
        _expect(isinstance(value, list), name, "a list")
    elif kind == "time":
        _expect(isinstance(value, str), name, "a time")
        return None if parse_iso(value) else f"{name} should be an ISO 8601 time with a zone"
    return None


def _expect(right: bool, name: str, kind: str) -> None:
    if not right:
        raise Refused(Reply(400, {"errorText": f"{name} must be {kind}"}))
