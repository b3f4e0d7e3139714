"""Tradovate: futures, REST under `/v1` of a demo and a live host that are separate worlds.

Pages: the API's OpenAPI description (api.tradovate.com), and the operation pages `/order/placeOCO` and
`/order/placeOSO` of its documentation. What the two leave open is said where it is decided.

The traps that cost money:

- HTTP 200 says nothing. Rejections, penalties and bad log-ins are 200; `failureReason: "Success"` is a success.
- An order was taken if there is an `orderId` and no word of failure; both together, or neither, is `unknown`.
- `Stop` and `TrailingStop` take `stopPrice` and no `price`.
- Legs have their own `timeInForce`, and it defaults to `Day`: a GTC entry would lose its stop at the session's end.
- Prices of `placeoso` are absolute. A market entry whose legs are distances goes to `startorderstrategy`, which counts
  them from the fill: signed points, in a JSON text.
- A `clOrdId` makes nothing idempotent and no call looks up by it: it is found in `command/list`, and a miss proves
  nothing.
- `liquidateposition` cancels every order on that contract in the account, whoever placed it.
- A cancel that was taken is not yet a cancel: the order may have filled. Legs are never withdrawn before the entry is
  seen to have ended without a fill.
- Failed log-ins lock the user for an hour; requests during a rate lockout prolong it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote

from marshmallow import Schema, ValidationError, fields, validate

from bridge.broker import Broker, Capabilities, Sketch, legs_of
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
from bridge.numbers import dump_json
from bridge.order import NEEDS_PRICE, NEEDS_STOP, NEEDS_TRAIL, TIMES_IN_FORCE, TYPES, Leg, Order
from bridge.waits import retry_after_s
from bridge.work import Account, Budget, Work

_T = TypeVar("_T")
_Ask = Generator[Call | Pause, Any, _T]
"""A part of a plan: yields like one and returns what it found out."""
_No = Rejected | Retry | Unknown

# -- what it can do ----------------------------------------------------------------------------------------------------

CAPABILITIES = Capabilities(
    kinds=dict.fromkeys(("plain", "cover", "oco", "oso", "cancel", "close"), "native"),
    to_know={"close": "it cancels every order on that contract in the account, those that you placed by hand too"},
    types=frozenset(TYPES),
    leg_types=frozenset(TYPES) - {"market"},
    times_in_force=frozenset(TIMES_IN_FORCE),
)

_STOPS = ("stop", "stop_limit", "trailing_stop", "trailing_stop_limit")
_TARGETS = ("limit", "mit")
_CONTRACT = re.compile(r"[A-Z0-9]{1,4}[FGHJKMNQUVXZ][0-9]", re.ASCII)


# -- option schemas ----------------------------------------------------------------------------------------------------


class _Whole(fields.Field[int]):
    """A whole number above zero, from YAML, an alert's Decimal or digits."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
            value = int(value)
        if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**63:
            raise ValidationError(f"{value!r} is not a whole number above zero")
        return value


class _Moment(fields.Field[str]):
    """A date and time with its zone, kept as ISO text in UTC."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        try:
            moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        except (TypeError, ValueError):
            raise ValidationError(f"{value!r} is not a date and time like 2026-11-20T15:30:00Z") from None
        if moment.tzinfo is None:
            raise ValidationError(f"{value!r} has no time zone: write it like 2026-11-20T15:30:00Z")
        return _iso(moment)


def _text(most: int, says: str) -> fields.String:
    plain = validate.Regexp(r"[^\x00-\x1f\x7f]+\Z", error="holds a control character or is empty")
    return fields.String(validate=[validate.Length(min=1, max=most, error=f"has 1 to {most} characters"), plain],
                         metadata={"description": says})


class OrderOptions(Schema):
    """`options:` of an order, under Tradovate's names. `orderId` is a cancel's: an order that is not ours."""

    maxShow = _Whole(metadata={"description": "how many contracts the market sees"})
    text = _text(64, "a note")
    activationTime = _Moment(metadata={"description": "when the order goes live"})
    customTag50 = _text(50, "the exchange's operator tag; leave it out unless yours is registered")
    orderId = _Whole(metadata={"description": "of a cancel: an order that is not ours"})


_OPTIONS = OrderOptions()


class AccountOptions(Schema):
    """`options:` of an account: what the sources disagree about, and the names the API key was made with.

    `mit_price`: the field that carries the trigger of an `mit` order. `peg_difference: omit` leaves the trail out of
    trailing stops, as some clients do. `strategy_is_automated: send` adds `isAutomated` to `startorderstrategy`: the
    partners' newer description has it there, the one that this file follows has not.
    """

    mit_price = fields.String(load_default="price", validate=validate.OneOf(("price", "stop_price")))
    peg_difference = fields.String(load_default="send", validate=validate.OneOf(("send", "omit")))
    strategy_is_automated = fields.String(load_default="omit", validate=validate.OneOf(("omit", "send")))
    app_id = fields.String(load_default="Bridge", validate=validate.Length(min=1, max=64))
    app_version = fields.String(load_default="1.0", validate=validate.Length(min=1, max=64))


class AccountFields(Schema):
    """What an account needs beyond the common fields: Tradovate's name of the account, and its id, which decides."""

    account = fields.String(required=True, validate=validate.Length(min=1, max=64))
    account_id = _Whole(required=True)
    options = fields.Nested(AccountOptions, load_default=lambda: AccountOptions().load({}))


# -- hosts, budgets, waits ---------------------------------------------------------------------------------------------

_HOSTS = {
    "demo": ("https://demo.tradovateapi.com", "wss://demo.tradovateapi.com"),
    "live": ("https://live.tradovateapi.com", "wss://live.tradovateapi.com"),
}
_BUDGET = Budget(per_minute=80, burst=20)
"""No limit is published for retail keys; vendors call 80 a minute safe (5,000 an hour), and bursts have been locked."""

_LOCKOUT_S = 3600.0
"""After a captcha, or a 429 at the log-in."""
_LIMIT_HIT_S = 60.0
"""The first wait after a 429. The API says to stop all calls and wait for up to an hour, and that a request meanwhile
starts the lockout again; its limits run by second, minute and hour. So each 429 in a row doubles the wait, up to the
hour, and a limit by the minute does not keep a close waiting for an hour. A `Retry-After` that can be read is
believed."""
_LIMIT_NEAR_S = 60.0
"""After a 423, which may come before a 429."""
_LOGIN_SPACING_S = 720.0
"""After a log-in that gave neither a token nor a no. Five an hour are allowed, and failed ones count."""
_RENEW_AGAIN_S = 120.0
"""After a renewal that came to nothing. Fifteen an hour are allowed: the last quarter of a token's life holds seven."""
_LAST_MOMENT_S = 30.0
"""How long before a token's end a new log-in is made where it could not be renewed."""
_TOKEN_LIFE_S = 90 * 60.0
_MOST_ROWS = 1000
"""A list this long may be cut short: how many rows a reply may hold varies, and the figures told begin at 1,024."""
_TOKEN_CHECK = "account/list"
"""Answers 404 without a token, and to no one who has a good one."""
_JSON = MappingProxyType({"Accept": "application/json", "Content-Type": "application/json"})

# -- our words → theirs ------------------------------------------------------------------------------------------------

_ACTIONS = {"buy": "Buy", "sell": "Sell"}
_ORDER_TYPES = {"market": "Market", "limit": "Limit", "stop": "Stop", "stop_limit": "StopLimit", "mit": "MIT",
                "trailing_stop": "TrailingStop", "trailing_stop_limit": "TrailingStopLimit"}
_TIMES = {"day": "Day", "gtc": "GTC", "ioc": "IOC", "fok": "FOK", "gtd": "GTD"}
_SUFFIXES = {"other": "other", "stop_loss": "sl", "take_profit": "tp", "bracket1": "b1", "bracket2": "b2"}
"""A leg's role → what its client order id ends with."""

_ENDS = {"Filled": "filled", "Canceled": "canceled", "Rejected": "rejected", "Expired": "expired"}
"""`ordStatus` → our word. Any other is still alive: Working, Suspended, Pending…, and what we do not know."""
_WAITING = ("Suspended", "PendingNew")
_ALIVE = (*_WAITING, "Working", "PendingReplace", "PendingCancel")
_STRATEGY_STATUS = {"ActiveStrategy": "working", "InactiveStrategy": "working", "ExecutionFinished": "filled",
                    "ExecutionFailed": "rejected", "NotEnoughLiquidity": "rejected",
                    "ExecutionInterrupted": "canceled", "StoppedByUser": "canceled"}


