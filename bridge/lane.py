"""What happens to one order in its lane: carried out, looked up when in doubt, put on record.

The order of things is the promise: `submitting` is on record before the first byte of a write, every reply is kept,
and the outcome is on record before the order leaves the lane. After a byte of a write has left, an order is never sent again
by this module: it is accepted, rejected, or unknown and looked up.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog

from bridge.broker import Broker
from bridge.call import Accepted, Call, LookUp, Outcome, Pause, Plan, Rejected, Reply, Retry, Seen, Unknown
from bridge.clock import epoch, monotonic, now
from bridge.contracts import same_contract
from bridge.errors import LedgerAway
from bridge.ledger import Lease, Ledger, Stored, seen_fields
from bridge.life import ENDED, GONE_ON, move
from bridge.numbers import dump_json
from bridge.rehearse import rehearse
from bridge.session import Held, Session
from bridge.settings import Settings
from bridge.transport import Withheld
from bridge.views import call_record, reply_record
from bridge.work import Account, Ids, Work

DAY_MS = 86_400_000
_LOOK_UP_AFTER_MS = 300
_BETWEEN_LOOK_UPS_S = (0.2, 0.5, 1.0, 2.0)

log = structlog.get_logger("bridge.lane")
T = TypeVar("T")


class LaneLost(Exception):
    """Another worker owns the lane now: whatever is not on record is his to find out."""


class Stopping(Exception):
    """The worker is to stop; the order stays in the lane as it is on record."""


class _NotYet(Exception):
    """Nothing of the order was executed: it goes back to the head of the lane."""

    def __init__(self, reason: str, wait_s: float) -> None:
        super().__init__(reason)
        self.reason, self.wait_s = reason, wait_s


class _TooOld(Exception):
    """The last look found the order past its max_age, before anything of it left."""


class Ownership:
    """A lease as its holder knows it: whether it is certain to last `for_s` more seconds."""

    def __init__(self, lease: Lease, ends_at: float) -> None:
        self.lease = lease
        self._ends_at = ends_at

    def renewed(self, ends_at: float) -> None:
        """The lease was renewed and lasts until this moment of the monotonic clock."""
        self._ends_at = ends_at

    def lost(self) -> None:
        """Another worker has it."""
        self._ends_at = 0.0

    def holds(self, for_s: float = 0.0) -> bool:
        """Whether the lane is certainly ours for that long."""
        return monotonic() + for_s < self._ends_at


@dataclass
class _Run:
    """One attempt at an order: what is on record, what is evidence yet to be kept, and whether a write has left.

    `write_left` is set at the last look, when the first byte is about to go, and taken back only when the transport or
    the broker says that nothing was done.
    """

    stored: Stored
    recorded: int
    evidence: list[str] = field(default_factory=list)
    submitted: bool = False
    write_left: bool = False
    send_ends_at: float = 0.0


class Lane:
    """The handling of one account's orders by one thread that owns its lane."""

    def __init__(self, broker: Broker, ledger: Ledger, session: Session, settings: Settings, stop: threading.Event,
                 on_accepted: Callable[[str, float], None] = lambda order, due_in_s: None) -> None:
        self._broker, self._ledger, self._session, self._settings = broker, ledger, session, settings
        self._account = session.account
        self._stop, self._on_accepted = stop, on_accepted
        self._not_before: dict[str, float] = {}
        self._last_words: dict[str, str] = {}
        self._log = log.bind(account=self._account.name)

    def handle(self, own: Ownership, entry: str, order: str) -> float | None:
        """Bring one order of the lane, which stands there as `entry`, as far as it goes now.

        Returns None when it is done with (or gone), else the seconds after which to look at it again; the lane waits
        for it, except that one which waits for its predecessor (a negative number) lets others pass. Raises LaneLost
        and Stopping.
        """
        stored = self._load(order)
        if stored is None or stored.state in ENDED:  # nothing to do for it: or the lane would come back to it for ever
            self._ask(lambda: self._ledger.set_aside(own.lease, order, entry, ""))
            return None
        if stored.state == "submitting":
            self._recover(own, stored)
            return None
        if stored.state == "unknown":
            self._look_for(own, stored)
            return None
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
        """Whether the order before it in the list lets it go: True, a wait, or None when it was withdrawn."""
        before = self._load(stored.follows)
        if before is not None and before.state in GONE_ON:
            return True
        if before is not None and before.state in ("queued", "submitting", "unknown"):
            return -0.2
        word = before.state if before else "gone"
        stands = self._earlier_stands(before)
        reason = f"withdrawn: the order before it in the alert, {stored.follows}, is {word}"
        if stands:
            reason += f"; but {stands} before that stands at the broker: look whether it is protected"
            self._log.error("told to a person", order=stored.id, reason=reason)
        self._settle(own, stored, "withdraw", reason, ended=not stands, person=bool(stands))
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
        if stored.order.is_exit:
            self._log.error("told to a person", order=stored.id, reason=f"an exit expired: {reason}")
        self._settle(own, stored, "expire", reason, ended=not stored.order.is_exit, person=stored.order.is_exit)

    def _rehearse(self, own: Ownership, stored: Stored) -> None:
        calls, _ = rehearse(self._broker.submit(self._work(own, stored, "<from: counter>")))
        records = [call_record(call, stored.now_ms) for call in calls]
        self._settle(own, stored, "rehearse", "dry run: everything but sent", ended=True, records=records)

    # -- sending -----------------------------------------------------------------------------------------------------

    def _carry_out(self, own: Ownership, stored: Stored) -> float | None:
        run = _Run(stored, stored.records)
        counter = stored.counter
        try:
            if counter is None and (name := self._broker.counter_name(self._account)):
                counter = self._ask(lambda: self._ledger.next_number(name))
            outcome = self._drive(own, run, self._work(own, stored, counter))
        except _NotYet as no:
            outcome = Retry(reason=no.reason, after_s=no.wait_s)
        except _TooOld:
            self._expire(own, self._load(stored.id) or stored)
            return None
        except (LaneLost, Stopping):
            if run.evidence:  # what a broker said is kept, whoever goes on with the order
                self._ask(lambda: self._ledger.keep_evidence(stored, run.evidence))
            raise
        return self._conclude(own, run, outcome)

    def _drive(self, own: Ownership, run: _Run, work: Work) -> Outcome:
        plan = self._broker.submit(work)
        answer: Reply | None = None
        try:
            while True:
                asked = _next(plan, answer)
                if isinstance(asked, Call):
                    answer = self._perform(own, run, asked, work)
                elif isinstance(asked, Pause):
                    self._wait(own, run, asked.seconds)
                    answer = None
                else:
                    return asked
        except (_NotYet, _TooOld, LaneLost, Stopping):
            raise
        except Exception as error:  # noqa: BLE001 a fault of ours must not end the lane, nor pass for a broker's word
            self._log.exception("an order could not be carried out", order=run.stored.id)
            words = f"a fault in Bridge: {type(error).__name__}: {error}"
            return Unknown(reason=words) if run.write_left else Rejected(reason=f"nothing was sent: {words}")
        finally:
            plan.close()

    def _perform(self, own: Ownership, run: _Run, call: Call, work: Work) -> Reply:
        """One call, repeated while the broker certainly did nothing and there is patience for it."""
        patience_ends_at: float | None = None
        told = False
        while True:
            if call.write and (late := self._put_on_record(own, run, call, work)):
                return late
            left_before = run.write_left
            answer = self._session.send(call, self._last_look(own, run, call))
            if isinstance(answer, Reply):
                run.evidence += self._evidence(call, answer)
                return answer
            run.write_left = left_before
            held = answer if isinstance(answer, Held) else Held(reason=answer.reason, wait_s=1.0)
            if call.write or held.reply is not None:
                run.evidence += self._evidence(call, held.reply or _not_sent(held.reason))
            if not run.write_left:
                raise _NotYet(held.reason, held.wait_s)
            if patience_ends_at is None:
                patience_ends_at = monotonic() + self._patience_s(run, call)
            if monotonic() + held.wait_s > patience_ends_at and not held.ours:
                if not call.undoes:
                    return _not_sent(held.reason)
                if not told:  # a step that takes back half an order is repeated without end
                    self._log.error("told to a person: half an order stands and cannot be taken back yet",
                                    order=run.stored.id, reason=held.reason)
                    told = True
            self._wait(own, run, min(held.wait_s, 60.0))

    def _patience_s(self, run: _Run, call: Call) -> float:
        """How long a later step is repeated: one of an exit as long as the exit may be sent, for it can only reduce."""
        if not run.stored.order.is_exit:
            return self._settings.step_patience
        return max(self._settings.step_patience, (run.stored.max_age_ms - run.stored.age_ms) / 1000)

    def _wait(self, own: Ownership, run: _Run, seconds: float) -> None:
        """A wait within a plan. One that has begun is finished, or undone, in the time that stopping leaves."""
        if not run.write_left:
            self._sleep(own, seconds)
            return
        ends_at = monotonic() + seconds
        while (left := ends_at - monotonic()) > 0:
            threading.Event().wait(min(left, 1.0))
            if not own.holds():
                raise LaneLost

    def _put_on_record(self, own: Ownership, run: _Run, call: Call, work: Work) -> Reply | None:
        """`submitting` with attempt, send deadline and call, before the first byte; the last look at the age.

        Returns a reply that says "not executed" when a later step of an entry comes too late.
        """
        stored, may_add = run.stored, not run.stored.order.is_exit
        records = [*run.evidence, call_record(call, _epoch_ms())]
        run.send_ends_at = monotonic() + self._send_within_s()
        client_id = str(work.ids.counter) if work.ids.counter is not None else work.ids.client_id()
        word, value = self._ask(lambda: self._ledger.submit(
            own.lease, stored, record=run.recorded + len(records), attempt=stored.attempt + 1,
            send_within_ms=int(self._send_within_s() * 1000), client_order_id=client_id,
            counter=work.ids.counter if isinstance(work.ids.counter, int) else None,
            look_at_age=may_add or not run.write_left, records=records))
        if word == "expired":
            if not run.write_left:
                raise _TooOld
            return Reply(status=None, not_executed=True,
                         fault=f"this step came {int(value) / 1000:.1f} s after the alert, past max_age")
        if word != "ok":
            self._log.error("the lane is no longer ours", order=stored.id, found=word, state=value)
            raise LaneLost
        run.recorded += len(records)
        run.evidence, run.submitted = [], True
        return None

    def _send_within_s(self) -> float:
        return self._settings.call_timeout / 2

    def _last_look(self, own: Ownership, run: _Run, call: Call) -> Callable[[], None]:
        """Asked by the transport right before the first byte."""
        if not call.write:
            return lambda: None

        def look() -> None:
            if monotonic() > run.send_ends_at:
                raise Withheld("the send deadline had passed")
            if not own.holds(self._settings.call_timeout):
                raise Withheld("the lane's lease would have ended during the call")
            if self._stop.is_set() and not run.write_left:
                raise Withheld("the worker was told to stop")
            run.write_left = True

        return look

    # -- what it came to ---------------------------------------------------------------------------------------------

    def _conclude(self, own: Ownership, run: _Run, outcome: Outcome) -> float | None:
        stored = run.stored
        if isinstance(outcome, Retry):
            return self._put_back(own, run, outcome)
        if not run.submitted:
            self._step_up(own, run)
        if isinstance(outcome, Unknown):
            fields = {"doubt": _epoch_ms(), "broker_ids": dump_json({**stored.broker_ids, **outcome.broker_ids})}
            self._settle(own, stored, "lose", outcome.reason, done=False, fields=fields, records=run.evidence)
            if doubtful := self._load(stored.id):
                self._look_for(own, doubtful)
            return None
        if isinstance(outcome, Rejected):
            if stored.order.is_exit:
                self._log.error("told to a person", order=stored.id, reason=f"an exit was refused: {outcome.reason}")
            self._settle(own, stored, "reject", outcome.reason, ended=not stored.order.is_exit,
                         person=stored.order.is_exit, records=run.evidence)
            return None
        self._accept(own, stored, outcome, run.evidence)
        return None

    def _step_up(self, own: Ownership, run: _Run) -> None:
        """An outcome that needed no write (nothing to cancel, nothing open) still passes through `submitting`."""
        self._ask(lambda: self._ledger.submit(
            own.lease, run.stored, record=run.recorded + 1, attempt=run.stored.attempt + 1, send_within_ms=0,
            client_order_id=run.stored.client_order_id, counter=run.stored.counter, look_at_age=False, records=[]))

    def _put_back(self, own: Ownership, run: _Run, outcome: Retry) -> float:
        wait_s = min(max(outcome.after_s, 0.05), 60.0)
        self._not_before[run.stored.id] = monotonic() + wait_s
        if self._last_words.get(run.stored.id) != outcome.reason:
            self._log.warning("not sent, will be tried again", order=run.stored.id, reason=outcome.reason)
        self._last_words[run.stored.id] = outcome.reason
        if run.submitted:
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

    def _see_target(self, own: Ownership, order: str, seen: Seen) -> None:
        """Put on record what a cancel or close learnt of another order of ours."""
        target = self._load(order)
        if target is None:
            return
        if target.state == "unknown":
            self._found(own, target, seen, [])
        else:
            self._ask(lambda: self._ledger.see(own.lease, target, seen))

    def _settle(self, own: Ownership, stored: Stored, event: str, reason: str, **more: Any) -> None:
        state = move("submitting" if event in ("retry", "lose", "reject", "accept") and stored.state == "queued"
                     else stored.state, event)
        nonce = uuid.uuid4().hex  # one for all tries: the ledger may have heard a try whose answer was lost
        word = self._ask(lambda: self._ledger.settle(own.lease, stored, event, state, nonce=nonce, reason=reason, **more))
        if word == "ok":
            if state != "queued":
                self._not_before.pop(stored.id, None)
                self._last_words.pop(stored.id, None)
            self._log.info("order", order=stored.id, kind=stored.order.kind, state=state, reason=reason)
            return
        if records := more.get("records"):
            self._ask(lambda: self._ledger.keep_evidence(stored, records))
        self._log.error("the lane is no longer ours", order=stored.id, found=word)
        raise LaneLost

    # -- doubt -------------------------------------------------------------------------------------------------------

    def _recover(self, own: Ownership, stored: Stored) -> None:
        """An order that somebody was submitting when he died: looked up once, never sent again here."""
        several = stored.order.is_exit or self._broker.capabilities.kinds.get(stored.order.kind) != "native"
        reason = "a worker ended while it was sending this order"
        if several:
            self._tell(own, stored, "lose", f"{reason}; it takes several calls, of which an unknown part was made")
            return
        seen, records, words = self._look_up(own, stored)
        if seen is not None:
            self._found(own, stored, seen, records)
        else:
            self._tell(own, stored, "lose", f"{reason}; {words}", records)

    def _look_for(self, own: Ownership, stored: Stored) -> None:
        """Look a doubtful order up until it is found or patience is over; then a person is told."""
        ends_at = monotonic() + max(0.0, stored.doubt_ms / 1000 + self._settings.lookup_patience - epoch())
        words, tries = "it was not looked up", 0
        while True:
            self._sleep(own, min(_BETWEEN_LOOK_UPS_S[min(tries, 3)], max(0.0, ends_at - monotonic())))
            seen, records, words = self._look_up(own, stored)
            if seen is not None:
                self._found(own, stored, seen, records)
                return
            tries += 1
            if monotonic() >= ends_at:
                self._tell(own, stored, "tell", f"{stored.reason}; {words}", records)
                return

    def _found(self, own: Ownership, stored: Stored, seen: Seen, records: list[str]) -> None:
        fields = {**seen_fields(stored, seen), "broker_status": seen.broker_status}
        found = f"found at the broker: {seen.broker_status}" + (f", {seen.reason}" if seen.reason else "")
        if seen.broker_status == "rejected":
            self._settle(own, stored, "reject", found, fields=fields, records=records, ended=True)
            return
        self._settle(own, stored, "accept", found, fields=fields, records=records, ended=seen.all_ended,
                     open_for_ms=None if seen.all_ended else _open_for_ms(stored))

    def _tell(self, own: Ownership, stored: Stored, event: str, reason: str, records: list[str] | None = None) -> None:
        self._log.error("told to a person: it may stand at the broker or not", order=stored.id, reason=reason)
        self._settle(own, stored, event, reason, person=True, records=records or [])

    def _look_up(self, own: Ownership, stored: Stored) -> tuple[Seen | None, list[str], str]:
        """What one look-up saw, its calls and replies, and in words what it came to when it saw nothing."""
        work = self._work(own, stored, stored.counter)
        return look_up(self._broker.look_up(work), self._session, lambda seconds: self._sleep(own, seconds))

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _work(self, own: Ownership, stored: Stored, counter: int | str | None, *, with_targets: bool = True) -> Work:
        targets: tuple[Work, ...] = ()
        if with_targets and stored.order.is_exit:
            targets = tuple(self._work(own, each, each.counter, with_targets=False) for each in self._targets(stored))
        return work_of(stored, self._account, counter, targets)

    def _targets(self, stored: Stored) -> list[Stored]:
        """Our orders that a cancel or close concerns, newest first."""
        order = stored.order
        found = [each for each in self._ask(lambda: self._ledger.open_orders(self._account.name))
                 if not each.order.is_exit and each.id != stored.id]
        if order.ref:
            return [each for each in found if each.order.ref == order.ref][:1]
        if order.symbol:
            return [each for each in found if each.order.symbol and same_contract(each.order.symbol, order.symbol)]
        return []

    def _evidence(self, call: Call, reply: Reply) -> list[str]:
        at = _epoch_ms()
        return ([] if call.write else [call_record(call, at)]) + [reply_record(call, reply, at)]

    def _load(self, order: str) -> Stored | None:
        return self._ask(lambda: self._ledger.load(self._account.name, order))

    def _sleep(self, own: Ownership, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Stopping
        if not own.holds():
            raise LaneLost

    def _ask(self, question: Callable[[], T]) -> T:
        """Ask the ledger until it answers: what was heard from a broker must not be lost because Redis is away."""
        return ask_until_answered(question, self._stop, self._log)


def ask_until_answered(question: Callable[[], T], stop: threading.Event, logger: Any) -> T:
    """The answer of the ledger, however long it is away. While stopping, it is asked for two more seconds."""
    wait_s, warned, ends_at = 0.05, False, None
    while True:
        try:
            return question()
        except LedgerAway as error:
            if not warned:
                logger.warning("the ledger is away; waiting for it", reason=str(error))
                warned = True
            if stop.is_set():
                ends_at = ends_at or monotonic() + 2.0
                if monotonic() > ends_at:
                    raise Stopping from None
            (threading.Event() if stop.is_set() else stop).wait(wait_s)
            wait_s = min(1.0, wait_s * 2)


def _next(plan: Plan, answer: Reply | None) -> Call | Pause | Outcome:
    """What a plan asks for next, or what it came to."""
    try:
        asked: Call | Pause = plan.send(answer)
        return asked
    except StopIteration as done:
        outcome: Outcome = done.value
        return outcome


def _not_sent(reason: str) -> Reply:
    return Reply(status=None, fault=f"not sent: {reason}", not_executed=True)


def work_of(stored: Stored, account: Account, counter: int | str | None, targets: tuple[Work, ...] = ()) -> Work:
    """What a plan is given for an order on record."""
    submitted = datetime.fromtimestamp(stored.submitted_ms / 1000, UTC) if stored.submitted_ms else None
    return Work(order=stored.order, account=account, ids=Ids(order_id=stored.id, counter=counter),
                broker_ids=stored.broker_ids, targets=targets,
                created_at=datetime.fromtimestamp(stored.created_ms / 1000, UTC), submitted_at=submitted)


def look_up(plan: LookUp, session: Session, sleep: Callable[[float], object]) -> tuple[Seen | None, list[str], str]:
    """Drive a look-up once. Reads only: it gives up, in words, where a call is held or cannot be sent."""
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
                return None, records, "the look-up would have written: a fault of the broker file"
            heard = session.send(asked)
            if not isinstance(heard, Reply):
                return None, records, f"it could not be looked up: {heard.reason}"
            at = _epoch_ms()
            records += [call_record(asked, at), reply_record(asked, heard, at)]
            answer = heard
    except StopIteration as done:
        seen: Seen | None = done.value
        return seen, records, "" if seen else "the broker's books do not show it (which proves nothing)"
    except (Stopping, LaneLost, LedgerAway):
        raise
    except Exception as error:
        log.exception("a look-up failed")
        return None, records, f"it could not be looked up: {type(error).__name__}: {error}"
    finally:
        plan.close()


def _open_for_ms(stored: Stored) -> int | str:
    """How long an accepted order may work at the broker: a day's order at most a day, gtd to its time, gtc for ever."""
    order = stored.order
    if order.time_in_force == "gtc" or any(leg.time_in_force == "gtc" for leg in order.legs):
        return "forever"
    if order.time_in_force == "gtd" and order.expire_time:
        return max(0, int((order.expire_time - now()).total_seconds() * 1000)) + 60_000
    return DAY_MS


def _epoch_ms() -> int:
    return int(epoch() * 1000)
