"""CrossTrade in doubt: what proves that an order is there, or is not; a write looked up, and a plan that goes on."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from crosstrade_kit import (
    BROKER,
    CANCEL,
    CLOSE,
    HOME,
    KNOWN,
    OCO,
    OSO,
    PLAIN,
    REST,
    SENT_AT,
    SILENT,
    STREAM,
    TIMED_OUT,
    UNKNOWN_COMMAND,
    WS,
    book,
    drive,
    gone,
    heard,
    life,
    no,
    nowhere,
    work,
    yes,
)

from bridge.call import Absent, Accepted, Call, Rejected, Reply, Seen, Unknown
from bridge.order import Order
from bridge.rehearse import rehearse
from bridge.work import Account, Work

BOTH = pytest.mark.parametrize("account", [REST, WS], ids=["rest", "websocket"])
ROW = {"id": "nt5", "orderState": "Working", "orderAction": "Buy", "orderType": "Limit", "instrument": "ES 12-26",
       "quantity": 3}
DOUBLE = {**ROW, "id": "9f8e7d6c5b4a39281706f5e4d3c2b1a0", "quantity": 2, "limitPrice": 5300.25, "name": "Entry"}
"""A row that trades what PLAIN trades, under an id of NinjaTrader's own."""
ANOTHER = "o0123456789abcdef0123"
"""The id of another order of ours."""
FIRST = {"id": "a", "ocoId": "o1.oco", "orderAction": "Sell", "orderType": "Limit", "orderState": "Working"}
SECOND = {**FIRST, "id": "b", "orderType": "StopMarket"}


def look(what: Order, /, *replies: Reply, on: Account = REST, **more: Any) -> Any:
    return drive(BROKER.look_up(work(what, on, **{**KNOWN, **more})), replies)[1]


# -- an entry that is not there ----------------------------------------------------------------------------------------


@BOTH
def test_an_entry_is_absent_when_its_lifecycle_and_the_complete_list_both_deny_it(account: Account) -> None:
    found = look(PLAIN, nowhere(), book(ROW), on=account)

    assert isinstance(found, Absent) and "o1" in found.reason


@pytest.mark.parametrize("denial", [
    nowhere(), Reply.of({"success": False, "error": "unknown order id"}),
    Reply.of({"success": False, "error": "order_not_found", "detail": "no order o1"}, 400),
    Reply.of({"success": True, "orderId": "o1", "count": 0, "events": []}),
    Reply.of({"data": {"success": True, "events": []}})], ids=lambda reply: str(reply.text))
def test_a_lifecycle_denies_an_order_in_so_many_words_or_by_an_empty_timeline(denial: Reply) -> None:
    assert isinstance(look(PLAIN, denial, book()), Absent)


NO_DENIAL = {
    "an older add-on": UNKNOWN_COMMAND,
    "a time-out": TIMED_OUT,
    "silence": SILENT,
    "a 500 that says so": Reply.of({"error": "Order linked to 'o1' not found."}, 500),
    "a 408 that says so": Reply.of({"error": "Order linked to 'o1' not found."}, 408),
    "no such address": Reply.of({"error": "Not found", "did_you_mean": "/v1/api/accounts"}, 404),
    "no such account": no("Account 'Sim101' not found"),
    "an order of no such account": no("Order lookup failed: account not found"),
    "not connected": no("Order not found: NinjaTrader is not connected"),
    "not heard": no("Unknown order: no response within 5 s"),
    "perhaps it has ended": gone("o1"),
    "words without a no": Reply.of({"error": "unknown order id", "success": "false"}),
    "a yes with words": Reply.of({"error": "unknown order id", "success": True}),
    "our attempt without a state": life("o1"),
    "a state that nobody knows": life("o1", "Quantum"),
    "somebody else's empty timeline": Reply.of({"success": True, "orderId": "o9", "events": []}),
    "an empty timeline with a warning": Reply.of({"success": True, "events": [], "warning": "database unavailable"}),
    "an empty timeline of many": Reply.of({"success": True, "events": [], "total": 3}),
    "a no with a warning": Reply.of({"error": "unknown order id", "success": False, "warning": "add-on offline"}),
    "events that were left out": Reply.of({"success": True, "orderId": "o1", "count": 3, "events": []}),
    "an empty answer": Reply.of({}),
    "a page": Reply(status=200, text="<html>order not found</html>"),
}


