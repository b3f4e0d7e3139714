"""The worker: owns lanes by lease, one thread each, and follows what was accepted with one look-up off the lane.

It also looks after what has no owner: alerts left half-written, and lanes of accounts that no worker has.
"""

from __future__ import annotations

import os
import platform
import queue
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from functools import partial
from typing import TypeVar

import structlog

from bridge.broker import Broker
from bridge.call import Seen
from bridge.clock import monotonic, now
from bridge.errors import DamagedRecord, LedgerAway
from bridge.lane import (
    Lane,
    LaneLost,
    Ownership,
    Stopping,
    ask_until_answered,
    look_up,
    note_our_ids,
    put_on_record,
    work_of,
)
from bridge.ledger import Lease, Ledger
from bridge.life import ENDED
from bridge.rolls import rolls_of
from bridge.session import Login, Session
from bridge.settings import Settings
from bridge.work import Account

_WAIT_S = 1.0
"""How long a lane waits for news at a time; also how long stopping may have to wait for it."""
_TEND_EVERY_S = 10.0
_STRAYS_EVERY_S = 5.0
_STRAY_ROUNDS = 6
"""So often has a lane to be found without an owner before what was being sent there is told: a worker that is replaced
leaves it without one for some seconds."""
_SWEEP_AFTER_MS = 3000
"""A receiver that lives completes an alert at once; TradingView's resend comes after 5 s."""
_AT_A_TIME = 500
_FOLLOWERS = 4
_SEEN_LATER_S = (1.0, 3.0, 10.0)
"""When an accepted order that its broker does not show yet is looked up again; then never."""

T = TypeVar("T")
log = structlog.get_logger("bridge.worker")


