"""When an answer was not heard at Pocketful: what a look-up may conclude, and what plans and exits make of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pocketful_kit import (
    BROKER,
    ENTERED,
    FORBIDDEN,
    INSTRUMENT,
    NOW,
    REFUSED,
    Desk,
    account,
    cancel,
    cart_row,
    close,
    cover,
    leg_row,
    plain,
    position,
    row,
)

from bridge.call import Absent, Accepted, Call, Outcome, Pause, Plan, Rejected, Reply, Seen, Unknown
from bridge.order import Order
from bridge.work import Ids, Work

SOON = NOW + timedelta(seconds=8)
MIDNIGHT = datetime(2026, 11, 20, 18, 30, tzinfo=UTC)  # in India
LOST = Reply(status=None, fault="no complete reply within 10 s")


def sent(work: Work, **values: Any) -> Work:
    """The same, sent without hearing an answer, and looked up a moment later."""
    return replace(work, **{"broker_ids": {}, "looked_at": SOON} | values)


def look(work: Work, desk: Desk) -> Any:
    seen = desk.run(BROKER.look_up(work))
    assert not desk.writes and not desk.paused
    return seen


def closing(**values: Any) -> Work:
    return sent(Work(order=Order(kind="close", symbol="IDEA", options=INSTRUMENT), account=account(),
                     ids=Ids(order_id="o-close", counter=901), submitted_at=NOW), **values)


def cancelling(*targets: Work, **values: Any) -> Work:
    one = Order(kind="cancel", ref="x", legs_too=values.pop("legs_too", False))
    return Work(order=one, account=account(), ids=Ids(order_id="o-cancel", counter=900), targets=targets,
                **{"looked_at": SOON} | values)


# What proves that an order never arrived


@pytest.mark.parametrize("work", [plain(), cover(), cover(bracket=True), closing()])
def test_an_order_in_neither_whole_book_of_its_day_is_proven_absent(work: Work) -> None:
    desk = Desk(pending=[row(55, instrument_token=1)], completed=[row(56, exchange="BSE")])

    seen = look(sent(work), desk)

    assert isinstance(seen, Absent) and f"user_order_id {work.ids.counter} " in seen.reason
    assert [parse_qs(urlsplit(call.url).query)["type"] for call in desk.calls] == [["pending"], ["completed"]]


@pytest.mark.parametrize(("change", "proven"), [
    ({"looked_at": None}, False),
    ({"looked_at": MIDNIGHT - timedelta(minutes=70)}, True),
    ({"looked_at": MIDNIGHT - timedelta(seconds=1)}, False),
    ({"looked_at": MIDNIGHT}, False),
    ({"looked_at": MIDNIGHT + timedelta(days=1)}, False),
    ({"submitted_at": MIDNIGHT - timedelta(days=1, seconds=-1)}, False),
    ({"submitted_at": MIDNIGHT - timedelta(days=1, minutes=-70)}, True),
    ({"submitted_at": None}, False),
    ({"submitted_at": None, "created_at": NOW}, True),
    ({"broker_ids": {"order": "2026101"}}, False),
    ({"broker_ids": {"basket": "20210531-23"}}, False),
    ({"ids": Ids(order_id="o-plain")}, False),
])
def test_absence_is_proven_on_the_indian_day_of_sending_only_and_never_of_an_acknowledged_order(
        change: Mapping[str, Any], proven: bool) -> None:
    """Near midnight the broker's clock may stand on another day than ours: five minutes either way prove nothing."""
    assert isinstance(look(sent(plain(), **change), Desk()), Absent) is proven
    assert proven or look(sent(plain(), **change), Desk()) is None


@pytest.mark.parametrize("which", ["pending", "completed"])
@pytest.mark.parametrize("reply", [
    Reply.of(FORBIDDEN), Reply.of(FORBIDDEN, 401), LOST, Reply.of("<html>", 502), Reply.of("<html>login</html>"),
    Reply.of(""), Reply.of([]), Reply.of({"status": "success"}), Reply.of({"status": "success", "data": None}),
    Reply.of({"status": "success", "data": {}}), Reply.of({"status": "success", "data": {"orders": None}}),
    Reply.of({"status": "success", "data": {"orders": {}}}), Reply.of({"status": "success", "data": {"rows": []}}),
    Reply.of({"status": "success", "data": {"orders": [None]}}), Reply.of({"data": {"orders": []}}),
    Reply.of({"status": "success", "data": {"orders": []}}, 206),
    Reply.of({"status": "success", "data": {"orders": []}}, 500),
    Reply(status=200, text='{"status": "success", "data": {"orders": []}'),
])
def test_a_book_that_was_not_read_whole_proves_nothing(which: str, reply: Reply) -> None:
    for work in (plain(), cover(), closing()):
        desk = Desk()
        desk.on_read = lambda read: reply if read == which else None

        assert look(sent(work), desk) is None


