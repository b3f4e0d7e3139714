"""How commands print: one function for JSON, one for tables, and the texts of what happened. No secret gets through."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import click

from bridge.log import mask, plain
from bridge.numbers import dump_json

_GAP = "  "
_WIDTH_ELSEWHERE = 200
_MANY = 100
"""So many things are worth a progress bar."""
_T = TypeVar("_T")


def print_json(value: Any, *, compact: bool = False) -> None:
    """`value` as JSON, indented or in one line, secrets masked."""
    click.echo(mask(dump_json(value, indent=None if compact else 2)))


def print_line(text: str = "", *, error: bool = False) -> None:
    """One line, safe on any terminal."""
    click.echo(plain(text), err=error)


def print_with_secret(text: str) -> None:
    """Text that a person needs as it is, secret included: a webhook's URL to be pasted."""
    click.echo(text)


def print_table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Columns as wide as needed; the last one is cut where the terminal ends."""
    texts = [[plain("" if cell is None else str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *texts, strict=True)]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH_ELSEWHERE
    for row in [list(headers), *texts]:
        line = _GAP.join(cell.ljust(widths[number]) for number, cell in enumerate(row)).rstrip()
        click.echo(line if len(line) <= width else line[:width - 1] + "…")


def ask(question: str) -> bool:
    """Whether a person at the terminal says yes; the question goes to standard error, and no is the default."""
    return click.confirm(plain(question), default=False, err=True)


def with_progress(things: Sequence[_T], label: str) -> Iterator[_T]:
    """The things one by one, with a bar on standard error where that is a terminal and there are many."""
    if len(things) < _MANY:
        yield from things
        return
    with click.progressbar(things, label=label, file=sys.stderr, show_pos=True, update_min_steps=25) as bar:
        yield from bar


def print_orders(orders: Sequence[Mapping[str, Any]], *, waiting: bool) -> None:
    """The list of orders for a person."""
    if not orders:
        print_line("nothing waits for a person" if waiting else "no orders yet")
        return
    print_table(
        ("ID", "CREATED (UTC)", "TEMPLATE", "ACCOUNT", "ORDER", "STATE", "BROKER SAYS", "REASON"),
        ((order["id"], _moment(order["created_at"]), order["template"], order["account"], _in_words(order),
          order["state"], order["broker_status"], order["reason"]) for order in orders))


def print_alerts(alerts: Sequence[Mapping[str, Any]]) -> None:
    """The list of alerts for a person."""
    if not alerts:
        print_line("no alerts yet")
        return
    print_table(
        ("ID", "RECEIVED (UTC)", "TEMPLATE", "STATE", "ORDERS", "WHY", "BODY"),
        ((alert["id"], _moment(alert["received_at"]), alert["template"], alert["state"], len(alert["orders"]) or "",
          alert["reason"] or (f"copy of {alert['duplicate_of']}" if alert["duplicate_of"] else ""),
          " ".join(str(alert["body"]).split())) for alert in alerts))


def print_order(order: Mapping[str, Any]) -> None:
    """Everything known of one order, for a person."""
    for name in ("id", "alert", "template", "account", "broker"):
        print_line(f"{name:<16}{order[name]}")
    print_line(f"{'order':<16}{_in_words(order)}")
    for name in ("state", "broker_status", "reason", "client_order_id"):
        if order.get(name):
            print_line(f"{name.replace('_', ' '):<16}{order[name]}")
    for name, value in order.get("broker_ids", {}).items():
        print_line(f"{'broker id':<16}{name} {value}")
    for leg in order.get("legs", ()):
        print_line(f"{'leg':<16}" + " ".join(f"{name}={value}" for name, value in leg.items()))
    print_line()
    print_line("history (UTC)")
    for moment in order["history"]:
        print_line(f"  {_moment(moment['time'], exact=True)}  {moment['state']:<12}{moment['reason']}")
    for call in order.get("calls", ()):
        _print_call(call)


def _print_call(call: Mapping[str, Any]) -> None:
    print_line()
    print_line(f"{call.get('at', '')}  {call.get('method', '')} {call.get('url', '')}".strip())
    if call.get("body") is not None:
        print_line(f"  sent      {dump_json(call['body'])}")
    reply = call.get("reply")
    if reply is None:
        print_line("  answered  nothing on record")
    elif reply.get("status") is None:
        print_line(f"  answered  nothing: {reply.get('fault', '')}")
    else:
        print_line(f"  answered  {reply['status']} {reply.get('text', '')}")


def print_rendered(rendered: Mapping[str, Any]) -> None:
    """What `bridge render` shows a person."""
    for why in ("skipped", "refused"):
        if rendered[why]:
            print_line(f"{why}: {rendered[why]}")
    for number, each in enumerate(rendered["orders"]):
        if number:
            print_line()
        print_line(f"{each['account']} ({each['broker']}): {order_in_words(each['order'])}")
        if each.get("reason"):
            print_line(f"  {each['state']}: {each['reason']}")
        for call in each["calls"]:
            print_line(f"  {call['method']} {call['url']}")
            for name, value in call["headers"].items():
                print_line(f"    {name}: {value}")
            if call["body"] is not None:
                for line in dump_json(call["body"], indent=2).splitlines():
                    print_line(f"    {line}")


def order_in_words(order: Mapping[str, Any]) -> str:
    """`oso buy 2 ESZ6 limit 5300.25`."""
    parts = [order.get(name) for name in ("kind", "side", "quantity", "symbol", "type", "price", "stop_price", "ref")]
    return " ".join(str(part) for part in parts if part is not None)


def _in_words(order: Mapping[str, Any]) -> str:
    return order_in_words({name: order.get(name) for name in ("kind", "side", "quantity", "symbol", "ref")})


def _moment(text: str, *, exact: bool = False) -> str:
    return text[:23].replace("T", " ") if exact else text[5:19].replace("T", " ")