@pytest.mark.parametrize("name", NO_DENIAL)
def test_without_a_sound_lifecycle_nothing_is_proven(name: str) -> None:
    assert look(PLAIN, NO_DENIAL[name], book()) is None


WHOLE: dict[str, Any] = {"orders": [], "success": True}
NO_LIST = {
    "a time-out": TIMED_OUT,
    "silence": SILENT,
    "an error": no("Invalid request"),
    "without a yes": Reply.of({"orders": []}),
    "a no": Reply.of({"success": False, "orders": []}),
    "a yes as text": Reply.of({"success": "true", "orders": []}),
    "no list": Reply.of({"success": True}),
    "a bare list": Reply.of([]),
    "fewer rows than counted": Reply.of({"orders": [ROW], "count": 2, "success": True}),
    "in part": Reply.of({"orders": [], "partial": True, "success": True}),
    "more to come": Reply.of({"orders": [], "nextCursor": "x", "success": True}),
    "another total": Reply.of({**WHOLE, "total": 500}),
    "more of it": Reply.of({**WHOLE, "hasMore": True}),
    "cut off": Reply.of({**WHOLE, "truncated": True}),
    "not complete": Reply.of({**WHOLE, "complete": False}),
    "the next page": Reply.of({**WHOLE, "next_page": 2}),
    "with a warning": Reply.of({**WHOLE, "warning": "account not connected; list may be incomplete"}),
    "with an error": Reply.of({**WHOLE, "error": "partial"}),
    "with an error inside": Reply.of({"success": True, "error": None, "data": {**WHOLE, "error": "partial"}}),
    "with a remark": Reply.of({**WHOLE, "detail": "served from cache"}),
    "our id in capitals": book({**ROW, "id": "O1"}),
    "our id in a field that nobody knows": book({**ROW, "clientOrderId": "o1"}),
    "a row that is none": Reply.of({"orders": ["o1"], "success": True}),
    "a row without an id": Reply.of({"orders": [{"orderState": "Working"}], "success": True}),
    "a row of ours that cannot be read": book({**ROW, "name": "o1", "orderState": "Quantum"}),
    "two rows of ours": book({**ROW, "name": "o1"}, {**ROW, "id": "nt6", "name": "o1"}),
    "our id in an ATM's echo": book({"id": "nt5", "automatedTradingOrderId": "o1"}),
}


@pytest.mark.parametrize("name", NO_LIST)
def test_without_a_sound_and_complete_list_nothing_is_proven(name: str) -> None:
    assert look(PLAIN, nowhere(), NO_LIST[name]) is None


def whose(original: Any, order_id: str = DOUBLE["id"], **more: Any) -> Reply:
    """What a row's own lifecycle tells of it."""
    return Reply.of({"success": True, "orderId": order_id, "originalOrderId": original, "count": 0, "events": [], **more})


@BOTH
@pytest.mark.parametrize("row", [
    {}, {"orderState": "Filled"}, {"orderAction": "BuyToCover"}, {"orderAction": None}, {"orderType": "Mystery"},
    {"instrument": "ES DEC26"}, {"instrument": "ES"}, {"instrument": None}, {"quantity": None},
    {"limitPrice": 5300, "limitPriceChanged": 5300}, {"originalOrderId": DOUBLE["id"]}], ids=str)
def test_a_row_that_trades_the_same_under_an_id_of_ninjatraders_may_be_the_lost_order(
        account: Account, row: dict[str, Any]) -> None:
    assert look(PLAIN, nowhere(), book({**DOUBLE, **row}), whose(None), on=account) is None


@pytest.mark.parametrize("row", [
    {"instrument": "ES 03-27"}, {"instrument": "MES 12-26"}, {"orderAction": "SellShort"}, {"orderType": "StopMarket"},
    {"quantity": 1}, {"originalOrderId": ANOTHER}, {"name": f"{ANOTHER}.other.2"}], ids=str)
def test_a_row_that_plainly_is_another_order_denies_nothing(row: dict[str, Any]) -> None:
    assert isinstance(look(PLAIN, nowhere(), book({**DOUBLE, **row})), Absent)


@BOTH
def test_a_row_that_trades_the_same_is_another_order_when_its_own_lifecycle_says_so(account: Account) -> None:
    assert isinstance(look(PLAIN, nowhere(), book(DOUBLE), whose(ANOTHER), on=account), Absent)


