"""What can be known of a template's orders when it loads: a sketch of each, held against the rules and its brokers.

A sketch has the constants of the file and UNKNOWN where an expression stands. Faults that depend on an unknown value
wait for the alert.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, cast

from marshmallow import ValidationError

from bridge.broker import UNKNOWN, Broker, capability_faults
from bridge.legs import DISTANCES, EXIT_DEFAULTS, EXIT_TYPES, Entry, LegFault, exit_time_in_force, market_faults
from bridge.legs import resolve_exit as resolve
from bridge.order import Kind, Leg, LegRole, Order, Product, faults_of, none_of, opposite
from bridge.order_rules import LegRule, OrderRule, as_option, options_schema, product_at
from bridge.schemas import Where, meant, names_of, schema_faults
from bridge.work import Account

_STAND_INS: Mapping[str, Any] = MappingProxyType({
    "symbol": "ESZ6", "side": "buy", "quantity": Decimal(1), "type": "limit", "price": Decimal(1),
    "stop_price": Decimal(1), "trail": Decimal(1), "offset": Decimal(1), "time_in_force": "day", "ref": "ref",
    "expire_time": datetime(2026, 1, 1, tzinfo=UTC)})
_NUMBERS = ("price", "stop_price", "offset", "trail")


def check_rule(rule: OrderRule, account: Account, broker: Broker) -> Iterator[tuple[Where, str]]:
    """Every fault of an order that needs no alert to be seen, as (path below the order, message)."""
    options, faults = _options(rule, broker)
    yield from faults
    sketch = _sketch(rule, account, broker)
    if options:
        sketch["options"] = options
    legs = list(_leg_faults(rule, sketch, account, broker))
    yield from legs
    own = list(_static_faults(sketch, _product(broker, account, sketch.get("symbol")), _may_differ(rule)))
    theirs = [(_path(name), message) for name, message in (
        *capability_faults(broker, sketch), *broker.refusals(sketch, account))]
    named: list[Where] = [path for path, _ in (*faults, *legs)]
    for path, message in (*own, *theirs):
        if not overlaps(path, named):
            named.append(path)
            yield path, message


_LOOKS_LIKE_ONE = re.compile(r"\balert\.[A-Za-z_]")
_CURLY = "“”„‟‘’‚‛«»"


def torn_texts(found: Mapping[str, Any]) -> Iterator[tuple[Where, str]]:
    """Texts that were meant as expressions: without their braces, or within the quotes of a word processor."""
    for name in ("order", "orders", "sent_at", "id", "guards"):
        yield from _torn_below((name,), found.get(name))


def _torn_below(path: Where, value: Any) -> Iterator[tuple[Where, str]]:
    if isinstance(value, (dict, list)):
        for step, each in value.items() if isinstance(value, dict) else enumerate(value):
            if step != "when":
                yield from _torn_below((*path, step), each)
    elif isinstance(value, str) and value[:1] in _CURLY and "{{" in value:
        yield path, f"has curly quotes: write straight ones: {path[-1]}: \"{value.strip(_CURLY)}\""
    elif isinstance(value, str) and "{{" not in value and _LOOKS_LIKE_ONE.search(value):
        inner = value.strip("{} ")
        quote = "'" if '"' in inner else '"'
        yield path, ("is read as a plain text; an expression stands in two braces and quotes: "
                     f"{path[-1]}: {quote}{{{{ {inner} }}}}{quote}")


def overlaps(path: Where, named: Iterable[Where]) -> bool:
    """Whether a fault is told already: of the same field, of what it is a part of, or of a part of it."""
    return any(path[:len(each)] == each[:len(path)] for each in named)


def _path(name: str) -> Where:
    return tuple(int(step) if step.isdigit() else step for step in name.split("."))


def _product(broker: Broker, account: Account, symbol: Any) -> Product:
    return product_at(broker, symbol, account) if isinstance(symbol, str) else Product(may_be_negative=True)


# -- the sketch ------------------------------------------------------------------------------------------------------


def _known(rule: OrderRule, values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.constant if value.is_constant else UNKNOWN for name, value in values.items()
            if not (value.is_constant and value.constant is None)}


def _sketch(rule: OrderRule, account: Account, broker: Broker) -> dict[str, Any]:
    """The order as `Order.to_json` would give it."""
    sketch = {"kind": rule.kind, **_known(rule, rule.values)}
    if rule.risk is not None:
        sketch["quantity"] = UNKNOWN
    sketch.pop("reference", None)
    if rule.is_exit:
        if rule.legs_too:
            sketch["legs"] = True
        return sketch
    sketch.setdefault("time_in_force", "day")
    trail = sketch.pop("trail", None) if rule.kind == "cover" else None
    brackets = []
    for leg in rule.legs:
        drawn = _sketch_leg(rule, leg, sketch, trail, account, broker)
        if leg.role.startswith("bracket"):
            brackets.append(drawn)
        else:
            sketch[leg.role] = drawn
    if brackets:
        sketch["brackets"] = brackets
    return sketch


def _sketch_leg(rule: OrderRule, leg: LegRule, sketch: Mapping[str, Any], trail: Any, account: Account,
                broker: Broker) -> dict[str, Any]:
    given = _known(rule, leg.values)
    drawn: dict[str, Any] = {"role": leg.role, **{name: given[name] for name in given if name not in (
        *DISTANCES, "reference")}}
    side = sketch.get("side", UNKNOWN)
    default = side if leg.role == "other" or not isinstance(side, str) else opposite(side)
    drawn.setdefault("side", default)
    drawn.setdefault("time_in_force", _time_in_force(sketch, broker))
    if leg.role in EXIT_TYPES:
        _sketch_exit(rule, leg, given, drawn, sketch, trail, account, broker)
    return drawn


def _time_in_force(sketch: Mapping[str, Any], broker: Broker) -> Any:
    entry = sketch["time_in_force"]
    if not isinstance(entry, str):
        return UNKNOWN
    has_gtc = "gtc" in broker.capabilities.times_in_force
    return exit_time_in_force(Entry(side="buy", type="", time_in_force=entry, has_gtc=has_gtc))


def _sketch_exit(rule: OrderRule, leg: LegRule, given: Mapping[str, Any], drawn: dict[str, Any],
                 sketch: Mapping[str, Any], trail: Any, account: Account, broker: Broker) -> None:
    """Prices and distance of a stop_loss or take_profit: worked out where all is constant, else UNKNOWN."""
    trailing = trail if leg.role == "stop_loss" and trail is not None else given.get("trail")
    kind = drawn.setdefault("type", "trailing_stop" if trailing is not None else EXIT_DEFAULTS[leg.role])
    form = next((name for name in ("price", *DISTANCES) if name in given), None)
    for name in _NUMBERS:
        drawn.pop(name, None)
    if form is None:
        return
    from_fill = broker.counts_from_fill(rule.kind, account)
    at_market = sketch.get("type") == "market"
    by_offset = at_market and from_fill and (form != "price" or not rule.absolute)
    drawn_as = ["offset"] if by_offset else ["price"] if leg.role == "take_profit" else (
        ["stop_price", "price"] if kind == "stop_limit" else ["stop_price"])
    drawn.update(dict.fromkeys(drawn_as, UNKNOWN))
    if kind == "trailing_stop":
        drawn["trail"] = UNKNOWN if trailing is None else trailing
    exact = _exact(rule, leg, given, sketch, trail, from_fill, account, broker)
    if isinstance(exact, Leg):
        drawn.update({name: getattr(exact, name) for name in (*drawn_as, "trail") if getattr(exact, name) is not None})


def _exact(rule: OrderRule, leg: LegRule, given: Mapping[str, Any], sketch: Mapping[str, Any], trail: Any,
           from_fill: bool, account: Account, broker: Broker) -> Leg | LegFault | None:
    """The leg itself where nothing that it depends on is unknown."""
    reference = rule.values.get("reference")
    wanted = {**given, **({"trail": trail, "type": given.get("type", "trailing_stop")}
                          if trail is not None and leg.role == "stop_loss" else {})}
    base = [sketch.get(name) for name in ("side", "type", "price", "stop_price", "time_in_force", "expire_time")]
    if UNKNOWN in (*base, *wanted.values()) or not isinstance(sketch.get("side"), str):
        return None
    if reference is not None and not reference.is_constant:
        return None
    symbol = sketch.get("symbol")
    entry = Entry(
        side=sketch["side"], type=str(sketch.get("type")), price=sketch.get("price"),
        stop_price=sketch.get("stop_price"), time_in_force=sketch["time_in_force"],
        expire_time=sketch.get("expire_time"), reference=reference.constant if reference else None,
        absolute=rule.absolute, from_fill=from_fill, has_gtc="gtc" in broker.capabilities.times_in_force,
        tick=_product(broker, account, symbol).tick)
    try:
        return resolve(leg.role, wanted, entry)
    except LegFault as fault:
        # Without the symbol, or before it is looked up, its tick is not known yet.
        is_known = isinstance(symbol, str) and not broker.lists_instruments
        return fault if is_known or fault.field != "ticks" else None


# -- faults ----------------------------------------------------------------------------------------------------------


def _leg_faults(rule: OrderRule, sketch: Mapping[str, Any], account: Account,
                broker: Broker) -> Iterator[tuple[Where, str]]:
    """What is wrong with the legs themselves: their type, their form on a market entry, constants that don't fit."""
    from_fill = broker.counts_from_fill(rule.kind, account)
    for leg in rule.legs:
        given = _known(rule, leg.values)
        kind = given.get("type")
        if leg.role in EXIT_TYPES and isinstance(kind, str) and kind not in EXIT_TYPES[leg.role]:
            yield (*leg.path, "type"), none_of(kind, EXIT_TYPES[leg.role])
        elif leg.role not in EXIT_TYPES and kind is None:
            yield (*leg.path, "type"), "is missing"
        elif sketch.get("type") == "market" and leg.role != "other" and (
                leg.role not in EXIT_TYPES or _has_form(given)):
            for below, message in market_faults(rule.kind, leg.role, given, reference="reference" in rule.values,
                                                absolute=rule.absolute, from_fill=from_fill):
                yield (*leg.path, *([below] if below else [])), message
        elif leg.role in EXIT_TYPES and _has_form(given):
            trail = rule.values.get("trail") if rule.kind == "cover" else None
            constant = None if trail is None else trail.constant if trail.is_constant else UNKNOWN
            exact = _exact(rule, leg, given, sketch, constant, from_fill, account, broker)
            if isinstance(exact, LegFault) and not (exact.field in DISTANCES and _lacks_base(sketch)):
                yield (*leg.path, *([exact.field] if exact.field else [])), str(exact)