class Tradovate(Broker):
    """See the module's text."""

    name: ClassVar[str] = "tradovate"
    capabilities: ClassVar[Capabilities] = CAPABILITIES
    environments: ClassVar[Mapping[str, tuple[str, str]]] = _HOSTS
    default_environment: ClassVar[str] = "demo"
    real_money: ClassVar[frozenset[str]] = frozenset({"live"})
    budget: ClassVar[Budget] = _BUDGET
    account_schema: ClassVar[type[Schema]] = AccountFields
    credential_names: ClassVar[Mapping[str, bool]] = {"name": True, "password": True, "cid": True, "sec": True,
                                                      "device_id": True}
    sandbox_credentials: ClassVar[Mapping[str, str]] = {"name": "sandbox", "password": "sandbox", "cid": "1",
                                                        "sec": "sandbox", "device_id": "bridge-sandbox"}
    front_until_days: ClassVar[int | None] = 0  # its own `isFront` does not move before the contract has really ended
    options_schema: ClassVar[type[Schema]] = OrderOptions
    log_in_operations: ClassVar[frozenset[str]] = frozenset({"accesstokenrequest"})
    most_log_ins_per_hour: ClassVar[int | None] = 4
    """Of `accesstokenrequest`, in any sixty minutes and whatever came of it: Tradovate takes five. The user's own
    log-ins push ours out, and curing that again and again would end in a lock."""

    def account_faults(self, account: Account) -> Iterator[tuple[str, str]]:
        """Credentials that are longer than the log-in takes."""
        for name in ("name", "password", "cid", "device_id"):
            if len(account.credentials.get(name, "")) > 64:
                yield f"credentials.{name}", "is longer than the 64 characters that Tradovate takes"

    def login_name(self, account: Account) -> str:
        """A hash of user and host: demo, live and sandbox have tokens of their own."""
        known = f"{account.rest_url}\n{account.credentials.get('name', '')}"
        return hashlib.sha256(known.encode()).hexdigest()[:12]

    def symbol_form(self) -> str:
        """ESZ6: root, month letter, last digit of the year."""
        return "tradovate"

    def counts_from_fill(self, kind: str, account: Account) -> bool:
        """Order strategies do, for the exits of a market entry."""
        return kind in ("cover", "oso")

    # -- what it refuses -------------------------------------------------------------------------------------------

    def refusals(self, sketch: Sketch, account: Account) -> Iterator[tuple[str, str]]:
        """What Tradovate's requests cannot carry, each with what would do."""
        kind, symbol, quantity = sketch.get("kind"), sketch.get("symbol"), sketch.get("quantity")
        yield from _option_refusals(sketch)
        if kind == "cancel":
            return
        if isinstance(symbol, str) and not _CONTRACT.fullmatch(symbol):
            yield "symbol", (f"{symbol!r} is not a Tradovate contract like ESZ6 (root, month letter, last digit of the "
                             "year): use {{ alert.ticker | contract }}")
        if isinstance(quantity, Decimal) and quantity != quantity.to_integral_value():
            yield "quantity", f"{quantity} must be a whole number of contracts"
        legs = list(legs_of(sketch))
        if kind in _NEEDS_LEG and not legs:
            yield _NEEDS_LEG[kind], f"is missing: an order of kind {kind} needs it; for an entry alone use kind: plain"
        if kind in ("cover", "oso"):
            yield from _leg_refusals(sketch, legs)

    # -- log-in ----------------------------------------------------------------------------------------------------

    def log_in(self, account: Account, now: float, token: Token | None) -> LogIn:
        """Renew a token that still lives; else, or where Tradovate refuses to, one new log-in.

        A renewal without a yes or a no is tried again while the old token works: a new log-in is the last resort. One
        that nobody answered (or a 5xx) is repeated once, then not for half an hour: failures lock the user. A refusal in
        words is final until a person has acted; a captcha and a locked user end after an hour.
        """
        if token is not None and (token.expires_at is None or token.expires_at > now):
            reply = yield Call(operation="renewaccesstoken", method="GET", step="renew", write=False,
                               url=f"{account.rest_url}/v1/auth/renewaccesstoken",
                               headers={**_JSON, "Authorization": f"Bearer {token.value}"})
            granted = _granted(reply, now)
            if isinstance(granted, Token) or _penalty(reply):
                return granted
            if not _is_renewal_refused(reply) and (wait_s := _renewal_wait(reply, token, now)):
                return LoginRefused(reason=f"the token was not renewed, and still works: {granted.reason}", wait_s=wait_s)
        for _ in range(2):
            reply = yield Call(operation="accesstokenrequest", method="POST", step="log-in", write=False,
                               url=f"{account.rest_url}/v1/auth/accesstokenrequest", headers=_JSON,
                               body=_login_body(account))
            granted = _granted(reply, now)
            if reply.not_executed or not (reply.status is None or reply.status >= 500):
                return granted
        return replace(granted, wait_s=2.5 * _LOGIN_SPACING_S) if isinstance(granted, LoginRefused) else granted

    def warm(self, account: Account) -> Call | None:
        """The account itself, one row: `auth/me` may be asked ten times an hour only."""
        return Call(operation="account/item", method="GET", step="warm", write=False,
                    url=f"{account.rest_url}/v1/account/item?id={account.account_id}")

    def dress(self, call: Call, account: Account, token: Token, frame_id: str) -> Call:
        """The call with its token."""
        return replace(call, headers={**_JSON, **call.headers, "Authorization": f"Bearer {token.value}"})

    def nothing_done(self, call: Call, reply: Reply) -> Hold | None:
        """Rate lockouts, penalty tickets and dead tokens; for reads also what only makes them worth asking again.

        "Access is denied" is not a dead token: it is a wrong account, contract, permission or device. A 408 is the mark of
        a session that a newer one pushed out: a write stays `unknown`, a second one of a read renews the token. Log-ins
        have a limit of their own, so that a 429 there does not stop what still has a good token.
        """
        if reply.status is None:
            return None
        logging_in = call.operation in ("accesstokenrequest", "renewaccesstoken")
        told = _told_wait(reply)
        if reply.status == 429 and logging_in:
            return Hold(reason="Tradovate takes no log-ins now (HTTP 429)",
                        wait_s=_LOCKOUT_S if told is None else told, person=True)
        if reply.status == 429:
            return Hold(reason="Tradovate's request limit was hit (HTTP 429); requests during the lockout prolong it",
                        wait_s=_LIMIT_HIT_S if told is None else told, whole_login=True, person=True, grows=told is None)
        if (hold := _penalty(reply)) is not None:
            return hold
        if logging_in:
            return None
        if _is_dead_token(call, reply):
            return Hold(reason=f"the token is dead (HTTP {reply.status})", wait_s=0, renew=True, unsure=reply.status == 408)
        if reply.status == 423 and not call.write:
            return Hold(reason="Tradovate's request limit is near (HTTP 423)", wait_s=_LIMIT_NEAR_S, whole_login=True)
        return None

    # -- plans -----------------------------------------------------------------------------------------------------

    def submit(self, work: Work) -> Plan:
        """The plan of the order's kind; an order that Tradovate cannot carry is rejected before anything is sent."""
        faults = [f"{name}: {why}" for name, why in self.refusals(work.order.to_json(), work.account)]
        faults += [f"options.{name}: {why}" for name, why in _OPTIONS.validate(dict(work.order.options)).items()]
        if faults:
            return Rejected(reason="not sent: " + "; ".join(faults))
        return (yield from _PLANS[work.order.kind](self, work))

    def plain(self, work: Work) -> Plan:
        """order/placeorder."""
        return (yield from self._place(work, "placeorder", {}, {}))

    def cover(self, work: Work) -> Plan:
        """order/placeoso with the stop as `bracket1`; a market entry with a distance: an order strategy."""
        if _from_fill(work.order):
            return (yield from self.strategy(work))
        stop = _legs(work.order)[0]
        return (yield from self._place(work, "placeoso", {"bracket1": _leg(work, stop)}, {"oso1Id": "stop_loss"}))

    def oco(self, work: Work) -> Plan:
        """order/placeoco; the other half has the symbol, quantity and account of the first."""
        other = _legs(work.order)[0]
        return (yield from self._place(work, "placeoco", {"other": _leg(work, other)}, {"ocoId": "other"}))

    def oso(self, work: Work) -> Plan:
        """order/placeoso with one bracket (always `bracket1`) or two; a market entry with distances: a strategy."""
        if _from_fill(work.order):
            return (yield from self.strategy(work))
        legs = list(enumerate(_legs(work.order), start=1))
        return (yield from self._place(work, "placeoso", {f"bracket{number}": _leg(work, leg) for number, leg in legs},
                                       {f"oso{number}Id": leg.role for number, leg in legs}))

    def strategy(self, work: Work) -> Plan:
        """orderStrategy/startorderstrategy of type 2 (multibracket): exits at signed distances from the fill."""
        order, source = work.order, "startorderstrategy.orderStrategy.id"
        body: dict[str, Any] = {
            "accountId": work.account.account_id, "accountSpec": work.account.account, "symbol": order.symbol,
            "orderStrategyTypeId": 2, "action": _ACTIONS[str(order.side)], "params": dump_json(_strategy_params(order)),
            "uuid": work.ids.client_id()}
        if "customTag50" in (options := _options(order)):
            body["customTag50"] = options["customTag50"]
        if work.account.options.get("strategy_is_automated") == "send":
            body["isAutomated"] = True
        call = _write(work, "orderStrategy/startorderstrategy", "entry", body,
                      {"orderStrategy": {"id": Placeholder.of(source), "status": "ActiveStrategy"}})
        answer = self._judge(call, (yield call), _strategy_id)
        if not isinstance(answer, dict):
            return answer
        ids = {"strategy": str(_strategy_id(answer))}
        status, said = answer["orderStrategy"].get("status"), _said(answer["orderStrategy"].get("failureMessage"))
        if status in ("ExecutionFailed", "NotEnoughLiquidity") and said and not _TIMED_OUT.search(said):
            return Rejected(reason=f"Tradovate's order strategy failed ({status}): {said}")
        if said or status not in (None, "ActiveStrategy", "ExecutionFinished"):
            return Unknown(reason=f"Tradovate's order strategy began as {status!r} {said}".strip(), broker_ids=ids)
        return Accepted(broker_ids=ids, legs=tuple({"role": leg.role} for leg in _legs(order)))

    def cancel(self, work: Work) -> Plan:
        """order/cancelorder for what still lives of each target, after one look at it; what has ended is done.

        It withdraws entries. Legs stay with an entry that has filled or may have, unless the cancel says `legs: true`;
        those that still wait for an entry which ended without a fill are withdrawn with it. Orders whose ids are not
        known come last and are looked for once: what nobody knows of keeps nothing from being cancelled.
        """
        tally = _Tally()
        for name, target in _withdrawals(work):
            yield from self._withdraw(work, target, name, tally)
        return tally.outcome()

    def close(self, work: Work) -> Plan:
        """order/liquidateposition: closes the position and cancels EVERY order on the contract in the account.

        It waits for none of them. What a flat contract answers is nowhere told: a reply without an order id counts as
        "nothing was open" only when the account's positions (after a refusal in words: its orders too) agree.
        """
        symbol = str(work.order.symbol)
        contract, reply = yield from _find_contract(work)
        if contract is None:
            return _no_contract(symbol, reply)
        call = _write(work, "order/liquidateposition", "close",
                      {"accountId": work.account.account_id, "contractId": _wire(contract), "admin": False},
                      {"orderId": Placeholder.of("liquidateposition.orderId")})
        reply = yield call
        answer = self._judge(call, reply, _order_id)
        others = f"every working order on {symbol} in this account is cancelled too, whoever placed it"
        if isinstance(answer, dict):
            return Accepted(broker_ids={"order": str(_order_id(answer))}, reason=others)
        if kind := _hint_of_nothing(reply):
            yield Pause(seconds=1.0)
            if (yield from _left_on(work, contract, orders_too=kind == "refused")) == "":
                said = f" (Tradovate: {_texts(reply.json)})" if kind == "refused" else f"; {others}"
                return Accepted(reason=f"nothing was open on {symbol}{said}", found_nothing=True)
        if isinstance(answer, Rejected) and kind == "refused":
            return Unknown(reason=f"{answer.reason}; it may mean that nothing was open")
        return answer

    def look_up(self, work: Work) -> LookUp:
        """By broker id where it is known, else by our `clOrdId` in `command/list`, or by `uuid` for a strategy.

        Those lists lag and may be cut short, so that an entry is never Absent. A cancel and a close are looked up by
        their effect, and both can only reduce: where it is not there, they may be carried out once more.
        """
        if work.order.kind == "close":
            return (yield from _is_closed(work))
        if work.order.kind == "cancel":
            return (yield from _is_withdrawn(work))
        sight = yield from _look(work)
        return _seen(work, sight) if sight else None

    # -- their parts -----------------------------------------------------------------------------------------------

    def _place(self, work: Work, verb: str, legs: Mapping[str, Any], leg_ids: Mapping[str, str]) -> Plan:
        """One place call. `leg_ids`: the reply's name of a leg's id → the leg's role."""
        assumed = {name: Placeholder.of(f"{verb}.{name}") for name in ("orderId", *leg_ids)}
        call = _write(work, f"order/{verb}", "entry", _parent(work) | dict(legs), assumed)
        answer = self._judge(call, (yield call), _order_id)
        if not isinstance(answer, dict):
            return answer
        ids = {"order": str(_order_id(answer))}
        ids |= {role: known for name, role in leg_ids.items() if (known := _ident(answer.get(name)))}
        missing = [role for role in leg_ids.values() if role not in ids]
        reason = f"Tradovate gave no id for {' and '.join(missing)}: unknown until the look-up" if missing else ""
        shown = tuple({"role": role, "client_order_id": work.ids.client_id(_SUFFIXES[role])}
                      | ({"broker_id": ids[role]} if role in ids else {}) for role in leg_ids.values())
        return Accepted(broker_ids=ids, legs=shown, reason=reason)

    def _withdraw(self, work: Work, target: Work, name: str, tally: _Tally) -> _Ask[None]:
        """Cancel what the cancel covers of one order, in two rounds: the entry, then (if due) its legs."""
        ours = target.ids.order_id != work.ids.order_id
        unseen = _unseen(target) if ours else None
        sight = (yield from _look_for(target, 3 if target.broker_ids and unseen is None else 1)) or unseen
        if sight is None and target.broker_ids and _is_alive((yield from _check_token(work))):
            sight = yield from _look_for(target, 1)
        if sight is None:
            words = "which proves nothing: it may still be there" if ours else "or not in this account"
            (tally.missing if ours else tally.refused).append(f"{name} was not found at Tradovate, {words}")
            return
        entries, _ = sight.due(work.order.legs_too)
        sight = yield from self._cancel_parts(work, target, name, sight, entries, tally)
        _, legs = sight.due(work.order.legs_too)
        sight = yield from self._cancel_parts(work, target, name, sight, legs, tally)
        entry = sight.entry
        seen = _seen(target, sight)
        if ours:
            tally.seen[target.ids.order_id] = seen
        if not entries and not legs:
            tally.notes.append(f"{name} was {entry.word if entry else seen.broker_status} already")
        left = " and ".join(part.role for part in sight.legs if part.live)
        if left and not work.order.legs_too:
            tally.notes.append(f"the {left} of {name} stays (`legs: true` withdraws it)")
        elif left and entry is not None and entry.live:
            tally.refused.append(f"the {left} of {name} stays, for its entry still works")

    def _cancel_parts(self, work: Work, target: Work, name: str, sight: _Sight, parts: list[_Part],
                      tally: _Tally) -> _Ask[_Sight]:
        """Cancel each, look at the target again, and judge each by what is seen before what was said."""
        if not parts:
            return sight
        said: dict[str, _No | None] = {}
        for part in parts:
            said[part.order_id] = yield from self._cancel_one(work, part.order_id, tally)
        again = replace(target, broker_ids={**target.broker_ids, **sight.ids})
        for pause in (0.0, 1.0):
            if pause:
                yield Pause(seconds=pause)
            sight = sight.updated((yield from _look(again, assumed="Canceled")))
            now = {part.order_id: part for part in sight.parts}
            if not any(now[order_id].live for order_id in said):
                break
        for order_id, answer in said.items():
            tally.judge(f"{name}, {now[order_id].role}" if target.order.legs else name, now[order_id], answer)
        return sight

    def _cancel_one(self, work: Work, order_id: str, tally: _Tally) -> _Ask[_No | None]:
        """None when the cancel was taken. `AnotherCommandPending` is asked again twice, a second apart."""
        tally.sent += 1
        label = work.ids.client_id(f"c{tally.sent}" if tally.sent > 1 else "")
        call = _write(work, "order/cancelorder", f"cancel.{order_id}",
                      {"orderId": _wire(order_id), "clOrdId": label, "isAutomated": True},
                      {"commandId": Placeholder.of("cancelorder.commandId")})
        for attempt in range(3):
            if attempt:
                yield Pause(seconds=1.0)
            reply: Reply = yield call
            if reply.status == 404:
                check = yield from _check_token(work)
                if check.status is None or check.status >= 500:
                    return Retry(reason=f"Tradovate knew neither the order nor, yet, the token: {check.words}", after_s=2.0)
                reply = (yield call) if _is_alive(check) else reply
            answer = self._judge(call, reply, lambda body: _ident(body.get("commandId")))
            if not _is_pending(reply):
                return None if isinstance(answer, dict | Accepted) else answer
        return Retry(reason="an earlier command for it is still pending at Tradovate", after_s=2.0)

    # -- judging replies -------------------------------------------------------------------------------------------

    def _judge(self, call: Call, reply: Reply,
               given: Callable[[dict[str, Any]], str | None]) -> dict[str, Any] | Accepted | _No:
        """The body of a reply that says yes, or what else it came to. `given` finds the id that a yes carries.

        Yes: HTTP 200, an id, and no word of failure. No: a known reason, an error text or violations, and no id; a
        status that refuses is one unless its body leaves it open. What a look-up saw in place of a reply that was not
        heard is believed. Anything else may have been executed.
        """
        if (seen := reply.seen) is not None:
            found = f"found at Tradovate: {seen.broker_status}" + (f", {seen.reason}" if seen.reason else "")
            if seen.broker_status == "rejected":
                return Rejected(reason=found)
            return Accepted(broker_ids=seen.broker_ids, broker_status=seen.broker_status, legs=seen.legs, reason=found)
        if reply.not_executed:
            return Rejected(reason=f"not executed: {reply.words}")
        if reply.status is None:
            return Unknown(reason=f"Tradovate's answer was not heard: {reply.words}")
        hold = self.nothing_done(call, reply)
        if hold is not None and not hold.renew:
            return Retry(reason=hold.reason, after_s=hold.wait_s)
        body = reply.json
        has_id = isinstance(body, dict) and given(body) is not None
        if reply.status in _DEFINITE_STATUS and not has_id and not _leaves_open(reply):
            return Rejected(reason=f"Tradovate refused it, {_heard(reply)} ({_DEFINITE_STATUS[reply.status]})")
        if reply.status != 200:
            return Unknown(reason=f"Tradovate answered {_heard(reply)}: it may have been executed")
        if not isinstance(body, dict):
            return Unknown(reason=f"Tradovate answered {_heard(reply)}, which is no JSON object")
        refusal = _refusal(body)
        if has_id and refusal is None:
            return body
        if not has_id and refusal is not None and refusal[0]:
            return Rejected(reason=f"Tradovate refused it: {refusal[1]}")
        ids = {"order": str(_order_id(body))} if _order_id(body) else {}
        if refusal is None:
            return Unknown(reason="Tradovate answered 200 without an id: it may have been executed")
        both = "gave an id and a failure" if has_id else "failed in a way that does not tell"
        return Unknown(reason=f"Tradovate {both}: {refusal[1]}", broker_ids=ids)