@pytest.mark.parametrize("answer", [
    whose("o1"), whose("O1"), whose(DOUBLE["id"]), whose("c" * 32), whose(None), whose(ANOTHER, "nt9"),
    whose(ANOTHER, success=False), UNKNOWN_COMMAND, TIMED_OUT, SILENT, nowhere(DOUBLE["id"])],
    ids=lambda reply: str(reply.text or reply.fault))
def test_a_row_whose_lifecycle_does_not_name_another_order_of_ours_may_be_the_lost_one(answer: Reply) -> None:
    assert look(PLAIN, nowhere(), book(DOUBLE), answer) is None


def test_a_row_whose_lifecycle_names_our_own_order_in_whatever_case_is_not_another() -> None:
    for ours in (ANOTHER, ANOTHER.upper()):
        assert look(PLAIN, nowhere(ANOTHER), book(DOUBLE), whose(ours), order_id=ANOTHER) is None


def test_every_row_that_trades_the_same_is_asked_for_up_to_a_number() -> None:
    def rows(count: int) -> list[dict[str, Any]]:
        return [{**DOUBLE, "id": f"nt{number}"} for number in range(count)]

    eight = [whose(ANOTHER, f"nt{number}") for number in range(8)]
    assert isinstance(look(PLAIN, nowhere(), book(*rows(8)), *eight), Absent)
    assert look(PLAIN, nowhere(), book(*rows(8)), *eight[:7], whose(None, "nt7")) is None
    assert look(PLAIN, nowhere(), book(*rows(9))) is None


def test_a_row_outside_the_oco_group_may_be_a_half_only_where_it_shows_no_group() -> None:
    def found(**more: Any) -> Any:
        replies = [whose(None, "x")] if not more["ocoId"] else []
        return look(OCO, nowhere(), nowhere("o1.other"), book({**FIRST, "id": "x", "quantity": 1, **more}), *replies)

    assert found(ocoId="") is None
    assert isinstance(found(ocoId="1234"), Absent)


@pytest.mark.parametrize("more", [
    {"shows_our_ids": False}, {"looked_at": None}, {"looked_at": SENT_AT + timedelta(hours=25)}], ids=str)
def test_an_account_that_never_showed_our_ids_or_another_day_proves_nothing(more: dict[str, Any]) -> None:
    assert look(PLAIN, nowhere(), book(), **more) is None


def test_an_entry_that_the_broker_gave_an_id_for_is_never_absent() -> None:
    assert look(PLAIN, nowhere(), book(), nowhere("nt1"), broker_ids={"order": "nt1"}) is None


def test_an_oco_is_absent_only_when_both_of_its_halves_are() -> None:
    other = nowhere("o1.other")

    assert isinstance(look(OCO, nowhere(), other, book()), Absent)
    assert look(OCO, life("o1", "Working"), other, book()) is None
    assert look(OCO, nowhere(), life("o1.other", "Working"), book()) is None
    assert look(OCO, nowhere(), TIMED_OUT, book()) is None
    assert look(OCO, nowhere(), other, book(FIRST)) is None


def test_a_row_of_the_oco_group_that_fits_neither_half_disproves_absence() -> None:
    assert look(OCO, nowhere(), nowhere("o1.other"), book({**FIRST, "orderType": "Mystery"})) is None


# -- shown under our id ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("replies", "ours"), [
    ([life("o1", "Working")], True),
    ([UNKNOWN_COMMAND, book({**ROW, "name": "o1"})], True),
    ([UNKNOWN_COMMAND, book({**ROW, "originalOrderId": "o1"})], True),
    ([UNKNOWN_COMMAND, book({"id": "nt1", "orderState": "Working"})], False),
])
def test_only_an_order_under_our_own_id_shows_that_the_account_keeps_our_ids(replies: list[Reply], ours: bool) -> None:
    seen = look(PLAIN, *replies, broker_ids={"order": "nt1"} if not ours else {})

    assert isinstance(seen, Seen) and seen.by_our_id is ours


def test_the_echo_in_an_atm_order_does_not_show_that_plain_orders_keep_our_ids() -> None:
    echo = "<NinjaTrader><AutomatedTradingOrderId>o1</AutomatedTradingOrderId></NinjaTrader>"

    seen = look(OSO, UNKNOWN_COMMAND, book({**ROW, "userData": echo}))

    assert isinstance(seen, Seen) and not seen.by_our_id


