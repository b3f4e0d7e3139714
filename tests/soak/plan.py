"""What a run does, decided by its seed alone: which alerts are sent, which twice, and what is killed between them."""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from tests.soak.desk import DESKS, EXIT_S, QUICK_S, Desk

_WEIGHTS = {"tv": 45, "nt": 38, "pf": 17}
"""Pocketful's order book is read whole at each look-up, so that account gets fewer orders."""
_KINDS: dict[str, float] = {"market": 12, "limit": 26, "quick": 10, "by_id": 5, "list": 5, "oso": 9, "atm": 9, "oco": 10, "cover": 7,
          "every": 8, "cancel": 12, "cancel_all": 0.6, "close": 1.2}
_EXITS = ("cancel", "cancel_all", "close")
_FAULTS = {
    "tradovate": (("placeorder", "placeoco", "placeoso", "cancelorder", "liquidateposition", "item", "list"),
                  ("expired_token", "penalty_ticket")),
    "crosstrade": (("place", "cancel", "close", "lifecycle", "orders"), ()),
    "pocketful": (("place", "place_co", "place_bo", "cancel", "cancel_kart", "orders", "positions"), ()),
}
"""Which operations meet a fault, and what only that broker does. No log-in: after a failed one Bridge waits for minutes,
for a broker locks an account out after five."""
_MOST_KICKED = 1
"""Tokens that die in a run: after four log-ins within an hour Bridge makes no more, and a kill may cost one too."""
_READS = ("item", "list")
_FAULT_WORDS = ("drop_before", "drop_after", "http_500_after", "http_408_after", "http_408_before", "rate_limit",
                "garbage", "delay", "delay", "reject", "reject_later", "drop_after", "drop_before")


@dataclass(frozen=True, slots=True)
class Expected:
    """An order that an alert is to make: for which account, its kind, and what a cancel or close names."""

    account: str
    kind: str
    symbol: str = ""
    ref: str = ""
    follows: bool = False

    @property
    def is_exit(self) -> bool:
        """Whether it can only reduce."""
        return self.kind in ("cancel", "close")


