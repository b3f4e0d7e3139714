"""Pocketful (India): regular, cover (`CO`) and bracket (`BO`) orders over REST.

Pages: https://api.pocketful.in/docs (Place and Cancel of regular, after-market, cover and bracket orders, Order Book,
Positions, Login); the published clients `pocketful` 0.1.2 and Pocketfulapi-python. Nothing here was tried with money.

Two styles. `api: trade` is https://trade.pocketful.in with `Authorization: Bearer`: the default, because the OAuth
log-in and the token made in the portal are documented there and nowhere else. `api: algo` is https://algo.pocketful.in
with `x-authorization-token` and `x-device-type`, as the newest pages and client have it; the log-in with password and
second factor (`log_in: password`) exists only there.

The traps that cost money:

* `stop_loss_value` of a cover order is a price on one page (13 with a stop at 12) and a distance in the published
  client (77.9 with 1). It has no default: an account says `price` or `distance`, after a try with one share. The stop
  and target of a bracket order are distances everywhere.
* `trailing_stop_loss` is "0.05" next to a stop one rupee away: it reads as the step by which the stop follows, not as
  its distance. A table calls it a number, every example of a trailing order writes it as text: `trailing_stop_loss:
  text | number`, text by default. An order that does not trail sends the number 0, as the client does.
* "success" means received. Rejections by margin, adapter or exchange stand in the order book only. A cover or bracket
  order answers with a `basket_id`, no order id; an empty one says nothing. The way back to any order is our own
  `user_order_id`; the broker does not keep it unique, so it is matched with instrument, side, quantity and time. Nor
  does a page say that it is on every row: until an account has shown us one, a row that could be ours under another id
  forbids the conclusion that ours never arrived.
* A cover or bracket order cannot be cancelled before the exchange has given it an `exchange_order_id`.
* The pages disagree on whether a DELETE carries its parameters as query or as body (`cancel_parameters`: both, query,
  body), and the book's own `leg_order_indicator` and status words are to be sent back as they are.
* Cancelling the legs leaves the position naked, and may itself sell it: a close waits until the book shows them gone
  and only then reads the position it turns round. It waits for any market order there too: an earlier close's closing
  order may rest (before the opening, at the price band, in a halted share), and the position does not show it. No page
  says how soon positions show a fill: after one of the last two seconds a close waits for that long.
* An "error" may be a gateway's that did not hear the end: words like "(504)-request timed out" refuse nothing.
* `last_activity_reference` and other ids of 19 digits do not survive a binary float; nothing here makes one.
* Tokens end at 12:00 AM (no page names a zone: India's), whatever `expires_in` says, and do not tell how old they are.
  Orders are taken only from the registered static IP.
* Market and SLM orders may be refused (SEBI wants market protection; the newest page lists LIMIT and SL only).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any, ClassVar, Final, TypeVar
from urllib.parse import quote

from marshmallow import Schema, ValidationError, fields, validate

from bridge.broker import UNKNOWN, Broker, Capabilities, Sketch, Starter, distance, legs_of
from bridge.call import (
    Absent,
    Accepted,
    Call,
    Hold,
    LogIn,
    LoginRefused,
    LookUp,
    Outcome,
    Pause,
    Placeholder,
    Plan,
    Rejected,
    Reply,
    Retry,
    Seen,
    Token,
    Unknown,
)
from bridge.instruments import EXCHANGES, Market, digits, identify, numbered_symbol, same_number, symbol_fault
from bridge.numbers import shortest
from bridge.order import Leg, Order, Product, opposite
from bridge.totp import key_of, totp
from bridge.waits import retry_after_s
from bridge.work import Account, Budget, Work

CAPABILITIES = Capabilities(
    kinds=MappingProxyType({"plain": "native", "cover": "native", "oso": "native", "cancel": "composed",
                            "close": "composed"}),
    instead=MappingProxyType({
        "oco": "two orders that cancel each other don't exist there without an entry; use kind: oso (a bracket order: "
               "entry, stop and target in one) or kind: cover (entry and stop)"}),
    types=frozenset({"market", "limit", "stop", "stop_limit"}), times_in_force=frozenset({"day", "ioc"}),
    doubtful_types=dict.fromkeys(("market", "stop"), "market orders of an API need market protection, which it does not "
                                                     "carry; use limit, or stop_limit"),
    leg_types=frozenset({"stop", "trailing_stop", "limit"}),
)

PRODUCTS = ("CNC", "MIS", "NRML")


class _Readable(fields.Field[Any]):
    """A value that YAML may have read as text, number or Decimal: taken if `read` understands it."""

    def __init__(self, read: Callable[[Any], Any], wanted: str) -> None:
        super().__init__(metadata={"description": wanted})
        self._read, self._wanted = read, wanted

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        found = self._read(value)
        if found in (None, ""):
            raise ValidationError(f"must be {self._wanted}")
        return found


class OrderOptions(Schema):
    """An order's `options`, in Pocketful's names."""

    exchange = fields.String(validate=validate.OneOf(EXCHANGES), metadata={"description": "where it is traded"})
    instrument_token = _Readable(lambda value: digits(value), "digits, like 14366")
    product = fields.String(validate=validate.OneOf(PRODUCTS), metadata={"description": "CNC delivery, MIS intraday, NRML"})
    disclosed_quantity = _Readable(lambda value: _count(value), "a whole number of at least 0")
    amo = fields.Boolean(truthy={True, "true"}, falsy={False, "false"}, metadata={"description": "an after-market order"})
    oms_order_id = _Readable(lambda value: _id(value), "an order id as the order book shows it, like 202403132605")


class AccountOptions(Schema):
    """An account's `options`."""

    api = fields.String(load_default="trade", validate=validate.OneOf(("trade", "algo")))
    log_in = fields.String(load_default="token", validate=validate.OneOf(("token", "password")))
    stop_loss_value = fields.String(validate=validate.OneOf(("price", "distance")))
    trailing_stop_loss = fields.String(load_default="text", validate=validate.OneOf(("text", "number")))
    cancel_parameters = fields.String(load_default="both", validate=validate.OneOf(("both", "query", "body")))
    product = fields.String(validate=validate.OneOf(PRODUCTS))
    exchange = fields.String(validate=validate.OneOf(EXCHANGES))


class AccountFields(Schema):
    """The account's own fields beyond the common ones."""

    client_id = fields.String(required=True, validate=validate.Regexp(
        r"[A-Za-z0-9_-]{1,32}\Z", error="must be the client id of the portal: letters and digits"))
    options = fields.Nested(AccountOptions, load_default=lambda: AccountOptions().load({}))


_HOSTS: Final = MappingProxyType({
    "trade": ("https://trade.pocketful.in", "wss://trade.pocketful.in"),
    "algo": ("https://algo.pocketful.in", "wss://algo.pocketful.in"),
})

_ORDER_TYPES: Final = MappingProxyType({"market": "MARKET", "limit": "LIMIT", "stop_limit": "SL", "stop": "SLM"})
_VALIDITIES: Final = MappingProxyType({"day": "DAY", "ioc": "IOC"})
_STATUSES: Final = MappingProxyType({
    "CONFIRMED": "working", "MODIFY_CONFIRMED": "working", "MODCONFIRMED": "working", "AMO_REQ_RECEIVED": "working",
    "AMO_MODIFY_CONFIRMED": "working", "TRIGGER PENDING": "working", "COMPLETE": "filled", "REJECTED": "rejected",
    "CANCEL_CONFIRMED": "canceled", "AMO_CANCEL_CONFIRMED": "canceled",
})
_LEG_ROLES: Final = MappingProxyType({
    "ENTRY": "entry", "SECOND": "take_profit", "TARGET": "take_profit", "THIRD": "stop_loss", "STOPLOSS": "stop_loss",
})
"""`leg_order_indicator` → our role; two sets of words are documented."""
_INDICATORS: Final = MappingProxyType({"entry": "ENTRY", "take_profit": "SECOND", "stop_loss": "THIRD"})

_INDIA_S: Final = 19_800
_CLOCKS: Final = (0, _INDIA_S, -_INDIA_S)
"""By how much a time of the broker's may be off: India's time may have been written as UTC or the other way round."""
_SLACK_S: Final = 3_900
"""How far the broker's clock may be off ours where times of entry are compared: an hour may be set wrongly."""
_TRIES, _TRY_EVERY_S, _TRIES_FOR_ANOTHERS = 20, 0.5, 5
"""How often a close looks whether another's market order has ended, before it makes room for other orders."""
_FILL_SHOWS_S: Final = 2.0
"""How long the positions may go without a fill that the order book already shows: a guess, no page says."""
_ACTIVITY_ZERO: Final = 315_532_800 - _INDIA_S
"""`last_activity_reference` counts nanoseconds from the start of 1980 in India (so on the rows that were published)."""

