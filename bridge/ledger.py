"""The ledger: the one module that knows Redis.

What is here is durable when the method that put it there returns (with `appendfsync always`). Every change is one
atomic script that is safe to repeat, because the client library sends again by itself on a lost connection.

Keys, all of one lane under the hash tag of its account, so that the same code runs on a cluster:

    bridge:home:<template>                 the account in whose slot the template's alerts live, kept for ever
    bridge:accounts                        every account that has had an order or an alert
    bridge:{A}:same:<template>:<key>       dedupe key of an alert, with the first alert's id        (expires)
    bridge:{A}:alert:<id>                  hash: an alert with its rendered orders
    bridge:{A}:alerts                      sorted set: alert ids by receipt (µs, see rank in lua/_lane.lua)
    bridge:{A}:order:<id>                  hash: an order and its state
    bridge:{A}:history:<id>                list: [state, ms, reason] in order
    bridge:{A}:calls:<id>                  list: recorded calls and replies in order
    bridge:{A}:lane                        stream: ids of orders to be handled, oldest first
    bridge:{A}:lease                       hash: owner, fence, until
    bridge:{A}:clock                       hash: last, behind (see lua/_lane.lua)
    bridge:{A}:orders                      sorted set: order ids by creation (µs, as above)
    bridge:{A}:open                        sorted set: orders that may still work at the broker, by when they end
    bridge:{A}:waiting                     sorted set: orders that wait for a person
    bridge:{A}:ends                        sorted set: ended orders by their end
    bridge:{A}:lookups                     sorted set: accepted orders whose look-up is due
    bridge:{login:L}:token / hold / lock   a log-in's token (encrypted), wait, and owner
    bridge:{counter:C}                     a counter for a broker's integer ids
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Any, cast

import redis
import redis.backoff
import redis.retry

from bridge.call import Seen
from bridge.errors import LedgerAway
from bridge.life import sources
from bridge.numbers import dump_json, load_own_json, shortest
from bridge.order import Order, order_from_json
from bridge.record import Delivery, Enqueued, NewOrder
from bridge.views import alert_view, calls_view, legs_view, order_view

_SOCKET_TIMEOUT_S = 1.5
"""Two tries have to fit into the 3 s after which TradingView gives up, so that 503 is still heard."""
_SAME_DELIVERY_MS = 60_000
"""How long a delivery that is its own key is remembered, for the client library's own resending."""

_REFUSALS = (redis.exceptions.ReadOnlyError, redis.exceptions.OutOfMemoryError, redis.exceptions.BusyLoadingError,
             redis.exceptions.NoPermissionError, redis.exceptions.AuthenticationError)
