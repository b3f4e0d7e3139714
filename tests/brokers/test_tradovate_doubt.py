"""When an answer was not heard at Tradovate: what a look-up may conclude, and what an exit does beside orders in doubt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tradovate_kit import (
    ACCOUNT,
    BROKER,
    CANCEL,
    CLOSE,
    COVER,
    HOME,
    OCO,
    ORDERS,
    OSO,
    STRATEGY,
    Description,
    Desk,
    description,  # noqa: F401
    drive,
    new,
    one,
    plain,
    shared,
    work,
)

from bridge.call import Absent, Accepted, Call, LookUp, Pause, Plan, Rejected, Reply, Seen, Unknown
from bridge.order import Order
from bridge.work import Work

LEGS_TOO = replace(CANCEL, legs_too=True)
OSO_IDS = {"order": "42", "stop_loss": "43", "take_profit": "44"}
NOT_HEARD = Reply(status=None, fault="no complete reply within 10 s")
DARK = (Reply(status=500), Reply(status=404), Reply(status=200, text="x"), NOT_HEARD)


def known(made: Order = OSO, order_id: str = "o7", **broker_ids: str) -> Work:
    return work(made, order_id, broker_ids=broker_ids or OSO_IDS)


def look(desk: Callable[[Call], Reply], *targets: Work, order: Order = CANCEL) -> Any:
    calls, seen = drive(BROKER.look_up(work(order, "c1", targets=targets)), desk)
    assert not any(call.write for call in calls)
    return seen


def timed(plan: Plan | LookUp, answer: Callable[[Call], Reply]) -> tuple[float, list[Call], Any]:
    """For how long a plan pauses in all, its calls and what it comes to."""
    paused, calls = 0.0, []
    reply: Reply | None = None
    try:
        while True:
            asked = plan.send(reply)
            if isinstance(asked, Pause):
                paused, reply = paused + asked.seconds, None
            else:
                calls.append(asked)
                reply = answer(asked)
    except StopIteration as done:
        return paused, calls, done.value


# -- entries -----------------------------------------------------------------------------------------------------------


@given(st.sampled_from(sorted(set(ORDERS) - {"close"})), st.booleans(),
       st.recursive(st.none() | st.booleans() | st.integers(-5, 10**20) | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(("id", "orderId", "clOrdId", "commandType", "uuid", "status", "ordStatus",
                                         "accountId", "qty", "label")), inner, max_size=5), max_leaves=10),
       st.sampled_from([200, 200, 200, 404, 500, None]))
def test_no_answer_whatever_proves_that_an_entry_is_absent(name: str, has_id: bool, body: Any,
                                                           status: int | None) -> None:
    ids = {"strategy" if name == "strategy" else "order": "42"} if has_id else {}

    _, seen = drive(BROKER.look_up(work(ORDERS[name], broker_ids=ids)),
                    lambda call: replace(Reply.of(body), status=status))

    assert seen is None or isinstance(seen, Seen)


def test_a_book_without_the_entry_proves_nothing_however_complete_it_looks() -> None:
    assert look(Desk({1: "Filled"}, commands=[new(1, "another")]), order=plain()) is None


def test_an_order_shown_under_our_own_id_says_so() -> None:
    desk = Desk({42: "Working"}, commands=[new(42, "o1")])

    assert drive(BROKER.look_up(work(plain())), desk)[1].by_our_id
    assert not drive(BROKER.look_up(work(plain(), broker_ids={"order": "42"})), desk)[1].by_our_id


# -- a cancel, by its effect -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", ["Canceled", "Filled", "Expired", "Rejected", "Completed"])
def test_a_cancel_is_seen_where_all_that_it_withdraws_has_ended(raw: str) -> None:
    desk = Desk({42: raw, 52: "Canceled"})
    desk.tables["command/deps"] = []

    seen = look(desk, known(plain(), order="42"), known(plain(), "o8", order="52"))

    assert isinstance(seen, Seen) and seen.all_ended


@pytest.mark.parametrize("raw", ["Working", "Suspended", "PendingNew", "PendingCancel", "PendingReplace", "Something"])
def test_a_cancel_whose_order_still_works_is_absent_and_may_be_carried_out_again(raw: str) -> None:
    seen = look(Desk({42: raw, 52: "Canceled"}), known(plain(), "o8", order="52"), known(plain(), order="42"))

    assert isinstance(seen, Absent)
    assert seen.reason == "the order of order o7 still works at Tradovate"


@pytest.mark.parametrize("dark", DARK)
def test_a_cancel_whose_order_cannot_be_read_is_neither(dark: Reply) -> None:
    desk = Desk({42: "Canceled"})
    desk.tables["order/item"] = dark

    assert look(desk, known(plain(), order="42")) is None
    assert look(Desk({42: "Canceled"}), known(plain(), order="42"), work(plain(), "o8")) is None
    assert look(Desk({42: "Canceled"}, account_id=5), known(plain(), order="42")) is None
    assert look(Desk({})) is None


def test_one_order_that_still_works_is_enough_though_another_cannot_be_read() -> None:
    seen = look(Desk({42: "Working"}), work(plain(), "o8"), known(plain(), order="42"))

    assert isinstance(seen, Absent)


def test_both_halves_of_an_oco_have_to_end() -> None:
    both, one_left = Desk({42: "Canceled", 43: "Canceled"}), Desk({42: "Filled", 43: "Working"})
    ids = {"order": "42", "other": "43"}

    assert isinstance(look(both, known(OCO, **ids)), Seen)
    assert isinstance(look(one_left, known(OCO, **ids)), Absent)
    assert look(Desk({42: "Canceled"}), known(OCO, **ids)) is None
    assert look(Desk({42: "Canceled"}), known(OCO, order="42")) is None


def test_the_legs_of_a_filled_entry_are_no_part_of_a_cancel_unless_it_says_legs() -> None:
    left, gone = Desk({42: "Filled", 43: "Working"}), Desk({42: "Filled", 43: "Canceled"})
    target = known(COVER, order="42", stop_loss="43")

    assert isinstance(look(left, target), Seen)
    assert isinstance(look(left, target, order=LEGS_TOO), Absent)
    assert isinstance(look(gone, target, order=LEGS_TOO), Seen)


def test_a_leg_that_cannot_be_found_leaves_a_cancel_of_legs_in_doubt() -> None:
    target = known(COVER, order="42", stop_loss="43")

    assert isinstance(look(Desk({42: "Filled"}), target), Seen)
    assert look(Desk({42: "Filled"}), target, order=LEGS_TOO) is None


def test_legs_that_wait_for_an_entry_withdrawn_unfilled_belong_to_the_cancel() -> None:
    waiting = {42: "Canceled", 43: "Suspended", 44: "Suspended"}
    unread = Desk(waiting)
    unread.tables["fill/deps"] = Reply(status=500)

    assert isinstance(look(Desk(waiting), known()), Absent)
    assert isinstance(look(Desk(waiting, fills={42: 1}), known()), Seen)
    assert look(unread, known()) is None


def test_a_strategy_s_orders_are_read_through_its_links() -> None:
    def desk(orders: dict[int, str], links: Any = None, **strategy: Any) -> Desk:
        made = Desk(orders)
        row = {"id": 77, "uuid": "o7", "status": "ActiveStrategy"} | strategy
        made.tables["orderStrategy/item"] = row
        labels = {42: "Entry", 43: "StopLoss"}
        made.tables["orderStrategyLink/deps"] = links or [{"orderId": each, "label": labels[each]} for each in labels]
        return made

    target = known(replace(STRATEGY, side="sell"), strategy="77")

    assert isinstance(look(desk({42: "Filled", 43: "Working"}), target), Seen)
    assert isinstance(look(desk({42: "Filled", 43: "Working"}), target, order=LEGS_TOO), Absent)
    assert isinstance(look(desk({42: "Working", 43: "Suspended"}), target), Absent)
    assert look(desk({43: "Canceled"}), target) is None
    assert look(desk({}, Reply(status=500), status="ExecutionFinished"), target) is None
    assert isinstance(look(desk({}, Reply.of([]), status="StoppedByUser"), target), Seen)
    assert look(desk({}, Reply.of([])), target) is None


@pytest.mark.parametrize(("orders", "wanted"), [({99: "Canceled"}, Seen), ({99: "Working"}, Absent),
                                                ({}, type(None))])
def test_an_order_that_is_not_ours_is_looked_up_by_its_id(orders: dict[int, str], wanted: type) -> None:
    assert isinstance(look(Desk(orders), order=Order(kind="cancel", options={"orderId": 99})), wanted)


# -- a close, by its effect --------------------------------------------------------------------------------------------


FOUND = Reply.of({"id": 7, "name": "ESZ6", "contractMaturityId": 1})


class Books:
    """The account's positions and orders; of a list of several answers each is given once, the last for ever."""

    def __init__(self, positions: Any, orders: Any = (), contract: Reply = FOUND) -> None:
        self.tables = {"contract/find": [contract], "account/list": [Reply.of([{"id": 123456}])],
                       "position/deps": _answers(positions), "order/deps": _answers(orders)}

    def __call__(self, call: Call) -> Reply:
        answers = self.tables[call.url.removeprefix(HOME).partition("?")[0]]
        return answers.pop(0) if len(answers) > 1 else answers[0]


