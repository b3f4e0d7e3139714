"""After sending: looking orders up at Tradovate, withdrawing them, and closing positions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tradovate_kit import (
    BROKER,
    CANCEL,
    CLOSE,
    OCO,
    OSO,
    STRATEGY,
    Desk,
    drive,
    new,
    plain,
    work,
)

from bridge.call import Accepted, Call, Rejected, Reply, Retry, Unknown
from bridge.order import Order
from bridge.work import Work

LEGS_TOO = replace(CANCEL, legs_too=True)
OSO_IDS = {"order": "42", "stop_loss": "43", "take_profit": "44"}


def look(made: Order, desk: Desk, **more: Any) -> Any:
    return drive(BROKER.look_up(work(made, **more)), desk)[1]


def known(made: Order = OSO, **broker_ids: str) -> Work:
    return work(made, "o7", broker_ids=broker_ids or OSO_IDS)


def cancel(desk: Desk, *targets: Work, order: Order = CANCEL) -> Any:
    return drive(BROKER.submit(work(order, "c1", targets=targets)), desk)[1]


def too_late() -> Reply:
    return Reply.of({"failureReason": "TooLate", "failureText": "Too late to cancel"})


# -- looking up --------------------------------------------------------------------------------------------------------


def test_an_order_is_found_by_our_client_id_among_new_commands_alone() -> None:
    desk = Desk({42: "Working", 41: "Working"}, commands=[
        {"orderId": 41, "commandType": "Cancel", "clOrdId": "o1"}, new(41, "o11"), {"odd": 1}, "odd", new(42, "o1")])

    seen = look(plain(), desk)

    assert (seen.broker_status, seen.broker_ids, seen.legs) == ("working", {"order": "42"}, ())


@pytest.mark.parametrize("commands", [[], [new(42, "another")], [{"commandType": "New", "clOrdId": "o1"}],
                                      Reply(status=500), Reply(status=200, text="x"), Reply(status=None, fault="x")])
def test_what_is_not_found_or_not_readable_proves_nothing(commands: Any) -> None:
    desk = Desk({42: "Working"})
    desk.tables["command/list"] = commands

    assert look(plain(), desk) is None


def test_a_known_id_goes_straight_to_the_order() -> None:
    calls, seen = drive(BROKER.look_up(work(plain(), broker_ids={"order": "42"})), Desk({42: "Filled"}))

    assert [call.url.rpartition("/v1/")[2] for call in calls] == ["order/item?id=42"]
    assert (seen.broker_status, seen.ended) == ("filled", True)


def test_an_order_of_another_account_is_none_of_ours() -> None:
    assert look(plain(), Desk({42: "Working"}, account_id=5), broker_ids={"order": "42"}) is None


@pytest.mark.parametrize(("raw", "filled", "status", "words"), [
    ("Working", 0, "working", ""), ("Working", 1, "partially_filled", ""), ("Working", 2, "filled", ""),
    ("Suspended", 0, "working", ""), ("PendingNew", 0, "working", ""), ("PendingCancel", 1, "partially_filled", ""),
    ("PendingReplace", 0, "working", ""), ("Unknown", 0, "working", "'Unknown'"),
    ("Cancelled", 0, "working", "'Cancelled'"), ("Filled", 2, "filled", ""), ("Expired", 0, "expired", ""),
    ("Canceled", 0, "canceled", ""), ("Canceled", 1, "canceled", "1 of 2 had filled"),
    ("Completed", 2, "filled", "'Completed'"), ("Completed", 1, "canceled", "1 of 2 had filled")])
def test_tradovate_s_status_in_our_words(raw: str, filled: int, status: str, words: str) -> None:
    seen = look(plain(), Desk({42: raw}, fills={42: filled}), broker_ids={"order": "42"})

    assert seen.broker_status == status
    assert words in seen.reason


UNREAD = [Reply(status=500), Reply(status=404), Reply(status=None, fault="x"), Reply(status=200, text="x"), {}, ["odd"],
          [{"id": 9, "orderId": 42}], [{"qty": 2}, {"qty": None}], [{"qty": "2"}], [{"qty": -1}], [{"qty": True}]]


@pytest.mark.parametrize("fills", UNREAD)
def test_a_completed_order_whose_fills_cannot_be_read_is_not_called_canceled_and_is_looked_at_again(fills: Any) -> None:
    desk = Desk({42: "Completed", 43: "Canceled"})
    desk.tables["fill/deps"] = fills

    seen = look(plain(), desk, broker_ids={"order": "42"})
    pair = look(OCO, desk, broker_ids={"order": "43", "other": "42"})

    assert seen.broker_status == pair.broker_status == "working" and not seen.ended
    assert "'Completed', and its fills could not be read" in seen.reason


def test_a_completed_order_whose_fills_cannot_be_read_has_ended_for_a_cancel() -> None:
    desk = Desk({42: "Completed"})
    desk.tables["fill/deps"] = Reply(status=500)

    outcome = cancel(desk, known(plain(), order="42"))

    assert desk.cancelled == []
    assert isinstance(outcome, Accepted) and outcome.reason == "nothing to cancel: order o7 was over already"


def test_a_rejection_after_acceptance_comes_with_its_reason() -> None:
    desk = Desk({42: "Rejected"})
    desk.tables["command/deps"] = [{"id": 9, "commandType": "Cancel"}, new(42, "o1")]
    desk.tables["commandReport/deps"] = [{"commandId": 542, "rejectReason": "Success"},
                                         {"commandId": 542, "rejectReason": "NotEnoughLiquidity", "text": "no margin"}]

    seen = look(plain(), desk, broker_ids={"order": "42"})

    assert seen.broker_status == "rejected"
    assert "NotEnoughLiquidity" in seen.reason and "no margin" in seen.reason


def test_a_rejection_whose_reason_cannot_be_read_says_so() -> None:
    desk = Desk({42: "Rejected"})
    desk.tables["command/deps"] = Reply(status=404)

    assert "gave no reason" in look(plain(), desk, broker_ids={"order": "42"}).reason


def test_legs_are_found_by_their_own_client_ids() -> None:
    desk = Desk({42: "Filled", 43: "Working", 44: "Working"},
                commands=[new(42, "o1"), new(43, "o1.sl"), new(44, "o1.tp")])

    seen = look(OSO, desk)

    assert seen.broker_ids == {"order": "42", "stop_loss": "43", "take_profit": "44"}
    assert seen.broker_status == "filled"
    assert seen.legs == ({"role": "stop_loss", "broker_id": "43", "broker_status": "working"},
                         {"role": "take_profit", "broker_id": "44", "broker_status": "working"})


def test_a_missing_or_rejected_stop_is_named() -> None:
    desk = Desk({42: "Filled", 44: "Working"}, commands=[new(42, "o1"), new(44, "o1.tp")])
    lost = look(OSO, desk)
    desk = Desk({42: "Filled", 43: "Rejected", 44: "Working"})
    desk.tables["command/deps"] = []
    refused = look(OSO, desk, broker_ids=OSO_IDS)

    assert "stop_loss was not found" in lost.reason
    assert "stop_loss was rejected" in refused.reason


def test_two_orders_under_one_client_id_are_an_alarm() -> None:
    seen = look(plain(), Desk({42: "Working", 45: "Working"}, commands=[new(42, "o1"), new(45, "o1"), new(42, "o1")]))

    assert "2 orders with our id o1: 42, 45" in seen.reason


@pytest.mark.parametrize(("one", "two", "fills", "status"), [
    ("Working", "Working", {}, "working"), ("Working", "Working", {42: 1}, "partially_filled"),
    ("Filled", "Canceled", {}, "filled"), ("Canceled", "Filled", {}, "filled"), ("Filled", "Working", {}, "working"),
    ("Canceled", "Canceled", {}, "canceled"), ("Expired", "Expired", {}, "expired")])
def test_an_oco_is_what_its_halves_come_to(one: str, two: str, fills: dict[int, int], status: str) -> None:
    seen = look(OCO, Desk({42: one, 43: two}, fills=fills), broker_ids={"order": "42", "other": "43"})

    assert seen.broker_status == status
    if (one, two) == ("Filled", "Working"):
        assert "one half is filled, the other working" in seen.reason


def strategy_desk(orders: dict[int, str], labels: dict[int, str] | None = None, **strategy: Any) -> Desk:
    desk = Desk(orders)
    row = {"id": 77, "uuid": "o1", "status": "ActiveStrategy"} | strategy
    desk.tables["orderStrategy/list"] = [{"id": 76, "uuid": "o2"}, "odd", row]
    desk.tables["orderStrategy/item"] = row
    desk.tables["orderStrategyLink/deps"] = [{"orderId": order_id, "label": (labels or {}).get(order_id, "")}
                                             for order_id in orders]
    return desk


def test_a_strategy_is_found_by_its_uuid_and_its_orders_by_their_links() -> None:
    desk = strategy_desk({42: "Filled", 43: "Working", 44: "Working"},
                         {42: "Entry", 43: "StopLoss", 44: "ProfitTarget"})
    # every row of this desk says Buy: here the labels tell the exits from the entry of a sale
    seen = look(replace(STRATEGY, side="sell"), desk)

    assert seen.broker_ids == {"strategy": "77", "order": "42", "stop_loss": "43", "take_profit": "44"}
    assert seen.broker_status == "filled"
    assert [leg["role"] for leg in seen.legs] == ["stop_loss", "take_profit"]


def test_the_orders_of_a_strategy_without_labels_are_told_by_side_and_type() -> None:
    desk = strategy_desk({43: "Working"})
    desk.tables["orderVersion/deps"] = [{"orderType": "Limit"}]
    target = look(replace(STRATEGY, side="sell"), desk, broker_ids={"strategy": "77"})
    desk.tables["orderVersion/deps"] = [{"orderType": "TrailingStop"}]
    stop = look(replace(STRATEGY, side="sell"), desk, broker_ids={"strategy": "77"})
    entry = look(STRATEGY, strategy_desk({42: "Working"}), broker_ids={"strategy": "77"})

    assert target.broker_ids == {"strategy": "77", "take_profit": "43"}
    assert stop.broker_ids == {"strategy": "77", "stop_loss": "43"}
    assert entry.broker_ids == {"strategy": "77", "order": "42"}


@pytest.mark.parametrize(("status", "word"), [
    ("ActiveStrategy", "working"), ("ExecutionFailed", "rejected"), ("NotEnoughLiquidity", "rejected"),
    ("ExecutionFinished", "filled"), ("StoppedByUser", "canceled"), ("SomethingNew", "working")])
def test_a_strategy_without_orders_has_the_status_of_its_own(status: str, word: str) -> None:
    seen = look(STRATEGY, strategy_desk({}, status=status, failureMessage="the broker's text"))

    assert (seen.broker_status, seen.broker_ids) == (word, {"strategy": "77"})
    assert "the broker's text" in seen.reason


def test_a_strategy_that_is_not_listed_proves_nothing() -> None:
    assert look(STRATEGY, strategy_desk({}), order_id="o3") is None


# -- withdrawing -------------------------------------------------------------------------------------------------------


def test_a_cancel_withdraws_what_works_and_tells_what_became_of_it() -> None:
    desk = Desk({42: "Working"}, fills={42: 1})

    outcome = cancel(desk, known(plain(), order="42"))

    assert desk.cancelled == [42]
    assert isinstance(outcome, Accepted) and not outcome.alarm
    assert outcome.targets["o7"].broker_status == "canceled"
    assert "1 of 2 had filled" in outcome.targets["o7"].reason


def test_all_targets_are_withdrawn_in_the_order_given() -> None:
    desk = Desk({42: "Working", 52: "Suspended", 62: "Filled"})
    targets = [work(plain(), name, broker_ids={"order": order_id})
               for name, order_id in (("o9", "52"), ("o8", "42"), ("o7", "62"))]

    outcome = cancel(desk, *targets)

    assert desk.cancelled == [52, 42]
    assert {name: seen.broker_status for name, seen in outcome.targets.items()} == {
        "o9": "canceled", "o8": "canceled", "o7": "filled"}
    assert "order o7 was filled already" in outcome.reason


@pytest.mark.parametrize("raw", ["Filled", "Canceled", "Expired"])
def test_what_has_ended_is_done_and_never_cancelled(raw: str) -> None:
    desk = Desk({42: raw})

    outcome = cancel(desk, known(plain(), order="42"))

    assert desk.cancelled == []
    assert isinstance(outcome, Accepted)
    assert outcome.reason.startswith("nothing to cancel: order o7 was ")


@pytest.mark.parametrize("reply", [too_late(), Reply(status=401, text="Access is denied"),
                                   Reply.of({"failureReason": "Success", "failureText": ""}), Reply(status=500),
                                   Reply(status=None, fault="no complete reply")])
def test_an_order_that_ended_before_its_cancel_is_done_whatever_was_said(reply: Reply) -> None:
    desk = Desk({42: "Working"})

    def filled() -> Reply:
        desk.orders[42] = "Filled"
        return reply

    desk.cancels[42] = filled
    outcome = cancel(desk, known(plain(), order="42"))

    assert isinstance(outcome, Accepted)
    assert outcome.targets["o7"].broker_status == "filled"
    assert "was filled before the cancel reached it" in outcome.reason


@pytest.mark.parametrize(("reply", "wanted", "words"), [
    (too_late(), Rejected, "TooLate"), (Reply(status=401, text="Access is denied"), Rejected, "Access is denied"),
    (Reply.of({"failureReason": "TradingLocked"}), Rejected, "trading is locked"),
    (Reply.of({"failureReason": "Success", "failureText": ""}), Unknown, "without an id"),
    (Reply(status=500), Unknown, "HTTP 500"), (Reply(status=408), Unknown, "HTTP 408"),
    (Reply(status=None, fault="no complete reply"), Unknown, "no complete reply"),
    (Reply(status=None, fault="past max_age", not_executed=True), Rejected, "past max_age"),
    (Reply.of({"commandId": "x"}), Unknown, "without an id")])
def test_while_the_order_still_works_the_reply_to_its_cancel_decides(reply: Reply, wanted: type, words: str) -> None:
    desk = Desk({42: "Working"})
    desk.cancels[42] = lambda: reply

    outcome = cancel(desk, known(plain(), order="42"))

    assert isinstance(outcome, wanted)
    assert words in outcome.reason


def test_a_cancel_that_was_taken_but_not_yet_seen_is_accepted_as_such() -> None:
    desk = Desk({42: "Working"})
    desk.cancels[42] = lambda: Reply.of({"commandId": 5})

    outcome = cancel(desk, known(plain(), order="42"))

    assert isinstance(outcome, Accepted)
    assert outcome.targets["o7"].broker_status == "working"


def test_a_command_that_is_pending_is_waited_for_and_then_asked_again() -> None:
    desk = Desk({42: "Working"})
    desk.cancels[42] = lambda: Reply.of({"failureReason": "AnotherCommandPending"})
    stuck = cancel(desk, known(plain(), order="42"))
    tries = len(desk.cancelled)

    def second_time() -> Reply:
        if desk.cancelled.count(42) < 2:
            return Reply.of({"failureReason": "AnotherCommandPending"})
        desk.orders[42] = "Canceled"
        return Reply.of({"commandId": 5})

    desk = Desk({42: "Working"})
    desk.cancels[42] = second_time
    cured = cancel(desk, known(plain(), order="42"))

    assert isinstance(stuck, Retry) and tries == 3
    assert isinstance(cured, Accepted) and cured.targets["o7"].broker_status == "canceled"


def test_some_withdrawn_and_some_refused_is_an_alarm() -> None:
    desk = Desk({42: "Working", 52: "Working"})
    desk.cancels[52] = lambda: Reply(status=401, text="Access is denied")
    targets = [work(plain(), f"o{order_id}", broker_ids={"order": str(order_id)}) for order_id in (42, 52)]

    outcome = cancel(desk, *targets)

    assert isinstance(outcome, Accepted)
    assert "order o52" in outcome.alarm and "Access is denied" in outcome.alarm


@pytest.mark.parametrize(("reply", "wanted"), [
    (Reply.of({"commandId": 5}), Accepted), (too_late(), Rejected), (Reply(status=404), Rejected),
    (Reply(status=500), Unknown)])
def test_an_order_that_cannot_be_seen_but_has_an_id_is_cancelled_all_the_same(reply: Reply, wanted: type) -> None:
    """A way out does not depend on a read; legs are left alone, for nothing is known of the entry."""
    desk = Desk({})
    desk.cancels[42] = lambda: reply

    outcome = cancel(desk, known(), order=LEGS_TOO)

    assert set(desk.cancelled) == {42}
    assert isinstance(outcome, wanted)


def test_a_cancel_that_a_dead_token_made_a_404_is_sent_again_with_the_new_one() -> None:
    desk = Desk({42: "Working"})
    desk.tables["order/item"] = Reply(status=404)

    def dead_then_alive() -> Reply:
        if len(desk.cancelled) == 1:
            return Reply(status=404)
        del desk.tables["order/item"]
        desk.orders[42] = "Canceled"
        return Reply.of({"commandId": 5})

    desk.cancels[42] = dead_then_alive
    outcome = cancel(desk, known(plain(), order="42"))

    assert desk.cancelled == [42, 42]
    assert isinstance(outcome, Accepted) and outcome.targets["o7"].broker_status == "canceled"


@pytest.mark.parametrize(("check", "wanted"), [(Reply(status=404), Rejected), (Reply(status=500), Retry),
                                               (Reply(status=None, fault="x"), Retry)])
def test_a_cancel_is_not_given_up_on_a_404_while_the_token_may_be_dead(check: Reply, wanted: type) -> None:
    desk = Desk({})
    desk.tables["account/list"] = check
    desk.cancels[42] = lambda: Reply(status=404)

    outcome = cancel(desk, known(plain(), order="42"))

    assert desk.cancelled == [42] and isinstance(outcome, wanted)


def test_an_order_that_is_not_ours_is_looked_for_again_once_the_token_is_known_to_live() -> None:
    desk = Desk({99: "Working"})
    desk.tables["order/item"] = Reply(status=404)

    def answer(call: Call) -> Reply:
        if call.operation == "account/list":
            del desk.tables["order/item"]
        return desk(call)

    _, outcome = drive(BROKER.submit(work(Order(kind="cancel", options={"orderId": 99}))), answer)

    assert desk.cancelled == [99] and isinstance(outcome, Accepted)


def test_both_halves_of_an_oco_are_cancelled_even_if_the_first_takes_the_second_along() -> None:
    desk = Desk({42: "Working", 43: "Working"})

    def both() -> Reply:
        desk.orders = dict.fromkeys(desk.orders, "Canceled")
        return Reply.of({"commandId": 5})

    desk.cancels = {42: both, 43: too_late}
    outcome = cancel(desk, known(OCO, order="42", other="43"))

    assert desk.cancelled == [42, 43]
    assert isinstance(outcome, Accepted) and not outcome.alarm
    assert outcome.targets["o7"].broker_status == "canceled"


def test_a_left_over_half_of_an_oco_is_cancelled() -> None:
    desk = Desk({42: "Filled", 43: "Working"})

    outcome = cancel(desk, known(OCO, order="42", other="43"))

    assert desk.cancelled == [43]
    assert outcome.targets["o7"].broker_status == "filled"


def test_the_legs_of_a_filled_entry_stay() -> None:
    desk = Desk({42: "Filled", 43: "Working", 44: "Working"})

    outcome = cancel(desk, known())

    assert desk.cancelled == []
    assert isinstance(outcome, Accepted)
    assert "nothing to cancel" in outcome.reason and "stop_loss and take_profit of order o7 stays" in outcome.reason


def test_the_legs_of_a_filled_entry_go_when_the_cancel_says_legs() -> None:
    desk = Desk({42: "Filled", 43: "Working", 44: "Working"})

    outcome = cancel(desk, known(), order=LEGS_TOO)

    assert desk.cancelled == [43, 44]
    assert [leg["broker_status"] for leg in outcome.targets["o7"].legs] == ["canceled", "canceled"]


def test_legs_that_wait_for_an_entry_withdrawn_unfilled_go_with_it() -> None:
    desk = Desk({42: "Working", 43: "Suspended", 44: "Suspended"})

    outcome = cancel(desk, known())

    assert desk.cancelled == [42, 43, 44]
    assert isinstance(outcome, Accepted) and not outcome.alarm


def test_the_legs_of_a_part_filled_entry_protect_what_filled() -> None:
    desk = Desk({42: "Working", 43: "Working", 44: "Working"}, fills={42: 1})

    outcome = cancel(desk, known())

    assert desk.cancelled == [42]
    assert "stays" in outcome.reason


def test_legs_stay_where_the_entry_s_fills_cannot_be_read() -> None:
    desk = Desk({42: "Working", 43: "Suspended", 44: "Suspended"})
    desk.tables["fill/deps"] = Reply(status=500)

    cancel(desk, known())

    assert desk.cancelled == [42]


def test_an_entry_that_fills_before_its_cancel_keeps_its_legs() -> None:
    desk = Desk({42: "Working", 43: "Suspended", 44: "Suspended"})

    def filled() -> Reply:
        desk.orders = {42: "Filled", 43: "Working", 44: "Working"}
        return too_late()

    desk.cancels[42] = filled
    outcome = cancel(desk, known())

    assert desk.cancelled == [42]
    assert "stays" in outcome.reason


def test_legs_are_never_taken_from_an_entry_that_still_works() -> None:
    desk = Desk({42: "Working", 43: "Suspended", 44: "Suspended"})
    desk.cancels[42] = lambda: Reply(status=401, text="Access is denied")

    outcome = cancel(desk, known(), order=LEGS_TOO)

    assert desk.cancelled == [42]
    assert isinstance(outcome, Rejected) and "its entry still works" in outcome.reason


def test_a_strategy_s_legs_are_withdrawn_through_its_links() -> None:
    desk = strategy_desk({42: "Filled", 43: "Working", 44: "Working"},
                         {42: "Entry", 43: "StopLoss", 44: "ProfitTarget"})
    sold = replace(STRATEGY, side="sell")

    kept = cancel(desk, known(sold, strategy="77"))
    gone = cancel(desk, known(sold, strategy="77"), order=LEGS_TOO)

    assert "stop_loss and take_profit of order o7 stays" in kept.reason
    assert desk.cancelled == [43, 44]
    assert isinstance(gone, Accepted)


def test_an_order_that_is_not_ours_is_withdrawn_by_its_id() -> None:
    desk = Desk({99: "Working"})
    named = Order(kind="cancel", options={"orderId": 99})

    outcome = cancel(desk, order=named)

    assert desk.cancelled == [99]
    assert isinstance(outcome, Accepted) and outcome.targets == {}


@pytest.mark.parametrize("desk", [Desk({99: "Working"}, account_id=5), Desk({})])
def test_an_id_that_this_account_does_not_have_is_never_cancelled(desk: Desk) -> None:
    outcome = cancel(desk, order=Order(kind="cancel", options={"orderId": 99}))

    assert desk.cancelled == []
    assert isinstance(outcome, Rejected) and "not in this account" in outcome.reason


def test_a_look_that_fails_after_the_cancel_was_taken_does_not_undo_it() -> None:
    desk = Desk({42: "Working"})

    def then_dark() -> Reply:
        desk.tables["order/item"] = Reply(status=500)
        return Reply.of({"commandId": 5})

    desk.cancels[42] = then_dark

    assert isinstance(cancel(desk, known(plain(), order="42")), Accepted)


# -- closing -----------------------------------------------------------------------------------------------------------

FOUND = Reply.of({"id": 7, "name": "ESZ6", "contractMaturityId": 1})


def close(reply: Reply, *, positions: Any = None, orders: Any = None) -> Any:
    def answer(call: Call) -> Reply:
        path = call.url.rpartition("/v1/")[2].partition("?")[0]
        if path == "order/liquidateposition":
            assert call.body == {"accountId": 123456, "contractId": 7, "admin": False}
            return reply
        told = {"contract/find": FOUND, "position/deps": positions, "order/deps": orders}[path]
        assert told is not None, f"{path} was not to be asked for"
        return told if isinstance(told, Reply) else Reply.of(told)

    return drive(BROKER.submit(work(CLOSE)), answer)[1]


def test_a_close_is_accepted_and_says_that_every_order_on_the_contract_goes() -> None:
    outcome = close(Reply.of({"orderId": 900}))

    assert isinstance(outcome, Accepted)
    assert outcome.broker_ids == {"order": "900"}
    assert "every working order on ESZ6" in outcome.reason


@pytest.mark.parametrize("body", [{}, {"failureReason": "Success"}, {"failureText": ""}])
@pytest.mark.parametrize("positions", [[], [{"contractId": 7, "netPos": 0}], [{"contractId": 8, "netPos": 3}]])
def test_a_close_taken_without_an_id_is_done_where_nothing_is_open(body: Any, positions: Any) -> None:
    outcome = close(Reply.of(body), positions=positions)

    assert isinstance(outcome, Accepted)
    assert outcome.reason.startswith("nothing was open on ESZ6")


@pytest.mark.parametrize("positions", [[{"contractId": 7, "netPos": -2}], [{"contractId": 7}], [{}], ["odd"], {},
                                       Reply(status=500), Reply(status=None, fault="x")])
def test_a_close_taken_without_an_id_is_unknown_while_something_is_or_may_be_open(positions: Any) -> None:
    assert isinstance(close(Reply.of({}), positions=positions), Unknown)


def test_a_refusal_in_words_is_done_only_where_neither_position_nor_order_is_left() -> None:
    refusal = Reply.of({"failureReason": "UnknownReason", "failureText": "No position to liquidate"})

    done = close(refusal, positions=[], orders=[{"contractId": 7, "ordStatus": "Filled"}])
    left = close(refusal, positions=[], orders=[{"contractId": 7, "ordStatus": "Working"}])
    dark = close(refusal, positions=Reply(status=500), orders=[])

    assert isinstance(done, Accepted) and "No position to liquidate" in done.reason
    assert isinstance(left, Unknown) and "No position to liquidate" in left.reason
    assert isinstance(dark, Unknown)


@pytest.mark.parametrize(("reply", "words"), [
    (Reply.of({"failureReason": "UnknownReason", "failureText": "Access is denied"}), "Access is denied"),
    (Reply.of({"failureReason": "TradingLocked", "failureText": "x"}), "trading is locked"),
    (Reply.of({"violations": [{"description": "accountId"}]}), "accountId"),
    (Reply(status=401, text="Access is denied"), "Access is denied"), (Reply(status=404), "HTTP 404")])
def test_a_definite_refusal_to_close_is_a_rejection(reply: Reply, words: str) -> None:
    outcome = close(reply)

    assert isinstance(outcome, Rejected)
    assert words in outcome.reason


@pytest.mark.parametrize("reply", [Reply(status=500), Reply(status=408), Reply(status=None, fault="x"),
                                   Reply(status=200, text="x"), Reply.of({"orderId": 3, "errorText": "x"}),
                                   Reply.of({"failureReason": "RiskCheckTimeout"})])
def test_a_close_that_may_have_been_executed_is_unknown(reply: Reply) -> None:
    assert isinstance(close(reply), Unknown)


@pytest.mark.parametrize(("reply", "wanted"), [
    (Reply(status=401, text="Access is denied"), Rejected), (Reply.of({"id": 7, "name": "NQZ6"}), Rejected), (Reply(status=None, fault="x", not_executed=True), Rejected),
    (Reply(status=None, fault="x"), Retry), (Reply(status=500), Retry), (Reply(status=200, text="x"), Retry),
    (Reply.of([]), Retry), (Reply.of({"id": "7"}), Retry)])
def test_no_contract_means_that_nothing_was_sent_to_close_it(reply: Reply, wanted: type) -> None:
    calls, outcome = drive(BROKER.submit(work(CLOSE)), [reply])

    assert isinstance(outcome, wanted)
    assert not any(call.write for call in calls)


@pytest.mark.parametrize(("check", "again", "wanted"), [
    (Reply.of([{"id": 123456}]), [Reply(status=404)], Rejected), (Reply(status=401, text="Access is denied"),
                                                                  [Reply(status=404)], Rejected),
    (Reply.of([]), [Reply(status=500)], Retry), (Reply(status=500), [], Retry), (Reply(status=None, fault="x"), [], Retry),
    (Reply(status=404), [], Rejected)])
def test_a_close_is_refused_for_an_unknown_contract_only_where_the_token_is_known_to_live(
        check: Reply, again: list[Reply], wanted: type) -> None:
    """A 404 of `account/list` reaches a plan only after the session has renewed the token: then nothing helps."""
    calls, outcome = drive(BROKER.submit(work(CLOSE)), [Reply(status=404), check, *again])

    assert isinstance(outcome, wanted)
    assert [call.operation for call in calls[:2]] == ["contract/find", "account/list"]
    assert not any(call.write for call in calls)


def test_a_close_goes_on_where_a_dead_token_was_the_cause_of_the_404() -> None:
    replies = [Reply(status=404), Reply.of([{"id": 123456}]), FOUND, Reply.of({"orderId": 900})]

    calls, outcome = drive(BROKER.submit(work(CLOSE)), replies)

    assert isinstance(outcome, Accepted) and calls[-1].operation == "liquidateposition"
