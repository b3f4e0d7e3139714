"""CrossTrade: NinjaTrader 8 through REST or a WebSocket.

Pages: crosstrade.io/docs/api (orders/post-place-order, orders/post-cancel-order, orders/get-order-lifecycle,
positions/post-close-position), docs.crosstrade.io/api (rate-limiting, websocket-api),
app.crosstrade.io/v1/api/llms-full.txt. CrossTrade relays each call to an add-on inside the trader's own NinjaTrader.

Traps that cost money:

- 408 says that NinjaTrader did not answer, not that it did nothing: on a write it is `unknown`, and so is every 5xx.
  Over the WebSocket there is no status, so there the same thing is told only by its words.
- `success` decides, not the status: only a literal `true` is a yes, and `"false"` is no answer at all.
- NinjaTrader burns ids: an `orderId` or `ocoId` is never used for a second arming. A refusal because the id was used
  before may mean that the first send stands.
- A flatten without an instrument closes the whole account, and without an account everything; `orders/cancel` with no
  instrument cancels everything in the account. None of them is in this file, and an empty id or account, which would
  turn one address into another, is refused before an address is made of it.
- REST wants BUY / STOPMARKET / DAY, the WebSocket Buy / StopMarket / Day.
- An ATM template (`strategy`) owns the exits of its entry; a stop or target of ours beside it would be a second one.
- Older add-ons echo our `orderId` for no plain order and have no lifecycle: then only the id that placing gave, or an
  OCO group's id, finds an order again; not found proves nothing. Only an account that has shown us one of our ids can
  prove that an order is not there, and only when its lifecycle and the complete list of orders both deny it. The echo
  inside an ATM order (`userData`) is no such showing: the older add-ons have that one too.
- A plain order is listed under an id of NinjaTrader's own, so a row that trades the same may be ours: the list denies an
  order only when each such row's own lifecycle names another order of ours.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import quote, unquote

from marshmallow import Schema, ValidationError, fields
from marshmallow.validate import OneOf

from bridge.broker import UNKNOWN, Broker, Capabilities, Sketch, Starter, capability_faults
from bridge.call import (
    Absent,
    Accepted,
    Call,
    Hold,
    LogIn,
    LoginRefused,
    LookUp,
    Pause,
    Placeholder,
    Plan,
    Rejected,
    Reply,
    Seen,
    Token,
    Unknown,
)
from bridge.order import Leg, Order
from bridge.waits import LONGEST_S, retry_after_s
from bridge.work import Account, Budget, Work

CAPABILITIES = Capabilities(
    kinds={"plain": "native", "oco": "composed", "oso": "native", "cancel": "native", "close": "native"},
    instead={"cover": "use kind: oso with options.strategy (an ATM template of your NinjaTrader owns the stop), or "
                      "place the entry as kind: plain and its stop as an order of its own once it is filled"},
    to_know={"close": "our own orders on it are cancelled first; orders that you placed by hand stay",
             "oco": "two orders are sent one after the other; between them only the first one stands",
             "oso": "the ATM template of your NinjaTrader owns the exits: Bridge neither sees nor moves them"},
    types=frozenset({"market", "limit", "stop", "stop_limit"}),
    leg_types=frozenset({"limit", "stop", "stop_limit"}),
    times_in_force=frozenset({"day", "gtc"}),
)

_ID = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9._:{}-]{1,128}")
_POSITIONS = ("flat", "long", "short")


def _plain_text(value: str) -> None:
    if not value.strip() or value != value.strip() or not value.isprintable() or len(value) > 100:
        raise ValidationError("must be a name of 1 to 100 printable characters without spaces around it")


def _account_name(value: str) -> None:
    _plain_text(value)
    if not value.strip("."):
        raise ValidationError("is no account name: use the Name column of NinjaTrader's Accounts tab, like Sim101")


def _an_id(value: str) -> None:
    if not _ID.fullmatch(value):
        raise ValidationError("is no order id: letters, digits and . _ : - { } only")


def _position_list(value: str) -> None:
    if any(part.strip() not in _POSITIONS for part in value.split(",")):
        raise ValidationError(f"{value!r} must be flat, long or short, or some of them with commas between: flat,long")


class _Count(fields.Field[int]):
    """A small whole number; an expression gives it as Decimal."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:
        whole = isinstance(value, int | Decimal) and not isinstance(value, bool) and value in range(1, 1000)
        if not whole:
            raise ValidationError("must be a whole number from 1 to 999")
        return int(value)


class AccountFields(Schema):
    """`account` is the account's Name in NinjaTrader (not its display name)."""

    account = fields.String(required=True, validate=_account_name)
    transport = fields.String(
        load_default="rest",
        validate=OneOf(("rest", "websocket"), error="transport is rest or websocket, not {input!r}"))


class OrderOptions(Schema):
    """CrossTrade's own fields of an order. `orderId` is for a cancel only: the bridge makes its own ids."""

    strategy = fields.String(validate=_plain_text,
                             metadata={"description": "of an oso: the name of the ATM template that owns the exits"})
    requireMarketPosition = fields.String(validate=_position_list,
                                          metadata={"description": "flat, long or short: else it is refused there"})
    maxPositions = _Count(metadata={"description": "refuse to open when so many positions are open"})
    orderId = fields.String(validate=_an_id, metadata={"description": "of a cancel: an order that is not ours"})


_OPTION_KINDS: Mapping[str, tuple[str, ...]] = {
    "strategy": ("oso",),
    "requireMarketPosition": ("plain", "oco", "oso"),
    "maxPositions": ("plain", "oco", "oso"),
    "orderId": ("cancel",),
}

_PREFIX = "/v1/api"
_STREAM = "/ws/stream"
_BUDGET = Budget(per_second=3, per_minute=180, burst=20)
_REFILL_S = 7.0  # docs.crosstrade.io/api/rate-limiting: a pause of about 7 seconds fully recharges the burst
_UNDO_LOOKS = 3
_UNDO_PAUSE_S = 1.0
_MOST_ROWS_ASKED = 8
"""Of how many rows that trade the same as a lost order a look-up asks whose they are; it has 3 requests a second."""
_BOOK_REACHES = timedelta(days=1)
"""How far back a list of orders is believed to be complete: NinjaTrader's own shows its session."""

_RPC = {"place": "PlaceOrder", "cancel": "Cancel", "close": "ClosePosition", "lifecycle": "GetOrderLifecycle",
        "orders": "ListOrders", "order": "GetOrder", "positions": "ListPositions", "account": "GetAccount"}
"""Our operations → the WebSocket's `api`. No flatten, no cancel of many: what is not here cannot be asked for."""

# Our words → theirs, by transport (the place-order page: the table is REST, its example the WebSocket).
_SIDES = {"rest": {"buy": "BUY", "sell": "SELL"}, "websocket": {"buy": "Buy", "sell": "Sell"}}
_TYPES = {
    "rest": {"market": "MARKET", "limit": "LIMIT", "stop": "STOPMARKET", "stop_limit": "STOPLIMIT"},
    "websocket": {"market": "Market", "limit": "Limit", "stop": "StopMarket", "stop_limit": "StopLimit"},
}
_TIMES = {"rest": {"day": "DAY", "gtc": "GTC"}, "websocket": {"day": "Day", "gtc": "Gtc"}}

# NinjaTrader's order states → ours; one that is not here is no evidence of anything.
_STATES = {
    "initialized": "working", "submitted": "working", "accepted": "working", "acceptedbyrisk": "working",
    "working": "working", "triggerpending": "working", "changepending": "working", "changesubmitted": "working",
    "cancelpending": "working", "cancelsubmitted": "working", "suspended": "working",
    "partfilled": "partially_filled", "partiallyfilled": "partially_filled", "filled": "filled",
    "cancelled": "canceled", "canceled": "canceled", "rejected": "rejected", "expired": "expired",
}
_ENDS = ("filled", "canceled", "expired", "rejected")
"""The first of them that a half came to names the end of an OCO."""