_TODAYS_TOKEN: Final = ("tokens end at midnight in India: make today's in the portal (api.pocketful.in), give it as "
                        "credentials.token and start the worker again")

_T = TypeVar("_T")

_OMS_ID = Placeholder.of("orders.oms_order_id")
_EXCHANGE_ID = Placeholder.of("orders.exchange_order_id")
_BASKET_ID = Placeholder.of("orders.kart.basket_id")
_NET = Placeholder.of("positions.net_quantity")
_NET_SIDE = Placeholder.of("positions.net_quantity, turned round")
_NET_PRODUCT = Placeholder.of("positions.product")


class Pocketful(Broker):
    """Pocketful as Bridge sees it; see the module's docstring."""

    name: ClassVar[str] = "pocketful"
    capabilities = CAPABILITIES
    environments: ClassVar[Mapping[str, tuple[str, str]]] = MappingProxyType({"live": _HOSTS["trade"]})
    default_environment = "live"
    real_money = frozenset({"live"})
    renew_before_s: ClassVar[float] = 0.0
    """Not early: whatever is made before midnight ends at midnight too."""
    person_renews: ClassVar[bool] = True
    """Of a given token; with `log_in: password` Bridge makes the new one by itself."""
    budget = Budget(per_second=8, per_minute=250)
    """The pages allow 25 a second and 250 a minute; from 10 a second on the exchange wants the strategy registered."""
    account_schema = AccountFields
    credential_names: ClassVar[Mapping[str, bool]] = MappingProxyType({
        "token": False, "channel_id": False, "channel_secret": False, "totp_secret": False, "pin": False})
    sandbox_credentials: ClassVar[Mapping[str, str]] = MappingProxyType({
        "token": "sandbox-token", "channel_id": "SANDBOX", "channel_secret": "sandbox-password", "pin": "123456",
        "totp_secret": "JBSWY3DPEHPK3PXP"})
    options_schema = OrderOptions
    starter = Starter(ticker="SBIN", price="800.05", tick="0.05", options={
        "": {"exchange": "NSE"}, "plain": {"exchange": "NSE", "product": "MIS"}, "cancel": {}})
    currency = "INR"
    default_roll: ClassVar[Mapping[str, Any] | None] = MappingProxyType({"days_before_expiry": 0})
    front_until_days = 0
    lists_instruments = True

    def hosts(self, environment: str, options: Mapping[str, Any]) -> tuple[str, str]:
        """The address belongs to the style of the API, not to an environment: there is only the live one."""
        return _HOSTS.get(options.get("api", "trade"), _HOSTS["trade"])

    def account_faults(self, account: Account) -> Iterator[tuple[str, str]]:
        """What the chosen log-in lacks."""
        given = account.credentials
        if account.roll.months:
            yield "roll", "months are of the table's futures; write the contract itself, NSE:NIFTYZ2026, or say days"
        if _option(account, "log_in") == "token":
            if not given.get("token"):
                yield "credentials.token", ("is missing: today's access token, from the portal's one-click button or "
                                            "your OAuth app (or options: {api: algo, log_in: password})")
            return
        if _option(account, "api") != "algo":
            yield "options.log_in", "`password` exists only with `api: algo`; use a token, or add `api: algo`"
        for name in ("channel_id", "channel_secret"):
            if not given.get(name):
                yield f"credentials.{name}", "is missing: `log_in: password` needs it"
        if not (given.get("totp_secret") or given.get("pin")):
            yield "credentials.totp_secret", "is missing: the second factor is a totp_secret or a pin"
        if given.get("totp_secret") and key_of(given["totp_secret"]) is None:
            yield "credentials.totp_secret", "is not the base32 text that the authenticator app was given"

    def login_name(self, account: Account) -> str:
        """A hash of the client id: the broker counts requests per client."""
        return hashlib.sha256(account.client_id.encode()).hexdigest()[:12]

    def counts_from_fill(self, kind: str, account: Account) -> bool:
        """A bracket order's legs are distances; a cover order's stop where the account says so."""
        return kind == "oso" or (kind == "cover" and _option(account, "stop_loss_value") == "distance")

    def product_of(self, symbol: str) -> Product | None:
        """Never the product table's futures: the symbol is the trader's own word, the token says what is traded."""
        return Product()

    def master_url(self, account: Account) -> str | None:
        """Contract files are documented on trade.pocketful.in alone, for every style of the API; they need no log-in."""
        base = _HOSTS["trade"][0] if account.rest_url == _HOSTS["algo"][0] else account.rest_url
        return f"{base}/api/v1/contract/Compact?info=download&exchanges=NSE,NFO,BSE,BFO,MCX"

    def identify(self, symbol: str, options: Mapping[str, Any], account: Account,
                 market: Market) -> tuple[Mapping[str, Any], Product]:
        """A number that is given wins: then the master only tells its tick and lot."""
        exchange, token = _instrument(symbol, options, account)
        if token is None:
            return identify(symbol, options, _option(account, "exchange") or "", account.roll.days, market)
        found = market.index.numbered(*same_number(exchange, token)) if market.index else None
        return options, found.product if found else Product()

    def point_value_of(self, order: Order, account: Account) -> Decimal | None:
        """A rupee for each share, as futures and options on shares count them too; of commodities it is not told."""
        is_share = _instrument(order.symbol, order.options, account)[0] in ("NSE", "BSE", "NFO", "BFO")
        return Decimal(1) if is_share else None

    def counter_name(self, account: Account) -> str | None:
        """One counter per client for `user_order_id`."""
        return f"pocketful:{account.client_id}"

    def refusals(self, sketch: Sketch, account: Account) -> Iterator[tuple[str, str]]:
        """What Pocketful cannot do of this order, saying what would do."""
        return _refusals(sketch, account)

    def submit(self, work: Work) -> Plan:
        """The plan for `work.order`. An order that its account no longer can carry is rejected without a call."""
        kind = work.order.kind
        faults = list(_refusals(work.order.to_json(), work.account)) if kind in _PLANS else [
            ("kind", CAPABILITIES.instead[kind])]
        _, token = _instrument(work.order.symbol, work.order.options, work.account)
        if kind != "cancel" and not (isinstance(token, Placeholder) or digits(token)):
            faults.append(("options.instrument_token", "is not known: the symbol was not looked up"))
        return _refused(faults) if faults else _PLANS[kind](work)

    def look_up(self, work: Work) -> LookUp:
        """Find an order, or a close's opposite one, by `user_order_id` in both order books; a cancel by its effect."""
        return _look_up_cancel(work) if work.order.kind == "cancel" else _look_up(work)

    def warm(self, account: Account) -> Call | None:
        """The pending order book: small, and what a token that may trade may read."""
        return _get(account, "orders", "pending", "warm", None)

    def log_in(self, account: Account, now: float, token: Token | None) -> LogIn:
        """Today's token from the credentials, or the log-in with password and second factor."""
        return _log_in(account, now, token)

    def dress(self, call: Call, account: Account, token: Token, frame_id: str) -> Call:
        """The token goes into the header of the account's style."""
        if _option(account, "api") == "algo":
            return replace(call, headers={**call.headers, "x-authorization-token": token.value})
        return replace(call, headers={**call.headers, "Authorization": f"Bearer {token.value}"})

    def nothing_done(self, call: Call, reply: Reply) -> Hold | None:
        """A dead token, too many requests, and a cancel that came before the exchange's id: nothing was executed."""
        if reply.status is None or reply.not_executed:
            return None
        envelope = _Envelope(reply)
        if reply.status in (401, 403) and envelope.code in (None, 40000):
            return Hold(reason=_not_let_in(envelope, reply), wait_s=30, whole_login=True, renew=True, person=True)
        if reply.status == 429:
            return Hold(reason="Pocketful: too many requests", wait_s=_retry_after(reply), whole_login=True,
                        grows=retry_after_s(reply) is None)
        if call.method == "DELETE" and envelope.code == 44000 and re.search("exchange_order_id.*blank", envelope.words):
            return Hold(reason="the exchange has not given the order its id yet; before that it can't be cancelled",
                        wait_s=2)
        return None


# Log-in


def _log_in(account: Account, now: float, token: Token | None) -> LogIn:
    """A given token is taken as it is, to the end of the day: it does not tell how old it is, the first call will."""
    midnight = (_day(now) + 1) * 86400 - _INDIA_S
    if _option(account, "log_in") == "password":
        return (yield from _password_log_in(account, now, midnight))
    if not (value := account.credentials.get("token")):
        return LoginRefused(reason=f"the account has no token; {_TODAYS_TOKEN}")
    if token is not None and token.value == value:
        return LoginRefused(reason=f"the given token is no longer taken; {_TODAYS_TOKEN}", wait_s=60)
    return Token(value=value, expires_at=midnight)