@dataclass(frozen=True, slots=True)
class Planned:
    """An alert to be sent: its number, its template and body, how often, and whether its sender hangs up."""

    number: int
    template: str
    fields: Mapping[str, Any]
    expected: tuple[Expected, ...]
    max_age_s: float
    timed: bool = False
    """The body carries the moment of sending (`at`), from which max_age counts."""
    twin_after_s: float | None = None
    """Send it a second time, on another connection, so much later."""
    hangs_up: bool = False

    def body(self, at: str) -> str:
        """The body as it is sent at that moment; a twin's is the very same text."""
        fields = {"serial": self.number, **self.fields, **({"at": at} if self.timed else {})}
        return json.dumps(fields, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Blow:
    """Something that is done to the Bridge right before an alert is sent."""

    before: int
    deed: str
    """kill, stop or fault."""
    target: str = ""
    pick: float = 0.0
    """Chooses among several processes of that name."""
    seconds: float = 0.0
    delay_s: float = 0.0
    fault: Mapping[str, Any] = field(default_factory=dict)

    def words(self) -> str:
        """For the record of events."""
        what = " ".join(f"{value}" for value in self.fault.values()) or self.target
        return f"{self.deed} {what}" + (f" for {self.seconds:.1f} s" if self.seconds else "")


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole run."""

    seed: int
    accounts: tuple[str, ...]
    transport: str
    alerts: tuple[Planned, ...]
    blows: tuple[Blow, ...]

    def to_json(self) -> dict[str, Any]:
        """For the folder that is kept."""
        return asdict(self)


def make_plan(seed: int, alerts: int, kills: int, faults: int, accounts: Sequence[str], *, lease_s: float,
              call_s: float) -> Plan:
    """The plan of a run. The same arguments give the same plan."""
    rng = random.Random(seed)
    transport = rng.choice(("rest", "websocket"))
    sent = tuple(_alerts(rng, alerts, accounts))
    blows = [*_kills(rng, alerts, kills), *_stops(rng, alerts, kills // 8, lease_s, call_s),
             *_faults(rng, alerts, faults, accounts, call_s)]
    blows.sort(key=lambda blow: blow.before)
    return Plan(seed, tuple(accounts), transport, sent, tuple(blows))


# -- alerts ------------------------------------------------------------------------------------------------------------


def _alerts(rng: random.Random, count: int, accounts: Sequence[str]) -> list[Planned]:
    refs: dict[str, deque[str]] = {name: deque(maxlen=12) for name in accounts}
    made = []
    for number in range(1, count + 1):
        desk = DESKS[rng.choices(accounts, [_WEIGHTS[name] for name in accounts])[0]]
        planned = _alert(rng, number, desk, refs, accounts)
        made.append(planned)
    return made


def _alert(rng: random.Random, number: int, desk: Desk, refs: Mapping[str, deque[str]],
           accounts: Sequence[str]) -> Planned:
    able = [kind for kind in _KINDS if kind in desk.kinds or kind in _EXITS or (kind == "every" and len(accounts) > 1)]
    kind = rng.choices(able, [_KINDS[kind] for kind in able])[0]
    ref = f"r{number}"
    if kind == "cancel":
        ref = refs[desk.name][rng.randrange(len(refs[desk.name]))] if refs[desk.name] else "r0"
    elif kind not in _EXITS and kind != "market":
        for name in accounts if kind == "every" else [desk.name]:
            refs[name].append(ref)
    twice = rng.random()
    return planned(number, desk.name, kind, ref=ref, accounts=accounts, side=rng.choice(("buy", "sell")),
                   twin_after_s=0.0 if twice < 0.04 else rng.uniform(0.05, 1.0) if twice < 0.08 else None,
                   hangs_up=rng.random() < 0.03)


def planned(number: int, account: str, kind: str, *, ref: str = "", accounts: Sequence[str] = (), side: str = "buy",
            twin_after_s: float | None = None, hangs_up: bool = False) -> Planned:
    """An alert of one kind for one account (`every`: for all `accounts`)."""
    desk = DESKS[account]
    price = str(Decimal(desk.base) + Decimal(desk.step) * number)
    fields: dict[str, Any] = {"ref": ref} if kind != "close" else {}
    if kind == "market":
        fields["side"] = side
    elif kind == "oco":  # a sell limit above the market and a sell stop below it: both rest
        fields |= {"side": "sell", "price": str(Decimal(desk.high) + Decimal(desk.step) * number), "stop": price}
    elif kind not in _EXITS:
        fields |= {"side": "buy", "price": price, "stop": _half(desk), "target": desk.high}
    if kind == "list":
        fields["target"] = str(Decimal(price) + Decimal(desk.step))
    if kind == "oso" and desk.broker == "pocketful":  # its bracket orders take distances below a hundred
        fields |= {"stop": str(Decimal(price) / 2 // Decimal("0.01") * Decimal("0.01")),
                   "target": str(Decimal(price) * 2)}
    template = kind if kind == "every" else f"{account}_{kind}"
    return Planned(number, template, fields, _expected(desk, kind, ref, accounts),
                   max_age_s=QUICK_S if kind == "quick" else EXIT_S if kind in _EXITS else 60.0,
                   timed=kind == "quick", twin_after_s=twin_after_s, hangs_up=hangs_up)


def _half(desk: Desk) -> str:
    return str(Decimal(desk.base) / 2)


def _expected(desk: Desk, kind: str, ref: str, accounts: Sequence[str]) -> tuple[Expected, ...]:
    if kind == "every":
        return tuple(Expected(name, "plain", DESKS[name].symbol, ref) for name in accounts)
    if kind == "cancel":
        return (Expected(desk.name, "cancel", "", ref),)
    if kind in ("cancel_all", "close"):
        return (Expected(desk.name, "cancel" if kind == "cancel_all" else "close", desk.symbol),)
    order_kind = {"oso": "oso", "atm": "oso", "oco": "oco", "cover": "cover"}.get(kind, "plain")
    first = Expected(desk.name, order_kind, desk.symbol, ref)
    return (first, Expected(desk.name, "plain", desk.symbol, follows=True)) if kind == "list" else (first,)


# -- blows -------------------------------------------------------------------------------------------------------------

_TARGETS = {"worker": 34, "child": 12, "receiver": 12, "ledger": 18, "broker": 14, "all": 10}


def _places(rng: random.Random, alerts: int, count: int) -> list[int]:
    """Evenly spread with some chance, the first a little after the start: before which alerts."""
    return [min(alerts, max(2, int((place + rng.random()) * alerts / max(1, count)))) for place in range(count)]


def _kills(rng: random.Random, alerts: int, count: int) -> list[Blow]:
    made = []
    for before in _places(rng, alerts, count):
        target = rng.choices(list(_TARGETS), list(_TARGETS.values()))[0]
        made.append(Blow(before, "kill", target, rng.random(), delay_s=rng.uniform(0, 0.06)))
    return made


def _stops(rng: random.Random, alerts: int, count: int, lease_s: float, call_s: float) -> list[Blow]:
    """A worker longer than its lease; now and then the broker, longer than a call may take."""
    made = []
    for before in _places(rng, alerts, count):
        if rng.random() < 0.75:
            target, seconds = "worker", lease_s * rng.uniform(1.1, 1.6)
        else:
            target, seconds = "broker", call_s * rng.uniform(1.1, 1.8)
        made.append(Blow(before, "stop", target, rng.random(), seconds, rng.uniform(0, 0.06)))
    return made


def _faults(rng: random.Random, alerts: int, count: int, accounts: Sequence[str], call_s: float) -> list[Blow]:
    made, kicked = [], 0
    for before in _places(rng, alerts, count):
        desk = DESKS[rng.choices(accounts, [_WEIGHTS[name] for name in accounts])[0]]
        operations, more = _FAULTS[desk.broker]
        fault: dict[str, Any] = {"broker": desk.broker, "operation": rng.choice(operations),
                                 "fault": rng.choice((*_FAULT_WORDS, *more)), "count": rng.choice((1, 1, 1, 2, 3))}
        if fault["fault"] == "expired_token":
            fault |= {"fault": "expired_token" if kicked < _MOST_KICKED else "drop_after", "count": 1}
            kicked += 1
        if desk.broker == "tradovate" and fault["fault"].startswith("http_408") and fault["operation"] in _READS:
            fault["count"] = 1  # a second one in a row means that the session was pushed out, and costs a log-in
        if fault["fault"] == "delay":
            fault["seconds"] = round(rng.choice((0.2, 0.5, call_s * 1.4)), 2)
        if fault["fault"] == "penalty_ticket":
            fault["seconds"] = 1
        made.append(Blow(before, "fault", fault=fault))
    return made