_MONTHS = "FGHJKMNQUVXZ"
_MONTH_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DATED = re.compile(r"(?P<root>[A-Z0-9]{1,6}) (?P<month>0[1-9]|1[0-2])-(?P<year>\d\d)", re.ASCII)
_NAMED = re.compile(rf"(?P<root>[A-Z0-9]{{1,6}}) (?P<month>{'|'.join(_MONTH_NAMES)})(?P<year>\d\d)", re.ASCII)
_CODED = re.compile(rf"(?P<root>[A-Z0-9]{{1,6}}?)(?P<month>[{_MONTHS}])(?P<year>\d{{1,2}})", re.ASCII)
_SIMULATED = re.compile(r"(?:sim|playback|demo)[ _-]?\d+", re.IGNORECASE | re.ASCII)


class CrossTrade(Broker):
    """CrossTrade's NinjaTrader 8 surface."""

    name: ClassVar[str] = "crosstrade"
    capabilities: ClassVar[Capabilities] = CAPABILITIES
    environments: ClassVar[Mapping[str, tuple[str, str]]] = {
        "live": ("https://app.crosstrade.io", "wss://app.crosstrade.io")}
    default_environment: ClassVar[str] = "live"
    real_money: ClassVar[frozenset[str]] = frozenset({"live"})
    budget: ClassVar[Budget] = _BUDGET
    account_schema: ClassVar[type[Schema]] = AccountFields
    credential_names: ClassVar[Mapping[str, bool]] = {"token": True}
    sandbox_credentials: ClassVar[Mapping[str, str]] = {"token": "sandbox-crosstrade-token"}
    options_schema: ClassVar[type[Schema]] = OrderOptions
    starter: ClassVar[Starter] = Starter(options={"oso": {"strategy": "My ATM"}}, own_exits=False)

    def moves_real_money(self, environment: str, account: str) -> bool:
        """NinjaTrader's own simulation accounts (Sim101, Playback101, DEMO4711) do not; a name in doubt does."""
        return environment in self.real_money and not _SIMULATED.fullmatch(account.strip())

    def login_name(self, account: Account) -> str:
        """A hash of the token: CrossTrade gives each user one, and counts requests by it."""
        return hashlib.sha256(account.credentials.get("token", "").encode()).hexdigest()[:12]

    def symbol_form(self) -> str:
        """ES 12-26."""
        return "ninjatrader"

    def refusals(self, sketch: Sketch, account: Account) -> Iterator[tuple[str, str]]:
        """Symbols without a date, exits that an ATM template would have to own, options of another kind."""
        kind = sketch.get("kind")
        symbol = sketch.get("symbol")
        if isinstance(symbol, str) and not isinstance(symbol, Placeholder) and contract_of(symbol) is None:
            yield "symbol", (f"{symbol!r} names no dated contract like 'ES 12-26'; a root or ES1! is another contract "
                             "in roll weeks. `{{ alert.ticker | contract }}` makes the dated name")
        options = sketch.get("options")
        given = options if isinstance(options, Mapping) else {}
        for name, kinds in _OPTION_KINDS.items():
            if name in given and isinstance(kind, str) and kind not in kinds:
                yield f"options.{name}", f"is not for kind: {kind}, only for {', '.join(kinds)}"
        if kind == "oso" and options is not UNKNOWN and "strategy" not in given:
            yield "options.strategy", ("is missing: CrossTrade has no bracket of its own for an entry. Name the ATM "
                                       "template that owns the exits, in place of stop_loss and take_profit")
        if kind in ("plain", "oco", "oso"):
            yield from _exit_refusals(kind, sketch)

    def submit(self, work: Work) -> Plan:
        """The plan of the order's kind. What cannot be expressed safely is refused before any call."""
        sketch = work.order.to_json()
        for name, message in (*capability_faults(self, sketch), *self.refusals(sketch, work.account)):
            return _refused(f"{name}: {message}")
        if work.order.kind == "close" and not work.order.symbol:
            return _refused("symbol: a close names its instrument; closing a whole account cannot be expressed")
        try:
            _segment(work.account.account)
        except ValueError:
            return _refused("the account has no NinjaTrader account name; nothing is sent without one")
        plans = {"plain": _plain, "oso": _oso, "oco": _oco, "cancel": _cancel, "close": _close}
        return plans[work.order.kind](work)

    def look_up(self, work: Work) -> LookUp:
        """The order by our own id; a cancel by its targets' end; a close by what is still open."""
        if work.order.kind == "cancel":
            return _see_cancel(work)
        if work.order.kind == "close":
            return _see_close(work)
        return _see_entry(work)

    def look_up_step(self, work: Work, call: Call) -> LookUp:
        """One half of an OCO by its own id, and its withdrawal by the half's end."""
        if call.undoes:
            return _see_undo(work, call)
        return _see_step(work, call) if call.operation == "place" else self.look_up(work)

    def warm(self, account: Account) -> Call | None:
        """REST: the list of addresses, which needs no NinjaTrader. WebSocket: one account, the cheapest remote call.

        Over the socket a call is asked, not the page's `ping`: what answers a ping, if anything does, is documented
        nowhere, and only an answer shows that the other side is still there.
        """
        if account.transport == "websocket":
            return _call(account, "account", "warm", "", {}, {"name": account.account, "success": True})
        return Call(operation="endpoints", method="GET", url=f"{account.rest_url}{_PREFIX}/_endpoints", step="warm",
                    write=False, headers={"Content-Type": "application/json"},
                    assumed={"endpoints": [], "success": True})

    def log_in(self, account: Account, now: float, token: Token | None) -> LogIn:
        """The token is the trader's own and never changes, so nothing is asked."""
        yield from ()
        value = account.credentials.get("token", "")
        if not value:
            return LoginRefused(reason="the account has no credential `token` (CrossTrade: My Account, secret key)")
        return Token(value=value)

    def dress(self, call: Call, account: Account, token: Token, frame_id: str) -> Call:
        """Adds the bearer token (for a WebSocket: of the handshake), and the frame's id."""
        headers = {**call.headers, "Authorization": f"Bearer {token.value}"}
        if call.method == "WS":
            return replace(call, headers=headers, body={**call.body, "id": frame_id})
        return replace(call, headers=headers)

    def nothing_done(self, call: Call, reply: Reply) -> Hold | None:
        """Only the rate limit: a token refused is refused for good, since it cannot be renewed."""
        if reply.status is None or reply.not_executed or not (reply.status == 429 or _says_rate_limit(reply)):
            return None
        wait_s, told = _wait_of(reply)
        return Hold(reason="CrossTrade's rate limit (3 requests a second for each user) is used up",
                    wait_s=wait_s, whole_login=True, grows=not told)


def _exit_refusals(kind: str, sketch: Sketch) -> Iterator[tuple[str, str]]:
    for name in ("stop_loss", "take_profit", "brackets"):
        if not sketch.get(name):
            continue
        if kind == "oso":
            yield name, ("leave it out: at CrossTrade the ATM template in options.strategy owns the exits. For exits "
                         "of your own, place the entry as kind: plain and the exits as kind: oco once it is filled")
        else:
            yield name, f"a {kind} order has no exits; use kind: oso with options.strategy"
    if sketch.get("other") and kind != "oco":
        yield "other", "belongs to kind: oco"


def contract_of(symbol: str) -> tuple[str, int, int] | None:
    """(root, month, last digit of the year) of a dated name: ES 12-26, ES DEC26, ESZ26, ESZ6. None for any other."""
    name = symbol.strip().upper()
    if found := _DATED.fullmatch(name):
        return found["root"], int(found["month"]), int(found["year"]) % 10
    if found := _NAMED.fullmatch(name):
        return found["root"], _MONTH_NAMES.index(found["month"]) + 1, int(found["year"]) % 10
    if found := _CODED.fullmatch(name):
        return found["root"], _MONTHS.index(found["month"]) + 1, int(found["year"]) % 10
    return None


# Plans.


def _refused(reason: str) -> Plan:
    """A plan that asks nothing."""
    yield from ()
    return Rejected(reason=reason)