def test_halves_known_by_their_group_alone_do_not_show_it_either() -> None:
    seen = look(OCO, UNKNOWN_COMMAND, UNKNOWN_COMMAND, book(FIRST, SECOND))

    assert isinstance(seen, Seen) and not seen.by_our_id


# -- one write of an oco -----------------------------------------------------------------------------------------------


def writes(account: Account = REST, arming: int = 1) -> dict[str, Call]:
    """The three writes that an OCO can make, by step."""
    refused = [yes("a"), no(), yes("a"), life("o1", "Cancelled", order_id="a")]
    calls, _ = drive(BROKER.submit(work(OCO, account, arming=arming)), refused if arming == 1 else [
        yes("a"), no(), yes("a"), life(f"o1.{arming}", "Cancelled", order_id="a")])
    return {call.step: call for call in calls if call.write}


def step(call: Call, *replies: Reply, **more: Any) -> Any:
    return drive(BROKER.look_up_step(work(OCO, **{**KNOWN, **more}), call), replies)[1]


@BOTH
def test_each_half_is_looked_up_by_the_id_that_its_own_call_gave_it(account: Account) -> None:
    calls = writes(account)
    one = drive(BROKER.look_up_step(work(OCO, account), calls["entry"]), [life("o1", "Working", order_id="a")])
    two = drive(BROKER.look_up_step(work(OCO, account), calls["other"]), [life("o1.other", "Accepted", order_id="b")])

    assert one[1] == Seen(broker_status="working", broker_ids={"order": "a", "oco": "o1.oco"}, by_our_id=True)
    assert two[1] == Seen(broker_status="working", broker_ids={"order": "b", "oco": "o1.oco"}, by_our_id=True)
    assert not any(call.write for call in (*one[0], *two[0]))


def test_a_half_of_a_later_arming_is_looked_up_under_that_armings_id() -> None:
    call = writes(arming=2)["other"]

    calls, _ = drive(BROKER.look_up_step(work(OCO), call), [life("o1.other.2", "Working")])

    assert calls[0].url == f"{HOME}/orders/o1.other.2/lifecycle"


def test_a_half_is_found_by_its_group_side_and_type_where_ids_are_not_echoed() -> None:
    seen = step(writes()["other"], UNKNOWN_COMMAND, book(FIRST, SECOND))

    assert seen == Seen(broker_status="working", broker_ids={"order": "b", "oco": "o1.oco"})


def test_a_half_is_absent_beside_its_standing_sibling() -> None:
    found = step(writes()["other"], nowhere("o1.other"), book(FIRST), broker_ids={"order": "a"})

    assert isinstance(found, Absent)


@pytest.mark.parametrize(("replies", "more"), [
    ([nowhere("o1.other"), book(SECOND | {"orderState": "Quantum"})], {}),
    ([nowhere("o1.other"), TIMED_OUT], {}),
    ([UNKNOWN_COMMAND, book(FIRST)], {}),
    ([nowhere("o1.other"), book(FIRST)], {"shows_our_ids": False}),
    ([nowhere("o1.other"), book(FIRST)], {"looked_at": None}),
])
def test_a_half_of_which_nothing_is_proven_is_neither(replies: list[Reply], more: dict[str, Any]) -> None:
    assert step(writes()["other"], *replies, **more) is None


def test_a_rejected_half_is_seen_with_its_reason() -> None:
    seen = step(writes()["entry"], life("o1", "Rejected", error="Insufficient margin"))

    assert seen.broker_status == "rejected" and seen.reason == "Insufficient margin"


@BOTH
def test_an_undo_is_looked_up_by_the_end_of_the_half_that_it_names(account: Account) -> None:
    undo = writes(account)["undo.entry"]

    def seen(*replies: Reply) -> Any:
        return drive(BROKER.look_up_step(work(OCO, account, **KNOWN), undo), replies)[1]

    ended = seen(life("o1", "Working", "Cancelled", order_id="a"))
    assert isinstance(ended, Seen) and ended.broker_status == "canceled" and ended.broker_ids == {"order": "a"}
    assert seen(life("o1", "Filled", order_id="a")).broker_status == "filled"
    assert isinstance(seen(life("o1", "Working", order_id="a")), Absent)
    assert isinstance(seen(UNKNOWN_COMMAND, book(FIRST)), Absent)
    assert seen(TIMED_OUT, TIMED_OUT, TIMED_OUT) is None
    assert seen(nowhere(), book(), nowhere("a")) is None


