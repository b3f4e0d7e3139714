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
from collections.abc import Callable, Mapping
from contextlib import suppress
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
"""How long after its wait a penalty ticket is kept."""
_HOUR_MS = 3_600_000
_KEPT_LOG_INS = 2
"""So many of an hour's log-ins are left to orders: they are not used up by what can wait."""
_ASKED_AGAIN_S = 60.0
"""What can wait looks this often whether an order has logged in meanwhile."""
_RENEWAL_APART_S = 300.0
"""A token is not renewed again within this time: brokers count renewals, too."""
_ANNOUNCED_S = 7200.0
"""How long before its end a token that a person has to renew is spoken of."""
WARM_AFTER_S = 12.0
"""A connection that was idle for this long is used once, so that it is still trusted with the next order: the transport
trusts none that was idle for KEEP_ALIVE_S."""
_WARM_WITHIN_S = 2.0
_WARM_AGAIN_S = 60.0
_LONGEST_WAIT_S = 3600.0
_MOST_DOUBLINGS = 12
_MOST_TICKETS = 100
_USED_UP = "the request budget of this log-in is used up"
_PENALTY = "the broker's penalty for this order is not over"

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Try:
    """One try at logging in: over which connection, how long it may wait, and whether what it is for can wait itself."""

    transport: Transport
    ends_at: float
    patient: bool


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
        self._waits = threading.Lock()
        self._held_until, self._held_reason, self._looked_at = 0.0, "", 0.0
        self._strikes = 0

    # -- waits that all share ------------------------------------------------------------------------------------------

    def hold(self) -> Held | None:
        """The wait that everything of this log-in is in, whoever ran into it."""
        now = monotonic()
        if now - self._looked_at > _HOLD_LOOK_S:
            self._looked_at = now
            if found := self._ledger.login_hold(self.name):
                with self._waits:
                    self._hold_until(found[0], now + found[1] / 1000)
        if now < self._held_until:
            return Held(reason=self._held_reason, wait_s=self._held_until - now)
        return None

    def wait(self, reason: str, seconds: float, *, grows: bool = False) -> float:
        """Everything of this log-in waits, in every worker; returns for how many seconds.

        It never ends a longer wait. What comes back while all waits had left before: it says nothing new of the broker.
        """
        with self._waits:
            now = monotonic()
            if grows:
                self._strikes += now >= self._held_until
                doublings = min(max(self._strikes - 1, 0), _MOST_DOUBLINGS)
                seconds = max(seconds, min(_LONGEST_WAIT_S, seconds * 2**doublings))
            self._hold_until(reason, now + seconds)
            left_s = self._held_until - now
        self._ledger.hold_login(self.name, reason, int(seconds * 1000))
        return left_s

    def _hold_until(self, reason: str, until: float) -> None:
        if until > self._held_until:
            self._held_reason, self._held_until = reason, until

    def succeeded(self) -> None:
        """The broker did what it was asked: the next wait is a short one again."""
        with self._waits:
            if monotonic() >= self._held_until:
                self._strikes = 0

    # -- penalty tickets of calls ------------------------------------------------------------------------------------------

    def ticket(self, call: Call) -> Mapping[str, Any] | Held | None:
        """What the broker wants to see of an earlier try at this call, be it another worker's; Held before its time."""
        found = self._ledger.ticket(self.name, call.digest())
        match self._opened(found[0] if found else None):
            case dict(ticket) if found:
                early_ms = found[1] - _TICKET_MS
                return ticket if early_ms <= 0 else Held(reason=_PENALTY, wait_s=early_ms / 1000)
        return None

    def keep_ticket(self, call: Call, ticket: Mapping[str, Any], wait_s: float) -> None:
        """Whoever makes this call again, after `wait_s`, shows this ticket."""
        self._ledger.store_ticket(self.name, call.digest(), self._seal(dict(ticket)), int(wait_s * 1000) + _TICKET_MS)

    def drop_ticket(self, call: Call) -> None:
        """The broker has seen it."""
        self._ledger.drop_ticket(self.name, call.digest())

    # -- the token -----------------------------------------------------------------------------------------------------

    def token(self, account: Account, transport: Transport, dead: Token | None = None, *,
              patient: bool = False) -> Token | Held:
        """A token that is good for a while; logs in or renews when there is none. `dead` is one the broker refused.

        `patient`: what it is for can wait, so that the last log-ins of an hour are left to orders.
        """
        if not self._lock.acquire(blocking=False):  # another thread renews it: what is still valid need not wait
            known = self._token
            if known and known != dead and _still_valid(known):
                return known
            self._lock.acquire()
        try:
            return self._good_token(account, transport, dead, patient=patient)
        finally:
            self._lock.release()

    def _good_token(self, account: Account, transport: Transport, dead: Token | None, *, patient: bool) -> Token | Held:
        if self._token == dead:
            self._token = None  # not used again, even if a new one has to wait
        known = self._token
        if known and not self._is_old(known):
            return known
        stored = self._stored(dead)
        if stored and not self._is_old(stored):
            self._token = stored
            return stored
        old = None if dead else (known or stored)
        patience_s = 0.0 if old and _still_valid(old) else _PATIENCE_S
        attempt = _Try(transport=transport, ends_at=monotonic() + patience_s, patient=patient)
        fresh = self._log_in(account, attempt, old, dead)
        usable = next((each for each in (stored, known) if each and _still_valid(each)), None)
        if isinstance(fresh, Held) and usable:
            self._token = usable
            return usable
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

    def _log_in(self, account: Account, attempt: _Try, old: Token | None, dead: Token | None) -> Token | Held:
        steps = self.broker.log_in(account, epoch(), old)
        try:
            call = next(steps)
        except StopIteration as done:
            return self._keep(done.value, old, share=False)
        if refused := self._ledger.login_hold(self._refused_name):
            return Held(reason=refused[0], wait_s=refused[1] / 1000)
        if not self._ledger.lock_login(self.name, self._owner, _LOGIN_LOCK_MS):
            return _ANOTHER_LOGS_IN
        try:
            stored = self._stored()
            if stored and stored not in (dead, old):
                self._token = stored
                return stored
            return self._keep(self._drive(steps, call, attempt), old, share=True)
        finally:
            self._ledger.unlock_login(self.name, self._owner)

    def _drive(self, steps: LogIn, call: Call, attempt: _Try) -> Token | LoginRefused | Held:
        """Send a log-in's calls. They hold secrets and are neither recorded nor logged."""
        try:
            while True:
                answer = self._ask(call, attempt)
                if isinstance(answer, Held):
                    return answer
                call = steps.send(answer)
        except StopIteration as done:
            got: Token | LoginRefused = done.value
            return got
        finally:
            steps.close()

    def _ask(self, call: Call, attempt: _Try) -> Reply | Held:
        """One call of a log-in, repeated while the broker did nothing and the wait is short; a longer one is Held."""
        while True:
            counted = uuid.uuid4().hex
            if held := self._may_ask(call, counted, attempt):
                return held
            answer = attempt.transport.send(self._with_ticket(call))
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
            if monotonic() + wait_s > attempt.ends_at:
                self._ledger.hold_login(self._refused_name, hold.reason, int(wait_s * 1000))
                return Held(reason=hold.reason, wait_s=wait_s)
            threading.Event().wait(wait_s)

    def _may_ask(self, call: Call, counted: str, attempt: _Try) -> Held | None:
        """Whether a call of a log-in may leave: not too often in an hour, within the budget, as the one who logs in."""
        while True:
            if held := self._count(call, counted, patient=attempt.patient):
                return held
            if not (wait_s := self.allowance.take(self._owner, first=True)):
                break
            self._ledger.uncount_log_in(self.name, counted)
            if monotonic() + wait_s > attempt.ends_at:
                return Held(reason=_USED_UP, wait_s=wait_s, ours=True)
            threading.Event().wait(wait_s)
        if not self._ledger.lock_login(self.name, self._owner, _LOGIN_LOCK_MS):
            self._ledger.uncount_log_in(self.name, counted)
            return _ANOTHER_LOGS_IN
        return None

    def _count(self, call: Call, counted: str, *, patient: bool) -> Held | None:
        """Count a call of a log-in where the broker does; Held when there were too many. What can wait is held earlier."""
        most = self.broker.most_log_ins_per_hour
        if most is None or call.operation not in self.broker.log_in_operations:
            return None
        allowed = max(1, most - _KEPT_LOG_INS) if patient else most
        if not (wait_ms := self._ledger.count_log_in(self.name, counted, allowed, _HOUR_MS)):
            return None
        if patient:
            return Held(reason=f"there were {allowed} or more log-ins within an hour: the last ones are kept for orders",
                        wait_s=min(wait_ms / 1000, _ASKED_AGAIN_S))
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

    def _keep(self, got: Token | LoginRefused | Held, old: Token | None, *, share: bool) -> Token | Held:
        if isinstance(got, Held):
            return got
        if isinstance(got, LoginRefused):
            return self._refused(got, old)
        if share:
            got = self._not_renewed_at_once(got)
        self._token = got
        keep_secret(got.value)
        if share:
            seconds = 86_400.0 if got.expires_at is None else max(1.0, got.expires_at - epoch())
            self._ledger.store_token(self.name, self._seal([got.value, got.expires_at]), int(seconds * 1000))
        return got

    def _not_renewed_at_once(self, made: Token) -> Token:
        """A token that was made just now counts as good at least until a renewal may follow this one.

        Where its end is nearer, a clock may be wrong; and a token that has ended is found dead by its first use.
        """
        if made.expires_at is None:
            return made
        least = epoch() + self.broker.renew_before_s + _RENEWAL_APART_S
        if made.expires_at >= least:
            return made
        if self._is_old(made) and self._ledger.tell_once(self.name, "short", _HOUR_MS):
            log.warning("a token that was made just now ends soon by this machine's clock: check the clock",
                        login=self.name, ends_in_s=round(made.expires_at - epoch()))
        return replace(made, expires_at=least)

    def _refused(self, got: LoginRefused, old: Token | None) -> Held:
        """Not tried again before the wait is over; a refusal without one, not before the credentials change.

        A person is told, unless the old token works for longer than the wait.
        """
        seconds, reason = got.wait_s, got.reason
        if seconds is not None and old and _still_valid(old, seconds):
            self._ledger.hold_login(self._refused_name, reason, int(seconds * 1000))
            log.warning("a token could not be renewed yet; the old one still works", login=self.name, reason=reason,
                        waits_s=round(seconds))
            return Held(reason=reason, wait_s=seconds)
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
        if not self.broker.person_renews or account.environment == "sandbox":
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


