"""The shape of a template: which fields there are, where, and of what sort. What they mean is for others."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from marshmallow import Schema, ValidationError, fields

from bridge.guards import GUARDS, GuardsSchema
from bridge.order import KINDS, LATER_KINDS
from bridge.schemas import Where, schema_faults, unknown_name
from bridge.settings import read_duration
from bridge.sizing import AccountUse

_MOST_ORDERS = 50
_LATER = "comes in a later version of Bridge"
_LATER_TOP = ("sync", "expect_every", "schema")
_LATER_ORDER = ("only_if", "after", "exits", "managed", "percent", "break_even", "only", "on_unprotected", "target")
_MOST_TIMES = 1000
_USE = ("name", "multiplier", "symbols")


# -- sorts of value --------------------------------------------------------------------------------------------------


class Plain(fields.Field[Any]):
    """One plain value or an expression: a text, number or truth."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if not isinstance(value, (str, int, Decimal, bool)):
            raise ValidationError("expected one plain value or an expression in {{ }}")
        return value


class Duration(fields.Field[int]):
    """A time span with its unit, in milliseconds. Zero only where it means something."""

    def __init__(self, *, zero: bool = False) -> None:
        super().__init__()
        self.zero = zero

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:
        return read_span(value, zero=self.zero)


def read_span(value: Any, *, zero: bool = False) -> int:
    """`60s`, `15m`, `24h` in milliseconds. Raises ValidationError; a bare number has no unit."""
    if isinstance(value, (int, Decimal)) or (isinstance(value, str) and re.fullmatch(r"\s*\d+\s*", value)):
        raise ValidationError("has no unit; write it like 60s, 15m or 24h")
    if not isinstance(value, str):
        raise ValidationError("expected a time span like 60s, 15m or 24h")
    try:
        span = read_duration(value)
    except ValueError as error:
        raise ValidationError(str(error)) from None
    if span == 0 and not zero:
        raise ValidationError("must be longer than nothing")
    if span > 366 * 86_400_000:
        raise ValidationError("is longer than a year")
    return span


class AccountUses(fields.Field[tuple[AccountUse, ...]]):
    """One account, or a list of them: its name, or `{name, multiplier, symbols}`."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None,
                     **kwargs: Any) -> tuple[AccountUse, ...]:
        found: dict[str, AccountUse] = {}
        wrong: dict[int, Any] = {}
        for place, each in enumerate(value if isinstance(value, list) else [value]):
            try:
                use = _read_use(each)
                if use.name in found:
                    raise ValidationError(f"names {use.name} twice")
                found[use.name] = use
            except ValidationError as error:
                wrong[place] = error.messages
        if wrong:
            raise ValidationError(wrong if isinstance(value, list) else wrong[0])
        if not found:
            raise ValidationError("names no account")
        return tuple(found.values())


def _read_use(given: Any) -> AccountUse:
    if isinstance(given, str) and given:
        return AccountUse(name=given)
    if not isinstance(given, dict):
        raise ValidationError("expected an account's name, or {name: …, multiplier: …, symbols: {…}}")
    wrong: dict[str, list[str]] = {name: [unknown_name(name, _USE)] for name in given if name not in _USE}
    name, times, symbols = given.get("name"), given.get("multiplier"), given.get("symbols", {})
    if not isinstance(name, str) or not name:
        wrong["name"] = ["expected an account's name"] if "name" in given else ["is missing: which account?"]
    if times is not None or "multiplier" in given:
        if isinstance(times, bool) or not isinstance(times, (int, Decimal)) or times <= 0:
            wrong["multiplier"] = ["expected a number above zero, written out: 0.5 is half of every quantity"]
        elif times > _MOST_TIMES:
            wrong["multiplier"] = [f"{times} is more than {_MOST_TIMES}"]
    if not isinstance(symbols, dict) or not all(
            isinstance(one, str) and one.strip() and "{{" not in one for one in symbols.values()):
        wrong["symbols"] = ["expected what is traded in place of what, written out: {NQ: MNQ}"]
    if wrong:
        raise ValidationError(wrong)
    return AccountUse(name=str(name), multiplier=None if times is None else Decimal(times),
                      symbols=MappingProxyType({one.strip(): other.strip() for one, other in symbols.items()}))


# -- the parts of a template -----------------------------------------------------------------------------------------


class ExitSchema(Schema):
    """stop_loss and take_profit."""

    type = Plain()
    price = Plain()
    stop_price = Plain()
    points = Plain()
    ticks = Plain()
    percent = Plain()
    trail = Plain()
    time_in_force = Plain()


class LegSchema(Schema):
    """other and brackets."""

    side = Plain()
    type = Plain()
    price = Plain()
    stop_price = Plain()
    trail = Plain()
    time_in_force = Plain()
    expire_time = Plain()


class RiskSchema(Schema):
    """risk: the quantity by what may be lost at the stop."""

    money = Plain(required=True)


class OrderSchema(Schema):
    """One order of a template."""

    kind = fields.String(required=True)
    symbol = Plain()
    side = Plain()
    quantity = Plain()
    risk = fields.Nested(RiskSchema)
    type = Plain()
    price = Plain()
    stop_price = Plain()
    trail = Plain()
    time_in_force = Plain()
    expire_time = Plain()
    ref = Plain()
    other = fields.Nested(LegSchema)
    stop_loss = fields.Nested(ExitSchema)
    take_profit = fields.Nested(ExitSchema)
    brackets = fields.List(fields.Nested(LegSchema))
    legs = Plain()
    reference = Plain()
    options = fields.Dict(keys=fields.String(), values=Plain())
    when = Plain()
    max_age = Duration()
    account = AccountUses()


class TestSchema(Schema):
    """One of a template's own tests."""

    __test__ = False

    name = fields.String(required=True)
    alert = fields.Dict(keys=fields.String())
    body = fields.String()
    now = fields.String()
    instruments = fields.List(fields.Dict(keys=fields.String()))
    expect = fields.Raw(required=True)


