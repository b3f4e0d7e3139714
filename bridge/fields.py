"""The fields that a template declares of its alerts: each value typed, or refused with its field's name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import marshmallow
from marshmallow import ValidationError

from bridge.alert import Body
from bridge.errors import AlertError, Fault
from bridge.values import as_text, read_bool, read_decimal, read_integer, read_side, read_time

# -- marshmallow fields ----------------------------------------------------------------------------------------------


class AlertField(marshmallow.fields.Field[Any]):
    """One declared field. Subclasses say how a value is read."""

    def __init__(self, *, optional: bool, one_of: Sequence[Any] = (), zone: ZoneInfo | None = None) -> None:
        super().__init__(required=not optional, allow_none=optional,
                         load_default=None if optional else marshmallow.missing,
                         error_messages={"required": "is missing", "null": "is null; expected a value"})
        self.optional = optional
        self.zone = zone
        self.one_of = tuple(self.read(value) for value in one_of)

    def read(self, value: Any) -> Any:
        """The typed value. Raises ValueError in words."""
        raise NotImplementedError

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if self.optional and isinstance(value, str) and not value.strip():
            return None
        try:
            found = self.read(value)
        except ValueError as error:
            raise ValidationError(str(error)) from None
        if self.one_of and found not in self.one_of:
            raise ValidationError(f"{_shown(found)} is none of {', '.join(map(_shown, self.one_of))}")
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


TYPES: Mapping[str, type[AlertField]] = {"text": TextField, "integer": IntegerField, "number": NumberField,
                                         "side": SideField, "time": TimeField, "bool": BoolField}


# -- what a template declares ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One declared field: its type's name, where its value lies in the body, what TradingView is to put there, and the
    values that it may have (where the template lists them)."""

    name: str
    type: str
    path: tuple[str | int, ...]
    optional: bool
    tradingview: str | None
    examples: tuple[str, ...] = ()


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
        return found

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


def _find(fields: Mapping[str, Any], path: tuple[str | int, ...], lower: bool) -> Any:
    found: Any = fields
    for step in path:
        if isinstance(found, Mapping) and isinstance(step, str):
            key = step.lower() if lower else step
            if key not in found:
                return _ABSENT
            found = found[key]
        elif isinstance(found, list) and isinstance(step, int) and 0 <= step < len(found):
            found = found[step]
        else:
            return _ABSENT
    return found


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
_KEYS = ("type", "optional", "from", "one_of", "zone", "tradingview")


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
                    fields[name] = TYPES[long["type"]](
                        optional=long.get("optional", False), one_of=long.get("one_of", ()),
                        zone=ZoneInfo(long["zone"]) if "zone" in long else None)
                except ValueError as error:
                    faults.append(((name, "one_of"), str(error)))
    if faults:
        raise DeclarationError(faults)
    return Fields(declared, marshmallow.Schema.from_dict(fields)(unknown=marshmallow.EXCLUDE))


def _declared(name: str, long: Mapping[str, Any]) -> Declared:
    return Declared(name=name, type=long["type"], path=tuple(long.get("from", (name,))),
                    optional=long.get("optional", False), tradingview=long.get("tradingview"),
                    examples=tuple(map(str, long.get("one_of", ()))))


def _declaration_faults(long: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    for key in long:
        if key not in _KEYS:
            close = difflib.get_close_matches(key, _KEYS, 1)
            yield (key,), "is unknown here" + (f"; did you mean {close[0]!r}?" if close else
                                               f"; known are {', '.join(_KEYS)}")
    kind = long.get("type")
    if kind not in TYPES:
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


def _is_zone(name: Any) -> bool:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*", name):
        return False
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        return False
    return True
