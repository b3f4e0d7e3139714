"""The fields that a template declares of its alerts: each value typed, or refused with its field's name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import marshmallow
from marshmallow import ValidationError

from bridge.alert import Body, JsonNumber
from bridge.errors import AlertError, Fault
from bridge.values import as_text, read_bool, read_decimal, read_integer, read_side, read_time

# -- marshmallow fields ----------------------------------------------------------------------------------------------


class AlertField(marshmallow.fields.Field[Any]):
    """One declared field. Subclasses say how a value is read. `refuse` is why a value out of `one_of` is refused."""

    def __init__(self, *, optional: bool, one_of: Sequence[Any] = (), zone: ZoneInfo | None = None,
                 refuse: str = "") -> None:
        super().__init__(required=not optional, allow_none=optional,
                         load_default=None if optional else marshmallow.missing,
                         error_messages={"required": "is missing", "null": "is null; expected a value"})
        self.optional = optional
        self.zone = zone
        self.refuse = refuse
        self.one_of = tuple(self.read(value) for value in one_of)

    def read(self, value: Any) -> Any:
        """The typed value. Raises ValueError in words."""
        raise NotImplementedError

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if isinstance(value, Misplaced):
            raise ValidationError(str(value))
        if self.optional and isinstance(value, str) and not value.strip():
            return None
        try:
            found = self.read(value)
        except ValueError as error:
            raise ValidationError(str(error)) from None
        if self.one_of and found not in self.one_of:
            why = f": {self.refuse}" if self.refuse else ""
            raise ValidationError(f"{_shown(found)} is none of {', '.join(map(_shown, self.one_of))}{why}")
        return found


def _shown(value: Any) -> str:
    return format(value, "f") if isinstance(value, Decimal) else str(value)[:60]


class TextField(AlertField):
    """A text that is not empty."""

    def read(self, value: Any) -> str:
        text = as_text(value)
        if not text:
            raise ValueError("is empty")
        return text


class WordField(TextField):
    """A text in small letters: BUY, Buy and buy are one word."""

    def read(self, value: Any) -> str:
        return super().read(value).lower()


class IntegerField(AlertField):
    """A whole number."""

    def read(self, value: Any) -> Decimal:
        return read_integer(value)


class NumberField(AlertField):
    """A decimal number."""

    def read(self, value: Any) -> Decimal:
        return read_decimal(value)


class SideField(AlertField):
    """buy or sell, from the words that charts use."""

    def read(self, value: Any) -> str:
        return read_side(value)


class TimeField(AlertField):
    """A moment."""

    def read(self, value: Any) -> datetime:
        return read_time(value, self.zone)


class BoolField(AlertField):
    """Yes or no."""

    def read(self, value: Any) -> bool:
        return read_bool(value)


class RefusedField(AlertField):
    """What an alert may not have: anything but nothing (absent, null, empty, 0 or false) is refused with the reason."""

    def read(self, value: Any) -> None:
        if isinstance(value, Rest):
            raise ValueError(f"the alert has {value}: {self.refuse}")
        if not is_nothing(value):
            raise ValueError(self.refuse)


class IgnoredField(AlertField):
    """What an alert may have and nobody reads: the key of another service. Its value goes nowhere."""

    def read(self, value: Any) -> None:
        return None


REFUSED, IGNORED = "refused", "ignored"
"""The types of fields without a value: what no alert may have (written as `refuse:` alone), and what is not read."""
TYPES: Mapping[str, type[AlertField]] = {"text": TextField, "word": WordField, "integer": IntegerField,
                                         "number": NumberField, "side": SideField, "time": TimeField,
                                         "bool": BoolField, IGNORED: IgnoredField}


# -- what a template declares ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One declared field: its type's name, where its value lies in the body, what TradingView is to put there, and the
    values that it may have (where the template lists them). Of type `refused`: what no alert may have."""

    name: str
    type: str
    path: tuple[str | int, ...]
    optional: bool
    tradingview: str | None
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One declared field of one alert: what the body has for it, and the typed value or what is wrong with it."""

    field: Declared
    absent: bool
    given: Any = None
    value: Any = None
    fault: str = ""


def has_value(kind: str) -> bool:
    """Whether fields of this type have a value that a template can read."""
    return kind not in (REFUSED, IGNORED)


class Fields:
    """All fields that a template declares, ready to read a body."""

    def __init__(self, declared: Iterable[Declared], schema: marshmallow.Schema) -> None:
        self.declared = {each.name: each for each in declared}
        self._schema = schema

    def read(self, body: Body | Mapping[str, str]) -> dict[str, Any]:
        """The declared fields, typed; None for an optional one that is absent, null or empty.

        `body` is a JSON object or pairs, or what a `parse:` pattern took out of a text.
        Raises AlertError with every field's fault.
        """
        fields: Mapping[str, Any] = (body.fields or {}) if isinstance(body, Body) else body
        lower = isinstance(body, Body) and body.form == "key_value"
        values: dict[str, Any] = {}
        for each in self.declared.values():
            found = _find(fields, each.path, lower)
            if found is not _ABSENT:
                values[each.name] = found
        return self.convert(values, fields)

    def readings(self, body: Body | Mapping[str, str]) -> list[Reading]:
        """Each declared field as the body has it and as it is read, sound or not: for people. Raises nothing."""
        fields: Mapping[str, Any] = (body.fields or {}) if isinstance(body, Body) else body
        lower = isinstance(body, Body) and body.form == "key_value"
        values: dict[str, Any] = {}
        faults: dict[str, str] = {}
        try:
            values = self.read(body)
        except AlertError as error:
            faults = {fault.field: fault.message for fault in error.faults}
        found = []
        for name, each in self.declared.items():
            given = _find(fields, each.path, lower)
            value = values.get(name)
            if not values and name not in faults and given is not _ABSENT:
                value = self._schema.fields[name].deserialize(given)
            absent = given is _ABSENT or isinstance(given, Misplaced) or each.type == IGNORED
            found.append(Reading(field=each, absent=absent, given=None if absent else given, value=value,
                                 fault=faults.get(name, "")))
        return found

    def pick(self, body: Body, name: str) -> dict[str, Any]:
        """The value of one declared field in a body, under its name; nothing where the body has none."""
        found = _find(body.fields or {}, self.declared[name].path, False)
        return {} if found is _ABSENT else {name: found}

    def convert(self, values: Mapping[str, Any], fields: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Values by declared name, typed. Raises AlertError with every field's fault."""
        try:
            found: dict[str, Any] = self._schema.load(values)
        except ValidationError as error:
            raise AlertError(self._faults(error.messages_dict, fields or values)) from None
        return {name: value for name, value in found.items() if has_value(self.declared[name].type)}

    def _faults(self, messages: Mapping[str, Any], fields: Mapping[str, Any]) -> Iterator[Fault]:
        for name, found in messages.items():
            message = "; ".join(found) if isinstance(found, list) else str(found)
            if message == "is missing":
                unread = [key for key in list(fields)[:200] if key not in self.declared]
                message = f"is missing: the alert has no {self._wanted(name)}{_near(name, unread)}"
            yield Fault(message=message, field=name)

    def _wanted(self, name: str) -> str:
        path = self.declared[name].path
        return repr(name) if path == (name,) else " → ".join(map(repr, path))