@pytest.mark.parametrize("change", [
    {"instrument_token": 1}, {"exchange": "BSE"}, {"order_side": "SELL"}, {"quantity": 2},
    {"order_entry_time": ENTERED - 7200}, {"user_order_id": 101, "quantity": None}])
def test_a_row_with_our_id_that_does_not_fit_is_neither_ours_nor_proof(change: Mapping[str, Any]) -> None:
    for work in (plain(), plain(shows_our_ids=True)):
        assert look(sent(work), Desk(pending=[row(**change)])) is None
        assert look(sent(work), Desk(completed=[row(**change)])) is None


TWIN = {"oms_order_id": "2026777", "user_order_id": "777"}


@pytest.mark.parametrize(("change", "shows_our_ids", "proven"), [
    ({}, True, True),
    ({}, False, False),
    ({"order_entry_time": 0}, False, False),
    ({"order_side": ""}, False, False),
    ({"quantity": "x"}, False, False),
    ({"exchange": ""}, False, False),
    ({"execution_type": ""}, False, False),
    ({"execution_type": "CO"}, False, True),
    ({"order_side": "SELL"}, False, True),
    ({"quantity": 2}, False, True),
    ({"instrument_token": 1}, False, True),
    ({"order_entry_time": ENTERED - 7200}, False, True),
    ({"user_order_id": ""}, True, False),
    ({"user_order_id": None}, True, False),
    ({"user_order_id": {}}, True, False),
    ({"user_order_id": "", "instrument_token": 1}, True, True),
    ({"user_order_id": "0"}, True, False),
    ({"user_order_id": 0}, True, False),
    ({"user_order_id": "000"}, True, False),
    ({"user_order_id": "NONE"}, True, False),
    ({"exchange": "nse"}, False, False),
    ({"instrument_token": "014366"}, False, False),
    ({"quantity": 0}, False, False),
    ({"execution_type": "NML"}, False, False),
    ({"order_entry_time": ENTERED - 19_800}, False, False),
    ({"order_entry_time": ENTERED + 19_800}, False, False),
    ({"order_entry_time": ENTERED - 19_800 - 4_000}, False, True),
    ({"order_entry_time": ENTERED - 19_800 + 4_000}, False, True),
    ({"order_entry_time": ENTERED * 1000}, False, False),
])
def test_a_row_that_could_be_ours_under_another_id_forbids_the_proof(change: Mapping[str, Any], shows_our_ids: bool,
                                                                     proven: bool) -> None:
    """No page promises that the broker keeps user_order_id: until it has shown us one, an equal order may be ours."""
    seen = look(sent(plain(), shows_our_ids=shows_our_ids), Desk(completed=[row(**TWIN | dict(change))]))

    assert isinstance(seen, Absent) if proven else seen is None


def test_a_word_for_its_kind_that_we_do_not_know_rules_no_row_out() -> None:
    for word, proven in (("COVER", False), ("", False), ("REGULAR", True)):
        seen = look(sent(cover()), Desk(pending=[cart_row(user_order_id="", execution_type=word)]))

        assert isinstance(seen, Absent) is proven


def test_a_leg_with_our_id_forbids_the_proof_that_its_entry_never_arrived() -> None:
    assert look(sent(cover()), Desk(pending=[leg_row()])) is None


def test_what_is_seen_by_our_own_id_says_so() -> None:
    assert look(sent(plain()), Desk(pending=[row()])).by_our_id
    assert look(sent(cover()), Desk(pending=[cart_row()])).by_our_id
    assert not look(plain(), Desk(pending=[row(user_order_id="")])).by_our_id


def test_a_cover_order_is_seen_with_a_leg_that_has_ended_while_its_entry_still_works() -> None:
    desk = Desk(pending=[cart_row(quantity=1)], completed=[leg_row(order_status="COMPLETE")])

    assert [leg["broker_status"] for leg in look(sent(cover()), desk).legs] == ["filled"]