def _answers(told: Any) -> list[Reply]:
    listed = told if isinstance(told, list) and told and isinstance(told[0], Reply) else [told]
    return [each if isinstance(each, Reply) else Reply.of(list(each) if isinstance(each, tuple) else each)
            for each in listed]


LONG, FLAT = [{"contractId": 7, "netPos": 2}], [{"contractId": 7, "netPos": 0}, {"contractId": 8, "netPos": 3}]


def closing(positions: Any, orders: Any = (), contract: Reply = FOUND) -> Any:
    _, calls, seen = timed(BROKER.look_up(work(CLOSE, "c1")), Books(positions, orders, contract))
    assert not any(call.write for call in calls)
    return seen


@pytest.mark.parametrize("orders", [[], [{"contractId": 8, "ordStatus": "Working"}],
                                    [{"contractId": 7, "ordStatus": status}
                                     for status in ("Filled", "Canceled", "Rejected", "Expired", "Completed")]])
@pytest.mark.parametrize("positions", [[], FLAT])
def test_a_close_is_seen_where_neither_position_nor_order_is_left(positions: Any, orders: Any) -> None:
    seen = closing(positions, orders)

    assert isinstance(seen, Seen) and seen.all_ended
    assert seen.reason == "neither a position nor a working order is left on ESZ6"