def _password_log_in(account: Account, now: float, midnight: float) -> LogIn:
    """Client id and password, then the second factor it asks for: question 100 is a TOTP, any other the PIN."""
    given = account.credentials
    first = yield _login_call(account, "login", {"channel_id": given["channel_id"],
                                                 "channel_secret": given["channel_secret"]})
    asked = _part(_Envelope(first).data, "twofa")
    questions = _part(asked, "questions")
    question = _id(_part(questions[0], "question_id")) if isinstance(questions, list) and questions else ""
    if not question or not _part(asked, "twofa_token"):
        return _no_log_in(first, "user name and password")
    key = key_of(given.get("totp_secret", ""))
    answer = totp(key, now) if question == "100" and key else given.get("pin", "") if question != "100" else ""
    if not answer:
        wanted = "TOTP, and the account has no totp_secret" if question == "100" else "PIN, and the account has no pin"
        return LoginRefused(reason=f"Pocketful asks for a {wanted}")
    second = yield _login_call(account, "twofa", {
        "login_id": given["channel_id"], "twofa": [{"question_id": question, "answer": answer}],
        "twofa_token": asked["twofa_token"], "type": "TOTP" if question == "100" else "PIN", "device_type": "web"})
    value = _part(_Envelope(second).data, "auth_token")
    if isinstance(value, str) and value:
        return Token(value=value, expires_at=midnight)
    return _no_log_in(second, "the second factor")


def _login_call(account: Account, operation: str, body: Mapping[str, Any]) -> Call:
    return Call(operation=operation, method="POST", url=f"{account.rest_url}/api/v3/user/{operation}", step=operation,
                write=False, headers={"Content-Type": "application/json", "x-device-type": "web"}, body=body)


def _no_log_in(reply: Reply, what: str) -> LoginRefused:
    """A definite no waits for a person (wrong tries may lock the account); anything doubtful may be tried again."""
    envelope = _Envelope(reply)
    if (envelope.status == "error" and (reply.status or 0) < 500 and reply.status != 429
            and not _is_cut_off(reply, envelope)):
        return LoginRefused(reason=f"Pocketful did not take {what}: {envelope.words[:200]}")
    return LoginRefused(reason=f"no usable answer about {what} ({reply.fault or f'HTTP {reply.status}'})",
                        wait_s=_retry_after(reply) if reply.status == 429 else 30)


# What it cannot do


def _refusals(sketch: Sketch, account: Account) -> Iterator[tuple[str, str]]:
    kind, options = sketch.get("kind"), sketch.get("options") or {}
    if kind == "cancel":
        return
    if "oms_order_id" in options:
        yield "options.oms_order_id", "is for kind: cancel; a new order gets its id from the broker"
    yield from _instrument_faults(sketch, account)
    disclosed, quantity = options.get("disclosed_quantity"), sketch.get("quantity")
    if isinstance(disclosed, int) and isinstance(quantity, Decimal) and disclosed > quantity:
        yield "options.disclosed_quantity", f"{disclosed} is more than the quantity {quantity}"
    if kind == "plain" and not (options.get("product") or _option(account, "product")):
        yield "options.product", f"is missing: {', '.join(PRODUCTS)}; give it here or in the account's options"
    if kind in ("cover", "oso"):
        if options.get("amo") is True:
            yield "options.amo", "cover and bracket orders can't be placed after the market; use kind: plain"
        yield from _leg_refusals(sketch, account)


def _instrument_faults(sketch: Sketch, account: Account) -> Iterator[tuple[str, str]]:
    options = sketch.get("options") or {}
    exchange, token = _instrument(sketch.get("symbol"), options, account)
    own = numbered_symbol(sketch.get("symbol")) or ("", "")
    if token is None:
        if fault := symbol_fault(sketch.get("symbol"), options.get("exchange")):
            yield "symbol", fault
    elif exchange is None:
        yield "options.exchange", f"is missing: {', '.join(EXCHANGES)}; give it here or in the account's options"
    elif own[0] and "instrument_token" not in options and isinstance(exchange, str) and exchange != own[0]:
        yield "options.exchange", f"{exchange} disagrees with the symbol's {own[0]}, where the number is another's"


def _leg_refusals(sketch: Sketch, account: Account) -> Iterator[tuple[str, str]]:
    stops, targets = _sketched_legs(sketch)
    unsure = any(leg.get("type") is UNKNOWN for _, leg in legs_of(sketch))
    if not unsure and (len(stops) > 1 or len(targets) > 1):
        yield "brackets", "a bracket order has one stop and one target"
    if targets and not stops and not unsure:
        yield targets[0][0], ("a target without a stop is no order of Pocketful's: add a stop_loss (a bracket order), "
                              "or send the target as kind: plain after the entry has filled")
    if not stops and not targets and not unsure and sketch.get("kind") == "oso":
        yield "stop_loss", "is missing: an oso has a stop_loss (cover order), or stop_loss and take_profit (bracket)"
    for path, leg in legs_of(sketch):
        yield from _one_leg_refusals(sketch, path, leg)
    if stops and not targets:
        yield from _cover_refusals(sketch, stops[0][0], stops[0][1], account)
    elif stops and targets:
        for path, leg in (*stops, *targets):
            if sketch.get("type") == "market" and "offset" not in leg:
                yield path, ("a bracket order takes distances, and a market entry has no price to count from: give "
                             "ticks, points or percent, or a limit entry")


