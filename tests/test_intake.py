"""From an alert to what the ledger is given: keys, ids, ages and the order of orders. No process, no clock."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.accounts import Accounts, load_accounts
from bridge.alert import read_body
from bridge.errors import AlertError, BodyError
from bridge.intake import decide, invalid, known_key
from bridge.record import Delivery
from bridge.template import Template, load_template

NOW = datetime(2026, 11, 20, 15, 30, 1, tzinfo=UTC)
ORDER = "{kind: plain, symbol: ESZ6, side: buy, quantity: 1, type: limit, price: '{{ alert.price }}'%s}"
FIELDS = "account: [one, two]\nalert: {price: number, time: time, name: {type: text, optional: true}}\n"
SENT = "sent_at: '{{ alert.time }}'\n"


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Accounts:
    file = tmp_path_factory.mktemp("accounts") / "accounts.yaml"
    file.write_text("accounts:\n  one: {broker: tradovate, environment: sandbox, account: A, account_id: 1}\n"
                    "  two: {broker: tradovate, environment: sandbox, account: B, account_id: 2, dry_run: true}\n")
    return load_accounts(file, {})


@pytest.fixture
def template(accounts: Accounts, tmp_path: Path) -> Any:
    def load(text: str) -> Template:
        (tmp_path / "t.yaml").write_text(text)
        return load_template(tmp_path / "t.yaml", accounts)
    return load


def take(template: Template, alert: dict[str, Any], *, nonce: str = "n", now: datetime = NOW) -> Delivery:
    raw = json.dumps({"price": "5300.25", "time": "2026-11-20T15:30:00Z", **alert}).encode()
    return decide(template, read_body(raw), raw, home="one", nonce=nonce, now=now)


def test_an_order_is_made_for_each_account_with_its_age_and_whether_it_is_only_rehearsed(template: Any) -> None:
    delivery = take(template(FIELDS + SENT + f"order: {ORDER % ''}\n"), {})

    assert delivery.state == "accepted" and delivery.age_ms == 1000 and delivery.takes_key
    assert [(order.account, order.state, order.dry_run) for order in delivery.orders] == [
        ("one", "queued", False), ("two", "queued", True)]
    assert all(order.max_age_ms == 60_000 for order in delivery.orders)
    assert delivery.fields["price"] == Decimal("5300.25") and delivery.fields["time"] == "2026-11-20T15:30:00Z"


def test_a_template_that_is_a_dry_run_only_rehearses(template: Any) -> None:
    delivery = take(template(FIELDS + f"dry_run: true\norder: {ORDER % ''}\n"), {})

    assert all(order.dry_run for order in delivery.orders)


def test_within_an_account_each_order_follows_the_one_before_it(template: Any) -> None:
    delivery = take(template(FIELDS + f"orders:\n  - {ORDER % ''}\n  - {ORDER % ''}\n  - {ORDER % ', account: two'}\n"), {})

    for account, count in (("one", 2), ("two", 3)):
        lane = [order for order in delivery.orders if order.account == account]
        assert len(lane) == count
        assert [order.follows for order in lane] == ["", *(order.id for order in lane[:-1])]


def test_the_same_alert_makes_the_same_ids_and_another_makes_others(template: Any) -> None:
    loaded = template(FIELDS + f"order: {ORDER % ''}\n")

    first, again = take(loaded, {}), take(loaded, {}, nonce="another")
    other, later = take(loaded, {"price": "5300.5"}), take(loaded, {}, now=NOW + timedelta(seconds=1))

    assert (first.id, first.orders, first.key) == (again.id, again.orders, again.key)
    assert len({delivery.id for delivery in (first, other, later)}) == 3
    assert len({order.id for delivery in (first, other) for order in delivery.orders}) == 4


def test_an_id_tells_alerts_apart_instead_of_the_body(template: Any) -> None:
    loaded = template(FIELDS + f"id: '{{{{ alert.name }}}}'\norder: {ORDER % ''}\n")

    first, copy = take(loaded, {"name": "x"}), take(loaded, {"name": "x", "price": "1"})

    assert first.key == copy.key == "id:x" and first.fingerprint != copy.fingerprint
    assert first.dedupe_ms == 86_400_000


def test_without_a_window_the_delivery_is_its_own_key(template: Any) -> None:
    loaded = template(FIELDS + f"dedupe_window: 0s\norder: {ORDER % ''}\n")

    assert take(loaded, {}).key != take(loaded, {}, nonce="another").key


def test_an_order_too_old_at_receipt_is_expired_and_the_alert_refused_when_none_is_left(template: Any) -> None:
    loaded = template(FIELDS + SENT + f"orders:\n  - {ORDER % ', max_age: 10s'}\n  - {ORDER % ', max_age: 1h'}\n")

    some, none = take(loaded, {"time": "2026-11-20T15:29:00Z"}), take(loaded, {"time": "2026-11-20T13:00:00Z"})

    assert some.state == "accepted" and {order.state for order in some.orders} == {"expired", "queued"}
    assert none.state == "refused" and not none.takes_key and {order.state for order in none.orders} == {"expired"}
    assert "too old: sent 2 h 30 min before" in none.reason and "at most 10 s" in none.reason


def test_a_moment_just_ahead_is_no_negative_age(template: Any) -> None:
    assert take(template(FIELDS + SENT + f"order: {ORDER % ''}\n"), {"time": "2026-11-20T15:30:30Z"}).age_ms == 0


def test_a_false_when_skips_the_alert_and_does_not_take_its_key(template: Any) -> None:
    delivery = take(template(FIELDS + f"when: alert.price > 6000\norder: {ORDER % ''}\n"), {})

    assert delivery.state == "skipped" and "alert.price > 6000" in delivery.reason
    assert delivery.orders == () and not delivery.takes_key


def test_an_invalid_alert_is_recorded_with_its_reason_and_never_counts_as_a_first_one(template: Any) -> None:
    loaded = template(FIELDS + f"order: {ORDER % ''}\n")
    raw = b'{"price": "much"}'
    with pytest.raises(AlertError) as caught:
        decide(loaded, read_body(raw), raw, home="one", nonce="n", now=NOW)

    delivery = invalid("t", "one", raw, None, nonce="n", now=NOW, error=caught.value)

    assert delivery.state == "invalid" and "price" in delivery.reason and "time" in delivery.reason
    assert delivery.body == raw.decode() and not delivery.takes_key


def test_bytes_that_are_no_text_are_recorded_readably() -> None:
    delivery = invalid("t", "one", b"\xff\x00", None, nonce="n", now=NOW, error=BodyError("no text"))

    assert delivery.body == "\\xff\x00"


def test_a_copy_of_an_alert_can_be_told_even_when_it_no_longer_renders(template: Any) -> None:
    raw = b'{"price": "-1", "time": "2026-11-20T15:30:00Z", "name": "x"}'
    body = read_body(raw)

    by_body = template(FIELDS + f"order: {ORDER % ''}\n")
    with pytest.raises(AlertError):
        decide(by_body, body, raw, home="one", nonce="n", now=NOW)
    assert known_key(by_body, body, raw) == take(by_body, {"price": "1"}).key.split(":")[0] + ":" + _print_of(raw)
    assert known_key(template(FIELDS + f"id: '{{{{ alert.name }}}}'\norder: {ORDER % ''}\n"), body, raw) == "id:x"
    assert known_key(template(FIELDS + f"dedupe_window: 0s\norder: {ORDER % ''}\n"), body, raw) is None


def _print_of(raw: bytes) -> str:
    return invalid("t", "one", raw, None, nonce="n", now=NOW, error=BodyError("x")).fingerprint


@given(price=st.decimals(min_value="0.01", max_value=10**9, places=2), seconds=st.integers(0, 59))
def test_a_price_goes_through_to_the_last_digit(accounts: Accounts, tmp_path_factory: pytest.TempPathFactory,
                                                price: Decimal, seconds: int) -> None:
    loaded = _loaded(accounts, tmp_path_factory)
    raw = json.dumps({"price": str(price), "time": "2026-11-20T15:30:00Z"}).encode()

    delivery = decide(loaded, read_body(raw), raw, home="one", nonce="n", now=NOW + timedelta(seconds=seconds))

    assert {order.order.price for order in delivery.orders} == {price}


_cache: list[Template] = []


def _loaded(accounts: Accounts, tmp_path_factory: pytest.TempPathFactory) -> Template:
    if not _cache:
        file = tmp_path_factory.mktemp("template") / "t.yaml"
        file.write_text(FIELDS + f"order: {ORDER % ''}\n")
        _cache.append(load_template(file, accounts))
    return _cache[0]