def _has_form(given: Mapping[str, Any]) -> bool:
    return any(name in given for name in ("price", *DISTANCES))


def _lacks_base(sketch: Mapping[str, Any]) -> bool:
    """Whether the entry itself lacks its price: that is the fault to tell."""
    return sketch.get("price") is None and sketch.get("stop_price") is None


def _options(rule: OrderRule, broker: Broker) -> tuple[dict[str, Any], list[tuple[Where, str]]]:
    """The options of the sketch, and what is wrong with their names and constants."""
    schema = options_schema(broker.options_schema)
    known = names_of(schema)
    faults: list[tuple[Where, str]] = [
        (("options", name), f"{broker.name} has no such option; {meant(name, known)}")
        for name in rule.options if name not in known]
    constants = {name: as_option(value.constant) for name, value in rule.options.items()
                 if name in known and value.is_constant}
    found: dict[str, Any] = {name: UNKNOWN for name, value in rule.options.items() if not value.is_constant}
    try:
        loaded = schema.load(constants, partial=True)
    except ValidationError as error:
        faults += [(("options", *path), message) for path, message in schema_faults(schema, error.messages)]
        loaded = error.valid_data if isinstance(error.valid_data, dict) else {}
    return {**loaded, **found}, faults


def _may_differ(rule: OrderRule) -> bool:
    """Whether the two halves of an oco can be on different sides as well as on the same: only the alert tells."""
    one = rule.values.get("side")
    other = next((leg.values.get("side") for leg in rule.legs if leg.role == "other"), None)
    return one is not None and other is not None and not (one.is_constant and other.is_constant) and (
        str(one.source).split() != str(other.source).split())