def test_an_undo_asks_for_the_id_that_the_call_named_though_none_is_on_record() -> None:
    undo = writes()["undo.entry"]

    calls, _ = drive(BROKER.look_up_step(work(OCO), undo), [UNKNOWN_COMMAND, book(), Reply.of(
        {"orderId": "a", "orderState": "Cancelled", "success": True})])

    assert calls[-1].url == f"{HOME}/orders/a"


def test_a_step_of_a_plain_order_or_an_exit_is_the_whole_of_it() -> None:
    place = rehearse(BROKER.submit(work(PLAIN)))[0][0]
    close = rehearse(BROKER.submit(work(CLOSE)))[0][0]

    plain = drive(BROKER.look_up_step(work(PLAIN), place), [life("o1", "Filled")])[1]
    closed = drive(BROKER.look_up_step(work(CLOSE), close), [book(), FLAT])[1]

    assert isinstance(plain, Seen) and plain.broker_status == "filled"
    assert isinstance(closed, Seen)


# -- going on with what was seen ---------------------------------------------------------------------------------------

SEEN_FIRST = heard(Seen(broker_status="working", broker_ids={"order": "a", "oco": "o1.oco"}))
SEEN_SECOND = heard(Seen(broker_status="working", broker_ids={"order": "b", "oco": "o1.oco"}))
REFUSED = heard(Seen(broker_status="rejected", broker_ids={"order": "x"}, reason="Insufficient margin"))


def oco(*replies: Reply, on: Account = REST, **more: Any) -> tuple[list[Call], Any]:
    return drive(BROKER.submit(work(OCO, on, **more)), replies)


@BOTH
def test_a_seen_first_half_is_followed_by_the_second(account: Account) -> None:
    calls, outcome = oco(SEEN_FIRST, yes("b"), on=account)

    assert [call.step for call in calls] == ["entry", "other"]
    assert isinstance(outcome, Accepted) and outcome.broker_status == "working"
    assert outcome.broker_ids == {"order": "a", "other": "b", "oco": "o1.oco"}


@BOTH
def test_a_seen_second_half_completes_the_order(account: Account) -> None:
    _, outcome = oco(yes("a"), SEEN_SECOND, on=account)

    assert isinstance(outcome, Accepted) and outcome.broker_ids == {"order": "a", "other": "b", "oco": "o1.oco"}
    assert outcome.legs == (
        {"role": "other", "client_order_id": "o1.other", "broker_id": "b", "broker_status": "working"},)


def test_a_seen_rejection_is_a_refusal() -> None:
    calls, first = oco(REFUSED)
    assert len(calls) == 1 and isinstance(first, Rejected) and "Insufficient margin" in first.reason

    calls, second = oco(yes("a"), REFUSED, yes("a"), life("o1", "Cancelled", order_id="a"))
    assert calls[2].step == "undo.entry"
    assert isinstance(second, Rejected) and "Insufficient margin" in second.reason


def test_a_seen_undo_is_read_to_its_end_all_the_same() -> None:
    gone_by_now = heard(Seen(broker_status="canceled", broker_ids={"order": "a"}))

    _, cancelled = oco(yes("a"), no(), gone_by_now, life("o1", "Cancelled", order_id="a"))
    _, filled = oco(yes("a"), no(), heard(Seen(broker_status="rejected")), life("o1", "Filled", order_id="a"))

    assert isinstance(cancelled, Rejected)
    assert isinstance(filled, Accepted) and filled.alarm


def test_no_second_half_is_placed_beside_a_first_that_has_ended() -> None:
    """NinjaTrader burns the group's id when it ends: a second half would be refused, or stand alone."""
    def first(status: str) -> Reply:
        return heard(Seen(broker_status=status, broker_ids={"order": "a"}))

    filled_calls, filled = oco(first("filled"), life("o1", "Filled", order_id="a"))
    calls, cancelled = oco(first("canceled"), life("o1", "Cancelled", order_id="a"))
    _, partly = oco(first("canceled"), life("o1", "PartFilled", "Cancelled", order_id="a"))

    assert [call.write for call in filled_calls] == [call.write for call in calls] == [True, False]
    assert isinstance(filled, Accepted) and filled.broker_status == "filled" and filled.alarm
    assert isinstance(cancelled, Rejected) and "not placed" in cancelled.reason
    assert isinstance(partly, Accepted) and partly.alarm


