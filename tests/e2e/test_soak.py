"""A minute of the soak, and its judge: that each broken promise is found, and that a kept one is not called broken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.soak import report
from tests.soak.book import Sent, Try
from tests.soak.judge import COLUMNS, Records, Verdict, judge
from tests.soak.plan import Expected, Planned, make_plan, planned
from tests.soak.run import CALL_S, LEASE_S, Outcome, Pace, carry_out, say_nothing

_SEED = 20261
_T = 1_795_000_000.0
_ACCOUNTS = ("tv", "nt", "pf")


def _failure(outcome: Outcome) -> str:
    return f"seed {_SEED}\n{report.table(outcome.verdict)}\n{report.failure(outcome, most=2)}"


@pytest.mark.parametrize("form", ["up", "parts"])
def test_a_bridge_whose_parts_die_at_random_keeps_its_promises(form: str, tmp_path: Path) -> None:
    plan = make_plan(_SEED, 350, 8, 14, _ACCOUNTS, lease_s=LEASE_S, call_s=CALL_S)

    outcome = carry_out(plan, tmp_path, form=form, pace=Pace(seconds=20), tolerance_s=1.5, progress=say_nothing)

    verdict = outcome.verdict
    assert verdict.clean, _failure(outcome)
    assert verdict.sent > 100 and verdict.accepted > 0.9 * verdict.sent and verdict.at_broker > verdict.sent / 4
    assert sum("kill" in event["words"] for event in outcome.events) >= 4


def test_the_same_seed_makes_the_same_plan_and_another_one_another() -> None:
    first, again, other = (make_plan(seed, 200, 10, 10, _ACCOUNTS, lease_s=3, call_s=1) for seed in (1, 1, 2))

    assert first == again and first != other
    assert {blow.deed for blow in first.blows} == {"kill", "stop", "fault"}
    assert any(each.twin_after_s == 0.0 for each in first.alerts) and any(each.hangs_up for each in first.alerts)


# -- the judge: a fabricated run of a few alerts, in which all is well, and then one thing is not --------------------------


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(_T + seconds, UTC).isoformat(timespec="milliseconds")


class _Run:
    """A run that one can spoil. Alert n is sent at n seconds, answered 0.1 s and at the broker 0.2 s later."""

    def __init__(self) -> None:
        self.book: list[Sent] = []
        self.orders: list[dict[str, Any]] = []
        self.alerts: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []
        self.waiting: set[str] = set()

    def add(self, alert: Planned, *, rows: bool = True) -> list[str]:
        """An alert that was carried out as it should be; the ids of its orders."""
        at, number = float(alert.number), alert.number
        ids = [f"o{number}{chr(97 + index)}" for index in range(len(alert.expected))]
        named = [{"id": each, "account": order.account} for each, order in zip(ids, alert.expected, strict=True)]
        self.book.append(Sent(alert, _T + at, [Try(_T + at, _T + at + 0.1, 202, "", {"orders": named})]))
        self.alerts.append({"id": f"a{number}", "state": "accepted", "received_at": _iso(at + 0.05), "orders": named,
                            "fields": {"serial": number}})
        for each, order in zip(ids, alert.expected, strict=True):
            self.orders.append(_order(each, order, at))
            if rows and not order.is_exit:
                self.rows.append(_row(each, order, at + 0.2))
        return ids

    def order(self, name: str) -> dict[str, Any]:
        """The ledger's order."""
        return next(order for order in self.orders if order["id"] == name)

    def row(self, name: str) -> dict[str, Any]:
        """The broker's order."""
        return next(row for row in self.rows if row["client_order_id"] == name)

    def end(self, name: str, state: str, reason: str = "because", at: float = 0.3) -> None:
        """The ledger's order ended so."""
        order = self.order(name)
        order["state"], order["reason"] = state, reason
        order["history"] = [*order["history"][:2], {"state": state, "time": _iso(float(name[1:-1]) + at), "reason": reason}]

    def verdict(self) -> Verdict:
        """What the judge says."""
        return judge(Records(self.book, self.orders, self.alerts, frozenset(self.waiting), self.rows))

    def found(self) -> dict[str, int]:
        """Column → how many, where there are any."""
        verdict = self.verdict()
        assert verdict.clean == (not verdict.findings)
        return {name: verdict.count(name) for name in COLUMNS if verdict.count(name)}


def _order(name: str, expected: Expected, at: float) -> dict[str, Any]:
    broker = {"tv": "tradovate", "nt": "crosstrade", "pf": "pocketful"}[expected.account]
    history = [{"state": state, "time": _iso(at + after), "reason": ""}
               for state, after in (("queued", 0.05), ("submitting", 0.15), ("accepted", 0.25))]
    return {"id": name, "account": expected.account, "broker": broker, "state": "accepted", "reason": "",
            "client_order_id": name, "history": history}