_PLANS: Mapping[str, Callable[[Tradovate, Work], Plan]] = {
    "plain": Tradovate.plain, "cover": Tradovate.cover, "oco": Tradovate.oco, "oso": Tradovate.oso,
    "cancel": Tradovate.cancel, "close": Tradovate.close}

# -- the reason table --------------------------------------------------------------------------------------------------

_DEFINITE_STATUS = {
    400: "the request was not understood; nothing was executed",
    401: "no permission: account, contract, the API key's permissions, or a device that is not approved",
    404: "nothing there: an unknown order or account, the wrong environment, or no valid token",
}
REASONS: Mapping[str, str] = MappingProxyType({
    "AccountClosed": "the account is closed",
    "AdvancedTrailingStopUnsupported": "this kind of trailing stop is not supported",
    "AnotherCommandPending": "an earlier command for it has not finished",
    "BackMonthProhibited": "only the front month may be traded",
    "ExecutionProviderNotConfigured": "the account has no route to the exchange",
    "InvalidContract": "there is no such contract",
    "InvalidPrice": "a price is not acceptable: off its tick, or on the wrong side of the market",
    "KeyInformationDocumentRequired": "a document has to be accepted at Tradovate first",
    "LiquidationOnly": "the account may only reduce positions",
    "LiquidationOnlyBeforeExpiration": "the contract is about to expire and may only be closed",
    "MaxOrderQtyIsNotSpecified": "the account has no limit for the size of an order",
    "MaxOrderQtyLimitReached": "the order is larger than the account's limit",
    "MaxPosLimitMisconfigured": "the account's position limit is not set up",
    "MaxPosLimitReached": "the position would exceed the account's limit",
    "MaxTotalPosLimitReached": "all positions together would exceed the account's limit",
    "MultipleAccountPlanRequired": "the plan allows one account only",
    "NoQuote": "there is no quote for the contract",
    "NotEnoughLiquidity": "there is not enough liquidity",
    "ParentRejected": "the order that it belongs to was rejected",
    "SessionClosed": "the market is closed",
    "SSFNFAComplianceRequired": "a disclosure has to be accepted at Tradovate first",
    "SSFNFAComplianceRequiredJointOnly": "a disclosure has to be accepted at Tradovate first",
    "SSFRiskDisclosureAcknowledgmentRequired": "a disclosure has to be accepted at Tradovate first",
    "TooLate": "the order has ended already",
    "TradingLocked": "trading is locked for the account",
    "TrailingStopNonOrderQtyModify": "only the quantity of a trailing stop can be changed",
    "Unauthorized": "the log-in may not do this",
    "Unsupported": "Tradovate does not support this",
})
"""Definite refusals. Not here, so never definite: RiskCheckTimeout, ExecutionProviderUnavailable,
OtherExecutionRelated, UnknownReason without a text, and any value that is not known."""
_TIMED_OUT = re.compile(r"tim(?:e|ed|es|ing)[\s_-]?out|deadline exceeded", re.IGNORECASE)
"""Words that say how long somebody waited for the order, and not what became of it."""


