"""Pocketful: cancel, close and look-up, which all live on the order books."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
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

from bridge.call import Absent, Accepted, Outcome, Rejected, Reply, Retry, Seen, Unknown
from bridge.numbers import dump_json
from bridge.order import Order
from bridge.work import Ids, Work

# Cancel


@pytest.mark.parametrize(("how", "query", "has_body"), [("both", True, True), ("query", True, False),
                                                        ("body", False, True)])
@pytest.mark.parametrize(("target", "rows", "path", "expected"), [
    (plain(), [row()], "/api/v1/orders/2026101", {"execution_type": "REGULAR"}),
    (plain(), [row(execution_type="AMO", order_status="AMO_REQ_RECEIVED", exchange_order_id="")],
     "/api/v1/orders/2026101", {"execution_type": "AMO"}),
    (cover(), [cart_row()], "/api/v1/orders/kart/2026102",
     {"exchange_order_id": "1100000029886168", "execution_type": "CO", "leg_order_indicator": "ENTRY"}),
    (cover(), [cart_row(leg_order_indicator="Entry", exchange_order_id=1100000029886168)],
     "/api/v1/orders/kart/2026102",
     {"exchange_order_id": "1100000029886168", "execution_type": "CO", "leg_order_indicator": "Entry"}),
    (cover(bracket=True), [cart_row(execution_type="BO", order_status="MODIFY_CONFIRMED")],
     "/api/v1/orders/kart/2026102", {"exchange_order_id": "1100000029886168", "execution_type": "BO",
                                     "leg_order_indicator": "ENTRY", "status": "MODIFY_CONFIRMED"}),
])
def test_a_cancel_sends_what_the_order_book_says_in_the_form_the_account_wants(
        how: str, query: bool, has_body: bool, target: Work, rows: list[Any], path: str,
        expected: dict[str, str]) -> None:
    desk = Desk(pending=[row(7, oms_order_id="2026007"), *rows])

    outcome = desk.run(cancel(target, of=account(cancel_parameters=how)))

    [write] = desk.writes
    parts = urlsplit(write.url)
    wanted = {"client_id": "YG1234", **expected}
    assert (write.method, parts.path) == ("DELETE", path)
    assert parse_qs(parts.query) == ({name: [value] for name, value in wanted.items()} if query else {})
    assert write.body == ({**wanted, "oms_order_id": path.rsplit("/", 1)[1]} if has_body else None)
    assert ("Content-Type" in write.headers) is has_body
    assert isinstance(outcome, Accepted) and not outcome.alarm
    seen = outcome.targets[target.ids.order_id]
    assert (seen.broker_status, seen.broker_ids["order"]) == ("canceled", path.rsplit("/", 1)[1])


def test_a_cancel_of_nothing_is_done() -> None:
    desk = Desk()

    outcome = desk.run(cancel())

    assert isinstance(outcome, Accepted) and "nothing to cancel" in outcome.reason
    assert not desk.calls


def test_a_cancel_waits_for_the_exchange_id_and_then_sends() -> None:
    waiting = cart_row(exchange_order_id="")
    desk = Desk(pending=[waiting])
    desk.on_pause = lambda: waiting.update(exchange_order_id="77") if desk.paused >= 1.5 else None

    outcome = desk.run(cancel(cover()))

    assert isinstance(outcome, Accepted) and not outcome.alarm
    assert desk.writes[0].body["exchange_order_id"] == "77"
    assert 1.5 <= desk.paused < 10


def test_a_cancel_that_never_sees_an_exchange_id_may_be_tried_again() -> None:
    desk = Desk(pending=[cart_row(exchange_order_id="")])

    outcome = desk.run(cancel(cover()))

    assert isinstance(outcome, Retry) and "exchange_order_id" in outcome.reason
    assert not desk.writes and desk.paused >= 9


def test_what_is_ready_is_cancelled_while_another_waits_and_a_person_hears_of_the_rest() -> None:
    desk = Desk(pending=[cart_row(exchange_order_id=""), row()])

    outcome = desk.run(cancel(cover(), plain()))

    assert isinstance(outcome, Accepted)
    assert [call.step for call in desk.writes] == ["cancel.2026101"]
    assert "exchange_order_id" in outcome.alarm
    assert outcome.targets["o-plain"].broker_status == "canceled"
    assert outcome.targets["o-cover"].broker_status == "working"


@pytest.mark.parametrize(("status", "word"), [("COMPLETE", "had already filled"), ("CANCEL_CONFIRMED", "cancelled"),
                                              ("REJECTED", "had been rejected: NSECM")])
def test_an_order_that_has_ended_is_done(status: str, word: str) -> None:
    ended = row(order_status=status, rejection_reason="NSECM Adapter is offline", rejection_code=1009)
    desk = Desk(completed=[ended])

    outcome = desk.run(cancel(plain()))

    assert isinstance(outcome, Accepted) and word in outcome.reason and not outcome.alarm
    assert not desk.writes


def test_a_cancel_leaves_the_legs_of_a_filled_entry_unless_legs_is_true() -> None:
    filled, leg = cart_row(order_status="COMPLETE", filled_quantity=1), leg_row(leg_order_indicator="Third")

    stays = Desk(pending=[leg], completed=[filled])
    assert "legs: true" in stays.run(cancel(cover())).reason
    assert not stays.writes

    goes = Desk(pending=[leg], completed=[filled])
    outcome = goes.run(cancel(cover(), legs_too=True))
    [write] = goes.writes
    assert write.body["leg_order_indicator"] == "Third" and write.body["oms_order_id"] == "2026900"
    assert outcome.targets["o-cover"].legs == (
        {"role": "stop_loss", "broker_id": "2026900", "broker_status": "canceled"},)


def test_a_cancel_that_came_too_late_is_done_when_the_book_says_so() -> None:
    desk = Desk(pending=[row()])

    def filled_meanwhile(oms_id: str) -> Reply:
        desk.pending, desk.completed = [], [row(order_status="COMPLETE", filled_quantity=1)]
        return Reply.of(REFUSED)

    desk.on_delete = filled_meanwhile
    outcome = desk.run(cancel(plain()))

    assert isinstance(outcome, Accepted) and "had already filled" in outcome.reason
    assert outcome.targets["o-plain"].broker_status == "filled"


def test_a_refused_cancel_is_rejected_with_the_brokers_words() -> None:
    desk = Desk(pending=[row()])
    desk.on_delete = lambda oms_id: Reply.of(REFUSED)

    outcome = desk.run(cancel(plain()))

    assert isinstance(outcome, Rejected) and "no such order" in outcome.reason and "45000" in outcome.reason


def test_a_cancel_that_came_too_fast_may_be_tried_again() -> None:
    desk = Desk(pending=[row()])
    desk.on_delete = lambda oms_id: Reply(status=429)

    assert isinstance(desk.run(cancel(plain())), Retry)


def test_a_doubtful_cancel_is_unknown_until_the_book_shows_its_end() -> None:
    lost = Reply(status=None, fault="no complete reply within 10 s")
    stands, gone = Desk(pending=[row()]), Desk(pending=[row()])
    stands.on_delete = lambda oms_id: lost
    gone.on_delete = lambda oms_id: (gone.cancel(oms_id), lost)[1]

    assert isinstance(stands.run(cancel(plain())), Unknown)
    assert isinstance(gone.run(cancel(plain())), Accepted)


def test_a_cancel_request_that_the_book_does_not_show_yet_leaves_the_order_working() -> None:
    desk = Desk(pending=[row()])
    desk.on_delete = lambda oms_id: Reply.of({"data": {"oms_order_id": oms_id}, "status": "success"})

    outcome = desk.run(cancel(plain()))

    assert isinstance(outcome, Accepted) and outcome.targets["o-plain"].broker_status == "working"


def test_a_cancel_by_the_brokers_own_id_needs_no_order_of_ours() -> None:
    desk = Desk(pending=[cart_row(5, oms_order_id="2026005"), leg_row(5)])

    outcome = desk.run(cancel(ref=None, options={"oms_order_id": "2026005"}))

    assert isinstance(outcome, Accepted)
    assert [call.step for call in desk.writes] == ["cancel.2026005.entry"]
    assert isinstance(Desk().run(cancel(ref=None, options={"oms_order_id": "2026006"})), Rejected)

    both = Desk(pending=[cart_row(5, oms_order_id="2026005"), leg_row(5)])
    both.run(cancel(ref=None, options={"oms_order_id": "2026005"}, legs_too=True))
    assert [call.step for call in both.writes] == ["cancel.2026005.entry", "cancel.2026900.third"]


def test_an_acknowledged_order_that_is_in_no_book_yet_is_waited_for() -> None:
    desk = Desk()
    desk.on_pause = lambda: desk.pending.append(row()) if not desk.pending and desk.paused > 1 else None

    assert isinstance(desk.run(cancel(plain())), Accepted)
    assert len(desk.writes) == 1


def test_an_unacknowledged_order_that_is_in_no_book_does_not_hold_a_cancel() -> None:
    desk = Desk()

    outcome = desk.run(cancel(plain(broker_ids={})))

    assert isinstance(outcome, Accepted) and "not in the order books" in outcome.reason
    assert not outcome.targets and not desk.writes and not desk.paused


def test_a_book_that_cannot_be_read_is_a_retry_never_nothing_to_cancel() -> None:
    for reply in (Reply.of(FORBIDDEN), Reply(status=None, fault="reset"), Reply.of("<html>", 502), Reply.of([]),
                  Reply.of({"status": "success", "data": {"rows": []}}),
                  Reply.of({"status": "success", "data": {"orders": ["x"]}})):
        desk = Desk(pending=[row()])
        desk.on_read = lambda what, reply=reply: reply  # type: ignore[misc]

        outcome = desk.run(cancel(plain()))

        assert isinstance(outcome, Retry), reply
        assert not desk.writes


# Whose row is it?


@pytest.mark.parametrize(("change", "found"), [
    ({}, True),
    ({"user_order_id": 101}, True),
    ({"user_order_id": "102"}, False),
    ({"instrument_token": 14367}, False),
    ({"exchange": "BSE"}, False),
    ({"order_side": "SELL"}, False),
    ({"quantity": 2}, False),
    ({"order_entry_time": ENTERED - 7200}, False),
    ({"order_entry_time": ENTERED - 60}, True),
    ({"order_entry_time": 0}, True),
])
def test_a_row_is_ours_by_id_instrument_side_quantity_and_time(change: Mapping[str, Any], found: bool) -> None:
    """The broker does not keep user_order_id unique: 10002 stands on many real rows."""
    desk = Desk(pending=[row(**change)])

    seen = desk.run(BROKER.look_up(plain(broker_ids={})))

    assert (seen is not None) is found


def test_a_known_broker_id_finds_the_row_whatever_a_person_has_changed_on_it() -> None:
    desk = Desk(pending=[row(quantity=5, user_order_id="")])

    assert desk.run(BROKER.look_up(plain())).broker_ids["order"] == "2026101"


# Look-up


@pytest.mark.parametrize(("status", "filled", "expected", "says"), [
    ("CONFIRMED", 0, "working", ""), ("MODIFY_CONFIRMED", 0, "working", ""), ("MODCONFIRMED", 0, "working", ""),
    ("AMO_REQ_RECEIVED", 0, "working", ""), ("AMO_MODIFY_CONFIRMED", 0, "working", ""),
    ("TRIGGER PENDING", 0, "working", ""), ("CONFIRMED", 3, "partially_filled", ""), ("COMPLETE", 10, "filled", ""),
    ("REJECTED", 0, "rejected", "margin (code 12001)"), ("CANCEL_CONFIRMED", 0, "canceled", ""),
    ("CANCEL_CONFIRMED", 3, "canceled", "3 of 10 filled"), ("AMO_CANCEL_CONFIRMED", 0, "canceled", ""),
    ("FROZEN", 0, "working", "'FROZEN'"),
])
def test_each_status_word_has_its_meaning(status: str, filled: int, expected: str, says: str) -> None:
    told = {"rejection_reason": "margin", "rejection_code": 12001}
    one = row(order_status=status, filled_quantity=filled, quantity=10, **told)
    ended = expected not in ("working", "partially_filled")
    desk = Desk(completed=[one]) if ended else Desk(pending=[one])

    seen = desk.run(BROKER.look_up(plain()))

    assert (seen.broker_status, seen.ended) == (expected, ended)
    assert says in seen.reason and (says or not seen.reason)
    assert seen.broker_ids == {"order": "2026101", "exchange": "1100000029886168"}


@pytest.mark.parametrize(("status", "change", "expected", "says"), [
    ("RMS_REJECTED", {"rejection_code": 12001, "rejection_reason": "MTM"}, "rejected", "MTM (code 12001)"),
    ("RMS_REJECTED", {}, "rejected", "NONE"),
    ("BLOCKED", {"rejection_code": "1010"}, "rejected", "code 1010"),
    ("CANCELLED", {}, "canceled", "'CANCELLED'"),
    ("CANCELLED", {"filled_quantity": 3, "rejection_code": 16418}, "canceled", "3 of 10 filled"),
    ("CANCELLED_BY_RMS", {"rejection_code": "NONE"}, "canceled", "'CANCELLED_BY_RMS'"),
])
def test_an_unlisted_word_in_the_book_of_ended_orders_is_no_working_order(
        status: str, change: Mapping[str, Any], expected: str, says: str) -> None:
    for work in (plain(quantity=10), plain(quantity=10, broker_ids={})):
        seen = Desk(completed=[row(order_status=status, quantity=10, **change)]).run(BROKER.look_up(work))

        assert seen.broker_status == expected and says in seen.reason


@pytest.mark.parametrize(("status", "change"), [
    ("FROZEN", {}), ("", {}), ("EXECUTED", {"filled_quantity": 10}), ("RMS_REJECTED", {"filled_quantity": 3}),
    ("CANCEL_REJECTED", {"rejection_code": 16418}), ("MODIFY_REJECTED", {"rejection_code": 16418}),
    ("BLOCKED", {"rejection_code": 1010, "filled_quantity": 1})])
def test_an_end_that_the_book_does_not_explain_is_neither_seen_nor_absent(status: str,
                                                                          change: Mapping[str, Any]) -> None:
    for work in (plain(quantity=10, looked_at=NOW), plain(quantity=10, looked_at=NOW, broker_ids={})):
        desk = Desk(completed=[row(order_status=status, quantity=10, **change)])

        assert desk.run(BROKER.look_up(work)) is None


def test_a_cancel_of_an_order_that_ended_in_an_unlisted_word_says_so_and_withdraws_nothing() -> None:
    desk = Desk(completed=[row(order_status="FROZEN")])

    outcome = desk.run(cancel(plain()))

    assert isinstance(outcome, Accepted) and "has ended" in outcome.reason and "'FROZEN'" in outcome.reason
    assert not desk.writes and not outcome.targets


def test_a_bracket_order_is_seen_with_its_legs() -> None:
    desk = Desk(completed=[cart_row(execution_type="BO", order_status="COMPLETE")], pending=[
        leg_row(execution_type="BO"),
        leg_row(execution_type="BO", oms_order_id="2026901", leg_order_indicator="SECOND", order_type="LIMIT")])

    seen = desk.run(BROKER.look_up(cover(bracket=True)))

    assert seen.broker_status == "filled"
    assert seen.broker_ids == {"order": "2026102", "exchange": "1100000029886168", "basket": "20210531-23",
                               "stop_loss": "2026900", "take_profit": "2026901"}
    assert seen.legs == ({"role": "stop_loss", "broker_id": "2026900", "broker_status": "working"},
                         {"role": "take_profit", "broker_id": "2026901", "broker_status": "working"})


def test_legs_without_an_indicator_are_told_by_side_and_type() -> None:
    desk = Desk(pending=[cart_row(leg_order_indicator=None), leg_row(leg_order_indicator=None),
                         leg_row(leg_order_indicator="", oms_order_id="2026901", order_type="LIMIT")])

    seen = desk.run(BROKER.look_up(cover()))

    assert [leg["role"] for leg in seen.legs] == ["stop_loss", "take_profit"]


def test_an_order_in_neither_book_or_in_a_book_that_cannot_be_read_is_not_found() -> None:
    empty, broken = Desk(), Desk(pending=[row()])
    broken.on_read = lambda what: Reply.of(FORBIDDEN)

    assert empty.run(BROKER.look_up(plain())) is None
    assert [parse_qs(urlsplit(call.url).query)["type"] for call in empty.calls] == [["pending"], ["completed"]]
    assert broken.run(BROKER.look_up(plain())) is None


@pytest.mark.parametrize("data", [{"orders": None}, {"orders": []}, {}, None, []])
def test_an_empty_book_may_be_written_in_several_ways(data: Any) -> None:
    desk = Desk()
    desk.on_read = lambda what: Reply.of({"data": data, "status": "success"})

    assert desk.run(BROKER.look_up(plain())) is None


def test_a_cancel_is_looked_up_by_its_effect() -> None:
    def look(desk: Desk, *targets: Work, legs_too: bool = False) -> Seen | Absent | None:
        one = Order(kind="cancel", ref="x", legs_too=legs_too)
        found: Seen | Absent | None = desk.run(BROKER.look_up(Work(order=one, account=account(), targets=targets,
                                                          ids=Ids(order_id="o-cancel"))))
        return found

    canceled = row(order_status="CANCEL_CONFIRMED")
    filled = cart_row(order_status="COMPLETE")
    assert isinstance(look(Desk(completed=[canceled]), plain()), Seen)
    assert isinstance(look(Desk(pending=[row()]), plain()), Absent)
    assert look(Desk(), plain()) is None
    assert isinstance(look(Desk()), Seen)
    assert isinstance(look(Desk(completed=[filled], pending=[leg_row()]), cover()), Seen)
    assert isinstance(look(Desk(completed=[filled], pending=[leg_row()]), cover(), legs_too=True), Absent)
    assert isinstance(look(Desk(completed=[canceled], pending=[row(103)]), plain(), plain(103)), Absent)
    assert look(Desk(completed=[canceled]), plain(), plain(103)) is None


def test_a_close_is_looked_up_by_its_opposite_order() -> None:
    one = Work(order=Order(kind="close", symbol="IDEA", options=INSTRUMENT), account=account(),
               ids=Ids(order_id="o-close", counter=901), submitted_at=NOW)
    opposite_row = row(901, order_side="SELL", order_type="MARKET", order_status="COMPLETE", quantity=7)

    assert Desk(completed=[opposite_row]).run(BROKER.look_up(one)).broker_status == "filled"
    assert Desk(completed=[row()]).run(BROKER.look_up(one)) is None


def test_long_integers_never_pass_through_a_float() -> None:
    """last_activity_reference has 19 digits; a binary float keeps 15."""
    exact = '{"last_activity_reference": 1394446825558528718, "price": 13.10}'

    heard = Reply(status=200, text=exact).json

    assert heard["last_activity_reference"] == 1394446825558528718
    assert dump_json(heard) == '{"last_activity_reference": 1394446825558528718, "price": 13.1}'
    desk = Desk(pending=[cart_row(exchange_order_id=1394446825558528718)])
    desk.run(cancel(cover()))
    assert desk.writes[0].body["exchange_order_id"] == "1394446825558528718"


# Close


@pytest.mark.parametrize(("net", "product", "side"), [(7, "MIS", "SELL"), (-7, "NRML", "BUY"), ("7", "CNC", "SELL")])
def test_a_close_sends_the_opposite_in_the_positions_product(net: Any, product: str, side: str) -> None:
    desk = Desk(positions=[position(3, instrument_token=1), position(3, exchange="BSE"), position(net, product)],
                pending=[row(55), cart_row(56)])

    outcome = desk.run(close())

    [write] = desk.writes
    assert write.url == "https://trade.pocketful.in/api/v1/orders"
    assert json.loads(dump_json(write.body)) == {
        "exchange": "NSE", "instrument_token": "14366", "client_id": "YG1234", "order_type": "MARKET", "amo": False,
        "price": 0, "quantity": 7, "disclosed_quantity": 0, "validity": "DAY", "product": product, "order_side": side,
        "device": "WEB", "user_order_id": 901, "trigger_price": 0, "execution_type": "REGULAR"}
    assert isinstance(outcome, Accepted) and outcome.broker_ids["order"] == "2026999"
    assert outcome.broker_status == "filled" and not outcome.alarm
    assert write.step == "close"


@pytest.mark.parametrize("positions", [[], [position(0)], [position(5, exchange="BSE")], [position(5, "CNC")]])
def test_a_close_with_nothing_open_is_done(positions: list[Any]) -> None:
    desk = Desk(positions=positions)

    outcome = desk.run(close(product="MIS"))

    assert isinstance(outcome, Accepted) and outcome.reason == "nothing open"
    assert not desk.writes


def test_a_close_cancels_legs_and_our_orders_sees_them_gone_and_then_reads_the_position_again() -> None:
    strangers = [row(55), row(56, instrument_token=1), leg_row(57, oms_order_id="2026957", instrument_token=2)]
    desk = Desk(pending=[leg_row(), row(), leg_row(58, oms_order_id="2026958"), *strangers], positions=[position(2)])
    slow: list[str] = []

    def only_acknowledge(oms_id: str) -> Reply:
        slow.append(oms_id)
        return Reply.of({"data": {"basket_id": ""}, "status": "success"})

    def later() -> None:
        if desk.paused > 2:
            for oms_id in slow:
                desk.cancel(oms_id)
            desk.positions[:] = [position(1)]

    desk.on_delete, desk.on_pause = only_acknowledge, later
    outcome = desk.run(close(plain()))

    assert isinstance(outcome, Accepted)
    assert [(call.method, call.step) for call in desk.writes] == [
        ("DELETE", "cancel.2026900.third"), ("DELETE", "cancel.2026101"), ("DELETE", "cancel.2026958.third"),
        ("POST", "close")]
    assert desk.writes[-1].body["quantity"] == 1
    assert [call.step for call in desk.calls[-4:]] == ["fills.completed", "positions", "close", "closed.completed"]
    assert desk.pending == strangers


def test_a_close_whose_legs_took_the_position_with_them_sends_nothing_more() -> None:
    """At some Indian brokers cancelling the stop of a cover order sells the position."""
    desk = Desk(pending=[leg_row()], positions=[position(2)])

    def sell_as_well(oms_id: str) -> Reply:
        desk.positions.clear()
        return desk.cancel(oms_id)

    desk.on_delete = sell_as_well
    outcome = desk.run(close())

    assert isinstance(outcome, Accepted)
    assert outcome.reason == "1 resting orders cancelled, which closed it; nothing open"
    assert [call.method for call in desk.writes] == ["DELETE"]


def test_a_close_waits_for_the_market_order_that_cancelling_a_leg_may_become() -> None:
    desk = Desk(pending=[leg_row()], positions=[position(2)])

    def turned_into_a_sale(oms_id: str) -> Reply:
        desk.pending[:] = [row(7, order_type="MARKET", order_side="SELL")]
        return Reply.of({"data": {"basket_id": ""}, "status": "success"})

    def sold() -> None:
        if desk.paused > 2:
            desk.pending, desk.positions = [], []

    desk.on_delete, desk.on_pause = turned_into_a_sale, sold
    outcome = desk.run(close())

    assert isinstance(outcome, Accepted)
    assert [call.method for call in desk.writes] == ["DELETE"]


RESTING = row(905, oms_order_id="2026905", order_type="MARKET", order_side="SELL", quantity=2)


@pytest.mark.parametrize("change", [{}, {"order_type": "Market"}, {"order_status": "TRIGGER PENDING"},
                                    {"exchange": "nse", "instrument_token": "014366"}])
def test_a_close_sends_no_second_opposite_order_while_the_first_is_under_way(change: dict[str, Any]) -> None:
    """Before the opening or in a halted share it rests, and the position is as it was: sold twice, it is turned round."""
    desk = Desk(pending=[RESTING | change], positions=[position(2)])

    outcome = desk.run(close())

    assert isinstance(outcome, Retry) and "still under way" in outcome.reason and 2 <= outcome.after_s <= 5
    assert not desk.writes and desk.paused <= 3, "other orders of the account wait meanwhile"


@pytest.mark.parametrize(("left", "sends"), [([], []), ([position(1)], [1])])
def test_a_close_goes_on_from_the_position_that_the_first_opposite_order_has_left(left: list[Any],
                                                                                  sends: list[int]) -> None:
    desk = Desk(pending=[dict(RESTING)], positions=[position(2)])

    def filled() -> None:
        desk.pending, desk.positions = [], left

    desk.on_pause = filled
    outcome = desk.run(close())

    assert isinstance(outcome, Accepted) and [call.body["quantity"] for call in desk.writes] == sends
    assert "cancelled" not in outcome.reason


@pytest.mark.parametrize(("then", "kind"), [(Reply(status=None, fault="reset"), Retry),
                                            (Reply.of({"data": [position(2), position(3, "CNC")], "message": "",
                                                       "status": "success"}), Rejected)])
def test_a_close_that_only_waited_says_nothing_of_cancelled_legs(then: Reply, kind: type[Outcome]) -> None:
    desk = Desk(pending=[dict(RESTING)], positions=[position(2)])
    desk.on_pause = lambda: desk.pending.clear()
    desk.on_read = lambda what: then if what == "live" and not desk.pending else None

    outcome = desk.run(close())

    assert isinstance(outcome, kind) and "legs" not in outcome.reason and "WITHOUT A STOP" not in outcome.reason
    assert not desk.writes


def test_a_leg_whose_cancel_was_refused_because_it_is_being_sold_leaves_the_close_to_be_run_again() -> None:
    desk = Desk(pending=[leg_row()], positions=[position(2)])

    def triggered(oms_id: str) -> Reply:
        desk.pending[:] = [leg_row(order_type="MARKET", leg_order_indicator="")]
        return Reply.of(REFUSED)

    desk.on_delete = triggered
    outcome = desk.run(close())

    assert isinstance(outcome, Retry) and "still under way" in outcome.reason
    assert [call.method for call in desk.writes] == ["DELETE"]


def test_an_after_market_order_of_the_next_morning_does_not_hold_a_close() -> None:
    desk = Desk(pending=[RESTING | {"execution_type": "AMO", "order_status": "AMO_REQ_RECEIVED"}],
                positions=[position(2)])

    assert isinstance(desk.run(close()), Accepted) and not desk.paused


def ago(seconds: float, **values: Any) -> dict[str, Any]:
    """The row of a sale that filled that long before NOW."""
    at = int(NOW.timestamp() - seconds)
    return RESTING | {"order_status": "COMPLETE", "filled_quantity": 2, "order_entry_time": at,
                      "last_activity_reference": 0} | values


TWO_MINUTES = int(NOW.timestamp()) - 120


@pytest.mark.parametrize(("ended", "waits"), [
    ([ago(1)], True), ([ago(0)], True), ([ago(-1)], True), ([ago(2)], False), ([ago(30)], False), ([], False),
    ([ago(1, order_status="CANCEL_CONFIRMED", filled_quantity=1)], True),
    ([ago(1, order_status="CANCEL_CONFIRMED", filled_quantity=0)], False),
    ([ago(1, instrument_token=1)], False),
    ([ago(120, exchange_time=TWO_MINUTES + 119)], True),
    ([ago(120, last_activity_reference=(TWO_MINUTES + 119 - 315_532_800 + 19_800) * 10**9 + 5)], True),
    ([ago(19_801)], True), ([ago(-19_799)], True), ([ago(19_000)], False), ([ago(0, order_entry_time="x")], False),
])
@pytest.mark.parametrize("told_by", ["the broker's clock", "the close's own time"])
def test_a_close_lets_the_positions_catch_up_with_an_order_that_has_only_just_filled(
        ended: list[Any], waits: bool, told_by: str) -> None:
    """The books show the first close's order complete; a position read that lags behind would be sold again."""
    desk = Desk(completed=list(ended), positions=[position(2)])
    if told_by == "the broker's clock":
        desk.date = "Fri, 20 Nov 2026 04:50:00 GMT"
    desk.on_pause = lambda: desk.positions.clear()

    outcome = desk.run(BROKER.submit(Work(
        order=Order(kind="close", symbol="IDEA", options=INSTRUMENT), account=account(),
        ids=Ids(order_id="o-close", counter=901), created_at=NOW if not desk.date else NOW - timedelta(days=9))))

    assert isinstance(outcome, Accepted)
    assert (outcome.reason == "nothing open") is waits and bool(desk.writes) is not waits
    assert desk.paused <= 2