@pytest.mark.parametrize(("positions", "orders", "words"), [
    (LONG, [], "a position of 2"), ([{"contractId": 7, "netPos": -1}], [], "a position of -1"),
    ([], [{"contractId": 7, "ordStatus": "Working"}], "1 working order"),
    (FLAT, [{"contractId": 7, "ordStatus": "Suspended"}] * 2, "2 working orders"),
    (LONG, [{"contractId": 7, "ordStatus": "Something"}], "a position of 2 and 1 working order")])
def test_a_close_with_something_left_is_absent_and_may_be_carried_out_again(positions: Any, orders: Any,
                                                                            words: str) -> None:
    assert closing(positions, orders) == Absent(reason=f"{words} on ESZ6 at Tradovate still")


@pytest.mark.parametrize("broken", [*DARK, {}, ["odd"], [{}], [{"netPos": 2, "ordStatus": "Working"}],
                                    [{"contractId": 7}], [{"contractId": 7, "netPos": None, "ordStatus": None}],
                                    [{"contractId": "7", "netPos": 1, "ordStatus": "Working"}]])
def test_a_close_whose_books_cannot_be_read_is_neither(broken: Any) -> None:
    assert closing(broken) is None
    assert closing([], broken) is None
    assert closing(LONG, broken) is None


