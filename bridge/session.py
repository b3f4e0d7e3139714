"""A log-in at a broker: its token, its budget and its waits, shared by every lane that uses it.

A token has one owner at a time, is shared with other workers through the ledger (encrypted) and renewed early. A reply
that means "nothing was done" (rate limit, penalty ticket, dead token) never reaches a plan: it becomes `Held`, or is
cured here.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import uuid
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

import structlog
from cryptography.fernet import Fernet, InvalidToken

from bridge.broker import Broker
from bridge.call import Call, Hold, LoginRefused, Reply, Token
from bridge.clock import epoch, monotonic
from bridge.errors import LedgerAway
from bridge.ledger import Ledger
from bridge.log import keep_secret
from bridge.transport import NotSent, Transport
from bridge.work import Account

_LOGIN_LOCK_MS = 60_000
_HOLD_LOOK_S = 0.25
"""How old our knowledge of a wait that another worker ran into may be."""
_AFTER_REFUSED_S = 3600.0
"""A refused log-in is not tried again by itself for this long: a few failures lock the user at the broker."""
_LONGEST_WAIT_S = 3600.0
_MOST_TICKETS = 100

log = structlog.get_logger("bridge.session")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The broker did nothing, or was not asked: the same call may be made again after `wait_s`.

    `reply` is the evidence where there was one. `ours`: it is our own budget that is used up, which no patience of the
    broker's has anything to do with.
    """

    reason: str
    wait_s: float
    person: bool = False
    reply: Reply | None = None
    ours: bool = False


class Bucket:
    """A token bucket in one process. Threads take from it one after the other."""

    def __init__(self, per_second: float | None, per_minute: float | None, burst: int | None) -> None:
        rates = [rate for rate in (per_second, per_minute / 60 if per_minute else None) if rate]
        self._rate = min(rates) if rates else None
        self._size = float(burst or (per_second or 1) if self._rate else 0)
        self._left = self._size
        self._at = monotonic()
        self._lock = threading.Lock()

    def take(self) -> float:
        """Take one; returns the seconds to wait instead when there is none."""
        if self._rate is None:
            return 0.0
        with self._lock:
            now = monotonic()
            self._left = min(max(self._size, 1.0), self._left + (now - self._at) * self._rate)
            self._at = now
            if self._left >= 1:
                self._left -= 1
                return 0.0
            return (1 - self._left) / self._rate


class Login:
    """One log-in in this process, for all lanes that share it. Thread-safe."""

    def __init__(self, broker: Broker, account: Account, ledger: Ledger, secret: str) -> None:
        self.broker, self.name, self._ledger = broker, account.login, ledger
        budget = account.budget
        self.bucket = Bucket(budget.per_second, budget.per_minute, budget.burst)
        self._fernet = Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"bridge tokens\0" + secret.encode()).digest()))
        known = json.dumps(dict(account.credentials), sort_keys=True).encode()
        self._refused_name = f"{self.name}:{hmac.new(secret.encode(), known, 'sha256').hexdigest()[:12]}"
        self._owner = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._held_until, self._held_reason, self._looked_at = 0.0, "", 0.0
        self._strikes = 0

    def hold(self) -> Held | None:
        """The wait that everything of this log-in is in, whoever ran into it."""
        now = monotonic()
        if now - self._looked_at > _HOLD_LOOK_S:
            self._looked_at = now
            if found := self._ledger.login_hold(self.name):
                self._held_reason, self._held_until = found[0], now + found[1] / 1000
        if now < self._held_until:
            return Held(reason=self._held_reason, wait_s=self._held_until - now)
        return None

    def wait(self, reason: str, seconds: float, *, grows: bool = False) -> float:
        """Everything of this log-in waits, in every worker; returns for how many seconds."""
        if grows:
            seconds = min(_LONGEST_WAIT_S, seconds * 2**self._strikes)
            self._strikes += 1
        self._held_reason, self._held_until = reason, monotonic() + seconds
        self._ledger.hold_login(self.name, reason, int(seconds * 1000))
        return seconds

    def succeeded(self) -> None:
        """The broker did what it was asked: the next wait is a short one again."""
        self._strikes = 0

    def token(self, account: Account, transport: Transport, dead: Token | None = None) -> Token | Held:
        """A token that is good for a while; logs in or renews when there is none. `dead` is one the broker refused."""
        with self._lock:
            known = self._token
            if known and known != dead and not self._is_old(known):
                return known
            stored = self._stored()
            if stored and stored != dead and not self._is_old(stored):
                self._token = stored
                return stored
            fresh = self._log_in(account, transport, None if dead else (known or stored), dead)
            if isinstance(fresh, Held) and known and known != dead and _still_valid(known):
                return known
            return fresh

    def _is_old(self, token: Token) -> bool:
        return token.expires_at is not None and token.expires_at - epoch() < self.broker.renew_before_s

    def _stored(self) -> Token | None:
        sealed = self._ledger.token(self.name)
        if not sealed:
            return None
        try:
            value, expires_at = json.loads(self._fernet.decrypt(sealed.encode()))
        except (InvalidToken, ValueError):
            return None  # sealed with another BRIDGE_SECRET: of no use, a new log-in replaces it
        return Token(value=value, expires_at=expires_at)

    def _log_in(self, account: Account, transport: Transport, old: Token | None, dead: Token | None) -> Token | Held:
        steps = self.broker.log_in(account, epoch(), old)
        try:
            call = next(steps)
        except StopIteration as done:
            return self._keep(done.value, share=False)
        if refused := self._ledger.login_hold(self._refused_name):
            return Held(reason=refused[0], wait_s=refused[1] / 1000)
        if not self._ledger.lock_login(self.name, self._owner, _LOGIN_LOCK_MS):
            return Held(reason="another worker is logging in", wait_s=0.3)
        try:
            stored = self._stored()
            if stored and stored not in (dead, old):
                self._token = stored
                return stored
            return self._keep(_drive(steps, call, transport), share=True)
        finally:
            self._ledger.unlock_login(self.name, self._owner)

    def _keep(self, got: Token | LoginRefused | Held, *, share: bool) -> Token | Held:
        if isinstance(got, Held):
            return got
        if isinstance(got, LoginRefused):
            seconds = _AFTER_REFUSED_S if got.wait_s is None else got.wait_s
            self._ledger.hold_login(self._refused_name, got.reason, int(seconds * 1000))
            log.error("told to a person: a log-in was refused and is not tried again for a while", login=self.name,
                      reason=got.reason, waits_s=round(seconds))
            return Held(reason=got.reason, wait_s=seconds, person=True)
        self._token = got
        keep_secret(got.value)
        if share:
            sealed = self._fernet.encrypt(json.dumps([got.value, got.expires_at]).encode()).decode()
            seconds = 86_400.0 if got.expires_at is None else max(1.0, got.expires_at - epoch())
            self._ledger.store_token(self.name, sealed, int(seconds * 1000))
        return got


