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
import math
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import structlog
from cryptography.fernet import Fernet, InvalidToken

from bridge.broker import Broker
from bridge.budget import Allowance
from bridge.call import Call, Hold, LogIn, LoginRefused, Reply, Token
from bridge.clock import epoch, monotonic
from bridge.errors import LedgerAway
from bridge.ledger import Ledger
from bridge.log import keep_secret
from bridge.transport import NotSent, Transport
from bridge.work import Account

_LOGIN_LOCK_MS = 60_000
_HOLD_LOOK_S = 0.25
"""How old our knowledge of a wait that another worker ran into may be."""
_AFTER_REFUSED_S = 86_400.0
"""A log-in refused for good is not tried again with the same credentials for this long: failures lock the user."""
_PATIENCE_S = 15.0
"""Longest wait (budget, penalty) within a log-in; what takes longer is left to the next try."""
_SHORTEST_WAIT_S = 0.05
_TICKET_MS = 3_600_000
"""How long after its wait a log-in's penalty ticket is kept."""
_HOUR_MS = 3_600_000
_ANNOUNCED_S = 7200.0
"""How long before its end a token that a person has to renew is spoken of."""
WARM_AFTER_S = 12.0
"""A connection that was idle for this long is used once, so that it is still trusted with the next order: the transport
trusts none that was idle for KEEP_ALIVE_S."""
_WARM_WITHIN_S = 2.0
_WARM_AGAIN_S = 60.0
_LONGEST_WAIT_S = 3600.0
_MOST_TICKETS = 100
_USED_UP = "the request budget of this log-in is used up"

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


_ANOTHER_LOGS_IN = Held(reason="another worker is logging in", wait_s=0.3)