@pytest.mark.parametrize("contract", [*DARK, Reply.of({"id": 7, "name": "NQZ6"}), Reply.of({"name": "ESZ6"})])
def test_a_close_whose_contract_is_not_found_is_neither(contract: Reply) -> None:
    assert closing([], contract=contract) is None


@pytest.mark.parametrize("length", [1000, 4096])
def test_a_list_that_may_have_been_cut_short_shows_what_is_left_but_not_that_nothing_is(length: int) -> None:
    positions, orders = [{"contractId": 8, "netPos": 1}] * length, [{"contractId": 8, "ordStatus": "Working"}] * length

    assert closing([], orders) is None and closing(positions) is None
    assert isinstance(closing([], orders[1:999]), Seen)
    assert isinstance(closing([*positions, *LONG]), Absent)


def test_flat_counts_when_it_is_seen_twice_for_positions_come_later_than_fills() -> None:
    paused, calls, seen = timed(BROKER.look_up(work(CLOSE)), Books([Reply.of([]), Reply.of(LONG)]))

    assert isinstance(seen, Absent) and paused == 2
    assert [call.url.removeprefix(HOME).partition("?")[0] for call in calls] == [
        "contract/find", "position/deps", "order/deps", "position/deps", "order/deps"]


# -- a reply that a look-up stands in for ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ORDERS))
def test_what_a_look_up_saw_is_taken_for_the_answer_of_any_write(name: str) -> None:
    seen = Seen(broker_status="working", broker_ids={"order": "42"}, legs=({"role": "stop_loss"},), reason="odd")

    def answer(call: Call) -> Reply:
        return replace(NOT_HEARD, seen=seen) if call.write else FOUND

    _, outcome = drive(BROKER.submit(work(ORDERS[name])), answer)

    assert outcome == Accepted(broker_ids={"order": "42"}, broker_status="working", legs=({"role": "stop_loss"},),
                               reason="found at Tradovate: working, odd")


def test_an_order_that_a_look_up_saw_rejected_is_rejected() -> None:
    outcome = one(plain(), replace(NOT_HEARD, seen=Seen(broker_status="rejected", reason="no margin")))

    assert outcome == Rejected(reason="found at Tradovate: rejected, no margin")


def test_a_cancel_that_a_look_up_saw_counts_as_taken() -> None:
    desk = Desk({42: "Working"})
    desk.cancels[42] = lambda: replace(NOT_HEARD, seen=Seen(broker_status="canceled"))

    assert isinstance(drive(BROKER.submit(work(CANCEL, "c1", targets=(known(plain(), order="42"),))), desk)[1], Accepted)


# -- exits beside orders in doubt --------------------------------------------------------------------------------------


def cancelling(desk: Callable[[Call], Reply], *targets: Work, order: Order = CANCEL) -> tuple[float, list[Call], Any]:
    return timed(BROKER.submit(work(order, "c1", targets=targets)), desk)


def test_a_cancel_never_waits_for_an_order_that_nobody_knows_of_and_tells_of_it() -> None:
    paused, calls, outcome = cancelling(Desk({}), *(work(plain(), f"o{number}") for number in range(5)))

    assert paused == 0 and len(calls) == 5
    assert isinstance(outcome, Accepted) and outcome.targets == {}
    assert "order o3 was not found at Tradovate, which proves nothing" in outcome.alarm


def test_orders_with_known_ids_are_withdrawn_before_unknown_ones_are_looked_for() -> None:
    desk = Desk({42: "Working"})

    paused, calls, outcome = cancelling(desk, work(plain(), "o9"), known(plain(), order="42"))

    assert desk.cancelled == [42] and paused == 0
    assert [call.operation for call in calls][-1] == "command/list"
    assert isinstance(outcome, Accepted) and set(outcome.targets) == {"o7"}
    assert "order o9" in outcome.alarm and "o7" not in outcome.alarm


def test_an_unknown_order_that_shows_is_withdrawn() -> None:
    desk = Desk({42: "Working"}, commands=[new(42, "o9")])

    _, _, outcome = cancelling(desk, work(plain(), "o9"))

    assert desk.cancelled == [42]
    assert isinstance(outcome, Accepted) and not outcome.alarm


