"""What is wrong with a template's guards and the sizes and symbols of its accounts, before any alert."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from bridge.broker import Broker
from bridge.expressions import ExpressionError, Value, compile_value
from bridge.guards import Guards
from bridge.order_rules import OrderRule, product_at
from bridge.schemas import Where
from bridge.sizing import mapped, symbol_fault, symbols_faults
from bridge.work import Account

Faults = Iterator[tuple[Where, str]]
_OF: Where = ("guards", "max_price_distance", "of")


def size_faults(found: Mapping[str, Any], rules: Iterable[OrderRule], accounts: Mapping[str, Account],
                brokers: Mapping[str, Broker]) -> Faults:
    """Maps of symbols that name what nobody knows, and risks that can never be worked out."""
    for rule in rules:
        for name, use in rule.uses.items():
            if name not in accounts:
                continue
            account, broker = accounts[name], brokers[accounts[name].broker]
            for below, message in symbols_faults(use.symbols, account.futures,
                                                 trades_futures=broker.symbol_form() != "none"):
                yield (*_place_of(found, rule, name), "symbols", *below), message
            if message := _risk_fault(rule, account, broker):
                yield (*rule.path, "risk"), message


def _risk_fault(rule: OrderRule, account: Account, broker: Broker) -> str:
    if rule.risk is None:
        return ""
    symbol, kind = rule.values.get("symbol"), rule.values.get("type")
    stop = next((leg for leg in rule.legs if leg.role == "stop_loss"), None)
    if stop is not None and kind is not None and kind.constant == "market" and "price" in stop.values and (
            "reference" not in rule.values):
        return ("cannot be worked out: nobody knows how far a stop that is a price is from an entry at market; give "
                "`reference`, or the stop as points or ticks")
    if symbol is None or not isinstance(symbol.constant, str):
        return ""
    traded = mapped(symbol.constant, rule.uses[account.name].symbols, account.futures)
    product = product_at(broker, traded, account)
    if product.point_value is None and broker.symbol_form() != "none":
        return (f"needs the value of one point of {traded}, which is not known: give `point_value` under `products:` in "
                "accounts.yaml, or a quantity in place of risk")
    return ""


def compared(found: Mapping[str, Any], guards: Guards, rules: Iterable[OrderRule], accounts: Mapping[str, Account],
             types: Mapping[str, str]) -> tuple[Mapping[str, Value], list[tuple[Where, str]]]:
    """What `max_price_distance` counts from, compiled (of the template under "", of an account under its name), and what
    is wrong with it. An account's expression has to fit every template that can send a price there."""
    values: dict[str, Value] = {}
    faults: list[tuple[Where, str]] = []

    def compile_one(name: str, source: str, path: Where, before: str) -> None:
        try:
            value = compile_value(source, types)
            if value.is_constant:
                raise ExpressionError('is the same for every alert; read a field of it, like "{{ alert.price }}"')
            values[name] = value
        except ExpressionError as error:
            faults.append((path, f"{before}{error}"))

    if guards.max_price_distance is not None:
        compile_one("", guards.max_price_distance.of, _OF, "")
    for rule in rules:
        for name in rule.accounts if not rule.is_exit and _may_have_prices(rule) else ():
            distance = accounts[name].guards.max_price_distance if name in accounts else None
            if distance is not None and name not in values:
                compile_one(name, distance.of, _place_of(found, rule, name),
                            f"the guard max_price_distance of the account {name} compares with {distance.of}, which does "
                            "not fit this template: ")
    return MappingProxyType(values), faults


def symbol_guard_faults(guards: Guards, names: Iterable[str], accounts: Mapping[str, Account],
                        brokers: Mapping[str, Broker]) -> Faults:
    """Allowed symbols that none of the accounts knows; where symbols are the trader's own words none can be wrong."""
    used = [accounts[name] for name in names if name in accounts]
    if not used or any(brokers[account.broker].symbol_form() == "none" for account in used):
        return
    for place, symbol in enumerate(guards.symbols):
        faults = [symbol_fault(symbol, account.futures) for account in used]
        if all(faults):
            yield ("guards", "symbols", place), faults[0]


def _may_have_prices(rule: OrderRule) -> bool:
    return bool(rule.legs) or not {"price", "stop_price", "trail"}.isdisjoint(rule.values)


def _place_of(found: Mapping[str, Any], rule: OrderRule, name: str) -> Where:
    """Where a rule's account stands in the file."""
    own: Any = found
    for step in rule.path:
        own = own[step]
    where: Where = (*rule.path, "account") if "account" in own else ("account",)
    given = own.get("account", found.get("account"))
    names = [each.get("name") if isinstance(each, dict) else each for each in given] if isinstance(given, list) else []
    return (*where, names.index(name)) if name in names else where
