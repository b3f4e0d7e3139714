"""What happens to one order in its lane: carried out, looked up when in doubt, put on record.

The order of things is the promise: `submitting` is on record before the first byte of a write, every reply is kept,
and the outcome is on record before the order leaves the lane. After a byte of a write has left, that write is sent again
only when the broker's own books prove that it was not executed, or, for what can only reduce, that it had no effect;
otherwise the order is accepted, rejected, or unknown and told to a person.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import structlog

from bridge.attempt import (
    Covered,
    LaneLost,
    NotYet,
    Ownership,
    Run,
    Sender,
    Stopping,
    TooOld,
    ask_until_answered,
    epoch_ms,
)
from bridge.broker import Broker
from bridge.call import Absent, Accepted, Call, LookUp, Outcome, Pause, Rejected, Reply, Retry, Seen, Unknown
from bridge.clock import monotonic, now
from bridge.contracts import same_contract
from bridge.errors import LedgerAway
from bridge.ledger import Ledger, Stored, seen_fields
from bridge.life import ENDED, GONE_ON, move
from bridge.numbers import dump_json
from bridge.playback import Attempt, Diverged, following, last_attempt, past_pauses, play_back
from bridge.rehearse import rehearse
from bridge.rolls import other_months
from bridge.session import Held, Session
from bridge.settings import Settings
from bridge.views import call_record, reply_record
from bridge.work import Account, Ids, Work

__all__ = ["Lane", "LaneLost", "Ownership", "Stopping", "ask_until_answered", "look_up", "note_our_ids", "put_on_record",
           "work_of"]

DAY_MS = 86_400_000
_CLOCKS_DIFFER_MS = 3_900_000
"""An order that ends at a given time is held for open a little longer than an hour behind it: clocks may be wrong."""
_LOOK_UP_AFTER_MS = 300
_BETWEEN_LOOK_UPS_S = (0.2, 0.5, 1.0, 2.0)
_ONE_MORE_LOOK_S = 0.1
_COVERED = "withdrawn: a cancel or close that was received after it covers it"

log = structlog.get_logger("bridge.lane")


@dataclass
class _Doubt:
    """The looking up of one order. `believe_at`: from when its absence proves anything; `ends_at`: then a person is told."""

    believe_at: float
    ends_at: float
    next_at: float = 0.0
    tries: int = 0


@dataclass(frozen=True)
class _Standing:
    """Where playing back has led: the plan waits for the reply to `call`, a write in doubt, or asks `asked`.

    `first`: no earlier write was answered, so that nothing of the order stands but, perhaps, this one.
    """

    attempt: Attempt
    work: Work
    call: Call | None = None
    first: bool = True
    unsent: bool = False


class Lane:
    """The handling of one account's orders by one thread that owns its lane."""

    def __init__(self, broker: Broker, ledger: Ledger, session: Session, settings: Settings, stop: threading.Event,
                 on_accepted: Callable[[str, float], None] = lambda order, due_in_s: None) -> None:
        self._broker, self._ledger, self._session, self._settings = broker, ledger, session, settings
        self._account = session.account
        self._stop, self._on_accepted = stop, on_accepted
        self._sender = Sender(ledger, session, settings, stop)
        self._ask = self._sender.ask
        self._not_before: dict[str, float] = {}
        self._last_words: dict[str, str] = {}
        self._doubts: dict[str, _Doubt] = {}
        self._shows_our_ids = False
        self._log = log.bind(account=self._account.name)

    def handle(self, own: Ownership, entry: str, order: str) -> float | None:
        """Bring one order of the lane, which stands there as `entry`, as far as it goes now.

        Returns None when it is done with (or gone), else the seconds after which to look at it again; the lane waits
        for it (only cancels and closes pass), except that one which waits for its predecessor (a negative number) lets
        others pass. Raises LaneLost and Stopping.
        """
        stored = self._load(order)
        if stored is None or stored.state in ENDED:  # nothing to do for it: or the lane would come back to it for ever
            if stored is None:
                self._log.error("told to a person: the lane names an order that is not on record", order=order)
            self._ask(lambda: self._ledger.set_aside(own.lease, order, entry, ""))
            return None
        if stored.broker != self._account.broker:
            raise ValueError(f"the account's broker was {stored.broker} when it was queued, and is {self._account.broker} now")
        if stored.state in ("submitting", "unknown"):
            return self._clear_up(own, stored)
        if stored.expired:
            self._expire(own, stored)
            return None
        if stored.follows and (wait := self._follow(own, stored)) is not True:
            return wait
        if (left := self._not_before.get(order, 0.0) - monotonic()) > 0:
            return left
        if stored.dry_run or self._account.dry_run:
            self._rehearse(own, stored)
            return None
        return self._carry_out(own, stored)

    # -- before sending ----------------------------------------------------------------------------------------------

    def _follow(self, own: Ownership, stored: Stored) -> float | None | bool:
        """Whether the order before it in the list lets it go: True, a wait, or None when it was withdrawn.

        A cancel or close waits for no order that is unknown.
        """
        before = self._load(stored.follows)
        if before is not None and (before.state in GONE_ON or (before.state == "unknown" and stored.order.is_exit)):
            return True
        if before is not None and before.state in ("queued", "submitting", "unknown"):
            return -0.2
        word = before.state if before else "gone"
        stands = self._earlier_stands(before)
        reason = f"withdrawn: the order before it in the alert, {stored.follows}, is {word}"
        if stands:
            reason += f"; but {stands} before that stands at the broker: look whether it is protected"
        alarm = bool(stands) or stored.order.is_exit
        if alarm:
            self._log.error("told to a person", order=stored.id, reason=reason)
        self._settle(own, stored, "withdraw", reason, ended=not alarm, person=alarm)
        return None

    def _earlier_stands(self, before: Stored | None) -> str:
        while before is not None and before.follows:
            before = self._load(before.follows)
            if before is not None and before.state in ("accepted", "unknown") and not before.order.is_exit:
                return before.id
        return ""

    def _expire(self, own: Ownership, stored: Stored) -> None:
        reason = (f"waited {stored.age_ms / 1000:.1f} s since the alert was sent; its max_age is "
                  f"{stored.max_age_ms / 1000:g} s")
        if words := self._last_words.pop(stored.id, ""):
            reason += f"; {words}"
        alarm = stored.order.is_exit
        if alarm:
            self._log.error("told to a person", order=stored.id, reason=f"an exit expired: {reason}")
        elif stored.follows and (stands := self._earlier_stands(stored)):
            alarm = True
            reason += f"; but {stands} before it stands at the broker: look whether it is protected"
            self._log.error("told to a person", order=stored.id, reason=reason)
        self._settle(own, stored, "expire", reason, ended=not alarm, person=alarm)

    def _rehearse(self, own: Ownership, stored: Stored) -> None:
        calls, _ = rehearse(self._broker.submit(self._work(own, stored, "<from: counter>")))
        records = [call_record(call, stored.now_ms) for call in calls]
        self._settle(own, stored, "rehearse", "dry run: everything but sent", ended=True, records=records)

    # -- sending -----------------------------------------------------------------------------------------------------

    def _carry_out(self, own: Ownership, stored: Stored) -> float | None:
        run = Run(stored, stored.records, stored.attempt + 1)
        if stored.order.ref and stored.order.kind == "cancel" and stored.withdrew:
            return self._conclude(own, run, Accepted(
                reason=f"withdrew {', '.join(stored.withdrew)} before it was sent"))
        counter = stored.counter
        if counter is None and (name := self._broker.counter_name(self._account)):
            counter = self._ask(lambda: self._ledger.next_number(name))
        work = self._work(own, stored, counter)
        plan = self._broker.submit(work)
        return self._go_on(own, run, lambda: self._sender.drive(own, run, plan, lambda: following(plan, None), work))

    def _go_on(self, own: Ownership, run: Run, drive: Callable[[], Outcome]) -> float | None:
        """Drive a plan and put on record what it came to."""
        try:
            outcome = drive()
        except NotYet as no:
            outcome = Retry(reason=no.reason, after_s=no.wait_s)
        except (TooOld, Covered) as why:
            stored = self._load(run.stored.id) or run.stored
            if stored.state in ENDED:  # by whoever took the lane over, or by a person
                return None
            if isinstance(why, TooOld):
                self._expire(own, stored)
            else:  # the ledger looks whether that leaves something without protection
                self._settle(own, stored, "withdraw", _COVERED, ended=True)
            return None
        except (LaneLost, Stopping):
            if run.evidence:  # what a broker said is kept, whoever goes on with the order
                self._ask(lambda: self._ledger.keep_evidence(own.lease, run.stored, run.evidence))
            raise
        return self._conclude(own, run, outcome)

    # -- what it came to ---------------------------------------------------------------------------------------------

    def _conclude(self, own: Ownership, run: Run, outcome: Outcome) -> float | None:
        stored = run.stored
        if isinstance(outcome, Retry):
            return self._put_back(own, run, outcome)
        if not run.submitted and stored.state == "queued":
            self._step_up(own, run)
        if isinstance(outcome, Unknown):
            return self._lose(own, run, outcome)
        if isinstance(outcome, Rejected):
            reason, alarm = outcome.reason, stored.order.is_exit
            if alarm:
                self._log.error("told to a person", order=stored.id, reason=f"an exit was refused: {reason}")
            elif stored.follows and (stands := self._earlier_stands(stored)):
                alarm, reason = True, f"{reason}; but {stands} before it stands at the broker: look whether it is protected"
                self._log.error("told to a person", order=stored.id, reason=reason)
            self._settle(own, stored, "reject", reason, ended=not alarm, person=alarm, records=run.evidence)
            return None
        self._accept(own, stored, outcome, run.evidence)
        return None

    def _step_up(self, own: Ownership, run: Run) -> None:
        """An outcome that needed no write (nothing to cancel, nothing open) still passes through `submitting`."""
        self._ask(lambda: self._ledger.submit(
            own.lease, run.stored, record=run.recorded + 1, attempt=run.number, send_within_ms=0,
            client_order_id=run.stored.client_order_id, counter=run.stored.counter, look_at_age=False, look_at_marks=False,
            records=[]))

    def _lose(self, own: Ownership, run: Run, outcome: Unknown) -> float | None:
        """It is in doubt: on record as such, and looked up from now on."""
        stored = run.stored
        fields = {"broker_ids": dump_json({**stored.broker_ids, **outcome.broker_ids})}
        if stored.state == "unknown" and not run.submitted:  # it was before, and still is
            if run.evidence:
                self._ask(lambda: self._ledger.keep_evidence(own.lease, stored, run.evidence))
            return self._next_look(own, stored, outcome.reason)
        fields["doubt"] = str(stored.now_ms)
        self._settle(own, stored, "lose", outcome.reason, done=False, fields=fields, records=run.evidence)
        believe_at = monotonic() + self._settings.settle  # the call has returned: nothing more of it will leave
        self._doubts[stored.id] = _Doubt(believe_at, monotonic() + self._settings.lookup_patience)
        return self._next_look(own, replace(stored, state="unknown"), outcome.reason)

    def _put_back(self, own: Ownership, run: Run, outcome: Retry) -> float:
        wait_s = min(max(outcome.after_s, 0.05), 60.0)
        self._not_before[run.stored.id] = monotonic() + wait_s
        if self._last_words.get(run.stored.id) != outcome.reason:
            self._log.warning("not sent, will be tried again", order=run.stored.id, reason=outcome.reason)
        self._last_words[run.stored.id] = outcome.reason
        if run.submitted or run.stored.state != "queued":
            self._settle(own, run.stored, "retry", outcome.reason, done=False, records=run.evidence)
        return wait_s

    def _accept(self, own: Ownership, stored: Stored, outcome: Accepted, records: list[str]) -> None:
        order = stored.order
        fields: dict[str, Any] = {"broker_ids": dump_json({**stored.broker_ids, **outcome.broker_ids})}
        if outcome.broker_status:
            fields["broker_status"] = outcome.broker_status
        if outcome.legs:
            fields["legs"] = dump_json([dict(leg) for leg in outcome.legs])
        reason = "; ".join(part for part in (outcome.reason, outcome.alarm) if part)
        if outcome.alarm:
            self._log.error("told to a person", order=stored.id, reason=outcome.alarm)
        self._settle(own, stored, "accept", reason, fields=fields, records=records, person=bool(outcome.alarm),
                     ended=order.is_exit and not outcome.alarm,
                     open_for_ms=None if order.is_exit else _open_for_ms(stored),
                     look_up_in_ms=None if order.is_exit else _LOOK_UP_AFTER_MS)
        for target, seen in outcome.targets.items():
            self._see_target(own, target, seen)
        if not order.is_exit:
            self._on_accepted(stored.id, _LOOK_UP_AFTER_MS / 1000)
        elif outcome.found_nothing and order.symbol and not stored.withdrew:
            self._look_at_other_months(own, stored, order.symbol)

    def _look_at_other_months(self, own: Ownership, stored: Stored, symbol: str) -> None:
        """An exit found nothing on its contract: tell a person of what is open in another month of the product."""
        entered = self._ask(lambda: self._ledger.entered(self._account.name))
        for month in other_months(symbol, entered, self._broker.symbol_form(), now().date()):
            if left := self._left_on(own, stored, month):
                reason = f"nothing was to {stored.order.kind} on {symbol}, but {left}: name {month} in a {stored.order.kind}"
                self._log.error("told to a person", order=stored.id, reason=reason)
                self._ask(partial(self._ledger.alarm, own.lease, stored.id, reason))

    def _left_on(self, own: Ownership, stored: Stored, month: str) -> str:
        """In words what an exit would have found on another contract; "" for nothing."""
        standing = [each.id for each in self._ask(lambda: self._ledger.open_orders(self._account.name))
                    if not each.order.is_exit and each.order.symbol and same_contract(each.order.symbol, month)]
        if standing:
            return f"{', '.join(standing)} of {month} may still stand"
        if stored.order.kind != "close":
            return ""
        work = work_of(stored, self._account, stored.counter)
        work = replace(work, order=replace(work.order, symbol=month), looked_at=now())
        found = look_up(self._broker.look_up(work), self._session, lambda s: self._sender.sleep(own, s), first=True)
        if found.sight is None:
            return f"{month} was entered last, and whether it is open could not be seen ({found.words})"
        return found.sight.reason if isinstance(found.sight, Absent) else ""

    def _see_target(self, own: Ownership, order: str, seen: Seen) -> None:
        """Put on record what a cancel or close learnt of another order of ours."""
        target = self._load(order)
        if target is None:
            return
        if target.state == "unknown":
            self._found(own, target, seen, [])
        else:
            self._ask(lambda: put_on_record(self._ledger, own, target, seen))

    def _settle(self, own: Ownership, stored: Stored, event: str, reason: str, **more: Any) -> None:
        began = event in ("retry", "lose", "reject", "accept") and stored.state == "queued"
        state = move("submitting" if began or (event == "lose" and stored.state == "unknown") else stored.state, event)
        nonce = uuid.uuid4().hex  # one for all tries: the ledger may have heard a try whose answer was lost
        def put() -> str:
            return self._ledger.settle(own.lease, stored, event, state, nonce=nonce, reason=reason, **more)

        word = self._ask(put)
        if word == "queued" and began and event != "retry":  # a server that took over has forgotten that it was sent
            self._step_up(own, Run(stored, stored.records, stored.attempt + 1))
            word = self._ask(put)
        if word in ("ok", "covered", "repeated", "alarm"):
            if word == "covered":
                state, reason = "cancelled", _COVERED
            if word == "alarm":
                self._log.error("told to a person: it stands, though a cancel or close was to end it", order=stored.id)
            if state != "queued":
                self._not_before.pop(stored.id, None)
                self._last_words.pop(stored.id, None)
            if state != "unknown":
                self._doubts.pop(stored.id, None)
            self._log.info("order", order=stored.id, kind=stored.order.kind, state=state, reason=reason)
            return
        if records := more.get("records"):
            self._ask(lambda: self._ledger.keep_evidence(own.lease, stored, records))
        if event == "accept" and word == "rejected":
            said = f"a person said that the broker rejected it, and it was found there: {reason}"
            self._log.error("told to a person", order=stored.id, reason=said)
            self._ask(lambda: self._ledger.alarm(own.lease, stored.id, said))
        self._log.error("the lane is no longer ours", order=stored.id, found=word)
        raise LaneLost

    # -- doubt -------------------------------------------------------------------------------------------------------

    def _clear_up(self, own: Ownership, stored: Stored) -> float | None:
        """One look at an order that is in doubt, or that somebody was submitting when he died."""
        doubt = self._doubts.get(stored.id)
        if doubt is None:
            doubt = self._doubts[stored.id] = self._begin_doubt(stored)
        if (left := doubt.next_at - monotonic()) > 0:
            return left
        try:
            standing = self._played_back(stored)
        except Diverged as diverged:
            self._tell(own, stored, f"{self._why(stored)}; {diverged}")
            return None
        if standing is not None and (standing.unsent or standing.call is None):
            return self._resume(own, stored, standing, None)
        began = monotonic()
        sight, records, words, _ = self._look(own, stored, standing)
        if isinstance(sight, Seen):
            if standing is None or self._is_single(stored):
                self._found(own, stored, sight, records)
                return None
            return self._resume(own, stored, standing, Reply(status=None, seen=sight), records)
        if isinstance(sight, Absent):
            if began >= doubt.believe_at:  # what was read before tells nothing of what may have appeared since
                return self._proven_absent(own, stored, standing, sight, records)
            words = f"{sight.reason}, which proves nothing yet"
            doubt.ends_at = max(doubt.ends_at, doubt.believe_at + _ONE_MORE_LOOK_S, monotonic() + _ONE_MORE_LOOK_S)
        if stored.state == "submitting":
            fields = {"doubt": str(stored.now_ms)}
            self._settle(own, stored, "lose", self._why(stored), done=False, fields=fields, records=records)
            return self._next_look(own, replace(stored, state="unknown"), words)
        return self._next_look(own, stored, words, records)

    def _begin_doubt(self, stored: Stored) -> _Doubt:
        """How long to look for an order that another worker, or an earlier one, left in doubt.

        What it was sending may leave until its send deadline, which is at most `send_within_s` from now. The lane's clock is
        not asked: it may have jumped.
        """
        at = monotonic()
        believe_at = at + self._sender.send_within_s + self._settings.settle
        known = stored.doubt_ms and stored.state == "unknown"
        since_s = max(0, stored.now_ms - stored.doubt_ms) / 1000 if known else 0.0
        return _Doubt(believe_at, at + self._settings.lookup_patience - since_s)

    def _why(self, stored: Stored) -> str:
        if stored.state == "unknown":
            return stored.reason
        return "a worker ended while it was sending this order"

    def _next_look(self, own: Ownership, stored: Stored, words: str, records: list[str] | None = None) -> float | None:
        """When to look again; None when patience is over, and a person was told."""
        doubt = self._doubts[stored.id]
        left = doubt.ends_at - monotonic()
        if left <= 0 and doubt.tries:
            self._tell(own, stored, f"{self._why(stored)}; {words}", records)
            return None
        wait_s = min(_BETWEEN_LOOK_UPS_S[min(doubt.tries, 3)], max(0.0, left))
        doubt.tries += 1
        doubt.next_at = monotonic() + wait_s
        return wait_s

    def _is_single(self, stored: Stored) -> bool:
        """Whether it is an entry that is one write at its broker."""
        return not stored.order.is_exit and self._broker.capabilities.kinds.get(stored.order.kind) == "native"

    def _played_back(self, stored: Stored) -> _Standing | None:
        """Where the order's last attempt stands; None for a cancel or close, which is looked up by its effect.

        Raises Diverged when the plan of today does not make the calls on record.
        """
        if stored.order.is_exit:
            return None
        attempt = last_attempt(self._ask(lambda: self._ledger.records(stored)))
        if attempt is None or attempt.last_write < 0:
            raise Diverged("there is no record of what was sent")
        at = attempt.last_write
        last = attempt.exchanges[at]
        work = self._work_given(stored, attempt)
        plan = self._broker.submit(work)
        try:
            asked = past_pauses(plan, play_back(plan, attempt.exchanges[:at]))
            if not isinstance(asked, Call) or asked.digest() != last.digest:
                raise Diverged(f"played back, the plan does not make the call on record for the step {last.step!r}")
            first = not attempt.writes_before(at)
            if last.reply is None:
                return _Standing(attempt, work, asked, first, unsent=last.held)
            if isinstance(past_pauses(plan, following(plan, last.reply)), Unknown):
                return _Standing(attempt, work, asked, first)
            return _Standing(attempt, work, None, first=False)
        finally:
            plan.close()

    def _resume(self, own: Ownership, stored: Stored, standing: _Standing, reply: Reply | None,
                records: list[str] | None = None) -> float | None:
        """Go on with the plan where it stands: with this reply to the write in doubt, or by making it (again)."""
        attempt, work = standing.attempt, standing.work
        evidence = list(records or [])
        if reply is not None and standing.call is not None:
            evidence.append(reply_record(standing.call, reply, epoch_ms()))
        run = Run(stored, stored.records, attempt.number, begun=True, evidence=evidence,
                  write_left=not standing.first or reply is not None)
        plan = self._broker.submit(work)

        def start() -> Call | Pause | Outcome:
            if standing.call is None:
                return play_back(plan, attempt.exchanges[: attempt.last_write + 1])
            asked = past_pauses(plan, play_back(plan, attempt.exchanges[: attempt.last_write]))
            return asked if reply is None else following(plan, reply)

        return self._go_on(own, run, lambda: self._sender.drive(own, run, plan, start, work))

    def _proven_absent(self, own: Ownership, stored: Stored, standing: _Standing | None, absent: Absent,
                       records: list[str]) -> float | None:
        """Nothing of it is there: sent again while it is fresh, unless something of the order stands."""
        self._log.warning("proven absent", order=stored.id, reason=absent.reason)
        if standing is not None and standing.call is not None and not standing.first:
            undone = Reply(status=None, fault=f"proven absent: {absent.reason}", not_executed=True)
            absence = reply_record(standing.call, undone, epoch_ms(), held=True)  # playing back passes over this sending
            return self._resume(own, stored, standing, None, [*records, absence])
        reason = f"{self._why(stored)}; {absent.reason}"
        if stored.expired and stored.state == "unknown":
            self._last_words[stored.id] = reason
            if records:
                self._ask(lambda: self._ledger.keep_evidence(own.lease, stored, records))
            self._expire(own, stored)
            return None
        self._settle(own, stored, "retry", f"{reason}: it is sent again", done=False, records=records)
        return 0.0

    def _look(self, own: Ownership, stored: Stored, standing: _Standing | None) -> Looked:
        """One look-up."""
        if not self._shows_our_ids:
            self._shows_our_ids = self._ask(lambda: self._ledger.shows_our_ids(self._account.name))
        if standing is not None:
            work = standing.work
        else:
            attempt = last_attempt(self._ask(lambda: self._ledger.records(stored)))
            work = self._work_given(stored, attempt) if attempt else self._work(own, stored, stored.counter)
        at = now()
        sent_at = at - timedelta(milliseconds=stored.now_ms - stored.submitted_ms) if stored.submitted_ms else None
        work = replace(work, submitted_at=sent_at or work.submitted_at, looked_at=at, shows_our_ids=self._shows_our_ids)
        if standing is None or standing.call is None or self._is_single(stored):
            plan = self._broker.look_up(work)
        else:
            plan = self._broker.look_up_step(work, standing.call)
        found = look_up(plan, self._session, lambda seconds: self._sender.sleep(own, seconds), first=stored.order.is_exit)
        self._ask(lambda: note_our_ids(self._ledger, self._account, found.sight))
        return found

    def _found(self, own: Ownership, stored: Stored, seen: Seen, records: list[str]) -> None:
        fields = {**seen_fields(stored, seen), "broker_status": seen.broker_status}
        found = f"found at the broker: {seen.broker_status}" + (f", {seen.reason}" if seen.reason else "")
        if seen.broker_status == "rejected" and not stored.order.is_exit:
            self._settle(own, stored, "reject", found, fields=fields, records=records, ended=True)
            return
        if stored.order.kind == "close" and seen.broker_status in ("rejected", "canceled", "expired"):
            self._log.error("told to a person", order=stored.id, reason=f"the closing order came to nothing: {found}")
            self._settle(own, stored, "reject", found, fields=fields, records=records, person=True)
            return
        ended = seen.all_ended or stored.order.is_exit
        if alarm := any(leg.get("broker_status") == "rejected" for leg in seen.legs):
            found += "; a leg of it was rejected: look whether it is protected"
            self._log.error("told to a person", order=stored.id, reason=found)
        self._settle(own, stored, "accept", found, fields=fields, records=records, ended=ended, person=alarm,
                     open_for_ms=None if ended else _open_for_ms(stored))

    def _tell(self, own: Ownership, stored: Stored, reason: str, records: list[str] | None = None) -> None:
        self._log.error("told to a person: it may stand at the broker or not", order=stored.id, reason=reason)
        event = "tell" if stored.state == "unknown" else "lose"
        self._settle(own, stored, event, reason, person=True, records=records or [])
        self._doubts.pop(stored.id, None)

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _work(self, own: Ownership, stored: Stored, counter: int | str | None) -> Work:
        targets: tuple[Work, ...] = ()
        if stored.order.is_exit:
            targets = tuple(work_of(each, self._account, each.counter) for each in self._targets(own, stored))
        return work_of(stored, self._account, counter, targets)

    def _work_given(self, stored: Stored, attempt: Attempt) -> Work:
        """What the plan of an attempt on record was given."""
        given = attempt.given
        targets = tuple(replace(work_of(found, self._account, found.counter), broker_ids=dict(each["broker_ids"]))
                        for each in given["targets"] if (found := self._load(each["id"])))
        work = work_of(stored, self._account, given["counter"], targets)
        return replace(work, ids=replace(work.ids, arming=int(given["arming"])), broker_ids=dict(given["broker_ids"]),
                       submitted_at=_moment(given["submitted"]))

    def _targets(self, own: Ownership, stored: Stored) -> list[Stored]:
        """Our older orders that a cancel or close concerns, newest first; not one that was received after it, when it
        reached its lane late."""
        order = stored.order
        def tell(damaged: str) -> None:
            reason = "its record is damaged: no cancel or close can look at it"
            if self._ledger.alarm(own.lease, damaged, reason):
                self._log.error("told to a person", order=damaged, reason=reason)

        found = [each for each in self._ask(lambda: self._ledger.open_orders(self._account.name, tell))
                 if not each.order.is_exit and each.rank < stored.rank and each.received_ms <= stored.received_ms]
        if order.ref:
            return [each for each in found if each.order.ref == order.ref][:1]
        if order.symbol:
            return [each for each in found if each.order.symbol and same_contract(each.order.symbol, order.symbol)]
        return []

    def _load(self, order: str) -> Stored | None:
        return self._ask(lambda: self._ledger.load(self._account.name, order))