def test_a_close_does_not_depend_on_the_completed_book() -> None:
    desk = Desk(positions=[position(2)])
    desk.on_read = lambda what: Reply.of("<html>", 502) if what == "completed" else None

    assert isinstance(desk.run(close()), Accepted) and len(desk.writes) == 1


@pytest.mark.parametrize("change", [{"exchange": "nse"}, {"instrument_token": "014366"}, {"instrument_token": None}])
def test_a_position_is_found_however_its_instrument_is_written(change: dict[str, Any]) -> None:
    desk = Desk(positions=[position(2) | change])

    assert isinstance(desk.run(close()), Accepted) and [call.body["quantity"] for call in desk.writes] == [2]


def test_a_position_in_several_products_is_not_guessed_at_and_nothing_is_touched() -> None:
    desk = Desk(pending=[leg_row()], positions=[position(2, "MIS"), position(-3, "NRML")])

    outcome = desk.run(close())

    assert isinstance(outcome, Rejected) and "2 in MIS" in outcome.reason and "3 in NRML" in outcome.reason
    assert not desk.writes

    named = Desk(positions=[position(2, "MIS"), position(-3, "NRML")])
    named.run(close(product="NRML"))
    assert (named.writes[0].body["order_side"], named.writes[0].body["quantity"]) == ("BUY", 3)