def _plain(work: Work) -> Plan:
    piece = _pieces(work)[0]
    call = _place_call(work, piece)
    return _placed(call, (yield call))


def _oco(work: Work) -> Plan:
    """Two orders sharing an OCO id. When the second is refused the first is undone.

    What it asks follows from the order and the replies alone, not from what is known of it by now, so that it can be
    played back.
    """
    one, two = _pieces(replace(work, broker_ids={}))
    call = _place_call(work, one)
    first = _placed(call, (yield call))
    if not isinstance(first, Accepted):
        return first
    one = replace(one, broker_id=first.broker_ids["order"])
    ids = {"order": one.broker_id, "oco": one.oco_id}
    if first.broker_status in _ENDS:  # of an OCO that has come to its end, the other half is not wanted any more
        why = f"the other half was not placed, for the first was {first.broker_status} by then"
        return (yield from _first_alone(work, one, {**ids, "other": ""}, why, None))
    call = _place_call(work, two)
    second = _placed(call, (yield call))
    if isinstance(second, Rejected):
        return (yield from _undo_first(work, one, ids, second.reason))
    if isinstance(second, Unknown):
        return Unknown(reason=f"the first half stands ({one.broker_id}), the other half is in doubt: {second.reason}",
                       broker_ids={**ids, **({"other": second.broker_ids["order"]} if second.broker_ids else {})})
    leg = {"role": "other", "client_order_id": two.client_id, "broker_id": second.broker_ids["order"]}
    leg |= {"broker_status": second.broker_status} if second.broker_status else {}
    ended = f"the other half was {second.broker_status} by then" if second.broker_status in _ENDS else ""
    return Accepted(broker_ids={**ids, "other": second.broker_ids["order"]}, legs=(leg,),
                    broker_status=first.broker_status, reason=_joined(first.reason, second.reason, ended))


def _undo_first(work: Work, first: _Piece, ids: Mapping[str, str], why: str) -> Plan:
    """Take the first half back, and read its end."""
    call = _cancel_call(work.account, first.broker_id, "undo.entry")
    undone = _withdrawn(call, (yield call))
    return (yield from _first_alone(work, first, {**ids, "other": ""}, f"the other half was refused: {why}", undone))


def _first_alone(work: Work, first: _Piece, ids: Mapping[str, str], why: str,
                 undone: Accepted | Rejected | Unknown | None) -> Plan:
    """What became of a first half without its other: what filled meanwhile is not undone, but stands with an alarm.

    `undone` is the answer to taking it back; None where it had ended before.
    """
    last = None
    for attempt in range(_UNDO_LOOKS):
        if attempt:
            yield Pause(seconds=_UNDO_PAUSE_S)
        last = (yield from _look(work.account, (first,), "undo.entry")).found["entry"]
        if last and last.traded:
            return Accepted(broker_ids=ids, broker_status=last.status, reason=why,
                            alarm=f"the first half ({first.broker_id}) was filled before it could be taken back, and "
                                  "its position has no second half: look at it now")
        if last and last.status in _ENDS:
            return Rejected(reason=f"{why}; the first half {'was taken back' if undone else 'ended'} ({last.status})")
        if last and isinstance(undone, Rejected):
            return Accepted(broker_ids=ids, broker_status=last.status, reason=why,
                            alarm=f"the first half ({first.broker_id}) stands alone, for taking it back was refused "
                                  f"too: {undone.reason}")
    seen = f"last seen {last.status}" if last else "its end could not be seen"
    doubt = f" ({undone.reason})" if isinstance(undone, Rejected | Unknown) else ""
    return Unknown(reason=f"{why}; taking back the first half ({first.broker_id}){doubt}: {seen}", broker_ids=ids)


def _oso(work: Work) -> Plan:
    """The entry under an ATM template, which places the exits by itself when the entry fills."""
    outcome = yield from _plain(work)
    if isinstance(outcome, Accepted):
        exits = f"the exits are those of the ATM template {work.order.options['strategy']!r}"
        return replace(outcome, reason=_joined(outcome.reason, exits))
    return outcome


def _cancel(work: Work) -> Plan:
    """Withdraw every target that still works. One refusal does not keep the others from being withdrawn."""
    tally = _Tally(knows_our_ids=work.shows_our_ids)
    for target in work.targets:
        yield from _withdraw(target, tally, look_first=True)
    if by_hand := work.order.options.get("orderId"):
        call = _cancel_call(work.account, str(by_hand), f"cancel.{by_hand}")
        tally.count(str(by_hand), _withdrawn(call, (yield call)))
    yield from _read_ends(tally, legs_too=work.order.legs_too)
    if tally.doubtful:
        return Unknown(reason=_joined(*tally.doubtful.values(), *tally.refused.values()))
    if tally.refused and not tally.done:
        return Rejected(reason=_joined(*tally.refused.values(), *tally.notes))
    return Accepted(reason=_joined(*tally.notes) if tally.done or tally.notes else "nothing to cancel",
                    targets=tally.seen, alarm=tally.left(), found_nothing=not tally.done)


def _close(work: Work) -> Plan:
    """Withdraw our own orders on the instrument, then close its whole position, whatever became of the first part.

    Nothing is read before the close is sent: an order in doubt is withdrawn by our own id, which an older add-on does
    not know; only after the close is it looked for, and withdrawn by its broker's id when it is found to work.
    """
    tally = _Tally(knows_our_ids=work.shows_our_ids)
    for target in work.targets:
        yield from _withdraw(target, tally, look_first=False)
    call = _close_call(work.account, str(work.order.symbol or ""))
    found, verdict = _judge(call, (yield call))
    nothing_open = isinstance(verdict, Rejected) and _NONE_OPEN in _said(found).casefold()
    if verdict is None or nothing_open:
        yield from _read_ends(tally, legs_too=False)
        yield from _withdraw_late(tally)
    alarm = f"an order of ours may still rest on {work.order.symbol}: {tally.left()}" if tally.left() else ""
    if verdict is None or nothing_open:
        nothing = "nothing open" if nothing_open or found.get("closedPositions") == [] else ""
        return Accepted(reason=_joined(nothing, _warning(found), *tally.notes), targets=tally.seen, alarm=alarm,
                        found_nothing=bool(nothing) and not tally.done)
    bare = f"{tally.done} of its orders were withdrawn before: what stands may be unprotected" if tally.done else ""
    words = _joined(verdict.reason, bare, alarm)
    return Rejected(reason=words) if isinstance(verdict, Rejected) else Unknown(reason=words)


# Withdrawing.


@dataclass(slots=True, kw_only=True)
class _Tally:
    """What became of the orders to withdraw, in words for the trader.

    `asked`: those whose end is still to be read. `unseen`: those that a cancel by our own id did not find, which says
    something only where the add-on `knows_our_ids`. `working`: our id → the broker's id of what was last seen to work.
    """

    knows_our_ids: bool
    done: int = 0
    notes: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    doubtful: dict[str, str] = field(default_factory=dict)
    unseen: dict[str, str] = field(default_factory=dict)
    working: dict[str, str] = field(default_factory=dict)
    alarms: list[str] = field(default_factory=list)
    asked: list[Work] = field(default_factory=list)
    seen: dict[str, Seen] = field(default_factory=dict)

    def count(self, name: str, verdict: Accepted | Rejected | Unknown) -> None:
        """One order's answer."""
        if isinstance(verdict, Accepted):
            self.done += 1
            if verdict.reason:
                self.notes.append(f"{name} {verdict.reason}")
        elif isinstance(verdict, Rejected):
            self.refused[name] = f"{name} was not withdrawn: {verdict.reason}"
        else:
            self.doubtful[name] = f"whether {name} was withdrawn is in doubt: {verdict.reason}"

    def left(self) -> str:
        """What a person has to look at."""
        unseen = () if self.knows_our_ids else self.unseen.values()
        return _joined(*self.refused.values(), *self.doubtful.values(), *unseen, *self.alarms)

    def ended(self, target: Work, seen: Seen) -> None:
        """A target's end was seen: no doubt and no refusal is left of it."""
        for piece in _pieces(target):
            self.unseen.pop(piece.client_id, None)
            settled = [self.refused.pop(piece.client_id, ""), self.doubtful.pop(piece.client_id, "")]
            self.done += any(settled)
        self.notes.append(f"{target.ids.client_id()} ended as {seen.broker_status}")