_ABSENT = object()
_OTHERS = "*"


class _Others(str):
    """The last step of a path that means every name there but the `known` ones."""

    known: frozenset[str]


class Rest(str):
    """The names that an alert has besides those that its template knows, quoted. Values may be secret."""


class Misplaced(str):
    """Why the value of a nested field cannot be looked for: what should hold it is something else."""


def is_nothing(value: Any) -> bool:
    """Whether a value of a body says that there is none: null, an empty text, list or object, zero or false."""
    if value is None or value is False or value == [] or value == {}:
        return True
    if isinstance(value, bool) or not isinstance(value, (str, int, Decimal, JsonNumber)):
        return False
    text = str(value).strip().lower()
    return text in ("", "false") or _ZERO.fullmatch(text) is not None


_ZERO = re.compile(r"[+-]?(?:0+\.?0*|\.0+)(?:e[+-]?[0-9]{1,2})?", re.ASCII)


def _find(fields: Mapping[str, Any], path: tuple[str | int, ...], lower: bool) -> Any:
    found: Any = fields
    for place, step in enumerate(path):
        if place and is_nothing(found):
            return _ABSENT
        if isinstance(found, Mapping) and isinstance(step, _Others):
            return _rest(found, step.known, lower)
        if isinstance(found, Mapping) and isinstance(step, str):
            key = step.lower() if lower else step
            if key not in found:
                return _ABSENT
            found = found[key]
        elif isinstance(found, list) and isinstance(step, int):
            if not 0 <= step < len(found):
                return _ABSENT
            found = found[step]
        else:
            wanted = "a list" if isinstance(step, int) else "an object"
            return Misplaced(f"is looked for inside {_written(path[:place])}, which is {_kind_of(found)}; "
                             f"expected {wanted}")
    return found