def refuse(oms_id: str) -> Reply:
    return Reply.of(REFUSED)


def lose(oms_id: str) -> Reply:
    return Reply(status=None, fault="timed out")


@pytest.mark.parametrize(("on_delete", "kind", "says"), [(refuse, Rejected, "position and resting orders stand"),
                                                         (lose, Unknown, "OPEN WITHOUT A STOP")])
def test_a_close_that_cannot_see_its_legs_gone_sells_nothing_and_does_not_wait_long(
        on_delete: Callable[[str], Reply], kind: type[Outcome], says: str) -> None:
    desk = Desk(pending=[leg_row()], positions=[position(2)])
    desk.on_delete = on_delete

    outcome = desk.run(close())

    assert isinstance(outcome, kind) and says in outcome.reason
    assert [call.method for call in desk.writes] == ["DELETE"]
    assert desk.paused <= 2


def test_a_close_before_the_exchange_ids_are_there_may_be_tried_again() -> None:
    desk = Desk(pending=[leg_row(exchange_order_id="")], positions=[position(2)])

    outcome = desk.run(close())

    assert isinstance(outcome, Retry) and "exchange_order_id" in outcome.reason
    assert not desk.writes


def test_a_close_that_is_refused_after_its_legs_went_says_that_the_position_is_naked() -> None:
    desk = Desk(pending=[leg_row()], positions=[position(2)])
    desk.on_place = Reply.of(REFUSED)

    outcome = desk.run(close())

    assert isinstance(outcome, Rejected) and "WITHOUT A STOP" in outcome.reason and "no such order" in outcome.reason


