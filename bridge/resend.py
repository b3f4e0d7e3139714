"""`bridge replay --send`: the chosen alerts once more, for real, through the running receiver.

They take the same way as any alert, so that its secret, its guards and its memory of duplicates hold. What is too old
by its own time is refused here: a template that reads no time from the alert would take an alert of last week for fresh.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from bridge.clock import now as present
from bridge.errors import EXIT_DONE, EXIT_INPUT, EXIT_SERVICE, Fault, ServiceError
from bridge.explain import account_in_words, account_to_json
from bridge.record import STOPPED
from bridge.replay import Case, Judge, Judged, Progress, Selection, cases_of, judged_to_json
from bridge.sending import Sender
from bridge.show import order_in_words
from bridge.wording import span


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What the receiver said to one alert."""

    judged: Judged
    status: int
    answer: Any

    @property
    def word(self) -> str:
        """accepted, duplicate, skipped, refused, invalid or failed."""
        if not isinstance(self.answer, Mapping) or self.status >= 500:
            return "failed"
        if self.status >= 400:
            return "invalid"
        words = {"duplicate_of": "duplicate", "skipped": "skipped", "refused": "refused"}
        return next((word for key, word in words.items() if key in self.answer), "accepted")


@dataclass(slots=True)
class Plan:
    """What would be sent now, and what would not and why."""

    to_send: list[Judged] = field(default_factory=list)
    refused: list[Judged] = field(default_factory=list)
    bad_rows: list[Fault] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    stopped: str = ""

    @property
    def exit_code(self) -> int:
        """3 when the receiver could not be reached or could not take one; 1 when one that was chosen was not taken."""
        if self.stopped or any(each.word == "failed" for each in self.sent):
            return EXIT_SERVICE
        if self.refused or self.bad_rows or any(each.word != "accepted" for each in self.sent):
            return EXIT_INPUT
        return EXIT_DONE


class Resender:
    """Judges by the present moment what is chosen, and sends it."""

    def __init__(self, environ: Mapping[str, str], chosen: Selection) -> None:
        self._environ, self._chosen = environ, chosen

    def plan(self) -> Plan:
        """What would be sent now. Raises InputError for a wrong choice."""
        cases, bad_rows = cases_of(self._environ, self._chosen)
        judge = Judge(self._environ, self._chosen)
        plan = Plan(bad_rows=bad_rows)
        for case in cases:
            judged = _if_fresh(judge.judge(replace(case, then=None), present()), case)
            (plan.to_send if judged.state == "accepted" else plan.refused).append(judged)
        return plan

    def send(self, plan: Plan, progress: Progress) -> None:
        """Send what is planned, oldest first; each is looked at once more right before, for time has passed."""
        sender = Sender(self._environ)
        judge = Judge(self._environ, self._chosen)
        planned = {each.case.label: each for each in plan.to_send}
        for case in progress([each.case for each in plan.to_send]):
            judged = _if_fresh(judge.judge(replace(case, then=None), present()), case)
            if judged.state != "accepted":
                plan.refused.append(judged)
                continue
            try:
                name = case.template if judged.template is None else judged.template.name
                status, answer = sender.send(name, case.body)
            except ServiceError as error:
                plan.stopped = str(error)
                return
            plan.sent.append(Sent(judged=planned[case.label], status=status, answer=answer))


def _if_fresh(judged: Judged, case: Case) -> Judged:
    """The alert with its record again, refused where it is too old by its own time though its template reads none, and
    where the receiver could not know it for the one that came."""
    judged = replace(judged, case=case)
    if judged.state != "accepted" or judged.template is None:
        return judged
    if not case.as_it_came:
        return replace(judged, state="refused", reason=(
            "on record without the keys that came with it, or not to the byte: sent again it would not be known for the "
            "same alert; post the original with `bridge send`"))
    if judged.template.sent_at is not None:
        return judged
    if case.at is None:
        return replace(judged, state="refused", reason="too old, perhaps: the log has no time for it, and the template "
                                                       "reads none from it (`sent_at`)")
    age_ms = _ms_since(case.at)
    most = min(new.max_age_ms for new, _ in judged.orders)
    if age_ms <= most:
        return judged
    return replace(judged, state="refused",
                   reason=f"too old: it came {span(age_ms)} ago; at most {span(most)} are allowed")