def test_a_half_seen_without_an_id_of_the_brokers_goes_by_ours() -> None:
    _, outcome = oco(heard(Seen(broker_status="working")), yes("b"))

    assert isinstance(outcome, Accepted) and outcome.broker_ids["order"] == "o1"


@BOTH
@pytest.mark.parametrize("order", [PLAIN, OSO], ids=["plain", "oso"])
def test_an_order_of_one_write_honours_what_was_seen(order: Order, account: Account) -> None:
    def outcome(seen: Seen) -> Any:
        return drive(BROKER.submit(work(order, account)), [heard(seen)])[1]

    filled = outcome(Seen(broker_status="filled", broker_ids={"order": "nt1"}))
    assert isinstance(filled, Accepted) and filled.broker_status == "filled"
    assert filled.broker_ids == {"order": "nt1"}
    assert isinstance(outcome(Seen(broker_status="rejected", reason="no")), Rejected)


@pytest.mark.parametrize("exit_", [Order(kind="cancel", options={"orderId": "nt1"}), CLOSE], ids=["cancel", "close"])
def test_an_exit_whose_effect_was_seen_is_accepted(exit_: Order) -> None:
    assert isinstance(drive(BROKER.submit(work(exit_)), [heard(Seen(broker_status="canceled"))])[1], Accepted)


# -- played back -------------------------------------------------------------------------------------------------------


PLAYED: dict[str, tuple[Order, list[Reply]]] = {
    "oco": (OCO, [yes("a"), yes("b")]),
    "oco, undone": (OCO, [yes("a"), no(), TIMED_OUT, life("o1", "CancelPending", order_id="a"),
                          life("o1", "Cancelled", order_id="a")]),
    "oco, seen": (OCO, [SEEN_FIRST, SEEN_SECOND]),
    "oso": (OSO, [yes("a")]),
    "cancel": (CANCEL, [life("o7", "Working"), UNKNOWN_COMMAND, book(FIRST), TIMED_OUT, yes("nt1"), gone("b"),
                        life("o8", "Working"), gone("nt8"),
                        life("o7", "Cancelled"), TIMED_OUT, TIMED_OUT, TIMED_OUT, life("o8", "Filled")]),
    "close": (CLOSE, [yes("a"), gone("b"), yes("nt8"), Reply.of({"closedPositions": [], "success": True}),
                      life("o7", "Cancelled"), life("o7.other", "Cancelled"), life("o8", "Filled")]),
}


@BOTH
@pytest.mark.parametrize("name", PLAYED)
def test_a_fresh_plan_that_is_fed_the_same_replies_makes_the_same_calls(name: str, account: Account) -> None:
    order, replies = PLAYED[name]
    known = {"order": "a", "other": "b"}
    targets = (work(OCO, account, "o7", broker_ids=known if name == "close" else {"other": "b"}),
               work(PLAIN, account, "o8", broker_ids={"order": "nt8"})) if order.is_exit else ()

    def calls() -> list[str]:
        made, _ = drive(BROKER.submit(work(order, account, targets=targets)), replies)
        return [call.digest() for call in made]

    assert calls() == calls() and len(calls()) == len(replies)


@pytest.mark.parametrize("known", [{"order": "a", "oco": "o1.oco"}, {"order": "a", "other": ""},
                                   {"order": "a", "other": "b"}], ids=str)
@pytest.mark.parametrize("replies", [PLAYED["oco"][1], PLAYED["oco, undone"][1]], ids=["placed", "undone"])
def test_an_oco_is_played_back_the_same_whatever_is_on_record_of_it_by_then(known: dict[str, str],
                                                                            replies: list[Reply]) -> None:
    first, _ = oco(*replies)
    again, _ = oco(*replies, broker_ids=known)

    assert [call.digest() for call in first] == [call.digest() for call in again]


def test_no_id_of_one_arming_is_used_in_another() -> None:
    def ids(arming: int) -> set[str]:
        bodies = [call.body for call in writes(arming=arming).values()]
        return {body[name] for body in bodies for name in ("orderId", "ocoId") if name in body}

    assert ids(1) == {"o1", "o1.other", "o1.oco"}
    assert ids(2) == {"o1.2", "o1.other.2", "o1.oco.2"}


# -- the effect of a cancel --------------------------------------------------------------------------------------------

