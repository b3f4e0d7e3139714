"""The accounts and templates of the soak: every broker, and every kind of order that each of them has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

QUICK_S = 3.0
"""max_age of the templates whose orders are to grow too old while something is down."""
ENTRY_S = 60.0
EXIT_S = 900.0


@dataclass(frozen=True, slots=True)
class Desk:
    """One account: our name, the broker, the broker's name of it, what is traded there, and what its broker can do."""

    name: str
    broker: str
    account: str
    symbol: str
    tape: str
    yaml: str
    kinds: tuple[str, ...]
    base: str
    step: str
    high: str
    """Resting buys stand at base + step × number, far below the market; what has to rest above it stands at `high`."""
    options: str = ""


DESKS = {desk.name: desk for desk in (
    Desk("tv", "tradovate", "DEMO123456", "ESZ6", "ESZ6",
         "{broker: tradovate, environment: sandbox, account: DEMO123456, account_id: 123456}",
         ("market", "limit", "quick", "by_id", "list", "oso", "oco", "cover"), "1000", "0.25", "9000"),
    Desk("nt", "crosstrade", "Sim101", "ES 12-26", "ES 12-26",
         "{broker: crosstrade, environment: sandbox, account: Sim101, transport: TRANSPORT}",
         ("market", "limit", "quick", "by_id", "list", "atm", "oco"), "1000", "0.25", "9000"),
    Desk("pf", "pocketful", "YG1234", "IDEA-EQ", "14366",
         "{broker: pocketful, environment: sandbox, client_id: YG1234, "
         "options: {stop_loss_value: price, product: MIS}}",
         ("market", "limit", "quick", "by_id", "list", "oso", "cover"), "1", "0.01", "900",
         '  options: {exchange: NSE, instrument_token: "14366"}\n'),
)}
MARKET = {"ESZ6": "5300", "ES 12-26": "5300", "14366": "500"}
"""Where the market stands from the beginning to the end."""

_FIELDS = """alert:
  serial: integer
  side: {type: side, optional: true}
  price: {type: number, optional: true}
  stop: {type: number, optional: true}
  target: {type: number, optional: true}
  at: {type: time, optional: true}
  ref: {type: text, optional: true}
dedupe_window: 30m
"""
_ENTRY = '  side: "{{ alert.side | default(\'buy\') }}"\n  quantity: 1\n  ref: "{{ alert.ref }}"\n'
_LIMIT = '  type: limit\n  price: "{{ alert.price }}"\n'
_STOP_LEG = '  stop_loss: {price: "{{ alert.stop }}"}\n'
_TARGET_LEG = '  take_profit: {price: "{{ alert.target }}"}\n'
_OTHER = '  other: {type: stop, stop_price: "{{ alert.stop }}"}\n'


def _age(seconds: float) -> str:
    return f"max_age: {int(seconds * 1000)}ms\n"


def _order(kind: str, desk: Desk, rest: str) -> str:
    return f"order:\n  kind: {kind}\n  symbol: {desk.symbol}\n{rest}{desk.options}"


def _orders(*each: tuple[str, str]) -> str:
    """A list of orders; each is (account or '', the lines of an order)."""
    text = "orders:\n"
    for account, body in each:
        lines = body.splitlines()[1:]
        first = f"account: {account}" if account else lines.pop(0).strip()
        text += f"  - {first}\n" + "".join(f"  {line}\n" for line in lines)
    return text


def _entries(desk: Desk) -> Iterator[tuple[str, str]]:
    plain = _age(ENTRY_S)
    yield "market", plain + _order("plain", desk, _ENTRY + "  type: market\n")
    yield "limit", plain + _order("plain", desk, _ENTRY + _LIMIT)
    yield "quick", 'sent_at: "{{ alert.at }}"\n' + _age(QUICK_S) + _order("plain", desk, _ENTRY + _LIMIT)
    yield "by_id", plain + 'id: "{{ alert.serial }}"\n' + _order("plain", desk, _ENTRY + _LIMIT)
    second = (_ENTRY + _LIMIT).replace('  ref: "{{ alert.ref }}"\n', "").replace("alert.price", "alert.target")
    yield "list", plain + _orders(("", _order("plain", desk, _ENTRY + _LIMIT)), ("", _order("plain", desk, second)))
    yield "oso", plain + _order("oso", desk, _ENTRY + _LIMIT + _STOP_LEG + _TARGET_LEG)
    yield "atm", plain + _order("oso", desk, _ENTRY + _LIMIT + "  options: {strategy: MyAtmStrategy}\n")
    yield "oco", plain + _order("oco", desk, _ENTRY + _LIMIT + _OTHER)
    yield "cover", plain + _order("cover", desk, _ENTRY + _LIMIT + _STOP_LEG)


def _templates(desks: list[Desk]) -> Iterator[tuple[str, str]]:
    for desk in desks:
        for kind, text in _entries(desk):
            if kind in desk.kinds:
                yield f"{desk.name}_{kind}", f"account: {desk.name}\n{_FIELDS}{text}"
        for name, rest in (("cancel", '  ref: "{{ alert.ref }}"\n'), ("cancel_all", f"  symbol: {desk.symbol}\n")):
            yield f"{desk.name}_{name}", f"account: {desk.name}\n{_FIELDS}order:\n  kind: cancel\n{rest}"
        yield f"{desk.name}_close", f"account: {desk.name}\n{_FIELDS}" + _order("close", desk, "")
    if len(desks) > 1:
        each = [(desk.name, _order("plain", desk, _ENTRY + _LIMIT.replace("alert.price", _scaled(desk))))
                for desk in desks]
        names = ", ".join(desk.name for desk in desks)
        yield "every", f"account: [{names}]\n{_FIELDS}{_age(ENTRY_S)}" + _orders(*each)


def _scaled(desk: Desk) -> str:
    """The price of an order of `every`: one number fits all accounts."""
    return f"{desk.base} + alert.serial * {desk.step}"


def write(folder: Path, names: list[str], *, transport: str = "rest") -> None:
    """Write `accounts.yaml` and `templates/` for these accounts into the folder."""
    desks = [DESKS[name] for name in names]
    accounts = "".join(f"  {desk.name}: {desk.yaml.replace('TRANSPORT', transport)}\n" for desk in desks)
    (folder / "accounts.yaml").write_text(f"accounts:\n{accounts}")
    (folder / "templates").mkdir(exist_ok=True)
    for name, text in _templates(desks):
        (folder / "templates" / f"{name}.yaml").write_text(text)