def work_of(stored: Stored, account: Account, counter: int | str | None, targets: tuple[Work, ...] = ()) -> Work:
    """What a plan is given for an order on record."""
    return Work(order=stored.order, account=account, ids=Ids(order_id=stored.id, counter=counter, arming=stored.arming),
                broker_ids=stored.broker_ids, targets=targets,
                created_at=datetime.fromtimestamp(stored.created_ms / 1000, UTC),
                submitted_at=_moment(stored.submitted_ms))


def _moment(ms: int | None) -> datetime | None:
    return datetime.fromtimestamp(ms / 1000, UTC) if ms else None


def note_our_ids(ledger: Ledger, account: Account, sight: Seen | Absent | None) -> None:
    """Remember that this account's books show our own ids, from the first time that they did."""
    if isinstance(sight, Seen) and sight.by_our_id and not ledger.shows_our_ids(account.name):
        ledger.note_our_id(account.name)


def put_on_record(ledger: Ledger, own: Ownership, stored: Stored, seen: Seen | None, records: Sequence[str] = ()) -> None:
    """What a look-up saw of an accepted order; a person is told of one that its broker rejected after all."""
    if ledger.see(own.lease, stored, seen, records):
        log.error("told to a person: the broker rejected an order, or a leg of it, after it had accepted it",
                  account=stored.account, order=stored.id, reason=seen.reason if seen else "")


