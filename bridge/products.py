"""`products:` and `roll:` of accounts.yaml: what a product is and when an account goes to its next month.

The product table is what serves where the file says nothing. `products:` stands at the top of the file for every account,
and below an account for that one; field by field the account's word counts first, then the top's, then the table's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from bridge.contracts import month_fault, root_fault
from bridge.futures import DEFAULT_ROLL_DAYS, EXPIRY_RULES, MONTHS, Future, Futures, Roll
from bridge.order import Product
from bridge.schemas import Where, meant, schema_faults

Faults = list[tuple[Where, str]]


def _number() -> fields.Decimal:
    return fields.Decimal(allow_nan=False, validate=validate.Range(
        min=Decimal(0), min_inclusive=False, max=Decimal(1_000_000_000), error="expected a number above zero"))


class ProductSchema(Schema):
    tick = _number()
    point_value = _number()
    months = fields.String()
    last_trade = fields.String()
    negative_prices = fields.Boolean(truthy={True}, falsy={False})


class RollSchema(Schema):
    days_before_expiry = fields.Integer(strict=True, validate=validate.Range(
        min=0, max=60, error="expected a whole number of days from 0 to 60"))
    month = fields.String()
    months = fields.Dict(keys=fields.String(), values=fields.String())


# -- products --------------------------------------------------------------------------------------------------------


def read_products(given: Any, table: Futures) -> tuple[Futures, Faults]:
    """The table with what `products:` says, and what is wrong with that, as (path below `products`, message)."""
    if not isinstance(given, Mapping):
        return table, [((), "expected products by their root: `ES: {tick: 0.25, point_value: 50}`")]
    rows: dict[str, Future] = {}
    faults: Faults = []
    for root, said in given.items():
        found, wrong = _read_product(root, said, table)
        faults += wrong
        if found is not None:
            rows[root] = found
    return table.with_rows(rows), faults


def _read_product(root: str, said: Any, table: Futures) -> tuple[Future | None, Faults]:
    if fault := root_fault(root):
        return None, [((root,), fault)]
    if not isinstance(said, Mapping):
        return None, [((root,), "expected what is known of it: `{tick: 0.25, point_value: 50}`")]
    schema = ProductSchema()
    try:
        found: dict[str, Any] = schema.load(dict(said))
    except ValidationError as error:
        return None, [((root, *path), message) for path, message in schema_faults(schema, error.messages)]
    known = table.get(root)
    wrong = [((root, *path), message) for path, message in _product_faults(root, found, known, table)]
    return (None, wrong) if wrong else (_changed(root, found, known, table), [])


def _product_faults(root: str, found: Mapping[str, Any], known: Future | None, table: Futures) -> Iterator[tuple[Where, str]]:
    if known is None and "tick" not in found:
        yield (), f"the table does not know {root}, so its `tick` is needed: `{root}: {{tick: 0.25, point_value: 50}}`"
    months = found.get("months")
    if months is not None and (not months or set(months) - set(MONTHS) or len(set(months)) < len(months)):
        yield ("months",), f"expected month letters of {MONTHS}, each once: HMUZ is March, June, September, December"
    rule = found.get("last_trade")
    if rule is not None and rule not in EXPIRY_RULES and not _rule_of_root(rule, table):
        yield ("last_trade",), (f"{rule!r} is no rule; {meant(rule, EXPIRY_RULES)}; or the root of a product that ends by the "
                                "same rule, like CL")
    has_months, has_rule = bool(months or (known and known.months)), rule is not None or bool(known and known.expiry)
    if has_months and not has_rule:
        yield ("months",), "needs `last_trade` beside it: without the last day of a contract nobody knows when to roll"
    if has_rule and not has_months:
        yield ("last_trade",), "needs `months` beside it: which contracts are there?"


def _rule_of_root(root: str, table: Futures) -> bool:
    return root in table and table[root].expiry is not None


def _changed(root: str, found: Mapping[str, Any], known: Future | None, table: Futures) -> Future:
    base = known or Future(root=root, product=Product(), serial="months" not in found)
    product = replace(base.product, **{name: found[name] for name in ("tick", "point_value") if name in found})
    if "negative_prices" in found:
        product = replace(product, may_be_negative=found["negative_prices"])
    base = replace(base, product=product)
    if "months" in found:
        base = replace(base, months="".join(sorted(found["months"], key=MONTHS.index)))
    if "last_trade" in found:
        rule = found["last_trade"]
        base = replace(base, expiry=EXPIRY_RULES[rule] if rule in EXPIRY_RULES else table[rule].expiry)
    return base


# -- roll ------------------------------------------------------------------------------------------------------------


def read_roll(given: Any, table: Futures, broker: str, front_until: int | None) -> tuple[Roll, Faults]:
    """When an account rolls, and what is wrong with how it says so, as (path below `roll`, message).

    `front_until`: how many days before its end a contract stops to be this broker's own front month; None where the
    broker does not tell.
    """
    if given is None:
        return Roll(), []
    if given == "broker":
        if front_until is not None:
            return Roll(days=front_until), []
        return Roll(), [((), f"{broker} tells nobody its front month before an order is sent; use {{days_before_expiry: "
                             f"{DEFAULT_ROLL_DAYS}}}, or write the month out: {{months: {{ES: H7}}}}")]
    if not isinstance(given, Mapping):
        return Roll(), [((), "expected {days_before_expiry: 8}, {month: H7}, {months: {ES: H7, CL: G7}} or broker")]
    schema = RollSchema()
    try:
        found: dict[str, Any] = schema.load(dict(given))
    except ValidationError as error:
        return Roll(), list(schema_faults(schema, error.messages))
    faults = list(_roll_faults(found, table))
    months = {**({"": found["month"]} if "month" in found else {}), **found.get("months", {})}
    return Roll(days=found.get("days_before_expiry", DEFAULT_ROLL_DAYS), months=tuple(sorted(months.items()))), faults


def _roll_faults(found: Mapping[str, Any], table: Futures) -> Iterator[tuple[Where, str]]:
    if not found:
        yield (), "is empty; expected {days_before_expiry: 8}, {month: H7} or {months: {ES: H7, CL: G7}}"
    if "month" in found and "days_before_expiry" in found:
        yield ("days_before_expiry",), "would never count: `month` names the month of every product; give one of the two"
    if "month" in found and (fault := month_fault(found["month"])):
        yield ("month",), f"{found['month']!r} {fault}"
    for root, month in found.get("months", {}).items():
        if fault := month_fault(month):
            yield ("months", root), f"{month!r} {fault}"
        elif root not in table:
            yield ("months", root), "is not in the table of futures; `products:` adds one"
        elif not table[root].has(MONTHS.index(month[0]) + 1):
            yield ("months", root), f"{root} has no contract of month {month[0]}; it has {', '.join(table[root].months)}"
