"""The orders of a template: compiled once, then worked out for each alert and account.

Everything is pure. What is wrong comes as `Wrong`: a path in the template, words, and the alert's fields it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from functools import cache
from types import MappingProxyType
from typing import Any, cast

from marshmallow import Schema, ValidationError

from bridge.broker import Broker, capability_faults
from bridge.contracts import product_of
from bridge.expressions import Context, ExpressionError, Value, compile_condition, compile_value
from bridge.instruments import Market, NoInstrument
from bridge.legs import EXIT_TYPES, Entry, LegFault, is_left_out, market_faults, resolve_exit, resolve_leg, settled
from bridge.order import EXITS, Kind, Leg, Order, Product, Side, faults_of, opposite
from bridge.schemas import Where, schema_faults
from bridge.sizing import AccountUse, Size, SizeFault, by_risk, mapped, scaled
from bridge.template_schema import orders_of
from bridge.values import as_text, read_decimal, read_time
from bridge.work import Account

ENTRY_MAX_AGE_MS, EXIT_MAX_AGE_MS = 60_000, 900_000
LEG_NAMES = ("other", "stop_loss", "take_profit")
_BASES = ("price", "stop_price", "reference")


@dataclass(frozen=True, slots=True)
class Wrong:
    """One fault: where in the template, in words, and which fields of the alert it came from."""

    path: Where
    message: str
    reads: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class LegRule:
    """A leg as the template says it; `path` lies below the order."""

    role: str
    path: Where
    values: Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRule:
    """One order of a template, compiled. `path` is where it stands in the file."""

    index: int
    path: Where
    kind: str
    values: Mapping[str, Value]
    legs: tuple[LegRule, ...]
    options: Mapping[str, Value]
    when: Value | None
    max_age_ms: int
    accounts: tuple[str, ...]
    uses: Mapping[str, AccountUse] = field(default_factory=dict)
    risk: Value | None = None
    absolute: bool = False
    legs_too: bool = False

    @property
    def is_exit(self) -> bool:
        """Whether it can only reduce a position or withdraw something."""
        return self.kind in EXITS


# -- reading one value of an order -----------------------------------------------------------------------------------


def _word(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value} is not a word")
    return value


def _name(value: Any) -> str:
    return as_text(value)


def _moment(value: Any) -> datetime:
    return read_time(value)


READERS: Mapping[str, Callable[[Any], Any]] = MappingProxyType({
    **dict.fromkeys(("quantity", "price", "stop_price", "trail", "reference", "points", "ticks", "percent", "money"),
                    read_decimal),
    **dict.fromkeys(("side", "type", "time_in_force"), _word),
    "symbol": _name, "ref": _name, "expire_time": _moment,
})
_DISTANCES = ("points", "ticks", "percent", "trail")
_RISK: Where = ("risk", "money")


def read_value(name: str, value: Any) -> Any:
    """A field's value as the order wants it: a Decimal, text or moment. Raises ValueError in words."""
    if isinstance(value, datetime) and name != "expire_time":
        raise ValueError("is a time; expected another value")
    if isinstance(value, bool):
        raise ValueError(f"is {str(value).lower()}; expected another value")
    return READERS[name](value)


# -- compiling -------------------------------------------------------------------------------------------------------