T7 = work(PLAIN, order_id="o7", broker_ids={"order": "a"}, submitted_at=SENT_AT)
T8 = work(PLAIN, order_id="o8", broker_ids={"order": "b"}, submitted_at=SENT_AT)
LOST = work(PLAIN, order_id="o9", submitted_at=SENT_AT)


def cancelled(*replies: Reply, what: tuple[Work, ...], order: Order = CANCEL, **more: Any) -> Any:
    return drive(BROKER.look_up(work(order, targets=what, **{**KNOWN, **more})), replies)[1]


def test_a_cancel_is_seen_when_all_that_it_withdraws_has_ended() -> None:
    seen = cancelled(life("o7", "Cancelled"), life("o8", "Filled"), what=(T7, T8))

    assert isinstance(seen, Seen) and seen.broker_status == "canceled" and seen.by_our_id
    assert [leg["broker_status"] for leg in seen.legs] == ["canceled", "filled"]


def test_a_cancel_may_be_carried_out_again_while_one_of_them_works() -> None:
    for replies in ([life("o7", "Cancelled"), life("o8", "Working")], [life("o7", "Working")],
                    [TIMED_OUT, TIMED_OUT, TIMED_OUT, life("o8", "PartFilled")]):
        assert isinstance(cancelled(*replies, what=(T7, T8)), Absent)


def test_a_cancel_of_half_an_oco_that_works_may_be_carried_out_again() -> None:
    pair = work(OCO, order_id="o7", broker_ids={"order": "a", "other": "b"})

    assert isinstance(cancelled(life("o7", "Filled"), life("o7.other", "Working"), what=(pair,)), Absent)
    assert isinstance(cancelled(life("o7", "Filled"), life("o7.other", "Cancelled"), what=(pair,)), Seen)


def test_of_a_cancel_whose_orders_cannot_be_read_nothing_is_proven() -> None:
    assert cancelled(TIMED_OUT, TIMED_OUT, TIMED_OUT, what=(T7,)) is None
    assert cancelled(life("o7", "Cancelled"), SILENT, SILENT, SILENT, what=(T7, T8)) is None
    assert cancelled(UNKNOWN_COMMAND, book(), what=(LOST,)) is None
    assert cancelled(nowhere("o9"), book(), what=(LOST,), shows_our_ids=False) is None


def test_an_order_that_is_certainly_not_there_does_not_pass_for_withdrawn_but_may_be_cancelled_again() -> None:
    assert isinstance(cancelled(nowhere("o9"), book(), what=(LOST,)), Absent)


def test_a_cancel_of_a_lost_order_is_not_done_while_a_row_may_be_it() -> None:
    assert cancelled(nowhere("o9"), book(DOUBLE), whose(None), what=(LOST,)) is None
    assert isinstance(cancelled(nowhere("o9"), book(DOUBLE), whose(ANOTHER), what=(LOST,)), Absent)


def test_a_cancel_by_hand_is_seen_by_that_orders_end_which_shows_nothing_of_our_ids() -> None:
    by_hand = Order(kind="cancel", options={"orderId": "hand1"})
    ended = cancelled(life("hand1", "Cancelled", order_id="hand1"), what=(), order=by_hand)

    assert isinstance(ended, Seen) and not ended.by_our_id
    assert isinstance(cancelled(life("hand1", "Working", order_id="hand1"), what=(), order=by_hand), Absent)
    assert isinstance(cancelled(nowhere("hand1"), book(), nowhere("hand1"), what=(), order=by_hand), Absent)
    assert cancelled(TIMED_OUT, TIMED_OUT, TIMED_OUT, what=(), order=by_hand) is None


def test_a_cancel_that_had_nothing_to_withdraw_may_be_carried_out_again() -> None:
    assert isinstance(cancelled(what=()), Absent)


# -- the effect of a close ---------------------------------------------------------------------------------------------


def positions(*rows: dict[str, Any], **more: Any) -> Reply:
    return Reply.of({"positions": list(rows), "count": len(rows), "success": True, **more})


def resting(order_id: str = "a", state: str = "Working", instrument: Any = "ES 12-26", **more: Any) -> Reply:
    return book({"id": order_id, "instrument": instrument, "orderState": state, **more})


FLAT = positions({"instrument": "MES 12-26", "marketPosition": "Long", "quantity": 7})
LONG = positions({"instrument": "ES 12-26", "marketPosition": "Long", "quantity": 1})
NONE = book()


