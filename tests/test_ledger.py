"""The ledger's promises: durable, once, fenced, and safe to repeat."""

from __future__ import annotations

import threading
from decimal import Decimal

import pytest
import redis

from bridge.call import Seen
from bridge.errors import LedgerAway
from bridge.ledger import Ledger
from tests.rig import delivery, plain


def queued(ledger: Ledger, account: str) -> list[str]:
    return [order for _, order in ledger.lane(account)]


def test_an_enqueued_alert_is_in_its_lane_with_its_order_as_it_was_made(ledger: Ledger) -> None:
    order = plain("5300.250")

    answer = ledger.enqueue(delivery("k", ("toy", order)))

    assert not answer.duplicate_of
    stored = ledger.load("toy", ledger.lane("toy")[0][1])
    assert stored is not None and stored.id == answer.orders[0]["id"]
    assert stored.order == order and stored.state == "queued"


def test_the_same_delivery_again_changes_nothing_and_answers_the_same(ledger: Ledger, redis_url: str) -> None:
    first = ledger.enqueue(delivery("k", ("toy", plain())))

    key = "bridge:{toy}:same:t:k"
    redis.Redis.from_url(redis_url).pexpire(key, 5_000)

    assert ledger.enqueue(delivery("k", ("toy", plain()))) == first
    assert len(ledger.lane("toy")) == 1 and len(ledger.alerts()) == 1
    assert redis.Redis.from_url(redis_url).pttl(key) <= 5_000  # its window is not extended


def test_another_delivery_with_the_same_key_is_a_duplicate_that_names_the_first(ledger: Ledger) -> None:
    first = ledger.enqueue(delivery("k", ("toy", plain())))

    second = ledger.enqueue(delivery("k", ("toy", plain()), window=2000, nonce="other"))

    assert second.duplicate_of == first.alert and second.orders == first.orders and not second.conflict
    assert len(ledger.lane("toy")) == 1
    assert [each["state"] for each in ledger.alerts()] == ["duplicate", "accepted"]