def test_an_order_that_was_not_found_is_named_beside_what_was_refused() -> None:
    desk = Desk({42: "Working"})
    desk.cancels[42] = lambda: Reply(status=401, text="Access is denied")

    _, _, outcome = cancelling(desk, work(plain(), "o9"), known(plain(), order="42"))

    assert isinstance(outcome, Rejected)
    assert "Access is denied" in outcome.reason and "order o9 was not found" in outcome.reason


@pytest.mark.parametrize("dark", DARK)
def test_a_known_order_that_cannot_be_read_is_cancelled_without_a_wait(dark: Reply) -> None:
    desk = Desk({42: "Working"})
    desk.tables["order/item"] = dark

    paused, calls, outcome = cancelling(desk, known(plain(), order="42"))

    assert [call.operation for call in calls[:2]] == ["order/item", "cancelorder"]
    assert isinstance(outcome, Accepted) and paused <= 1


def test_a_strategy_that_is_not_listed_yet_is_looked_for_again_for_two_seconds_at_most() -> None:
    desk = Desk({42: "Working"})
    desk.tables["orderStrategy/item"] = {"id": 77, "status": "ActiveStrategy"}
    links: list[Any] = [[], [{"orderId": 42, "label": "Entry"}]]
    target = known(STRATEGY, strategy="77")

    def answer(call: Call) -> Reply:
        if "orderStrategyLink" in call.url:
            return Reply.of(links.pop(0) if len(links) > 1 else links[0])
        return desk(call)

    _, _, found = cancelling(answer, target)
    desk.tables["orderStrategy/item"] = Reply(status=404)
    paused, _, lost = cancelling(desk, target)

    assert isinstance(found, Accepted) and desk.cancelled == [42]
    assert isinstance(lost, Accepted) and lost.alarm and paused == 2


@pytest.mark.parametrize("target", [work(OSO, "o7"), known(OSO), known(STRATEGY, strategy="77")])
def test_a_close_goes_straight_to_the_broker_whatever_is_unknown_of_our_orders(target: Work) -> None:
    def answer(call: Call) -> Reply:
        return Reply.of({"orderId": 900}) if call.write else FOUND

    paused, calls, outcome = timed(BROKER.submit(work(CLOSE, "c1", targets=(target, work(plain(), "o8")))), answer)

    assert [call.operation for call in calls] == ["contract/find", "liquidateposition"]
    assert paused == 0 and isinstance(outcome, Accepted)


# -- a warm connection -------------------------------------------------------------------------------------------------


def test_a_connection_is_kept_warm_by_one_row_that_is_described(description: Description) -> None:  # noqa: F811
    call = BROKER.warm(ACCOUNT)

    assert call is not None and not call.write and call.url == f"{HOME}account/item?id=123456"
    description.check(call)


# -- what was not heard at all -----------------------------------------------------------------------------------------


def test_every_broken_connection_on_record_ends_as_expected_of_it() -> None:
    cases = [case for case in shared("bad-inputs.json") if case["area"] == "broker_reply"
             and case["given"]["broker"] == "tradovate" and case["given"].get("transport", {}).get("phase") == "after_send"]

    for case in cases:
        outcome = one(plain(), Reply(status=None, fault=case["given"]["transport"]["exception"]))
        assert isinstance(outcome, Unknown) and case["expect"]["state"] == "unknown", case["id"]
    assert len(cases) == 2


def test_a_cancel_s_success_without_a_command_is_judged_by_the_order_as_it_is() -> None:
    (case,) = [case for case in shared("tradovate-cases.json") if case["operation"] == "order/cancelOrder"]
    desk = Desk({42: "Working"})
    desk.cancels[42] = lambda: Reply.of(case["response"]["body"])
    target = known(plain(), order="42")

    _, _, outcome = cancelling(desk, target)

    assert isinstance(outcome, Unknown)
    assert isinstance(look(desk, target), Absent)
    desk.orders[42] = "Canceled"
    assert isinstance(look(desk, target), Seen)