class Login:
    """One log-in in this process, for all lanes that share it. Thread-safe."""

    def __init__(self, broker: Broker, account: Account, ledger: Ledger, secret: str) -> None:
        self.broker, self.name, self._ledger = broker, account.login, ledger
        self.allowance = Allowance(account.budget, ledger, self.name)
        self._fernet = Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"bridge tokens\0" + secret.encode()).digest()))
        known = json.dumps(dict(account.credentials), sort_keys=True).encode()
        self._refused_name = f"{self.name}:{hmac.new(secret.encode(), known, 'sha256').hexdigest()[:12]}"
        self._owner = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._held_until, self._held_reason, self._looked_at = 0.0, "", 0.0
        self._strikes = 0

    # -- waits that all share ------------------------------------------------------------------------------------------

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

    # -- the token -----------------------------------------------------------------------------------------------------

    def token(self, account: Account, transport: Transport, dead: Token | None = None) -> Token | Held:
        """A token that is good for a while; logs in or renews when there is none. `dead` is one the broker refused."""
        if not self._lock.acquire(blocking=False):  # another thread renews it: what is still valid need not wait
            known = self._token
            if known and known != dead and _still_valid(known):
                return known
            self._lock.acquire()
        try:
            return self._good_token(account, transport, dead)
        finally:
            self._lock.release()

    def _good_token(self, account: Account, transport: Transport, dead: Token | None) -> Token | Held:
        if self._token == dead:
            self._token = None  # not used again, even if a new one has to wait
        known = self._token
        if known and not self._is_old(known):
            return known
        stored = self._stored(dead)
        if stored and not self._is_old(stored):
            self._token = stored
            return stored
        fresh = self._log_in(account, transport, None if dead else (known or stored), dead)
        if isinstance(fresh, Held) and known and _still_valid(known):
            return known
        return fresh

    def _is_old(self, token: Token) -> bool:
        return token.expires_at is not None and token.expires_at - epoch() < self.broker.renew_before_s

    def _stored(self, dead: Token | None = None) -> Token | None:
        """The token that all workers share; one that the broker refused is forgotten for all of them."""
        sealed = self._ledger.token(self.name)
        match self._opened(sealed):
            case [str(value), expires_at]:
                found = Token(value=value, expires_at=expires_at)
            case _:
                return None
        if sealed and found == dead:
            self._ledger.drop_token(self.name, sealed)
            return None
        return found

    def _seal(self, value: Any) -> str:
        return self._fernet.encrypt(json.dumps(value).encode()).decode()

    def _opened(self, sealed: str | None) -> Any:
        """What was sealed; None when there is nothing, or another BRIDGE_SECRET sealed it: then it is replaced."""
        try:
            return json.loads(self._fernet.decrypt(sealed.encode())) if sealed else None
        except (InvalidToken, ValueError):
            return None

    # -- logging in ----------------------------------------------------------------------------------------------------

    def _log_in(self, account: Account, transport: Transport, old: Token | None, dead: Token | None) -> Token | Held:
        steps = self.broker.log_in(account, epoch(), old)
        try:
            call = next(steps)
        except StopIteration as done:
            return self._keep(done.value, share=False)
        if refused := self._ledger.login_hold(self._refused_name):
            return Held(reason=refused[0], wait_s=refused[1] / 1000)
        if not self._ledger.lock_login(self.name, self._owner, _LOGIN_LOCK_MS):
            return _ANOTHER_LOGS_IN
        try:
            stored = self._stored()
            if stored and stored not in (dead, old):
                self._token = stored
                return stored
            patience_s = 0.0 if old and _still_valid(old) else _PATIENCE_S
            return self._keep(self._drive(steps, call, transport, monotonic() + patience_s), share=True)
        finally:
            self._ledger.unlock_login(self.name, self._owner)

    def _drive(self, steps: LogIn, call: Call, transport: Transport, ends_at: float) -> Token | LoginRefused | Held:
        """Send a log-in's calls. They hold secrets and are neither recorded nor logged."""
        try:
            while True:
                answer = self._ask(call, transport, ends_at)
                if isinstance(answer, Held):
                    return answer
                call = steps.send(answer)
        except StopIteration as done:
            got: Token | LoginRefused = done.value
            return got
        finally:
            steps.close()

    def _ask(self, call: Call, transport: Transport, ends_at: float) -> Reply | Held:
        """One call of a log-in, repeated while the broker did nothing and the wait is short; a longer one is Held."""
        while True:
            counted = uuid.uuid4().hex
            if held := self._may_ask(call, counted, ends_at):
                return held
            answer = transport.send(self._with_ticket(call))
            if isinstance(answer, NotSent):
                self._ledger.uncount_log_in(self.name, counted)
                return Held(reason=f"the log-in could not be sent: {answer.reason}", wait_s=1.0)
            hold = self.broker.nothing_done(call, answer)
            if hold is None:
                return answer
            wait_s = max(hold.wait_s, _SHORTEST_WAIT_S)
            if hold.ticket:
                self._ledger.store_log_in_ticket(self.name, self._seal([call.digest(), dict(hold.ticket)]),
                                                 int(wait_s * 1000) + _TICKET_MS)
            if hold.whole_login:
                wait_s = self.wait(hold.reason, wait_s, grows=hold.grows)
            if hold.person or hold.renew:  # waiting alone does not cure it: the broker's file says what it means
                return answer
            if monotonic() + wait_s > ends_at:
                self._ledger.hold_login(self._refused_name, hold.reason, int(wait_s * 1000))
                return Held(reason=hold.reason, wait_s=wait_s)
            threading.Event().wait(wait_s)

    def _may_ask(self, call: Call, counted: str, ends_at: float) -> Held | None:
        """Whether a call of a log-in may leave: within the budget, as the one who logs in, and not too often in an hour."""
        while wait_s := self.allowance.take(self._owner, first=True):
            if monotonic() + wait_s > ends_at:
                return Held(reason=_USED_UP, wait_s=wait_s, ours=True)
            threading.Event().wait(wait_s)
        if not self._ledger.lock_login(self.name, self._owner, _LOGIN_LOCK_MS):
            return _ANOTHER_LOGS_IN
        most = self.broker.most_log_ins_per_hour
        if most is None or call.operation not in self.broker.log_in_operations:
            return None
        if not (wait_ms := self._ledger.count_log_in(self.name, counted, most, _HOUR_MS)):
            return None
        reason = (f"there were {most} log-ins within an hour, and a few more may lock the user at the broker: the next is "
                  f"made in {math.ceil(wait_ms / 60_000)} min. Something else may be logging in as the same user")
        self._ledger.hold_login(self._refused_name, reason, wait_ms)
        log.error("told to a person: no more log-ins are made for a while", login=self.name, reason=reason)
        return Held(reason=reason, wait_s=wait_ms / 1000, person=True)

    def _with_ticket(self, call: Call) -> Call:
        match self._opened(self._ledger.log_in_ticket(self.name)):
            case [str(digest), dict(ticket)] if digest == call.digest() and isinstance(call.body, dict):
                return replace(call, body={**call.body, **ticket})
        return call

    def _keep(self, got: Token | LoginRefused | Held, *, share: bool) -> Token | Held:
        if isinstance(got, Held):
            return got
        if isinstance(got, LoginRefused):
            return self._refused(got)
        self._token = got
        keep_secret(got.value)
        if share:
            seconds = 86_400.0 if got.expires_at is None else max(1.0, got.expires_at - epoch())
            self._ledger.store_token(self.name, self._seal([got.value, got.expires_at]), int(seconds * 1000))
        return got

    def _refused(self, got: LoginRefused) -> Held:
        """Not tried again before the wait is over; a refusal without one, not before the credentials change."""
        seconds, reason = got.wait_s, got.reason
        if seconds is None:
            seconds = _AFTER_REFUSED_S
            reason += "; it is not tried again with these credentials for a day, since failed log-ins lock the user"
        self._ledger.hold_login(self._refused_name, reason, int(seconds * 1000))
        log.error("told to a person: a log-in was refused and is not tried again for a while", login=self.name,
                  reason=reason, waits_s=round(seconds))
        return Held(reason=reason, wait_s=seconds, person=True)

    # -- a token that only a person renews ---------------------------------------------------------------------------------

    def announce(self, account: Account) -> None:
        """Tell a person, once an hour, that a token ends soon which nobody but him can renew. May raise LedgerAway."""
        if not self.broker.person_renews:
            return
        steps = self.broker.log_in(account, epoch(), None)
        try:
            next(steps)
        except StopIteration as done:
            given = done.value
        else:  # it takes calls: Bridge makes the new token by itself
            steps.close()
            return
        if not isinstance(given, Token) or given.expires_at is None:
            return
        left_s = given.expires_at - epoch()
        if left_s > _ANNOUNCED_S or not self._ledger.tell_once(self.name, "end", _HOUR_MS):
            return
        ends = datetime.fromtimestamp(given.expires_at, UTC)
        log.error(f"told to a person: the token of {account.name} ends at {ends:%H:%M} UTC, in {max(0, left_s) / 60:.0f} "
                  "min; renew it before, or no order of this account, exits included, is sent after that",
                  account=account.name, ends_at=ends.isoformat(timespec="seconds"))