def test_a_leg_that_ended_in_an_unlisted_word_is_not_taken_for_ended() -> None:
    """Whether the position still has its stop is then for a person to see: the order stays among those that are open."""
    desk = Desk(completed=[cart_row(order_status="COMPLETE"), leg_row(order_status="FROZEN")])

    [leg] = look(sent(cover()), desk).legs
    assert leg["broker_status"] == "working" and "'FROZEN'" in leg["reason"]


# Cancel and close by their effect


def test_a_cancel_of_an_order_that_never_arrived_is_done_when_that_is_proven() -> None:
    never = sent(plain(103))

    assert isinstance(look(cancelling(never), Desk()), Seen)
    assert look(cancelling(never, looked_at=None), Desk()) is None
    assert look(cancelling(never, looked_at=MIDNIGHT), Desk()) is None
    assert look(cancelling(never), Desk(completed=[row(103, quantity=7)])) is None
    assert isinstance(look(cancelling(never, plain()), Desk(pending=[row()])), Absent)


def test_a_cancel_is_not_judged_by_a_book_that_cannot_be_read() -> None:
    for reply in (Reply.of(FORBIDDEN), LOST, Reply.of("<html>", 502)):
        desk = Desk(pending=[cart_row()])
        desk.on_read = lambda read, reply=reply: reply  # type: ignore[misc]

        assert look(cancelling(cover()), desk) is None


def test_a_cancel_by_the_brokers_own_id_is_looked_up_too() -> None:
    def named(desk: Desk) -> Any:
        one = Order(kind="cancel", options={"oms_order_id": "2026005"})
        return look(Work(order=one, account=account(), ids=Ids(order_id="o-cancel"), looked_at=SOON), desk)

    assert isinstance(named(Desk(completed=[row(5, oms_order_id="2026005", order_status="CANCEL_CONFIRMED")])), Seen)
    assert isinstance(named(Desk(pending=[row(5, oms_order_id="2026005")])), Absent)
    assert named(Desk()) is None


@pytest.mark.parametrize(("status", "says"), [("COMPLETE", ""), ("CONFIRMED", ""),
                                              ("REJECTED", "margin (code 12001); the position may be OPEN WITHOUT"),
                                              ("CANCEL_CONFIRMED", "OPEN WITHOUT A STOP")])
def test_a_closing_order_that_the_book_shows_is_seen_and_a_failed_one_says_what_is_at_stake(status: str,
                                                                                            says: str) -> None:
    one = row(901, order_side="SELL", order_type="MARKET", order_status=status, rejection_reason="margin",
              rejection_code=12001)

    seen = look(closing(), Desk(completed=[one]) if status != "CONFIRMED" else Desk(pending=[one]))

    assert seen.by_our_id and says in seen.reason and bool(says) == bool(seen.reason)


def test_a_close_that_was_armed_anew_is_not_taken_for_its_earlier_closing_order() -> None:
    earlier = row(901, oms_order_id="2026999", order_side="SELL", order_status="COMPLETE")
    again = closing(ids=Ids(order_id="o-close", arming=2, counter=950), broker_ids={"order": "2026999"},
                    shows_our_ids=True)

    assert isinstance(look(again, Desk(completed=[earlier])), Absent)
    assert look(again, Desk(completed=[earlier, row(950, oms_order_id="2027000")])).broker_ids["order"] == "2027000"


def test_a_close_proven_absent_is_run_again_from_the_legs_and_the_position_with_the_same_id() -> None:
    """Its worker died after the legs were cancelled and before the closing order left."""
    assert isinstance(look(closing(), Desk(completed=[leg_row(order_status="CANCEL_CONFIRMED")])), Absent)

    desk = Desk(completed=[leg_row(order_status="CANCEL_CONFIRMED")], positions=[position(2)])
    outcome = desk.run(close())

    [write] = desk.writes
    assert (write.body["user_order_id"], write.body["quantity"]) == (901, 2)
    assert isinstance(outcome, Accepted)


# What a look-up saw, in place of the answer that was not heard


def answered(plan: Plan, reply: Reply) -> Outcome:
    next(plan)
    with pytest.raises(StopIteration) as done:
        plan.send(reply)
    outcome: Outcome = done.value.value
    return outcome


@pytest.mark.parametrize("work", [plain(), cover(), cover(bracket=True)])
def test_a_plan_takes_what_was_seen_for_the_answer(work: Work) -> None:
    seen = Seen(broker_status="filled", broker_ids={"order": "7", "stop_loss": "8"}, reason="r", by_our_id=True,
                legs=({"role": "stop_loss", "broker_id": "8", "broker_status": "working"},))

    assert answered(BROKER.submit(sent(work)), Reply(status=None, seen=seen)) == Accepted(
        broker_ids=seen.broker_ids, broker_status="filled", legs=seen.legs, reason="r")