class Worker:
    """Carries out what is in the lanes of these accounts, as far as no other worker owns them."""

    def __init__(self, settings: Settings, accounts: Mapping[str, Account], brokers: Mapping[str, Broker],
                 ledger: Ledger) -> None:
        self._settings, self.brokers, self.ledger = settings, brokers, ledger
        self.accounts = dict(accounts)
        self._owner = f"{platform.node()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._logins: dict[str, Login] = {}
        for account in self.accounts.values():
            if account.login not in self._logins:
                self._logins[account.login] = Login(brokers[account.broker], account, ledger, settings.secret)
        self._owned: dict[str, Ownership] = {}
        self._ownerless: dict[str, int] = {}
        self._rolls_told: dict[str, date] = {}
        self._followers = [_Follower(self) for _ in range(min(_FOLLOWERS, len(self.accounts)))]
        self.stop = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; then finish what is in flight, or leave it on record, and give the lanes up."""
        self.stop = stop
        threads = [threading.Thread(target=self._own_lane, args=(account,), name=f"lane {account.name}", daemon=True)
                   for account in self.accounts.values()]
        threads += [threading.Thread(target=self._keep_lease, args=(name,), name="leases", daemon=True)
                    for name in self.accounts]
        threads.append(threading.Thread(target=self._look_after_others, name="strays", daemon=True))
        threads += [threading.Thread(target=each.run, name="follower", daemon=True) for each in self._followers]
        for thread in threads:
            thread.start()
        log.info("worker started", owner=self._owner, lanes=len(self.accounts))
        for account in self.accounts.values():
            if account.real_money and not account.dry_run:
                log.warning("this account can move real money", account=account.name, broker=account.broker,
                            environment=account.environment)
        stop.wait()
        ends_at = monotonic() + self._settings.shutdown_timeout
        for thread in threads:
            thread.join(max(0.0, ends_at - monotonic()))
        if left := [thread.name for thread in threads if thread.is_alive()]:
            log.warning("stopped while still at work; what was sent is on record", threads=left)
        log.info("worker stopped", owner=self._owner)

    def session(self, account: Account) -> Session:
        """New connections for one thread, over the account's shared log-in."""
        return Session(account, self._logins[account.login], self._settings.call_timeout)

    # -- lanes -------------------------------------------------------------------------------------------------------

    def _own_lane(self, account: Account) -> None:
        session = self.session(account)
        while not self.stop.is_set():
            try:
                own = self._take(account)
                if own is None:
                    self.stop.wait(min(1.0, self._settings.lease / 4))
                    continue
                log.info("owns the lane", account=account.name, fence=own.lease.fence)
                self._work_lane(account, session, own)
            except LaneLost:
                log.warning("lost the lane to another worker", account=account.name)
            except (Stopping, LedgerAway):
                self.stop.wait(0.2)
            except Exception:
                log.exception("a lane failed; it starts again", account=account.name)
                self.stop.wait(1.0)
            finally:
                self._give_up(account)
        session.close()

    def _take(self, account: Account) -> Ownership | None:
        asked_at = monotonic()
        lease = ask_until_answered(
            lambda: self.ledger.take_lease(account.name, self._owner, int(self._settings.lease * 1000)),
            self.stop, log)
        if lease is None:
            return None
        own = self._owned[account.name] = Ownership(lease, asked_at + self._settings.lease)
        return own

    def _give_up(self, account: Account) -> None:
        own = self._owned.pop(account.name, None)
        if own is None:
            return
        try:
            self.ledger.release_lease(own.lease)
        except Exception as error:  # noqa: BLE001 whatever it is, the lane's thread has to go on
            log.warning("the lane's lease could not be given up; it ends by itself", account=account.name,
                        reason=str(error))

    def _work_lane(self, account: Account, session: Session, own: Ownership) -> None:
        follower = self._followers[hash(account.name) % len(self._followers)]
        lane = Lane(self.brokers[account.broker], self.ledger, session, self._settings, self.stop,
                    on_accepted=lambda order, due_in_s: follower.add(account, own, order, due_in_s))
        newest, tended_at, cleared_up = "0-0", -_TEND_EVERY_S, False
        _try("orders that the lane does not name", account.name, self._set_astray_aside, own, 10_000)
        while not self.stop.is_set():
            if not own.holds():
                raise LaneLost
            try:
                if not cleared_up:
                    self._clear_up(lane, own)
                    cleared_up = True
                wait_s, newest = self._pass(lane, own, newest)
                if monotonic() - tended_at > _TEND_EVERY_S:
                    tended_at = monotonic()
                    self._tend(account, own, follower)
                if self.stop.is_set():
                    return
                if wait_s is None:
                    session.keep_warm()
                newest = self.ledger.wait_after(account.name, newest,
                                                _WAIT_S if wait_s is None else min(wait_s, _WAIT_S))
            except LedgerAway as error:  # the lane goes on as it is: its doubts and waits are not begun anew
                log.warning("the ledger is away; the lane waits for it", account=account.name, reason=str(error))
                self.stop.wait(0.2)

    def _clear_up(self, lane: Lane, own: Ownership) -> None:
        """Look once at each order that somebody was sending when he died, wherever it stands.

        Before anything else: a cancel or close that passes it has to know that it may stand at the broker.
        """
        for entry, order in self._standing(own.lease.account):
            if self.stop.is_set():
                return
            if not own.holds():
                raise LaneLost
            if self.ledger.state_of(own.lease.account, order) == "submitting":
                self._handle(lane, own, entry, order)

    def _standing(self, account: str) -> Iterator[tuple[str, str]]:
        """All that stands in a lane: (entry, order), oldest first."""
        after = ""
        while True:
            entries = self.ledger.lane(account, after, _AT_A_TIME)
            yield from entries
            if len(entries) < _AT_A_TIME:
                return
            after = entries[-1][0]

    def _tend(self, account: Account, own: Ownership, follower: _Follower) -> None:
        """What a lane's owner does now and then: forget what is old, tell of what went astray, look up what is due."""
        def look_up_what_is_due() -> None:
            for order in self.ledger.due_look_ups(account.name):
                follower.add(account, own, order, 0.0)

        _try("what is old", account.name, self.ledger.retire, account.name)
        _try("orders that the lane does not name", account.name, self._set_astray_aside, own, 500)
        _try("look-ups that are due", account.name, look_up_what_is_due)
        _try("the log-in's token", account.name, self._logins[account.login].announce, account)
        _try("the rolls ahead", account.name, self._tell_rolls, account)

    def _tell_rolls(self, account: Account) -> None:
        """Warn of the rolls ahead of contracts that this account has entered: at start, and once a day."""
        today = now().date()
        if self._rolls_told.get(account.name) == today:
            return
        for words in rolls_of(self.ledger.entered(account.name), account, self.brokers[account.broker].symbol_form(), today):
            log.warning("a roll is ahead: look which month your chart and your position name", account=account.name, roll=words)
        self._rolls_told[account.name] = today

    def _set_astray_aside(self, own: Ownership, most: int) -> None:
        """Tell a person of orders that would wait for ever, for the lane does not name them."""
        for order in self.ledger.astray(own.lease.account, most):
            reason = "the lane no longer names it, or its record is gone: the server's data were damaged"
            log.error("told to a person: an order is set aside", order=order, reason=reason)
            if self.ledger.set_aside(own.lease, order, "", reason) == "lost":
                raise LaneLost

    def _pass(self, lane: Lane, own: Ownership, newest: str) -> tuple[float | None, str]:
        """Handle the lane's orders in turn.

        Returns the seconds after which one has to be looked at again (None: no need to), and the newest entry that was
        there. An order that keeps the lane's head is passed by cancels and closes only.
        """
        again: float | None = None
        after = ""
        while entries := self.ledger.lane(own.lease.account, after):
            for entry, order in entries:
                newest = max(newest, entry, key=_place)
                if self.stop.is_set():
                    return None, newest
                wait_s = self._handle(lane, own, entry, order)
                if wait_s is not None and wait_s >= 0:
                    return self._pass_exits(lane, own, order, wait_s, again), newest
                if wait_s is not None:  # it waits for its predecessor; others may pass
                    again = min(-wait_s, again or _WAIT_S)
            if again is None:
                break  # what came meanwhile is seen from the head
            after = entries[-1][0]
        return again, newest

    def _pass_exits(self, lane: Lane, own: Ownership, head: str, wait_s: float, again: float | None) -> float:
        """Handle the cancels and closes behind an order that keeps the lane's head."""
        soonest = min(wait_s, again or wait_s)
        for order in self.ledger.exits(own.lease.account):
            if order == head:
                continue
            if self.stop.is_set():
                break
            if not own.holds():
                raise LaneLost
            wait = self._handle(lane, own, "", order)
            if wait is not None:
                soonest = min(soonest, abs(wait))
        return soonest

    def _handle(self, lane: Lane, own: Ownership, entry: str, order: str) -> float | None:
        return self._or_aside(own.lease, entry, order, lambda: lane.handle(own, entry, order))

    def _or_aside(self, lease: Lease, entry: str, order: str, handle: Callable[[], T]) -> T | None:
        """Handle one order; one that cannot be handled is set aside for a person, so that the lane goes on."""
        try:
            return handle()
        except (LaneLost, Stopping, LedgerAway):
            raise
        except Exception as error:
            reason = f"a fault in Bridge: {type(error).__name__}: {error}"
            log.exception("told to a person: an order could not be handled and is set aside", order=order)
            if self.ledger.set_aside(lease, order, entry, reason) == "lost":
                raise LaneLost from None
            return None

    # -- leases ------------------------------------------------------------------------------------------------------

    def _keep_lease(self, name: str) -> None:
        """Renew one lane's lease well before it ends. Each has its own thread: the servers of others may be away."""
        while not self.stop.wait(self._settings.lease / 4):
            own = self._owned.get(name)
            if own is None:
                continue
            asked_at = monotonic()
            try:
                lease = self.ledger.take_lease(name, self._owner, int(self._settings.lease * 1000))
            except Exception as error:  # noqa: BLE001 it has to be tried again all the same
                log.warning("a lease could not be renewed", account=name, reason=str(error))
                continue
            if lease is not None and lease.fence == own.lease.fence:
                own.renewed(asked_at + self._settings.lease, lease)
            else:
                own.lost()

    # -- what has no owner -------------------------------------------------------------------------------------------

    def _look_after_others(self) -> None:
        """Complete alerts that were left half-written, whoever has their home; tend lanes of accounts that are not ours.

        This is done off the lanes: the server of another lane may be away. Those that failed last time come last.
        """
        failed: set[str] = set()

        def look_at_each() -> None:
            for name in sorted(self.ledger.accounts(), key=lambda each: (each in failed, each)):
                if self.stop.is_set():
                    return
                well = _try("alerts that were left half-written", name, sweep, self.ledger, name)
                if name not in self.accounts:
                    well &= _try("the lane of an account that is not ours", name, self._tend_stray, name)
                (failed.discard if well else failed.add)(name)

        while not self.stop.is_set():
            _try("what has no owner", "", look_at_each)
            self.stop.wait(_STRAYS_EVERY_S)

    def _tend_stray(self, name: str) -> None:
        """Tell of orders in a lane that no worker has: those past their max_age, and those that were being sent."""
        lease = None
        if self.ledger.lane(name, count=1):
            lease = self.ledger.take_lease(name, self._owner, int(self._settings.lease * 1000))
        if lease is None:  # nothing to do, or another worker has it
            self._ownerless.pop(name, None)
            return
        rounds = self._ownerless[name] = self._ownerless.get(name, 0) + 1
        try:
            for entry, order in self._standing(name):
                self._or_aside(lease, entry, order, partial(self._tell_of_stray, lease, entry, order, rounds))
            log.warning("orders wait in the lane of an account that no worker has", account=name)
        except LaneLost:
            return  # somebody has it now
        finally:
            self.ledger.release_lease(lease)

    def _tell_of_stray(self, lease: Lease, entry: str, order: str, rounds: int) -> None:
        stored = self.ledger.load(lease.account, order)
        nobody = f"no worker has the account {lease.account}: it is not in accounts.yaml, or has faults there"
        word = "ok"
        if stored is None or stored.state in ENDED:
            word = self.ledger.set_aside(lease, order, entry, "")
        elif stored.state == "queued" and stored.expired:
            log.error("told to a person: an order expired", order=order, reason=nobody)
            word = self.ledger.settle(lease, stored, "expire", "expired", nonce=uuid.uuid4().hex, reason=nobody,
                                      person=True)
        elif stored.state in ("submitting", "unknown") and rounds >= _STRAY_ROUNDS and nobody not in stored.reason:
            was = stored.reason if stored.state == "unknown" else "a worker ended while it was sending this order"
            reason = f"{was}; {nobody}, so it is not looked up. It may stand at the broker: look there"
            log.error("told to a person: it may stand at the broker or not", order=order, reason=reason)
            # It stays in the lane: a worker that has the account again looks it up, with all its patience.
            word = self.ledger.settle(lease, stored, "lose" if stored.state == "submitting" else "tell", "unknown",
                                      nonce=uuid.uuid4().hex, reason=reason, done=False, person=True,
                                      fields={"doubt": "0"})
        if word == "lost":
            raise LaneLost


