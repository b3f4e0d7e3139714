"""What a broker file is: capabilities, option schemas, log-in, and one plan for each operation.

A broker is one file in `bridge/brokers/` and one line in its registry. Nothing else in Bridge names a broker. Its code
is pure: it makes calls and judges replies; it opens no connection, reads no clock and knows no Redis.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar, Final

from marshmallow import Schema

from bridge.call import Call, Hold, LogIn, LookUp, Plan, Reply, Token
from bridge.instruments import Market
from bridge.numbers import EXACT
from bridge.order import TYPES, Order, Product
from bridge.work import Account, Budget, Work


class _Unknown:
    """A field whose value only an alert will tell; equal to nothing else."""

    def __repr__(self) -> str:
        return "<from the alert>"


UNKNOWN: Final = _Unknown()
"""In a sketch of an order (what a template can make, seen at load): this field will be set by an expression."""

Sketch = Mapping[str, Any]
"""An order as `Order.to_json` gives it, with UNKNOWN where the value (a leg's `offset` too) is not known yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a broker can do, as data.

    `kinds` maps each kind that can be asked for to "native" or "composed"; `instead` says for every other kind why not
    and what would do. `to_know` says of a kind what a trader has to know before it is sent. `doubtful_types` are entry
    types that the broker may refuse, with why and what would do. `types` are entry types, `leg_types` those of stop_loss,
    take_profit, other and brackets.
    """

    kinds: Mapping[str, str]
    instead: Mapping[str, str] = field(default_factory=dict)
    to_know: Mapping[str, str] = field(default_factory=dict)
    doubtful_types: Mapping[str, str] = field(default_factory=dict)
    types: frozenset[str] = frozenset()
    leg_types: frozenset[str] = frozenset()
    times_in_force: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Starter:
    """What `bridge new` begins a template with: a symbol as charts write it, a price and its tick, the options of each
    kind ("" for the kinds that are not named), and whether exits can be given (`own_exits`) or an option owns them."""

    ticker: str = "ES1!"
    price: str = "5300.25"
    tick: str = "0.25"
    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    own_exits: bool = True


class Broker(ABC):
    """One broker's file, as an object without state."""

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    currency: ClassVar[str] = "USD"
    """What its prices are in."""
    environments: ClassVar[Mapping[str, tuple[str, str]]]
    """Environment → (REST base, WebSocket base): scheme and host, no path, no trailing slash."""
    default_environment: ClassVar[str]
    real_money: ClassVar[frozenset[str]]
    """Environments in which real money can move."""
    budget: ClassVar[Budget]
    account_schema: ClassVar[type[Schema]]
    """The account's own fields beyond the common ones: `account`, `account_id`, `client_id`, `transport`, `options`."""
    credential_names: ClassVar[Mapping[str, bool]]
    """Credential → whether it is required."""
    sandbox_credentials: ClassVar[Mapping[str, str]]
    renew_before_s: ClassVar[float] = 900.0
    """How long before its end a token is renewed."""
    person_renews: ClassVar[bool] = False
    """Whether only a person can renew a token: then its end is announced in time."""
    most_log_ins_per_hour: ClassVar[int | None] = None
    """How many of `log_in_operations` leave in any hour, whatever comes of them; None: as many as it takes."""
    log_in_operations: ClassVar[frozenset[str]] = frozenset()
    """The calls of a log-in that a broker counts, and locks the user for when there are too many."""
    front_until_days: ClassVar[int | None] = None
    """How many days before its last day a contract stops to be the front month in this broker's own words (`roll: broker`);
    None: the broker does not say."""
    default_roll: ClassVar[Mapping[str, Any] | None] = None
    """What `roll:` is for accounts that do not say it, where the common default does not suit."""
    lists_instruments: ClassVar[bool] = False
    """Whether it trades by the numbers of an instrument master, in which `identify` looks symbols up."""
    starter: ClassVar[Starter] = Starter()
    """What a new template for it begins with."""
    options_schema: ClassVar[type[Schema]]
    """An order's `options`, in the broker's own names."""

    def hosts(self, environment: str, options: Mapping[str, Any]) -> tuple[str, str]:
        """(REST base, WebSocket base) of an environment; brokers whose host is an option override it."""
        return self.environments[environment]

    def moves_real_money(self, environment: str, account: str) -> bool:
        """Whether this broker account moves real money in this environment."""
        return environment in self.real_money

    def account_faults(self, account: Account) -> Iterator[tuple[str, str]]:
        """What is wrong with an account beyond its schema, as (field, message)."""
        return iter(())

    @abstractmethod
    def login_name(self, account: Account) -> str:
        """What tells this log-in from others at this broker (a user name, a hash of a token): no secret in clear."""

    def symbol_form(self) -> str:
        """How the broker writes futures contracts: `tradovate` ESZ6, `ninjatrader` ES 12-26, `none` (no futures)."""
        return "none"

    def counts_from_fill(self, kind: str, account: Account) -> bool:
        """Whether legs of a market entry of this kind can be distances from the fill."""
        return False

    def refusals(self, sketch: Sketch, account: Account) -> Iterator[tuple[str, str]]:
        """What this broker cannot do of an order beyond its capabilities, as (field, message saying what would do).

        Called at load with a sketch (UNKNOWN where an expression stands) and again with every rendered order.
        """
        return iter(())

    def product_of(self, symbol: str) -> Product | None:
        """What the broker itself knows of a symbol; None: ask the product table."""
        return None

    def master_url(self, account: Account) -> str | None:
        """Where the broker's instrument master is had (a ZIP, without a log-in); None where there is none."""
        return None

    def identify(self, symbol: str, options: Mapping[str, Any], account: Account,
                 market: Market) -> tuple[Mapping[str, Any], Product]:
        """The options with the instrument that a symbol means now, and what is known of it; where `lists_instruments`.

        What is added is stored with the order: no later master changes it. Raises NoInstrument in words, MasterAwaited.
        """
        return options, Product()

    def point_value_of(self, order: Order, account: Account) -> Decimal | None:
        """What one point in one of what is ordered is worth in `currency`, where no table of products knows it."""
        return None

    def counter_name(self, account: Account) -> str | None:
        """The name of the counter that gives `Ids.counter`, or None when the broker needs none."""
        return None

    @abstractmethod
    def submit(self, work: Work) -> Plan:
        """The plan that carries out `work.order`, whatever its kind (plain, cover, oco, oso, cancel, close)."""

    @abstractmethod
    def look_up(self, work: Work) -> LookUp:
        """The plan that finds `work` at the broker: an entry by our own ids, a cancel or close by its effect.

        Absent for an entry means that a complete book of the right day does not hold it; for a cancel or close that its
        effect is not there and that carrying it out once more can only reduce. None: nothing could be proven.
        """

    def look_up_step(self, work: Work, call: Call) -> LookUp:
        """The plan that finds out what became of one write of an order that takes several.

        What it sees is handed to the order's plan as `Reply.seen`, in place of the answer that was not heard.
        """
        return self.look_up(work)

    def warm(self, account: Account) -> Call | None:
        """A cheap read that keeps an idle connection from being closed; None where the broker has none."""
        return None

    @abstractmethod
    def log_in(self, account: Account, now: float, token: Token | None) -> LogIn:
        """Log in, or renew `token` where the broker can. `now` is seconds since the epoch."""

    @abstractmethod
    def dress(self, call: Call, account: Account, token: Token, frame_id: str) -> Call:
        """The call with what the session adds: authorization headers, and a WebSocket frame's id."""

    @abstractmethod
    def nothing_done(self, call: Call, reply: Reply) -> Hold | None:
        """Whether this reply means that the broker did nothing and the same call may be repeated, and after what."""


def capability_faults(broker: Broker, sketch: Sketch) -> Iterator[tuple[str, str]]:
    """What the capabilities rule out, as (field, message saying what would do instead)."""
    can = broker.capabilities
    kind = sketch.get("kind")
    if not isinstance(kind, str):
        return
    if kind not in can.kinds:
        instead = can.instead.get(kind, f"it can do {', '.join(can.kinds)}")
        yield "kind", f"{broker.name} has no {kind} order: {instead}"
        return
    if kind in ("cancel", "close"):
        return
    yield from _value_faults(broker, sketch, "", "type", can.types)
    yield from _value_faults(broker, sketch, "", "time_in_force", can.times_in_force)
    for path, leg in legs_of(sketch):
        yield from _value_faults(broker, leg, f"{path}.", "type", can.leg_types)
        yield from _value_faults(broker, leg, f"{path}.", "time_in_force", can.times_in_force)


def legs_of(sketch: Sketch) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each leg of a sketch with its path."""
    for name in ("other", "stop_loss", "take_profit"):
        if isinstance(leg := sketch.get(name), Mapping):
            yield name, leg
    for number, leg in enumerate(sketch.get("brackets") or ()):
        yield f"brackets.{number}", leg


def _value_faults(broker: Broker, thing: Mapping[str, Any], prefix: str, name: str,
                  allowed: frozenset[str]) -> Iterator[tuple[str, str]]:
    value = thing.get(name)
    if isinstance(value, str) and value not in allowed:
        words = [word for word in (*TYPES, "day", "gtc", "ioc", "fok", "gtd") if word in allowed]
        yield f"{prefix}{name}", f"{broker.name} has no {value}; it takes {', '.join(words)}"


def distance(one: Decimal, other: Decimal) -> Decimal:
    """How far two prices are apart, to the last digit."""
    return EXACT.abs(EXACT.subtract(one, other))