def _still_valid(token: Token) -> bool:
    return token.expires_at is None or token.expires_at > epoch() + 5


class Session:
    """What one lane sends through: its own connections, its log-in's token, budget and waits."""

    def __init__(self, account: Account, login: Login, timeout_s: float) -> None:
        self.account, self.login = account, login
        self._broker = login.broker
        self._transport = Transport(timeout_s)
        self._name = uuid.uuid4().hex
        self._tickets: dict[str, dict[str, Any]] = {}
        self._warm_not_before, self._warm_failures = 0.0, 0

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def send(self, call: Call, last_look: Callable[[], None] = lambda: None, *,
             first: bool = False) -> Reply | NotSent | Held:
        """Send a call with this log-in, once. Only a dead token is cured here: renewed, and the call made again.

        `first`: it belongs to an exit, which is served before entries when the budget is short.
        """
        try:
            return self._once(call, last_look, first=first)
        except LedgerAway as away:  # asked before a byte leaves, or after a reply that means "nothing was done"
            return Held(reason=str(away), wait_s=0.5, ours=True)

    def keep_warm(self) -> None:
        """Use the connection if it has been idle for a while, so that the next order pays for no TLS handshake.

        For an idle lane, now and then. Nothing is asked where a handshake costs nothing, where nothing is ever sent, or
        when half of the budget is used up; a call that fails is not made again for a while.
        """
        now, call = monotonic(), self._broker.warm(self.account)
        if call is None or self.account.dry_run or not call.url.startswith(("https:", "wss:")):
            return
        used_at = self._transport.used_at
        if now < self._warm_not_before or (used_at is not None and now - used_at < WARM_AFTER_S):
            return
        try:
            answer = self._once(call, lambda: None, spare=True, within_s=_WARM_WITHIN_S)
        except LedgerAway:
            return
        if isinstance(answer, Reply) and answer.status is not None and answer.status < 400:
            self._warm_failures = 0
            return
        if isinstance(answer, Held) and answer.ours:
            self._warm_not_before = monotonic() + min(answer.wait_s, 1.0)
            return
        # Failed calls count at a broker: twice the wait after each.
        self._warm_not_before = monotonic() + min(_LONGEST_WAIT_S, _WARM_AGAIN_S * 2**self._warm_failures)
        self._warm_failures = min(self._warm_failures + 1, 6)
        log.info("the idle connection could not be kept warm", account=self.account.name,
                 reason=answer.words if isinstance(answer, Reply) else answer.reason)

    def _once(self, call: Call, last_look: Callable[[], None], *, first: bool = False, spare: bool = False,
              within_s: float | None = None) -> Reply | NotSent | Held:
        if held := self.login.hold():
            return held
        token = self.login.token(self.account, self._transport)
        if isinstance(token, Held):
            return token
        if wait_s := self.login.allowance.take(self._name, first=first, spare=spare):
            return Held(reason=_USED_UP, wait_s=wait_s, ours=True)
        reply = self._send(call, token, last_look, within_s)
        hold = None if isinstance(reply, NotSent) else self._broker.nothing_done(call, reply)
        if hold and hold.unsure and not call.write:
            if wait_s := self.login.allowance.take(self._name, first=first, spare=spare):
                return Held(reason=_USED_UP, wait_s=wait_s, ours=True)
            reply = self._send(call, token, last_look, within_s)
            hold = None if isinstance(reply, NotSent) else self._broker.nothing_done(call, reply)
        if hold and hold.renew and isinstance(reply, Reply):
            fresh = self.login.token(self.account, self._transport, dead=token)
            if isinstance(fresh, Held):
                return replace(fresh, reply=reply)
            if fresh == token:  # a token that a person has to renew
                return self._held(call, hold, reply) if hold.person else reply
            if wait_s := self.login.allowance.take(self._name, first=first):
                return Held(reason=_USED_UP, wait_s=wait_s, ours=True, reply=reply)
            reply = self._send(call, fresh, last_look, within_s)
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

    def _send(self, call: Call, token: Token, last_look: Callable[[], None],
              within_s: float | None = None) -> Reply | NotSent:
        ticket = self._tickets.get(call.digest()) if self._tickets else None
        if ticket and isinstance(call.body, dict):
            call = replace(call, body={**call.body, **ticket})
        dressed = self._broker.dress(call, self.account, token, uuid.uuid4().hex)
        if within_s is None:
            return self._transport.send(dressed, last_look)
        return self._transport.send(dressed, last_look, within_s)

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
