"""Holds a run to the promises: the sender's book against the ledger against what the broker saw. Pure.

Each fault is a finding in one column. What "certainly before" means: an alert was certainly received before another when
its 2xx was heard before the other was first sent. Nothing else is assumed of the order in which they arrived.
"""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.soak.book import Sent
from tests.soak.desk import DESKS
from tests.soak.plan import Expected

COLUMNS = ("lost", "doubled", "stale", "out of order", "silent")
_FINAL = ("accepted", "rejected", "unknown", "expired", "refused", "cancelled", "dry_run")
_NEEDS_A_REASON = ("rejected", "unknown", "expired", "refused", "cancelled")
_STANDS = ("working", "partially_filled", "filled", "suspended")
_OPEN = ("working", "partially_filled", "suspended")
_OF_EXITS = ("liquidateposition", "liquidatepositions", "/positions/close", "/positions/flatten", "/orders/cancel")
_RPCS_OF_EXITS = ("ClosePosition", "Flatten", "Cancel", "CancelOrders")
_COMPOSED = {("crosstrade", "oco")}
"""Kinds that take several writes, so that a part may stand and be undone."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise: the column, what is wrong in words, the alert's number and the order ids concerned."""

    column: str
    words: str
    number: int = 0
    orders: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    """Broker ids of the rows concerned."""


@dataclass(slots=True)
class Verdict:
    """What a run came to."""

    sent: int = 0
    deliveries: int = 0
    accepted: int = 0
    at_broker: int = 0
    found: int = 0
    told: int = 0
    states: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether every promise was kept."""
        return not self.findings

    def count(self, column: str) -> int:
        """How many findings of a column."""
        return sum(each.column == column for each in self.findings)

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {"sent": self.sent, "deliveries": self.deliveries, "accepted": self.accepted,
                "at_the_broker": self.at_broker, **{name.replace(" ", "_"): self.count(name) for name in COLUMNS},
                "unknown": {"found": self.found, "told": self.told}, "states": dict(self.states),
                "findings": [{"column": each.column, "words": each.words, "alert": each.number,
                              "orders": list(each.orders), "broker_ids": list(each.rows)} for each in self.findings]}


@dataclass(frozen=True, slots=True)
class Records:
    """What is compared. `orders`, `alerts`: as the commands print them; `waiting`: ids that wait for a person; `rows`:
    the sandbox's orders, oldest first; `also_named`: client ids that an order used in an earlier attempt → its id."""

    book: Sequence[Sent]
    orders: Sequence[Row]
    alerts: Sequence[Row]
    waiting: frozenset[str]
    rows: Sequence[Row]
    also_named: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Slot:
    """An order as its alert asked for it: what the ledger has of it (more than one is a double) and its rows."""

    sent: Sent
    expected: Expected
    orders: list[Row] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    @property
    def state(self) -> str:
        return str(self.orders[0]["state"]) if self.orders else ""

    def ids(self) -> tuple[str, ...]:
        return tuple(str(each["id"]) for each in self.orders)

    def row_ids(self) -> tuple[str, ...]:
        return tuple(str(row["broker_id"]) for row in self.rows)

    def name(self) -> str:
        order = self.orders[0]["id"] if self.orders else "no order"
        return f"alert {self.sent.planned.number} ({self.sent.planned.template}, {self.expected.account}, {order})"


def judge(records: Records, *, tolerance_s: float = 1.0) -> Verdict:
    """The verdict on a run. `tolerance_s`: how much later than max_age an order may reach the broker, for the way there."""
    return _Judge(records, tolerance_s).verdict()