def _static_faults(sketch: Mapping[str, Any], product: Product, may_differ: bool) -> Iterator[tuple[Where, str]]:
    """The rules of orders, as far as they speak of what is constant."""
    order = _stand_in(sketch)
    for name, message in faults_of(order, product):
        if not _depends_on_unknown(name, sketch) and not (may_differ and name.startswith("other")):
            yield _path(name), message


def _stand_in(sketch: Mapping[str, Any]) -> Order:
    """An order of the sketch's shape with harmless values in the unknown places."""
    values: dict[str, Any] = {name: _STAND_INS[name] if value is UNKNOWN else value for name, value in sketch.items()
                              if name in _STAND_INS}
    legs: dict[str, Any] = {name: _stand_in_leg(sketch[name], values)
                            for name in ("other", "stop_loss", "take_profit") if name in sketch}
    return Order(kind=cast(Kind, sketch["kind"]), **values, **legs,
                 brackets=tuple(_stand_in_leg(leg, values) for leg in sketch.get("brackets", ())),
                 options=MappingProxyType(dict(sketch.get("options", {}))))


def _stand_in_leg(leg: Mapping[str, Any], entry: Mapping[str, Any]) -> Leg:
    values = {name: _STAND_INS[name] if value is UNKNOWN else value for name, value in leg.items()
              if name in _STAND_INS}
    if leg.get("side") is UNKNOWN:
        values["side"] = entry.get("side", "buy")
    values.setdefault("type", "limit")
    return Leg(role=cast(LegRole, leg["role"]), **values)


