"""`bridge replay`: alerts on record, or of TradingView's exported log, through the present templates.

Dry: each alert is judged as if it came at the moment at which it came, and what it makes is held against what was sent
then. Nothing is sent; `resend.py` does that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from bridge.alert import fingerprint, read_body
from bridge.alert_log import Row, read_log
from bridge.brokers import BROKERS
from bridge.call import Call
from bridge.clock import now as present
from bridge.difference import addresses, differences
from bridge.embedded import find
from bridge.errors import Fault, InputError
from bridge.filters import plain_text
from bridge.intake import decide
from bridge.ledger import Ledger
from bridge.load import Loaded, load, load_named, settings_of, with_stored_secret
from bridge.masters import kept_masters
from bridge.numbers import dump_json
from bridge.preview import calls_of
from bridge.record import Delivery, NewOrder, order_id
from bridge.show import order_in_words
from bridge.template import Template
from bridge.values import read_time

Progress = Callable[[Sequence["Case"]], Iterable["Case"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is to be replayed: ids of stored alerts, an exported log (`csv` its bytes, `file` its name), or stored
    alerts of a time. `template` judges in place of an alert's own; of a time it chooses whose alerts."""

    ids: tuple[str, ...] = ()
    csv: bytes | None = None
    file: str = ""
    template: str = ""
    since: str | None = None
    until: str | None = None
    limit: int | None = None
    now: str | None = None
    sandbox: bool = False

    @property
    def through(self) -> str:
        """The template that judges in place of an alert's own; "" for its own."""
        return self.template if self.ids or self.csv is not None else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One alert to be replayed. `at` is when it came, None where nobody knows; `then` is its record."""

    label: str
    template: str
    body: bytes
    at: datetime | None
    then: Mapping[str, Any] | None = None
    row: Row | None = None

    @property
    def as_it_came(self) -> bool:
        """Whether the body is the one that came, to the byte: keys of other services are masked on record."""
        return self.then is None or fingerprint(self.body) == self.then["fingerprint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What an alert comes to through the present templates. `state` is accepted, duplicate, skipped, refused, invalid,
    or no_template."""

    case: Case
    state: str
    reason: str
    template: Template | None = None
    delivery: Delivery | None = None
    orders: tuple[tuple[NewOrder, tuple[Call, ...]], ...] = ()
    faults: tuple[Fault, ...] = ()
    differences: tuple[Mapping[str, Any], ...] | None = None
    moved: frozenset[tuple[str, str, str]] = frozenset()

    @property
    def same(self) -> bool | None:
        """Whether it is as it was then; None where nothing is known of then."""
        return None if self.differences is None else not self.differences