class _Judge:
    def __init__(self, records: Records, tolerance_s: float) -> None:
        self.records, self.tolerance_s = records, tolerance_s
        self.orders = {str(order["id"]): order for order in records.orders}
        self.accepted_alerts: dict[int, list[Row]] = defaultdict(list)
        self.recorded: set[int] = set()
        self._read_alerts()
        self.found = Verdict(sent=len(records.book), deliveries=sum(len(sent.tries) for sent in records.book))
        self.slots = [_Slot(sent, expected) for sent in records.book for expected in sent.planned.expected]
        self.exits: dict[str, list[_Slot]] = defaultdict(list)
        for slot in self.slots:
            if slot.expected.is_exit:
                self.exits[slot.expected.account].append(slot)
        self._by_order: dict[str, _Slot] = {}
        self._fill_slots()
        self.strangers = self._hand_out_rows()

    def verdict(self) -> Verdict:
        found = self.found
        found.at_broker = sum(row["parent_id"] is None for row in self.records.rows)
        found.states = Counter(str(order["state"]) for order in self.records.orders)
        for sent in self.records.book:
            found.findings += self._lost(sent)
        for slot in self.slots:
            found.findings += [*self._doubled(slot), *self._stale(slot), *self._silent(slot)]
        for row in self.strangers:
            found.findings.append(Finding("doubled", f"the broker has an order {row['client_order_id']} on "
                                                     f"{row['account']} that belongs to no order of ours",
                                          rows=(str(row["broker_id"]),)))
        found.findings += [*self._entries_out_of_order(), *self._passed_by()]
        for order in self.records.orders:
            doubtful = any(moment["state"] == "unknown" for moment in order["history"])
            found.told += order["state"] == "unknown"
            found.found += doubtful and order["state"] != "unknown"
        found.accepted = sum(any(each.ok and each.answer.get("orders") for each in sent.tries)
                             for sent in self.records.book)
        return found

    # -- what belongs together ---------------------------------------------------------------------------------------

    def _read_alerts(self) -> None:
        for alert in self.records.alerts:
            number = _number_of(alert)
            self.recorded.add(number)
            if alert["state"] in ("accepted", "refused") and alert["orders"]:
                self.accepted_alerts[number].append(alert)

    def _fill_slots(self) -> None:
        slots: dict[int, list[_Slot]] = defaultdict(list)
        for slot in self.slots:
            slots[slot.sent.planned.number].append(slot)
        for number, alerts in self.accepted_alerts.items():
            for alert in alerts:
                for slot, named in zip(slots[number], alert["orders"], strict=False):
                    if order := self.orders.get(str(named["id"])):
                        slot.orders.append(order)
                        self._by_order[str(order["id"])] = slot

    def _hand_out_rows(self) -> list[Row]:
        """Give every row at the broker to its slot; those that nobody owns are returned."""
        owner = {str(order["client_order_id"]): str(order["id"]) for order in self.records.orders
                 if order["client_order_id"]}
        owner |= self.records.also_named
        strangers = []
        for row in self.records.rows:
            if row["parent_id"] is not None or row["client_order_id"] is None and _is_of_an_exit(row):
                continue
            client_id = str(row["client_order_id"] or "")
            order = owner.get(client_id) or client_id.partition(".")[0]
            if slot := self._by_order.get(order):
                slot.rows.append(row)
            else:
                strangers.append(row)
        return strangers

    # -- lost --------------------------------------------------------------------------------------------------------

    def _lost(self, sent: Sent) -> Iterator[Finding]:
        number = sent.planned.number
        answers = [each for each in sent.tries if each.ok]
        if answers and number not in self.recorded:
            yield Finding("lost", f"alert {number} was answered {answers[0].status} and is not in the ledger", number)
            return
        for each in sent.tries:
            if each.status is not None and not each.ok and each.status != 503:
                yield Finding("silent", f"alert {number} ({sent.planned.template}) was answered {each.status}: "
                                        f"{dict(each.answer)}", number)
        for answer in answers:
            named = [str(order["id"]) for order in answer.answer.get("orders", ())]
            if len(named) < len(sent.planned.expected):
                yield Finding("lost", f"alert {number}: the answer names {len(named)} of "
                                      f"{len(sent.planned.expected)} orders", number, tuple(named))
            for order in named:
                if order not in self.orders:
                    yield Finding("lost", f"alert {number}: order {order} was promised and is not in the ledger",
                                  number, (order,))
        if answers:
            for slot in self._slots_of(number):
                if slot.orders and slot.state not in _FINAL and not slot.rows:
                    yield Finding("lost", f"{slot.name()} is still {slot.state}, and nothing is at the broker", number,
                                  slot.ids())

    def _slots_of(self, number: int) -> list[_Slot]:
        ids = [str(named["id"]) for alert in self.accepted_alerts.get(number, ()) for named in alert["orders"]]
        return list({id(slot): slot for order in ids if (slot := self._by_order.get(order))}.values())

    # -- doubled -----------------------------------------------------------------------------------------------------

    def _doubled(self, slot: _Slot) -> Iterator[Finding]:
        """At most one order stands for each leg; an earlier arming must have been undone before anything of it filled."""
        legs: dict[str, list[Row]] = defaultdict(list)
        for row in slot.rows:
            if row["state"] != "rejected":
                legs[_leg_of(row)].append(row)
        for leg, rows in legs.items():
            if slot.expected.is_exit and len({row["client_order_id"] for row in rows}) == len(rows):
                continue  # an exit that was repeated as a new step: it can only reduce
            undone = [row for row in rows[:-1] if row["state"] == "canceled" and not _amount(row["filled"])
                      and row["client_order_id"] != rows[-1]["client_order_id"]]
            if len(rows) - len(undone) > 1:
                yield Finding("doubled", f"{slot.name()}: {len(rows)} orders at the broker"
                                         + (f" for its leg {leg}" if leg else ""), slot.sent.planned.number, slot.ids(),
                              tuple(str(row["broker_id"]) for row in rows))

    # -- stale -------------------------------------------------------------------------------------------------------

    def _stale(self, slot: _Slot) -> Iterator[Finding]:
        planned = slot.sent.planned
        if slot.expected.is_exit or not slot.rows:
            return
        if planned.timed:
            since = slot.sent.sent_at
        else:
            since = min(seconds_of(alert["received_at"]) for alert in self.accepted_alerts[planned.number])
            since = max(since, slot.sent.began)
        for row in slot.rows:
            late = seconds_of(row["at"]) - since - planned.max_age_s
            if late > self.tolerance_s:
                yield Finding("stale", f"{slot.name()} reached the broker {late:.1f} s after its max_age of "
                                       f"{planned.max_age_s:g} s", planned.number, slot.ids(), slot.row_ids())

    # -- silent ------------------------------------------------------------------------------------------------------

    def _silent(self, slot: _Slot) -> Iterator[Finding]:
        for order in slot.orders:
            words = self._wrong_word(slot, order)
            if words:
                yield Finding("silent", f"{slot.name()} {words}", slot.sent.planned.number, slot.ids(), slot.row_ids())
        account = DESKS[slot.expected.account].account
        for row in slot.rows:
            if row["account"] != account:
                yield Finding("silent", f"{slot.name()} reached the broker's account {row['account']} instead of "
                                        f"{account}", slot.sent.planned.number, slot.ids(), (str(row["broker_id"]),))

    def _wrong_word(self, slot: _Slot, order: Row) -> str:
        """What is wrong with an order's state, or ''."""
        state, mine = order["state"], [row for row in slot.rows if self._owner(row, slot) == order["id"]]
        if state not in _FINAL:
            return f"is still {state} although it is at the broker" if mine else ""
        if state in _NEEDS_A_REASON and not str(order["reason"]).strip():
            return f"is {state} without a reason"
        if state == "unknown" and order["id"] not in self.records.waiting:
            return "is unknown and no person was told"
        if slot.expected.is_exit:
            return ""
        if words := self._early(slot, order):
            return words
        if state in ("rejected", "expired", "refused", "cancelled"):
            composed = (order["broker"], slot.expected.kind) in _COMPOSED
            against = [row["state"] for row in mine if row["state"] != "rejected"
                       and (not composed or row["state"] in _STANDS or _amount(row["filled"]))]
            return f"is {state}, but at the broker it is {' and '.join(against)}" if against else ""
        if state == "accepted":
            if not mine:
                return "is accepted, but nothing is at the broker"
            taken = {_leg_of(row) for row in mine if row["state"] != "rejected"}
            if slot.expected.kind == "oco" and len(taken) == 1 and order["id"] not in self.records.waiting:
                return "is accepted, but only half of it is at the broker, and no person was told"
        return ""

    def _early(self, slot: _Slot, order: Row) -> str:
        """Whether an order was expired before its time, or withdrawn although nothing that covers it was sent."""
        planned, ended = slot.sent.planned, seconds_of(order["history"][-1]["time"])
        if order["state"] == "expired" and len(slot.orders) == 1:
            age = ended - (slot.sent.sent_at if planned.timed else slot.sent.began)
            if age < planned.max_age_s - 0.1:
                return f"expired after {age:.1f} s; its max_age is {planned.max_age_s:g} s"
        if order["state"] == "cancelled" and not slot.expected.follows and not any(
                exit_.sent.began <= ended and max(each.ended for each in exit_.sent.tries) >= slot.sent.began
                for exit_ in self.exits[slot.expected.account] if _covers(exit_.expected, slot.expected)):
            return "is cancelled, and no cancel or close that covers it had been sent"
        return ""

    def _owner(self, row: Row, slot: _Slot) -> str:
        client_id = str(row["client_order_id"])
        for order in slot.orders:
            if client_id == order["client_order_id"] or client_id.partition(".")[0] == order["id"]:
                return str(order["id"])
        return self.records.also_named.get(client_id, "")

    # -- out of order ------------------------------------------------------------------------------------------------

    def _entries_out_of_order(self) -> Iterator[Finding]:
        """No entry reaches the broker before one of its lane that was certainly received earlier."""
        place = {id(row): number for number, row in enumerate(self.records.rows)}
        lanes: dict[str, list[_Slot]] = defaultdict(list)
        for slot in self.slots:
            if slot.rows and not slot.expected.is_exit and not slot.expected.follows:
                lanes[slot.expected.account].append(slot)
        for slots in lanes.values():
            slots.sort(key=lambda slot: place[id(slot.rows[0])])
            latest: _Slot | None = None
            for slot in slots:
                answered = slot.sent.answered
                if latest is not None and answered is not None and answered < latest.sent.began:
                    yield Finding("out of order", f"{slot.name()} reached the broker after {latest.name()}, which was "
                                                  f"sent {latest.sent.began - answered:.2f} s after it was accepted",
                                  slot.sent.planned.number, slot.ids() + latest.ids(), slot.row_ids())
                if latest is None or slot.sent.began > latest.sent.began:
                    latest = slot

    def _passed_by(self) -> Iterator[Finding]:
        """After a cancel or close was accepted, nothing that it covers is executed or left standing."""
        entries: dict[str, list[_Slot]] = defaultdict(list)
        for slot in self.slots:
            if slot.rows and not slot.expected.is_exit and slot.sent.answered is not None:
                entries[slot.expected.account].append(slot)
        answered = {}
        for account, slots in entries.items():
            slots.sort(key=lambda slot: slot.sent.answered or 0.0)
            answered[account] = [slot.sent.answered or 0.0 for slot in slots]
        blamed: set[int] = set()
        for slot in self.slots:
            if not slot.expected.is_exit or slot.state != "accepted" or self._is_told(slot):
                continue
            account = slot.expected.account
            before = bisect.bisect_left(answered.get(account, []), slot.sent.began)
            for entry in entries[account][:before]:
                if id(entry) not in blamed and _covers(slot.expected, entry.expected) and not self._is_told(entry):
                    if words := self._passes(slot, entry):
                        blamed.add(id(entry))
                        yield Finding("out of order", words, entry.sent.planned.number, entry.ids() + slot.ids(),
                                      entry.row_ids())

    def _passes(self, exit_: _Slot, entry: _Slot) -> str:
        done = max(seconds_of(moment["time"]) for moment in exit_.orders[0]["history"] if moment["state"] == "accepted")
        for row in entry.rows:
            if row["state"] in _OPEN:
                return f"{entry.name()} still stands after {exit_.name()}, which covers it, was accepted"
            if _amount(row["filled"]) and seconds_of(row["at"]) > done + 0.002:
                return (f"{entry.name()} was executed {seconds_of(row['at']) - done:.2f} s after {exit_.name()}, which "
                        "covers it, was accepted")
        return ""

    def _is_told(self, slot: _Slot) -> bool:
        return any(each in self.records.waiting for each in slot.ids())


def _covers(exit_: Expected, entry: Expected) -> bool:
    return entry.ref == exit_.ref if exit_.ref else entry.symbol == exit_.symbol


def _number_of(alert: Row) -> int:
    try:
        return int(str(alert["fields"].get("serial", 0)).partition(".")[0])
    except ValueError:
        return 0


def _leg_of(row: Row) -> str:
    """The leg of a client order id: `o4f….other.2` → other; the order itself is ''."""
    parts = str(row["client_order_id"]).split(".")[1:]
    return ".".join(part for part in parts if not part.isdigit())


def _is_of_an_exit(row: Row) -> bool:
    """Whether a broker made this order for a close of ours, over HTTP or WebSocket."""
    request = row["request"]
    body = request["body"] if isinstance(request["body"], dict) else {}
    return any(word in request["path"].lower() for word in _OF_EXITS) or body.get("api") in _RPCS_OF_EXITS


def _amount(text: Any) -> float:
    return float(text or 0)


def seconds_of(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def strangers(records: Records) -> Iterable[Row]:
    """Rows at the broker that no order of ours owns by the ids that it has now."""
    return _Judge(records, 0.0).strangers