def _depends_on_unknown(name: str, sketch: Mapping[str, Any]) -> bool:
    """Whether a fault of that field could look different once the alert is known."""
    path = _path(name)
    if path[0] in ("other", "stop_loss", "take_profit", "brackets"):
        thing: Any = sketch.get(str(path[0]))
        if path[0] == "brackets":
            thing = thing[path[1]] if thing and len(path) > 1 else None
            path = path[1:]
        if thing is None:
            return False
        return _leg_depends(path[1:], thing, sketch)
    if path[0] == "type":
        other = sketch.get("other", {})
        return UNKNOWN in (sketch.get("type"), other.get("type"))
    if path[0] in ("price", "stop_price", "trail"):
        return UNKNOWN in (sketch.get("type"), sketch.get(str(path[0])))
    if path[0] == "expire_time":
        return UNKNOWN in (sketch.get("time_in_force"), sketch.get("expire_time"))
    return sketch.get(str(path[0])) is UNKNOWN


def _leg_depends(path: Where, leg: Mapping[str, Any], sketch: Mapping[str, Any]) -> bool:
    if not path:
        # A rule between two prices: all of both sides must be known.
        numbers = [thing.get(name) for thing in (leg, sketch) for name in (*_NUMBERS, "side", "type")]
        return UNKNOWN in numbers
    name = str(path[0])
    if name == "type":
        return UNKNOWN in (leg.get("type"), sketch.get("type")) or (leg.get("side") is UNKNOWN) != (
            sketch.get("side") is UNKNOWN)
    if name == "expire_time":
        return UNKNOWN in (leg.get("time_in_force"), leg.get("expire_time"))
    if name in _NUMBERS:
        return UNKNOWN in (leg.get("type"), leg.get(name))
    return leg.get(name) is UNKNOWN