def _withdraw(target: Work, tally: _Tally, *, look_first: bool) -> Generator[Call | Pause, Any, None]:
    """Cancel each half that has not ended."""
    pieces = _pieces(target)
    sights: Mapping[str, _Sight | None] = dict.fromkeys(piece.role for piece in pieces)
    if look_first:
        sights = (yield from _look(target.account, pieces, f"look_up.{target.ids.client_id()}")).found
    if seen := _seen(pieces, sights):
        tally.seen[target.ids.order_id] = seen
    for piece in pieces:
        sight = sights[piece.role]
        if sight and sight.status in _ENDS:
            tally.notes.append(f"{piece.client_id} had ended already: {sight.status}")
            continue
        order_id = piece.broker_id or (sight.broker_id if sight else "") or piece.client_id
        call = _cancel_call(target.account, order_id, f"cancel.{piece.client_id}")
        verdict = _withdrawn(call, (yield call))
        tally.count(piece.client_id, verdict)
        if isinstance(verdict, Accepted) and verdict.reason and not sight and not piece.broker_id:
            tally.unseen[piece.client_id] = (f"{piece.client_id} was never seen at CrossTrade, and an older add-on "
                                             "does not know our ids: if it stood, it still stands")
    tally.asked.append(target)


def _withdraw_late(tally: _Tally) -> Generator[Call | Pause, Any, None]:
    """Withdraw, by the broker's id, what our own id did not reach and what was found to work all the same."""
    again = []
    for target in tally.asked:
        for piece in _pieces(target):
            name, order_id = piece.client_id, tally.working.get(piece.client_id, "")
            open_case = name in tally.unseen or name in tally.refused or name in tally.doubtful
            if piece.broker_id or not open_case or order_id in ("", name):
                continue
            call = _cancel_call(target.account, order_id, f"cancel.{name}.late")
            verdict = _withdrawn(call, (yield call))
            for settled in (tally.unseen, tally.refused, tally.doubtful):
                settled.pop(name, None)
            tally.count(name, verdict)
            again += [target] if target not in again else []
    tally.asked = again
    yield from _read_ends(tally, legs_too=False)


def _read_ends(tally: _Tally, *, legs_too: bool) -> Generator[Call | Pause, Any, None]:
    """How the withdrawn orders ended: one may have been filled before the cancel reached it."""
    for target in tally.asked:
        name, pieces = target.ids.client_id(), _pieces(target)
        seen = tally.seen.get(target.ids.order_id)
        if not (seen and seen.ended):
            sights = (yield from _look(target.account, pieces, f"end.{name}", ended=True)).found
            tally.working |= {piece.client_id: sight.broker_id for piece in pieces
                              if (sight := sights[piece.role]) and sight.status not in _ENDS}
            found = _seen(pieces, sights)
            tally.seen |= {target.ids.order_id: found} if found else {}
            seen = found or seen
            if found and found.ended:
                tally.ended(target, found)
        if legs_too and target.order.kind == "oso" and seen and seen.broker_status in ("filled", "partially_filled"):
            tally.alarms.append(f"{name} is filled: the exits that its ATM template placed have no ids here; closing "
                                "the position, or NinjaTrader itself, withdraws them")


# Looking up.


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """One order as we place it, with all that tells it from others at the broker. `broker_id` is "" until known."""

    role: str
    client_id: str
    broker_id: str = ""
    oco_id: str = ""
    instrument: str = ""
    quantity: Decimal | None = None
    side: str = ""
    type: str = ""
    price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: str = "day"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sight:
    """What was seen of a piece. `traded`: some of it was filled, however it ended. `by_our_id`: shown under our id."""

    status: str
    broker_id: str
    traded: bool
    reason: str = ""
    by_our_id: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looked:
    """What one look came to, by role. `denied`: every book was read soundly and wholly, and none knows the piece."""

    found: Mapping[str, _Sight | None]
    denied: frozenset[str] = frozenset()


_Looking = Generator[Call | Pause, Any, _Looked]


def _pieces(work: Work, *, both: bool = False) -> tuple[_Piece, ...]:
    """The one or two orders that a work is at the broker.

    An empty id `other`: the second half was refused, and is left out unless `both` are asked for.
    """
    order, ids, known = work.order, work.ids, work.broker_ids
    oco_id = ids.client_id("oco") if order.kind == "oco" else ""
    entry = _piece("entry", order, order, ids.client_id(), known.get("order", ""), oco_id)
    if order.kind != "oco" or order.other is None or (known.get("other") == "" and not both):
        return (entry,)
    return entry, _piece("other", order, order.other, ids.client_id("other"), known.get("other", ""), oco_id)


def _piece(role: str, order: Order, what: Order | Leg, client_id: str, broker_id: str, oco_id: str) -> _Piece:
    return _Piece(role=role, client_id=client_id, broker_id=broker_id, oco_id=oco_id, instrument=order.symbol or "",
                  quantity=order.quantity, side=what.side or "", type=what.type or "", price=what.price,
                  stop_price=what.stop_price, time_in_force=what.time_in_force or "day")


def _see_entry(work: Work) -> LookUp:
    """An order by our own ids, as a whole: half an OCO is neither seen nor absent."""
    pieces = _pieces(work)
    looked = yield from _look(work.account, pieces, "look_up", proving=True)
    return _seen(pieces, looked.found) or _absent(work, pieces, looked)


def _see_step(work: Work, call: Call) -> LookUp:
    """One half of an OCO, by the id that its own call gave it."""
    halves = _pieces(work, both=True)
    piece = next((half for half in halves if half.role == call.step), halves[0])
    piece = replace(piece, client_id=str(_field(call, "orderId") or piece.client_id),
                    oco_id=str(_field(call, "ocoId") or ""))
    looked = yield from _look(work.account, (piece,), f"look_up.{call.step}", family=(piece, *halves),
                              proving=True)
    if (sight := looked.found[piece.role]) is None:
        return _absent(work, (piece,), looked)
    ids = {"order": sight.broker_id} if sight.broker_id else {}
    return Seen(broker_status=sight.status, broker_ids=ids | ({"oco": piece.oco_id} if piece.oco_id else {}),
                reason=sight.reason, by_our_id=sight.by_our_id)


def _see_undo(work: Work, call: Call) -> LookUp:
    """The withdrawal of a first half is seen by the half's end."""
    piece = replace(_pieces(work, both=True)[0], broker_id=_cancelled_id(call))
    sight = (yield from _look(work.account, (piece,), f"look_up.{call.step}")).found["entry"]
    if sight is None:
        return None
    if sight.status not in _ENDS:
        return Absent(reason=f"the first half ({piece.broker_id}) still works; cancelling it again can only reduce")
    return Seen(broker_status=sight.status, broker_ids={"order": piece.broker_id}, reason=sight.reason,
                by_our_id=sight.by_our_id)


def _absent(work: Work, pieces: tuple[_Piece, ...], looked: _Looked) -> Absent | None:
    """Proof that none of the pieces is there: only from an account that has shown us an id of ours, and in its day.

    A piece that the broker gave an id for was there once, whatever the books say now.
    """
    names = " and ".join(piece.client_id for piece in pieces)
    if not _keeps_our_ids(work, work) or not all(each.role in looked.denied and not each.broker_id for each in pieces):
        return None
    return Absent(reason=f"neither the lifecycle nor the complete list of orders knows {names}")


def _keeps_our_ids(work: Work, target: Work) -> bool:
    """Whether this account's books would show `target` if it had been placed."""
    if work.looked_at is None or not work.shows_our_ids:
        return False
    return abs(work.looked_at - (target.submitted_at or target.created_at)) <= _BOOK_REACHES


