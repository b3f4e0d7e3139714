"""`bridge schema`: JSON Schema of templates and of accounts.yaml, for editors that complete and underline.

It is made from the very tables and marshmallow schemas that the loader uses, so that a field is known to both or to
neither. It says less than `bridge check`, which alone knows whether a template loads. The keywords used are those that
editors of older drafts know too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from marshmallow import Schema, fields, validate

from bridge.accounts import CommonSchema
from bridge.broker import Broker
from bridge.brokers import BROKERS
from bridge.dangers import DANGERS
from bridge.fields import KEYS, TYPES
from bridge.futures import EXPIRY_RULES
from bridge.legs import EXIT_TYPES
from bridge.order import KINDS, SIDES, TIMES_IN_FORCE
from bridge.order import TYPES as ORDER_TYPES
from bridge.products import ProductSchema, RollSchema
from bridge.schema_words import WORDS
from bridge.schemas import names_of
from bridge.template_schema import FIELDS_OF, AccountUses, Duration, Plain, TemplateSchema

DRAFT = "https://json-schema.org/draft/2020-12/schema"
Json = dict[str, Any]

_EXPRESSION: Json = {"type": "string", "pattern": r"\{\{"}
_PLAIN: Json = {"type": ["string", "number", "boolean"]}
_NUMBER: Json = {"type": ["number", "string"], "pattern": r"^\s*[-+]?[0-9.]|\{\{"}
_ABOVE_ZERO: Json = {"type": "number", "exclusiveMinimum": 0}
_REFERENCE: Json = {"type": "string", "pattern": r"^\$\{([A-Za-z_][A-Za-z0-9_]*|file:/[^{}$]+)\}$"}
_NAMES = r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"
_PARTS = {"OrderSchema": "order", "ExitSchema": "exit", "LegSchema": "leg", "TestSchema": "test",
          "GuardsSchema": "guards", "PriceDistanceSchema": "distance", "RiskSchema": "risk", "BudgetSchema": "budget"}
"""A schema's class → the name of its part in WORDS and among the definitions."""


def schema_of(what: str, brokers: Mapping[str, Broker] = BROKERS) -> Json:
    """The JSON Schema of `template` or `accounts`."""
    return {"template": _template, "accounts": _accounts}[what](brokers)


def part_of(schema: Schema) -> str:
    """The name of a nested part, as it stands in WORDS."""
    name = type(schema).__name__.lstrip("_")
    return _PARTS.get(name, name.removesuffix("Schema").lower())


# -- from marshmallow ------------------------------------------------------------------------------------------------


class _Definitions:
    """Collects the parts that are used, each once."""

    def __init__(self, brokers: Mapping[str, Broker]) -> None:
        self.brokers = brokers
        self.parts: dict[str, Json] = {}

    def object_of(self, schema: Schema, part: str) -> Json:
        """An object with the fields of a schema, and no others."""
        properties = {name: self.field(part, name, each) for name, each in _fields_of(schema)}
        found: Json = {"type": "object", "properties": properties, "additionalProperties": False}
        required = [name for name, each in _fields_of(schema) if each.required]
        return {**found, "required": required} if required else found

    def field(self, part: str, name: str, field: fields.Field[Any]) -> Json:
        """One field, with what an editor shows of it."""
        found = dict(_FORMS[f"{part}.{name}"]) if f"{part}.{name}" in _FORMS else self.plain(field)
        words = WORDS.get(f"{part}.{name}") or field.metadata.get("description")
        return {"description": words, **found} if words else found

    def plain(self, field: fields.Field[Any]) -> Json:
        """What a field takes, from its class and its validators."""
        if isinstance(field, fields.Nested):
            return self.reference(field.schema)
        if isinstance(field, fields.List):
            return {"type": "array", "items": self.plain(field.inner)}
        if isinstance(field, fields.Dict):
            return {"type": "object"}
        for kind, form in _CLASSES.items():
            if isinstance(field, kind):
                return {**form, **_validated(field)}
        return dict(_PLAIN)

    def reference(self, schema: Schema) -> Json:
        """A reference to a part, which is described once."""
        part = part_of(schema)
        if part not in self.parts:
            self.parts[part] = {}
            self.parts[part] = self.object_of(schema, part)
        return {"$ref": f"#/$defs/{part}"}


def _fields_of(schema: Schema) -> Iterator[tuple[str, fields.Field[Any]]]:
    for name, field in schema.fields.items():
        yield field.data_key or name, field