def _refusal(body: Mapping[str, Any]) -> tuple[bool, str] | None:
    """(definite, words) where a body tells of a failure; None where it does not."""
    reason, texts, violations = body.get("failureReason"), _texts(body), body.get("violations")
    if "p-ticket" in body:
        return False, "a penalty ticket beside it"
    if violations:
        listed = violations if isinstance(violations, list) else [violations]
        told = [_said(each.get("description") or each.get("constraint") if isinstance(each, dict) else each)
                for each in listed]
        texts = "; ".join(filter(None, [texts, *told]))
    if reason in (None, "", "Success"):
        if not texts and not violations:
            return None
        plainly = bool(_said(body.get("errorText"))) and not _TIMED_OUT.search(texts)
        return reason != "Success" and (bool(violations) or plainly), texts or "without a word why"
    words = REASONS.get(reason) if isinstance(reason, str) else None
    definite = words is not None or (reason == "UnknownReason" and bool(texts) and not _TIMED_OUT.search(texts))
    return definite, _said(reason) + (f" ({words})" if words else "") + _colon(texts)


def _leaves_open(reply: Reply) -> bool:
    """Whether the body of a status that refuses says that the order may stand all the same: a reason that is not
    definite, or a time-out."""
    body = reply.json
    refusal = _refusal(body) if isinstance(body, dict) else None
    if refusal is not None and refusal[0]:
        return False
    named = isinstance(body, dict) and body.get("failureReason") not in (None, "")
    return named or bool(_TIMED_OUT.search(reply.text))


def _texts(body: Any) -> str:
    """The broker's own words in a reply's body."""
    if not isinstance(body, dict):
        return ""
    return "; ".join(dict.fromkeys(filter(None, (_said(body.get(name)) for name in ("failureText", "errorText")))))


def _heard(reply: Reply) -> str:
    """Status and words of a reply: its error text, a bare string with or without quotes, or the body as it is."""
    body = reply.json
    refusal = _refusal(body) if isinstance(body, dict) else None
    words = refusal[1] if refusal else _said(body if isinstance(body, str) else reply.text)
    return f"HTTP {reply.status}{_colon(words) or ' with an empty body'}"