class TemplateSchema(Schema):
    """A whole template file."""

    description = fields.String()
    account = AccountUses()
    alert = fields.Dict(keys=fields.String(), load_default=dict)
    parse = fields.String()
    when = Plain()
    sent_at = Plain()
    max_age = Duration()
    id = Plain()
    dedupe_window = Duration(zero=True)
    order = fields.Nested(OrderSchema)
    orders = fields.List(fields.Nested(OrderSchema))
    secret = fields.String()
    allow = fields.List(fields.String())
    dry_run = fields.Boolean(load_default=False, truthy={True}, falsy={False})
    guards = fields.Nested(GuardsSchema)
    tests = fields.List(fields.Nested(TestSchema))


# -- which fields a kind has -----------------------------------------------------------------------------------------

_FRAME = ("kind", "symbol", "ref", "options", "when", "max_age", "account")
_ENTRY = (*_FRAME, "side", "quantity", "type", "price", "stop_price", "trail", "time_in_force", "expire_time")
FIELDS_OF: Mapping[str, tuple[str, ...]] = {
    "plain": _ENTRY,
    "cover": (*_ENTRY, "risk", "stop_loss", "legs", "reference"),
    "oco": (*_ENTRY, "other"),
    "oso": (*_ENTRY, "risk", "stop_loss", "take_profit", "brackets", "legs", "reference"),
    "cancel": (*_FRAME, "legs"),
    "close": _FRAME,
}
_ADVICE = {"stop_loss": "use kind: oso (or cover)", "take_profit": "use kind: oso", "brackets": "use kind: oso",
           "other": "use kind: oco", "risk": "it needs a stop_loss: use kind: oso (or cover)", "quantity": "a partial close comes in a later version of Bridge"}


def check_shape(found: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[Where, str]]]:
    """The sound parts of a template's mapping, and every fault of shape as (path, message)."""
    schema = TemplateSchema()
    faults: list[tuple[Where, str]] = []
    try:
        valid = schema.load(found)
    except ValidationError as error:
        valid = error.valid_data if isinstance(error.valid_data, dict) else {}
        faults += [(path, _later(path) or message) for path, message in schema_faults(schema, error.messages)]
    faults += list(_order_faults(found))
    return valid, faults


def orders_of(found: Mapping[str, Any]) -> list[tuple[Where, Any]]:
    """Each order with its path."""
    if isinstance(found.get("orders"), list):
        return [(("orders", place), order) for place, order in enumerate(found["orders"])]
    return [(("order",), found["order"])] if "order" in found else []