def _still_valid(token: Token) -> bool:
    return token.expires_at is None or token.expires_at > epoch() + 5


def _drive(steps: Generator[Call, Any, Token | LoginRefused], call: Call,
           transport: Transport) -> Token | LoginRefused | Held:
    """Send a log-in's calls. They hold secrets and are neither recorded nor logged."""
    try:
        while True:
            answer = transport.send(call)
            if isinstance(answer, NotSent):
                return Held(reason=f"the log-in could not be sent: {answer.reason}", wait_s=1.0)
            call = steps.send(answer)
    except StopIteration as done:
        got: Token | LoginRefused = done.value
        return got


class Session:
    """What one lane sends through: its own connections, its log-in's token and waits."""

    def __init__(self, account: Account, login: Login, timeout_s: float) -> None:
        self.account, self.login = account, login
        self._broker = login.broker
        self._transport = Transport(timeout_s)
        self._tickets: dict[str, dict[str, Any]] = {}

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def send(self, call: Call, last_look: Callable[[], None] = lambda: None) -> Reply | NotSent | Held:
        """Send a call with this log-in, once. Only a dead token is cured here: renewed, and the call made again."""
        try:
            return self._once(call, last_look)
        except LedgerAway as away:  # asked before a byte leaves, or after a reply that means "nothing was done"
            return Held(reason=str(away), wait_s=0.5, ours=True)

    def _once(self, call: Call, last_look: Callable[[], None]) -> Reply | NotSent | Held:
        if held := self.login.hold():
            return held
        if wait_s := self.login.bucket.take():
            return Held(reason="the request budget of this log-in is used up", wait_s=wait_s, ours=True)
        token = self.login.token(self.account, self._transport)
        if isinstance(token, Held):
            return token
        reply = self._send(call, token, last_look)
        hold = None if isinstance(reply, NotSent) else self._broker.nothing_done(call, reply)
        if hold and hold.renew:
            fresh = self.login.token(self.account, self._transport, dead=token)
            if isinstance(fresh, Held):
                return replace(fresh, reply=reply if isinstance(reply, Reply) else None)
            if fresh == token:  # a token that a person has to renew
                return self._held(call, hold, reply) if hold.person and isinstance(reply, Reply) else reply
            reply = self._send(call, fresh, last_look)
            hold = None if isinstance(reply, NotSent) else self._broker.nothing_done(call, reply)
            if hold and hold.renew:
                return reply  # the same answer with a fresh token is the broker's no
        if hold and isinstance(reply, Reply):
            return self._held(call, hold, reply)
        if isinstance(reply, Reply) and self._tickets:
            self._tickets.pop(call.digest(), None)
        if isinstance(reply, Reply) and reply.status is not None:
            self.login.succeeded()
        return reply

    def _send(self, call: Call, token: Token, last_look: Callable[[], None]) -> Reply | NotSent:
        ticket = self._tickets.get(call.digest()) if self._tickets else None
        if ticket and isinstance(call.body, dict):
            call = replace(call, body={**call.body, **ticket})
        return self._transport.send(self._broker.dress(call, self.account, token, uuid.uuid4().hex), last_look)

    def _held(self, call: Call, hold: Hold, reply: Reply) -> Held:
        if hold.ticket:
            self._tickets[call.digest()] = dict(hold.ticket)
            while len(self._tickets) > _MOST_TICKETS:
                del self._tickets[next(iter(self._tickets))]
        wait_s = hold.wait_s or 30.0 * hold.renew
        if hold.whole_login:
            wait_s = self.login.wait(hold.reason, hold.wait_s, grows=hold.grows)
        if hold.person:
            log.error("the broker holds this log-in: a person has to look", account=self.account.name,
                      reason=hold.reason, waits_s=round(wait_s))
        return Held(reason=hold.reason, wait_s=wait_s, person=hold.person, reply=reply)