def _rest(found: Mapping[str, Any], known: frozenset[str], lower: bool) -> Any:
    """The names of `found` that are not known and hold something."""
    names = {name.lower() for name in known} if lower else known
    others = [repr(name[:64]) for name, value in found.items() if name not in names and not is_nothing(value)]
    return Rest(", ".join(others[:5])) if others else _ABSENT


def _written(path: Sequence[str | int]) -> str:
    return " → ".join(map(repr, path))


def _kind_of(value: Any) -> str:
    if isinstance(value, Mapping):
        return "an object"
    return "a list" if isinstance(value, list) else "a plain value"


def _near(name: str, unread: Sequence[Any]) -> str:
    """A hint where the alert has the field under another spelling. Names only: values may be secret."""
    names = [key for key in unread if isinstance(key, str) and key.isprintable() and len(key) <= 64]
    for key in names:
        if key.lower() == name.lower():
            return f" (it has {key!r}: upper and lower case must match)"
    close = difflib.get_close_matches(name, names, 1, 0.7)
    return f" (it has {close[0]!r})" if close else ""


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
_RESERVED = ("raw",)
KEYS = ("type", "optional", "from", "one_of", "zone", "tradingview", "refuse")


class DeclarationError(Exception):
    """What is wrong with an `alert:` section: (path below it, message) pairs."""

    def __init__(self, faults: list[tuple[tuple[str | int, ...], str]]) -> None:
        super().__init__(str(faults))
        self.faults = faults


def declare(section: Mapping[str, Any]) -> Fields:
    """The fields of an `alert:` section. Raises DeclarationError with every fault."""
    faults: list[tuple[tuple[str | int, ...], str]] = []
    declared: list[Declared] = []
    fields: dict[str, Any] = {}
    for name, given in section.items():
        long: Any = {"type": given} if isinstance(given, str) else given
        if not _NAME.fullmatch(name) or name.startswith("__"):
            faults.append(((name,), "is no field name: letters, digits and _"))
        elif name in _RESERVED:
            faults.append(((name,), "is reserved: `alert.raw` is the whole body"))
        elif not isinstance(long, Mapping):
            faults.append(((name,), f"expected a type ({', '.join(TYPES)}) or {{type: …, optional: …, from: […]}}"))
        else:
            wrong = list(_declaration_faults(long))
            faults += [((name, *path), message) for path, message in wrong]
            if not wrong:
                declared.append(_declared(name, long))
                try:
                    fields[name] = _field(long)
                except ValueError as error:
                    faults.append(((name, "one_of"), str(error)))
    if faults:
        raise DeclarationError(faults)
    return Fields(_with_others(declared), marshmallow.Schema.from_dict(fields)(unknown=marshmallow.EXCLUDE))


