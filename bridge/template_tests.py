"""A template's own `tests:`: what an alert is to come to, compared with what it does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from bridge.alert import Body, read_body
from bridge.errors import InputError
from bridge.filters import ExpressionError
from bridge.instruments import NO_MASTERS, Index, Masters, read_listed
from bridge.rendering import Rendered, Template
from bridge.schemas import Where
from bridge.values import read_decimal, read_time

DEFAULT_NOW = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
"""A test without `now` happens when its alert says it was sent; else at this moment, the same on every day."""


def run_tests(template: Template, tests: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Where, str]]:
    """Every difference between what a test expects and what happens, as (path in the template, words)."""
    for place, test in enumerate(tests):
        path: Where = ("tests", place)
        name = test.get("name", "?")
        try:
            received_at = read_time(test["now"]) if "now" in test else None
        except ValueError as error:
            yield (*path, "now"), str(error)
            continue
        try:
            masters = _masters(template, test.get("instruments", ()))
        except _ListFault as fault:
            yield (*path, "instruments", fault.place), str(fault)
            continue
        try:
            found: Rendered | InputError = _run(template, test, received_at, masters)
        except InputError as error:
            found = error
        for below, message in _compare(test["expect"], found):
            yield (*path, "expect", *below), f"test {name!r}: {message}"


class _ListFault(ValueError):
    """One of a test's instruments that cannot be read: its place in the list."""

    def __init__(self, place: int, message: str) -> None:
        super().__init__(message)
        self.place = place


def _masters(template: Template, listed: Sequence[Mapping[str, Any]]) -> Masters:
    """The instrument masters of a test: what it lists; without a list its symbols are not looked up.

    Never those of today: a test that passes once is to pass for ever.
    """
    if not listed:
        return NO_MASTERS
    found = []
    for place, each in enumerate(listed):
        try:
            found.append(read_listed(each))
        except ValueError as error:
            raise _ListFault(place, str(error)) from None
    index = Index(found)
    accounts = [template.known_accounts[name] for name in template.accounts]
    urls = [template.brokers[account.broker].master_url(account) for account in accounts]
    return Masters({url: index for url in urls if url is not None})


def _run(template: Template, test: Mapping[str, Any], received_at: datetime | None, masters: Masters) -> Rendered:
    if "body" in test:
        body = read_body(test["body"].encode())
        fields = template.read(body)
    else:
        body = Body("json", test["alert"], "")
        fields = template.read_named(test["alert"])
    return template.render(fields, body, received_at=received_at or _moment(template, fields, body),
                           masters=masters)


def _moment(template: Template, fields: Mapping[str, Any], body: Body) -> datetime:
    if template.sent_at is None:
        return DEFAULT_NOW
    try:
        return template.sent(fields, body, received_at=None) or DEFAULT_NOW
    except ExpressionError:
        return DEFAULT_NOW


def _compare(expected: Any, found: Rendered | InputError) -> Iterator[tuple[Where, str]]:
    wants_error = isinstance(expected, dict) and "error" in expected
    wants_skip = expected in ("skipped", []) or (isinstance(expected, dict) and expected.get("skipped") is True)
    if isinstance(found, InputError):
        if not wants_error:
            yield (), f"the alert is refused: {_one_line(found)}"
        elif str(expected["error"]) not in str(found):
            yield ("error",), f"the alert is refused, but with other words: {_one_line(found)}"
        return
    orders = [{**each.order.to_json(), "account": each.account, **({"refused": each.refused} if each.refused else {})}
              for each in found.orders]
    if wants_error:
        yield ("error",), f"the alert is not refused: it makes {_count(orders)}"
    elif wants_skip:
        if found.skipped is None:
            yield (), f"the alert is not skipped: it makes {_count(orders)}"
    elif found.skipped is not None:
        yield (), f"the alert is skipped: {found.skipped}"
    elif isinstance(expected, list):
        if len(expected) != len(orders):
            yield (), f"the alert makes {_count(orders)}, expected {len(expected)}"
        for place, (want, order) in enumerate(zip(expected, orders, strict=False)):
            yield from _order_differences(want, order, (place,))
    elif len(orders) != 1:
        yield (), f"the alert makes {_count(orders)}; give a list of what is expected of each"
    else:
        yield from _order_differences(expected, orders[0], ())


def _order_differences(expected: Any, order: Mapping[str, Any], path: Where) -> Iterator[tuple[Where, str]]:
    """An order that guards refuse is one only where it is expected: `refused: true`, or words of the reason."""
    reason, wanted = str(order.get("refused", "")), expected.get("refused") if isinstance(expected, dict) else None
    if not wanted and reason:
        yield path, f"the order is refused: {reason}"
    elif wanted and not reason:
        yield (*path, "refused"), "the order is not refused"
    elif isinstance(wanted, str) and wanted not in reason:
        yield (*path, "refused"), f"the order is refused, but with other words: {reason}"
    elif isinstance(expected, dict):
        named = {name: value for name, value in expected.items() if name != "refused"}
        yield from _differences(named, order, path)
    else:
        yield from _differences(expected, order, path)


def _count(orders: Sequence[Any]) -> str:
    return "one order" if len(orders) == 1 else f"{len(orders)} orders"


def _one_line(error: InputError) -> str:
    return str(error).replace("\n", "; ")


def _differences(expected: Any, found: Any, path: Where) -> Iterator[tuple[Where, str]]:
    """Only what is named in `expected` counts; numbers are compared as numbers."""
    what = ".".join(str(step) for step in path) or "the order"
    if isinstance(expected, dict) and isinstance(found, Mapping):
        for name, want in expected.items():
            if name not in found:
                if want is not None:
                    yield (*path, name), f"{_join(path, name)} is not set, expected {_shown(want)}"
            else:
                yield from _differences(want, found[name], (*path, name))
    elif isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            yield path, f"{what} has {len(found)} parts, expected {len(expected)}"
        for place, (want, part) in enumerate(zip(expected, found, strict=False)):
            yield from _differences(want, part, (*path, place))
    elif not _equal(expected, found):
        yield path, f"{what} is {_shown(found)}, expected {_shown(expected)}"


def _join(path: Where, name: str) -> str:
    return ".".join([*(str(step) for step in path), name])


def _equal(expected: Any, found: Any) -> bool:
    if isinstance(expected, bool) or isinstance(found, bool) or expected is None:
        return expected is found
    if isinstance(found, (Decimal, int)):
        try:
            return read_decimal(expected) == found
        except ValueError:
            return False
    if isinstance(expected, (Decimal, int)):
        return isinstance(found, str) and format(Decimal(expected), "f") == found
    return bool(expected == found)


def _shown(value: Any) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (str, int)) else repr(value)