def _see_cancel(work: Work) -> LookUp:
    """A cancel is seen by its effect: everything that it was to withdraw has ended.

    What still works, or is certainly not in the books, may be cancelled again: that can only reduce.
    """
    legs: list[Mapping[str, Any]] = []
    missing, unclear, by_our_id = "", False, False
    wanted = [(_pieces(target), target, {"order_id": target.ids.order_id}) for target in work.targets]
    if by_hand := str(work.order.options.get("orderId", "")):
        piece = _Piece(role="entry", client_id=by_hand, broker_id=by_hand)
        wanted.append(((piece,), work, {"broker_id": by_hand}))
    for pieces, target, name in wanted:
        looked = yield from _look(work.account, pieces, f"look_up.{pieces[0].client_id}", proving=True)
        for piece in pieces:
            if (sight := looked.found[piece.role]) and sight.status not in _ENDS:
                return Absent(reason=f"{piece.client_id} still works; cancelling it again can only reduce")
            certain = piece.role in looked.denied and (piece.broker_id or _keeps_our_ids(work, target))
            missing = missing or (piece.client_id if certain else "")
            unclear = unclear or not (sight or certain)
        if seen := _seen(pieces, looked.found):
            by_our_id = by_our_id or (seen.by_our_id and target is not work)
            legs.append({"role": "target", **name, "broker_status": seen.broker_status})
    if unclear:
        return None
    if missing or not wanted:
        words = f"{missing} is in none of the books" if missing else "there was nothing to withdraw"
        return Absent(reason=f"{words}; cancelling again can only reduce")
    return Seen(broker_status="canceled", legs=tuple(legs), reason="what it withdraws has ended",
                by_our_id=by_our_id)


def _see_close(work: Work) -> LookUp:
    """A close is seen by its effect: no position on the instrument, and no order of ours that works on it.

    The orders are read first: one that fills in between then shows as a position.
    """
    symbol, still, unclear = str(work.order.symbol or ""), "", False
    for operation, path, args in (("orders", "/orders?activeOnly=true", {"activeOnly": True}),
                                  ("positions", "/positions", {})):
        reply = yield _call(work.account, operation, f"look_up.{operation}", path, args,
                            {operation: [], "success": True})
        rows = _whole_list(reply, operation)
        if rows is None:
            return None
        for row in rows:
            there = _is_on(row.get("instrument"), symbol)
            over = _is_flat(row) if operation == "positions" else _has_ended(row) or not _may_be_ours(row, work.targets)
            if over or there is False:
                continue
            if there is None or (operation == "orders" and _state(row.get("orderState")) is None):
                unclear = True
            else:
                still = still or ("a position is open" if operation == "positions" else "an order of ours works")
    if still:
        return Absent(reason=f"{still} on {symbol}; closing again can only reduce")
    return None if unclear else Seen(broker_status="filled", reason="nothing is open there and no order of ours works")


def _is_on(instrument: object, symbol: str) -> bool | None:
    """Whether a row is of the contract `symbol`; None for one that cannot be told."""
    wanted = contract_of(symbol)
    if not isinstance(instrument, str) or not instrument.strip() or wanted is None:
        return None
    found = contract_of(instrument)
    if found is None:
        return None if instrument.strip().upper().startswith(wanted[0]) else False
    return found == wanted


def _may_be_ours(row: Mapping[str, Any], targets: Iterable[Work]) -> bool:
    """Whether an order may be one of `targets`, or an exit that an ATM template placed for one of them.

    Of an order that has no broker's id yet every order that trades the same may be the one.
    """
    for target in targets:
        if any(_names(row, piece) or _in_group(row, piece) or _resembles(row, piece) for piece in _pieces(target)):
            return True
        if target.order.kind == "oso" and row.get("ownerStrategy") == target.order.options.get("strategy"):
            return True
    return False


def _is_flat(row: Mapping[str, Any]) -> bool:
    return row.get("quantity") == 0 or str(row.get("marketPosition", "")).casefold() == "flat"


def _has_ended(row: Mapping[str, Any]) -> bool:
    return _state(row.get("orderState")) in _ENDS


def _look(account: Account, pieces: tuple[_Piece, ...], step: str, *, family: tuple[_Piece, ...] = (),
          ended: bool = False, proving: bool = False) -> _Looking:
    """Each piece by its lifecycle, then in the list of orders, then by the broker's own id.

    `family`: all pieces of the order, where `pieces` are not all. `ended`: rendering is to assume that they have ended,
    not that they work. `proving`: ask whose the rows are that might be a piece, so that its absence may be proven.
    """
    sights: dict[str, _Sight | None] = {}
    denied: set[str] = set()
    for piece in pieces:
        call = _lifecycle_call(account, piece, f"{step}.{piece.role}.lifecycle", "Cancelled" if ended else "Working")
        reply = yield call
        sights[piece.role] = _lifecycle_sight(piece, reply)
        denied |= {piece.role} if _denies(piece.client_id, reply) else set()
    if all(sights.values()):
        return _Looked(found=sights)
    reply = yield _call(account, "orders", f"{step}.orders", "/orders?activeOnly=false", {"activeOnly": False},
                        {"orders": [], "success": True})
    rows, whole = _rows(reply, "orders"), _whole_list(reply, "orders")
    for piece in pieces:
        if sights[piece.role] is None and rows is not None:
            sights[piece.role] = _row_sight(_row_of(piece, rows), piece)
        if whole is None or any(_may_be_piece(row, piece, family or pieces) for row in whole):
            denied.discard(piece.role)
        elif piece.role in denied and (doubles := [row for row in whole if _resembles(row, piece)]):
            others = proving and (yield from _are_others(account, doubles, piece, f"{step}.{piece.role}.row"))
            denied -= set() if others else {piece.role}
        if sights[piece.role] is None and piece.broker_id:
            one = yield _order_call(account, piece.broker_id, f"{step}.{piece.role}.order")
            row = _fields_of(one)
            sights[piece.role] = _row_sight(row if _is_2xx(one) and row.get("success") is not False else None, piece)
            denied -= set() if _denies(piece.broker_id, one) else {piece.role}
    return _Looked(found=sights, denied=frozenset(role for role in denied if sights[role] is None))


def _denies(order_id: str, reply: Reply) -> bool:
    """Whether a read of one order says, in so many words, that there is no such order.

    Neither an older add-on's "Unknown API command" nor a time-out, an unknown account or a timeline in which our
    attempt stands without a state says so.
    """
    found, said = _fields_of(reply), _said(_fields_of(reply)).casefold()
    if found.get("success") is True:
        nameless = all(found.get(name) in (None, "", order_id) for name in ("orderId", "originalOrderId"))
        return _is_2xx(reply) and found.get("events") == [] and _is_whole(found, 0) and nameless
    if not (_is_2xx(reply) or reply.status == 400) or not _no_yes(found) or not isinstance(found.get("error"), str):
        return False
    about = f"{said} {_warning(found).casefold()}".replace(order_id.casefold(), "")
    return bool(_NO_SUCH_ORDER.search(about)) and not _DOUBT.search(about) and not _NOT_OF_AN_ORDER.search(about)


def _rows(reply: Reply, name: str) -> list[object] | None:
    """The rows of a list, flat or under `data`."""
    found = _fields_of(reply)
    rows = found.get(name, found.get("data"))
    return rows if _is_2xx(reply) and isinstance(rows, list) else None


def _whole_list(reply: Reply, name: str) -> list[Mapping[str, Any]] | None:
    """The rows of a list that was read soundly and is complete, else None."""
    found, rows = _fields_of(reply), _rows(reply, name)
    if rows is None or found.get("success") is not True or not _is_whole(found, len(rows)):
        return None
    sound = [row for row in rows if isinstance(row, Mapping)]
    if name == "orders":
        sound = [row for row in sound if any(_ids_of(row))]
    return sound if len(sound) == len(rows) else None


