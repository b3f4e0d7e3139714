"""One attempt at an order: its plan is driven, each write is on record before its first byte, each reply is kept.

After a byte of a write has left, nothing here sends that write again: its reply reaches the plan, or there is none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from bridge.call import Call, Outcome, Pause, Plan, Rejected, Reply, Unknown
from bridge.clock import epoch, monotonic
from bridge.errors import LedgerAway
from bridge.ledger import Lease, Ledger, Stored
from bridge.playback import following
from bridge.session import Held, Session
from bridge.settings import Settings
from bridge.transport import Withheld
from bridge.views import begin_record, call_record, reply_record
from bridge.work import Work

T = TypeVar("T")
log = structlog.get_logger("bridge.lane")

_LOOK_AT_MARKS_S = 1.0
"""How often a wait between the steps of an order looks whether a cancel or close has come."""


class LaneLost(Exception):
    """Another worker owns the lane now: whatever is not on record is his to find out."""


class Stopping(Exception):
    """The worker is to stop; the order stays in the lane as it is on record."""


class NotYet(Exception):
    """Nothing of the order was executed: it goes back to the head of the lane."""

    def __init__(self, reason: str, wait_s: float) -> None:
        super().__init__(reason)
        self.reason, self.wait_s = reason, wait_s


class TooOld(Exception):
    """The last look found the order past its max_age, before anything of it left."""


class Covered(Exception):
    """The last look found a cancel or close that covers the order, before anything of it left."""


class Ownership:
    """A lease as its holder knows it: whether it is certain to last `for_s` more seconds."""

    def __init__(self, lease: Lease, ends_at: float) -> None:
        self.lease = lease
        self._ends_at = ends_at
        self._heard = (lease.now_ms, monotonic())

    def renewed(self, ends_at: float, lease: Lease | None = None) -> None:
        """The lease was renewed and lasts until this moment of the monotonic clock."""
        self._ends_at = ends_at
        if lease is not None:
            self._heard = (lease.now_ms, monotonic())

    @property
    def clock_floor_ms(self) -> int:
        """What the lane's clock shows at least: what it showed with the lease, and what has passed here since."""
        at_ms, heard_at = self._heard
        return at_ms + int((monotonic() - heard_at) * 1000)

    def lost(self) -> None:
        """Another worker has it."""
        self._ends_at = 0.0

    def holds(self, for_s: float = 0.0) -> bool:
        """Whether the lane is certainly ours for that long."""
        return monotonic() + for_s < self._ends_at


@dataclass
class Run:
    """One attempt at an order: what is on record, what is evidence yet to be kept, and whether a write has left.

    `write_left` is set at the last look, when the first byte is about to go, and taken back only when the transport or
    the broker says that nothing was done. `begun`: that the attempt began is on record.
    """

    stored: Stored
    recorded: int
    number: int
    begun: bool = False
    evidence: list[str] = field(default_factory=list)
    submitted: bool = False
    write_left: bool = False
    send_ends_at: float = 0.0


