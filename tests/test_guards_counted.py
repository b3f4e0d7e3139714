"""Guards where orders are queued: counted once and by all at the same time, told where a position may depend on them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from bridge.ledger import Ledger
from bridge.order import Order
from bridge.record import Delivery, Enqueued, Limit, NewOrder
from tests.rig import ToyServer, delivery, plain
from tests.serving import SECRET, Hook, environment, free_port, part
from tests.test_lane import until, working

MINUTE = Limit("max_orders_per_minute", "the template", "template:t", 2)
TODAY = Limit("max_orders_per_day", "account toy", "account", 2, "2026-11-20")
WORDS = "guard max_orders_per_minute of the template: 2 entries were queued within a minute; at most 2"
CLOSE = Order(kind="close", symbol="ESZ6")


def send(ledger: Ledger, key: str, *limits: Limit, order: Order | None = None, nonce: str | None = None,
         account: str = "toy") -> dict[str, Any]:
    found = ledger.enqueue(delivery(key, (account, order or plain()), limits=limits, nonce=nonce, home=account))
    return dict(found.orders[0])


def fill(ledger: Ledger, *limits: Limit) -> None:
    assert [send(ledger, f"fill{n}", *limits)["state"] for n in range(2)] == ["queued", "queued"]


def refused_by(made: Delivery, *places: int) -> Delivery:
    """The delivery with these orders refused by a guard before it reached the ledger."""
    orders = [replace(order, state="refused", reason="guard symbols of the template: no") if place in places else order
              for place, order in enumerate(made.orders)]
    return replace(made, orders=tuple(orders))


# -- counting --------------------------------------------------------------------------------------------------------


def test_one_entry_too_many_is_refused_and_stored_with_its_reason(ledger: Ledger) -> None:
    fill(ledger, MINUTE)

    found = send(ledger, "k", MINUTE)

    assert (found["state"], found["reason"]) == ("refused", WORDS)
    stored = ledger.order(found["id"])
    assert stored is not None and stored["state"] == "refused" and stored["reason"] == WORDS
    assert [each["state"] for each in stored["history"]] == ["refused"]
    assert len(ledger.lane("toy")) == 2 and ledger.orders(waiting=True) == []
    assert [each["state"] for each in ledger.alerts()] == ["refused", "accepted", "accepted"]
    assert ledger.alerts()[0]["reason"] == WORDS


def test_a_minute_is_the_one_before_and_no_minute_of_the_clock(ledger: Ledger, redis_url: str) -> None:
    fill(ledger, MINUTE)
    client = redis.Redis.from_url(redis_url)
    counted = client.zrange("bridge:{toy}:queued:template:t", 0, -1, withscores=True)
    assert len(counted) == 2

    client.zadd("bridge:{toy}:queued:template:t", {counted[0][0]: counted[0][1] - 59_000})
    assert send(ledger, "k", MINUTE)["state"] == "refused"
    client.zadd("bridge:{toy}:queued:template:t", {counted[0][0]: counted[0][1] - 60_000})
    assert send(ledger, "l", MINUTE)["state"] == "queued"
    assert send(ledger, "m", MINUTE)["state"] == "refused"
    assert 0 < client.pttl("bridge:{toy}:queued:template:t") <= 120_000


def test_a_day_is_counted_by_its_name(ledger: Ledger, redis_url: str) -> None:
    fill(ledger, TODAY)

    assert send(ledger, "k", TODAY)["reason"] == (
        "guard max_orders_per_day of account toy: 2 entries were queued on 2026-11-20; at most 2")
    assert send(ledger, "l", TODAY._replace(day="2026-11-21"))["state"] == "queued"
    assert redis.Redis.from_url(redis_url).ttl("bridge:{toy}:queued:account:2026-11-20") > 2 * 86_400


def test_templates_are_counted_apart_and_an_account_counts_them_together(ledger: Ledger) -> None:
    other = MINUTE._replace(scope="template:other")
    account = MINUTE._replace(scope="account", whose="account toy", most=3)

    fill(ledger, MINUTE, account)

    assert send(ledger, "k", other, account)["state"] == "queued"
    assert send(ledger, "l", other, account)["reason"] == (
        "guard max_orders_per_minute of account toy: 3 entries were queued within a minute; at most 3")
    assert "the template" in send(ledger, "m", MINUTE, account)["reason"]
    assert send(ledger, "n", MINUTE, account=("second"))["state"] == "queued"  # another lane counts for itself


def test_an_entry_that_one_limit_refuses_counts_for_no_other(ledger: Ledger) -> None:
    once = MINUTE._replace(most=1)
    assert send(ledger, "a", once, TODAY)["state"] == "queued"
    assert send(ledger, "b", once, TODAY)["state"] == "refused"

    assert send(ledger, "c", TODAY)["state"] == "queued"
    assert send(ledger, "d", TODAY)["state"] == "refused"


def test_a_resend_counts_once(ledger: Ledger) -> None:
    first = send(ledger, "k", MINUTE)
    for nonce in ("k", "k", "a resend", "another"):  # the client library's own repeating, and a sender's
        assert send(ledger, "k", MINUTE, nonce=nonce)["id"] == first["id"]

    assert send(ledger, "l", MINUTE)["state"] == "queued" and send(ledger, "m", MINUTE)["state"] == "refused"


def test_many_at_once_never_pass_the_limit(ledger: Ledger) -> None:
    limit, states = MINUTE._replace(most=5), list[str]()
    barrier = threading.Barrier(12)

    def one(number: int) -> None:
        barrier.wait()
        states.append(send(ledger, f"k{number}", limit)["state"])

    threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(states) == ["queued"] * 5 + ["refused"] * 7


def test_an_entry_that_a_close_covers_on_arrival_is_not_counted(ledger: Ledger) -> None:
    made = delivery("late", ("toy", plain()), ("second", plain()), home="second", limits=(MINUTE,))
    send(ledger, "close", order=CLOSE)

    assert ledger._join("toy", made, made.orders[:1], 0, 60_000)[made.orders[0].id].state == "cancelled"

    fill(ledger, MINUTE)


def test_exits_pass_while_entries_are_one_too_many(ledger: Ledger) -> None:
    fill(ledger, MINUTE)

    assert send(ledger, "close", order=CLOSE)["state"] == "queued"


# -- sameness --------------------------------------------------------------------------------------------------------


def test_an_alert_of_which_nothing_was_queued_does_not_take_the_key(ledger: Ledger, redis_url: str) -> None:
    fill(ledger, MINUTE)
    refused = ledger.enqueue(delivery("k", ("toy", plain()), limits=(MINUTE,)))
    assert refused.refusal == WORDS
    assert not redis.Redis.from_url(redis_url).exists("bridge:{toy}:same:t:k")

    again = ledger.enqueue(delivery("k", ("toy", plain()), window=2000, nonce="again"))

    assert not again.duplicate_of and again.orders[0]["state"] == "queued" and not again.refusal


def test_the_same_delivery_again_is_refused_again_and_nothing_is_counted(ledger: Ledger) -> None:
    fill(ledger, MINUTE)
    made = delivery("k", ("toy", plain()), limits=(MINUTE,))

    assert ledger.enqueue(made) == ledger.enqueue(made)

    assert len(ledger.lane("toy")) == 2 and ledger.alerts()[0]["state"] == "refused"


def test_an_alert_that_is_queued_for_another_account_keeps_the_key(ledger: Ledger) -> None:
    fill(ledger, MINUTE)
    made = delivery("k", ("toy", plain()), ("second", plain()), limits=(MINUTE,))

    found = ledger.enqueue(made)

    assert [each["state"] for each in found.orders] == ["refused", "queued"] and not found.refusal
    assert ledger.enqueue(replace(made, nonce="again", id="a" * 21)).duplicate_of == made.id
    assert ledger.alerts()[0]["state"] == "duplicate" and ledger.alerts()[1]["state"] == "accepted"


def test_an_alert_that_every_account_refuses_gives_its_key_back(ledger: Ledger, redis_url: str) -> None:
    fill(ledger, MINUTE)
    for n in range(2):
        send(ledger, f"second{n}", MINUTE, account="second")

    found = ledger.enqueue(delivery("k", ("toy", plain()), ("second", plain()), limits=(MINUTE,)))

    assert found.refusal == WORDS
    assert not redis.Redis.from_url(redis_url).exists("bridge:{toy}:same:t:k")
    alert = next(each for each in ledger.alerts() if each["id"] == found.alert)
    assert (alert["state"], alert["reason"]) == ("refused", WORDS)


def test_the_limits_of_an_alert_left_half_written_are_looked_at_when_it_is_completed(
        ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(2):
        send(ledger, f"second{n}", MINUTE, account="second")
    made = delivery("k", ("toy", plain()), ("second", plain()), limits=(MINUTE, TODAY))

    def killed(account: str, *rest: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "_join", killed)
        with pytest.raises(KeyboardInterrupt):
            ledger.enqueue(made)
    found = ledger.enqueue(replace(made, nonce="resent"))

    assert found.duplicate_of == made.id
    assert [(each["state"], each.get("reason", "")) for each in found.orders] == [("queued", ""), ("refused", WORDS)]


# -- what a person is told -------------------------------------------------------------------------------------------


def entries(*states: str) -> tuple[tuple[str, Order], ...]:
    return tuple(("toy", plain()) for _ in states)


def waiting(ledger: Ledger) -> set[str]:
    return {each["id"] for each in ledger.orders(waiting=True)}


def test_a_refused_order_after_an_entry_that_is_queued_waits_for_a_person(ledger: Ledger) -> None:
    found = ledger.enqueue(refused_by(delivery("k", *entries("entry", "stop")), 1))

    entry, stop = found.orders
    assert stop["reason"] == (f"guard symbols of the template: no; but {entry['id']} before it is queued or stands: look "
                              "whether it is protected")
    assert waiting(ledger) == {stop["id"]} and found.alarms == (stop["id"],)


def test_an_order_that_is_one_too_many_after_its_entry_waits_for_a_person(ledger: Ledger) -> None:
    found = ledger.enqueue(delivery("k", *entries("entry", "stop"), limits=(MINUTE._replace(most=1),)))

    assert [each["state"] for each in found.orders] == ["queued", "refused"]
    assert waiting(ledger) == {found.orders[1]["id"]} == set(found.alarms)


def test_refused_entries_that_protect_nothing_wait_for_nobody(ledger: Ledger) -> None:
    found = ledger.enqueue(refused_by(delivery("k", *entries("entry", "stop")), 0, 1))

    assert waiting(ledger) == set() and found.alarms == ()


def test_a_refused_exit_waits_for_a_person_where_a_position_may_depend_on_it(ledger: Ledger) -> None:
    def refused(key: str, order: Order) -> Enqueued:
        return ledger.enqueue(refused_by(delivery(key, ("toy", order)), 0))

    assert refused("never entered", CLOSE).alarms == ()
    send(ledger, "entry", order=plain(symbol="ES 12-26"))

    assert len(refused("entered", CLOSE).alarms) == 1
    assert refused("another month", Order(kind="close", symbol="ESH7")).alarms == ()


def test_what_follows_a_refused_order_is_withdrawn(ledger: Ledger, server: ToyServer) -> None:
    found = ledger.enqueue(refused_by(delivery("k", *entries("entry", "stop")), 0))

    with working(ledger, server):
        last = until(ledger, found.orders[1]["id"], "cancelled")

    assert last["reason"] == f"withdrawn: the order before it in the alert, {found.orders[0]['id']}, is refused"
    assert server.sent() == []


def test_a_new_order_has_no_limits_of_its_own() -> None:
    assert NewOrder(id="o", index=0, account="a", broker="toy", order=plain(), max_age_ms=1).limits == ()


# -- over HTTP -------------------------------------------------------------------------------------------------------

ACCOUNTS = """
accounts:
  one: {broker: tradovate, environment: sandbox, account: DEMO1, account_id: 1}
  two: {broker: tradovate, environment: sandbox, account: DEMO2, account_id: 2, guards: {max_quantity: 1}}