@pytest.mark.parametrize("work", [plain(), cover(), cover(bracket=True)])
def test_a_plan_takes_a_rejection_that_was_seen_for_a_no(work: Work) -> None:
    for reason, says in (("margin (code 12001)", "margin (code 12001)"), ("", "no reason")):
        outcome = answered(BROKER.submit(sent(work)),
                           Reply(status=None, seen=Seen(broker_status="rejected", reason=reason)))

        assert isinstance(outcome, Rejected) and says in outcome.reason


def test_a_cancel_and_a_close_take_what_was_seen_for_the_answer_too() -> None:
    desk = Desk(pending=[row()])
    desk.on_delete = lambda oms_id: (desk.cancel(oms_id), Reply(status=None, seen=Seen(broker_status="canceled")))[1]
    assert isinstance(desk.run(cancel(plain())), Accepted)

    filled = Desk(positions=[position(2)])
    filled.on_place = Reply(status=None, seen=Seen(broker_status="filled", broker_ids={"order": "2026999"}))
    outcome = filled.run(close())
    assert isinstance(outcome, Accepted) and outcome.broker_ids["order"] == "2026999"

    naked = Desk(pending=[leg_row()], positions=[position(2)])
    naked.on_place = Reply(status=None, seen=Seen(broker_status="rejected", reason="margin"))
    outcome = naked.run(close())
    assert isinstance(outcome, Rejected) and "margin" in outcome.reason and "WITHOUT A STOP" in outcome.reason


# Playing back


def played(plan: Plan, replies: list[Reply]) -> list[str]:
    """The digests of what a plan asks when it hears these; pauses are skipped."""
    asked: list[str] = []
    answer: Reply | None = None
    try:
        while True:
            item = plan.send(answer)
            answer = None
            if isinstance(item, Call):
                asked.append(item.digest())
                answer = replies[len(asked) - 1]
            else:
                assert isinstance(item, Pause)
    except StopIteration:
        return asked


class Recording(Desk):
    def __init__(self, **books: Any) -> None:
        super().__init__(**books)
        self.replies: list[Reply] = []

    def answer(self, call: Call) -> Reply:
        self.replies.append(super().answer(call))
        return self.replies[-1]


EXIT = Work(order=Order(kind="close", symbol="IDEA", options=INSTRUMENT), account=account(),
            ids=Ids(order_id="o-close", counter=901), targets=(plain(), cover()))


@pytest.mark.parametrize("work", [
    sent(plain()), sent(cover()), sent(cover(bracket=True)), EXIT,
    cancelling(plain(), cover(), legs_too=True), cancelling(plain(103, broker_ids={}), cover())])
def test_a_fresh_plan_that_hears_the_same_asks_the_same(work: Work) -> None:
    desk = Recording(pending=[row(), leg_row()], completed=[cart_row(order_status="COMPLETE")], positions=[position(2)])
    desk.run(BROKER.submit(work))
    asked = [call.digest() for call in desk.calls]
    assert asked

    later = replace(work, submitted_at=SOON, looked_at=MIDNIGHT, shows_our_ids=True, broker_ids={"order": "1"})
    assert played(BROKER.submit(work), desk.replies) == asked
    assert played(BROKER.submit(later), desk.replies) == asked, "what is learnt of the order itself changes no call"


# A close in several calls


def test_a_closing_order_that_is_rejected_after_success_is_a_refusal() -> None:
    """A success says "received": refused by margin or for want of market protection shows in the book only."""
    for legs, says in (([], "rejected: market orders are blocked (code 16418)"), ([leg_row()], "OPEN WITHOUT A STOP")):
        desk = Desk(pending=legs, positions=[position(2)])
        assert desk.closing is not None
        desk.closing |= {"order_status": "REJECTED", "rejection_reason": "market orders are blocked",
                         "rejection_code": 16418}

        outcome = desk.run(close())

        assert isinstance(outcome, Rejected) and says in outcome.reason
        assert ("WITHOUT A STOP" in outcome.reason) == bool(says == "OPEN WITHOUT A STOP")