def _said(value: Any) -> str:
    """A broker's text, fit for a reason: one line, printable, at most 200 characters."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else dump_json(value)
    return " ".join("".join(each if each.isprintable() else " " for each in text[:1000]).split())[:200]


def _colon(words: str) -> str:
    return f": {words}" if words else ""


def _is_pending(reply: Reply) -> bool:
    body = reply.json
    return (reply.status == 200 and isinstance(body, dict) and body.get("failureReason") == "AnotherCommandPending"
            and _ident(body.get("commandId")) is None)


# -- replies that mean "nothing was done", and log-ins -----------------------------------------------------------------


def _penalty(reply: Reply) -> Hold | None:
    """A penalty ticket: wait `p-time`, repeat with the ticket; with a captcha only a person can clear it."""
    body = reply.json
    if not isinstance(body, dict) or "p-ticket" not in body or _names_one(body) or body.get("accessToken"):
        return None
    if body.get("p-captcha"):
        return Hold(reason="Tradovate wants a person to log in and solve a captcha before it takes more calls",
                    wait_s=_LOCKOUT_S, whole_login=True, person=True)
    seconds = _penalty_s(body.get("p-time"))
    ticket = body["p-ticket"]
    if not isinstance(ticket, str) or not ticket:
        return Hold(reason="Tradovate gave a penalty without a usable ticket", wait_s=_LOCKOUT_S, whole_login=True,
                    person=True)
    return Hold(reason=f"Tradovate gave a penalty of {seconds:g} s", wait_s=seconds, whole_login=True,
                ticket={"p-ticket": ticket})


def _penalty_s(told: Any) -> float:
    """The seconds of a penalty, at most an hour; a minute where they cannot be read."""
    if isinstance(told, str) and re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", told):
        told = Decimal(told)
    if isinstance(told, bool) or not isinstance(told, int | Decimal) or told < 0:
        return _LIMIT_NEAR_S
    return float(min(told, int(_LOCKOUT_S)))


def _is_dead_token(call: Call, reply: Reply) -> bool:
    """Only where the broker says so: a new log-in on a mere suspicion (a 404 may also be a wrong environment, a 401 a
    missing permission) would come again with every call, and five log-ins in an hour lock the user."""
    if reply.status == 404:
        return call.operation == _TOKEN_CHECK
    body = reply.json
    if isinstance(body, dict) and (_names_one(body) or (body.get("failureReason") and _leaves_open(reply))):
        return False
    if reply.status == 401:
        return "token" in reply.text.lower()
    if reply.status == 400:
        return any(f"{word} access token" in reply.text.lower() for word in ("expired", "invalid"))
    return reply.status == 408 and not call.write


def _told_wait(reply: Reply) -> float | None:
    """The wait that a reply asks for, at least a second; None where it tells none that can be read."""
    told = retry_after_s(reply)
    return None if told is None else max(told, 1.0)


def _is_renewal_refused(reply: Reply) -> bool:
    """Whether an answer to a renewal is a no. Any other (none, a limit, a page of some proxy) is no answer to it."""
    body = reply.json if isinstance(reply.json, dict) else {}
    return reply.status in (400, 401, 403, 404, 408) or bool(_said(body.get("errorText")))


def _renewal_wait(reply: Reply, token: Token, now: float) -> float | None:
    """When to try a renewal again: no later than at the token's last moment; None where that has come."""
    left_s = 0.0 if token.expires_at is None else token.expires_at - now - _LAST_MOMENT_S
    return min(max(_told_wait(reply) or 0.0, _RENEW_AGAIN_S), left_s) if left_s > 0 else None


def _login_body(account: Account) -> dict[str, Any]:
    """`cid` goes as a number, as in Tradovate's samples, although its description calls it a string."""
    known, cid = account.credentials, account.credentials["cid"].strip()
    return {"name": known["name"], "password": known["password"],
            "appId": account.options.get("app_id", "Bridge"), "appVersion": account.options.get("app_version", "1.0"),
            "deviceId": known["device_id"], "cid": int(cid) if re.fullmatch(r"[0-9]{1,18}", cid) else cid,
            "sec": known["sec"]}


def _granted(reply: Reply, now: float) -> Token | LoginRefused:
    """The token, or why there is none and when asking again is worth it. A bad log-in is HTTP 200 with `errorText`."""
    if reply.not_executed:
        return LoginRefused(reason=f"Tradovate could not be reached to log in: {reply.words}", wait_s=15.0)
    if reply.status is None:
        return LoginRefused(reason=f"Tradovate did not answer the log-in: {reply.words}", wait_s=_LOGIN_SPACING_S)
    if reply.status == 429:
        told = _told_wait(reply)
        return LoginRefused(reason="Tradovate takes no log-ins now (HTTP 429)",
                            wait_s=_LOCKOUT_S if told is None else told)
    if (hold := _penalty(reply)) is not None:
        return LoginRefused(reason=hold.reason, wait_s=hold.wait_s)
    body = reply.json if isinstance(reply.json, dict) else {}
    if said := _said(body.get("errorText")):
        locked = body.get("userStatus") == "TemporaryLocked"
        return LoginRefused(reason=f"Tradovate refused the log-in: {said}", wait_s=_LOCKOUT_S if locked else None)
    value = body.get("accessToken")
    if reply.status == 200 and isinstance(value, str) and value:
        return Token(value=value, expires_at=_expiry(body.get("expirationTime"), now))
    patience = None if reply.status in (400, 401, 403, 404) else _LOGIN_SPACING_S
    return LoginRefused(reason=f"Tradovate gave no token: HTTP {reply.status}", wait_s=patience)


def _expiry(told: Any, now: float) -> float:
    """Seconds since the epoch. A missing end, or one that our clock calls past, is taken as the usual 90 minutes."""
    try:
        moment = datetime.fromisoformat(told)
        at = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return now + _TOKEN_LIFE_S
    return at if at > now else now + _TOKEN_LIFE_S


# -- making requests ---------------------------------------------------------------------------------------------------


def _write(work: Work, path: str, step: str, body: dict[str, Any], assumed: Any) -> Call:
    return Call(operation=path.rpartition("/")[2], method="POST", url=f"{work.account.rest_url}/v1/{path}", step=step,
                write=True, body=body, assumed=assumed)


def _read_call(work: Work, path: str, step: str, assumed: Any) -> Call:
    return Call(operation=path.partition("?")[0], method="GET", url=f"{work.account.rest_url}/v1/{path}", step=step,
                write=False, assumed=assumed)


def _parent(work: Work) -> dict[str, Any]:
    """The fields that placeorder, placeoco and placeoso share, in their page's order."""
    order, options = work.order, _options(work.order)
    body = {"accountSpec": work.account.account, "accountId": work.account.account_id,
            "clOrdId": work.ids.client_id(), "action": _ACTIONS[str(order.side)], "symbol": order.symbol,
            "orderQty": _contracts(order), "orderType": _ORDER_TYPES[str(order.type)],
            **_prices(order, work.account), **_time(order.time_in_force, order.expire_time)}
    body |= {name: options[name] for name in ("maxShow", "text", "activationTime", "customTag50") if name in options}
    return body | {"isAutomated": True}


def _leg(work: Work, leg: Leg) -> dict[str, Any]:
    """A RestrainedOrderVersion: it has no symbol, quantity, account or `isAutomated`; those are its parent's."""
    return {"action": _ACTIONS[leg.side], "clOrdId": work.ids.client_id(_SUFFIXES[leg.role]),
            "orderType": _ORDER_TYPES[leg.type], **_prices(leg, work.account),
            **_time(leg.time_in_force, leg.expire_time)}


def _prices(thing: Order | Leg, account: Account) -> dict[str, Decimal]:
    """The price fields of a type and no others: a `price` beside the `stopPrice` of a Stop is refused."""
    found: dict[str, Decimal] = {}
    if thing.type in NEEDS_PRICE and thing.price is not None:
        as_stop = thing.type == "mit" and account.options.get("mit_price") == "stop_price"
        found["stopPrice" if as_stop else "price"] = thing.price
    if thing.type in NEEDS_STOP and thing.stop_price is not None:
        found["stopPrice"] = thing.stop_price
    if thing.type in NEEDS_TRAIL and thing.trail is not None and account.options.get("peg_difference") != "omit":
        found["pegDifference"] = thing.trail
    return found


def _time(time_in_force: str | None, expire_time: datetime | None) -> dict[str, str]:
    word = _TIMES[time_in_force or "day"]
    return {"timeInForce": word} | ({"expireTime": _iso(expire_time)} if word == "GTD" and expire_time else {})


def _iso(moment: datetime) -> str:
    form = "%Y-%m-%dT%H:%M:%S.%fZ" if moment.microsecond else "%Y-%m-%dT%H:%M:%SZ"
    return moment.astimezone(UTC).strftime(form)


def _options(order: Order) -> dict[str, Any]:
    """The order's options as the wire has them; that they are sound was seen in `submit`."""
    loaded: dict[str, Any] = _OPTIONS.load(dict(order.options))
    return loaded


def _contracts(order: Order) -> int:
    return int(order.quantity or 0)


def _legs(order: Order) -> tuple[Leg, ...]:
    """The legs in the order that they travel; a cover's own `trail` makes its stop a trailing one."""
    if order.kind == "cover" and order.trail is not None and order.type not in NEEDS_TRAIL:
        trailing = {"stop": "trailing_stop", "stop_limit": "trailing_stop_limit"}
        return tuple(replace(leg, type=trailing.get(leg.type, leg.type), trail=leg.trail or order.trail)
                     for leg in order.legs)
    return order.legs


def _from_fill(order: Order) -> bool:
    """Whether the legs are distances from a market entry's fill: then it travels as an order strategy."""
    return order.type == "market" and any(leg.offset is not None for leg in order.legs)


def _strategy_params(order: Order) -> dict[str, Any]:
    """Distances are points from the fill, signed: a buy's target is above zero and its stop below."""
    up = 1 if order.side == "buy" else -1
    bracket: dict[str, Any] = {"qty": _contracts(order)}
    for leg in _legs(order):
        offset = leg.offset or Decimal(0)
        if leg.type in _TARGETS:
            bracket["profitTarget"] = offset * up
        else:
            bracket |= {"stopLoss": offset * -up, "trailingStop": leg.type == "trailing_stop"}
    return {"entryVersion": {"orderQty": _contracts(order), "orderType": "Market",
                             **_time(order.time_in_force, order.expire_time)},
            "brackets": [bracket]}