def compile_orders(found: Mapping[str, Any], valid: Mapping[str, Any],
                   fields: Mapping[str, str]) -> tuple[list[OrderRule], list[Wrong]]:
    """Every order of a template, and what is wrong with their expressions and constants.

    `found` is the file, `valid` what of it has the right shape, `fields` the declared fields with their types.
    """
    rules: list[OrderRule] = []
    wrong: list[Wrong] = []
    general = {use.name: use for use in valid.get("account") or ()}
    for index, (path, given) in enumerate(orders_of(found)):
        if not isinstance(given, dict):
            continue
        compiler = _Compiler(path, fields, wrong)
        sound = _part(valid, path)
        kind = given.get("kind")
        is_exit = kind in EXITS
        uses = {use.name: use.over(general.get(use.name)) for use in sound.get("account") or general.values()}
        rules.append(OrderRule(
            index=index, path=path, kind=kind if isinstance(kind, str) else "",
            values=MappingProxyType(compiler.values((), given)), legs=tuple(_leg_rules(compiler, given)),
            options=MappingProxyType(compiler.options(given.get("options"))), when=compiler.condition(given),
            max_age_ms=sound.get("max_age") or valid.get("max_age") or (
                EXIT_MAX_AGE_MS if is_exit else ENTRY_MAX_AGE_MS),
            accounts=tuple(uses), uses=MappingProxyType(uses), risk=compiler.risk(given.get("risk")),
            absolute=given.get("legs") == "absolute", legs_too=given.get("legs") is True))
    return rules, wrong


def _part(valid: Mapping[str, Any], path: Where) -> Mapping[str, Any]:
    found: Any = valid
    for step in path:
        try:
            found = found[step]
        except (KeyError, IndexError, TypeError):
            return {}
    return found if isinstance(found, Mapping) else {}


def _leg_rules(compiler: _Compiler, given: Mapping[str, Any]) -> Iterator[LegRule]:
    for role in LEG_NAMES:
        if isinstance(given.get(role), dict):
            yield LegRule(role=role, path=(role,), values=compiler.values((role,), given[role]))
    brackets = given.get("brackets")
    for place, leg in enumerate(brackets if isinstance(brackets, list) else ()):
        if isinstance(leg, dict):
            path = ("brackets", place)
            yield LegRule(role=f"bracket{place + 1}", path=path, values=compiler.values(path, leg))


@dataclass(slots=True)
class _Compiler:
    """Compiles the values of one order, noting what is wrong."""

    path: Where
    fields: Mapping[str, str]
    wrong: list[Wrong]

    def values(self, path: Where, given: Mapping[str, Any]) -> dict[str, Value]:
        """The plain values among `given`, constants read and checked."""
        found = {}
        for name, each in given.items():
            if name in READERS and (value := self._value((*path, name), each)) is not None:
                if value.is_constant and value.constant is not None:
                    try:
                        value = Value(value.source, True, read_value(name, value.constant))
                        self._check_distance(path, name, value.constant)
                    except ValueError as error:
                        self._note((*path, name), str(error))
                        continue
                found[name] = value
        return found

    def _check_distance(self, path: Where, name: str, value: Any) -> None:
        if name == "money" and value <= 0:
            raise ValueError(f"{value} must be above zero: it is what may be lost")
        if name in _DISTANCES and value <= 0:
            raise ValueError(f"{value} must be above zero: it is a distance")
        if name == "percent" and path and path[-1] == "stop_loss" and value >= 100:
            raise ValueError(f"{value} is the whole price or more")

    def risk(self, given: Any) -> Value | None:
        """What may be lost at the stop, where that gives the quantity."""
        return self.values(("risk",), given).get("money") if isinstance(given, dict) else None

    def options(self, given: Any) -> dict[str, Value]:
        """The options, each a constant or an expression."""
        found = {}
        for name, each in (given if isinstance(given, dict) else {}).items():
            if (value := self._value(("options", name), each)) is not None:
                found[name] = value
        return found

    def condition(self, given: Mapping[str, Any]) -> Value | None:
        """The order's `when`."""
        if "when" not in given:
            return None
        try:
            return compile_condition(given["when"], self.fields)
        except ExpressionError as error:
            self._note(("when",), str(error))
            return None

    def _value(self, path: Where, given: Any) -> Value | None:
        if given is None or isinstance(given, (dict, list)):
            return None
        try:
            return compile_value(given, self.fields)
        except ExpressionError as error:
            self._note(path, str(error))
            return None

    def _note(self, path: Where, message: str) -> None:
        self.wrong.append(Wrong((*self.path, *path), message))