@BOTH
@pytest.mark.parametrize(("orders", "held", "verdict"), [
    (NONE, FLAT, Seen),
    (resting(instrument="MES 12-26"), FLAT, Seen),
    (resting(state="Cancelled"), FLAT, Seen),
    (resting("by hand"), FLAT, Seen),
    (NONE, positions({"instrument": "ES 12-26", "marketPosition": "Flat", "quantity": 0}), Seen),
    (resting(), FLAT, Absent),
    (resting(state="CancelPending"), FLAT, Absent),
    (resting("by hand", name="o7"), FLAT, Absent),
    (resting(instrument="ES DEC26"), FLAT, Absent),
    (NONE, LONG, Absent),
    (NONE, positions({"instrument": "ESZ6", "marketPosition": "Short", "quantity": 1}), Absent),
    (resting(state="Quantum"), FLAT, type(None)),
    (resting(instrument=None), FLAT, type(None)),
    (resting(instrument="ES 2026"), FLAT, type(None)),
    (NONE, positions({"instrument": None, "quantity": 1}), type(None)),
    (NONE, positions({"instrument": "ES", "quantity": 1}), type(None)),
    (NONE, positions(success=False), type(None)),
    (NONE, positions(count=1), type(None)),
    (NONE, positions(total=1), type(None)),
    (NONE, positions(warning="connection lost; list may be incomplete"), type(None)),
    (NONE, positions(error="partial"), type(None)),
    (NONE, positions(hasMore=True), type(None)),
    (Reply.of({"orders": [], "success": True, "warning": "list may be incomplete"}), None, type(None)),
    (NONE, Reply.of({"positions": []}), type(None)),
    (NONE, Reply.of({"success": True}), type(None)),
    (NONE, TIMED_OUT, type(None)),
    (NONE, SILENT, type(None)),
    (SILENT, None, type(None)),
    (Reply.of({"orders": [], "count": 1, "success": True}), None, type(None)),
])
def test_a_close_is_judged_by_what_is_still_open(account: Account, orders: Reply, held: Reply | None,
                                                 verdict: type[Any]) -> None:
    asked = work(CLOSE, account, targets=(replace(T7, account=account),), **KNOWN)

    assert isinstance(drive(BROKER.look_up(asked), [orders] + ([held] if held else []))[1], verdict)


def test_an_order_that_may_be_the_lost_one_keeps_a_close_from_being_seen() -> None:
    alike = resting("x", orderAction="Buy", orderType="Limit")
    capitals = resting("x", orderAction="Sell", orderType="Limit", name="O9")
    other = resting("x", orderAction="Sell", orderType="Limit")
    larger = resting("x", orderAction="Buy", orderType="Limit", quantity=3)

    def seen(orders: Reply) -> Any:
        return drive(BROKER.look_up(work(CLOSE, targets=(LOST,), **KNOWN)), [orders, FLAT])[1]

    assert isinstance(seen(alike), Absent)
    assert isinstance(seen(capitals), Absent)
    assert isinstance(seen(other), Seen)
    assert isinstance(seen(larger), Seen)


def test_the_exits_of_our_atm_entry_keep_a_close_from_being_seen() -> None:
    entry = work(OSO, order_id="o7", broker_ids={"order": "a"})

    found = drive(BROKER.look_up(work(CLOSE, targets=(entry,))), [resting("x", ownerStrategy="My ATM"), FLAT])[1]

    assert isinstance(found, Absent)


# -- warm --------------------------------------------------------------------------------------------------------------


def test_a_connection_is_kept_warm_by_one_read_that_asks_nothing_of_ninjatrader() -> None:
    call = BROKER.warm(REST)

    assert call is not None and not call.write
    assert (call.method, call.url) == ("GET", "https://app.crosstrade.io/v1/api/_endpoints")


def test_a_socket_is_kept_warm_by_a_call_that_is_answered() -> None:
    call = BROKER.warm(WS)

    assert call is not None and not call.write and call.url == STREAM
    assert call.body == {"action": "rpc", "api": "GetAccount", "args": {"account": "Sim101"}}


# -- doubt that stays --------------------------------------------------------------------------------------------------


@BOTH
def test_a_second_half_in_doubt_is_left_to_the_look_up(account: Account) -> None:
    for doubt in (SILENT, no("Order id 'o1.other' already exists")):
        calls, outcome = oco(yes("a"), doubt, on=account)

        assert [call.step for call in calls] == ["entry", "other"] and isinstance(outcome, Unknown)