class Looked(NamedTuple):
    """What a look-up saw, its calls and replies, in words what it came to when it saw nothing, and `held_s`: after how
    many seconds it may be made, when it could not be made now."""

    sight: Seen | Absent | None
    records: list[str]
    words: str = ""
    held_s: float | None = None


def look_up(plan: LookUp, session: Session, sleep: Callable[[float], object], *, patient: bool = False,
            first: bool = False) -> Looked:
    """Drive a look-up once. Reads only: it gives up, in words, where a call is held or cannot be sent.

    `patient`: it may wait for a log-in that orders need more. `first`: it belongs to a cancel or close.
    """
    records: list[str] = []
    answer: Reply | None = None
    try:
        while True:
            asked = plan.send(answer)
            if isinstance(asked, Pause):
                sleep(asked.seconds)
                answer = None
                continue
            if asked.write:
                return Looked(None, records, "the look-up would have written: a fault of the broker file")
            heard = session.send(asked, patient=patient, first=first)
            if not isinstance(heard, Reply):
                held_s = heard.wait_s if isinstance(heard, Held) else 1.0
                return Looked(None, records, f"it could not be looked up: {heard.reason}", held_s)
            at = epoch_ms()
            records += [call_record(asked, at, look=True), reply_record(asked, heard, at, look=True)]
            answer = heard
    except StopIteration as done:
        sight: Seen | Absent | None = done.value
        return Looked(sight, records, "" if sight else "the broker's books do not show it (which proves nothing)")
    except (Stopping, LaneLost, LedgerAway):
        raise
    except Exception as error:
        log.exception("a look-up failed")
        return Looked(None, records, f"it could not be looked up: {type(error).__name__}: {error}")
    finally:
        plan.close()


def _open_for_ms(stored: Stored) -> int | str:
    """How long an accepted order may work at the broker: a day's order at most a day, gtd to its time, gtc for ever."""
    order = stored.order
    if order.time_in_force == "gtc" or any(leg.time_in_force == "gtc" for leg in order.legs):
        return "forever"
    if order.time_in_force == "gtd" and order.expire_time:
        return max(0, int(order.expire_time.timestamp() * 1000) - stored.now_ms) + _CLOCKS_DIFFER_MS
    return DAY_MS