# -- working out one order -------------------------------------------------------------------------------------------


class OrderFaults(Exception):
    """An order that this alert cannot make: every fault."""

    def __init__(self, wrong: list[Wrong]) -> None:
        super().__init__("; ".join(each.message for each in wrong))
        self.wrong = wrong


def product_at(broker: Broker, symbol: str | None, account: Account) -> Product:
    """What is known of a symbol: by the broker, else by the account's table of futures, else nothing."""
    if not symbol:
        return Product()
    return broker.product_of(symbol) or product_of(symbol, account.futures) or Product()


@dataclass(frozen=True, slots=True)
class Made:
    """An order with its size; `refused` says why that comes to nothing, and its quantity is then zero."""

    order: Order
    refused: str = ""


def render_order(rule: OrderRule, context: Context, account: Account, broker: Broker,
                 contracts: Container[str] = ()) -> Made:
    """The order of a rule for one alert and account. Raises OrderFaults with everything that is wrong with it.

    `contracts` are symbols to which the account's map has been applied already.
    """
    renderer = _Renderer(rule, context)
    values = renderer.read(rule.values, rule.path)
    use = rule.uses.get(account.name) or AccountUse(name=account.name)
    if values.get("symbol") and values["symbol"] not in contracts:
        values["symbol"] = mapped(values["symbol"], use.symbols, account.futures)
    money = renderer.money()
    legs = [(leg, renderer.read(leg.values, (*rule.path, *leg.path))) for leg in rule.legs]
    options = renderer.options(broker)
    if renderer.wrong:
        raise OrderFaults(renderer.wrong)
    options, product = _identified(rule, values.get("symbol"), options, account, broker, context.market)
    base = values.get("reference")
    if rule.risk is not None:
        values["quantity"] = Decimal(product.lot or 1)
    order = _assemble(rule, values, legs, options, product, account, broker)
    renderer.check(order, product, account, broker)
    if renderer.wrong:
        raise OrderFaults(renderer.wrong)
    size = renderer.size(order, money, use, product, account, broker, base)
    if size is None or size.quantity == order.quantity:
        return Made(order, size.refused if size else "")
    sized = replace(order, quantity=size.quantity)
    if not size.refused:
        renderer.check(sized, product, account, broker)
        if renderer.wrong:
            raise OrderFaults(renderer.wrong)
    return Made(sized, size.refused)


def _identified(rule: OrderRule, symbol: str | None, options: dict[str, Any], account: Account, broker: Broker,
                market: Market) -> tuple[dict[str, Any], Product]:
    """The options with the instrument that is meant, and what is known of it. Raises OrderFaults."""
    if not (broker.lists_instruments and symbol) or rule.kind == "cancel":  # our orders are found by the symbol's own text
        return options, product_at(broker, symbol, account)
    try:
        found, product = broker.identify(symbol, options, account, market)
    except NoInstrument as error:
        reads = rule.values["symbol"].reads if "symbol" in rule.values else frozenset[str]()
        raise OrderFaults([Wrong((*rule.path, "symbol"), str(error), reads)]) from None
    return dict(found), product