_USE: Json = {
    "type": "object", "required": ["name"], "additionalProperties": False,
    "properties": {"name": {"type": "string", "description": WORDS["use.name"]},
                   "multiplier": {**_ABOVE_ZERO, "description": WORDS["use.multiplier"]},
                   "symbols": {"type": "object", "additionalProperties": {"type": "string"},
                               "description": WORDS["use.symbols"]}}}
_ACCOUNT_USES: Json = {"anyOf": [{"type": "string"}, _USE,
                                 {"type": "array", "minItems": 1, "items": {"anyOf": [{"type": "string"}, _USE]}}]}
_CLASSES: Mapping[type, Json] = {
    Duration: {"type": "string", "pattern": "[0-9]"}, AccountUses: _ACCOUNT_USES, Plain: _PLAIN,
    fields.String: {"type": "string"}, fields.Boolean: {"type": "boolean"}, fields.Integer: {"type": "integer"},
    fields.Decimal: {"type": "number"}, fields.Raw: {}}


def _validated(field: fields.Field[Any]) -> Json:
    """What the validators say that JSON Schema can say too."""
    found: Json = {}
    for each in field.validators:
        if isinstance(each, validate.OneOf):
            found["enum"] = list(each.choices)
        elif isinstance(each, validate.Length):
            found |= {name: value for name, value in (("minLength", each.min), ("maxLength", each.max)) if value}
        elif isinstance(each, validate.Range):
            if each.min is not None:
                found["minimum" if each.min_inclusive else "exclusiveMinimum"] = _number(each.min)
            if each.max is not None:
                found["maximum"] = _number(each.max)
    return found


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, Decimal) and value == value.to_integral_value() else value


def _words_or_expression(words: Iterable[str]) -> Json:
    return {"anyOf": [{"enum": list(words)}, _EXPRESSION]}