def _field(long: Mapping[str, Any]) -> AlertField:
    if "type" not in long:
        return RefusedField(optional=True, refuse=long["refuse"])
    return TYPES[long["type"]](
        optional=long.get("optional", long["type"] == IGNORED), one_of=long.get("one_of", ()),
        refuse=long.get("refuse", ""),
        zone=ZoneInfo(long["zone"]) if "zone" in long else None)


def _declared(name: str, long: Mapping[str, Any]) -> Declared:
    return Declared(name=name, type=long.get("type", REFUSED), path=tuple(long.get("from", (name,))),
                    optional=long.get("optional", long.get("type") in (None, IGNORED)),
                    tradingview=long.get("tradingview"),
                    examples=tuple(map(str, long.get("one_of", ()))))


def _with_others(declared: Sequence[Declared]) -> list[Declared]:
    """The fields; those that stand for all other names at a place know which names the template has there."""
    found = []
    for each in declared:
        *place, last = each.path
        if last == _OTHERS and each.type == REFUSED:
            others = _Others(_OTHERS)
            others.known = frozenset(str(one.path[len(place)]) for one in declared
                                     if len(one.path) > len(place) and list(one.path[:len(place)]) == place)
            each = replace(each, path=(*place, others))
        found.append(each)
    return found


def _declaration_faults(long: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    for key in long:
        if key not in KEYS:
            close = difflib.get_close_matches(key, KEYS, 1)
            yield (key,), "is unknown here" + (f"; did you mean {close[0]!r}?" if close else
                                               f"; known are {', '.join(KEYS)}")
    kind = long.get("type")
    if "refuse" in long:
        yield from _refusal_faults(long)
    if kind not in TYPES and not ("refuse" in long and "type" not in long):
        close = difflib.get_close_matches(str(kind), TYPES, 1)
        meant = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(TYPES)}"
        yield ("type",) if "type" in long else (), f"{kind!r} is no type: {meant}" if "type" in long else (
            f"has no type; expected one of {', '.join(TYPES)}")
    if not isinstance(long.get("optional", False), bool):
        yield ("optional",), "expected true or false"
    path = long.get("from", ["x"])
    if not isinstance(path, list) or not path or not all(
            isinstance(step, str) or (isinstance(step, int) and not isinstance(step, bool)) for step in path):
        yield ("from",), "expected a list of names (or places in a list), like [strategy, order, price]"
    if not isinstance(long.get("one_of", ["x"]), list) or not long.get("one_of", ["x"]):
        yield ("one_of",), "expected a list of values"
    if not isinstance(long.get("tradingview", ""), str):
        yield ("tradingview",), 'expected a text like "{{close}}"'
    if "zone" in long:
        if kind != "time":
            yield ("zone",), "belongs to fields of type time"
        elif not _is_zone(long["zone"]):
            yield ("zone",), f"{long['zone']!r} is no time zone like Asia/Kolkata or America/New_York"


def _refusal_faults(long: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """`refuse: why` alone is a field that no alert may have; beside `one_of` it is why other values are refused."""
    if not isinstance(long["refuse"], str) or not long["refuse"].strip():
        yield ("refuse",), "expected the reason, in words for whoever sent the alert"
    if "type" in long and "one_of" not in long:
        yield ("refuse",), ("refuses every value beside a type; leave `type` out (then the field may not be there), or "
                            "give `one_of`: the values that are taken")
    for key in ("one_of", "optional", "tradingview"):
        if "type" not in long and key in long:
            yield (key,), "belongs to a field with a type; without one, `refuse` means that the field may not be there"


def _is_zone(name: Any) -> bool:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*", name):
        return False
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        return False
    return True