def _row(name: str, expected: Expected, at: float, **more: Any) -> dict[str, Any]:
    account = {"tv": "DEMO123456", "nt": "Sim101", "pf": "YG1234"}[expected.account]
    return {"client_order_id": name, "broker_id": f"b-{name}-{at}", "account": account, "parent_id": None, "state": "working",
            "filled": 0, "at": _iso(at), "request": {"path": "/v1/order/placeorder", "body": {}}, **more}


@pytest.fixture
def run() -> _Run:
    """Two entries, an OCO of two writes, an alert for three accounts, a list, and then a cancel of another entry."""
    made = _Run()
    for number, account, kind in ((1, "tv", "limit"), (2, "tv", "limit"), (3, "nt", "oco"), (4, "tv", "every"),
                                  (5, "pf", "list"), (6, "tv", "limit")):
        ids = made.add(planned(number, account, kind, ref=f"r{number}", accounts=_ACCOUNTS))
        if kind == "oco":
            other = made.book[-1].planned.expected[0]
            made.rows.append(_row(f"{ids[0]}.other", other, number + 0.21))
    made.add(planned(7, "tv", "cancel", ref="r6"))
    made.row("o6a")["state"] = "canceled"
    return made


def test_a_run_in_which_all_is_well_is_clean(run: _Run) -> None:
    verdict = run.verdict()

    assert verdict.clean and (verdict.sent, verdict.accepted, verdict.at_broker) == (7, 7, 10)
    assert report.table(verdict).splitlines()[1].split()[:8] == ["7", "7", "10", "0", "0", "0", "0", "0"]


def test_an_alert_that_was_answered_and_is_nowhere_is_lost(run: _Run) -> None:
    run.alerts = [alert for alert in run.alerts if alert["id"] != "a1"]
    run.orders = [order for order in run.orders if order["id"] != "o1a"]
    run.rows = [row for row in run.rows if row["client_order_id"] != "o1a"]

    assert run.found() == {"lost": 1}


def test_an_order_that_never_comes_to_an_end_is_lost(run: _Run) -> None:
    run.end("o1a", "queued", "")
    run.rows = [row for row in run.rows if row["client_order_id"] != "o1a"]

    assert run.found() == {"lost": 1}


def test_an_alert_that_never_came_to_one_of_its_lanes_is_lost(run: _Run) -> None:
    run.orders = [order for order in run.orders if order["id"] != "o4b"]
    run.rows = [row for row in run.rows if row["client_order_id"] != "o4b"]

    assert run.found() == {"lost": 1}


def test_an_alert_that_was_never_answered_may_be_there_or_not(run: _Run) -> None:
    run.book[0].tries = [Try(_T + 1, _T + 4, None, "timed out")]
    assert run.found() == {}

    run.alerts = run.alerts[1:]
    run.orders = run.orders[1:]
    run.rows = run.rows[1:]
    assert run.found() == {}


def test_the_same_order_twice_at_the_broker_is_doubled(run: _Run) -> None:
    run.rows.append(_row("o1a", run.book[0].planned.expected[0], 8.0))

    assert run.found() == {"doubled": 1}


def test_a_twin_that_made_an_order_of_its_own_is_doubled(run: _Run) -> None:
    expected = run.book[0].planned.expected[0]
    run.alerts.append({**run.alerts[0], "id": "a1x", "orders": [{"id": "o1x", "account": "tv"}]})
    run.orders.append(_order("o1x", expected, 1.0))
    run.rows.insert(1, _row("o1x", expected, 1.3))

    assert run.found() == {"doubled": 1}


def test_an_order_at_the_broker_that_nobody_sent_is_doubled(run: _Run) -> None:
    run.rows.append(_row("stranger", run.book[0].planned.expected[0], 9.0))

    assert run.found() == {"doubled": 1}


def test_a_leg_that_was_undone_and_armed_anew_is_not_doubled(run: _Run) -> None:
    run.row("o3a.other")["state"] = "canceled"
    run.rows.append(_row("o3a.other.2", run.book[2].planned.expected[0], 3.5))
    assert run.found() == {}

    run.row("o3a.other")["filled"] = 1
    assert run.found() == {"doubled": 1}


def test_an_order_that_the_broker_refused_is_not_counted_twice(run: _Run) -> None:
    run.rows.append(_row("o1a", run.book[0].planned.expected[0], 8.0, state="rejected"))

    assert run.found() == {}