def _try(what: str, account: str, act: Callable[..., object], *args: object) -> bool:
    """Do one part of what is done now and then. Its fault is logged, and keeps nothing else from being done."""
    try:
        act(*args)
    except (LaneLost, Stopping):
        raise
    except LedgerAway as error:
        log.warning(f"{what} could not be looked at: the ledger is away", account=account, reason=str(error))
    except Exception:
        log.exception(f"{what} could not be looked at", account=account)
    else:
        return True
    return False


def _place(entry: str) -> tuple[int, int]:
    """Where an entry of a stream stands, to compare."""
    ms, _, number = entry.partition("-")
    return int(ms), int(number or 0)


def sweep(ledger: Ledger, account: str) -> None:
    """Complete the alerts of this home lane that a receiver left half-written when it died."""
    try:
        if done := ledger.sweep(account, _SWEEP_AFTER_MS):
            log.warning("completed alerts that were left half-written", account=account, alerts=done)
    except DamagedRecord as damaged:
        log.error("told to a person: an alert cannot be completed", account=account, reason=str(damaged))


class _Follower:
    """One look-up after each acceptance, off the lane: what the broker says of the order by now."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._due: queue.PriorityQueue[tuple[float, str, str, Ownership]] = queue.PriorityQueue()
        self._known: set[str] = set()
        self._tries: dict[str, int] = {}
        self._sessions: dict[str, Session] = {}

    def add(self, account: Account, own: Ownership, order: str, due_in_s: float) -> None:
        """Look this order up in `due_in_s` seconds, unless that is to happen anyway."""
        if order in self._known:
            return
        self._known.add(order)
        self._due.put((monotonic() + due_in_s, order, account.name, own))

    def run(self) -> None:
        """Look orders up as they fall due, until the worker stops."""
        try:
            self._follow(self._worker.stop)
        finally:
            for session in self._sessions.values():
                session.close()

    def _follow(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                due_at, order, account, own = self._due.get(timeout=_WAIT_S)
            except queue.Empty:
                continue
            if stop.wait(max(0.0, due_at - monotonic())):
                return
            self._known.discard(order)
            try:
                self._look(self._worker.accounts[account], own, order)
            except (LaneLost, Stopping):
                continue
            except LedgerAway:
                self.add(self._worker.accounts[account], own, order, 1.0)
            except Exception:
                log.exception("a look-up failed", order=order)

    def _look(self, account: Account, own: Ownership, order: str) -> None:
        worker = self._worker
        stored = worker.ledger.load(account.name, order)
        if stored is None or stored.state != "accepted" or not own.holds():
            return
        if account.name not in self._sessions:
            self._sessions[account.name] = worker.session(account)
        plan = worker.brokers[account.broker].look_up(work_of(stored, account, stored.counter))
        looked = look_up(plan, self._sessions[account.name], lambda seconds: worker.stop.wait(seconds), patient=True)
        if looked.held_s is not None:  # it was not made: it stays due
            self.add(account, own, order, max(looked.held_s, 0.5))
            return
        note_our_ids(worker.ledger, account, looked.sight)
        seen = looked.sight if isinstance(looked.sight, Seen) else None
        if seen is None:
            log.info("an accepted order was not seen yet", order=order, words=looked.words)
            if (tries := self._tries.get(order, 0)) < len(_SEEN_LATER_S):
                self._tries[order] = tries + 1
                self.add(account, own, order, _SEEN_LATER_S[tries])
                return
        self._tries.pop(order, None)
        put_on_record(worker.ledger, own, stored, seen, looked.records)