_AWAY_WORDS = ("MISCONF", "NOREPLICAS", "LOADING", "READONLY", "OOM", "BUSY", "CLUSTERDOWN", "MASTERDOWN", "NOAUTH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to handle a lane. `fence` travels with every change of state."""

    account: str
    owner: str
    fence: int
    now_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An order as the ledger holds it.

    Times are the lane's clock in ms; `age_ms` is its age at `now_ms`; `rank` grows with each order of the lane.
    """

    id: str
    alert: str
    template: str
    index: int
    account: str
    broker: str
    order: Order
    state: str
    reason: str
    now_ms: int
    age_ms: int
    max_age_ms: int
    created_ms: int
    rank: int
    submitted_ms: int | None
    attempt: int
    fence: int
    deadline_ms: int
    records: int
    follows: str
    dry_run: bool
    counter: int | None
    client_order_id: str
    broker_ids: Mapping[str, str]
    broker_status: str
    doubt_ms: int

    @property
    def expired(self) -> bool:
        """Whether it waited longer than its template allows."""
        return self.age_ms > self.max_age_ms


class Ledger:
    """A thread-safe connection to the ledger; it connects on first use.

    Every method raises LedgerAway when Redis cannot be reached or cannot write: then nothing is certain but that asking
    again is safe.
    """

    def __init__(self, url: str, *, retention_ms: int = 90 * 86_400_000) -> None:
        self._redis = redis.Redis.from_url(
            url, decode_responses=True, socket_timeout=_SOCKET_TIMEOUT_S, socket_connect_timeout=_SOCKET_TIMEOUT_S,
            retry=redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), 2,
                                    supported_errors=(redis.exceptions.ConnectionError,)),
            health_check_interval=0, protocol=2)
        self._waiting = redis.Redis.from_url(
            url, decode_responses=True, socket_timeout=30, socket_connect_timeout=_SOCKET_TIMEOUT_S,
            retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0), protocol=2)
        self._retention_ms = retention_ms
        self._scripts = {name: self._redis.register_script(text) for name, text in _read_scripts().items()}
        self._homes: dict[str, str] = {}
        self._known: set[str] = set()

    def close(self) -> None:
        """Give the connections back."""
        self._redis.close()
        self._waiting.close()

    # -- health ------------------------------------------------------------------------------------------------------

    def ping(self) -> None:
        """Raises LedgerAway when Redis does not answer."""
        with _away():
            self._redis.ping()

    def check_writable(self) -> None:
        """A tiny durable write. Raises LedgerAway when an alert could not be accepted."""
        with _away():
            self._redis.set("bridge:probe", "1", px=60_000)

    # -- intake ------------------------------------------------------------------------------------------------------

    def home_of(self, template: str, first_account: str) -> str:
        """The account in whose slot this template's alerts live: the first that was ever named for it."""
        if template not in self._homes:
            with _away():
                key = f"bridge:home:{template}"
                self._redis.set(key, first_account, nx=True)
                self._homes[template] = cast(str, self._redis.get(key)) or first_account
        return self._homes[template]

    def enqueue(self, delivery: Delivery) -> Enqueued:
        """Take an alert in with all its orders, or find that it is a duplicate. Safe to repeat, even half-way."""
        self._know({delivery.home, *(order.account for order in delivery.orders)})
        home = delivery.home
        at_home = [order for order in delivery.orders if order.account == home]
        half = len(at_home) < len(delivery.orders)
        fields = _alert_fields(delivery, half=half)
        keys = [_same(delivery.home, delivery.template, delivery.key), _key(home, "alert", delivery.id),
                *(_key(home, name) for name in ("alerts", "clock", "lane", "orders", "ends")),
                *_order_keys(home, at_home)]
        args: list[Any] = [delivery.id, delivery.nonce, delivery.dedupe_ms or _SAME_DELIVERY_MS,
                           int(delivery.takes_key), delivery.fingerprint, len(fields), *_flat(fields),
                           len(at_home), *_order_args(delivery, at_home)]
        answer = self._run("enqueue", keys, args)
        if answer[0] == "duplicate":
            orders = self._completed(home, answer[1])
            return Enqueued(alert=delivery.id, duplicate_of=answer[1], conflict=bool(answer[2]), orders=orders)
        if half:
            self._complete(home, delivery)
        return Enqueued(alert=delivery.id, orders=tuple(_answer(order.id, order.account, order.state, order.reason)
                                                        for order in delivery.orders))

    def find_duplicate(self, home: str, template: str, key: str) -> Enqueued | None:
        """The alert that holds this key, if there is one."""
        with _away():
            first = cast("str | None", self._redis.hget(_same(home, template, key), "alert"))
        if not first:
            return None
        return Enqueued(alert=first, duplicate_of=first, orders=self._completed(home, first))

    def _join(self, account: str, delivery: Delivery, orders: Sequence[NewOrder]) -> None:
        keys = [_key(account, name) for name in ("clock", "lane", "orders", "ends")] + _order_keys(account, orders)
        self._run("join", keys, [len(orders), *_order_args(delivery, orders)])

    def _completed(self, home: str, alert: str) -> tuple[Mapping[str, Any], ...]:
        """The orders of an alert as they stand now; one left half-written is completed from its stored orders first."""
        with _away():
            found = cast("dict[str, str]", self._redis.hgetall(_key(home, "alert", alert)))
        orders = load_own_json(found.get("orders") or "[]")
        if found.get("half"):
            waited_ms = max(0, self._now(home) - int(found["received"]))
            self._complete(home, _other_lanes(home, alert, found, orders, waited_ms))
        with _away():
            pipe = self._redis.pipeline(transaction=False)
            for order in orders:
                pipe.hmget(_key(order["account"], "order", order["id"]), "state", "reason")
            states = pipe.execute()
        return tuple(_answer(order["id"], order["account"], state or order["state"], reason or "")
                     for order, (state, reason) in zip(orders, states, strict=True))

    def _complete(self, home: str, delivery: Delivery) -> None:
        """Bring the orders of other accounts into their lanes, then note that the alert is whole."""
        for account in sorted({order.account for order in delivery.orders} - {home}):
            self._join(account, delivery, [order for order in delivery.orders if order.account == account])
        with _away():
            self._redis.hset(_key(home, "alert", delivery.id), "half", "")

    def _know(self, accounts: set[str]) -> None:
        if new := accounts - self._known:
            with _away():
                self._redis.sadd("bridge:accounts", *sorted(new))
            self._known |= new

    # -- lanes -------------------------------------------------------------------------------------------------------

    def take_lease(self, account: str, owner: str, ttl_ms: int) -> Lease | None:
        """Own the lane of `account`, or go on owning it; None while another worker does."""
        fence, now = self._run("lease", [_key(account, "lease"), _key(account, "clock")], [owner, ttl_ms])
        return Lease(account=account, owner=owner, fence=fence, now_ms=now) if fence else None

    def release_lease(self, lease: Lease) -> None:
        """Give the lane up at once."""
        self._run("release", [_key(lease.account, "lease")], [lease.owner, lease.fence])

    def lane(self, account: str, after: str = "", count: int = 50) -> list[tuple[str, str]]:
        """The oldest `count` of the lane behind the entry `after`: (entry, order id)."""
        with _away():
            entries = cast("list[tuple[str, dict[str, str]]]", self._redis.xrange(
                _key(account, "lane"), min=f"({after}" if after else "-", count=count))
        return [(entry, values["order"]) for entry, values in entries]

    def set_aside(self, lease: Lease, order: str, entry: str, reason: str) -> str:
        """Take an order that cannot be handled off the lane, for a person; its state then, or "lost"."""
        keys = [_key(lease.account, "lease"), _key(lease.account, "clock"), _key(lease.account, "order", order),
                _key(lease.account, "history", order), _key(lease.account, "lane"), _key(lease.account, "waiting")]
        answer = self._run("set_aside", keys, [lease.owner, lease.fence, order, entry, reason])
        return str(answer[-1])

    def lane_lengths(self) -> dict[str, int]:
        """How many orders stand in each lane that there is."""
        with _away():
            return {account: int(self._redis.xlen(_key(account, "lane"))) for account in self._accounts()}

    def wait_after(self, account: str, entry: str, seconds: float) -> str:
        """Wait until the lane holds an entry newer than `entry`, at most `seconds`; returns the newest id known."""
        with _away():
            found = cast("Any", self._waiting.xread({_key(account, "lane"): entry}, count=1,
                                                    block=max(1, int(seconds * 1000))))
        if not found:
            return entry
        entries = next(iter(found.values()))[0] if isinstance(found, dict) else found[0][1]
        return str(entries[-1][0])

    def load(self, account: str, order: str) -> Stored | None:
        """One order with its age; None when there is none."""
        found = self._run("load", [_key(account, "order", order), _key(account, "clock")], [])
        values = dict(zip(found[1::2], found[2::2], strict=True))
        return _stored(values, int(found[0])) if values else None

    def state_of(self, account: str, order: str) -> str:
        """The state of one order, or ''."""
        with _away():
            return cast("str | None", self._redis.hget(_key(account, "order", order), "state")) or ""

    def open_orders(self, account: str) -> list[Stored]:
        """Orders of this lane that may still work at the broker, and those that are unknown, newest first."""
        self._lapse(account)
        with _away():
            ids = set(cast("list[str]", self._redis.zrange(_key(account, "open"), 0, -1)))
            ids |= set(cast("list[str]", self._redis.zrange(_key(account, "waiting"), 0, -1)))
        found = [stored for each in ids if (stored := self.load(account, each))]
        return sorted((stored for stored in found if stored.state in ("accepted", "unknown")),
                      key=lambda stored: stored.rank, reverse=True)

    def _lapse(self, account: str) -> None:
        self._run("lapse", [_key(account, name) for name in ("open", "ends", "clock")], [])

    def _now(self, account: str) -> int:
        return int(self._run("load", [_key(account, "order", "-"), _key(account, "clock")], [])[0])

    def next_number(self, counter: str) -> int:
        """The next number of a broker's integer ids; it starts at the epoch's seconds and never repeats."""
        return int(self._run("counter", [f"bridge:{{counter:{counter}}}"], []))

    def submit(self, lease: Lease, stored: Stored, *, record: int, attempt: int, send_within_ms: int,
               client_order_id: str, counter: int | None, look_at_age: bool,
               records: Sequence[str]) -> tuple[str, int | str]:
        """Put a write on record before its first byte leaves.

        Returns ("ok", send deadline), ("expired", age), ("lost", "") or ("state", the unexpected state).
        """
        keys = [_key(lease.account, "lease"), _key(lease.account, "clock"),
                *_keys_of(stored, "order", "history", "calls")]
        answer = self._run("submit", keys, [lease.owner, lease.fence, record, attempt, send_within_ms, client_order_id,
                                            "" if counter is None else counter, int(look_at_age), len(records),
                                            *records])
        return answer[0], (answer[1] if len(answer) > 1 else "")

    def settle(self, lease: Lease, stored: Stored, event: str, state: str, *, nonce: str, reason: str, done: bool = True,
               person: bool = False, open_for_ms: int | None | str = None, look_up_in_ms: int | None = None,
               ended: bool = False, fields: Mapping[str, Any] | None = None, records: Sequence[str] = ()) -> str:
        """Put on record what an order came to: "ok", "lost" (another worker owns the lane), or the unexpected state.

        `event` is a word of bridge.life: the order has to be in a state that it may come from. `done` takes it off the
        lane. Repeating it with the same `nonce` changes nothing. `open_for_ms` says how long it may work at the broker: None not at all, "forever", or ms.
        """
        given = _flat(fields or {})
        keys = [_key(lease.account, "lease"), _key(lease.account, "clock"),
                *_keys_of(stored, "order", "history", "calls"),
                *(_key(lease.account, name) for name in ("lane", "open", "waiting", "ends", "lookups"))]
        answer = self._run("settle", keys, [
            lease.owner, lease.fence, nonce, stored.id, ",".join(sources(event)), state, reason, int(done),
            int(person), "" if open_for_ms is None else open_for_ms, "" if look_up_in_ms is None else look_up_in_ms,
            int(ended), len(given) // 2, *given, len(records), *records])
        return str(answer[1]) if answer[0] == "state" else str(answer[0])

    def see(self, lease: Lease, stored: Stored, seen: Seen | None, records: Sequence[str] = ()) -> None:
        """Put on record what a look-up saw of an accepted order; None: nothing, it is only ticked off."""
        given = _flat(seen_fields(stored, seen)) if seen else []
        keys = [_key(lease.account, "lease"), _key(lease.account, "clock"),
                *_keys_of(stored, "order", "history", "calls"),
                *(_key(lease.account, name) for name in ("open", "ends", "lookups"))]
        self._run("seen", keys, [lease.owner, lease.fence, stored.id, seen.broker_status if seen else "",
                                 int(bool(seen and seen.all_ended)), seen.reason if seen else "", len(given) // 2, *given,
                                 len(records), *records])

    def due_look_ups(self, account: str, count: int = 100) -> list[str]:
        """Ids of accepted orders whose look-up is due."""
        with _away():
            return cast("list[str]", self._redis.zrangebyscore(_key(account, "lookups"), "-inf", self._now(account),
                                                               start=0, num=count))

    def keep_evidence(self, stored: Stored, records: Sequence[str]) -> None:
        """Append records to an order's calls, whoever owns the lane now: a reply is always kept."""
        with _away():
            self._redis.rpush(_key(stored.account, "calls", stored.id), *map(_encodable, records))

    def retire(self, account: str, most: int = 100) -> int:
        """Forget ended orders and old alerts past the retention; returns how many orders went."""
        self._lapse(account)
        before = self._now(account) - self._retention_ms
        with _away():
            ids = cast("list[str]", self._redis.zrangebyscore(_key(account, "ends"), "-inf", before, start=0, num=most))
        if ids:
            keys = [_key(account, name) for name in ("ends", "orders", "waiting")]
            for each in ids:
                keys += [_key(account, name, each) for name in ("order", "history", "calls")]
            self._run("retire", keys, list(ids))
        with _away():
            alerts = cast("list[str]", self._redis.zrangebyscore(_key(account, "alerts"), "-inf", before * 1000,
                                                                 start=0, num=most))
            for each in alerts:
                self._redis.delete(_key(account, "alert", each))
                self._redis.zrem(_key(account, "alerts"), each)
        return len(ids)

    # -- log-ins -----------------------------------------------------------------------------------------------------

    def token(self, login: str) -> str | None:
        """The log-in's token as it was stored (encrypted by the session), or None."""
        with _away():
            return cast("str | None", self._redis.get(_login(login, "token")))

    def store_token(self, login: str, sealed: str, keep_ms: int) -> None:
        """Share a token with all workers."""
        with _away():
            self._redis.set(_login(login, "token"), sealed, px=max(1, keep_ms))

    def drop_token(self, login: str, sealed: str) -> None:
        """Forget a token that is dead, unless another has been stored meanwhile."""
        with _away():
            if self._redis.get(_login(login, "token")) == sealed:
                self._redis.delete(_login(login, "token"))

    def lock_login(self, login: str, owner: str, ms: int) -> bool:
        """Whether this owner may log in now; others wait for the token."""
        return bool(self._run("login_lock", [_login(login, "lock")], [owner, ms]))

    def unlock_login(self, login: str, owner: str) -> None:
        """Let others log in."""
        with _away():
            if self._redis.get(_login(login, "lock")) == owner:
                self._redis.delete(_login(login, "lock"))

    def hold_login(self, login: str, reason: str, ms: int) -> None:
        """Everything for this log-in waits, in every worker."""
        with _away():
            self._redis.set(_login(login, "hold"), reason, px=max(1, ms))

    def login_hold(self, login: str) -> tuple[str, int] | None:
        """(reason, ms left) while everything for this log-in waits."""
        with _away():
            pipe = self._redis.pipeline(transaction=False)
            pipe.get(_login(login, "hold"))
            pipe.pttl(_login(login, "hold"))
            reason, left = pipe.execute()
        return (reason, left) if reason and left > 0 else None

    # -- what happened -----------------------------------------------------------------------------------------------

    def waiting_count(self, accounts: Iterable[str]) -> int:
        """How many orders wait for a person."""
        with _away():
            return sum(int(self._redis.zcard(_key(account, "waiting"))) for account in accounts)

    def orders(self, *, limit: int | None = 100, waiting: bool = False) -> list[dict[str, Any]]:
        """Orders, newest first, as `bridge orders --json` prints them."""
        return [self._order_view(account, each) for account, each in
                self._newest("waiting" if waiting else "orders", limit)]

    def order(self, order: str) -> dict[str, Any] | None:
        """One order with its legs and its calls with their replies; None when there is none."""
        with _away():
            for account in self._accounts():
                if not self._redis.exists(_key(account, "order", order)):
                    continue
                pipe = self._redis.pipeline(transaction=True)  # one moment: the state fits the calls
                pipe.hgetall(_key(account, "order", order))
                pipe.lrange(_key(account, "history", order), 0, -1)
                pipe.lrange(_key(account, "calls", order), 0, -1)
                values, history, records = pipe.execute()
                return {**order_view(values, history), "legs": legs_view(values),
                        "order": load_own_json(values["order"]), "calls": calls_view(records)}
        return None

    def alerts(self, *, limit: int | None = 100) -> list[dict[str, Any]]:
        """Alerts, newest first, as `bridge alerts --json` prints them."""
        found = []
        for account, each in self._newest("alerts", limit):
            with _away():
                values = cast("dict[str, str]", self._redis.hgetall(_key(account, "alert", each)))
            if values:
                found.append(alert_view(each, values))
        return found

    def _accounts(self) -> list[str]:
        return sorted(cast("set[str]", self._redis.smembers("bridge:accounts")))

    def _newest(self, index: str, limit: int | None) -> Iterator[tuple[str, str]]:
        with _away():
            found = [(score, account, each) for account in self._accounts()
                     for each, score in cast("list[tuple[str, float]]", self._redis.zrange(
                         _key(account, index), 0, -1 if limit is None else limit - 1, desc=True, withscores=True))]
        found.sort(reverse=True)
        yield from ((account, each) for _, account, each in found[:limit])

    def _order_view(self, account: str, order: str) -> dict[str, Any]:
        with _away():
            pipe = self._redis.pipeline(transaction=True)
            pipe.hgetall(_key(account, "order", order))
            pipe.lrange(_key(account, "history", order), 0, -1)
            values, history = pipe.execute()
        return order_view(values, history)

    def _run(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        with _away():
            return self._scripts[name](keys=keys, args=[_encodable(each) for each in args])


@contextmanager
def _away() -> Iterator[None]:
    """Turn Redis's own troubles into LedgerAway; anything else is a fault of ours and stays what it is."""
    try:
        yield
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, *_REFUSALS) as error:
        raise LedgerAway(f"the ledger (Redis) is away: {_words(error)}") from None
    except redis.exceptions.ResponseError as error:
        if str(error).startswith(_AWAY_WORDS) or any(word in str(error) for word in ("MISCONF", "OOM command")):
            raise LedgerAway(f"the ledger (Redis) cannot write: {_words(error)}") from None
        raise


def _encodable(value: Any) -> Any:
    """A text that a broker or sender wrote may hold half a surrogate pair; it is kept escaped."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "backslashreplace").decode()
    return value


def _words(error: Exception) -> str:
    return str(error).split("\n")[0][:200] or type(error).__name__


def _read_scripts() -> dict[str, str]:
    folder = resources.files("bridge") / "lua"
    texts = {each.name.removesuffix(".lua"): each.read_text() for each in folder.iterdir()
             if each.name.endswith(".lua")}
    prelude = texts.pop("_lane")
    scripts = {}
    for name, text in texts.items():
        first, rest = ("", text) if not text.startswith("#!") else text.split("\n", 1)
        scripts[name] = (f"{first}\n" if first else "") + prelude + rest
    return scripts


# -- keys and fields ---------------------------------------------------------------------------------------------------


def _key(account: str, *parts: str) -> str:
    return f"bridge:{{{account}}}:{':'.join(parts)}"


def _same(home: str, template: str, key: str) -> str:
    return _key(home, "same", template, key)


def _login(login: str, what: str) -> str:
    return f"bridge:{{login:{login}}}:{what}"


def _keys_of(stored: Stored, *names: str) -> list[str]:
    return [_key(stored.account, name, stored.id) for name in names]


def _order_keys(account: str, orders: Iterable[NewOrder]) -> list[str]:
    return [_key(account, name, order.id) for order in orders for name in ("order", "history")]


def _order_args(delivery: Delivery, orders: Iterable[NewOrder]) -> list[Any]:
    args: list[Any] = []
    for order in orders:
        fields = _order_fields(delivery, order)
        args += [len(fields), *_flat(fields)]
    return args


def _flat(fields: Mapping[str, Any]) -> list[Any]:
    return [each for pair in fields.items() for each in pair]


def _order_fields(delivery: Delivery, new: NewOrder) -> dict[str, Any]:
    order = new.order
    return {
        "id": new.id, "alert": delivery.id, "template": delivery.template, "index": new.index, "account": new.account,
        "broker": new.broker, "kind": order.kind, "symbol": order.symbol or "", "side": order.side or "",
        "quantity": "" if order.quantity is None else shortest(order.quantity), "ref": order.ref or "",
        "order": dump_json(order.to_json()), "state": new.state, "reason": new.reason, "age": delivery.age_ms,
        "max_age": new.max_age_ms, "follows": new.follows, "dry_run": int(new.dry_run), "client_order_id": new.id,
    }


def _alert_fields(delivery: Delivery, *, half: bool) -> dict[str, Any]:
    """An alert's fields. Orders of other lanes are kept whole, so that a half-written alert can be completed."""
    orders = []
    for new in delivery.orders:
        kept: dict[str, Any] = {"id": new.id, "account": new.account, "state": new.state}
        if new.account != delivery.home:
            kept |= {"index": new.index, "broker": new.broker, "order": new.order.to_json(), "reason": new.reason,
                     "max_age_ms": new.max_age_ms, "dry_run": new.dry_run, "follows": new.follows}
        orders.append(kept)
    return {"template": delivery.template, "state": delivery.state, "reason": delivery.reason, "body": delivery.body,
            "fields": dump_json(delivery.fields), "fingerprint": delivery.fingerprint, "age": delivery.age_ms,
            "orders": dump_json(orders), "half": "1" if half else ""}


def _other_lanes(home: str, alert: str, found: Mapping[str, str], orders: Sequence[Mapping[str, Any]],
                 waited_ms: int) -> Delivery:
    """The part of a stored alert that belongs to lanes other than its home, as old as it is by now."""
    away = tuple(NewOrder(**{**each, "order": order_from_json(each["order"])}) for each in orders if "order" in each)
    return Delivery(template=found.get("template", ""), home=home, id=alert, key="", dedupe_ms=0, nonce="",
                    fingerprint=found.get("fingerprint", ""), age_ms=int(found.get("age", 0)) + waited_ms,
                    body=found.get("body", ""), state=found.get("state", ""), orders=away)


def _answer(order: str, account: str, state: str, reason: str) -> dict[str, Any]:
    known = {"id": order, "account": account, "state": state}
    return {**known, "reason": reason} if reason else known


def _stored(values: Mapping[str, str], now: int) -> Stored:
    return Stored(
        id=values["id"], alert=values["alert"], template=values["template"], index=int(values["index"]),
        account=values["account"], broker=values["broker"], order=order_from_json(load_own_json(values["order"])),
        state=values["state"], reason=values["reason"], now_ms=now,
        age_ms=int(values["age"]) + now - int(values["enqueued"]), max_age_ms=int(values["max_age"]),
        created_ms=int(values["created"]), rank=int(values["rank"]), submitted_ms=_whole(values.get("submitted")),
        attempt=int(values.get("attempt", 0)), fence=int(values.get("fence", 0)),
        deadline_ms=int(values.get("deadline", 0)), records=int(values.get("records", 0)), follows=values["follows"],
        dry_run=values["dry_run"] == "1", counter=_whole(values.get("counter")),
        client_order_id=values["client_order_id"], broker_ids=json.loads(values.get("broker_ids", "{}")),
        broker_status=values.get("broker_status", ""),
        doubt_ms=int(values.get("doubt", 0)))


def _whole(text: str | None) -> int | None:
    return int(text) if text else None


def seen_fields(stored: Stored, seen: Seen) -> dict[str, Any]:
    """The fields of an order that a look-up fills in; ids that were known before stay."""
    fields: dict[str, Any] = {"broker_ids": dump_json({**stored.broker_ids, **seen.broker_ids})}
    if seen.legs:
        fields["legs"] = dump_json([dict(leg) for leg in seen.legs])
    return fields