def _ms_since(moment: datetime) -> int:
    return int((present() - moment).total_seconds() * 1000)


# -- telling -----------------------------------------------------------------------------------------------------------


def plan_lines(plan: Plan, url: str) -> Iterator[str]:
    """What would be sent and where, for a person to say yes to."""
    for each in plan.to_send:
        yield f"{each.case.label}  {each.case.template}"
        for new, _ in each.orders:
            yield f"    {new.account}: {order_in_words(new.order.to_json())}"
        then = [order for order in (each.case.then or {}).get("orders", ()) if order["state"] not in STOPPED]
        if then:
            made = ", ".join(f"{order['id']} ({order['state']})" for order in then)
            yield f"    it made {made} already: sent again it makes NEW orders beside them"
    yield from _refused_lines(plan.refused)
    yield from (str(fault) for fault in plan.bad_rows)
    if not plan.to_send:
        return
    yield ""
    yield (f"{_count(len(plan.to_send))} to {url}; the same body or id within its template's window is a duplicate, and "
           "makes nothing.")
    for words in _accounts(plan.to_send):
        yield f"  {words}"


def _refused_lines(refused: Iterable[Judged]) -> Iterator[str]:
    for each in refused:
        yield f"{each.case.label}  {each.case.template}  not sent: {each.reason or each.state}"


def _accounts(judged: Iterable[Judged]) -> Iterator[str]:
    found = {(new.account, new.dry_run): each.template for each in judged for new, _ in each.orders}
    for (name, dry_run), template in sorted(found.items(), key=lambda pair: pair[0]):
        if template is not None:
            yield account_in_words(account_to_json(template.known_accounts[name], dry_run=dry_run))


def real_accounts(plan: Plan) -> list[str]:
    """The accounts at which real money would move."""
    return sorted({new.account for each in plan.to_send for new, _ in each.orders if each.template is not None
                   and each.template.known_accounts[new.account].real_money and not new.dry_run})


def sent_lines(plan: Plan) -> Iterator[str]:
    """What became of what was sent, and the counts."""
    for each in plan.sent:
        made = each.answer.get("orders", ()) if isinstance(each.answer, Mapping) else ()
        orders = ", ".join(f"{order['id']} at {order['account']} {order['state']}" for order in made)
        yield (f"{each.judged.case.label}  {each.judged.case.template}  HTTP {each.status} {each.word}{_why(each)}"
               + (f": {orders}" if orders else ""))
    yield ""
    too_old = sum(each.reason.startswith("too old") for each in plan.refused)
    yield (f"{_count(len(plan.sent))} sent" + (f", {len(plan.refused):,} not sent" if plan.refused else "")
           + (f" ({too_old:,} too old)" if too_old else ""))
    if plan.stopped:
        yield f"stopped: {plan.stopped}"


def _why(each: Sent) -> str:
    if each.word == "duplicate":
        return f" of {each.answer['duplicate_of']}: nothing was ordered"
    if each.word in ("skipped", "refused"):
        return f" ({each.answer[each.word]})"
    return ""


def _count(count: int) -> str:
    return f"{count:,} alert{'' if count == 1 else 's'}"


def to_json(plan: Plan) -> dict[str, Any]:
    """What was sent and what was not, for `--json`."""
    return {
        "sent": [{"alert": (each.judged.case.then or {}).get("id"), "line": each.judged.case.row.line if
                  each.judged.case.row else None, "template": each.judged.case.template, "status": each.status,
                  "state": each.word, "answer": each.answer} for each in plan.sent],
        "refused": [judged_to_json(each) for each in plan.refused],
        "bad_rows": [fault.to_json() for fault in plan.bad_rows], "stopped": plan.stopped or None,
        "summary": {"chosen": len(plan.to_send) + len(plan.refused), "sent": len(plan.sent),
                    "refused": len(plan.refused),
                    "too_old": sum(each.reason.startswith("too old") for each in plan.refused)}}