"""
ORDER = '{kind: plain, symbol: ESZ6, side: buy, quantity: "{{ alert.quantity }}", type: market}'
TEMPLATES = {
    "few": f"account: one\nalert: {{quantity: integer}}\norder: {ORDER}\nguards: {{max_orders_per_minute: 1}}\n",
    "both": f"account: [one, two]\nalert: {{quantity: integer}}\norder: {ORDER}\n",
    "flat": "account: one\norder: {kind: close, symbol: ESZ6}\nguards: {symbols: [NQ]}\n",
}


@pytest.fixture
def hook(redis_url: str, tmp_path: Path) -> Iterator[Hook]:
    (tmp_path / "templates").mkdir()
    (tmp_path / "accounts.yaml").write_text(ACCOUNTS)
    for name, text in TEMPLATES.items():
        (tmp_path / "templates" / f"{name}.yaml").write_text(text)
    port = free_port()
    environ = environment(tmp_path, redis_url=redis_url, bind=f"127.0.0.1:{port}", secret=SECRET,
                          templates=str(tmp_path / "templates"), accounts=str(tmp_path / "accounts.yaml"))
    with part("receiver", environ, tmp_path / "log"):
        yield Hook(port, tmp_path / "log")


def test_refused_orders_are_answered_counted_and_told(hook: Hook, ledger: Ledger) -> None:
    assert hook.send("few", {"quantity": 1}).status == 202
    one_too_many = hook.send("few", {"quantity": 2})
    some = hook.send("both", {"quantity": 3})
    close = hook.send("flat", {})

    said = "guard max_orders_per_minute of the template: 1 entry was queued within a minute; at most 1"
    assert one_too_many.status == 200 and one_too_many.json["refused"] == said
    assert [(each["state"], each["reason"]) for each in one_too_many.json["orders"]] == [("refused", said)]
    assert some.status == 202 and [each["state"] for each in some.json["orders"]] == ["queued", "refused"]
    assert some.json["orders"][1]["reason"] == "guard max_quantity of account two: the quantity is 3; at most 1"
    assert close.status == 200 and "guard symbols of the template: ESZ6 is none of NQ" in close.json["refused"]
    page = hook.get("/metrics").body.decode()
    for labels in ('guard="max_orders_per_minute",template="few"', 'guard="max_quantity",template="both"',
                   'guard="symbols",template="flat"'):
        assert f"bridge_orders_refused_total{{{labels}}} 1.0" in page
    assert 'bridge_alerts_total{outcome="refused",template="few"} 1.0' in page
    assert 'bridge_alert_orders_total{account="one",state="refused"} 2.0' in page
    told = [line for line in hook.log.read_text().splitlines() if "told to a person" in line]
    assert len(told) == 1 and close.json["orders"][0]["id"] in told[0]
    assert waiting(ledger) == {close.json["orders"][0]["id"]}