_CUT_SHORT = re.compile(r"partial|incomplete|more|next|cursor|truncat|warning|error|unavailable|missing|stale")
"""Names of fields that say, unless they are empty or false, that not everything is there."""
_COUNTS = ("count", "total", "totalcount", "totalrows", "totalorders", "totalpositions")


def _is_whole(found: Mapping[str, Any], length: int) -> bool:
    """Whether a reply tells its `length` rows and nothing more: a remark, a page or another count leaves it open.

    CrossTrade's pages show no remark beside a complete list.
    """
    named = [(_letters(name), value) for name, value in found.items()]
    if _said(found) or any(name in _COUNTS and value is not None and value != length for name, value in named):
        return False
    return not any(value is False if name in ("complete", "iscomplete") else value and _CUT_SHORT.search(name)
                   for name, value in named)


def _may_be_piece(row: Mapping[str, Any], piece: _Piece, family: tuple[_Piece, ...]) -> bool:
    """Whether a row names the piece in any way, or stands in its OCO group and is plainly none of its siblings."""
    siblings = [each for each in family if each.role != piece.role]
    return _names(row, piece) or (_in_group(row, piece) and not any(_alike(row, each) for each in siblings))


def _names(row: Mapping[str, Any], piece: _Piece) -> bool:
    """Whether any field of a row is an id of the piece, in whatever case."""
    ours = {piece.client_id.casefold(), piece.broker_id.casefold()} - {""}
    shown = {value.casefold() for value in row.values() if isinstance(value, str)}
    return not ours.isdisjoint(shown | {value.casefold() for value in _ids_of(row)})


def _in_group(row: Mapping[str, Any], piece: _Piece) -> bool:
    return bool(piece.oco_id) and str(row.get("ocoId", "")).casefold() == piece.oco_id.casefold()


_OF_OURS = re.compile(r"o[0-9a-f]{20}(?:\.[a-z0-9_.]+)?", re.IGNORECASE)
"""An id that the bridge gives. NinjaTrader's own are 32 hex digits, and may be another order's or this one's."""


def _resembles(row: Mapping[str, Any], piece: _Piece) -> bool:
    """Whether a row may be a piece that has no broker's id yet, by what it trades.

    It is not where it plainly trades something else or is another order of ours. Prices tell nothing: they are rounded
    to the tick and can be moved by hand.
    """
    side, what, quantity = _letters(row.get("orderAction")), _letters(row.get("orderType")), row.get("quantity")
    return not (
        piece.broker_id
        or any(_is_anothers(value, piece) for value in _ids_of(row))
        or (piece.oco_id and row.get("ocoId"))
        or _is_on(row.get("instrument"), piece.instrument) is False
        or (side.startswith(("buy", "sell")) and not side.startswith(piece.side))  # also BuyToCover and SellShort
        or (what in map(_letters, _TYPES["rest"].values()) and what != _letters(_TYPES["rest"].get(piece.type)))
        or (isinstance(quantity, int | Decimal) and piece.quantity is not None and quantity != piece.quantity))


def _is_anothers(order_id: object, piece: _Piece) -> bool:
    return (isinstance(order_id, str) and bool(_OF_OURS.fullmatch(order_id))
            and order_id.casefold() != piece.client_id.casefold())


def _are_others(account: Account, rows: list[Mapping[str, Any]], piece: _Piece,
                step: str) -> Generator[Call | Pause, Any, bool]:
    """Whether each row that might be the piece is another order of ours, by the lifecycle of the row's own id."""
    if len(rows) > _MOST_ROWS_ASKED:
        return False
    for number, row in enumerate(rows, 1):
        listed = [value for name in ("orderId", "id") if isinstance(value := row.get(name), str) and _usable(value)]
        if not listed:
            return False
        asked = _Piece(role=piece.role, client_id=listed[0], broker_id=listed[0])
        reply = yield _lifecycle_call(account, asked, f"{step}{number}.lifecycle", "Working")
        found = _fields_of(reply)
        told = _is_2xx(reply) and found.get("success") is True and found.get("orderId") in listed
        if not told or not _is_anothers(found.get("originalOrderId"), piece):
            return False
    return True


def _lifecycle_sight(piece: _Piece, reply: Reply) -> _Sight | None:
    """The newest state in an order's timeline. Attempts that NinjaTrader never gave a state to are no evidence."""
    found = _fields_of(reply)
    events = found.get("events")
    if not _is_2xx(reply) or found.get("success") is not True or not isinstance(events, list):
        return None
    events = [event for event in events if isinstance(event, Mapping)]
    named = [found.get("orderId"), found.get("originalOrderId"), *(event.get("orderId") for event in events)]
    if piece.client_id not in named:
        return None
    states = [(state, event) for event in events if (state := _state(event.get("orderState")))]
    if not states:
        return None
    ends = [pair for pair in states if pair[0] in _ENDS]
    status, event = (ends or states)[-1]
    traded = any(state in ("partially_filled", "filled") for state, _ in states) or any(
        word in str(each.get(key, "")).casefold() for each in events for key in ("source", "event")
        for word in ("fill", "execution"))
    order_id = found.get("orderId")
    broker_id = piece.broker_id or (order_id if isinstance(order_id, str) and _usable(order_id) else "")
    return _Sight(status=_with_fills(status, traded), broker_id=broker_id, traded=traded, reason=_why(status, event),
                  by_our_id=True)


def _row_of(piece: _Piece, rows: Iterable[object]) -> Mapping[str, Any] | None:
    """The row of a list of orders that is this piece: by an id of its own, else by its OCO group, side and type.

    Plain orders carry no echo of our id on older add-ons; an ATM's exits may carry their entry's.
    """
    known = [row for row in rows if isinstance(row, Mapping)]
    ours = {piece.client_id, piece.broker_id} - {""}
    found = [row for row in known if ours & set(_ids_of(row))]
    if not found and piece.oco_id:
        found = [row for row in known if row.get("ocoId") == piece.oco_id and _alike(row, piece)]
    if len(found) > 1:
        found = [row for row in found if _alike(row, piece)]
    return found[0] if len(found) == 1 else None


def _alike(row: Mapping[str, Any], piece: _Piece) -> bool:
    """Same side and type: within one OCO group of ours no two halves share both."""
    return (_letters(row.get("orderAction")) == piece.side
            and _letters(row.get("orderType")) == _letters(_TYPES["rest"].get(piece.type)))


_ID_FIELDS = ("id", "orderId", "originalOrderId", "name")


def _ids_of(row: Mapping[str, Any]) -> Iterator[str]:
    """Every place where an add-on has been seen to give an order's id; the last two for an ATM's orders only."""
    for name in (*_ID_FIELDS, "automatedTradingOrderId"):
        if isinstance(value := row.get(name), str) and value:
            yield value
    if isinstance(data := row.get("userData"), str):
        yield from re.findall(r"<AutomatedTradingOrderId>\s*([^<\s]+)\s*</AutomatedTradingOrderId>", data)


def _row_sight(row: Mapping[str, Any] | None, piece: _Piece) -> _Sight | None:
    if row is None or not (status := _state(row.get("orderState"))):
        return None
    filled = row.get("filled")
    traded = status in ("partially_filled", "filled") or (isinstance(filled, int | Decimal) and filled > 0)
    candidates = (piece.broker_id, row.get("id"), row.get("orderId"))
    broker_id = next((value for value in candidates if isinstance(value, str) and _usable(value)), "")
    return _Sight(status=_with_fills(status, traded), broker_id=broker_id, traded=traded, reason=_why(status, row),
                  by_our_id=any(row.get(name) == piece.client_id for name in _ID_FIELDS))


def _why(status: str, told: Mapping[str, Any]) -> str:
    """Why an order was rejected, where it is told. (NinjaTrader's error of a sound order is `NoError`.)"""
    return _said(told) if status == "rejected" and _letters(told.get("error")) != "noerror" else ""


def _with_fills(status: str, traded: bool) -> str:
    return "partially_filled" if status == "working" and traded else status