@pytest.mark.parametrize("what", ["pending", "live"])
@pytest.mark.parametrize("reply", [Reply.of(FORBIDDEN), Reply(status=None, fault="reset"), Reply.of("<html>", 502),
                                   Reply.of({"data": "x", "status": "success"})])
def test_a_failed_read_is_a_retry_never_flat(what: str, reply: Reply) -> None:
    desk = Desk(positions=[position(2)])
    desk.on_read = lambda read: reply if read == what else None

    outcome = desk.run(close())

    assert isinstance(outcome, Retry) and "nothing was closed" in outcome.reason
    assert not desk.writes


@pytest.mark.parametrize(("words", "reads", "after_s"), [("no such page", 1, 30), ("upstream request timeout", 3, 5)])
def test_a_read_that_was_cut_off_is_made_again_and_a_refused_one_is_not(words: str, reads: int, after_s: float) -> None:
    desk = Desk(positions=[position(2)])
    desk.on_read = lambda what: Reply.of({"status": "error", "message": words, "error_code": 45000, "data": {}})

    outcome = desk.run(close())

    assert isinstance(outcome, Retry) and outcome.after_s == after_s and len(desk.calls) == reads


def test_a_position_that_cannot_be_understood_is_a_retry() -> None:
    for strange in (position("1.5"), position(None), position(2, "")):
        assert isinstance(Desk(positions=[strange]).run(close()), Retry)


def test_a_position_that_cannot_be_read_after_its_legs_went_is_told_to_a_person() -> None:
    desk = Desk(pending=[leg_row()], positions=[position(2)])
    desk.on_read = lambda what: Reply(status=None, fault="reset") if what == "live" and desk.writes else None

    outcome = desk.run(close())

    assert isinstance(outcome, Unknown) and "WITHOUT A STOP" in outcome.reason