# -- refusals ----------------------------------------------------------------------------------------------------------

_NEEDS_LEG = {"cover": "stop_loss", "oco": "other", "oso": "stop_loss"}
_TAKES = {"plain": {"maxShow", "text", "activationTime", "customTag50"}, "cancel": {"orderId"}, "close": set()}
"""The options that each kind's request can carry. A tag on `liquidateposition` makes it a 404."""


def _option_refusals(sketch: Sketch) -> Iterator[tuple[str, str]]:
    kind, options = str(sketch.get("kind")), sketch.get("options") or {}
    takes: Iterable[str] = _TAKES.get(kind, _TAKES["plain"])
    strategy = kind in ("cover", "oso") and sketch.get("type") == "market" and any(
        "offset" in leg for _, leg in legs_of(sketch))
    for name in options:
        if name not in takes and name in _OPTIONS.fields:
            yield f"options.{name}", f"a {kind} order at Tradovate takes {' '.join(sorted(takes)) or 'no options'}"
        elif strategy and name != "customTag50":
            yield f"options.{name}", ("a market entry with distances travels as an order strategy, which takes only "
                                      "customTag50")
    shown, quantity = options.get("maxShow"), sketch.get("quantity")
    if isinstance(shown, int) and isinstance(quantity, Decimal) and shown > quantity:
        yield "options.maxShow", f"{shown} is more than the quantity {quantity}"


def _leg_refusals(sketch: Sketch, legs: list[tuple[str, Mapping[str, Any]]]) -> Iterator[tuple[str, str]]:
    if len(legs) > 2:
        yield legs[2][0], "Tradovate takes at most two legs: bracket1 and bracket2"
    for path, leg in legs:
        kind = leg.get("type", "stop" if path == "stop_loss" else "limit")
        fits = {"stop_loss": _STOPS, "take_profit": _TARGETS}.get(path)
        if fits and isinstance(kind, str) and kind not in fits:
            yield f"{path}.type", f"a {path} of type {kind} would not protect: use {', '.join(fits)}"
    distances = [path for path, leg in legs if "offset" in leg]
    if sketch.get("type") != "market":
        for path, leg in legs:
            if isinstance(sketch.get("type"), str) and isinstance(leg.get("offset"), Decimal):
                yield path, "Tradovate counts from the fill for market entries only: give this leg a price"
    elif distances and len(distances) < len(legs):
        yield distances[0], ("one leg is a distance from the fill and the other a price: give both as points or ticks "
                             "(an order strategy), or both as prices with `legs: absolute`")
    elif distances:
        yield from _strategy_refusals(sketch, legs)


def _strategy_refusals(sketch: Sketch, legs: list[tuple[str, Mapping[str, Any]]]) -> Iterator[tuple[str, str]]:
    """A multibracket's exits are one stop (or trailing stop) and one limit, with the entry's time in force."""
    why = "a market entry with distances travels as an order strategy, "
    time = sketch.get("time_in_force", "day")
    if isinstance(time, str) and time not in ("day", "gtc"):
        yield "time_in_force", why + "whose exits share its time in force: use day or gtc"
    taken: list[str] = []
    for path, leg in legs:
        kind = leg.get("type", "limit" if path == "take_profit" else "stop")
        if not isinstance(kind, str):
            continue
        if kind not in ("stop", "trailing_stop", "limit"):
            yield f"{path}.type", why + (f"whose exits are stop, trailing_stop and limit, not {kind}: use one of them, "
                                         "or absolute prices with `legs: absolute`")
        taken.append("limit" if kind == "limit" else "stop")
        side, leg_time = leg.get("side"), leg.get("time_in_force")
        if isinstance(side, str) and side == sketch.get("side"):
            yield f"{path}.side", why + "whose exits are on the other side of the entry"
        if isinstance(leg_time, str) and isinstance(time, str) and leg_time != time:
            yield f"{path}.time_in_force", why + f"whose exits share its time in force: leave it out, or use {time}"
        trail, offset = leg.get("trail", sketch.get("trail")), leg.get("offset")
        if path != "take_profit" and isinstance(trail, Decimal) and isinstance(offset, Decimal) and trail != offset:
            yield f"{path}.trail", why + f"whose stop trails by its first distance: {trail} must equal {offset}"
    if len(taken) == 2 and taken[0] == taken[1]:
        yield legs[1][0], why + f"which takes one stop and one limit, not two of kind {taken[0]}"


# -- looking -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One order at Tradovate. `raw` is its `ordStatus`; `filled` is None where its fills could not be read."""

    role: str
    order_id: str
    raw: str
    status: str
    action: str = ""
    filled: Decimal | None = None
    reason: str = ""

    @property
    def live(self) -> bool:
        return self.raw != "Completed" and self.status in ("working", "partially_filled")

    @property
    def word(self) -> str:
        """Its status; of one that has ended, nobody knows yet how, that it has."""
        return "over" if self.raw == "Completed" and self.filled is None else self.status


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sight:
    """What was seen of one order of ours: its parts, and its strategy if it travelled as one. `dark` are the roles that
    were not found or not readable; "" is an order of a strategy, whichever it is."""

    parts: tuple[_Part, ...]
    notes: tuple[str, ...] = ()
    strategy: str = ""
    strategy_status: str = ""
    dark: frozenset[str] = frozenset()
    by_our_id: bool = False

    @property
    def entry(self) -> _Part | None:
        return next((part for part in self.parts if part.role == "order"), None)

    @property
    def ids(self) -> dict[str, str]:
        """The broker's ids by role."""
        strategy = {"strategy": self.strategy} if self.strategy else {}
        return {part.role: part.order_id for part in self.parts} | strategy

    @property
    def legs(self) -> list[_Part]:
        """The exits; the other half of an oco is none."""
        return [part for part in self.parts if part.role not in ("order", "other")]

    @property
    def ended(self) -> bool:
        """Whether a strategy without orders is over."""
        return not self.parts and _STRATEGY_STATUS.get(self.strategy_status, "working") != "working"

    def due(self, legs_too: bool) -> tuple[list[_Part], list[_Part]]:
        """What a cancel has to withdraw now: halves that work, and legs. With `legs: true` those of an entry that has
        ended; else those that wait for one which ended without a fill."""
        entry = self.entry
        over = entry is None or not entry.live
        unfilled = entry is not None and over and entry.filled == 0
        legs = [each for each in self.legs if each.live and (over if legs_too else unfilled and each.raw in _WAITING)]
        return [part for part in self.parts if part.role in ("order", "other") and part.live], legs

    def shows_all(self, legs_too: bool) -> bool:
        """Whether `due` can be trusted to be the whole of it."""
        entry, waiting = self.entry, any(part.live and part.raw in _WAITING for part in self.legs)
        dark = self.dark if legs_too else self.dark & {"", "order", "other"}
        return not dark and (bool(self.parts) or self.ended) and not (waiting and entry and entry.filled is None)

    def updated(self, later: _Sight | None) -> _Sight:
        """A later sight, completed with the parts that only this one saw."""
        if later is None:
            return self
        missing = {part.order_id for part in self.parts} - {part.order_id for part in later.parts}
        return replace(later, parts=later.parts + tuple(part for part in self.parts if part.order_id in missing))


@dataclass(slots=True, kw_only=True)
class _Tally:
    """What became of a cancel's targets so far."""

    sent: int = 0
    taken: int = 0
    notes: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    held: list[Retry] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    seen: dict[str, Seen] = field(default_factory=dict)

    def judge(self, name: str, part: _Part, answer: _No | None) -> None:
        """What is seen of the order goes before what was said about the cancel."""
        if not part.live:
            self.taken += 1
            if part.status != "canceled":
                self.notes.append(f"{name} was {part.word} before the cancel reached it")
        elif answer is None:
            self.taken += 1
        elif isinstance(answer, Retry):
            self.held.append(answer)
        else:
            (self.refused if isinstance(answer, Rejected) else self.doubtful).append(f"{name}: {answer.reason}")

    def outcome(self) -> Outcome:
        """Doubt goes before refusal, refusal before success. What was not found is an alarm, and waited for by nobody."""
        notes = "; ".join(self.notes)
        if self.doubtful:
            return Unknown(reason="; ".join(self.doubtful + self.refused + self.missing))
        if self.held and not (self.taken or self.refused):
            return Retry(reason=self.held[0].reason, after_s=max(each.after_s for each in self.held))
        stays = self.refused + [each.reason for each in self.held]
        left = "; ".join(stays + self.missing)
        if stays and not self.taken:
            return Rejected(reason=left)
        if nothing := not (self.taken or left):
            notes = f"nothing to cancel{_colon(notes)}"
        return Accepted(reason=notes, targets=self.seen, found_nothing=nothing, alarm=f"not everything was cancelled: {left}" if left else "")