def _seen(pieces: tuple[_Piece, ...], sights: Mapping[str, _Sight | None]) -> Seen | None:
    """The whole order, of its halves. Both have to be found: half an OCO is no OCO."""
    known = {role: sight for role, sight in sights.items() if sight}
    if len(known) < len(pieces):
        return None
    statuses = [sight.status for sight in known.values()]
    if working := [each for each in statuses if each not in _ENDS]:
        # A filled half whose sibling still works is no end: NinjaTrader is yet to cancel it, or fails to.
        status = "partially_filled" if any(sight.traded for sight in known.values()) else working[0]
    else:
        status = next(each for each in _ENDS if each in statuses)
    ids = {"order" if role == "entry" else role: sight.broker_id for role, sight in known.items() if sight.broker_id}
    if pieces[0].oco_id:
        ids["oco"] = pieces[0].oco_id
    legs = tuple({"role": piece.role, "client_order_id": piece.client_id, "broker_id": known[piece.role].broker_id,
                  "broker_status": known[piece.role].status} for piece in pieces[1:])
    notes = [sight.reason for sight in known.values() if sight.reason]
    notes += [f"{role} ended as {sight.status} after a part was filled" for role, sight in known.items()
              if sight.traded and sight.status not in ("filled", "partially_filled")]
    if working and "filled" in statuses:
        notes.append("one half is filled, the other still works")
    if working and "rejected" in statuses:
        notes.append("one half was rejected: the other stands alone")
    return Seen(broker_status=status, broker_ids=ids, legs=legs, reason=_joined(*notes),
                by_our_id=any(sight.by_our_id for sight in known.values()))


# Calls.


def _place_call(work: Work, piece: _Piece) -> Call:
    account, options = work.account, work.order.options
    words = account.transport
    body: dict[str, Any] = {
        "instrument": work.order.symbol, "action": _SIDES[words][piece.side], "quantity": work.order.quantity,
        "orderType": _TYPES[words][piece.type], "timeInForce": _TIMES[words][piece.time_in_force],
    }
    if piece.price is not None:
        body["limitPrice"] = piece.price
    if piece.stop_price is not None:
        body["stopPrice"] = piece.stop_price
    if piece.oco_id:
        body["ocoId"] = piece.oco_id
    body |= {name: options[name] for name in ("strategy", "maxPositions") if name in options}
    if wanted := options.get("requireMarketPosition"):
        body["requireMarketPosition"] = ",".join(part.strip() for part in str(wanted).split(","))
    body["orderId"] = piece.client_id
    source = "place.orderId" if piece.role == "entry" else f"place.{piece.role}.orderId"
    return _call(account, "place", piece.role, "/orders/place", body,
                 {"orderId": Placeholder.of(source), "success": True}, body=body)


def _cancel_call(account: Account, order_id: str, step: str) -> Call:
    """Cancel one order: never the form without an id, which would cancel everything in the account."""
    return _call(account, "cancel", step, f"/orders/{_segment(order_id)}/cancel", {"orderId": order_id},
                 {"orderId": order_id, "success": True}, body={})


def _close_call(account: Account, instrument: str) -> Call:
    """Close one instrument's whole position in one account. Raises ValueError without either."""
    if not instrument.strip():
        raise ValueError("a close names its instrument")
    closed = {"account": account.account, "instrument": instrument, "marketPosition": "Long", "quantity": 1}
    body = {"instrument": instrument}
    return _call(account, "close", "close", "/positions/close", body, {"closedPositions": [closed], "success": True},
                 body=body)


def _lifecycle_call(account: Account, piece: _Piece, step: str, state: str) -> Call:
    """Our own id finds the order whatever NinjaTrader calls it by now (add-on 1.13.2 or newer)."""
    event = {"source": "order_update", "event": state, "orderState": state}
    assumed = {"success": True, "orderId": piece.broker_id or Placeholder.of("lifecycle.orderId"),
               "originalOrderId": piece.client_id, "account": account.account, "count": 1, "events": [event]}
    return _call(account, "lifecycle", step, f"/orders/{_segment(piece.client_id)}/lifecycle",
                 {"orderId": piece.client_id}, assumed)


def _order_call(account: Account, order_id: str, step: str) -> Call:
    return _call(account, "order", step, f"/orders/{_segment(order_id)}", {"orderId": order_id},
                 {"orderId": order_id, "orderState": "Working", "success": True})


def _call(account: Account, operation: str, step: str, path: str, args: Mapping[str, Any], assumed: Any, *,
          body: Mapping[str, Any] | None = None) -> Call:
    """One request to the account, by its transport: `path` and `body` (of a write) for REST, `args` for a frame."""
    home = f"{_PREFIX}/accounts/{_segment(account.account)}"
    write = body is not None
    if account.transport == "websocket":
        frame = {"action": "rpc", "api": _RPC[operation], "args": {"account": account.account, **args}}
        return Call(operation=operation, method="WS", url=account.ws_url + _STREAM, step=step, write=write, body=frame,
                    assumed=assumed)
    return Call(operation=operation, method="POST" if write else "GET", url=account.rest_url + home + path, step=step,
                write=write, headers={"Content-Type": "application/json"}, body=body, assumed=assumed)


def _segment(text: str) -> str:
    """One path segment. Raises ValueError for an empty one or dots alone, which would make another address of it."""
    if not text.strip().strip("."):
        raise ValueError(f"{text!r} cannot stand in an address")
    return "".join(part if _PLACEHOLDER.fullmatch(part) else quote(part, safe="")
                   for part in _PLACEHOLDER.split(text) if part)


_PLACEHOLDER = re.compile(r"(<from: [^<>/?#%]*>)")


# Judging replies.

_REASONS: Mapping[int, str] = {
    401: "the token is missing, wrong or withdrawn; it cannot be renewed here: put the right one into the account",
    403: "the token's subscription does not allow this (the API needs the Pro plan)",
    404: "CrossTrade knows no such address; look at the account's base_url",
    405: "CrossTrade does not take this at that address; look at the account's base_url",
    408: "NinjaTrader is closed, its add-on is disconnected, or it did not answer in time",
}
"""What a status means where the page says it. 401 to 405 come from the door: nothing was done, unless the words doubt."""

_DOUBT = re.compile(r"timed?[ _-]?out|disconnected|not connected|offline|connection (?:lost|closed|reset)|unreachable"
                    r"|no (?:response|answer|reply)|n[o']t (?:answer|respond|reply)|(?:internal|server) error|bad gateway"
                    r"|unavailable|in progress")
"""Words of a 408 or 5xx under any other status or none: not to have been heard is not the same as nothing done."""
_USED = re.compile(r"duplicate|already (?:exists|used|in use|been used)|cannot be reused|can not be reused")
"""Words of a refused order id, which an earlier send may have used. (A burnt OCO id is a plain refusal.)"""
_NO_SUCH_ORDER = re.compile(r"\border\b.*\bnot[ _]found\b(?!.*terminal)|unknown[ _]order|order_not_found|no such order"
                            r"|no (?:lifecycle|events|history)\b.*\border\b")
"""Words of a read that knows no such order. A cancel's "or already terminal" leaves open whether it was there."""
_NOT_OF_AN_ORDER = re.compile(r"account|instrument|command|endpoint|\bapi\b|unknown[ _]order[ _]?type|connect")
"""Words of a read that did not get as far as the order."""
_GONE = "not found or already terminal"  # crosstrade.io/docs/api/orders/post-cancel-order: stable, may be matched
_NONE_OPEN = "no positions found"  # the page of positions/close: "No positions found for instrument '…'"


