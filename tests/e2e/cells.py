"""Templates and accounts for every cell of the table of brokers and kinds, written into a folder for a test run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ACCOUNTS = """
accounts:
  tv: {broker: tradovate, environment: sandbox, account: DEMO123456, account_id: 123456}
  nt-rest: {broker: crosstrade, environment: sandbox, account: Sim101, transport: rest}
  nt-ws: {broker: crosstrade, environment: sandbox, account: Sim102, transport: websocket}
  pf: {broker: pocketful, environment: sandbox, client_id: YG1234, options: {stop_loss_value: price, product: MIS}}
  pf-algo:
    broker: pocketful
    environment: sandbox
    client_id: YG5678
    options: {stop_loss_value: distance, api: algo, product: MIS, cancel_parameters: query}
"""

BROKER_ACCOUNTS = {"tv": "DEMO123456", "nt-rest": "Sim101", "nt-ws": "Sim102", "pf": "YG1234", "pf-algo": "YG5678"}
"""Our name of an account → the broker's."""

FIELDS = """
alert:
  side: {type: side, optional: true}
  quantity: {type: integer, optional: true}
  tif: {type: text, optional: true}
  price: {type: number, optional: true}
  stop: {type: number, optional: true}
  target: {type: number, optional: true}
  trail: {type: number, optional: true}
  until: {type: time, optional: true}
  ref: {type: text, optional: true}
max_age: 5m
"""

_PRICE = '  price: "{{ alert.price }}"\n'
_STOP = '  stop_price: "{{ alert.stop }}"\n'
_TRAIL = '  trail: "{{ alert.trail }}"\n'
_REF = '  ref: "{{ alert.ref }}"\n'
_SIZE = '  side: "{{ alert.side }}"\n  quantity: "{{ alert.quantity }}"\n'
_STOP_LEG = '  stop_loss: {price: "{{ alert.stop }}"}\n'
_TARGET_LEG = '  take_profit: {price: "{{ alert.target }}"}\n'
_OTHER = '  other: {type: stop, stop_price: "{{ alert.stop }}"}\n'

TYPES = {"market": "", "limit": _PRICE, "stop": _STOP, "stop_limit": _PRICE + _STOP, "mit": _PRICE,
         "trailing_stop": _STOP + _TRAIL, "trailing_stop_limit": _PRICE + _STOP + _TRAIL}
_PLAIN = ("market", "limit", "stop", "stop_limit")


def _order(kind: str, symbol: str, rest: str = "") -> str:
    return f"order:\n  kind: {kind}\n  symbol: {symbol}\n{_REF}{rest}"


def _entry(kind: str, symbol: str, of_type: str, rest: str = "") -> str:
    return _order(kind, symbol, f"{_SIZE}  type: {of_type}\n{TYPES[of_type]}{rest}")


def _plain(symbol: str, of_type: str, rest: str = "") -> str:
    time = '  time_in_force: "{{ alert.tif | default(\'day\') }}"\n  expire_time: "{{ alert.until }}"\n'
    return _entry("plain", symbol, of_type, time + rest)


def _exits(prefix: str, account: str, symbol: str, rest: str = "") -> Iterator[tuple[str, str, str]]:
    yield f"{prefix}_cancel", account, f"order:\n  kind: cancel\n{_REF}"
    yield f"{prefix}_cancel_legs", account, f"order:\n  kind: cancel\n{_REF}  legs: true\n"
    yield f"{prefix}_cancel_all", account, f"order:\n  kind: cancel\n  symbol: {symbol}\n"
    yield f"{prefix}_close", account, f"order:\n  kind: close\n  symbol: {symbol}\n{rest}"


def _tradovate() -> Iterator[tuple[str, str, str]]:
    for each in TYPES:
        yield f"tv_{each}", "tv", _plain("ESZ6", each)
    yield "tv_cover", "tv", _entry("cover", "ESZ6", "limit", _STOP_LEG)
    yield "tv_cover_market", "tv", _entry("cover", "ESZ6", "market", "  stop_loss: {points: 4}\n")
    yield "tv_oco", "tv", _entry("oco", "ESZ6", "limit", _OTHER)
    yield "tv_oso", "tv", _entry("oso", "ESZ6", "limit", _STOP_LEG + _TARGET_LEG)
    yield "tv_target_only", "tv", _entry("oso", "ESZ6", "limit", "  take_profit: {points: 10}\n")
    yield "tv_strategy", "tv", _entry("oso", "ESZ6", "market",
                                      "  stop_loss: {ticks: 20}\n  take_profit: {points: 10}\n")
    yield from _exits("tv", "tv", "ESZ6")


def _crosstrade(prefix: str, account: str) -> Iterator[tuple[str, str, str]]:
    for each in _PLAIN:
        yield f"{prefix}_{each}", account, _plain("ES 12-26", each)
    yield f"{prefix}_oco", account, _entry("oco", "ES 12-26", "limit", _OTHER)
    yield f"{prefix}_oso", account, _entry("oso", "ES 12-26", "market", "  options: {strategy: MyAtmStrategy}\n")
    yield from _exits(prefix, account, "ES 12-26")


def _pocketful(prefix: str, account: str) -> Iterator[tuple[str, str, str]]:
    options = '  options: {exchange: NSE, instrument_token: "14366"}\n'
    for each in _PLAIN:
        yield f"{prefix}_{each}", account, _plain("IDEA-EQ", each, options)
    yield f"{prefix}_cover", account, _entry("cover", "IDEA-EQ", "limit", _STOP_LEG + options)
    yield f"{prefix}_oso", account, _entry("oso", "IDEA-EQ", "limit", _STOP_LEG + _TARGET_LEG + options)
    yield from _exits(prefix, account, "IDEA-EQ", options)


def _others() -> Iterator[tuple[str, str, str]]:
    yield "dry", "tv", "dry_run: true\n" + _plain("ESZ6", "market")
    yield "by_id", "tv", 'id: "{{ alert.ref }}"\n' + _plain("ESZ6", "market")
    yield "young", "tv", 'sent_at: "{{ alert.until }}"\n' + _entry("plain", "ESZ6", "market")
    two = [_entry("plain", symbol, "limit").replace("order:\n  kind", f"  - account: {account}\n    kind")
           .replace("\n  ", "\n    ").replace("\n      kind", "\n    kind")
           for account, symbol in (("tv", "ESZ6"), ("nt-rest", "ES 12-26"))]
    yield "copies", "[tv, nt-rest]", "orders:\n" + "".join(two)


def write(folder: Path) -> None:
    """Write `accounts.yaml` and `templates/` into the folder."""
    (folder / "accounts.yaml").write_text(ACCOUNTS)
    (folder / "templates").mkdir()
    cells = [*_tradovate(), *_crosstrade("nt", "nt-rest"), *_crosstrade("ws", "nt-ws"), *_pocketful("pf", "pf"),
             *_pocketful("pa", "pf-algo"), *_others()]
    for name, account, body in cells:
        (folder / "templates" / f"{name}.yaml").write_text(f"account: {account}\n{FIELDS}\n{body}")