def _read(work: Work, path: str, assumed: Any) -> _Ask[Any]:
    """A read's JSON, or None where it was not answered with 200 and JSON."""
    entity = path.partition("?")[0]
    reply: Reply = yield _read_call(work, path, f"look.{entity}", assumed)
    return reply.json if reply.status == 200 and isinstance(reply.json, dict | list) else None


def _look_for(work: Work, times: int) -> _Ask[_Sight | None]:
    """Look so many times, a second apart: Tradovate's lists lag behind what it took."""
    for attempt in range(times):
        if attempt:
            yield Pause(seconds=1.0)
        sight = yield from _look(work, fills=False)
        if sight is not None and (sight.parts or sight.ended):
            return sight
    return None


def _unseen(work: Work) -> _Sight | None:
    """What a reply of Tradovate's told of an order that cannot be seen: good enough to send a cancel for it."""
    parts = tuple(_Part(role=role, order_id=work.broker_ids[role], raw="Unknown", status="working")
                  for role in ("order", "other") if role in work.broker_ids)
    return _Sight(parts=parts) if parts else None


def _look(work: Work, assumed: str = "Working", fills: bool = True) -> _Ask[_Sight | None]:
    """Find an order and its legs. None: not found, or not readable, which proves nothing.

    Without `fills` only those of orders that have ended are read: a cancel is in a hurry.
    """
    if _from_fill(work.order) or "strategy" in work.broker_ids:
        return (yield from _look_strategy(work, assumed, fills))
    wanted = {"order": work.ids.client_id()}
    wanted |= {leg.role: work.ids.client_id(_SUFFIXES[leg.role]) for leg in work.order.legs}
    known = {role: work.broker_ids[role] for role in wanted if role in work.broker_ids}
    notes: list[str] = []
    if len(known) < len(wanted):
        likely = [{"id": Placeholder.of("command/list.id"), "orderId": Placeholder.of(f"command/list.{role}.orderId"),
                   "clOrdId": client_id, "commandType": "New"} for role, client_id in wanted.items()]
        commands = yield from _read(work, "command/list", likely)
        for role, client_id in wanted.items():
            made = _made_by(commands, client_id)
            if made:
                known.setdefault(role, made[0])
            if len(made) > 1:
                notes.append(f"ALARM: Tradovate shows {len(made)} orders with our id {client_id}: {', '.join(made)}")
    if "order" not in known:
        return None
    parts: list[_Part] = []
    for role, order_id in known.items():
        waiting = role not in ("order", "other") and assumed == "Working"
        part = yield from _look_at(work, role, order_id, "Suspended" if waiting else assumed, fills)
        if part is not None:
            parts.append(part)
        elif role == "order":
            return None
    dark = frozenset(wanted) - {part.role for part in parts}
    notes += [f"{role} was not found at Tradovate" for role in wanted if role in dark]
    return _Sight(parts=tuple(parts), notes=tuple(notes), dark=dark, by_our_id="order" not in work.broker_ids)


def _made_by(commands: Any, client_id: str) -> list[str]:
    """The ids of the orders that New commands with our client id made."""
    rows = [row for row in commands if isinstance(row, dict)] if isinstance(commands, list) else []
    made = (_ident(row.get("orderId")) for row in rows
            if row.get("commandType") == "New" and row.get("clOrdId") == client_id)
    return list(dict.fromkeys(order_id for order_id in made if order_id))


def _look_at(work: Work, role: str, order_id: str, assumed: str, fills: bool) -> _Ask[_Part | None]:
    """One order by its id, with its fills where they tell something, and why it was rejected if it was.

    An order of another account is none of ours.
    """
    item = yield from _read(work, f"order/item?id={order_id}", {
        "id": _wire(order_id), "accountId": work.account.account_id, "ordStatus": assumed})
    if not isinstance(item, dict) or not isinstance(item.get("ordStatus"), str):
        return None
    if item.get("accountId", work.account.account_id) != work.account.account_id:
        return None
    raw, filled = item["ordStatus"], work.order.quantity if item["ordStatus"] == "Filled" else Decimal(0)
    idle_leg = raw in (*_WAITING, "Canceled", "Expired") and role not in ("order", "other", "")
    if raw not in ("Filled", "Rejected") and not idle_leg and (fills or raw not in _ALIVE):
        filled = _sum_of((yield from _read(work, f"fill/deps?masterid={order_id}", [])))
    reason = (yield from _why_rejected(work, order_id)) if raw == "Rejected" else ""
    return _Part(role=role, order_id=order_id, raw=raw, status=_status(raw, filled, work.order.quantity),
                 action=str(item.get("action", "")), filled=filled, reason=reason)


def _sum_of(fills: Any) -> Decimal | None:
    """How much has filled; None where that cannot be read whole."""
    if not isinstance(fills, list):
        return None
    amounts = [fill.get("qty") if isinstance(fill, dict) else None for fill in fills]
    known = [Decimal(qty) for qty in amounts if isinstance(qty, int | Decimal) and not isinstance(qty, bool) and qty >= 0]
    return sum(known, Decimal(0)) if len(known) == len(amounts) else None


def _status(raw: str, filled: Decimal | None, quantity: Decimal | None) -> str:
    """Our word. Tradovate has no status for a part fill: it is Working with fills. How a Completed order ended only its
    fills tell: until they are read it counts as working, so that it is looked at again."""
    if raw in _ENDS:
        return _ENDS[raw]
    whole = bool(filled and quantity and filled >= quantity)
    if raw == "Completed" and filled is not None:
        return "filled" if whole else "canceled"
    return "filled" if whole else "partially_filled" if filled else "working"


def _why_rejected(work: Work, order_id: str) -> _Ask[str]:
    """The risk check's or exchange's words, from the report of the command that made the order."""
    commands = yield from _read(work, f"command/deps?masterid={order_id}", [])
    rows = [row for row in commands if isinstance(row, dict)] if isinstance(commands, list) else []
    made = [_ident(row.get("id")) for row in rows if row.get("commandType") == "New"]
    for command in filter(None, made):
        reports = yield from _read(work, f"commandReport/deps?masterid={command}", [])
        for row in reports if isinstance(reports, list) else ():
            if isinstance(row, dict) and row.get("rejectReason") not in (None, "Success"):
                words = REASONS.get(str(row["rejectReason"]), "")
                return "; ".join(filter(None, (_said(row["rejectReason"]), words, _said(row.get("text")))))
    return "Tradovate rejected it after taking it, and gave no reason"


def _look_strategy(work: Work, assumed: str, fills: bool) -> _Ask[_Sight | None]:
    """A strategy by its id or our uuid, and its orders by its links."""
    known = work.broker_ids.get("strategy", "")
    ours = {"id": _wire(known) if known else Placeholder.of("orderStrategy/list.id"), "uuid": work.ids.client_id(),
            "status": "ActiveStrategy"}
    if known:
        found = yield from _read(work, f"orderStrategy/item?id={known}", ours)
    else:
        rows = yield from _read(work, "orderStrategy/list", [ours])
        found = next((row for row in rows if isinstance(row, dict) and row.get("uuid") == work.ids.client_id()),
                     None) if isinstance(rows, list) else None
    strategy = _ident(found.get("id")) if isinstance(found, dict) else None
    if strategy is None:
        return None
    links = yield from _read(work, f"orderStrategyLink/deps?masterid={strategy}", [
        {"orderStrategyId": _wire(strategy), "orderId": Placeholder.of("orderStrategyLink/deps.orderId"),
         "label": "Entry"}])
    parts: list[_Part] = []
    dark = not isinstance(links, list)
    for link in links if isinstance(links, list) else ():
        order_id = _ident(link.get("orderId")) if isinstance(link, dict) else None
        if order_id and (part := (yield from _look_at(work, "", order_id, assumed, fills))):
            role = yield from _role_of(work, part, _said(link.get("label")).lower())
            parts.append(replace(part, role=role))
        else:
            dark = True
    said = _said(found.get("failureMessage"))
    return _Sight(parts=tuple(parts), strategy=strategy, strategy_status=str(found.get("status", "")),
                  notes=(said,) if said else (), dark=frozenset(("",) if dark else ()), by_our_id=not known)


def _role_of(work: Work, part: _Part, label: str) -> _Ask[str]:
    """Which part of a strategy an order is. Labels are not documented; side and type decide where they do not tell."""
    stop = next((leg.role for leg in work.order.legs if leg.type not in _TARGETS), "stop_loss")
    target = next((leg.role for leg in work.order.legs if leg.type in _TARGETS), "take_profit")
    if "entry" in label or (part.action and part.action == _ACTIONS.get(str(work.order.side))):
        return "order"
    if "stop" in label:
        return stop
    if "profit" in label or "target" in label:
        return target
    versions = yield from _read(work, f"orderVersion/deps?masterid={part.order_id}", [{"orderType": "Market"}])
    kinds = [row.get("orderType") for row in versions if isinstance(row, dict)] if isinstance(versions, list) else []
    if "Market" in kinds:
        return "order"
    return target if "Limit" in kinds or "MIT" in kinds else stop


