"""The worker: owns lanes by lease, one thread each, and follows what was accepted with one look-up off the lane."""

from __future__ import annotations

import os
import platform
import queue
import threading
import uuid
from collections.abc import Mapping

import structlog

from bridge.broker import Broker
from bridge.call import Seen
from bridge.clock import monotonic
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
from bridge.ledger import Ledger
from bridge.session import Login, Session
from bridge.settings import Settings
from bridge.work import Account

_WAIT_S = 1.0
"""How long a lane waits for news at a time; also how long stopping may have to wait for it."""
_TEND_EVERY_S = 10.0
_STRAYS_EVERY_S = 5.0
_SWEEP_AFTER_MS = 3000
"""A receiver that lives completes an alert at once; TradingView's resend comes after 5 s."""
_FOLLOWERS = 4
_SEEN_LATER_S = (1.0, 3.0, 10.0)
"""When an accepted order that its broker does not show yet is looked up again; then never."""

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
        self._followers = [_Follower(self) for _ in range(min(_FOLLOWERS, len(self.accounts)))]
        self.stop = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; then finish what is in flight, or leave it on record, and give the lanes up."""
        self.stop = stop
        threads = [threading.Thread(target=self._own_lane, args=(account,), name=f"lane {account.name}", daemon=True)
                   for account in self.accounts.values()]
        threads += [threading.Thread(target=self._keep_leases, name="leases", daemon=True),
                    threading.Thread(target=self._tend_strays, name="strays", daemon=True)]
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
        newest, tended_at = "0-0", -_TEND_EVERY_S
        self._set_astray_aside(own, 10_000)
        while not self.stop.is_set():
            if not own.holds():
                raise LaneLost
            wait_s, newest = self._pass(lane, own, newest)
            if monotonic() - tended_at > _TEND_EVERY_S:
                tended_at = monotonic()
                self._tend(account, own, follower)
            if self.stop.is_set():
                return
            if wait_s is None:
                session.keep_warm()
            newest = self.ledger.wait_after(account.name, newest, _WAIT_S if wait_s is None else min(wait_s, _WAIT_S))

    def _tend(self, account: Account, own: Ownership, follower: _Follower) -> None:
        """What a lane's owner does now and then: forget what is old, look up what is due, complete what is half-written."""
        self.ledger.retire(account.name)
        self._set_astray_aside(own, 500)
        for order in self.ledger.due_look_ups(account.name):
            follower.add(account, own, order, 0.0)
        sweep(self.ledger, account.name)
        self._logins[account.login].announce(account)

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
            if order == head or self.stop.is_set():
                continue
            wait = self._handle(lane, own, "", order)
            if wait is not None:
                soonest = min(soonest, abs(wait))
        return soonest

    def _handle(self, lane: Lane, own: Ownership, entry: str, order: str) -> float | None:
        """Handle one order; one that cannot be handled is set aside for a person, so that the lane goes on."""
        try:
            return lane.handle(own, entry, order)
        except (LaneLost, Stopping, LedgerAway):
            raise
        except Exception as error:
            reason = f"a fault in Bridge: {type(error).__name__}: {error}"
            log.exception("told to a person: an order could not be handled and is set aside", order=order)
            if self.ledger.set_aside(own.lease, order, entry, reason) == "lost":
                raise LaneLost from None
            return None

    def _tend_strays(self) -> None:
        """Tell of orders in lanes of accounts that this worker does not have, and end those past their max_age."""
        while not self.stop.wait(_STRAYS_EVERY_S):
            try:
                for name, length in self.ledger.lane_lengths().items():
                    if length and name not in self.accounts:
                        self._tend_stray(name)
            except LedgerAway as error:
                log.warning("lanes of other accounts could not be looked at", reason=str(error))
            except Exception:
                log.exception("lanes of other accounts could not be looked at")

    def _tend_stray(self, name: str) -> None:
        lease = self.ledger.take_lease(name, self._owner, int(self._settings.lease * 1000))
        if lease is None:
            return  # another worker has it
        try:
            for _, order in self.ledger.lane(name):
                stored = self.ledger.load(name, order)
                if stored and stored.state == "queued" and stored.expired:
                    reason = f"no worker has the account {name}: it is not in accounts.yaml, or has faults there"
                    log.error("told to a person: an order expired", order=order, reason=reason)
                    self.ledger.settle(lease, stored, "expire", "expired", nonce=uuid.uuid4().hex, reason=reason,
                                       person=True)
            log.warning("orders wait in the lane of an account that no worker has", account=name)
        finally:
            self.ledger.release_lease(lease)

    def _keep_leases(self) -> None:
        """Renew every lease of ours well before it ends."""
        while not self.stop.wait(self._settings.lease / 4):
            for name, own in list(self._owned.items()):
                asked_at = monotonic()
                try:
                    lease = self.ledger.take_lease(name, self._owner, int(self._settings.lease * 1000))
                except Exception as error:  # noqa: BLE001 every other lease has to be renewed all the same
                    log.warning("a lease could not be renewed", account=name, reason=str(error))
                    continue
                if lease is not None and lease.fence == own.lease.fence:
                    own.renewed(asked_at + self._settings.lease)
                else:
                    own.lost()


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
                due_at, order, account, own = self._due.get(timeout=0.5)
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
        looked = look_up(plan, self._sessions[account.name], lambda seconds: worker.stop.wait(seconds))
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