class Sender:
    """Drives plans for one lane."""

    def __init__(self, ledger: Ledger, session: Session, settings: Settings, stop: threading.Event) -> None:
        self._ledger, self._session, self._settings, self._stop = ledger, session, settings, stop
        self._log = log.bind(account=session.account.name)

    def drive(self, own: Ownership, run: Run, plan: Plan, start: Callable[[], Call | Pause | Outcome],
              work: Work) -> Outcome:
        """Carry on a plan from what `start` makes it ask, to its end. Raises NotYet, TooOld, Covered, LaneLost, Stopping."""
        try:
            asked = start()
            while True:
                if isinstance(asked, Call):
                    answer: Reply | None = self._perform(own, run, asked, work)
                elif isinstance(asked, Pause):
                    self._wait(own, run, asked.seconds)
                    answer = None
                else:
                    return asked
                wrote = isinstance(asked, Call) and asked.write
                asked = following(plan, answer)
                if wrote and run.evidence and (isinstance(asked, Pause) or (isinstance(asked, Call) and not asked.write)):
                    self._keep(own, run)  # the plan goes on without a write: what was heard of the last one is kept now
        except (NotYet, TooOld, Covered, LaneLost, Stopping):
            raise
        except Exception as error:  # noqa: BLE001 a fault of ours must not end the lane, nor pass for a broker's word
            self._log.exception("an order could not be carried out", order=run.stored.id)
            words = f"a fault in Bridge: {type(error).__name__}: {error}"
            return Unknown(reason=words) if run.write_left else Rejected(reason=f"nothing was sent: {words}")
        finally:
            plan.close()

    def _keep(self, own: Ownership, run: Run) -> None:
        evidence, run.evidence = run.evidence, []
        self.ask(lambda: self._ledger.keep_evidence(own.lease, run.stored, evidence))

    def _perform(self, own: Ownership, run: Run, call: Call, work: Work) -> Reply:
        """One call, repeated while the broker certainly did nothing and there is patience for it."""
        patience_ends_at: float | None = None
        told = False
        while True:
            if call.write and (late := self._put_on_record(own, run, call, work)):
                run.evidence += [call_record(call, epoch_ms()), reply_record(call, late, epoch_ms())]
                return late  # on record too: what the plan does next can only be played back with it
            left_before = run.write_left
            answer = self._session.send(call, self._last_look(own, run, call),
                                        first=call.undoes or run.stored.order.is_exit)
            if isinstance(answer, Reply):
                run.evidence += self._evidence(call, answer)
                return answer
            run.write_left = left_before
            held = answer if isinstance(answer, Held) else Held(reason=answer.reason, wait_s=1.0)
            if call.write or held.reply is not None:
                run.evidence += self._evidence(call, held.reply or not_sent(held.reason), held=True)
            if not run.write_left:
                raise NotYet(held.reason, held.wait_s)
            if patience_ends_at is None:
                patience_ends_at = monotonic() + self._patience_s(run)
            if monotonic() + held.wait_s > patience_ends_at and not held.ours:
                if not call.undoes:
                    return self._given_up(run, call, held.reason)
                if not told:  # a step that takes back half an order is repeated without end
                    self._alarm(own, run, f"half of it stands and cannot be taken back yet: {held.reason}")
                    told = True
            if self._wait_for_step(own, run, call, min(held.wait_s, 60.0)):
                return self._given_up(run, call, _WITHDRAWN)

    def _alarm(self, own: Ownership, run: Run, reason: str) -> None:
        self._log.error("told to a person", order=run.stored.id, reason=reason)
        self.ask(lambda: self._ledger.alarm(own.lease, run.stored.id, reason))

    def _given_up(self, run: Run, call: Call, reason: str) -> Reply:
        """The reply that the plan hears for a step that is not repeated any more, on record like any other."""
        reply = not_sent(reason)
        run.evidence.append(reply_record(call, reply, epoch_ms()))
        return reply

    def _patience_s(self, run: Run) -> float:
        """How long a later step is repeated: one of an exit as long as the exit may be sent, for it can only reduce."""
        if not run.stored.order.is_exit:
            return self._settings.step_patience
        return max(self._settings.step_patience, (run.stored.max_age_ms - run.stored.age_ms) / 1000)

    def _wait_for_step(self, own: Ownership, run: Run, call: Call, seconds: float) -> bool:
        """Wait before a later step is repeated; True as soon as a cancel or close covers an order that is half placed."""
        ends_at = monotonic() + seconds
        while True:
            if call.write and not call.undoes and not run.stored.order.is_exit and self.ask(
                    lambda: self._ledger.is_covered(run.stored)):
                return True
            if (left := ends_at - monotonic()) <= 0:
                return False
            self._wait(own, run, min(left, _LOOK_AT_MARKS_S))

    def _wait(self, own: Ownership, run: Run, seconds: float) -> None:
        """A wait within a plan. One that has begun is finished, or undone, in the time that stopping leaves."""
        if not run.write_left:
            self.sleep(own, seconds)
            return
        ends_at = monotonic() + seconds
        while (left := ends_at - monotonic()) > 0:
            threading.Event().wait(min(left, 1.0))
            if not own.holds():
                raise LaneLost

    def _put_on_record(self, own: Ownership, run: Run, call: Call, work: Work) -> Reply | None:
        """`submitting` with attempt, send deadline and call, before the first byte; the last look at age and marks.

        Returns a reply that says "not executed" when a later step of an entry comes too late, or is covered.
        """
        stored, may_add = run.stored, not run.stored.order.is_exit
        begin = [] if run.begun else [begin_record(_given(run.number, work), epoch_ms())]
        records = [*begin, *run.evidence, call_record(call, epoch_ms())]
        asked_at = monotonic()
        client_id = str(work.ids.counter) if work.ids.counter is not None else work.ids.client_id()
        word, value = self.ask(lambda: self._ledger.submit(
            own.lease, stored, record=run.recorded + len(records), attempt=run.number,
            send_within_ms=int(self.send_within_s * 1000), client_order_id=client_id,
            counter=work.ids.counter if isinstance(work.ids.counter, int) else None,
            look_at_age=not call.undoes and (may_add or not run.write_left), look_at_marks=not call.undoes,
            clock_floor_ms=own.clock_floor_ms, records=records))
        if word in ("expired", "covered"):
            if not run.write_left:
                raise TooOld if word == "expired" else Covered
            return not_sent(_WITHDRAWN if word == "covered" else
                            f"this step came {int(value) / 1000:.1f} s after the alert, past max_age")
        if word != "ok":
            self._log.error("the lane is no longer ours", order=stored.id, found=word, state=value)
            raise LaneLost
        run.send_ends_at = asked_at + int(value) / 1000
        run.recorded += len(records)
        run.evidence, run.submitted, run.begun = [], True, True
        return None

    @property
    def send_within_s(self) -> float:
        """How long after it was put on record a write may leave."""
        return self._settings.call_timeout / 2

    def _last_look(self, own: Ownership, run: Run, call: Call) -> Callable[[], None]:
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

    def _evidence(self, call: Call, reply: Reply, *, held: bool = False) -> list[str]:
        at = epoch_ms()
        return ([] if call.write else [call_record(call, at)]) + [reply_record(call, reply, at, held=held)]

    def sleep(self, own: Ownership, seconds: float) -> None:
        """Wait. Raises Stopping, or LaneLost when the lane is no longer ours afterwards."""
        if self._stop.wait(seconds):
            raise Stopping
        if not own.holds():
            raise LaneLost

    def ask(self, question: Callable[[], T]) -> T:
        """Ask the ledger until it answers: what was heard from a broker must not be lost because Redis is away."""
        return ask_until_answered(question, self._stop, self._log)


_WITHDRAWN = "a cancel or close that covers the order was queued"


def _given(number: int, work: Work) -> dict[str, Any]:
    """What a plan was given beside its order, so that a fresh one can be given the same."""
    return {"attempt": number, "arming": work.ids.arming, "counter": work.ids.counter,
            "broker_ids": dict(work.broker_ids),
            "submitted": int(work.submitted_at.timestamp() * 1000) if work.submitted_at else None,
            "targets": [{"id": each.ids.order_id, "broker_ids": dict(each.broker_ids)} for each in work.targets]}


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


def not_sent(reason: str) -> Reply:
    """The driver's word that a call was certainly not executed."""
    return Reply(status=None, fault=f"not sent: {reason}", not_executed=True)


def epoch_ms() -> int:
    """Milliseconds since the epoch, for records."""
    return int(epoch() * 1000)