def test_a_closing_order_that_was_cancelled_is_an_alarm() -> None:
    for has_legs in (False, True):
        desk = Desk(pending=[leg_row()] if has_legs else [], positions=[position(2)])
        assert desk.closing is not None
        desk.closing |= {"order_status": "CANCEL_CONFIRMED", "filled_quantity": 1, "quantity": 2}

        outcome = desk.run(close())

        assert isinstance(outcome, Accepted) and "1 of 2 filled" in outcome.alarm
        assert ("WITHOUT A STOP" in outcome.alarm) is has_legs


@pytest.mark.parametrize("reply", [LOST, Reply.of("<html>", 502), Reply.of({"status": "success", "data": {}})])
def test_a_doubtful_closing_order_after_its_legs_went_says_what_is_at_stake(reply: Reply) -> None:
    desk = Desk(pending=[leg_row()], positions=[position(2)])
    desk.on_place = reply

    outcome = desk.run(close())

    assert isinstance(outcome, Unknown)
    assert "user_order_id 901" in outcome.reason and "OPEN WITHOUT A STOP" in outcome.reason


@pytest.mark.parametrize("reply", [Reply.of(REFUSED), Reply(status=None, fault="too late", not_executed=True),
                                   Reply.of(FORBIDDEN, 401), Reply(status=429)])
def test_a_closing_order_that_fails_after_its_legs_went_is_told_and_not_silently_tried_again(reply: Reply) -> None:
    desk = Desk(pending=[leg_row()], positions=[position(2)])
    desk.on_place = reply

    outcome = desk.run(close())

    assert isinstance(outcome, Rejected) and "OPEN WITHOUT A STOP" in outcome.reason


def test_a_closing_order_that_the_completed_book_does_not_show_yet_stands_and_is_not_waited_for_long() -> None:
    for on_read in (lambda read: None, lambda read: Reply.of("<html>", 502) if read == "completed" else None):
        desk = Desk(positions=[position(2)])
        desk.closing, desk.on_read = None, on_read

        outcome = desk.run(close())

        assert outcome == Accepted(broker_ids={"order": "2026999"})
        assert desk.paused <= 1


@pytest.mark.parametrize("targets", [(plain(broker_ids={}),), (cover(broker_ids={}), plain(broker_ids={}))])
@pytest.mark.parametrize("make", [close, cancel])
def test_an_exit_does_not_wait_for_orders_whose_state_is_unknown(targets: tuple[Work, ...],
                                                                 make: Callable[..., Plan]) -> None:
    desk = Desk(positions=[position(2)])

    outcome = desk.run(make(*targets))

    assert isinstance(outcome, Accepted) and not desk.paused
    assert [call.method for call in desk.writes] == (["POST"] if make is close else [])


@pytest.mark.parametrize(("created_at", "amo", "waits"), [
    (NOW + timedelta(minutes=1), False, True), (NOW + timedelta(days=1), False, False),
    (NOW + timedelta(days=1), True, True)])
def test_a_cancel_does_not_wait_for_a_days_order_of_an_earlier_day(created_at: datetime, amo: bool,
                                                                   waits: bool) -> None:
    """An after-market order is for the next day: its row is waited for."""
    target = plain()
    target = replace(target, order=replace(target.order, options={**target.order.options, "amo": amo}))
    desk = Desk()

    outcome = desk.run(BROKER.submit(cancelling(target, created_at=created_at)))

    assert (desk.paused > 5) is waits and isinstance(outcome, Accepted) is not waits
    assert not desk.writes


def test_a_close_ends_its_wait_when_nothing_is_under_way_and_keeps_waiting_while_a_cancel_is() -> None:
    desk = Desk(pending=[leg_row()], positions=[position(2)])
    desk.on_delete = lambda oms_id: Reply.of({"data": {"basket_id": ""}, "status": "success"})

    outcome = desk.run(close())

    assert isinstance(outcome, Unknown) and "OPEN WITHOUT A STOP" in outcome.reason
    assert desk.paused >= 9


# Keeping a connection warm


@pytest.mark.parametrize(("options", "headers"), [({}, {}), ({"api": "algo"}, {"x-device-type": "WEB"})])
def test_a_connection_is_kept_warm_by_a_read_that_changes_nothing(options: dict[str, str],
                                                                  headers: dict[str, str]) -> None:
    call = BROKER.warm(account(**options))

    assert call is not None and not call.write and call.method == "GET" and call.body is None
    assert call.url == "https://trade.pocketful.in/api/v1/orders?type=pending&client_id=YG1234"
    assert call.headers == headers