def _judge(call: Call, reply: Reply) -> tuple[Mapping[str, Any], Rejected | Unknown | None]:
    """(the reply's fields, None for a yes, else why not). A definite no has to be said; silence is doubt."""
    if reply.seen is not None:
        return _as_heard(call, reply.seen)
    found = _fields_of(reply)
    if reply.not_executed:
        return found, Rejected(reason=f"not sent, and not tried again: {_told(reply, found)}")
    if reply.status is None:
        return found, Unknown(reason=f"no full answer from CrossTrade: {reply.words}")
    success, said = found.get("success"), _said(found)
    if _is_2xx(reply):
        if success is True and _has_error(found):
            return found, _open(call, found, f"CrossTrade said yes and named an error: {said or reply.words}")
        if success is True:
            return found, None
        # Over the WebSocket a failure has no status, and the pages' 400s hold `error` alone.
        bare_error = call.method == "WS" and "success" not in found and isinstance(found.get("error"), str)
        if (success is False or bare_error) and not _DOUBT.search(said.casefold()):
            return found, _refusal(call, reply, found)
        return found, Unknown(reason=f"CrossTrade's answer leaves it open: {said or reply.words}")
    if 400 <= reply.status < 500 and reply.status != 408 and _DOUBT.search((said or reply.words).casefold()):
        return found, Unknown(reason=f"CrossTrade's answer leaves it open: {said or reply.words}")
    if reply.status in (401, 403, 404, 405) and _no_yes(found):
        return found, Rejected(reason=_told(reply, found))
    if 400 <= reply.status < 500 and reply.status != 408 and isinstance(found.get("error"), str) and _no_yes(found):
        return found, _refusal(call, reply, found)
    return found, Unknown(reason=_told(reply, found))


def _has_error(found: Mapping[str, Any]) -> bool:
    """Whether `error` holds anything. (NinjaTrader's error of a sound order is `NoError`.)"""
    return bool(found.get("error")) and _letters(found["error"]) != "noerror"


def _open(call: Call, found: Mapping[str, Any], why: str) -> Unknown:
    """Doubt that keeps the id which the answer to a place gave, for the look-up."""
    order_id = found.get("orderId")
    named = call.operation == "place" and isinstance(order_id, str) and _usable(order_id)
    return Unknown(reason=why, broker_ids={"order": str(order_id)} if named else {})


def _as_heard(call: Call, seen: Seen) -> tuple[Mapping[str, Any], Rejected | None]:
    """What a look-up saw of a write, in place of the answer that was not heard: executed, unless it was refused."""
    if call.operation == "place" and seen.broker_status == "rejected":
        return {}, Rejected(reason=f"NinjaTrader rejected it: {seen.reason or 'it tells no reason'}")
    # An order that shows no id of its own was found by ours, which then is an id that the add-on knows.
    return {"success": True, "orderId": seen.broker_ids.get("order") or _field(call, "orderId")}, None


def _refusal(call: Call, reply: Reply, found: Mapping[str, Any]) -> Rejected | Unknown:
    """A no in so many words, unless it contradicts itself or says that the order is there already."""
    said = _said(found) or reply.words
    if call.operation == "place":
        ours, theirs = _field(call, "orderId"), found.get("orderId")
        if isinstance(theirs, str) and theirs.strip() and theirs != ours:
            return _open(call, found, f"CrossTrade gave an order id and a failure at once: {said}")
        if _USED.search(said.casefold()) and "oco" not in said.casefold():
            return Unknown(reason=f"CrossTrade says the id was used before: an earlier send may stand: {said}")
    return Rejected(reason=f"CrossTrade refused it: {said}")


def _placed(call: Call, reply: Reply) -> Accepted | Rejected | Unknown:
    """A place: `success: true` and an order id."""
    found, verdict = _judge(call, reply)
    if verdict is not None:
        return verdict
    order_id = found.get("orderId")
    if not (isinstance(order_id, str) and _usable(order_id)):
        return Unknown(reason=f"CrossTrade said yes without an order id: {reply.words}")
    ids = {"order": order_id}
    if oco_id := _field(call, "ocoId"):
        ids["oco"] = str(oco_id)
    if seen := reply.seen:
        return Accepted(broker_ids=ids, broker_status=seen.broker_status, reason=seen.reason)
    return Accepted(broker_ids=ids, reason=_warning(found))


def _withdrawn(call: Call, reply: Reply) -> Accepted | Rejected | Unknown:
    """A cancel: an order that is gone already is as good as cancelled; the reason says so."""
    found, verdict = _judge(call, reply)
    if isinstance(verdict, Rejected | Unknown):
        if isinstance(verdict, Rejected) and not reply.not_executed and _GONE in _said(found).casefold():
            return Accepted(reason="was gone already")
        return verdict
    return Accepted()


def _fields_of(reply: Reply) -> Mapping[str, Any]:
    """A reply's fields, flat or under `data`. Nothing for one that is no strict JSON; a list is `data`."""
    found = reply.json
    if isinstance(found, list):
        return {"data": found}
    if not isinstance(found, dict):
        return {}
    inner = found.get("data")
    if not isinstance(inner, dict):
        return found
    if "success" in inner and "success" in found and inner["success"] is not found["success"]:
        return {**inner, **found, "success": "contradicts itself"}
    outer = {name: value for name, value in found.items() if name != "data" and (value is not None or name not in inner)}
    return {**inner, **outer}


def _said(found: Mapping[str, Any]) -> str:
    """The broker's own words for a failure, on one line."""
    said = [_one_line(found.get(name)) for name in ("error", "detail", "message", "did_you_mean")]
    if said[3]:
        said[3] = f"did you mean {said[3]}?"
    return ": ".join(dict.fromkeys(part for part in said if part))


def _one_line(value: object) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in value).split())[:300] if (
        isinstance(value, str)) else ""


def _told(reply: Reply, found: Mapping[str, Any]) -> str:
    meaning = _REASONS.get(reply.status or 0, "")
    if not meaning and reply.status is not None and 300 <= reply.status < 400:
        meaning = "this is no address of CrossTrade's API; look at the account's base_url"
    words = _said(found) and f"HTTP {reply.status}: {_said(found)}" if reply.status is not None else ""
    return _joined(words or reply.words, meaning)


def _warning(found: Mapping[str, Any]) -> str:
    return _one_line(found.get("warning"))


def _field(call: Call, name: str) -> object:
    """A field of what was sent, on either transport."""
    body = call.body.get("args", {}) if call.method == "WS" else call.body
    return body.get(name) if isinstance(body, Mapping) else None


def _cancelled_id(call: Call) -> str:
    """The order that a cancel names, on either transport."""
    if call.method == "WS":
        return str(_field(call, "orderId") or "")
    return unquote(call.url.rpartition("/cancel")[0].rpartition("/")[2])


def _says_rate_limit(reply: Reply) -> bool:
    found = _fields_of(reply)
    plain = re.sub(r"[^a-z]+", " ", str(found.get("error", "")).casefold()).strip()
    return (reply.status or 500) < 500 and _no_yes(found) and plain == "rate limit exceeded"


def _wait_of(reply: Reply) -> tuple[float, bool]:
    """(seconds, whether they were told) by the Retry-After header or the body's `retryAfter`; else a full burst's."""
    wait, told = retry_after_s(reply), True
    if wait is None:
        found = _fields_of(reply)
        named = found.get("retryAfter", found.get("retry_after"))
        if isinstance(named, int | Decimal) and not isinstance(named, bool) and named > 0:
            wait, told = (float(named), True) if named <= 1000 else (float(named) / 1000, False)  # milliseconds, perhaps
        else:
            wait, told = _REFILL_S, False
    return min(max(wait, 1.0), LONGEST_S), told


def _state(value: object) -> str | None:
    return _STATES.get(_letters(value))


def _letters(value: object) -> str:
    return re.sub(r"[^a-z]", "", value.casefold()) if isinstance(value, str) else ""


def _no_yes(found: Mapping[str, Any]) -> bool:
    """Whether a failure is told by `success: false` or by its absence; anything else contradicts a failure."""
    return found.get("success") is None or found.get("success") is False


def _usable(order_id: str) -> bool:
    """Whether a text can be an order's id: something in it, printable, and no address of its own."""
    return bool(order_id.strip().strip(".")) and order_id.isprintable() and len(order_id) <= 200


def _is_2xx(reply: Reply) -> bool:
    return reply.status is not None and 200 <= reply.status < 300


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