def _one_leg_refusals(sketch: Sketch, path: str, leg: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    wanted = {"stop_loss": ("stop", "trailing_stop"), "take_profit": ("limit",)}.get(path)
    kind, side = leg.get("type"), sketch.get("side")
    if wanted and isinstance(kind, str) and kind not in wanted:
        yield f"{path}.type", f"{kind} is not what Pocketful places as a {path}: it is a {wanted[0]} order there"
    if leg.get("time_in_force") == "ioc":
        yield f"{path}.time_in_force", "the broker's legs rest for the day: leave it out, or say day"
    if isinstance(side, str) and leg.get("side") == side:
        yield f"{path}.side", f"a leg closes the entry: it must be {opposite(side)}"
    if kind == "limit" and leg.get("trail") is not None:
        yield f"{path}.trail", "a target does not trail; the stop_loss can"
    if path.startswith("brackets."):
        yield from _bracket_side_faults(sketch, path, leg)


def _bracket_side_faults(sketch: Sketch, path: str, leg: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A leg on the wrong side of the entry would become a distance on the right one: another order than was meant."""
    at, base = leg.get("price") or leg.get("stop_price"), sketch.get("price") or sketch.get("stop_price")
    if not (isinstance(at, Decimal) and isinstance(base, Decimal)) or leg.get("type") is UNKNOWN:
        return
    below = (sketch.get("side") == "buy") == (leg.get("type") != "limit")
    if (at >= base) if below else (at <= base):
        where = "below" if below else "above"
        yield path, f"{at} must be {where} the entry's {base}: the order is a {sketch.get('side')}"


def _cover_refusals(sketch: Sketch, path: str, leg: Mapping[str, Any], account: Account) -> Iterator[tuple[str, str]]:
    means = _option(account, "stop_loss_value")
    if means is None:
        yield path, ("Pocketful's pages disagree whether a cover order's stop_loss_value is a price or a distance: set "
                     f"options: {{stop_loss_value: price}} (or distance) on the account {account.name!r}, after a try "
                     "with one share")
    elif means == "price" and "offset" in leg:
        yield path, ("this account sends a cover order's stop as a price, and a market entry has none to count from: "
                     "give a price, or a limit entry")
    elif means == "distance" and sketch.get("type") == "market" and "offset" not in leg:
        yield path, ("this account sends a cover order's stop as a distance, and a market entry has no price to count "
                     "from: give ticks, points or percent, or a limit entry")


def _sketched_legs(sketch: Sketch) -> tuple[list[tuple[str, Mapping[str, Any]]], list[tuple[str, Mapping[str, Any]]]]:
    """Stops and targets with their paths: by their name, brackets by their type."""
    stops = [(path, leg) for path, leg in legs_of(sketch)
             if path == "stop_loss" or (path != "take_profit" and leg.get("type") in ("stop", "trailing_stop"))]
    targets = [(path, leg) for path, leg in legs_of(sketch)
               if path == "take_profit" or (path != "stop_loss" and leg.get("type") == "limit")]
    return stops, targets


def _refused(faults: Sequence[tuple[str, str]]) -> Plan:
    yield from ()
    return Rejected(reason="; ".join(f"{field}: {message}" for field, message in faults))


# Plans: entries, cancel, close, look-ups


def _entry(work: Work) -> Plan:
    """Place Regular (with `amo` After-Market) Order; Place Bracket Order, or with a stop alone Cover Order."""
    execution_type = _kart_type(work.order)
    reply = yield _place_kart(work, execution_type) if execution_type else _place_plain(work)
    return _judge_place(reply, work, "basket" if execution_type else "order")


def _cancel(work: Work) -> Plan:
    """Read the ids from the order book, then DELETE each row; rows that have ended are done."""
    hunts = _hunts(work)
    if not hunts:
        return Accepted(reason="nothing to cancel: no order of ours is open there")
    tried: dict[str, Outcome] = {}
    rows: list[_Row] = []
    left: list[str] = []
    wait_s = 5.0
    for attempt in range(_TRIES):
        if attempt:
            yield Pause(seconds=_TRY_EVERY_S)
        read = yield from _patiently(
            lambda: _both_books(work, "look", _assumed_rows(hunts, "CONFIRMED"), [], _all_found(hunts)))
        if isinstance(read, _NotRead):
            left, wait_s = [read.reason], read.wait_s
            break
        rows = read.rows
        ready, left = _to_withdraw(hunts, rows)
        for row in ready:
            if row.key not in tried:
                tried[row.key] = _judge_delete((yield _delete(work, row)), row)
        if not left:
            break
    if left and not tried:
        return Retry(reason="; ".join(left), after_s=wait_s)
    if tried:
        rows = yield from _settled(work, hunts, rows, tried)
    return _judge_cancel(hunts, rows, tried, left)


def _close(work: Work) -> Plan:
    """Cancel the legs and our working orders on it, see them gone, read the position, send its opposite."""
    book = yield from _patiently(lambda: _book(work, "look", "pending", _assumed_resting(work)))
    if isinstance(book, _NotRead):
        return Retry(reason=f"nothing was closed: {book.reason}", after_s=book.wait_s)
    cleared = ""
    withdrawn: dict[str, Outcome] = {}
    resting = _resting(work, book.rows)
    if resting or _selling(work, book.rows):
        found = yield from _patiently(lambda: _positions(work))
        if isinstance(found, _NotRead) or len(found) > 1:
            return _not_closed(found, legs_went=False)
        if (stuck := (yield from _clear(work, resting, withdrawn))) is not None:
            return stuck
        if withdrawn:
            cleared = f"{len(withdrawn)} resting orders cancelled" + (", which closed it; " if found else "; ")
    yield from _let_fills_show(work)
    found = yield from _patiently(lambda: _positions(work))
    if isinstance(found, _NotRead) or len(found) > 1:
        return _not_closed(found, legs_went=bool(withdrawn))
    if not found:
        return Accepted(reason=f"{cleared}nothing open")
    reply = yield _place_opposite(work, found[0])
    outcome = _judge_place(reply, work, "order")
    if isinstance(outcome, Accepted):
        outcome = yield from _closed(work, outcome)
    return _without_a_stop(outcome) if withdrawn else outcome


def _not_closed(found: Sequence[_Position] | _NotRead, legs_went: bool) -> Outcome:
    """The end of a close that doesn't know its position, or can't choose between several."""
    if isinstance(found, _NotRead):
        return Unknown(reason=f"its legs were cancelled, then {found.reason}: a position may be OPEN WITHOUT A STOP"
                       ) if legs_went else Retry(reason=f"nothing was closed: {found.reason}", after_s=found.wait_s)
    return Unknown(reason=f"its legs were cancelled; {_several(found)}. It is OPEN WITHOUT A STOP"
                   ) if legs_went else Rejected(reason=_several(found))


def _let_fills_show(work: Work) -> Generator[Call | Pause, Any, None]:
    """Wait where an order on the instrument has only just filled: the position may not show it yet.

    Where the book can't be read the close goes on: then a position without a way out would be the greater danger.
    """
    book = yield from _book(work, "fills", "completed", [])
    if isinstance(book, _NotRead):
        return
    at = book.told_at if book.told_at is not None else work.created_at.timestamp()
    ages = [at - row.touched_at - shift for row in book.rows if row.touched_at and row.instrument == _instrument_of(work)
            and (row.filled or row.broker_status == "filled") for shift in _CLOCKS]
    if recent := [age for age in ages if -300 < age < _FILL_SHOWS_S]:
        yield Pause(seconds=_FILL_SHOWS_S - max(0.0, min(recent)))


def _closed(work: Work, taken: Accepted) -> Generator[Call | Pause, Any, Accepted | Rejected]:
    """What became of the opposite order: "success" means received, a rejection stands in the completed book only."""
    hunt = _Hunt(name=work.ids.order_id, work=replace(work, broker_ids=taken.broker_ids))
    for attempt in range(3):
        if attempt:
            yield Pause(seconds=_TRY_EVERY_S)
        read = yield from _book(work, "closed", "completed", _assumed_rows([hunt], "COMPLETE"))
        seen = None if isinstance(read, _NotRead) else hunt.seen(read.rows)
        if seen is None:
            continue
        if seen.broker_status == "rejected":
            return Rejected(reason=f"Pocketful took the closing order, then it was rejected: {seen.reason}")
        alarm = "" if seen.broker_status == "filled" else (
            f"the closing order ended and is not known to have filled ({seen.reason or seen.broker_status}): look "
            "whether the position is closed")
        return Accepted(broker_ids=seen.broker_ids, broker_status=seen.broker_status, alarm=alarm)
    return taken


def _without_a_stop(outcome: Outcome) -> Outcome:
    """The end of a close whose legs went before, in words that say what is at stake."""
    words = "; its legs were cancelled before: the position may be OPEN WITHOUT A STOP"
    if isinstance(outcome, Accepted):
        return replace(outcome, alarm=outcome.alarm and outcome.alarm + words)
    return (Unknown if isinstance(outcome, Unknown) else Rejected)(reason=outcome.reason + words)


def _look_up(work: Work) -> LookUp:
    """What the books say of an entry or a closing order. Running a close again reads legs and position afresh."""
    is_close = work.order.kind == "close"  # the broker's id may be that of an earlier arming: only our own id counts
    hunt = _Hunt(name=work.ids.order_id, work=replace(work, broker_ids={}) if is_close else work)
    read = yield from _both_books(work, "look", [], [], _all_found([hunt], and_legs=True))
    if isinstance(read, _NotRead):
        return None
    seen = hunt.seen(read.rows)
    if seen is None:
        return Absent(reason=f"no order with user_order_id {work.ids.counter} in the pending and the completed order "
                             "book of its day") if hunt.is_proven_absent(read) else None
    if is_close and seen.broker_status in ("rejected", "canceled"):
        return replace(seen, reason=f"{seen.reason or seen.broker_status}; the position may be OPEN WITHOUT A STOP")
    return seen


def _look_up_cancel(work: Work) -> LookUp:
    """Done when each of its orders has ended; not done, and safe to be done again, while one of them works."""
    hunts = _hunts(work)
    if not hunts:
        return Seen(broker_status="canceled", reason="there was nothing to cancel")
    read = yield from _both_books(work, "look", [], [], _all_found(hunts, and_legs=True))
    if isinstance(read, _NotRead):
        return None
    if working := [hunt.name for hunt in hunts if hunt.working(read.rows)]:
        return Absent(reason=f"still working: {', '.join(working)}; cancelling again can only reduce")
    if all(hunt.entry(read.rows) or hunt.is_proven_absent(read) for hunt in hunts):
        return Seen(broker_status="canceled", reason="; ".join(_fate(hunt, read.rows) for hunt in hunts))
    return None


_PLANS: Final[Mapping[str, Callable[[Work], Plan]]] = MappingProxyType({
    "plain": _entry, "cover": _entry, "oso": _entry, "cancel": _cancel, "close": _close})


# Making calls


def _place_plain(work: Work) -> Call:
    order, options = work.order, work.order.options
    amo = options.get("amo") is True
    body = _fields(work, product=options.get("product") or _option(work.account, "product"))
    body |= {"amo": amo, "execution_type": "AMO" if amo else "REGULAR", "order_type": _ORDER_TYPES[order.type or ""]}
    return _post(work, "place", "/api/v1/orders", "entry", body, _ok({"oms_order_id": _OMS_ID}))


def _place_kart(work: Work, execution_type: str) -> Call:
    """MIS unless the order itself says otherwise: no example and no real row of a CO or BO has another product."""
    order = work.order
    stop, target = _legs(order)
    if stop is None:
        raise ValueError(f"a {order.kind} without a stop reached the plan")
    trail = stop.trail if stop.trail is not None else order.trail
    as_text = _option(work.account, "trailing_stop_loss") != "number"
    as_price = execution_type == "CO" and _option(work.account, "stop_loss_value") == "price"
    body = _fields(work, product=order.options.get("product") or "MIS")
    body |= {"order_type": _ORDER_TYPES[order.type or ""], "execution_type": execution_type,
             "is_trailing": trail is not None, "stop_loss_value": stop.stop_price if as_price else _away(order, stop),
             "trailing_stop_loss": shortest(trail) if trail and as_text else trail or 0}
    if target is not None:
        body["square_off_value"] = _away(order, target)
    return _post(work, "place_bo" if execution_type == "BO" else "place_co", "/api/v1/orders/kart", "entry", body,
                 _ok({"data": {"basket_id": _BASKET_ID, "message": "basket Order Placed Successfully"}}))


def _place_opposite(work: Work, position: _Position) -> Call:
    body = _fields(work, product=position.product)
    body |= {"amo": False, "execution_type": "REGULAR", "order_type": "MARKET", "price": 0, "trigger_price": 0,
             "quantity": position.quantity, "order_side": position.way_out, "validity": "DAY", "disclosed_quantity": 0}
    return _post(work, "place", "/api/v1/orders", "close", body, _ok({"oms_order_id": _OMS_ID}))


def _fields(work: Work, product: str | None) -> dict[str, Any]:
    """The fields that every order has; a missing one is refused ("can't be blank"), so all are always sent."""
    order, options = work.order, work.order.options
    exchange, token = _instrument(order.symbol, options, work.account)
    return {
        "exchange": exchange, "instrument_token": token, "client_id": work.account.client_id,
        "price": order.price if order.price is not None else 0,
        "quantity": int(order.quantity) if order.quantity is not None else 0,
        "disclosed_quantity": options.get("disclosed_quantity", 0),
        "validity": _VALIDITIES[order.time_in_force or "day"], "product": product,
        "order_side": (order.side or "").upper(), "device": "WEB", "user_order_id": _user_order_id(work),
        "trigger_price": order.stop_price if order.stop_price is not None else 0,
    }


def _away(order: Order, leg: Leg) -> Decimal | None:
    """The leg's distance from the entry's price (a stop entry's: from its trigger)."""
    if leg.offset is not None:
        return leg.offset
    at = leg.price if leg.type == "limit" else leg.stop_price
    base = order.price if order.price is not None else order.stop_price
    if at is None or base is None:
        raise ValueError(f"a {leg.role} without a distance reached the plan")
    return distance(at, base)


def _user_order_id(work: Work) -> int | str:
    """From the ledger's counter; a word in its place where nothing is sent."""
    counter = work.ids.counter
    if counter is None:
        raise ValueError("Pocketful's user_order_id comes from the ledger's counter, and there is none")
    return int(counter) if str(counter).isdigit() else counter


def _delete(work: Work, row: _Row) -> Call:
    """Cancel Regular / Cover / Bracket Order, with what the row says and in the form(s) that the account wants."""
    what: dict[str, Any] = {"client_id": work.account.client_id}
    if row.is_kart:
        what |= {"exchange_order_id": row.exchange_id, "execution_type": row.execution_type,
                 "leg_order_indicator": row.indicator or _INDICATORS.get(row.role, "ENTRY")}
        if row.execution_type == "BO":
            what["status"] = row.status
    else:
        what["execution_type"] = row.execution_type or "REGULAR"
    how = _option(work.account, "cancel_parameters")
    path = f"/api/v1/orders/{'kart/' if row.is_kart else ''}{row.id}"
    assumed = {"basket_id": _BASKET_ID, "message": "Order Cancelled Successfully"} if row.is_kart else {
        "oms_order_id": row.id}
    body = {**what, "oms_order_id": row.id} if how in ("both", "body") else None
    return Call(operation="cancel_kart" if row.is_kart else "cancel", method="DELETE", write=True,
                url=work.account.rest_url + path + (_query(what) if how in ("both", "query") else ""),
                step=f"cancel.{row.key}", headers=_headers(work.account, body), body=body, assumed=_ok(assumed))


def _post(work: Work, operation: str, path: str, step: str, body: Mapping[str, Any], assumed: Any) -> Call:
    return Call(operation=operation, method="POST", url=work.account.rest_url + path, step=step, write=True,
                headers=_headers(work.account, body), body=body, assumed=assumed)


def _get(account: Account, operation: str, which: str, step: str, assumed: Any) -> Call:
    """A read of `orders` or `positions`, each of which is there in two types."""
    path = f"/api/v1/{operation}{_query({'type': which, 'client_id': account.client_id})}"
    return Call(operation=operation, method="GET", url=account.rest_url + path, step=step, write=False,
                headers=_headers(account, None), assumed=assumed)


def _headers(account: Account, body: Any) -> dict[str, str]:
    found = {} if body is None else {"Content-Type": "application/json"}
    return found | ({"x-device-type": "WEB"} if _option(account, "api") == "algo" else {})


def _query(parameters: Mapping[str, Any]) -> str:
    """Quoted, but for placeholders, which stay readable."""
    return "?" + "&".join(f"{name}={value if str(value).startswith('<from: ') else quote(str(value), safe='')}"
                          for name, value in parameters.items())


def _ok(data: Any) -> dict[str, Any]:
    return {"data": data, "message": "", "status": "success"}


# Reading books and positions


@dataclass(frozen=True, slots=True)
class _NotRead:
    """A book that could not be read. `is_refused`: the broker said no, so that asking again at once is of no use."""

    reason: str
    is_refused: bool = False

    @property
    def wait_s(self) -> float:
        """When the whole order is worth another try."""
        return 30 if self.is_refused else 5


class _Row:
    """One row of an order book, as far as we need it; what can't be read is empty."""

    def __init__(self, raw: Mapping[str, Any], ended_book: bool) -> None:
        def text(name: str) -> str:
            value = raw.get(name)
            return str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""

        self.id, self.exchange_id = _id(raw.get("oms_order_id")), _id(raw.get("exchange_order_id"))
        self.user_order_id = text("user_order_id")
        self.instrument = same_number(text("exchange"), text("instrument_token"))  # tokens repeat across exchanges
        self.side, self.order_type = text("order_side").upper(), text("order_type").upper()
        self.quantity, self.filled = _whole(raw.get("quantity")), _whole(raw.get("filled_quantity")) or 0
        self.entered_at = _whole(raw.get("order_entry_time")) or 0
        activity = _whole(raw.get("last_activity_reference")) or 0
        self.touched_at = max(self.entered_at, _whole(raw.get("exchange_time")) or 0,
                              activity // 10**9 + _ACTIVITY_ZERO if activity > 0 else 0)
        self.execution_type = text("execution_type").upper()
        self.is_kart = self.execution_type in ("CO", "BO")
        self.can_be_withdrawn = bool(self.id and (self.exchange_id or not self.is_kart))
        self.indicator = text("leg_order_indicator")
        self.key = f"{self.id}.{self.indicator.lower()}" if self.indicator else self.id  # legs may share an id
        self.role = _LEG_ROLES.get(self.indicator.upper(), "")
        self.is_leg = self.is_kart and self.role in ("stop_loss", "take_profit")
        self.status = text("order_status")
        known = _STATUSES.get(self.status.upper())
        code = text("rejection_code")
        self.code = "" if code.upper() in ("0", "NONE") else code
        # a word that we don't know must not be taken for ended, nor in the book of ended orders for standing
        self.broker_status = known or (self._end() if ended_book else "working")
        if self.broker_status == "working" and 0 < self.filled < (self.quantity or 0):
            self.broker_status = "partially_filled"
        self.is_working = not ended_book and self.broker_status in ("working", "partially_filled")
        self.reason = ""
        if self.broker_status == "rejected":
            why = text("rejection_reason") or text("order_status_info") or "the broker gives no reason"
            self.reason = why + (f" (code {self.code})" if self.code else "")
        elif not known:
            self.reason = f"its status in the order book is {self.status!r}, a word that the broker's pages do not list"
        if self.filled and self.broker_status == "canceled":
            self.reason = f"{self.filled} of {self.quantity} filled"

    def _end(self) -> str:
        """How an order of the completed book ended whose status word is no known one; empty where that isn't clear."""
        word = self.status.upper()
        is_refused = "REJECT" in word
        if is_refused and ("CANCEL" in word or "MOD" in word):
            return ""  # the request to cancel or change it was refused, and not the order
        if (is_refused or self.code) and not self.filled:
            return "rejected"
        return "canceled" if "CANCEL" in word else ""


@dataclass(frozen=True, slots=True)
class _Book:
    """Rows of the order books. `is_whole`: both were read, each as a list, so that what is not here is in neither.

    `told_at` is the moment of the answer by the broker's clock.
    """

    rows: list[_Row]
    is_whole: bool
    told_at: float | None = None


def _book(work: Work, step: str, which: str, assumed: list[Any]) -> Generator[Call | Pause, Any, _Book | _NotRead]:
    """One of the two order books of the day: GET /api/v1/orders?type=pending|completed."""
    reply = yield _get(work.account, "orders", which, f"{step}.{which}", _ok({"orders": assumed}))
    data = _read_data(reply, f"the {which} order book")
    if isinstance(data, _NotRead):
        return data
    raw = data.get("orders") if isinstance(data, Mapping) and ("orders" in data or not data) else data
    rows = raw if raw is not None and raw != {} else []
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        return _NotRead(f"the {which} order book has another shape than its page shows")
    return _Book([_Row(row, which == "completed") for row in rows], is_whole=rows is raw, told_at=_told_at(reply))


def _both_books(work: Work, step: str, pending: list[Any], completed: list[Any],
                enough: Callable[[list[_Row]], bool]) -> Generator[Call | Pause, Any, _Book | _NotRead]:
    """Pending, then completed unless the first was `enough`: in this order no row can slip through between them."""
    first = yield from _book(work, step, "pending", pending)
    if isinstance(first, _NotRead):
        return first
    if enough(first.rows):
        return _Book(first.rows, is_whole=False)
    second = yield from _book(work, step, "completed", completed)
    if isinstance(second, _NotRead):
        return second
    newer = {row.key for row in second.rows if row.id}
    return _Book(second.rows + [row for row in first.rows if row.key not in newer],
                 is_whole=first.is_whole and second.is_whole)


@dataclass(frozen=True, slots=True)
class _Position:
    """An open position: what to send to turn it round."""

    product: str
    quantity: int | Placeholder
    way_out: str


def _positions(work: Work) -> Generator[Call | Pause, Any, list[_Position] | _NotRead]:
    """What is open on the instrument (GET /api/v1/positions?type=live), in the wanted product if one is named."""
    exchange, token = _instrument(work.order.symbol, work.order.options, work.account)
    wanted = work.order.options.get("product")
    assumed = {"exchange": exchange, "instrument_token": token, "net_quantity": _NET, "product": wanted or _NET_PRODUCT}
    reply = yield _get(work.account, "positions", "live", "positions", _ok([assumed]))
    data = _read_data(reply, "the positions")
    if isinstance(data, _NotRead):
        return data
    if data not in (None, {}) and not (isinstance(data, list) and all(isinstance(row, Mapping) for row in data)):
        return _NotRead("the positions have another shape than their page shows")
    found = []
    for row in data or ():
        if same_number(row.get("exchange"), row.get("instrument_token") or row.get("token")) != _instrument_of(work):
            continue
        net, product = row.get("net_quantity"), row.get("product")
        if net == _NET:
            found.append(_Position(product=product, quantity=_NET, way_out=_NET_SIDE))
            continue
        number = _whole(net)
        if number is None or not isinstance(product, str) or not product:
            return _NotRead(f"the position in {exchange}:{token} has no readable net_quantity and product")
        if number and wanted in (None, product):
            found.append(_Position(product=product, quantity=abs(number), way_out="SELL" if number > 0 else "BUY"))
    return found


def _read_data(reply: Reply, what: str) -> Any:
    """The `data` of a read, or why there is none. An unreadable answer is never "nothing there"."""
    envelope = _Envelope(reply)
    if envelope.status == "success" and reply.status == 200:
        return envelope.data
    if envelope.status == "error" or reply.status in (401, 403):
        return _NotRead(f"{what} can't be read: {_said(envelope, reply)}", is_refused=not _is_cut_off(reply, envelope))
    return _NotRead(f"{what} can't be read: {reply.words}")


def _patiently(read: Callable[[], Generator[Call | Pause, Any, _T | _NotRead]],
               ) -> Generator[Call | Pause, Any, _T | _NotRead]:
    """Read up to three times; reading changes nothing."""
    for _ in range(2):
        found = yield from read()
        if not isinstance(found, _NotRead) or found.is_refused:
            return found
        yield Pause(seconds=1)
    return (yield from read())


# Finding our orders in the books


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hunt:
    """The search for one order in the books: ours (`work`), or one that the trader names by `oms_id` alone."""

    name: str
    work: Work | None = None
    oms_id: str = ""
    legs_too: bool = False
    is_outlived: bool = False
    """It was sent for an earlier day than the cancel's, and all orders there are for a day."""

    @property
    def known_id(self) -> str:
        """The broker's id, if a reply or a look-up has told it."""
        return self.oms_id or (self.work.broker_ids.get("order", "") if self.work else "")

    @property
    def is_expected(self) -> bool:
        """Whether the broker has acknowledged it, so that a book without it is only not up to date."""
        return self.work is not None and bool(self.work.broker_ids) and not self.is_outlived

    def is_mine(self, row: _Row) -> bool:
        """By the broker's id, else by `user_order_id` with instrument and time: the broker doesn't keep it unique."""
        if self.known_id and row.id == self.known_id:
            return True
        if self.work is None or self.work.ids.counter is None:
            return False
        since = self.work.submitted_at.timestamp() - _SLACK_S if self.work.submitted_at else 0
        return (row.user_order_id == str(self.work.ids.counter) and row.instrument == _instrument_of(self.work)
                and (row.entered_at == 0 or row.entered_at >= since))

    def role(self, row: _Row) -> str:
        """entry, stop_loss or take_profit; where the row doesn't say, by its side and type."""
        if self.work is None:
            return "entry" if row.id == self.oms_id else row.role
        if not row.is_kart or (not row.role and row.side == (self.work.order.side or "").upper()):
            return "entry"
        return row.role or ("stop_loss" if row.order_type in ("SL", "SLM") else "take_profit")

    def entry(self, rows: Sequence[_Row]) -> _Row | None:
        """Its row; of several the one with the broker's id, one that works, the newest."""
        found = [row for row in rows if self.is_mine(row) and self.role(row) == "entry" and self._fits(row)]
        return max(found, key=lambda row: (row.id == self.known_id, row.is_working, row.entered_at), default=None)

    def _fits(self, row: _Row) -> bool:
        if self.work is None or (self.known_id and row.id == self.known_id):
            return True
        order = self.work.order
        return ((order.side is None or row.side == order.side.upper())
                and (order.quantity is None or row.quantity == int(order.quantity)))

    def legs(self, rows: Sequence[_Row]) -> list[_Row]:
        """The rows of its stop and target."""
        if self.work is not None:
            return [row for row in rows if row.is_kart and self.is_mine(row) and self.role(row) != "entry"]
        entry = self.entry(rows)
        return [] if entry is None or not entry.is_kart else [
            row for row in rows if row.is_leg and row.id != entry.id
            and (row.user_order_id, row.instrument) == (entry.user_order_id, entry.instrument)]

    def working(self, rows: Sequence[_Row]) -> list[_Row]:
        """What of it is to be withdrawn."""
        entry = self.entry(rows)
        found = [entry] if entry is not None else []
        return [row for row in found + (self.legs(rows) if self.legs_too else []) if row.is_working]

    def is_proven_absent(self, book: _Book) -> bool:
        """Whether the broker certainly never had it: nothing in the two whole books of its day can be it."""
        one = self.work
        if one is None or one.looked_at is None or one.ids.counter is None or one.broker_ids or not book.is_whole:
            return False
        sent = (one.submitted_at or one.created_at).timestamp()
        if _day(sent - 300) != _day(one.looked_at.timestamp() + 300):
            return False
        return not any(self._may_be(row, one, sent) for row in book.rows)

    @staticmethod
    def _may_be(row: _Row, one: Work, sent: float) -> bool:
        """Whether the row could be ours: by its id, else by what it trades where ids are not known to be kept."""
        if row.user_order_id == str(one.ids.counter):
            return True
        if one.shows_our_ids and digits(row.user_order_id) not in ("", "0"):
            return False
        side, quantity = (one.order.side or "").upper(), one.order.quantity
        since, until = sent - _SLACK_S, (one.looked_at or one.created_at).timestamp() + _SLACK_S
        return not ((all(row.instrument) and row.instrument != _instrument_of(one))
                    or (row.execution_type in ("REGULAR", "AMO", "CO", "BO")
                        and row.is_kart != bool(_kart_type(one.order)))
                    or (side and row.side in ("BUY", "SELL") and row.side != side)
                    or (quantity is not None and row.quantity and row.quantity != int(quantity))
                    or (0 < row.entered_at < since and not since <= row.entered_at + _INDIA_S <= until))

    def seen(self, rows: Sequence[_Row]) -> Seen | None:
        """What the books tell of it; None where it is not there, or has ended in words that don't tell how."""
        entry = self.entry(rows)
        if entry is None or not entry.broker_status:
            return None
        ids = {"order": entry.id, "exchange": entry.exchange_id,
               "basket": self.work.broker_ids.get("basket", "") if self.work else ""}
        legs = self.legs(rows)
        ids |= {self.role(leg): leg.id for leg in legs}
        return Seen(broker_status=entry.broker_status, reason=entry.reason,
                    by_our_id=self.work is not None and entry.user_order_id == str(self.work.ids.counter),
                    broker_ids={name: value for name, value in ids.items() if value},
                    legs=tuple({"role": self.role(leg), "broker_id": leg.id,
                                "broker_status": leg.broker_status or "working",
                                **({"reason": leg.reason} if leg.reason else {})} for leg in legs))


def _hunts(work: Work) -> list[_Hunt]:
    """What a cancel or close concerns: an order named by the broker's id, or our own orders that it covers."""
    if named := work.order.options.get("oms_order_id"):
        return [_Hunt(name=str(named), oms_id=str(named), legs_too=work.order.legs_too)]
    return [_Hunt(name=target.ids.order_id, legs_too=work.order.legs_too,
                  work=replace(target, looked_at=work.looked_at, shows_our_ids=work.shows_our_ids),
                  is_outlived=target.submitted_at is not None and target.order.options.get("amo") is not True
                  and _day(target.submitted_at.timestamp()) < _day(work.created_at.timestamp()))
            for target in work.targets]


def _all_found(hunts: Sequence[_Hunt], and_legs: bool = False) -> Callable[[list[_Row]], bool]:
    """Enough of the books; `and_legs`: only for orders without them, for they may stand in the other book."""
    return lambda rows: all(
        hunt.entry(rows) and not (and_legs and (hunt.work is None or _kart_type(hunt.work.order))) for hunt in hunts)


def _to_withdraw(hunts: Sequence[_Hunt], rows: Sequence[_Row]) -> tuple[list[_Row], list[str]]:
    """The rows that can be cancelled now, and in words what has to wait."""
    ready: list[_Row] = []
    left: list[str] = []
    for hunt in hunts:
        if hunt.entry(rows) is None and hunt.is_expected:
            left.append(f"{hunt.name} is not in the order books yet, though the broker took it")
        for row in hunt.working(rows):
            if row.can_be_withdrawn:
                ready.append(row)
            else:
                left.append(f"{hunt.name}: the exchange has not given order {row.id} its exchange_order_id yet, and "
                            "without it a cover or bracket order can't be cancelled")
    return ready, left


def _settled(work: Work, hunts: Sequence[_Hunt], rows: list[_Row],
             tried: Mapping[str, Outcome]) -> Generator[Call | Pause, Any, list[_Row]]:
    """The books once more after cancelling, for a short while until the rows have ended there."""
    for attempt in range(3):
        if attempt:
            yield Pause(seconds=_TRY_EVERY_S)
        read = yield from _both_books(work, "after", [], _assumed_rows(hunts, "CANCEL_CONFIRMED"), lambda rows: False)
        if isinstance(read, _NotRead):
            continue
        rows = read.rows
        if not any(row.is_working and row.key in tried for row in rows):
            break
    return rows


def _judge_cancel(hunts: Sequence[_Hunt], rows: Sequence[_Row], tried: Mapping[str, Outcome],
                  left: Sequence[str]) -> Outcome:
    """Done is what the broker took, and what has ended whatever it answered."""
    ended = {row.key for row in rows if not row.is_working}
    undone = {key: outcome for key, outcome in tried.items() if not isinstance(outcome, Accepted) and key not in ended}
    if unsure := [outcome.reason for outcome in undone.values() if isinstance(outcome, Unknown)]:
        return Unknown(reason="; ".join(unsure))
    strange = [f"no order {hunt.name} in today's order books"
               for hunt in hunts if not hunt.work and not hunt.entry(rows)]
    problems = [*strange, *(outcome.reason for outcome in undone.values()), *left]
    if problems and len(undone) == len(tried):
        if any(isinstance(outcome, Retry) for outcome in undone.values()):
            return Retry(reason="; ".join(problems), after_s=5)
        return Rejected(reason="; ".join(problems))
    seen = {hunt.name: found for hunt in hunts if hunt.work and (found := hunt.seen(rows))}
    return Accepted(reason="; ".join(_fate(hunt, rows) for hunt in hunts), targets=seen, alarm="; ".join(problems))


def _fate(hunt: _Hunt, rows: Sequence[_Row]) -> str:
    """What became of an order that was to be cancelled, in words."""
    entry = hunt.entry(rows)
    name = (hunt.work.order.ref if hunt.work else None) or hunt.name
    if entry is None:
        return f"{name}: not in the order books of today"
    stays = "; its legs stay (legs: true withdraws them)" if entry.is_kart and not hunt.legs_too else ""
    return f"{name}: " + {"canceled": "cancelled", "filled": f"had already filled{stays}",
                          "rejected": f"had been rejected: {entry.reason}"}.get(
                              entry.broker_status, "the broker took the request to cancel it" if entry.broker_status
                              else f"has ended: {entry.reason}")


def _resting(work: Work, rows: Sequence[_Row]) -> list[_Row]:
    """What a close withdraws first: every leg of a CO or BO on the instrument, and our own working orders there."""
    hunts = [_Hunt(name=target.ids.order_id, work=target) for target in work.targets]
    here = _instrument_of(work)
    return [row for row in rows if row.is_working and row.instrument == here
            and (row.is_leg or any(hunt.is_mine(row) for hunt in hunts))]


def _selling(work: Work, rows: Sequence[_Row]) -> bool:
    """Whether a market order on it is under way: an earlier close's, or what cancelling a leg has turned it into."""
    return any(row.is_working and row.instrument == _instrument_of(work) and row.order_type == "MARKET"
               and row.execution_type != "AMO" for row in rows)


def _clear(work: Work, resting: list[_Row],
           tried: dict[str, Outcome]) -> Generator[Call | Pause, Any, Outcome | None]:
    """Cancel what rests and wait until the book shows that and every sale gone: None. Else why the close can't go on.

    `tried` is filled with the rows that were withdrawn.
    """
    unread = ""
    for attempt in range(_TRIES):
        for row in resting:
            if row.can_be_withdrawn and row.key not in tried:
                tried[row.key] = _judge_delete((yield _delete(work, row)), row)
        yield Pause(seconds=_TRY_EVERY_S)
        read = yield from _patiently(lambda: _book(work, "after", "pending", []))
        if isinstance(read, _NotRead):
            unread = read.reason
            break
        resting = _resting(work, read.rows)
        if not resting and not _selling(work, read.rows):
            return None
        if attempt >= 2 and resting and not any(isinstance(tried.get(row.key), Accepted | None) for row in resting):
            break  # none of them is under way: waiting longer would only delay the next try
        if attempt + 1 >= _TRIES_FOR_ANOTHERS and not resting and not tried:
            break
    return _not_cleared(resting, tried, unread)


def _not_cleared(resting: Sequence[_Row], tried: Mapping[str, Outcome], unread: str) -> Outcome:
    """Why a close can't go on. Where nothing was tried, or all was refused, it changed nothing and may be run again."""
    names, unread = ", ".join(row.id or "without an id" for row in resting), unread and f" ({unread})"
    under_way = "an order that closes it is still under way, and a second one would turn the position round"
    if not all(isinstance(outcome, Rejected | Retry) for outcome in tried.values()):
        left = f"the order book did not show {names} cancelled in time" if names else under_way
        return Unknown(reason=f"nothing was closed: {left}{unread}. The position may be OPEN WITHOUT A STOP")
    if not resting:
        return Retry(reason=f"nothing was sent: {under_way}{unread}", after_s=3)
    if not tried:
        return Retry(reason=f"nothing was closed: {names} can't be cancelled before the exchange has given its "
                            f"exchange_order_id{unread}", after_s=5)
    why = "; ".join(outcome.reason for outcome in tried.values())
    return Rejected(reason=f"nothing was closed, position and resting orders stand: {why}")


def _several(found: Sequence[_Position]) -> str:
    listed = ", ".join(f"{one.quantity} in {one.product} (out by {one.way_out})" for one in found)
    return f"it is open in several products: {listed}; name one in options: {{product: …}}"


def _assumed_rows(hunts: Sequence[_Hunt], status: str) -> list[dict[str, Any]]:
    return [_assumed_row(hunt, status) for hunt in hunts]


def _assumed_row(hunt: _Hunt, status: str) -> dict[str, Any]:
    """The row that `render` and `dry_run` go on with: the order itself, the broker's ids as placeholders."""
    row: dict[str, Any] = {
        "oms_order_id": hunt.known_id or Placeholder.of(f"orders.oms_order_id, {hunt.name}"), "order_status": status,
        "exchange_order_id": Placeholder.of(f"orders.exchange_order_id, {hunt.name}"), "execution_type": "REGULAR"}
    if (work := hunt.work) is None:
        return row
    exchange, token = _instrument_of(work)
    row |= {"exchange": exchange, "instrument_token": token, "user_order_id": str(work.ids.counter)}
    if work.order.quantity is not None and work.order.side:
        row |= {"quantity": int(work.order.quantity), "order_side": work.order.side.upper()}
    if execution_type := _kart_type(work.order):
        row |= {"execution_type": execution_type, "leg_order_indicator": "ENTRY"}
    return row


def _assumed_resting(work: Work) -> list[dict[str, Any]]:
    """A close's shortest good way has one working order: the stop leg of a filled cover order, where none is known."""
    rows = [_assumed_row(_Hunt(name=target.ids.order_id, work=target), "CONFIRMED") for target in work.targets]
    for row in rows:
        if row["execution_type"] != "REGULAR":
            row |= {"leg_order_indicator": "THIRD", "order_side": opposite(row["order_side"].lower()).upper()}
    exchange, token = _instrument_of(work)
    return rows or [{"oms_order_id": _OMS_ID, "exchange_order_id": _EXCHANGE_ID, "exchange": exchange,
                     "instrument_token": token, "execution_type": "CO", "leg_order_indicator": "THIRD",
                     "order_status": "CONFIRMED"}]


# Judging replies


_REASONS: Final = MappingProxyType({
    40000: f"no permission; {_TODAYS_TOKEN}. With today's token: the app, the client or the IP address is not allowed "
           "to do this (orders are taken only from the static one that is registered in the portal)",
    44000: "a parameter is not valid, or the price is outside the day's range",
    45000: "price or quantity is not valid, or the broker does not know the id",
    45010: "the instrument token is wrong",
    49002: "the instrument may not be traded in this way",
})
"""error_code → what it means, from the pages' tables."""
_BEFORE_ANY_ORDER: Final = frozenset({40000, 44000})
"""Codes of checks made before an order exists: a definite no even where the HTTP status is 5xx."""
_CUT_OFF: Final = re.compile(
    r"time[ds]?[ _-]?out|no response|unavailable|deadline exceeded|connection (?:reset|closed|lost)|"
    r"\(5\d\d\)(?!.*\bfound\b)", re.ASCII | re.IGNORECASE | re.DOTALL)
"""Words of a passed-on fault, like "Error from backend: (504)-request timed out". The pages have one that is a no:
"(500)-event id not found"."""


class _Envelope:
    """What every documented reply is wrapped in, parsed whatever the HTTP status: no page says which one an error has.

    `status` is empty where a reply is not wrapped.
    """

    def __init__(self, reply: Reply) -> None:
        found = reply.json if reply.status is not None else None
        status, words = _part(found, "status"), _part(found, "message")
        self.status = status.lower() if isinstance(status, str) else ""
        self.words = words if isinstance(words, str) else ""
        self.code, self.data = _whole(_part(found, "error_code")), _part(found, "data")


def _judge_place(reply: Reply, work: Work, names: str) -> Outcome:
    """Accepted only with an id (`order`: oms_order_id, `basket`: basket_id), rejected only by a definite no."""
    doubt = f"it may stand; find it by user_order_id {work.ids.counter} in the order book"

    def named(data: Any) -> Outcome:
        given = (_id(_part(data, "oms_order_id")) if names == "order" else
                 _id(_part(_part(data, "data"), "basket_id")) or _id(_part(data, "basket_id")))
        if given:
            return Accepted(broker_ids={names: given})
        wanted = "oms_order_id" if names == "order" else "basket_id"
        return Unknown(reason=f"the broker says success but names no {wanted}: {doubt}")

    return _judge_write(reply, named, doubt)


def _judge_delete(reply: Reply, row: _Row) -> Outcome:
    """A success envelope suffices: the basket_id of a cancel may be empty, and its order id another one's."""
    outcome = _judge_write(reply, lambda data: Accepted(broker_ids={"order": row.id}),
                           "it may have been cancelled or not")
    words = f"cancel of {row.id}: {outcome.reason}"
    return outcome if isinstance(outcome, Accepted) else replace(outcome, reason=words)


def _judge_write(reply: Reply, success: Callable[[Any], Outcome], doubt: str) -> Outcome:
    """What a write came to. What a look-up saw of it counts for the answer that was not heard."""
    if (seen := reply.seen) is not None:
        if seen.broker_status == "rejected":
            return Rejected(reason=f"the order book shows it rejected: {seen.reason or 'the broker gives no reason'}")
        return Accepted(broker_ids=seen.broker_ids, broker_status=seen.broker_status, legs=seen.legs,
                        reason=seen.reason)
    if no := _definite_no(reply):
        return Rejected(reason=no)
    if reply.status == 429:
        return Retry(reason="Pocketful: too many requests", after_s=_retry_after(reply))
    envelope = _Envelope(reply)
    return success(envelope.data) if envelope.status == "success" else Unknown(reason=f"{reply.words}: {doubt}")


def _definite_no(reply: Reply) -> str:
    """Why it was certainly not executed; empty where that isn't certain."""
    if reply.not_executed:
        return f"it was not executed: {reply.fault or reply.words}"
    if reply.status is None or reply.status == 429:
        return ""
    envelope = _Envelope(reply)
    if _is_cut_off(reply, envelope):
        return ""
    if envelope.status == "error" and (reply.status < 500 or envelope.code in _BEFORE_ANY_ORDER):
        return f"Pocketful refused it: {_said(envelope, reply)}"
    if reply.status in (401, 403):
        return _not_let_in(envelope, reply)
    return ""


def _is_cut_off(reply: Reply, envelope: _Envelope) -> bool:
    """Whether the answer comes from one on the way who did not hear the end of it, whatever it calls itself."""
    return reply.status == 408 or _CUT_OFF.search(envelope.words) is not None


def _not_let_in(envelope: _Envelope, reply: Reply) -> str:
    return f"Pocketful does not let us in ({envelope.words[:300] or reply.words}): {_REASONS[40000]}"


def _said(envelope: _Envelope, reply: Reply) -> str:
    """The broker's words with its code's meaning."""
    if envelope.code is None:
        return envelope.words[:300] or reply.words
    meaning = _REASONS.get(envelope.code, "a code that its pages do not list")
    return f"{envelope.words[:300] or 'no message'} (error_code {envelope.code}: {meaning})"


def _retry_after(reply: Reply) -> float:
    """The seconds of Retry-After, at least 1; 2 where there is none that can be read."""
    asked = retry_after_s(reply)
    return 2.0 if asked is None else max(1.0, asked)


def _told_at(reply: Reply) -> float | None:
    """The moment of the reply by the broker's clock (its `Date`), in seconds since the epoch; None where it has none."""
    try:
        return parsedate_to_datetime(reply.headers.get("date", "")).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


# Helpers


_DEFAULTS: Final[Mapping[str, Any]] = MappingProxyType(AccountOptions().load({}))
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}|<from: [\w., ]{1,100}>", re.ASCII)


def _option(account: Account, name: str) -> str | None:
    return account.options.get(name) or _DEFAULTS.get(name)


def _id(value: Any) -> str:
    """An id as text, empty where it is none: the pages call ids numbers, the wire has texts."""
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return text if _ID.fullmatch(text) else ""


def _whole(value: Any) -> int | None:
    """A whole number, exact whatever its size; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,20}", value, re.ASCII):
        return int(value)
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        return int(value)
    return value if isinstance(value, int) else None


def _count(value: Any) -> int | None:
    """A whole number of at least zero; an expression gives it as Decimal."""
    number = _whole(value)
    return number if number is not None and number >= 0 else None


def _part(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _instrument(symbol: Any, options: Mapping[str, Any], account: Account) -> tuple[Any, Any]:
    """(exchange, token): from the options, else from a symbol like NSE:14366 or 14366; the account's exchange last."""
    exchange, token = options.get("exchange"), options.get("instrument_token")
    if token is None and (found := numbered_symbol(symbol)):
        exchange, token = exchange or found[0] or None, found[1]
    return exchange or _option(account, "exchange"), token


def _instrument_of(work: Work) -> tuple[str, str]:
    return same_number(*_instrument(work.order.symbol, work.order.options, work.account))


def _legs(order: Order) -> tuple[Leg | None, Leg | None]:
    """(stop, target), from their names or from brackets by their type."""
    stop, target = order.stop_loss, order.take_profit
    for leg in order.brackets:
        if leg.type == "limit":
            target = target or leg
        else:
            stop = stop or leg
    return stop, target


def _kart_type(order: Order) -> str:
    """BO or CO; empty for what does not go to the cart of bracket and cover orders."""
    return ("BO" if _legs(order)[1] else "CO") if order.kind in ("cover", "oso") else ""


def _day(at: float) -> int:
    """The day in India of a moment in seconds since the epoch."""
    return int((at + _INDIA_S) // 86400)
