"""CrossTrade: plans of several calls. What is undone, what is withdrawn, what a look-up may claim."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from crosstrade_kit import (
    BROKER,
    CANCEL,
    CLOSE,
    HOME,
    OCO,
    OSO,
    PLAIN,
    SILENT,
    TIMED_OUT,
    UNKNOWN_COMMAND,
    WS,
    D,
    book,
    drive,
    gone,
    life,
    no,
    work,
    yes,
)

from bridge.call import Accepted, Call, Rejected, Reply, Seen, Unknown
from bridge.order import Leg, Order
from bridge.work import Work

BAD_TICK = Reply.of({"success": False, "error": "invalid_price", "detail": "bad tick"})
CLOSED = Reply.of({"closedPositions": [{"instrument": "ES 12-26", "quantity": 1}], "success": True})


def steps(calls: list[Call]) -> list[str]:
    return [call.step for call in calls]


def target(what: Order = PLAIN, /, **ids: str) -> Work:
    return work(what, order_id="o7", broker_ids=ids)


# -- oco ---------------------------------------------------------------------------------------------------------------


def oco(*replies: Reply) -> tuple[list[Call], Any]:
    return drive(BROKER.submit(work(OCO)), replies)


def test_oco_accepted_keeps_both_ids_and_the_group() -> None:
    _, outcome = oco(yes("a"), yes("b"))

    assert isinstance(outcome, Accepted) and not outcome.alarm
    assert outcome.broker_ids == {"order": "a", "other": "b", "oco": "o1.oco"}
    assert outcome.legs == ({"role": "other", "client_order_id": "o1.other", "broker_id": "b"},)


@pytest.mark.parametrize(("reply", "kind"), [(no(), Rejected), (TIMED_OUT, Unknown), (SILENT, Unknown)])
def test_oco_places_no_second_half_unless_the_first_stands(reply: Reply, kind: type[Any]) -> None:
    calls, outcome = oco(reply)

    assert steps(calls) == ["entry"] and isinstance(outcome, kind)


def test_oco_second_refused_takes_the_first_back_and_says_why() -> None:
    calls, outcome = oco(yes("a"), BAD_TICK, yes("a"), life("o1", "Working", "Cancelled", order_id="a"))

    assert [call.url.removeprefix(HOME) for call in calls] == [
        "/orders/place", "/orders/place", "/orders/a/cancel", "/orders/o1/lifecycle"]
    assert [call.write for call in calls] == [True, True, True, False]
    assert isinstance(outcome, Rejected)
    assert "bad tick" in outcome.reason and "taken back" in outcome.reason


def test_oco_first_filled_before_it_could_be_taken_back_is_accepted_with_an_alarm() -> None:
    _, outcome = oco(yes("a"), BAD_TICK, gone("a"), life("o1", "Working", "Filled", order_id="a"))

    assert isinstance(outcome, Accepted) and outcome.broker_status == "filled"
    assert "no second half" in outcome.alarm and "bad tick" in outcome.reason
    assert outcome.broker_ids == {"order": "a", "oco": "o1.oco", "other": ""}


def test_oco_first_filled_in_part_before_it_was_taken_back_is_accepted_with_an_alarm() -> None:
    _, outcome = oco(yes("a"), BAD_TICK, yes("a"), life("o1", "Working", "PartFilled", "Cancelled", order_id="a"))

    assert isinstance(outcome, Accepted) and outcome.alarm


def test_oco_first_gone_and_cancelled_is_a_clean_no() -> None:
    _, outcome = oco(yes("a"), BAD_TICK, gone("a"), life("o1", "Rejected", order_id="a"))

    assert isinstance(outcome, Rejected) and "rejected" in outcome.reason


def test_oco_undo_refused_while_the_first_works_stands_with_an_alarm() -> None:
    _, outcome = oco(yes("a"), BAD_TICK, no("Invalid request"), life("o1", "Working", order_id="a"))

    assert isinstance(outcome, Accepted) and outcome.broker_status == "working"
    assert "stands alone" in outcome.alarm and "Invalid request" in outcome.alarm


def test_oco_undo_in_doubt_is_settled_by_what_is_seen() -> None:
    _, cancelled = oco(yes("a"), BAD_TICK, TIMED_OUT, life("o1", "Working", "Cancelled", order_id="a"))
    _, filled = oco(yes("a"), BAD_TICK, SILENT, life("o1", "Filled", order_id="a"))

    assert isinstance(cancelled, Rejected)
    assert isinstance(filled, Accepted) and filled.alarm


def test_oco_undo_whose_end_does_not_come_is_unknown_with_its_ids() -> None:
    pending = life("o1", "Working", "CancelPending", order_id="a")

    _, outcome = oco(yes("a"), BAD_TICK, yes("a"), pending, pending, pending)

    assert isinstance(outcome, Unknown)
    assert outcome.broker_ids["order"] == "a" and "bad tick" in outcome.reason


def test_oco_undo_whose_end_cannot_be_seen_is_unknown() -> None:
    _, outcome = oco(yes("a"), BAD_TICK, TIMED_OUT, *[TIMED_OUT] * 9)

    assert isinstance(outcome, Unknown) and "could not be seen" in outcome.reason


def test_oco_undo_waits_between_its_looks() -> None:
    pending = life("o1", "CancelPending", order_id="a")

    _, outcome = oco(yes("a"), BAD_TICK, yes("a"), pending, life("o1", "Cancelled", order_id="a"))

    assert isinstance(outcome, Rejected)


@pytest.mark.parametrize("doubt", [TIMED_OUT, SILENT, Reply(status=502, text="<html>")])
def test_oco_second_unknown_is_not_followed_by_an_undo(doubt: Reply) -> None:
    calls, outcome = oco(yes("a"), doubt)

    assert steps(calls) == ["entry", "other"]
    assert isinstance(outcome, Unknown) and outcome.broker_ids == {"order": "a", "oco": "o1.oco"}
    assert "first half stands" in outcome.reason


def test_oco_second_not_sent_in_time_is_undone_like_a_refusal() -> None:
    late = Reply(status=None, fault="past max_age", not_executed=True)

    _, outcome = oco(yes("a"), late, yes("a"), life("o1", "Cancelled", order_id="a"))

    assert isinstance(outcome, Rejected) and "past max_age" in outcome.reason


# -- look-up -----------------------------------------------------------------------------------------------------------


def look(what: Order, /, *replies: Reply, **ids: str) -> Seen | None:
    return drive(BROKER.look_up(work(what, broker_ids=ids)), replies)[1]  # type: ignore[no-any-return]


@pytest.mark.parametrize(("states", "status"), [
    (("Submitted",), "working"), (("Submitted", "Accepted", "Working"), "working"),
    (("Working", "PartFilled"), "partially_filled"), (("Working", "PartFilled", "Filled"), "filled"),
    (("Working", "CancelPending"), "working"), (("Working", "Cancelled"), "canceled"), (("Rejected",), "rejected"),
    (("Filled", "PartFilled"), "filled"), (("TriggerPending",), "working"), (("Working", "Quantum"), "working"),
    (("Expired",), "expired"), (("working", "part_filled"), "partially_filled")])
def test_a_lifecycle_is_read_in_our_words(states: tuple[str, ...], status: str) -> None:
    seen = look(PLAIN, life("o1", *states))

    assert seen == Seen(broker_status=status, broker_ids={"order": "nt1"}, by_our_id=True)


def test_a_lifecycle_reason_and_a_part_filled_are_told() -> None:
    rejected = look(PLAIN, life("o1", "Rejected", error="Insufficient margin"))
    partly = look(PLAIN, life("o1", "PartFilled", "Cancelled"))

    assert rejected is not None and rejected.reason == "Insufficient margin"
    assert partly is not None and partly.broker_status == "canceled" and "part was filled" in partly.reason


def test_the_id_that_placing_gave_is_kept_when_ninjatrader_has_another_by_now() -> None:
    seen = look(PLAIN, life("o1", "Working", order_id="reassigned"), order="a")

    assert seen is not None and seen.broker_ids == {"order": "a"}


NO_EVIDENCE = {
    "an attempt without a state": life("o1"),
    "a state that nobody knows": life("o1", "Quantum"),
    "somebody else's order": life("o2", "Working"),
    "an older add-on": UNKNOWN_COMMAND,
    "no such order": Reply.of({"success": False, "error": "unknown order id"}),
    "no answer": TIMED_OUT,
    "silence": SILENT,
    "a page": Reply(status=200, text="<html>"),
    "text for a yes": Reply.of({"success": "true", "orderId": "o1", "events": [{"orderState": "Filled"}]}),
    "events of another shape": Reply.of({"success": True, "orderId": "o1", "events": {"orderState": "Filled"}}),
    "rows of another shape": Reply.of({"success": True, "orderId": "o1", "events": [1, None, ["Filled"]]}),
}


@pytest.mark.parametrize("name", NO_EVIDENCE)
def test_a_lifecycle_that_proves_nothing_leads_on_to_the_list_and_absence_to_none(name: str) -> None:
    calls, seen = drive(BROKER.look_up(work(PLAIN)), [NO_EVIDENCE[name], book()])

    assert seen is None
    assert calls[1].url == f"{HOME}/orders?activeOnly=false"


def test_over_the_websocket_the_list_is_list_orders() -> None:
    calls, seen = drive(BROKER.look_up(work(PLAIN, WS)), [UNKNOWN_COMMAND, book()])

    assert seen is None
    assert calls[1].body == {"action": "rpc", "api": "ListOrders", "args": {"account": "Sim101", "activeOnly": False}}


@pytest.mark.parametrize("row", [
    {"id": "nt1", "orderId": "o1"}, {"id": "o1"}, {"id": "nt1", "name": "o1"}, {"id": "nt1", "originalOrderId": "o1"},
    {"id": "nt1", "userData": "<NinjaTrader><AutomatedTradingOrderId>o1</AutomatedTradingOrderId></NinjaTrader>"}])
def test_a_row_is_ours_by_our_id_wherever_an_add_on_puts_it(row: dict[str, Any]) -> None:
    others = {"id": "x", "orderState": "Filled", "name": "Entry", "userData": "<A>o1</A>", "ocoId": "o1.oco"}

    seen = look(PLAIN, UNKNOWN_COMMAND, book(others, {**row, "orderState": "Working", "filled": 0}))

    assert seen is not None and seen.broker_status == "working"


def test_a_row_is_ours_by_the_id_that_placing_gave() -> None:
    seen = look(PLAIN, UNKNOWN_COMMAND, book({"id": "a", "orderState": "Filled", "filled": 2}), order="a")

    assert seen == Seen(broker_status="filled", broker_ids={"order": "a"})


def test_a_list_under_data_is_read_as_well() -> None:
    row = {"id": "a", "name": "o1", "orderState": "Working"}

    assert look(PLAIN, UNKNOWN_COMMAND, Reply.of({"data": [row], "success": True})) is not None
    assert look(PLAIN, UNKNOWN_COMMAND, Reply.of({"data": {"orders": [row]}, "success": True})) is not None


def test_an_order_that_the_list_has_dropped_is_asked_for_by_its_broker_id() -> None:
    one = Reply.of({"account": "Sim101", "orderId": "a", "orderState": "Filled", "quantity": 2, "filled": 2})

    found = Seen(broker_status="filled", broker_ids={"order": "a"})

    assert look(PLAIN, UNKNOWN_COMMAND, book(), one, order="a") == found
    assert look(PLAIN, UNKNOWN_COMMAND, book(), NO_EVIDENCE["no such order"], order="a") is None


def test_two_rows_with_our_id_are_told_apart_by_side_and_type_or_not_at_all() -> None:
    entry = {"id": "a", "name": "o1", "orderAction": "Buy", "orderType": "Limit", "orderState": "Filled"}
    exit_ = {"id": "b", "name": "o1", "orderAction": "Sell", "orderType": "StopMarket", "orderState": "Working"}

    seen = look(PLAIN, UNKNOWN_COMMAND, book(exit_, entry))

    assert seen == Seen(broker_status="filled", broker_ids={"order": "a"}, by_our_id=True)
    assert look(PLAIN, UNKNOWN_COMMAND, book(entry, {**entry, "id": "c"})) is None


def half(broker_id: str, type_: str, state: str, **more: Any) -> dict[str, Any]:
    return {"id": broker_id, "ocoId": "o1.oco", "orderAction": "Sell", "orderType": type_, "orderState": state, **more}


@pytest.mark.parametrize(("one", "two", "status"), [
    ("Working", "Working", "working"), ("Filled", "Cancelled", "filled"), ("Cancelled", "Filled", "filled"),
    ("PartFilled", "Working", "partially_filled"), ("Cancelled", "Working", "working"),
    ("Filled", "Working", "partially_filled"), ("Cancelled", "Rejected", "canceled"),
    ("Cancelled", "Cancelled", "canceled"), ("Rejected", "Rejected", "rejected")])
def test_an_oco_is_seen_as_a_whole_with_its_other_half_as_a_leg(one: str, two: str, status: str) -> None:
    by_lifecycle = look(OCO, life("o1", one, order_id="a"), life("o1.other", two, order_id="b"))
    by_list = look(OCO, UNKNOWN_COMMAND, UNKNOWN_COMMAND, book(half("b", "StopMarket", two), half("a", "Limit", one)))

    assert by_list is not None and by_list.broker_status == status and not by_list.by_our_id
    assert by_lifecycle == replace(by_list, by_our_id=True)
    assert by_list.broker_ids == {"order": "a", "other": "b", "oco": "o1.oco"}
    assert by_list.legs[0]["broker_id"] == "b" and by_list.legs[0]["role"] == "other"


def test_half_an_oco_is_not_found() -> None:
    """The second place may have been lost: to call the order found would hide that."""
    assert look(OCO, life("o1", "Working"), UNKNOWN_COMMAND, book()) is None
    assert look(OCO, UNKNOWN_COMMAND, UNKNOWN_COMMAND, book(half("a", "Limit", "Working"))) is None


def test_a_first_half_whose_other_was_refused_is_found_alone() -> None:
    seen = look(OCO, life("o1", "Working", order_id="a"), order="a", other="")

    assert seen is not None and seen.broker_status == "working"


def test_one_rejected_half_beside_a_working_one_is_told() -> None:
    seen = look(OCO, life("o1", "Working", order_id="a"), life("o1.other", "Rejected", order_id="b"))

    assert seen is not None and seen.broker_status == "working" and "stands alone" in seen.reason


def test_rows_of_another_arming_are_not_ours() -> None:
    rows = book(half("a", "Limit", "Working"), half("b", "StopMarket", "Working"))

    assert drive(BROKER.look_up(work(OCO, arming=2)), [UNKNOWN_COMMAND, UNKNOWN_COMMAND, rows])[1] is None


def test_a_straddle_is_told_apart_by_its_sides() -> None:
    straddle = Order(kind="oco", symbol="ES 12-26", side="buy", quantity=D(1), type="stop", stop_price=D(5310),
                     time_in_force="day", other=Leg(role="other", side="sell", type="stop", stop_price=D(5290)))
    rows = book(half("s", "StopMarket", "Cancelled"), half("b", "StopMarket", "Filled", orderAction="Buy"))

    seen = look(straddle, UNKNOWN_COMMAND, UNKNOWN_COMMAND, rows)

    assert seen is not None and seen.broker_ids["order"] == "b" and seen.broker_ids["other"] == "s"


# -- cancel ------------------------------------------------------------------------------------------------------------


def cancel(*replies: Reply, what: tuple[Work, ...], **fields: Any) -> tuple[list[Call], Any]:
    return drive(BROKER.submit(work(replace(CANCEL, **fields), targets=what)), replies)


def test_a_cancelled_order_is_reported_with_its_end() -> None:
    _, outcome = cancel(life("o7", "Working"), yes(), life("o7", "Working", "Cancelled"), what=(target(order="nt1"),))

    assert isinstance(outcome, Accepted) and not outcome.alarm
    assert outcome.targets["o7"] == Seen(broker_status="canceled", broker_ids={"order": "nt1"}, by_our_id=True)


def test_an_order_filled_while_it_was_being_cancelled_is_told_as_filled() -> None:
    _, outcome = cancel(life("o7", "Working"), gone(), life("o7", "Working", "Filled"), what=(target(order="nt1"),))

    assert isinstance(outcome, Accepted)
    assert outcome.targets["o7"].broker_status == "filled" and "filled" in outcome.reason


def test_an_order_that_has_ended_is_not_cancelled_again() -> None:
    calls, outcome = cancel(life("o7", "Filled"), what=(target(order="nt1"),))

    assert len(calls) == 1 and isinstance(outcome, Accepted)
    assert "already: filled" in outcome.reason and outcome.targets["o7"].broker_status == "filled"


def test_an_unknown_order_is_cancelled_by_the_id_that_the_look_up_learnt() -> None:
    row = {"id": "nt9", "name": "o7", "orderState": "Working"}

    calls, outcome = cancel(UNKNOWN_COMMAND, book(row), yes("nt9"), UNKNOWN_COMMAND,
                            book({**row, "orderState": "Cancelled"}), what=(target(),))

    assert calls[2].url == f"{HOME}/orders/nt9/cancel"
    assert isinstance(outcome, Accepted) and outcome.targets["o7"].broker_ids == {"order": "nt9"}


def test_an_order_never_seen_and_not_found_by_our_own_id_is_an_alarm() -> None:
    calls, outcome = cancel(UNKNOWN_COMMAND, book(), gone("o7"), UNKNOWN_COMMAND, book(), what=(target(),))

    assert calls[2].url == f"{HOME}/orders/o7/cancel"
    assert isinstance(outcome, Accepted) and "never seen" in outcome.alarm


def test_a_half_of_an_oco_that_filled_leaves_the_other_to_be_cancelled() -> None:
    calls, outcome = cancel(life("o7", "Filled", order_id="a"), life("o7.other", "Working", order_id="b"), yes("b"),
                            life("o7", "Filled", order_id="a"), life("o7.other", "Cancelled", order_id="b"),
                            what=(target(OCO, order="a", other="b"),))

    assert [call.url for call in calls if call.write] == [f"{HOME}/orders/b/cancel"]
    assert isinstance(outcome, Accepted) and outcome.targets["o7"].broker_status == "filled"


def test_one_refusal_does_not_keep_the_others_from_being_withdrawn() -> None:
    two = (target(order="a"), work(PLAIN, order_id="o8", broker_ids={"order": "b"}))

    calls, outcome = cancel(life("o7", "Working"), no("Invalid request"), life("o8", "Working"), yes("b"),
                            life("o7", "Working"), life("o8", "Cancelled"), what=two)

    assert len([call for call in calls if call.write]) == 2
    assert isinstance(outcome, Accepted) and "o7 was not withdrawn" in outcome.alarm
    assert outcome.targets["o8"].broker_status == "canceled"


def test_a_refused_cancel_of_one_order_is_rejected() -> None:
    _, outcome = cancel(life("o7", "Working"), no(), life("o7", "Working"), what=(target(order="a"),))

    assert isinstance(outcome, Rejected) and "Invalid request" in outcome.reason


def test_a_doubtful_cancel_is_unknown_until_its_effect_is_seen() -> None:
    _, unknown = cancel(life("o7", "Working"), TIMED_OUT, TIMED_OUT, TIMED_OUT, TIMED_OUT, what=(target(order="a"),))
    _, seen = cancel(life("o7", "Working"), TIMED_OUT, life("o7", "Cancelled"), what=(target(order="a"),))

    assert isinstance(unknown, Unknown) and "o7" in unknown.reason
    assert isinstance(seen, Accepted) and not seen.alarm


def test_legs_of_a_filled_atm_entry_that_were_to_go_too_are_an_alarm() -> None:
    filled = life("o7", "Filled")

    _, asked = cancel(filled, what=(target(OSO, order="a"),), legs_too=True)
    _, not_asked = cancel(filled, what=(target(OSO, order="a"),))

    assert isinstance(asked, Accepted) and "ATM" in asked.alarm
    assert isinstance(not_asked, Accepted) and not not_asked.alarm


# -- close -------------------------------------------------------------------------------------------------------------


def close(*replies: Reply, what: tuple[Work, ...]) -> tuple[list[Call], Any]:
    return drive(BROKER.submit(work(CLOSE, targets=what)), replies)


def test_close_withdraws_both_halves_of_an_oco_then_closes() -> None:
    calls, outcome = close(yes("a"), gone("b"), CLOSED, life("o7", "Cancelled", order_id="a"),
                           life("o7.other", "Cancelled", order_id="b"), what=(target(OCO, order="a", other="b"),))

    assert [call.url.removeprefix(HOME) for call in calls if call.write] == [
        "/orders/a/cancel", "/orders/b/cancel", "/positions/close"]
    assert isinstance(outcome, Accepted) and not outcome.alarm
    assert outcome.targets["o7"].broker_status == "canceled"


def test_a_close_reads_nothing_before_it_is_sent_whatever_is_unknown_of_the_orders() -> None:
    calls, outcome = close(yes("o7"), CLOSED, life("o7", "Cancelled"), what=(target(),))

    assert [call.operation for call in calls] == ["cancel", "close", "lifecycle"]
    assert calls[0].url == f"{HOME}/orders/o7/cancel"
    assert isinstance(outcome, Accepted) and not outcome.alarm


LATE = {"id": "nt9", "ocoId": "o7.oco", "orderAction": "Sell", "orderType": "Limit", "orderState": "Working"}
OTHER = {**LATE, "id": "nt8", "orderType": "StopMarket", "orderState": "Cancelled"}
OLD = (UNKNOWN_COMMAND, UNKNOWN_COMMAND)


def test_an_order_that_our_own_id_did_not_reach_is_withdrawn_after_the_close_once_it_is_found_to_work() -> None:
    calls, outcome = close(gone("o7"), gone("o7.other"), CLOSED, *OLD, book(LATE, OTHER), yes("nt9"),
                           *OLD, book({**LATE, "orderState": "Cancelled"}, OTHER), what=(target(OCO),))

    assert [call.url.removeprefix(HOME) for call in calls if call.write] == [
        "/orders/o7/cancel", "/orders/o7.other/cancel", "/positions/close", "/orders/nt9/cancel"]
    assert isinstance(outcome, Accepted) and not outcome.alarm
    assert outcome.targets["o7"].broker_status == "canceled"


def test_an_order_that_nothing_finds_is_an_alarm_of_a_close_unless_the_add_on_knows_our_ids() -> None:
    replies = (gone("o7"), CLOSED, UNKNOWN_COMMAND, book())

    _, older = close(*replies, what=(target(),))
    newer = drive(BROKER.submit(work(CLOSE, targets=(target(),), shows_our_ids=True)), replies)[1]

    assert isinstance(older, Accepted) and "never seen" in older.alarm
    assert isinstance(newer, Accepted) and not newer.alarm


@pytest.mark.parametrize("reply", [no(), TIMED_OUT, SILENT])
def test_a_cancel_that_fails_does_not_hold_the_close_back_but_is_an_alarm(reply: Reply) -> None:
    calls, outcome = close(reply, CLOSED, life("o7", "Working"), what=(target(order="a"),))

    assert [call.operation for call in calls] == ["cancel", "close", "lifecycle"]
    assert isinstance(outcome, Accepted) and "may still rest on ES 12-26" in outcome.alarm


def test_a_close_with_nothing_open_still_withdraws_what_rests() -> None:
    _, outcome = close(yes("a"), no("No positions found for instrument 'ES 12-26'"), life("o7", "Cancelled"),
                       what=(target(order="a"),))

    assert isinstance(outcome, Accepted) and "nothing open" in outcome.reason and not outcome.alarm


@pytest.mark.parametrize(("reply", "kind"), [(no(), Rejected), (TIMED_OUT, Unknown)])
def test_a_close_that_fails_after_its_stops_were_withdrawn_says_so(reply: Reply, kind: type[Any]) -> None:
    _, outcome = close(yes("a"), reply, what=(target(order="a"),))

    assert isinstance(outcome, kind) and "unprotected" in outcome.reason


def test_a_filled_atm_entry_is_no_alarm_of_a_close() -> None:
    _, outcome = close(gone("a"), CLOSED, life("o7", "Filled"), what=(target(OSO, order="a"),))

    assert isinstance(outcome, Accepted) and not outcome.alarm