@dataclass(slots=True)
class _Renderer:
    """Evaluates one rule's values, noting what is wrong."""

    rule: OrderRule
    context: Context
    wrong: list[Wrong] = field(default_factory=list)

    def read(self, values: Mapping[str, Value], path: Where) -> dict[str, Any]:
        """The values by name; None for one that an expression left out."""
        found: dict[str, Any] = {}
        for name, value in values.items():
            try:
                each = value.evaluate(self.context)
                found[name] = each if value.is_constant or each is None else read_value(name, each)
            except ValueError as error:
                self.wrong.append(Wrong((*path, name), str(error), value.reads))
        return found

    def money(self) -> Decimal | None:
        """What may be lost at the stop."""
        if self.rule.risk is None:
            return None
        found = self.read({"money": self.rule.risk}, (*self.rule.path, "risk")).get("money")
        path = (*self.rule.path, *_RISK)
        if found is None and not self.wrong:
            self.wrong.append(Wrong(path, "came out empty: how much may be lost?", self.rule.risk.reads))
        elif found is not None and found <= 0:
            self.wrong.append(Wrong(path, f"{found} must be above zero: it is what may be lost", self.rule.risk.reads))
        return found

    def size(self, order: Order, money: Decimal | None, use: AccountUse, product: Product, account: Account, broker: Broker,
             base: Decimal | None) -> Size | None:
        """How many; None for an order without a quantity. Raises OrderFaults."""
        unit = "" if broker.symbol_form() == "none" else "contract"
        if money is None:
            return None if order.quantity is None else scaled(order.quantity, use, product, is_exit=order.is_exit, unit=unit)
        value = product.point_value if product.point_value is not None else broker.point_value_of(order, account)
        try:
            return by_risk(order, money, use, product, value, base=base, unit=unit)
        except SizeFault as fault:
            path = _path_of(fault.field)
            raise OrderFaults([Wrong((*self.rule.path, *path), str(fault), self._reads(path))]) from None

    def options(self, broker: Broker) -> dict[str, Any]:
        """The options, read by the broker's schema."""
        found: dict[str, Any] = {}
        for name, value in self.rule.options.items():
            try:
                each = value.evaluate(self.context)
            except ValueError as error:
                self.wrong.append(Wrong((*self.rule.path, "options", name), str(error), value.reads))
                continue
            if each is not None:
                found[name] = as_option(each)
        schema = options_schema(broker.options_schema)
        try:
            loaded = schema.load(found)
        except ValidationError as error:
            for path, message in schema_faults(schema, error.messages):
                option = self.rule.options.get(str(path[0])) if path else None
                self.wrong.append(Wrong((*self.rule.path, "options", *path), message,
                                        option.reads if option else frozenset()))
            return {}
        return dict(loaded)

    def check(self, order: Order, product: Product, account: Account, broker: Broker) -> None:
        """The rules of orders, and what this broker refuses."""
        for name, message in rule_faults(order, product, account, broker):
            path = _path_of(name)
            self.wrong.append(Wrong((*self.rule.path, *path), message, self._reads(path)))

    def _reads(self, path: Where) -> frozenset[str]:
        """The alert's fields behind a field of the order; of a leg's fault also those behind the entry's price."""
        if path and path[0] == "options":
            return frozenset().union(*(value.reads for name, value in self.rule.options.items()
                                       if len(path) == 1 or name == path[1]))
        values = [value for name, value in self.rule.values.items() if path[:1] == (name,)]
        if path[:1] == ("risk",) and self.rule.risk is not None:
            values.append(self.rule.risk)
        for leg in self.rule.legs:
            if path[:len(leg.path)] == leg.path:
                values += leg.values.values()
                values += [self.rule.values[name] for name in ("price", "stop_price") if name in self.rule.values]
        return frozenset().union(*(value.reads for value in values))


def rule_faults(order: Order, product: Product, account: Account, broker: Broker) -> Iterator[tuple[str, str]]:
    """Every rule that a whole order breaks, ours first; the same field is named once for the same words."""
    seen: set[tuple[str, str]] = set()
    own = list(faults_of(order, product))
    fields_at_fault = {name for name, _ in own}
    sketch = order.to_json()
    theirs = [fault for fault in (*capability_faults(broker, sketch), *broker.refusals(sketch, account))
              if fault[0] not in fields_at_fault]
    for fault in (*own, *theirs):
        if fault not in seen:
            seen.add(fault)
            yield fault


@cache
def options_schema(kind: type[Schema]) -> Schema:
    """A broker's options schema, made once: making one costs more than rendering an order."""
    return kind()


def as_option(value: Any) -> Any:
    """A value as an option's schema expects it: whole Decimals as int, moments as ISO text."""
    if isinstance(value, Decimal) and value == value.to_integral_value() and abs(value) < 10 ** 30:
        return int(value)
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value