def _seen(work: Work, sight: _Sight) -> Seen:
    """A sight in our words: the entry's status, of an oco the pair's; legs beside it."""
    entry, quantity = sight.entry, work.order.quantity
    ids, words = sight.ids, list(sight.notes)
    if entry is None:
        status = _STRATEGY_STATUS.get(sight.strategy_status, "working")
        return Seen(broker_status=status, broker_ids=ids, reason="; ".join(words), by_our_id=sight.by_our_id)
    status, rest = entry.status, [part for part in sight.parts if part is not entry]
    if work.order.kind == "oco" and rest:
        status = _pair_status(entry, rest[0])
        if status == "working" and not (entry.live and rest[0].live):
            words.append(f"one half is {entry.status}, the other {rest[0].status}")
    words += [part.reason if part is entry else f"{part.role} was rejected: {part.reason}"
              for part in sight.parts if part.reason]
    if status in ("canceled", "expired") and entry.filled:
        words.append(f"{entry.filled} of {quantity} had filled before")
    if entry.raw not in (*_ENDS, *_ALIVE):
        unread = ", and its fills could not be read" if entry.word == "over" else ""
        words.append(f"Tradovate calls its status {_said(entry.raw)!r}{unread}")
    legs = tuple({"role": part.role, "broker_id": part.order_id, "broker_status": part.status} for part in rest)
    return Seen(broker_status=status, broker_ids=ids, legs=legs, reason="; ".join(words), by_our_id=sight.by_our_id)


def _pair_status(one: _Part, other: _Part) -> str:
    if one.live or other.live:
        return "partially_filled" if "partially_filled" in (one.status, other.status) else "working"
    return next((word for word in ("filled", "working") if word in (one.status, other.status)), one.status)


def _withdrawals(work: Work) -> list[tuple[str, Work]]:
    """The orders that a cancel concerns, by name, those whose ids are not known last. `options.orderId` is none of ours."""
    found = [(f"order {target.ids.order_id}", target) for target in work.targets]
    if foreign := _options(work.order).get("orderId"):
        found.append((f"Tradovate's order {foreign}", replace(work, order=Order(kind="plain"), targets=(),
                                                              broker_ids={"order": str(foreign)})))
    return sorted(found, key=lambda each: not each[1].broker_ids)


def _is_withdrawn(work: Work) -> LookUp:
    """Whether everything that a cancel withdraws has ended. One that is seen to work is enough to cancel once more."""
    targets, dark = _withdrawals(work), False
    for name, target in targets:
        sight = yield from _look(target, fills=False)
        if sight is None:
            dark = True
        elif due := [part.role for parts in sight.due(work.order.legs_too) for part in parts]:
            return Absent(reason=f"the {' and '.join(due)} of {name} still works at Tradovate")
        else:
            dark = dark or not sight.shows_all(work.order.legs_too)
    return None if dark or not targets else Seen(broker_status="canceled", reason="what it withdraws has ended")


def _find_contract(work: Work) -> _Ask[tuple[str | None, Reply]]:
    """The id of the order's contract, None unless Tradovate found that very contract; and what it said."""
    symbol = str(work.order.symbol)
    call = _read_call(work, f"contract/find?name={quote(symbol)}", "look.contract",
                      {"id": Placeholder.of("contract/find.id"), "name": symbol})
    reply: Reply = yield call
    if reply.status == 404:
        check = yield from _check_token(work)
        reply = (yield call) if _is_alive(check) else check
    found = reply.json if reply.status == 200 and isinstance(reply.json, dict) else {}
    return (_ident(found.get("id")) if found.get("name", symbol) == symbol else None), reply


def _check_token(work: Work) -> _Ask[Reply]:
    """Ask what tells a dead token from an id that is not there, which are both a 404: an exit is not given up on that
    alone. One that proves dead here is renewed by the session before the plan goes on."""
    account = {"id": work.account.account_id, "name": work.account.account}
    reply: Reply = yield _read_call(work, _TOKEN_CHECK, "look.token", [account])
    return reply


def _is_alive(reply: Reply) -> bool:
    """Whether the token is alive: what it may not see it is refused with a 401, as nobody else is."""
    return reply.status in (400, 401) or (reply.status == 200 and isinstance(reply.json, list))


def _no_contract(symbol: str, reply: Reply) -> Outcome:
    """Why `contract/find` gave no id. Nothing has been sent to close anything, so asking again is safe."""
    if reply.status == 200 and isinstance(reply.json, dict) and reply.json.get("name", symbol) != symbol:
        return Rejected(reason=f"not sent: asked for {symbol}, Tradovate found {_said(reply.json['name'])!r}")
    if reply.not_executed:
        return Rejected(reason=f"not sent: {symbol} could not be looked up: {reply.words}")
    if reply.status == 404:
        return Rejected(reason=f"not sent: Tradovate knows no contract {symbol}, or not in this environment (HTTP 404)")
    if reply.status in (400, 401):
        return Rejected(reason=f"not sent: Tradovate refused to look up {symbol}: {_heard(reply)}")
    heard = reply.words if reply.status is None else _heard(reply)
    return Retry(reason=f"{symbol} could not be looked up at Tradovate: {heard}", after_s=2.0)


def _hint_of_nothing(reply: Reply) -> str:
    """Whether a reply to a close may mean that nothing was open: taken without an id, refused in words, or neither."""
    body = reply.json
    if reply.not_executed or reply.status != 200 or not isinstance(body, dict) or _order_id(body) or "p-ticket" in body:
        return ""
    if _refusal(body) is None:
        return "taken"
    texts = _texts(body).lower()
    worded = texts and body.get("failureReason") in (None, "", "UnknownReason") and "violations" not in body
    return "refused" if worded and "denied" not in texts else ""


def _is_closed(work: Work) -> LookUp:
    """Whether neither position nor working order is left on a close's contract. A position shows up later than the fill
    that made it, so that nothing there counts when it is seen twice."""
    contract, _ = yield from _find_contract(work)
    for pause in (0.0, 2.0):
        if pause:
            yield Pause(seconds=pause)
        left = (yield from _left_on(work, contract, orders_too=True)) if contract else None
        if left is None:
            return None
        if left:
            return Absent(reason=f"{left} on {work.order.symbol} at Tradovate still")
    return Seen(broker_status="filled", reason=f"neither a position nor a working order is left on {work.order.symbol}")


def _left_on(work: Work, contract: str, *, orders_too: bool) -> _Ask[str | None]:
    """In words what is open on a contract in this account; "" for nothing, None where that cannot be read whole."""
    account = work.account.account_id
    positions = yield from _read(work, f"position/deps?masterid={account}", [])
    orders = (yield from _read(work, f"order/deps?masterid={account}", [])) if orders_too else []
    held, live = _open_on(positions, contract, "netPos", 0), _open_on(orders, contract, "ordStatus", *_ENDS, "Completed")
    if held is None or live is None:
        return None
    resting = [f"{len(live)} working order{'s' if len(live) > 1 else ''}"] if live else []
    return " and ".join([f"a position of {each}" for each in held] + resting)


def _open_on(rows: Any, contract: str, name: str, *over: Any) -> list[Any] | None:
    """One field of the rows on a contract where it is none of `over`; None where that cannot be read whole, or where the
    list shows nothing and may have been cut short."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return None
    found = [row for row in rows if _ident(row.get("contractId")) in (contract, None) and row.get(name) not in over]
    whole = all(_ident(row.get("contractId")) and row.get(name) is not None for row in found)
    return [row[name] for row in found] if whole and (found or len(rows) < _MOST_ROWS) else None


# -- ids ---------------------------------------------------------------------------------------------------------------


def _ident(value: Any) -> str | None:
    """A broker's id as text: a whole number above zero, or a rehearsal's place-holder. None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return str(value)
    return value if isinstance(value, str) and re.fullmatch(r"<from: [^<>]+>", value) else None


def _wire(known: str) -> int | Placeholder:
    """An id as the wire has it: a number."""
    return int(known) if re.fullmatch(r"[0-9]{1,19}", known) else Placeholder(known)


def _names_one(body: Mapping[str, Any]) -> bool:
    """Whether a body has the id of an order, a strategy or a command: then something was executed."""
    return bool(_order_id(body) or _strategy_id(body) or _ident(body.get("commandId")))


def _order_id(body: Mapping[str, Any]) -> str | None:
    return _ident(body.get("orderId"))


def _strategy_id(body: Mapping[str, Any]) -> str | None:
    strategy = body.get("orderStrategy")
    return _ident(strategy.get("id")) if isinstance(strategy, dict) else None