def _still_valid(token: Token, for_s: float = 0.0) -> bool:
    return token.expires_at is None or token.expires_at > epoch() + for_s + 5


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
             first: bool = False, patient: bool = False) -> Reply | NotSent | Held:
        """Send a call with this log-in, once. Only a dead token is cured here: renewed, and the call made again.

        `first`: it belongs to an exit, which is served before entries when the budget is short. `patient`: no order waits
        for it (a look after an acceptance), so that it uses none of the last log-ins that an hour allows.
        """
        try:
            return self._once(call, last_look, first=first, patient=patient)
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
            answer = self._once(call, lambda: None, spare=True, patient=True, within_s=_WARM_WITHIN_S)
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
              patient: bool = False, within_s: float | None = None) -> Reply | NotSent | Held:
        if held := self.login.hold():
            return held
        ticket = self._ticket(call)
        if isinstance(ticket, Held):
            return ticket
        token = self.login.token(self.account, self._transport, patient=patient)
        if isinstance(token, Held):
            return token
        if wait_s := self.login.allowance.take(self._name, first=first, spare=spare):
            return Held(reason=_USED_UP, wait_s=wait_s, ours=True)
        shown = replace(call, body={**call.body, **ticket}) if ticket and isinstance(call.body, dict) else call
        reply = self._send(shown, token, last_look, within_s)
        hold = None if isinstance(reply, NotSent) else self._broker.nothing_done(call, reply)
        if hold and hold.unsure and not call.write:
            if wait_s := self.login.allowance.take(self._name, first=first, spare=spare):
                return Held(reason=_USED_UP, wait_s=wait_s, ours=True)
            reply = self._send(shown, token, last_look, within_s)
            hold = None if isinstance(reply, NotSent) else self._broker.nothing_done(call, reply)
        if hold and hold.renew and isinstance(reply, Reply):
            fresh = self.login.token(self.account, self._transport, dead=token, patient=patient)
            if isinstance(fresh, Held):
                return replace(fresh, reply=reply)
            if fresh == token:  # a token that a person has to renew
                return self._held(call, hold, reply) if hold.person else reply
            if wait_s := self.login.allowance.take(self._name, first=first):
                return Held(reason=_USED_UP, wait_s=wait_s, ours=True, reply=reply)
            reply = self._send(shown, fresh, last_look, within_s)
            hold = None if isinstance(reply, NotSent) else self._broker.nothing_done(call, reply)
            if hold and hold.renew:
                return reply  # the same answer with a fresh token is the broker's no
        if hold and isinstance(reply, Reply):
            return self._held(call, hold, reply)
        if isinstance(reply, Reply) and ticket:
            self._tickets.pop(call.digest(), None)
            with suppress(LedgerAway):  # the reply counts, whatever becomes of a ticket that ends by itself
                self.login.drop_ticket(call)
        if isinstance(reply, Reply) and reply.status is not None:
            self.login.succeeded()
        return reply

    def _send(self, call: Call, token: Token, last_look: Callable[[], None],
              within_s: float | None = None) -> Reply | NotSent:
        dressed = self._broker.dress(call, self.account, token, uuid.uuid4().hex)
        if within_s is None:
            return self._transport.send(dressed, last_look)
        return self._transport.send(dressed, last_look, within_s)

    def _ticket(self, call: Call) -> Mapping[str, Any] | Held | None:
        """The penalty ticket to show with this call. That of a read dies with this object: the next read gets another."""
        known = self._tickets.get(call.digest()) if self._tickets else None
        return known or (self.login.ticket(call) if call.write else None)

    def _keep_ticket(self, call: Call, hold: Hold) -> None:
        self._tickets[call.digest()] = dict(hold.ticket)
        while len(self._tickets) > _MOST_TICKETS:
            del self._tickets[next(iter(self._tickets))]
        if call.write:
            with suppress(LedgerAway):  # this worker has it all the same
                self.login.keep_ticket(call, hold.ticket, hold.wait_s)

    def _held(self, call: Call, hold: Hold, reply: Reply) -> Held:
        if hold.ticket:
            self._keep_ticket(call, hold)
        wait_s = hold.wait_s or 30.0 * hold.renew
        if hold.whole_login:
            wait_s = self.login.wait(hold.reason, hold.wait_s, grows=hold.grows)
        if hold.person:
            log.error("the broker holds this log-in: a person has to look", account=self.account.name,
                      reason=hold.reason, waits_s=round(wait_s))
        return Held(reason=hold.reason, wait_s=wait_s, person=hold.person, reply=reply)