@dataclass(slots=True)
class Replayed:
    """All of it: what was judged, and the rows of a log that could not be read."""

    judged: list[Judged] = field(default_factory=list)
    bad_rows: list[Fault] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing is at fault: no row, no template, and no alert that was not at fault then too."""
        return not self.bad_rows and not any(
            each.state == "no_template"
            or (each.state == "invalid" and (each.case.then or {}).get("state") != "invalid")
            for each in self.judged)


# -- choosing ----------------------------------------------------------------------------------------------------------


def cases_of(environ: Mapping[str, str], chosen: Selection) -> tuple[list[Case], list[Fault]]:
    """The alerts that are chosen, oldest first, and the bad rows of a log.

    Raises InputError for what is not there, LedgerAway without a running bridge.
    """
    since, until = _limit(chosen.since, "--since"), _limit(chosen.until, "--until")
    if chosen.csv is not None:
        rows, faults = read_log(chosen.csv, chosen.file)
        if not chosen.template:
            raise InputError("--csv needs --template: the log does not say which template its alerts are for")
        cases = [Case(label=f"line {row.line}", template=chosen.template, body=row.body.encode("utf-8", "replace"),
                      at=row.at, row=row)
                 for row in rows if row.at is None or ((since is None or row.at >= since)
                                                       and (until is None or row.at <= until))]
        return cases[-chosen.limit:] if chosen.limit is not None else cases, faults
    settings = settings_of(environ)
    ledger = Ledger(find(settings), retention_ms=settings.retention, copies=settings.replicas)
    with closing(ledger):
        stored = list(_by_id(ledger, chosen.ids)) if chosen.ids else list(ledger.stored_alerts(
            since_ms=_ms(since) or 0, until_ms=_ms(until), template=chosen.template, limit=chosen.limit))
    stored.sort(key=lambda each: each["received_ms"])
    return [_case(each, chosen.through) for each in stored], []


def _by_id(ledger: Ledger, ids: Iterable[str]) -> Iterator[dict[str, Any]]:
    for alert in dict.fromkeys(ids):
        found = ledger.stored_alert(alert)
        if found is None:
            raise InputError(f"there is no alert {alert!r}; `bridge alerts` lists them")
        yield found


def _case(stored: Mapping[str, Any], through: str) -> Case:
    return Case(label=stored["id"], template=through or stored["template"],
                body=stored["body"].encode("utf-8", "backslashreplace"),
                at=datetime.fromtimestamp(stored["received_ms"] / 1000, UTC), then=stored)


def _limit(text: str | None, option: str) -> datetime | None:
    if text is None:
        return None
    try:
        return read_time(f"{text}T00:00:00Z" if len(text) == len("2026-11-20") else text)
    except ValueError as error:
        raise InputError(f"{option} {text!r}: {error}") from None


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)


# -- judging -----------------------------------------------------------------------------------------------------------


class Judge:
    """Sends alerts through the present templates, and remembers which keys were taken within their windows."""

    def __init__(self, environ: Mapping[str, str], chosen: Selection) -> None:
        settings = with_stored_secret(settings_of(environ))
        self._loaded: Loaded = load(settings, environ, lenient=True, sandbox=chosen.sandbox, serves=False)
        self._masters, _ = kept_masters(settings.data, self._loaded.accounts, self._loaded.accounts.accounts)
        self._templates = dict(self._loaded.templates.loaded)
        if chosen.through and chosen.through not in self._templates:
            self._templates[chosen.through], _ = load_named(settings, environ, chosen.through)
        self._masters, self.words = kept_masters(settings.data, self._loaded.accounts, self._loaded.accounts.accounts)
        self._taken: dict[tuple[str, str], tuple[str, datetime, int]] = {}

    def judge(self, case: Case, moment: datetime) -> Judged:
        """What this alert makes when it comes at this moment."""
        template = self._templates.get(case.template)
        if template is None:
            faults = self._loaded.templates.faults.get(case.template, ())
            return Judged(case=case, state="no_template", faults=faults, reason=(
                f"the template {case.template} does not load" if faults
                else f"there is no template {case.template} now"))
        try:
            body = read_body(case.body)
            delivery = decide(template, body, case.body, home=template.accounts[0], nonce=case.label, now=moment,
                              masters=self._masters)
        except InputError as error:
            judged = Judged(case=case, state="invalid", template=template, faults=error.faults,
                            reason="; ".join(str(fault) for fault in error.faults))
            return self._compared(judged)
        return self._compared(self._of(case, template, _as_recorded(delivery, case, template), moment))

    def _of(self, case: Case, template: Template, delivery: Delivery, moment: datetime) -> Judged:
        first = self._copy_of(case, template, delivery, moment)
        if first:
            return Judged(case=case, state="duplicate", reason=f"a copy of {first}: it makes nothing",
                          template=template, delivery=replace(delivery, orders=()))
        orders = tuple((new, () if new.state == "refused" else tuple(
            calls_of(new, template.known_accounts[new.account], moment))) for new in delivery.orders)
        return Judged(case=case, state=delivery.state, reason=delivery.reason, template=template, delivery=delivery,
                      orders=orders)

    def _copy_of(self, case: Case, template: Template, delivery: Delivery, moment: datetime) -> str:
        """The alert that has taken this one's key; "" where none has."""
        name = (template.name, delivery.key)
        label, since, window = self._taken.get(name, ("", moment, 0))
        if label and (moment - since).total_seconds() * 1000 <= window:
            return label
        if case.then is not None and case.then["duplicate_of"] and template.name == case.then["template"]:
            return str(case.then["duplicate_of"])
        if delivery.takes_key and case.at is not None:
            self._taken[name] = (case.label, moment, delivery.dedupe_ms)
        return ""

    def _compared(self, judged: Judged) -> Judged:
        then = judged.case.then
        if then is None:
            return judged
        found = differences(then, judged.orders)
        if then["state"] != judged.state:
            state = {"field": "state", "then": then["state"], "now": judged.state}
            found.insert(0, {"change": "alert", "fields": [state], "reason": judged.reason or then["reason"]})
        return replace(judged, differences=tuple(found), moved=frozenset(addresses(then, judged.orders)))


def _as_recorded(delivery: Delivery, case: Case, template: Template) -> Delivery:
    """The delivery with the ids that its record has, so that ids derived from them do not differ."""
    if case.then is None:
        return delivery
    alert, name = case.then["id"], case.then["template"]
    ids = {new.id: order_id(alert, name, new.index, new.account) for new in delivery.orders}
    orders = tuple(replace(new, id=ids[new.id], follows=ids.get(new.follows, new.follows)) for new in delivery.orders)
    return replace(delivery, id=alert, orders=orders)


def replay(environ: Mapping[str, str], chosen: Selection, progress: Progress) -> Replayed:
    """Judge all that is chosen, each alert at the moment at which it came (or at `--now`). Nothing is sent.

    `progress` is given the alerts and gives them back one by one.
    """
    fixed = _limit(chosen.now, "--now")
    cases, bad_rows = cases_of(environ, chosen)
    judge = Judge(environ, chosen)
    found = Replayed(bad_rows=bad_rows)
    for case in progress(cases):
        found.judged.append(judge.judge(case, fixed or case.at or present()))
    return found


# -- as data -----------------------------------------------------------------------------------------------------------