def _later(path: Where) -> str:
    name = path[-1] if path else ""
    if len(path) == 1 and name in _LATER_TOP:
        return f"{name} {_LATER}"
    if len(path) == 1 and name in GUARDS:
        return f"{name} stands below `guards:`"
    in_order = path[0] == "order" or (path[0] == "orders" and len(path) > 2)
    if in_order and name == "multiplier":
        return "multiplier stands beside the account's name: `account: {name: …, multiplier: 0.5}`"
    return f"{name} {_LATER}" if path and in_order and name in _LATER_ORDER else ""


def _order_faults(found: Mapping[str, Any]) -> Iterator[tuple[Where, str]]:
    if ("order" in found) == ("orders" in found):
        yield (("orders",), "give either `order` or `orders`, not both") if "order" in found else (
            ("order",), "is missing: what is to be ordered?")
    if found.get("orders") == []:
        yield ("orders",), "is empty: what is to be ordered?"
    if isinstance(found.get("orders"), list) and len(found["orders"]) > _MOST_ORDERS:
        yield ("orders",), f"has {len(found['orders'])} orders; at most {_MOST_ORDERS}"
    for path, order in orders_of(found):
        if isinstance(order, dict) and isinstance(order.get("kind"), str):
            yield from ((((*path, *below)), message) for below, message in _kind_faults(order))
    for place, test in enumerate(found["tests"] if isinstance(found.get("tests"), list) else ()):
        if isinstance(test, dict):
            if ("alert" in test) == ("body" in test):
                yield ("tests", place), "gives either `alert` (fields) or `body` (a text)"
            if not isinstance(test.get("expect", {}), (dict, list)) and test["expect"] != "skipped":
                yield ("tests", place, "expect"), "expected an order's fields, a list of orders, or `skipped`"


def _kind_faults(order: Mapping[str, Any]) -> Iterator[tuple[Where, str]]:
    kind = order["kind"]
    if kind in LATER_KINDS:
        yield ("kind",), f"{kind} {_LATER}"
        return
    if kind not in FIELDS_OF:
        yield ("kind",), _no_kind(kind)
        return
    for name in order:
        if name in OrderSchema().fields and name not in FIELDS_OF[kind]:
            advice = f"; {_ADVICE[name]}" if name in _ADVICE else ""
            yield (name,), f"a {kind} order has no {name}{advice}"
    legs = order.get("legs")
    if kind == "cancel" and not isinstance(order.get("legs", True), bool):
        yield ("legs",), "expected true (cancel the legs of a filled entry too) or false"
    if kind in ("cover", "oso") and legs not in (None, "absolute"):
        yield ("legs",), "expected `absolute`, which accepts that absolute legs can leave a naked position"
    for name in ("stop_loss", "take_profit"):
        if isinstance(order.get(name), dict):
            yield from (((name, *below), message) for below, message in _exit_faults(order[name]))
    if "risk" in order and "quantity" in order:
        yield ("risk",), "stands in place of quantity: give one of the two"
    if "risk" in order and kind in ("cover", "oso") and "stop_loss" not in order:
        yield ("risk",), "needs a stop_loss: how far away that is, is what is risked"
    if isinstance(order.get("brackets"), list) and not 1 <= len(order["brackets"]) <= 2:
        yield ("brackets",), "has one leg or two"


def _no_kind(kind: str) -> str:
    if "{{" in kind:
        return "is written out, not an expression: make one order for each kind, each with its own `when`"
    close = difflib.get_close_matches(kind, KINDS, 1)
    return f"{kind!r} is no kind of order; " + (f"did you mean {close[0]!r}?" if close
                                                else f"expected one of {', '.join(KINDS)}")


def _exit_faults(leg: Mapping[str, Any]) -> Iterator[tuple[Where, str]]:
    given = [name for name in ("price", "points", "ticks", "percent") if name in leg]
    if len(given) != 1 and not (given and all(_is_expression(leg[name]) for name in given)):
        found = f"; it has {' and '.join(given)}" if given else ""
        advice = " (several only as expressions of which one has a value)" if given else ""
        yield (), f"needs exactly one of price, points, ticks, percent{found}{advice}"
    if "stop_price" in leg and (
            not (leg.get("type") == "stop_limit" or _is_expression(leg.get("type"))) or "price" not in given):
        yield ("stop_price",), ("is for `type: stop_limit` beside `price`: stop_price is the trigger, price the limit; "
                                "a plain stop takes `price`")


def _is_expression(value: Any) -> bool:
    return isinstance(value, str) and "{{" in value