def test_two_copies_in_the_same_millisecond_make_one_order(ledger: Ledger) -> None:
    answers = []
    barrier = threading.Barrier(8)

    def send(nonce: str) -> None:
        barrier.wait()
        answers.append(ledger.enqueue(delivery("k", ("toy", plain()), nonce=nonce)))

    threads = [threading.Thread(target=send, args=(f"n{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(not answer.duplicate_of for answer in answers) == 1
    assert {answer.orders[0]["id"] for answer in answers} == {ledger.lane("toy")[0][1]}
    assert len(ledger.lane("toy")) == 1


def test_the_same_key_with_another_body_is_a_conflict(ledger: Ledger) -> None:
    from dataclasses import replace

    ledger.enqueue(delivery("k", ("toy", plain())))

    again = replace(delivery("k", ("toy", plain()), nonce="other"), fingerprint="another body")

    assert ledger.enqueue(again).conflict


def test_without_a_queued_order_an_alert_does_not_take_the_key(ledger: Ledger) -> None:
    ledger.enqueue(delivery("k", ("toy", plain()), state="expired", reason="too old"))

    second = ledger.enqueue(delivery("k", ("toy", plain()), window=2000, nonce="other"))

    assert not second.duplicate_of
    assert [each["state"] for each in ledger.orders()] == ["queued", "expired"]


def test_orders_for_several_accounts_reach_each_lane(ledger: Ledger) -> None:
    answer = ledger.enqueue(delivery("k", ("toy", plain()), ("second", plain()), ("third", plain())))

    assert [each["account"] for each in answer.orders] == ["toy", "second", "third"]
    assert [len(ledger.lane(account)) for account in ("toy", "second", "third")] == [1, 1, 1]


def test_a_half_written_alert_is_completed_from_its_stored_orders_by_a_resend(
        ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    made = delivery("k", ("toy", plain()), ("second", plain("1.25")), ("third", plain("2.5")))

    def killed(account: str, *rest: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "_join", killed)
        with pytest.raises(KeyboardInterrupt):
            ledger.enqueue(made)
    assert ledger.lane("second") == []

    other_template_now = delivery("k", ("toy", plain("9.75")), nonce="resent")
    answer = ledger.enqueue(other_template_now)

    assert answer.duplicate_of == made.id
    assert [each["id"] for each in answer.orders] == [order.id for order in made.orders]
    assert queued(ledger, "second") == [made.orders[1].id] and queued(ledger, "third") == [made.orders[2].id]
    stored = ledger.load("second", made.orders[1].id)
    assert stored is not None and stored.order.price == Decimal("1.25")


def test_completing_twice_queues_once(ledger: Ledger) -> None:
    made = delivery("k", ("toy", plain()), ("second", plain()))
    ledger.enqueue(made)

    ledger._join("second", made, made.orders[1:], 0, 0)

    assert len(ledger.lane("second")) == 1


def test_the_home_of_a_template_never_moves(ledger: Ledger, redis_url: str) -> None:
    assert ledger.home_of("breakout", "first") == "first"
    assert ledger.home_of("breakout", "second") == "first"
    assert Ledger(redis_url).home_of("breakout", "second") == "first"


def test_a_lane_has_one_owner_and_its_fence_grows(ledger: Ledger) -> None:
    one = ledger.take_lease("toy", "one", 20_000)
    assert one is not None and ledger.take_lease("toy", "two", 20_000) is None
    again = ledger.take_lease("toy", "one", 20_000)
    assert again is not None and again.fence == one.fence

    ledger.release_lease(one)
    two = ledger.take_lease("toy", "two", 20_000)

    assert two is not None and two.fence == one.fence + 1


def test_a_worker_that_lost_its_lane_can_change_nothing(ledger: Ledger) -> None:
    ledger.enqueue(delivery("k", ("toy", plain())))
    old = ledger.take_lease("toy", "old", 1)
    assert old is not None
    stored = ledger.load("toy", ledger.lane("toy")[0][1])
    assert stored is not None
    new = None
    while new is None:
        new = ledger.take_lease("toy", "new", 20_000)

    word, _ = ledger.submit(old, stored, record=1, attempt=1, send_within_ms=5000, client_order_id=stored.id,
                            counter=None, look_at_age=True, records=["{}"])

    assert word == "lost"
    assert ledger.settle(old, stored, "expire", "expired", nonce="n", reason="") == "lost"
    assert ledger.state_of("toy", stored.id) == "queued"


def test_submitting_is_refused_past_max_age_and_repeating_it_changes_nothing(ledger: Ledger, redis_url: str) -> None:
    ledger.enqueue(delivery("old", ("toy", plain()), age_ms=61_000))
    ledger.enqueue(delivery("new", ("toy", plain())))
    lease = ledger.take_lease("toy", "w", 20_000)
    old, new = (ledger.load("toy", each) for _, each in ledger.lane("toy"))
    assert lease is not None and old is not None and new is not None

    def submit(stored: object) -> tuple[str, object]:
        return ledger.submit(lease, stored, record=1, attempt=1, send_within_ms=5000,  # type: ignore[arg-type]
                             client_order_id="c", counter=None, look_at_age=True, records=["{}"])

    assert submit(old)[0] == "expired" and ledger.state_of("toy", old.id) == "queued"
    first = submit(new)
    assert first[0] == "ok" and submit(new)[0] == "ok"
    again = ledger.load("toy", new.id)
    assert again is not None and again.records == 1 and again.state == "submitting"
    assert redis.Redis.from_url(redis_url).llen(f"bridge:{{toy}}:calls:{new.id}") == 1


def test_settling_takes_the_order_off_the_lane_and_keeps_its_history(ledger: Ledger) -> None:
    ledger.enqueue(delivery("k", ("toy", plain())))
    lease = ledger.take_lease("toy", "w", 20_000)
    stored = ledger.load("toy", ledger.lane("toy")[0][1])
    assert lease is not None and stored is not None
    ledger.submit(lease, stored, record=1, attempt=1, send_within_ms=5000, client_order_id=stored.id, counter=None,
                  look_at_age=True, records=["{}"])

    assert ledger.settle(lease, stored, "accept", "accepted", nonce="n", reason="", open_for_ms="forever",
                         fields={"broker_ids": '{"order": "7"}'}) == "ok"
    assert ledger.settle(lease, stored, "accept", "accepted", nonce="n", reason="") == "ok"  # asked again
    assert ledger.settle(lease, stored, "reject", "rejected", nonce="another", reason="") == "accepted"

    view = ledger.orders()[0]
    assert [each["state"] for each in view["history"]] == ["queued", "submitting", "accepted"]
    assert view["broker_ids"] == {"order": "7"} and ledger.lane("toy") == []
    assert [each.id for each in ledger.open_orders("toy")] == [stored.id]


def test_an_order_whose_end_was_seen_is_open_no_more(ledger: Ledger) -> None:
    ledger.enqueue(delivery("k", ("toy", plain())))
    lease = ledger.take_lease("toy", "w", 20_000)
    stored = ledger.load("toy", ledger.lane("toy")[0][1])
    assert lease is not None and stored is not None
    ledger.submit(lease, stored, record=1, attempt=1, send_within_ms=5000, client_order_id=stored.id, counter=None,
                  look_at_age=True, records=["{}"])
    ledger.settle(lease, stored, "accept", "accepted", nonce="n", reason="", open_for_ms="forever")

    ledger.see(lease, stored, Seen(broker_status="filled", broker_ids={"order": "7"}))

    assert ledger.open_orders("toy") == []
    assert ledger.orders()[0]["broker_status"] == "filled"


def test_the_lanes_clock_never_runs_backwards(ledger: Ledger, redis_url: str) -> None:
    ledger.enqueue(delivery("k", ("toy", plain())))
    stored = ledger.load("toy", ledger.lane("toy")[0][1])
    assert stored is not None
    an_hour_ahead = stored.now_ms + 3_600_000
    redis.Redis.from_url(redis_url).hset("bridge:{toy}:clock", "last", an_hour_ahead)

    after = ledger.load("toy", stored.id)

    assert after is not None and after.now_ms >= an_hour_ahead
    again = ledger.load("toy", stored.id)
    assert again is not None and again.now_ms >= after.now_ms


def test_counters_start_at_the_epochs_seconds_and_never_repeat(ledger: Ledger) -> None:
    numbers = [ledger.next_number("c") for _ in range(50)]

    assert numbers[0] > 1_700_000_000 and len(set(numbers)) == 50 and numbers == sorted(numbers)


def test_ended_orders_are_forgotten_after_the_retention_and_open_ones_are_not(redis_url: str) -> None:
    ledger = Ledger(redis_url, retention_ms=-1000)
    ledger.enqueue(delivery("ended", ("toy", plain()), state="expired", reason="too old"))
    ledger.enqueue(delivery("open", ("toy", plain())))

    ledger.retire("toy")

    assert [each["state"] for each in ledger.orders()] == ["queued"]


def test_a_server_that_is_away_is_said_to_be_away() -> None:
    ledger = Ledger("redis://:pw-leak-me@127.0.0.1:1/0")

    with pytest.raises(LedgerAway) as error:
        ledger.enqueue(delivery("k", ("toy", plain())))

    assert "leak-me" not in str(error.value)


def test_a_flushed_script_cache_is_no_trouble(ledger: Ledger, redis_url: str) -> None:
    ledger.enqueue(delivery("k", ("toy", plain())))
    redis.Redis.from_url(redis_url).script_flush()

    assert not ledger.enqueue(delivery("k2", ("toy", plain()))).duplicate_of


def test_out_of_memory_refuses_intake_but_records_outcomes(ledger: Ledger, redis_url: str) -> None:
    ledger.enqueue(delivery("k", ("toy", plain())))
    lease = ledger.take_lease("toy", "w", 20_000)
    stored = ledger.load("toy", ledger.lane("toy")[0][1])
    assert lease is not None and stored is not None
    ledger.submit(lease, stored, record=1, attempt=1, send_within_ms=5000, client_order_id=stored.id, counter=None,
                  look_at_age=True, records=["{}"])
    server = redis.Redis.from_url(redis_url)
    server.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(LedgerAway):
            ledger.enqueue(delivery("k2", ("toy", plain())))
        assert ledger.settle(lease, stored, "accept", "accepted", nonce="n", reason="") == "ok"
    finally:
        server.config_set("maxmemory", "0")