_FORMS: Mapping[str, Json] = {
    **dict.fromkeys(("order.quantity", "order.price", "order.stop_price", "order.trail", "order.reference", "exit.price",
                     "exit.stop_price", "exit.points", "exit.ticks", "exit.percent", "exit.trail", "leg.price",
                     "leg.stop_price", "leg.trail", "risk.money"), _NUMBER),
    **dict.fromkeys(("order.side", "leg.side"), _words_or_expression(SIDES)),
    **dict.fromkeys(("order.type", "leg.type"), _words_or_expression(ORDER_TYPES)),
    **dict.fromkeys(("order.time_in_force", "exit.time_in_force", "leg.time_in_force"),
                    _words_or_expression(TIMES_IN_FORCE)),
    "exit.type": _words_or_expression(dict.fromkeys(kind for kinds in EXIT_TYPES.values() for kind in kinds)),
    "order.kind": {"enum": list(KINDS)},
    "order.legs": {"enum": ["absolute", True, False]},
    **dict.fromkeys(("order.symbol", "order.ref", "order.expire_time"), {"type": ["string", "number"]}),
    **dict.fromkeys(("template.when", "order.when"), {"type": ["string", "boolean"]}),
    **dict.fromkeys(("template.sent_at", "template.id"), _EXPRESSION),
    "template.allow": {"type": "array", "items": {"enum": list(DANGERS)}},
    "template.secret": _REFERENCE,
    "test.expect": {"anyOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}, {"enum": ["skipped"]}]},
    **dict.fromkeys(("guards.max_quantity", "distance.percent"), _ABOVE_ZERO),
    **dict.fromkeys(("guards.max_orders_per_minute", "guards.max_orders_per_day"), {"type": "integer", "minimum": 1}),
    **dict.fromkeys(("guards.symbols", "guards.sessions"), {"type": "array", "minItems": 1, "items": {"type": "string"}}),
    "product.last_trade": {"type": "string", "examples": list(EXPIRY_RULES)},
}
"""Fields of which more can be said than their class tells."""


# -- templates -------------------------------------------------------------------------------------------------------


def _template(brokers: Mapping[str, Broker]) -> Json:
    made = _Definitions(brokers)
    whole = made.object_of(TemplateSchema(), "template")
    whole["properties"]["alert"] |= {"propertyNames": {"pattern": _NAMES}, "additionalProperties": _declaration()}
    order = made.parts["order"]
    order["properties"]["options"] |= _options(brokers)
    order["allOf"] = [{"if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
                       "then": {"propertyNames": {"enum": list(names)}}} for kind, names in FIELDS_OF.items()]
    made.parts["exit"]["anyOf"] = [{"required": [name]} for name in ("price", "points", "ticks", "percent")]
    return {"$schema": DRAFT, "title": "A template of Bridge", **whole,
            "oneOf": [{"required": ["order"]}, {"required": ["orders"]}], "$defs": dict(sorted(made.parts.items()))}


def _declaration() -> Json:
    """A field of an alert: a type, or the long form."""
    forms: Mapping[str, Json] = {
        "type": {"enum": list(TYPES)}, "optional": {"type": "boolean"},
        "from": {"type": "array", "minItems": 1, "items": {"type": ["string", "integer"]}},
        "one_of": {"type": "array", "minItems": 1}}
    properties = {name: {"description": WORDS[f"field.{name}"], **forms.get(name, {"type": "string"})} for name in KEYS}
    return {"anyOf": [{"enum": list(TYPES)},
                      {"type": "object", "properties": properties, "additionalProperties": False,
                       "anyOf": [{"required": ["type"]}, {"required": ["refuse"]}]}]}


def _options(brokers: Mapping[str, Broker]) -> Json:
    """The options of all brokers: which broker an order is for, its account says."""
    made = _Definitions(brokers)
    found: dict[str, list[Json]] = {}
    words: dict[str, list[str]] = {}
    for broker in brokers.values():
        for name, field in _fields_of(broker.options_schema()):
            found.setdefault(name, []).append(made.plain(field))
            words.setdefault(name, []).append(f"{broker.name}: {field.metadata.get('description', 'see its page')}")
    properties = {name: {"description": ". ".join(words[name]), "anyOf": [*forms, _EXPRESSION]}
                  for name, forms in sorted(found.items())}
    return {"type": "object", "properties": properties, "additionalProperties": False}


# -- accounts --------------------------------------------------------------------------------------------------------


def _accounts(brokers: Mapping[str, Broker]) -> Json:
    made = _Definitions(brokers)
    account = made.object_of(CommonSchema(), "account")
    products = {"type": "object", "additionalProperties": made.reference(ProductSchema())}
    own = {name: made.field("account", name, field) for broker in brokers.values()
           for name, field in _fields_of(broker.account_schema()) if name != "options"}
    account["properties"] |= {
        **{name: {**form, **_PLAIN} if name != "transport" else form for name, form in own.items()},
        "broker": {**account["properties"]["broker"], "enum": list(brokers)},
        "roll": {"description": WORDS["account.roll"], "anyOf": [{"enum": ["broker"]}, made.reference(RollSchema())]},
        "products": {"description": WORDS["account.products"], **products},
        "options": {"description": WORDS["account.options"], "type": "object"}}
    account["allOf"] = [_of_broker(broker, made) for broker in brokers.values()]
    return {"$schema": DRAFT, "title": "The accounts of Bridge", "type": "object", "required": ["accounts"],
            "additionalProperties": False,
            "properties": {
                "accounts": {"description": WORDS["accounts.accounts"], "type": "object", "minProperties": 1,
                             "propertyNames": {"pattern": r"^[A-Za-z0-9._-]{1,64}$"},
                             "additionalProperties": {"$ref": "#/$defs/account"}},
                "products": {"description": WORDS["accounts.products"], **products}},
            "$defs": {"account": account, **dict(sorted(made.parts.items()))}}


def _of_broker(broker: Broker, made: _Definitions) -> Json:
    """What is so only where this broker trades."""
    schema = broker.account_schema()
    names = [*names_of(CommonSchema()), *names_of(schema)]
    properties: Json = {
        "environment": {"enum": [*broker.environments, "sandbox"]},
        "credentials": {"type": "object", "additionalProperties": False,
                        "properties": dict.fromkeys(broker.credential_names, _REFERENCE)}}
    for name, field in _fields_of(schema):
        if isinstance(field, fields.Nested):
            inner = made.object_of(field.schema, f"{broker.name}.{name}")
            inner["properties"] = {key: {**_described(form), "anyOf": [_bare(form), _REFERENCE]}
                                   for key, form in inner["properties"].items()}
            properties[name] = inner
    return {"if": {"properties": {"broker": {"const": broker.name}}, "required": ["broker"]},
            "then": {"propertyNames": {"enum": names}, "properties": properties,
                     "required": [name for name, field in _fields_of(schema) if field.required]}}


def _described(form: Json) -> Json:
    return {"description": form["description"]} if "description" in form else {}


def _bare(form: Json) -> Json:
    return {name: value for name, value in form.items() if name != "description"}


# -- where editors find it -------------------------------------------------------------------------------------------

_LINE = re.compile(r"# yaml-language-server: \$schema=(\S+)")


def editor_line(path: str) -> str:
    """The comment by which an editor finds the schema of a YAML file; `path` is relative to that file."""
    return f"# yaml-language-server: $schema={path}"


def named_schema(text: str) -> str:
    """The schema that a file's first line names, or ""."""
    found = _LINE.match(text)
    return found[1] if found else ""