def _path_of(name: str) -> Where:
    return tuple(int(step) if step.isdigit() else step for step in name.split(".")) if name else ()


def _assemble(rule: OrderRule, values: dict[str, Any], legs: list[tuple[LegRule, dict[str, Any]]],
              options: dict[str, Any], product: Product, account: Account, broker: Broker) -> Order:
    """The order with its legs resolved. Raises OrderFaults for legs that cannot be."""
    reference = values.pop("reference", None)
    known = {name: value for name, value in values.items() if value is not None}
    if rule.is_exit:
        return Order(kind=cast(Kind, rule.kind), legs_too=rule.legs_too, options=MappingProxyType(options), **known)
    known.setdefault("time_in_force", "day")
    if rule.kind == "cover" and "trail" in known:
        legs = _with_trail(legs, known.pop("trail"))
    entry = Entry(
        side=cast(Side, known.get("side", "buy")), type=known.get("type", ""), price=known.get("price"),
        stop_price=known.get("stop_price"), time_in_force=known["time_in_force"], expire_time=known.get("expire_time"),
        reference=reference, absolute=rule.absolute, from_fill=broker.counts_from_fill(rule.kind, account),
        has_gtc="gtc" in broker.capabilities.times_in_force, tick=product.tick)
    resolved = _resolve_all(rule, legs, entry)
    wrong = [each for each in resolved.values() if isinstance(each, Wrong)]
    if wrong:
        # A leg that cannot be worked out for want of a sound entry is not the fault to tell.
        bare = Order(kind="plain", **known)
        own = [Wrong((*rule.path, *_path_of(name)), message) for name, message in faults_of(bare, product)]
        raise OrderFaults(own or wrong)
    sound = {role: each for role, each in resolved.items() if isinstance(each, Leg)}
    return Order(kind=cast(Kind, rule.kind), options=MappingProxyType(options), other=sound.get("other"),
                 stop_loss=sound.get("stop_loss"), take_profit=sound.get("take_profit"),
                 brackets=tuple(leg for role, leg in sound.items() if role.startswith("bracket")), **known)


def _resolve_all(rule: OrderRule, legs: list[tuple[LegRule, dict[str, Any]]],
                 entry: Entry) -> dict[str, Leg | Wrong | None]:
    """Each leg by its role: worked out, left out, or what is wrong with it."""
    found: dict[str, Leg | Wrong | None] = {}
    for leg, given in legs:
        try:
            found[leg.role] = _resolve(rule, leg, given, entry)
        except LegFault as fault:
            reads = frozenset().union(*(value.reads for value in (
                *leg.values.values(), *(rule.values[name] for name in _BASES if name in rule.values))))
            found[leg.role] = Wrong((*rule.path, *leg.path, *_path_of(fault.field)), str(fault), reads)
    return found


def _with_trail(legs: list[tuple[LegRule, dict[str, Any]]],
                trail: Decimal) -> list[tuple[LegRule, dict[str, Any]]]:
    """A cover's `trail` belongs to its stop, which then trails."""
    return [(leg, {"trail": trail, **given, "type": given.get("type") or "trailing_stop"})
            if leg.role == "stop_loss" else (leg, given) for leg, given in legs]


def _resolve(rule: OrderRule, leg: LegRule, given: Mapping[str, Any], entry: Entry) -> Leg | None:
    if is_left_out(leg.role, given):
        return None
    given = settled(leg.role, given)
    if leg.role == "other":
        return resolve_leg("other", given, entry, entry.side)
    if entry.type == "market":
        for below, message in market_faults(rule.kind, leg.role, given, reference=entry.reference is not None,
                                            absolute=entry.absolute, from_fill=entry.from_fill):
            raise LegFault(below, message)
    if leg.role in EXIT_TYPES:
        return resolve_exit(leg.role, given, entry)
    return resolve_leg(leg.role, given, entry, opposite(entry.side))