def test_an_order_that_came_to_the_broker_after_its_max_age_is_stale(run: _Run) -> None:
    run.row("o6a")["at"] = _iso(6 + 60 + 2.5)
    run.order("o7a")["history"][-1]["time"] = _iso(70)

    assert run.found() == {"stale": 1}


def test_the_age_of_a_timed_alert_counts_from_its_own_time(run: _Run) -> None:
    quick = planned(8, "pf", "quick", ref="r8")
    (name,) = run.add(quick)
    run.book[-1].tries = [replace(each, began=each.began + 2.5, ended=each.ended + 2.5) for each in run.book[-1].tries]
    run.row(name)["at"] = _iso(8 + 2.9)
    assert run.found() == {}

    run.row(name)["at"] = _iso(8 + 3 + 1.2)
    assert run.found() == {"stale": 1}


def test_an_entry_that_passed_an_earlier_one_of_its_lane_is_out_of_order(run: _Run) -> None:
    first, second = run.rows[0], run.rows[1]
    run.rows[0], run.rows[1] = second, first

    assert run.found() == {"out of order": 1}


def test_entries_whose_arrival_is_not_certain_may_change_places(run: _Run) -> None:
    run.book[0].tries[0].ended = _T + 2.05  # the answer to the first was heard after the second had been sent
    run.rows[0], run.rows[1] = run.rows[1], run.rows[0]

    assert run.found() == {}


def test_an_entry_left_standing_by_a_cancel_that_covers_it_is_out_of_order(run: _Run) -> None:
    run.row("o6a")["state"] = "working"

    assert run.found() == {"out of order": 1}


def test_an_entry_executed_after_a_close_that_covers_it_is_out_of_order(run: _Run) -> None:
    run.add(planned(8, "tv", "close"))
    for row in run.rows:
        if row["account"] == "DEMO123456" and row["state"] == "working":
            row["state"] = "canceled"
    assert run.found() == {}

    run.row("o6a").update(state="filled", filled=1, at=_iso(8.9))
    assert run.found() == {"out of order": 1}


def test_an_entry_that_was_filled_before_the_close_is_in_order(run: _Run) -> None:
    run.add(planned(8, "tv", "close"))
    for row in run.rows:
        if row["account"] == "DEMO123456" and row["state"] == "working":
            row.update(state="filled", filled=1)

    assert run.found() == {}


def test_an_entry_that_a_person_was_told_of_may_stand_after_a_cancel(run: _Run) -> None:
    run.row("o6a")["state"] = "working"
    run.end("o6a", "unknown")
    run.waiting.add("o6a")

    assert run.found() == {}
    assert run.verdict().told == 1


SPOILT: Mapping[str, Any] = {
    "accepted with nothing there": lambda run: run.rows.remove(run.row("o1a")),
    "rejected while it stands": lambda run: run.end("o1a", "rejected"),
    "withdrawn while it stands": lambda run: run.end("o6a", "cancelled"),
    "withdrawn though nothing covers it": lambda run: (run.end("o1a", "cancelled"), run.rows.remove(run.row("o1a"))),
    "expired before its time": lambda run: (run.end("o1a", "expired"), run.rows.remove(run.row("o1a"))),
    "without a reason": lambda run: (run.end("o1a", "rejected", " "), run.rows.remove(run.row("o1a"))),
    "unknown and nobody was told": lambda run: run.end("o1a", "unknown"),
    "still submitting though it is there": lambda run: run.end("o1a", "submitting", ""),
    "half of it there and nobody was told": lambda run: run.rows.remove(run.row("o3a.other")),
    "in another account": lambda run: run.row("o1a").update(account="DEMO999"),
    "answered 500": lambda run: run.book[0].tries.append(Try(_T + 1, _T + 1.1, 500)),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_state_that_says_nothing_or_contradicts_the_broker_is_silent(run: _Run, how: str) -> None:
    SPOILT[how](run)

    assert run.found() == {"silent": 1}


def test_what_was_told_or_found_is_counted_and_no_fault(run: _Run) -> None:
    run.end("o1a", "unknown")
    run.waiting.add("o1a")
    run.order("o2a")["history"].insert(2, {"state": "unknown", "time": _iso(2.2), "reason": "no answer"})

    verdict = run.verdict()

    assert verdict.clean and (verdict.found, verdict.told) == (1, 1)


def test_half_an_order_that_was_undone_is_told_as_refused(run: _Run) -> None:
    run.end("o3a", "rejected")
    run.row("o3a")["state"], run.row("o3a.other")["state"] = "canceled", "rejected"
    assert run.found() == {}

    run.row("o3a")["state"] = "working"
    assert run.found() == {"silent": 1}