def to_json(found: Replayed) -> dict[str, Any]:
    """All of it for `--json`. No body is shown: other tools' alerts carry secrets in theirs."""
    return {"alerts": [judged_to_json(each) for each in found.judged],
            "bad_rows": [fault.to_json() for fault in found.bad_rows], "summary": summary_of(found)}


def judged_to_json(each: Judged) -> dict[str, Any]:
    """One alert for `--json`. Orders of then that are the same now are not written out twice."""
    case = each.case
    said: dict[str, Any] = {"alert": case.then["id"] if case.then else None, "template": case.template,
                            "received_at": plain_text(case.at) if case.at else None}
    if case.row is not None:
        said |= {"line": case.row.line, "log": {"id": case.row.id, "ticker": case.row.ticker, "name": case.row.name}}
    if case.then is not None:
        names = ("id", "account", "state", "reason", *(() if each.same else ("order",)))
        said["then"] = {"state": case.then["state"], "reason": case.then["reason"],
                        "orders": [{name: order[name] for name in names} for order in case.then["orders"]]}
    said["now"] = {"state": each.state, "reason": each.reason, "faults": [fault.to_json() for fault in each.faults],
                   "orders": [_order(new, calls) for new, calls in each.orders]}
    return said | {"same": each.same, "as_it_came": case.as_it_came,
                   "differences": None if each.differences is None else list(each.differences)}


def _order(new: NewOrder, calls: Iterable[Call]) -> dict[str, Any]:
    return {"id": new.id, "account": new.account, "broker": BROKERS[new.broker].name, "state": new.state,
            "reason": new.reason, "dry_run": new.dry_run, "order": new.order.to_json(),
            "calls": [{"method": call.method, "url": call.url, "headers": dict(call.headers), "body": call.body}
                      for call in calls]}


def summary_of(found: Replayed) -> dict[str, Any]:
    """The counts at the end."""
    known = [each.same for each in found.judged if each.same is not None]
    return {"alerts": len(found.judged), "states": dict(sorted(Counter(each.state for each in found.judged).items())),
            "orders": sum(len(each.orders) for each in found.judged),
            "same": sum(known), "changed": len(known) - sum(known), "bad_rows": len(found.bad_rows),
            "addresses": [{"account": account, "then": then, "now": now} for account, then, now in
                          sorted({place for each in found.judged for place in each.moved})]}


# -- as text -----------------------------------------------------------------------------------------------------------


def lines_of(found: Replayed) -> Iterator[str]:
    """All of it as text, an alert for each paragraph that has something to tell, else a line."""
    for each in found.judged:
        yield from _alert_lines(each)
    yield from (str(fault) for fault in found.bad_rows)
    yield ""
    yield from summary_lines(summary_of(found))


def _alert_lines(each: Judged) -> Iterator[str]:
    case = each.case
    when = f"{case.at:%Y-%m-%d %H:%M:%S}" if case.at else "no time"
    verdict = each.state if each.same is None else f"{each.state}, " + ("as then" if each.same else "CHANGED")
    yield f"{case.label}  {when}  {case.template}  {verdict}" + (f": {each.reason}" if each.reason else "")
    for fault in each.faults if each.state == "no_template" else ():
        yield f"    {fault}"
    if each.same:
        return
    if each.same is None:
        for new, _ in each.orders:
            stopped = f"   NOT SENT ({new.state}): {new.reason}" if new.state != "queued" else ""
            yield f"    {new.account}: {order_in_words(new.order.to_json())}{stopped}"
    for difference in each.differences or ():
        yield from _difference_lines(difference)
    if not case.as_it_came:
        yield "    (on record without the keys that came with it, or not to the byte: a difference may come from that)"


def _difference_lines(found: Mapping[str, Any]) -> Iterator[str]:
    where = f"{found['order']} at {found['account']}" if "order" in found else "the alert"
    if found["change"] == "removed":
        yield f"    - {where} ({found['state']}): {order_in_words(found['then'])}"
    elif found["change"] == "added":
        yield f"    + {where} ({found['state']}): {order_in_words(found['now'])}"
    else:
        yield f"    ~ {where}" + (f", {found['request']}" if found.get("request") else "") + (
            f": {found['what']}" if "what" in found else "")
    for each in found.get("fields", ()):
        if "then" in each:
            yield f"        - {each['field']}: {_value(each['then'])}"
        if "now" in each:
            yield f"        + {each['field']}: {_value(each['now'])}"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else dump_json(value)


def summary_lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """The counts in words."""
    states = ", ".join(f"{count:,} {state}" for state, count in summary["states"].items())
    yield (f"{summary['alerts']:,} alert{'' if summary['alerts'] == 1 else 's'} replayed"
           + (f": {states}" if states else ""))
    if summary["same"] or summary["changed"]:
        yield f"{summary['same']:,} as they were then, {summary['changed']:,} changed"
    if summary["bad_rows"]:
        yield f"{summary['bad_rows']:,} row{'' if summary['bad_rows'] == 1 else 's'} of the log could not be read"
    for each in summary["addresses"]:
        yield f"another address: {each['account']} was sent to {each['then']} then, and would go to {each['now']} now"
